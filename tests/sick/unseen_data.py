"""Data of the unseen cases: none of it is in the other sets. Real tables, images, series and text, and made rows."""

from __future__ import annotations

import functools
import gzip
import tarfile
from collections.abc import Iterable
from typing import Any

import numpy as np
from bed import SHARED, table

import derin
from derin.data import Dataset


def load(x: np.ndarray, y: np.ndarray, train: int | None = None, seed: int = 0, **options: Any) -> Dataset:
    """A quarter of the rows validates, whatever `train`, the number of rows that learn, is (None: all the others)."""
    order = np.random.default_rng(seed).permutation(len(x))
    valid, rest = order[: len(x) // 4], order[len(x) // 4 :]
    return derin.data.load((x, y), indices=(rest[:train], valid, []), **options)


# -- made by scikit-learn


@functools.lru_cache(None)
def friedman(n: int = 1200, d: int = 8, noise: float = 0.7, train: int | None = None) -> Dataset:
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(n, n_features=d, noise=noise, random_state=1)
    return load(x.astype("float32"), y.astype("float32"), train)


@functools.lru_cache(None)
def moons(n: int = 800, noise: float = 0.2, train: int | None = None) -> Dataset:
    from sklearn.datasets import make_moons

    x, y = make_moons(n, noise=noise, random_state=2)
    return load(x.astype("float32"), y, train)


@functools.lru_cache(None)
def circles(n: int = 1000, d: int = 2, train: int | None = None) -> Dataset:
    """Two circles, one in the other; the columns after the second are noise."""
    from sklearn.datasets import make_circles

    x, y = make_circles(n, noise=0.08, factor=0.5, random_state=3)
    x = np.concatenate([x, 0.7 * np.random.default_rng(3).normal(size=(n, d - 2))], 1)
    return load(x.astype("float32"), y, train)


@functools.lru_cache(None)
def clusters(n: int, train: int | None = None, **options: Any) -> Dataset:
    from sklearn.datasets import make_classification

    x, y = make_classification(n, random_state=4, **options)
    return load(x.astype("float32"), y, train)


@functools.lru_cache(None)
def roll(n: int = 1000) -> Dataset:
    """A point in space, and where on the rolled sheet it lies."""
    from sklearn.datasets import make_swiss_roll

    x, t = make_swiss_roll(n, noise=0.3, random_state=5)
    return load(x.astype("float32"), t.astype("float32"))


# -- tables


def adult(rows: int = 2400) -> Dataset:
    return table("adult", "adult-train.csv", -1, rows=rows, has_header=False)


def credit() -> Dataset:
    return table("german_credit", "german.csv", -1, task="classes", has_header=False)


def mammography(rows: int = 9000) -> Dataset:
    return table("mammography", "mammography.csv", -1, rows=rows, has_header=False)


def cars_as_arrays() -> tuple[np.ndarray, np.ndarray]:
    """Cylinders, displacement, power, weight, acceleration, year and origin of 392 cars, and their miles a gallon."""
    text = (SHARED / "tabular" / "auto_mpg" / "autoMpg.arff").read_text().lower()
    lines = text[text.index("@data") + 5 :].split()
    rows = np.array([line.split(",") for line in lines if line[0].isdigit() and "?" not in line], "float32")
    return rows[:, :-1], rows[:, -1]


@functools.lru_cache(None)
def cars() -> Dataset:
    return load(*cars_as_arrays())


# -- images


@functools.lru_cache(None)
def clothes_or_digits(name: str, n: int, classes: tuple[int, ...] = tuple(range(10))) -> tuple[np.ndarray, np.ndarray]:
    """The first n images of those classes, halved in size.   [n, 14, 14, 1] from 0 to 255, [n]"""
    folder = SHARED / "images" / name
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        y = np.frombuffer(file.read(), np.uint8, offset=8)
    rows = np.flatnonzero(np.isin(y, classes))[:n]
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        x = np.frombuffer(file.read(16 + 784 * (rows[-1] + 1)), np.uint8, offset=16).reshape(-1, 14, 2, 14, 2)[rows]
    return x.mean((2, 4), dtype="float32")[..., None], np.searchsorted(classes, y[rows])


@functools.lru_cache(None)
def mnist(n: int = 1600, train: int | None = None) -> Dataset:
    return load(*clothes_or_digits("mnist", n), train)


@functools.lru_cache(None)
def fashion(n: int = 2000, train: int | None = None) -> Dataset:
    return load(*clothes_or_digits("fashion_mnist", n), train)


@functools.lru_cache(None)
def photographs(n: int = 1200, train: int | None = None) -> Dataset:
    """Aeroplanes and cars of CIFAR-10, halved in size.   [n, 16, 16, 3]"""
    from PIL import Image

    x: list[np.ndarray] = []
    y: list[int] = []
    with tarfile.open(SHARED / "images" / "cifar10_jpg" / "cifar10_train_jpg.tar.gz") as archive:
        for member in archive:
            kind = member.name.split("/")[-2] if member.isfile() else ""
            label = {"airplane": 0, "automobile": 1}.get(kind)
            if label is not None and y.count(label) < n // 2:
                picture = Image.open(archive.extractfile(member)).convert("RGB").resize((16, 16))
                x.append(np.asarray(picture, "float32") / 255)
                y.append(label)
            if len(y) == n:
                break
    return load(np.stack(x), np.array(y), train)


# -- series


def _ucr(name: str) -> Iterable[tuple[np.ndarray, str]]:
    """Each example of both parts: [time, channels] and its class."""
    for part in ("TRAIN", "TEST"):
        text = (SHARED / "timeseries" / "ucr" / name / f"{name}_{part}.ts").read_text(encoding="latin-1")
        for line in text[text.lower().index("@data") + 5 :].split():
            *channels, label = line.split(":")
            yield np.array([c.split(",") for c in channels], "float32").T, label


@functools.lru_cache(None)
def power(train: int | None = None) -> Dataset:
    """A day of Italy's demand for power, hour by hour: winter or summer?   [1096, 24, 1]"""
    x, y = zip(*_ucr("ItalyPowerDemand"), strict=True)
    return load(np.stack(x), np.unique(y, return_inverse=True)[1], train)


@functools.lru_cache(None)
def vowels() -> Dataset:
    """Who of nine speaks? Shorter recordings have zeros before them.   [640, 29, 12]"""
    x, y = zip(*_ucr("JapaneseVowels"), strict=True)
    padded = np.stack([np.concatenate([np.zeros((29 - len(e), 12), "float32"), e]) for e in x])
    return load(padded, np.unique(y, return_inverse=True)[1])


@functools.lru_cache(None)
def temperatures(days: int = 14, n: int | None = None) -> Dataset:
    """The day after `days` days in Melbourne; the last years validate.   [n, days, 1]"""
    import polars

    read = polars.read_csv(SHARED / "timeseries" / "daily-min-temperatures" / "daily-min-temperatures.csv")
    values = read["Temp"].cast(polars.Float64, strict=False).fill_null(strategy="forward").to_numpy().astype("float32")
    x = np.lib.stride_tricks.sliding_window_view(values, days)[:-1, :, None]
    rows = np.arange(len(x))
    learning = rows[: int(0.75 * len(x))]
    learning = learning if n is None else learning[:: len(learning) // n]
    return derin.data.load((x, values[days:]), indices=(learning, rows[int(0.75 * len(x)) :], []))


def hours(name: str, file: str, columns: tuple[str, ...], every: int) -> np.ndarray:
    """Columns of a set of hourly values, every so many-th row, without those where one is missing."""
    import polars

    frame = polars.read_csv(SHARED / "timeseries" / name / file, null_values="NA", infer_schema_length=None)
    return frame.select(columns).drop_nulls().to_numpy().astype("float32")[::every]


# -- text


@functools.lru_cache(None)
def reviews(words: int = 500, train: int | None = None) -> Dataset:
    """How often each of the commonest words stands in a film review, its logarithm; praise or not.   [2000, words]"""
    from collections import Counter

    counts, y = [], []
    with tarfile.open(SHARED / "text" / "movie_review_polarity" / "review_polarity.tar.gz") as archive:
        for member in archive:
            if (member.name.endswith(".txt") and "/pos/" in member.name) or "/neg/" in member.name:
                counts.append(Counter(archive.extractfile(member).read().decode("latin-1").split()))
                y.append(int("/pos/" in member.name))
    common = Counter(w for c in counts for w in c).most_common(words)
    x = np.log1p(np.array([[c[w] for w, _ in common] for c in counts], "float32"))
    return load(x, np.array(y), train)


@functools.lru_cache(None)
def letters(n: int = 6000, length: int = 8, train: int | None = None) -> Dataset:
    """Is the next letter of Shakespeare's a vowel, a consonant, or none?   int [n, length], [n]"""
    text = (SHARED / "text" / "tinyshakespeare" / "input.txt").read_text().lower()
    codes = {c: i for i, c in enumerate(sorted(set(text)))}
    kinds = {c: 0 if c in "aeiou" else 1 if c.isalpha() else 2 for c in codes}
    at = np.random.default_rng(6).choice(len(text) - length, n, replace=False)
    x = np.array([[codes[c] for c in text[i : i + length]] for i in at])
    return load(x, np.array([kinds[text[i + length]] for i in at]), train, kind="tokens")


@functools.lru_cache(None)
def languages(n: int = 1600, length: int = 24) -> Dataset:
    """Turkish or English, by so many characters of a book that is in both.   int [n, length], [n]"""
    texts: list[list[str]] = [[], []]
    for path in sorted((SHARED / "text" / "d2l_tr").glob("chapter_*/*.md")):
        lines = path.read_text(encoding="utf-8").split("\n")
        prose = [line for line in lines if len(line) > 120 and line[0].isalpha()]
        texts["_origin" in path.name] += [line.replace("İ", "i").lower()[20 : 20 + length] for line in prose]
    alphabet = "".join(sorted(set("".join(texts[0] + texts[1])) & set("abcdefghijklmnopqrstuvwxyz .,")))
    r = np.random.default_rng(7)
    chosen = [(str(line), k) for k in (0, 1) for line in r.choice(texts[k], n // 2, replace=False)]
    x = np.array([[alphabet.find(c) + 1 for c in line] for line, _ in chosen])
    return load(x, np.array([k for _, k in chosen]), kind="tokens")
