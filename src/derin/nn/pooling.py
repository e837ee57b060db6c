"""Pooling over windows: the largest value, the mean, a power mean. Batch first, channels last."""

from __future__ import annotations

import functools
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from derin.errors import ModelError, SpecError
from derin.nn.checks import array_input, at_least, float_input, one_for_each_axis
from derin.nn.module import Module
from derin.nn.window import Sizes, Window, cells, per_axis

__all__ = [
    "AvgPool1d", "AvgPool2d", "AvgPool3d", "LPPool1d", "LPPool2d", "LPPool3d", "MaxPool1d", "MaxPool2d", "MaxPool3d",
    "max_pool", "sum_pool",
]  # fmt: skip


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def max_pool(x: jax.Array, window: Window) -> jax.Array:
    """The largest value of each window.   x: [batch, *sizes, c] -> [batch, *sizes', c]

    The first of equals takes the gradient. XLA's own gradient of it is four to eight times slower on a CPU.
    """
    if not window.tiles:
        return _first_max(x, window)[0]
    tiles, inside = _tiles(x, window)
    return tiles.max(inside)


@max_pool.defjvp
def _max_pool_jvp(window: Window, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x,), (t,) = primals, tangents
    best, place = _first_max(x, window)
    if not window.tiles:
        seen = cells(t, window)
        return best, sum((jnp.where(place == k, cell, 0) for k, cell in enumerate(seen)), jnp.zeros((), t.dtype))
    t, inside = _tiles(t, window)
    order = jnp.arange(window.cells, dtype=place.dtype).reshape(*(size for k in window.size for size in (k, 1)))
    return best, jnp.where(jnp.expand_dims(place, inside) == order, t, 0).sum(inside)


def _tiles(x: jax.Array, window: Window) -> tuple[jax.Array, tuple[int, ...]]:
    """x with the cells of each window on axes of their own, and these axes.   -> [batch, out, k, ..., c]"""
    out = window.out(x.shape[1:-1])
    x = x[:, *(slice(m * k) for m, k in zip(out, window.size, strict=True))]
    x = x.reshape(len(x), *(size for pair in zip(out, window.size, strict=True) for size in pair), x.shape[-1])
    return x, tuple(range(2, 2 * len(out) + 1, 2))


def _first_max(x: jax.Array, window: Window) -> tuple[jax.Array, jax.Array]:
    """The largest value of each window, and which cell of the window it came from; nan wins, as in torch."""
    low = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    first, *others = cells(x, window, low)
    best, place = first, jnp.zeros(first.shape, jnp.uint8 if window.cells <= 256 else jnp.int32)
    for k, cell in enumerate(others, 1):
        wins = (cell > best) | (cell != cell)
        best, place = jnp.where(wins, cell, best), jnp.where(wins, jnp.asarray(k, place.dtype), place)
    return best, place


def sum_pool(x: jax.Array, window: Window) -> jax.Array:
    """The sum of each window, axis after axis.   x: [batch, *sizes, c] -> [batch, *sizes', c]"""
    n = len(window.size)
    for i in range(n):
        alone = [(1,) * n for _ in range(3)]
        size, stride, dilation = (
            (*one[:i], v[i], *one[i + 1 :])
            for one, v in zip(alone, (window.size, window.stride, window.dilation), strict=True)
        )
        ends = tuple(end if j == i else (0, 0) for j, end in enumerate(window.padding))
        x = sum(cells(x, Window(size, stride, ends, dilation)), jnp.zeros((), x.dtype))
    return x


class _MaxPoolNd(Module):
    """x: [batch, *sizes, c] -> [batch, *sizes', c]"""

    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None = None
    padding: int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    ceil_mode: bool = False
    _axes: ClassVar[tuple[str, ...]] = ()

    def check(self) -> None:
        at_least(self, 1, dilation=self.dilation)
        one_for_each_axis(self, self._axes, "dilation")
        _check(self, self._axes, self.padding, self.dilation)

    def forward(self, x: jax.Array) -> jax.Array:
        array_input(self, x, f"[batch, {', '.join(self._axes)}, channels]", len(self._axes) + 2, exactly=True)
        return max_pool(x, self.over(x.shape[1:-1]))

    def over(self, sizes: Sizes) -> Window:
        """The window, for maps of these sizes."""
        return _window(self, self._axes, sizes, self.padding, self.dilation, self.ceil_mode)


class MaxPool1d(_MaxPoolNd):
    """The largest value of each window.   x: [batch, length, c] -> [batch, length', c]

    The rest is as in MaxPool2d. S3.22.
    """

    _axes = ("length",)


class MaxPool2d(_MaxPoolNd):
    """The largest value of each window.   x: [batch, h, w, c] -> [batch, h', w', c]

    h' = (h + 2 padding - dilation (kernel - 1) - 1) // stride + 1, rounded up in `ceil_mode`; the stride is the
    kernel's size unless given. Of equal values the first takes the gradient, as in torch.
    """

    _axes = ("height", "width")


class MaxPool3d(_MaxPoolNd):
    """The largest value of each window.   x: [batch, d, h, w, c] -> [batch, d', h', w', c]

    The rest is as in MaxPool2d.
    """

    _axes = ("depth", "height", "width")


class _AvgPoolNd(Module):
    """x: [batch, *sizes, c] -> [batch, *sizes', c]"""

    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None = None
    padding: int | tuple[int, ...] = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None
    _axes: ClassVar[tuple[str, ...]] = ()

    def check(self) -> None:
        _check(self, self._axes, self.padding)
        if self.divisor_override == 0:
            raise SpecError(f"{type(self).__name__}.divisor_override must not be 0.")

    def forward(self, x: jax.Array) -> jax.Array:
        float_input(self, x, f"[batch, {', '.join(self._axes)}, channels]", len(self._axes) + 2, exactly=True)
        window = _window(self, self._axes, x.shape[1:-1], self.padding, ceil_mode=self.ceil_mode)
        by: Any = self.divisor_override or _counts(x.shape[1:-1], window, self.count_include_pad)
        return (sum_pool(_wide(x), window) / by).astype(x.dtype)


class AvgPool1d(_AvgPoolNd):
    """The mean of each window.   x: [batch, length, c] -> [batch, length', c]

    The rest is as in AvgPool2d.
    """

    _axes = ("length",)


class AvgPool2d(_AvgPoolNd):
    """The mean of each window.   x: [batch, h, w, c] -> [batch, h', w', c]

    The stride is the kernel's size unless given. Zeros of the padding count as values with `count_include_pad`; what
    `ceil_mode` adds at the end never does. `divisor_override` divides the sum instead of the count.

    >>> import jax.numpy as jnp
    >>> AvgPool2d(2).apply({}, {}, jnp.arange(4.0).reshape(1, 2, 2, 1))[0].item()
    1.5
    """

    _axes = ("height", "width")


class AvgPool3d(_AvgPoolNd):
    """The mean of each window.   x: [batch, d, h, w, c] -> [batch, d', h', w', c]

    The rest is as in AvgPool2d.
    """

    _axes = ("depth", "height", "width")


def _counts(sizes: Sizes, window: Window, with_padding: bool) -> np.ndarray:
    """How many values each window has.   [*sizes', 1]"""
    total = np.ones((), np.float32)
    every = zip(sizes, window.out(sizes), window.size, window.stride, window.padding, strict=True)
    for size, out, k, s, (before, _) in every:
        start = np.arange(out) * s - before
        low, high = (-before, size + before) if with_padding else (0, size)
        total = total[..., None] * np.clip(np.minimum(start + k, high) - np.maximum(start, low), 1, None)
    return total[..., None].astype(np.float32)


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x


class _LPPoolNd(Module):
    """x: [batch, *sizes, c] -> [batch, *sizes', c]"""

    norm_type: float
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None = None
    ceil_mode: bool = False
    _axes: ClassVar[tuple[str, ...]] = ()

    def check(self) -> None:
        _check(self, self._axes)
        if not self.norm_type > 0:
            raise SpecError(f"{type(self).__name__}.norm_type must be above 0, got {self.norm_type}.")

    def forward(self, x: jax.Array) -> jax.Array:
        float_input(self, x, f"[batch, {', '.join(self._axes)}, channels]", len(self._axes) + 2, exactly=True)
        window, p = _window(self, self._axes, x.shape[1:-1], ceil_mode=self.ceil_mode), self.norm_type
        if p == math.inf:
            return max_pool(jnp.abs(x), window)
        wide = _wide(x)
        total = sum_pool(wide if p == 1 else wide * wide if p == 2 else wide**p, window)
        if self.ceil_mode:  # torch takes the mean times the size of a whole window
            total = total * (window.cells / _counts(x.shape[1:-1], window, True))
        some = total != 0
        return jnp.where(some, jnp.where(some, total, 1) ** (1 / p), 0).astype(x.dtype)


class LPPool1d(_LPPoolNd):
    """The p-th root of the sum of p-th powers of each window.   x: [batch, length, c] -> [batch, length', c]

    The rest is as in LPPool2d.
    """

    _axes = ("length",)


class LPPool2d(_LPPoolNd):
    """The p-th root of the sum of p-th powers of each window.   x: [batch, h, w, c] -> [batch, h', w', c]

    p is `norm_type`: 1 is the sum, 2 the root of the sum of squares, inf the largest size. The stride is the kernel's
    size unless given. A sum of 0 has a gradient of 0; one below 0, of odd powers, has no root: nan. Both as in torch.

    >>> import jax.numpy as jnp
    >>> LPPool2d(2, (1, 2)).apply({}, {}, jnp.array([3.0, 4.0]).reshape(1, 1, 2, 1))[0].item()
    5.0
    """

    _axes = ("height", "width")


class LPPool3d(_LPPoolNd):
    """The p-th root of the sum of p-th powers of each window.   x: [batch, d, h, w, c] -> [batch, d', h', w', c]

    The rest is as in LPPool2d.
    """

    _axes = ("depth", "height", "width")


# -- what the three have in common


def _check(
    layer: Any, axes: tuple[str, ...], padding: int | tuple[int, ...] = 0, dilation: int | tuple[int, ...] = 1
) -> None:
    at_least(layer, 1, kernel_size=layer.kernel_size, stride=1 if layer.stride is None else layer.stride)
    at_least(layer, 0, padding=padding)
    one_for_each_axis(layer, axes, "kernel_size", "stride", *(["padding"] if hasattr(layer, "padding") else []))
    sizes = zip(*(per_axis(v, len(axes)) for v in (padding, layer.kernel_size, dilation)), strict=True)
    if any(2 * p > d * (k - 1) + 1 for p, k, d in sizes):
        raise SpecError(
            f"{type(layer).__name__}.padding can be at most half of the kernel, got padding={padding} "
            f"for kernel_size={layer.kernel_size}."
        )


def _window(
    layer: Any,
    axes: tuple[str, ...],
    sizes: Sizes,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    ceil_mode: bool = False,
) -> Window:
    """For maps of these sizes; in `ceil_mode` padded so far that a last window may hang over the end."""
    n = len(axes)
    size, ends = per_axis(layer.kernel_size, n), tuple((p, p) for p in per_axis(padding, n))
    stride = size if layer.stride is None else per_axis(layer.stride, n)
    window = Window(size, stride, ends, per_axis(dilation, n))
    longer = []
    for length, (p, _), r, s, axis in zip(sizes, ends, window.reach, stride, axes, strict=True):
        span = length + 2 * p - r - 1
        steps = span // s
        if ceil_mode:
            steps = -(-span // s)
            steps -= steps * s >= length + p  # the last window has to begin before the map's end
        if steps < 0:
            raise ModelError(
                f"{type(layer).__name__}: the window is {r + 1} long, the input {sizes} with its padding has a {axis} "
                f"of {length + 2 * p}."
            )
        longer.append((p, max(p, steps * s + r + 1 - length - p)))
    return Window(size, stride, tuple(longer), window.dilation)
