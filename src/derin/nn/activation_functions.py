"""Activations as functions, with the names and defaults of torch.nn.functional. Their layers: activations.py.

Values and gradients are torch's, also at the kinks, and finite however far out. A softmax-like one works along an axis,
all others work entry by entry. Whole numbers become floats, as in jax.numpy. The five families of S1.03:

    threshold-like  threshold sign softsign hardshrink softshrink tanhshrink
    sigmoid-like    sigmoid logsigmoid tanh hardsigmoid hardtanh
    ReLU-like       relu leaky_relu prelu rrelu relu6 softplus gelu silu hardswish mish
    ELU-like        elu selu celu
    softmax-like    softmax log_softmax softmin hardmax, and glu
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from derin.errors import ModelError
from derin.spec import Scalar

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hardmax",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_softmax",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "sigmoid",
    "sign",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
]


# -- threshold-like


def threshold(x: jax.Array, threshold: Scalar, value: Scalar, above: Scalar | None = None) -> jax.Array:
    """x (or `above`, if given) where x > threshold, `value` elsewhere. The course's step is above=1. S1.04.

    >>> import jax.numpy as jnp
    >>> threshold(jnp.array([-1.0, 0.5, 2.0]), 1.0, 20.0).tolist()
    [20.0, 20.0, 2.0]
    >>> threshold(jnp.array([-1.0, 0.0, 2.0]), 0.0, 0.0, above=1.0).tolist()
    [0.0, 0.0, 1.0]
    """
    x = _float(x)
    # x <= and not x >: a nan stays one
    return jnp.where(x <= _like(threshold, x), _like(value, x), x if above is None else _like(above, x))


def sign(x: jax.Array) -> jax.Array:
    """-1, 0 or 1; 0 at 0. Its gradient is 0, so nothing before it learns. S1.05."""
    return jnp.sign(_float(x))


def softsign(x: jax.Array) -> jax.Array:
    """x / (1 + |x|). S1.06."""
    x = _float(x)
    return x / (1 + jnp.abs(x))


def hardshrink(x: jax.Array, lambd: Scalar = 0.5) -> jax.Array:
    """x where |x| > lambd, 0 elsewhere. S1.07."""
    x = _float(x)
    return jnp.where(jnp.abs(x) <= _like(lambd, x), 0, x)


def softshrink(x: jax.Array, lambd: Scalar = 0.5) -> jax.Array:
    """x moved towards 0 by lambd, and 0 where that would pass it. S1.08.

    >>> import jax.numpy as jnp
    >>> softshrink(jnp.array([-2.0, 0.25, 2.0])).tolist()
    [-1.5, 0.0, 1.5]
    """
    x = _float(x)
    lambd = _like(lambd, x)
    return jnp.where(jnp.abs(x) <= lambd, 0, x - jnp.sign(x) * lambd)


def tanhshrink(x: jax.Array) -> jax.Array:
    """x - tanh(x). S1.09."""
    x = _float(x)
    return x - jnp.tanh(x)


# -- sigmoid-like


def sigmoid(x: jax.Array) -> jax.Array:
    """1 / (1 + exp(-x)). S1.10."""
    return jax.nn.sigmoid(_float(x))


def logsigmoid(x: jax.Array) -> jax.Array:
    """log(sigmoid(x)), which does not overflow where the sigmoid is 0. S1.11.

    >>> import jax.numpy as jnp
    >>> logsigmoid(jnp.array([-1e4, 0.0])).round(4).tolist()
    [-10000.0, -0.6930999755859375]
    """
    return -softplus(-x)


def tanh(x: jax.Array) -> jax.Array:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x)). S1.12."""
    return jnp.tanh(_float(x))


def hardsigmoid(x: jax.Array) -> jax.Array:
    """x / 6 + 1/2, cut to 0 below -3 and to 1 above 3. S1.13."""
    x = _float(x)
    return jnp.where(x <= -3, 0, jnp.where(x >= 3, 1, x / 6 + 0.5))


def hardtanh(x: jax.Array, min_val: Scalar = -1.0, max_val: Scalar = 1.0) -> jax.Array:
    """x cut to [min_val, max_val]. S1.14."""
    x = _float(x)
    # jnp.clip has the slope 1/2 at the two kinks, torch 0
    low, high = _like(min_val, x), _like(max_val, x)
    return jnp.where(x <= low, low, jnp.where(x >= high, high, x))


# -- ReLU-like


def relu(x: jax.Array) -> jax.Array:
    """max(0, x); the slope at 0 is 0. S1.18.

    >>> import jax.numpy as jnp
    >>> relu(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return jax.nn.relu(_float(x))


def leaky_relu(x: jax.Array, negative_slope: Scalar = 0.01) -> jax.Array:
    """x where x > 0, negative_slope * x elsewhere. S1.19.

    The course's max(x, a x) is the same for a <= 1 only: for a = 2 it is 2 x on the right of 0 and x on the left.
    """
    x = _float(x)
    return jnp.where(x > 0, x, x * _like(negative_slope, x))


def prelu(x: jax.Array, weight: jax.Array) -> jax.Array:
    """leaky_relu with a learned slope for all or each channel.   x: [..., c], weight: [1] or [c] -> [..., c]

    The course's max(x, a x) would turn round once a learned past 1. He et al. 2015, arXiv:1502.01852. S1.20.
    """
    x, weight = _float(x), jnp.asarray(weight)
    if weight.shape != (1,) and (x.ndim < 2 or weight.shape != x.shape[-1:]):
        raise ModelError(
            f"prelu needs one slope, or one for each channel of an input [batch, ..., channels]; got "
            f"{weight.shape} slopes for an input of shape {x.shape}."
        )
    return leaky_relu(x, weight)


def rrelu(x: jax.Array, lower: Scalar = 1 / 8, upper: Scalar = 1 / 3, key: jax.Array | None = None) -> jax.Array:
    """leaky_relu whose slope is drawn anew for each entry from U(lower, upper); without a key, their mean.

    Xu et al. 2015, arXiv:1505.00853. S1.22."""
    x = _float(x)
    lower, upper = _like(lower, x), _like(upper, x)
    if key is None:
        return leaky_relu(x, (lower + upper) / 2)
    return leaky_relu(x, lower + (upper - lower) * jax.random.uniform(key, x.shape, x.dtype))


def relu6(x: jax.Array) -> jax.Array:
    """min(max(0, x), 6). S1.21."""
    return hardtanh(x, 0.0, 6.0)


def softplus(x: jax.Array, beta: Scalar = 1.0) -> jax.Array:
    """log(1 + exp(beta x)) / beta: a ReLU without the kink. S1.23.

    torch's `threshold`, above which it takes x itself, is not needed: exp is only taken of what is negative.
    """
    x = _float(x)
    beta = _like(beta, x)
    z = x * beta
    # not jnp.maximum and jnp.abs: their slopes at 0 would not add up to 1/2
    return (jnp.where(z > 0, z, 0) + jnp.log1p(jnp.exp(jnp.where(z > 0, -z, z)))) / beta


def gelu(x: jax.Array, approximate: Literal["none", "tanh"] = "none") -> jax.Array:
    """x Phi(x) with the normal distribution's Phi; "tanh" is the course's approximation. S1.24, arXiv:1606.08415."""
    if approximate not in ("none", "tanh"):
        raise ModelError(f'gelu: approximate is "none" or "tanh", got {approximate!r}.')
    return jax.nn.gelu(_float(x), approximate=approximate == "tanh")


def silu(x: jax.Array) -> jax.Array:
    """x sigmoid(x), also called swish. S1.25, arXiv:1710.05941."""
    return jax.nn.silu(_float(x))


def hardswish(x: jax.Array) -> jax.Array:
    """x min(max(0, x + 3), 6) / 6. Howard et al. 2019, arXiv:1905.02244. S1.26."""
    x = _float(x)
    inside = jnp.abs(x) < 3
    near = jnp.where(inside, x, 0)  # the middle branch sees nothing large: its gradient stays finite
    return jnp.where(inside, near * (near / 6 + 0.5), jnp.where(x <= -3, 0, x))


def mish(x: jax.Array) -> jax.Array:
    """x tanh(softplus(x)). Misra 2019, arXiv:1908.08681. S1.27."""
    x = _float(x)
    return x * jnp.tanh(softplus(x))


# -- ELU-like


def elu(x: jax.Array, alpha: Scalar = 1.0) -> jax.Array:
    """x where x > 0, alpha (exp(x) - 1) elsewhere. Clevert et al. 2015, arXiv:1511.07289. S1.28."""
    x = _float(x)
    return jnp.where(x > 0, x, _like(alpha, x) * jnp.expm1(jnp.where(x > 0, 0, x)))


def selu(x: jax.Array) -> jax.Array:
    """1.0507 elu(x, 1.6733): mean 0 and variance 1 are its fixed point. S1.28.

    Klambauer et al. 2017, arXiv:1706.02515."""
    return 1.0507009873554804934193349852946 * elu(x, 1.6732632423543772848170429916717)


def celu(x: jax.Array, alpha: Scalar = 1.0) -> jax.Array:
    """x where x > 0, alpha (exp(x / alpha) - 1) elsewhere: no kink for any alpha. arXiv:1704.07483. S1.28."""
    x = _float(x)
    alpha = _like(alpha, x)
    return jnp.where(x > 0, x, alpha * jnp.expm1(jnp.where(x > 0, 0, x) / alpha))


# -- softmax-like: along an axis


def softmax(x: jax.Array, axis: int = -1) -> jax.Array:
    """exp(x_i) / sum_j exp(x_j) along an axis, for logits of any size. S1.15.

    >>> import jax.numpy as jnp
    >>> [round(float(p), 4) for p in softmax(jnp.array([2.0, 1.0, 0.1]))]
    [0.659, 0.2424, 0.0986]
    """
    x = _float(x)
    return jax.nn.softmax(x, _axis("softmax", x, axis))


def log_softmax(x: jax.Array, axis: int = -1) -> jax.Array:
    """x_i - log(sum_j exp(x_j)) along an axis. S1.16."""
    x = _float(x)
    return jax.nn.log_softmax(x, _axis("log_softmax", x, axis))


def softmin(x: jax.Array, axis: int = -1) -> jax.Array:
    """softmax(-x): the smallest has the largest share. S1.17."""
    x = _float(x)
    return jax.nn.softmax(-x, _axis("softmin", x, axis))


def hardmax(x: jax.Array, axis: int = -1) -> jax.Array:
    """1 at the largest along an axis (the first of equal ones), 0 elsewhere. Its gradient is 0. S4.16.

    >>> import jax.numpy as jnp
    >>> hardmax(jnp.array([5.0, 2.0, -1.0, 3.0])).tolist()
    [1.0, 0.0, 0.0, 0.0]
    """
    x = _float(x)
    axis = _axis("hardmax", x, axis)
    if x.shape[axis] == 0:
        raise ModelError(f"hardmax needs a value along axis {axis}, got an input of shape {x.shape}.")
    return jax.nn.one_hot(jnp.argmax(x, axis), x.shape[axis], dtype=x.dtype, axis=axis)


def glu(x: jax.Array, axis: int = -1) -> jax.Array:
    """The first half along an axis times the sigmoid of the second. Dauphin et al. 2016, arXiv:1612.08083."""
    x = _float(x)
    axis = _axis("glu", x, axis)
    if x.shape[axis] % 2:
        raise ModelError(f"glu halves axis {axis}, so its size must be even; got an input of shape {x.shape}.")
    a, b = jnp.split(x, 2, axis)
    return a * jax.nn.sigmoid(b)


# -- what they share


def _float(x: jax.Array) -> jax.Array:
    """A Scalar cast to a whole number's dtype would be 0: 0.01 x would be 0."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))


def _like(value: Scalar, x: jax.Array) -> jax.Array:
    """A Scalar, traced or not, in the dtype of x, so that bfloat16 stays bfloat16."""
    return jnp.asarray(value, x.dtype)


def _axis(name: str, x: jax.Array, axis: int) -> int:
    """The axis counted from the front."""
    if not -x.ndim <= axis < x.ndim:
        raise ModelError(f"{name}: there is no axis {axis} in an input of shape {x.shape}.")
    return axis % x.ndim
