"""Which line of Python asked for an operation, and what it called the result."""

from __future__ import annotations

import ast
import functools
import linecache
import os
from typing import Any, NamedTuple

import jax

from derin.trace.steps import Source

_JAX = os.path.dirname(jax.__file__) + os.sep
_DERIN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_HERE = os.path.join(_DERIN, "trace") + os.sep


class Frame(NamedTuple):
    """A call on the way to an operation: which code object, at which of its instructions."""

    file: str
    function: str
    line: int
    instruction: int


def frames_of(source_info: Any) -> tuple[Frame, ...]:
    """The frames of a person's code and of derin's layers, the innermost first."""
    traceback = getattr(source_info, "traceback", None)
    if traceback is None or not hasattr(traceback, "raw_frames"):
        return ()
    codes, instructions = traceback.raw_frames()
    found: list[Frame] = []
    for code, at in zip(codes, instructions, strict=True):
        file = code.co_filename
        if file.startswith(_HERE) or (file.startswith("<") and not linecache.getline(file, code.co_firstlineno)):
            if found:
                break  # from here outwards it is the tracer's own
            continue
        if not file.startswith(_JAX) and f"{os.sep}site-packages{os.sep}equinox" not in file:
            found.append(Frame(file, code.co_name, _line(code, at), at))
    return tuple(found)


@functools.lru_cache(maxsize=4096)
def _line(code: Any, instruction: int) -> int:
    lines = [line for begin, end, line in code.co_lines() if begin <= instruction < end and line]
    return lines[0] if lines else code.co_firstlineno


def source_of(frames: tuple[Frame, ...]) -> Source | None:
    """The innermost line, as text."""
    for frame in frames:
        if text := linecache.getline(frame.file, frame.line).strip():
            return Source(_short(frame.file), frame.line, text)
    return None


def _short(file: str) -> str:
    """derin/nn/layers.py; a person's file relative to where they are."""
    if file.startswith(_DERIN):
        return os.path.join("derin", file[len(_DERIN) :]).replace(os.sep, "/")
    near = os.path.relpath(file) if os.path.isabs(file) and os.path.splitdrive(file)[0] == "" else file
    return os.path.basename(file) if near.startswith("..") else near


def variable_of(frames: tuple[Frame, ...], following: tuple[Frame, ...]) -> str:
    """What the source calls a result: u in `u = b * c`, if this is the last operation of that statement; else "".

    A person's own names go before those within derin's layers; the outermost of several is the one they look for.
    """
    own = [f for f in frames if not f.file.startswith(_DERIN)]
    for frame in [*reversed(own), *(f for f in frames if f.file.startswith(_DERIN))]:
        statement = _assignment(frame.file, frame.line)
        if statement is None or frame.function.startswith("<"):  # f = lambda x: ... does not call the result f
            continue
        first, last, name = statement
        goes_on = any(
            f.file == frame.file and f.function == frame.function and first <= f.line <= last
            and f.instruction >= frame.instruction for f in following
        )  # fmt: skip
        if not goes_on:
            return name
    return ""


def _assignment(file: str, line: int) -> tuple[int, int, str] | None:
    """(first line, last line, name) of the assignment to one name that this line is in."""
    found = [s for s in _assignments(file) if s[0] <= line <= s[1]]
    return min(found, key=lambda s: s[1] - s[0]) if found else None


@functools.lru_cache(maxsize=64)
def _assignments(file: str) -> tuple[tuple[int, int, str], ...]:
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return ()
    found = []
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and isinstance(targets[0], ast.Name):
            found.append((node.lineno, node.end_lineno or node.lineno, targets[0].id))
    return tuple(found)


def is_own(file: str) -> bool:
    """Is this a person's file, neither JAX's nor derin's?"""
    return not file.startswith((_JAX, _DERIN)) and "site-packages" not in file
