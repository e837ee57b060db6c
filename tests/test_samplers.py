"""Samplers: what they try, and that a trial depends on nothing but what is known when it is asked for."""

import math
import sys

import numpy as np
import pytest

from derin import Experiment, choice, integer, log, one_minus_log, spec, uniform
from derin.errors import SpecError
from derin.nn import MLP, Linear
from derin.optim import SGD, Adam
from derin.tune.samplers import CoarseToFine, GivenTrials, Grid, Optuna, Random, Sobol, Told, sampler_of
from derin.tune.space import Space

TWO = Space.of(Experiment(Linear(1), optimizer=SGD(log(1e-4, 1.0), momentum=uniform(0.0, 0.9))))
NESTED = Space.of(
    Experiment(
        MLP((integer(50, 100),), 3),
        optimizer=choice(Adam(log(1e-4, 0.1)), SGD(log(1e-3, 1.0), choice(0.0, one_minus_log(0.9, 0.999)))),
        batch_size=choice("full", 32),
    )
)
LR = "optimizer.learning_rate"


def score(values):
    """Best at a learning rate of 0.01; wide nets diverge."""
    return math.nan if values.get("net.widths.0", 0) > 95 else abs(math.log10(values[LR]) + 2)


def search(sampler, space, trials, seed=0, asked=1000):
    told = []
    while new := sampler.ask(space, len(told), asked, told, seed, trials):
        told += [Told(len(told) + i, values, score(values)) for i, values in enumerate(new)]
    return told


def test_a_grid_of_25_tries_five_values_of_each_and_random_25():  # S4.02
    for sampler, different in ((Grid(points=5), 5), (Random(), 25), (Sobol(), 25)):
        trials = sampler.ask(TWO, 0, 25, [], 0, 25)
        assert len(trials) == 25
        assert {len({t[path] for t in trials}) for path in TWO.paths} == {different}
    grid = Grid().ask(TWO, 0, 25, [], 0, 25)
    assert sorted({t[LR] for t in grid}) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])  # on its own scale, both ends


def test_a_grid_counts_every_option_with_what_stands_in_it():
    grid = Grid(points=3)
    trials = grid.ask(NESTED, 0, 1000, [], 0, 1000)
    assert len(trials) == grid.size(NESTED) == 3 * (3 + 3 * (1 + 3)) * 2
    assert len({tuple(t.items()) for t in trials}) == len(trials)
    assert [*trials[-1]] == [d.key for d in NESTED.active(trials[-1])]
    layers = Space.of(Experiment(Linear(1), epochs=integer(2, 4)))  # S4.04: layers 2, 3, 4
    assert Grid().ask(layers, 0, 9, [], 0, 9) == [{"epochs": 2}, {"epochs": 3}, {"epochs": 4}]


def test_of_a_grid_too_large_some_points_are_drawn():
    some = Grid(points=9).ask(NESTED, 0, 20, [], 0, 20)
    assert len({tuple(t.items()) for t in some}) == 20 and {t["optimizer"] for t in some} == {0, 1}
    assert some != Grid(points=9).ask(NESTED, 0, 20, [], 1, 20)


def test_sobol_leaves_no_quarter_of_the_square_empty():
    trials = Sobol().ask(TWO, 0, 16, [], 3, 16)
    cells = {(int(4 * TWO.place(t)[LR]), int(4 * TWO.place(t)["optimizer.momentum"])) for t in trials}
    assert len(cells) == 16


def test_coarse_to_fine_zooms_around_the_best_three():  # S4.03
    told = search(CoarseToFine(), TWO, 50)
    assert len(told) == 50
    best = sorted(told[:25], key=lambda t: t.score)[:3]
    for t in told[25:]:
        centre = best[(t.number - 25) % 3].values
        near = [abs(TWO.place(t.values)[p] - TWO.place(centre)[p]) for p in TWO.paths]
        assert max(near) <= 0.25  # half a window, or a whole one at an end of the range
    fine = np.mean([t.score for t in told[25:]])
    assert fine < 0.5 * np.mean([t.score for t in told[:25]])
    third = search(CoarseToFine(rounds=3), TWO, 75)[50:]
    assert np.mean([t.score for t in third]) < fine


def test_coarse_to_fine_waits_for_a_round_and_lives_with_diverged_ones():
    fine = CoarseToFine()
    told = search(fine, NESTED, 40)
    assert len(told) == 40 and any(math.isnan(t.score) for t in told)
    assert len(fine.ask(NESTED, 15, 10, told[:15], 0, 40)) == 5  # up to the end of the round
    assert fine.ask(NESTED, 20, 5, told[:19], 0, 40) == []
    lost = [Told(t.number, t.values, math.inf) for t in told[:20]]
    assert len(fine.ask(NESTED, 20, 5, lost, 0, 40)) == 5
    best = sorted((t for t in told[:20] if math.isfinite(t.score)), key=lambda t: t.score)[:3]
    assert {t.values["optimizer"] for t in told[20:]} <= {t.values["optimizer"] for t in best}


@pytest.mark.parametrize("sampler", [Random(), Grid(4), Sobol(), CoarseToFine(3, 2), Optuna(batch=5)], ids=repr)
def test_asked_in_pieces_in_any_order_the_same_trials_come(sampler):
    told = search(sampler, NESTED, 24, seed=7)
    assert [t.number for t in told] == [*range(24)]
    one_by_one = search(sampler, NESTED, 24, seed=7, asked=1)
    assert str(one_by_one) == str(told)  # str: nan is nan
    for start, n in ((3, 4), (17, 30), (23, 1), (24, 5)):  # the results of later trials change nothing
        assert sampler.ask(NESTED, start, n, told[::-1], 7, 24) == [t.values for t in told[start : start + n]]
    assert str(search(sampler, NESTED, 24, seed=8)) != str(told)
    for t in told:
        assert NESTED.fixed(t.values).optimizer.learning_rate == t.values[LR]


def test_tpe_learns_where_random_does_not():
    tpe = search(Optuna("tpe", batch=4), NESTED, 60)
    rest = [t.score for t in tpe[20:] if math.isfinite(t.score)]
    assert np.median(rest) < 0.5 * np.nanmedian([t.score for t in search(Random(), NESTED, 60)])


@pytest.mark.slow
def test_a_gaussian_process_proposes_what_is_near_the_best():
    told = [Told(i, v, score(v)) for i, v in enumerate(Random().ask(TWO, 0, 12, [], 1, 14))]
    gp = Optuna("gp", batch=2)
    new = gp.ask(TWO, 12, 2, told, 0, 14)
    assert len(new) == 2 and all(score(v) < np.median([t.score for t in told]) for v in new)


def test_optuna_is_quiet_and_leaves_its_settings_alone(capfd):
    import optuna

    before = optuna.logging.get_verbosity()
    search(Optuna(batch=3), TWO, 6, seed=11)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


def test_without_optuna_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SpecError, match=r'needs the package optuna: pip install "derin\[tune\]"'):
        Optuna().ask(TWO, 0, 1, [], 12, 8)


def test_given_trials_are_those_a_person_wrote():
    given = GivenTrials([{LR: 0.1, "optimizer.momentum": 0.5}, {LR: 0.01, "optimizer.momentum": 0}])
    assert given.ask(TWO, 0, 9, [], 0, 9) == [
        {LR: 0.1, "optimizer.momentum": 0.5},
        {LR: 0.01, "optimizer.momentum": 0.0},
    ]
    assert given.ask(TWO, 1, 1, [], 0, 9) == given.ask(TWO, 0, 9, [], 0, 9)[1:]
    assert spec.from_json(spec.to_json(given)) == given
    wrong = GivenTrials({LR: 0.1, "optimizer.momentum": 2.0})
    with pytest.raises(SpecError, match=r"optimizer.momentum is uniform\(0.0, 0.9\); 2.0 is not in it"):
        wrong.ask(TWO, 0, 1, [], 0, 1)


def test_samplers_by_name():
    for name, sampler in {"random": Random(), "grid": Grid(), "sobol": Sobol(), "tpe": Optuna("tpe"), "gp": Optuna("gp"),
                          "coarse_to_fine": CoarseToFine(), "Grid(points=3)": Grid(3)}.items():  # fmt: skip
        assert sampler_of(name) == sampler and sampler_of(sampler) is sampler
        assert spec.from_json(spec.to_json(sampler)) == sampler


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sampler_of("randon"), "no sampler is called 'randon'. Nearest: random"),
        (lambda: sampler_of("Adam(0.1)"), "no sampler is called"),
        (lambda: Grid(0), "Grid.points must be at least 1, got 0"),
        (lambda: CoarseToFine(rounds=0), "CoarseToFine.rounds must be at least 1"),
        (lambda: CoarseToFine(zoom=0.0), "CoarseToFine.zoom is a share of a range"),
        (lambda: Optuna("cma"), "Optuna.method must be one of 'tpe', 'gp'"),
        (lambda: Optuna(batch=0), "Optuna.batch must be at least 1"),
        (lambda: GivenTrials(), "has no trials"),
        (lambda: GivenTrials(3, 4), "a given trial is a dict"),
    ],
)
def test_what_cannot_work_is_refused_with_one_message(make, message):
    with pytest.raises(SpecError, match=message):
        make()
