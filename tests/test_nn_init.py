"""Initialisers: spread and bounds are those of the formulas (S1.59) and of torch."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from derin import nn, spec
from derin.errors import ModelError
from derin.nn.init import fans
from derin.testing import check_spec

SHAPES = [(300, 200), (60, 40, 3, 5)]
T = torch.nn.init


@pytest.mark.parametrize("shape", SHAPES)
def test_fans_are_torch_s(shape):
    assert fans(shape) == T._calculate_fan_in_and_fan_out(torch.empty(shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "ours, theirs",
    [
        (nn.HeNormal(), T.kaiming_normal_),
        (nn.HeUniform(), T.kaiming_uniform_),
        (nn.HeNormal(0.5), lambda w: T.kaiming_normal_(w, a=0.5)),
        (nn.HeUniform(math.sqrt(5)), lambda w: T.kaiming_uniform_(w, a=math.sqrt(5))),
        (nn.XavierNormal(), T.xavier_normal_),
        (nn.XavierUniform(), T.xavier_uniform_),
        (nn.XavierUniform(5 / 3), lambda w: T.xavier_uniform_(w, gain=T.calculate_gain("tanh"))),
        (nn.LeCunNormal(), lambda w: T.kaiming_normal_(w, nonlinearity="linear")),
        (nn.LeCunUniform(), lambda w: T.kaiming_uniform_(w, nonlinearity="linear")),
        (nn.Normal(0.3, 1.0), lambda w: T.normal_(w, 1.0, 0.3)),
        (nn.Uniform(0.2), lambda w: T.uniform_(w, -0.2, 0.2)),
    ],
    ids=lambda value: repr(value) if isinstance(value, nn.Initializer) else "",
)
def test_spread_is_torch_s(ours, theirs, shape):
    torch.manual_seed(0)
    a, b = np.asarray(ours(jax.random.key(0), shape)), theirs(torch.empty(shape)).numpy()
    assert a.shape == shape and a.dtype == np.float32
    np.testing.assert_allclose(a.mean(), b.mean(), atol=4 * b.std() / math.sqrt(a.size) * 1.5)
    np.testing.assert_allclose(a.std(), b.std(), rtol=0.02)
    if "Uniform" in type(ours).__name__:
        np.testing.assert_allclose(np.abs(a).max(), np.abs(b).max(), rtol=1e-3)
    else:
        assert np.abs(a - a.mean()).max() > 3.5 * a.std()  # not truncated


def test_constants():
    key = jax.random.key(0)
    assert nn.Zeros()(key, (2, 3)).tolist() == [[0.0] * 3] * 2
    assert nn.Ones()(key, (2,)).tolist() == [1.0] * 2
    assert nn.Full(0.25)(key, (2,)).tolist() == [0.25] * 2
    assert nn.Full(0.25)(key, (2,), jnp.bfloat16).dtype == jnp.bfloat16


@pytest.mark.parametrize("init", [nn.HeNormal(0.1), nn.XavierUniform(2.0), nn.Full(1.0), nn.Zeros()], ids=repr)
def test_a_start_is_a_spec(init):
    check_spec(init)
    layer = nn.Linear(3, weight_init=init)
    check_spec(layer)
    drawn = jax.jit(lambda layer: layer.init(jax.random.key(0), jnp.ones((1, 2)))[0])(layer)
    plain = layer.init(jax.random.key(0), jnp.ones((1, 2)))[0]
    np.testing.assert_allclose(drawn["weight"], plain["weight"], rtol=1e-6)


def test_the_gain_of_a_start_can_be_swept():
    net = nn.Sequential(nn.Linear(3, weight_init=nn.XavierNormal()), nn.Linear(1))
    assert spec.leaf_paths(net) == ["layers.0.weight_init.gain"]
    swept = spec.set(net, "layers.0.weight_init.gain", jnp.array([1.0, 2.0]))
    made = jax.vmap(lambda net: net.init(jax.random.key(0), jnp.ones((1, 2)))[0])(swept)
    np.testing.assert_allclose(made["0.weight"][1], 2 * made["0.weight"][0], rtol=1e-6)


def test_a_bias_has_no_fan_in():
    with pytest.raises(ModelError, match=r"needs a shape \[out, in, ...\], got \(3,\). For a bias, use Zeros"):
        nn.HeNormal()(jax.random.key(0), (3,))
