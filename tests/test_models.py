"""The zoo: nets that train well as they are, and what is chosen when nobody chooses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import derin
from derin import nn, optim
from derin.engine.defaults import default_experiment
from derin.errors import ModelError, SpecError
from derin.models import MemberLinear, PeriodicFeatures, SmallCNN, TabularMLP
from derin.testing import check_layer

rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("layer", "shape", "skip"),
    [
        (TabularMLP(out=3, widths=(8,), members=2, waves=(0, 2)), (6, 4), ()),
        (SmallCNN(out=3, widths=(4, 4), head=8), (2, 8, 8, 1), ()),
        (MemberLinear(5), (3, 4, 2), ("names",)),  # its first axis is members, not rows: more of them, more weights
        (PeriodicFeatures((0, 2), frequencies=4, width=2), (6, 4), ()),
    ],
)
def test_every_model_is_a_layer(layer, shape, skip):
    check_layer(layer, jnp.asarray(rng.normal(size=shape), jnp.float32), skip=skip)


def test_members_are_mlps_that_know_nothing_of_each_other():
    net = TabularMLP(out=2, widths=(8,), members=3, dropout=0.0)
    x = jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)
    params, state = net.init(jax.random.key(0), x)
    out, _ = net.apply(params, state, x)
    clipped = x / jnp.sqrt(1 + (x / 3) ** 2)
    for m in range(3):
        h = nn.silu(clipped @ params["hidden.0.weight"][m].T + params["hidden.0.bias"][m])
        assert np.allclose(out[:, m], h @ params["head.weight"][m].T + params["head.bias"][m], atol=1e-5)
    gradient = jax.grad(lambda p: net.apply(p, state, x)[0][:, 1].sum())(params)
    assert not np.any(gradient["hidden.0.weight"][jnp.array([0, 2])])


def test_waves_are_cosines_of_the_columns():
    layer = PeriodicFeatures((1,), frequencies=3, width=2)
    x = jnp.asarray(rng.normal(size=(5, 2)), jnp.float32)
    p, state = layer.init(jax.random.key(1), x)
    out, _ = layer.apply(p, state, x)
    waves = np.cos(2 * np.pi * np.asarray(x)[:, 1:2] * np.asarray(p["frequency"])[0] + np.asarray(p["phase"])[0])
    assert out.shape == (5, 4) and np.allclose(out[:, :2], x)
    assert np.allclose(out[:, 2:], waves @ np.asarray(p["mix"])[0] + np.asarray(p["bias"])[0], atol=1e-5)


@pytest.mark.parametrize(
    ("net", "x", "words"),
    [
        (TabularMLP(), np.zeros((2, 3, 4)), "takes rows of a table"),
        (SmallCNN(widths=(4, 4, 4)), np.zeros((1, 4, 4, 1)), "of at least 8 pixels a side"),
        (SmallCNN(), np.zeros((1, 4)), "takes images"),
    ],
)
def test_models_say_what_they_take(net, x, words):
    with pytest.raises(ModelError, match=words):
        net.init(jax.random.key(0), jnp.asarray(x, jnp.float32))
    with pytest.raises(ModelError, match="at least one member"):
        TabularMLP(members=0)


def table(n, d=4):
    x = rng.normal(size=(n, d)).astype(np.float32)
    return derin.data.load((x, (x[:, 0] * x[:, 1] > 0).astype(int)))


def test_what_is_trained_when_nobody_chooses():
    few, many = default_experiment(table(300)), default_experiment(table(3000))
    assert isinstance(few.net, TabularMLP) and few.net.waves == () and many.net.waves == (0, 1, 2, 3)
    assert few.batch_size < many.batch_size and few.early_stopping is not None
    images = derin.data.load((rng.integers(0, 255, (40, 16, 16)).astype(np.uint8), np.arange(40) % 2))
    assert default_experiment(images).net == SmallCNN(1, (32, 64))
    assert default_experiment(images, "cnn:8").net == SmallCNN(1, (8,))
    assert isinstance(default_experiment(images, "mlp:8").net, nn.Sequential)
    assert default_experiment(table(300), "mlp:8,4").net == nn.MLP((8, 4), 1)
    assert default_experiment(table(300), nn.Linear(1)).net == nn.Linear(1)
    assert default_experiment(table(300), epochs=3, optimizer=optim.SGD(0.1)).optimizer == optim.SGD(0.1)
    for net, words in [("mlp:8,x", "whole numbers"), ("tree", "no net is called 'tree'"), ("cnn", "is for images")]:
        with pytest.raises(SpecError, match=words):
            default_experiment(table(300), net)


def test_the_default_learns_what_a_line_cannot():
    data = table(600)
    run = default_experiment(data).fit(data, progress=False)
    assert run.evaluate("test")["accuracy"] > 0.9
