"""Healthy runs: nothing is to be found in them."""

from __future__ import annotations

from typing import Any

from bed import HEALTHY, bundled, case, fit, made, mlp, out, table

import derin
from derin import nn, optim


@case(HEALTHY)
def healthy_digits() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 64), data, optimizer=optim.Adam(3e-3), epochs=15)


@case(HEALTHY, "held out")
def healthy_breast_cancer() -> Any:
    data = bundled("breast_cancer")
    return fit(mlp(data, 32), data, epochs=15, optimizer=optim.Adam(1e-3), batch_size=16)


@case(HEALTHY)
def healthy_wine() -> Any:
    data = bundled("wine")
    return fit(mlp(data, 16), data, epochs=40, batch_size=16)


@case(HEALTHY, "held out")
def healthy_iris() -> Any:
    data = bundled("iris")
    return fit(mlp(data, 16), data, epochs=60, batch_size=16, optimizer=optim.Adam(1e-2))


@case(HEALTHY)
def healthy_line() -> Any:
    data = made("linear", noise=0.1)
    return fit(nn.Linear(1), data, optimizer=optim.SGD(0.05), epochs=30)


@case(HEALTHY, "held out")
def healthy_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(mlp(data, 64, 64), data, epochs=40)


@case(HEALTHY)
def healthy_diabetes() -> Any:
    data = bundled("diabetes")
    return fit(nn.Linear(1), data, optimizer=optim.Adam(1e-2), epochs=60)


@case(HEALTHY, "held out")
def healthy_rings() -> Any:
    data = made("rings", 1200, 4)
    return fit(mlp(data, 32, 32), data, epochs=40)


@case(HEALTHY)
def healthy_batchnorm() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 32, norm=True), data, epochs=15, optimizer=optim.Adam(2e-3))


@case(HEALTHY, "held out")
def healthy_dropout() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 128, dropout=0.3), data, epochs=25)


@case(HEALTHY)
def healthy_blobs_sgd() -> Any:
    data = made("blobs", 1000, 5)
    return fit(mlp(data, 16), data, optimizer=optim.SGD(0.1), epochs=30)


@case(HEALTHY, "held out")
def healthy_halves_noisy() -> Any:
    data = made("halves", 1200, 5, noise=2.0)
    return fit(nn.Linear(1), data, optimizer=optim.Adam(1e-2), epochs=30)


@case(HEALTHY)
def healthy_tanh() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 48, activation="tanh"), data, epochs=20, optimizer=optim.SGD(0.2))


@case(HEALTHY, "held out")
def healthy_abalone() -> Any:
    data = table("abalone", "abalone.csv", -1, has_header=False)
    return fit(mlp(data, 16), data, epochs=25, optimizer=optim.Adam(3e-3))


@case(HEALTHY)
def healthy_titanic() -> Any:
    data = table("titanic", "train.csv", "Survived")
    stopping = derin.EarlyStopping(8)
    return fit(mlp(data, 16), data, epochs=40, optimizer=optim.AdamW(3e-3), early_stopping=stopping)


@case(HEALTHY, "held out")
def healthy_stopped_early() -> Any:
    data = bundled("breast_cancer", seed=1)
    return fit(mlp(data, 32), data, epochs=80, early_stopping=derin.EarlyStopping(5))


@case(HEALTHY)
def healthy_wine_quality() -> Any:
    data = table("wine_quality", "winequality-white.csv", -1, task="number", has_header=False)
    return fit(nn.MLP((16,), out(data)), data, epochs=25, optimizer=optim.Adam(3e-3), batch_size=64)


@case(HEALTHY, "held out")
def healthy_product() -> Any:
    data = made("product", 1500, 4)
    return fit(mlp(data, 64), data, epochs=40, optimizer=optim.Adam(5e-3))
