"""The probability from which on a row counts as positive, chosen on validation rows for what mistakes cost. S0.31."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from derin.errors import DataError, SpecError
from derin.spec import Spec

RULES = "f1, precision=0.9, recall=0.95, cost=FN:5,FP:1"


class DecisionThreshold(Spec):
    """Rows whose probability of `label` is `value` or more are called `label`; and how good that was where chosen."""

    value: float
    rule: str
    label: str | int | bool | float
    on: str  # the rows it was chosen on
    rows: int
    precision: float
    recall: float
    f1: float

    def line(self) -> str:
        """As `derin show` has it."""
        return (
            f"{self.label} from p = {self.value:.4g} on, chosen for {self.rule} on {self.on} ({self.rows:,} rows): "
            f"precision {self.precision:.4g}, recall {self.recall:.4g}, f1 {self.f1:.4g}"
        )


def best_threshold(p: Any, y: Any, rule: str) -> tuple[float, dict[str, float]]:
    """The threshold that a rule wants, and precision, recall and f1 with it.   p, y: [n], y 1 for the positive class

    rule: "f1" takes the largest; "precision=0.9" the largest recall with at least that precision; "recall=0.95" the
    largest precision with at least that recall; "cost=FN:5,FP:1" the least total cost of missed positives and false
    alarms. It lies halfway between two probabilities that occur. Raises DataError where no threshold does it,
    SpecError for another rule.

    >>> best_threshold([0.1, 0.4, 0.6, 0.9], [0, 1, 0, 1], "recall=1")
    (0.25, {'precision': 0.6666666666666666, 'recall': 1.0, 'f1': 0.8})
    """
    name, numbers = parsed_rule(rule)
    p, y = np.asarray(p, np.float64), np.asarray(y).astype(bool)
    if not y.any() or y.all():
        raise DataError(
            f"the {len(y):,} rows to choose a threshold on are all of one class; it takes both. Give more rows, "
            "or other ones: on=..."
        )
    levels, place = np.unique(p, return_inverse=True)  # rising
    hits = np.bincount(place, y, len(levels))[::-1].cumsum()[::-1]  # positives at each level or above
    called = np.bincount(place, minlength=len(levels))[::-1].cumsum()[::-1]
    hits, called = np.append(hits, 0.0), np.append(called, 0)  # and with nothing called positive
    between = np.concatenate([[levels[0] / 2], (levels[1:] + levels[:-1]) / 2, [(levels[-1] + 1) / 2]])
    between[-1] = max(between[-1], math.nextafter(levels[-1], 2))
    precision = hits / np.maximum(called, 1)
    recall = hits / y.sum()
    f1 = 2 * hits / (called + y.sum())
    order: tuple[np.ndarray, ...]
    if name == "f1":
        order = (-f1,)
    elif name == "cost":
        order = (numbers["FN"] * (y.sum() - hits) + numbers["FP"] * (called - hits),)
    else:
        wanted, other = (precision, recall) if name == "precision" else (recall, precision)
        enough = (wanted >= numbers[name] - 1e-12) & (called > 0)
        if not enough.any():
            raise DataError(f"no threshold has {rule} on these {len(y):,} rows; the largest is {wanted.max():.4g}.")
        order = (~enough, -other, -wanted)
    best = np.lexsort((np.abs(between - 0.5), *reversed(order)))[0]  # of equal ones the nearest to 0.5
    found = {"precision": precision[best], "recall": recall[best], "f1": f1[best]}
    return float(between[best]), {k: float(v) for k, v in found.items()}


def parsed_rule(rule: Any) -> tuple[str, dict[str, float]]:
    """("cost", {"FN": 5.0, "FP": 1.0}) of a rule's text. Raises SpecError."""
    text = rule.replace(" ", "") if isinstance(rule, str) else ""
    number = r"(\d+\.?\d*|\.\d+)"
    if text.lower() == "f1":
        return "f1", {}
    if found := re.fullmatch(rf"(precision|recall)={number}", text, re.IGNORECASE):
        if not 0 < float(found[2]) <= 1:
            raise SpecError(f"{found[1]} is a share, above 0 and up to 1; got {rule!r}.")
        return found[1].lower(), {found[1].lower(): float(found[2])}
    if found := re.fullmatch(rf"cost=(FN|FP):{number},(FN|FP):{number}", text, re.IGNORECASE):
        costs = {found[1].upper(): float(found[2]), found[3].upper(): float(found[4])}
        if len(costs) == 2 and any(costs.values()):
            return "cost", costs
    raise SpecError(f"a threshold is chosen for one of: {RULES}; got {rule!r}.")
