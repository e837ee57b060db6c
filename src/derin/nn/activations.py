"""Activations as layers, with torch's names and defaults; the functions they call are in activation_functions.py.

A field that is a Scalar may be traced and swept. What torch calls `dim` is `axis`, and channels are last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from derin.errors import ModelError, SpecError
from derin.nn import activation_functions as f
from derin.nn.checks import at_least
from derin.nn.init import Full
from derin.nn.module import Init, Module
from derin.spec import Scalar, nearest

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Function",
    "Hardmax",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Sign",
    "Softmax",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


# -- threshold-like


class Threshold(Module):
    """x where x > threshold, `value` elsewhere.   x: [...] -> [...]

    With `above`, that number instead of x: Threshold(0.0, 0.0, above=1.0) is the step of the first neurons, whose
    gradient is 0. S1.04.
    """

    threshold: Scalar
    value: Scalar
    above: Scalar | None = None

    def forward(self, x: jax.Array) -> jax.Array:
        return f.threshold(x, self.threshold, self.value, self.above)


class Sign(Module):
    """-1, 0 or 1; 0 at 0, and a gradient of 0.   x: [...] -> [...]      S1.05."""

    def forward(self, x: jax.Array) -> jax.Array:
        return f.sign(x)


class Softsign(Module):
    """x / (1 + |x|).   x: [...] -> [...]      S1.06."""

    def forward(self, x: jax.Array) -> jax.Array:
        return f.softsign(x)


class Hardshrink(Module):
    """x where |x| > lambd, 0 elsewhere.   x: [...] -> [...]      S1.07."""

    lambd: Scalar = 0.5

    def check(self) -> None:
        _not_negative(self, lambd=self.lambd)

    def forward(self, x: jax.Array) -> jax.Array:
        return f.hardshrink(x, self.lambd)


class Softshrink(Module):
    """x moved towards 0 by lambd, at most to 0.   x: [...] -> [...]      S1.08."""

    lambd: Scalar = 0.5

    def check(self) -> None:
        _not_negative(self, lambd=self.lambd)

    def forward(self, x: jax.Array) -> jax.Array:
        return f.softshrink(x, self.lambd)


class Tanhshrink(Module):
    """x - tanh(x).   x: [...] -> [...]      S1.09."""

    def forward(self, x: jax.Array) -> jax.Array:
        return f.tanhshrink(x)


# -- sigmoid-like


class Sigmoid(Module):
    """1 / (1 + exp(-x)).   x: [...] -> [...]      S1.10."""

    def forward(self, x: jax.Array) -> jax.Array:
        return f.sigmoid(x)


class LogSigmoid(Module):
    """log(1 / (1 + exp(-x))), finite for any x.   x: [...] -> [...]      S1.11."""

    def forward(self, x: jax.Array) -> jax.Array:
        return f.logsigmoid(x)


class Tanh(Module):
    """Hyperbolic tangent.   x: [...] -> [...]      S1.12."""

    def forward(self, x: jax.Array) -> jax.Array:
        return f.tanh(x)


class Hardsigmoid(Module):
    """x / 6 + 1/2, cut to [0, 1].   x: [...] -> [...]      S1.13."""

    def forward(self, x: jax.Array) -> jax.Array:
        return f.hardsigmoid(x)


class Hardtanh(Module):
    """x cut to [min_val, max_val].   x: [...] -> [...]      S1.14."""

    min_val: Scalar = -1.0
    max_val: Scalar = 1.0

    def check(self) -> None:
        _ordered(self, "min_val", "max_val")

    def forward(self, x: jax.Array) -> jax.Array:
        return f.hardtanh(x, self.min_val, self.max_val)


# -- ReLU-like


class ReLU(Module):
    """max(0, x).   x: [...] -> [...]      S1.18."""

    def forward(self, x: jax.Array) -> jax.Array:
        return f.relu(x)


class LeakyReLU(Module):
    """x where x > 0, negative_slope * x elsewhere.   x: [...] -> [...]

    S1.19, which writes max(x, a x): the same for a slope up to 1.
    """

    negative_slope: Scalar = 0.01

    def forward(self, x: jax.Array) -> jax.Array:
        return f.leaky_relu(x, self.negative_slope)


class PReLU(Module):
    """LeakyReLU whose slope is learned: one for all, or one for each channel.   x: [..., c] -> [..., c]

    weight: [num_parameters], which is 1 or c; it starts at 0.25, as torch's does.
    He et al. 2015, arXiv:1502.01852. S1.20.

    >>> import jax, jax.numpy as jnp
    >>> PReLU(3).init(jax.random.key(0), jnp.ones((5, 3)))[0]
    {'weight': Array([0.25, 0.25, 0.25], dtype=float32)}
    """

    num_parameters: int = 1
    weight_init: Init | None = None  # None: torch's, all 0.25

    def check(self) -> None:
        at_least(self, 1, num_parameters=self.num_parameters)

    def forward(self, x: jax.Array) -> jax.Array:
        weight = self.param("weight", self.weight_init or Full(0.25), (self.num_parameters,))
        if self.num_parameters > 1 and (x.ndim < 2 or x.shape[-1] != self.num_parameters):
            raise ModelError(
                f"PReLU has {self.num_parameters} slopes, so its input must be [batch, ..., {self.num_parameters}], "
                f"channels last; got {x.shape}. PReLU() has one slope for all channels."
            )
        return f.prelu(x, weight)


class RReLU(Module):
    """LeakyReLU whose slopes are drawn from U(lower, upper) in training; their mean else.   x: [...] -> [...]

    Xu et al. 2015, arXiv:1505.00853. S1.22.
    """

    lower: Scalar = 1 / 8
    upper: Scalar = 1 / 3

    def check(self) -> None:
        _ordered(self, "lower", "upper")

    def forward(self, x: jax.Array) -> jax.Array:
        return f.rrelu(x, self.lower, self.upper, self.rng() if self.training else None)


class ReLU6(Module):
    """min(max(0, x), 6).   x: [...] -> [...]      S1.21."""

    def forward(self, x: jax.Array) -> jax.Array:
        return f.relu6(x)


class Softplus(Module):
    """log(1 + exp(beta x)) / beta.   x: [...] -> [...]      S1.23."""

    beta: Scalar = 1.0

    def check(self) -> None:
        if isinstance(self.beta, (int, float)) and not self.beta > 0:
            raise SpecError(f"Softplus.beta must be more than 0, got {self.beta}. The larger, the nearer to a ReLU.")

    def forward(self, x: jax.Array) -> jax.Array:
        return f.softplus(x, self.beta)


class GELU(Module):
    """x Phi(x); approximate="tanh" is the course's form.   x: [...] -> [...]      S1.24."""

    approximate: Literal["none", "tanh"] = "none"

    def forward(self, x: jax.Array) -> jax.Array:
        return f.gelu(x, self.approximate)


class SiLU(Module):
    """x sigmoid(x), also called Swish.   x: [...] -> [...]      S1.25."""

    def forward(self, x: jax.Array) -> jax.Array:
        return f.silu(x)


class Hardswish(Module):
    """x min(max(0, x + 3), 6) / 6.   x: [...] -> [...]      S1.26."""

    def forward(self, x: jax.Array) -> jax.Array:
        return f.hardswish(x)


class Mish(Module):
    """x tanh(log(1 + exp(x))).   x: [...] -> [...]      S1.27."""

    def forward(self, x: jax.Array) -> jax.Array:
        return f.mish(x)


# -- ELU-like


class ELU(Module):
    """x where x > 0, alpha (exp(x) - 1) elsewhere.   x: [...] -> [...]      S1.28."""

    alpha: Scalar = 1.0

    def forward(self, x: jax.Array) -> jax.Array:
        return f.elu(x, self.alpha)


class SELU(Module):
    """A scaled ELU that keeps mean 0 and variance 1, with LeCunNormal weights.   x: [...] -> [...]      S1.28."""

    def forward(self, x: jax.Array) -> jax.Array:
        return f.selu(x)


class CELU(Module):
    """x where x > 0, alpha (exp(x / alpha) - 1) elsewhere.   x: [...] -> [...]      S1.28."""

    alpha: Scalar = 1.0

    def check(self) -> None:
        if isinstance(self.alpha, (int, float)) and self.alpha == 0:
            raise SpecError("CELU.alpha must not be 0: x is divided by it.")

    def forward(self, x: jax.Array) -> jax.Array:
        return f.celu(x, self.alpha)


# -- softmax-like


class Softmax(Module):
    """Positive shares that sum to 1 along an axis.   x: [...] -> [...]      S1.15."""

    axis: int = -1

    def forward(self, x: jax.Array) -> jax.Array:
        return f.softmax(x, self.axis)


class LogSoftmax(Module):
    """The logarithms of Softmax's shares.   x: [...] -> [...]      S1.16."""

    axis: int = -1

    def forward(self, x: jax.Array) -> jax.Array:
        return f.log_softmax(x, self.axis)


class Softmin(Module):
    """Softmax of -x.   x: [...] -> [...]      S1.17."""

    axis: int = -1

    def forward(self, x: jax.Array) -> jax.Array:
        return f.softmin(x, self.axis)


class Hardmax(Module):
    """1 at the largest along an axis, 0 elsewhere, and a gradient of 0.   x: [...] -> [...]      S4.16."""

    axis: int = -1

    def forward(self, x: jax.Array) -> jax.Array:
        return f.hardmax(x, self.axis)


class GLU(Module):
    """The first half along an axis times the sigmoid of the second half.   x: [...] -> ...

    Dauphin et al. 2016, arXiv:1612.08083.
    """

    axis: int = -1

    def forward(self, x: jax.Array) -> jax.Array:
        return f.glu(x, self.axis)


# -- checks


def _not_negative(layer: Module, **values: Scalar) -> None:
    for name, value in values.items():
        if isinstance(value, (int, float)) and not value >= 0:
            raise SpecError(f"{type(layer).__name__}.{name} must be 0 or more, got {value}.")


def _ordered(layer: Module, low: str, high: str) -> None:
    a, b = getattr(layer, low), getattr(layer, high)
    if isinstance(a, (int, float)) and isinstance(b, (int, float)) and not a <= b:
        raise SpecError(f"{type(layer).__name__}.{low} must be at most {high}, got {a} and {b}.")


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
            names = [name for name, function in _functions().items() if function is self.function]
            self.function = names[0] if names else self.function

    def _before_saving(self) -> None:
        if not isinstance(self.function, str):
            name = getattr(self.function, "__qualname__", repr(self.function))
            raise SpecError(
                f"a file cannot hold the function {name!r}. Write it as a layer: "
                "class Mine(Module) with def forward(self, x)."
            )

    def forward(self, x: jax.Array) -> jax.Array:
        function = _functions()[self.function] if isinstance(self.function, str) else self.function
        return function(x)


_OF_JAX_NN = (
    "celu elu gelu glu hard_sigmoid hard_silu hard_swish hard_tanh identity leaky_relu log_sigmoid log_softmax "
    "mish relu relu6 selu sigmoid silu soft_sign softmax softplus sparse_plus sparse_sigmoid squareplus "
    "standardize swish tanh"
).split()
_OF_JAX_NUMPY = (
    "abs absolute arctan arcsinh cbrt ceil cos cosh exp exp2 expm1 fabs floor log log10 log1p log2 negative "
    "positive reciprocal rint round sign sin sinc sinh sqrt square tan tanh trunc nan_to_num"
).split()


# not threshold and prelu, which need more than x, nor rrelu, which would draw nothing in training
_OWN = (
    f.celu, f.elu, f.gelu, f.glu, f.hardmax, f.hardshrink, f.hardsigmoid, f.hardswish, f.hardtanh, f.leaky_relu,
    f.log_softmax, f.logsigmoid, f.mish, f.relu, f.relu6, f.selu, f.sigmoid, f.sign, f.silu, f.softmax, f.softmin,
    f.softplus, f.softshrink, f.softsign, f.tanh, f.tanhshrink,
)  # fmt: skip


def _functions() -> dict[str, Callable]:
    """The functions that a file may name."""
    if not _named:
        _named.update({function.__name__: function for function in _OWN})
        _named.update({f"jax.nn.{n}": getattr(jax.nn, n) for n in _OF_JAX_NN if hasattr(jax.nn, n)})
        _named.update({f"jax.numpy.{n}": getattr(jnp, n) for n in _OF_JAX_NUMPY if hasattr(jnp, n)})
    return _named


_named: dict[str, Callable] = {}
