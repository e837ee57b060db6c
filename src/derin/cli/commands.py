"""The commands. Each returns an Answer: the object that --json prints, and the text for people."""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from derin.cli import raise_if_interrupted
from derin.cli.options import Text, Texts, argument, as_options, option, with_data_options

if TYPE_CHECKING:
    from derin.data import Dataset
    from derin.engine import Experiment, Run

app = typer.Typer(
    name="derin",
    help="Train neural networks on tables, images and arrays, and predict with them.",
    epilog="\b\nA first run:\n  derin fit digits\n  derin show runs/digits-1\n"
    "More about a command, with examples: derin fit --help",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Answer(NamedTuple):
    """What a command has to say."""

    values: dict[str, Any]
    text: str
    code: int = 0


def command(
    name: str, short: str, examples: str, group: typer.Typer = app
) -> Callable[[Callable[..., Answer]], Callable[..., int]]:
    """Register a command: its answer goes to standard output, as JSON if `as_json` asks for it."""

    def register(function: Callable[..., Answer]) -> Callable[..., int]:
        @functools.wraps(function)
        def run(**values: Any) -> int:
            _import(values.pop("modules", None) or [])
            try:
                answer = function(**values)
            except KeyboardInterrupt:  # where nothing is worth keeping
                print("derin: interrupted; nothing was written.", file=sys.stderr)
                return 130
            if values.get("as_json"):
                print(json.dumps(_jsonable(answer.values), ensure_ascii=False, allow_nan=False))
            elif answer.text and not values.get("quiet"):
                print(answer.text)
            return answer.code

        run.__signature__ = _with_modules(function)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in run.__signature__.parameters.values()}  # type: ignore[attr-defined]
        del run.__wrapped__
        lines = "\n  ".join(["\b\nExamples:", *examples.strip().splitlines()])
        group.command(name, epilog=lines, short_help=short)(run)
        return run

    return register


# -- arguments and options

SourceToFit = Annotated[
    str,
    argument(
        "SOURCE",
        "What to learn from: a CSV, TSV or Parquet file, a folder of images with a sub-folder a class, an .npy, .npz, "
        "idx or HDF5 file, a bundled set (iris, digits, wine, breast_cancer, diabetes, linnerud), or an experiment "
        "file (.toml) of `derin new`.",
    ),
]
SourceOrStart = Annotated[
    Text, argument("[SOURCE]", SourceToFit.__metadata__[0].help + " With --from it may be left out.")  # type: ignore[attr-defined]
]
SourceToSee = Annotated[str, argument("SOURCE", "The data, as for `derin fit`.")]
SourceToPredict = Annotated[str, argument("SOURCE", "Rows like those of training; the target may be absent.")]
SourceToScore = Annotated[
    Text, argument("[SOURCE]", "Rows with the target, like those of training. Without it: the run's test part.")
]
SourceOfNew = Annotated[
    Text, argument("[SOURCE]", "The data; the file then names them, and holds a network that fits them.")
]
RunPath = Annotated[str, argument("RUN", "The folder of a run: runs/NAME.")]
RunOrStudy = Annotated[str, argument("RUN", "The folder of a run, runs/NAME, or of a study, studies/NAME.")]
ExportFile = Annotated[str, argument("FILE.safetensors", "The file to write.")]

AsJson = Annotated[bool, option("--json", help="Print one JSON object, and nothing else, on standard output.")]
Quiet = Annotated[bool, option("--quiet", "-q", help="Print nothing but errors.")]
Modules = Annotated[
    Texts,
    option(
        "--import",
        metavar="MODULE",
        help="Import this Python module (or file) first: it defines layers of yours. Repeatable.",
    ),
]
Net = Annotated[
    Text,
    option(
        "--net",
        metavar="NET",
        help='mlp:128,64 (hidden layers), cnn, or the layers: "Sequential(Linear(64), ReLU(), Linear(3))".',
    ),
]
Epochs = Annotated[int | None, option("--epochs", metavar="N", help="How often all rows are seen.")]
MoreEpochs = Annotated[int | None, option("--epochs", metavar="N", help="Train up to this many epochs in all.")]
Seed = Annotated[int | None, option("--seed", metavar="N", help="Another number starts from other weights (0).")]
Set = Annotated[
    Texts,
    option(
        "--set",
        metavar="PATH=VALUE",
        help='Any value of the experiment: optimizer.learning_rate=0.01, batch_size=32, optimizer="SGD(0.1)". '
        "`derin new` lists them. Repeatable.",
    ),
]
DataOfFile = Annotated[
    Text,
    option(
        "--data",
        metavar="SOURCE",
        help="With an experiment file: learn from this instead of what its [data] table names.",
    ),
]
MovedData = Annotated[Text, option("--data", metavar="SOURCE", help="Where the same data are now, if they moved.")]
FromRun = Annotated[
    Text,
    option("--from", metavar="RUN", help="Begin with the weights of this run; what fits by name and shape is taken."),
]
RunFolderOut = Annotated[
    Text,
    option("--out", "-o", metavar="FOLDER", help="Where the run is kept: a new folder (runs/NAME-1, -2, ...)."),
]
PredictionsOut = Annotated[
    str, option("--out", "-o", metavar="FILE", help="The file to write: .csv, .tsv or .parquet.")
]
ExperimentOut = Annotated[
    Text, option("--out", "-o", metavar="FILE.toml", help="The file to write, a new one. Without it: the screen.")
]
PartName = Annotated[
    str, option("--part", metavar="PART", help="Which part of the run's own data: test (the usual), valid or train.")
]
PartOfRule = Annotated[str, option("--part", metavar="PART", help="The run's own rows to choose on: valid or test.")]
Rule = Annotated[
    Text,
    option(
        "--for",
        metavar="RULE",
        help="What it is for: f1, precision=0.9, recall=0.95 or cost=FN:5,FP:1 (what a missed positive and a false "
        "alarm cost); none: the more probable class again. Without it the threshold is shown.",
    ),
]


def _with_modules(function: Callable[..., Answer]) -> inspect.Signature:
    """The function's signature, and --import."""
    own = inspect.signature(function, eval_str=True)
    modules = inspect.Parameter("modules", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Modules)
    given = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own.parameters.values()]
    return inspect.Signature([*given, modules])


# -- the commands


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
    begun = _run(start) if start is not None else None
    if out is not None:
        _refuse_existing(Path(out))
    if source is not None:
        experiment, source, reading, name = _what_to_train(source, data, reading)
        dataset = _load(source, reading)
    elif begun is None:
        raise SpecError("name what to learn from: derin fit SOURCE, or a run to begin with: derin fit --from RUN.")
    elif reading:
        raise SpecError(f"{', '.join(reading)}: these say how to read a source, and --from reads that of its run.")
    else:
        experiment, name = None, _name(str(start))
        dataset = _load(data, begun.about_data["options"]) if data is not None else begun.reload_data()
    if experiment is None and begun is not None:
        experiment = begun.experiment
    experiment = _experiment(dataset, experiment, net, set, epochs, seed)
    if not silent:
        print(_about(dataset, experiment), file=sys.stderr)
    run = _in_folder(
        name, out, "runs", lambda path: experiment.fit(dataset, out=path, start=begun, progress=not silent)
    )
    return run if isinstance(run, Answer) else _trained(run, dataset)


@command(
    "resume",
    "Go on with a run or a study.",
    """
derin resume runs/titanic-1
derin resume runs/titanic-1 --epochs 100
derin resume studies/titanic-1
""",
)
def resume(
    path: RunOrStudy, epochs: MoreEpochs = None, data: MovedData = None, quiet: Quiet = False, as_json: AsJson = False
) -> Answer:
    """Train on a run that was stopped, as if it had not been; or for more epochs. A study goes on the same way."""
    from derin.errors import SpecError

    if (Path(path) / "study.json").is_file():
        if epochs is not None:
            raise SpecError(f"{path} is a study: its trials keep the epochs it was started with. Leave out --epochs.")
        from derin.cli.tuning import resume_study

        return resume_study(Path(path), data, silent=quiet or as_json)
    run = _run(path)
    done, wanted = len(run.history), epochs if epochs is not None else run.experiment.epochs
    if epochs is not None and epochs < max(1, done):
        raise SpecError(f"{path} has been trained for {done} epochs; --epochs must be more, got {epochs}.")
    if done >= wanted or bool(run.carry.done):
        why = "early stopping ended it" if bool(run.carry.done) else "all of them are done"
        more = "" if bool(run.carry.done) else f" To train on: derin resume {_quoted(path)} --epochs {2 * done}"
        values = {"status": run.stopped, "path": str(path), "epochs": done}
        return Answer(values, f"{path}: {done} of {wanted} epochs, {why}.{more}")
    dataset = _load(data, run.about_data["options"]) if data is not None else run.reload_data()
    try:
        run = run.resume(dataset, epochs=epochs, progress=not (quiet or as_json))
    except KeyboardInterrupt:
        return _interrupted_at_once(Path(path))
    return _trained(run, dataset)


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

    run = _run(path)
    if part not in ("test", "valid", "train"):
        raise DataError(f"--part is test, valid or train, got {part!r}.")
    values = run.evaluate(part if source is None else _to_score(_existing(source)))
    what = f"the {part} part" if source is None else source
    labels = _labels(run)
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
    run = _run(path)
    rows = write_predictions(run, _existing(source), Path(out))
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

    run = _run(path)
    if part not in ("test", "valid", "train"):
        raise DataError(f"--part is test, valid or train, got {part!r}.")
    if rule is not None:
        run.choose_threshold(None if rule == "none" else rule, part if source is None else _to_score(_existing(source)))
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
    run = _run(path)
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
        _refuse_existing(file)
    table: dict[str, Any] = {}
    if source is not None:
        dataset = _load(source, reading)
        experiment = _experiment(dataset, None, net, set, epochs, seed)
        table = {"source": _relative(source, file), **reading}
    else:
        if reading:
            raise SpecError(f"{', '.join(reading)}: these say how to read a source; name one: derin new SOURCE ...")
        experiment = Experiment(net=_net(net) if net else MLP())
        experiment = _changed(experiment, set, epochs, seed)
    text = experiment_text(experiment, table, file.name if file else "experiment.toml")
    values = {"experiment": spec.to_dict(experiment), "data": table, "out": out}
    if file is None:
        return Answer(values, text.rstrip("\n"))
    _write_new(file, text)
    return Answer(values, f"{file}: edit it, then: derin fit {_quoted(file)}")


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

    found = survey(_existing(source), **reading)
    return Answer({"source": source, **found.to_dict()}, repr(found))


# -- what to train


def _what_to_train(
    source: str, data: str | None, reading: dict[str, Any]
) -> tuple[Experiment | None, str, dict[str, Any], str]:
    """(the experiment of a file or None, the source of the data, options to read it, a name for the run)"""
    from derin.cli.files import is_experiment, read_experiment
    from derin.errors import SpecError

    if not is_experiment(source):
        if data is not None:
            raise SpecError(f"--data is for experiment files (.toml); {source!r} is taken for data already.")
        return None, source, reading, _name(source)
    experiment, table = read_experiment(Path(source))
    named = table.pop("source", None)
    if data is None and not isinstance(named, str):
        raise SpecError(
            f'{source} names no data: give --data SOURCE, or a [data] table with source = "..." in the file.'
        )
    return experiment, data or str(named), table | reading, _name(source)


def _name(source: str) -> str:
    """What a run is called after: the file, or its folder where all files are called like this one."""
    path = Path(source).resolve()
    stem = path.name.split(".")[0]
    if path.exists() and stem.lower() in ("train", "training", "data", "dataset", "experiment"):
        stem = path.parent.name or stem
    return re.sub(r"[^\w-]+", "-", stem).strip("-") or "run"


def _reserved(name: str, within: str = "runs") -> Path:
    """runs/NAME-1, or the next that is not there, as an empty folder: two commands at once get two."""
    from derin.errors import RunError

    for n in itertools.count(1):
        path = Path(within) / f"{name}-{n}"
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            if not path.parent.is_dir():
                raise RunError(f"{within} is a file, not a folder. Give --out.") from None
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}. Give --out.") from None
    return path


def _in_folder(name: str, out: str | None, where: str, work: Callable[[Path], Any]) -> Any:
    """What `work` comes to in the folder `out`, or in a new one that goes again if nothing is left in it.

    An Answer, where Ctrl-C ended it at once.
    """
    from derin.engine.checkpoint import missing_parents, remove_empty

    made = missing_parents(Path(where, name))
    path = Path(out) if out is not None else _reserved(name, where)
    try:
        raise_if_interrupted()
        return work(path)
    except BaseException as error:
        remove_empty([path, *made] if out is None else [])
        if isinstance(error, KeyboardInterrupt):
            return _interrupted_at_once(path)
        raise


def _refuse_existing(path: Path) -> None:
    from derin.errors import RunError

    if path.exists():
        known = any((path / name).is_file() for name in ("experiment.json", "study.json"))
        more = f", or go on with it: derin resume {_quoted(path)}" if known else ""
        raise RunError(f"{path} exists already. Give another --out{more}.")


def _load(source: str, reading: dict[str, Any]) -> Dataset:
    import derin.data
    from derin.errors import DataError

    try:
        return derin.data.load(source, **reading)
    except TypeError as error:  # an option of a [data] table that is no keyword
        if "keyword" not in str(error):
            raise
        raise DataError(f"the [data] table: {error}.") from None


def _existing(source: str) -> str:
    """A path that is there, or a bundled set's name."""
    from derin.data.dataset import loader_of

    loader_of(source)
    return source


def _experiment(
    dataset: Dataset,
    given: Experiment | None,
    net: str | None,
    set: list[str] | None,
    epochs: int | None,
    seed: int | None,
) -> Experiment:
    from derin.engine.defaults import default_experiment

    chosen = _net(net) if net is not None else None
    if given is None:
        given = default_experiment(dataset, net=chosen)
    elif chosen is not None:
        given = given.replace(net=default_experiment(dataset, net=chosen).net)
    return _changed(given, set, epochs, seed)


def _changed(experiment: Experiment, set: list[str] | None, epochs: int | None, seed: int | None) -> Experiment:
    """With the values of --set, --epochs and --seed."""
    for text in set or []:
        experiment = _assigned(experiment, text)
    if epochs is not None:
        experiment = experiment.replace(epochs=epochs)
    if seed is not None:
        experiment = experiment.replace(seed=seed)
    return experiment


def _net(text: str) -> Any:
    """The text of a default network, or the Module that the text describes. Raises SpecError."""
    from derin import spec
    from derin.distributions import Distribution
    from derin.errors import SpecError
    from derin.nn import Module

    if re.fullmatch(r"(mlp|cnn)(:.*)?", text.strip()):
        return text.strip()
    try:
        found = spec.parse(text)
    except SpecError as error:
        raise SpecError(f"--net: {error}") from None
    if not isinstance(found, Module | Distribution):
        raise SpecError(
            f"--net {text!r} is no network. Write mlp, mlp:128,64, cnn, or layers: "
            '"Sequential(Linear(64), ReLU(), Linear(3))".'
        )
    return found


def _assigned(experiment: Experiment, text: str, flag: str = "--set") -> Experiment:
    """The experiment with `path=value` in it. Raises SpecError."""
    from derin import spec
    from derin.errors import SpecError

    path, sign, value = text.partition("=")
    path = path.strip()
    if not sign or not path:
        example = "0.01" if flag == "--set" else "log(1e-4,1e-1)"
        raise SpecError(f"{flag} is written PATH=VALUE, as in {flag} optimizer.learning_rate={example}; got {text!r}.")
    try:
        names = path == "metrics" and re.fullmatch(r"[\w, ]+", value)  # accuracy,f1 needs no quotes
        parsed = tuple(v.strip() for v in value.split(",") if v.strip()) if names else spec.parse(value)
        return spec.set(experiment, path, parsed)
    except SpecError as error:
        raise SpecError(f"{flag} {text}: {error}") from None


# -- what to say


def _about(dataset: Dataset, experiment: Experiment) -> str:
    rows = ", ".join(f"{len(part.x):,} {name}" for name, part in dataset.parts.items() if len(part.x))
    targets = "; ".join(_target(t) for t in dataset.schema.targets)
    shape = " x ".join(map(str, dataset.train.x.shape[1:]))
    lines = [f"data    {rows}; a row is {shape}"]
    lines += [f"unused  {note}" for note in _unused(dataset)[:12]]
    lines += [f"target  {targets}", f"net     {experiment.net!r}"]
    return "\n".join(lines)


def _unused(dataset: Dataset) -> list[str]:
    """The columns that are left out, and why."""
    return [f"{line.column}: {line.becomes}" for line in dataset.table if line.kind == "left out"]


def _target(t: Any) -> str:
    if t.kind == "number":
        return f"{t.name}: {'a number' if t.width == 1 else f'a vector of {t.width} numbers'}"
    labels = ", ".join(map(str, t.labels[:6])) + (", ..." if len(t.labels) > 6 else "")
    return f"{t.name}: {len(t.labels)} classes ({labels})"


def _trained(run: Run, dataset: Dataset) -> Answer:
    """The answer after training, or after Ctrl-C."""
    values: dict[str, Any] = {
        "status": run.stopped,
        "path": str(run.path),
        "epochs": len(run.history),
        "best_epoch": run.best_epoch or None,
        "rows": {name: len(part.x) for name, part in dataset.parts.items()},
        "weights": sum(int(a.size) for a in run.params.values()),
        "last": run.history[-1] if run.history else None,
        "notes": [as_options(note) for note in [*dataset.notes, *_unused(dataset)]],
    }
    if run.stopped == "interrupted":
        values["resume"] = f"derin resume {_quoted(run.path)}"
        when = f"in epoch {len(run.history) + 1}" if run.begun else f"after epoch {len(run.history)}"
        print(
            f"derin: interrupted {when} of {run.experiment.epochs}; all of it is kept. "
            f"To go on:\n    {values['resume']}",
            file=sys.stderr,
        )
        return Answer(values, "", 130)
    lines = []
    if run.stopped == "stopped":
        values["resume"] = f"derin resume {_quoted(run.path)}"
        lines.append(
            f"stopped after {len(run.history)} of {run.experiment.epochs} epochs; to go on: {values['resume']}"
        )
    if run.stopped == "early stopping":
        lines.append(f"stopped early, after {len(run.history)} epochs; epoch {run.best_epoch} was the best")
    judge = next((name for name in ("test", "valid") if len(dataset.parts[name].x)), None)
    if judge is not None:
        try:
            values[judge] = run.evaluate(judge)
        except KeyboardInterrupt:
            again = f"derin evaluate {_quoted(run.path)} --part {judge}"
            print(f"derin: interrupted; the run is trained and kept. To score it:\n    {again}", file=sys.stderr)
            return Answer(values, "", 130)
        lines.append(f"{judge:<7} {_in_a_line(values[judge])}")
        if judge == "valid":
            lines.append("        (the epochs were judged by these rows: a test part would tell more)")
    else:
        lines.append("test    none: all rows were for training")
    lines += [
        f"run     {run.path}",
        "",
        f"next    derin show {_quoted(run.path)}",
        f"        derin predict {_quoted(run.path)} NEW_ROWS -o predictions.csv",
    ]
    return Answer(values, "\n".join(lines))


def _interrupted_at_once(path: Path) -> Answer:
    """The answer after a second Ctrl-C, which does not wait for the end of the epoch."""
    if not path.exists():  # before the first checkpoint
        raise KeyboardInterrupt
    values = {"status": "interrupted", "path": str(path), "resume": f"derin resume {_quoted(path)}"}
    print(f"\nderin: interrupted; the last checkpoint is kept. To go on:\n    {values['resume']}", file=sys.stderr)
    return Answer(values, "", 130)


def _in_a_line(values: dict[str, Any]) -> str:
    from derin.cli.show import number

    shown = {k: v for k, v in values.items() if isinstance(v, float)}
    first = [k for k in shown if k != "loss"]
    return (
        ", ".join(f"{k} {number(shown[k])}" for k in [*first, "loss"] if k in shown) + f"   ({values['rows']:,} rows)"
    )


def show_metrics(values: dict[str, Any], labels: Sequence[Any]) -> list[str]:
    from derin.cli.show import metrics_text

    return metrics_text(values, labels)


def _quoted(path: Any) -> str:
    """A path as it is typed."""
    return f'"{path}"' if " " in str(path) else str(path)


def _labels(run: Run) -> Sequence[Any]:
    targets = run.schema.targets
    return targets[0].labels if len(targets) == 1 and targets[0].kind != "number" else ()


# -- files


def _run(path: str) -> Run:
    from derin.engine import load

    return load(path)


def _run_with(path: str, data: str | None) -> Run:
    """A run, and its data read from where they are now. Raises RunError where these are others."""
    from derin.errors import RunError

    run = _run(path)
    if data is not None:
        found = _load(data, run.about_data.get("options", {}))
        if found.fingerprint != run.fingerprint:
            raise RunError(
                f"{data} is not the data of the run: its fingerprint is {found.fingerprint[:12]}, the run's is "
                f"{run.fingerprint[:12]}. --data says where the same data are now."
            )
        run.data = found
    return run


def _relative(source: str, file: Path | None) -> str:
    """A path as an experiment file beside it would say it; the name of a bundled set as it is."""
    path = Path(source)
    if not path.exists():
        return source
    folder = file.resolve().parent if file is not None else Path.cwd()
    try:
        return path.resolve().relative_to(folder).as_posix()
    except ValueError:
        return path.resolve().as_posix()


def _write_new(file: Path, text: str) -> None:
    """Write a file that was not there. Raises RunError."""
    from derin.errors import RunError

    try:
        with open(file, "x", encoding="utf-8", newline="\n") as handle:
            handle.write(text)
    except OSError as error:
        raise RunError(f"cannot write {file}: {error.strerror}.") from None


def _import(modules: Sequence[str]) -> None:
    """Import modules that define a person's own layers: by name, from this folder as well, or by file."""
    import importlib

    from derin.errors import SpecError

    for given in modules:
        file = Path(given)
        folder, name = (file.resolve().parent, file.stem) if file.suffix == ".py" else (Path.cwd(), given)
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and name.startswith(error.name):
                raise SpecError(f"--import {given}: there is no module {name!r} in {folder}, nor installed.") from None
            raise SpecError(f"--import {given}: it needs the module {error.name!r}, which is not installed.") from None
        except Exception as error:
            raise SpecError(f"--import {given}: {type(error).__name__}: {error}") from error


def _jsonable(value: Any) -> Any:
    """Values as strict JSON has them: null for what is not finite."""
    if isinstance(value, dict):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "item"):
        return _jsonable(value.item())
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
