"""Activations against torch, values and gradients, at the kinks and far out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_against_torch import compare

from derin import nn
from derin.testing import check_layer

PAIRS = [
    (nn.ReLU(), torch.nn.ReLU()),
    (nn.LeakyReLU(), torch.nn.LeakyReLU()),
    (nn.LeakyReLU(1.5), torch.nn.LeakyReLU(1.5)),
    (nn.Sigmoid(), torch.nn.Sigmoid()),
    (nn.Tanh(), torch.nn.Tanh()),
    (nn.GELU(), torch.nn.GELU()),
    (nn.GELU("tanh"), torch.nn.GELU("tanh")),
    (nn.SiLU(), torch.nn.SiLU()),
    (nn.Softmax(), torch.nn.Softmax(-1)),
    (nn.Softmax(axis=0), torch.nn.Softmax(0)),
    (nn.Identity(), torch.nn.Identity()),
]
named = pytest.mark.parametrize("ours, theirs", PAIRS, ids=[repr(a) for a, _ in PAIRS])


@named
@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(0, 2**31 - 1))
def test_random_shapes(ours, theirs, shape, seed):
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 4
    compare(ours, theirs, x)


@named
def test_at_zero_and_far_out(ours, theirs):
    x = np.array([0.0, -0.0, 1e-30, -1e-30, 1e2, -1e2, 1e4, -1e4, 3.0, -3.0], np.float32)
    compare(ours, theirs, x)


@named
def test_conformance(ours, theirs):
    mixes_rows = ours == nn.Softmax(axis=0)
    check_layer(ours, jnp.linspace(-3, 3, 12).reshape(3, 4), skip=("mask",) if mixes_rows else ())


def test_functions_are_the_layers():
    x = jnp.linspace(-3, 3, 7)
    for f, layer in [
        (nn.relu, nn.ReLU()),
        (nn.leaky_relu, nn.LeakyReLU()),
        (nn.sigmoid, nn.Sigmoid()),
        (nn.tanh, nn.Tanh()),
        (nn.gelu, nn.GELU()),
        (nn.silu, nn.SiLU()),
        (nn.softmax, nn.Softmax()),
    ]:
        np.testing.assert_array_equal(f(x), layer.apply({}, {}, x)[0])
        np.testing.assert_array_equal(f(x), nn.Function(f.__name__).apply({}, {}, x)[0])


def test_softmax_of_the_course():
    p = nn.softmax(jnp.array([2.0, 1.0, 0.1]))  # S1.15
    np.testing.assert_allclose(p, [0.6590, 0.2424, 0.0986], atol=5e-5)


def test_every_function_that_a_file_may_name_works():
    from derin.nn.activations import _functions

    for name in _functions():
        y, _ = nn.Function(name).apply({}, {}, jnp.full((2, 4), 0.5))
        assert jnp.issubdtype(y.dtype, jnp.floating), name


@pytest.mark.parametrize("slope", [0.01, jnp.float32(0.01)])
def test_bfloat16_stays_bfloat16(slope):
    y = jax.jit(lambda s, x: nn.LeakyReLU(s).apply({}, {}, x)[0])(slope, jnp.ones(3, jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
