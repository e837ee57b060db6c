"""How weights start. Every initialiser is a spec, called with (key, shape, dtype).

Shapes are torch's: a matrix is [out, in], a kernel [out, in / groups, height, width]; fan in is the number of
values one output reads, fan out the number of outputs one value reaches. Concept S1.59.

    before                    weights that keep the variance
    nothing, tanh, sigmoid    LeCunNormal(), XavierNormal(); better for tanh: XavierNormal(calculate_gain("tanh"))
    ReLU, LeakyReLU(a)        HeNormal(), HeNormal(a)
    SELU                      LeCunNormal()
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from derin.errors import ModelError, SpecError
from derin.spec import Scalar, Spec, nearest

__all__ = [
    "Dirac",
    "Eye",
    "Full",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LeCunNormal",
    "LeCunUniform",
    "Normal",
    "Ones",
    "Orthogonal",
    "Sparse",
    "TruncatedNormal",
    "Uniform",
    "XavierNormal",
    "XavierUniform",
    "Zeros",
    "calculate_gain",
    "fans",
]

Mode = Literal["fan_in", "fan_out"]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan in, fan out) of a weight of torch's layout. Raises ModelError for a vector or a number.

    >>> fans((64, 32)), fans((64, 32, 3, 3))
    ((32, 64), (288, 576))
    """
    if len(shape) < 2:
        raise ModelError(
            f"an initialiser that scales by fan in needs a shape [out, in, ...], got {tuple(shape)}. "
            "For a bias, use Zeros(), Full(value) or Uniform(bound)."
        )
    reach = math.prod(shape[2:])
    return max(1, shape[1] * reach), max(1, shape[0] * reach)


def calculate_gain(nonlinearity: str, slope: Scalar = 0.01) -> Scalar:
    """What the weights before an activation are multiplied by, as torch's. `slope` is leaky_relu's. S1.59.

    1 for linear, conv1d, ..., sigmoid; 5/3 for tanh; sqrt(2) for relu; sqrt(2 / (1 + slope^2)) for leaky_relu; 3/4 for
    selu, which torch chose for stable gradients: the fixed point of its paper wants 1.

    >>> round(calculate_gain("relu"), 4), round(calculate_gain("tanh"), 4)
    (1.4142, 1.6667)
    """
    if nonlinearity == "leaky_relu":
        return (math.sqrt if isinstance(slope, (int, float)) else jnp.sqrt)(2 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        raise SpecError(f"no gain is known for {nonlinearity!r}.{nearest(nonlinearity, [*_GAINS, 'leaky_relu'])}")
    return _GAINS[nonlinearity]


_KERNELS = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
_GAINS = dict.fromkeys([*_KERNELS, "sigmoid"], 1.0) | {"tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}


class Initializer(Spec):
    """Base of the initialisers: draw an array of a shape from a key.

    >>> import jax, jax.numpy as jnp
    >>> Full(0.5)(jax.random.key(0), (2,), jnp.float32).tolist()
    [0.5, 0.5]
    """

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        raise NotImplementedError(f"{type(self).__name__} has no __call__(self, key, shape, dtype).")


class Zeros(Initializer):
    """All zeros: right for biases, wrong for weights (every unit would stay the same). S1.59."""

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jnp.zeros(shape, dtype)


class Ones(Initializer):
    """All ones: the scale of a normalisation."""

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jnp.ones(shape, dtype)


class Full(Initializer):
    """Every entry is `value`. torch: constant_."""

    value: Scalar

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jnp.full(shape, self.value, dtype)


class Normal(Initializer):
    """N(mean, std^2)."""

    std: Scalar = 1.0
    mean: Scalar = 0.0

    def check(self) -> None:
        _not_negative(self, "std", self.std)

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return _normal(key, shape, dtype, self.std, self.mean)


class TruncatedNormal(Initializer):
    """N(mean, std^2), drawn again where it falls outside [a, b]. torch: trunc_normal_.

    The bounds are numbers, not multiples of std; what is left has a smaller variance than std^2.
    """

    std: Scalar = 1.0
    mean: Scalar = 0.0
    a: Scalar = -2.0
    b: Scalar = 2.0

    def check(self) -> None:
        _not_negative(self, "std", self.std)
        if all(isinstance(v, (int, float)) for v in (self.a, self.b)) and not self.a < self.b:
            raise SpecError(f"TruncatedNormal.a must be below b, got {self.a} and {self.b}. They bound what is drawn.")

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        low, high = (self.a - self.mean) / self.std, (self.b - self.mean) / self.std
        drawn = jax.random.truncated_normal(key, low, high, shape) * self.std + self.mean
        return jnp.clip(drawn, self.a, self.b).astype(dtype)


class Uniform(Initializer):
    """U(mean - bound, mean + bound). Uniform(0.01) is the random start of the first networks. S1.59."""

    bound: Scalar = 1.0
    mean: Scalar = 0.0

    def check(self) -> None:
        _not_negative(self, "bound", self.bound)

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return _uniform(key, shape, dtype, self.bound, self.mean)


class HeNormal(Initializer):
    """N(0, gain^2 / fan), for ReLU and, with its slope, LeakyReLU. torch: kaiming_normal_.

    The gain is calculate_gain(nonlinearity, slope), the fan by `mode`: "fan_in" keeps the variance of the values,
    "fan_out" that of the gradients. He et al. 2015, arXiv:1502.01852. S1.59."""

    slope: Scalar = 0.0
    mode: Mode = "fan_in"
    nonlinearity: str = "leaky_relu"

    def check(self) -> None:
        calculate_gain(self.nonlinearity)

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        gain = calculate_gain(self.nonlinearity, self.slope)
        return _normal(key, shape, dtype, gain / math.sqrt(_fan(shape, self.mode)))


class HeUniform(Initializer):
    """U(-b, b) with b^2 = 3 gain^2 / fan, otherwise as HeNormal. torch: kaiming_uniform_; S1.59."""

    slope: Scalar = 0.0
    mode: Mode = "fan_in"
    nonlinearity: str = "leaky_relu"

    def check(self) -> None:
        calculate_gain(self.nonlinearity)

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        gain = calculate_gain(self.nonlinearity, self.slope)
        return _uniform(key, shape, dtype, gain * math.sqrt(3 / _fan(shape, self.mode)))


class XavierNormal(Initializer):
    """N(0, gain^2 2 / (fan_in + fan_out)), for tanh and sigmoid. torch: xavier_normal_.

    Glorot & Bengio 2010. S1.59."""

    gain: Scalar = 1.0

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return _normal(key, shape, dtype, self.gain * math.sqrt(2 / sum(fans(shape))))


class XavierUniform(Initializer):
    """U(-b, b) with b = gain sqrt(6 / (fan_in + fan_out)). torch: xavier_uniform_; S1.59."""

    gain: Scalar = 1.0

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return _uniform(key, shape, dtype, self.gain * math.sqrt(6 / sum(fans(shape))))


class LeCunNormal(Initializer):
    """N(0, gain^2 / fan_in), for sigmoid, tanh and SELU. S1.59."""

    gain: Scalar = 1.0
    mode: Mode = "fan_in"

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return _normal(key, shape, dtype, self.gain / math.sqrt(_fan(shape, self.mode)))


class LeCunUniform(Initializer):
    """U(-b, b) with b = gain sqrt(3 / fan_in). S1.59."""

    gain: Scalar = 1.0
    mode: Mode = "fan_in"

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return _uniform(key, shape, dtype, self.gain * math.sqrt(3 / _fan(shape, self.mode)))


# -- with a structure


class Orthogonal(Initializer):
    """Rows (or columns, if those are fewer) that are orthonormal, times gain. torch: orthogonal_.

    A kernel counts as a matrix [out, the rest]. Saxe et al. 2013, arXiv:1312.6120.

    >>> import jax
    >>> w = Orthogonal()(jax.random.key(0), (2, 3))
    >>> (w @ w.T).round(4).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    gain: Scalar = 1.0

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        _axes(self, shape, (2, None), "[out, in, ...]")
        rows, columns = shape[0], math.prod(shape[1:])
        q, r = jnp.linalg.qr(jax.random.normal(key, (max(rows, columns), min(rows, columns))))
        q = q * jnp.where(jnp.diag(r) < 0, -1, 1)  # else not every orthogonal matrix is equally likely
        q = q if rows >= columns else q.T
        return (q.reshape(shape) * self.gain).astype(dtype)


class Sparse(Initializer):
    """N(0, std^2) with the share `sparsity` of each column 0: a value reaches few units. torch: sparse_.

    Martens 2010, "Deep learning via Hessian-free optimization"."""

    sparsity: Scalar
    std: Scalar = 0.01

    def check(self) -> None:
        if isinstance(self.sparsity, (int, float)) and not 0 <= self.sparsity <= 1:
            raise SpecError(f"Sparse.sparsity must be in [0, 1], got {self.sparsity}. It is the share of zeros.")

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        _axes(self, shape, (2, 2), "[out, in]")
        values, order = jax.random.split(key)
        zeros = jnp.ceil(self.sparsity * shape[0] - 1e-4)  # 0.3 of 10 rows are 3, though 0.3 is a little more in binary
        rank = jnp.argsort(jax.random.uniform(order, shape), 0)  # of each column, a random permutation
        return jnp.where(rank < zeros, jnp.zeros((), dtype), _normal(values, shape, dtype, self.std))


class Eye(Initializer):
    """The identity matrix, cut or filled up with zeros: each value to the unit of its number. torch: eye_."""

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        _axes(self, shape, (2, 2), "[out, in]")
        return jnp.eye(shape[0], shape[1], dtype=dtype)


class Dirac(Initializer):
    """Kernels that pass each channel on as it is, in each of `groups`. torch: dirac_.

    >>> import jax
    >>> Dirac()(jax.random.key(0), (2, 2, 3)).tolist()
    [[[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
    """

    groups: int = 1

    def check(self) -> None:
        if self.groups < 1:
            raise SpecError(f"Dirac.groups must be at least 1, got {self.groups}.")

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        _axes(self, shape, (3, 5), "[out, in / groups, kernel, ...]")
        if shape[0] % self.groups:
            raise ModelError(f"Dirac: {self.groups} groups do not divide {shape[0]} outputs of {tuple(shape)}.")
        middle = tuple(size // 2 for size in shape[2:])
        eye = jnp.tile(jnp.eye(shape[0] // self.groups, shape[1], dtype=dtype), (self.groups, 1))
        return jnp.zeros(shape, dtype).at[(slice(None), slice(None), *middle)].set(eye)


# -- what they share


def _fan(shape: tuple[int, ...], mode: Mode) -> int:
    return fans(shape)[mode == "fan_out"]


def _axes(init: Initializer, shape: tuple[int, ...], span: tuple[int, int | None], wanted: str) -> None:
    least, most = span
    if len(shape) < least or (most is not None and len(shape) > most):
        raise ModelError(f"{type(init).__name__} makes weights {wanted}, got {tuple(shape)}.")


@partial(jax.jit, static_argnums=(1, 2))  # one small program to compile for each shape, not three
def _normal(key: jax.Array, shape: tuple[int, ...], dtype: Any, std: Scalar, mean: Scalar = 0.0) -> jax.Array:
    return jax.random.normal(key, shape, dtype) * jnp.asarray(std, dtype) + jnp.asarray(mean, dtype)


@partial(jax.jit, static_argnums=(1, 2))
def _uniform(key: jax.Array, shape: tuple[int, ...], dtype: Any, bound: Scalar, mean: Scalar = 0.0) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -1, 1) * jnp.asarray(bound, dtype) + jnp.asarray(mean, dtype)


def _not_negative(init: Initializer, name: str, value: Scalar) -> None:
    if isinstance(value, (int, float)) and not value >= 0:
        raise SpecError(f"{type(init).__name__}.{name} must be 0 or more, got {value}.")
