"""Pooling to a given size, or to one value a channel. Batch first, channels last."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from derin.nn.checks import array_input, at_least, float_input, one_for_each_axis, some_in_each_row
from derin.nn.module import Module
from derin.nn.window import per_axis

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d", "GlobalAvgPool", "GlobalMaxPool",
]  # fmt: skip


class _AdaptivePoolNd(Module):
    """x: [batch, *sizes, c] -> [batch, *sizes', c]"""

    output_size: int | tuple[int | None, ...]
    _axes: ClassVar[tuple[str, ...]] = ()

    def check(self) -> None:
        known = tuple(size for size in per_axis(self.output_size, 1) if size is not None)
        at_least(self, 1, output_size=known)
        one_for_each_axis(self, self._axes, "output_size")

    def _pooled(self, x: jax.Array, over: Callable[[jax.Array, int, int], jax.Array]) -> jax.Array:
        """Axis after axis, the last first, so that of equal values the first wins."""
        for axis, out in reversed([*enumerate(per_axis(self.output_size, len(self._axes)), 1)]):
            if out is not None and out != x.shape[axis]:
                x = over(x, axis, out)
        return x


class _AdaptiveAvgPoolNd(_AdaptivePoolNd):
    """x: [batch, *sizes, c] -> [batch, *sizes', c]"""

    def forward(self, x: jax.Array) -> jax.Array:
        float_input(self, x, f"[batch, {', '.join(self._axes)}, channels]", len(self._axes) + 2, exactly=True)
        some_in_each_row(self, x)
        wide = x.astype(jnp.float32) if x.dtype.itemsize < 4 else x
        return self._pooled(wide, _mean_over).astype(x.dtype)


class AdaptiveAvgPool1d(_AdaptiveAvgPoolNd):
    """Means over as many windows as asked for.   x: [batch, length, c] -> [batch, length', c]

    The rest is as in AdaptiveAvgPool2d.
    """

    _axes = ("length",)


class AdaptiveAvgPool2d(_AdaptiveAvgPoolNd):
    """Means over as many windows as asked for.   x: [batch, h, w, c] -> [batch, h', w', c]

    `output_size` is h' and w'; None keeps the input's. Window i of n goes from floor(i h / n) to ceil((i + 1) h / n).

    >>> import jax.numpy as jnp
    >>> AdaptiveAvgPool2d((1, None)).apply({}, {}, jnp.ones((2, 5, 7, 3)))[0].shape
    (2, 1, 7, 3)
    """

    _axes = ("height", "width")


class AdaptiveAvgPool3d(_AdaptiveAvgPoolNd):
    """Means over as many windows as asked for.   x: [batch, d, h, w, c] -> [batch, d', h', w', c]

    The rest is as in AdaptiveAvgPool2d.
    """

    _axes = ("depth", "height", "width")


class _AdaptiveMaxPoolNd(_AdaptivePoolNd):
    """x: [batch, *sizes, c] -> [batch, *sizes', c]"""

    def forward(self, x: jax.Array) -> jax.Array:
        array_input(self, x, f"[batch, {', '.join(self._axes)}, channels]", len(self._axes) + 2, exactly=True)
        some_in_each_row(self, x)
        return self._pooled(x, lambda x, axis, out: _largest(_windows(x, axis, out), axis + 1))


class AdaptiveMaxPool1d(_AdaptiveMaxPoolNd):
    """The largest values of as many windows as asked for.   x: [batch, length, c] -> [batch, length', c]

    The rest is as in AdaptiveMaxPool2d.
    """

    _axes = ("length",)


class AdaptiveMaxPool2d(_AdaptiveMaxPoolNd):
    """The largest values of as many windows as asked for.   x: [batch, h, w, c] -> [batch, h', w', c]

    `output_size` and the windows are as in AdaptiveAvgPool2d. Of equal values the first takes the gradient.
    """

    _axes = ("height", "width")


class AdaptiveMaxPool3d(_AdaptiveMaxPoolNd):
    """The largest values of as many windows as asked for.   x: [batch, d, h, w, c] -> [batch, d', h', w', c]

    The rest is as in AdaptiveMaxPool2d.
    """

    _axes = ("depth", "height", "width")


class GlobalAvgPool(Module):
    """The mean of each channel over all that lies between batch and channels.   x: [batch, ..., c] -> [batch, c]

    The same as an adaptive pool to size 1 and a Flatten. Lin et al. 2013, arXiv:1312.4400.

    >>> import jax.numpy as jnp
    >>> GlobalAvgPool().apply({}, {}, jnp.ones((2, 5, 7, 3)))[0].shape
    (2, 3)
    """

    def forward(self, x: jax.Array) -> jax.Array:
        float_input(self, x, "[batch, ..., channels] with something in between", 3)
        some_in_each_row(self, x)
        return x.mean(tuple(range(1, x.ndim - 1)))


class GlobalMaxPool(Module):
    """The largest value of each channel between batch and channels.   x: [batch, ..., c] -> [batch, c]

    Of equal values the first takes the gradient.
    """

    def forward(self, x: jax.Array) -> jax.Array:
        array_input(self, x, "[batch, ..., channels] with something in between", 3)
        some_in_each_row(self, x)
        return _largest(x.reshape(x.shape[0], -1, x.shape[-1]), 1)


def _windows(x: jax.Array, axis: int, out: int) -> jax.Array:
    """[..., out, longest window, ...]; a shorter window has its last value again."""
    size = x.shape[axis]
    if size % out == 0:
        return x.reshape(*x.shape[:axis], out, size // out, *x.shape[axis + 1 :])
    start, end = _edges(size, out)
    longest = (end - start).max()
    return jnp.take(x, np.minimum(start[:, None] + np.arange(longest), end[:, None] - 1), axis)


def _edges(size: int, out: int) -> tuple[np.ndarray, np.ndarray]:
    i = np.arange(out)
    return i * size // out, -(-(i + 1) * size // out)


def _mean_over(x: jax.Array, axis: int, out: int) -> jax.Array:
    size = x.shape[axis]
    if size % out == 0:
        return _windows(x, axis, out).mean(axis + 1)
    start, end = _edges(size, out)
    inside = (np.arange(size) >= start[:, None]) & (np.arange(size) < end[:, None])
    share = (inside / (end - start)[:, None]).astype(np.float32)  # [out, size]
    return jnp.moveaxis(jnp.tensordot(x, share.astype(x.dtype), ((axis,), (1,))), -1, axis)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _largest(x: jax.Array, axis: int) -> jax.Array:
    """max over an axis; of equals the first takes the gradient (jnp.max shares it)."""
    return x.max(axis)


@_largest.defjvp
def _largest_jvp(axis: int, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x,), (t,) = primals, tangents
    place = jnp.expand_dims(x.argmax(axis), axis)
    mine = jax.lax.broadcasted_iota(place.dtype, x.shape, axis) == place
    return x.max(axis), jnp.where(mine, t, 0).sum(axis)
