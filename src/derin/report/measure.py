"""What a report measures on rows the run has not learned from: scores with intervals, calibration, importance.

Intervals are of 95 %: Wilson's for shares (1927, doi:10.1080/01621459.1927.10502953), the bootstrap's percentiles for
other scores (Efron 1979), each resample of the rows being a weight a row, all of them one compiled program.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from derin.data.dataset import column_places
from derin.engine import epoch as engine
from derin.engine.epoch import Task
from derin.engine.programs import program
from derin.engine.training import outputs_of

if TYPE_CHECKING:
    from derin.engine.run import Run

RESAMPLES = 300
MOST_ROWS = 20_000  # that are judged; more would make a page wait and no interval much narrower
REPEATS = 12  # permutations of a column
ROWS_SHUFFLED = 2000
MOST_COLUMNS = 80  # of which importance is measured
BINS = 10
Z = 1.959963984540054  # of 95 %


class Judged(NamedTuple):
    """The rows that judge, and what the net put out for them."""

    part: str  # "test", or where there is none "valid", or "train"
    x: np.ndarray
    y: tuple[np.ndarray, ...]
    outputs: np.ndarray
    of: int  # rows of the part; more than MOST_ROWS are thinned out


class Score(NamedTuple):
    """A metric with its interval."""

    name: str
    value: float
    low: float
    high: float
    wilson: bool = False


class Bin(NamedTuple):
    """Rows of about the same predicted probability."""

    predicted: float
    share: float  # of them that are so
    low: float
    high: float
    rows: int


class Importance(NamedTuple):
    """By how much a score gets worse when a column's values are dealt to other rows."""

    column: str
    value: float
    low: float
    high: float


def judged(run: Run) -> Judged:
    """The test rows, or where there are none those of validation, or of training."""
    data = run.reload_data()
    name = next(name for name in ("test", "valid", "train") if len(data.parts[name].x))
    part = data.parts[name]
    n = len(part.x)
    rows = np.arange(n) if n <= MOST_ROWS else np.linspace(0, n - 1, MOST_ROWS).astype(int)
    ys = part.y if isinstance(part.y, tuple) else (part.y,)
    x = np.asarray(part.x[rows])
    outputs = outputs_of(run.task, run.params, run.state, x)
    return Judged(name, x, tuple(np.asarray(y[rows]) for y in ys), outputs, n)


def wilson(successes: float, n: float) -> tuple[float, float]:
    """The interval of a share.

    >>> [round(v, 4) for v in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    if n <= 0:
        return 0.0, 1.0
    p = successes / n
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def scores(run: Run, of: Judged, seed: int = 0) -> list[Score]:
    """The loss and every metric that is one number, with intervals."""
    weights = _resampled(len(of.outputs), RESAMPLES, seed)
    task = run.task.structure_only()
    args = (task, of.outputs, of.y, weights)
    loss, found = jax.device_get(program(_scores, *args)(*args))
    one = (task, of.outputs, of.y)
    own_loss, own = jax.device_get(program(engine.scores, *one)(*one))
    rows = [Score("loss", float(own_loss), *_percentiles(loss))]
    for (name, metric, _), value, many in zip(engine.metric_names(run.task), own, found, strict=True):
        if not metric.scalar or np.ndim(value):
            continue
        if metric.name == "accuracy":
            n = len(of.outputs)
            rows.append(Score(name, float(value), *wilson(float(value) * n, n), True))
        else:
            rows.append(Score(name, float(value), *_percentiles(many)))
    return [*rows[1:], rows[0]]


def quick(run: Run, of: Judged) -> list[Score]:
    """The metrics that are one number, without intervals."""
    args = (run.task.structure_only(), of.outputs, of.y)
    _, own = jax.device_get(program(engine.scores, *args)(*args))
    named = zip(engine.metric_names(run.task), own, strict=True)
    return [Score(n, float(v), math.nan, math.nan) for (n, m, _), v in named if m.scalar and not np.ndim(v)]


def _scores(task: Task, outputs: Any, y: Any, weights: Any) -> Any:
    return jax.lax.map(lambda w: engine.scores(task, outputs, y, w), weights)


def _resampled(n: int, times: int, seed: int) -> np.ndarray:
    """How often each row is drawn when n are drawn with replacement.   -> float32 [times, n]"""
    random = np.random.default_rng(seed)
    return np.stack([np.bincount(random.integers(0, n, n), minlength=n) for _ in range(times)]).astype(np.float32)


def _percentiles(values: Any) -> tuple[float, float]:
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    return tuple(np.quantile(values, [0.025, 0.975]).tolist()) if len(values) else (math.nan, math.nan)


def probabilities(run: Run, of: Judged) -> list[np.ndarray]:
    """Of classes [n, classes], or numbers in their own units [n], [n, width], for each target."""
    found = engine.predictions(run.task, jax.numpy.asarray(of.outputs))
    return [_own_units(aim, np.asarray(p)) for aim, p in zip(run.task.aims, found, strict=True)]


def answers(run: Run, of: Judged) -> list[np.ndarray]:
    """Classes [n], or numbers in their own units, for each target."""
    return [_own_units(aim, y) for aim, y in zip(run.task.aims, of.y, strict=True)]


def _own_units(aim: Any, values: np.ndarray) -> np.ndarray:
    if aim.kind != "number":
        return values
    return values.astype(np.float64) * np.asarray(aim.scale, np.float64) + np.asarray(aim.mean, np.float64)


def confusion(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Rows: what it is; columns: what it was called.   y: [n], p: [n, classes] -> int [classes, classes]"""
    k = p.shape[1]
    return np.bincount(y * k + p.argmax(1), minlength=k * k).reshape(k, k)


def calibration(y: np.ndarray, p: np.ndarray) -> tuple[list[Bin], float]:
    """How often it is so where the net says p; of two classes the second, of more the one it calls.

    Ten bins of equal width, and the expected calibration error (Naeini et al. 2015; Guo et al. 2017,
    arXiv:1706.04599): the mean over rows of |share - p|.   y: [n], p: [n, classes]
    """
    said = p[:, 1] if p.shape[1] == 2 else p.max(1)
    so = (y == 1) if p.shape[1] == 2 else (p.argmax(1) == y)
    place = np.minimum((said * BINS).astype(int), BINS - 1)
    bins = []
    for i in range(BINS):
        here = place == i
        if n := int(here.sum()):
            k = int(so[here].sum())
            bins.append(Bin(float(said[here].mean()), k / n, *wilson(k, n), n))
    error = sum(b.rows * abs(b.share - b.predicted) for b in bins) / max(1, len(y))
    return bins, error


def importances(run: Run, of: Judged, seed: int = 0) -> tuple[str, list[Importance]]:
    """(the score it is measured by, the columns that matter most first). Breiman 2001; Fisher et al. 2019, 1801.01489.

    Each repeat deals the column's values to other rows and draws the rows anew: the interval holds both chances.
    """
    found = column_places(run.schema.inputs, of.x.shape[1]) if of.x.ndim == 2 else {}
    if not found or len(found) > MOST_COLUMNS or len(of.x) < 8:
        return "", []
    random = np.random.default_rng(seed)
    rows = random.permutation(len(of.x))[:ROWS_SHUFFLED]
    x, ys = of.x[rows], tuple(y[rows] for y in of.y)
    name, pick, sign = _judge(run.task)
    weights = _resampled(len(rows), REPEATS, seed + 1)

    def score(outputs: np.ndarray, weight: np.ndarray) -> float:
        args = (run.task.structure_only(), outputs, ys, weight)
        return float(pick(program(engine.scores, *args)(*args)))

    base = [score(of.outputs[rows], w) for w in weights]
    measured = []
    for column, places in found.items():
        worse = []
        for i, w in enumerate(weights):
            other = x.copy()
            other[:, places] = x[np.ix_(random.permutation(len(x)), np.array(places))]
            worse.append(sign * (base[i] - score(outputs_of(run.task, run.params, run.state, other), w)))
        mean, half = float(np.mean(worse)), Z * float(np.std(worse, ddof=1))
        measured.append(Importance(column, mean, mean - half, mean + half))
    return name, sorted(measured, key=lambda m: -m.value)


def _judge(task: Task) -> tuple[str, Any, float]:
    """(name, how to pick it out of scores, 1 if greater is better): the first metric that is a number, or the loss."""
    names = engine.metric_names(task)
    if len(task.aims) == 1:
        for i, (name, metric, _) in enumerate(names):
            if metric.scalar:
                return name, lambda found, i=i: found[1][i], 1.0 if metric.greater_is_better else -1.0
    return "loss", lambda found: found[0], -1.0


def thin(n: int, most: int, seed: int = 0) -> np.ndarray:
    """At most so many of n places, in order."""
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(seed).permutation(n)[:most])


def finite(values: Sequence[Any]) -> list[float]:
    return [float(v) for v in values if isinstance(v, (int, float)) and math.isfinite(v)]
