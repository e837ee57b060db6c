"""Ready spaces and importance: what is tuned when nobody says, and what turned out to matter."""

import math

import jax
import pytest

import derin
from derin import Experiment, choice, log, one_minus_log, uniform
from derin.engine.defaults import default_experiment
from derin.errors import SpecError
from derin.models import SmallCNN
from derin.nn import MLP, Flatten, Linear, Sequential
from derin.optim import LBFGS, SGD, Adam, RMSprop, StepLR
from derin.tune.importance import importance
from derin.tune.ready import ready_paths, ready_space
from derin.tune.samplers import Random, Sobol, Told
from derin.tune.space import Space

LR = "optimizer.learning_rate"


def test_the_default_for_tables_is_tuned_in_the_courses_order():  # S4.01
    experiment = default_experiment(derin.load_data("iris"))
    assert [*ready_paths(experiment)] == [
        LR, "optimizer.betas.0", "net.widths", "batch_size", "schedule.gamma", "net.dropout", "optimizer.weight_decay",
    ]  # fmt: skip
    assert [*ready_paths(experiment, 1)] == [LR]
    assert [*ready_paths(experiment, 2)] == [LR, "optimizer.betas.0", "net.widths", "batch_size"]
    space = Space.of(ready_space(experiment))
    trials = [space.fixed(v) for v in Random().ask(space, 0, 60, [], 0, 60)]
    assert len({jax.tree.structure(t) for t in trials}) == 6  # few programs
    assert {t.optimizer.betas[1] for t in trials} == {0.999} and {t.optimizer.eps for t in trials} == {1e-8}
    assert min(t.schedule.gamma**200 for t in trials) < 0.1 < 0.9 < max(t.schedule.gamma**200 for t in trials)


def test_what_an_experiment_has_is_what_is_tuned():
    sgd = ready_paths(Experiment(Sequential(Flatten(), MLP((64,), 3)), optimizer=SGD(0.1), batch_size="full"))
    assert sgd == {
        LR: log(0.0033, 3.0), "optimizer.momentum": one_minus_log(0.5, 0.98),
        "net.layers.1.widths": choice((64,), (32,), (64, 64)), "schedule.gamma": one_minus_log(0.79, 0.9995),
    }  # fmt: skip
    cnn = ready_paths(Experiment(SmallCNN(10), optimizer=Adam(), schedule=StepLR(3)))
    assert cnn["net.widths"] == choice((32, 64), (16, 32)) and cnn["net.dropout"] == uniform(0.0, 0.5)
    assert "schedule.gamma" not in cnn
    for optimizer in (RMSprop(), LBFGS(), SGD(0.1, momentum=None)):
        space = Space.of(ready_space(Experiment(Linear(1), optimizer=optimizer, batch_size="full")))
        assert LR in space.paths


def test_what_a_person_chose_is_left_alone():
    own = Experiment(MLP(choice((8,), (9,)), 3), optimizer=choice(Adam(log(1e-4, 1e-2)), SGD(0.1)), epochs=5)
    assert [*ready_paths(own)] == ["batch_size", "schedule.gamma"]
    assert ready_space(own).optimizer == own.optimizer and ready_space(own).net == own.net
    whole = own.replace(batch_size="full", schedule=StepLR(3))
    assert ready_space(whole) == whole
    with pytest.raises(SpecError, match=r"priorities is 1 .the learning rate., 2 or 3 .all., got 4"):
        ready_space(own, 4)


# -- importance

SPACE = Space.of(
    Experiment(Linear(1), optimizer=SGD(log(1e-4, 1.0), momentum=uniform(0.0, 0.9)), batch_size=choice(16, 32))
)


def told(space, score, n=64):
    return [Told(i, v, score(v)) for i, v in enumerate(Sobol().ask(space, 0, n, [], 0, n))]


def test_what_matters_is_found_and_what_does_not():  # S4.02: a grid wastes its points on what does not matter
    found = importance(SPACE, told(SPACE, lambda v: abs(math.log10(v[LR]) + 2) + 0.5 * v["optimizer.momentum"]))
    assert [*found] == [LR, "optimizer.momentum", "batch_size"]
    assert sum(found.values()) == pytest.approx(1) and found[LR] > 0.7 and found["batch_size"] < 0.05
    assert found == importance(SPACE, told(SPACE, lambda v: abs(math.log10(v[LR]) + 2) + 0.5 * v["optimizer.momentum"]))


def test_additive_effects_have_their_closed_form():
    """y = a + 2 b of two uniform numbers: the variances are as 1 to 4."""
    space = Space.of(Experiment(Linear(1), optimizer=SGD(uniform(1e-9, 1.0), momentum=uniform(0.0, 1 - 1e-9))))
    found = importance(space, told(space, lambda v: v[LR] + 2 * v["optimizer.momentum"], 256))
    assert found["optimizer.momentum"] == pytest.approx(0.8, abs=0.06)


def test_diverged_trials_and_conditional_values_count():
    space = Space.of(
        Experiment(Linear(1), optimizer=choice(Adam(log(1e-4, 1.0)), SGD(log(1e-4, 1.0), momentum=uniform(0.0, 0.9))))
    )
    score = lambda v: math.nan if v[LR] > 0.1 else abs(math.log10(v[LR]) + 2) + 0.1 * v["optimizer"]  # noqa: E731
    found = importance(space, told(space, score))
    assert {*found} == {"optimizer", LR, "optimizer.momentum"} and found[LR] > 0.8
    by_option = importance(space, told(space, lambda v: v.get("optimizer.momentum", 5.0)))
    assert by_option["optimizer"] > 0.5 and by_option[LR] < 0.05


def test_nothing_differs_or_too_few():
    assert {*importance(SPACE, told(SPACE, lambda v: math.nan)).values()} == {0.0}
    with pytest.raises(SpecError, match="at least 4 finished trials, there are 3"):
        importance(SPACE, told(SPACE, lambda v: v[LR])[:3])
