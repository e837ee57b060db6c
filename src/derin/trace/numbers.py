"""Numbers and arrays as a person writes them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from derin.trace.steps import Value, numbers_in

WRITTEN_OUT = 12  # numbers up to which "auto" writes every product
IN_FULL, LONGEST_SIDE = 100, 12  # numbers, and length of an axis, up to which "auto" shows the array
MOST_WRITTEN, MOST_SHOWN = 400, 10_000  # what may be asked for


def number(value: Any, digits: int = 5) -> str:
    """So many digits that count; powers of ten where there would be many zeros.

    >>> [number(v) for v in (2.1400001, -0.0, 0.02791826, 1234567.0, 1e-7, float("nan"), 3, True)]
    ['2.14', '0', '0.027918', '1.2346e6', '1e-7', 'nan', '3', 'True']
    """
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (int, np.integer)):
        return str(value)
    if isinstance(value, (complex, np.complexfloating)):
        return str(value)
    if value == 0:
        return "0"
    text = f"{float(value):.{digits}g}"
    if "e" in text and 1 <= abs(value) < 10 ** max(digits, 6):
        text = f"{float(text):.0f}"
    return text.replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def factor(value: Any, digits: int = 5) -> str:
    """A number in a product: in brackets if it is negative."""
    text = number(value, digits)
    return f"({text})" if text.startswith("-") else text


def size_form(shape: tuple[int, ...], form: str) -> str:
    """How an array of this shape is shown: "scalar", "matrix" or "summary".

    "brief" is "auto" for computations of many operations: few numbers are shown, and not written out.
    """
    size = math.prod(shape)
    if form == "brief":
        return "scalar" if size <= 1 else "matrix" if size <= WRITTEN_OUT else "summary"
    if form != "auto":
        return form
    return (
        "scalar" if size <= WRITTEN_OUT else "matrix" if size <= IN_FULL and max(shape) <= LONGEST_SIDE else "summary"
    )


def lines_of(array: Any, form: str = "auto", digits: int = 5) -> list[str]:
    """An array as lines: its numbers, or its summary.

    >>> lines_of(np.array([[1.0, -20.5], [3.0, 4.0]]))
    ['[[1, -20.5],', ' [3,     4]]']
    """
    found = numbers_in(array)
    if found is None:
        return ["a random key"]
    if size_form(found.shape, form) == "summary":
        return [summary(found, digits)]
    if found.ndim == 0:
        return [number(found.item(), digits)]
    if found.size == 0:
        return [f"no numbers, {shape_text(found.shape)}"]
    cells = np.array([number(v.item(), digits) for v in found.reshape(-1)], object).reshape(found.shape)
    return _nested(cells, [max(map(len, column)) for column in cells.reshape(-1, found.shape[-1]).T])


def _nested(cells: np.ndarray, widths: list[int]) -> list[str]:
    if cells.ndim == 1:
        only_one = len(widths) == 1
        return ["[" + ", ".join(c if only_one else c.rjust(w) for c, w in zip(cells, widths, strict=True)) + "]"]
    lines: list[str] = []
    for i, part in enumerate(cells):
        block = _nested(part, widths)
        block = [("[" if i == 0 and j == 0 else " ") + line for j, line in enumerate(block)]
        block[-1] += "," if i + 1 < len(cells) else "]"
        lines += block
    return lines


def summary(array: Any, digits: int = 5) -> str:
    """Shape, least, mean, greatest, share of zeros, and how many are not finite.

    >>> summary(np.array([0.0, 0.0, 3.0, np.nan]))
    '[4] min 0, mean 1, max 3, 50 % zeros, 1 of 4 not finite'
    """
    found = numbers_in(array)
    if found is None:
        return "a random key"
    finite = found[np.isfinite(found)] if found.dtype.kind == "f" else found.reshape(-1)
    shape = shape_text(found.shape)
    bad = found.size - finite.size
    if not finite.size:
        return f"{shape} none of {found.size:,} finite" if found.size else f"{shape} no numbers"
    if found.dtype == bool:
        return f"{shape} {found.sum():,} of {found.size:,} true"
    shown = [
        number(v, digits) for v in (finite.min().item(), float(finite.mean(dtype=np.float64)), finite.max().item())
    ]
    zeros = 100 * float((finite == 0).sum()) / found.size
    zero = f", {number(zeros, 2)} % zeros" if zeros else ""
    return f"{shape} min {shown[0]}, mean {shown[1]}, max {shown[2]}{zero}, " + (
        f"{bad:,} of {found.size:,} not finite" if bad else "all finite"
    )


def shape_text(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def shown(value: Value, digits: int = 5) -> str:
    """A value in one line: its numbers if they are few, else its summary."""
    found = value.numbers
    if found is not None and found.size <= 6:
        return " ".join(lines_of(found, "matrix", digits)).replace("[ ", "[")
    return summary(found if found is not None else value.array, digits)


def index_text(index: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, index)) + "]" if index else ""


def is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
