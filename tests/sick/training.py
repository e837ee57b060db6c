"""Runs whose net is too small or too large for its rows, and runs that learn too fast, too slowly, too short, too long."""

from __future__ import annotations

from typing import Any

import numpy as np
from bed import bundled, case, changed, fit, made, mlp, table

import derin
from derin import nn, optim

# -- bias and variance


@case("high bias")
def bias_line_on_rings() -> Any:
    data = made("rings", 1200, 4)
    return fit(nn.Linear(3), data, optimizer=optim.Adam(1e-2), epochs=40)


@case("high bias", "held out")
def bias_line_on_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(nn.Linear(1), data, optimizer=optim.Adam(1e-2), epochs=40)


@case("high bias")
def bias_one_unit_on_digits() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 1), data, optimizer=optim.Adam(1e-2), epochs=60)


@case("high bias", "held out")
def bias_by_strong_l2() -> Any:
    data = made("rings", 1200, 4)
    return fit(mlp(data, 32), data, optimizer=optim.AdamW(1e-2, weight_decay=8.0), epochs=40)


@case("high variance")
def variance_few_rows_of_diabetes() -> Any:
    data = bundled("diabetes")
    few = derin.data.dataset.take(data.train, np.arange(120))
    return fit(mlp(data, 64, 64), changed(data, few), epochs=40, optimizer=optim.Adam(3e-3))


@case("high variance", "held out")
def variance_few_wide_rows() -> Any:
    data = made("halves", 160, 60, noise=4.0)
    return fit(mlp(data, 128), data, epochs=30)


@case("high variance")
def variance_few_products() -> Any:
    data = made("product", 160, 10, seed=3)
    return fit(mlp(data, 64, 64), data, epochs=40)


@case("high variance", "held out")
def variance_few_waves() -> Any:
    data = made("wave", 120, 8, noise=0.3, seed=5)
    return fit(mlp(data, 64, 64), data, epochs=50)


@case("high bias and high variance")
def both_small_net_few_rows() -> Any:
    r = np.random.default_rng(0)
    x = r.normal(size=(900, 24)).astype("float32")
    y = (np.sin(2 * x[:, 0]) + x[:, 1] ** 2).astype("float32")
    data = derin.data.load((x, y), test=0, valid=0.5)
    return fit(nn.Linear(1), changed(data, derin.data.dataset.take(data.train, np.arange(60))),
               optimizer=optim.Adam(2e-2), epochs=60)  # fmt: skip


@case("high bias and high variance", "held out")
def both_line_on_rings() -> Any:
    r = np.random.default_rng(1)
    x = r.normal(size=(900, 24)).astype("float32")
    y = np.digitize(np.sqrt((x[:, :2] ** 2).sum(1)), [0.8, 1.5])
    data = derin.data.load((x, y), test=0, valid=0.5)
    return fit(nn.Linear(3), changed(data, derin.data.dataset.take(data.train, np.arange(80))),
               optimizer=optim.Adam(2e-2), epochs=60)  # fmt: skip


# -- how fast it learns


@case("learning rate too high")
def rate_high_adam_on_digits() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 64), data, optimizer=optim.Adam(0.5), epochs=15)


@case("learning rate too high", "held out")
def rate_high_sgd_on_line() -> Any:
    data = made("linear", noise=0.1)
    return fit(nn.Linear(1), data, optimizer=optim.SGD(5.0), epochs=15)


@case("learning rate too high")
def rate_high_sgd_on_blobs() -> Any:
    data = made("blobs", 1000, 5)
    return fit(mlp(data, 16, activation="tanh"), data, optimizer=optim.SGD(20.0), epochs=20)


@case("learning rate too high", "held out")
def rate_high_adam_on_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(mlp(data, 64), data, optimizer=optim.Adam(0.3), epochs=20)


@case("learning rate too low")
def rate_low_sgd_on_digits() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 64), data, optimizer=optim.SGD(1e-4), epochs=25)


@case("learning rate too low", "held out")
def rate_low_adam_on_wine() -> Any:
    data = bundled("wine")
    return fit(mlp(data, 16), data, optimizer=optim.Adam(1e-5), epochs=40, batch_size=16)


@case("learning rate too low")
def rate_low_adam_on_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(mlp(data, 64, 64), data, optimizer=optim.Adam(3e-6), epochs=30)


@case("learning rate too low", "held out")
def rate_low_sgd_on_blobs() -> Any:
    data = made("blobs", 1000, 5)
    return fit(mlp(data, 16), data, optimizer=optim.SGD(2e-4), epochs=30)


@case("trained too short")
def short_digits() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 64), data, optimizer=optim.SGD(0.03), epochs=3)


@case("trained too short", "held out")
def short_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(mlp(data, 64, 64), data, optimizer=optim.Adam(1e-3), epochs=3)


@case("trained too short")
def short_rings() -> Any:
    data = made("rings", 1200, 4)
    return fit(mlp(data, 32, 32), data, optimizer=optim.Adam(1e-3), epochs=4)


@case("trained too short", "held out")
def short_wine() -> Any:
    data = bundled("wine")
    return fit(mlp(data, 16), data, optimizer=optim.Adam(1e-3), epochs=5, batch_size=16)


@case("overtrained")
def over_noisy_halves() -> Any:
    data = made("halves", 500, 10, noise=3.0)
    return fit(mlp(data, 128), data, epochs=150, optimizer=optim.Adam(3e-3))


@case("overtrained", "held out")
def over_noisy_line() -> Any:
    data = made("linear", 400, 10, noise=0.6)
    return fit(mlp(data, 64, 64), data, epochs=150, optimizer=optim.Adam(2e-3))


@case("overtrained")
def over_diabetes() -> Any:
    data = bundled("diabetes")
    return fit(mlp(data, 64, 64), data, epochs=120, optimizer=optim.Adam(2e-3))


@case("overtrained", "held out")
def over_titanic() -> Any:
    data = table("titanic", "train.csv", "Survived")
    return fit(mlp(data, 128, 64), data, epochs=120, optimizer=optim.Adam(2e-3))


@case("plateau or saddle")
def plateau_parity() -> Any:
    data = made("parity", 1200, 3)
    return fit(mlp(data, 16, 16, activation="tanh"), data, optimizer=optim.SGD(0.02), epochs=40)


@case("plateau or saddle", "held out")
def plateau_product() -> Any:
    data = made("product", 1200, 2, seed=2)
    return fit(mlp(data, 8, 8, activation="tanh"), data, optimizer=optim.SGD(0.02), epochs=30)


@case("batch too small")
def batch_of_one_digits() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 32), data, batch_size=1, optimizer=optim.SGD(0.1), epochs=5)


@case("batch too small", "held out")
def batch_of_one_diabetes() -> Any:
    data = bundled("diabetes")
    return fit(mlp(data, 16), data, batch_size=1, optimizer=optim.SGD(0.05), epochs=15)


@case("batch too small")
def batch_of_two_wave() -> Any:
    data = made("wave", 1000, 3, noise=0.3)
    return fit(mlp(data, 16), data, batch_size=2, optimizer=optim.Adam(2e-2), epochs=10)


@case("batch too small", "held out")
def batch_of_one_halves() -> Any:
    data = made("halves", 800, 5, noise=1.0)
    return fit(mlp(data, 16), data, batch_size=1, optimizer=optim.Adam(1e-2), epochs=10)


@case("batch too large")
def batch_full_digits() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 64), data, batch_size="full", optimizer=optim.SGD(0.1), epochs=25)


@case("batch too large", "held out")
def batch_full_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(mlp(data, 64, 64), data, batch_size="full", optimizer=optim.Adam(1e-3), epochs=25)


@case("batch too large")
def batch_of_half_rings() -> Any:
    data = made("rings", 1200, 4)
    return fit(mlp(data, 32, 32), data, batch_size=450, optimizer=optim.Adam(1e-3), epochs=20)


@case("batch too large", "held out")
def batch_full_blobs() -> Any:
    data = made("blobs", 1000, 5)
    return fit(mlp(data, 16), data, batch_size="full", optimizer=optim.SGD(0.03), epochs=30)
