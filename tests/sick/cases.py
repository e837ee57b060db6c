"""The test bed of derin.diagnose: runs made sick on purpose, each of a known cause, and healthy ones.

A case is a name, its cause (the verdict that should come first) and a function that trains it. Within each cause the
cases at even positions were there while the rules were written; those at odd positions were held out until then, looked
at once, and the rules then mended where they had been wrong. A third set, FRESH, was written after that, and no rule
has been changed since it was looked at.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import derin
from derin import nn, optim
from derin.data import Dataset
from derin.data.dataset import Part

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
HEALTHY = "just right"


class Case(NamedTuple):
    name: str
    cause: str
    train: Callable[[], Any]
    set: str = "written"  # "held out", "fresh"


CASES: list[Case] = []


def case(cause: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register a case; every second one of a cause is held out."""

    def register(function: Callable[[], Any]) -> Callable[[], Any]:
        before = sum(c.cause == cause for c in CASES)
        name = "fresh" if function.__name__.startswith("fresh_") else ("written", "held out")[before % 2]
        CASES.append(Case(function.__name__, cause, function, name))
        return function

    return register


# -- data


@functools.lru_cache(None)
def bundled(name: str, **options: Any) -> Dataset:
    return derin.data.load(name, test=0, valid=0.25, **options)


@functools.lru_cache(None)
def table(
    name: str, file: str, target: str | int, rows: int = 2000, task: str | None = None, **options: Any
) -> Dataset:
    """A set of shared/data; its first rows, each once: a fifth of wine_quality are copies."""
    import polars

    frame = polars.read_csv(SHARED / "tabular" / name / file, n_rows=rows, **options).unique(maintain_order=True)
    target = frame.columns[target] if isinstance(target, int) else target
    return derin.data.load(frame, target=target, test=0, valid=0.25, task=task)


@functools.lru_cache(None)
def made(kind: str, n: int = 800, d: int = 10, seed: int = 0, noise: float = 0.0) -> Dataset:
    """Generated rows with an answer of a known shape."""
    r = np.random.default_rng(seed)
    x = r.normal(size=(n, d)).astype("float32")
    if kind == "linear":
        y: Any = x @ np.linspace(1, 2, d)
        y = y + noise * y.std() * r.normal(size=n)
    elif kind == "wave":
        y = np.sin(2 * x[:, 0]) + x[:, 1] ** 2 + noise * r.normal(size=n)
    elif kind == "product":  # two classes
        y = (x[:, 0] * x[:, 1] + noise * r.normal(size=n) > 0).astype(int)
    elif kind == "parity":
        y = ((x[:, :3] > 0).sum(1) % 2).astype(int)
    elif kind == "rings":
        radius = np.sqrt((x[:, :2] ** 2).sum(1))
        y = np.digitize(radius, [0.8, 1.5])
    elif kind == "blobs":
        centres = r.normal(size=(4, d)) * 2
        y = r.integers(0, 4, n)
        x = (x + centres[y]).astype("float32")
    elif kind == "halves":
        y = (x @ np.linspace(1, 2, d) + noise * r.normal(size=n) > 0).astype(int)
    else:
        raise ValueError(kind)
    return derin.data.load((x, y), test=0, valid=0.25)


def changed(data: Dataset, train: Part | None = None, valid: Part | None = None) -> Dataset:
    return Dataset(data.schema, train or data.train, valid or data.valid)


def fit(net: Any, data: Dataset, **fields: Any) -> Any:
    """A run with the course's usual choices; where training fails, the run that failed."""
    given = {"optimizer": optim.Adam(3e-3), "epochs": 25, "batch_size": 32} | fields
    try:
        return derin.fit(net, data, progress=False, **given)
    except derin.TrainingFailed as error:
        return error.run


def mlp(data: Dataset, *widths: int, **fields: Any) -> nn.Module:
    return nn.MLP(widths or (32,), sum(t.width for t in data.schema.targets), **fields)


def out(data: Dataset) -> int:
    return sum(t.width for t in data.schema.targets)


# -- healthy ones


@case(HEALTHY)
def healthy_digits() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 64), data, optimizer=optim.Adam(3e-3), epochs=15)


@case(HEALTHY)
def healthy_breast_cancer() -> Any:
    data = bundled("breast_cancer")
    return fit(mlp(data, 32), data, epochs=15, optimizer=optim.Adam(1e-3), batch_size=16)


@case(HEALTHY)
def healthy_wine() -> Any:
    data = bundled("wine")
    return fit(mlp(data, 16), data, epochs=40, batch_size=16)


@case(HEALTHY)
def healthy_iris() -> Any:
    data = bundled("iris")
    return fit(mlp(data, 16), data, epochs=60, batch_size=16, optimizer=optim.Adam(1e-2))


@case(HEALTHY)
def healthy_line() -> Any:
    data = made("linear", noise=0.1)
    return fit(nn.Linear(1), data, optimizer=optim.SGD(0.05), epochs=30)


@case(HEALTHY)
def healthy_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(mlp(data, 64, 64), data, epochs=40)


@case(HEALTHY)
def healthy_diabetes() -> Any:
    data = bundled("diabetes")
    return fit(nn.Linear(1), data, optimizer=optim.Adam(1e-2), epochs=60)


@case(HEALTHY)
def healthy_rings() -> Any:
    data = made("rings", 1200, 4)
    return fit(mlp(data, 32, 32), data, epochs=40)


@case(HEALTHY)
def healthy_batchnorm() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 32, norm=True), data, epochs=15, optimizer=optim.Adam(2e-3))


@case(HEALTHY)
def healthy_dropout() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 128, dropout=0.3), data, epochs=25)


@case(HEALTHY)
def healthy_blobs_sgd() -> Any:
    data = made("blobs", 1000, 5)
    return fit(mlp(data, 16), data, optimizer=optim.SGD(0.1), epochs=30)


@case(HEALTHY)
def healthy_halves_noisy() -> Any:
    data = made("halves", 1200, 5, noise=2.0)
    return fit(nn.Linear(1), data, optimizer=optim.Adam(1e-2), epochs=30)


@case(HEALTHY)
def healthy_tanh() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 48, activation="tanh"), data, epochs=20, optimizer=optim.SGD(0.2))


@case(HEALTHY)
def healthy_abalone() -> Any:
    data = table("abalone", "abalone.csv", -1, has_header=False)
    return fit(mlp(data, 16), data, epochs=25, optimizer=optim.Adam(3e-3))


@case(HEALTHY)
def healthy_titanic() -> Any:
    data = table("titanic", "train.csv", "Survived")
    stopping = derin.EarlyStopping(8)
    return fit(mlp(data, 16), data, epochs=40, optimizer=optim.AdamW(3e-3), early_stopping=stopping)


@case(HEALTHY)
def healthy_stopped_early() -> Any:
    data = bundled("breast_cancer", seed=1)
    return fit(mlp(data, 32), data, epochs=80, early_stopping=derin.EarlyStopping(5))


@case(HEALTHY)
def healthy_wine_quality() -> Any:
    data = table("wine_quality", "winequality-white.csv", -1, task="number", has_header=False)
    return fit(nn.MLP((16,), out(data)), data, epochs=25, optimizer=optim.Adam(3e-3), batch_size=64)


@case(HEALTHY)
def healthy_product() -> Any:
    data = made("product", 1500, 4)
    return fit(mlp(data, 64), data, epochs=40, optimizer=optim.Adam(5e-3))


# -- bias and variance


@case("high bias")
def bias_line_on_rings() -> Any:
    data = made("rings", 1200, 4)
    return fit(nn.Linear(3), data, optimizer=optim.Adam(1e-2), epochs=40)


@case("high bias")
def bias_line_on_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(nn.Linear(1), data, optimizer=optim.Adam(1e-2), epochs=40)


@case("high bias")
def bias_one_unit_on_digits() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 1), data, optimizer=optim.Adam(1e-2), epochs=60)


@case("high bias")
def bias_by_strong_l2() -> Any:
    data = made("rings", 1200, 4)
    return fit(mlp(data, 32), data, optimizer=optim.AdamW(1e-2, weight_decay=8.0), epochs=40)


@case("high variance")
def variance_few_rows_of_diabetes() -> Any:
    data = bundled("diabetes")
    few = derin.data.dataset.take(data.train, np.arange(120))
    return fit(mlp(data, 64, 64), changed(data, few), epochs=40, optimizer=optim.Adam(3e-3))


@case("high variance")
def variance_few_wide_rows() -> Any:
    data = made("halves", 160, 60, noise=4.0)
    return fit(mlp(data, 128), data, epochs=30)


@case("high variance")
def variance_few_products() -> Any:
    data = made("product", 160, 10, seed=3)
    return fit(mlp(data, 64, 64), data, epochs=40)


@case("high variance")
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


@case("high bias and high variance")
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


@case("learning rate too high")
def rate_high_sgd_on_line() -> Any:
    data = made("linear", noise=0.1)
    return fit(nn.Linear(1), data, optimizer=optim.SGD(5.0), epochs=15)


@case("learning rate too high")
def rate_high_sgd_on_blobs() -> Any:
    data = made("blobs", 1000, 5)
    return fit(mlp(data, 16, activation="tanh"), data, optimizer=optim.SGD(20.0), epochs=20)


@case("learning rate too high")
def rate_high_adam_on_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(mlp(data, 64), data, optimizer=optim.Adam(0.3), epochs=20)


@case("learning rate too low")
def rate_low_sgd_on_digits() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 64), data, optimizer=optim.SGD(1e-4), epochs=25)


@case("learning rate too low")
def rate_low_adam_on_wine() -> Any:
    data = bundled("wine")
    return fit(mlp(data, 16), data, optimizer=optim.Adam(1e-5), epochs=40, batch_size=16)


@case("learning rate too low")
def rate_low_adam_on_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(mlp(data, 64, 64), data, optimizer=optim.Adam(3e-6), epochs=30)


@case("learning rate too low")
def rate_low_sgd_on_blobs() -> Any:
    data = made("blobs", 1000, 5)
    return fit(mlp(data, 16), data, optimizer=optim.SGD(2e-4), epochs=30)


@case("trained too short")
def short_digits() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 64), data, optimizer=optim.SGD(0.03), epochs=3)


@case("trained too short")
def short_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(mlp(data, 64, 64), data, optimizer=optim.Adam(1e-3), epochs=3)


@case("trained too short")
def short_rings() -> Any:
    data = made("rings", 1200, 4)
    return fit(mlp(data, 32, 32), data, optimizer=optim.Adam(1e-3), epochs=4)


@case("trained too short")
def short_wine() -> Any:
    data = bundled("wine")
    return fit(mlp(data, 16), data, optimizer=optim.Adam(1e-3), epochs=5, batch_size=16)


@case("overtrained")
def over_noisy_halves() -> Any:
    data = made("halves", 500, 10, noise=3.0)
    return fit(mlp(data, 128), data, epochs=150, optimizer=optim.Adam(3e-3))


@case("overtrained")
def over_noisy_line() -> Any:
    data = made("linear", 400, 10, noise=0.6)
    return fit(mlp(data, 64, 64), data, epochs=150, optimizer=optim.Adam(2e-3))


@case("overtrained")
def over_diabetes() -> Any:
    data = bundled("diabetes")
    return fit(mlp(data, 64, 64), data, epochs=120, optimizer=optim.Adam(2e-3))


@case("overtrained")
def over_titanic() -> Any:
    data = table("titanic", "train.csv", "Survived")
    return fit(mlp(data, 128, 64), data, epochs=120, optimizer=optim.Adam(2e-3))


@case("plateau or saddle")
def plateau_parity() -> Any:
    data = made("parity", 1200, 3)
    return fit(mlp(data, 16, 16, activation="tanh"), data, optimizer=optim.SGD(0.02), epochs=40)


@case("plateau or saddle")
def plateau_product() -> Any:
    data = made("product", 1200, 2, seed=2)
    return fit(mlp(data, 8, 8, activation="tanh"), data, optimizer=optim.SGD(0.02), epochs=30)


@case("batch too small")
def batch_of_one_digits() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 32), data, batch_size=1, optimizer=optim.SGD(0.1), epochs=5)


@case("batch too small")
def batch_of_one_diabetes() -> Any:
    data = bundled("diabetes")
    return fit(mlp(data, 16), data, batch_size=1, optimizer=optim.SGD(0.05), epochs=15)


@case("batch too small")
def batch_of_two_wave() -> Any:
    data = made("wave", 1000, 3, noise=0.3)
    return fit(mlp(data, 16), data, batch_size=2, optimizer=optim.Adam(2e-2), epochs=10)


@case("batch too small")
def batch_of_one_halves() -> Any:
    data = made("halves", 800, 5, noise=1.0)
    return fit(mlp(data, 16), data, batch_size=1, optimizer=optim.Adam(1e-2), epochs=10)


@case("batch too large")
def batch_full_digits() -> Any:
    data = bundled("digits")
    return fit(mlp(data, 64), data, batch_size="full", optimizer=optim.SGD(0.1), epochs=25)


@case("batch too large")
def batch_full_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(mlp(data, 64, 64), data, batch_size="full", optimizer=optim.Adam(1e-3), epochs=25)


@case("batch too large")
def batch_of_half_rings() -> Any:
    data = made("rings", 1200, 4)
    return fit(mlp(data, 32, 32), data, batch_size=450, optimizer=optim.Adam(1e-3), epochs=20)


@case("batch too large")
def batch_full_blobs() -> Any:
    data = made("blobs", 1000, 5)
    return fit(mlp(data, 16), data, batch_size="full", optimizer=optim.SGD(0.03), epochs=30)


# -- gradients, units, first weights


def tower(depth: int, width: int, outputs: int, layer: Any, act: Any) -> nn.Module:
    parts: list[Any] = []
    for _ in range(depth):
        parts += [layer(width), act()]
    return nn.Sequential(*parts, nn.Linear(outputs))


def normal(std: float) -> Any:
    return lambda width: nn.Linear(width, weight_init=nn.init.Normal(std))


@case("vanishing gradients")
def vanishing_sigmoid_digits() -> Any:
    data = bundled("digits")
    return fit(tower(8, 24, 10, nn.Linear, nn.Sigmoid), data, optimizer=optim.SGD(0.1), epochs=12)


@case("vanishing gradients")
def vanishing_sigmoid_blobs() -> Any:
    data = made("blobs", 1000, 5)
    return fit(tower(6, 16, 4, nn.Linear, nn.Sigmoid), data, optimizer=optim.SGD(0.1), epochs=15)


@case("vanishing gradients")
def vanishing_tanh_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(tower(12, 16, 1, nn.Linear, nn.Tanh), data, optimizer=optim.SGD(0.05), epochs=12)


@case("vanishing gradients")
def vanishing_relu_rings() -> Any:
    data = made("rings", 1200, 4)
    return fit(tower(14, 16, 3, nn.Linear, nn.ReLU), data, optimizer=optim.SGD(0.05), epochs=12)


@case("exploding gradients")
def exploding_relu_digits() -> Any:
    data = bundled("digits")
    return fit(tower(8, 32, 10, normal(0.6), nn.ReLU), data, optimizer=optim.SGD(1e-3), epochs=12)


@case("exploding gradients")
def exploding_relu_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(tower(8, 32, 1, normal(0.5), nn.ReLU), data, optimizer=optim.SGD(1e-3), epochs=12)


@case("exploding gradients")
def exploding_linear_blobs() -> Any:
    data = made("blobs", 1000, 5)
    return fit(tower(10, 24, 4, normal(0.5), nn.LeakyReLU), data, optimizer=optim.SGD(1e-2), epochs=12)


@case("exploding gradients")
def exploding_relu_halves() -> Any:
    data = made("halves", 800, 10)
    return fit(tower(9, 32, 1, normal(0.5), nn.ReLU), data, optimizer=optim.Adam(1e-3), epochs=12)


def low(bias: float) -> Any:
    return lambda width: nn.Linear(width, bias_init=nn.init.Full(bias))


@case("dead ReLUs")
def dead_digits() -> Any:
    data = bundled("digits")
    return fit(tower(1, 48, 10, low(-4.0), nn.ReLU), data, epochs=12)


@case("dead ReLUs")
def dead_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(tower(2, 32, 1, low(-3.0), nn.ReLU), data, epochs=15)


@case("dead ReLUs")
def dead_blobs_second_layer() -> Any:
    data = made("blobs", 1000, 5)
    net = nn.Sequential(nn.Linear(16), nn.ReLU(), low(-5.0)(16), nn.ReLU(), nn.Linear(4))
    return fit(net, data, epochs=15)


@case("dead ReLUs")
def dead_rings() -> Any:
    data = made("rings", 1200, 4)
    return fit(tower(1, 32, 3, low(-6.0), nn.ReLU), data, epochs=15, optimizer=optim.SGD(0.1))


@case("saturated units")
def saturated_tanh_digits() -> Any:
    data = bundled("digits")
    return fit(tower(1, 32, 10, normal(3.0), nn.Tanh), data, epochs=12, optimizer=optim.SGD(0.05))


@case("saturated units")
def saturated_sigmoid_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(tower(2, 32, 1, normal(8.0), nn.Sigmoid), data, epochs=15, optimizer=optim.SGD(0.05))


@case("saturated units")
def saturated_tanh_rings() -> Any:
    data = made("rings", 1200, 4)
    return fit(tower(2, 32, 3, normal(6.0), nn.Tanh), data, epochs=15)


@case("saturated units")
def saturated_sigmoid_blobs() -> Any:
    data = made("blobs", 1000, 5)
    return fit(tower(1, 16, 4, normal(10.0), nn.Sigmoid), data, epochs=15)


@case("poor initialisation")
def init_zero_digits() -> Any:
    data = bundled("digits")
    zero = lambda width: nn.Linear(width, weight_init=nn.init.Full(0.0), bias_init=nn.init.Full(0.0))  # noqa: E731
    return fit(nn.Sequential(zero(32), nn.ReLU(), zero(10)), data, epochs=12)


@case("poor initialisation")
def init_all_the_same_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    same = lambda width: nn.Linear(width, weight_init=nn.init.Full(0.2), bias_init=nn.init.Full(0.0))  # noqa: E731
    return fit(nn.Sequential(same(32), nn.Tanh(), same(1)), data, epochs=15)


@case("poor initialisation")
def init_huge_digits() -> Any:
    data = bundled("digits")
    return fit(nn.Sequential(normal(8.0)(32), nn.ReLU(), normal(8.0)(10)), data, epochs=12)


@case("poor initialisation")
def init_tiny_rings() -> Any:
    data = made("rings", 1200, 4)
    tiny = normal(1e-5)
    net = nn.Sequential(tiny(32), nn.ReLU(), tiny(32), nn.ReLU(), tiny(3))
    return fit(net, data, epochs=12, optimizer=optim.SGD(0.05))


@case("unnormalised inputs")
def raw_digits() -> Any:
    data = bundled("digits")
    raw = [p._replace(x=(p.x * 50 + 400).astype("float32")) for p in (data.train, data.valid)]
    return fit(mlp(data, 32), changed(data, *raw), epochs=12)


@case("unnormalised inputs")
def raw_blobs_far_away() -> Any:
    data = made("blobs", 1000, 5)
    raw = [p._replace(x=(p.x + 200).astype("float32")) for p in (data.train, data.valid)]
    return fit(mlp(data, 16), changed(data, *raw), epochs=15, optimizer=optim.SGD(0.01))


@case("unnormalised inputs")
def raw_wave_of_unequal_scales() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    scales = np.array([1.0, 1.0, 3000.0], "float32")
    raw = [p._replace(x=p.x * scales) for p in (data.train, data.valid)]
    return fit(mlp(data, 64), changed(data, *raw), epochs=20)


@case("unnormalised inputs")
def raw_tanh_breast_cancer() -> Any:
    data = bundled("breast_cancer")
    raw = [p._replace(x=(p.x * 100).astype("float32")) for p in (data.train, data.valid)]
    return fit(mlp(data, 32, activation="tanh"), changed(data, *raw), epochs=15)


def far_off(width: int, std: float) -> nn.Module:
    """A layer whose outputs have neither mean 0 nor deviation 1: BatchNorm has to learn their statistics."""
    return nn.Linear(width, weight_init=nn.init.Normal(std), bias_init=nn.init.Full(3.0))


@case("misleading BatchNorm statistics")
def batchnorm_hardly_moves() -> Any:
    data = made("linear", noise=0.1)
    net = nn.Sequential(far_off(32, 1.0), nn.BatchNorm(momentum=1e-4), nn.ReLU(), nn.Linear(1))
    return fit(net, data, epochs=20)


@case("misleading BatchNorm statistics")
def batchnorm_hardly_moves_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    net = nn.Sequential(
        far_off(32, 2.0), nn.BatchNorm(momentum=1e-4), nn.ReLU(), nn.Linear(32), nn.ReLU(), nn.Linear(1)
    )
    return fit(net, data, epochs=15)


@case("misleading BatchNorm statistics")
def batchnorm_hardly_moves_quality() -> Any:
    data = table("wine_quality", "winequality-white.csv", -1, task="number", has_header=False)
    net = nn.Sequential(far_off(32, 1.0), nn.BatchNorm(momentum=1e-4), nn.ReLU(), nn.Linear(out(data)))
    return fit(net, data, epochs=15)


@case("misleading BatchNorm statistics")
def batchnorm_hardly_moves_diabetes() -> Any:
    data = bundled("diabetes")
    net = nn.Sequential(far_off(16, 1.0), nn.BatchNorm(momentum=1e-4), nn.Tanh(), nn.Linear(1))
    return fit(net, data, epochs=15, optimizer=optim.SGD(0.05))


@case("unfitting output layer")
def ends_in_softmax() -> Any:
    data = bundled("digits")
    return fit(nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Linear(10), nn.Softmax()), data, epochs=15)


@case("unfitting output layer")
def ends_in_sigmoid_for_a_number() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(nn.Sequential(nn.Linear(64), nn.ReLU(), nn.Linear(1), nn.Sigmoid()), data, epochs=25)


@case("unfitting output layer")
def ends_in_relu_for_a_number() -> Any:
    data = made("linear", noise=0.1)
    return fit(nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Linear(1), nn.ReLU()), data, epochs=25)


@case("unfitting output layer")
def ends_in_sigmoid_before_logits() -> Any:
    data = made("halves", 800, 10)
    return fit(nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Linear(1), nn.Sigmoid()), data, epochs=25)


# -- the rows


def rare(n: int, share: float, seed: int, noise: float = 2.0) -> Dataset:
    """Two classes that overlap, one of them rare."""
    r = np.random.default_rng(seed)
    y = (r.random(n) < share).astype(int)
    x = r.normal(size=(n, 6)) + y[:, None] * np.array([1.0, 1.0, 0.5, 0, 0, 0]) * (2.0 / noise)
    return derin.data.load((x.astype("float32"), y), test=0, valid=0.3)


@case("class imbalance ignored")
def imbalance_generated() -> Any:
    data = rare(2000, 0.06, 0)
    return fit(mlp(data, 16), data, epochs=12, optimizer=optim.Adam(1e-3))


@case("class imbalance ignored")
def imbalance_generated_rarer() -> Any:
    data = rare(3000, 0.04, 1)
    return fit(mlp(data, 16), data, epochs=12, optimizer=optim.Adam(1e-3))


@case("class imbalance ignored")
def imbalance_bank() -> Any:
    data = table("bank_marketing", "bank-additional.csv", "y", separator=";")
    return fit(nn.Linear(1), data, epochs=15, optimizer=optim.Adam(3e-3))


@case("class imbalance ignored")
def imbalance_three_classes() -> Any:
    r = np.random.default_rng(4)
    y = r.choice(3, 2500, p=[0.6, 0.36, 0.04])
    x = r.normal(size=(2500, 5)) + np.array([[0, 0, 0, 0, 0], [2, 0, 0, 0, 0], [1, 1.2, 0, 0, 0]])[y]
    data = derin.data.load((x.astype("float32"), y), test=0, valid=0.3)
    return fit(mlp(data, 16), data, epochs=12, optimizer=optim.Adam(2e-3))


def shuffled(data: Dataset, seed: int = 0) -> Dataset:
    r = np.random.default_rng(seed)
    parts = [p._replace(y=r.permutation(p.y)) for p in (data.train, data.valid)]
    return changed(data, *parts)


@case("shuffled labels")
def shuffled_digits() -> Any:
    data = shuffled(bundled("digits"))
    return fit(mlp(data, 64), data, epochs=25)


@case("shuffled labels")
def shuffled_breast_cancer() -> Any:
    data = shuffled(bundled("breast_cancer"))
    return fit(mlp(data, 32), data, epochs=25)


@case("shuffled labels")
def shuffled_line() -> Any:
    data = shuffled(made("linear", noise=0.1))
    return fit(mlp(data, 32), data, epochs=25)


@case("shuffled labels")
def shuffled_training_labels_only() -> Any:
    data = made("blobs", 1000, 5)
    train = data.train._replace(y=np.random.default_rng(7).permutation(data.train.y))
    return fit(mlp(data, 32), changed(data, train), epochs=25)


def leaking(x: np.ndarray, y: np.ndarray, noise: float, seed: int = 0) -> Dataset:
    """A last column that is the answer, nearly."""
    r = np.random.default_rng(seed)
    column = y * 1.0 + noise * np.std(y) * r.normal(size=len(y))
    x = np.concatenate([x, column[:, None]], 1).astype("float32")
    return derin.data.load((x, y), test=0, valid=0.25)


@case("target leak")
def leak_diabetes() -> Any:
    from sklearn.datasets import load_diabetes

    data = leaking(*load_diabetes(return_X_y=True), 0.02)
    return fit(mlp(data, 32), data, epochs=40)


@case("target leak")
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


@case("target leak")
def leak_wave() -> Any:
    r = np.random.default_rng(8)
    x = r.normal(size=(1200, 4))
    data = leaking(x, np.sin(2 * x[:, 0]) + r.normal(size=1200), 0.01)
    return fit(mlp(data, 32), data, epochs=30)


@case("different distributions")
def drift_rings_moved() -> Any:
    data = made("rings", 1200, 4)
    return fit(mlp(data, 32, 32), changed(data, None, data.valid._replace(x=data.valid.x + np.float32(0.9))), epochs=30)


@case("different distributions")
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


@case("different distributions")
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


def repeated(data: Dataset, share: float, seed: int = 0) -> Dataset:
    """So much of the validation rows stands in training as well."""
    r = np.random.default_rng(seed)
    count = int(share * len(data.valid.x))
    at, to = r.permutation(len(data.valid.x))[:count], r.permutation(len(data.train.x))[:count]
    x, y = data.train.x.copy(), data.train.y.copy()
    x[to], y[to] = data.valid.x[at], data.valid.y[at]
    return changed(data, data.train._replace(x=x, y=y))


@case("duplicated rows")
def duplicates_diabetes() -> Any:
    data = repeated(bundled("diabetes"), 0.6)
    return fit(mlp(data, 64, 64), data, epochs=60)


@case("duplicated rows")
def duplicates_noisy_halves() -> Any:
    data = repeated(made("halves", 800, 10, noise=3.0), 0.5)
    return fit(mlp(data, 64), data, epochs=40)


@case("duplicated rows")
def duplicates_digits() -> Any:
    data = repeated(bundled("digits"), 0.3)
    return fit(mlp(data, 64), data, epochs=20)


@case("duplicated rows")
def duplicates_wave() -> Any:
    data = repeated(made("wave", 1000, 6, noise=0.5), 0.4)
    return fit(mlp(data, 32), data, epochs=30)


# -- written after both halves had been looked at


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


@case(HEALTHY)
def fresh_healthy_blobs() -> Any:
    data = digits_like()
    return fit(mlp(data, 24), data, epochs=15)


@case(HEALTHY)
def fresh_healthy_bumps() -> Any:
    data = bumps()
    return fit(mlp(data, 48, 24), data, epochs=40, batch_size=64, optimizer=optim.Adam(5e-3))


@case(HEALTHY)
def fresh_healthy_pima() -> Any:
    data = table("pima_diabetes", "pima-indians-diabetes.csv", -1, has_header=False)
    return fit(mlp(data, 8), data, epochs=40, early_stopping=derin.EarlyStopping(6), optimizer=optim.Adam(3e-3))


@case(HEALTHY)
def fresh_healthy_housing() -> Any:
    data = table("california_housing", "housing.csv", "median_house_value", rows=3000)
    return fit(mlp(data, 24), data, epochs=25, optimizer=optim.Adam(3e-3))


@case("high bias")
def fresh_bias() -> Any:
    data = bumps()
    return fit(nn.Linear(1), data, optimizer=optim.Adam(1e-2), epochs=30)


@case("high variance")
def fresh_variance() -> Any:
    data = digits_like(200, 40, 4, seed=5)
    return fit(mlp(data, 96, 48), data, epochs=30)


@case("high bias and high variance")
def fresh_both() -> Any:
    data = bumps(700, 30)
    few = derin.data.dataset.take(data.train, np.arange(70))
    return fit(nn.Linear(1), changed(data, few), optimizer=optim.Adam(2e-2), epochs=60)


@case("learning rate too high")
def fresh_rate_high() -> Any:
    data = digits_like()
    return fit(mlp(data, 24), data, optimizer=optim.Adam(1.0), epochs=15)


@case("learning rate too low")
def fresh_rate_low() -> Any:
    data = bumps()
    return fit(mlp(data, 48, 24), data, optimizer=optim.Adam(5e-6), epochs=25)


@case("trained too short")
def fresh_short() -> Any:
    data = bumps()
    return fit(mlp(data, 48, 24), data, epochs=3, optimizer=optim.Adam(1e-3))


@case("overtrained")
def fresh_over() -> Any:
    data = table("pima_diabetes", "pima-indians-diabetes.csv", -1, has_header=False)
    return fit(mlp(data, 96, 48), data, epochs=100, optimizer=optim.Adam(2e-3))


@case("plateau or saddle")
def fresh_plateau() -> Any:
    data = made("parity", 1200, 4, seed=9)
    return fit(mlp(data, 12, activation="tanh"), data, optimizer=optim.SGD(0.01), epochs=30)


@case("batch too small")
def fresh_batch_small() -> Any:
    data = bumps(900)
    return fit(mlp(data, 24), data, batch_size=1, optimizer=optim.SGD(0.1), epochs=8)


@case("batch too large")
def fresh_batch_large() -> Any:
    data = digits_like()
    return fit(mlp(data, 24), data, batch_size="full", optimizer=optim.Adam(1e-3), epochs=25)


@case("vanishing gradients")
def fresh_vanishing() -> Any:
    data = digits_like()
    return fit(tower(7, 20, 5, nn.Linear, nn.Sigmoid), data, optimizer=optim.SGD(0.2), epochs=12)


@case("exploding gradients")
def fresh_exploding() -> Any:
    data = bumps()
    return fit(tower(7, 24, 1, normal(0.7), nn.ReLU), data, optimizer=optim.Adam(1e-3), epochs=12)


@case("dead ReLUs")
def fresh_dead() -> Any:
    data = digits_like()
    return fit(tower(2, 24, 5, low(-4.5), nn.ReLU), data, epochs=12)


@case("saturated units")
def fresh_saturated() -> Any:
    data = bumps()
    return fit(tower(2, 24, 1, normal(5.0), nn.Tanh), data, epochs=15, optimizer=optim.SGD(0.02))


@case("poor initialisation")
def fresh_init() -> Any:
    data = digits_like()
    zero = lambda width: nn.Linear(width, weight_init=nn.init.Full(0.0), bias_init=nn.init.Full(0.0))  # noqa: E731
    return fit(nn.Sequential(zero(24), nn.Tanh(), zero(5)), data, epochs=12, optimizer=optim.SGD(0.1))


@case("unnormalised inputs")
def fresh_raw() -> Any:
    data = bumps()
    raw = [p._replace(x=(p.x * 40 + 1000).astype("float32")) for p in (data.train, data.valid)]
    return fit(mlp(data, 32), changed(data, *raw), epochs=15)


@case("misleading BatchNorm statistics")
def fresh_batchnorm() -> Any:
    data = bumps()
    net = nn.Sequential(far_off(24, 2.0), nn.BatchNorm(momentum=5e-5), nn.ReLU(), nn.Linear(1))
    return fit(net, data, epochs=15)


@case("unfitting output layer")
def fresh_ends_in_tanh() -> Any:
    data = bumps()
    return fit(nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Linear(1), nn.Tanh()), data, epochs=20)


@case("class imbalance ignored")
def fresh_imbalance() -> Any:
    data = rare(2500, 0.08, 21, noise=2.5)
    return fit(mlp(data, 12), data, epochs=15, optimizer=optim.Adam(1e-3))


@case("shuffled labels")
def fresh_shuffled() -> Any:
    data = shuffled(bumps(), 3)
    return fit(mlp(data, 32), data, epochs=20)


@case("target leak")
def fresh_leak() -> Any:
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    r = np.random.default_rng(5)
    data = leaking(r.normal(size=(len(x), 10)) + x[:, :10] / x[:, :10].std(0), y, 0.1, seed=6)
    return fit(mlp(data, 16), data, epochs=25)


@case("different distributions")
def fresh_drift() -> Any:
    data = digits_like()
    turned = data.valid.x[:, ::-1].copy() * np.float32(1.3)
    return fit(mlp(data, 24), changed(data, None, data.valid._replace(x=turned)), epochs=15)


@case("duplicated rows")
def fresh_duplicates() -> Any:
    data = repeated(bumps(900, 5, noise=2.0), 0.4, seed=4)
    return fit(mlp(data, 64), data, epochs=40)
