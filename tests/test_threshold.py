"""The decision threshold: chosen right, kept with the run, used by predict. S0.31."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

import derin
from derin import nn, optim
from derin.cli import run as command
from derin.engine.threshold import best_threshold, parsed_rule
from derin.errors import DataError, RunError, SpecError

many = settings(max_examples=60, deadline=None)


@many
@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=25),
       st.sampled_from(["f1", "precision=0.7", "recall=0.6", "recall=1", "cost=FN:5,FP:1", "cost=fp:2,fn:0"]))  # fmt: skip
def test_no_other_threshold_is_better(rows, rule):
    p, y = np.array([a / 8 for a, _ in rows]), np.array([b for _, b in rows])
    if y.all() or not y.any():
        with pytest.raises(DataError, match="all of one class"):
            best_threshold(p, y, rule)
        return
    name, numbers = parsed_rule(rule)

    def scores(t):
        called = p >= t
        return {
            "precision": precision_score(y, called, zero_division=0),
            "recall": recall_score(y, called),
            "f1": f1_score(y, called),
            "cost": -(numbers.get("FN", 0) * (y & ~called).sum() + numbers.get("FP", 0) * (~y & called).sum()),
        }

    every = [scores(t) for t in [*np.unique(p), 2.0]]
    if name in ("precision", "recall"):
        other = {"precision": "recall", "recall": "precision"}[name]
        every = [s for s in every if s[name] >= numbers[name] - 1e-12]
        if not every:
            with pytest.raises(DataError, match="no threshold has precision"):
                best_threshold(p, y, rule)
            return
        name = other
    value, found = best_threshold(p, y, rule)
    assert scores(value)[name] == pytest.approx(max(s[name] for s in every))
    for metric in ("precision", "recall", "f1"):
        assert found[metric] == pytest.approx(scores(value)[metric])


def test_it_lies_between_two_probabilities():
    value, found = best_threshold([0.2, 0.3, 0.8], [0, 1, 1], "f1")
    assert value == pytest.approx(0.25) and found["f1"] == 1
    assert best_threshold([0.2, 0.9], [1, 0], "cost=FN:1,FP:100")[0] == pytest.approx(0.95)  # calls none positive
    assert best_threshold([0.2, 1.0], [1, 0], "cost=FN:1,FP:100")[0] > 1


@pytest.mark.parametrize(
    "rule", ["F2", "precision", "precision=1.2", "recall=0", "cost=FN:5", "cost=FN:5,FN:1", "cost=FN:0,FP:0", 0.5, ""]
)
def test_rules_that_are_none(rule):
    with pytest.raises(SpecError, match=r"f1, precision=0\.9, recall=0\.95, cost=FN:5,FP:1; got|is a share"):
        parsed_rule(rule)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "ill.csv"
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    ill = x[:, 0] + rng.normal(size=300) > 1.2
    lines = [f"{a:.4f},{b:.4f},{'ill' if i else 'healthy'}" for (a, b), i in zip(x, ill, strict=True)]
    file.write_text("\n".join(["a,b,state", *lines]))
    return file


def trained(table, out=None):
    data = derin.data.load(table, "state")
    return derin.fit(nn.Linear(1), data, out=out, epochs=5, optimizer=optim.Adam(0.1), progress=False), data


def test_it_is_kept_with_the_run_and_used_by_predict(table, tmp_path, capsys):
    run, data = trained(table, tmp_path / "run")
    assert data.schema.targets[0].labels == ("healthy", "ill") and run.threshold is None
    plain = run.predict(table)
    found = run.choose_threshold("recall=0.95")
    assert found.recall >= 0.95 and found.value < 0.5 and found.label == "ill" and found.on == "valid"
    p = run.predict_proba(table)[:, 1]
    assert (run.predict(table) == np.where(p >= found.value, "ill", "healthy")).all()
    assert (run.predict(table) != plain).any()

    again = derin.load(tmp_path / "run")  # survives
    assert again.threshold == found and (again.predict(table) == run.predict(table)).all()

    out = tmp_path / "predictions.csv"  # the command line uses it
    assert command(["predict", str(tmp_path / "run"), str(table), "-o", str(out)]) == 0
    assert [line.split(",")[0] for line in out.read_text().splitlines()[1:]] == list(run.predict(table))
    capsys.readouterr()
    assert command(["show", str(tmp_path / "run")]) == 0
    assert "threshold ill from p = " in capsys.readouterr().out

    assert command(["threshold", str(tmp_path / "run"), "--for", "cost=FN:5,FP:1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["threshold"]["rule"] == "cost=FN:5,FP:1"
    lines = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == ["threshold", "threshold"] and lines[1]["old"]["rule"] == "recall=0.95"
    assert command(["threshold", str(tmp_path / "run"), "--for", "none"]) == 0
    assert "the more probable class" in capsys.readouterr().out
    assert derin.load(tmp_path / "run").threshold is None and not (tmp_path / "run" / "threshold.json").exists()


def test_weights_that_are_trained_on_lose_it(table, tmp_path):
    run, _ = trained(table, tmp_path / "run")
    run.choose_threshold("f1")
    assert run.resume(progress=False).threshold == run.threshold  # nothing was left to train
    assert run.resume(epochs=6, progress=False).threshold is None
    assert derin.load(tmp_path / "run").threshold is None
    assert "trained on" in (tmp_path / "run" / "journal.jsonl").read_text()


def test_a_run_in_memory_keeps_it_when_it_is_saved(table, tmp_path):
    run, _ = trained(table)
    found = run.choose_threshold("f1", on=table)  # a file of labelled rows
    assert found.rows == 300 and found.on == str(table)
    run.save(tmp_path / "saved")
    assert derin.load(tmp_path / "saved").threshold == found
    (tmp_path / "saved" / "threshold.json").write_text('{"type": "Linear", "out": 2}')
    with pytest.raises((RunError, SpecError)):
        derin.load(tmp_path / "saved")


def test_what_has_no_threshold():
    x = np.random.default_rng(0).normal(size=(40, 2))
    three = derin.fit(nn.Linear(3), (x, np.arange(40) % 3), epochs=1, progress=False)
    with pytest.raises(SpecError, match="a threshold parts two classes; this run predicts 'target', which is none"):
        three.choose_threshold("f1")
    two = derin.fit(nn.Linear(1), derin.data.load((x, x[:, 0] > 0), valid=0), epochs=1, progress=False)
    with pytest.raises(DataError, match=r"load the data with valid=0\.15"):
        two.choose_threshold("f1")
    with pytest.raises(SpecError, match="a threshold is chosen for one of"):
        two.choose_threshold("accuracy")
