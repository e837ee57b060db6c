"""Unseen cases: written by someone who had read the verdicts' names and none of the rules, on data of their own.

Each is sick of its cause by construction, or its textbook remedy helps: with `cured=True` a case trains with its cause
removed and nothing else changed. `python tests/sick/removed.py [NAME]` shows both, without a word of derin.diagnose;
healthy ones stand beside scikit-learn's gradient boosting.

Here: healthy runs, and those whose net, rate, batch or length is at fault. The others: unseen_units, unseen_rows.
"""

from __future__ import annotations

import functools
from typing import Any

import bed
import numpy as np
import unseen_data as of
from bed import HEALTHY, fit, mlp, out

import derin
from derin import nn, optim
from derin.data import Dataset

case = functools.partial(bed.case, set="unseen")


def flat(data: Dataset, *widths: int, **fields: Any) -> nn.Module:
    """An MLP on images, series or windows."""
    return nn.Sequential(nn.Flatten(), mlp(data, *widths, **fields))


def cnn(data: Dataset, width: int = 8) -> nn.Module:
    """Two convolutions and a linear layer."""
    parts: list[nn.Module] = []
    for features in (width, 2 * width):
        parts += [nn.Conv2d(features, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(out(data)))


def over_time(layer: Any, data: Dataset) -> nn.Module:
    """What a recurrent layer says after the last step."""
    return nn.Sequential(nn.LastStep(layer), nn.Linear(out(data)))


def of_tokens(data: Dataset, *layers: nn.Module, width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Embedding(data.schema.inputs.size, width), *layers, nn.Linear(out(data)))


# -- healthy ones


@case(HEALTHY)
def healthy_moons() -> Any:
    data = of.moons()
    return fit(mlp(data, 32, 16), data, epochs=40)


@case(HEALTHY)
def healthy_friedman() -> Any:
    data = of.friedman(2400)
    return fit(mlp(data, 32, 16), data, epochs=30, optimizer=optim.Adam(3e-3))


@case(HEALTHY)
def healthy_mnist_cnn() -> Any:
    data = of.mnist(3000)
    return fit(cnn(data), data, epochs=8, optimizer=optim.Adam(3e-3))


@case(HEALTHY)
def healthy_fashion_dropout() -> Any:
    data = of.fashion(4000)
    return fit(flat(data, 64, dropout=0.2), data, epochs=15, optimizer=optim.AdamW(1e-3))


@case(HEALTHY)
def healthy_power_gru() -> Any:
    data = of.power()
    return fit(over_time(nn.GRU(16), data), data, epochs=30, optimizer=optim.Adam(5e-3))


@case(HEALTHY)
def healthy_vowels_lstm() -> Any:
    data = of.vowels()
    return fit(over_time(nn.LSTM(24), data), data, epochs=28, optimizer=optim.AdamW(3e-3, weight_decay=0.1))


@case(HEALTHY)
def healthy_temperatures_gru() -> Any:
    data = of.temperatures()
    return fit(over_time(nn.GRU(12), data), data, epochs=12, optimizer=optim.Adam(3e-3), batch_size=64)


@case(HEALTHY)
def healthy_adult() -> Any:
    data = of.adult(4000)
    return fit(mlp(data, 16), data, epochs=12, optimizer=optim.AdamW(2e-3), batch_size=64)


@case(HEALTHY)
def healthy_cars() -> Any:
    data = of.cars()
    return fit(mlp(data, 16), data, epochs=40, optimizer=optim.SGD(0.01, momentum=0.9))


@case(HEALTHY)
def healthy_credit_stopped_early() -> Any:
    data = of.credit()
    stopping = derin.EarlyStopping(6)
    return fit(mlp(data, 12), data, epochs=60, early_stopping=stopping, optimizer=optim.AdamW(2e-3, weight_decay=0.1))


@case(HEALTHY)
def healthy_languages() -> Any:
    data = of.languages()
    return fit(of_tokens(data, nn.LastStep(nn.GRU(16))), data, epochs=8, optimizer=optim.Adam(5e-3))


@case(HEALTHY)
def healthy_roll_momentum() -> Any:
    data = of.roll(1500)
    return fit(mlp(data, 48, 24), data, epochs=60, optimizer=optim.SGD(0.02, momentum=0.9))


@case(HEALTHY)
def healthy_mammography_weighted() -> Any:
    data = of.mammography()
    return fit(mlp(data, 8), data, epochs=25, optimizer=optim.Adam(2e-3), batch_size=64, class_weights="balanced")


@case(HEALTHY)
def healthy_circles_batchnorm() -> Any:
    data = of.circles(1200)
    rule = optim.Adam(1e-2)
    return fit(mlp(data, 32, norm=True), data, epochs=30, optimizer=rule, schedule=optim.CosineAnnealingLR(30))


@case(HEALTHY)
def healthy_clusters_linear() -> Any:
    data = of.clusters(1600, n_features=10, n_informative=4, n_redundant=2, n_clusters_per_class=1, flip_y=0.1)
    return fit(nn.Linear(1), data, epochs=25, optimizer=optim.SGD(0.1))


# -- bias and variance


@case("high bias")
def bias_line_on_circles(cured: bool = False) -> Any:
    data = of.circles()
    return fit(mlp(data, 32) if cured else nn.Linear(1), data, epochs=30, optimizer=optim.Adam(1e-2))


@case("high bias")
def bias_two_units_on_fashion(cured: bool = False) -> Any:
    data = of.fashion()
    return fit(flat(data, 64 if cured else 2), data, epochs=30)


@case("high bias")
def bias_gru_of_one_unit(cured: bool = False) -> Any:
    data = of.vowels()
    return fit(over_time(nn.GRU(32 if cured else 1), data), data, epochs=60, optimizer=optim.Adam(1e-2))


@case("high bias")
def bias_by_penalty(cured: bool = False) -> Any:
    data = of.friedman()
    return fit(mlp(data, 32), data, epochs=30, penalty=optim.L2(1e-4 if cured else 0.3))


@case("high bias")
def bias_by_dropout(cured: bool = False) -> Any:
    data = of.roll()
    return fit(mlp(data, 16, 16, dropout=0.0 if cured else 0.9), data, epochs=60)


@case("high variance")
def variance_photographs(cured: bool = False) -> Any:
    data = of.photographs(2400, None if cured else 90)
    return fit(flat(data, 64), data, epochs=5 if cured else 8, optimizer=optim.Adam(1e-3))


@case("high variance")
def variance_reviews(cured: bool = False) -> Any:
    data = of.reviews(500, None if cured else 150)
    return fit(mlp(data, 16), data, epochs=4 if cured else 15, optimizer=optim.Adam(1e-3))


@case("high variance")
def variance_clusters(cured: bool = False) -> Any:
    options = {"n_features": 30, "n_informative": 8, "n_redundant": 0, "class_sep": 1.2}
    data = of.clusters(2400, None if cured else 100, **options)
    return fit(mlp(data, 64, 32), data, epochs=6 if cured else 20, optimizer=optim.Adam(2e-3))


@case("high variance")
def variance_friedman(cured: bool = False) -> Any:
    data = of.friedman(1600, 12, 0.7, None if cured else 70)
    return fit(mlp(data, 64, 64), data, epochs=30, optimizer=optim.Adam(2e-3))


@case("high variance")
def variance_mnist(cured: bool = False) -> Any:
    data = of.mnist(2400, None if cured else 60)
    return fit(flat(data, 64), data, epochs=6 if cured else 30, batch_size=16, optimizer=optim.Adam(1e-3))


@case("high bias and high variance")
def both_line_on_friedman(cured: bool = False) -> Any:
    data = of.friedman(1600, 30, 0.7, None if cured else 60)
    return fit(mlp(data, 64, 32) if cured else nn.Linear(1), data, epochs=150, optimizer=optim.Adam(1e-2))


@case("high bias and high variance")
def both_line_on_circles(cured: bool = False) -> Any:
    data = of.circles(2000, 20, None if cured else 70)
    return fit(mlp(data, 32) if cured else nn.Linear(1), data, epochs=60, optimizer=optim.Adam(1e-2))


# -- how fast, how long, how many rows a step


@case("learning rate too high")
def rate_high_cnn(cured: bool = False) -> Any:
    data = of.mnist()
    return fit(cnn(data), data, epochs=8, optimizer=optim.Adam(3e-3 if cured else 0.2))


@case("learning rate too high")
def rate_high_lstm(cured: bool = False) -> Any:
    data = of.vowels()
    return fit(over_time(nn.LSTM(24), data), data, epochs=25, optimizer=optim.Adam(5e-3 if cured else 0.5))


@case("learning rate too high")
def rate_high_momentum_on_adult(cured: bool = False) -> Any:
    data = of.adult()
    return fit(mlp(data, 16), data, epochs=12, optimizer=optim.SGD(0.01 if cured else 3.0, momentum=0.9))


@case("learning rate too high")
def rate_high_on_friedman(cured: bool = False) -> Any:
    data = of.friedman()
    return fit(mlp(data, 32, 16), data, epochs=30, optimizer=optim.AdamW(3e-3 if cured else 0.3))


@case("learning rate too high")
def rate_high_on_cars(cured: bool = False) -> Any:
    data = of.cars()
    return fit(mlp(data, 16), data, epochs=40, optimizer=optim.SGD(0.05 if cured else 1.5))


@case("learning rate too low")
def rate_low_cnn(cured: bool = False) -> Any:
    data = of.mnist()
    return fit(cnn(data), data, epochs=12, optimizer=optim.Adam(3e-3 if cured else 1e-5))


@case("learning rate too low")
def rate_low_gru(cured: bool = False) -> Any:
    data = of.power()
    return fit(over_time(nn.GRU(16), data), data, epochs=30, optimizer=optim.SGD(0.3 if cured else 1e-3))


@case("learning rate too low")
def rate_low_adult(cured: bool = False) -> Any:
    data = of.adult()
    return fit(mlp(data, 16), data, epochs=20, optimizer=optim.AdamW(3e-3 if cured else 3e-6))


@case("learning rate too low")
def rate_low_momentum(cured: bool = False) -> Any:
    data = of.friedman()
    return fit(mlp(data, 32, 16), data, epochs=30, optimizer=optim.SGD(0.02 if cured else 2e-5, momentum=0.9))


@case("trained too short")
def short_fashion(cured: bool = False) -> Any:
    data = of.fashion()
    return fit(flat(data, 64), data, epochs=20 if cured else 2, optimizer=optim.SGD(0.02, momentum=0.5))


@case("trained too short")
def short_vowels(cured: bool = False) -> Any:
    data = of.vowels()
    return fit(over_time(nn.GRU(24), data), data, epochs=40 if cured else 4, optimizer=optim.Adam(3e-3))


@case("trained too short")
def short_friedman(cured: bool = False) -> Any:
    data = of.friedman()
    return fit(mlp(data, 32, 16), data, epochs=40 if cured else 3, optimizer=optim.Adam(2e-3))


@case("trained too short")
def short_languages(cured: bool = False) -> Any:
    data = of.languages()
    return fit(of_tokens(data, nn.LastStep(nn.LSTM(16))), data, epochs=20 if cured else 2, optimizer=optim.Adam(3e-3))


def until_best(cured: bool) -> dict[str, Any]:
    return {"early_stopping": derin.EarlyStopping(10)} if cured else {}


@case("overtrained")
def over_letters(cured: bool = False) -> Any:
    data = of.letters(4000)
    return fit(of_tokens(data, nn.Flatten(), nn.Linear(64), nn.ReLU()), data, epochs=40, **until_best(cured))


@case("overtrained")
def over_credit(cured: bool = False) -> Any:
    data = of.credit()
    return fit(mlp(data, 64, 32), data, epochs=80, optimizer=optim.Adam(2e-3), **until_best(cured))


@case("overtrained")
def over_moons(cured: bool = False) -> Any:
    data = of.moons(800, 0.35, 200)
    return fit(mlp(data, 128, 128), data, epochs=250, optimizer=optim.Adam(3e-3), **until_best(cured))


@case("overtrained")
def over_temperatures(cured: bool = False) -> Any:
    data = of.temperatures(14, 600)
    return fit(flat(data, 64, 64), data, epochs=120, optimizer=optim.Adam(2e-3), **until_best(cured))


def signs(kind: str, n: int = 1600) -> Dataset:
    """Is the number of positive columns among five odd (a parity), or do a series' ends agree?"""
    r = np.random.default_rng(8)
    if kind == "parity":
        x = r.choice([-1.0, 1.0], (n, 5)) + 0.1 * r.normal(size=(n, 5))
        return of.load(x.astype("float32"), (x > 0).sum(1) % 2)
    x = r.choice([-1.0, 1.0], (n, 6, 1)).astype("float32")
    return of.load(x, (x[:, 0, 0] * x[:, -1, 0] > 0).astype(int))


@case("plateau or saddle")
def plateau_parity_of_five(cured: bool = False) -> Any:
    data = signs("parity")
    rule = optim.Adam(1e-2) if cured else optim.SGD(0.02)
    return fit(mlp(data, 32, activation="tanh"), data, epochs=25, optimizer=rule)


@case("plateau or saddle")
def plateau_ends_of_a_series(cured: bool = False) -> Any:
    data = signs("ends")
    rule = optim.Adam(1e-2) if cured else optim.SGD(0.05)
    return fit(over_time(nn.GRU(12), data), data, epochs=30, optimizer=rule)


@case("batch too small")
def batch_of_one_mnist(cured: bool = False) -> Any:
    data = of.mnist()
    return fit(flat(data, 32), data, batch_size=32 if cured else 1, epochs=6, optimizer=optim.SGD(0.1))


@case("batch too small")
def batch_of_two_friedman(cured: bool = False) -> Any:
    data = of.friedman()
    return fit(mlp(data, 32), data, batch_size=32 if cured else 2, epochs=12, optimizer=optim.Adam(2e-2))


@case("batch too small")
def batch_of_one_cars(cured: bool = False) -> Any:
    data = of.cars()
    return fit(mlp(data, 16), data, batch_size=32 if cured else 1, epochs=30, optimizer=optim.Adam(2e-2))


@case("batch too large")
def batch_full_mnist(cured: bool = False) -> Any:
    data = of.mnist()
    return fit(flat(data, 32), data, batch_size=32 if cured else "full", epochs=20, optimizer=optim.SGD(0.1))


@case("batch too large")
def batch_full_friedman(cured: bool = False) -> Any:
    data = of.friedman()
    return fit(mlp(data, 32, 16), data, batch_size=32 if cured else "full", epochs=30, optimizer=optim.Adam(2e-3))


@case("batch too large")
def batch_of_half_power(cured: bool = False) -> Any:
    data = of.power()
    return fit(
        over_time(nn.GRU(16), data), data, batch_size=32 if cured else 411, epochs=20, optimizer=optim.Adam(3e-3)
    )
