"""Searches end to end: what trials come to, who is pruned, what is on disk, how a killed search goes on. S4.01-S4.08."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import types

import jax.numpy as jnp
import numpy as np
import pytest

import derin
from derin import nn, optim
from derin.engine.predict import predicted_blocks
from derin.engine.task import same_structure
from derin.errors import DataError, RunError, SpecError
from derin.spec import Scalar
from derin.tune import ASHA, GivenTrials, Hyperband, PopulationBased, Random, Space, SuccessiveHalving
from derin.tune.arena import Arena
from derin.tune.pruners import Arrived, pruner_of, rank
from derin.tune.search import Search, Settings

NET = nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(3))


@pytest.fixture(scope="module")
def data():
    return derin.load_data("iris", valid=0.2, test=0.2)


def space(epochs=6, **fields):
    return derin.Experiment(
        NET, optimizer=optim.Adam(derin.log(1e-4, 1e-1)), epochs=epochs, batch_size=32, **fields
    )  # fmt: skip


def search(data, experiment=None, **options):
    options = {"trials": 12, "slots": 4, "progress": False} | options
    return derin.tune(experiment or space(), data, **options)


class Table(nn.Module):
    """No multiply-add, and many weights that the optimizer changes in each step."""

    def forward(self, x):
        return self.param("table", nn.init.Full(0.5), (400_000, 3))[x[:, 0].astype(int)]


# -- what trials come to


def test_a_trial_comes_to_what_its_experiment_comes_to_alone(data):
    study = search(data, trials=6)
    for trial in study.trials:
        run = trial.experiment.fit(data, progress=False)
        np.testing.assert_allclose(trial.curve, [h["valid_loss"] for h in run.history], rtol=2e-4)
        np.testing.assert_allclose(trial.score, run.evaluate("valid")["loss"], rtol=2e-4)
    assert study.best.score == min(t.score for t in study.trials)
    run = study.refit(progress=False)
    assert run.experiment == study.best.experiment


def test_the_table_has_a_row_a_trial(data):
    study = search(data, space(metrics=("accuracy",)), seeds=2, trials=4)
    assert study.table.columns == [
        "trial",
        "optimizer.learning_rate",
        "accuracy",
        "deviation",
        "epochs",
        "seconds",
        "state",
    ]
    assert study.table["trial"].to_list() == [0, 1, 2, 3] and study.table["state"].to_list() == ["finished"] * 4
    best = study.table.sort("accuracy", descending=True)["trial"][0]
    assert study.best.score == study.trials[best].score and study.greater_is_better
    each = [m["accuracy"] for m in study.members]
    np.testing.assert_allclose(
        [np.mean(each), np.std(each, ddof=1)], [study.best.score, study.best.deviation("accuracy")]
    )
    assert {m["seed"] for m in study.members} == {0, 1}


def test_nets_that_take_no_time_have_more_slots_where_all_end_together(data, monkeypatch):
    monkeypatch.setattr("derin.tune.search.cores", lambda: 2)

    def slots_of(experiment, **fields):
        settings = Settings(trials=1000, sampler=Random(), **fields)
        found = Search(experiment, Space.of(experiment), data, settings)
        return found._slots_of(found.leader) / found._slots()

    assert slots_of(space()) == 4
    large = derin.spec.set(space(), "net.layers.0", nn.Linear(400_000))
    assert slots_of(large) == 1
    for ends_some_early in ({"pruner": ASHA()}, {"time": 9.0}, {"slots": 8}):
        assert slots_of(space(), **ends_some_early) == 1
    assert slots_of(space(early_stopping=derin.EarlyStopping())) == 1
    assert slots_of(space(epochs=derin.integer(1, 9))) == 1
    middle = derin.spec.set(space(), "net.layers.0", nn.Linear(20_000))
    assert slots_of(middle) == 2  # whole times: no thread has more blocks to train than another
    assert slots_of(space().replace(net=Table(), batch_size=1)) == 1


def test_structures_are_programs_of_their_own(data):
    experiment = derin.Experiment(
        nn.Sequential(nn.Linear(derin.choice(4, 8)), nn.ReLU(), nn.Linear(3)),
        optimizer=derin.choice(optim.Adam(derin.log(1e-3, 1e-1)), optim.SGD(0.1, momentum=derin.uniform(0.0, 0.9))),
        epochs=3, batch_size=derin.choice(16, 64),
    )  # fmt: skip
    study = search(
        data, experiment, trials=4, sampler="random"
    )  # each of another structure: compiling is what takes long
    assert all(t.state == "finished" and t.epochs == 3 for t in study.trials)
    structures = {derin.spec.structure(t.experiment): t for t in study.trials}
    assert len(structures) >= 3
    for trial in list(structures.values())[:2]:
        run = trial.experiment.fit(data, progress=False)
        np.testing.assert_allclose(trial.score, run.history[-1]["valid_loss"], rtol=5e-4)


def test_seeds_and_folds_are_members_s3_09(data):
    study = derin.cross_validate(
        derin.Experiment(NET, epochs=5, metrics=("accuracy",)), data, folds=4, seeds=2, progress=False
    )
    assert len(study.members) == 8 and study.trials[0].state == "finished"
    assert [m["fold"] for m in study.members] == [0, 0, 1, 1, 2, 2, 3, 3]
    with pytest.raises(SpecError, match="one trial"):
        study.importance()


def test_early_stopping_is_each_trials_own(data):
    study = search(data, space(epochs=40, early_stopping=derin.EarlyStopping(patience=2)), trials=6)
    assert len({t.epochs for t in study.trials}) > 1
    trial = study.best
    run = trial.experiment.fit(data, progress=False)
    assert trial.epochs == len(run.history)
    np.testing.assert_allclose(trial.score, run.evaluate("valid")["loss"], rtol=1e-3)


def test_a_trial_that_diverges_is_recorded_and_the_others_go_on(data):
    wild = derin.Experiment(NET, optimizer=optim.SGD(derin.choice(0.1, 1e30)), epochs=4, batch_size=32)
    study = search(data, wild, sampler="random", trials=8)
    states = {t.experiment.optimizer.learning_rate: t.state for t in study.trials}
    assert states == {0.1: "finished", 1e30: "diverged"}
    assert "not finite in epoch" in next(t.why for t in study.trials if t.state == "diverged")
    with pytest.raises(RunError, match="no trial of 4 came to its end, 4 diverged: try smaller learning rates"):
        _ = search(data, wild.replace(optimizer=optim.SGD(derin.uniform(1e30, 2e30))), trials=4).best


# -- who goes on


def test_a_structure_that_is_too_large_is_refused_before_it_takes_memory(data):
    nets = derin.choice(NET, nn.MLP((200_000, 200_000), 3))
    study = search(data, space(epochs=1).replace(net=nets), sampler="grid", trials=10, slots=10)
    assert {t.state for t in study.trials} == {"finished", "refused"}
    assert all("one member alone needs" in t.why for t in study.trials if t.state == "refused")
    assert study.best.state == "finished"
    with pytest.raises(RunError, match=r"no trial of 2 came to its end, 0 diverged. Trial 0 was refused: one member"):
        _ = search(data, space(epochs=1).replace(net=nets.options[1]), trials=2).best


class Clamp(nn.Module):
    """x: [batch, in] -> [batch, in], between two numbers"""

    low: Scalar
    high: Scalar

    def check(self):
        if isinstance(self.low, float) and self.low >= self.high:
            raise SpecError(f"Clamp.low must be below high, got {self.low} and {self.high}.")

    def forward(self, x):
        return jnp.clip(x, self.low, self.high)


def test_values_that_do_not_go_together_are_refused_and_the_others_go_on(data):
    net = nn.Sequential(Clamp(derin.uniform(-1.0, 1.0), derin.uniform(0.0, 2.0)), nn.Linear(3))
    study = search(data, derin.Experiment(net, epochs=1), trials=24)
    for trial in study.trials:
        low, high = (trial.values[f"net.layers.0.{name}"] for name in ("low", "high"))
        assert trial.state == ("finished" if low < high else "refused")
        assert trial.why == "" or (
            "with net.layers.0.low=" in trial.why and "Clamp.low must be below high" in trial.why
        )
    assert {t.state for t in study.trials} == {"finished", "refused"}
    rule = PopulationBased(every=1, share=0.4)
    moved = search(data, derin.Experiment(net, epochs=5), trials=24, slots=24, pruner=rule)
    assert {t.state for t in moved.trials} == {"finished", "refused"}
    assert all(t.experiment for t in moved.trials if t.state == "finished")


def test_asha_stops_what_is_not_among_the_best_third(data):
    study = search(data, space(epochs=9), trials=30, pruner="asha")
    assert {t.epochs for t in study.trials if t.state == "pruned"} <= {1, 3}
    finished = [t for t in study.trials if t.state == "finished"]
    assert 1 <= len(finished) <= 10 and all(t.epochs == 9 for t in finished)
    at_first = [t.curve[0] for t in study.trials]
    assert np.mean([t.curve[0] for t in finished]) < np.mean(at_first)


def test_successive_halving_lets_a_third_go_on(data):
    study = search(data, space(epochs=9), trials=18, pruner=SuccessiveHalving(factor=3), slots=4)
    epochs = sorted(t.epochs for t in study.trials)
    assert epochs == [1] * 12 + [3] * 4 + [9] * 2
    third = sorted(t.curve[0] for t in study.trials)[5]
    assert all(t.curve[0] <= third for t in study.trials if t.epochs > 1)
    solo = study.best.experiment.fit(data, progress=False)  # it waited at two rungs, and lost nothing there
    np.testing.assert_allclose(study.best.curve, [h["valid_loss"] for h in solo.history], rtol=5e-4)


def test_hyperband_has_brackets_that_prune_later():
    rule = Hyperband(factor=3)
    rungs = [rule.rungs(27, i) for i in range(60)]
    assert set(rungs) == {(1, 3, 9), (3, 9), (9,), ()}
    assert rungs.count((1, 3, 9)) > rungs.count((9,))
    shares = np.array([rungs.count(r) for r in ((1, 3, 9), (3, 9), (9,), ())]) / len(rungs)
    np.testing.assert_allclose(shares, np.array([27, 12, 6, 4]) / 49, atol=0.02)  # in the first 60 already


def test_population_based_training_takes_over_weights_and_changes_values(data):
    study = search(data, space(epochs=8), trials=10, pruner=PopulationBased(every=2, share=0.2), slots=10)
    assert all(t.state == "finished" and t.epochs == 8 for t in study.trials)
    moved = [t for t in study.trials if t.source is not None]
    assert moved and all(t.history[-1][0] in (2, 4, 6) for t in moved)
    for t in moved:
        at, before = t.history[-1]
        assert before != t.values
        source = study.trials[t.source]
        assert abs(t.curve[at] - source.curve[at]) < 0.5 * abs(t.curve[at - 1] - source.curve[at]) + 0.2
    with pytest.raises(SpecError, match="batch_size changes the structure"):
        search(data, space().replace(batch_size=derin.choice(16, 32)), pruner="pbt")


def test_population_based_training_takes_over_the_scores_of_the_weights(data):
    """With early stopping a member counts with its best epoch, which may be one of the trial it took over."""
    from derin.tune.samplers import Random
    from derin.tune.search import Search, Settings
    from derin.tune.space import Space

    experiment = space(epochs=12, early_stopping=derin.EarlyStopping(patience=6))
    rule = PopulationBased(every=3, share=0.3)
    run = Search(
        experiment, Space.of(experiment), data, Settings(trials=10, sampler=Random(), pruner=rule, slots=10, keep=10)
    )
    run.run(lambda _: None)
    took = [t for t in run.trials if t.source is not None]
    assert took and all(t.curve[: rule.every] == run.trials[t.source].curve[: rule.every] for t in took)
    for trial in run.trials:
        (weights,) = run.best[trial.number]
        outputs = NET.apply(*weights, data.valid.x)[0]
        loss = nn.CrossEntropyLoss()(outputs, data.valid.y)
        np.testing.assert_allclose(trial.curve[-1], loss, rtol=1e-4)


def test_weights_are_those_that_each_trial_predicts_with(data, tmp_path):
    """Of a searched early stopping too: the best epoch's, or the last one's."""
    stopping = derin.choice(None, derin.EarlyStopping(patience=2))
    experiment = derin.Experiment(NET, optimizer=optim.Adam(0.3), epochs=8, batch_size=32, early_stopping=stopping)
    study = search(data, experiment, out=tmp_path / "s")
    assert len(study.trials) == 2  # all that there are
    for weights in (study.weights, derin.tune.load(tmp_path / "s").weights):
        for trial in study.trials:
            loss = nn.CrossEntropyLoss()(NET.apply(*weights[trial.number][0], data.valid.x)[0], data.valid.y)
            np.testing.assert_allclose(trial.score, loss, rtol=1e-4)
    assert study.trials[0].score != study.trials[1].score


def test_a_space_of_few_trials_is_tried_as_a_whole(data):
    experiment = space(epochs=1).replace(optimizer=optim.Adam(0.01), batch_size=derin.choice(16, 32, 64))
    for sampler in ("random", "sobol"):
        study = search(data, experiment, trials=9, sampler=sampler)
        assert sorted(study.table["batch_size"]) == [16, 32, 64]
    assert len(search(data, experiment, trials=2).trials) == 2


def test_searched_epochs_and_trained_ones_are_two_columns(data):
    study = search(data, space(epochs=derin.integer(1, 3)), trials=4)
    assert study.table["epochs"].to_list() == study.table["trained"].to_list() == [t.epochs for t in study.trials]


def test_time_that_is_over_at_once_leaves_an_empty_table(data):
    study = search(data, trials=None, time=0)
    assert study.table.shape == (0, 7) and study.state == "out of time"


def test_importance_does_not_hear_of_trials_that_never_began(data):
    from derin.tune.importance import importance

    study = search(data, trials=8)
    shares = study.importance()
    for number in range(8, 30):  # as time leaves them
        values = {"optimizer.learning_rate": 1e-4 * number}
        study.trials.append(type(study.trials[0])(number, values, state="stopped", why="out of time"))
    assert study.importance() == shares == importance(study.space, study.told())


def test_what_fails_before_the_first_epoch_leaves_no_folder(data, tmp_path):
    trials = GivenTrials({"optimizer.learning_rate": 5.0})
    with pytest.raises(SpecError, match="the given trial 0"):
        search(data, sampler=trials, out=tmp_path / "made" / "s")
    assert list(tmp_path.iterdir()) == []


def test_rules_by_hand():
    rule = ASHA(factor=2)
    arrived = [Arrived(0, 0.5), Arrived(1, 0.4), Arrived(2, 0.6), Arrived(3, float("nan"))]
    assert [rule.keeps(a, sorted(arrived[:i], key=rank)) for i, a in enumerate(arrived)] == [True, True, False, False]
    assert pruner_of(None) is None and pruner_of("halving") == SuccessiveHalving()
    chosen = PopulationBased(every=1, share=0.25).chosen([Arrived(i, float(i)) for i in range(4)], 1, 0)
    assert [(c.number, c.source, c.explores) for c in chosen] == [
        (0, 0, False),
        (1, 1, False),
        (2, 2, False),
        (3, 0, True),
    ]


def test_of_equal_scores_the_smaller_validation_loss_goes_on(data):
    """A few rows give few different accuracies; by who came first, fewer than 1/factor went on."""
    from derin.tune.samplers import Random
    from derin.tune.search import Search, Settings
    from derin.tune.space import Space

    tied = [Arrived(i, -0.9, loss) for i, loss in enumerate((0.4, 0.3, 0.2, float("nan")))]
    assert [ASHA(factor=2).keeps(a, sorted(tied[:i], key=rank)) for i, a in enumerate(tied)] == [
        True,
        True,
        True,
        False,
    ]
    assert [c.number for c in SuccessiveHalving(factor=2).chosen(tied, 1, 0)] == [1, 2]

    experiment = space(epochs=2, metrics=("accuracy",))
    run = Search(experiment, Space.of(experiment), data, Settings(trials=12, sampler=Random(), pruner=ASHA(), slots=4))
    run.run(lambda _: None)
    pruned = {t.number: t.members[0]["valid_loss"] for t in run.trials if t.state == "pruned"}
    assert pruned and pruned.items() <= {a.number: a.loss for a in run.arrived[0, 1]}.items()


def test_of_trials_with_the_best_score_that_of_the_smallest_validation_loss_is_the_best(data):
    study = search(data, space(epochs=4, metrics=("accuracy",)), trials=12)
    scores = [t.score for t in study.trials]
    level = [t for t in study.trials if t.score == max(scores)]
    assert len(level) > 1 and study.metric == "accuracy"
    assert study.best.number == min(level, key=lambda t: t.valid_loss).number
    assert study.best.number in study.weights  # what stays of a search is chosen by the same rule


@pytest.mark.slow
def test_few_slots_are_idle_in_a_long_asha(data):
    from derin.tune.samplers import Random
    from derin.tune.search import Search, Settings
    from derin.tune.space import Space

    experiment = space(epochs=27)
    run = Search(
        experiment, Space.of(experiment), data, Settings(trials=1000, sampler=Random(), pruner=ASHA(), slots=32)
    )
    run.run(lambda _: None)
    used, idle = run.slot_epochs()
    assert used == sum(t.epochs for t in run.trials)
    assert idle <= 0.05 * (used + idle)


# -- what stays the same


def rows(study):
    return study.table.drop("seconds").write_json()


def test_two_searches_are_equal_to_the_bit(data):
    a, b = (search(data, space(epochs=9), trials=20, pruner="asha") for _ in range(2))
    assert rows(a) == rows(b)


def test_slots_do_not_change_what_trials_come_to(data):
    a, b = (search(data, trials=4, slots=s) for s in (4, 3))
    for one, other in zip(a.trials, b.trials, strict=True):
        np.testing.assert_allclose(one.curve, other.curve, rtol=2e-4)


SCRIPT = """
import sys, derin
from derin import nn, optim
from tests.test_tune import space
data = derin.load_data("iris", valid=0.2, test=0.2)
import derin.tune.study as study
study.SAVE_EVERY = 0.0
path = sys.argv[1]
derin.tune(space(epochs=9), data, trials=40, pruner=study.pruner_of(sys.argv[2]), slots=4, progress=False, out=path)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("pruner", "moments"), [("asha", 20), ("halving", 6)])
def test_a_search_that_was_killed_goes_on_to_the_same_table(tmp_path, data, pruner, moments):
    """SIGKILL at random moments; what is on disk in the end is what one that never stopped has, byte for byte."""
    whole = search(data, space(epochs=9), trials=40, pruner=pruner, out=tmp_path / "whole")
    random = np.random.default_rng(0)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(["src", "."])}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path / "cut"), pruner], env=environment)
    study_file = tmp_path / "cut" / "trials.jsonl"
    begin = time.monotonic()
    while not study_file.exists() and process.poll() is None and time.monotonic() - begin < 120:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = "import sys, derin, derin.tune.study as s; s.SAVE_EVERY = 0.0; s.load(sys.argv[1]).resume(progress=False)"
    kills = 1
    while kills < moments:
        process = subprocess.Popen([sys.executable, "-c", again, str(tmp_path / "cut")], env=environment)
        try:
            process.wait(timeout=float(random.uniform(0.5, 6.0)))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    done = derin.tune.load(tmp_path / "cut").resume(progress=False)
    assert done.state == "finished"
    assert rows(done) == rows(whole)
    assert study_file.read_bytes() == (tmp_path / "whole" / "trials.jsonl").read_bytes()


def test_a_study_is_loaded_as_it_was(tmp_path, data):
    study = search(data, out=tmp_path / "a", pruner="asha", seeds=2, trials=5)
    again = derin.tune.load(tmp_path / "a")
    assert rows(again) == rows(study) and again.table.equals(study.table) and again.state == "finished"
    assert again.best.experiment == study.best.experiment
    assert len((tmp_path / "a" / "trials.jsonl").read_text().splitlines()) == 5
    for n, members in study.weights.items():
        for (params, _), (loaded, _) in zip(members, again.weights[n], strict=True):
            assert all(np.array_equal(params[k], loaded[k]) for k in params)
    json.loads((tmp_path / "a" / "study.json").read_text())


def test_ctrl_c_keeps_all_and_resume_goes_on(tmp_path, data):
    whole = search(data, space(epochs=9), trials=8)
    import derin.tune.study as module

    calls = []

    class Stopping(module.Live):
        def epoch(self):
            calls.append(1)
            if len(calls) == 5:
                os.kill(os.getpid(), signal.SIGINT)

    before, module.Live = module.Live, Stopping
    try:
        cut = search(data, space(epochs=9), trials=8, out=tmp_path / "a")
    finally:
        module.Live = before
    assert cut.state == "interrupted" and len(calls) < 18
    done = derin.tune.load(tmp_path / "a").resume(progress=False)
    assert rows(done) == rows(whole)


class Named(nn.Module):
    """A net that calls a layer as the one before the net is called."""

    def setup(self):
        self.input = nn.Linear(4)
        self.out = nn.Linear(3)

    def forward(self, x):
        return self.out(self.input(x))


def test_a_layer_called_input_is_the_nets_own(data):
    study = search(data, space().replace(net=Named()), trials=2)
    np.testing.assert_allclose(study.ensemble(1).evaluate("valid")["loss"], study.best.score, rtol=1e-4)


def test_the_best_predict_together(tmp_path, data):
    study = search(data, trials=6, seeds=2, out=tmp_path / "s")
    run = study.ensemble(4, out=tmp_path / "e")
    nets = [w for t in study.ranked()[:2] for w in study.weights[t.number]]
    x = data.test.x
    each = [np.asarray(NET.apply(p, s, x)[0]) for p, s in nets]
    mean = np.mean([np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in each], 0)
    for one in (run, derin.load(tmp_path / "e"), derin.tune.load(tmp_path / "s").ensemble(4)):
        found = np.concatenate([b[0] for b in predicted_blocks(one.task, one.params, one.state, x)])
        np.testing.assert_allclose(found, mean, atol=1e-5)
    with pytest.raises(RunError, match="kept the weights of 10 nets"):
        study.ensemble(99)


def test_the_nets_of_folds_predict_together_each_with_its_own_scaling(tmp_path):
    """Numbers that a fold scales by its own rows, and codes that each net embeds by its own weights. S3.09"""
    random = np.random.default_rng(0)
    columns = {
        "a": random.normal(3, 5, 150),
        "b": random.exponential(2, 150),
        "c": random.choice([*"abcdefghijklmnopqrst"], 150),
    }
    columns["y"] = columns["a"] + 2 * (columns["c"] > "k")
    data = derin.load_data(columns, target="y", valid=0.2, test=0.2)
    net = nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(1))
    experiment = space(epochs=4).replace(net=net)
    study = search(data, experiment, trials=3, folds=3, seeds=2, out=tmp_path / "s")
    arena, best = Arena(data, 3, 2, 0), study.best
    tasks = [same_structure(task, best.experiment) for task in arena.tasks_of(best.experiment)]
    each = [
        np.concatenate([b[0] for b in predicted_blocks(tasks[i // 2], *weights, data.test.x)])
        for i, weights in enumerate(study.weights[best.number])
    ]
    assert any(name.startswith("input.") for name in study.weights[best.number][0][0])  # the embedding
    assert np.ptp(each, axis=0).max() > 1e-3  # they do differ
    for one in (study.ensemble(6, out=tmp_path / "e"), derin.load(tmp_path / "e")):
        found = np.concatenate([b[0] for b in predicted_blocks(one.task, one.params, one.state, data.test.x)])
        np.testing.assert_allclose(found, np.mean(each, 0), rtol=1e-4, atol=1e-5)


def test_in_a_search_that_time_ends_every_structure_has_its_turn(data, monkeypatch):
    """Trials without end, and epochs too: the first structure is not to take all the time."""
    ticks = itertools.count()  # a clock that goes on by a thousandth at every look, so that no machine is too slow
    monkeypatch.setattr("derin.tune.search.time", types.SimpleNamespace(perf_counter=lambda: next(ticks) / 1000))
    nets = (nn.Sequential(nn.Linear(w), nn.ReLU(), nn.Linear(3)) for w in (4, 8))
    experiment = space(epochs=30).replace(net=derin.choice(*nets))
    for pruner in (None, "asha"):
        many = experiment.replace(epochs=100_000)
        endless = search(data, many, trials=100_000, time=1.0, pruner=pruner)
        assert {t.values["net"] for t in endless.trials if t.epochs} == {0, 1}
        study = search(data, experiment, trials=100_000, time=2.0, pruner=pruner)
        trained = [sum(t.epochs for t in study.trials if t.values["net"] == i) for i in (0, 1)]
        assert study.state == "out of time" and min(trained) > 0.1 * sum(trained)
        assert all(len(t.curve) == t.epochs for t in study.trials)
        several = [t for t in study.trials if t.state == "finished"]
        for trial in several[-1:]:  # it may have given way in the middle
            run = trial.experiment.fit(data, progress=False)
            np.testing.assert_allclose(trial.curve, [h["valid_loss"] for h in run.history], rtol=2e-3)


def test_time_ends_a_search_and_its_trials_are_stopped(data):
    study = search(data, space(epochs=1_000_000), trials=None, time=1.0, pruner="asha")
    assert study.state == "out of time" and {"stopped", "pruned"} <= {t.state for t in study.trials}
    assert study.best.state == "stopped" and study.best.curve


@pytest.mark.parametrize("pruner", ["asha", "halving"])
def test_the_best_of_those_that_time_stopped_can_predict(data, monkeypatch, pruner):
    """Also where it does not train at that moment, but waits for its turn or for others at a rung."""
    ticks = itertools.count()
    monkeypatch.setattr("derin.tune.search.time", types.SimpleNamespace(perf_counter=lambda: next(ticks) / 1000))
    nets = (nn.Sequential(nn.Linear(w), nn.ReLU(), nn.Linear(3)) for w in (4, 8))
    experiment = space(epochs=100_000).replace(net=derin.choice(*nets))
    study = search(data, experiment, trials=12, time=1.0, pruner=pruner)
    stopped = [t.number for t in study.ranked()]
    assert {t.state for t in study.trials} == {"stopped", "pruned"} and stopped
    assert [*study.weights] == stopped[:5]
    run = study.ensemble(1)
    np.testing.assert_allclose(run.evaluate("valid")["loss"], study.best.score, rtol=1e-4)


def test_halving_with_a_time_limit_still_compares_all_trials(data):
    study = search(data, trials=40, time=600, pruner="halving", slots=4)
    assert sum(t.epochs > 1 for t in study.trials) == 40 // 3


def test_a_search_that_trains_nothing_ends_with_its_time(data, monkeypatch):
    monkeypatch.setattr("derin.tune.search.Search.budget", lambda search, needed: 1)
    study = search(data, trials=None, time=0.5)
    assert study.state == "out of time" and {t.state for t in study.trials} <= {"refused", "stopped"}


def test_optuna_with_time_alone_asks_for_batches(data):
    study = search(data, trials=None, time=3.0, sampler="tpe", pruner="asha")
    assert study.state == "out of time" and any(t.epochs for t in study.trials)


def test_two_studies_are_compared(data):
    a, b = search(data, trials=4), search(data, trials=6)
    table = a.compare(b)
    assert table["trials"].to_list() == [4, 6] and table["valid_loss"][1] == b.best.score
    with pytest.raises(SpecError, match="cannot be compared"):
        a.compare(search(data, space(metrics=("accuracy",)), trials=4))


# -- bad input

LOSS = nn.CrossEntropyLoss(label_smoothing=derin.uniform(0.0, 0.5))


def test_a_loss_that_is_searched_does_not_judge(data):
    """Smoothed labels cost more, weights a class change the sum: such trials have an accuracy in common, and no loss."""
    assert search(data, space(loss=LOSS), trials=2).metric == "accuracy"
    weighted = space(class_weights=derin.choice(None, "balanced"))
    assert search(data, weighted, trials=2).metric == "accuracy"
    assert search(data, weighted.replace(metrics=("f1",)), trials=2).metric == "f1"
    level = search(data, space(loss=LOSS, epochs=40), trials=8)
    best = [t.number for t in level.ranked() if t.score == level.best.score]
    assert len(best) > 1 and best == sorted(best)  # not by how much the labels are smoothed


BAD = {
    "a space with no distribution": (lambda d: derin.tune(derin.Experiment(NET), d), SpecError, "no distribution in this experiment"),
    "a distribution in a run": (lambda d: space().fit(d), SpecError, r"optimizer.learning_rate = log\(0.0001, 0.1\)"),
    "a distribution in a cross-validation": (lambda d: derin.cross_validate(space(), d), SpecError, "cross_validate needs values"),
    "a reversed range": (lambda d: derin.uniform(2.0, 1.0), SpecError, "uniform"),
    "log of zero": (lambda d: derin.log(0.0, 1.0), SpecError, "log"),
    "an unknown metric": (lambda d: search(d, metric="acuracy"), SpecError, "no metric 'acuracy' to tune for; this experiment has valid_loss, loss, accuracy.* Nearest: accuracy"),
    "a metric that the experiment lacks": (lambda d: search(d, metric="f1"), SpecError, r"no metric 'f1' to tune for; .* Give the experiment metrics=\('f1',\)"),
    "a seed that is searched": (lambda d: search(d, space(seed=derin.integer(0, 5))), SpecError, "seed is not searched: seeds=3"),
    "metrics that are searched": (lambda d: search(d, space(metrics=derin.choice(("f1",), ("accuracy",)))), SpecError, "metrics are what trials are compared by"),
    "a negative seed": (lambda d: search(d, seed=-1), SpecError, r"^seed must be a whole number from 0 to 2\*\*32 - 1, got -1"),
    "trials that are no number": (lambda d: search(d, trials="a"), SpecError, r"^trials must be a whole number or none, got 'a'"),
    "a given trial out of range": (lambda d: search(d, sampler=GivenTrials({"optimizer.learning_rate": 0.01}, {"optimizer.learning_rate": 1.5})), SpecError, "the given trial 1: .*1.5 is not in it"),
    "a rule that waits for one": (lambda d: search(d, sampler="tpe", pruner="halving"), SpecError, r"SuccessiveHalving compares trials that train together, at least 3 of them, and Optuna asks for 1 at a time of 12 trials: .*Optuna\(batch=3\)"),
    "too few to exchange": (lambda d: search(d, trials=4, pruner="pbt"), SpecError, "at least 5 of them, and Random asks for 4"),
    "no epoch to exchange in": (lambda d: search(d, space(epochs=5), pruner="pbt"), SpecError, "exchanges weights every 5 epochs, and a trial has 5"),
    "an unknown pruner": (lambda d: search(d, pruner="ahsa"), SpecError, "pruner must be one of .*Nearest: asha"),
    "an unknown sampler": (lambda d: search(d, sampler="randon"), SpecError, "random"),
    "a loss that is searched": (lambda d: search(d, space(loss=LOSS), metric="valid_loss"), SpecError, "differ in loss.label_smoothing, .* Give metric='accuracy'"),
    "no trials": (lambda d: search(d, trials=0), SpecError, "trials must be at least 1, got 0"),
    "no seeds": (lambda d: search(d, seeds=0), SpecError, "seeds must be at least 1"),
    "coarse to fine by time alone": (lambda d: search(d, trials=None, time=60, sampler="coarse"), SpecError, "rounds: give trials=200"),
    "an ensemble of folds on other data": (lambda d: _other_data(d), RunError, "not those data"),
    "negative time": (lambda d: search(d, time=-1), SpecError, "time must be at least 0"),
    "no slots": (lambda d: search(d, slots=0), SpecError, "slots must be at least 1"),
    "one fold": (lambda d: search(d, folds=1), DataError, "folds"),
    "folds that a class cannot fill": (lambda d: search(d, folds=41), DataError, "class|fold"),
    "a factor of one": (lambda d: ASHA(factor=1), SpecError, "factor must be at least 2"),
    "no rungs": (lambda d: ASHA(min_epochs=0), SpecError, "min_epochs must be at least 1"),
    "no epochs between": (lambda d: PopulationBased(every=0), SpecError, "every must be at least 1"),
    "a share of all": (lambda d: PopulationBased(share=0.9), SpecError, "share must be above 0 and at most 0.5"),
    "a probability of two": (lambda d: PopulationBased(resample=2.0), SpecError, "resample is a probability"),
    "a search in memory resumed": (lambda d: _interrupted(d).resume(), RunError, "give it a folder"),
    "no study there": (lambda d: derin.tune.load("no/such/study"), RunError, "there is no study at"),
    "a path of another kind": (lambda d: derin.tune.load(3), RunError, "folder's path, got 3"),
}  # fmt: skip


def _other_data(data):
    study = search(data, trials=2, folds=2)
    study.ensemble(2, derin.load_data("iris", valid=0.2, test=0.2, seed=3))


def _interrupted(data):
    study = search(data, trials=4)
    study.state = "interrupted"
    return study


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_message(data, name):
    call, kind, words = BAD[name]
    with pytest.raises(kind, match=words) as raised:
        call(data)
    assert "\n" not in str(raised.value)


def test_no_rows_to_judge_by():
    data = derin.load_data("iris", valid=0, test=0.2)
    with pytest.raises(
        DataError, match=r"no validation rows to judge trials by: load with valid=0.15, or give folds=5"
    ):
        search(data)


def test_folders_and_other_data_are_refused(tmp_path, data):
    study = search(data, out=tmp_path / "a", trials=4)
    with pytest.raises(RunError, match="exists already"):
        search(data, out=tmp_path / "a", trials=2)
    study.state = "interrupted"
    with pytest.raises(RunError, match="not the data of the study"):
        study.resume(derin.load_data("iris", valid=0.3, test=0.2))
    about = (tmp_path / "a" / "study.json").read_text()
    (tmp_path / "a" / "study.json").write_text(about.replace("0.0001", "0.0002"))
    with pytest.raises(RunError, match="was changed after the search began"):
        derin.tune.load(tmp_path / "a")
    (tmp_path / "a" / "study.json").write_text('{"format": 99}')
    with pytest.raises(RunError, match="format 99"):
        derin.tune.load(tmp_path / "a")
    (tmp_path / "a" / "study.json").write_text("{")
    with pytest.raises(RunError, match="is damaged"):
        derin.tune.load(tmp_path / "a")


def test_one_writer(tmp_path, data):
    from derin.engine.lock import Lock

    study = search(data, out=tmp_path / "a", trials=4)
    study.state = "interrupted"
    other = f"import sys; from pathlib import Path; from derin.engine.lock import Lock\nwith Lock(Path({str(tmp_path / 'a')!r}), 'study'):\n    print('held', flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", other], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               env=os.environ | {"PYTHONPATH": "src"})  # fmt: skip
    assert process.stdout.readline().strip() == b"held"
    with pytest.raises(RunError, match=f"process {process.pid} is writing to the study"):
        study.resume(data, progress=False)
    process.kill()
    process.communicate()
    with Lock(tmp_path / "a", "study"):
        pass
