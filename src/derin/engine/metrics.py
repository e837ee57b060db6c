"""Metrics: scores of predictions, computed inside the compiled program. Each equals scikit-learn's.

    accuracy = metric("accuracy")
    accuracy(probabilities, y, weight)                  # [n, classes], int [n], float [n] -> []

`weight` is 0 for rows that only fill up a batch: they do not count, whatever stands in them. Shapes are
fixed, so every metric runs under jit and vmap. Where scikit-learn gives a number, so does derin; where it
refuses or says nan (a prediction that is not finite, the AUC of one class, R2 of one row), derin says nan.
All is float32: expect five digits.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from derin.errors import ModelError, SpecError
from derin.spec import Spec, nearest


class Metric(Spec):
    """What every metric has: a name, a kind of target, a direction, and the call."""

    kind: ClassVar[Literal["classes", "number"]]
    greater_is_better: ClassVar[bool] = True
    # By what power of the target's scale it grows, and an offset of the target does not matter; None: it does.
    degree: ClassVar[int | None] = 1

    @property
    def name(self) -> str:
        """As it stands in tables and in `metric(name)`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    def scalar(self) -> bool:
        """False if it gives an array: then it cannot be monitored."""
        return True

    def __call__(self, prediction: Any, y: Any, weight: Any = None) -> jax.Array:
        """The score.   prediction: [n, classes] or [n], y: [n], weight: [n] or None (all 1) -> [] or [...]

        Of vectors, prediction and y [n, k], all entries are scored together; see `score_vectors`."""
        prediction, y = jnp.asarray(prediction, jnp.float32), jnp.asarray(y)
        weight = jnp.ones(y.shape[:1], jnp.float32) if weight is None else jnp.asarray(weight, jnp.float32)
        if self.kind == "classes":
            fits = prediction.ndim == 2 and prediction.shape[:1] == y.shape
        else:
            fits = prediction.ndim in (1, 2) and prediction.shape == y.shape
        if not fits or weight.shape != y.shape[:1]:
            words = "[n, classes] probabilities" if self.kind == "classes" else "[n] numbers"
            raise ModelError(
                f"metric {self.name} needs {words}, y [n] and weight [n]; "
                f"got {prediction.shape}, {y.shape} and {weight.shape}."
            )
        if y.size == 0:  # one row that does not count: every score of nothing is nan
            prediction, y, weight = (jnp.zeros((1, *a.shape[1:]), a.dtype) for a in (prediction, y, weight))
        counts = weight > 0
        prediction, y = (jnp.where(counts.reshape(-1, *[1] * (a.ndim - 1)), a, 0) for a in (prediction, y))
        of = self.score if y.ndim == 1 else self.score_vectors
        score = of(prediction, y.astype(jnp.int32 if self.kind == "classes" else jnp.float32), weight)
        return jnp.where(jnp.isfinite(prediction).all(), score, jnp.nan)

    def score(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        """The formula, on clean input, with the shapes of the call."""
        raise NotImplementedError(f"{type(self).__name__} has no score(self, prediction, y, weight).")

    def score_vectors(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        """The score of numbers [n, k]: here that of n * k single ones."""
        return self.score(prediction.reshape(-1), y.reshape(-1), jnp.repeat(weight, y.shape[1]))


def metric(name: str | Metric) -> Metric:
    """The metric of that name. Raises SpecError with the nearest names.

    >>> metric("f1_per_class"), metric("top_5_accuracy"), metric("quantile_50")
    (F1(average='none'), TopKAccuracy(k=5), QuantileError(q=0.5))
    """
    if isinstance(name, Metric):
        return name
    if top := re.fullmatch(r"top_(\d+)_accuracy", name):
        return TopKAccuracy(int(top[1]))
    if quantile := re.fullmatch(r"quantile_(\d+(?:\.\d+)?)", name):
        return QuantileError(float(quantile[1]) / 100)
    if name not in _NAMED:
        raise SpecError(f"no metric is called {name!r}.{nearest(name, metric_names())}")
    return _NAMED[name]


def metric_names() -> list[str]:
    """Every name that `metric` knows; the numbers in top_3_accuracy and quantile_90 may be others."""
    return [*_NAMED, "top_3_accuracy", "quantile_90"]


# -- classes


class Accuracy(Metric):
    """Share of rows whose most probable class is the right one; of equal ones, the first.

    >>> import jax.numpy as jnp
    >>> float(Accuracy()(jnp.array([[0.9, 0.1], [0.2, 0.8]]), jnp.array([0, 0])))
    0.5
    """

    kind = "classes"

    def score(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        return _mean(prediction.argmax(-1) == y, weight)


class TopKAccuracy(Metric):
    """Share of rows whose class is among the k most probable; of equal ones, the last, as in scikit-learn.

    >>> import jax.numpy as jnp
    >>> float(TopKAccuracy(2)(jnp.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]), jnp.array([1, 2])))
    0.5
    """

    kind = "classes"
    k: int = 3

    @property
    def name(self) -> str:
        return f"top_{self.k}_accuracy"

    def check(self) -> None:
        if self.k < 1:
            raise SpecError(f"TopKAccuracy.k must be 1 or more, got {self.k}.")

    def score(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        own = jnp.take_along_axis(prediction, y[:, None], axis=1)
        later = jnp.arange(prediction.shape[1]) > y[:, None]
        ahead = (prediction > own) | ((prediction == own) & later)
        return _mean(ahead.sum(-1) < self.k, weight)


class BalancedAccuracy(Metric):
    """Mean over the classes that occur of the share found: 1 / classes for a constant answer.

    >>> import jax.numpy as jnp
    >>> float(BalancedAccuracy()(jnp.array([[0.9, 0.1]] * 4), jnp.array([0, 0, 0, 1])))
    0.5
    """

    kind = "classes"

    def score(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        hits, _, there = _counts(prediction, y, weight)
        return _mean(_ratio(hits, there), there > 0)


Average = Literal["macro", "weighted", "micro", "binary", "none"]


class _OfCounts(Metric):
    """Precision, recall and F1: a ratio of counts by class, and how to average it. 0 / 0 is 0.

    macro: over the classes that occur in y or in the answers; weighted: by occurrence in y; micro: counts of
    all classes together; binary: of class 1; none: [classes], one value a class.
    """

    kind = "classes"
    average: Average = "macro"

    @property
    def name(self) -> str:
        endings = {"macro": "", "none": "_per_class"}
        return type(self).__name__.lower() + endings.get(self.average, f"_{self.average}")

    @property
    def scalar(self) -> bool:
        return self.average != "none"

    def ratio(self, hits: jax.Array, said: jax.Array, there: jax.Array) -> jax.Array:
        raise NotImplementedError

    def score(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        hits, said, there = _counts(prediction, y, weight)
        each = self.ratio(hits, said, there)
        if self.average == "none":
            return each
        if self.average == "binary":
            if len(each) != 2:
                raise ModelError(
                    f"metric {self.name} is for two classes, there are {len(each)}. "
                    f"Use {type(self).__name__.lower()} (macro) or {type(self).__name__.lower()}_weighted."
                )
            return each[1]
        if self.average == "micro":
            return self.ratio(hits.sum(), said.sum(), there.sum())
        return _mean(each, there if self.average == "weighted" else (said + there) > 0)


class Precision(_OfCounts):
    """Of the rows called a class, the share that is of it.

    >>> import jax.numpy as jnp
    >>> Precision(average="none")(jnp.array([[0.9, 0.1]] * 4), jnp.array([0, 0, 0, 1]))
    Array([0.75, 0.  ], dtype=float32)
    """

    def ratio(self, hits: jax.Array, said: jax.Array, there: jax.Array) -> jax.Array:
        return _ratio(hits, said)


class Recall(_OfCounts):
    """Of the rows of a class, the share called it.

    >>> import jax.numpy as jnp
    >>> Recall(average="none")(jnp.array([[0.9, 0.1]] * 4), jnp.array([0, 0, 0, 1]))
    Array([1., 0.], dtype=float32)
    """

    def ratio(self, hits: jax.Array, said: jax.Array, there: jax.Array) -> jax.Array:
        return _ratio(hits, there)


class F1(_OfCounts):
    """Harmonic mean of precision and recall.

    >>> import jax.numpy as jnp
    >>> round(float(F1(average="binary")(jnp.array([[0.9, 0.1], [0.2, 0.8]]), jnp.array([1, 1]))), 4)
    0.6667
    """

    def ratio(self, hits: jax.Array, said: jax.Array, there: jax.Array) -> jax.Array:
        return _ratio(2 * hits, said + there)


class ConfusionMatrix(Metric):
    """How often a row of class i is called class j.   -> [classes, classes], rows are the truth

    >>> import jax.numpy as jnp
    >>> ConfusionMatrix()(jnp.array([[0.9, 0.1]] * 4), jnp.array([0, 0, 0, 1]))
    Array([[3., 0.],
           [1., 0.]], dtype=float32)
    """

    kind = "classes"

    @property
    def scalar(self) -> bool:
        return False

    def score(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        classes = prediction.shape[1]
        table = jnp.zeros((classes, classes), jnp.float32)
        return table.at[y, prediction.argmax(-1)].add(weight)


class ROCAUC(Metric):
    """Area under the ROC curve: how often a row of the class scores above one that is not; ties count half.

    Two classes: of class 1. More: the mean over classes, each against the rest. nan if a class is missing.

    >>> import jax.numpy as jnp
    >>> p = jnp.array([0.1, 0.4, 0.35, 0.8])
    >>> float(ROCAUC()(jnp.stack([1 - p, p], 1), jnp.array([0, 0, 1, 1])))
    0.75
    """

    kind = "classes"

    @property
    def name(self) -> str:
        return "roc_auc"

    def score(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        return _one_against_rest(_roc_auc, prediction, y, weight)


class AveragePrecision(Metric):
    """Precision averaged over recall: the sum of (R_i - R_{i-1}) P_i over all thresholds.

    Two classes: of class 1. More: the mean over classes, each against the rest; a missing class has 0.

    >>> import jax.numpy as jnp
    >>> p = jnp.array([0.1, 0.4, 0.35, 0.8])
    >>> round(float(AveragePrecision()(jnp.stack([1 - p, p], 1), jnp.array([0, 0, 1, 1]))), 4)
    0.8333
    """

    kind = "classes"

    def score(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        return _one_against_rest(_average_precision, prediction, y, weight)


class LogLoss(Metric):
    """Mean of -log p of the right class; p is kept 1.2e-7 away from 0 and 1.   S0.28, S1.36

    >>> import jax.numpy as jnp
    >>> p = jnp.array([0.9, 0.7, 0.3])
    >>> round(float(LogLoss()(jnp.stack([1 - p, p], 1), jnp.array([1, 1, 0]))), 4)
    0.2729
    """

    kind = "classes"
    greater_is_better = False

    def score(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        own = jnp.take_along_axis(prediction, y[:, None], axis=1)[:, 0]
        eps = jnp.finfo(jnp.float32).eps
        return _mean(-jnp.log(jnp.clip(own, eps, 1 - eps)), weight)


class Brier(Metric):
    """Mean squared distance of the probabilities from the truth; halved for two classes, as in scikit-learn.

    >>> import jax.numpy as jnp
    >>> p = jnp.array([0.1, 0.9, 0.8, 0.3])
    >>> round(float(Brier()(jnp.stack([1 - p, p], 1), jnp.array([0, 1, 1, 0]))), 4)
    0.0375
    """

    kind = "classes"
    greater_is_better = False

    def score(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        classes = prediction.shape[1]
        each = jnp.square(prediction - jax.nn.one_hot(y, classes)).sum(-1)
        return _mean(each, weight) * (0.5 if classes == 2 else 1.0)


# -- numbers


class MAE(Metric):
    """Mean absolute error.   S0.12

    >>> import jax.numpy as jnp
    >>> round(float(MAE()(jnp.array([12.0, 18.0, 30.0]), jnp.array([10.0, 20.0, 30.0]))), 4)
    1.3333
    """

    kind = "number"
    greater_is_better = False

    def score(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        return _mean(jnp.abs(prediction - y), weight)


class MSE(Metric):
    """Mean squared error, without one half.   S0.09

    >>> import jax.numpy as jnp
    >>> round(float(MSE()(jnp.array([12.0, 18.0, 30.0]), jnp.array([10.0, 20.0, 30.0]))), 4)
    2.6667
    """

    kind = "number"
    degree = 2
    greater_is_better = False

    def score(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        return _mean(jnp.square(prediction - y), weight)


class RMSE(Metric):
    """Root of the mean squared error, in the target's units.   S0.11

    >>> import jax.numpy as jnp
    >>> round(float(RMSE()(jnp.array([12.0, 18.0, 30.0]), jnp.array([10.0, 20.0, 30.0]))), 4)
    1.633
    """

    kind = "number"
    greater_is_better = False

    def score(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.sqrt(_mean(jnp.square(prediction - y), weight))


class R2(Metric):
    """Share of the variance explained: 1 - sum (y - p)^2 / sum (y - mean)^2. nan for fewer than two rows.

    If y is constant: 1 for the exact answer, else 0, as in scikit-learn. Of vectors it is the share of all
    entries' variance together, constant entries left out: scikit-learn's multioutput="variance_weighted".

    >>> import jax.numpy as jnp
    >>> round(float(R2()(jnp.array([12.0, 18.0, 30.0]), jnp.array([10.0, 20.0, 30.0]))), 4)
    0.96
    """

    kind = "number"
    degree = 0

    def score(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        return self.score_vectors(prediction[:, None], y[:, None], weight)

    def score_vectors(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        w = weight[:, None]
        off = _sum(jnp.square(prediction - y), w, 0)  # [k]
        from_first = y - y[jnp.argmax(weight > 0)]  # exactly 0 for a constant y; the mean of 0.1s is not 0.1
        spread = _sum(jnp.square(from_first - _sum(from_first, w, 0) / weight.sum()), w, 0)
        varies = spread > 0
        if_constant = jnp.where(jnp.isnan(off), jnp.nan, jnp.where(off == 0, 1.0, 0.0)).mean()
        all_spread = jnp.where(varies.any(), spread.sum(), 1)
        r2 = jnp.where(varies.any(), 1 - jnp.where(varies, off, 0).sum() / all_spread, if_constant)
        return jnp.where((weight > 0).sum() < 2, jnp.nan, r2)


class MAPE(Metric):
    """Mean of the absolute error as a share of y (0.1 is ten per cent); huge where a y is 0.

    >>> import jax.numpy as jnp
    >>> round(float(MAPE()(jnp.array([12.0, 18.0, 30.0]), jnp.array([10.0, 20.0, 30.0]))), 4)
    0.1
    """

    kind = "number"
    greater_is_better = False
    degree = None

    def score(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        return _mean(jnp.abs(prediction - y) / jnp.maximum(jnp.abs(y), 2.0**-52), weight)  # scikit-learn's floor


class QuantileError(Metric):
    """The absolute error that a share `q` of the rows stays below; linear between rows, as numpy.quantile.

    A row counts once if its weight is above 0.

    >>> import jax.numpy as jnp
    >>> float(QuantileError(0.5)(jnp.array([12.0, 18.0, 30.0]), jnp.array([10.0, 20.0, 29.0])))
    2.0
    """

    kind = "number"
    greater_is_better = False
    q: float = 0.9

    @property
    def name(self) -> str:
        return f"quantile_{100 * self.q:.6g}"

    def check(self) -> None:
        if not 0 <= self.q <= 1:
            raise SpecError(f"QuantileError.q must be in [0, 1], got {self.q}: 0.9 is the error that 90 % stay below.")

    def score(self, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
        error = jnp.sort(jnp.where(weight > 0, jnp.abs(prediction - y), jnp.inf))  # rows that do not count: last
        n = (weight > 0).sum()
        at = self.q * jnp.maximum(n - 1, 0).astype(jnp.float32)
        below = jnp.floor(at).astype(jnp.int32)
        low, high = error[below], error[jnp.minimum(below + 1, jnp.maximum(n - 1, 0))]
        return jnp.where(n == 0, jnp.nan, low + (at - below) * (high - low))


# -- the arithmetic


def _sum(values: jax.Array, weight: jax.Array, axis: int | None = None) -> jax.Array:
    return jnp.sum(values * weight, axis, dtype=jnp.float32)


def _mean(values: jax.Array, weight: jax.Array) -> jax.Array:
    """Weighted mean; nan if nothing counts."""
    return _sum(values, weight) / jnp.sum(weight, dtype=jnp.float32)


def _ratio(above: jax.Array, below: jax.Array) -> jax.Array:
    """above / below, and 0 for 0 / 0."""
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1), 0.0)


def _counts(prediction: jax.Array, y: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """By class: rows called it that are of it, rows called it, rows of it.   each [classes]"""
    matrix = ConfusionMatrix().score(prediction, y, weight)
    return jnp.diagonal(matrix), matrix.sum(0), matrix.sum(1)


def _one_against_rest(area: Any, prediction: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
    """The area of class 1 if there are two classes, else the mean over classes."""
    classes = prediction.shape[1]
    if classes == 2:
        return area(prediction[:, 1], y == 1, weight)
    return jax.vmap(lambda scores, c: area(scores, y == c, weight), (1, 0))(prediction, jnp.arange(classes)).mean()


def _thresholds(scores: jax.Array, positive: jax.Array, weight: jax.Array) -> tuple[jax.Array, ...]:
    """True and false positives at every threshold from the highest score down, and one threshold earlier.

    scores, positive, weight: [n] -> tp, fp, tp_before, fp_before, each [n].   Rows with equal scores cross a
    threshold together: all but the last of them give nothing, i.e. tp == tp_before and fp == fp_before.
    """
    falling, hits, misses = jax.lax.sort((-scores, weight * positive, weight * ~positive), num_keys=1)
    last = jnp.append(falling[1:] != falling[:-1], True)
    tp, fp = jnp.cumsum(hits), jnp.cumsum(misses)
    before = lambda c: jnp.append(0.0, jax.lax.cummax(jnp.where(last, c, 0.0))[:-1])  # noqa: E731
    tp_before, fp_before = before(tp), before(fp)
    return jnp.where(last, tp, tp_before), jnp.where(last, fp, fp_before), tp_before, fp_before


def _roc_auc(scores: jax.Array, positive: jax.Array, weight: jax.Array) -> jax.Array:
    """Trapezoids under the ROC curve.   [n], [n], [n] -> []"""
    tp, fp, tp_before, fp_before = _thresholds(scores, positive, weight)
    widths, heights = (
        (fp - fp_before) / fp[-1],
        (tp + tp_before) / (2 * tp[-1]),
    )  # 0 / 0 is nan: one class only
    return jnp.sum(widths * heights)


def _average_precision(scores: jax.Array, positive: jax.Array, weight: jax.Array) -> jax.Array:
    """Sum of precision times the recall gained.   [n], [n], [n] -> []"""
    tp, fp, tp_before, _ = _thresholds(scores, positive, weight)
    return _ratio(jnp.sum((tp - tp_before) * _ratio(tp, tp + fp)), tp[-1])


_NAMED: dict[str, Metric] = {
    m.name: m
    for m in (
        Accuracy(),
        BalancedAccuracy(),
        *(cls(average=a) for cls in (Precision, Recall, F1) for a in ("macro", "none", "weighted", "micro", "binary")),
        ConfusionMatrix(),
        ROCAUC(),
        AveragePrecision(),
        LogLoss(),
        Brier(),
        MAE(),
        MSE(),
        RMSE(),
        R2(),
        MAPE(),
    )
}
