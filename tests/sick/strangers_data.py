"""What the strangers learn from: sets and cuts that the bed has nowhere else; those who want fewer rows say `train`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from bed import SHARED

import derin
from derin.data import Dataset


def load(x: Any, y: Any, train: int | None = None, seed: int = 1, **options: Any) -> Dataset:
    """A third of the rows validates; of the others, the first `train` learn."""
    order = np.random.default_rng(seed).permutation(len(x))
    valid, rest = order[: len(x) // 3], order[len(x) // 3 :]
    return derin.data.load((x, y), indices=(rest[:train], valid, []), **options)


def numbers(x: Any) -> np.ndarray:
    return np.asarray(x, "float32")


# -- tables


def impedance_as_arrays(n: int = 1500, noise: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    """A circuit's impedance out of resistance, frequency, inductance and capacity: make_friedman2.   [n, 4], [n]"""
    from sklearn.datasets import make_friedman2

    x, y = make_friedman2(n, noise=noise, random_state=11)
    return numbers(x), numbers(y)


def impedance(n: int = 1500, train: int | None = None, noise: float = 20.0) -> Dataset:
    return load(*impedance_as_arrays(n, noise), train)


def phase(n: int = 1800, train: int | None = None, idle: int = 0) -> Dataset:
    """The phase of the same circuit, make_friedman3, with so many columns beside it that say nothing."""
    from sklearn.datasets import make_friedman3

    x, y = make_friedman3(n, noise=0.05, random_state=12)
    x = np.concatenate([x, np.random.default_rng(12).normal(size=(n, idle))], 1)
    return load(numbers(x), numbers(y), train)


def hastie(n: int = 3000, train: int | None = None) -> Dataset:
    """Ten columns, and whether their squares' sum is above its median: make_hastie_10_2."""
    from sklearn.datasets import make_hastie_10_2

    x, y = make_hastie_10_2(n, random_state=14)
    return load(numbers(x), (y > 0).astype(int), train)


def spirals(n: int = 900, noise: float = 0.06, train: int | None = None, idle: int = 0) -> Dataset:
    """Three arms that wind around each other, and so many columns that say nothing."""
    r = np.random.default_rng(15)
    arm, along = r.integers(0, 3, n), r.uniform(0.15, 1, n)
    angle = 2 * np.pi * arm / 3 + 4 * along
    x = np.stack([along * np.cos(angle), along * np.sin(angle)], 1) + noise * r.normal(size=(n, 2))
    return load(numbers(np.concatenate([x, 0.5 * r.normal(size=(n, idle))], 1)), arm, train)


def throws(n: int = 1400, train: int | None = None) -> Dataset:
    """How far a ball flies that leaves a hand at a height, with a speed, under an angle; measured to half a metre."""
    r = np.random.default_rng(16)
    speed, angle, height = r.uniform(5, 30, n), r.uniform(0.1, 1.4, n), r.uniform(0, 3, n)
    up = speed * np.sin(angle)
    far = speed * np.cos(angle) * (up + np.sqrt(up**2 + 2 * 9.81 * height)) / 9.81
    return load(numbers(np.stack([speed, angle, height], 1)), numbers(far + 0.5 * r.normal(size=n)), train)


@functools.lru_cache(None)
def pima_as_arrays() -> tuple[np.ndarray, np.ndarray]:
    values = np.loadtxt(SHARED / "tabular" / "pima_diabetes" / "pima-indians-diabetes.csv", delimiter=",")
    return numbers(values[:, :-1]), values[:, -1].astype(int)


def pima(train: int | None = None) -> Dataset:
    """Every patient; "fresh" has them cut otherwise."""
    return load(*pima_as_arrays(), train)


@functools.lru_cache(None)
def shellfish() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Abalones: their seven measures, their rings, and their sex in three.   [4177, 7], [4177], [4177]"""
    values = np.loadtxt(SHARED / "tabular" / "abalone" / "abalone.csv", delimiter=",", dtype=str)
    return (
        numbers(values[:, 1:-1].astype(float)),
        values[:, -1].astype(int),
        np.searchsorted(["F", "I", "M"], values[:, 0]),
    )


def grown(n: int = 2400, train: int | None = None) -> Dataset:
    """Is an abalone grown up? Seven measures of it, two classes."""
    x, _, sex = shellfish()
    return load(x[:n], (sex[:n] != 1).astype(int), train)


@functools.lru_cache(None)
def blocks(every: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of houses in California: place, age, rooms, people, households, income; the logarithm of the price."""
    import polars

    names = ("longitude", "latitude", "housing_median_age", "total_rooms", "population", "households",
             "median_income", "median_house_value")  # fmt: skip
    values = (
        polars.read_csv(SHARED / "tabular" / "california_housing" / "housing.csv").select(names).to_numpy()[::every]
    )
    return numbers(values[:, :-1]), numbers(np.log(values[:, -1]))


def houses(every: int = 9, train: int | None = None) -> Dataset:
    return load(*blocks(every), train)


def tumours() -> Dataset:
    """Breast cancer by the ten columns that say "worst"."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return load(numbers(x[:, 20:]), y)


# -- images


def figures(n: int = 900, train: int | None = None) -> Dataset:
    """Discs, squares, crosses and rings of any size and place on a noisy ground.   [n, 12, 12, 1]"""
    x, y = figures_as_arrays(n)
    return load(x, y, train)


@functools.lru_cache(None)
def figures_as_arrays(n: int = 900, noise: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(17)
    y = r.integers(0, 4, n)
    row, column = np.mgrid[:12, :12]
    dy, dx = row - r.uniform(4, 7, n)[:, None, None], column - r.uniform(4, 7, n)[:, None, None]
    size = r.uniform(2.2, 4, n)[:, None, None]
    away = np.hypot(dx, dy)
    kinds = (
        away < size,
        np.maximum(abs(dx), abs(dy)) < 0.9 * size,
        (np.minimum(abs(dx), abs(dy)) < 0.8) & (np.maximum(abs(dx), abs(dy)) < size),
        (away < size) & (away > size - 1.4),
    )
    x = np.choose(y[:, None, None], kinds) + noise * r.normal(size=(n, 12, 12))
    return numbers(x)[..., None], y


def small_digits(train: int | None = None) -> Dataset:
    """scikit-learn's digits as images.   [1797, 8, 8, 1]"""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return load(numbers(x).reshape(-1, 8, 8, 1), y, train)


# -- series


def tones_as_arrays(n: int = 900, noise: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """A tone of one of four heights that begins anywhere.   [n, 24, 1], [n]"""
    r = np.random.default_rng(19)
    y = r.integers(0, 4, n)
    turns = np.array([1.5, 2.3, 3.1, 4.2])[y][:, None] * np.arange(24) / 24
    x = np.sin(2 * np.pi * (turns + r.random((n, 1)))) + noise * r.normal(size=(n, 24))
    return numbers(x)[..., None], y


def tones(n: int = 900, noise: float = 0.4, train: int | None = None) -> Dataset:
    return load(*tones_as_arrays(n, noise), train)


def springs(n: int = 1000, train: int | None = None, noise: float = 0.05) -> Dataset:
    """Where a damped spring will be two steps after the sixteen that are seen.   [n, 16, 1], [n]"""
    r = np.random.default_rng(20)
    t = np.arange(18)
    x = np.exp(-r.uniform(0, 0.08, (n, 1)) * t) * np.sin(r.uniform(0.3, 0.9, (n, 1)) * t + r.uniform(0, 6.3, (n, 1)))
    x = x + noise * r.normal(size=x.shape)
    return load(numbers(x[:, :16, None]), numbers(x[:, -1]), train)


# -- tokens


def votes_as_arrays(n: int = 1200, length: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Words of letters out of six: are there more of the first two than of the next two?   int [n, length], [n]"""
    r = np.random.default_rng(21)
    x = r.integers(0, 6, (3 * n, length)).astype("int32")
    more = (x < 2).sum(1) - ((x == 2) | (x == 3)).sum(1)
    kept = np.flatnonzero(more != 0)[:n]
    return x[kept], (more[kept] > 0).astype(int)


def votes(n: int = 1200, length: int = 12, train: int | None = None) -> Dataset:
    return load(*votes_as_arrays(n, length), train, kind="tokens")


def same_ends(n: int = 1200) -> Dataset:
    """Words of six letters out of eight: is the sum of the first two even?   int [n, 6], [n]"""
    x = np.random.default_rng(22).integers(0, 8, (n, 6)).astype("int32")
    return load(x, (x[:, 0] + x[:, 1]) % 2, kind="tokens")
