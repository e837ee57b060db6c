"""Padding layers, Flatten, Upsample, PixelShuffle and dropout of channels, against torch."""

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


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# -- padding


@pytest.mark.parametrize("kind", ["ZeroPad", "ConstantPad", "ReflectionPad", "ReplicationPad", "CircularPad"])
@few
@given(st.integers(1, 3), st.booleans(), seeds)
def test_padding(kind, n, single, seed):
    random = np.random.default_rng(seed)
    cuts = kind in ("ZeroPad", "ConstantPad")
    padding = int(random.integers(4)) if single else tuple(map(int, random.integers(-1 if cuts else 0, 4, 2 * n)))
    value = [2.5] if kind == "ConstantPad" else []
    ours, theirs = (getattr(m, f"{kind}{n}d")(padding, *value) for m in (nn, torch.nn))
    compare(ours, theirs, normal((2, *random.integers(4, 6, n), 3), seed), axes=n + 2)


# -- Flatten, Unflatten


@few
@given(st.integers(1, 5), seeds)
def test_flatten_and_unflatten(ndim, seed):
    random = np.random.default_rng(seed)
    x = normal(tuple(random.integers(1, 4, ndim)), seed)
    start, end = sorted(map(int, random.integers(0, ndim, 2)))
    for a, b in ((start, end), (start - ndim, end), (start, end - ndim)):
        flat, _ = nn.Flatten(a, b).apply({}, {}, x)
        assert (flat == torch.nn.Flatten(a, b)(torch.tensor(x)).numpy()).all()
    again, _ = nn.Unflatten(start, x.shape[start : end + 1]).apply({}, {}, flat)
    assert (again == x).all()
    guessed = (-1, *x.shape[start + 1 : end + 1])
    assert (nn.Unflatten(start, guessed).apply({}, {}, flat)[0] == x).all()


# -- Upsample


@few
@given(st.integers(1, 3), st.sampled_from(["nearest", "nearest-exact", "linear"]), st.booleans(), st.booleans(), seeds)
def test_upsample(n, mode, by_size, align_corners, seed):
    random = np.random.default_rng(seed)
    mode = ["linear", "bilinear", "trilinear"][n - 1] if mode == "linear" else mode
    fields = {"mode": mode, "align_corners": align_corners if mode.endswith("linear") else None}
    x = normal((2, *random.integers(1, 6, n), 2), seed)
    if by_size:
        fields["size"] = tuple(map(int, random.integers(1, 9, n)))
    else:
        fields["scale_factor"] = tuple(map(float, random.choice([1.0, 1.5, 2.0, 2.3, 3.0], n)))
    compare(nn.Upsample(**fields), torch.nn.Upsample(**fields), x, axes=n + 2)


def test_upsample_by_one_number():
    x = normal((2, 4, 3, 2))
    for mode in ("nearest", "bilinear"):
        compare(nn.Upsample(scale_factor=2, mode=mode), torch.nn.Upsample(scale_factor=2, mode=mode), x)
        compare(nn.Upsample(7, mode=mode), torch.nn.Upsample(7, mode=mode), x)


# -- PixelShuffle


@few
@given(st.integers(1, 3), st.integers(1, 3), seeds)
def test_pixel_shuffle(r, c, seed):
    x = normal((2, 3, 2, c * r * r), seed)
    y, _ = compare(nn.PixelShuffle(r), torch.nn.PixelShuffle(r), x)
    again, _ = compare(nn.PixelUnshuffle(r), torch.nn.PixelUnshuffle(r), np.asarray(y))
    assert (again == x).all()


# -- dropout of channels


@pytest.mark.parametrize("n", [1, 2, 3])
def test_dropout_of_channels(n):
    layer, x = getattr(nn, f"Dropout{n}d")(0.3), jnp.ones((50, *(3,) * n, 40))
    y, _ = layer.apply({}, {}, x, train=True, key=jax.random.key(0))
    flat = np.asarray(y).reshape(50, -1, 40)
    assert (flat == flat[:, :1]).all()  # a channel goes whole
    np.testing.assert_allclose(np.unique(flat), [0, 1 / 0.7], rtol=1e-6)
    share = (flat[:, 0] == 0).mean()
    assert abs(share - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 2000)  # five standard deviations
    assert (layer.apply({}, {}, x)[0] == x).all()


SERIES, MAP, VOLUME = normal((3, 7, 4)), normal((3, 4, 6, 4)), normal((3, 4, 3, 5, 2))


@pytest.mark.parametrize(
    "layer, x",
    [
        *((getattr(nn, f"{kind}Pad{n}d")(2), x) for kind in ("Zero", "Constant", "Reflection", "Replication", "Circular")
          for n, x in ((1, SERIES), (2, MAP), (3, VOLUME))),
        (nn.ConstantPad2d((1, 0, -1, 2), 0.5), MAP),
        (nn.Flatten(), MAP),
        (nn.Flatten(2), VOLUME),
        (nn.Unflatten(-1, (2, -1)), SERIES),
        (nn.Upsample(scale_factor=2), MAP),
        (nn.Upsample((7, 3), mode="bilinear", align_corners=True), MAP),
        (nn.PixelShuffle(2), MAP),
        (nn.PixelUnshuffle(2), MAP),
        (nn.Dropout1d(0.3), SERIES),
        (nn.Dropout2d(0.3), MAP),
        (nn.Dropout3d(0.3), VOLUME),
    ],
    ids=lambda v: repr(v) if isinstance(v, nn.Module) else "",
)  # fmt: skip
def test_conformance(layer, x):
    if isinstance(layer, nn.ReflectionPad3d | nn.CircularPad3d):
        layer = layer.replace(padding=1)
    check_layer(layer, x)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: nn.ZeroPad2d((1, 2)),
            r"ZeroPad2d.padding must be one number or a tuple of 4 \(left, right, top, bottom\)",
        ),
        (
            lambda: nn.CircularPad1d((1, 2, 3, 4)),
            r"CircularPad1d.padding .* tuple of 2 \(left, right\), got \(1, 2, 3, 4\)",
        ),
        (lambda: nn.Unflatten(1, (-1, -1)), "Unflatten.unflattened_size needs sizes, at most one of them -1"),
        (lambda: nn.Unflatten(1, ()), "Unflatten.unflattened_size needs sizes"),
        (lambda: nn.Upsample(), "Upsample needs size or scale_factor, one of them"),
        (lambda: nn.Upsample(3, 2), "Upsample needs size or scale_factor, one of them; got size=3, scale_factor=2"),
        (lambda: nn.Upsample(0), "Upsample.size must be at least 1, got 0"),
        (lambda: nn.Upsample(scale_factor=-1), "Upsample.scale_factor must be above 0, got -1"),
        (lambda: nn.Upsample(2, align_corners=True), 'align_corners is for the linear modes, not for mode="nearest"'),
        (lambda: nn.Upsample(2, mode="bicubic"), "Upsample.mode must be .* got 'bicubic'"),
        (lambda: nn.PixelShuffle(0), "PixelShuffle.upscale_factor must be at least 1, got 0"),
        (lambda: nn.PixelUnshuffle(0), "PixelUnshuffle.downscale_factor must be at least 1, got 0"),
        (lambda: nn.Dropout2d(1.0), r"Dropout2d.rate must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_fields(make, message):
    with pytest.raises(SpecError, match=message):
        make()


@pytest.mark.parametrize(
    "layer, x, message",
    [
        (nn.ReflectionPad1d(4), jnp.ones((1, 4, 1)), r"ReflectionPad1d: padding \(4, 4\) cannot mirror .* needs 5"),
        (nn.CircularPad1d((0, 5)), jnp.ones((1, 4, 1)), r"CircularPad1d: padding \(0, 5\) cannot wrap .* needs 5"),
        (nn.ReplicationPad1d(1), jnp.ones((1, 0, 1)), "ReplicationPad1d: .* cannot repeat the edge of nothing"),
        (nn.ZeroPad2d(-2), jnp.ones((1, 4, 9, 1)), "ZeroPad2d: .* leaves nothing of the 4 values of axis 1"),
        (nn.ZeroPad2d(2), jnp.ones((1, 4, 1)), "ZeroPad2d needs an input"),
        (nn.Flatten(3), jnp.ones((1, 4, 1)), "Flatten: start_dim=3, but the input .* has 3 axes"),
        (nn.Flatten(2, 1), jnp.ones((1, 4, 1)), "start_dim=2 is behind end_dim=1"),
        (nn.Flatten(), jnp.ones(()), "Flatten needs an input"),
        (nn.Unflatten(1, (3, 2)), jnp.ones((1, 4)), r"Unflatten: the 4 values of axis 1 .* do not make \(3, 2\)"),
        (nn.Upsample(3, mode="bilinear"), jnp.ones((1, 4, 1)), 'mode="bilinear" is for 2 axes .* has 1'),
        (nn.Upsample((3, 3)), jnp.ones((1, 4, 1)), r"Upsample: \(3, 3\) is for 2 axes"),
        (nn.Upsample(scale_factor=0.1), jnp.ones((1, 4, 1)), "scale_factor=0.1 leaves nothing"),
        (nn.Upsample(3), jnp.ones((1, 4, 1), int), "Upsample needs a float input"),
        (nn.PixelShuffle(2), jnp.ones((1, 4, 4, 3)), "PixelShuffle: 2 x 2 does not divide the 3 channels"),
        (nn.PixelUnshuffle(2), jnp.ones((1, 3, 4, 3)), "PixelUnshuffle: 2 does not divide height and width"),
        (nn.Dropout2d(), jnp.ones((4, 3)), "Dropout2d needs an input"),
    ],
)
def test_bad_inputs(layer, x, message):
    with pytest.raises(ModelError, match=message):
        layer.apply({}, {}, x)
