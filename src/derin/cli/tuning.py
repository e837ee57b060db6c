"""The commands of a search: tune, cv, study show, study compare, retest; and a study that goes on."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from derin.cli.answers import Answer, app, command
from derin.cli.arguments import (
    AsJson,
    DataOfFile,
    Epochs,
    Net,
    Quiet,
    RayAddress,
    Refit,
    RunPath,
    Set,
    SourceToFit,
    Workers,
)
from derin.cli.asked import (
    assigned,
    existing,
    experiment_for,
    found_again,
    in_folder,
    load_data,
    load_run,
    refuse_existing,
    what_to_train,
)
from derin.cli.options import Text, Texts, argument, as_options, option, seconds_of, with_data_options
from derin.cli.told import about, in_a_line, interrupted_at_once, quoted, to_resume, unused_columns

if TYPE_CHECKING:
    from derin.engine import Experiment
    from derin.tune import Study

study_app = typer.Typer(
    help="Show a study of `derin tune`, or compare two.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(study_app, name="study", short_help="Show a study, or compare two.")

Tune = Annotated[
    Texts,
    option(
        "--tune",
        metavar="PATH=RANGE",
        help="Search this value: optimizer.learning_rate=log(1e-4,1e-1), net.dropout=uniform(0,0.5), "
        'batch_size=choice(32,64); also one_minus_log, integer, log_integer. "derin new" lists the paths. '
        "Repeatable. Without it: what the course tunes first.",
    ),
]
Trials = Annotated[int | None, option("--trials", metavar="N", help="How many are tried (64).")]
SamplerName = Annotated[
    str, option("--sampler", metavar="NAME", help="Which values are tried: random, grid, sobol, coarse, tpe or gp.")
]
PrunerName = Annotated[
    Text,
    option(
        "--pruner",
        metavar="NAME",
        help="Which trials are stopped early: none, asha, halving, hyperband or pbt (population-based training).",
    ),
]
Folds = Annotated[int | None, option("--folds", metavar="N", help="Judge each trial by the mean over so many folds.")]
FoldsOfCv = Annotated[int, option("--folds", metavar="N", help="How many folds (10).")]
Seeds = Annotated[int, option("--seeds", metavar="N", help="Train so often, from other first weights each time (1).")]
TimeLimit = Annotated[Text, option("--time-limit", metavar="TIME", help="Stop after this time: 90s, 10m, 1h30m.")]
Metric = Annotated[
    Text, option("--metric", metavar="NAME", help="What judges: valid_loss, or a metric of the experiment (its first).")
]
Slots = Annotated[int | None, option("--slots", metavar="N", help="How many train at once (what fits the machine).")]
SearchSeed = Annotated[int, option("--seed", metavar="N", help="Another number tries other values (0).")]
StudyOut = Annotated[
    Text,
    option("--out", "-o", metavar="FOLDER", help="Where the study is kept: a new folder (studies/NAME-1, -2, ...)."),
]
KeepOut = Annotated[Text, option("--out", "-o", metavar="FOLDER", help="Keep the study in this new folder.")]
StudyPath = Annotated[str, argument("STUDY", "The folder of a study: studies/NAME.")]
OtherStudy = Annotated[str, argument("OTHER", "Another one, judged by the same metric.")]
Pictures = Annotated[
    Text, option("--pictures", metavar="FOLDER", help="Write its pictures there, as SVG (needs matplotlib).")
]
Page = Annotated[
    Text, option("--page", metavar="FILE.html", help="Write all pictures as one HTML page (needs matplotlib).")
]
TodaysData = Annotated[
    Text, option("--data", metavar="SOURCE", help="Today's data. Without it: where the run's came from.")
]


@command(
    "tune",
    "Search for better values.",
    """
derin tune titanic.csv --target Survived
derin tune digits --pruner asha --trials 200 --time-limit 10m
derin tune digits --tune "optimizer.learning_rate=log(1e-4,1e-1)"
derin tune titanic.toml --folds 5 --seeds 3 --sampler tpe
""",
)
@with_data_options
def tune(
    source: SourceToFit,
    net: Net = None,
    tune: Tune = None,
    trials: Trials = None,
    sampler: SamplerName = "random",
    pruner: PrunerName = None,
    folds: Folds = None,
    seeds: Seeds = 1,
    time_limit: TimeLimit = None,
    metric: Metric = None,
    slots: Slots = None,
    workers: Workers = None,
    ray: RayAddress = None,
    seed: SearchSeed = 0,
    epochs: Epochs = None,
    set: Set = None,
    data: DataOfFile = None,
    out: StudyOut = None,
    refit: Refit = True,
    quiet: Quiet = False,
    as_json: AsJson = False,
    reading: dict[str, Any] = {},  # noqa: B006  filled by with_data_options
) -> Answer:
    """Train many trials at once, each with other values, and keep what was best."""
    from derin.tune.pruners import pruner_of
    from derin.tune.samplers import sampler_of
    from derin.tune.study import tune as search

    silent = quiet or as_json
    _refuse_a_limit(reading)
    limit = seconds_of(time_limit) if time_limit is not None else None
    rules = sampler_of(sampler), pruner_of(pruner)  # a wrong name is told before anything is read
    experiment, source, reading, name = what_to_train(source, data, reading)
    if out is not None:
        refuse_existing(Path(out))
    dataset = load_data(source, reading)
    space, ready = _space(experiment_for(dataset, experiment, net, set, epochs, None), tune)
    if not silent:
        print(about(dataset, space), *_about_space(space, ready), sep="\n", file=sys.stderr)

    def searched_in(path: Path) -> Study:
        return search(
            space, dataset, trials=trials, sampler=rules[0], pruner=rules[1], folds=folds, seeds=seeds, time=limit,
            metric=metric, slots=slots, seed=seed, out=path, progress=not silent,
            workers=workers, ray=ray,
        )  # fmt: skip

    study = in_folder(name, out, "studies", searched_in)
    if isinstance(study, Answer):
        return study
    return _searched(study, dataset, refit, silent, to_resume(study.path, refit=refit, workers=workers, ray=ray))


@command(
    "cv",
    "Cross-validate.",
    """
derin cv titanic.csv --target Survived
derin cv wine --folds 5 --seeds 3 --net mlp:32
""",
)
@with_data_options
def cv(
    source: SourceToFit,
    net: Net = None,
    folds: FoldsOfCv = 10,
    seeds: Seeds = 1,
    metric: Metric = None,
    epochs: Epochs = None,
    set: Set = None,
    data: DataOfFile = None,
    out: KeepOut = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    reading: dict[str, Any] = {},  # noqa: B006
) -> Answer:
    """Train on all folds but one and score on that one, for each in turn: how good, and how far it varies."""
    from derin.cli.studies import cross_validation_report
    from derin.tune.study import cross_validate

    silent = quiet or as_json
    experiment, source, reading, _ = what_to_train(source, data, reading)
    if out is not None:
        refuse_existing(Path(out))
    dataset = load_data(source, reading)
    experiment = experiment_for(dataset, experiment, net, set, epochs, None)
    if not silent:
        print(about(dataset, experiment), file=sys.stderr)
    study = cross_validate(experiment, dataset, folds=folds, seeds=seeds, metric=metric, out=out, progress=not silent)
    if study.state == "interrupted":
        if study.path is None:
            raise KeyboardInterrupt
        return _to_go_on(study, to_resume(study.path))
    _ = study.best  # a message where every fold diverged
    values, text = cross_validation_report(study, dataset)
    return Answer(values, text)


@command(
    "show",
    "Show a study.",
    """
derin study show studies/titanic-1
derin study show studies/titanic-1 --page report.html --pictures figures/
""",
    group=study_app,
)
def show(path: StudyPath, pictures: Pictures = None, page: Page = None, as_json: AsJson = False) -> Answer:
    """Show a study: its best trials, which values mattered, how the trials ended."""
    from derin.cli.studies import study_report
    from derin.errors import RunError
    from derin.tune.study import load

    if page is not None and Path(page).suffix.lower() not in (".html", ".htm"):
        raise RunError(f"a page ends in .html; got {page!r}.")
    study = load(path)
    values, text = study_report(study)
    written = [str(p) for p in study.pictures(pictures)] if pictures is not None else []
    written += [str(study.page(page))] if page is not None else []
    lines = [text, *(["", f"written   {', '.join(written)}"] if written else [])]
    if not written:
        lines += ["", *_next_of(study)]
    return Answer(values | {"written": written}, "\n".join(lines))


@command(
    "compare",
    "Compare two studies.",
    """
derin study compare studies/titanic-1 studies/titanic-2
""",
    group=study_app,
)
def compare(path: StudyPath, other: OtherStudy, as_json: AsJson = False) -> Answer:
    """Compare two studies: which found the better values, and how soon."""
    from derin.cli.show import number
    from derin.cli.studies import in_columns
    from derin.tune.study import load

    rows = load(path).compare(load(other)).to_dicts()
    for row, name in zip(rows, (path, other), strict=True):
        row["study"] = name
    head = [k.replace("_", " ") for k in rows[0]]
    cells = [["never" if v is None else "-" if v != v else number(v) for v in row.values()] for row in rows]
    lines = in_columns(head, cells, most=40)
    lines += ["", '"reached the others best": seconds until the score of the other study was reached or beaten.']
    return Answer({"studies": rows}, "\n".join(lines))


@command(
    "retest",
    "See whether a run's values still hold.",
    """
derin retest runs/titanic-1
derin retest runs/titanic-1 --data titanic-today.csv
""",
)
def retest(path: RunPath, data: TodaysData = None, quiet: Quiet = False, as_json: AsJson = False) -> Answer:
    """Search near a run's values, on its data or today's: do they still hold, and what would be better?"""
    from derin.cli.studies import retest_report
    from derin.tune.local import retest as search_nearby

    run = load_run(path)
    dataset = load_data(existing(data), run.about_data["options"]) if data is not None else None
    found = search_nearby(run, dataset, progress=not (quiet or as_json))
    values, text = retest_report(path, found)
    return Answer(values, text)


def resume_study(
    path: Path, data: str | None, refit: bool, workers: int | None, ray: str | None, silent: bool
) -> Answer:
    """`derin resume` of a study: the search to its end, then its best trial."""
    from derin.errors import RunError
    from derin.tune.study import load

    study = load(path)
    if data is not None:
        dataset = load_data(data, study.about_data["options"])
    else:
        dataset = found_again(study.about_data["source"], study.load_data)
    if data is not None and dataset.fingerprint != study.about_data["fingerprint"]:
        raise RunError(f"{data} does not hold the data of {path}. Bring them back as they were, or start a new study.")
    again = to_resume(path, data=data, refit=refit, workers=workers, ray=ray)
    try:
        study = study.resume(dataset, progress=not silent, workers=workers, ray=ray)
    except KeyboardInterrupt:
        return interrupted_at_once(path, again)
    return _searched(study, dataset, refit and study.space is not None, silent, again)


# -- what is searched


def _refuse_a_limit(reading: dict[str, Any]) -> None:
    """--time is a column of the data, in every command."""
    from derin.errors import SpecError

    if reading.get("time", "")[:1].isdigit():
        try:
            seconds_of(reading["time"])
        except SpecError:
            return
        raise SpecError(
            f"--time names a column that orders the rows; to stop the search after a time: "
            f"--time-limit {reading['time']}"
        )


def _space(experiment: Experiment, tune: list[str] | None) -> tuple[Experiment, bool]:
    """The experiment with the ranges of --tune; where it has none, those of the ready space (and then True)."""
    from derin import spec
    from derin.errors import SpecError
    from derin.tune.ready import ready_space

    for text in tune or []:
        experiment = assigned(experiment, text, "--tune")
        path = text.partition("=")[0].strip()
        if not spec.distributions(spec.get(experiment, path)):
            raise SpecError(f"--tune {text}: this is one value; a range is log(1e-4,1e-1), or choice(32,64). "
                            "For one value: --set.")  # fmt: skip
    if spec.distributions(experiment):
        return experiment, False
    return ready_space(experiment), True


def _about_space(space: Experiment, ready: bool) -> list[str]:
    from derin import spec

    found = spec.distributions(space)
    side = max(map(len, found))
    lines = [f"{'tune' if i == 0 else '':<7} {p:<{side}}  {d!r}" for i, (p, d) in enumerate(found.items())]
    if ready:
        lines.append("        (no value is a range: derin's ready space; --tune PATH=RANGE searches what you name)")
    return lines


# -- what is said in the end


def _searched(study: Study, dataset: Any, refit: bool, silent: bool, again: str) -> Answer:
    """The answer after a search, or after Ctrl-C in it or in what follows it."""
    if study.state == "interrupted":
        return _to_go_on(study, again)
    try:
        return _found(study, dataset, refit, silent, again)
    except KeyboardInterrupt:
        return _to_go_on(study, again)


def _found(study: Study, dataset: Any, refit: bool, silent: bool, again: str) -> Answer:
    """What the search came to: a page of pictures, the best trial as a run, and what is said of them."""
    from derin.cli.studies import best_in_lines, no_best, refused_in_lines, study_values
    from derin.errors import RunError

    values = study_values(study)
    values["notes"] = [as_options(note) for note in [*dataset.notes, *unused_columns(dataset)]]
    if not study.ranked():
        raise RunError(f"{no_best(study)} The trials are kept: derin study show {quoted(study.path)}")
    report = _report(study)
    values["report"] = None if report is None else str(report)
    lines = [*best_in_lines(study), *refused_in_lines(study, 8)]
    if refit:
        run = _best_run(study, dataset, silent)
        if run.stopped == "interrupted":
            return _to_go_on(study, again)
        values["run"] = str(run.path)
        if len(dataset.test.x):
            values["test"] = run.evaluate("test")
            lines.append(f"test    {in_a_line(values['test'])}")
        else:
            lines.append("test    none: no rows were kept back for it")
        lines.append(f"run     {run.path}")
    lines.append(f"study   {study.path}" + (f", with pictures in {report}" if report else ""))
    if report is None:
        lines.append("        (with matplotlib it would have a page of pictures: pip install derin[plots])")
    lines += ["", *_next_of(study)]
    return Answer(values, "\n".join(lines))


def _report(study: Study) -> Path | None:
    """report.html in the study's folder, where matplotlib is installed; one that is newer than the trials stays."""
    if importlib.util.find_spec("matplotlib") is None or study.path is None:
        return None
    file, trials = study.path / "report.html", study.path / "trials.jsonl"
    if file.exists() and file.stat().st_mtime >= trials.stat().st_mtime:
        return file
    return study.page(file)


def _best_run(study: Study, dataset: Any, silent: bool) -> Any:
    """STUDY/best: the best trial as a run. One that was interrupted goes on; one of another trial makes room."""
    from derin.engine import load
    from derin.errors import RunError

    path = (study.path or Path()) / "best"
    if path.exists():
        try:
            run = load(path)
        except RunError:
            run = None
        if run is not None and run.experiment == study.replayed():
            unfinished = len(run.history) < run.experiment.epochs and not bool(run.carry.done)
            return run.resume(dataset, progress=False) if unfinished else run
        shutil.rmtree(path)
    if not silent:
        print(f"the best trial once more, as a run in {path}", file=sys.stderr)
    return study.refit(dataset, out=path, progress=False)


def _next_of(study: Study) -> list[str]:
    path = quoted(study.path)
    if study.state in ("interrupted", "not finished"):
        return [f"next    derin resume {path}"]
    lines = [f"next    derin study show {path}"]
    if study.path is not None and (study.path / "best").is_dir():
        lines.append(f"        derin predict {quoted(study.path / 'best')} NEW_ROWS -o predictions.csv")
    return lines


def _to_go_on(study: Study, again: str) -> Answer:
    """The answer after Ctrl-C."""
    from derin.cli.studies import ended, study_values

    print(f"derin: interrupted ({ended(study)}); all of it is kept. To go on:\n    {again}", file=sys.stderr)
    return Answer(study_values(study) | {"resume": again}, "", 130)
