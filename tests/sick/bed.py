"""What a case of the test bed is made of: its name and cause, data, nets, and ways to make rows or nets sick."""

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
SETS = {
    "written": "while the rules were written",
    "held out": "held out, then learned from",
    "fresh": "written after that",
    "unseen": "by another hand, then learned from",
    "strangers": "by a third hand, then learned from",
}


class Case(NamedTuple):
    name: str
    cause: str
    train: Callable[[], Any]
    set: str  # one of SETS


CASES: list[Case] = []


def case(cause: str, set: str = "written") -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register a case of this cause in this set."""

    def register(function: Callable[[], Any]) -> Callable[[], Any]:
        CASES.append(Case(function.__name__, cause, function, set))
        return function

    return register


# -- data, nets, and what makes them sick


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


def tower(depth: int, width: int, outputs: int, layer: Any, act: Any) -> nn.Module:
    parts: list[Any] = []
    for _ in range(depth):
        parts += [layer(width), act()]
    return nn.Sequential(*parts, nn.Linear(outputs))


def normal(std: float) -> Any:
    return lambda width: nn.Linear(width, weight_init=nn.init.Normal(std))


def low(bias: float) -> Any:
    return lambda width: nn.Linear(width, bias_init=nn.init.Full(bias))


def far_off(width: int, std: float) -> nn.Module:
    """A layer whose outputs have neither mean 0 nor deviation 1: BatchNorm has to learn their statistics."""
    return nn.Linear(width, weight_init=nn.init.Normal(std), bias_init=nn.init.Full(3.0))


def rare(n: int, share: float, seed: int, noise: float = 2.0) -> Dataset:
    """Two classes that overlap, one of them rare."""
    r = np.random.default_rng(seed)
    y = (r.random(n) < share).astype(int)
    x = r.normal(size=(n, 6)) + y[:, None] * np.array([1.0, 1.0, 0.5, 0, 0, 0]) * (2.0 / noise)
    return derin.data.load((x.astype("float32"), y), test=0, valid=0.3)


def shuffled(data: Dataset, seed: int = 0) -> Dataset:
    r = np.random.default_rng(seed)
    parts = [p._replace(y=r.permutation(p.y)) for p in (data.train, data.valid)]
    return changed(data, *parts)


def leaking(x: np.ndarray, y: np.ndarray, noise: float, seed: int = 0) -> Dataset:
    """A last column that is the answer, nearly."""
    r = np.random.default_rng(seed)
    column = y * 1.0 + noise * np.std(y) * r.normal(size=len(y))
    x = np.concatenate([x, column[:, None]], 1).astype("float32")
    return derin.data.load((x, y), test=0, valid=0.25)


def repeated(data: Dataset, share: float, seed: int = 0) -> Dataset:
    """So much of the validation rows stands in training as well."""
    r = np.random.default_rng(seed)
    count = int(share * len(data.valid.x))
    at, to = r.permutation(len(data.valid.x))[:count], r.permutation(len(data.train.x))[:count]
    x, y = data.train.x.copy(), data.train.y.copy()
    x[to], y[to] = data.valid.x[at], data.valid.y[at]
    return changed(data, data.train._replace(x=x, y=y))
