"""The app, and what makes a command of a function: its Answer is what --json prints, and a text for people."""

from __future__ import annotations

import functools
import inspect
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer

from derin.cli.arguments import Modules

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


def _with_modules(function: Callable[..., Answer]) -> inspect.Signature:
    """The function's signature, and --import."""
    own = inspect.signature(function, eval_str=True)
    modules = inspect.Parameter("modules", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Modules)
    given = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own.parameters.values()]
    return inspect.Signature([*given, modules])


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
