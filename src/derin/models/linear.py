"""Linear, logistic and softmax regression: solved to the optimum, a line each.

    line = LinearRegression().fit(data)                   # a Dataset, or (X, y): then all rows are trained on
    line.coefficients                                     # {"age": -0.31, "bmi": 5.2, ...} in the columns' own units
    line.standardized                                     # the same for inputs of variance 1: which column matters
    line.predict(rows), line.evaluate("test")

A penalty acts on the standardised columns, the intercept is free. All is computed in float64 on the host.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from derin.data.warning import DataWarning
from derin.errors import DataError, SpecError
from derin.models.design import Design, design_of
from derin.spec import Spec

__all__ = ["Fitted", "LinearRegression", "LogisticRegression", "SoftmaxRegression"]

ROWS = 65536  # read at once: data on disk need not fit into memory
HELD = 2**25  # numbers kept as float64 between the steps of L-BFGS: 256 MiB
SINGULAR = 1e-12  # of the largest eigenvalue: columns are float32, so a copy of one leaves about 1e-14


class _Regression(Spec):
    """What the three have: the penalty, and `fit`.

    `l2` adds l2 |w|^2 / 2 to the mean loss, `per_row` divides it by the number of training rows: the course's
    lambda / m (S1.39), and scikit-learn's Ridge(alpha=l2) or LogisticRegression(C=1/l2). Without `standardize` the
    columns are taken in their own units, and the penalty acts on those.
    """

    l2: float = 0.0
    per_row: bool = True
    standardize: bool = True

    def check(self) -> None:
        for name in ("l1", "l2"):
            if not 0 <= getattr(self, name, 0.0) < np.inf:
                raise SpecError(f"{type(self).__name__}.{name} must be 0 or more, got {getattr(self, name)}.")

    def fit(self, data: Any) -> Fitted:
        """The best weights for the training rows of a Dataset, or for all rows of (X, y). Raises DataError."""
        from derin.data import Dataset, load

        dataset = data if isinstance(data, Dataset) else load(data, valid=0, test=0)
        targets = dataset.schema.targets
        if len(targets) != 1:
            raise DataError(f"{type(self).__name__} predicts one target; the data have {len(targets)}.")
        if targets[0].kind == "number" and targets[0].width > 1:
            raise DataError(f"{type(self).__name__} predicts one number; y has {targets[0].width}: give one column.")
        self._takes(targets[0])
        if len(dataset.train.x) == 0:
            raise DataError("there are no training rows.")
        design = design_of(dataset.schema.inputs, self.standardize)
        weight, bias = self._solved(_Rows(design, dataset.train.x, dataset.train.y, targets[0]))
        return Fitted(self, dataset.schema, design, weight, bias, dataset)

    def _takes(self, target: Any) -> None:
        raise NotImplementedError

    def _solved(self, rows: _Rows) -> tuple[np.ndarray, np.ndarray]:
        """-> weight [outputs, columns], bias [outputs]"""
        raise NotImplementedError

    def _strength(self, given: float, rows: int) -> float:
        return given / rows if self.per_row else given


class LinearRegression(_Regression):
    """The line, plane, ... of least squares, with ridge (l2) and lasso (l1). S0.06, S0.07, S0.16, S0.24, S1.39, S1.40.

    It minimises the mean of (y - wx - b)^2 / 2, plus l2 |w|^2 / 2 + l1 |w|, both over m with `per_row`: S1.39's
    1/2m form. scikit-learn's Ridge(alpha) is l2=alpha, its Lasso(alpha) is l1=alpha with per_row=False.

    solver: "exact" is the normal equation w = (X'X + l2)^-1 X'y; where X'X has no inverse, the weights of least norm,
    with a warning. With l1 it takes accelerated proximal steps (FISTA, Beck & Teboulle 2009, doi:10.1137/080716542).
    "gradient descent" (S0.17, S0.18) takes plain ones from 0, of size `learning_rate` (None: the largest safe one),
    until the weights move no more or `steps` are done.

    >>> import numpy as np
    >>> X = np.array([[50.0], [60.0], [70.0], [80.0], [100.0]])             # S0.06
    >>> line = LinearRegression().fit((X, np.array([400.0, 450.0, 500.0, 550.0, 650.0])))
    >>> {name: round(w, 3) for name, w in line.coefficients.items()}, round(line.intercept, 2)
    ({'x0': 5.0}, 150.0)
    >>> line.predict(np.array([[120.0]])).round(2).tolist()
    [750.0]
    """

    l1: float = 0.0
    solver: Literal["exact", "gradient descent"] = "exact"
    learning_rate: float | None = None
    steps: int = 100_000

    def check(self) -> None:
        super().check()
        if self.learning_rate is not None and not 0 < self.learning_rate < np.inf:
            raise SpecError(f"LinearRegression.learning_rate must be above 0, got {self.learning_rate}.")
        if self.steps < 1:
            raise SpecError(f"LinearRegression.steps must be at least 1, got {self.steps}.")

    def _takes(self, target: Any) -> None:
        if target.kind != "number":
            fits = "LogisticRegression" if target.kind == "binary" else "SoftmaxRegression"
            raise DataError(
                f"LinearRegression predicts numbers, and {target.name!r} has classes: take {fits}, or load the data "
                "with task='number'."
            )

    def _solved(self, rows: _Rows) -> tuple[np.ndarray, np.ndarray]:
        gram, cross, x_mean, y_mean = rows.moments()
        l1, l2 = self._strength(self.l1, rows.n), self._strength(self.l2, rows.n)
        if self.l1 == 0 and self.solver == "exact":
            w = _normal_equation(gram, cross, l2)
        else:
            w = self._descended(gram + l2 * np.eye(len(gram)), cross, l1)
        return w[None], np.array([y_mean - x_mean @ w])

    def _descended(self, gram: np.ndarray, cross: np.ndarray, l1: float) -> np.ndarray:
        """Proximal gradient steps on w'Gw / 2 - c'w + l1 |w|: ISTA, or with momentum FISTA."""
        largest = float(np.linalg.eigvalsh(gram)[-1]) if len(gram) else 0.0
        rate = self.learning_rate or 1 / max(largest, 1e-300)
        if rate * largest > 2:
            raise SpecError(
                f"LinearRegression.learning_rate={rate:g} is too large for these columns: steps grow above "
                f"{2 / largest:.3g}. Leave it out for the largest safe one."
            )
        momentum = self.solver == "exact"
        w = ahead = np.zeros_like(cross)
        t = 1.0
        for _ in range(self.steps):
            stepped = ahead - rate * (gram @ ahead - cross)
            new = np.sign(stepped) * np.maximum(np.abs(stepped) - rate * l1, 0)
            moved = new - w
            if not momentum:
                ahead = new
            elif (ahead - new) @ moved > 0:  # O'Donoghue & Candes 2015: momentum that points uphill starts again
                t, ahead = 1.0, new
            else:
                t, before = (1 + np.sqrt(1 + 4 * t * t)) / 2, t
                ahead = new + (before - 1) / t * moved
            w = new
            if np.abs(moved).max(initial=0) <= 1e-12 * max(1e-300, np.abs(w).max(initial=0)):
                return w
        if self.solver == "exact" or self.learning_rate is None:
            warnings.warn(
                f"LinearRegression: {self.steps:,} steps were not enough; the weights still move. Columns that depend "
                "on each other are slow: give l2, or more steps.",
                DataWarning,
                stacklevel=5,
            )
        return w


class LogisticRegression(_Regression):
    """The probability of the second of two classes is sigmoid(wx + b). S0.25, S0.28 to S0.33.

    It minimises the mean cross-entropy plus l2 |w|^2 / 2m, by L-BFGS to the optimum. The default is scikit-learn's
    LogisticRegression(C=1) on standardised columns. With l2=0 classes that a plane can part have no best weights:
    they grow for ever, which is said.

    >>> from derin.data import load
    >>> fitted = LogisticRegression().fit(load("breast_cancer"))
    >>> fitted.evaluate("test")["accuracy"] > 0.95
    True
    """

    l2: float = 1.0

    def _takes(self, target: Any) -> None:
        if target.kind != "binary":
            what = "a number: take LinearRegression" if target.kind == "number" else "more: take SoftmaxRegression"
            raise DataError(f"LogisticRegression predicts one of two classes, and {target.name!r} has {what}.")

    def _solved(self, rows: _Rows) -> tuple[np.ndarray, np.ndarray]:
        return _by_lbfgs(rows, 1, self._strength(self.l2, rows.n), type(self).__name__)


class SoftmaxRegression(_Regression):
    """The probabilities of several classes are softmax(Wx + b); of two it is logistic regression, S4.16.

    It minimises the mean cross-entropy plus l2 |W|^2 / 2m, by L-BFGS to the optimum. The default is scikit-learn's
    LogisticRegression(C=1) on standardised columns. Weights for each class by name: `coefficients[label][column]`.

    >>> from derin.data import load
    >>> fitted = SoftmaxRegression().fit(load("digits"))
    >>> fitted.evaluate("test")["accuracy"] > 0.94
    True
    """

    l2: float = 1.0

    def _takes(self, target: Any) -> None:
        if target.kind == "number":
            raise DataError(
                f"SoftmaxRegression predicts classes, and {target.name!r} is a number: take LinearRegression."
            )

    def _solved(self, rows: _Rows) -> tuple[np.ndarray, np.ndarray]:
        classes = len(rows.target.labels)
        return _by_lbfgs(rows, classes, self._strength(self.l2, rows.n), type(self).__name__)


class Fitted:
    """What `fit` gives: coefficients by column name, and predictions for rows like those of training.

    `weight` [outputs, columns] and `bias` [outputs] are those of the columns in `design.names`, standardised if the
    regression was. y is in its own units always.
    """

    def __init__(
        self, regression: _Regression, schema: Any, design: Design, weight: np.ndarray, bias: np.ndarray, data: Any
    ) -> None:
        self.regression, self.schema, self.design = regression, schema, design
        self.weight, self.bias, self.data = weight, bias, data

    @property
    def coefficients(self) -> dict[str, Any]:
        """What one unit more of a column, in its own units, adds to the number, the logit, or each class's logit."""
        return self._named(self.design.own(self.weight))

    @property
    def standardized(self) -> dict[str, Any]:
        """The same for one standard deviation more of a column that holds numbers."""
        return self._named(self.design.own(self.weight) * self.design.scale)

    @property
    def intercept(self) -> Any:
        """The number, or the logit, where all columns are 0 in their own units; of softmax a dict by class."""
        moved = self.weight @ (self.design.shift / self.design.scale) if self.design.standardize else 0.0
        bias = self.bias - moved
        labels = self.schema.targets[0].labels if len(bias) > 1 else ()
        return {str(k): float(b) for k, b in zip(labels, bias, strict=True)} if labels else float(bias[0])

    def _named(self, weight: np.ndarray) -> dict[str, Any]:
        rows = [dict(zip(self.design.names, map(float, w), strict=True)) for w in weight]
        return rows[0] if len(rows) == 1 else dict(zip(map(str, self.schema.targets[0].labels), rows, strict=True))

    def predict_proba(self, source: Any, **reading: Any) -> np.ndarray:
        """Probabilities [n, classes] in the order of the target's labels, or numbers [n]."""
        found = [self._found(batch.x) for batch in self.schema.batches(source, **reading)]
        if not found:
            raise DataError(f"there are no rows to predict in {source!r}.")
        return np.concatenate(found)

    def predict(self, source: Any, **reading: Any) -> np.ndarray:
        """Class labels, or numbers in the target's own units.   source: a path, a frame, an array -> [n]"""
        found = self.predict_proba(source, **reading)
        return found if found.ndim == 1 else np.asarray(self.schema.targets[0].labels)[found.argmax(1)]

    def evaluate(self, source: Any = "test", **reading: Any) -> dict[str, float]:
        """rmse and r2, or accuracy and log_loss, on a part of the data or on another labelled source."""
        from derin.engine.metrics import metric

        own = isinstance(source, str) and source in self.data.parts
        pieces = [self.data.parts[source]] if own else list(self.schema.batches(source, labelled=True, **reading))
        if not sum(len(p.x) for p in pieces):
            raise DataError(f"there are no rows to evaluate in {source!r}.")
        target = self.schema.targets[0]
        found, y = np.concatenate([self._found(p.x) for p in pieces]), np.concatenate([p.y for p in pieces])
        if target.kind != "number":
            return {name: float(metric(name)(found, y)) for name in ("accuracy", "log_loss")}
        error = found - target.decode(y)
        spread = target.decode(y) - target.decode(y).mean()
        return {"rmse": float(np.sqrt((error**2).mean())), "r2": float(1 - (error**2).sum() / (spread**2).sum())}

    def _found(self, x: np.ndarray) -> np.ndarray:
        z = self.design.columns(x) @ self.weight.T + self.bias
        if self.schema.targets[0].kind == "number":
            return z[:, 0]
        return _softmax(np.concatenate([np.zeros_like(z), z], axis=1) if z.shape[1] == 1 else z)[0]

    def __repr__(self) -> str:
        several = len(self.weight) > 1
        what = f"{len(self.weight)} classes" if several else f"intercept {self.intercept:.6g}"
        lines = [f"{self.regression!r} of {self.schema.targets[0].name!r}, {what}"]
        if not several:
            wide = max(map(len, self.design.names), default=0)
            pairs = zip(self.coefficients.items(), self.standardized.values(), strict=True)
            lines += [f"  {'':<{wide}}  {'a unit':>12}  {'standardised':>12}"]
            lines += [f"  {name:<{wide}}  {w:>12.6g}  {s:>12.6g}" for (name, w), s in pairs]
        return "\n".join(lines)


class _Rows(NamedTuple):
    """The training rows, in pieces."""

    design: Design
    x: np.ndarray
    y: Any
    target: Any

    @property
    def n(self) -> int:
        return len(self.x)

    def pieces(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(columns float64 [rows, columns], y: numbers in own units or class indices)"""
        for i in range(0, self.n, ROWS):
            y = np.asarray(self.y[i : i + ROWS])
            y = self.target.decode(y) if self.target.kind == "number" else y
            yield self.design.columns(self.x[i : i + ROWS]), y

    def moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """X'X / n and X'y / n of X and y less their means, and those means."""
        d = len(self.design.names)
        x_mean, y_mean = np.zeros(d), 0.0
        for x, y in self.pieces():
            x_mean, y_mean = x_mean + x.sum(0) / self.n, y_mean + float(y.sum()) / self.n
        gram, cross = np.zeros((d, d)), np.zeros(d)
        for x, y in self.pieces():
            x = x - x_mean
            gram += x.T @ x / self.n
            cross += x.T @ (y - y_mean) / self.n
        return gram, cross, x_mean, y_mean


def _normal_equation(gram: np.ndarray, cross: np.ndarray, l2: float) -> np.ndarray:
    """(G + l2)^-1 c, through the eigenvectors; of least norm where G is singular and l2 is 0."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > SINGULAR * values.max(initial=0)
    if l2 == 0 and not kept.all():
        warnings.warn(
            f"LinearRegression: the normal equation has no single solution, {len(values)} columns say only "
            f"{int(kept.sum())} different things. These are the weights of least norm; l2 above 0 makes one the best.",
            DataWarning,
            stacklevel=5,
        )
    inverse = np.where(kept, 1 / np.where(kept, values + l2, 1), 0)
    return vectors @ (inverse * (vectors.T @ cross))


def _by_lbfgs(rows: _Rows, outputs: int, l2: float, who: str) -> tuple[np.ndarray, np.ndarray]:
    """The least mean cross-entropy + l2 |W|^2 / 2, b free."""
    from scipy.optimize import minimize

    d = len(rows.design.names)
    shape = (outputs, d + 1)
    held = list(rows.pieces()) if rows.n * d <= HELD else None

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(shape)
        loss, slope = 0.0, np.zeros(shape)
        for x, y in held or rows.pieces():
            z = x @ w[:, :d].T + w[:, d]
            share, log_sum = _softmax(np.concatenate([np.zeros_like(z), z], axis=1) if outputs == 1 else z)
            own = np.where(y == 1, z[:, 0], 0) if outputs == 1 else z[np.arange(len(z)), y]
            loss += float((log_sum - own).sum()) / rows.n
            error = share[:, 1:].copy() if outputs == 1 else share
            if outputs == 1:
                error[:, 0] -= y
            else:
                error[np.arange(len(z)), y] -= 1
            slope[:, :d] += error.T @ x / rows.n
            slope[:, d] += error.sum(0) / rows.n
        slope[:, :d] += l2 * w[:, :d]
        return loss + 0.5 * l2 * float((w[:, :d] ** 2).sum()), slope.ravel()

    options = {"maxiter": 20_000, "maxfun": 40_000, "gtol": 1e-9, "ftol": 0.0, "maxcor": 30}
    found = minimize(value, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options)
    w = found.x.reshape(shape)
    if l2 == 0 and found.fun < 1e-6:
        warnings.warn(
            f"{who}: a plane parts the classes without a mistake, so the weights grow for ever; these are where it "
            "stopped. l2 above 0 gives weights that mean something.",
            DataWarning,
            stacklevel=4,
        )
    elif np.abs(found.jac).max() > 1e-6:
        warnings.warn(f"{who}: L-BFGS did not get to the optimum ({found.message}).", DataWarning, stacklevel=4)
    return w[:, :d], w[:, d]


def _softmax(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and the logarithm of the sum of exponentials.   [n, classes] -> [n, classes], [n]"""
    most = z.max(1, keepdims=True)
    e = np.exp(z - most)
    total = e.sum(1, keepdims=True)
    return e / total, (most + np.log(total))[:, 0]
