"""A derin loss and a torch loss on the same inputs: values and gradients, for every reduction."""

from functools import partial

import jax
import numpy as np
import torch

torch.set_num_threads(1)


def draw(seed, *shape, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def signs(seed, *shape):
    return np.where(np.random.default_rng(seed).random(shape) < 0.5, -1.0, 1.0).astype(np.float32)


def labels(seed, classes, *shape):
    return np.random.default_rng(seed).integers(0, classes, shape).astype(np.int32)


def agree(loss, theirs, *inputs, slopes=(0,), classes_last=False, reductions=("none", "mean", "sum"), tolerance=1e-5):
    """`theirs(reduction=...)` makes torch's. The gradients are by the inputs that `slopes` counts.

    classes_last: ours has the classes last, torch's at axis 1.
    """
    moved = lambda a, x: np.moveaxis(a, *x) if classes_last and a.ndim > 2 and a.dtype.kind == "f" else a  # noqa: E731
    pulls = draw(99, max(x.size for x in inputs) + 1)
    for reduction, (value, by) in everything(slopes, reductions, loss, inputs, pulls).items():
        given = [torch.tensor(np.ascontiguousarray(moved(x, (-1, 1)))) for x in inputs]
        given = [x.long() if x.dtype in (torch.int32, torch.int64) else x for x in given]
        for i in slopes:
            given[i].requires_grad_()
        result = theirs(reduction=reduction)(*given)
        result.backward(torch.tensor(pulls[: value.size].reshape(value.shape)))
        close(value, result.detach().numpy(), tolerance, f"{loss} {reduction}")
        for g, i in zip(by, slopes, strict=True):
            close(g, moved(given[i].grad.numpy(), (1, -1)), 10 * tolerance, f"{loss} {reduction}: slope by input {i}")


@partial(jax.jit, static_argnums=(0, 1))  # one program for all examples of one shape: the loss's numbers are traced
def everything(slopes, reductions, loss, inputs, pulls):
    def value(at, reduction):
        given = [x if i not in slopes else at[slopes.index(i)] for i, x in enumerate(inputs)]
        return loss.replace(reduction=reduction)(*given)

    out = {}
    for reduction in reductions:
        y, pull = jax.vjp(lambda at, reduction=reduction: value(at, reduction), tuple(inputs[i] for i in slopes))
        out[reduction] = y, pull(pulls[: y.size].reshape(y.shape))[0]
    return out


def close(ours, theirs, tolerance, what):
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=tolerance, atol=tolerance, err_msg=what)
