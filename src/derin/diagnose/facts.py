"""What the rows themselves say, whatever net learns them: a floor, a ceiling, and what is wrong with the data.

The floor is the trivial predictor, the ceiling scikit-learn's gradient boosting; both learn from the training rows
and are judged on the validation rows, as the net is: with the weights of its classes, where it has some.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ROWS, COLUMNS = 3000, 400  # of a part, that trees are grown on; what is wider is told in fewer columns first
WIDEST, COMPONENTS, TOKENS = 4096, 48, 256  # pixels that are looked at; components of them; tokens that are counted
TARGETS = 4  # of several, and of numbers of one: gradient boosting learns each of them alone
BYTES = 2**28  # of training rows that copies are looked for in, all of them
FEW = 40  # rows below which nothing is said about two parts of the data
LEAKS, COPY = 0.35, 0.985  # share of the trivial error that a leak leaves at most, see `left`; correlation of a copy


@dataclass(frozen=True)
class Score:
    """How wrong the predictions for some rows are.

    loss: cross-entropy, or squared error in deviations of the target; error: share of wrong classes, or of the
    variance that is not explained; where classes have weights, both with these. rows: with weights, as many equal ones
    as would tell as much (Kish 1965). recall: of each class. Of several targets the means.
    """

    loss: float
    error: float
    rows: int
    recall: tuple[float, ...] = ()


@dataclass(frozen=True)
class Facts:
    """See facts_of."""

    floor: Score
    ceiling: Score | None  # None: a handful of rows, or many targets
    classes: tuple[float, ...]  # share of each class in training; () for numbers
    spread: tuple[float, float]  # the least and the largest deviation of a column of x that varies; nan for tokens
    offset: float  # the largest mean of a column, in absolute value
    drift: float  # area under the curve of a classifier that tells training from validation rows; 0.5: it cannot
    drift_error: float  # standard error of that area
    shared: float  # share of the validation rows that stand in training as well, answer and all
    by_chance: float  # the share to be expected if columns were independent
    leak: int  # the column that alone says most about the target; -1: none was looked at
    leak_error: float  # error of the rule from that column alone
    without_leak: float  # of gradient boosting without it; nan where it was not tried
    next_error: float = math.nan  # error of the rule from the second best column
    agreeing: float = 1.0  # share of the validation rows whose inputs stand in training where the answers do as well
    width: int = 0  # columns that the trees learned from


Weights = tuple[float, ...] | None  # of each class
_known: dict[tuple[str, Weights], Facts] = {}


def facts_of(data: Any, weights: Weights = None) -> Facts:
    """Look at the rows of training and validation.   data: a Dataset; the same data are looked at once

    weights: of the classes in the loss of the run that is judged; who minds a rare class names it more often.
    """
    from threadpoolctl import threadpool_limits  # scikit-learn needs it as well

    key = (data.fingerprint, weights)
    if key not in _known:
        if len(_known) > 64:
            _known.clear()
        with threadpool_limits(1):  # trees on a few rows: threads would wait for each other most of the time
            _known[key] = _facts(data, weights)
    return _known[key]


def _facts(data: Any, weights: Weights) -> Facts:
    train, valid = _sample(data.train), _sample(data.valid)
    judged = valid if len(valid[0]) else train
    ys, answers = train[1], judged[1]
    tokens = data.schema.inputs.__class__.__name__ == "TokenInputs"
    floor = _mean([_floor(a, b, weights) for a, b in zip(ys, answers, strict=True)])
    single = len(ys) == 1 and ys[0].ndim == 1
    classes: tuple[float, ...] = ()
    if single and ys[0].dtype.kind in "iu":
        classes = tuple(np.bincount(ys[0], minlength=int(max(ys[0].max(), answers[0].max())) + 1) / len(ys[0]))
    x, v = _for_trees(train[0], judged[0], tokens)
    enough = len(x) >= FEW and sum(y.size for y in ys) <= TARGETS * len(x)
    ceiling = _mean([_boosted(x, a, v, b, weights) for a, b in zip(ys, answers, strict=True)]) if enough else None
    spread, offset = (math.nan, math.nan), math.nan
    if not tokens and train[0].dtype.kind == "f":  # derin scales pixels itself
        flat = _flat(train[0])
        numeric = getattr(data.schema.input_layer(), "numeric", flat.shape[1])  # behind them: codes of categories
        spread, offset = _scales(flat[:, :numeric]) if numeric else (spread, offset)
    drift, wide = (0.5, 0.5)
    shared, chance, agreeing = 0.0, 0.0, 1.0
    if len(valid[0]) >= FEW:
        drift, wide = _drift(*_for_trees(*_as_many(train[0], valid[0]), tokens))
        shared, chance, agreeing = _shared(*_all_of(data.train, train), *valid)
    leak, leak_error, without, second = -1, math.nan, math.nan, math.nan
    if enough and single and not tokens and 1 < train[0][0].size <= COLUMNS:
        leak, leak_error, second = _leak(x, ys[0], v, answers[0], weights)
        if left(leak_error, floor.error, classes) < LEAKS:
            others = _no_copies(x, leak)
            rest = (x[:, others], ys[0], v[:, others], answers[0], weights)
            without = _boosted(*rest).error if others.any() else floor.error
    return Facts(
        floor,
        ceiling,
        classes,
        spread,
        offset,
        drift,
        wide,
        shared,
        chance,
        leak,
        leak_error,
        without,
        second,
        agreeing,
        x.shape[1],
    )


def left(error: float, floor: float, classes: Sequence[float]) -> float:
    """An error as a share of the trivial one: of rows in the wrong class, or of the units of a number.

    The share of squares that one honest column leaves is soon small: with a fifth of them, it is wrong by half as much
    as the mean is.
    """
    share = max(error, 0.0) / max(floor, 1e-9)
    return share if classes else math.sqrt(share)


def _sample(part: Any) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """At most ROWS rows from all over a part, and their answers."""
    n = len(part.x)
    at = np.sort(np.random.default_rng(0).permutation(n)[:ROWS]) if n > ROWS else np.arange(n)
    return np.asarray(part.x[at]), tuple(np.asarray(y[at]) for y in _answers(part))


def _all_of(part: Any, sample: tuple[np.ndarray, tuple[np.ndarray, ...]]) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """All rows of a part where they are not too many: a copy is seldom among 3000 of them."""
    return (np.asarray(part.x), tuple(map(np.asarray, _answers(part)))) if part.x.nbytes <= BYTES else sample


def _answers(part: Any) -> tuple[Any, ...]:
    return part.y if isinstance(part.y, tuple) else (part.y,)


def _for_trees(x: np.ndarray, v: np.ndarray, tokens: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows as a table that trees can learn from: [n, ...] -> [n, columns]

    Tokens are counted, the commonest of them; of wide rows (images, long series) trees get the principal components,
    and how bright and how uneven a row is. Both parts say which: components of one alone would fit its rows better.
    """
    if tokens:
        x, v = x.reshape(len(x), -1), v.reshape(len(v), -1)
        names, counts = np.unique(np.concatenate([x, v]), return_counts=True)
        names = np.sort(names[np.argsort(-counts, kind="stable")[:TOKENS]])
        return tuple(_counted(part, names) for part in (x, v))  # type: ignore[return-value]
    x, v = _flat(x), _flat(v)
    if x.shape[1] <= COLUMNS:
        return x, v
    from sklearn.utils.extmath import randomized_svd

    both = np.concatenate([x, v])
    mean = both.mean(0)
    axes = randomized_svd(both - mean, COMPONENTS, n_iter=2, random_state=0)[2].T
    return tuple(np.c_[(part - mean) @ axes, part.mean(1), part.std(1)] for part in (x, v))  # type: ignore[return-value]


def _counted(rows: np.ndarray, names: np.ndarray) -> np.ndarray:
    """How often each token of `names`, which rises, is in a row."""
    at = np.searchsorted(names, rows).clip(0, len(names) - 1)
    counts = np.zeros((len(rows), len(names)), np.float32)
    np.add.at(counts, (np.arange(len(rows))[:, None], at), (names[at] == rows).astype(np.float32))
    return counts


def _flat(x: np.ndarray) -> np.ndarray:
    """[n, ...] -> [n, columns]; of a large image every so many pixels"""
    x = x.reshape(len(x), -1)
    return np.asarray(x[:, :: -(-x.shape[1] // WIDEST)], np.float32)


# -- floor and ceiling


def score(predicted: np.ndarray, y: np.ndarray, weights: Weights = None) -> Score:
    """predicted: probabilities [n, classes] for y int [n]; numbers [n, width] for y float [n] or [n, width]"""
    if y.dtype.kind in "iu":
        called = predicted.argmax(1)
        p = np.clip(predicted[np.arange(len(y)), y], 1e-12, 1)
        w = _of_rows(y, weights)
        total = max(float(w.sum()), 1e-12)
        recall = [
            float((called[y == c] == c).mean()) if (y == c).any() else math.nan for c in range(predicted.shape[1])
        ]
        alike = max(1, round(total**2 / max(float((w**2).sum()), 1e-12)))
        return Score(float(-(w @ np.log(p)) / total), float(w @ (called != y) / total), alike, tuple(recall))
    y = y.reshape(len(y), -1).astype(np.float64)
    square = float(((predicted.reshape(y.shape) - y) ** 2).mean())
    return Score(square, square / max(float(y.var(0).mean()), 1e-12), len(y))


def _of_rows(y: np.ndarray, weights: Weights) -> np.ndarray:
    """The weight of each row by its class, 1 where classes have none."""
    return np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)[y]


def _floor(y: np.ndarray, judged: np.ndarray, weights: Weights = None) -> Score:
    """What learns nothing but how often each class comes, or the mean."""
    if y.dtype.kind in "iu":
        counts = np.bincount(y, _of_rows(y, weights), int(max(y.max(), judged.max())) + 1)
        return score(np.repeat((counts / max(counts.sum(), 1e-12))[None], len(judged), 0), judged, weights)
    return score(np.repeat(y.reshape(len(y), -1).mean(0)[None], len(judged), 0), judged)


def _boosted(x: np.ndarray, y: np.ndarray, v: np.ndarray, answers: np.ndarray, weights: Weights) -> Score:
    """Gradient boosting as scikit-learn has it, stopped early by a part of the training rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    how: dict[str, Any] = {"max_iter": 60, "max_leaf_nodes": 12, "min_samples_leaf": 8, "random_state": 0,
                           "early_stopping": False, "learning_rate": 0.15}  # fmt: skip
    if y.dtype.kind not in "iu":
        found = [HistGradientBoostingRegressor(**how).fit(x, a).predict(v) for a in y.reshape(len(y), -1).T]
        return score(np.stack(found, 1), answers)
    here = np.unique(y)
    if len(here) < 2:
        return _floor(y, answers, weights)
    how["max_iter"] = max(15, 60 // len(here))
    p = np.zeros((len(v), int(max(y.max(), answers.max())) + 1))
    each = None if weights is None else _of_rows(y, weights)
    p[:, here] = HistGradientBoostingClassifier(**how).fit(x, y, each).predict_proba(v)
    return score(p, answers, weights)


def _mean(found: list[Score]) -> Score:
    if len(found) == 1:
        return found[0]
    return Score(float(np.mean([s.loss for s in found])), float(np.mean([s.error for s in found])), found[0].rows)


# -- columns and rows


def _scales(x: np.ndarray) -> tuple[tuple[float, float], float]:
    """The least and the largest deviation of columns that vary, and the mean farthest from 0."""
    mean, deviation = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    varies = deviation > 1e-6 * np.maximum(1, np.abs(mean))
    if not varies.any():
        return (math.nan, math.nan), float(np.abs(mean).max())
    return (float(deviation[varies].min()), float(deviation[varies].max())), float(np.abs(mean).max())


def _as_many(x: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As many rows of one part as of the other."""
    r = np.random.default_rng(0)
    size = min(len(x), len(v), 800)
    return x[r.permutation(len(x))[:size]], v[r.permutation(len(v))[:size]]


def _drift(x: np.ndarray, v: np.ndarray) -> tuple[float, float]:
    """How well rows of training and validation can be told apart: area under the curve, and its standard error.

    Trees learn on one half of both and judge the other, then the halves change. Near 0.5 the parts are of one
    distribution. Lopez-Paz & Oquab 2017, arXiv:1610.06545. S4.13
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    size, rows = len(x), np.concatenate([x, v])
    r = np.random.default_rng(1)
    label = np.repeat([0, 1], size)
    half = r.permutation(2 * size) % 2
    found = np.zeros(2 * size)
    for i in (0, 1):
        trees = HistGradientBoostingClassifier(
            max_iter=15, max_leaf_nodes=6, min_samples_leaf=8, early_stopping=False, random_state=0
        )
        found[half == i] = trees.fit(rows[half != i], label[half != i]).predict_proba(rows[half == i])[:, 1]
    areas = [_area(found[half == i], label[half == i]) for i in (0, 1)]
    return float(np.mean(areas)), math.sqrt(1 / (6 * size))  # of 2 ranks of size / 2: Mann & Whitney 1947


def _area(p: np.ndarray, label: np.ndarray) -> float:
    """Area under the curve, by ranks; ties count half."""
    from scipy.stats import rankdata

    ones = int(label.sum())
    return float((rankdata(p)[label == 1].sum() - ones * (ones + 1) / 2) / (ones * (len(label) - ones)))


def _shared(x: np.ndarray, ys: Any, v: np.ndarray, answers: Any) -> tuple[float, float, float]:
    """The share of validation rows that are in training too, what chance would give, and how many answers agree.

    Copies agree in their answers; rows of a few coarse columns that happen to be equal do not always.
    """
    x, v = x.reshape(len(x), -1), v.reshape(len(v), -1)
    inputs = _known_rows([x], [v])
    share = _known_rows([x, *ys], [v, *answers]) if inputs else 0.0
    if share == 0:
        return 0.0, 0.0, 1.0
    equal = 0.0  # logarithm of the chance that two rows agree in every column
    for column in [*_flat(x[:ROWS]).T[:COLUMNS], *(c for y in ys for c in y[:ROWS].reshape(min(len(y), ROWS), -1).T)]:
        counts = np.unique(column, return_counts=True)[1]
        equal += math.log(float(((counts / len(column)) ** 2).sum()))
    return share, min(1.0, len(x) * math.exp(equal)), share / inputs


def _known_rows(known: Sequence[np.ndarray], rows: Sequence[np.ndarray]) -> float:
    """The share of the rows that are among the known ones, each put together of several arrays."""
    here, there = (
        [b"".join(pieces) for pieces in zip(*([row.tobytes() for row in a] for a in arrays), strict=True)]
        for arrays in (known, rows)
    )
    found = set(here)
    return float(np.mean([row in found for row in there]))


def _no_copies(x: np.ndarray, leak: int) -> np.ndarray:
    """Which columns are neither that one nor nearly a copy of it: what leaks twice leaks all the same."""
    away, own = x - x.mean(0), x[:, leak] - x[:, leak].mean()
    size = np.sqrt((away**2).sum(0) * (own**2).sum())
    return np.asarray(np.abs(away.T @ own) < COPY * np.maximum(size, 1e-12)) | (size == 0)


def _leak(
    x: np.ndarray, y: np.ndarray, v: np.ndarray, answers: np.ndarray, weights: Weights
) -> tuple[int, float, float]:
    """The column that alone tells most of the target, and the error of the rule from it, of 32 bins."""
    found = []
    for j in range(x.shape[1]):
        edges = np.unique(np.quantile(x[:, j], np.linspace(0, 1, 33)[1:-1]))
        at, to = np.searchsorted(edges, x[:, j]), np.searchsorted(edges, v[:, j])
        bins = len(edges) + 1
        if y.dtype.kind in "iu":
            found.append(_class_rule(at, y, to, answers, bins, weights))
        else:
            found.append(_number_rule(at, y, to, answers, bins))
    best = int(np.argmin(found))
    others = np.asarray(found)[_no_copies(x, best)]
    return best, float(found[best]), float(others.min()) if len(others) else math.nan


def _class_rule(
    at: np.ndarray, y: np.ndarray, to: np.ndarray, answers: np.ndarray, bins: int, weights: Weights
) -> float:
    counts = np.zeros((bins, int(max(y.max(), answers.max())) + 1))
    np.add.at(counts, (at, y), _of_rows(y, weights))
    w = _of_rows(answers, weights)
    return float(w @ (counts.argmax(1)[to] != answers) / max(float(w.sum()), 1e-12))


def _number_rule(at: np.ndarray, y: np.ndarray, to: np.ndarray, answers: np.ndarray, bins: int) -> float:
    total, rows = np.bincount(at, y, bins), np.bincount(at, minlength=bins)
    mean = np.where(rows > 0, total / np.maximum(rows, 1), y.mean())
    return float(((mean[to] - answers) ** 2).mean() / max(answers.var(), 1e-12))
