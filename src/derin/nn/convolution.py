"""Convolution, channels last, in the form that XLA runs fast.

On a CPU, XLA's gradient of a convolution inside a loop is a hundred times slower than need be (jax issue
12868), and an epoch is a loop. So there convolutions are matrix products, and so are their gradients:

* small ones: one product over patches, which are as many times larger than the map as the kernel has cells. Where no
  gradient is asked for and there are many channels to come out, XLA's convolution is faster;
* larger ones: XLA's convolution goes forward and, with stride 1, gives the gradient of the map (a convolution too). The
  gradient of the kernel is a product for each of its rows, a few images at a time, so that all stays in the cache;
* transposed: one product, whose results are added up where they overlap.

Elsewhere XLA's convolution and its own gradients are used. bench/cnn.py and bench/conv.py have the numbers.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from derin.nn.module import as_written
from derin.nn.window import Sizes, Window, cells, in_blocks

__all__ = ["conv", "conv_transpose"]

_CACHE = 2**20  # numbers in the patches up to which one product beats XLA's convolution, and of few channels:
_CACHE_OF_FEW, _FEW = 6 * 2**20, 8
_TINY, _MANY = 2**16, 32  # numbers in the patches and channels to come out from which XLA goes forward faster
_GROUPS = 4  # up to so many, a kernel of all channels with zeros beats a product for each (bench/layers.py)


def conv(x: jax.Array, w: jax.Array, window: Window, groups: int = 1) -> jax.Array:
    """Cross-correlation.   x: [batch, *sizes, in], w: [out, in / groups, *kernel] -> [batch, *sizes', out]"""
    w = jnp.moveaxis(w, (0, 1), (-1, -2))  # given OIHW kernels, XLA's convolution is a third slower on a CPU
    if _elsewhere():
        return _xla(x, w, window, groups)
    if groups > 1 and w.shape[-2] == 1:
        return _depthwise(x, w, window, groups)
    if groups > _GROUPS:
        return _grouped(x, w, window, groups)
    w = _of_all(w, groups)
    (b, *sizes, c) = x.shape
    limit = _CACHE if c >= _FEW else _CACHE_OF_FEW
    numbers = b * math.prod(window.out(tuple(sizes))) * window.cells * c
    if window.cells > 1 and numbers > limit:
        return _large(x, w, window)
    if window.cells > 1 and numbers > _TINY and w.shape[-1] >= _MANY:
        return _small(x, w, window)
    return _product(_patches(x, window), w)


def conv_transpose(x: jax.Array, w: jax.Array, window: Window, sizes: Sizes, groups: int = 1) -> jax.Array:
    """What conv's gradient does to a map: from what a window saw back to a map of these sizes.

    x: [batch, *sizes', in], w: [in, out / groups, *kernel] -> [batch, *sizes, out]
    """
    w = jnp.moveaxis(w, (0, 1), (-1, -2))
    if _elsewhere():
        return _xla_transposed(x, w, window, sizes, groups)
    if groups > 1:
        return _overlap_add(_spread_out(x, w, groups), window, sizes)
    return _transposed(x, w, window, sizes)


def _elsewhere() -> bool:
    return jax.default_backend() != "cpu" or as_written.get()


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


def _of_all(w: jax.Array, groups: int) -> jax.Array:
    """A kernel that sees all channels, with zeros where they are of another group.   -> [*kernel, in, out]"""
    if groups == 1:
        return w
    *kernel, c, out = w.shape
    own = jnp.repeat(jnp.eye(groups, dtype=w.dtype), out // groups, 1)[:, None]  # [groups, 1, out]
    return (w[..., None, :, :] * own).reshape(*kernel, groups * c, out)


def _grouped(x: jax.Array, w: jax.Array, window: Window, groups: int) -> jax.Array:
    c, out = w.shape[-2:]
    w = w.reshape(window.cells * c, groups, out // groups)
    seen = [a.reshape(*a.shape[:-1], groups, c) for a in cells(x, window)]
    y = jnp.einsum("...gi,igo->...go", jnp.concatenate(seen, -1), w)
    return y.reshape(*y.shape[:-2], out)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x: jax.Array, w: jax.Array, window: Window, groups: int) -> jax.Array:
    """Each channel by itself: there is nothing to multiply as matrices.   w: [*kernel, 1, out]

    A few images at a time: of all at once XLA makes a sum that is 20 times slower (bench/layers.py)."""
    each = w.reshape(window.cells, groups, -1)

    def some(x: jax.Array) -> jax.Array:
        y = sum((cell[..., None] * each[k] for k, cell in enumerate(cells(x, window))), jnp.zeros((), x.dtype))
        return y.reshape(*y.shape[:-2], -1)

    y = jax.lax.map(some, in_blocks(x, 2 * x.size))
    return y.reshape(len(x), *y.shape[2:])


def _depthwise_forward(x: jax.Array, w: jax.Array, window: Window, groups: int) -> Any:
    return _depthwise(x, w, window, groups), (x, w)


def _depthwise_backward(window: Window, groups: int, kept: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, w = kept

    def some(dw: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        x, g = part
        g = g.reshape(*g.shape[:-1], groups, -1)
        one = jnp.ones((1, g.size // math.prod(g.shape[-3:])), g.dtype)  # XLA sums columns slower than it multiplies
        columns = [one @ (cell[..., None] * g).reshape(one.size, -1) for cell in cells(x, window)]
        return dw + jnp.stack([a.reshape(g.shape[-3], -1).sum(0) for a in columns]), None

    xs = in_blocks(x, x.size)
    dw, _ = jax.lax.scan(
        some, jnp.zeros((window.cells, w.shape[-1]), w.dtype), (xs, g.reshape(*xs.shape[:2], *g.shape[1:]))
    )
    if {*window.stride} == {1} and w.shape[-1] == groups:
        dx = _depthwise(g, jnp.flip(w, range(w.ndim - 2)), _backwards(window), groups)
    else:
        each = w.reshape(window.cells, groups, -1)
        g = g.reshape(*g.shape[:-1], groups, -1)
        dx = _overlap_add([(g * a).sum(-1) for a in each], window, x.shape[1:-1])
    return dx, dw.reshape(w.shape)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _backwards(window: Window) -> Window:
    """For stride 1: the gradient of the map is a convolution with the kernel turned round, and this padding."""
    ends = tuple((r - a, r - b) for r, (a, b) in zip(window.reach, window.padding, strict=True))
    return replace(window, padding=ends)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _transposed(x: jax.Array, w: jax.Array, window: Window, sizes: Sizes) -> jax.Array:
    """w: [*kernel, out, in]; a few images at a time, so that what they spread out stays in the cache."""
    xs = in_blocks(x, x.size // x.shape[-1] * w[..., 0].size)
    y = jax.lax.map(lambda some: _overlap_add(_spread_out(some, w), window, sizes), xs)
    return y.reshape(len(x), *y.shape[2:])


def _transposed_forward(x: jax.Array, w: jax.Array, window: Window, sizes: Sizes) -> Any:
    return _transposed(x, w, window, sizes), (x, w)


def _transposed_backward(window: Window, sizes: Sizes, kept: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, w = kept
    every = zip(sizes, x.shape[1:-1], window.stride, window.padding, window.reach, strict=True)
    ends = tuple((a, (n - 1) * s + r + 1 - size - a) for size, n, s, (a, _), r in every)  # as many windows as x has
    flat, c = w.reshape(-1, w.shape[-1]), x.shape[-1]

    def some(dw: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, g = part
        seen = _patches(g, replace(window, padding=ends))
        return dw + x.reshape(-1, c).T @ seen.reshape(-1, len(flat)), _product(seen, flat)

    xs = in_blocks(x, x.size // c * len(flat))
    dw, dx = jax.lax.scan(some, jnp.zeros((c, len(flat)), w.dtype), (xs, g.reshape(*xs.shape[:2], *g.shape[1:])))
    return dx.reshape(x.shape), dw.T.reshape(w.shape)


_transposed.defvjp(_transposed_forward, _transposed_backward)


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


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _small(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    return _one_by_one(window)(x, w)


@_small.defjvp
def _small_jvp(window: Window, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    """With a gradient to come, one product: what it multiplies is needed again."""
    return jax.jvp(lambda x, w: _product(_patches(x, window), w), primals, tangents)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _large(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    return _one_by_one(window)(x, w)


def _large_forward(x: jax.Array, w: jax.Array, window: Window) -> Any:
    return _large(x, w, window), (x, w)


def _large_backward(window: Window, kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, w = kept
    plain = {*window.stride} == {1}

    def some(dw: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array | None]:
        x, g = part
        dx = None if plain else _overlap_add(_spread_out(g, w), window, x.shape[1:-1])
        return dw + _by_kernel(x, g, window), dx

    xs = in_blocks(x, x.size * (window.size[-1] + 1))
    dw, dx = jax.lax.scan(some, jnp.zeros_like(w), (xs, g.reshape(*xs.shape[:2], *g.shape[1:])))
    if dx is None:
        dx = _large(g, jnp.flip(w, range(w.ndim - 2)).swapaxes(-1, -2), _backwards(window))  # with derivatives itself
    return dx.reshape(x.shape), dw


def _by_kernel(x: jax.Array, g: jax.Array, window: Window) -> jax.Array:
    """The gradient of the kernel, from one product.   x: [batch, *sizes, in], g: [batch, *sizes', out]

    What the cells of a kernel's row see stands side by side in x, and what each row of the kernel sends in g, moved to
    where it was seen.   -> [*kernel, in, out]
    """
    (*down, across), first = window.size, (1,) * (len(window.size) - 1)
    row = Window((*first, across), (*first, window.stride[-1]), window.padding, (*first, window.dilation[-1]))
    seen = jnp.concatenate(cells(x, row), -1)
    every = [
        ((n - 1) * s + 1, s, d, r)
        for n, s, d, r in zip(g.shape[1:-2], window.stride, window.dilation, window.reach, strict=False)
    ]
    seen = seen[:, *(slice(n + r) for n, _, _, r in every)]

    def moved(place: Sizes) -> jax.Array:
        ends = [(i * d, r - i * d, s - 1) for i, (_, s, d, r) in zip(place, every, strict=True)]
        return jax.lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *ends, (0, 0, 0), (0, 0, 0)])

    sent = jnp.concatenate([moved(place) for place in itertools.product(*map(range, down))], -1)
    dw = sent.reshape(-1, sent.shape[-1]).T @ seen.reshape(-1, seen.shape[-1])  # a quarter of the time of (x' g)
    return jnp.moveaxis(dw.reshape(*down, g.shape[-1], across, x.shape[-1]), -3, -1)


_large.defvjp(_large_forward, _large_backward)


def _one_by_one(window: Window) -> Any:
    """XLA's convolution; for stacked models one after another, for together they would be a grouped one."""
    return jax.custom_batching.sequential_vmap(lambda x, w: _xla(x, w, window))
