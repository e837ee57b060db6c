"""Activations, as functions and as layers. Values and gradients are torch's, also at the kinks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from derin.errors import SpecError
from derin.nn.module import Module
from derin.spec import Scalar, nearest

__all__ = [
    "GELU",
    "Function",
    "LeakyReLU",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "gelu",
    "leaky_relu",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
]


# -- functions


def relu(x: jax.Array) -> jax.Array:
    """max(0, x); the slope at 0 is 0. S1.18.

    >>> import jax.numpy as jnp
    >>> relu(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return jax.nn.relu(x)


def leaky_relu(x: jax.Array, negative_slope: Scalar = 0.01) -> jax.Array:
    """x where x > 0, negative_slope * x elsewhere. S1.19."""
    return jnp.where(x > 0, x, x * jnp.asarray(negative_slope, x.dtype))


def sigmoid(x: jax.Array) -> jax.Array:
    """1 / (1 + exp(-x)). S1.10."""
    return jax.nn.sigmoid(x)


def tanh(x: jax.Array) -> jax.Array:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x)). S1.12."""
    return jnp.tanh(x)


def gelu(x: jax.Array, approximate: Literal["none", "tanh"] = "none") -> jax.Array:
    """x Phi(x) with the normal distribution's Phi; "tanh" is the course's approximation. S1.24, arXiv:1606.08415."""
    return jax.nn.gelu(x, approximate=approximate == "tanh")


def silu(x: jax.Array) -> jax.Array:
    """x sigmoid(x), also called swish. S1.25, arXiv:1710.05941."""
    return jax.nn.silu(x)


def softmax(x: jax.Array, axis: int = -1) -> jax.Array:
    """exp(x_i) / sum_j exp(x_j) along an axis, for logits of any size. S1.15.

    >>> import jax.numpy as jnp
    >>> [round(float(p), 4) for p in softmax(jnp.array([2.0, 1.0, 0.1]))]
    [0.659, 0.2424, 0.0986]
    """
    return jax.nn.softmax(x, axis)


# -- layers


class ReLU(Module):
    """max(0, x).   x: [...] -> [...]      S1.18."""

    def forward(self, x: jax.Array) -> jax.Array:
        return relu(x)


class LeakyReLU(Module):
    """x where x > 0, negative_slope * x elsewhere.   x: [...] -> [...]      S1.19."""

    negative_slope: Scalar = 0.01

    def forward(self, x: jax.Array) -> jax.Array:
        return leaky_relu(x, self.negative_slope)


class Sigmoid(Module):
    """1 / (1 + exp(-x)).   x: [...] -> [...]      S1.10."""

    def forward(self, x: jax.Array) -> jax.Array:
        return sigmoid(x)


class Tanh(Module):
    """Hyperbolic tangent.   x: [...] -> [...]      S1.12."""

    def forward(self, x: jax.Array) -> jax.Array:
        return tanh(x)


class GELU(Module):
    """x Phi(x); approximate="tanh" is the course's form.   x: [...] -> [...]      S1.24."""

    approximate: Literal["none", "tanh"] = "none"

    def forward(self, x: jax.Array) -> jax.Array:
        return gelu(x, self.approximate)


class SiLU(Module):
    """x sigmoid(x).   x: [...] -> [...]      S1.25."""

    def forward(self, x: jax.Array) -> jax.Array:
        return silu(x)


class Softmax(Module):
    """Positive shares that sum to 1 along an axis.   x: [...] -> [...]      S1.15."""

    axis: int = -1

    def forward(self, x: jax.Array) -> jax.Array:
        return softmax(x, self.axis)


# -- a plain function as a layer


class Function(Module):
    """A plain function of one array, as a layer; Sequential and MLP make it.   x: [...] -> ...

    A function of derin.nn ("relu"), an activation of jax.nn ("jax.nn.elu") or an elementwise function of
    jax.numpy ("jax.numpy.sin") is kept by name and can stand in a file. Any other callable works in memory only.

    >>> import jax
    >>> Function(jax.nn.elu)
    Function('jax.nn.elu')
    """

    function: str | Callable[[Any], Any]

    def check(self) -> None:
        if isinstance(self.function, str):
            if self.function not in _functions():
                near = nearest(self.function, _functions())
                raise SpecError(f"no function is called {self.function!r}.{near}")
        elif isinstance(self.function, type) or not callable(self.function):
            raise SpecError(f"Function takes a function or the name of one, got {self.function!r}.")
        else:
            names = [name for name, f in _functions().items() if f is self.function]
            self.function = names[0] if names else self.function

    def _before_saving(self) -> None:
        if not isinstance(self.function, str):
            name = getattr(self.function, "__qualname__", repr(self.function))
            raise SpecError(
                f"a file cannot hold the function {name!r}. Write it as a layer: "
                "class Mine(Module) with def forward(self, x)."
            )

    def forward(self, x: jax.Array) -> jax.Array:
        f = _functions()[self.function] if isinstance(self.function, str) else self.function
        return f(x)


_OF_JAX_NN = (
    "celu elu gelu glu hard_sigmoid hard_silu hard_swish hard_tanh identity leaky_relu log_sigmoid log_softmax "
    "mish relu relu6 selu sigmoid silu soft_sign softmax softplus sparse_plus sparse_sigmoid squareplus "
    "standardize swish tanh"
).split()
_OF_JAX_NUMPY = (
    "abs absolute arctan arcsinh cbrt ceil cos cosh exp exp2 expm1 fabs floor log log10 log1p log2 negative "
    "positive reciprocal rint round sign sin sinc sinh sqrt square tan tanh trunc nan_to_num"
).split()


def _functions() -> dict[str, Callable]:
    """The functions that a file may name."""
    if not _named:
        own = (relu, leaky_relu, sigmoid, tanh, gelu, silu, softmax)
        _named.update({f.__name__: f for f in own})
        _named.update({f"jax.nn.{n}": getattr(jax.nn, n) for n in _OF_JAX_NN if hasattr(jax.nn, n)})
        _named.update({f"jax.numpy.{n}": getattr(jnp, n) for n in _OF_JAX_NUMPY if hasattr(jnp, n)})
    return _named


_named: dict[str, Callable] = {}
