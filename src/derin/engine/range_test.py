"""The learning-rate range test: steps with a rate that grows from tiny to far too large, and the loss of each."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derin.engine import epoch as engine
from derin.engine.epoch import Carry, Rows, Task
from derin.engine.experiment import Experiment, experiment_of
from derin.engine.programs import program
from derin.engine.task import task_of
from derin.engine.training import as_dataset, counts_of, first_carry
from derin.errors import SpecError
from derin.optim import ExponentialLR

SMOOTH = 0.025  # of all steps: the width of the bell curve that the losses are smoothed with
BLOWN_UP = 4.0  # times the smallest loss: what comes after says nothing


class RangeTest(NamedTuple):
    """Rates, the loss at each, and the rate to begin with. `print(test)` draws the curve.

    `suggestion` is where the smoothed loss falls fastest; None if it never fell. The largest rate that works is
    a few times higher: where the curve turns up.
    """

    rates: np.ndarray  # [steps], up to where the loss blew up
    losses: np.ndarray  # [steps] of each batch, before its step
    smoothed: np.ndarray  # [steps]
    suggestion: float | None

    def __str__(self) -> str:
        return self.curve()

    def curve(self, lines: int = 24, width: int = 48) -> str:
        """The smoothed loss over the rate as text: a line a rate, the longer the higher."""
        shown = np.unique(np.linspace(0, len(self.rates) - 1, min(lines, len(self.rates))).round().astype(int))
        at = self._place()
        if at is not None:
            shown = np.unique(np.append(shown, at))
        if not len(shown):
            return "The loss was not finite at the first step already: look at the data and the net."
        low, high = self.smoothed[shown].min(initial=math.inf), self.smoothed[shown].max(initial=0)
        text = ["learning rate   loss"]
        for i in shown:
            bar = "#" * (1 + round(float((self.smoothed[i] - low) / max(high - low, 1e-30)) * (width - 1)))
            mark = "  <- suggestion" if i == at else ""
            text.append(f"{self.rates[i]:>13.2e}   {self.smoothed[i]:<9.4g} {bar}{mark}")
        if at is None:
            text.append("The loss never fell: begin lower, or look at the data and the net.")
        return "\n".join(text)

    def _place(self) -> int | None:
        return None if self.suggestion is None else int(np.abs(self.rates - self.suggestion).argmin())


def lr_range_test(
    what: Any, data: Any, *, low: float = 1e-7, high: float = 10.0, steps: int = 200, **fields: Any
) -> RangeTest:
    """Train fresh weights for `steps` batches, the rate growing from `low` to `high` by the same factor each.

    what: an Experiment, or a net with fields as for derin.fit; nothing given is changed, and no file written. Its
    optimiser, loss, penalty and batch size are used, its schedule, rate and early stopping are not.
    Smith 2015, arXiv:1506.01186; the suggestion is fastai's "steepest".

    >>> import derin, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> found = lr_range_test(derin.nn.Linear(1), (X, X @ [1.0, 2.0, 3.0]), optimizer=derin.optim.SGD(), steps=100)
    >>> 0.001 < found.suggestion < 1
    True
    """
    if not 0 < low < high < math.inf:
        raise SpecError(f"lr_range_test needs 0 < low < high, got low={low} and high={high}.")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 10:
        raise SpecError(f"lr_range_test needs at least 10 steps, got steps={steps!r}.")
    if isinstance(what, Experiment):
        experiment = what.replace(**fields)
    else:
        experiment = experiment_of(what, fields)
    factor = (high / low) ** (1 / (steps - 1))
    experiment = experiment.replace(
        optimizer=experiment.optimizer.replace(learning_rate=low),
        schedule=ExponentialLR(factor, by="step"),
        early_stopping=None,
        average=None,
        metrics=(),
    )
    data = as_dataset(data)
    task = task_of(experiment, data.schema, data.train.x, counts_of(data))
    key = jax.random.key(experiment.seed)
    order, weights = _batches(task, len(data.train.x), key, steps)
    rows, places = np.unique(order, return_inverse=True)
    ys = data.train.y if isinstance(data.train.y, tuple) else (data.train.y,)
    seen = Rows(jnp.asarray(data.train.x[rows]), tuple(jnp.asarray(y[rows]) for y in ys))
    carry = first_carry(task, experiment.seed, data.train.x)
    args = (task.structure_only(), carry, seen, jnp.asarray(places.reshape(order.shape), jnp.int32), weights, key)
    carry, losses = program(_steps, *args, static=(len(data.train.x),))(*args)
    broken = int(carry.broken_at)
    return _judged(low * factor ** np.arange(steps), np.asarray(losses, np.float64), broken)


def _batches(task: Task, n: int, key: Any, steps: int) -> tuple[np.ndarray, Any]:
    """The rows of the first `steps` batches of a run, and their weights.   -> [steps, batch], [steps, batch]"""
    orders: list[np.ndarray] = []
    compiled = task.structure_only()
    while sum(map(len, orders)) < steps:
        args = (compiled, np.int32(len(orders)), key)
        orders.append(np.asarray(program(_order, *args, static=(n,))(*args)))
    weight = engine.row_weights(n, orders[0].shape)
    whole = np.ones(orders[0].shape, np.float32) if weight is None else np.asarray(weight)
    return np.concatenate(orders)[:steps], np.tile(whole, (len(orders), 1))[:steps]


def _order(n: int, task: Task, number: jax.Array, key: jax.Array) -> jax.Array:
    return engine.epoch_order(task, number, n, key)


def _steps(n: int, task: Task, carry: Carry, rows: Rows, order: jax.Array, weights: jax.Array, key: jax.Array) -> Any:
    size = (engine.epoch_order(task, jnp.int32(0), n, key).shape[0], n)
    return engine.steps(task, carry, rows, order, weights, key, jnp.int32(1), size)


def _judged(rates: np.ndarray, losses: np.ndarray, broken: int) -> RangeTest:
    """Cut where the loss blows up; the suggestion is where the smoothed one falls fastest."""
    n = _before_blow_up(losses if broken < 0 else losses[:broken])
    width = max(1.0, SMOOTH * len(losses))  # to both sides: a running mean would come late, and suggest too much
    apart = np.arange(n)[:, None] - np.arange(n)
    kernel = np.exp(-0.5 * (apart / width) ** 2)
    smoothed = kernel @ losses[:n] / kernel.sum(1)
    suggestion = None
    lowest = int(smoothed.argmin()) if n else 0
    if lowest > 1 and smoothed[lowest] < 0.99 * smoothed[0]:
        suggestion = float(rates[int(np.gradient(smoothed[: lowest + 1]).argmin())])
    return RangeTest(rates[:n], losses[:n], smoothed, suggestion)


def _before_blow_up(losses: np.ndarray) -> int:
    """How many steps to keep: until a running mean is far above its smallest value, and above where it began."""
    mean, best, first = 0.0, math.inf, 0.0
    for i, loss in enumerate(losses):
        mean = 0.9 * mean + 0.1 * float(loss)
        now = mean / (1 - 0.9 ** (i + 1))
        first = now if i == 9 else first
        best = min(best, now)
        if not math.isfinite(now) or (i > 9 and now > max(BLOWN_UP * best, first)):
            return i
    return len(losses)
