"""Run a derin layer and a torch layer with the same weights; compare values, gradients, names and statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import torch


def maps(a, axes=4):
    """Channels last to channels first, for maps [batch, h, w, c] (of so many axes); other arrays as they are."""
    return np.ascontiguousarray(np.moveaxis(a, -1, 1)) if a.ndim == axes else a


def back(a, axes=4):
    return np.moveaxis(a, 1, -1) if a.ndim == axes else a


def numpy(tensor):
    return tensor.detach().cpu().numpy()


def weights(module):
    """torch's state_dict as (params, state) of derin: the same names and layouts, nothing converted."""
    params = {n: jnp.asarray(numpy(p)) for n, p in module.named_parameters()}
    state = {n: jnp.asarray(numpy(b)) for n, b in module.named_buffers() if not n.endswith("num_batches_tracked")}
    return params, state


def compare(layer, module, x, train=False, tolerance=2e-5, seed=0, axes=4):
    """Assert that the layer and torch's module agree on x, and return derin's output and state.

    Arrays of `axes` axes are maps, whose channels torch wants first.
    """
    made = jax.eval_shape(layer.init, jax.random.key(seed), x)
    params, state = weights(module)
    for ours, theirs in zip(made, (params, state), strict=True):
        assert {n: a.shape for n, a in ours.items()} == {n: a.shape for n, a in theirs.items()}

    module.train(train).zero_grad()
    whole = not np.issubdtype(x.dtype, np.floating)
    theirs = torch.tensor(maps(x, axes), requires_grad=not whole)
    y_theirs = module(theirs)
    wanted = back(numpy(y_theirs), axes)
    g = np.random.default_rng(seed).standard_normal(wanted.shape).astype(wanted.dtype)
    y_theirs.backward(torch.tensor(maps(g, axes)))

    @jax.jit  # one program, not one for each operation: these tests mostly compile
    def run(params, x, g):
        def apply(params, x):
            return layer.apply(params, state, x, train=train, key=jax.random.key(1))

        y, pull, after = jax.vjp(apply, params, x, has_aux=True)
        by_params, by_x = pull(g)
        return y, after, by_params, None if whole else by_x

    y, after, by_params, by_x = run(params, jnp.asarray(x), g)
    close(y, wanted, tolerance, "output")
    if not whole:
        close(by_x, back(numpy(theirs.grad), axes), tolerance, "gradient of the input")
    for name, p in module.named_parameters():
        close(by_params[name], numpy(p.grad), tolerance, f"gradient of {name}")
    for name, value in weights(module)[1].items():
        close(after[name], value, tolerance, name)
    return y, after


def close(a, b, tolerance, what):
    scale = max(1.0, float(np.abs(b).max(initial=0)))
    np.testing.assert_allclose(np.asarray(a), b, rtol=0, atol=tolerance * scale, err_msg=what)
