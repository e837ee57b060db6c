"""What a command is asked for: data, an experiment, a folder for what comes of it, a run that is there."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derin.cli import raise_if_interrupted
from derin.cli.told import interrupted_at_once, quoted

if TYPE_CHECKING:
    from derin.data import Dataset
    from derin.engine import Experiment, Run


def what_to_train(
    source: str, data: str | None, reading: dict[str, Any]
) -> tuple[Experiment | None, str, dict[str, Any], str]:
    """(the experiment of a file or None, the source of the data, options to read it, a name for the run)"""
    from derin.cli.files import is_experiment, read_experiment
    from derin.errors import SpecError

    if not is_experiment(source):
        if data is not None:
            raise SpecError(f"--data is for experiment files (.toml); {source!r} is taken for data already.")
        return None, source, reading, name_of(source)
    experiment, table = read_experiment(Path(source))
    named = table.pop("source", None)
    if data is None and not isinstance(named, str):
        raise SpecError(
            f'{source} names no data: give --data SOURCE, or a [data] table with source = "..." in the file.'
        )
    return experiment, data or str(named), table | reading, name_of(source)


def name_of(source: str) -> str:
    """What a run is called after: the file, or its folder where all files are called like this one."""
    path = Path(source).resolve()
    stem = path.name.split(".")[0]
    if path.exists() and stem.lower() in ("train", "training", "data", "dataset", "experiment"):
        stem = path.parent.name or stem
    return re.sub(r"[^\w-]+", "-", stem).strip("-") or "run"


def reserved(name: str, within: str = "runs") -> Path:
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


def in_folder(name: str, out: str | None, where: str, work: Callable[[Path], Any]) -> Any:
    """What `work` comes to in the folder `out`, or in a new one that goes again if nothing is left in it.

    An Answer, where Ctrl-C ended it at once.
    """
    from derin.engine.checkpoint import missing_parents, remove_empty

    made = missing_parents(Path(where, name))
    path = Path(out) if out is not None else reserved(name, where)
    try:
        raise_if_interrupted()
        return work(path)
    except BaseException as error:
        remove_empty([path, *made] if out is None else [])
        if isinstance(error, KeyboardInterrupt):
            return interrupted_at_once(path)
        raise


def refuse_existing(path: Path) -> None:
    from derin.errors import RunError

    if path.exists():
        known = any((path / name).is_file() for name in ("experiment.json", "study.json"))
        more = f", or go on with it: derin resume {quoted(path)}" if known else ""
        raise RunError(f"{path} exists already. Give another --out{more}.")


def load_data(source: str, reading: dict[str, Any]) -> Dataset:
    import derin.data
    from derin.errors import DataError

    try:
        return derin.data.load(source, **reading)
    except TypeError as error:  # an option of a [data] table that is no keyword
        if "keyword" not in str(error):
            raise
        raise DataError(f"the [data] table: {error}.") from None


def found_again(source: str | None, read: Callable[[], Dataset]) -> Dataset:
    """What `read` gives: the data of a run or a study, from where they came. Raises DataError."""
    from derin.errors import DataError

    try:
        return read()
    except DataError as error:
        if source is None or Path(source).exists():
            raise
        raise DataError(f"{error} Where the data moved, say where they are now: --data SOURCE.") from None


def existing(source: str) -> str:
    """A path that is there, or a bundled set's name."""
    from derin.data.dataset import loader_of

    loader_of(source)
    return source


def experiment_for(
    dataset: Dataset,
    given: Experiment | None,
    net: str | None,
    set: list[str] | None,
    epochs: int | None,
    seed: int | None,
) -> Experiment:
    from derin.engine.defaults import default_experiment

    chosen = net_of(net) if net is not None else None
    if given is None:
        given = default_experiment(dataset, net=chosen)
    elif chosen is not None:
        given = given.replace(net=default_experiment(dataset, net=chosen).net)
    return changed(given, set, epochs, seed)


def changed(experiment: Experiment, set: list[str] | None, epochs: int | None, seed: int | None) -> Experiment:
    """With the values of --set, --epochs and --seed."""
    for text in set or []:
        experiment = assigned(experiment, text)
    if epochs is not None:
        experiment = experiment.replace(epochs=epochs)
    if seed is not None:
        experiment = experiment.replace(seed=seed)
    return experiment


def net_of(text: str) -> Any:
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


def assigned(experiment: Experiment, text: str, flag: str = "--set") -> Experiment:
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


def load_run(path: str) -> Run:
    from derin.engine import load

    return load(path)


def run_with(path: str, data: str | None) -> Run:
    """A run, and its data read from where they are now. Raises RunError where these are others."""
    from derin.errors import RunError

    run = load_run(path)
    if data is not None:
        found = load_data(data, run.about_data.get("options", {}))
        if found.fingerprint != run.fingerprint:
            raise RunError(
                f"{data} is not the data of the run: its fingerprint is {found.fingerprint[:12]}, the run's is "
                f"{run.fingerprint[:12]}. --data says where the same data are now."
            )
        run.data = found
    return run


def relative(source: str, file: Path | None) -> str:
    """A path as an experiment file beside it would say it; the name of a bundled set as it is."""
    path = Path(source)
    if not path.exists():
        return source
    folder = file.resolve().parent if file is not None else Path.cwd()
    try:
        return path.resolve().relative_to(folder).as_posix()
    except ValueError:
        return path.resolve().as_posix()


def write_new(file: Path, text: str) -> None:
    """Write a file that was not there. Raises RunError."""
    from derin.errors import RunError

    try:
        with open(file, "x", encoding="utf-8", newline="\n") as handle:
            handle.write(text)
    except OSError as error:
        raise RunError(f"cannot write {file}: {error.strerror}.") from None
