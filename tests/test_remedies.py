"""Remedies: what is tried on which nets, lanes against runs of their own, effects, adoption, the command."""

import json
import math

import numpy as np
import pytest

import derin
from derin import nn, optim
from derin.cli import run as command
from derin.diagnose.remedies import Cure, Lane
from derin.diagnose.treatments import Treatment, rebuilt, treatments
from derin.errors import DataError, RunError, SpecError

NET = nn.Sequential(nn.Linear(16), nn.ReLU(), nn.Linear(3))


@pytest.fixture(scope="module")
def iris():
    return derin.load_data("iris", valid=0.2, test=0.2)


def experiment(**fields):
    fields = {"optimizer": optim.SGD(0.003), "epochs": 6, "batch_size": 16, "metrics": ("accuracy",)} | fields
    return derin.Experiment(NET, **fields)


@pytest.fixture(scope="module")
def slow(iris):
    """A run whose learning rate is far too low."""
    return experiment().fit(iris, progress=False)


@pytest.fixture(scope="module")
def cure(slow):
    names = ["learning rate x 10", "learning rate / 3", "L2", "class weights", "clipped gradients", "Adam", "dropout"]
    return slow.try_remedies(remedies=names, seeds=2, progress=False)


# -- what is tried


def test_every_remedy_changes_one_thing_and_trains(iris):
    nets = [NET, nn.MLP((8,), 3), nn.Sequential(nn.Linear(8), nn.BatchNorm(), nn.Tanh(), nn.Dropout(0.2), nn.Linear(3))]
    for net in nets:
        found = treatments(experiment().replace(net=net))
        assert len({t.name for t in found}) == len(found) >= 16
        for t in found:
            changed = {
                path.split(".")[0] for path, _, _ in derin.spec.diff(experiment().replace(net=net), t.experiment)
            }
            assert len(changed) == 1 or t.name == "longer training", (t.name, changed)
            x = np.zeros((4, 4), np.float32)
            assert t.experiment.net.look(x)[1][""].shape == (4, 3)


def names(net, **fields):
    return {t.name for t in treatments(experiment(**fields).replace(net=net))}


def test_what_a_net_has_is_taken_away_and_what_it_lacks_is_added():
    assert "dropout" in names(NET) and "no dropout" not in names(NET)
    has = nn.Sequential(nn.Linear(8), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.2), nn.Linear(3))
    assert "no dropout" in names(has) and not {"dropout", "BatchNorm"} & names(has)
    assert "no penalty" in names(NET, penalty=optim.L2(0.1)) and "L2" not in names(NET, penalty=optim.L2(0.1))
    assert "no activation at the end" in names(nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(3), nn.Sigmoid()))
    assert "batches of 64" in names(NET, batch_size="full") and "larger batch" not in names(NET, batch_size="full")
    assert "early stopping" not in names(NET, early_stopping=derin.EarlyStopping())


def test_the_nets_that_are_tried():
    found = {t.name: t.experiment.net for t in treatments(experiment())}
    assert found["BatchNorm"] == nn.Sequential(nn.Linear(16), nn.BatchNorm(), nn.ReLU(), nn.Linear(3))
    assert found["LeakyReLU"] == nn.Sequential(nn.Linear(16), nn.LeakyReLU(), nn.Linear(3))
    assert found["twice the units"] == nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Linear(3))  # outputs stay
    assert found["dropout"] == nn.Sequential(nn.Linear(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(3))
    inner = nn.Sequential(nn.Linear(4), nn.Residual(nn.Linear(4), nn.Tanh()), nn.Linear(2))
    leaky = {t.name: t.experiment.net for t in treatments(derin.Experiment(inner))}["LeakyReLU"]
    assert leaky == nn.Sequential(nn.Linear(4), nn.Residual(nn.Linear(4), nn.LeakyReLU()), nn.Linear(2))
    assert rebuilt(NET, lambda layer: layer) is NET


# -- lanes against runs of their own


def test_nothing_changed_is_the_run_trained_on(slow, iris, cure):
    run = experiment().fit(iris, progress=False).resume(iris, epochs=12, progress=False)
    assert cure.nothing.epochs == 12 and not cure.nothing.fresh
    assert math.isclose(cure.nothing.values[0], run.history[-1]["accuracy"], abs_tol=1e-6)


def test_a_lane_that_begins_again_is_a_run_of_its_own(iris, cure):
    lane = next(x for x in cure.lanes if x.treatment.name == "Adam")
    assert lane.fresh and lane.epochs == 12
    for seed, value in enumerate(lane.values):
        run = experiment(optimizer=optim.Adam(), epochs=12, seed=seed).fit(iris, progress=False)
        assert math.isclose(value, run.history[-1]["accuracy"], abs_tol=0.04)  # one row of 30: rounding may tip it


def test_a_lane_goes_on_from_the_runs_weights(slow, iris, cure):
    lane = next(x for x in cure.lanes if x.treatment.name == "learning rate x 10")
    assert not lane.fresh
    x = next(x for x in cure.lanes if x.treatment.name == "dropout")
    assert x.fresh  # its layers have other names


def test_the_best_remedy_of_a_slow_run_is_a_faster_one(cure):
    assert cure.best.treatment.name in ("Adam", "learning rate x 10")
    table = cure.table
    assert table["remedy"][0] == cure.best.treatment.name and table["remedy"][-1] == "nothing"
    assert table["effect"][0] > 0 and table["effect"][-1] == 0
    assert set(table["state"]) == {"tried"} and (table["seconds"] > 0).all()


def test_effects_point_the_same_way_for_losses_and_for_metrics(slow):
    lanes = [Lane(Treatment(n, slow.experiment, ""), v, 1, 0.0, False) for n, v in
             (("nothing", (0.5, 0.7)), ("worse", (0.9, 0.9)), ("better", (0.4, 0.5)), ("broken", (math.nan, 0.1)))]  # fmt: skip
    loss, score = (Cure(slow, None, "m", greater, lanes) for greater in (False, True))
    assert loss.best.treatment.name == "better" and score.best.treatment.name == "worse"
    assert loss.effect(lanes[2]) == pytest.approx((0.15, math.sqrt(0.5) * 0.1))
    assert [x.treatment.name for x in loss.ranked()] == ["better", "worse", "broken"] and loss.state(
        lanes[3]
    ) == "diverged"
    gone = Cure(slow, None, "m", False, [lanes[3]._replace(values=(math.nan, math.nan)), lanes[1]])
    assert gone.effect(lanes[1])[0] == math.inf and gone.best.treatment.name == "worse"
    assert gone.table["state"].to_list() == ["tried", "diverged"]
    refused = Cure(slow, None, "m", False, [lanes[0]._replace(values=(), refused="no room"), lanes[1]])
    assert refused.table["state"].to_list() == ["tried", "refused: no room"]
    with pytest.raises(RunError, match="the remedy 'nothing' was refused: no room"):
        refused.adopt("nothing")
    with pytest.raises(RunError, match="this run is in memory"):
        gone.file(lanes[1])


def test_a_lane_that_diverges_or_does_not_fit_harms_no_other(iris):
    net = nn.Sequential(nn.Residual(nn.Linear(4), nn.ReLU()), nn.Linear(3))
    with pytest.raises(derin.TrainingFailed) as failed:
        experiment(epochs=1, optimizer=optim.SGD(1e18)).replace(net=net).fit(iris, progress=False)
    cure = failed.value.run.try_remedies(
        remedies=["learning rate x 10", "twice the units", "Adam"], seeds=2, progress=False
    )
    states = dict(zip(cure.table["remedy"], cure.table["state"], strict=True))
    assert states["Adam"] == "tried" and states["twice the units"].startswith("refused: ")
    assert cure.best.treatment.name == "Adam" and states["learning rate x 10"] == "diverged"


def test_class_weights_are_judged_by_the_loss_of_the_run():
    r = np.random.default_rng(0)
    x = r.normal(size=(200, 4)).astype("float32")
    data = derin.data.load((x, (x[:, 0] > 1.3).astype(int)), test=0, valid=0.3)  # a class of a tenth
    still = derin.Experiment(nn.Linear(2), optimizer=optim.SGD(1e-12), epochs=1).fit(data, progress=False)
    cure = still.try_remedies(remedies=["class weights"], seeds=1, progress=False)
    assert cure.effect(cure.lanes[1])[0] == pytest.approx(0, abs=1e-6)


def test_adopting_trains_the_remedy(cure, tmp_path):
    run = cure.adopt("Adam", out=tmp_path / "better", progress=False)
    assert run.experiment.optimizer == optim.Adam() and len(run.history) == 12
    assert run.history[-1]["accuracy"] > cure.nothing.mean
    with pytest.raises(SpecError, match=r"no remedy 'Adm' was tried. Nearest: Adam"):
        cure.adopt("Adm")


# -- the command


def test_the_command_adopts_what_it_recommends(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fit = ["fit", "iris", "--net", "mlp:8", "--epochs", "4", "--set", "optimizer=SGD(0.001)", "--set", "batch_size=16"]
    assert command([*fit, "--out", "run", "--quiet"]) == 0
    assert command(["cure", "run", "--only", "Adam", "--only", "learning rate x 10", "--seeds", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    best = found["remedies"][0]
    assert best["remedy"] == found["best"] and best["effect"] > 0
    assert command([*best["command"].split()[1:], "--out", "better", "--quiet"]) == 0
    assert derin.load("better").history[-1]["valid_loss"] < derin.load("run").history[-1]["valid_loss"]
    capsys.readouterr()
    assert command(["cure", "run", "--only", "Adam", "--seeds", "1"]) == 0
    assert "best       Adam\nadopt it   derin fit run/remedies/adam.json" in capsys.readouterr().out


BAD = {
    "an unknown remedy": (dict(remedies=["Adm"]), SpecError, "no remedy 'Adm' for this run. Nearest: Adam"),
    "no seeds": (dict(seeds=0), SpecError, "seeds is how often each remedy is tried, at least 1; got 0"),
    "no epochs": (dict(epochs=0), SpecError, "epochs is how many more are trained, at least 1; got 0"),
    "an unknown metric": (dict(metric="acuracy"), SpecError, "no metric 'acuracy'"),
    "other data": (dict(data="wine"), RunError, "not the data of the run"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(slow, case):
    options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        slow.try_remedies(progress=False, **options)


def test_no_rows_to_judge_by(iris):
    data = derin.load_data("iris", valid=0)
    with pytest.raises(DataError, match="remedies are judged on validation rows, and there are none"):
        experiment(epochs=1).fit(data, progress=False).try_remedies(progress=False)
