"""Options that several commands share, and how their text becomes the options of `derin.data.load`."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any

import typer


def option(*names: str, metavar: str | None = None, help: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help, show_default=False)


def argument(metavar: str, help: str) -> Any:
    return typer.Argument(metavar=metavar, help=help, show_default=False)


Text = str | None
Texts = list[str] | None
Flag = bool | None

# the keyword of derin.data.load -> the option; split_seed is its `seed`
DATA_OPTIONS: dict[str, Any] = {
    "target": Annotated[
        Texts,
        option("--target", "-t", metavar="COLUMN", help="What to predict: a column's name, or its place "
                "(-1 is the last). Repeat it for several targets."),
    ],
    "task": Annotated[
        Text,
        option("--task", metavar="KIND", help="classes or number, if derin takes the target for the "
                "wrong one."),
    ],
    "valid": Annotated[
        Text,
        option("--valid", metavar="SHARE|FILE", help="The rows that choose the best epoch: a share of all "
                "rows (0.15), or a file of their own."),
    ],
    "test": Annotated[
        Text,
        option("--test", metavar="SHARE|FILE", help="The rows that judge the result: a share of all rows "
                "(0.15), or a file of their own."),
    ],
    "stratify": Annotated[
        Flag,
        option("--stratify/--no-stratify", help="Give every part its share of each class (done for "
                "classes)."),
    ],
    "group": Annotated[
        Text, option("--group", metavar="COLUMN", help="Rows of one group stay in one part.")
    ],
    "time": Annotated[
        Text,
        option("--time", metavar="COLUMN", help="Train on the earliest rows, test on the latest."),
    ],
    "split_seed": Annotated[
        int | None,
        option("--split-seed", metavar="N", help="Another number cuts the rows another way (0)."),
    ],
    "memory_budget": Annotated[
        Text,
        option("--memory-budget", metavar="SIZE", help="Data larger than this stream from disk: 500MB, "
                "2GB."),
    ],
    "drop": Annotated[
        Texts, option("--drop", metavar="COLUMN", help="Tables: a column not to learn from. Repeatable.")
    ],
    "categorical": Annotated[
        Texts,
        option("--categorical", metavar="COLUMN", help="Tables: a column of categories, whatever it looks like. "
                "Repeatable."),
    ],
    "numeric": Annotated[
        Texts,
        option("--numeric", metavar="COLUMN", help="Tables: a column of numbers, whatever it looks like. "
                "Repeatable."),
    ],
    "missing": Annotated[
        Texts,
        option("--missing", metavar="TEXT", help="Tables: a text that means 'no value', in place of the usual "
                "ones. Repeatable."),
    ],
    "header": Annotated[
        Flag, option("--header/--no-header", help="Tables: does the first line hold the columns' names?")
    ],
    "separator": Annotated[
        Text, option("--separator", metavar="CHARACTER", help="Tables: what stands between cells: , ; tab")
    ],
    "encoding": Annotated[
        Text, option("--encoding", metavar="NAME", help="Tables: how the file writes letters: utf-8, latin-1 ...")
    ],
    "scaling": Annotated[
        Text,
        option("--scaling", metavar="KIND", help="Tables: how numbers are scaled: standard, robust or quantile."),
    ],
    "size": Annotated[
        Text,
        option("--image-size", "--size", metavar="N|H,W", help="Images: resize to N x N, or height,width."),
    ],
    "skip_bad": Annotated[
        bool,
        option("--skip-bad", help="Images: leave out images that cannot be read (otherwise an error)."),
    ],
    "inputs": Annotated[
        Text,
        option("--inputs", metavar="NAME", help="Arrays: the name of the inputs in an .npz or HDF5 file."),
    ],
    "kind": Annotated[
        Text,
        option("--kind", metavar="KIND", help="Arrays: what they hold: numbers, images or tokens."),
    ],
    "cache": Annotated[
        Text,
        option("--cache", metavar="FOLDER", help="Where data that stream from disk are put."),
    ],
}  # fmt: skip


def with_data_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The command with all options of derin.data.load; it gets those that were given as `reading`, a dict."""
    own = inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def command(**values: Any) -> Any:
        given = {name: values.pop(name) for name in DATA_OPTIONS}
        return function(**values, reading=read_options(given))

    parameters = [p for p in own.parameters.values() if p.name != "reading"]
    more = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=False if name == "skip_bad" else None, annotation=a
        )
        for name, a in DATA_OPTIONS.items()
    ]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    parameters = [parameters[0], more[0], *parameters[1:], *more[1:]]  # what matters most stands first in the help
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    del command.__wrapped__
    return command


def read_options(given: dict[str, Any]) -> dict[str, Any]:
    """The options of derin.data.load that were given, as it wants them. Raises DataError.

    >>> read_options({"target": ["y"], "valid": "0.2", "size": "32,48", "time": None, "memory_budget": "2MB"})
    {'target': 'y', 'valid': 0.2, 'size': [32, 48], 'memory_budget': 2000000}
    """
    found = {name: value for name, value in given.items() if value is not None and value != []}
    if not found.get("skip_bad"):  # a switch that is off
        found.pop("skip_bad", None)
    if "split_seed" in found:
        found["seed"] = found.pop("split_seed")
    if "target" in found and len(found["target"]) == 1:
        found["target"] = found["target"][0]
    for name in ("valid", "test"):
        if name in found:
            found[name] = _share_or_path(found[name])
    if "memory_budget" in found:
        found["memory_budget"] = bytes_of(found["memory_budget"])
    if "separator" in found:
        found["separator"] = {"tab": "\t", "\\t": "\t", "space": " "}.get(found["separator"], found["separator"])
    if "size" in found:
        found["size"] = _size(found["size"])
    return found


def _share_or_path(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def bytes_of(text: str) -> int:
    """500MB -> 500000000; a plain number is bytes. Raises DataError."""
    from derin.errors import DataError

    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if not match or float(match[1]) <= 0:
        raise DataError(f"a size of memory is written like 500MB or 2GB, got {text!r}.")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** " kmgt".index(match[2] or " "))


def seconds_of(text: str) -> float:
    """90s, 10m, 1.5h, 1h30m; a plain number is seconds. Raises SpecError.

    >>> seconds_of("10m"), seconds_of("1h30m"), seconds_of("45")
    (600.0, 5400.0, 45.0)
    """
    from derin.errors import SpecError

    number = r"(?:(\d+(?:\.\d+)?)\s*"
    match = re.fullmatch(rf"\s*{number}h)?\s*{number}m(?:in)?)?\s*{number}s?)?\s*", text.lower())
    found = sum(float(n or 0) * unit for n, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    if found <= 0:
        raise SpecError(f"--time-limit is written like 90s, 10m or 1h30m; got {text!r}.")
    return found


def _size(text: str) -> int | list[int]:
    from derin.errors import DataError

    match = re.fullmatch(r"\s*(\d+)\s*(?:[x,]\s*(\d+))?\s*", text.lower())
    if not match or 0 in (int(match[1]), int(match[2] or 1)):
        raise DataError(f"an image's size is written like 64, or 48,64 for height and width; got {text!r}.")
    return [int(match[1]), int(match[2])] if match[2] else int(match[1])


def as_options(text: str) -> str:
    """A message of derin's own with the keywords of Python as the options of the command line.

    >>> as_options("Say target=..., or task='number'.")
    'Say --target COLUMN, or --task number.'
    >>> as_options("Skip them with skip_bad=True; missing=('z', ...); test=0, valid=0. clip=ClipByValue(1.0).")
    'Skip them with --skip-bad; --missing z; --test 0, --valid 0. --set "clip=ClipByValue(1.0)".'
    """
    names = {name: annotation.__metadata__[0] for name, annotation in DATA_OPTIONS.items()}
    names["seed"] = names.pop("split_seed")

    def option(match: re.Match[str]) -> str:
        declared = names[match[1]]
        flag = next(d for d in (declared.default, *declared.param_decls) if isinstance(d, str) and d.startswith("--"))
        on, _, off = flag.partition("/")
        value = match[2]
        if value in ("True", "False"):
            return on if value == "True" else off or on
        if value == "...":
            return f"{on} {declared.metavar}"
        words = re.findall(r"'([^']*)'|\"([^\"]*)\"", value)
        plain = [a or b for a, b in words] or [value]
        return " ".join(f'{on} "{v}"' if " " in v else f"{on} {v}" for v in plain)

    values = r"'[^']*'|\"[^\"]*\"|\([^)]*\)|\[[^]]*\]|\.\.\.|-?[\w+-]+(?:\.\d+)?"
    text = re.sub(rf"\b({'|'.join(names)})=({values})", option, text)
    text = re.sub(r"\b(trials|folds|seeds|slots)=(\d+)", r"--\1 \2", text)
    text = re.sub(r"--time (\d+) \(seconds\)", r"--time-limit \1s", text)
    return re.sub(r"\bclip=(\w+\([^)]*\))", r'--set "clip=\1"', text)
