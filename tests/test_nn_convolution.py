"""Convolution: every lowering against torch, under vmap, inside a scan."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_against_torch import close, compare, maps, numpy

from derin import nn
from derin.nn import convolution, window
from derin.nn.convolution import conv
from derin.nn.window import Window

few = settings(max_examples=8, deadline=None)
pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
seeds = st.integers(0, 2**31 - 1)


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


WAYS = {  # of a convolution on the CPU, whatever its size
    "patches": {},
    "small": {"_TINY": 0, "_MANY": 0},  # XLA's, and patches for the gradients
    "large": {"_CACHE": 1, "_CACHE_OF_FEW": 1},
}


def go(way, patch):
    for name, value in WAYS[way].items():
        patch.setattr(convolution, name, value)


@pytest.mark.parametrize("way", WAYS)
@few
@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), pair, pair,
    st.tuples(st.integers(0, 2), st.integers(0, 2)), pair, st.booleans(), st.sampled_from([1, 40, 2**20]), seeds,
)  # fmt: skip
def test_conv2d(way, batch, groups, c, out, kernel, stride, padding, dilation, bias, block, seed):
    h, w = (d * (k - 1) + 1 + e for d, k, e in zip(dilation, kernel, (seed % 5, seed % 4), strict=True))
    fields = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": bias}
    layer = nn.Conv2d(groups * out, kernel, **fields)
    module = torch.nn.Conv2d(groups * c, groups * out, kernel, **fields)
    with pytest.MonkeyPatch.context() as patch:
        go(way, patch)
        patch.setattr(window, "_BLOCK", block)
        compare(layer, module, normal((batch, h, w, groups * c), seed), train=True)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@few
@given(st.sampled_from(["same", "valid"]), pair, pair, seeds)
def test_conv2d_padding_by_name(padding, kernel, dilation, seed):
    layer = nn.Conv2d(3, kernel, padding=padding, dilation=dilation)
    module = torch.nn.Conv2d(2, 3, kernel, padding=padding, dilation=dilation)
    compare(layer, module, normal((2, 8, 7, 2), seed))


# -- inside other transformations

SHAPES = [
    Window((3, 3), (1, 1)),
    Window((3, 3), (2, 2), ((1, 1), (1, 1))),
    Window((3, 2), (1, 1), ((2, 2), (1, 1)), (2, 3)),
]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    go(request.param, monkeypatch)
    return request.param


@pytest.mark.parametrize("window", SHAPES)
def test_forward_alone(window, way):
    """Without a gradient to come, another lowering may be taken; stacked models as well."""
    w, x = normal((2, 5, 2, *window.size)), normal((2, 3, 9, 8, 2))
    padding = tuple(before for before, _ in window.padding)
    want = [
        torch.nn.functional.conv2d(
            torch.tensor(maps(one)), torch.tensor(v), None, window.stride, padding, window.dilation
        )
        for one, v in zip(x, w, strict=True)
    ]
    alone = jax.jit(lambda x, w: conv(x, w, window))(x[0], w[0])
    both = jax.jit(jax.vmap(lambda x, w: conv(x, w, window)))(x, w)
    for found, wanted in ((alone, want[0]), (both[0], want[0]), (both[1], want[1])):
        close(found, np.moveaxis(numpy(wanted), 1, -1), 1e-5, "output")


@pytest.mark.parametrize("window", SHAPES)
def test_stacked_models_equal_a_loop(window, way):
    ws, xs = jnp.asarray(normal((3, 4, 2, *window.size))), jnp.asarray(normal((3, 2, 9, 8, 2)))

    def f(w, x):
        return jnp.sin(conv(x, w, window)).sum()

    alone = jax.jit(jax.grad(f, (0, 1)))
    for axes in ((0, 0), (0, None), (None, 0)):
        args = [a if axis == 0 else a[0] for a, axis in zip((ws, xs), axes, strict=True)]
        together = jax.jit(jax.vmap(jax.grad(f, (0, 1)), axes))(*args)
        for m in range(3):
            one = alone(*(a[m] if axis == 0 else a for a, axis in zip(args, axes, strict=True)))
            for a, b in zip(together, one, strict=True):
                close(a[m], np.asarray(b), 1e-5, "gradient")


def test_second_derivatives(way):
    w, x = jnp.asarray(normal((3, 2, 3, 3))), jnp.asarray(normal((2, 5, 5, 2)))

    def f(w):
        return (conv(x, w, Window((3, 3), (1, 1))) ** 3).sum()

    def plain(w):
        y = jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "OIHW", "NHWC"))
        return (y**3).sum()

    def curvature(f):
        return jax.jit(jax.grad(lambda w: (jax.grad(f)(w) ** 2).sum()))(w)

    close(curvature(f), np.asarray(curvature(plain)), 1e-4, "second derivative")


@pytest.mark.parametrize("groups", [1, 2])
def test_bfloat16(way, groups):
    x, w = jnp.asarray(normal((2, 8, 8, 4))), jnp.asarray(normal((4, 4 // groups, 3, 3)))
    exact = conv(x, w, Window((3, 3), (1, 1)), groups)
    y, pull = jax.vjp(
        lambda x, w: conv(x, w, Window((3, 3), (1, 1)), groups), x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
    )
    assert {y.dtype, *(a.dtype for a in pull(y))} == {jnp.dtype(jnp.bfloat16)}
    close(y.astype(jnp.float32), np.asarray(exact), 0.03, "output")


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the trap is XLA's on the CPU")
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"stride": 2, "padding": 1},
        {"dilation": 2},
        {"groups": 2},
        {"groups": 16},
        {"kernel_size": 5, "features": 64},
    ],
    ids=["plain", "strided", "dilated", "grouped", "depthwise", "large"],
)
def test_gradients_inside_a_scan_do_not_fall_into_the_naive_loop(fields):
    """One naive weight gradient of this size takes over a second; as matrix products, milliseconds."""
    layer = nn.Conv2d(**{"features": 16, "kernel_size": 3, **fields})
    x = jnp.asarray(normal((32, 24, 24, 16)))
    params, _ = layer.init(jax.random.key(0), x)

    @jax.jit
    def epoch(params):
        def step(params, i):
            def loss(params, x):
                return (layer.apply(params, {}, x)[0] ** 2).mean()

            by_params, by_x = jax.grad(loss, (0, 1))(params, x + i)
            return jax.tree.map(lambda p, g: p - 0.01 * g - 1e-9 * by_x.sum(), params, by_params), None

        return jax.lax.scan(step, params, jnp.arange(4.0))[0]

    jax.block_until_ready(epoch(params))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(epoch(params))
        times.append(time.perf_counter() - start)
    others = {name: v for name, v in fields.items() if name not in ("features", "kernel_size")}
    module = torch.nn.Conv2d(16, layer.features, layer.kernel_size, **others)
    theirs = torch.tensor(maps(np.asarray(x)), requires_grad=True)
    peer = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(4):
            (module(theirs) ** 2).mean().backward()
        peer.append(time.perf_counter() - start)
    assert numpy(theirs.grad).shape
    assert min(times) < 12 * min(peer) + 0.2
