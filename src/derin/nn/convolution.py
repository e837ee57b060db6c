"""Convolution, channels last, in the form that XLA runs fast.

On a CPU, XLA's gradient of a convolution inside a loop is a hundred times slower than need be (jax issue
12868), and an epoch is a loop. So there convolutions are matrix products, and so are their gradients:

* 3 x 3 with stride 1, the common one: Winograd's algorithm, a few images at a time, so that all stays in the cache;
* others: one product over patches. Patches are as many times larger than the map as the kernel has cells: when they
  outgrow the cache, XLA's convolution goes forward and gives the gradient of the map (a convolution too), and the
  gradient of the kernel is a sum of products over a few images each;
* transposed: one product, whose results are added up where they overlap.

Elsewhere XLA's convolution and its own gradients are used. bench/cnn.py and bench/conv.py have the numbers.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derin.nn.window import Sizes, Window, cells

__all__ = ["as_written", "conv", "conv_transpose"]

_CACHE = 6 * 2**20  # numbers in the patches up to which a matrix product beats XLA's convolution
_BLOCK = 2**20  # numbers in one block of Winograd's tiles: 4 MiB
_CHANNELS = 8  # fewer of them make no matrices worth Winograd's additions


def conv(x: jax.Array, w: jax.Array, window: Window, groups: int = 1) -> jax.Array:
    """Cross-correlation.   x: [batch, *sizes, in], w: [out, in / groups, *kernel] -> [batch, *sizes', out]"""
    w = jnp.moveaxis(w, (0, 1), (-1, -2))  # given OIHW kernels, XLA's convolution is a third slower on a CPU
    if _elsewhere():
        return _xla(x, w, window, groups)
    if groups > 1:
        return _grouped(x, w, window, groups)
    (b, *sizes, c), out = x.shape, w.shape[-1]
    if window.size == (3, 3) and window.plain and min(c, out) >= _CHANNELS:
        return _winograd(x, w, window)
    if b * math.prod(window.out(tuple(sizes))) * window.cells * c > _CACHE:
        return _large(x, w, window)
    return _product(_patches(x, window), w)


def conv_transpose(x: jax.Array, w: jax.Array, window: Window, sizes: Sizes, groups: int = 1) -> jax.Array:
    """What conv's gradient does to a map: from what a window saw back to a map of these sizes.

    x: [batch, *sizes', in], w: [in, out / groups, *kernel] -> [batch, *sizes, out]
    """
    w = jnp.moveaxis(w, (0, 1), (-1, -2))
    if _elsewhere():
        return _xla_transposed(x, w, window, sizes, groups)
    return _overlap_add(_spread_out(x, w, groups), window, sizes)


_as_written = ContextVar("_as_written", default=False)


@contextmanager
def as_written() -> Iterator[None]:
    """Trace convolutions as such, whatever is faster: nn.summary counts their products."""
    token = _as_written.set(True)
    try:
        yield
    finally:
        _as_written.reset(token)


def _elsewhere() -> bool:
    return jax.default_backend() != "cpu" or _as_written.get()


def _xla(x: jax.Array, w: jax.Array, window: Window, groups: int = 1, **more: Any) -> jax.Array:
    axes = "DHW"[-len(window.size) :]
    return jax.lax.conv_general_dilated(
        x,
        w,
        window.stride,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=groups,
        **more,
    )


def _xla_transposed(x: jax.Array, w: jax.Array, window: Window, sizes: Sizes, groups: int) -> jax.Array:
    *kernel, each, c = w.shape  # out / groups, in
    w = jnp.flip(w, range(len(kernel))).reshape(*kernel, each, groups, c // groups)
    w = jnp.moveaxis(w, -1, -3).swapaxes(-1, -2).reshape(*kernel, c // groups, groups * each)
    every = zip(sizes, x.shape[1:-1], window.stride, window.padding, window.reach, strict=True)
    ends = [(r - a, size - (n - 1) * s - 1 + a) for size, n, s, (a, _), r in every]
    back = Window(window.size, (1,) * len(sizes), tuple(ends), window.dilation)
    return _xla(x, w, back, groups, lhs_dilation=window.stride)


# -- on a CPU. w: [*kernel, in / groups, out]


def _product(patches: jax.Array, w: jax.Array) -> jax.Array:
    y = patches.reshape(-1, patches.shape[-1]) @ w.reshape(-1, w.shape[-1])
    return y.reshape(*patches.shape[:-1], w.shape[-1])


def _patches(x: jax.Array, window: Window) -> jax.Array:
    """[batch, *sizes', cells * c]"""
    return jnp.concatenate(cells(x, window), -1)


def _grouped(x: jax.Array, w: jax.Array, window: Window, groups: int) -> jax.Array:
    c, out = w.shape[-2:]
    w = w.reshape(window.cells, c, groups, out // groups)
    seen = [a.reshape(*a.shape[:-1], groups, c) for a in cells(x, window)]
    if c == 1:  # nothing to multiply as matrices
        y = sum((cell * w[k, 0] for k, cell in enumerate(seen)), jnp.zeros((), x.dtype))
    else:
        w = w.reshape(-1, groups, out // groups)
        y = jnp.einsum("...gi,igo->...go", jnp.concatenate(seen, -1), w)
    return y.reshape(*y.shape[:-2], out)


def _spread_out(x: jax.Array, w: jax.Array, groups: int = 1) -> list[jax.Array]:
    """What each value of a convolution's output sends back to each cell of its window: cells times [..., in]"""
    c, out = w.shape[-2:]
    if groups == 1:
        y = (x @ w.reshape(-1, out).T).reshape(*x.shape[:-1], -1, c)
    else:
        x, w = x.reshape(*x.shape[:-1], groups, -1), w.reshape(-1, c, groups, out // groups)
        y = jnp.einsum("...go,kigo->...kgi", x, w)
        y = y.reshape(*y.shape[:-2], -1)
    return [y[..., k, :] for k in range(y.shape[-2])]


def _overlap_add(sent: list[jax.Array], window: Window, sizes: Sizes) -> jax.Array:
    """Add up what came for each place of a map of these sizes.   cells times [batch, *sizes', c] -> [batch, *sizes, c]

    With stride s, the places q s + r of one rest r get their values from the same cells of the window: so there is a
    sum of shifted maps for each rest, and the sums are woven together.
    """
    n, (b, *came, c) = len(sizes), sent[0].shape
    long = [-(-size // s) for size, s in zip(sizes, window.stride, strict=True)]
    sums: dict[Sizes, Any] = {rest: 0 for rest in itertools.product(*map(range, window.stride))}
    for place, cell in zip(window.places, sent, strict=True):
        every = zip(place, window.dilation, window.padding, window.stride, strict=True)
        at = [divmod(i * d - pad, s) for i, d, (pad, _), s in every]
        ends = [(q, to - q - m, 0) for (q, _), to, m in zip(at, long, came, strict=True)]
        rest = tuple(r for _, r in at)
        sums[rest] = sums[rest] + jax.lax.pad(cell, jnp.zeros((), cell.dtype), [(0, 0, 0), *ends, (0, 0, 0)])
    woven = jnp.stack([jnp.broadcast_to(a, (b, *long, c)).astype(sent[0].dtype) for a in sums.values()], 1)
    woven = woven.reshape(b, *window.stride, *long, c)
    order = [0, *(i for axis in range(n) for i in (1 + n + axis, 1 + axis)), 2 * n + 1]
    full = woven.transpose(order).reshape(b, *(m * s for m, s in zip(long, window.stride, strict=True)), c)
    return full[:, *(slice(size) for size in sizes)]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _winograd(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    """Lavin & Gray 2015, arXiv:1509.09308, F(2x2, 3x3): 16 products for four outputs, where patches take 36."""
    y = jax.lax.map(lambda some: _winograd_block(some, w, window), _blocks(x, window))
    return y.reshape(len(x), *y.shape[2:])


def _winograd_forward(x: jax.Array, w: jax.Array, window: Window) -> Any:
    return _winograd(x, w, window), (x, w)


def _winograd_backward(window: Window, kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, w = kept

    def some(dw: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, g = part
        _, back = jax.vjp(lambda x, w: _winograd_block(x, w, window), x, w)
        dx, more = back(g)
        return dw + more, dx

    xs = _blocks(x, window)
    dw, dx = jax.lax.scan(some, jnp.zeros_like(w), (xs, g.reshape(*xs.shape[:2], *g.shape[1:])))
    return dx.reshape(x.shape), dw


_winograd.defvjp(_winograd_forward, _winograd_backward)


def _blocks(x: jax.Array, window: Window) -> jax.Array:
    """[blocks, images, h, w, c]: as few images in a block as keep its tiles in the cache."""
    b, h, wd, c = x.shape
    tiles = b * math.prod(-(-n // 2) for n in window.out((h, wd)))
    parts = math.gcd(b, 2 ** math.ceil(math.log2(max(1, 16 * tiles * c / _BLOCK))))
    return x.reshape(parts, b // parts, h, wd, c)


def _winograd_block(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    """One block: spread every 4 x 4 tile of the map, multiply, gather the 2 x 2 outputs of the tile."""
    (b, h, wd, _), out, dtype = x.shape, w.shape[-1], x.dtype
    oh, ow = window.out((h, wd))
    th, tw = -(-oh // 2), -(-ow // 2)
    (top, _), (left, _) = window.padding
    ends = (0, 0), (top, 2 * th + 2 - top - h), (left, 2 * tw + 2 - left - wd), (0, 0)
    x = jax.lax.pad(x.astype(jnp.float32), jnp.float32(0), [(*end, 0) for end in ends])  # bfloat16 would lose bits

    kernels = jnp.einsum("ai,bj,ijco->abco", _KERNEL, _KERNEL, w.astype(jnp.float32))
    rows = _spread([x[:, i : i + 2 * th : 2] for i in range(4)])
    tiles = [_spread([row[:, :, j : j + 2 * tw : 2] for j in range(4)]) for row in rows]
    products = [[_product(tiles[i][j], kernels[i, j]) for j in range(4)] for i in range(4)]
    columns = [_gather([products[i][j] for i in range(4)]) for j in range(4)]
    y = [jnp.stack(_gather([columns[j][i] for j in range(4)]), 3) for i in range(2)]  # [b, th, tw, 2, out] each
    return jnp.stack(y, 2).reshape(b, 2 * th, 2 * tw, out)[:, :oh, :ow].astype(dtype)


_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)


def _spread(d: list[jax.Array]) -> list[jax.Array]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _gather(m: list[jax.Array]) -> list[jax.Array]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _large(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    return _one_by_one(window)(x, w)


def _large_forward(x: jax.Array, w: jax.Array, window: Window) -> Any:
    return _large(x, w, window), (x, w)


def _large_backward(window: Window, kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, w = kept
    b = len(x)
    parts = math.gcd(b, 2 ** math.ceil(math.log2(2 * g.size // g.shape[-1] * w[..., 0].size / _CACHE)))

    def some(dw: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array | None]:
        x, g = part
        patches = _patches(x, window)
        dw = dw + g.reshape(-1, g.shape[-1]).T @ patches.reshape(-1, patches.shape[-1])
        return dw, None if plain else _overlap_add(_spread_out(g, w), window, x.shape[1:-1])

    plain = {*window.stride} == {1}
    split = lambda a: a.reshape(parts, b // parts, *a.shape[1:])  # noqa: E731
    dw, dx = jax.lax.scan(some, jnp.zeros((w.shape[-1], w[..., 0].size), g.dtype), (split(x), split(g)))
    if dx is None:
        ends = tuple((r - a, r - b) for r, (a, b) in zip(window.reach, window.padding, strict=True))
        axes = range(w.ndim - 2)
        dx = _large(g, jnp.flip(w, axes).swapaxes(-1, -2), replace(window, padding=ends))  # with derivatives itself
    return dx.reshape(x.shape), dw.T.reshape(w.shape)


_large.defvjp(_large_forward, _large_backward)


def _one_by_one(window: Window) -> Any:
    """XLA's convolution; for stacked models one after another, for together they would be a grouped one."""
    return jax.custom_batching.sequential_vmap(lambda x, w: _xla(x, w, window))
