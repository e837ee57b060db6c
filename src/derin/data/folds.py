"""Folds: every row of training and validation validates once, so that a score has a deviation.

rows = folds(data, 5)                                 # positions in the rows of union(data)
x = union(data).x[rows[0].train]
shift, scale = restandardised(data, rows)             # (x - shift[0]) / scale[0] has seen fold 0's training only

The test part is in no fold: it judges what the folds have chosen.
"""

from __future__ import annotations

import contextlib
import heapq
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from derin.data.dataset import Dataset, Part
from derin.data.splits import refuse_missing_times
from derin.data.targets import ClassTarget
from derin.data.warning import DataWarning
from derin.errors import DataError


class Fold(NamedTuple):
    """Positions in the rows of union(data), sorted, int64: those that train and those that validate."""

    train: np.ndarray
    valid: np.ndarray


def folds(data: Dataset, k: int, *, seed: int = 0, groups: Any = None, times: Any = None) -> list[Fold]:
    """Cut the rows of training and validation k ways; the same arguments give the same folds.

    Classes: each fold validates its share of every class, to within one row. Numbers, and several targets:
    rows as they come from the shuffling. Sizes differ by one row at most.
    groups: [n] of union(data): rows of one group stay together, and sizes are as near as the largest group
        first, to the smallest fold, brings them.
    times: [n], numbers or dates: fold i trains on what came before and validates on what comes next; the last
        k of k + 1 equal stretches validate, and rows of one moment stay together.
    Data that were loaded with group= or time= need not give them again.
    Raises DataError; warns where a class is in no training row of a fold. Concept S3.09.

    >>> from derin.data import load
    >>> data = load(([[i] for i in range(9)], ["no", "yes", "yes"] * 3), valid=0, test=0)
    >>> [sorted(data.train.y[fold.valid].tolist()) for fold in folds(data, 3)]
    [[0, 1, 1], [0, 1, 1], [0, 1, 1]]
    """
    y, n = _target(data), len(data.train.rows) + len(data.valid.rows)
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 2:
        raise DataError(f"folds must be a whole number of 2 or more, got {k!r}: each judges what the others train.")
    if k > n:
        raise DataError(f"{n} row{'s' * (n != 1)} of training and validation cannot fill {k} folds. Ask for fewer.")
    _refuse_streamed(data)
    if groups is not None and times is not None:
        raise DataError("folds by group or by time, not both.")
    if groups is None and times is None:
        groups, times = data.groups, data.times
        if groups is not None and (groups < 0).any():
            missing = int((groups < 0).sum())
            raise DataError(f"{missing:,} rows have no group; folds by group need one in every row.")
    random = np.random.default_rng(seed)
    if times is not None:
        found = _by_time(_checked(times, n, "times"), k)
    elif groups is not None:
        found = _of(_by_group(_checked(groups, n, "groups"), k, random), k)
    elif y is not None:
        found = _of(_stratified(y, k, random, data), k)
    else:
        found = _of(random.permutation(np.arange(n) % k), k)
    if y is not None:
        _check_classes(y, found, data)
    return found


def union(data: Dataset) -> Part:
    """The rows of training, then those of validation: what folds cut.   Raises DataError for streamed data."""
    _refuse_streamed(data)
    a, b = data.train, data.valid
    if not len(b.rows):
        return a
    y: Any = np.concatenate([a.y, b.y]) if not isinstance(a.y, tuple) else None
    if isinstance(a.y, tuple):
        y = tuple(np.concatenate(pair) for pair in zip(a.y, b.y, strict=True))
    return Part(np.concatenate([a.x, b.x]), y, np.concatenate([a.rows, b.rows]))


def restandardised(data: Dataset, folds: Sequence[Fold]) -> tuple[np.ndarray, np.ndarray] | None:
    """Shift and scale of each fold, from its training rows.   -> (float32 [k, d], float32 [k, d])

    x was standardised by the training part, some of whose rows a fold validates; (x - shift) / scale is what
    the fold's own training rows give. Columns that were not standardised, such as one-hot ones, codes and
    those of robust or quantile scaling, have shift 0 and scale 1, as has a scale of a column that does not
    vary in a fold. None where x is no table of numbers. What the training part still decides is which levels
    a category has and what stands for a missing value.
    """
    mask = data.schema.inputs.standardised
    if mask is None:
        return None
    x = union(data).x
    columns = np.flatnonzero(mask)
    shift = np.zeros((len(folds), x.shape[1]), np.float32)
    scale = np.ones_like(shift)
    for i, fold in enumerate(folds):
        for j in columns:  # one at a time: float64 of all would be twice the data
            values = x[fold.train, j].astype(np.float64)
            mean, deviation = values.mean(), values.std()
            shift[i, j] = mean
            if deviation > 1e-7 * max(1.0, abs(mean)):  # else constant, but for the rounding of float32
                scale[i, j] = deviation
    return shift, scale


# -- the four ways to cut


def _stratified(labels: np.ndarray, k: int, random: np.random.Generator, data: Dataset) -> np.ndarray:
    """Deal the rows out, class after class, like cards.   [n] -> the fold of each, [n]"""
    target = data.schema.targets[0]
    counts = np.bincount(labels)
    few = np.flatnonzero((counts > 0) & (counts < k))
    if len(few) and isinstance(target, ClassTarget):
        c = int(few[np.argmin(counts[few])])
        m = int(counts[c])
        others = f", and {len(few) - 1} more classes have too few" if len(few) > 1 else ""
        do = f"Ask for {m} folds at most, join" if m > 1 else "Join"
        raise DataError(
            f"class {target.labels[c]!r} of {target.name!r} has {m} row{'s' * (m != 1)} in training and validation, "
            f"which cannot fill {k} folds{others}. {do} it with another class, or leave its rows out."
        )
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), np.int64)
    fold[order] = np.arange(len(labels)) % k
    return fold


def _by_group(groups: np.ndarray, k: int, random: np.random.Generator) -> np.ndarray:
    """The largest group left goes to the smallest fold; ties by the seed.   [n] -> the fold of each, [n]"""
    names, code = np.unique(groups.astype(str), return_inverse=True)
    if len(names) < k:
        raise DataError(
            f"{len(names)} group{'s' * (len(names) != 1)} cannot fill {k} folds: a group is never divided. "
            "Ask for fewer folds, or group by another column."
        )
    sizes = np.bincount(code)
    order = random.permutation(len(names))
    fold_of = np.empty(len(names), np.int64)
    smallest = [(0, i) for i in range(k)]  # a heap of (rows so far, fold)
    for g in order[np.argsort(-sizes[order], kind="stable")]:
        rows, i = heapq.heappop(smallest)
        fold_of[g] = i
        heapq.heappush(smallest, (rows + int(sizes[g]), i))
    return fold_of[code]


def _by_time(times: np.ndarray, k: int) -> list[Fold]:
    """The window grows: what validated last trains next. Cuts fall only between two different moments."""
    if times.dtype.kind == "O":
        with contextlib.suppress(ValueError, TypeError):
            times = times.astype("datetime64[us]")
    if times.dtype.kind not in "iufmM":
        raise DataError(f"times must be numbers or dates, got {times.dtype} such as {str(times[0])!r}.")
    refuse_missing_times(times, "folds by time need")
    n = len(times)
    order = np.argsort(times, kind="stable")
    edges = np.flatnonzero(np.diff(times[order])) + 1  # where a new moment starts
    if len(edges) < k:
        raise DataError(
            f"the rows have {len(edges) + 1} different moment{'s' * (len(edges) > 0)}; {k} folds by time need {k + 1}, "
            f"as the first of them only trains. Ask for fewer folds."
        )
    cuts, first = [], 0
    for i in range(k):
        free = edges[first : len(edges) - (k - 1 - i)]  # one is left for each later cut
        at = int(np.argmin(np.abs(free - (n - (k - i) * (n // (k + 1))))))
        cuts.append(int(free[at]))
        first += at + 1
    return [
        Fold(np.sort(order[:a]).astype(np.int64), np.sort(order[a:b]).astype(np.int64))
        for a, b in zip(cuts, [*cuts[1:], n], strict=True)
    ]


def _of(fold: np.ndarray, k: int) -> list[Fold]:
    """The fold in which each row validates -> all folds."""
    return [Fold(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k)]


# -- checks


def _target(data: Dataset) -> np.ndarray | None:
    """Class numbers of the only target; None where there is none, or several.   -> int [n]"""
    train, valid = data.train.y, data.valid.y
    if len(data.schema.targets) != 1 or not isinstance(data.schema.targets[0], ClassTarget):
        return None
    if isinstance(train, tuple) or isinstance(valid, tuple) or train.ndim != 1:
        return None
    return np.concatenate([train, valid])


def _refuse_streamed(data: Dataset) -> None:
    if any(isinstance(part.x, np.memmap) for part in (data.train, data.valid)):
        raise DataError(
            "folds need the encoded rows in memory, and these are over the memory budget and stream from disk. "
            "Give memory_budget= more bytes than they take, or validate on one part of the rows instead."
        )


def _checked(given: Any, n: int, option: str) -> np.ndarray:
    column = np.asarray(given)
    if column.shape != (n,):
        raise DataError(
            f"{option} needs one value for each of the {n:,} rows of training and validation, in that order; "
            f"its shape is {column.shape}."
        )
    return column


def _check_classes(y: np.ndarray, found: Sequence[Fold], data: Dataset) -> None:
    """Only folds by group or time can have a class in no training row."""
    target = data.schema.targets[0]
    if not isinstance(target, ClassTarget):
        return
    here, lacks = np.unique(y), {}
    for i, fold in enumerate(found):
        trained = np.unique(y[fold.train])
        if len(trained) < 2:
            raise DataError(
                f"the training rows of fold {i} are all of one class of {target.name!r}, "
                f"{target.labels[int(trained[0])]!r}. Ask for fewer folds, or cut otherwise."
            )
        if len(trained) < len(here):
            lacks[i] = ", ".join(repr(target.labels[int(c)]) for c in np.setdiff1d(here, trained)[:8])
    if lacks:
        said = "; ".join(f"fold {i} {absent}" for i, absent in lacks.items())
        warnings.warn(
            f"classes of {target.name!r} that a fold cannot learn, as none of its training rows has them: {said}.",
            DataWarning,
            stacklevel=3,
        )
