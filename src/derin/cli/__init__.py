"""The `derin` command: what a person types, and what comes back.

    main      exit codes, errors as one line, warnings as notes       commands  those about data and runs
    tuning    tune, cv, study and retest                              studies   what they say
    tracing   trace                                                   diagnosing   diagnose
    sitting   set, pause, continue, stop, status, watch, replay, rewind, branch
    reporting report, of a run or a study
    answers   what makes a command of a function                      arguments what can stand behind it
    asked     data, experiments, folders and runs that it names       told      what is said of them
    options   what the commands that read data have in common         files     experiment files, read and written
    show      tables and curves as text                               predictions   predictions as CSV and Parquet

`derin --help` must not wait for JAX: modules of this package import derin's own inside functions.
Exit codes: 0 done, 1 a bug in derin, 2 bad input, 3 training failed, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from derin.errors import DerinError, TrainingFailed

BUG, BAD_INPUT, FAILED, INTERRUPTED = 1, 2, 3, 130
_interrupts: list[int] = []


def main() -> None:
    """Run the command of this process and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console that has no ● must not end a run
    signal.signal(signal.SIGINT, _interrupt)
    sys.exit(run(sys.argv[1:]))


def _interrupt(number: int, frame: Any) -> None:
    _interrupts.append(number)
    raise KeyboardInterrupt


def raise_if_interrupted() -> None:
    """Once more the Ctrl-C that came in a function JAX calls from Python's garbage collection, which swallows it."""
    if _interrupts:
        raise KeyboardInterrupt


def all_commands() -> Any:
    """The app, with the commands of every module."""
    from derin.cli import commands, curing, diagnosing, reporting, sitting, tracing, tuning  # noqa: F401  they add theirs
    from derin.cli.answers import app

    return app


def run(arguments: Sequence[str]) -> int:
    """Run a command with these arguments; its exit code.

    >>> run(["evaluate", "no/such/run"])
    2
    """
    from typer import Abort, BadParameter

    from derin.cli.options import as_options

    app = all_commands()
    usage_error, click_exception = BadParameter.__mro__[1:3]  # typer brings its own click, or did not yet
    try:
        with _warnings_as_notes("--quiet" in arguments):
            return int(app(args=list(arguments), prog_name="derin", standalone_mode=False) or 0)
    except Exception as error:
        if os.environ.get("DERIN_DEBUG") == "1" and not isinstance(error, click_exception):
            import traceback

            traceback.print_exc()
        if isinstance(error, click_exception):
            context = getattr(error, "ctx", None)
            command = context.command_path if isinstance(error, usage_error) and context else "derin"
            message = error.format_message()  # type: ignore[attr-defined]
            text = f"{message}{'' if message.endswith(('.', '?', '!')) else '.'} See `{command} --help`."
            return _refuse(error, text, BAD_INPUT, arguments)
        if isinstance(error, Abort):
            return _refuse(error, "interrupted.", INTERRUPTED, arguments)
        if isinstance(error, DerinError):
            return _refuse(error, as_options(str(error)) + _which_layer(error), BAD_INPUT, arguments)
        if isinstance(error, TrainingFailed):
            return _refuse(error, as_options(_with_rescue(error)), FAILED, arguments)
        if isinstance(error, MemoryError):
            return _refuse(error, "there is not enough memory. Try --memory-budget 500MB.", BAD_INPUT, arguments)
        if isinstance(error, OSError):
            file = f"{error.filename}: " if error.filename else ""
            return _refuse(error, f"{file}{error.strerror or error}.", BAD_INPUT, arguments)
        if where := _which_layer(error):  # it came out of a layer's forward, a user's own as likely as not
            return _refuse(error, f"{type(error).__name__}: {error}{where}", BAD_INPUT, arguments)
        text = f"a bug in derin: {type(error).__name__}: {error}\nSet DERIN_DEBUG=1 to see where, and please report it."
        return _refuse(error, text, BUG, arguments)


def _refuse(error: Exception, text: str, code: int, arguments: Sequence[str]) -> int:
    """One message on stderr; with --json an object on stdout as well."""
    print(f"derin: error: {text}", file=sys.stderr)
    if "--json" in arguments:
        print(json.dumps({"error": text, "kind": type(error).__name__, "exit_code": code}))
    return code


def _which_layer(error: Exception) -> str:
    """The innermost layer that an error came through, in brackets; JAX leaves notes of its own, on tracebacks."""
    notes = [note.strip() for note in getattr(error, "__notes__", ()) if note.startswith("  in ")]
    return f" [{notes[0]}]" if notes else ""


def _with_rescue(error: TrainingFailed) -> str:
    """The message, and where the last good weights are."""
    folder = getattr(getattr(error, "run", None), "folder", None)
    if folder is None or not folder.path.exists() or folder.checkpoint() is None:
        return str(error)
    return f"{error} The last good checkpoint is in {folder.path}."


@contextmanager
def _warnings_as_notes(quiet: bool) -> Iterator[None]:
    """derin's own warnings as one line each, once; those of libraries are not for the person at the prompt."""
    from derin.cli.options import as_options

    own = str(Path(__file__).resolve().parents[1])
    said: set[str] = set()

    def show(message: Any, category: Any, filename: str, *rest: Any, **more: Any) -> None:
        text = str(message)
        ours = category.__module__.startswith("derin") or (category is UserWarning and filename.startswith(own))
        if ours and not quiet and text not in said:
            said.add(text)
            print(f"derin: note: {as_options(text)}", file=sys.stderr)

    with warnings.catch_warnings():
        if os.environ.get("DERIN_DEBUG") != "1":
            warnings.simplefilter("always")
            warnings.showwarning = show
        yield
