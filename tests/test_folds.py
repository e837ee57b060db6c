"""Folds: each row validates once, and classes, groups and time are respected, as scikit-learn's splitters do."""

import datetime
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit
from sklearn.preprocessing import StandardScaler

from derin.data import DataWarning, folds, load, restandardised, union
from derin.errors import DataError

ROWS = st.integers(30, 200)
FOLDS = st.integers(2, 7)
SEEDS = st.integers(0, 1000)


def numbers(n, valid=0.2, test=0.2, **options):
    """A Dataset of n rows with a number to predict; x[:, 0] counts the rows."""
    return load((np.arange(n)[:, None], np.random.default_rng(n).normal(size=n)), valid=valid, test=test, **options)


def classed(labels, **options):
    return load((np.arange(len(labels))[:, None], labels), task="classes", **{"valid": 0.2, "test": 0, **options})


def check(found, data, k):
    """Every row of training and validation validates once and trains in all other folds; of test there is none."""
    n = len(data.train.rows) + len(data.valid.rows)
    assert len(found) == k
    assert sorted(np.concatenate([fold.valid for fold in found]).tolist()) == list(range(n))
    for fold in found:
        assert fold.train.dtype == fold.valid.dtype == np.int64
        assert np.array_equal(np.sort(np.concatenate(fold)), np.arange(n))
        assert all(np.all(np.diff(rows) > 0) for rows in fold)


def sizes(found):
    return sorted(len(fold[1]) for fold in found)


@settings(max_examples=8, deadline=None)
@given(ROWS, FOLDS, SEEDS)
def test_numbers_as_kfold(n, k, seed):
    data = numbers(n)
    found = folds(data, k, seed=seed)
    check(found, data, k)
    assert sizes(found) == sizes(KFold(k).split(union(data).x))
    again = folds(data, k, seed=seed)
    assert all(np.array_equal(a, b) for f, g in zip(found, again, strict=True) for a, b in zip(f, g, strict=True))
    other = folds(data, k, seed=seed + 1)
    assert not all(np.array_equal(f.valid, g.valid) for f, g in zip(found, other, strict=True))


@settings(max_examples=8, deadline=None)
@given(ROWS, FOLDS, SEEDS, st.integers(2, 5))
def test_classes_as_stratified_kfold(n, k, seed, classes):
    # S3.09: k-fold cross-validation
    labels = np.concatenate([np.repeat(np.arange(classes), k), np.random.default_rng(seed).integers(0, classes, n)])
    data = classed(labels)
    found = folds(data, k, seed=seed)
    check(found, data, k)
    y = union(data).y
    theirs = list(StratifiedKFold(k, shuffle=True, random_state=seed).split(y, y))
    assert sizes(found) == sizes(theirs)
    for c in range(classes):
        ours = sorted((y[fold.valid] == c).sum() for fold in found)
        assert ours == sorted((y[valid] == c).sum() for _, valid in theirs)
        assert ours[-1] - ours[0] <= 1


@settings(max_examples=8, deadline=None)
@given(ROWS, FOLDS, SEEDS)
def test_groups_as_group_kfold(n, k, seed):
    random = np.random.default_rng(seed)
    data = numbers(n)
    part = union(data)
    groups = np.concatenate([np.arange(k), random.geometric(0.15, len(part.rows) - k)])
    found = folds(data, k, seed=seed, groups=groups)
    check(found, data, k)
    assert all(not set(groups[fold.train]) & set(groups[fold.valid]) for fold in found)
    assert sizes(found) == sizes(GroupKFold(k).split(part.x, groups=groups))


@settings(max_examples=8, deadline=None)
@given(ROWS, FOLDS, SEEDS)
def test_times_as_time_series_split(n, k, seed):
    data = numbers(n)
    times = np.random.default_rng(seed).permutation(len(union(data).rows))
    order = np.argsort(times)
    for fold, (train, valid) in zip(folds(data, k, times=times), TimeSeriesSplit(k).split(order), strict=True):
        assert np.array_equal(fold.train, np.sort(order[train]))
        assert np.array_equal(fold.valid, np.sort(order[valid]))


@settings(max_examples=8, deadline=None)
@given(ROWS, FOLDS, SEEDS)
def test_rows_of_one_moment_stay_together(n, k, seed):
    data = numbers(n)
    days = np.random.default_rng(seed).integers(0, k + 4, len(union(data).rows))
    days[: k + 1] = np.arange(k + 1)
    for times in (days, np.datetime64("2024-01-01") + days):
        found = folds(data, k, times=times)
        assert len(found) == k
        for before, fold in zip([None, *found], found, strict=False):
            assert times[fold.train].max() < times[fold.valid].min()
            assert len(fold.valid)
            if before is not None:
                assert np.array_equal(fold.train, np.sort(np.concatenate(before)))
        assert len(found[-1].train) + len(found[-1].valid) == len(times)


def test_union_is_training_then_validation():
    data = numbers(40)
    part = union(data)
    assert np.array_equal(part.x, np.concatenate([data.train.x, data.valid.x]))
    assert np.array_equal(part.y, np.concatenate([data.train.y, data.valid.y]))
    assert not set(part.rows) & set(data.test.rows)
    alone = numbers(40, valid=0)
    assert union(alone) is alone.train


def test_several_targets_are_cut_as_numbers():
    y = np.stack([np.zeros(30), np.arange(30)], 1)
    y[0, 0] = 1  # one row of a class would not fill folds
    frame = pl.DataFrame({"a": y[:, 1], "kind": np.where(y[:, 0] > 0, "rare", "usual"), "size": y[:, 1] % 7})
    with pytest.warns(DataWarning):
        data = load(frame, ["kind", "size"], valid=0.2, test=0.2, stratify=False, seed=3)
    check(folds(data, 4), data, 4)
    part = union(data)
    assert isinstance(part.y, tuple)
    assert len(part.y[0]) == len(part.y[1]) == len(part.rows)


def test_a_vector_is_cut_as_numbers():
    x = np.random.default_rng(0).normal(size=(40, 3))
    data = load((x, x @ np.ones((3, 2)) + x[:, :2]))
    check(folds(data, 4), data, 4)
    assert union(data).y.shape == (34, 2)


# -- what load() knew


@pytest.fixture
def table():
    n = 90
    day = [datetime.date(2024, 1, 1) + datetime.timedelta(days=i // 2) for i in range(n)]
    return pl.DataFrame({"size": np.arange(n) % 13, "who": [f"p{i % 17}" for i in range(n)], "day": day,
                         "price": np.arange(n) * 1.5 % 31})  # fmt: skip


def test_groups_and_times_of_load_cut_the_folds(table):
    data = load(table, "price", group="who", drop=["day"])
    who = table["who"].to_numpy()[union(data).rows]
    found = folds(data, 3)
    check(found, data, 3)
    assert all(not set(who[fold.train]) & set(who[fold.valid]) for fold in found)
    assert len(data.groups) == len(who)

    data = load(table, "price", time="day", drop=["who"])
    day = table["day"].to_numpy()[union(data).rows]
    assert all(day[fold.train].max() < day[fold.valid].min() for fold in folds(data, 3))
    by_hand = folds(data, 3, groups=who[: len(day)])  # what is given now counts
    check(by_hand, data, 3)


def test_groups_and_times_of_arrays_cut_the_folds():
    x, y = np.random.default_rng(0).normal(size=(60, 2)), np.random.default_rng(1).normal(size=60)
    groups = np.array([f"g{i % 11}" for i in range(60)])
    data = load((x, y), group=groups)
    here = groups[union(data).rows]
    assert all(not set(here[fold.train]) & set(here[fold.valid]) for fold in folds(data, 4))
    data = load((x, y), time=np.arange(60)[::-1])
    assert np.array_equal(data.times, 59 - union(data).rows)
    assert all(data.times[fold.train].max() < data.times[fold.valid].min() for fold in folds(data, 4))


def test_the_fingerprint_is_of_the_parts_alone(table):
    data = load(table, "price", group="who", drop=["day"])
    before = data.fingerprint
    data.groups, data._fingerprint = None, None
    assert data.fingerprint == before


# -- scaling of each fold


def test_restandardised_as_standard_scaler_of_the_raw_rows():
    raw = np.random.default_rng(0).normal(size=(80, 3)) * [1, 50, 0.01] + [0, 1000, 3]
    data = load((raw, np.arange(80.0)))
    found = folds(data, 4)
    shift, scale = restandardised(data, found)
    assert shift.shape == scale.shape == (4, 3)
    assert shift.dtype == scale.dtype == np.float32
    part = union(data)
    for i, fold in enumerate(found):
        mine = (part.x - shift[i]) / scale[i]
        theirs = StandardScaler().fit(raw[part.rows][fold.train]).transform(raw[part.rows])
        np.testing.assert_allclose(mine, theirs, atol=2e-5)


def test_restandardised_leaves_codes_and_levels_alone():
    random = np.random.default_rng(0)
    n = 300
    frame = pl.DataFrame(
        {
            "size": [None if i % 9 == 0 else float(i % 23) for i in range(n)],
            "kind": [f"k{i % 5}" for i in range(n)],
            "place": [f"at{i % 20}" for i in range(n)],
            "new": [bool(i % 2) for i in range(n)],
            "built": [datetime.date(1990 + i % 30, 1, 1) for i in range(n)],
            "price": random.normal(size=n),
        }
    )
    data = load(frame, "price")
    features = data.schema.inputs.features
    shift, scale = restandardised(data, folds(data, 3))
    moved = {f for f, s, t in zip(features, shift.T, scale.T, strict=True) if (s != 0).any() or (t != 1).any()}
    assert moved == {"size", "built year"}
    assert [f for f in features if f.startswith("place")] == ["place"]  # embedded
    robust = load(frame, "price", scaling="robust", drop=["built"])
    shift, scale = restandardised(robust, folds(robust, 3))
    assert not shift.any()
    assert (scale == 1).all()


def test_restandardised_with_missing_and_constant_features():
    x = np.stack([np.arange(40.0), np.zeros(40)], 1)
    x[::7, 0] = np.nan
    x[39, 1] = 1  # all others are equal: constant in the fold that validates it
    with pytest.warns(DataWarning, match="missing values"):
        data = load((x, np.arange(40.0)), valid=0, test=0)
    found = folds(data, 4)
    shift, scale = restandardised(data, found)
    assert data.train.x.shape[1] == 3  # the last says what was missing
    assert not shift[:, 2].any()
    assert (scale[:, 2] == 1).all()
    alone = next(i for i, fold in enumerate(found) if 39 in fold.valid)
    assert scale[alone, 1] == 1
    assert np.isfinite(scale).all()


def test_restandardised_is_for_tables():
    images = np.random.default_rng(0).integers(0, 255, (20, 6, 6, 1), np.uint8)
    data = load((images, np.arange(20) % 2))
    assert restandardised(data, folds(data, 2)) is None
    series = load((np.random.default_rng(0).normal(size=(20, 5, 2)), np.arange(20) * 1.0))
    assert restandardised(series, folds(series, 2)) is None


# -- what cannot be


def test_a_class_that_cannot_fill_the_folds():
    labels = np.array(["rare"] * 3 + ["usual"] * 40 + ["other"] * 20)
    with pytest.raises(
        DataError,
        match=re.escape(
            "class 'rare' of 'target' has 3 rows in training and validation, which cannot fill 5 folds. Ask for 3 folds at most, join it with another class, or leave its rows out."
        ),
    ):
        folds(classed(labels), 5)
    check(folds(classed(labels), 3), classed(labels), 3)
    with pytest.warns(DataWarning, match="occurs in one row only"):
        data = classed(labels[2:])
    with pytest.raises(DataError, match=r"class 'rare' .* has 1 row in .*\. Join it with another class"):
        folds(data, 5)


def test_a_class_that_no_training_row_of_a_fold_has():
    labels = np.array(["a", "b"] * 20 + ["late"] * 10)
    data = classed(labels, valid=0)
    with pytest.warns(
        DataWarning, match=r"as none of its training rows has them: fold 0 'late'; fold 1 'late'; fold 2 'late'\."
    ):
        folds(data, 3, times=data.train.rows)
    with pytest.raises(DataError, match=r"training rows of fold 0 are all of one class of 'target', 'a'"):
        folds(data, 3, times=np.where(data.train.y == 0, data.train.rows, 100 + data.train.rows))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 1}, "folds must be a whole number of 2 or more, got 1: each judges what the others train."),
        ({"k": 2.0}, "folds must be a whole number of 2 or more, got 2.0"),
        ({"k": True}, "folds must be a whole number of 2 or more, got True"),
        ({"k": 25}, "24 rows of training and validation cannot fill 25 folds. Ask for fewer."),
        ({"k": 4, "groups": ["a", "b", "c"] * 8}, "3 groups cannot fill 4 folds: a group is never divided."),
        ({"k": 2, "groups": [0] * 24}, "1 group cannot fill 2 folds"),
        ({"k": 2, "groups": [0] * 30}, "groups needs one value for each of the 24 rows of training and validation"),
        ({"k": 2, "groups": [0] * 24, "times": [0] * 24}, "folds by group or by time, not both."),
        ({"k": 3, "times": [0, 1, 2] * 8}, "the rows have 3 different moments; 3 folds by time need 4"),
        ({"k": 3, "times": [0] * 24}, "the rows have 1 different moment; 3 folds"),
        ({"k": 3, "times": [np.nan] * 2 + [1.0] * 22}, "2 rows have no time, the first of them row 0; folds by time need one in every row."),
        ({"k": 3, "times": ["Monday"] * 24}, "times must be numbers or dates, got <U6 such as 'Monday'."),
    ],
)  # fmt: skip
def test_messages(options, message):
    with pytest.raises(DataError, match=re.escape(message)):
        folds(numbers(30), **options)


def test_missing_groups_of_a_given_split(table):
    gappy = table.with_columns(pl.when(pl.col("size") == 3).then(None).otherwise(pl.col("who")).alias("who"))
    rows = np.arange(90)
    data = load(gappy, "price", group="who", drop=["day"], indices=(rows[:70], rows[70:], []))
    with pytest.raises(DataError, match=r"7 rows have no group; folds by group need one in every row\."):
        folds(data, 3)


def test_streamed_data_have_no_folds(tmp_path):
    data = load((np.random.default_rng(0).normal(size=(200, 8)), np.arange(200.0)), memory_budget=100, cache=tmp_path)
    with pytest.raises(DataError, match=r"folds need the encoded rows in memory.*memory_budget="):
        folds(data, 3)
    with pytest.raises(DataError, match="stream from disk"):
        union(data)


def test_times_may_be_dates():
    data = numbers(30)
    dates = [datetime.date(2024, 1, 1) + datetime.timedelta(days=int(r)) for r in union(data).rows]
    found = folds(data, 3, times=dates)
    assert len(found) == 3
    assert union(data).rows[found[0].train].max() < union(data).rows[found[0].valid].min()
