"""The twelve sets of bench/defaults.py: what derin is given, and the same rows as columns for scikit-learn."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

BUNDLED = ("iris", "digits", "wine", "breast_cancer", "diabetes")
FILES = (
    "titanic",
    "adult",
    "bank_marketing",
    "german_credit",
    "california_housing",
    "abalone",
    "wine_quality",
)
MISSING = ("", "?", "NA")


class Set(NamedTuple):
    """One data set.

    source, target: what derin.data.load gets, and nothing else
    numbers: float64 [n, a], nan where missing; categories: text [n, b], "" where missing
    y: int codes [n] or float [n]
    """

    name: str
    source: Any
    target: Any
    numbers: np.ndarray
    categories: np.ndarray
    y: np.ndarray
    task: str  # "classes" or "number"


def read_set(name: str, data: Path) -> Set:
    """A set by its name; `data` is the folder that holds tabular/.

    Raises FileNotFoundError when the set is not one that scikit-learn brings and its file is not there.
    """
    if name in BUNDLED:
        from sklearn import datasets

        raw = getattr(datasets, f"load_{name}")()
        x, y = np.asarray(raw.data, np.float64), np.asarray(raw.target)
        task = "number" if name == "diabetes" else "classes"
        return Set(name, name, None, x, np.zeros((len(x), 0), "U1"), _codes(y, task), task)
    folder = data / "tabular" / name
    if name == "titanic":  # the columns that hardly repeat are of no use to a one-hot encoder
        return _from_file(name, folder / "train.csv", "Survived", drop=("PassengerId", "Name", "Ticket"))
    if name == "adult":
        return _from_file(name, folder / "adult-train.csv", -1, header=False)
    if name == "bank_marketing":
        return _from_file(name, folder / "bank-additional.csv", "y", separator=";")
    if name == "german_credit":
        return _from_file(name, folder / "german.csv", -1, header=False)
    if name == "california_housing":
        return _from_file(name, folder / "housing.csv", "median_house_value", task="number")
    if name == "abalone":
        return _from_file(name, folder / "abalone.csv", -1, header=False, task="number")
    if name == "wine_quality":
        return _wine_quality(folder)
    raise ValueError(f"there is no set {name!r}; there are {', '.join(BUNDLED + FILES)}.")


def _from_file(
    name: str,
    path: Path,
    target: str | int,
    *,
    separator: str = ",",
    header: bool = True,
    task: str = "classes",
    drop: tuple[str, ...] = (),
) -> Set:
    with open(path, newline="", encoding="utf-8") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file, delimiter=separator) if row]
    names = rows.pop(0) if header else [str(i) for i in range(len(rows[0]))]
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    y = np.array(columns.pop(target if isinstance(target, str) else names[target]))
    numbers, categories = _columns({k: v for k, v in columns.items() if k not in drop})
    return Set(name, path, target, numbers, categories, _codes(y, task), task)


def _wine_quality(folder: Path) -> Set:
    """Red and white wines as one table, the colour a column; the mark, a whole number, is a class."""
    parts = [np.loadtxt(folder / f"winequality-{colour}.csv", delimiter=",") for colour in ("red", "white")]
    x = np.concatenate(parts)
    colour = np.repeat(["red", "white"], [len(part) for part in parts])
    columns: dict[str, Any] = {f"measure_{i}": x[:, i].tolist() for i in range(x.shape[1] - 1)}
    source = columns | {"colour": colour.tolist(), "quality": x[:, -1].astype(int).tolist()}
    y = _codes(x[:, -1], "classes")
    return Set("wine_quality", source, "quality", x[:, :-1], colour[:, None], y, "classes")


def _columns(columns: dict[str, tuple[str, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """Columns of text as (numbers, categories): a column is a number when every cell that is there is one."""
    n = len(next(iter(columns.values())))
    numbers, categories = [np.zeros((n, 0))], [np.zeros((n, 0), "U1")]
    for column in columns.values():
        cells = np.array(["" if cell in MISSING else cell for cell in column])
        try:
            numbers.append(np.array([float(c) if c else np.nan for c in cells])[:, None])
        except ValueError:
            categories.append(cells[:, None])
    return np.hstack(numbers), np.hstack(categories)


def _codes(y: np.ndarray, task: str) -> np.ndarray:
    return y.astype(np.float64) if task == "number" else np.unique(y, return_inverse=True)[1]
