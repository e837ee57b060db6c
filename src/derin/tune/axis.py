"""The scale of a hyperparameter in a picture: where a value stands, and which ticks are worth writing."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Axis(NamedTuple):
    """A hyperparameter's values on a line from low to high, in places: the logarithm of a value that is searched by
    its logarithm (S4.05), -log10(1 - value) for one_minus_log (S4.06), 0, 1, 2, ... for labels.

    >>> axis = axis_of("momentum", [0.9, 0.99, 0.999], "one_minus_log")
    >>> [label for _, label in axis.ticks(3)], round(axis.place(0.99), 6)
    (['0.9', '0.99', '0.999'], 2.0)
    """

    path: str
    scale: str
    low: float
    high: float
    labels: tuple[str, ...] = ()
    whole: bool = False  # only whole numbers stand on it

    def place(self, value: Any) -> float:
        """nan where the value is missing, or not of this scale."""
        if value is None:
            return math.nan
        if self.labels:
            label = text(value)
            return float(self.labels.index(label)) if label in self.labels else math.nan
        return _place(value, self.scale)

    def places(self, values: Sequence[Any]) -> np.ndarray:
        """[n]"""
        return np.array([self.place(v) for v in values], float)

    def share(self, place: float) -> float:
        """0 at the low end, 1 at the high one."""
        return (place - self.low) / (self.high - self.low) if self.high > self.low else 0.5

    def shares(self, values: Sequence[Any]) -> np.ndarray:
        """Of values; -0.12, below the line, for those that are missing.   -> [n]"""
        found = np.array([self.share(self.place(v)) for v in values], float)
        return np.where(np.isfinite(found), found, -0.12)

    def ticks(self, most: int, width: int = 16) -> list[tuple[float, str]]:
        """Places and what to write there, about `most` of them at the most; labels of at most `width` letters."""
        if self.labels:
            step = math.ceil(len(self.labels) / (2 * most))
            written = told_apart(self.labels, width)
            return [(float(i), label) for i, label in enumerate(written) if i % step == 0]
        if self.scale == "linear":
            values = _round_values(self.low, self.high, most)
        else:
            values = _decades(self.low, self.high, most, self.scale)
        return [(_place(v, self.scale), text(v)) for v in values if not self.whole or float(v).is_integer()]


def axis_of(path: str, values: Sequence[Any], scale: str | None = None) -> Axis:
    """The axis on which these values stand; None is a missing value. Without a scale: linear, or by labels."""
    here = [v for v in values if v is not None]
    if scale == "choice" or not all(_is_number(v) for v in here):
        order = sorted(set(here), key=lambda v: (0, v, "") if _is_number(v) else (1, 0, text(v)))
        labels = tuple(dict.fromkeys(text(v) for v in order))
        return Axis(path, "choice", 0.0, max(len(labels) - 1.0, 0.0), labels)
    places = [p for v in here if math.isfinite(p := _place(v, scale or "linear"))]
    low, high = min(places, default=0.0), max(places, default=1.0)
    if high - low < 1e-9 * max(1.0, abs(low)):  # one value: it stands in the middle
        width = 0.5 if scale in ("log", "one_minus_log") else 0.5 * (abs(low) or 1.0)
        low, high = low - width, high + width
    whole = bool(here) and all(isinstance(v, (int, np.integer)) for v in here)
    return Axis(path, scale or "linear", low, high, whole=whole)


def text(value: Any) -> str:
    """A value as one writes it: 0.001, 1e-5, 64, relu.

    >>> text(1e-05), text(0.9), text(64), text(True)
    ('1e-5', '0.9', '64', 'True')
    """
    if not _is_number(value):
        return str(value)
    if isinstance(value, (int, np.integer)):
        return str(value)
    if 0.999 < value < 1:  # 0.99999 is not 1
        value = 1 - float(f"{1 - value:.3g}")
        return f"{value:.12g}"
    return f"{value:.6g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def shortened(name: str, width: int) -> str:
    """Not longer than so many letters. Of a label the beginning says most, of a path the end.

    >>> shortened("Adam(learning_rate=0.001)", 12), tail("net.layers.2.rate", 12)
    ('Adam(learni…', '…yers.2.rate')
    """
    name = " ".join(name.split())
    return name if len(name) <= width else name[: width - 1] + "…"


def told_apart(labels: Sequence[str], width: int) -> list[str]:
    """Labels of at most so many letters, no two alike: of specs that begin alike, what differs between them.

    >>> told_apart(["MLP(widths=(16,), out=3)", "MLP(widths=(32, 16), out=3)", "Linear(3)"], 12)
    ['MLP (16,)', 'MLP (32, 16)', 'Linear(3)']
    """
    found = [shortened(label, width) for label in labels]
    names = [_call(label)[0] for label in labels]
    for name in {name for name, f in zip(names, found, strict=True) if found.count(f) > 1}:
        alike = [i for i, n in enumerate(names) if n == name]
        for i, what in zip(alike, _what_differs([labels[i] for i in alike], width), strict=True):
            found[i] = what
    numbers = [f" #{i + 1}" if found.count(f) > 1 else "" for i, f in enumerate(found)]
    return [
        shortened(label, width - len(n)) + n if n else f for label, f, n in zip(labels, found, numbers, strict=True)
    ]


def _what_differs(labels: Sequence[str], width: int) -> list[str]:
    """Of specs of one class the values that not all of them have; of other texts the end."""
    name, given = _call(labels[0])[0], [_call(label)[1] for label in labels]
    if not any(given):
        return [tail(label, width) for label in labels]
    alike = {k for k, v in given[0].items() if all(fields.get(k) == v for fields in given)}
    rest = [", ".join(v for k, v in fields.items() if k not in alike) for fields in given]
    named = [shortened(f"{name} {r}", width) for r in rest]
    if len(name) <= width / 2 and len(set(named)) == len(named):
        return named
    return told_apart([r or name for r in rest], width)


def _call(label: str) -> tuple[str, dict[Any, str]]:
    """The class and the values of a spec as it is printed; a text that is none has neither."""
    try:
        node = ast.parse(label, mode="eval").body
    except (SyntaxError, ValueError):
        return "", {}
    if not isinstance(node, ast.Call):
        return "", {}
    fields: dict[Any, str] = {i: ast.unparse(value) for i, value in enumerate(node.args)}
    for field in node.keywords:
        value = ast.unparse(field.value)
        fields[field.arg] = f"{field.arg}={value}" if value in ("True", "False", "None") else value
    return ast.unparse(node.func), fields


def tail(path: str, width: int) -> str:
    path = " ".join(path.split())
    return path if len(path) <= width else "…" + path[1 - width :]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _place(value: float, scale: str) -> float:
    if scale == "log":
        return math.log10(value) if value > 0 else math.nan
    if scale == "one_minus_log":
        return -math.log10(1 - value) if value < 1 else math.nan
    return float(value)


def _round_values(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between low and high."""
    rough = (high - low) / max(most - 1, 1)
    if rough <= 0 or not math.isfinite(rough):
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float, most: int, scale: str) -> list[float]:
    """Round values whose places lie between low and high: powers of ten, finer ones where these are too few."""
    back = (lambda p: 10.0**p) if scale == "log" else (lambda p: 1 - 10.0**-p)
    for every in range(1, 100):
        powers = [p for p in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1) if p % every == 0]
        if len(powers) <= most:
            break
    if len(powers) >= 3:
        return [float(f"{back(p):.12g}") for p in powers]
    for mantissas in ((1, 3), (1, 2, 5)):
        found = []
        for p in range(math.floor(low) - 1, math.ceil(high) + 2):
            for m in mantissas:
                value = m * 10.0**p if scale == "log" else 1 - m * 10.0 ** -(p + 1)
                if value < 1 or scale == "log":
                    place = _place(value, scale)
                    if low - 1e-9 <= place <= high + 1e-9:
                        found.append(float(f"{value:.12g}"))
        if len(set(found)) >= 3:
            return sorted(set(found))[: 2 * most]
    return _round_values(back(low), back(high), max(3, most - 2)) or [back(low), back(high)]
