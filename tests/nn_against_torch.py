"""Run a derin layer and a torch layer with the same weights; compare values, gradients, names and statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import torch


def maps(a):
    """Channels last to channels first, for maps [batch, h, w, c]; other arrays as they are."""
    return np.ascontiguousarray(np.moveaxis(a, -1, 1)) if a.ndim == 4 else a


def back(a):
    return np.moveaxis(a, 1, -1) if a.ndim == 4 else a


def numpy(tensor):
    return tensor.detach().cpu().numpy()


def weights(module):
    """torch's state_dict as (params, state) of derin: the same names and layouts, nothing converted."""
    params = {n: jnp.asarray(numpy(p)) for n, p in module.named_parameters()}
    state = {n: jnp.asarray(numpy(b)) for n, b in module.named_buffers() if not n.endswith("num_batches_tracked")}
    return params, state


def compare(layer, module, x, train=False, tolerance=2e-5, seed=0):
    """Assert that the layer and torch's module agree on x, and return derin's output and state."""
    made = layer.init(jax.random.key(seed), x)
    params, state = weights(module)
    for ours, theirs in zip(made, (params, state), strict=True):
        assert {n: a.shape for n, a in ours.items()} == {n: a.shape for n, a in theirs.items()}

    module.train(train).zero_grad()
    whole = not np.issubdtype(x.dtype, np.floating)
    theirs = torch.tensor(maps(x), requires_grad=not whole)
    y_theirs = module(theirs)
    y, pull, after = jax.vjp(
        lambda params, x: layer.apply(params, state, x, train=train, key=jax.random.key(1)),
        params,
        jnp.asarray(x),
        has_aux=True,
    )
    close(y, back(numpy(y_theirs)), tolerance, "output")
    g = np.random.default_rng(seed).standard_normal(y.shape).astype(y.dtype)
    y_theirs.backward(torch.tensor(maps(g)))
    by_params, by_x = pull(jnp.asarray(g))
    if not whole:
        close(by_x, back(numpy(theirs.grad)), tolerance, "gradient of the input")
    for name, p in module.named_parameters():
        close(by_params[name], numpy(p.grad), tolerance, f"gradient of {name}")
    for name, value in weights(module)[1].items():
        close(after[name], value, tolerance, name)
    return y, after


def close(a, b, tolerance, what):
    scale = max(1.0, float(np.abs(b).max(initial=0)))
    np.testing.assert_allclose(np.asarray(a), b, rtol=0, atol=tolerance * scale, err_msg=what)
