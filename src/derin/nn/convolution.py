"""Convolution and pooling, channels last, in the form that XLA runs fast.

On a CPU, XLA's gradient of a convolution inside a loop is a hundred times slower than need be (jax issue
12868), and an epoch is a loop. So there convolutions are matrix products, and so are their gradients:

* 3 x 3 with stride 1, the common one: Winograd's algorithm, a few images at a time, so that all stays in the cache;
* others: one product over patches. Patches are as many times larger than the map as the kernel has cells: when they
  outgrow the cache, XLA's convolution goes forward and gives the gradient of the map (a convolution too), and the
  gradient of the kernel is a sum of products over a few images each.

Elsewhere XLA's convolution and its own gradients are used. bench/cnn.py has the numbers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Pair", "Window", "as_written", "conv2d", "max_pool2d"]

Pair = tuple[int, int]

_CACHE = 6 * 2**20  # numbers in the patches up to which a matrix product beats XLA's convolution
_BLOCK = 2**20  # numbers in one block of Winograd's tiles: 4 MiB
_CHANNELS = 8  # fewer of them make no matrices worth Winograd's additions


class Window(NamedTuple):
    """How a window slides over a map: (height, width) each, padding ((top, bottom), (left, right)).

    >>> Window((3, 3), (2, 2), ((1, 1), (1, 1))).out(28, 28)
    (14, 14)
    """

    size: Pair
    stride: Pair
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)

    def out(self, h: int, w: int) -> Pair:
        """Height and width of what comes out."""
        (top, bottom), (left, right) = self.padding
        rh, rw = self.reach
        return (h + top + bottom - rh - 1) // self.stride[0] + 1, (w + left + right - rw - 1) // self.stride[1] + 1

    @property
    def reach(self) -> Pair:
        """How far the last cell of the window is from the first."""
        return self.dilation[0] * (self.size[0] - 1), self.dilation[1] * (self.size[1] - 1)


def conv2d(x: jax.Array, w: jax.Array, window: Window, groups: int = 1) -> jax.Array:
    """Cross-correlation.   x: [batch, h, w, in], w: [out, in / groups, kh, kw] -> [batch, h', w', out]"""
    w = w.transpose(2, 3, 1, 0)  # given OIHW kernels, XLA's convolution is a third slower on a CPU
    if jax.default_backend() != "cpu" or _as_written.get():
        return _xla(x, w, window, groups)
    if groups > 1:
        return _grouped(x, w, window, groups)
    b, h, wd, c = x.shape
    if window[:2] + window[3:] == ((3, 3), (1, 1), (1, 1)) and min(c, w.shape[-1]) >= _CHANNELS:
        return _winograd(x, w, window)
    if b * math.prod(window.out(h, wd)) * math.prod(window.size) * c > _CACHE:
        return _large(x, w, window)
    return _product(_patches(_padded(x, window), window), w)


_as_written = ContextVar("_as_written", default=False)


@contextmanager
def as_written() -> Iterator[None]:
    """Trace convolutions as such, whatever is faster: nn.summary counts their products."""
    token = _as_written.set(True)
    try:
        yield
    finally:
        _as_written.reset(token)


def _xla(x: jax.Array, w: jax.Array, window: Window, groups: int = 1) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        w,
        window.stride,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


# -- on a CPU. w: [kh, kw, in / groups, out]


def _product(patches: jax.Array, w: jax.Array) -> jax.Array:
    y = patches.reshape(-1, patches.shape[-1]) @ w.reshape(-1, w.shape[-1])
    return y.reshape(*patches.shape[:-1], w.shape[-1])


def _grouped(x: jax.Array, w: jax.Array, window: Window, groups: int) -> jax.Array:
    kh, kw, c, out = w.shape
    w = w.reshape(kh * kw, c, groups, out // groups)
    cells = [a.reshape(*a.shape[:3], groups, c) for a in _cells(_padded(x, window), window)]
    if c == 1:  # nothing to multiply as matrices
        y = sum((cell * w[k, 0] for k, cell in enumerate(cells)), jnp.zeros((), x.dtype))
    else:
        y = jnp.einsum("bhwgi,igo->bhwgo", jnp.concatenate(cells, -1), w.reshape(kh * kw * c, groups, out // groups))
    return y.reshape(*y.shape[:3], out)


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
    tiles = b * math.prod(-(-n // 2) for n in window.out(h, wd))
    parts = math.gcd(b, 2 ** math.ceil(math.log2(max(1, 16 * tiles * c / _BLOCK))))
    return x.reshape(parts, b // parts, h, wd, c)


def _winograd_block(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    """One block: spread every 4 x 4 tile of the map, multiply, gather the 2 x 2 outputs of the tile."""
    (b, h, wd, _), out, dtype = x.shape, w.shape[-1], x.dtype
    oh, ow = window.out(h, wd)
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
    parts = math.gcd(b, 2 ** math.ceil(math.log2(2 * g.size // g.shape[-1] * math.prod(w.shape[:3]) / _CACHE)))

    def some(dw: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array | None]:
        x, g = part
        patches = _patches(_padded(x, window), window)
        dw = dw + g.reshape(-1, g.shape[-1]).T @ patches.reshape(-1, patches.shape[-1])
        return dw, _from_patches(g, w, x.shape, window) if strided else None

    strided = window.stride != (1, 1)
    split = lambda a: a.reshape(parts, b // parts, *a.shape[1:])  # noqa: E731
    dw, dx = jax.lax.scan(some, jnp.zeros((w.shape[-1], w[..., 0].size), g.dtype), (split(x), split(g)))
    if dx is None:
        (rh, rw), ((top, bottom), (left, right)) = window.reach, window.padding
        back = window._replace(padding=((rh - top, rh - bottom), (rw - left, rw - right)))
        dx = _large(g, w[::-1, ::-1].swapaxes(2, 3), back)  # and so it has derivatives itself
    return dx.reshape(x.shape), dw.T.reshape(w.shape)


_large.defvjp(_large_forward, _large_backward)


def _one_by_one(window: Window) -> Any:
    """XLA's convolution; for stacked models one after another, for together they would be a grouped one."""
    return jax.custom_batching.sequential_vmap(lambda x, w: _xla(x, w, window))


def _from_patches(g: jax.Array, w: jax.Array, shape: tuple[int, ...], window: Window) -> jax.Array:
    """The gradient of the map: what each patch would send back, added up where patches overlap."""
    _, back = jax.vjp(lambda x: _patches(_padded(x, window), window), jnp.zeros(shape, g.dtype))
    return back(_product(g, w.reshape(-1, w.shape[-1]).T))[0]


def _padded(x: jax.Array, window: Window, value: Any = 0) -> jax.Array:
    return jnp.pad(x, ((0, 0), *window.padding, (0, 0)), constant_values=value)


def _cells(x: jax.Array, window: Window) -> list[jax.Array]:
    """What each cell of the window sees as it slides over a padded map: kh * kw times [batch, h', w', c]."""
    (kh, kw), (sh, sw), (dh, dw) = window.size, window.stride, window.dilation
    oh, ow = window._replace(padding=((0, 0), (0, 0))).out(*x.shape[1:3])
    rows, columns = (oh - 1) * sh + 1, (ow - 1) * sw + 1
    at = [(i * dh, j * dw) for i in range(kh) for j in range(kw)]
    return [x[:, i : i + rows : sh, j : j + columns : sw] for i, j in at]


def _patches(x: jax.Array, window: Window) -> jax.Array:
    """[batch, h', w', kh * kw * c] of a padded map."""
    return jnp.concatenate(_cells(x, window), -1)


# -- pooling


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def max_pool2d(x: jax.Array, window: Window) -> jax.Array:
    """The largest value of each window.   x: [batch, h, w, c] -> [batch, h', w', c]

    The first of equals takes the gradient. XLA's own gradient of it is four to eight times slower on a CPU.
    """
    return _first_max(x, window)[0]


@max_pool2d.defjvp
def _max_pool2d_jvp(window: Window, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x,), (t,) = primals, tangents
    best, place = _first_max(x, window)
    if window.size != window.stride or any(map(any, window.padding)):
        cells = _cells(_padded(t, window), window)
        return best, sum((jnp.where(place == k, cell, 0) for k, cell in enumerate(cells)), jnp.zeros((), t.dtype))
    (kh, kw), (b, oh, ow, c) = window.size, best.shape
    t = t[:, : oh * kh, : ow * kw].reshape(b, oh, kh, ow, kw, c)
    mine = place[:, :, None, :, None] == jnp.arange(kh * kw, dtype=place.dtype).reshape(kh, 1, kw, 1)
    return best, jnp.where(mine, t, 0).sum((2, 4))


def _first_max(x: jax.Array, window: Window) -> tuple[jax.Array, jax.Array]:
    """The largest value of each window, and which cell of the window it came from; nan wins, as in torch."""
    low = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    cells = _cells(_padded(x, window, low), window)
    best, place = cells[0], jnp.zeros(cells[0].shape, jnp.uint8 if len(cells) <= 256 else jnp.int32)
    for k, cell in enumerate(cells[1:], 1):
        wins = (cell > best) | (cell != cell)
        best, place = jnp.where(wins, cell, best), jnp.where(wins, jnp.asarray(k, place.dtype), place)
    return best, place
