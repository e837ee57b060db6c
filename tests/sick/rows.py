"""Runs whose rows are at fault: imbalance, shuffled labels, leaks, drift, copies."""

from __future__ import annotations

from typing import Any

import numpy as np
from bed import SHARED, bundled, case, changed, fit, leaking, made, mlp, rare, repeated, shuffled, table

import derin
from derin import nn, optim


@case("class imbalance ignored")
def imbalance_generated() -> Any:
    data = rare(2000, 0.06, 0)
    return fit(mlp(data, 16), data, epochs=12, optimizer=optim.Adam(1e-3))


@case("class imbalance ignored", "held out")
def imbalance_generated_rarer() -> Any:
    data = rare(3000, 0.04, 1)
    return fit(mlp(data, 16), data, epochs=12, optimizer=optim.Adam(1e-3))


@case("class imbalance ignored")
def imbalance_bank() -> Any:
    data = table("bank_marketing", "bank-additional.csv", "y", separator=";")
    return fit(nn.Linear(1), data, epochs=15, optimizer=optim.Adam(3e-3))


@case("class imbalance ignored", "held out")
def imbalance_three_classes() -> Any:
    r = np.random.default_rng(4)
    y = r.choice(3, 2500, p=[0.6, 0.36, 0.04])
    x = r.normal(size=(2500, 5)) + np.array([[0, 0, 0, 0, 0], [2, 0, 0, 0, 0], [1, 1.2, 0, 0, 0]])[y]
    data = derin.data.load((x.astype("float32"), y), test=0, valid=0.3)
    return fit(mlp(data, 16), data, epochs=12, optimizer=optim.Adam(2e-3))


@case("shuffled labels")
def shuffled_digits() -> Any:
    data = shuffled(bundled("digits"))
    return fit(mlp(data, 64), data, epochs=25)


@case("shuffled labels", "held out")
def shuffled_breast_cancer() -> Any:
    data = shuffled(bundled("breast_cancer"))
    return fit(mlp(data, 32), data, epochs=25)


@case("shuffled labels")
def shuffled_line() -> Any:
    data = shuffled(made("linear", noise=0.1))
    return fit(mlp(data, 32), data, epochs=25)


@case("shuffled labels", "held out")
def shuffled_training_labels_only() -> Any:
    data = made("blobs", 1000, 5)
    train = data.train._replace(y=np.random.default_rng(7).permutation(data.train.y))
    return fit(mlp(data, 32), changed(data, train), epochs=25)


@case("target leak")
def leak_diabetes() -> Any:
    from sklearn.datasets import load_diabetes

    data = leaking(*load_diabetes(return_X_y=True), 0.02)
    return fit(mlp(data, 32), data, epochs=40)


@case("target leak", "held out")
def leak_halves() -> Any:
    r = np.random.default_rng(3)
    x = r.normal(size=(1000, 8))
    data = leaking(x, (x @ np.ones(8) + 4 * r.normal(size=1000) > 0).astype(int), 0.1)
    return fit(mlp(data, 16), data, epochs=25)


@case("target leak")
def leak_digits() -> Any:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    data = leaking(x[:, ::3], y, 0.02)
    return fit(mlp(data, 64), data, epochs=25)


@case("target leak", "held out")
def leak_wave() -> Any:
    r = np.random.default_rng(8)
    x = r.normal(size=(1200, 4))
    data = leaking(x, np.sin(2 * x[:, 0]) + r.normal(size=1200), 0.01)
    return fit(mlp(data, 32), data, epochs=30)


@case("different distributions")
def drift_rings_moved() -> Any:
    data = made("rings", 1200, 4)
    return fit(mlp(data, 32, 32), changed(data, None, data.valid._replace(x=data.valid.x + np.float32(0.9))), epochs=30)


@case("different distributions", "held out")
def drift_wave_by_value() -> Any:
    r = np.random.default_rng(0)
    x = r.normal(size=(1500, 3))
    x = x[np.argsort(x[:, 0] + 0.3 * r.normal(size=1500))].astype("float32")
    y = np.sin(2 * x[:, 0]) + x[:, 1] ** 2
    rows = np.arange(1500)
    data = derin.data.load((x, y), indices=(rows[:1100], rows[1100:], []))
    return fit(mlp(data, 64), data, epochs=30)


@case("different distributions")
def drift_digits_brighter() -> Any:
    data = bundled("digits")
    r = np.random.default_rng(0)
    x = (data.valid.x * 1.5 + 0.8 * r.normal(size=data.valid.x.shape)).astype("float32")
    return fit(mlp(data, 64), changed(data, None, data.valid._replace(x=x)), epochs=20)


@case("different distributions", "held out")
def drift_wine_colour() -> Any:
    import polars

    red, white = (
        polars.read_csv(
            SHARED / "tabular" / "wine_quality" / f"winequality-{c}.csv",
            has_header=False,
            n_rows=900,
            infer_schema_length=None,
        )
        for c in ("red", "white")
    )
    both = polars.concat([white, red[:400]]).to_numpy()
    x, y = both[:, :-1].astype("float32"), (both[:, -1] > 5).astype(int)
    rows = np.arange(1300)
    data = derin.data.load((x, y), indices=(rows[:900], rows[900:], []))
    return fit(mlp(data, 16), data, epochs=20)


@case("duplicated rows")
def duplicates_diabetes() -> Any:
    data = repeated(bundled("diabetes"), 0.6)
    return fit(mlp(data, 64, 64), data, epochs=60)


@case("duplicated rows", "held out")
def duplicates_noisy_halves() -> Any:
    data = repeated(made("halves", 800, 10, noise=3.0), 0.5)
    return fit(mlp(data, 64), data, epochs=40)


@case("duplicated rows")
def duplicates_digits() -> Any:
    data = repeated(bundled("digits"), 0.3)
    return fit(mlp(data, 64), data, epochs=20)


@case("duplicated rows", "held out")
def duplicates_wave() -> Any:
    data = repeated(made("wave", 1000, 6, noise=0.5), 0.4)
    return fit(mlp(data, 32), data, epochs=30)
