"""What is predicted: a class, a number, a row of numbers. A target turns values into y and predictions back.

    target = fit_target("species", values)                # ClassTarget(labels=("setosa", ...))
    y = target.encode(values)                             # int32 class index, or float32 standardised number
    target.decode(y)                                      # labels, or numbers in their own units

A column is a **number** when it holds fractions, or more than 20 different whole numbers, or whole numbers
that hardly repeat (fewer than five rows a value). Text, booleans and the other whole numbers are
**classes**. `task="classes"` or `task="number"` decides otherwise.

An array y [n, k] without names is **one vector** of k numbers, with one loss and one score over all of them (an
autoencoder's y is its X), if no column of it alone would be a class, or if it has more than 16 columns that are
not all 0 and 1. Otherwise, and where the columns have names or X is a table, each column is a target of its own,
with a loss and scores of its own.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from derin.data.warning import DataWarning
from derin.errors import DataError
from derin.spec import Scalar, Spec

MAX_WHOLE_CLASSES = 20  # more different whole numbers than this are a number, not classes
ROWS_A_CLASS = 5  # whole numbers with fewer rows a value, on average, are a number
MANY_CLASSES = 1000  # text with more different values is hardly a class
MANY_COLUMNS = 16  # more columns of numbers without names are one vector, even if they hold whole numbers
MISSING = ("", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "none", "-")


class Target(Spec):
    """Base of ClassTarget, NumberTarget and VectorTarget.   kind: "binary", "classes" or "number" """

    name: str

    @property
    def kind(self) -> str:
        raise NotImplementedError

    @property
    def width(self) -> int:
        """Outputs that a net must have for it."""
        raise NotImplementedError

    def encode(self, values: Any) -> np.ndarray:
        raise NotImplementedError

    def decode(self, y: Any) -> np.ndarray:
        raise NotImplementedError


class ClassTarget(Target):
    """One of several classes; y is the place in `labels`. Of two, the second is the positive one.

    >>> target = ClassTarget("answer", ("no", "yes"))
    >>> target.encode(["yes", "no"]), target.decode([0, 1]), target.kind
    (array([1, 0], dtype=int32), array(['no', 'yes'], dtype='<U3'), 'binary')
    """

    labels: tuple[str | int | bool | float, ...]

    def check(self) -> None:
        if len(self.labels) < 2:
            raise DataError(f"target {self.name!r} needs at least two classes, got {self.labels}.")

    @property
    def kind(self) -> str:
        return "binary" if len(self.labels) == 2 else "classes"

    @property
    def width(self) -> int:
        return 1 if len(self.labels) == 2 else len(self.labels)

    def encode(self, values: Any) -> np.ndarray:
        """[n] labels -> int32 [n].   Blanks around a label, quotes and a full stop after it do not matter.

        Raises DataError for a label that is none of them."""
        place = self._places(values)
        unknown = place < 0
        if unknown.any():
            row = int(np.argmax(unknown))
            raise DataError(
                f"{_item(values, row)!r} (row {row}) is not a class of target {self.name!r}; "
                f"the classes are {_listed(self.labels)}."
            )
        return place

    def knows(self, values: Any) -> np.ndarray:
        """[n] -> bool [n]: is each value one of the labels?"""
        return self._places(values) >= 0

    def _places(self, values: Any) -> np.ndarray:
        exact = {label: i for i, label in enumerate(self.labels)}
        found = [exact.get(v, -1) for v in _listed_values(values)]
        if -1 in found:  # adult's test part writes its labels with a full stop: ">50K."
            by_text = {_text(label): i for i, label in enumerate(self.labels)}
            for i, v in enumerate(_listed_values(values)):
                if found[i] < 0 and v is not None:
                    text = _text(v)
                    found[i] = by_text.get(text, by_text.get(text.rstrip("."), -1))
        return np.array(found, np.int32)

    def decode(self, y: Any) -> np.ndarray:
        """int [n] -> labels [n]"""
        return np.asarray(self.labels)[np.asarray(y)]


class NumberTarget(Target):
    """A number; y is (value - mean) / scale, so that nets learn on one scale and report in the own units.

    >>> target = NumberTarget("price", mean=100.0, scale=50.0)
    >>> target.encode([150.0]), target.decode([1.0])
    (array([1.], dtype=float32), array([150.]))
    """

    mean: Scalar = 0.0
    scale: Scalar = 1.0

    @property
    def kind(self) -> str:
        return "number"

    @property
    def width(self) -> int:
        return 1

    def encode(self, values: Any) -> np.ndarray:
        """[n] numbers -> float32 [n].   Raises DataError for text and infinities."""
        numbers = as_numbers(values, self.name)
        return ((numbers - self.mean) / self.scale).astype(np.float32)

    def decode(self, y: Any) -> np.ndarray:
        """standardised [n] -> own units [n]"""
        return np.asarray(y, np.float64) * np.asarray(self.scale) + np.asarray(self.mean)


class VectorTarget(Target):
    """A row of `size` numbers, each standardised by its own mean and scale. One that does not vary has scale 1.

    >>> target = VectorTarget("image", 2, mean=np.array([100.0, 0.0]), scale=np.array([50.0, 1.0]))
    >>> target.encode([[150.0, 0.0]]).tolist(), target.decode([[1.0, 0.0]]).tolist()
    ([[1.0, 0.0]], [[150.0, 0.0]])
    """

    size: int
    mean: Scalar | np.ndarray  # [size]
    scale: Scalar | np.ndarray  # [size]

    @property
    def kind(self) -> str:
        return "number"

    @property
    def width(self) -> int:
        return self.size

    def encode(self, values: Any) -> np.ndarray:
        """[n, size] numbers -> float32 [n, size].   Raises DataError for another size, text and infinities."""
        array = _array(values)
        if array.ndim != 2 or array.shape[1] != self.size:
            raise DataError(f"target {self.name!r} has {self.size} numbers a row; got an array of shape {array.shape}.")
        y = np.empty(array.shape, np.float32)
        for rows, block in _blocks(array, np.arange(len(array)), self.name):
            y[rows] = (block - np.asarray(self.mean)) / np.asarray(self.scale)
        return y

    def decode(self, y: Any) -> np.ndarray:
        """standardised [n, size] -> own units [n, size]"""
        return np.asarray(y, np.float64) * np.asarray(self.scale) + np.asarray(self.mean)


def present(values: Any) -> np.ndarray:
    """[n] or [n, k] -> bool [n]: False where a target is missing (None, nan, "", "?", "NA" ...)."""
    array = _array(values)
    if array.ndim == 2:
        here = ~np.isnan(array) if array.dtype.kind == "f" else np.stack([present(c) for c in array.T], 1)
        return np.asarray(here.all(1))
    if array.dtype.kind == "f":
        return ~np.isnan(array)
    if array.dtype.kind in "biu":
        return np.ones(len(array), bool)
    if array.dtype.kind in "mM":
        return ~np.isnat(array)
    return np.fromiter((not _is_missing(v) for v in array.tolist()), bool, len(array))


def fit_target(
    name: str, values: Any, task: str | None = None, train: np.ndarray | None = None
) -> ClassTarget | NumberTarget | VectorTarget:
    """Understand a target from its values, none of them missing (see the top of this file for the rule).

    values: [n], or [n, k] for one vector; the labels are those of all rows. train: the rows that mean and scale
    are fitted on (all, if None). task: "classes" or "number" to decide it. Raises DataError: one class only, text
    as a number, inf.

    >>> fit_target("y", ["b", "a", "b", "a"])
    ClassTarget('y', ('a', 'b'))
    >>> fit_target("y", [0.5, 1.5], task=None)
    NumberTarget('y', mean=1.0, scale=0.5)
    """
    if task not in (None, "classes", "number"):
        raise DataError(f"task must be 'classes' or 'number', got {task!r}.")
    if len(_array(values)) == 0:
        raise DataError(f"target {name!r} is missing in every row.")
    if _array(values).ndim == 2:
        return _fit_vector(name, _array(values), train)
    if (task or infer_task(values)) == "classes":
        return ClassTarget(name, _labels(name, values))
    numbers = as_numbers(values, name)
    numbers = numbers if train is None else numbers[train]
    mean, scale = float(numbers.mean()), float(numbers.std())
    if not math.isfinite(scale) or scale <= 1e-12 * abs(mean):
        raise DataError(f"target {name!r} is {mean:g} in every training row; there is nothing to learn.")
    return NumberTarget(name, mean, scale)


def _fit_vector(name: str, values: np.ndarray, train: np.ndarray | None) -> VectorTarget:
    """Mean and scale of each column over the training rows, in two passes over blocks of rows."""
    rows = np.arange(len(values)) if train is None else np.arange(len(values))[train]
    size = values.shape[1]
    mean, squares = np.zeros(size), np.zeros(size)
    for _, block in _blocks(values, rows, name):
        mean += block.sum(0) / len(rows)
    for _, block in _blocks(values, rows, name):
        squares += np.square(block - mean).sum(0) / len(rows)
    scale = np.sqrt(squares)
    if not (np.isfinite(mean) & np.isfinite(scale)).all():
        raise DataError(f"target {name!r} has values too large to take their mean square. Divide it first.")
    scale[scale <= 1e-12 * np.abs(mean)] = 0.0  # constant, but for rounding
    if not scale.any():
        raise DataError(f"target {name!r} is the same in every training row; there is nothing to learn.")
    return VectorTarget(name, size, mean, np.where(scale > 0, scale, 1.0))


def _blocks(values: np.ndarray, rows: np.ndarray, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows, these rows in float64), a few at a time.   Raises DataError for an infinity, with its place."""
    step = max(1, 2**19 // values.shape[1])
    for i in range(0, len(rows), step):
        some = rows[i : i + step]
        block = values[some].astype(np.float64)
        if np.isinf(block).any():
            row, column = np.argwhere(np.isinf(block))[0]
            raise DataError(f"target {name!r} is infinite in row {int(some[row])}, column {int(column)}.")
        yield some, block


def said_of_many(targets: Sequence[Target]) -> list[str]:
    """A note where so many targets of their own take long to compile."""
    if len(targets) <= MANY_COLUMNS:
        return []
    return [
        f"{len(targets)} targets, each with a loss and scores of its own, compile slowly; two arrays, X and y "
        f"[rows, {len(targets)}], make one target of them"
    ]


def is_vector(values: np.ndarray, task: str | None = None) -> bool:
    """Are columns without names one vector, by the rule at the top of this file?   values: [n, k]"""
    if values.dtype.kind not in "iuf" or task == "classes":
        return False
    if task == "number":
        return True
    if values.shape[1] > MANY_COLUMNS:
        return not np.isin(values, (0, 1)).all()
    vary = [c for c in values.T if (c[~np.isnan(c)] != c[0]).any()]
    return bool(vary) and all(infer_task(c) == "number" for c in vary)


def infer_task(values: Any) -> str:
    """ "classes" or "number", by the rule at the top of this file."""
    array = _array(values)
    if array.ndim == 2:
        return "number"
    if array.dtype.kind == "O":
        array = _natural(array)
    if array.dtype.kind not in "iuf":
        return "classes"
    if array.dtype.kind == "f" and not np.all(array == np.round(array)):
        return "number"
    different = len(np.unique(array))
    many = different > MAX_WHOLE_CLASSES or (different > 2 and different * ROWS_A_CLASS > len(array))
    return "number" if many else "classes"


def as_numbers(values: Any, name: str) -> np.ndarray:
    """[n] -> float64 [n].   Raises DataError that names the value and the row."""
    array = _array(values)
    if array.ndim != 1:
        raise DataError(f"target {name!r} is one number a row; got an array of shape {array.shape}.")
    if array.dtype.kind not in "biuf":
        numbers = np.empty(len(array))
        for row, v in enumerate(array.tolist()):
            try:
                numbers[row] = float(v)
            except (TypeError, ValueError):
                raise DataError(
                    f"target {name!r} is {v!r} in row {row}, which is not a number. "
                    "If the target is a class, say task='classes'."
                ) from None
        array = numbers
    array = array.astype(np.float64)
    if np.isinf(array).any():
        rows = np.flatnonzero(np.isinf(array))
        raise DataError(f"target {name!r} is infinite in {len(rows)} rows, the first of them row {int(rows[0])}.")
    return array


def _labels(name: str, values: Any) -> tuple[Any, ...]:
    array = _array(values)
    if array.dtype.kind == "O":
        array = _natural(array)
    if array.dtype.kind in "USO":
        labels: list[Any] = sorted({_text(v) for v in set(array.tolist())})
    else:
        labels = np.unique(array).tolist()
        if array.dtype.kind == "f" and all(v == round(v) for v in labels):
            labels = [int(v) for v in labels]
    if len(labels) < 2:
        raise DataError(f"target {name!r} has one class only, {labels[0]!r}; there is nothing to tell apart.")
    if len(labels) > MANY_CLASSES or len(labels) > max(2, 0.5 * len(array)):
        examples = ", ".join(map(repr, labels[:3]))
        raise DataError(
            f"target {name!r} has {len(labels)} different values in {len(array)} rows ({examples}, ...), "
            "too many "
            "for classes. Is it the right column? For numbers, say task='number'."
        )
    counts = _counts(array, labels)
    alone = [label for label, count in zip(labels, counts, strict=True) if count == 1]
    if alone:
        warnings.warn(
            f"target {name!r}: {_listed(alone)} occurs in one row only, so no part but one can have it.",
            DataWarning,
            stacklevel=2,
        )
    return tuple(labels)


def _counts(array: np.ndarray, labels: list[Any]) -> list[int]:
    counts = dict.fromkeys(labels, 0)
    as_text = array.dtype.kind in "USO"
    for v, count in Counter(array.tolist()).items():
        counts[_text(v) if as_text else v] += count
    return list(counts.values())


def _array(values: Any) -> np.ndarray:
    """A NumPy array of a list, an array or a polars column; missing cells of a column become nan or None."""
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2) or array.shape[1:] == (0,):
        raise DataError(f"a target is [rows] or [rows, numbers]; got an array of shape {array.shape}.")
    return array


def _natural(array: np.ndarray) -> np.ndarray:
    """An object array as numbers or booleans, where all of it is."""
    kinds = {type(v) for v in array.tolist()}
    if kinds <= {bool, np.bool_}:
        return array.astype(bool)
    if kinds <= {int, float, bool, np.bool_} or all(issubclass(k, np.number) for k in kinds):
        return np.array(array.tolist())
    return array


def _listed_values(values: Any) -> list[Any]:
    return _array(values).tolist()


def _item(values: Any, row: int) -> Any:
    return _listed_values(values)[row]


def _is_missing(v: Any) -> bool:
    return v is None or v != v or (isinstance(v, str) and v.strip() in MISSING)


def _text(v: Any) -> str:
    """How a label is compared: without blanks and quotes around it, whole numbers without a fraction."""
    if isinstance(v, bytes):
        v = v.decode("utf-8", "replace")
    if isinstance(v, float) and v == round(v):
        v = int(v)
    text = str(v).strip()
    if len(text) > 2 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    return text


def _listed(labels: Any, most: int = 8) -> str:
    shown = ", ".join(repr(v) for v in list(labels)[:most])
    return shown + (f" and {len(labels) - most} more" if len(labels) > most else "")
