"""The command line does what it says: files, exit codes, JSON, and text that people can read."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import derin
from derin import spec
from derin.cli import run as command
from derin.cli.files import experiment_text, read_experiment
from derin.cli.options import as_options, read_options
from derin.cli.show import chart, curves_text, metrics_text
from derin.engine.progress import Progress

SOURCE = Path(__file__).resolve().parents[1] / "src"
QUICK = ["--net", "mlp:4", "--epochs", "2"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in a folder of its own, with two tables in it."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    a, b = random.normal(size=(2, 90))
    shop = random.choice(["north", "south"], 90)
    rows = [f"{x:.4f},{y:.4f},{s},{'ABC'[int(x > 0) + int(y > 0)]}" for x, y, s in zip(a, b, shop, strict=True)]
    Path("kinds.csv").write_text("\n".join(["size,age,shop,kind", *rows]) + "\n")
    rows = [f"{x:.4f},{y:.4f},{1000 + 300 * x - 50 * y:.3f},{x + y:.4f}" for x, y in zip(a, b, strict=True)]
    Path("houses.csv").write_text("\n".join(["size,age,price,tax", *rows]) + "\n")
    return tmp_path


def done(*arguments: str) -> None:
    assert command(list(arguments)) == 0


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The JSON object that a command prints; it prints nothing else."""
    capsys.readouterr()
    assert command([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert all(line.startswith("derin: note: ") for line in err.splitlines()), err
    found = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert isinstance(found, dict)
    return found


def fit(*arguments: str) -> derin.Run:
    """A quick run on the table of kinds, kept in the folder `run`."""
    done("fit", "kinds.csv", "-t", "kind", *QUICK, "--out", "run", "--quiet", *arguments)
    return derin.load("run")


# -- help


def test_help_does_not_wait_for_jax() -> None:
    code = "import sys; from derin.cli import run; run(['--help']); run(['fit', '--help']); print(sorted(sys.modules))"
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    ).stdout
    assert "Usage: derin" in out
    for library in ("jax", "numpy", "polars", "sklearn"):
        assert f"'{library}'" not in out


@pytest.mark.parametrize("name", ["fit", "resume", "evaluate", "predict", "show", "threshold", "export", "new", "data"])
def test_every_command_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    done(name, "--help")
    out = capsys.readouterr().out
    assert re.search(rf"Examples:\n( +derin {name}.*\n)+", out)
    assert "--json" in out and "--import MODULE" in out
    assert max(map(len, out.splitlines())) <= 80
    done("-h")
    assert re.search(rf"^  {name} +[A-Z].*\.$", capsys.readouterr().out, re.M)


def test_every_option_of_load_is_an_option() -> None:
    """A new keyword of derin.data.load must be given a place on the command line."""
    import inspect

    from derin.cli.options import DATA_OPTIONS
    from derin.data import arrays, images, tables

    keywords: set[str] = set()
    for loader in (tables.load_table, arrays.load_arrays, images.load_images):
        keywords |= set(inspect.signature(loader).parameters)
    mine = {"seed" if name == "split_seed" else name for name in DATA_OPTIONS}
    assert mine == keywords - {"source", "indices"}


def test_options_as_load_wants_them() -> None:
    given = {"target": ["a", "b"], "valid": "v.csv", "test": "0", "header": False, "skip_bad": False, "split_seed": 0}
    wanted = {"target": ["a", "b"], "valid": "v.csv", "test": 0.0, "header": False, "seed": 0}
    assert read_options(given) == wanted
    assert read_options({"separator": "tab", "memory_budget": "1.5GiB", "size": "32x16"}) == {
        "separator": "\t",
        "memory_budget": 3 * 2**29,
        "size": [32, 16],
    }


def test_messages_speak_of_options() -> None:
    assert as_options("the column size=3 m") == "the column --image-size 3 m"  # a keyword is taken for one
    assert as_options("drop='a column'.") == 'drop="a column".'.replace("drop=", "--drop ")
    assert as_options("nothing here: Adam(eps=1e-8)") == "nothing here: Adam(eps=1e-8)"


# -- fit


def test_fit(capsys: pytest.CaptureFixture[str]) -> None:
    done("fit", "kinds.csv", "--target", "kind", *QUICK)
    out, err = capsys.readouterr()
    run = derin.load("runs/kinds-1")
    scores = run.evaluate("test")
    assert f"accuracy {scores['accuracy']:.4g}, loss {scores['loss']:.4g}   ({scores['rows']} rows)" in out
    assert "derin show runs/kinds-1" in out and "derin predict runs/kinds-1 NEW_ROWS -o predictions.csv" in out
    assert re.search(r"epoch 1/2  loss .*\nepoch 2/2  loss .* steps/s\n", err)
    assert "kind: 3 classes (A, B, C)" in err and "MLP(widths=(4,), out=3)" in err


def test_two_commands_at_once_get_two_folders(here: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "derin.cli",
        "fit",
        "kinds.csv",
        "-t",
        "kind",
        "--net",
        "mlp:4",
        "--epochs",
        "1",
        "-q",
    ]
    both = [subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, cwd=here) for _ in range(2)]
    for process in both:
        assert process.communicate(timeout=120)[1] == b"" and process.returncode == 0
    assert [len(derin.load(f"runs/kinds-{n}").history) for n in (1, 2)] == [1, 1]


def test_fit_json_and_the_next_free_folder(capsys: pytest.CaptureFixture[str]) -> None:
    first = answer(capsys, "fit", "kinds.csv", "-t", "kind", *QUICK)
    second = answer(capsys, "fit", "kinds.csv", "-t", "kind", *QUICK, "--seed", "1")
    assert (first["path"], second["path"]) == (str(Path("runs/kinds-1")), str(Path("runs/kinds-2")))
    assert first["status"] == "finished" and first["epochs"] == 2
    assert first["test"] == derin.load(first["path"]).evaluate("test")
    assert first["last"] == derin.load(first["path"]).history[-1]
    assert first["rows"] == second["rows"] and first["last"] != second["last"]  # other weights, the same rows


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    fit()
    assert capsys.readouterr() == ("", "")


def test_values_are_set() -> None:
    changes = [
        "optimizer=SGD(0.05, momentum=0.9)",
        "batch_size=full",
        "metrics=f1, accuracy",
        "optimizer.nesterov=true",
    ]
    run = fit("--seed", "7", *(word for c in changes for word in ("--set", c)))
    assert run.experiment.optimizer == derin.optim.SGD(0.05, momentum=0.9, nesterov=True)
    assert run.experiment.batch_size == "full" and run.experiment.seed == 7
    assert run.experiment.metrics == ("f1", "accuracy") and "f1" in run.history[-1]


def test_a_net_in_words() -> None:
    run = fit("--net", "Sequential(Linear(8), ReLU(), Linear(3))")
    assert run.experiment.net == derin.nn.Sequential(derin.nn.Linear(8), derin.nn.ReLU(), derin.nn.Linear(3))


def test_data_options_reach_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    Path("more.csv").write_text(Path("kinds.csv").read_text())
    done(
        "fit",
        "kinds.csv",
        "-t",
        "-1",
        *QUICK,
        "-q",
        "--drop",
        "age",
        "--test",
        "more.csv",
        "--valid",
        "0.3",
        "--out",
        "run",
    )
    run = derin.load("run")
    rows = run.about_data["rows"]
    assert rows == {"train": 63, "valid": 27, "test": 90}
    left_out = [line for line in run.schema.inputs.lines() if line.column == "age"]
    assert left_out and "left out" in " ".join(left_out[0])
    assert answer(capsys, "evaluate", "run")["rows"] == 90  # read again, with the same options


def test_a_layer_of_ones_own(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("my_own_net.py").write_text(
        "from derin.nn import Linear, Module\n"
        "class Narrow(Module):\n"
        "    width: int = 3\n"
        "    def setup(self):\n        self.a, self.b = Linear(self.width), Linear(3)\n"
        "    def forward(self, x):\n        return self.b(self.a(x))\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    done(
        "fit",
        "kinds.csv",
        "-t",
        "kind",
        "--import",
        "my_own_net.py",
        "--net",
        "Narrow(5)",
        "--epochs",
        "1",
        "--out",
        "run",
    )
    assert derin.load("run").experiment.net.width == 5
    assert '"my_own_net:Narrow"' in Path("run/experiment.json").read_text()
    done("predict", "run", "kinds.csv", "-o", "p.csv", "--import", "my_own_net")
    registered = {n: c for n, c in spec._REGISTRY.items() if "my_own_net" in n}
    monkeypatch.setattr(spec, "_REGISTRY", {n: c for n, c in spec._REGISTRY.items() if n not in registered})
    assert command(["predict", "run", "kinds.csv", "-o", "p.csv"]) == 2
    assert "--import my_own_net" in capsys.readouterr().err


def test_warnings_are_notes_and_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    Path("gaps.csv").write_text(Path("kinds.csv").read_text() + "1,2,north,\n" * 2)
    done("fit", "gaps.csv", "-t", "kind", *QUICK)
    err = capsys.readouterr().err
    assert err.count("derin: note: 2 of 92 rows") == 1 and "Warning" not in err


def test_no_test_part(capsys: pytest.CaptureFixture[str]) -> None:
    done("fit", "kinds.csv", "-t", "kind", *QUICK, "--test", "0")
    assert re.search(r"^valid .*accuracy", capsys.readouterr().out, re.M)
    done("fit", "kinds.csv", "-t", "kind", *QUICK, "--test", "0", "--valid", "0")
    assert "none: all rows were for training" in capsys.readouterr().out


# -- experiment files


def test_new_and_fit(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    arguments = ["new", "kinds.csv", "-t", "kind", "--valid", "0.2", *QUICK]
    done(*arguments, "-o", "k.toml")
    assert "derin fit k.toml" in capsys.readouterr().out
    experiment, data = read_experiment(Path("k.toml"))
    assert experiment.net == derin.nn.MLP((4,), 3) and experiment.epochs == 2
    assert data == {"source": "kinds.csv", "target": "kind", "valid": 0.2}
    text = Path("k.toml").read_text()
    for field in spec.to_dict(experiment):
        assert re.search(rf"^(\[{field}\]|{field} =)", text, re.M), f"{field} is not in the file"
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    os.chdir(elsewhere)  # paths in the file are the file's
    found = answer(capsys, "fit", "../k.toml")
    assert found["path"] == str(Path("runs/k-1")) and found["rows"]["valid"] == 18
    assert derin.load(found["path"]).experiment == experiment
    os.chdir(here)
    direct = answer(capsys, "fit", "kinds.csv", "-t", "kind", "--valid", "0.2", *QUICK)
    assert direct["last"] == found["last"]


def test_the_command_line_wins_over_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    done("new", "kinds.csv", "-t", "kind", *QUICK, "-o", "k.toml")
    Path("other.csv").write_text("\n".join(Path("kinds.csv").read_text().splitlines()[:61]) + "\n")
    found = answer(capsys, "fit", "k.toml", "--data", "other.csv", "--test", "0.5", "--epochs", "1", "--net", "mlp:3")
    assert found["rows"]["test"] == 30 and found["epochs"] == 1
    assert derin.load(found["path"]).experiment.net == derin.nn.MLP((3,), 3)


def test_an_experiment_of_a_run_is_an_experiment_file(capsys: pytest.CaptureFixture[str]) -> None:
    run = fit()
    found = answer(capsys, "fit", "run/experiment.json", "--data", "kinds.csv", "-t", "kind")
    assert found["last"] == run.history[-1]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": derin.nn.CrossEntropyLoss(label_smoothing=0.1), "early_stopping": derin.EarlyStopping(3)},
        {"class_weights": (1.0, 2.5), "metrics": ("f1", "roc_auc"), "batch_size": "full"},
        {"clip": derin.optim.ClipByGlobalNorm(1.0), "optimizer": derin.optim.SGD(1e-300, momentum=0.1 + 0.2)},
        {"net": derin.nn.Sequential(derin.nn.Linear(8), derin.nn.Dropout(0.25), derin.nn.Linear(2))},
    ],
)
def test_experiment_files_hold_every_value(changes: dict[str, Any]) -> None:
    experiment = derin.Experiment(**({"net": derin.nn.MLP((4,), 2)} | changes))
    data = {"source": 'a "quoted" näme.csv', "target": ["a", "b"], "valid": 0.1, "header": False}
    Path("x.toml").write_text(experiment_text(experiment, data, "x.toml"), encoding="utf-8")
    assert read_experiment(Path("x.toml")) == (experiment, data)


def test_new_without_data(capsys: pytest.CaptureFixture[str]) -> None:
    done("new")
    Path("x.toml").write_text(capsys.readouterr().out)
    assert read_experiment(Path("x.toml")) == (derin.Experiment(derin.nn.MLP()), {})
    found = answer(capsys, "new", "--set", "epochs=7")
    assert found["experiment"]["epochs"] == 7 and found["data"] == {}


# -- resume


def test_resume_is_as_if_it_had_not_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    fit()
    done("resume", "run", "--epochs", "5", "-q")
    done("fit", "kinds.csv", "-t", "kind", "--net", "mlp:4", "--epochs", "5", "--out", "whole", "-q")
    resumed, whole = derin.load("run"), derin.load("whole")
    assert resumed.history == whole.history
    for name, weights in whole.params.items():
        assert np.array_equal(weights, resumed.params[name])
    capsys.readouterr()
    done("resume", "run")
    assert "5 of 5 epochs, all of them are done. To train on: derin resume run --epochs 10" in capsys.readouterr().out


def test_resume_after_the_data_have_moved(capsys: pytest.CaptureFixture[str]) -> None:
    fit()
    Path("kinds.csv").rename("moved.csv")
    assert command(["resume", "run", "--epochs", "3", "-q"]) == 2
    err = capsys.readouterr().err
    assert re.search(r"there is no file or folder '.*kinds\.csv'.* say where they are now: --data SOURCE\.$", err)
    assert answer(capsys, "resume", "run", "--epochs", "3", "--data", "moved.csv")["epochs"] == 3


def test_what_is_for_a_study_is_refused_for_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    fit()
    for more, named in ((["--workers", "2"], "--workers"), (["--ray", "local", "--no-refit"], "--ray and --no-refit")):
        assert command(["resume", "run", "--epochs", "3", *more]) == 2
        assert f"run is a run, and {named} would be for a study. Leave it out." in capsys.readouterr().err


def test_how_to_go_on_says_where_the_data_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit()
    Path("kinds.csv").rename("it moved.csv")

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(derin.Run, "resume", interrupted)
    assert command(["resume", "run", "--epochs", "3", "--data", "it moved.csv", "-q"]) == 130
    assert 'derin resume run --data "it moved.csv"\n' in capsys.readouterr().err


def test_what_looks_at_a_run_finds_data_that_have_moved(capsys: pytest.CaptureFixture[str]) -> None:
    fit()
    Path("kinds.csv").rename("moved.csv")
    moved = ("--data", "moved.csv")
    assert command(["diagnose", "run"]) == 2
    assert answer(capsys, "diagnose", "run", *moved)["verdicts"]
    assert answer(capsys, "trace", "run", "--row", "0", *moved)
    assert answer(capsys, "report", "run", *moved)["bytes"] > 5000
    assert "Confusion matrix" in Path("run/report.html").read_text(encoding="utf-8")
    tried = answer(capsys, "cure", "run", "--only", "learning rate x 10", "--seeds", "1", *moved)
    assert tried["remedies"][0]["command"].endswith(" --data moved.csv")
    assert command([*tried["remedies"][0]["command"].split()[1:], "-q"]) == 0
    Path("moved.csv").write_text(Path("moved.csv").read_text().replace("north", "south", 9))
    assert command(["diagnose", "run", *moved]) == 2
    assert "moved.csv is not the data of the run" in capsys.readouterr().err


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": "1"}


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent another way there")
def test_interrupt_saves_and_says_how_to_go_on(here: Path) -> None:
    arguments = ["fit", "kinds.csv", "-t", "kind", "--net", "mlp:4", "--epochs", "1000000", "--out", "a run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "derin.cli", *arguments], env=environment(), stderr=subprocess.PIPE, text=True, cwd=here
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch ") and int(line.split()[1].split("/")[0]) >= 20:
            break
    process.send_signal(signal.SIGINT)
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 130
    found = re.search(r'derin: interrupted after epoch (\d+) of 1000000.*\n    derin resume "a run"\n', err)
    assert found and "Traceback" not in err
    run = derin.load("a run")
    assert run.stopped == "interrupted" and len(run.history) == int(found[1]) == int(run.carry.epoch)
    done("resume", "a run", "--epochs", str(len(run.history) + 1), "-q")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent another way there")
def test_interrupt_before_training_leaves_nothing(here: Path) -> None:
    code = (
        "import signal, sys, time, derin.cli, derin.data\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # who starts the tests may ignore it
        "def wait(*_, **__):\n    print('waiting', flush=True); time.sleep(60)\n"
        "derin.data.load = wait\n"
        "sys.exit(derin.cli.run(['fit', 'kinds.csv', '-t', 'kind']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=here,
    )
    assert process.stdout is not None and process.stdout.readline() == "waiting\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err == "derin: interrupted; nothing was written.\n"
    assert not Path("runs").exists()


# -- evaluate, predict, export


def test_evaluate(capsys: pytest.CaptureFixture[str]) -> None:
    run = fit("--set", "metrics=confusion_matrix,accuracy")
    for part in ("train", "valid", "test"):
        found = answer(capsys, "evaluate", "run", "--part", part)
        assert {k: v for k, v in found.items() if k not in ("path", "source")} == run.evaluate(part)
    found = answer(capsys, "evaluate", "run", "kinds.csv")
    assert found["rows"] == 90 and np.sum(found["confusion_matrix"]) == 90
    done("evaluate", "run", "kinds.csv")
    assert re.search(r"confusion_matrix \(rows: .*\n +A +B +C\n  A +\d+ +\d+ +\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_predict_classes(suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    import polars as pl

    run = fit()
    unlabelled = [line.rsplit(",", 1)[0] for line in Path("kinds.csv").read_text().splitlines()]
    Path("new.csv").write_text("\n".join(unlabelled) + "\n")
    found = answer(capsys, "predict", "run", "new.csv", "-o", f"p{suffix}")
    assert found["rows"] == 90
    read = pl.read_parquet if suffix == ".parquet" else pl.read_csv
    table = read(f"p{suffix}", **({"separator": "\t"} if suffix == ".tsv" else {}))
    assert table.columns == ["prediction", "probability_A", "probability_B", "probability_C"]
    assert table["prediction"].to_list() == run.predict("new.csv").tolist()
    assert np.array_equal(
        table.select(pl.exclude("prediction")).to_numpy().astype(np.float32), run.predict_proba("new.csv")
    )
    assert [p.name for p in Path.cwd().iterdir() if p.name.startswith(".")] == []


def test_predict_numbers_and_several_targets(capsys: pytest.CaptureFixture[str]) -> None:
    import polars as pl

    done("fit", "houses.csv", "-t", "price", "--drop", "tax", *QUICK, "--out", "one", "-q")
    done("predict", "one", "houses.csv", "-o", "one.csv")
    one = pl.read_csv("one.csv")
    assert one.columns == ["prediction"]
    assert np.allclose(one["prediction"], derin.load("one").predict("houses.csv"))
    assert 900 < one["prediction"].mean() < 1100  # in the target's own units
    done("fit", "houses.csv", "-t", "price", "-t", "tax", *QUICK, "--out", "two", "-q")
    done("predict", "two", "houses.csv", "-o", "two.csv")
    two = pl.read_csv("two.csv")
    assert two.columns == ["price_prediction", "tax_prediction"]
    price, tax = derin.load("two").predict("houses.csv")
    assert np.allclose(two["price_prediction"], price) and np.allclose(two["tax_prediction"], tax)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_predict_streams_in_order(suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    """More rows than a batch, so that a file is put together from several."""
    import polars as pl

    run = fit()
    n, random = 150_000, np.random.default_rng(1)
    size, age = random.normal(size=(2, n)).round(3)
    pl.DataFrame({"size": size, "age": age, "shop": ["north", "south", "west"] * (n // 3)}).write_parquet(
        "many.parquet"
    )
    done("predict", "run", "many.parquet", "-o", f"p{suffix}")
    table = pl.read_parquet("p.parquet") if suffix == ".parquet" else pl.read_csv("p.csv")
    assert "levels that training has not" in capsys.readouterr().err
    some = np.sort(random.choice(n, 500, replace=False))
    few = pl.read_parquet("many.parquet")[some]
    assert len(table) == n
    with pytest.warns(derin.data.DataWarning):
        assert np.allclose(table["probability_A"].to_numpy()[some], run.predict_proba(few)[:, 0], atol=1e-6)


def test_predict_images_names_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    import polars as pl
    from PIL import Image

    random = np.random.default_rng(1)
    for i in range(12):
        for c in ("dark", "light"):
            file = Path("photos") / c / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 100, (8, 8)) + (150 if c == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    net = "Sequential(Flatten(), Linear(1))"
    done("fit", "photos", "--net", net, "--epochs", "40", "--set", "optimizer.learning_rate=0.01", "--out", "run", "-q")
    done("predict", "run", "photos", "-o", "p.csv")
    table = pl.read_csv("p.csv")
    assert table.columns == ["file", "prediction", "probability_dark", "probability_light"]
    assert table["file"].to_list()[:3] == ["dark/0.png", "dark/1.png", "dark/2.png"]
    assert [f.split("/")[0] for f in table["file"]] == table["prediction"].to_list()
    done("predict", "run", "photos/light/3.png", "-o", "p.csv")
    assert pl.read_csv("p.csv")["file"].to_list() == ["3.png"]


def test_predictions_keep_the_kind_of_the_labels() -> None:
    import polars as pl

    done("fit", "digits", *QUICK, "--out", "run", "-q")
    done("predict", "run", "digits", "-o", "p.parquet")
    table = pl.read_parquet("p.parquet")
    assert table["prediction"].dtype.is_integer() and "probability_9" in table.columns and len(table) == 1797


def test_export(capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.numpy import load_file

    run = fit()
    found = answer(capsys, "export", "run", "w.safetensors")
    arrays = load_file("w.safetensors")
    assert {n: list(a.shape) for n, a in arrays.items()} == found["arrays"]
    for name, weights in run.params.items():
        assert np.array_equal(arrays[name], weights)


# -- show and data


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    run = fit("--epochs", "6", "--set", "early_stopping=EarlyStopping(monitor='accuracy')")
    capsys.readouterr()
    done("show", "run")
    out = capsys.readouterr().out
    size = sum(a.size for a in run.params.values())
    for words in ("run: finished, 6 of 6 epochs", "kind: 3 classes: A, B, C", f"{size:,} weights", "shop", "● loss"):
        assert words in out
    assert f"epoch {run.best_epoch} (the best)" in out
    assert max(map(len, out.splitlines())) < 120
    found = answer(capsys, "show", "run")
    assert found["history"] == run.history and found["weights"] == size and found["best_epoch"] == run.best_epoch
    assert spec.from_dict(found["experiment"]) == run.experiment
    assert [c["column"] for c in found["columns"]][:3] == ["size", "age", "shop"]


def test_show_a_run_that_is_still_training(capsys: pytest.CaptureFixture[str]) -> None:
    """History is ahead of the checkpoint then."""
    fit()
    line = Path("run/history.jsonl").read_text().splitlines()[-1]
    with open("run/history.jsonl", "a") as file:
        file.write(line.replace('"epoch": 2', '"epoch": 3') + "\n" + line[:10])
    assert len(answer(capsys, "show", "run")["history"]) == 3


def test_show_where_the_terminal_has_no_signs(here: Path) -> None:
    fit()
    out = subprocess.run(
        [sys.executable, "-m", "derin.cli", "show", "run"],
        env=environment() | {"PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=True,
        cwd=here,
    ).stdout.decode("cp1252")
    assert "* loss   o valid_loss" in out and "?" not in out


def test_data(capsys: pytest.CaptureFixture[str]) -> None:
    done("data", "kinds.csv")
    assert re.search(r"^size +num", capsys.readouterr().out, re.M)
    found = answer(capsys, "data", "kinds.csv", "-t", "kind")
    assert [c["column"] for c in found["columns"]][:3] == ["size", "age", "shop"] and found["rows"] == 90
    assert not Path("runs").exists()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(allow_nan=True, width=32), max_size=90),
    st.lists(st.floats(-5, 5), max_size=90),
    st.integers(5, 60),
    st.integers(2, 12),
    st.booleans(),
)
def test_charts_of_anything(a: list[float], b: list[float], width: int, height: int, plain: bool) -> None:
    lines = chart("title", {"a": a, "b": b}, width, height, plain)
    assert len(lines) in (0, height + 3)
    assert all(len(line) <= width + 20 for line in lines[1:-1])
    if plain:
        assert all(line.isascii() for line in lines)


def test_a_chart_falls_from_left_to_right() -> None:
    lines = chart("loss", {"loss": [8.0, 4.0, 2.0, 1.0]}, 4, 8, plain=True)
    places = [line.index("*") for line in lines if "*" in line]
    assert places == sorted(places) and len(places) == 4
    assert lines[1].lstrip().startswith("8 |") and lines[8].lstrip().startswith("1 |")


def test_curves_and_metrics_in_words() -> None:
    history = [
        {"epoch": i + 1, "step": i, "loss": 1 / (i + 1), "f1_by_class": [0.5, 0.1], "learning_rate": 0.1}
        for i in range(3)
    ]
    text = "\n".join(curves_text(history, 40, plain=True))
    assert "loss" in text and "f1_by_class" not in text and "learning rate" not in text
    assert metrics_text({"rows": 1200, "f1": [0.5, 0.25]}, ("no", "yes")) == [
        "rows  1,200",
        "f1",
        "  no    0.5",
        "  yes  0.25",
    ]


# -- progress


class Terminal:
    """stderr that is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_progress_in_a_terminal_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    progress = Progress(True, 3)
    for i in (1, 2, 3):
        progress.epoch(i, {"loss": 1 / i, "learning_rate": 0.1}, 10 * i, 0.1, 0.05 if i == 1 else 0.0)
    progress.end()
    shown = terminal.text.split("\n")
    assert terminal.text.count("\n") == 2 and "compiled in 0.1 s" in shown[0]  # one for compiling, one at the end
    assert terminal.text.rstrip("\n").rsplit("\x1b[2K", 1)[1].startswith("epoch 3/3  loss 0.3333  100 steps/s")


def test_progress_elsewhere_is_a_line_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(True, 20)
    rates = [0.1, 0.1, 0.05]
    for i, rate in enumerate(rates):
        progress.epoch(i + 8, {"loss": 0.5, "learning_rate": rate}, 10 * (i + 8), 2.0, 0.0)
    progress.end()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "epoch  8/20  loss 0.5000  5 steps/s  24 s left",
        "epoch  9/20  loss 0.5000  5 steps/s  22 s left",
        "epoch 10/20  loss 0.5000  learning_rate 0.05  5 steps/s  20 s left",
    ]
    Progress(False, 3).epoch(1, {"loss": 1.0, "learning_rate": 0.1}, 1, 1.0, 0.0)
    assert capsys.readouterr().err == ""
