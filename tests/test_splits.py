"""Splits: no row in two parts, ever; all rows used; classes, groups and time respected."""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derin.data import DataWarning, split_rows
from derin.errors import DataError

SHARES = st.sampled_from([(0.15, 0.15), (0.2, 0.0), (0.0, 0.3), (0.0, 0.0), (0.4, 0.4), (0.05, 0.1), (1 / 3, 1 / 3)])
ROWS = st.integers(20, 300)
SEEDS = st.integers(0, 1000)


def check(split, n):
    """Every row exactly once, each part sorted."""
    together = np.concatenate(split)
    assert sorted(together.tolist()) == list(range(n))
    for part in split:
        assert part.dtype == np.int64
        assert np.all(np.diff(part) > 0)


@settings(max_examples=25, deadline=None)
@given(ROWS, SHARES, SEEDS)
def test_by_share(n, shares, seed):
    valid, test = shares
    split = split_rows(n, valid=valid, test=test, seed=seed)
    check(split, n)
    assert abs(len(split.valid) - valid * n) <= 1
    assert abs(len(split.test) - test * n) <= 1
    again = split_rows(n, valid=valid, test=test, seed=seed)
    assert all(np.array_equal(a, b) for a, b in zip(split, again, strict=True))


def test_seeds_differ():
    assert not np.array_equal(split_rows(100, seed=0).test, split_rows(100, seed=1).test)


@settings(max_examples=25, deadline=None)
@given(ROWS, SHARES, SEEDS, st.integers(1, 12))
def test_stratified_within_one_row_of_every_class(n, shares, seed, classes):
    labels = np.random.default_rng(seed).integers(0, classes, n) ** 2  # some rare
    valid, test = shares
    split = split_rows(n, valid=valid, test=test, labels=labels, seed=seed)
    check(split, n)
    for share, part in zip((1 - valid - test, valid, test), split, strict=True):
        for c in np.unique(labels):
            assert abs((labels[part] == c).sum() - share * (labels == c).sum()) < 1 + 1e-6
    assert set(labels[split.train]) == set(labels)
    assert abs(len(split.test) - test * n) <= 1 + classes / 2


def test_one_row_of_a_class_trains():
    labels = np.array(["a"] * 50 + ["b"] * 50 + ["alone"])
    for seed in range(5):
        assert 100 in split_rows(101, labels=labels, seed=seed).train


@settings(max_examples=25, deadline=None)
@given(ROWS, SHARES, SEEDS, st.integers(6, 40), st.booleans())
def test_groups_stay_together(n, shares, seed, count, stratify):
    random = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(count), random.integers(0, count, n)]).astype(str)[:n]
    labels = random.integers(0, 3, n) if stratify else None
    split = split_rows(n, valid=shares[0], test=shares[1], groups=groups, labels=labels, seed=seed)
    check(split, n)
    seen = [set(groups[part]) for part in split]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    for share, part in zip((1 - sum(shares), *shares), split, strict=True):
        assert (len(part) > 0) == (share > 1e-9)
        largest = np.unique(groups, return_counts=True)[1].max()
        assert abs(len(part) - share * n) <= 2 * largest + 1


@settings(max_examples=25, deadline=None)
@given(ROWS, SHARES, SEEDS, st.integers(5, 400))
def test_time_goes_forward(n, shares, seed, moments):
    times = np.random.default_rng(seed).integers(0, moments, n)
    times[:3] = [0, 1, 2]
    split = split_rows(n, valid=shares[0], test=shares[1], times=times, seed=seed)
    check(split, n)
    parts = [part for part in split if len(part)]
    for earlier, later in itertools.pairwise(parts):
        assert times[earlier].max() < times[later].min()


def test_dates_as_times():
    times = np.array(["2024-01-03", "2024-01-01", "2024-01-02", "2024-01-04"], "datetime64[D]")
    split = split_rows(4, valid=0.25, test=0.25, times=times)
    assert [p.tolist() for p in split] == [[1, 2], [0], [3]]


def test_given_indices():
    split = split_rows(6, indices=([5, 0, 2], [1], np.array([3, 4])))
    assert [p.tolist() for p in split] == [[0, 2, 5], [1], [3, 4]]
    with pytest.warns(DataWarning, match="1 of 6 rows are in none"):
        split_rows(6, indices=([0, 2, 5], [1], [4]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(valid=0.6, test=0.4), "nothing is left to train on"),
        (dict(valid=1.5), "valid is the share of the rows"),
        (dict(valid=float("nan")), "valid is the share of the rows"),
        (dict(indices=([0, 1], [1], [2])), "row 1 is in both train and valid"),
        (dict(indices=([0, 0], [1], [2])), "row 0 is twice"),
        (dict(indices=([0, 99], [1], [2])), "row 99 of the train indices does not exist"),
        (dict(indices=([0.5], [1], [2])), "whole row numbers"),
        (dict(indices=([], [1], [2])), "nothing to learn from"),
        (dict(indices=([0], [1])), "three lists"),
        (dict(times=np.zeros(10)), "different moments"),
        (dict(times=np.array([1.0] * 9 + [np.nan])), "1 rows have no time"),
        (dict(groups=np.array(["a"] * 5 + ["b"] * 5)), "2 groups cannot be cut into 3 parts"),
        (dict(groups=np.arange(10), times=np.arange(10)), "not both"),
    ],
)
def test_what_cannot_be_split(arguments, message):
    with pytest.raises(DataError, match=message):
        split_rows(10, **arguments)


def test_too_few_rows():
    with pytest.raises(DataError, match="2 rows cannot be cut into 3 parts"):
        split_rows(2)
    check(split_rows(3), 3)
    check(split_rows(1, valid=0, test=0), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(split_rows(4, labels=np.array([0, 1, 0, 1])), 4)
