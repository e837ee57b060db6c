"""Convolutions over one to three axes and transposed ones, with every option, against torch."""

from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_against_torch import close, compare

from derin import ModelError, SpecError, nn
from derin.nn import convolution
from derin.nn.convolution import conv, conv_transpose
from derin.nn.module import as_written
from derin.nn.window import Window
from derin.testing import check_layer

few = settings(max_examples=6, deadline=None)
seeds = st.integers(0, 2**31 - 1)
modes = st.sampled_from(["zeros", "reflect", "replicate", "circular"])


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("n", [1, 3])
@few
@given(st.booleans(), modes, st.sampled_from([0, 1, "same", "valid"]), st.integers(1, 2), seeds)
def test_conv(n, large, mode, padding, groups, seed):
    random = np.random.default_rng(seed)
    kernel, stride, dilation = (tuple(map(int, random.integers(1, high, n))) for high in (4, 3, 3))
    stride = (1,) * n if padding == "same" else stride
    sizes = [d * (k - 1) + 1 + int(random.integers(2, 4)) for k, d in zip(kernel, dilation, strict=True)]
    c, out = (groups * int(random.integers(1, 3)) for _ in range(2))
    fields = {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "padding_mode": mode,
        "bias": bool(random.integers(2)),
    }  # fmt: skip
    layer = getattr(nn, f"Conv{n}d")(out, kernel, **fields)
    module = getattr(torch.nn, f"Conv{n}d")(c, out, kernel, **fields)
    with pytest.MonkeyPatch.context() as patch:
        if large:
            patch.setattr(convolution, "_CACHE", 1)
            patch.setattr(convolution, "_CACHE_OF_FEW", 1)
        compare(layer, module, normal((2, *sizes, c), seed), axes=n + 2)


@few
@given(modes, st.sampled_from([1, 2, "same"]), seeds)
def test_padding_modes_of_conv2d(mode, padding, seed):
    fields = {"padding": padding, "padding_mode": mode, "dilation": (2, 1)}
    module = torch.nn.Conv2d(2, 3, (2, 3), **fields)
    compare(nn.Conv2d(3, (2, 3), **fields), module, normal((2, 5, 4, 2), seed))


@pytest.mark.parametrize("n", [1, 2, 3])
@few
@given(st.integers(1, 3), seeds)
def test_conv_transpose(n, groups, seed):
    random = np.random.default_rng(seed)
    kernel, stride, dilation, sizes = (tuple(map(int, random.integers(1, high, n))) for high in (5, 4, 3, 5))
    more = tuple(int(random.integers(max(s, d))) for s, d in zip(stride, dilation, strict=True))
    # what is cut off leaves something
    whole = [
        (m - 1) * s + d * (k - 1) + 1 + e for m, s, d, k, e in zip(sizes, stride, dilation, kernel, more, strict=True)
    ]
    padding = tuple(min(int(random.integers(3)), (size - 1) // 2) for size in whole)
    c, out = (groups * int(random.integers(1, 4)) for _ in range(2))
    fields = {
        "stride": stride, "padding": padding, "output_padding": more, "groups": groups, "dilation": dilation,
        "bias": bool(random.integers(2)),
    }  # fmt: skip
    layer = getattr(nn, f"ConvTranspose{n}d")(out, kernel, **fields)
    module = getattr(torch.nn, f"ConvTranspose{n}d")(c, out, kernel, **fields)
    compare(layer, module, normal((2, *sizes, c), seed), axes=n + 2)


@contextmanager
def written():
    token = as_written.set(True)
    try:
        yield
    finally:
        as_written.reset(token)


@few
@given(st.integers(1, 3), st.integers(1, 2), seeds)
def test_the_way_of_other_devices_is_the_same(n, groups, seed):
    """On a GPU XLA's own convolutions are taken; they are right on a CPU, too, only slow."""
    random = np.random.default_rng(seed)
    size, stride, dilation, sizes = (tuple(map(int, random.integers(1, high, n))) for high in (4, 4, 3, 5))
    more = tuple(int(random.integers(s)) for s in stride)
    window = Window(size, stride, tuple((int(p), int(p)) for p in random.integers(0, 2, n)), dilation)
    each = zip(sizes, stride, window.reach, window.padding, more, strict=True)
    back = tuple((m - 1) * s + r + 1 - sum(p) + e for m, s, r, p, e in each)
    if min(back) < 1:
        return
    x, y = normal((2, *sizes, 2 * groups), seed), normal((2, *back, 3 * groups), seed)
    w = normal((2 * groups, 3, *size), seed)

    def both(x, y, w):
        return conv_transpose(x, w, window, back, groups), conv(y, w, window, groups)

    ours = jax.jit(both)(x, y, w)
    with written():
        theirs = jax.jit(both)(x, y, w)
    for a, b in zip(ours, theirs, strict=True):
        close(a, np.asarray(b), 1e-5, "output")


@pytest.mark.parametrize("n", [1, 2, 3])
def test_extreme_values_stay_finite(n):
    x = 1e4 * np.sign(normal((2, *(3,) * n, 2)))

    def run(layer, x):
        params, _ = layer.init(jax.random.key(0), x)
        y, pull = jax.vjp(lambda p, x: layer.apply(p, {}, x)[0], params, x)
        return y, pull(y)

    layers = getattr(nn, f"Conv{n}d")(2, 2), getattr(nn, f"ConvTranspose{n}d")(2, 2)
    run = jax.jit(lambda x, run=run: [run(layer, x) for layer in layers])
    assert all(jnp.isfinite(a).all() for a in jax.tree.leaves(run(x)))


def test_second_derivatives_of_a_transposed_one():
    x, w = jnp.asarray(normal((2, 4, 2))), jnp.asarray(normal((2, 3, 4)))
    window = Window((4,), (2,), ((1, 1),))

    def f(w):
        return (conv_transpose(x, w, window, (8,)) ** 3).sum()

    def curvature():
        return jax.jit(jax.grad(lambda w: (jax.grad(f)(w) ** 2).sum()))(w)

    ours = curvature()
    with written():
        close(ours, np.asarray(curvature()), 1e-4, "second derivative")


SERIES, MAP, VOLUME = normal((3, 7, 2)), normal((3, 5, 6, 2)), normal((3, 4, 3, 5, 2))


@pytest.mark.parametrize(
    "layer, x",
    [
        (nn.Conv1d(4, 3, 2, padding=1), SERIES),
        (nn.Conv1d(4, 3, padding="same", padding_mode="circular"), SERIES),
        (nn.Conv2d(4, 3, padding=1, padding_mode="reflect"), MAP),
        (nn.Conv2d(2, 3, padding="same", groups=2), MAP),
        (nn.Conv3d(2, 2, padding=1, padding_mode="replicate"), VOLUME),
        (nn.ConvTranspose1d(4, 4, 2, padding=1), SERIES),
        (nn.ConvTranspose2d(4, 3, 2, padding=1, output_padding=1, groups=2), MAP),
        (nn.ConvTranspose3d(2, 2, 2), VOLUME),
    ],
    ids=lambda v: repr(v) if isinstance(v, nn.Module) else "",
)
def test_conformance(layer, x):
    check_layer(layer, x)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: nn.Conv1d(8, (3, 3)),
            r"Conv1d.kernel_size must be one number or a tuple of 1 \(length\), got \(3, 3\)",
        ),
        (lambda: nn.Conv3d(8, 3, stride=(1, 2)), "Conv3d.stride must be one number or a tuple of 3"),
        (lambda: nn.Conv1d(8, 3, padding="same", stride=2), 'Conv1d: padding="same" needs stride 1, got stride=2'),
        (lambda: nn.Conv1d(8, 3, groups=3), "Conv1d: 3 groups do not divide 8 features"),
        (lambda: nn.Conv2d(8, 3, padding_mode="mirror"), "Conv2d.padding_mode must be .*'circular', got 'mirror'"),
        (lambda: nn.ConvTranspose1d(0, 3), "ConvTranspose1d.features must be at least 1, got 0"),
        (lambda: nn.ConvTranspose2d(8, 3, groups=3), "ConvTranspose2d: 3 groups do not divide 8 features"),
        (
            lambda: nn.ConvTranspose2d(8, 3, padding=(1, 1, 1)),
            "ConvTranspose2d.padding must be one number or a tuple of 2",
        ),
        (lambda: nn.ConvTranspose2d(8, 3, 2, output_padding=2), "output_padding must be smaller than the stride"),
        (lambda: nn.ConvTranspose2d(8, 3, padding="same"), "ConvTranspose2d.padding must be .*got 'same'"),
    ],
)
def test_bad_fields(make, message):
    with pytest.raises(SpecError, match=message):
        make()


@pytest.mark.parametrize(
    "layer, x, message",
    [
        (nn.Conv1d(2, 3), jnp.ones((3, 4)), r"Conv1d needs an input \[batch, length, channels\], got shape \(3, 4\)"),
        (nn.Conv1d(2, 5), jnp.ones((1, 4, 1)), "Conv1d: the kernel reaches over 5 values, .* a length of 4"),
        (nn.Conv3d(2, 3, groups=2), jnp.ones((1, 4, 4, 4, 3)), "Conv3d: 2 groups do not divide the 3 channels"),
        (
            nn.Conv1d(2, 3, padding=4, padding_mode="reflect"),
            jnp.ones((1, 4, 1)),
            r"Conv1d: padding \(4, 4\) cannot mirror more than .* axis 1 .* has 4 values and needs 5",
        ),
        (nn.ConvTranspose1d(2, 3), jnp.ones((1, 4, 4, 1)), "ConvTranspose1d needs an input"),
        (nn.ConvTranspose2d(2, 3), jnp.ones((1, 4, 4, 1), int), "ConvTranspose2d needs a float input"),
        (nn.ConvTranspose2d(2, 3, groups=2), jnp.ones((1, 4, 4, 3)), "2 groups do not divide the 3 channels"),
        (nn.ConvTranspose2d(2, 3, padding=9), jnp.ones((1, 4, 4, 3)), "padding=9 cuts all of the output away"),
    ],
)
def test_bad_inputs(layer, x, message):
    with pytest.raises(ModelError, match=message):
        layer.init(jax.random.key(0), x)
