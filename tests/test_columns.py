"""Columns: what each is understood as, how it is encoded, and that training alone decides."""

import datetime

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.preprocessing import QuantileTransformer, RobustScaler, StandardScaler

import derin.data
from derin import spec
from derin.data import DataWarning
from derin.data.columns import (
    BooleanColumn,
    CategoryColumn,
    DateColumn,
    NumericColumn,
    TableInput,
    UnusedColumn,
    fit_columns,
    refuse_stray_text,
)
from derin.data.frames import natural, to_frame
from derin.errors import DataError


def understood(values, name="c", rows=None, **options):
    column, form = natural(to_frame({name: values})[name])
    rows = np.random.default_rng(0).permutation(len(column)) if rows is None else rows
    return fit_columns(pl.DataFrame([column]), rows, forms={name: form}, **options)[0]


def encoded(column, values):
    return column.encode(to_frame({column.name: values})[column.name])[0]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(-1e5, 1e5)), min_size=4, max_size=60))
def test_numeric_equals_sklearn(values):
    there = np.array([v for v in values if v is not None])
    if len(np.unique(there)) < 2 or there.std() < 1e-3:
        return
    column = understood([*values, 0.5])
    there = np.append(there, 0.5)
    if isinstance(column, BooleanColumn):
        return
    filled = np.array([np.median(there) if v is None else v for v in [*values, 0.5]])
    expected = StandardScaler().fit(there[:, None]).transform(filled[:, None])[:, 0]
    x = encoded(column, [*values, 0.5])
    np.testing.assert_allclose(x[:, 0], expected, rtol=1e-6, atol=1e-6)
    gaps = [v is None for v in [*values, 0.5]]
    assert x.shape[1] == 1 + any(gaps)
    if any(gaps):
        assert x[:, 1].tolist() == [float(g) for g in gaps]


def test_robust_and_quantile_scaling_equal_sklearn():
    values = np.random.default_rng(0).lognormal(size=500)
    z = RobustScaler().fit_transform(values[:, None])[:, 0]
    robust = encoded(understood(values, scaling="robust"), values)[:, 0]
    np.testing.assert_allclose(robust, z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-6)
    quantile = encoded(understood(values, scaling="quantile"), values)[:, 0]
    ours = QuantileTransformer(n_quantiles=256, output_distribution="uniform").fit_transform(values[:, None])[:, 0]
    middle = (ours > 0.02) & (ours < 0.98)
    np.testing.assert_allclose(quantile[middle], norm.ppf(ours[middle]), atol=0.02)
    assert np.abs(encoded(understood(values, scaling="quantile"), [1e9, -1e9])).max() < 4
    many_zeros = [0.0] * 90 + list(np.linspace(1, 2, 10))
    assert np.isfinite(encoded(understood(many_zeros, scaling="robust"), many_zeros)).all()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 1, 1, 0, 1], BooleanColumn),
        (["yes", "no", "no"], BooleanColumn),
        ([True, False, None], BooleanColumn),
        ([1, 2, 3, 1, 2, 3], NumericColumn),  # few whole numbers stay numbers
        ([1, 2, 2, 1], NumericColumn),
        (["1.5", "2", "NA-"] * 2, CategoryColumn),
        (["a", "b", "c"] * 5, CategoryColumn),
        (["2024-01-05", "2023-02-01"], DateColumn),
        (["05.01.2024", "31.12.2023"], DateColumn),
        (["2024-01-05 10:30:00", "2024-01-05 11:30:00"], DateColumn),
        (["2024-01-05T10:30:00Z", "2024-01-05T11:30:00+01:00"], DateColumn),
        (["3", "1,5", "2,25", "7"], NumericColumn),  # a comma for the decimal point
        (["00123", "01234", "00077", "00123"] * 4, CategoryColumn),  # codes, not numbers
        (["x"] * 5, UnusedColumn),
        ([3.5] * 5, UnusedColumn),
        ([None] * 5, UnusedColumn),
        ([f"name {i}" for i in range(30)], UnusedColumn),
        ([f"the quick brown fox number {i}" for i in range(30)], UnusedColumn),
        ([datetime.date(2024, 1, 5), datetime.date(2024, 3, 5)], DateColumn),
    ],
)
def test_kinds(values, kind):
    assert type(understood(values)) is kind


def test_identifiers():
    n = 50
    running = np.arange(1, n + 1)
    assert "running number" in understood(running, "row", rows=np.arange(n)).why
    some = np.sort(np.random.default_rng(0).permutation(n)[:30])
    assert "running number" in understood(running[some], "row", rows=some).why  # seen in the training rows alone
    shuffled = np.random.default_rng(0).permutation(n) * 7 + 1000
    assert "identifier" in understood(shuffled, "customer_id").why
    assert "identifier" in understood(shuffled, "PassengerId").why
    assert isinstance(understood(shuffled, "income"), NumericColumn)
    assert isinstance(understood(shuffled, "humid"), NumericColumn)
    assert isinstance(understood(shuffled, "customer_id", asked={"customer_id": "numeric"}), NumericColumn)
    assert isinstance(understood(shuffled % 5, "customer_id", asked={"customer_id": "categorical"}), CategoryColumn)


def test_boolean():
    column = understood(["no", "yes", None, "yes"])
    x = encoded(column, ["yes", "no", None])
    assert x.tolist() == [[1, 0], [-1, 0], [0, 1]]
    assert understood(["true", "false", "true"]).levels == ("false", "true")
    assert encoded(understood([True, False]), ["True", "FALSE"]).tolist() == [[1], [-1]]
    assert encoded(understood([0, 1]), ["1.0", "0"]).tolist() == [[1], [-1]]


def test_category_one_hot():
    column = understood(["b"] * 6 + ["a"] * 5 + ["rare"] + [None])
    assert (column.levels, column.rare) == (("a", "b"), 1)
    x = encoded(column, ["a", "b", None, "rare", "new"])
    assert x.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [1, 0, 0, 0]]
    assert column.features == ("c=(other)", "c=a", "c=b", "c=(missing)")
    plain = understood(["a", "b", "c"] * 5)
    assert encoded(plain, ["c", "new"]).tolist() == [[0, 0, 1], [0, 0, 0]]
    assert plain.encode(pl.Series("c", ["a", "new", "newer"]))[1] == 2


def test_category_of_numbers_is_the_same_from_any_source():
    column = understood([1, 2, 3] * 9, asked={"c": "categorical"})
    assert column.levels == ("1", "2", "3")
    for same in ([1, 3], [1.0, 3.0], ["1", "3"], ["1.0", "3.00"]):
        assert encoded(column, same).tolist() == [[1, 0, 0], [0, 0, 1]]


def test_category_embedded():
    levels = [f"level {i:02d}" for i in range(20)]
    column = understood(levels * 10 + [None])
    assert column.embedded and column.width == 0 and column.codes == 22
    code, unseen = column.code(pl.Series("c", ["level 00", "level 19", None, "new"]))
    assert code.tolist() == [1, 20, 21, 0]
    assert unseen == 1


def test_dates():
    moments = [datetime.datetime(2020, 1, 1) + datetime.timedelta(hours=31 * i) for i in range(400)]
    column = understood(moments)
    assert column.parts == ("year", "month", "day", "weekday", "hour")
    x = encoded(column, moments)
    assert abs(x[:, 0].mean()) < 1e-9
    hours = np.array([m.hour for m in moments]) * 2 * np.pi / 24
    np.testing.assert_allclose(x[:, -2], np.sin(hours), atol=1e-12)
    weekday = np.array([m.weekday() for m in moments]) * 2 * np.pi / 7
    np.testing.assert_allclose(x[:, 5], np.sin(weekday), atol=1e-12)
    months = understood(["2020-01", "2020-02", "2021-03"])
    assert months.parts == ("year", "month")
    turkish = pl.Series("c", ["31.12.2020", "01.02.2021"])
    assert natural(turkish).form == "%d.%m.%Y"
    with pytest.warns(DataWarning, match="is possible as well"):
        natural(pl.Series("c", ["01/02/2020", "03/04/2021"]))
    assert natural(pl.Series("c", ["01/22/2020", "03/04/2021"])).form == "%m/%d/%Y"
    with pytest.raises(DataError, match=r"holds dates.*'soon' in row 1"):
        encoded(column, ["2020-01-01", "soon"])


def test_missing_dates():
    column = understood(["2020-01-01", None, "2021-06-01"])
    x = encoded(column, ["2020-01-01", None])
    assert x[1].tolist() == [0] * (x.shape[1] - 1) + [1]


def test_text_in_a_numeric_column():
    column = understood([1.5, 2.5, 4.0])
    with pytest.raises(DataError, match="column 'c' holds numbers, but 'many' in row 1"):
        encoded(column, ["1", "many"])
    values = [str(i) for i in range(40)] + ["?!"]
    with pytest.raises(DataError, match=r"except for 1 cell such as '\?!'"):
        refuse_stray_text(pl.Series("c", values))
    refuse_stray_text(pl.Series("c", values[:6] * 5 + ["x"] * 4))
    assert isinstance(understood(values[:6] * 5 + ["x"] * 4), CategoryColumn)


def test_infinite_and_huge_numbers():
    with pytest.raises(DataError, match="infinite in 1 row, the first of them row 2"):
        understood([1.0, 2.0, float("inf")])
    with pytest.raises(DataError, match="too large to be scaled"):
        understood([1.0, 1e300, -1e300])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_fitted_on_training_rows_only(seed):
    """Whatever stands in the rows for validation and test, the encoders are the same."""
    random = np.random.default_rng(seed)
    n = 120
    frame = {
        "number": random.normal(size=n),
        "level": random.choice(list("abcd"), n),
        "gaps": [None if v < 0 else v for v in random.normal(size=n)],
        "y": random.integers(0, 2, n),
    }
    parts = np.arange(80), np.arange(80, 100), np.arange(100, n)
    other = {k: list(v) for k, v in frame.items()}
    for row in range(80, n):
        other["number"][row] = 1e6 * random.normal()
        other["level"][row] = "new"
        other["gaps"][row] = None
    a = derin.data.load(frame, "y", indices=parts)
    b = derin.data.load(other, "y", indices=parts)
    assert a.schema == b.schema
    np.testing.assert_array_equal(a.train.x, b.train.x)


def test_schema_as_json(tmp_path):
    n = 200
    frame = {
        "number": np.linspace(0, 1, n),
        "flag": ["yes", "no"] * (n // 2),
        "level": [f"level {i % 20}" for i in range(n)],
        "few": ["a", "b", "c", "c"] * (n // 4),
        "day": [f"2024-{1 + i % 12:02d}-11" for i in range(n)],
        "same": [1] * n,
        "y": np.arange(n) % 3,
    }
    data = derin.data.load(frame, "y", scaling="quantile")
    again = spec.from_json(spec.to_json(data.schema))
    assert again == data.schema
    np.testing.assert_array_equal(again.encode(frame), data.schema.encode(frame))


def test_table_input_embeds():
    layer = TableInput(numeric=2, levels=(4, 30), widths=(3, 5))
    x = np.array([[0.5, -1.0, 1, 29], [1.5, 2.0, 0, 0]], np.float32)
    params, state = layer.init(jax.random.key(0), jnp.asarray(x))
    assert {k: v.shape for k, v in params.items()} == {
        "embeddings.0.weight": (4, 3),
        "embeddings.1.weight": (30, 5),
    }
    y, _ = layer.apply(params, state, jnp.asarray(x))
    first, second = (np.asarray(params[f"embeddings.{i}.weight"]) for i in range(2))
    expected = np.stack([[0.5, -1.0, *first[1], *second[29]], [1.5, 2.0, *first[0], *second[0]]])
    np.testing.assert_allclose(y, expected)
    assert np.all(first[0] == 0)  # a level nobody has seen says nothing
    gradient = jax.grad(lambda p: (layer.apply(p, {}, jnp.asarray(x))[0] ** 2).sum())(params)
    expected = np.zeros((30, 5))
    expected[29], expected[0] = 2 * second[29], 2 * second[0]
    np.testing.assert_allclose(gradient["embeddings.1.weight"], expected, rtol=1e-6)
    plain = TableInput(numeric=3)
    assert plain.init(jax.random.key(0), jnp.ones((2, 3))) == ({}, {})
