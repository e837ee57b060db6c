"""Unseen cases whose rows are at fault: imbalance, shuffled labels, leaks, drift, copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import unseen_data as of
from bed import SHARED, changed, fit, mlp, repeated, shuffled
from unseen import case, flat, of_tokens, over_time

import derin
from derin import nn, optim
from derin.data import Dataset


def weighted(cured: bool) -> dict[str, Any]:
    return {"class_weights": "balanced"} if cured else {}


@case("class imbalance ignored")
def imbalance_shirts(cured: bool = False) -> Any:
    x, y = of.clothes_or_digits("fashion_mnist", 3600, (0, 6))  # T-shirts, and few shirts
    kept = np.sort(np.concatenate([np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:90]]))
    data = of.load(x[kept], y[kept])
    return fit(nn.Sequential(nn.Flatten(), nn.Linear(1)), data, epochs=8, optimizer=optim.Adam(1e-3), **weighted(cured))


@case("class imbalance ignored")
def imbalance_mammography(cured: bool = False) -> Any:
    data = of.mammography()
    return fit(nn.Linear(1), data, epochs=20, optimizer=optim.Adam(1e-2), batch_size=64, **weighted(cured))


@case("shuffled labels")
def shuffled_mnist(cured: bool = False) -> Any:
    data = of.mnist()
    return fit(flat(data, 48), data if cured else shuffled(data, 1), epochs=15)


@case("shuffled labels")
def shuffled_power(cured: bool = False) -> Any:
    data = of.power()
    return fit(over_time(nn.LSTM(12), data), data if cured else shuffled(data, 2), epochs=25)


@case("shuffled labels")
def shuffled_friedman(cured: bool = False) -> Any:
    data = of.friedman()
    return fit(mlp(data, 32), data if cured else shuffled(data, 3), epochs=20)


@case("shuffled labels")
def shuffled_adult(cured: bool = False) -> Any:
    data = of.adult()
    return fit(mlp(data, 16), data if cured else shuffled(data, 4), epochs=15)


@case("target leak")
def leak_litres_beside_miles(cured: bool = False) -> Any:
    """Litres for 100 km, computed from the miles a gallon that are asked for."""
    x, y = of.cars_as_arrays()
    litres = 235.2 / y + 0.02 * np.random.default_rng(1).normal(size=len(y))
    data = of.load(x if cured else np.concatenate([x, litres[:, None]], 1).astype("float32"), y)
    return fit(mlp(data, 24), data, epochs=60)


@case("target leak")
def leak_tax_paid(cured: bool = False) -> Any:
    """A column that is filled in after the income is known."""
    import polars

    frame = polars.read_csv(SHARED / "tabular" / "adult" / "adult-train.csv", n_rows=2400, has_header=False)
    rich = frame[frame.columns[-1]].str.contains(">50K").to_numpy()
    tax = np.where(rich, 9000, 2000) + 500 * np.random.default_rng(2).normal(size=len(rich))
    frame = frame if cured else frame.with_columns(polars.Series("tax", tax))
    data = derin.data.load(frame, target=frame.columns[14], test=0, valid=0.25)
    return fit(mlp(data, 16), data, epochs=15)


@case("target leak")
def leak_average_of_the_answer(cured: bool = False) -> Any:
    """A rolling mean that reaches into the hour to be predicted, with four other columns that say little."""
    values = of.hours("ett", "ETTh1.csv", ("HUFL", "MUFL", "LUFL", "LULL", "OT"), 8)
    loads, oil = values[:, :-1], values[:, -1]
    known = oil + 0.3 * np.random.default_rng(3).normal(size=len(oil))
    data = of.load(loads if cured else np.concatenate([loads, known[:, None]], 1).astype("float32"), oil)
    return fit(mlp(data, 24), data, epochs=20)


def by_order(x: np.ndarray, y: np.ndarray, order: np.ndarray, cured: bool) -> Dataset:
    """The first three quarters of that order learn, the last validates; where cured, the order is chance."""
    order = np.random.default_rng(0).permutation(len(x)) if cured else order
    cut = 3 * len(x) // 4
    return derin.data.load((x, y), indices=(order[:cut], order[cut:], []))


@case("different distributions")
def drift_transformer_over_the_years(cured: bool = False) -> Any:
    """Oil temperature from the loads; its level sinks over the two years."""
    values = of.hours("ett", "ETTh1.csv", ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"), 8)
    data = by_order(values[:, :-1], values[:, -1], np.arange(len(values)), cured)
    return fit(mlp(data, 24), data, epochs=20)


@case("different distributions")
def drift_from_young_to_old(cured: bool = False) -> Any:
    """Income by what a census asks; the youngest three quarters of the people learn."""
    import polars

    frame = polars.read_csv(SHARED / "tabular" / "adult" / "adult-train.csv", n_rows=2400, has_header=False)
    age = frame[frame.columns[0]].to_numpy()
    order = np.random.default_rng(0).permutation(len(age)) if cured else np.argsort(age, kind="stable")
    data = derin.data.load(frame, target=frame.columns[14], indices=(order[:1800], order[1800:], []))
    return fit(mlp(data, 16), data, epochs=10)


@case("different distributions")
def drift_negatives(cured: bool = False) -> Any:
    """Digits, white on black; those that validate are half faded and noisy."""
    data = of.mnist()
    x = data.valid.x
    noise = np.random.default_rng(5).normal(size=x.shape)
    faded = x if cured else (0.4 * x + 0.9 + noise).astype("float32")
    return fit(flat(data, 48), changed(data, None, data.valid._replace(x=faded)), epochs=12)


@case("different distributions")
def drift_friedman_out_of_range(cured: bool = False) -> Any:
    """Only rows of which two columns are small learn."""
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(1200, n_features=6, noise=0.5, random_state=7)
    data = by_order(x.astype("float32"), y.astype("float32"), np.argsort(x[:, 0] + x[:, 3]), cured)
    return fit(mlp(data, 32), data, epochs=25)


@case("duplicated rows")
def duplicates_friedman(cured: bool = False) -> Any:
    data = of.friedman(900, 8, 4.0)
    return fit(mlp(data, 64), data if cured else repeated(data, 0.5, 1), epochs=40)


@case("duplicated rows")
def duplicates_fashion(cured: bool = False) -> Any:
    data = of.fashion()
    return fit(flat(data, 64), data if cured else repeated(data, 0.4, 2), epochs=15)


@case("duplicated rows")
def duplicates_letters(cured: bool = False) -> Any:
    data = of.letters(4000)
    net = of_tokens(data, nn.Flatten(), nn.Linear(64), nn.ReLU())
    return fit(net, data if cured else repeated(data, 0.5, 3), epochs=6)
