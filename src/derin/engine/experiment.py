"""Experiment: everything a person chooses about a training run, as one value.

Experiment(net=MLP((64,), out=3), optimizer=Adam(3e-3), epochs=50).fit(data)
"""

from __future__ import annotations

import math
import typing
from typing import Any, Literal

from derin.distributions import Distribution
from derin.errors import SpecError
from derin.nn import Loss, Module
from derin.optim import (
    Adam,
    Average,
    ClipByGlobalNorm,
    ClipByValue,
    Constant,
    Optimizer,
    Penalty,
    Schedule,
)
from derin.optim.optimizers import as_optimizer
from derin.spec import Scalar, Spec

if typing.TYPE_CHECKING:
    from derin.engine.run import Run


class EarlyStopping(Spec):
    """Stop when the monitored value has not improved for `patience` epochs; the best weights are kept.

    `monitor` is "loss", "valid_loss" or a metric's name; an improvement smaller than `min_delta` does not
    count. Concepts S1.66, S3.09.

    >>> EarlyStopping(patience=5)
    EarlyStopping(patience=5)
    """

    patience: int = 10
    min_delta: Scalar = 0.0
    monitor: str = "valid_loss"

    def check(self) -> None:
        if self.patience < 1:
            raise SpecError(f"patience must be at least 1 epoch, got {self.patience}.")
        if isinstance(self.min_delta, float) and not 0 <= self.min_delta < math.inf:
            raise SpecError(f"min_delta must be a number of 0 or more, got {self.min_delta}.")


class Experiment(Spec):
    """What is trained, by what rule, for how long. It is a value: replace(), diff, a file, a pytree.

    `loss=None` takes what fits the target: BCE with logits for two classes, cross-entropy for more, squared
    error for numbers; with several targets, `loss` may be a tuple, one for each. `batch_size` is the number
    of rows a step, 1 (online), or "full" (S0.34). `class_weights` are a weight a class, or "balanced" for
    n / (classes * rows of the class). `precision="bfloat16"` computes in bfloat16 and keeps float32 weights.
    `penalty` is on the weights its pattern names (L2, DecoupledDecay, MaxNorm, ...), or several of them. With an
    `average` (EMA, SWA) evaluation, the best weights and prediction are those of the averaged weights. `health`
    measures gradients, updates and activations layer by layer as it trains, for `run.health` and `derin.diagnose`.

    >>> from derin.nn import Linear
    >>> from derin.optim import SGD
    >>> Experiment(Linear(3), optimizer=SGD(0.1), epochs=5)
    Experiment(Linear(3), optimizer=SGD(learning_rate=0.1), epochs=5)
    """

    net: Module
    loss: Loss | tuple[Loss, ...] | None = None
    optimizer: Optimizer = Adam()
    schedule: Schedule = Constant()
    epochs: int = 20
    batch_size: int | Literal["full"] = 64
    metrics: tuple[str, ...] = ()
    early_stopping: EarlyStopping | None = None
    clip: ClipByValue | ClipByGlobalNorm | None = None
    penalty: Penalty | tuple[Penalty, ...] | None = None
    average: Average | None = None
    class_weights: tuple[Scalar, ...] | Literal["balanced"] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    health: bool = True

    def _meant(self, name: str, value: Any) -> str:
        return " Write Sequential(...)." if name == "net" and isinstance(value, tuple) else ""

    def check(self) -> None:
        if self.epochs < 1:
            raise SpecError(f"epochs must be at least 1, got {self.epochs}.")
        if self.batch_size != "full" and self.batch_size < 1:
            raise SpecError(f'batch_size must be at least 1, or "full", got {self.batch_size}.')
        weights = self.class_weights if isinstance(self.class_weights, tuple) else (1.0,)
        numbers = [w for w in weights if isinstance(w, float)]
        if any(not 0 <= w < math.inf for w in numbers) or (numbers and not any(numbers)):
            raise SpecError(f"class_weights must be numbers of 0 or more, not all 0, got {weights}.")
        if not 0 <= self.seed < 2**32:
            raise SpecError(f"seed must be a whole number from 0 to 2**32 - 1, got {self.seed}.")

    def fit(self, data: Any, **options: Any) -> Run:
        """Train on `data`; options are those of derin.fit: out, start, callbacks, progress.

        Raises DataError, ModelError, SpecError for what cannot be trained, TrainingFailed for a loss that
        is not finite.
        """
        from derin.engine.training import fit_experiment

        return fit_experiment(self, data, **options)


def experiment_of(net: Any, fields: dict[str, Any]) -> Experiment:
    """Experiment(net=net, **fields), where an optax transformation may stand for the optimizer."""
    if "optimizer" in fields and not isinstance(fields["optimizer"], Optimizer | Distribution):
        fields = fields | {"optimizer": as_optimizer(fields["optimizer"])}
    return Experiment(net=net, **fields)
