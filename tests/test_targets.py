"""Targets: what is a class and what a number, there and back."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derin import spec
from derin.data import ClassTarget, DataWarning, NumberTarget, fit_target
from derin.data.targets import infer_task, present
from derin.errors import DataError


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b", "a"], "classes"),
        ([True, False], "classes"),
        ([0, 1] * 10, "classes"),
        ([0.0, 1.0] * 10, "classes"),  # pandas makes floats of whole numbers when some are missing
        (list(range(10)) * 20, "classes"),
        (list(range(30)) * 20, "number"),
        ([400, 450, 500, 550, 650], "number"),  # whole, but they hardly repeat
        ([0.5, 1.5] * 50, "number"),
        ([1, 2], "classes"),
    ],
)
def test_rule(values, task):
    assert infer_task(values) == task
    assert infer_task(np.array(values)) == task
    assert infer_task(np.array(values, object)) == task
    assert infer_task(pl.Series(values)) == task


@settings(max_examples=25, deadline=None)
@given(
    st.one_of(
        st.lists(st.integers(-5, 5), min_size=8, max_size=60),
        st.lists(st.sampled_from(["yes", "no", "ab c", "ü", "10", "9"]), min_size=8, max_size=60),
        st.lists(st.booleans(), min_size=8, max_size=60),
    )
)
def test_classes_there_and_back(values):
    values = values * 4
    if len(set(values)) < 2:
        with pytest.raises(DataError, match="one class only"):
            fit_target("y", values, "classes")
        return
    target = fit_target("y", values, "classes")
    y = target.encode(values)
    assert y.dtype == np.int32
    assert target.decode(y).tolist() == values
    assert list(target.labels) == sorted(set(values))
    assert spec.from_json(spec.to_json(target)) == target
    assert target.kind == ("binary" if len(target.labels) == 2 else "classes")
    assert target.width == (1 if len(target.labels) == 2 else len(target.labels))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50).filter(lambda v: np.std(v) > 1e-3))
def test_numbers_are_standardised_by_training_rows(values):
    values = np.array(values)
    target = fit_target("y", values, "number")
    y = target.encode(values)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.mean(), 0, atol=1e-3)
    np.testing.assert_allclose(y.std(), 1, atol=1e-3)
    np.testing.assert_allclose(target.decode(y), values, rtol=1e-4, atol=1e-5 * np.abs(values).max())
    half = fit_target("y", np.append(values, 1e9), "number", train=np.arange(len(values)))
    assert half == target


def test_labels_written_otherwise():
    adult = ClassTarget("income", ("<=50K", ">50K"))
    assert adult.encode([" >50K.", "<=50K.", ">50K"]).tolist() == [1, 0, 1]
    digits = ClassTarget("digit", (1, 2, 3))
    assert digits.encode(np.array(["1", "3"])).tolist() == [0, 2]
    assert digits.encode([2.0, 1.0]).tolist() == [1, 0]
    assert fit_target("y", ["'-1'", "'1'"] * 3).labels == ("-1", "1")
    assert adult.knows([">50K", "other", None]).tolist() == [True, False, False]


def test_unknown_label():
    with pytest.raises(DataError, match=r"'maybe' \(row 1\) is not a class of target 'y'; the classes are 'no', 'yes'"):
        ClassTarget("y", ("no", "yes")).encode(["no", "maybe"])


def test_missing():
    assert present([1.0, float("nan")]).tolist() == [True, False]
    assert present(np.array(["a", "", " ? ", "NA", None], object)).tolist() == [True] + [False] * 4
    assert present([1, 2]).all()


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        (["a", "a"], None, "one class only"),
        ([1.5, 1.5, 1.5], None, "is 1.5 in every training row"),
        (["a", "b"], "number", "is 'a' in row 0, which is not a number"),
        ([1.0, np.inf], "number", "infinite in 1 rows, the first of them row 1"),
        ([f"name {i}" for i in range(50)], None, "too many for classes"),
        ([1, 2], "clases", "task must be"),
        ([], None, "missing in every row"),
        (np.zeros((3, 2)), None, "the same in every training row"),
    ],
)
def test_bad_targets(values, task, message):
    with pytest.raises(DataError, match=message):
        fit_target("y", values, task)


def test_class_with_one_row_is_said():
    with pytest.warns(DataWarning, match="'c' occurs in one row only"):
        fit_target("y", ["a", "b"] * 5 + ["c"])


def test_number_target_of_two_decodes_in_own_units():
    target = NumberTarget("y", mean=10.0, scale=2.0)
    np.testing.assert_array_equal(target.decode(np.float32([0.5])), [11.0])
