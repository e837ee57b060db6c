"""The fresh cases: one of each cause and a few healthy ones, written after the others had been learned from, looked at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from bed import (
    HEALTHY,
    case,
    changed,
    far_off,
    fit,
    leaking,
    low,
    made,
    mlp,
    normal,
    rare,
    repeated,
    shuffled,
    table,
    tower,
)

import derin
from derin import nn, optim
from derin.data import Dataset


def digits_like(n: int = 1200, d: int = 16, k: int = 5, seed: int = 11) -> Dataset:
    """Blobs that overlap a little, other ones than above."""
    r = np.random.default_rng(seed)
    centres = r.normal(size=(k, d)) * 1.2
    y = r.integers(0, k, n)
    return derin.data.load(((r.normal(size=(n, d)) + centres[y]).astype("float32"), y), test=0, valid=0.25)


def bumps(n: int = 1400, d: int = 5, noise: float = 0.1, seed: int = 12) -> Dataset:
    """A number with two bumps, another shape than above."""
    r = np.random.default_rng(seed)
    x = r.uniform(-2, 2, size=(n, d))
    y = np.exp(-((x[:, 0] - 1) ** 2) * 3) + np.exp(-((x[:, 0] + x[:, 1]) ** 2)) + noise * 0.3 * r.normal(size=n)
    return derin.data.load((x.astype("float32"), y), test=0, valid=0.25)


@case(HEALTHY, "fresh")
def fresh_healthy_blobs() -> Any:
    data = digits_like()
    return fit(mlp(data, 24), data, epochs=15)


@case(HEALTHY, "fresh")
def fresh_healthy_bumps() -> Any:
    data = bumps()
    return fit(mlp(data, 48, 24), data, epochs=40, batch_size=64, optimizer=optim.Adam(5e-3))


@case(HEALTHY, "fresh")
def fresh_healthy_pima() -> Any:
    data = table("pima_diabetes", "pima-indians-diabetes.csv", -1, has_header=False)
    return fit(mlp(data, 8), data, epochs=40, early_stopping=derin.EarlyStopping(6), optimizer=optim.Adam(3e-3))


@case(HEALTHY, "fresh")
def fresh_healthy_housing() -> Any:
    data = table("california_housing", "housing.csv", "median_house_value", rows=3000)
    return fit(mlp(data, 24), data, epochs=25, optimizer=optim.Adam(3e-3))


@case("high bias", "fresh")
def fresh_bias() -> Any:
    data = bumps()
    return fit(nn.Linear(1), data, optimizer=optim.Adam(1e-2), epochs=30)


@case("high variance", "fresh")
def fresh_variance() -> Any:
    data = digits_like(200, 40, 4, seed=5)
    return fit(mlp(data, 96, 48), data, epochs=30)


@case("high bias and high variance", "fresh")
def fresh_both() -> Any:
    data = bumps(700, 30)
    few = derin.data.dataset.take(data.train, np.arange(70))
    return fit(nn.Linear(1), changed(data, few), optimizer=optim.Adam(2e-2), epochs=60)


@case("learning rate too high", "fresh")
def fresh_rate_high() -> Any:
    data = digits_like()
    return fit(mlp(data, 24), data, optimizer=optim.Adam(1.0), epochs=15)


@case("learning rate too low", "fresh")
def fresh_rate_low() -> Any:
    data = bumps()
    return fit(mlp(data, 48, 24), data, optimizer=optim.Adam(5e-6), epochs=25)


@case("trained too short", "fresh")
def fresh_short() -> Any:
    data = bumps()
    return fit(mlp(data, 48, 24), data, epochs=3, optimizer=optim.Adam(1e-3))


@case("overtrained", "fresh")
def fresh_over() -> Any:
    data = table("pima_diabetes", "pima-indians-diabetes.csv", -1, has_header=False)
    return fit(mlp(data, 96, 48), data, epochs=100, optimizer=optim.Adam(2e-3))


@case("plateau or saddle", "fresh")
def fresh_plateau() -> Any:
    data = made("parity", 1200, 4, seed=9)
    return fit(mlp(data, 12, activation="tanh"), data, optimizer=optim.SGD(0.01), epochs=30)


@case("batch too small", "fresh")
def fresh_batch_small() -> Any:
    data = bumps(900)
    return fit(mlp(data, 24), data, batch_size=1, optimizer=optim.SGD(0.1), epochs=8)


@case("batch too large", "fresh")
def fresh_batch_large() -> Any:
    data = digits_like()
    return fit(mlp(data, 24), data, batch_size="full", optimizer=optim.Adam(1e-3), epochs=25)


@case("vanishing gradients", "fresh")
def fresh_vanishing() -> Any:
    data = digits_like()
    return fit(tower(7, 20, 5, nn.Linear, nn.Sigmoid), data, optimizer=optim.SGD(0.2), epochs=12)


@case("exploding gradients", "fresh")
def fresh_exploding() -> Any:
    data = bumps()
    return fit(tower(7, 24, 1, normal(0.7), nn.ReLU), data, optimizer=optim.Adam(1e-3), epochs=12)


@case("dead ReLUs", "fresh")
def fresh_dead() -> Any:
    data = digits_like()
    return fit(tower(2, 24, 5, low(-4.5), nn.ReLU), data, epochs=12)


@case("saturated units", "fresh")
def fresh_saturated() -> Any:
    data = bumps()
    return fit(tower(2, 24, 1, normal(5.0), nn.Tanh), data, epochs=15, optimizer=optim.SGD(0.02))


@case("poor initialisation", "fresh")
def fresh_init() -> Any:
    data = digits_like()
    zero = lambda width: nn.Linear(width, weight_init=nn.init.Full(0.0), bias_init=nn.init.Full(0.0))  # noqa: E731
    return fit(nn.Sequential(zero(24), nn.Tanh(), zero(5)), data, epochs=12, optimizer=optim.SGD(0.1))


@case("unnormalised inputs", "fresh")
def fresh_raw() -> Any:
    data = bumps()
    raw = [p._replace(x=(p.x * 40 + 1000).astype("float32")) for p in (data.train, data.valid)]
    return fit(mlp(data, 32), changed(data, *raw), epochs=15)


@case("misleading BatchNorm statistics", "fresh")
def fresh_batchnorm() -> Any:
    data = bumps()
    net = nn.Sequential(far_off(24, 2.0), nn.BatchNorm(momentum=5e-5), nn.ReLU(), nn.Linear(1))
    return fit(net, data, epochs=15)


@case("unfitting output layer", "fresh")
def fresh_ends_in_tanh() -> Any:
    data = bumps()
    return fit(nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Linear(1), nn.Tanh()), data, epochs=20)


@case("class imbalance ignored", "fresh")
def fresh_imbalance() -> Any:
    data = rare(2500, 0.08, 21, noise=2.5)
    return fit(mlp(data, 12), data, epochs=15, optimizer=optim.Adam(1e-3))


@case("shuffled labels", "fresh")
def fresh_shuffled() -> Any:
    data = shuffled(bumps(), 3)
    return fit(mlp(data, 32), data, epochs=20)


@case("target leak", "fresh")
def fresh_leak() -> Any:
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    r = np.random.default_rng(5)
    data = leaking(r.normal(size=(len(x), 10)) + x[:, :10] / x[:, :10].std(0), y, 0.1, seed=6)
    return fit(mlp(data, 16), data, epochs=25)


@case("different distributions", "fresh")
def fresh_drift() -> Any:
    data = digits_like()
    turned = data.valid.x[:, ::-1].copy() * np.float32(1.3)
    return fit(mlp(data, 24), changed(data, None, data.valid._replace(x=turned)), epochs=15)


@case("duplicated rows", "fresh")
def fresh_duplicates() -> Any:
    data = repeated(bumps(900, 5, noise=2.0), 0.4, seed=4)
    return fit(mlp(data, 64), data, epochs=40)
