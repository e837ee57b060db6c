"""The layers. Batch first, channels last; weights have torch's names and layouts, and start as torch's do.

A layer's output has the dtype of its input: weights are cast to it, so bfloat16 inputs compute in bfloat16
while the weights themselves stay float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from derin.errors import ModelError
from derin.nn.activations import Function
from derin.nn.checks import at_least as _at_least
from derin.nn.checks import float_input as _float_input
from derin.nn.checks import share
from derin.nn.init import Uniform
from derin.nn.module import Init, Module
from derin.nn.normalization import BatchNorm
from derin.spec import Scalar

__all__ = [
    "MLP",
    "AlphaDropout",
    "Bilinear",
    "Dropout",
    "Identity",
    "Linear",
]


class Linear(Module):
    """y = x W' + b.   x: [..., in] -> [..., features]      weight: [features, in], bias: [features]

    Starts as torch's: both uniform in +-1/sqrt(in). Raises ModelError for an input that is not float. S1.54.

    >>> import jax, jax.numpy as jnp
    >>> params, state = Linear(2).init(jax.random.key(0), jnp.ones((5, 3)))
    >>> {name: w.shape for name, w in params.items()}
    {'weight': (2, 3), 'bias': (2,)}
    """

    features: int
    bias: bool = True
    weight_init: Init | None = None  # None: torch's, uniform in +-1/sqrt(in)
    bias_init: Init | None = None

    def check(self) -> None:
        _at_least(self, 1, features=self.features)

    def _meant(self, name: str, value: Any) -> str:
        inputs_came = name == "bias" and isinstance(value, int)  # Linear(784, 10), as in PyTorch
        return f" A layer sees its input's size; give the outputs only: Linear({value})." if inputs_came else ""

    def forward(self, x: jax.Array) -> jax.Array:
        _float_input(self, x, "[..., in]", 1)
        d = x.shape[-1]
        default = Uniform(1 / math.sqrt(max(1, d)))
        w = self.param("weight", self.weight_init or default, (self.features, d))
        y = x @ w.astype(x.dtype).T
        if self.bias:
            y = y + self.param("bias", self.bias_init or default, (self.features,)).astype(x.dtype)
        return y


class Bilinear(Module):
    """y_k = x1' A_k x2 + b_k.   x: [..., in1], y: [..., in2] -> [..., features]      weight: [features, in1, in2]

    In a Sequential it takes the pair that Branches puts out. Starts as torch's: both uniform in +-1/sqrt(in1).
    """

    features: int
    bias: bool = True
    weight_init: Init | None = None  # None: torch's, uniform in +-1/sqrt(in1)
    bias_init: Init | None = None

    def check(self) -> None:
        _at_least(self, 1, features=self.features)

    def forward(self, x: Any, y: jax.Array | None = None) -> jax.Array:
        if y is None and isinstance(x, tuple) and len(x) == 2:
            x, y = x
        if y is None:
            raise ModelError(f"Bilinear needs two inputs [..., in1] and [..., in2], got one of shape {jnp.shape(x)}.")
        for part in (x, y):
            _float_input(self, part, "[..., in]", 1)
        if x.shape[:-1] != y.shape[:-1]:
            raise ModelError(
                f"Bilinear needs two inputs that differ in the last axis only, got {x.shape} and {y.shape}."
            )
        shape = (self.features, x.shape[-1], y.shape[-1])
        default = Uniform(1 / math.sqrt(max(1, x.shape[-1])))
        w = self.param("weight", self.weight_init or default, shape).astype(x.dtype)
        z = jnp.einsum("...i,kij,...j->...k", x, w, y)
        if self.bias:
            z = z + self.param("bias", self.bias_init or default, (self.features,)).astype(z.dtype)
        return z


class Dropout(Module):
    """In training, zero each entry with probability `rate` and scale the others by 1 / (1 - rate).   x: [...] -> [...]

    Srivastava et al. 2014. S1.58 (which leaves out the scaling).
    """

    rate: Scalar = 0.5

    def check(self) -> None:
        share(self, "the share of entries set to zero", rate=self.rate)

    def forward(self, x: jax.Array) -> jax.Array:
        _float_input(self, x, "[...]", 0)
        if not self.training:
            return x
        keep = 1 - jnp.asarray(self.rate, jnp.float32)
        kept = self.bernoulli(keep, x.shape)
        return jnp.where(kept, x / keep.astype(x.dtype), jnp.zeros((), x.dtype))


class AlphaDropout(Module):
    """Dropout that keeps mean 0 and variance 1, for SELU: dropped entries become SELU's lower end.   x: [...] -> [...]

    With `whole_channels` all positions of a channel of a row go together: torch's FeatureAlphaDropout.
    Klambauer et al. 2017, arXiv:1706.02515.
    """

    rate: Scalar = 0.5
    whole_channels: bool = False

    def check(self) -> None:
        share(self, "the share of entries dropped", rate=self.rate)

    def forward(self, x: jax.Array) -> jax.Array:
        _float_input(self, x, "[...]", 0)
        if not self.training:
            return x
        low = -1.7580993408473766  # -scale * alpha of SELU
        drop = jnp.asarray(self.rate, jnp.float32)
        scale = jax.lax.rsqrt((1 - drop) * (1 + drop * low**2))
        one = self.whole_channels and x.ndim > 2
        shape = (x.shape[0], *[1] * (x.ndim - 2), x.shape[-1]) if one else x.shape
        kept = self.bernoulli(1 - drop, shape)
        y = jnp.where(kept, x, jnp.asarray(low, x.dtype))
        return y * scale.astype(x.dtype) - (scale * low * drop).astype(x.dtype)


class Identity(Module):
    """Gives back what comes in.   x: [...] -> [...]      S1.54."""

    def forward(self, x: Any) -> Any:
        return x


class MLP(Module):
    """Linear layers with an activation between them.   x: [batch, in] -> [batch, out]

    Each hidden layer is Linear, BatchNorm if `norm`, the activation, Dropout if there is a rate. S1.01.

    >>> import jax, jax.numpy as jnp
    >>> params, state = MLP((8,), 2).init(jax.random.key(0), jnp.ones((5, 3)))
    >>> {name: w.shape for name, w in params.items()}
    {'hidden.0.weight': (8, 3), 'hidden.0.bias': (8,), 'head.weight': (2, 8), 'head.bias': (2,)}
    """

    widths: tuple[int, ...] = (128, 64)
    out: int = 1
    activation: str | Callable[[Any], Any] = "relu"
    dropout: Scalar | None = None
    norm: bool = False

    def check(self) -> None:
        _at_least(self, 1, widths=self.widths, out=self.out)

    def setup(self) -> None:
        self.hidden = [Linear(width) for width in self.widths]
        self.norms = [BatchNorm() for _ in self.widths if self.norm]
        self.act = Function(self.activation)
        self.drop = Identity() if self.dropout is None else Dropout(self.dropout)
        self.head = Linear(self.out)

    def forward(self, x: jax.Array) -> jax.Array:
        for i, layer in enumerate(self.hidden):
            x = layer(x)
            x = self.norms[i](x) if self.norm else x
            x = self.drop(self.act(x))
        return self.head(x)
