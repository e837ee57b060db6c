"""Tables and curves as text, for the terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

Curves = dict[str, list[float]]


def can_draw() -> bool:
    """Can standard output show the characters of curves?"""
    try:
        "●○│└─".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def number(value: Any) -> str:
    """Four digits that count.

    >>> number(0.98765), number(12345.678), number(7), number(float("nan"))
    ('0.9877', '1.235e+04', '7', 'nan')
    """
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def metrics_text(values: dict[str, Any], labels: Sequence[Any] = ()) -> list[str]:
    """Metrics a line each; one value a class, or a matrix, with the names of the classes."""
    width = max(map(len, values), default=0)
    lines = []
    for name, value in values.items():
        if not isinstance(value, list):
            lines.append(
                f"{name:<{width}}  {value:,}" if isinstance(value, int) else f"{name:<{width}}  {number(value)}"
            )
            continue
        lines.append(name)
        names = [str(v) for v in labels] if len(labels) == len(value) else [str(i) for i in range(len(value))]
        rows = [v if isinstance(v, list) else [v] for v in value]
        cells = [[number(c) for c in row] for row in rows]
        matrix = len(rows[0]) == len(rows) > 1
        if matrix:
            cells = [[f"{c:.0f}" if float(c).is_integer() else number(c) for c in row] for row in rows]
            lines[-1] += " (rows: what it is; columns: what it was called)"
            cells, names = [names, *cells], ["", *names]
        side = max(map(len, names))
        column = max(len(c) for row in cells for c in row)
        lines += [
            f"  {n:<{side}}  " + "  ".join(f"{c:>{column}}" for c in row) for n, row in zip(names, cells, strict=True)
        ]
    return lines


def chart(title: str, curves: Curves, width: int = 60, height: int = 10, plain: bool = False) -> list[str]:
    """Curves over epochs as lines of text; a logarithmic scale where the values span more than a factor of 50.

    >>> print("\\n".join(chart("loss", {"loss": [3.0, 2.0, 1.0]}, width=6, height=3, plain=True)))
    loss
    3 | *
    2 |   *
    1 |     *
      +------
        1   3  epochs
    """
    marks = "*o+x" if plain else "●○▲△"
    values = [v for curve in curves.values() for v in curve if math.isfinite(v)]
    if not values:
        return []
    low, high = min(values), max(values)
    log = low > 0 and high > 50 * low
    scale = math.log if log else float
    bottom, top = scale(low), scale(high)
    span = (top - bottom) or 1.0
    epochs = max(map(len, curves.values()))
    columns = min(width, epochs)
    apart = max(1, min(4, width // epochs))  # a few epochs are spread, many share columns
    grid = [[" "] * (columns * apart) for _ in range(height)]
    for mark, curve in zip(marks, curves.values(), strict=False):
        for column in range(columns):
            begin = column * epochs // columns
            end = max(begin + 1, (column + 1) * epochs // columns)
            some = [v for v in curve[begin:end] if math.isfinite(v)]
            if some:
                row = (top - scale(some[-1])) / span * (height - 1)
                grid[round(row)][column * apart] = mark
    unscaled = math.exp if log else float
    ticks = [number(float(unscaled(top - span * i / max(1, height - 1)))) for i in range(height)]
    shown = {0, height // 2, height - 1} if high > low else {0}
    side = max(len(ticks[i]) for i in shown)
    bar, corner, line = ("|", "+", "-") if plain else ("│", "└", "─")
    legend = "   ".join(f"{mark} {name}" for mark, name in zip(marks, curves, strict=False)) if len(curves) > 1 else ""
    lines = ["   ".join(t for t in (title, legend, "(logarithmic)" if log else "") if t)]
    lines += [f"{ticks[i] if i in shown else '':>{side}} {bar} {''.join(row)}".rstrip() for i, row in enumerate(grid)]
    drawn = (columns - 1) * apart + 1
    lines.append(" " * side + f" {corner}{line * (drawn + 1)}")
    axis = "1" + " " * max(1, drawn - 1 - len(str(epochs))) + str(epochs)
    lines.append(" " * side + f"   {axis}  epochs")
    return lines


def curves_text(history: Sequence[dict[str, Any]], width: int, plain: bool) -> list[str]:
    """Losses in one chart, each metric in its own."""
    if len(history) < 2:
        return []
    names = [k for k, v in history[-1].items() if isinstance(v, (int, float)) and k not in ("epoch", "step")]
    series = {name: [float(line.get(name, math.nan)) for line in history] for name in names}
    losses: Curves = {n: series.pop(n) for n in ["loss", "valid_loss"] if n in series}
    rates = series.pop("learning_rate", [])
    lines = chart("loss", losses, width, 10, plain)
    for name, values in series.items():
        lines += ["", *chart(name, {name: values}, width, 6, plain)]
    if len(set(rates)) > 1:
        lines += ["", *chart("learning rate", {"learning_rate": rates}, width, 5, plain)]
    return lines
