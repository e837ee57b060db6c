"""Pooling against torch: the largest, the mean, a power mean; over windows, to a given size, over all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_against_torch import compare

from derin import ModelError, SpecError, nn
from derin.testing import check_layer

few = settings(max_examples=6, deadline=None)
seeds = st.integers(0, 2**31 - 1)
axes = st.integers(1, 3)


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def drawn(n, seed):
    """A kernel, a stride or none, whether there is padding, and a map that the kernel fits into."""
    random = np.random.default_rng(seed)
    kernel = tuple(map(int, random.integers(1, 4, n)))
    stride = None if random.random() < 0.4 else tuple(map(int, random.integers(1, 4, n)))
    padding = tuple(k // 2 for k in kernel) if random.random() < 0.5 else (0,) * n
    return kernel, stride, padding, random


def ours_and_theirs(kind, n):
    return getattr(nn, f"{kind}{n}d"), getattr(torch.nn, f"{kind}{n}d")


@few
@given(axes, st.booleans(), st.booleans(), seeds)
def test_max_pool(n, ceil_mode, dilated, seed):
    kernel, stride, padding, random = drawn(n, seed)
    dilation = tuple(map(int, random.integers(1, 3, n))) if dilated else (1,) * n
    x = normal(
        (2, *(d * (k - 1) + 1 + int(random.integers(4)) for k, d in zip(kernel, dilation, strict=True)), 3), seed
    )
    ours, theirs = ours_and_theirs("MaxPool", n)
    for data in (x, np.round(x).clip(0)):  # many equal values, as after a ReLU: the first takes the gradient
        fields = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
        compare(ours(kernel, **fields), theirs(kernel, **fields), data, axes=n + 2)


@few
@given(axes, st.booleans(), st.booleans(), st.sampled_from([None, 3, -2]), seeds)
def test_avg_pool(n, ceil_mode, count_include_pad, divisor, seed):
    kernel, stride, padding, random = drawn(n, seed)
    x = normal((2, *(k + int(random.integers(4)) for k in kernel), 3), seed)
    fields = {
        "stride": stride or kernel,
        "padding": padding,
        "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad,
    }
    if n > 1:  # torch's AvgPool1d has none
        fields["divisor_override"] = divisor
    ours, theirs = ours_and_theirs("AvgPool", n)
    compare(ours(kernel, **fields), theirs(kernel, **fields), x, axes=n + 2)


@few
@given(axes, st.sampled_from([1.0, 2.0, 3.0, 2.5, float("inf")]), st.booleans(), seeds)
def test_lp_pool(n, p, ceil_mode, seed):
    kernel, stride, _, random = drawn(n, seed)
    x = normal((2, *(k + int(random.integers(4)) for k in kernel), 3), seed)
    x = np.abs(x) if p % 2 else x
    ours, theirs = ours_and_theirs("LPPool", n)
    if n == 1:  # torch's takes no tuples there
        kernel, stride = kernel[0], stride and stride[0]
    fields = {"stride": stride, "ceil_mode": ceil_mode}
    compare(ours(p, kernel, **fields), theirs(p, kernel, **fields), x, axes=n + 2)


def test_lp_pool_of_zeros_has_no_slope():
    y, pull = jax.vjp(lambda x: nn.LPPool1d(3, 2).apply({}, {}, x)[0], jnp.zeros((1, 4, 1)))
    assert not y.any() and not pull(y + 1)[0].any()
    negative = jnp.array([-1.0, 0.5]).reshape(1, 2, 1)
    assert nn.LPPool1d(1, 2).apply({}, {}, negative)[0].item() == -0.5
    assert jnp.isnan(nn.LPPool1d(3, 2).apply({}, {}, negative)[0]).item()


@pytest.mark.parametrize("kind", ["AdaptiveAvgPool", "AdaptiveMaxPool"])
@few
@given(axes, seeds)
def test_adaptive_pools(kind, n, seed):
    random = np.random.default_rng(seed)
    sizes, wanted = random.integers(1, 9, n), random.integers(1, 9, n)
    wanted = tuple(None if random.random() < 0.2 else int(w) for w in wanted)
    x = normal((2, *sizes, 3), seed)
    ours, theirs = ours_and_theirs(kind, n)
    if n == 1:  # torch's takes no tuple with None there
        wanted = (wanted[0] or int(sizes[0]),)
    for data in (x, np.round(x).clip(0)):
        compare(ours(wanted), theirs(wanted[0] if n == 1 else wanted), data, axes=n + 2)


@few
@given(axes, seeds)
def test_global_pools(n, seed):
    sizes = np.random.default_rng(seed).integers(1, 5, n)
    x = np.round(normal((3, *sizes, 2), seed), 1)
    for ours, theirs in ((nn.GlobalAvgPool, "AdaptiveAvgPool"), (nn.GlobalMaxPool, "AdaptiveMaxPool")):
        peer = torch.nn.Sequential(getattr(torch.nn, f"{theirs}{n}d")(1), torch.nn.Flatten())
        compare(ours(), peer, x, axes=n + 2)


def test_max_pools_pass_nan_on_and_pool_whole_numbers():
    x = np.array([[1.0, np.nan], [2.0, 3.0]], np.float32).reshape(1, 2, 2, 1)
    whole = jnp.array([[[[1], [5]], [[2], [3]]]], jnp.uint8)
    for layer in (nn.MaxPool2d(2), nn.AdaptiveMaxPool2d(1), nn.GlobalMaxPool()):
        assert np.isnan(layer.apply({}, {}, x)[0]).all()
        assert layer.apply({}, {}, whole)[0].item() == 5


@pytest.mark.parametrize("layer", [nn.MaxPool2d(2), nn.AdaptiveMaxPool2d(2)])
def test_max_pools_know_forward_and_second_derivatives(layer):
    x, t = jnp.asarray(normal((1, 4, 4, 2))), jnp.asarray(normal((1, 4, 4, 2), 1))

    def f(x):
        return (layer.apply({}, {}, x)[0] ** 3).sum()

    _, forward = jax.jvp(f, (x,), (t,))
    np.testing.assert_allclose(forward, (jax.grad(f)(x) * t).sum(), rtol=1e-5)
    curved = jax.jvp(jax.grad(f), (x,), (t,))[1]
    np.testing.assert_allclose(curved, jnp.where(jax.grad(f)(x) != 0, 6 * x * t, 0), rtol=1e-4)


def test_extreme_values_stay_finite():
    x = jnp.array([1e4, -1e4, 1e4, 1e4]).reshape(1, 2, 2, 1)
    for layer in (nn.AvgPool2d(2), nn.MaxPool2d(2), nn.LPPool2d(2, 2), nn.AdaptiveAvgPool2d(1), nn.GlobalAvgPool()):
        y, pull = jax.vjp(lambda x, layer=layer: layer.apply({}, {}, x)[0], x)
        assert jnp.isfinite(y).all() and jnp.isfinite(pull(y)[0]).all()


SERIES, MAP, VOLUME = normal((3, 7, 2)), normal((3, 6, 7, 2)), normal((3, 4, 5, 6, 2))


@pytest.mark.parametrize(
    "layer, x",
    [
        (nn.MaxPool1d(2), SERIES),
        (nn.MaxPool2d(3, 2, 1, ceil_mode=True), MAP),
        (nn.MaxPool3d(2), VOLUME),
        (nn.AvgPool1d(3, 2, 1), SERIES),
        (nn.AvgPool2d(2, count_include_pad=False), MAP),
        (nn.AvgPool3d(2), VOLUME),
        (nn.LPPool1d(2, 3), SERIES),
        (nn.LPPool2d(2, 2), MAP),
        (nn.LPPool3d(2, 2), VOLUME),
        (nn.AdaptiveAvgPool1d(3), SERIES),
        (nn.AdaptiveAvgPool2d((4, None)), MAP),
        (nn.AdaptiveAvgPool3d(1), VOLUME),
        (nn.AdaptiveMaxPool1d(3), SERIES),
        (nn.AdaptiveMaxPool2d((4, None)), MAP),
        (nn.AdaptiveMaxPool3d(1), VOLUME),
        (nn.GlobalAvgPool(), MAP),
        (nn.GlobalMaxPool(), SERIES),
    ],
    ids=lambda v: repr(v) if isinstance(v, nn.Module) else "",
)
def test_conformance(layer, x):
    check_layer(layer, x)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.MaxPool1d(0), "MaxPool1d.kernel_size must be at least 1, got 0"),
        (lambda: nn.MaxPool2d(2, padding=2), "MaxPool2d.padding can be at most half of the kernel, got padding=2"),
        (lambda: nn.MaxPool3d((2, 2)), r"MaxPool3d.kernel_size must be one number or a tuple of 3 \(depth, height"),
        (lambda: nn.MaxPool2d(2, dilation=0), "MaxPool2d.dilation must be at least 1, got 0"),
        (lambda: nn.AvgPool2d(2, stride=(1, 0)), r"AvgPool2d.stride must be at least 1, got \(1, 0\)"),
        (lambda: nn.AvgPool2d(3, padding=-1), "AvgPool2d.padding must be at least 0, got -1"),
        (lambda: nn.AvgPool2d(2, divisor_override=0), "AvgPool2d.divisor_override must not be 0"),
        (lambda: nn.LPPool1d(0, 2), "LPPool1d.norm_type must be above 0, got 0.0"),
        (lambda: nn.AdaptiveAvgPool2d(0), r"AdaptiveAvgPool2d.output_size must be at least 1, got \(0,\)"),
        (lambda: nn.AdaptiveMaxPool2d((1, 2, 3)), "AdaptiveMaxPool2d.output_size must be one number or a tuple of 2"),
    ],
)
def test_bad_fields(make, message):
    with pytest.raises(SpecError, match=message):
        make()


@pytest.mark.parametrize(
    "layer, x, message",
    [
        (nn.MaxPool1d(3), jnp.ones((1, 2, 1)), "MaxPool1d: the window is 3 long, .* has a length of 2"),
        (nn.MaxPool2d(2), jnp.ones((1, 2)), r"MaxPool2d needs an input \[batch, height, width, channels\]"),
        (nn.AvgPool2d(2), jnp.ones((1, 2, 2, 1), int), "AvgPool2d needs a float input .* got int32"),
        (nn.AvgPool3d(2, 1, ceil_mode=True), jnp.ones((1, 2, 1, 2, 1)), "the window is 2 long, .* a height of 1"),
        (nn.LPPool1d(2, 2), jnp.ones((4, 2)), "LPPool1d needs an input"),
        (nn.AdaptiveAvgPool1d(2), jnp.ones((1, 2, 2, 1)), "AdaptiveAvgPool1d needs an input"),
        (nn.AdaptiveMaxPool3d(2), jnp.ones((1, 2, 2, 1)), "AdaptiveMaxPool3d needs an input"),
        (nn.GlobalAvgPool(), jnp.ones((4, 3)), "GlobalAvgPool needs an input"),
        (nn.GlobalMaxPool(), jnp.ones((4, 3)), "GlobalMaxPool needs an input"),
    ],
)
def test_bad_inputs(layer, x, message):
    with pytest.raises(ModelError, match=message):
        layer.apply({}, {}, x)
