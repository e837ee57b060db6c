"""The learning-rate range test: a pure function whose suggestion trains."""

import jax
import numpy as np
import pytest

import derin
from derin import nn, optim
from derin.engine.range_test import _judged
from derin.errors import SpecError

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 4)).astype(np.float32)
Y = X @ [1.0, -2.0, 3.0, 0.5] + 0.1 * rng.normal(size=300)
DATA = derin.data.load((X, Y), valid=0, test=0)
SGD = derin.Experiment(nn.Linear(1), optimizer=optim.SGD(0.3), batch_size=32, seed=3)


def test_the_suggestion_is_below_what_diverges_and_learns():
    found = derin.lr_range_test(SGD, DATA)
    largest = 2 / (2 * np.linalg.eigvalsh(np.cov(DATA.train.x.T))[-1])  # full-batch descent on MSE diverges above
    assert 0.002 * largest < found.suggestion < largest
    assert found.rates[-1] < 100 * largest  # cut where it blew up, high is 10
    loss = lambda rate: derin.fit(  # noqa: E731
        SGD.net, DATA, optimizer=optim.SGD(rate), batch_size=32, epochs=3, progress=False
    ).history[-1]["loss"]
    assert loss(found.suggestion) < 0.2 * loss(found.suggestion / 100)


@pytest.mark.parametrize("optimizer", [optim.Adam(), optim.SGD(momentum=0.9)])
def test_classes(optimizer):
    net = nn.Sequential(nn.Linear(16), nn.ReLU(), nn.Linear(3))
    data = derin.data.load("iris", test=0)
    found = derin.lr_range_test(net, data, optimizer=optimizer, batch_size=16, steps=120)
    assert 1e-4 < found.suggestion < 1
    run = derin.fit(net, data, optimizer=optimizer.replace(learning_rate=found.suggestion), epochs=12, progress=False)
    assert run.evaluate("valid")["accuracy"] > 0.85


def test_it_takes_the_steps_that_a_run_takes():
    """With one rate throughout, the losses are those of the first epoch of a run."""
    found = derin.lr_range_test(SGD, DATA, low=0.01, high=0.01 * (1 + 1e-6), steps=10)
    assert len(DATA.train.x) == 300  # ten batches of 32, the last short
    run = derin.fit(SGD.net, DATA, optimizer=optim.SGD(0.01), batch_size=32, seed=3, epochs=1, progress=False)
    weights = np.full(10, 32.0)
    weights[-1] = 300 - 9 * 32
    assert (found.losses * weights).sum() / 300 == pytest.approx(run.history[0]["loss"], rel=1e-5)


def test_nothing_is_changed_and_it_is_a_function_of_its_arguments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, x = derin.spec.to_json(SGD), DATA.train.x.copy()
    one, two = derin.lr_range_test(SGD, DATA, steps=50), derin.lr_range_test(SGD, DATA, steps=50)
    assert derin.spec.to_json(SGD) == before and (DATA.train.x == x).all() and not list(tmp_path.iterdir())
    for a, b in zip(one[:3], two[:3], strict=True):
        assert (a == b).all()
    other = derin.lr_range_test(SGD, DATA, steps=50, seed=4)
    assert (one.losses[:20] != other.losses[:20]).any()


def test_fields_of_the_experiment_that_it_leaves_out():
    stopping = SGD.replace(early_stopping=derin.EarlyStopping(1), schedule=optim.StepLR(1), average=optim.EMA())
    one, two = derin.lr_range_test(stopping, DATA, steps=30), derin.lr_range_test(SGD, DATA, steps=30)
    assert (one.losses == two.losses).all()


def test_more_steps_than_an_epoch_and_a_full_batch():
    full = derin.lr_range_test(SGD.replace(batch_size="full"), DATA, steps=60)
    assert len(full.rates) > 20 and full.suggestion < 1
    rates = full.rates
    np.testing.assert_allclose(rates[1:] / rates[:-1], (10 / 1e-7) ** (1 / 59), rtol=1e-9)


def test_the_curve_as_text():
    found = derin.lr_range_test(SGD, DATA, steps=80)
    text = str(found)
    assert text.isascii() and text.startswith("learning rate   loss") and text.count("<- suggestion") == 1
    assert f"{found.suggestion:.2e}" in next(line for line in text.splitlines() if "suggestion" in line)


def test_a_loss_that_never_falls():
    found = _judged(np.logspace(-3, 0, 50), np.linspace(1, 2, 50), -1)
    assert found.suggestion is None and "the loss never fell" in str(found).lower()
    assert _judged(np.logspace(-3, 0, 50), np.ones(50), 12).rates.shape == (12,)  # step 12 was not finite
    assert "not finite at the first step" in str(_judged(np.logspace(-3, 0, 50), np.ones(50), 0))


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(low=0.0), "needs 0 < low < high, got low=0.0"),
        (dict(low=1.0, high=0.1), "needs 0 < low < high"),
        (dict(high=float("inf")), "needs 0 < low < high"),
        (dict(steps=3), "at least 10 steps, got steps=3"),
        (dict(steps=50.0), "at least 10 steps, got steps=50.0"),
        (dict(rate=1.0), "has no field 'rate'"),
    ],
)
def test_messages(options, message):
    with pytest.raises(SpecError, match=message):
        derin.lr_range_test(SGD, DATA, **options)


def test_a_key_is_a_key():
    from derin.engine.training import key_bits

    assert (jax.random.key_data(jax.random.key(3)) == key_bits(3)).all()
