"""Convolutions over one, two and three axes, and transposed ones. Batch first, channels last; torch's weights."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import jax

from derin.errors import ModelError, SpecError
from derin.nn.checks import at_least, float_input, one_for_each_axis, some_in_each_row
from derin.nn.convolution import conv, conv_transpose
from derin.nn.init import Uniform
from derin.nn.module import Init, Module
from derin.nn.padding import pad
from derin.nn.window import Sizes, Window, per_axis

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


class _ConvNd(Module):
    """x: [batch, *sizes, in] -> [batch, *sizes', features]"""

    features: int
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] | Literal["same", "valid"] = 0
    dilation: int | tuple[int, ...] = 1
    groups: int = 1
    bias: bool = True
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros"
    weight_init: Init | None = None  # None: torch's, uniform in +-1/sqrt(in / groups * cells of the kernel)
    bias_init: Init | None = None
    _axes: ClassVar[tuple[str, ...]] = ()

    def check(self) -> None:
        who = type(self).__name__
        at_least(self, 1, features=self.features, kernel_size=self.kernel_size, stride=self.stride)
        at_least(self, 1, dilation=self.dilation, groups=self.groups)
        if not isinstance(self.padding, str):
            at_least(self, 0, padding=self.padding)
        one_for_each_axis(self, self._axes, "kernel_size", "stride", "padding", "dilation")
        if self.features % self.groups:
            raise SpecError(f"{who}: {self.groups} groups do not divide {self.features} features.")
        if self.padding == "same" and {*per_axis(self.stride, 1)} != {1}:
            raise SpecError(f'{who}: padding="same" needs stride 1, got stride={self.stride}.')

    def forward(self, x: jax.Array, *, pool: Any = None) -> jax.Array:
        """pool: a max pooling to be done before the bias, where Sequential finds that it may be."""
        n, window = len(self._axes), self._window()
        float_input(self, x, f"[batch, {', '.join(self._axes)}, channels]", n + 2, exactly=True)
        some_in_each_row(self, x)
        c = x.shape[-1]
        if c % self.groups:
            raise ModelError(
                f"{type(self).__name__}: {self.groups} groups do not divide the {c} channels of the input {x.shape}."
            )
        if self.padding_mode != "zeros":
            x = pad(self, x, window.padding, self.padding_mode)
            window = Window(window.size, window.stride, (), window.dilation)
        for size, p, r, axis in zip(x.shape[1:-1], window.padding, window.reach, self._axes, strict=True):
            if size + sum(p) <= r:
                raise ModelError(
                    f"{type(self).__name__}: the kernel reaches over {r + 1} values, the input {x.shape} with its "
                    f"padding has a {axis} of {size + sum(p)}."
                )
        shape = (self.features, c // self.groups, *window.size)
        default = Uniform(1 / math.sqrt(math.prod(shape[1:])))
        w = self.param("weight", self.weight_init or default, shape)
        if pool is None:
            y = conv(x, w.astype(x.dtype), window, self.groups)
        else:
            from derin.nn.conv_pool import conv_pool

            y = conv_pool(x, w.astype(x.dtype), window, pool.over(window.out(x.shape[1:-1])), self.groups)
        if self.bias:
            y = y + self.param("bias", self.bias_init or default, (self.features,)).astype(x.dtype)
        return y

    def _window(self) -> Window:
        n = len(self._axes)
        size, stride, dilation = (per_axis(v, n) for v in (self.kernel_size, self.stride, self.dilation))
        if self.padding == "same":
            reach = Window(size, dilation=dilation).reach
            return Window(size, stride, tuple((r // 2, r - r // 2) for r in reach), dilation)
        ends = per_axis(0 if self.padding == "valid" else self.padding, n)
        return Window(size, stride, tuple((p, p) for p in ends), dilation)


class Conv1d(_ConvNd):
    """Slide `features` kernels along a series.   x: [batch, length, in] -> [batch, length', features]

    weight: [features, in / groups, k], bias: [features]. The rest is as in Conv2d. S3.17, S3.22.

    >>> import jax, jax.numpy as jnp
    >>> params, state = Conv1d(8, 3).init(jax.random.key(0), jnp.ones((2, 50, 4)))
    >>> Conv1d(8, 3).apply(params, state, jnp.ones((2, 50, 4)))[0].shape
    (2, 48, 8)
    """

    _axes = ("length",)


class Conv2d(_ConvNd):
    """Slide `features` kernels over a map.   x: [batch, h, w, in] -> [batch, h', w', features]

    weight: [features, in / groups, kh, kw], bias: [features]. h' = (h + 2 padding - dilation (kh - 1) - 1) //
    stride + 1; padding "same" keeps h and w (stride 1 only, as in torch), "valid" is 0. `padding_mode` says what stands
    in the padding: zeros, the map mirrored ("reflect"), its edge repeated ("replicate"), or its other end
    ("circular"). Starts as torch's. S3.17.

    >>> import jax, jax.numpy as jnp
    >>> net = Conv2d(8, 3, padding="same")
    >>> params, state = net.init(jax.random.key(0), jnp.ones((2, 28, 28, 1)))
    >>> net.apply(params, state, jnp.ones((2, 28, 28, 1)))[0].shape
    (2, 28, 28, 8)
    """

    _axes = ("height", "width")


class Conv3d(_ConvNd):
    """Slide `features` kernels through a volume or a video.   x: [batch, d, h, w, in] -> [batch, d', h', w', features]

    weight: [features, in / groups, kd, kh, kw], bias: [features]. The rest is as in Conv2d. S3.04.
    """

    _axes = ("depth", "height", "width")


class _ConvTransposeNd(Module):
    """x: [batch, *sizes, in] -> [batch, *sizes', features]"""

    features: int
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 0
    output_padding: int | tuple[int, ...] = 0
    groups: int = 1
    bias: bool = True
    dilation: int | tuple[int, ...] = 1
    weight_init: Init | None = None  # None: torch's, uniform in +-1/sqrt(features / groups * cells of the kernel)
    bias_init: Init | None = None
    _axes: ClassVar[tuple[str, ...]] = ()

    def check(self) -> None:
        who = type(self).__name__
        at_least(self, 1, features=self.features, kernel_size=self.kernel_size, stride=self.stride)
        at_least(self, 1, dilation=self.dilation, groups=self.groups)
        at_least(self, 0, padding=self.padding, output_padding=self.output_padding)
        one_for_each_axis(self, self._axes, "kernel_size", "stride", "padding", "output_padding", "dilation")
        if self.features % self.groups:
            raise SpecError(f"{who}: {self.groups} groups do not divide {self.features} features.")
        n = len(self._axes)
        each = (per_axis(v, n) for v in (self.output_padding, self.stride, self.dilation))
        if any(more >= max(s, d) for more, s, d in zip(*each, strict=True)):
            raise SpecError(
                f"{who}.output_padding must be smaller than the stride or the dilation, got {self.output_padding} for "
                f"stride={self.stride} and dilation={self.dilation}. It only chooses among the {self._axes[0]}s from "
                "which a convolution of this stride gives the input's."
            )

    def forward(self, x: jax.Array) -> jax.Array:
        n, window = len(self._axes), self._window()
        float_input(self, x, f"[batch, {', '.join(self._axes)}, channels]", n + 2, exactly=True)
        some_in_each_row(self, x)
        c = x.shape[-1]
        if c % self.groups:
            raise ModelError(
                f"{type(self).__name__}: {self.groups} groups do not divide the {c} channels of the input {x.shape}."
            )
        sizes = self._sizes(x.shape[1:-1], window)
        if min(sizes, default=1) < 1:
            raise ModelError(
                f"{type(self).__name__}: padding={self.padding} cuts all of the output away: the input {x.shape} "
                f"would become {sizes} ({', '.join(self._axes)})."
            )
        shape = (c, self.features // self.groups, *window.size)
        default = Uniform(1 / math.sqrt(math.prod(shape[1:])))
        w = self.param("weight", self.weight_init or default, shape)
        y = conv_transpose(x, w.astype(x.dtype), window, sizes, self.groups)
        if self.bias:
            y = y + self.param("bias", self.bias_init or default, (self.features,)).astype(x.dtype)
        return y

    def _window(self) -> Window:
        n = len(self._axes)
        ends = tuple((p, p) for p in per_axis(self.padding, n))
        return Window(per_axis(self.kernel_size, n), per_axis(self.stride, n), ends, per_axis(self.dilation, n))

    def _sizes(self, sizes: Sizes, window: Window) -> Sizes:
        more = per_axis(self.output_padding, len(sizes))
        each = zip(sizes, window.stride, window.padding, window.reach, more, strict=True)
        return tuple((size - 1) * s - sum(p) + r + 1 + e for size, s, p, r, e in each)


class ConvTranspose1d(_ConvTransposeNd):
    """The gradient of Conv1d, as a layer.   x: [batch, length, in] -> [batch, length', features]

    weight: [in, features / groups, k], bias: [features]. The rest is as in ConvTranspose2d.
    """

    _axes = ("length",)


class ConvTranspose2d(_ConvTransposeNd):
    """The gradient of Conv2d, as a layer that enlarges a map.   x: [batch, h, w, in] -> [batch, h', w', features]

    weight: [in, features / groups, kh, kw], bias: [features]. h' = (h - 1) stride - 2 padding + dilation (kh - 1) +
    output_padding + 1. Starts as torch's. Zeiler et al. 2010; S3.34.

    >>> import jax, jax.numpy as jnp
    >>> net = ConvTranspose2d(8, 4, stride=2, padding=1)
    >>> params, state = net.init(jax.random.key(0), jnp.ones((2, 7, 7, 16)))
    >>> net.apply(params, state, jnp.ones((2, 7, 7, 16)))[0].shape
    (2, 14, 14, 8)
    """

    _axes = ("height", "width")


class ConvTranspose3d(_ConvTransposeNd):
    """The gradient of Conv3d, as a layer.   x: [batch, d, h, w, in] -> [batch, d', h', w', features]

    weight: [in, features / groups, kd, kh, kw], bias: [features]. The rest is as in ConvTranspose2d.
    """

    _axes = ("depth", "height", "width")
