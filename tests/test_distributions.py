"""Distributions: what each draws, the way back, and that they may stand in any field of any spec."""

import copy
import math
import pickle

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

import derin
from derin import Experiment, choice, integer, log, log_integer, one_minus_log, spec, uniform
from derin.engine.folder import RunFolder
from derin.errors import SpecError
from derin.nn import MLP, Dropout, Linear, ReLU, Sequential, Tanh
from derin.optim import SGD, Adam, StepLR

shares = st.floats(0, 1)
ends = st.tuples(st.floats(1e-6, 1e3), st.floats(1.01, 1e4)).map(lambda e: (e[0], e[0] * e[1]))
wholes = st.tuples(st.integers(1, 500), st.integers(0, 500)).map(lambda e: (e[0], e[0] + e[1]))


def drawn(found, n=20_000):
    return np.array([found.at(u) for u in np.random.default_rng(0).random(n)])


def test_on_a_uniform_scale_nine_of_ten_learning_rates_are_above_a_tenth():  # S4.05
    assert np.mean(drawn(uniform(1e-4, 1.0)) > 0.1) == pytest.approx(0.9, abs=0.01)
    logs = drawn(log(1e-4, 1.0))
    assert np.mean(logs > 0.1) == pytest.approx(0.25, abs=0.01)
    counts, _ = np.histogram(np.log10(logs), bins=4, range=(-4, 0))  # each power of ten alike
    np.testing.assert_allclose(counts / len(logs), 0.25, atol=0.01)


def test_betas_are_spread_evenly_in_the_logarithm_of_one_minus_beta():  # S4.06
    betas = drawn(one_minus_log(0.9, 0.999))
    counts, _ = np.histogram(np.log10(1 - betas), bins=8, range=(-3, -1))
    np.testing.assert_allclose(counts / len(betas), 1 / 8, atol=0.01)
    assert one_minus_log(0.9, 0.999).at(0.5) == pytest.approx(0.99, abs=1e-12)


def test_whole_numbers_come_alike_and_both_ends_are_in():  # S4.04
    layers, units = drawn(integer(2, 4)), drawn(integer(50, 100))
    np.testing.assert_allclose(np.bincount(layers)[2:] / len(layers), 1 / 3, atol=0.01)
    assert {*units} == {*range(50, 101)}
    widths = drawn(log_integer(8, 128))
    assert widths.min() == 8 and widths.max() == 128
    assert np.mean(widths < 16) == pytest.approx(0.25, abs=0.01)  # each doubling alike


@settings(max_examples=12, deadline=None)
@given(ends, shares)
def test_place_is_the_way_back_for_numbers(ends, u):
    for found in (uniform(*ends), log(*ends), one_minus_log(1 - ends[1], 1 - ends[0])):
        value = found.at(u)
        assert found.low <= value <= found.high
        assert found.place(value) == pytest.approx(u, abs=1e-6)
        assert found.at(0) == found.low and found.at(1) == found.high
        window = found.narrowed(value, 0.25)
        assert type(window) is type(found)
        assert (
            found.low <= window.low <= value + 1e-9 * abs(value)
            and value - 1e-9 * abs(value) <= window.high <= found.high
        )
        assert found.place(window.high) - found.place(window.low) == pytest.approx(0.25, abs=1e-6)


@settings(max_examples=12, deadline=None)
@given(wholes, shares)
def test_place_is_the_way_back_for_whole_numbers_to_the_number(ends, u):
    for found in (integer(*ends), log_integer(*ends)):
        value = found.at(u)
        assert type(value) is int and found.low <= value <= found.high
        assert found.at(found.place(value)) == value
        window = found.narrowed(value, 0.25)
        assert found.low <= window.low <= value <= window.high <= found.high


def test_a_choice_finds_its_options_again():
    found = choice("full", 32, (64, 64), None, True, Adam(0.1))
    for i, option in enumerate(found.options):
        assert found.index_of(option) == i and found.at(found.place(option)) == option
    assert {found.index_at(u) for u in np.linspace(0, 1, 50)} == {*range(6)}


SPACE = Experiment(
    net=Sequential(
        Linear(choice(32, 64)), jax.nn.elu, choice(ReLU(), jax.nn.tanh), Dropout(uniform(0.0, 0.5)), Linear(3)
    ),
    optimizer=choice(Adam(log(1e-4, 1e-1), betas=(one_minus_log(0.9, 0.999), 0.999)), SGD(0.1)),
    schedule=StepLR(integer(2, 5)),
    epochs=log_integer(5, 50),
    batch_size=choice("full", 32),
    early_stopping=choice(None, derin.EarlyStopping(3)),
)


def test_a_space_is_a_value_like_any_other():
    for back in (
        spec.from_json(spec.to_json(SPACE)),
        spec.from_toml(spec.to_toml(SPACE)),
        spec.parse(repr(SPACE)),
        pickle.loads(pickle.dumps(SPACE)),
        copy.deepcopy(SPACE),
        jax.tree.map(lambda x: x, SPACE),
    ):
        assert back == SPACE and hash(back) == hash(SPACE) and spec.diff(back, SPACE) == []
    assert spec.get(SPACE, "optimizer.options.0.learning_rate") == log(1e-4, 1e-1)
    fixed = spec.set(SPACE, "optimizer", Adam(0.01))
    assert spec.diff(SPACE, fixed) == [("optimizer", SPACE.optimizer, Adam(0.01))]
    assert spec.set(fixed, "optimizer.learning_rate", spec.parse("log(1e-4,1e-1)")).optimizer == Adam(log(1e-4, 1e-1))
    assert [*spec.distributions(SPACE)] == [
        "net.layers.0.features", "net.layers.2", "net.layers.3.rate",
        "optimizer", "schedule.step_size", "epochs", "batch_size", "early_stopping",
    ]  # fmt: skip
    data = {"type": "log", "low": 1e-4, "high": 0.1}
    assert spec.from_dict(data) == log(1e-4, 0.1) and spec.to_dict(log(1e-4, 0.1)) == data


def test_a_distribution_in_a_net_waits_with_its_layers():
    net = MLP((integer(32, 64), 16), 3)
    with pytest.raises(AttributeError, match="'hidden' when its distributions have become values"):
        net.hidden  # noqa: B018
    params, _ = spec.set(net, "widths.0", 40).init(jax.random.key(0), jnp.ones((1, 2)))
    assert params["hidden.0.weight"].shape == (40, 2)


def test_where_values_are_needed_the_message_names_the_distributions(tmp_path):
    net, x = MLP((integer(32, 64),), 3), jnp.ones((2, 4))
    data = derin.load_data("iris")
    tune = r"derin.tune\(experiment, data\) searches it"
    for use in (
        lambda: net.init(jax.random.key(0), x),
        lambda: net.look(x),
        lambda: net.apply({}, {}, x),
        lambda: derin.fit(net, data, progress=False),
        lambda: Experiment(net).fit(data, progress=False),
        lambda: derin.lr_range_test(Experiment(net), data),
    ):
        with pytest.raises(SpecError, match=rf"widths.0 = integer\(32, 64\).*{tune}"):
            use()
    with pytest.raises(SpecError, match=r"optimizer = choice\(.*epochs = log_integer\(5, 9\)"):
        derin.fit(Linear(3), data, optimizer=choice(Adam(), SGD(0.1)), epochs=log_integer(5, 9), progress=False)
    (tmp_path / "experiment.json").write_text(spec.to_json(Experiment(net)))
    with pytest.raises(SpecError, match=r"net.widths.0 = integer"):
        RunFolder(tmp_path).experiment()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: uniform(1, 0), r"uniform\(1.0, 0.0\) is reversed: write uniform\(0.0, 1.0\)"),
        (lambda: integer(4, 2), "reversed"),
        (lambda: uniform(1, 1), "is empty: its ends are equal. Write the value 1.0 itself"),
        (lambda: log(0, 1), "a logarithmic scale has no zero and no negative number"),
        (lambda: log(-1, 1), "no zero and no negative"),
        (lambda: log_integer(0, 8), "no zero and no negative"),
        (lambda: one_minus_log(0.9, 1.0), "needs values below 1, such as"),
        (lambda: uniform(0, math.inf), "high must be a finite number, got inf"),
        (lambda: log(math.nan, 1), "low must be a finite number, got nan"),
        (lambda: uniform(log(1, 2), 3), "low must be a finite number"),
        (lambda: uniform("a", 3), "uniform.low must be a number, got 'a'"),
        (lambda: integer(1.5, 3), "integer.low must be a whole number, got 1.5"),
        (lambda: choice(), r"choice\(\) has no options"),
        (lambda: choice(64, 128, 64), "holds 64 twice"),
        (lambda: Linear(uniform(8, 64)), r"Linear.features must be a whole number.*integer\(...\) or log_integer"),
        (lambda: Linear(choice(8, "a")), "Linear.features must be a whole number"),
        (lambda: Experiment(Linear(1), optimizer=choice(Adam(), 0.1)), "Experiment.optimizer must be an Optimizer"),
        (lambda: Sequential(choice(Tanh(), 3)), "Sequential: layer 1 is 3"),
        (lambda: uniform(0, 1).at(1.5), "takes a number from 0 to 1, got 1.5"),
        (lambda: uniform(0, 1).place("x"), "'x' is not a number"),
        (lambda: uniform(0, 1).narrowed(0.5, 0), "share must be above 0"),
        (lambda: choice(1, 2).place(3), r"3 is not an option of choice\(1, 2\)"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_one_message(make, message):
    with pytest.raises(SpecError, match=message):
        make()
