"""Convolution and max pooling in one step, on a CPU.

In Sequential(Conv2d(32, 3), ReLU(), MaxPool2d(2)) the largest of four is the same before bias and ReLU as after them,
and its gradient goes the same way. So the pooling is done first, bias and ReLU on a quarter of the map, and

* what no window of the pooling sees, at the end of a map that its size does not divide, is not computed;
* of images, which have few channels, all cells of a pooling window come from one product, a few images at a time, so
  that the map before the pooling, many times larger than the image, stays in the cache.

A step of the CNN in bench/tune.py takes three quarters of the time.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from derin.nn.activations import Function, ReLU, ReLU6, Tanh
from derin.nn.conv_layers import Conv1d, Conv2d, Conv3d
from derin.nn.convolution import _elsewhere, _patches, _product, conv
from derin.nn.pooling import MaxPool1d, MaxPool2d, MaxPool3d, max_pool
from derin.nn.window import Window, in_blocks

__all__ = ["conv_pool", "early_pool"]

_PAIRS = {Conv1d: MaxPool1d, Conv2d: MaxPool2d, Conv3d: MaxPool3d}
_RISING = (ReLU, ReLU6, Tanh)  # the larger of two numbers does not become the smaller
_RISING_FUNCTIONS = ("relu", "relu6", "tanh", "jax.nn.relu", "jax.nn.relu6", "jax.nn.tanh", "jax.numpy.tanh")

_FEW, _MANY = 3, 2**20  # channels of images, and numbers in the map before the pooling from which one product is faster


def early_pool(first: Any, between: Any, pool: Any) -> Any:
    """The max pooling of (convolution, rising activation, max pooling), if that is what they are and it pays; or None.

    >>> from derin.nn import Conv2d, GELU, MaxPool2d, ReLU
    >>> early_pool(Conv2d(8, 3), ReLU(), MaxPool2d(2))
    MaxPool2d(2)
    >>> early_pool(Conv2d(8, 3), GELU(), MaxPool2d(2))                   # it falls before it rises
    """
    rises = type(between) in _RISING or (type(between) is Function and between.function in _RISING_FUNCTIONS)
    return pool if rises and _PAIRS.get(type(first)) is type(pool) and not _elsewhere() else None


def conv_pool(x: jax.Array, w: jax.Array, window: Window, pool: Window, groups: int = 1) -> jax.Array:
    """max_pool(conv(x, w, window, groups), pool).   x: [batch, *sizes, in] -> [batch, *sizes', out]"""
    if not pool.tiles:
        return max_pool(conv(x, w, window, groups), pool)
    sizes = window.out(x.shape[1:-1])
    seen = tuple(n * k for n, k in zip(pool.out(sizes), pool.size, strict=True))
    every = zip(window.padding, sizes, seen, window.stride, strict=True)
    window = replace(window, padding=tuple((a, b - (size - n) * s) for (a, b), size, n, s in every))
    numbers = len(x) * math.prod(seen) * w.shape[0]
    if groups == 1 and window.plain and x.shape[-1] <= _FEW and numbers > _MANY:
        wide = Window(tuple(k + p - 1 for k, p in zip(window.size, pool.size, strict=True)), pool.size, window.padding)
        if wide.cells <= 2 * window.cells:
            return _by_tiles(x, w, wide, pool, numbers)
    return max_pool(conv(x, w, window, groups), pool)


def _by_tiles(x: jax.Array, w: jax.Array, wide: Window, pool: Window, numbers: int) -> jax.Array:
    """From what all cells of a tile of the pooling see: one product, in which each cell has its columns.

    wide: that of a tile. The kernel stands in it once for each cell, moved to its place, with zeros around.
    """
    w = jnp.moveaxis(w, (0, 1), (-1, -2))  # [*kernel, in, out]
    ends = [[(i, k - 1 - i) for i, k in zip(place, pool.size, strict=True)] for place in pool.places]
    w = jnp.stack([jnp.pad(w, [*end, (0, 0), (0, 0)]) for end in ends], -2)  # [*wide, in, cells, out]
    columns = w.reshape(*w.shape[:-2], -1)
    tile = Window((pool.cells,), (pool.cells,))

    def some(x: jax.Array) -> jax.Array:
        y = _product(_patches(x, wide), columns)
        return max_pool(y.reshape(-1, pool.cells, w.shape[-1]), tile).reshape(*y.shape[:-1], -1)

    y = jax.lax.map(some, in_blocks(x, numbers))
    return y.reshape(len(x), *y.shape[2:])
