"""How weights start. Every initialiser is a spec, called with (key, shape, dtype).

Shapes are torch's: a matrix is [out, in], a kernel [out, in / groups, height, width]; fan in is the number of
values one output reads, fan out the number of outputs one value reaches. Concept S1.59.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from derin.errors import ModelError
from derin.spec import Scalar, Spec

__all__ = [
    "Full",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LeCunNormal",
    "LeCunUniform",
    "Normal",
    "Ones",
    "Uniform",
    "XavierNormal",
    "XavierUniform",
    "Zeros",
    "fans",
]


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


class Initializer(Spec):
    """Base of the initialisers: draw an array of a shape from a key.

    >>> import jax, jax.numpy as jnp
    >>> Full(0.5)(jax.random.key(0), (2,), jnp.float32).tolist()
    [0.5, 0.5]
    """

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        raise NotImplementedError(f"{type(self).__name__} has no __call__(self, key, shape, dtype).")


class Zeros(Initializer):
    """All zeros: right for biases, wrong for weights (every unit would stay the same)."""

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jnp.zeros(shape, dtype)


class Ones(Initializer):
    """All ones: the scale of a normalisation."""

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jnp.ones(shape, dtype)


class Full(Initializer):
    """Every entry is `value`."""

    value: Scalar

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jnp.full(shape, self.value, dtype)


class Normal(Initializer):
    """N(mean, std^2)."""

    std: Scalar = 1.0
    mean: Scalar = 0.0

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return _normal(key, shape, dtype, self.std) + jnp.asarray(self.mean, dtype)


class Uniform(Initializer):
    """U(-bound, bound)."""

    bound: Scalar = 1.0

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return _uniform(key, shape, dtype, self.bound)


class HeNormal(Initializer):
    """N(0, 2 / ((1 + slope^2) fan_in)), for ReLU and, with its slope, LeakyReLU. torch: kaiming_normal_.

    He et al. 2015, arXiv:1502.01852. S1.59."""

    slope: Scalar = 0.0

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return _normal(key, shape, dtype, _he(self.slope, shape))


class HeUniform(Initializer):
    """U(-b, b) with b^2 = 6 / ((1 + slope^2) fan_in). torch: kaiming_uniform_; S1.59."""

    slope: Scalar = 0.0

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return _uniform(key, shape, dtype, math.sqrt(3) * _he(self.slope, shape))


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
    """N(0, 1 / fan_in), for sigmoid, tanh and SELU. S1.59."""

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return _normal(key, shape, dtype, math.sqrt(1 / fans(shape)[0]))


class LeCunUniform(Initializer):
    """U(-b, b) with b = sqrt(3 / fan_in). S1.59."""

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return _uniform(key, shape, dtype, math.sqrt(3 / fans(shape)[0]))


def _he(slope: Scalar, shape: tuple[int, ...]) -> Scalar:
    sqrt = math.sqrt if isinstance(slope, (int, float)) else jnp.sqrt
    return sqrt(2 / ((1 + slope**2) * fans(shape)[0]))


def _normal(key: jax.Array, shape: tuple[int, ...], dtype: Any, std: Scalar) -> jax.Array:
    return jax.random.normal(key, shape, dtype) * jnp.asarray(std, dtype)


def _uniform(key: jax.Array, shape: tuple[int, ...], dtype: Any, bound: Scalar) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -1, 1) * jnp.asarray(bound, dtype)
