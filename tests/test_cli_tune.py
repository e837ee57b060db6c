"""Searches on the command line, what is shown of a study, and what population-based training leaves behind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import derin
from derin import nn, optim
from derin.cli import run as command
from derin.cli.options import as_options, seconds_of
from derin.cli.studies import in_columns, tails
from derin.tune.local import near
from derin.tune.pruners import PopulationBased

QUICK = ["--net", "mlp:4", "--epochs", "3", "--set", "batch_size=64"]
RATE = ["--tune", "optimizer.learning_rate=log(1e-3,1e-1)"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The JSON object that a command prints; it prints nothing else."""
    capsys.readouterr()
    assert command([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert isinstance(found, dict)
    return found


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert command([*arguments]) == 0
    return capsys.readouterr().out


# -- derin tune


def test_a_search_from_start_to_predictions(capsys: pytest.CaptureFixture[str]) -> None:
    """S4.08: many models in parallel, then the best of them."""
    out = told(capsys, "tune", "iris", *QUICK, *RATE, "--trials", "5", "--sampler", "sobol")
    assert re.match(
        r"best    valid_loss \d\S+, trial \d of 5 trials finished\n +optimizer.learning_rate  0\.\d+\n", out
    )
    assert re.search(r"^test    accuracy .* \(22 rows\)$", out, re.M)
    assert "study   studies/iris-1, with pictures in studies/iris-1/report.html" in out
    assert "<svg" in Path("studies/iris-1/report.html").read_text(encoding="utf-8")
    assert command(["predict", "studies/iris-1/best", "iris", "-o", "p.csv", "--quiet"]) == 0
    assert len(Path("p.csv").read_text().splitlines()) == 151
    best = derin.tune.load("studies/iris-1").best
    assert derin.load("studies/iris-1/best").experiment == best.experiment
    assert not Path("runs").exists()

    out = told(capsys, "study", "show", "studies/iris-1")
    assert "studies/iris-1: finished, 5 trials finished" in out and "log(0.001, 0.1)" in out
    assert re.search(r"^trial  valid_loss  epochs  learning_rate$", out, re.M)
    shown = answer(capsys, "study", "show", "studies/iris-1", "--pictures", "figures", "--page", "a/page.html")
    assert shown["best"]["trial"] == best.number and shown["states"] == {"finished": 5}
    assert shown["importance"] == {"optimizer.learning_rate": 1.0} and len(shown["trials"]) == 5
    assert {p.name for p in Path("figures").iterdir()} >= {"curves.svg", "rungs.svg"}
    assert "iris-1</h1>" in Path("a/page.html").read_text(encoding="utf-8")

    other = answer(capsys, "tune", "iris", *QUICK, *RATE, "--trials", "5", "--no-refit", "--out", "other")
    assert "run" not in other and not Path("other/best").exists() and other["path"] == "other"
    out = told(capsys, "study", "compare", "studies/iris-1", "other")
    assert re.search(r"^ *studies/iris-1 .*\n +other .*\n", out, re.M)
    assert "nan" not in out and re.search(
        r"^ *study +valid loss +deviation .*\n *studies/iris-1 +[\d.]+ +- ", out, re.M
    )


def test_a_table_needs_nothing_else(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The ready space for the net that trains when nothing is chosen; only what would be searched, not the search."""
    from derin.cli.tuning import _about_space, _space
    from derin.engine.defaults import default_experiment

    space, ready = _space(default_experiment(derin.load_data("wine")), None)
    lines = "\n".join(_about_space(space, ready))
    assert ready and "tune    net.widths" in lines and "optimizer.learning_rate  log(3.3e-05, 0.03)" in lines
    assert "(no value is a range: derin's ready space; --tune PATH=RANGE searches what you name)" in lines
    named, ready = _space(default_experiment(derin.load_data("wine")), ["net.dropout=uniform(0,0.5)"])
    assert not ready and derin.spec.distributions(named).keys() == {"net.dropout"}
    assert "ready space" not in "\n".join(_about_space(named, ready))
    named, _ = _space(named, ["net.activation=choice(relu,tanh)"])  # as a shell leaves it
    assert derin.spec.get(named, "net.activation") == derin.choice("relu", "tanh")


def test_the_ready_space_is_named_where_no_range_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    """The only range of the file is overwritten on the command line."""
    space = derin.Experiment(nn.MLP((4,), 3), optimizer=optim.Adam(derin.log(1e-3, 1e-1)))
    Path("iris.toml").write_text(derin.spec.to_toml(space) + '\n[data]\nsource = "iris"\n')
    none = ["--trials", "0"]  # what is searched is said before that is refused
    assert command(["tune", "iris.toml", *none]) == 2
    assert "ready space" not in capsys.readouterr().err
    assert command(["tune", "iris.toml", *none, "--set", "optimizer.learning_rate=0.01"]) == 2
    assert "(no value is a range: derin's ready space; --tune PATH=RANGE" in capsys.readouterr().err


def test_the_best_of_a_search_that_time_ended_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Where no trial finished, as in the study: of those that time stopped."""
    from types import SimpleNamespace as Some

    from derin.tune.live import Live

    trials = [Some(state="stopped", curve=c) for c in ([0.4, 0.6], [0.7], [])] + [Some(state="pruned", curve=[0.9])]
    search = Some(trials=trials, ended=4, settings=Some(trials=None, time=9.0), greater=True, metric="valid_accuracy",
                  compile_seconds=1.0, seconds=lambda: 9.0)  # fmt: skip
    assert Live(False, search).figures()["best valid_accuracy"] == "0.7"  # type: ignore[arg-type]
    trials.append(Some(state="finished", curve=[0.5]))
    assert Live(False, search).figures()["best valid_accuracy"] == "0.5"  # type: ignore[arg-type]


def test_a_search_that_was_interrupted_is_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    """What Ctrl-C leaves in the folder goes on with `derin resume`, and then the best is trained."""
    import derin.tune.study as module

    class Stopping(module.Live):
        def epoch(self) -> None:
            import signal

            signal.raise_signal(signal.SIGINT)

    before, module.Live = module.Live, Stopping
    try:
        assert command(["tune", "iris", *QUICK, *RATE, "--trials", "4"]) == 130
    finally:
        module.Live = before
    assert "To go on:\n    derin resume studies/iris-1" in capsys.readouterr().err
    assert not Path("studies/iris-1/best").exists()
    found = answer(capsys, "resume", "studies/iris-1")
    assert found["status"] == "finished" and found["run"] == "studies/iris-1/best"
    again = answer(capsys, "resume", "studies/iris-1")  # there is nothing left to do
    assert again["test"] == found["test"] and again["best"] == found["best"]
    assert command(["resume", "studies/iris-1", "--epochs", "9"]) == 2


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["Study.page", "Run.evaluate"])
def test_what_is_interrupted_after_the_search_is_kept(
    where: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the page is drawn, and while the best run is scored."""
    of = {"Study": derin.tune.Study, "Run": derin.Run}[where.partition(".")[0]]
    with monkeypatch.context() as patched:
        patched.setattr(of, where.partition(".")[2], interrupted)
        assert command(["tune", "iris", *QUICK, *RATE, "--trials", "2"]) == 130
    err = capsys.readouterr().err
    assert (
        "derin: interrupted (2 trials finished); all of it is kept. To go on:\n    derin resume studies/iris-1\n" in err
    )
    assert "nothing was written" not in err
    assert answer(capsys, "resume", "studies/iris-1")["run"] == "studies/iris-1/best"


def test_a_study_goes_on_as_it_was_asked_to(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its data elsewhere, with workers, without a run of the best: the command that is said says so too."""
    random = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{'no' if a > b else 'yes'}" for a, b in random.normal(size=(60, 2))]
    Path("t.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    assert command(["tune", "t.csv", "-t", "y", *QUICK, *RATE, "--trials", "2", "--no-refit", "-q"]) == 0
    Path("t.csv").rename("moved.csv")
    assert command(["resume", "studies/t-1"]) == 2
    err = capsys.readouterr().err
    assert re.search(r"there is no file or folder '.*t\.csv'.* say where they are now: --data SOURCE\.$", err)
    found = answer(capsys, "resume", "studies/t-1", "--data", "moved.csv", "--no-refit")
    assert "run" not in found and not Path("studies/t-1/best").exists()

    given: list[Any] = []

    def resumed(study: derin.tune.Study, _: Any, progress: bool, **how: Any) -> derin.tune.Study:
        given.append(how)
        return study

    monkeypatch.setattr(derin.tune.Study, "resume", resumed)
    monkeypatch.setattr("derin.cli.tuning._report", interrupted)
    more = ["--data", "moved.csv", "--workers", "2", "--no-refit"]
    assert command(["resume", "studies/t-1", *more, "-q"]) == 130
    assert given == [{"workers": 2, "ray": None}]
    assert f"derin resume studies/t-1 {' '.join(more)}\n" in capsys.readouterr().err
    monkeypatch.setattr(derin.tune.Study, "resume", interrupted)
    assert command(["resume", "studies/t-1", "--data", "moved.csv", "--ray", "local"]) == 130
    assert "derin resume studies/t-1 --data moved.csv --ray local\n" in capsys.readouterr().err


def test_options_of_a_study_that_goes_on_are_those_of_tune(capsys: pytest.CaptureFixture[str]) -> None:
    helps = [" ".join(told(capsys, name, "--help").split()) for name in ("tune", "resume")]
    for words in (
        "--workers N So many processes train",
        "--ray ADDRESS A Ray cluster trains: auto",
        "--refit / --no-refit Train the best trial once more",
    ):
        assert all(words in text for text in helps), words


class Clamp(nn.Module):
    """x: [batch, in] -> [batch, in], between two numbers"""

    low: derin.spec.Scalar
    high: derin.spec.Scalar

    def check(self) -> None:
        if isinstance(self.low, float) and self.low >= self.high:
            raise derin.SpecError(f"Clamp.low must be below high, got {self.low} and {self.high}.")

    def forward(self, x: Any) -> Any:
        return x.clip(self.low, self.high)


def test_why_trials_were_refused_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    net = nn.Sequential(Clamp(derin.uniform(-1.0, 1.0), derin.uniform(0.0, 2.0)), nn.Linear(3))
    space = derin.Experiment(net, epochs=1, batch_size=64)
    study = derin.tune.tune(space, derin.load_data("iris"), trials=16, out="refused", progress=False)
    mine = [t for t in study.trials if t.state == "refused"]
    assert len(mine) > 1
    out = told(capsys, "study", "show", "refused")
    assert f"\n\nrefused   {len(mine)} trials, as trial {mine[0].number}: {mine[0].why}\n\n" in out
    found = answer(capsys, "study", "show", "refused")
    assert found["refused"] == [{"trials": len(mine), "trial": mine[0].number, "why": mine[0].why}]
    out = told(capsys, "resume", "refused", "--no-refit")
    assert f"\nrefused {len(mine)} trials, as trial {mine[0].number}: " in out


def test_what_is_for_a_run_says_what_a_study_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["tune", "iris", *QUICK, *RATE, "--trials", "2", "--no-refit", "-q", "--out", "s"]) == 0
    capsys.readouterr()
    for name in ("show", "watch", "status", "diagnose", "evaluate", "retest"):
        assert command([name, "s"]) == 2
        told = capsys.readouterr().err
        assert told == "derin: error: s is a study, not a run. `derin study show s` says what it found.\n", name
    Path("s/best").mkdir()
    assert command(["predict", "s", "iris", "-o", "p.csv"]) == 2
    assert "s is a study, not a run. Its best trial is the run s/best. `derin study show s`" in capsys.readouterr().err


def test_cross_validation_fold_by_fold(capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, "cv", "iris", *QUICK, "--folds", "4", "--set", "early_stopping=none")
    assert re.search(
        r"^4 folds of 128 rows; .*\n\n +fold +valid_loss +accuracy\n( +\d .*\n){4} +mean .*\ndeviation ", out
    )
    assert "The 22 test rows were left out: --test 0 uses them too." in out
    assert not Path("studies").exists()
    found = answer(capsys, "cv", "iris", *QUICK, "--folds", "4", "--out", "kept")
    losses = [m["valid_loss"] for m in found["folds"]]
    np.testing.assert_allclose(found["mean"]["valid_loss"], np.mean(losses))
    np.testing.assert_allclose(found["deviation"]["valid_loss"], np.std(losses, ddof=1))
    assert "kept: finished, 1 trial finished" in told(capsys, "study", "show", "kept")


def test_values_are_retested(capsys: pytest.CaptureFixture[str]) -> None:
    """S4.07: values that once were good are looked at again; here a learning rate that is too small."""
    net = nn.Sequential(nn.Linear(16), nn.ReLU(), nn.Linear(3))
    slow = derin.Experiment(net, optimizer=optim.Adam(1e-3), epochs=15)
    slow.fit(derin.load_data("iris"), out="slow", progress=False)
    out = told(capsys, "retest", "slow")
    assert "slow: its values no longer hold: the best of 12 trials near them differs by" in out
    assert re.search(r"^better    --set optimizer.learning_rate=0\.00\d+ --set optimizer.betas.0=", out, re.M)
    found = derin.tune.retest("slow", trials=2, progress=False)
    assert found.study.trials[0].values["optimizer.learning_rate"] == pytest.approx(1e-3)
    assert found.own == found.study.trials[0].score and found.holds == (found.best - found.own >= -found.deviation)


def test_what_is_near() -> None:
    net = nn.Sequential(nn.Linear(4), nn.BatchNorm(), nn.Dropout(0.3), nn.Linear(2))
    some = derin.Experiment(net, optimizer=optim.AdamW(1e-2), penalty=optim.L2(1e-3))
    assert near(some) == {
        "optimizer.learning_rate": derin.log(0.00316, 0.0316),
        "optimizer.betas.0": derin.one_minus_log(0.8, 0.95),
        "optimizer.weight_decay": derin.log(0.00316, 0.0316),
        "net.layers.2.rate": derin.uniform(0.2, 0.4),
        "penalty.strength": derin.log(0.000316, 0.00316),
    }


# -- what a person sees


@pytest.mark.parametrize("name", ["tune", "cv", "retest", "study show", "study compare"])
def test_every_command_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, *name.split(), "--help")
    assert re.search(rf"Examples:\n( +derin {name}.*\n)+", out)
    assert "--json" in out and max(map(len, out.splitlines())) <= 80
    assert re.search(rf"^  {name.split()[0]} +[A-Z].*\.$", told(capsys, "-h"), re.M)


def test_columns_and_times() -> None:
    assert tails(["a.b.c", "d.c", "e.0", "f"]) == ["b.c", "d.c", "e.0", "f"]
    assert in_columns(["a", "long"], [["100", "x"]]) == ["  a  long", "100     x"]
    assert [seconds_of(t) for t in ("90s", "10 m", "1.5h", "2min", "7")] == [90, 600, 5400, 120, 7]
    assert as_options("give trials=64, or time=600 (seconds).") == "give --trials 64, or --time-limit 600s."
    assert as_options("load with valid=0.15, or give folds=5.") == "load with --valid 0.15, or give --folds 5."


BAD = {
    "a value for a range": (["--tune", "optimizer.learning_rate=0.1"], "this is one value; a range is log"),
    "no sign": (["--tune", "batch_size"], "--tune is written PATH=VALUE, as in --tune optimizer.learning_rate=log"),
    "a path that is not there": (["--tune", "optimizer.rate=log(1e-3,1)"], "--tune optimizer.rate"),
    "a reversed range": (["--tune", "optimizer.learning_rate=log(1,1e-3)"], "is reversed"),
    "log of zero": (["--tune", "optimizer.learning_rate=log(0,1)"], "log"),
    "an unknown sampler": (["--sampler", "randon"], "no sampler is called 'randon'"),
    "an unknown pruner": (["--pruner", "ahsa"], "pruner must be one of"),
    "a limit that is no time": (["--time-limit", "soon"], "--time-limit is written like 90s, 10m or 1h30m; got 'soon'"),
    "a limit where a column stands": (["--time", "10m"], "to stop the search after a time: --time-limit 10m"),
    "an unknown metric": (["--metric", "acuracy"], "no metric 'acuracy'"),
    "no trials": (["--trials", "0"], "trials must be at least 1"),
    "one fold": (["--folds", "1"], "folds must be a whole number of 2 or more, got 1"),
    "no folds": (["--folds", "0"], "folds must be a whole number of 2 or more, got 0"),
    "a function that is not there": (["--tune", "net.activation=choice(relu,tahn)"], "is called 'tahn'. Nearest: tanh"),
    "no rows to judge by": (["--valid", "0"], "load with --valid 0.15, or give --folds 5"),
    "population-based training of nets that differ": (["--net", "mlp:4", "--pruner", "pbt"], "changes the structure"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_message_and_leaves_nothing(name: str, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    given, words = BAD[name]
    assert command(["tune", "iris", "--net", "mlp:4", "--quiet", *given]) == 2
    err = capsys.readouterr().err
    assert err.count("derin: error: ") == 1 and len(err.splitlines()) == 1 and words in err, err
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["study", "show", "nothing"], "there is no study at nothing"),
        (["study", "show", "nothing", "--page", "a.pdf"], "a page ends in .html"),
        (["resume", "nothing"], "nothing"),
        (["retest", "nothing"], "nothing"),
        (["cv", "iris", "--folds", "99", "--net", "mlp:4", "--quiet"], "fold"),
        (["cv", "iris", "--set", "optimizer.learning_rate=log(1e-3,1)", "--net", "mlp:4", "--quiet"], "cross_validate"),
    ],
    ids=lambda v: "-".join(v[:2]) if isinstance(v, list) else "",
)
def test_bad_input_elsewhere(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    assert command(arguments) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and words in err, err
    assert not list(here.iterdir())


def test_every_trial_diverging_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    wild = ["--set", "optimizer=SGD(0.1)", "--tune", "optimizer.learning_rate=log(1e30,1e32)", "--trials", "3"]
    assert command(["tune", "iris", *QUICK, *wild, "--quiet"]) == 2
    err = capsys.readouterr().err
    assert "no trial of 3 came to its end, 3 diverged: try smaller learning rates" in err
    assert "derin study show studies/iris-1" in err
    assert "3 trials: 3 diverged" in told(capsys, "study", "show", "studies/iris-1")


# -- pictures, and a schedule to keep


@pytest.fixture(scope="module")
def grown() -> derin.tune.Study:
    """A search by population-based training."""
    space = derin.Experiment(nn.MLP((4,), 3), optimizer=optim.Adam(derin.log(1e-4, 1e-1)), epochs=8, batch_size=64)
    data = derin.load_data("iris")
    return derin.tune.tune(space, data, trials=10, pruner=PopulationBased(every=2, share=0.3), progress=False)


def test_what_a_population_came_to_is_a_schedule(grown: derin.tune.Study) -> None:
    """Rates are those that the weights of the best trial were trained with, across the trials they came from."""
    moved = next(t for t in grown.ranked() if t.history)
    grown.trials[:], kept = [moved], [*grown.trials]
    try:
        schedule, replayed = grown.schedule(), grown.replayed()
        begins = [0, *(epoch for epoch, _ in moved.history)]
        values = [*(v for _, v in moved.history), moved.values]
        rates = [v["optimizer.learning_rate"] for v in values]
        assert begins == sorted(begins) and replayed.optimizer.learning_rate == rates[0]
        for epoch in range(8):
            wanted = rates[max(i for i, b in enumerate(begins) if b <= epoch)]
            found = rates[0] * float(schedule.factor(epoch, 2 * epoch, 2, 8))
            assert found == pytest.approx(wanted, rel=1e-6)
        run = grown.refit(progress=False)
        np.testing.assert_allclose(run.history[-1]["learning_rate"], rates[-1], rtol=1e-5)
        assert derin.spec.from_dict(derin.spec.to_dict(schedule)) == schedule
    finally:
        grown.trials[:] = kept


def test_without_changes_there_is_no_schedule(grown: derin.tune.Study) -> None:
    still = next(t for t in grown.trials if not t.history)
    grown.trials[:], kept = [still], [*grown.trials]
    try:
        with pytest.raises(derin.SpecError, match="did not change while it trained"):
            grown.schedule()
        assert grown.replayed() == still.experiment
    finally:
        grown.trials[:] = kept


def test_a_study_in_a_notebook_and_as_a_page(grown: derin.tune.Study, tmp_path: Path) -> None:
    html = grown._repr_html_()
    assert "Study(10 trials: 10 finished" in html and "<table" in html and "optimizer.learning_rate" in html
    text = grown.page(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "A search</h1>" in text and text.count("<svg") >= 6
    written = grown.pictures(tmp_path / "figures", format="png")
    assert all(p.suffix == ".png" and p.read_bytes()[:4] == b"\x89PNG" for p in written)


def test_trials_that_have_not_ended_are_drawn_as_such(grown: derin.tune.Study) -> None:
    from derin.tune.look import seen

    kept = [t.state for t in grown.trials]
    grown.trials[0].state, grown.trials[1].state, grown.trials[2].state = "stopped", "running", "waiting"
    try:
        found = seen(grown)
        assert [t["state"] for t in found.trials][:4] == ["unfinished"] * 3 + ["finished"]
        assert found.scales == {"optimizer.learning_rate": "log"}
    finally:
        for t, state in zip(grown.trials, kept, strict=True):
            t.state = state
