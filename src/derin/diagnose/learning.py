"""Learning curves over the number of rows: would more of them help?

All sizes and seeds train as one population: a size is a fold whose training rows are the first of a shuffled order,
and whose validation rows are those of the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from derin.data.folds import Fold, restandardised, union
from derin.engine.experiment import Experiment
from derin.errors import DataError, SpecError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LONGER = 4  # times the epochs that the smallest sizes may have: a tenth of the rows is a tenth of the steps
WORTH = 0.04  # share of the loss that twice the rows must take off to be worth it


@dataclass(frozen=True)
class LearningCurve:
    """Loss against the number of training rows.   rows: int [sizes]; train, valid: [sizes, seeds]

    Each loss is that of the member's best epoch. `gain` is the share that twice as many rows are expected to take off
    the validation loss, by the power law a + b rows^-c through the curve (Hestness et al. 2017, arXiv:1712.00409).
    """

    rows: np.ndarray
    train: np.ndarray
    valid: np.ndarray

    @property
    def gain(self) -> float:
        n, y = self.rows.astype(float), np.nanmean(self.valid, 1)
        kept = np.isfinite(y)
        n, y = n[kept], y[kept]
        if len(n) < 3:
            return math.nan
        best: tuple[float, float] = (math.inf, math.nan)
        for c in np.linspace(0.1, 1.5, 29):
            columns = np.stack([np.ones_like(n), n**-c], 1)
            (a, b), *_ = np.linalg.lstsq(columns, y, rcond=None)
            a, b = max(a, 0.0), max(b, 0.0)
            misfit = float((((columns @ np.array([a, b])) - y) ** 2).sum())
            here, twice = a + b * n[-1] ** -c, a + b * (2 * n[-1]) ** -c
            best = min(best, (misfit, float((here - twice) / max(here, 1e-12))))
        return best[1]

    @property
    def more_would_help(self) -> bool:
        """Is the gain worth it, and was it so for the last rows that were added?"""
        later = np.nanmean(self.valid[-1])
        half = np.nanmean(self.valid[np.searchsorted(self.rows, self.rows[-1] / 2)])
        error = float(np.nanstd(self.valid[-1])) / math.sqrt(self.valid.shape[1])
        return bool(self.gain > WORTH and half - later > error)

    def to_text(self) -> str:
        """A line a size, and the answer."""
        lines = ["  rows   training  validation"]
        for n, a, b in zip(self.rows, self.train, self.valid, strict=True):
            lines.append(f"{n:6d}   {np.nanmean(a):8.4f}  {np.nanmean(b):8.4f} +- {np.nanstd(b):.4f}")
        answer = "more rows would help" if self.more_would_help else "more rows would hardly help"
        return "\n".join([*lines, f"{answer}: twice as many are expected to take {self.gain:.1%} off the loss"])

    def __repr__(self) -> str:
        return self.to_text()

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"rows": self.rows.tolist(), "train": self.train.tolist(), "valid": self.valid.tolist(),
                "gain": self.gain, "more_would_help": self.more_would_help}  # fmt: skip

    def picture(self) -> Figure:
        """Both curves; bands are a deviation over the seeds wide."""
        from derin.tune.drawing import DONE, FAILED, HEIGHT, WIDTH, figure_of, styled

        with styled():
            figure = figure_of(WIDTH, HEIGHT)
            panel = figure.subplots()
            for losses, colour, label in ((self.train, DONE, "training"), (self.valid, FAILED, "validation")):
                mean, deviation = np.nanmean(losses, 1), np.nanstd(losses, 1)
                panel.fill_between(self.rows, mean - deviation, mean + deviation, color=colour, alpha=0.18, lw=0)
                panel.plot(self.rows, mean, color=colour, marker="o", ms=3.5, lw=1.5, label=label)
            panel.set_title("more rows would help" if self.more_would_help else "more rows would hardly help")
            panel.set_xlabel("training rows")
            panel.set_ylabel("loss at the best epoch")
            panel.set_xlim(0, None)
            panel.legend()
        return figure


def learning_curve(
    experiment: Experiment, data: Any, *, shares: Sequence[float] = SHARES, seeds: int = 3
) -> LearningCurve:
    """Train an experiment on growing shares of the training rows; every one is judged on the validation rows.

    experiment: an Experiment, or a Run of it. Small shares get up to four times the epochs. Concepts S3.09, S3.14.
    Raises DataError without validation rows or with too few training rows, SpecError for shares that are none.

    >>> import derin
    >>> data = derin.data.load("breast_cancer")
    >>> curve = derin.learning_curve(derin.Experiment(derin.nn.Linear(1), epochs=5), data, shares=(0.1, 0.5, 1.0))
    >>> curve.rows.tolist(), curve.valid.shape
    ([40, 199, 398], (3, 3))
    """
    from derin.engine.population import Population
    from derin.engine.training import as_dataset

    experiment = getattr(experiment, "experiment", experiment)
    if not isinstance(experiment, Experiment):
        raise SpecError(f"learning_curve takes an Experiment or a Run, got a {type(experiment).__name__}.")
    data = as_dataset(data)
    shares = tuple(float(s) for s in shares)
    if not shares or any(not 0 < s <= 1 for s in shares) or list(shares) != sorted(set(shares)):
        raise SpecError(f"shares must rise from above 0 to at most 1, such as (0.1, 0.5, 1.0); got {shares}.")
    if seeds < 1:
        raise SpecError(f"seeds is how often each size is trained anew, at least 1; got {seeds}.")
    if not len(data.valid.x):
        raise DataError("a learning curve is judged on validation rows, and there are none: load with valid=0.15.")
    cuts = _cuts(data, shares, experiment)
    members, task, rows, stacked = _members(experiment, data, cuts, seeds)
    population = Population(task, rows, None, len(members), folds=stacked, measure=False)
    handles = population.put(members)
    best = {h: (math.nan, math.nan) for h in handles}
    left = dict(zip(handles, members, strict=True))
    while left:
        for handle, seen in population.epoch().items():
            if seen.report.valid_loss < best[handle][1] or math.isnan(best[handle][1]):
                best[handle] = (float(seen.report.loss), float(seen.report.valid_loss))
            if seen.epoch >= left[handle].epochs or seen.done or seen.broken:
                population.clear(handle)
                del left[handle]
    found = np.array([best[h] for h in handles]).reshape(len(cuts), seeds, 2)
    return LearningCurve(np.array([len(c.train) for c in cuts]), found[..., 0], found[..., 1])


def _cuts(data: Any, shares: Sequence[float], experiment: Experiment) -> list[Fold]:
    """The folds: the first rows of one shuffled order, stratified where there are classes; all of validation."""
    n, m = len(data.train.x), len(data.valid.x)
    order = _order(data)
    sizes = [max(1, round(s * n)) for s in shares]
    if sizes[0] < 4:
        raise DataError(f"{sizes[0]} of {n:,} rows is too little to learn from: give larger shares than {shares[0]}.")
    return [Fold(np.sort(order[:size]), np.arange(n, n + m)) for size in sizes]


def _order(data: Any) -> np.ndarray:
    """Training rows so that the first ones hold every class at its share.   -> int [n]"""
    n, y = len(data.train.x), data.train.y
    order = np.random.default_rng(0).permutation(n)
    if isinstance(y, tuple) or y.dtype.kind not in "iu":
        return order
    place = np.empty(n)
    for c in np.unique(y):
        mine = order[y[order] == c]
        place[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
    return np.argsort(place, kind="stable")


def _members(experiment: Experiment, data: Any, cuts: list[Fold], seeds: int) -> Any:
    """What the population trains: members, the first task, the rows, the folds as arrays."""
    from derin.engine.population import Member
    from derin.engine.task import class_counts, rows_of, task_of
    from derin.nn import Identity
    from derin.tune.arena import Restandardised, _stacked

    part = union(data)
    adjusted = restandardised(data, cuts)
    targets = data.schema.targets
    single = len(targets) == 1 and targets[0].kind != "number"
    tasks = []
    for i, cut in enumerate(cuts):
        counts = class_counts(part.y[cut.train], len(targets[0].labels)) if single else None
        task = task_of(experiment, data.schema, part.x, counts)
        if adjusted is not None:
            inner = Identity() if task.inputs is None else task.inputs
            task = task.replace(inputs=Restandardised(inner, adjusted[0][i], adjusted[1][i]))
        tasks.append(task.structure_only())
    longest = [max(1, round(experiment.epochs * min(LONGER, len(cuts[-1].train) / len(c.train)))) for c in cuts]
    members = [
        Member(jax.tree.leaves(task), experiment.seed + s, longest[i], i)
        for i, task in enumerate(tasks)
        for s in range(seeds)
    ]
    return members, tasks[0], rows_of(part), _stacked(cuts)
