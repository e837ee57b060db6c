"""How a window slides over the axes between batch and channels, and what each of its cells sees."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["Sizes", "Window", "cells", "in_blocks", "per_axis", "zero_padded"]

Sizes = tuple[int, ...]  # a number for each axis: (height, width)
_BLOCK = 2**19  # numbers that a block of images may become on its way: 2 MiB, in the cache


@dataclass(frozen=True)
class Window:
    """A number for each axis: size, stride (1), padding before and after (0), dilation (1).

    >>> Window((3, 3), (2, 2), ((1, 1), (1, 1))).out((28, 28))
    (14, 14)
    """

    size: Sizes
    stride: Sizes = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: Sizes = ()

    def __post_init__(self) -> None:
        n = len(self.size)
        for name, usual in (("stride", 1), ("padding", (0, 0)), ("dilation", 1)):
            object.__setattr__(self, name, getattr(self, name) or (usual,) * n)

    def out(self, sizes: Sizes) -> Sizes:
        """The sizes of what comes out of a map of these sizes."""
        each = zip(sizes, self.padding, self.reach, self.stride, strict=True)
        return tuple((size + sum(pad) - r - 1) // step + 1 for size, pad, r, step in each)

    @property
    def reach(self) -> Sizes:
        """How far the last cell of the window is from the first."""
        return tuple(d * (k - 1) for d, k in zip(self.dilation, self.size, strict=True))

    @property
    def cells(self) -> int:
        return math.prod(self.size)

    @property
    def plain(self) -> bool:
        """Stride and dilation are 1."""
        return {*self.stride, *self.dilation} == {1}

    @property
    def tiles(self) -> bool:
        """The windows stand side by side: no value is in two of them, and no padding in any."""
        return self.size == self.stride and {*self.dilation} == {1} and not any(map(any, self.padding))

    @property
    def places(self) -> list[Sizes]:
        """The cells in order, the last axis the fastest: (0, 0), (0, 1), ..."""
        return list(itertools.product(*map(range, self.size)))


def cells(x: jax.Array, window: Window, value: Any = 0) -> list[jax.Array]:
    """What each cell of the window sees as it slides over the map: as many times [batch, *sizes', c]."""
    out = window.out(x.shape[1:-1])
    x = zero_padded(x, window, value)
    steps = [((n - 1) * s + 1, s) for n, s in zip(out, window.stride, strict=True)]

    def at(place: Sizes) -> tuple[slice, ...]:
        starts = (i * d for i, d in zip(place, window.dilation, strict=True))
        return tuple(slice(i, i + length, s) for i, (length, s) in zip(starts, steps, strict=True))

    return [x[:, *at(place)] for place in window.places]


def zero_padded(x: jax.Array, window: Window, value: Any = 0) -> jax.Array:
    """The map with its padding around it; padding below 0 cuts."""
    if not any(map(any, window.padding)):
        return x
    return jax.lax.pad(x, jnp.asarray(value, x.dtype), [(0, 0, 0), *((a, b, 0) for a, b in window.padding), (0, 0, 0)])


def in_blocks(x: jax.Array, numbers: float) -> jax.Array:
    """[batch, ...] -> [blocks, images, ...]: as few images in a block as are in the cache when all make `numbers`."""
    parts = math.gcd(len(x), 2 ** math.ceil(math.log2(max(1, numbers / _BLOCK))))
    return x.reshape(parts, len(x) // parts, *x.shape[1:])


def per_axis(value: Any, axes: int) -> tuple:
    """(value, value, ...), or the tuple that it already is."""
    return value if isinstance(value, tuple) else (value,) * axes
