"""Which rows train, which choose, which judge. No row is ever in two parts.

split = split_rows(len(table), valid=0.15, test=0.15, labels=y, seed=0)
split.train, split.valid, split.test                  # sorted row numbers, int64
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from derin.data.warning import DataWarning
from derin.errors import DataError


class Split(NamedTuple):
    """Row numbers of the three parts, each sorted, int64."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def split_rows(
    n: int,
    *,
    valid: float = 0.15,
    test: float = 0.15,
    labels: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    times: np.ndarray | None = None,
    indices: Sequence[Any] | None = None,
    seed: int = 0,
) -> Split:
    """Cut n rows into three parts; the same arguments give the same parts.

    valid, test: shares of the rows, 0 for none. At least one row goes to each part asked for.
    labels: [n], any values: every class has its share in every part, to within one row, and at least one
        row in training.
    groups: [n]: rows of one group stay together; shares are met as nearly as whole groups allow.
    times: [n], numbers or dates: training is the earliest, test the latest; rows of one moment stay together.
    indices: (train, valid, test) row numbers that are used as they are.
    Raises DataError. Concept S3.09.

    >>> split_rows(10, valid=0.2, test=0.2, times=range(10))
    Split(train=array([0, 1, 2, 3, 4, 5]), valid=array([6, 7]), test=array([8, 9]))
    """
    if indices is not None:
        return _given(n, indices)
    for name, share in (("valid", valid), ("test", test)):
        if not 0 <= share < 1:
            raise DataError(f"{name} is the share of the rows in that part, from 0 to below 1; got {share!r}.")
    if valid + test >= 1:
        raise DataError(f"nothing is left to train on: {valid=} and {test=} take all rows.")
    parts = 1 + (valid > 0) + (test > 0)
    if n < parts:
        raise DataError(f"{n} row{'s' * (n != 1)} cannot be cut into {parts} parts. Ask for fewer: test=0, valid=0.")
    if groups is not None and times is not None:
        raise DataError("split by group or by time, not both.")
    shares = np.array([1 - valid - test, valid, test])
    random = np.random.default_rng(seed)
    if times is not None:
        return _by_time(np.asarray(times), shares)
    if groups is not None:
        return _by_group(np.asarray(groups), labels, shares, random)
    if labels is not None:
        return _stratified(np.asarray(labels), shares, random)
    return _cut(random.permutation(n), _whole(n, shares))


def _whole(n: int, shares: np.ndarray) -> np.ndarray:
    """Rows a part, summing to n, at least one where the share is not zero."""
    counts = np.maximum(np.round(n * shares), shares > 0).astype(int)
    counts[0] += n - counts.sum()
    if counts[0] < 1:
        counts[np.argmax(counts)] -= 1 - counts[0]
        counts[0] = 1
    return counts


def _cut(order: np.ndarray, counts: np.ndarray) -> Split:
    """The first counts[0] of the order train, the next choose, the last test."""
    a, b = counts[0], counts[0] + counts[1]
    return Split(*(np.sort(part).astype(np.int64) for part in (order[:a], order[a:b], order[b:])))


def _from_parts(part: np.ndarray) -> Split:
    return Split(*(np.flatnonzero(part == p).astype(np.int64) for p in range(3)))


def _stratified(labels: np.ndarray, shares: np.ndarray, random: np.random.Generator) -> Split:
    """Round each class's shares up or down, so that the parts' totals stay near theirs as well."""
    _, code = np.unique(labels, return_inverse=True)
    sizes = np.bincount(code)
    part = np.empty(len(labels), int)
    owed = np.zeros(3)  # what each part should have had so far, less what it got
    order = np.argsort(code, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    for c in np.argsort(sizes, kind="stable"):  # small classes first: large ones even the totals out
        exact = sizes[c] * shares
        counts = np.floor(exact + 1e-9).astype(int)
        rest = exact - counts
        owed += rest
        left = sizes[c] - counts.sum()
        for _ in range(left):
            eligible = (counts <= exact - 1e-9) & (rest > 1e-9)
            if counts[0] == 0 and eligible[0]:
                p = 0  # every class is trained on
            else:
                p = int(np.argmax(np.where(eligible, owed, -np.inf)))
            counts[p] += 1
            owed[p] -= 1
        rows = random.permutation(order[starts[c] : starts[c + 1]])
        part[rows] = np.repeat([0, 1, 2], counts)
    split = _from_parts(part)
    if any(len(rows) == 0 and share > 0 for rows, share in zip(split, shares, strict=True)):
        return _cut(random.permutation(len(labels)), _whole(len(labels), shares))  # too few rows to stratify
    return split


def _by_group(groups: np.ndarray, labels: np.ndarray | None, shares: np.ndarray, random: np.random.Generator) -> Split:
    """Whole groups in random order, each to the part that it brings nearest to its share (of each class)."""
    names, code = np.unique(groups.astype(str), return_inverse=True)
    parts = int((shares > 0).sum())
    if len(names) < parts:
        raise DataError(
            f"{len(names)} group{'s' * (len(names) != 1)} cannot be cut into {parts} parts: "
            "a group is never divided. Ask for fewer parts (test=0, valid=0) or another group column."
        )
    kinds = np.unique(labels, return_inverse=True)[1] if labels is not None else np.zeros(len(code), int)
    table = np.zeros((len(names), kinds.max() + 1))
    np.add.at(table, (code, kinds), 1)
    total = table.sum(0)
    wanted = shares[:, None] * total
    got = np.zeros_like(wanted)
    part_of = np.zeros(len(names), int)
    order = random.permutation(len(names))
    for i, g in enumerate(order):
        empty = [p for p in range(3) if shares[p] > 0 and got[p].sum() == 0]
        change = ((got + table[g] - wanted) ** 2 - (got - wanted) ** 2) / np.maximum(wanted, 1e-9)
        cost = np.where(shares > 0, (change / np.maximum(total, 1)).sum(1), np.inf)
        if len(order) - i <= len(empty):  # the last groups go where there are none yet
            cost = np.where(np.isin(np.arange(3), empty), cost, np.inf)
        p = int(np.argmin(cost))
        part_of[g] = p
        got[p] += table[g]
    return _from_parts(part_of[code])


def group_codes(groups: np.ndarray) -> np.ndarray:
    """Groups as whole numbers, -1 for None.   [n] -> int32 [n]"""
    missing = np.array([g is None for g in groups.tolist()], bool)
    return np.where(missing, -1, np.unique(groups.astype(str), return_inverse=True)[1]).astype(np.int32)


def _by_time(times: np.ndarray, shares: np.ndarray) -> Split:
    """Cut the sorted moments; a cut falls only between two different moments."""
    refuse_missing_times(times, "a split by time needs")
    order = np.argsort(times, kind="stable")
    n, ordered = len(times), times[order]
    counts = _whole(n, shares)
    edges = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1  # where a new moment starts
    cuts: list[int] = []
    for p, wanted in ((1, counts[0]), (2, counts[0] + counts[1])):
        if shares[p] == 0 and p == 2:
            cuts.append(n)
        elif shares[p] == 0:
            cuts.append(-1)  # no validation part: the same cut as the test's
        else:
            later = edges[edges > (cuts[-1] if cuts else 0)]
            if p == 1 and shares[2] > 0:
                later = later[:-1]  # one is needed for the test part
            if not len(later):
                raise DataError(
                    f"the time column has only {len(edges) + 1} different moments, too few for a split by time."
                )
            cuts.append(int(later[np.argmin(np.abs(later - wanted))]))
    a, b = cuts
    a = b if a < 0 else a
    return Split(*(np.sort(rows).astype(np.int64) for rows in (order[:a], order[a:b], order[b:])))


def refuse_missing_times(times: np.ndarray, needs: str) -> None:
    """Raises DataError: so many rows have no time, and what needs one in every row."""
    missing = np.isnat(times) if times.dtype.kind in "mM" else (times != times)
    if missing.any():
        raise DataError(
            f"{int(missing.sum())} rows have no time, the first of them row {int(np.argmax(missing))}; "
            f"{needs} one in every row."
        )


def _given(n: int, indices: Sequence[Any]) -> Split:
    if len(indices) != 3:
        raise DataError(f"indices must be (train, valid, test), three lists of row numbers; got {len(indices)}.")
    parts = []
    seen = np.full(n, -1)
    names = ("train", "valid", "test")
    for p, given in enumerate(indices):
        rows = np.asarray(given)
        if rows.size == 0:
            rows = rows.astype(np.int64)
        if rows.dtype == bool and rows.shape == (n,):
            rows = np.flatnonzero(rows)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise DataError(
                f"the {names[p]} indices must be whole row numbers; got {rows.dtype} of shape {rows.shape}."
            )
        outside = rows[(rows < 0) | (rows >= n)]
        if len(outside):
            raise DataError(f"row {int(outside[0])} of the {names[p]} indices does not exist: there are {n} rows.")
        twice = rows[seen[rows] >= 0]
        if len(twice):
            raise DataError(f"row {int(twice[0])} is in both {names[seen[twice[0]]]} and {names[p]}.")
        if len(np.unique(rows)) < len(rows):
            values, counts = np.unique(rows, return_counts=True)
            raise DataError(f"row {int(values[np.argmax(counts)])} is twice in the {names[p]} indices.")
        seen[rows] = p
        parts.append(np.sort(rows).astype(np.int64))
    if not len(parts[0]):
        raise DataError("the train indices are empty; there is nothing to learn from.")
    unused = int((seen < 0).sum())
    if unused:
        warnings.warn(
            f"{unused} of {n} rows are in none of the given parts and are not used.",
            DataWarning,
            stacklevel=3,
        )
    return Split(*parts)
