"""The commands about data and single runs. Each returns an Answer: what --json prints, and the text for people."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from derin.cli.answers import Answer, command
from derin.cli.arguments import (
    AsJson,
    DataOfFile,
    Epochs,
    ExperimentOut,
    ExportFile,
    FromRun,
    MoreEpochs,
    MovedData,
    Net,
    PartName,
    PartOfRule,
    PredictionsOut,
    Quiet,
    RayAddress,
    Refit,
    Rule,
    RunFolderOut,
    RunOrStudy,
    RunPath,
    Seed,
    Set,
    SourceOfNew,
    SourceOrStart,
    SourceToPredict,
    SourceToScore,
    SourceToSee,
    Workers,
)
from derin.cli.asked import (
    changed,
    existing,
    experiment_for,
    found_again,
    in_folder,
    load_data,
    load_run,
    name_of,
    net_of,
    refuse_existing,
    relative,
    what_to_train,
    write_new,
)
from derin.cli.options import with_data_options
from derin.cli.told import about, interrupted_at_once, labels_of, quoted, show_metrics, to_resume, trained


@command(
    "fit",
    "Train a network on data.",
    """
derin fit digits
derin fit titanic.csv --target Survived
derin fit houses.csv --target price --net mlp:256,128 --epochs 50
derin fit photos/ --net cnn --image-size 64 --out runs/photos
derin fit titanic.toml --set optimizer.learning_rate=0.003
derin fit --from runs/titanic-1 --set batch_size=32
""",
)
@with_data_options
def fit(
    source: SourceOrStart = None,
    net: Net = None,
    epochs: Epochs = None,
    seed: Seed = None,
    set: Set = None,
    data: DataOfFile = None,
    start: FromRun = None,
    out: RunFolderOut = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    reading: dict[str, Any] = {},  # noqa: B006  filled by with_data_options
) -> Answer:
    """Train a network, keep it in a run folder, and say how good it is on rows it has not seen."""
    from derin.errors import SpecError

    silent = quiet or as_json
    begun = load_run(start) if start is not None else None
    if out is not None:
        refuse_existing(Path(out))
    if source is not None:
        experiment, source, reading, name = what_to_train(source, data, reading)
        dataset = load_data(source, reading)
    elif begun is None:
        raise SpecError("name what to learn from: derin fit SOURCE, or a run to begin with: derin fit --from RUN.")
    elif reading:
        raise SpecError(f"{', '.join(reading)}: these say how to read a source, and --from reads that of its run.")
    else:
        experiment, name = None, name_of(str(start))
        dataset = load_data(data, begun.about_data["options"]) if data is not None else begun.reload_data()
    if experiment is None and begun is not None:
        experiment = begun.experiment
    experiment = experiment_for(dataset, experiment, net, set, epochs, seed)
    if not silent:
        print(about(dataset, experiment), file=sys.stderr)
    run = in_folder(name, out, "runs", lambda path: experiment.fit(dataset, out=path, start=begun, progress=not silent))
    return run if isinstance(run, Answer) else trained(run, dataset)


@command(
    "resume",
    "Go on with a run or a study.",
    """
derin resume runs/titanic-1
derin resume runs/titanic-1 --epochs 100
derin resume studies/titanic-1
derin resume studies/titanic-1 --workers 4 --no-refit
""",
)
def resume(
    path: RunOrStudy,
    epochs: MoreEpochs = None,
    data: MovedData = None,
    workers: Workers = None,
    ray: RayAddress = None,
    refit: Refit = True,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> Answer:
    """Train on a run that was stopped, as if it had not been; or for more epochs. A study goes on the same way."""
    from derin.errors import SpecError

    if (Path(path) / "study.json").is_file():
        if epochs is not None:
            raise SpecError(f"{path} is a study: its trials keep the epochs it was started with. Leave out --epochs.")
        from derin.cli.tuning import resume_study

        return resume_study(Path(path), data, refit, workers, ray, silent=quiet or as_json)
    run = load_run(path)
    given = {"--workers": workers is not None, "--ray": ray is not None, "--no-refit": not refit}
    if wrong := [name for name, here in given.items() if here]:
        raise SpecError(f"{path} is a run, and {' and '.join(wrong)} would be for a study. Leave it out.")
    done, wanted = len(run.history), epochs if epochs is not None else run.experiment.epochs
    if epochs is not None and epochs < max(1, done):
        raise SpecError(f"{path} has been trained for {done} epochs; --epochs must be more, got {epochs}.")
    if done >= wanted or bool(run.carry.done):
        why = "early stopping ended it" if bool(run.carry.done) else "all of them are done"
        more = "" if bool(run.carry.done) else f" To train on: derin resume {quoted(path)} --epochs {2 * done}"
        values = {"status": run.stopped, "path": str(path), "epochs": done}
        return Answer(values, f"{path}: {done} of {wanted} epochs, {why}.{more}")
    if data is not None:
        dataset = load_data(data, run.about_data["options"])
    else:
        dataset = found_again(run.about_data.get("source"), run.reload_data)
    again = to_resume(path, data)
    try:
        run = run.resume(dataset, epochs=epochs, progress=not (quiet or as_json))
    except KeyboardInterrupt:
        return interrupted_at_once(Path(path), again)
    return trained(run, dataset, again)


@command(
    "evaluate",
    "Score a run.",
    """
derin evaluate runs/titanic-1
derin evaluate runs/titanic-1 more.csv
""",
)
def evaluate(path: RunPath, source: SourceToScore = None, part: PartName = "test", as_json: AsJson = False) -> Answer:
    """Score a run: loss and metrics on rows with the right answers."""
    from derin.errors import DataError

    run = load_run(path)
    if part not in ("test", "valid", "train"):
        raise DataError(f"--part is test, valid or train, got {part!r}.")
    values = run.evaluate(part if source is None else _to_score(existing(source)))
    what = f"the {part} part" if source is None else source
    labels = labels_of(run)
    lines = [f"{path} on {what}", *show_metrics(values, labels)]
    if run.threshold:
        label, value = run.threshold.label, run.threshold.value
        lines.append(f"These are of the more probable class; derin predict says {label} from p = {value:.4g} on.")
    return Answer({"path": str(path), "source": source or part, **values}, "\n".join(lines))


def _to_score(source: str) -> str | Path:
    """A file or folder as a Path: one called test is not the run's own test part."""
    return Path(source) if Path(source).exists() else source


@command(
    "predict",
    "Predict with a run.",
    """
derin predict runs/titanic-1 new.csv -o predictions.csv
derin predict runs/photos-1 inbox/ -o predictions.parquet
""",
)
def predict(
    path: RunPath, source: SourceToPredict, out: PredictionsOut, quiet: Quiet = False, as_json: AsJson = False
) -> Answer:
    """Predict a row for each row of SOURCE, in its order: the class and its probabilities, or the number."""
    from derin.cli.predictions import check_output, write_predictions

    check_output(Path(out), source)
    run = load_run(path)
    rows = write_predictions(run, existing(source), Path(out))
    return Answer({"path": str(path), "source": source, "out": out, "rows": rows}, f"{rows:,} predictions in {out}")


@command(
    "show",
    "Show a run and its curves.",
    """
derin show runs/titanic-1
""",
)
def show(path: RunPath, as_json: AsJson = False) -> Answer:
    """Show a run: what was trained on what, how it went, how good it is."""
    from derin.cli.report import run_report

    values, text = run_report(Path(path))
    return Answer(values, text)


@command(
    "threshold",
    "Choose from which probability on a row is positive.",
    """
derin threshold runs/titanic-1 --for f1
derin threshold runs/titanic-1 --for recall=0.95
derin threshold runs/titanic-1 --for cost=FN:5,FP:1
""",
)
def threshold(
    path: RunPath, source: SourceToScore = None, rule: Rule = None, part: PartOfRule = "valid", as_json: AsJson = False
) -> Answer:
    """Choose the decision threshold of a run with two classes, on its validation part or on SOURCE.

    It is kept with the run, and `derin predict` uses it."""
    from derin import spec
    from derin.errors import DataError

    run = load_run(path)
    if part not in ("test", "valid", "train"):
        raise DataError(f"--part is test, valid or train, got {part!r}.")
    if rule is not None:
        run.choose_threshold(None if rule == "none" else rule, part if source is None else _to_score(existing(source)))
    text = run.threshold.line() if run.threshold else "no threshold: the more probable class"
    return Answer({"path": str(path), "threshold": spec.to_dict(run.threshold)}, f"{path}: {text}")


@command(
    "export",
    "Write a run's weights as safetensors.",
    """
derin export runs/titanic-1 titanic.safetensors
""",
)
def export(path: RunPath, file: ExportFile, as_json: AsJson = False) -> Answer:
    """Write the weights as safetensors, named and laid out as PyTorch's state_dict."""
    from derin.errors import RunError

    out = Path(file)
    if out.suffix != ".safetensors":
        raise RunError(f"weights are exported as .safetensors; got {file!r}.")
    if not out.parent.is_dir():
        raise RunError(f"there is no folder {str(out.parent)!r} to write {out.name} to.")
    run = load_run(path)
    run.export(out)
    arrays = {name: list(a.shape) for name, a in {**run.params, **run.state}.items()}
    return Answer({"path": path, "out": file, "arrays": arrays}, f"{len(arrays)} arrays in {file}")


@command(
    "new",
    "Write an experiment file to edit.",
    """
derin new titanic.csv --target Survived -o titanic.toml
derin new
""",
)
@with_data_options
def new(
    source: SourceOfNew = None,
    net: Net = None,
    epochs: Epochs = None,
    seed: Seed = None,
    set: Set = None,
    out: ExperimentOut = None,
    as_json: AsJson = False,
    reading: dict[str, Any] = {},  # noqa: B006
) -> Answer:
    """Write an experiment file: every choice with its default, to be edited and trained."""
    from derin import spec
    from derin.cli.files import experiment_text
    from derin.engine.experiment import Experiment
    from derin.errors import SpecError
    from derin.nn import MLP

    file = Path(out) if out is not None else None
    if file is not None and file.suffix.lower() != ".toml":
        raise SpecError(f"an experiment file ends in .toml; got {out!r}.")
    if file is not None:
        refuse_existing(file)
    table: dict[str, Any] = {}
    if source is not None:
        dataset = load_data(source, reading)
        experiment = experiment_for(dataset, None, net, set, epochs, seed)
        table = {"source": relative(source, file), **reading}
    else:
        if reading:
            raise SpecError(f"{', '.join(reading)}: these say how to read a source; name one: derin new SOURCE ...")
        experiment = Experiment(net=net_of(net) if net else MLP())
        experiment = changed(experiment, set, epochs, seed)
    text = experiment_text(experiment, table, file.name if file else "experiment.toml")
    values = {"experiment": spec.to_dict(experiment), "data": table, "out": out}
    if file is None:
        return Answer(values, text.rstrip("\n"))
    write_new(file, text)
    return Answer(values, f"{file}: edit it, then: derin fit {quoted(file)}")


@command(
    "data",
    "Show how data are understood.",
    """
derin data titanic.csv
derin data titanic.csv --target Survived
""",
)
@with_data_options
def data(
    source: SourceToSee,
    as_json: AsJson = False,
    reading: dict[str, Any] = {},  # noqa: B006
) -> Answer:
    """Show how data are understood, before training: every column and what becomes of it, outliers, correlations."""
    from derin.data.report import survey

    found = survey(existing(source), **reading)
    return Answer({"source": source, **found.to_dict()}, repr(found))
