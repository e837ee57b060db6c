"""Space: paths, conditional distributions, values that a file holds, and the experiment they make."""

import json

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from derin import Experiment, choice, integer, log, one_minus_log, uniform
from derin.errors import SpecError
from derin.nn import MLP, CrossEntropyLoss, Dropout, Linear, Module, Scalar, Sequential
from derin.optim import SGD, Adam
from derin.tune.space import Space

NET = MLP((integer(50, 100), 16), 3)
SPACE = Space.of(
    Experiment(
        NET,
        optimizer=choice(
            Adam(log(1e-4, 1e-1)),
            SGD(log(1e-3, 1.0), momentum=choice(0.0, one_minus_log(0.9, 0.999))),
        ),
        batch_size=choice("full", 32),
    )
)
US = st.lists(st.floats(0, 1), min_size=7, max_size=7)


def test_paths_are_those_of_the_finished_experiment_and_names_are_unique():
    assert [*SPACE.paths] == [
        "net.widths.0",
        "optimizer",
        "optimizer.learning_rate",
        "optimizer.momentum",
        "batch_size",
    ]
    assert [d.name for d in SPACE.dimensions] == [
        "net.widths.0", "optimizer", "optimizer[0].learning_rate", "optimizer[1].learning_rate",
        "optimizer[1].momentum", "optimizer[1].momentum[1]", "batch_size",
    ]  # fmt: skip


def test_a_choice_decides_what_counts():
    adam = SPACE.at([0.5, 0.0, 0.5, 0.9, 0.9, 0.9, 0.9])
    assert [*adam] == ["net.widths.0", "optimizer", "optimizer.learning_rate", "batch_size"]
    assert SPACE.fixed(adam) == Experiment(
        MLP((75, 16), 3), optimizer=Adam(adam["optimizer.learning_rate"]), batch_size=32
    )
    sgd = SPACE.at({"net.widths.0": 0, "optimizer": 1, "optimizer[1].learning_rate": 1, "optimizer[1].momentum": 0.9,
                    "optimizer[1].momentum[1]": 0.5, "batch_size": 0})  # fmt: skip
    assert SPACE.fixed(sgd).optimizer == SGD(1.0, momentum=sgd["optimizer[1].momentum[1]"])
    assert SPACE.fixed(sgd).batch_size == "full"
    row = SPACE.shown(sgd)
    assert row == {
        "net.widths.0": 50, "optimizer": "SGD", "optimizer.learning_rate": 1.0,
        "optimizer.momentum": pytest.approx(0.99), "batch_size": "full",
    }  # fmt: skip
    plain = SPACE.shown(sgd | {"optimizer.momentum": 0})
    assert plain["optimizer.momentum"] == 0.0 and SPACE.label("optimizer", 0) == "Adam"


@settings(max_examples=12, deadline=None)
@given(US)
def test_values_survive_a_file_their_places_and_being_read(us):
    values = SPACE.at(us)
    assert json.loads(json.dumps(values)) == values
    assert SPACE.fixed(json.loads(json.dumps(values))) == SPACE.fixed(values)
    places = SPACE.place(values)
    again = SPACE.at({d.name: 0.5 for d in SPACE.dimensions} | places)
    assert again.keys() == values.keys() and all(again[k] == pytest.approx(values[k], rel=1e-9) for k in values)
    assert SPACE.read(SPACE.shown(values)) == values


def test_a_trial_made_from_anothers_template_is_the_same_and_is_checked_as_well():
    for u in (0.1, 0.6, 0.3, 0.9):
        values = SPACE.at([0.5, u, u, 1 - u, 0.9, u, 0.2])
        fresh = Space(SPACE.experiment)
        assert SPACE.fixed(values) == fresh.fixed(values) == fresh.fixed(values)
        assert hash(SPACE.fixed(values)) == hash(fresh.fixed(values))
    space = Space.of(
        Experiment(Linear(3), loss=CrossEntropyLoss(label_smoothing=uniform(0.0, 0.5)), optimizer=Adam(log(1e-3, 1.0)))
    )
    values = space.at([0.5, 0.5])
    assert space.fixed(values) == space.fixed(values)
    with pytest.raises(
        SpecError, match=r"with loss.label_smoothing=0.25, optimizer.learning_rate=-1.0: Adam.learning_rate must be"
    ):
        space.fixed(values | {"optimizer.learning_rate": -1.0})
    with pytest.raises(SpecError, match=r"none for 'optimizer.learning_rate'"):
        space.fixed({"loss.label_smoothing": 0.1})


class Between(Module):
    """A layer that refuses values which its ends do not show."""

    low: Scalar = 0.0
    high: Scalar = 1.0

    def check(self):
        if self.low >= self.high:
            raise SpecError(f"Between.low must be below high, got {self.low} and {self.high}.")

    def forward(self, x):
        return x.clip(self.low, self.high)


def test_a_trial_between_the_ends_is_refused_by_the_specs_own_check():
    net = Sequential(Between(uniform(0.0, 1.0), uniform(0.5, 2.0)), Linear(3))
    space = Space.of(Experiment(net, optimizer=Adam(betas=(uniform(0.8, 0.95), 0.99))))
    good = space.at([0.1, 0.5, 0.5])
    for _ in range(2):
        with pytest.raises(
            SpecError, match=r"with net\.layers\.0\.low=0\.9, .*: Between\.low must be below high, got 0\.9"
        ):
            space.fixed(space.at([0.9, 0.1, 0.5]))
        assert space.fixed(good) == Experiment(
            Sequential(Between(good["net.layers.0.low"], good["net.layers.0.high"]), Linear(3)),
            optimizer=Adam(betas=(good["optimizer.betas.0"], 0.99)),
        )


def test_trials_of_one_structure_are_drawn_with_one_shape_and_their_own_numbers():
    """In parts, so that a search of hundreds of trials does not make hundreds of experiments."""
    space = Space.of(Experiment(Linear(3), optimizer=Adam(log(1e-4, 1e-1)), batch_size=choice(16, 32)))
    values = [space.at(us) for us in ([0.1, 0.0], [0.8, 0.1], [0.5, 0.9])]
    a, b, c = map(space.drawn, values)
    assert a.shape is b.shape and a.shape is not c.shape
    assert [d.experiment for d in (a, b, c)] == [space.fixed(v) for v in values]
    assert a.leaves != b.leaves
    for place in (True, 1.0, np.int64(1)):  # equal to 1, and no place of an option
        with pytest.raises(SpecError, match="batch_size is the place of an option"):
            space.fixed(values[2] | {"batch_size": place})


def test_size_counts_the_trials_there_are():
    of = lambda **fields: Space.of(Experiment(Linear(3), **fields)).size  # noqa: E731
    assert SPACE.size == np.inf and of(optimizer=Adam(uniform(0.1, 0.2))) == np.inf
    assert of(epochs=integer(2, 4), batch_size=choice(32, 64)) == 6
    assert of(optimizer=choice(Adam(choice(0.1, 0.2, 0.3), eps=choice(1e-8, 1e-7)), SGD(choice(1.0, 2.0)))) == 8


def test_labels_tell_options_apart():
    space = Space.of(Experiment(Linear(3), optimizer=choice(Adam(0.1), Adam(0.2), SGD(0.1)), early_stopping=choice(None),
                                clip=choice(None), precision=choice("float32", "bfloat16"), batch_size=choice(1, 2)))  # fmt: skip
    labels = [space.label("optimizer", i) for i in range(3)]
    assert labels == ["Adam(learning_rate=0.1)", "Adam(learning_rate=0.2)", "SGD"]
    assert space.label("clip", 0) == "none"
    row = space.shown(space.at([0] * 5))
    assert row["batch_size"] == 1 and row["precision"] == "float32"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Space.of(Experiment(Linear(3))), "no distribution in this experiment, so nothing to tune"),
        (lambda: Space.of(3), "made of an Experiment, got 3"),
        (lambda: Space.of(Experiment(Dropout(uniform(0, 1)))), r"with net.rate=1.0: Dropout.rate must be in \[0, 1\)"),
        (lambda: Space.of(Experiment(Linear(3), batch_size=choice(32, 0))), "with batch_size=0: batch_size must be"),
        (lambda: SPACE.at([0.5]), "7 dimensions, 1 numbers came"),
        (lambda: SPACE.fixed({}), "none for 'net.widths.0'"),
        (lambda: SPACE.fixed(SPACE.at([0] * 7) | {"net.width": 3}), "'net.width', which is not in this space. Nearest"),
        (lambda: SPACE.fixed(SPACE.at([0] * 7) | {"optimizer.momentum": 0}), "counts only with another option"),
        (lambda: SPACE.fixed(SPACE.at([0] * 7) | {"optimizer": 2}), "place of an option, 0 to 1, got 2"),
        (lambda: SPACE.fixed(SPACE.at([0] * 7) | {"net.widths.0": 60.5}), "a whole number, integer"),
        (lambda: SPACE.fixed(SPACE.at([0] * 7) | {"optimizer.learning_rate": "a"}), "is a number, log"),
        (lambda: SPACE.read({"net.widths.0": 60}), "needs a value for 'optimizer'"),
        (lambda: SPACE.read({"net.widths.0": 600}), r"net.widths.0 is integer\(50, 100\); 600 is not in it"),
        (lambda: SPACE.read({"net.widths.0": 60, "optimizer": "Lion"}), "optimizer is one of Adam, SGD; got 'Lion'"),
        (lambda: SPACE.label("optimiser", 0), "no distribution stands at 'optimiser'. Nearest: optimizer"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_one_message(make, message):
    with pytest.raises(SpecError, match=message):
        make()
