"""Experiment files: a spec as TOML, with a [data] table that says what to train on.

derin new titanic.csv --target Survived -o titanic.toml     # writes one, every field with its default
derin fit titanic.toml                                      # trains it
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from derin.engine import Experiment

WORDS = {
    "net": "the network",
    "loss": "none: what fits the target",
    "optimizer": "SGD, Adam, AdamW, RMSprop, Lion, ...: whatever derin.optim has",
    "schedule": "how the learning rate changes while training",
    "epochs": "how often all rows are seen",
    "batch_size": 'rows a step, or "full"',
    "metrics": "empty: accuracy for classes, rmse and r2 for numbers",
    "early_stopping": 'or a table: type = "EarlyStopping", patience = 10',
    "clip": 'or a table: type = "ClipByGlobalNorm", limit = 1.0',
    "penalty": 'or a table: type = "L2", strength = 1e-4, except_ = "biases and norms"',
    "average": 'or a table: type = "EMA", decay = 0.999',
    "class_weights": '"balanced", or a number for each class',
    "precision": '"float32" or "bfloat16"',
    "seed": "another number starts from other weights",
}


def is_experiment(source: str) -> bool:
    """Does this name an experiment file: .toml, or .json that holds an Experiment?"""
    path = Path(source)
    if path.suffix.lower() == ".toml":
        return True
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and "type" in found


def read_experiment(path: Path) -> tuple[Experiment, dict[str, Any]]:
    """The experiment in a file, and its [data] table (empty if it has none). Raises SpecError."""
    from derin import spec
    from derin.engine import Experiment
    from derin.errors import SpecError

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"there is no file {str(path)!r}. `derin new -o {path.name}` writes one.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read: {error}.") from None
    try:
        content = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except ValueError as error:
        raise SpecError(f"{path} is not {path.suffix[1:].upper()}: {error}.") from None
    data = content.pop("data", {}) if isinstance(content, dict) else {}
    if not isinstance(data, dict):
        raise SpecError(f"{path}: data must be a table, [data] with source = ..., got {data!r}.")
    try:
        found = spec.from_dict(content)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    if not isinstance(found, Experiment):
        raise SpecError(f'{path} holds {found!r}, not an experiment: type = "Experiment".')
    for name in ("source", "valid", "test"):
        if isinstance(data.get(name), str):
            data[name] = _from_beside(path, data[name])
    return found, data


def _from_beside(file: Path, named: str) -> str:
    """A path as the file means it: from the file's own folder, if it is there."""
    beside = file.parent / named
    return str(beside) if beside.exists() else named


def experiment_text(experiment: Experiment, data: dict[str, Any], name: str) -> str:
    """The text of an experiment file that people edit: every field, with what it is for."""
    from derin import spec

    head = [
        f"# Train it:            derin fit {name}",
        f"# Another value once:  derin fit {name} --set optimizer.learning_rate=0.01",
        "",
    ]
    lines = [*head, *_table(spec.to_dict(experiment), ""), "", *_data_table(data)]
    return "\n".join(lines) + "\n"


def _table(table: dict[str, Any], at: str) -> Iterator[str]:
    """Plain values first, then the tables below."""
    below = {k: v for k, v in table.items() if isinstance(v, dict) and "type" in v}
    for key, value in table.items():
        if key not in below:
            yield f"{key} = {_value(value)}" + (f"  # {WORDS[key]}" if not at and key in WORDS else "")
    for key, value in below.items():
        path = f"{at}.{key}" if at else key
        yield ""
        yield f"[{path}]" + (f"  # {WORDS[key]}" if not at and key in WORDS else "")
        yield from _table(value, path)


def _data_table(data: dict[str, Any]) -> Iterator[str]:
    yield "[data]  # source, target, and any other option of derin.data.load"
    if not data:
        yield '# source = "rows.csv"'
        yield '# target = "the column to predict"'
        yield "# valid = 0.15  # the share of the rows that choose the best epoch"
        yield "# test = 0.15   # the share of the rows that judge the result"
    for key, value in data.items():
        yield f"{key} = {_value(value)}"


def _value(value: Any) -> str:
    """One value as TOML; a list with tables in it takes a line for each."""
    import tomli_w

    if value is None:
        return "{ none = true }"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        return "[\n" + "".join(f"    {_value(v)},\n" for v in value) + "]"
    if isinstance(value, list):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return tomli_w.dumps({"v": value}).removeprefix("v = ").rstrip("\n")
