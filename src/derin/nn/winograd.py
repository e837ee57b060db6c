"""Winograd's convolution: kernels of 3 with stride 1, in fewer products. Lavin & Gray 2015, arXiv:1509.09308.

Sums of neighbours go into the products and sums of products come out, a few images at a time, so that all stays in the
cache. Two forms, both in float32 whatever comes in, for bfloat16 would lose bits in the sums:

* tiles, F(2 x 2, 3 x 3): 16 products of matrices for 2 x 2 places, where patches take 36. For maps of many channels;
* rows, F(4, 3) along the first axis: 6 products for four places, where patches take 12. For series, and for maps of
  few channels: there two columns are one product with a band matrix of the kernel, so that the matrices are not tiny.

The error of both is about that of float32 sums in another order (1e-6 of the largest value).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derin.nn.window import Window, in_blocks

__all__ = ["winograd"]

_FEW = 512  # in x out channels up to which rows beat tiles (bench/conv.py, ResNet-20: 16 channels)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def winograd(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    """x: [batch, length, in] or [batch, h, w, in], w: [3, in, out] or [3, 3, in, out] -> [batch, *sizes', out]"""
    y = jax.lax.map(lambda some: _block(some, w, window), _blocks(x, w, window))
    return y.reshape(len(x), *y.shape[2:])


def _forward(x: jax.Array, w: jax.Array, window: Window) -> Any:
    return winograd(x, w, window), (x, w)


def _backward(window: Window, kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, w = kept

    def some(dw: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, g = part
        _, back = jax.vjp(lambda x, w: _block(x, w, window), x, w)
        dx, more = back(g)
        return dw + more, dx

    xs = _blocks(x, w, window)
    dw, dx = jax.lax.scan(some, jnp.zeros_like(w), (xs, g.reshape(*xs.shape[:2], *g.shape[1:])))
    return dx.reshape(x.shape), dw


winograd.defvjp(_forward, _backward)


def _in_rows(w: jax.Array) -> bool:
    return w.ndim == 3 or w.shape[-2] * w.shape[-1] <= _FEW


def _blocks(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    """[blocks, images, *sizes, c], by how many sums a number of the map becomes."""
    sums = (3 if w.ndim == 4 else 1.5) if _in_rows(w) else 4
    return in_blocks(x, len(x) * math.prod(window.out(x.shape[1:-1])) * x.shape[-1] * sums)


def _block(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    dtype = x.dtype
    out, form = window.out(x.shape[1:-1]), _rows if _in_rows(w) else _tiles
    x, w = x.astype(jnp.float32), w.astype(jnp.float32)
    if w.ndim == 3:
        pads, out = (*window.padding, (0, 0)), (*out, 1)
        return form(x[:, :, None], w[:, None], pads, out)[:, :, 0].astype(dtype)
    return form(x, w, window.padding, out).astype(dtype)


def _tiles(x: jax.Array, w: jax.Array, pads: Any, out: tuple[int, ...]) -> jax.Array:
    """Spread every 4 x 4 tile of the map, multiply, gather the 2 x 2 outputs of the tile."""
    (b, h, wd, _), (oh, ow), c = x.shape, out, w.shape[-1]
    th, tw = -(-oh // 2), -(-ow // 2)
    (top, _), (left, _) = pads
    ends = (top, 2 * th + 2 - top - h, 0), (left, 2 * tw + 2 - left - wd, 0)
    x = jax.lax.pad(x, jnp.float32(0), [(0, 0, 0), *ends, (0, 0, 0)])

    kernels = jnp.einsum("ai,bj,ijco->abco", _KERNEL_2, _KERNEL_2, w)
    rows = _spread_2([x[:, i : i + 2 * th : 2] for i in range(4)])
    tiles = [_spread_2([row[:, :, j : j + 2 * tw : 2] for j in range(4)]) for row in rows]
    products = [[_product(tiles[i][j], kernels[i, j]) for j in range(4)] for i in range(4)]
    columns = [_gather_2([products[i][j] for i in range(4)]) for j in range(4)]
    y = [jnp.stack(_gather_2([columns[j][i] for j in range(4)]), 3) for i in range(2)]  # [b, th, tw, 2, c] each
    return jnp.stack(y, 2).reshape(b, 2 * th, 2 * tw, c)[:, :oh, :ow]


def _rows(x: jax.Array, w: jax.Array, pads: Any, out: tuple[int, ...]) -> jax.Array:
    """Spread every six rows of the map, multiply, gather the four rows of outputs.   w: [3, 3 or 1, in, out]"""
    (b, h, wd, c), (oh, ow), (_, k, _, each) = x.shape, out, w.shape
    m = 2 if k == 3 else 1  # columns together
    th, tw = -(-oh // 4), -(-ow // m)
    (top, _), (left, _) = pads
    ends = (top, 4 * th + 2 - top - h, 0), (left, m * tw + k - 1 - left - wd, 0)
    x = jax.lax.pad(x, jnp.float32(0), [(0, 0, 0), *ends, (0, 0, 0)])

    band = np.array([[[p == q + j for j in range(k)] for q in range(m)] for p in range(m + k - 1)], np.float32)
    kernels = jnp.einsum("ai,pqj,ijco->apcqo", _KERNEL_4, band, w).reshape(6, (m + k - 1) * c, m * each)
    seen = _spread_4([x[:, i : i + 4 * th : 4] for i in range(6)])
    seen = [row.reshape(b, th, -1, m * c) for row in seen]
    if k == 3:  # two columns and the next two
        seen = [jnp.concatenate([row[:, :, :-1], row[:, :, 1:]], -1) for row in seen]
    y = _gather_4([_product(row, kernels[i]) for i, row in enumerate(seen)])
    return jnp.stack(y, 2).reshape(b, 4 * th, tw * m, each)[:, :oh, :ow]


def _product(x: jax.Array, w: jax.Array) -> jax.Array:
    return (x.reshape(-1, x.shape[-1]) @ w).reshape(*x.shape[:-1], w.shape[-1])


_KERNEL_2 = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)


def _spread_2(d: list[jax.Array]) -> list[jax.Array]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _gather_2(m: list[jax.Array]) -> list[jax.Array]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


_KERNEL_4 = np.array(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]],
    np.float32,
) / np.float32(24)


def _spread_4(d: list[jax.Array]) -> list[jax.Array]:
    return [
        4 * d[0] - 5 * d[2] + d[4],
        d[3] + d[4] - 4 * (d[1] + d[2]),
        4 * (d[1] - d[2]) - d[3] + d[4],
        2 * (d[3] - d[1]) + d[4] - d[2],
        2 * (d[1] - d[3]) + d[4] - d[2],
        4 * d[1] - 5 * d[3] + d[5],
    ]


def _gather_4(m: list[jax.Array]) -> list[jax.Array]:
    a, b, c, d = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    return [m[0] + a + c, b + 2 * d, a + 4 * c, b + 8 * d + m[5]]
