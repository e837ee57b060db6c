"""The rules of derin.diagnose on evidence written by hand, and what it says to bad input."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import derin
from derin import nn, optim
from derin.cli import run as command
from derin.data.warning import DataWarning
from derin.diagnose import facts, fit, layers, rows
from derin.diagnose.doctor import judged
from derin.diagnose.evidence import Evidence, gather
from derin.diagnose.facts import Facts, Score
from derin.diagnose.ranking import EXPLAINS, ranked
from derin.diagnose.verdict import Verdict

FACTS = Facts(
    floor=Score(1.1, 0.66, 200), ceiling=Score(0.15, 0.05, 200), classes=(0.34, 0.33, 0.33), spread=(0.9, 1.1),
    offset=0.05, drift=0.5, drift_error=0.02, shared=0.0, by_chance=0.0, leak=0, leak_error=0.4, without_leak=np.nan,
)  # fmt: skip


def evidence(train=0.02, valid=0.04, epochs=20, **fields):
    """A healthy classifier of three classes, but for what is given."""
    loss = np.concatenate([np.linspace(1, 0.1, 10), np.full(max(0, epochs - 10), 0.1)])[:epochs]
    given = dict(
        experiment=derin.Experiment(nn.Linear(3), epochs=epochs), facts=FACTS, loss=loss, valid_loss=loss * 1.1,
        broken=False, train=Score(0.1, train, 600, (1.0,) * 3), valid=Score(0.12, valid, 200, (1.0,) * 3), rows=600,
        judged=200, batch=32, hidden=1, weights=1000,
    )  # fmt: skip
    return Evidence(**(given | fields))


def names(e):
    return [v.name for v in judged(e).verdicts]


@pytest.mark.parametrize(
    "train, valid, name",
    [
        (0.02, 0.04, "just right"),
        (0.30, 0.31, "high bias"),
        (0.02, 0.35, "high variance"),
        (0.28, 0.60, "high bias and high variance"),
    ],
)
def test_the_table_of_bias_and_variance_s3_14(train, valid, name):
    """Low and high error on training and validation rows: S3.11, S3.12, S3.14."""
    assert names(evidence(train, valid)) == [name]


def test_high_bias_is_not_regularised_s3_14_against_s3_13():
    """S3.13 says to regularise and to add rows; S3.14 and S3.10 do not, and derin follows them."""
    texts = [r.text for r in fit.bias(evidence(0.3, 0.31)).remedies]
    assert not any(("regularis" in t and "less" not in t) or "more rows" in t for t in texts)
    strong = derin.Experiment(nn.MLP((8,), 3, dropout=0.5), penalty=optim.L2(1.0))
    changes = {path for r in fit.bias(evidence(0.3, 0.31, experiment=strong)).remedies for path in r.changes}
    assert {"penalty", "net.dropout"} <= changes


def test_remedies_are_changes_of_the_experiment():
    from derin import spec

    e = evidence(0.3, 0.31)
    for v in judged(e).verdicts:
        for remedy in v.remedies:
            changed = e.experiment
            for path, value in remedy.changes.items():
                changed = spec.set(changed, path, value)
            assert not remedy.changes or changed != e.experiment


def test_a_cause_stands_before_what_follows_from_it():
    found = ranked([Verdict("high bias", 1.0, {}, ""), Verdict("unnormalised inputs", 0.9, {}, "")])
    assert [v.name for v in found] == ["unnormalised inputs", "high bias"] and found[1].confidence < 0.5
    known = list(EXPLAINS)
    for cause, consequences in EXPLAINS.items():
        assert all(known.index(cause) < known.index(c) for c in consequences), cause


def test_overtrained_says_since_when():
    """The curve of error over training that S3.08 draws: it falls, then rises."""
    valid = np.concatenate([np.linspace(1, 0.3, 30), np.linspace(0.3, 0.8, 70)])
    e = evidence(valid_loss=valid, loss=np.linspace(1.0, 0.01, 100), epochs=100, train=0.0, valid=0.2)
    found = fit.overtrained(replace(e, loss=np.concatenate([np.linspace(1, 0.25, 30), np.linspace(0.25, 0.01, 70)])))
    assert found.evidence["best epoch"] == 30 and found.confidence == 1.0


def test_facts_of_rows_made_by_hand():
    """Floor, ceiling, leak, copies, and rows moved between the parts: S4.13, covariate shift."""
    r = np.random.default_rng(0)
    x = r.normal(size=(400, 5)).astype("float32")
    y = (x[:, 0] > 0).astype(int)
    same = facts.facts_of(derin.data.load((x, y), test=0, valid=0.3))
    assert abs(same.drift - 0.5) < 3 * same.drift_error and same.shared == 0
    assert same.floor.error == pytest.approx(0.5, abs=0.1) and same.ceiling.error < 0.1
    assert same.leak == 0 and same.leak_error < 0.05 and same.without_leak > 0.3
    twice = np.concatenate([x, x]), np.concatenate([y, y])
    assert facts.facts_of(derin.data.load(twice, test=0, valid=0.3)).shared > 0.5
    at = np.argsort(x[:, 1])
    moved = derin.data.load((x, y), indices=(at[:280], at[280:], []))
    assert facts.facts_of(moved).drift > 0.9


def test_the_floor_is_the_trivial_predictor():
    y = np.array([0, 0, 0, 1], np.int32)
    floor = facts._floor(y, y)
    assert floor.error == 0.25 and floor.loss == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    numbers = np.array([1.0, 3.0], np.float32)
    assert facts._floor(numbers, numbers).error == 1.0


def test_no_rule_fails_without_health_or_validation():
    for e in (
        evidence(),
        evidence(judged=0, valid_loss=np.full(20, np.nan)),
        evidence(loss=np.zeros(0), valid_loss=np.zeros(0)),
    ):
        assert judged(e).verdicts
    assert rows.leak(evidence()) is None and layers.batchnorm(evidence()) is None


def test_columns_and_classes_are_called_by_their_names():
    told = replace(FACTS, leak=1, leak_error=0.0, without_leak=0.6, next_error=0.5, classes=(0.9, 0.1))
    rare = Score(0.1, 0.1, 200, (1.0, 0.0))
    e = evidence(facts=told, valid=0.04, columns=("age", "paid"), labels=("no", "yes"))
    e = replace(e, valid=rare)
    leak = rows.leak(e)
    assert leak.confidence > 0.5 and leak.evidence["column"] == "paid" and leak.why.startswith("Column paid alone")
    assert leak.remedies[0].text == "leave column paid out, unless it is known when predicting"
    assert rows.imbalance(e).evidence["class"] == "yes"


# -- whole runs


def small(**fields):
    given = {"epochs": 3, "progress": False} | fields
    return derin.fit(nn.MLP((8,), 3), derin.data.load("iris"), **given)


def test_a_run_without_health_records_is_told_so(tmp_path):
    run = small(health=False, out=tmp_path / "run")
    found = derin.diagnose(derin.load(tmp_path / "run"))
    assert any("no health records" in note and "health=True" in note for note in found.notes)
    with pytest.raises(derin.RunError, match="no health records"):
        derin.diagnose.health_pictures(run)


def test_a_run_of_another_format_is_one_message(tmp_path):
    small(out=tmp_path / "run")
    manifest = next((tmp_path / "run" / "checkpoints").glob("*/manifest.json"))
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    with pytest.raises(derin.RunError, match="has format 99; this derin reads format 1"):
        derin.diagnose(tmp_path / "run")


def test_bad_input_is_one_message(tmp_path):
    with pytest.raises(derin.RunError, match="takes a run, or the path of its folder; got a dict"):
        derin.diagnose({})
    with pytest.raises(derin.RunError, match="there is no run at"):
        derin.diagnose(tmp_path / "nowhere")
    run = small()
    with pytest.raises(derin.RunError, match="not the data of the run"):
        derin.diagnose(run, derin.data.load("wine"))
    x = np.random.default_rng(0).normal(size=(90, 3)).astype("float32")
    derin.fit(nn.Linear(1), (x, x[:, 0]), epochs=1, progress=False, out=tmp_path / "arrays")
    with pytest.raises(derin.RunError, match=r"derin\.diagnose\(run, data\)"):
        derin.diagnose(tmp_path / "arrays")
    with pytest.raises(derin.SpecError, match="shares must rise"):
        derin.learning_curve(run, derin.data.load("iris"), shares=(0.5, 0.1))
    with pytest.raises(derin.SpecError, match="takes an Experiment or a Run, got a str"):
        derin.learning_curve("iris", derin.data.load("iris"))
    with pytest.raises(derin.DataError, match="judged on validation rows"):
        derin.learning_curve(run, derin.data.load("iris", valid=0))
    with pytest.raises(derin.DataError, match="too little to learn from"):
        derin.learning_curve(run, derin.data.load("iris"), shares=(0.01, 1.0))


def test_a_leaking_column_of_a_table_is_named(tmp_path):
    r = np.random.default_rng(0)
    x, town = r.normal(size=(400, 2)), r.choice(["Van", "Bursa", "Kars"], 400)
    y = (x[:, 0] + r.normal(size=400) > 0).astype(int)
    lines = [f"{t},{a},{b},{c + r.normal() / 99},{c}" for t, (a, b), c in zip(town, x, y, strict=True)]
    (tmp_path / "t.csv").write_text("town,a,b,told,y\n" + "\n".join(lines), encoding="utf-8")
    with pytest.warns(DataWarning, match="'told' alone gives"):
        data = derin.data.load(tmp_path / "t.csv", target="y")
        run = derin.fit(nn.Linear(1), data, epochs=2, progress=False)
    assert rows.leak(gather(run)).evidence["column"] == "told"


@pytest.mark.usefixtures("watched")
def test_a_failed_run_can_be_diagnosed_and_drawn(tmp_path):
    x = np.random.default_rng(0).normal(size=(300, 5)).astype("float32")
    with pytest.raises(derin.TrainingFailed) as failed:
        derin.fit(nn.MLP((16,), 1), (x, x.sum(1)), optimizer=optim.SGD(1e6), epochs=5, progress=False)
    assert derin.diagnose(failed.value).verdicts[0].name == "learning rate too high"
    pictures = derin.diagnose.health_pictures(failed.value.run)
    assert pictures.keys() == {"gradients", "zeros", "updates", "weights", "outputs", "units", "modes"}


@pytest.mark.usefixtures("watched")
def test_the_command_says_it_in_text_and_json(tmp_path, capsys):
    small(out=tmp_path / "run", epochs=4, optimizer=optim.SGD(1e-5))
    assert command(["diagnose", str(tmp_path / "run"), "--json", "--pictures", str(tmp_path / "figures")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["verdicts"][0]["name"] == "learning rate too low" and said["verdicts"][0]["concepts"]
    assert said["verdicts"][0]["remedies"][0]["changes"] == {"optimizer.learning_rate": 1e-4}
    assert all(Path(p).read_text().startswith("<?xml") for p in said["pictures"]) and len(said["pictures"]) == 7
    assert command(["diagnose", str(tmp_path / "run")]) == 0
    text = capsys.readouterr().out
    assert "1. learning rate too low" in text and "--set optimizer.learning_rate=" in text and "S0.23" in text
    assert command(["diagnose", str(tmp_path / "none")]) == 2


def test_learning_curves_say_whether_more_rows_help():
    r = np.random.default_rng(0)
    x = r.normal(size=(500, 20)).astype("float32")
    y = x @ r.normal(size=20)
    data = derin.data.load((x, y + 0.05 * r.normal(size=500)), test=0, valid=0.3)
    experiment = derin.Experiment(nn.MLP((32,), 1), optimizer=optim.Adam(3e-3), epochs=25, batch_size=32)
    hungry = derin.learning_curve(experiment, data, shares=(0.1, 0.3, 0.5, 1.0), seeds=2)
    assert hungry.rows.tolist() == [35, 105, 175, 350] and hungry.valid.shape == (4, 2)
    assert hungry.valid.mean(1)[0] > 2 * hungry.valid.mean(1)[-1] and hungry.more_would_help
    noisy = derin.data.load((x[:, :2], x[:, 0] + 2.0 * r.normal(size=500)), test=0, valid=0.3)
    full = derin.learning_curve(experiment.replace(net=nn.Linear(1)), noisy, shares=(0.2, 0.5, 1.0), seeds=2)
    assert not full.more_would_help and full.to_dict()["rows"][-1] == 350
    assert "would hardly help" in full.to_text()


def test_a_size_alone_comes_to_the_same_as_a_run_of_these_rows():
    data = derin.data.load("breast_cancer", test=0, valid=0.3)
    experiment = derin.Experiment(nn.Linear(1), optimizer=optim.SGD(0.1), epochs=6, batch_size="full")
    curve = derin.learning_curve(experiment, data, shares=(1.0,), seeds=1)
    run = experiment.fit(data, progress=False)
    assert curve.valid[0, 0] == pytest.approx(min(line["valid_loss"] for line in run.history), rel=1e-4)
