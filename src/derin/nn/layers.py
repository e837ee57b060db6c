"""The layers. Batch first, channels last; weights have torch's names and layouts, and start as torch's do.

A layer's output has the dtype of its input: weights are cast to it, so bfloat16 inputs compute in bfloat16
while the weights themselves stay float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from derin.errors import ModelError, SpecError
from derin.nn.activations import Function
from derin.nn.checks import array_input as _array_input
from derin.nn.checks import at_least as _at_least
from derin.nn.checks import float_input as _float_input
from derin.nn.convolution import Pair, Window, conv2d, max_pool2d
from derin.nn.init import Normal, Ones, Uniform, Zeros
from derin.nn.module import Init, Module
from derin.spec import Scalar

__all__ = [
    "MLP",
    "BatchNorm",
    "Conv2d",
    "Dropout",
    "Embedding",
    "Flatten",
    "Identity",
    "Linear",
    "MaxPool2d",
    "Sequential",
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

    def forward(self, x: jax.Array) -> jax.Array:
        _float_input(self, x, "[..., in]", 1)
        d = x.shape[-1]
        default = Uniform(1 / math.sqrt(max(1, d)))
        w = self.param("weight", self.weight_init or default, (self.features, d))
        y = x @ w.astype(x.dtype).T
        if self.bias:
            y = y + self.param("bias", self.bias_init or default, (self.features,)).astype(x.dtype)
        return y


class Conv2d(Module):
    """Slide `features` kernels over a map.   x: [batch, h, w, in] -> [batch, h', w', features]

    weight: [features, in / groups, kh, kw], bias: [features]. h' = (h + 2 padding - dilation (kh - 1) - 1) //
    stride + 1; padding "same" keeps h and w (stride 1 only, as in torch), "valid" is 0. Starts as torch's. S3.17.

    >>> import jax, jax.numpy as jnp
    >>> net = Conv2d(8, 3, padding="same")
    >>> params, state = net.init(jax.random.key(0), jnp.ones((2, 28, 28, 1)))
    >>> net.apply(params, state, jnp.ones((2, 28, 28, 1)))[0].shape
    (2, 28, 28, 8)
    """

    features: int
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | Literal["same", "valid"] = 0
    dilation: int | tuple[int, int] = 1
    groups: int = 1
    bias: bool = True
    weight_init: Init | None = None  # None: torch's, uniform in +-1/sqrt(in / groups * kh * kw)
    bias_init: Init | None = None

    def check(self) -> None:
        _at_least(self, 1, features=self.features, kernel_size=self.kernel_size, stride=self.stride)
        _at_least(self, 1, dilation=self.dilation, groups=self.groups)
        if not isinstance(self.padding, str):
            _at_least(self, 0, padding=self.padding)
        if self.features % self.groups:
            raise SpecError(f"Conv2d: {self.groups} groups do not divide {self.features} features.")
        if self.padding == "same" and _pair(self.stride) != (1, 1):
            raise SpecError(f'Conv2d: padding="same" needs stride 1, got stride={self.stride}.')

    def forward(self, x: jax.Array) -> jax.Array:
        _float_input(self, x, "[batch, height, width, channels]", 4, exactly=True)
        c, kernel, dilation = x.shape[-1], _pair(self.kernel_size), _pair(self.dilation)
        if c % self.groups:
            raise ModelError(f"Conv2d: {self.groups} groups do not divide the {c} channels of the input {x.shape}.")
        reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if self.padding == "same":
            top, left = (r // 2 for r in reach)
            pad = (top, reach[0] - top), (left, reach[1] - left)
        else:
            top, left = _pair(0 if self.padding == "valid" else self.padding)
            pad = (top, top), (left, left)
        for size, p, r, side in zip(x.shape[1:3], pad, reach, ("height", "width"), strict=True):
            if size + sum(p) <= r:
                raise ModelError(
                    f"Conv2d: the kernel reaches over {r + 1} values, the input {x.shape} with its padding has "
                    f"a {side} of {size + sum(p)}."
                )
        shape = (self.features, c // self.groups, *kernel)
        default = Uniform(1 / math.sqrt(math.prod(shape[1:])))
        w = self.param("weight", self.weight_init or default, shape)
        y = conv2d(x, w.astype(x.dtype), Window(kernel, _pair(self.stride), pad, dilation), self.groups)
        if self.bias:
            y = y + self.param("bias", self.bias_init or default, (self.features,)).astype(x.dtype)
        return y


class MaxPool2d(Module):
    """The largest value of each window.   x: [batch, h, w, c] -> [batch, h', w', c]

    h' = (h + 2 padding - kernel) // stride + 1; the stride is the kernel's size unless given. Of equal values
    the first takes the gradient, as in torch.
    """

    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] | None = None
    padding: int | tuple[int, int] = 0

    def check(self) -> None:
        _at_least(self, 1, kernel_size=self.kernel_size, stride=1 if self.stride is None else self.stride)
        _at_least(self, 0, padding=self.padding)
        for p, k in zip(_pair(self.padding), _pair(self.kernel_size), strict=True):
            if 2 * p > k:
                raise SpecError(
                    f"MaxPool2d.padding can be at most half of the kernel, got padding={self.padding} "
                    f"for kernel_size={self.kernel_size}."
                )

    def forward(self, x: jax.Array) -> jax.Array:
        _array_input(self, x, "[batch, height, width, channels]", 4, exactly=True)
        kernel, padding = _pair(self.kernel_size), _pair(self.padding)
        stride = kernel if self.stride is None else _pair(self.stride)
        for size, p, k, side in zip(x.shape[1:3], padding, kernel, ("height", "width"), strict=True):
            if size + 2 * p < k:
                raise ModelError(
                    f"MaxPool2d: the window is {k} long, the input {x.shape} with its padding has a {side} "
                    f"of {size + 2 * p}."
                )
        return max_pool2d(x, Window(kernel, stride, ((padding[0],) * 2, (padding[1],) * 2)))


class Flatten(Module):
    """One row an example.   x: [batch, ...] -> [batch, values]

    Maps are channels last, so after a convolution the values stand in the order height, width, channel
    (torch: channel, height, width).
    """

    def forward(self, x: jax.Array) -> jax.Array:
        _array_input(self, x, "[batch, ...]", 1)
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))


class BatchNorm(Module):
    """Normalise each channel over all other axes, then scale and shift it.   x: [..., c] -> [..., c]

    weight, bias: [c]; state running_mean, running_var: [c]. Running statistics follow torch: the new batch has
    weight `momentum`, and the running variance is the unbiased one. They, not the batch's, are used in
    evaluation. Rows whose mask is 0 do not count. Ioffe & Szegedy 2015, arXiv:1502.03167. S1.55.
    """

    momentum: Scalar = 0.1
    eps: float = 1e-5
    affine: bool = True

    def forward(self, x: jax.Array) -> jax.Array:
        _float_input(self, x, "[..., channels]", 2)
        c, dtype = x.shape[-1], x.dtype
        x = x.astype(jnp.float32 if dtype.itemsize < 4 else dtype)
        mean = self.state("running_mean", Zeros(), (c,))
        var = self.state("running_var", Ones(), (c,))
        if self.training:
            old_mean, old_var = mean, var
            mean, var, n = _moments(x, self.mask)
            momentum = jnp.asarray(self.momentum, mean.dtype)
            unbiased = jnp.where(n > 1, var * n / jnp.maximum(n - 1, 1), old_var)  # one value has no variance
            self.set_state("running_mean", old_mean + momentum * (mean - old_mean))
            self.set_state("running_var", old_var + momentum * (unbiased - old_var))
        scale = jax.lax.rsqrt(var + self.eps)
        if not self.affine:
            return ((x - mean) * scale).astype(dtype)
        scale = scale * self.param("weight", Ones(), (c,)).astype(scale.dtype)
        shift = self.param("bias", Zeros(), (c,)).astype(scale.dtype)
        return ((x - mean) * scale + shift).astype(dtype)


def _moments(x: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array, Any]:
    """Mean, variance and number of values of each channel, over the rows that count.   x: [batch, ..., c]"""
    axes = tuple(range(x.ndim - 1))
    if mask is None:
        mean = x.mean(axes)
        return mean, jnp.square(x - mean).mean(axes), jnp.asarray(x.size // x.shape[-1], x.dtype)
    if mask.shape != x.shape[:1]:
        raise ModelError(f"BatchNorm: the mask has shape {mask.shape}, the input {x.shape} needs {x.shape[:1]}.")
    m = mask.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    n = m.sum() * math.prod(x.shape[1:-1])
    share = m / jnp.maximum(n, 1)
    mean = (x * share).sum(axes)
    return mean, (jnp.square(x - mean) * share).sum(axes), n


class Dropout(Module):
    """In training, zero each entry with probability `rate` and scale the others by 1 / (1 - rate).   x: [...] -> [...]

    Srivastava et al. 2014. S1.58 (which leaves out the scaling).
    """

    rate: Scalar = 0.5

    def check(self) -> None:
        if isinstance(self.rate, (int, float)) and not 0 <= self.rate < 1:
            raise SpecError(f"Dropout.rate must be in [0, 1), got {self.rate}. It is the share of entries set to zero.")

    def forward(self, x: jax.Array) -> jax.Array:
        if not self.training:
            return x
        keep = 1 - jnp.asarray(self.rate, jnp.float32)
        kept = jax.random.bernoulli(self.rng(), keep, x.shape)
        return jnp.where(kept, x / keep.astype(x.dtype), jnp.zeros((), x.dtype))


class Embedding(Module):
    """A learned row for each of `count` codes.   x: [...] -> [..., features]      weight: [count, features]

    x holds whole numbers in [0, count). Another number raises ModelError where it can be seen, and gives nan
    inside a compiled program. S3.30.
    """

    count: int
    features: int
    weight_init: Init | None = None  # None: torch's, N(0, 1)

    def check(self) -> None:
        _at_least(self, 1, count=self.count, features=self.features)

    def forward(self, x: jax.Array) -> jax.Array:
        if not jnp.issubdtype(jnp.result_type(x), jnp.integer):
            raise ModelError(
                f"Embedding needs whole numbers (codes), got {jnp.result_type(x)} of shape {jnp.shape(x)}."
            )
        if not isinstance(x, jax.core.Tracer) and np.size(x):
            low, high = int(np.min(x)), int(np.max(x))
            if low < 0 or high >= self.count:
                raise ModelError(
                    f"Embedding has {self.count} codes, 0 to {self.count - 1}; the input has {low} to {high}."
                )
        w = self.param("weight", self.weight_init or Normal(), (self.count, self.features))
        codes = jnp.where(x < 0, self.count, x)  # JAX would count a negative one from the end
        return w.at[codes].get(mode="fill", fill_value=jnp.nan)


class Identity(Module):
    """Gives back what comes in.   x: [...] -> [...]      S1.54."""

    def forward(self, x: Any) -> Any:
        return x


class Sequential(Module):
    """Call the layers one after another; plain functions may stand among them.   x: [...] -> ...

    >>> import jax
    >>> Sequential(Linear(8), jax.nn.elu, Linear(2))
    Sequential(Linear(8), Function('jax.nn.elu'), Linear(2))
    """

    layers: tuple[Module | Callable[[Any], Any], ...] = ()
    _variadic = "layers"
    _inline = "layers"

    if TYPE_CHECKING:

        def __init__(self, *layers: Module | Callable[[Any], Any]) -> None: ...

    def check(self) -> None:
        self.layers = tuple(_as_layer(v, i) for i, v in enumerate(self.layers))

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x


def _as_layer(value: Any, i: int) -> Module:
    if isinstance(value, Module):
        return value
    if isinstance(value, type):
        raise SpecError(f"Sequential: layer {i}, {value.__name__} is a class; write {value.__name__}().")
    if not callable(value):
        raise SpecError(f"Sequential: layer {i} is {value!r}, a {type(value).__name__}, not a layer or a function.")
    return Function(value)


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


# -- checks


def _pair(size: int | tuple[int, int]) -> Pair:
    return size if isinstance(size, tuple) else (size, size)
