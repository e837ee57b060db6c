"""ReduceLROnPlateau: a learning rate that falls when what is measured gets no better."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from derin.errors import SpecError
from derin.optim.optimizers import require
from derin.optim.schedules import Number, Schedule, Watched, require_factor
from derin.spec import Scalar


class PlateauMemory(NamedTuple):
    """What ReduceLROnPlateau knows at the end of an epoch."""

    factor: jax.Array  # float32: of the base learning rate, from now on
    best: jax.Array  # float32: the best value so far; nan: none yet
    bad_epochs: jax.Array  # int32: epochs since
    cooldown: jax.Array  # float32: epochs that do not count yet


class ReduceLROnPlateau(Schedule):
    """`gamma` times lower once the monitored value has not improved for more than `patience` epochs.   S1.64

    `gamma` is torch's `factor`. `monitor` is "loss", "valid_loss" or a metric's name, as in EarlyStopping, and
    torch's mode follows from it: losses and errors should fall, accuracies rise. Better is what is below
    best (1 - threshold), or above best (1 + threshold); with threshold_mode="abs", by `threshold` itself, which
    is the rule for values below 0: there torch's "rel", and this one, take a little worse for better. After a
    reduction `cooldown` epochs do not count. `min_factor` and `eps` are torch's min_lr and eps over the base
    rate; a step down that is not larger than eps is not taken.

    It may stand in a Warmup, a ChainedScheduler or a SequentialLR, where it watches from the first epoch on.

    >>> schedule = ReduceLROnPlateau(gamma=0.5, patience=1)
    >>> memory, rates = schedule.memory(), []
    >>> for loss in (0.9, 0.8, 0.8, 0.8, 0.8):
    ...     memory = schedule.after(memory, {"valid_loss": (loss, False)})
    ...     rates.append(float(schedule.given(memory).factor(0, 0, 1, 10)))
    >>> rates
    [1.0, 1.0, 1.0, 0.5, 0.5]
    """

    gamma: Scalar = 0.1
    patience: Scalar = 10.0
    threshold: Scalar = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    cooldown: Scalar = 0.0
    min_factor: Scalar = 0.0
    eps: Scalar = 1e-8
    monitor: str = "valid_loss"

    def check(self) -> None:
        require(self, "gamma", lambda v: 0 <= v < 1, "in [0, 1): what the learning rate is multiplied by")
        for field in ("patience", "cooldown"):
            require(self, field, lambda v: 0 <= v < math.inf, "0 or more, in epochs")
        for field in ("threshold", "eps"):
            require(self, field, lambda v: 0 <= v < math.inf, "0 or more")
        require_factor(self, "min_factor")

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        return jnp.ones((), jnp.float32)  # before anything was measured

    def monitors(self) -> tuple[str, ...]:
        return (self.monitor,)

    def memory(self) -> PlateauMemory:
        return PlateauMemory(jnp.float32(1), jnp.float32(jnp.nan), jnp.int32(0), jnp.float32(0))

    def after(self, memory: PlateauMemory, watched: Watched) -> PlateauMemory:
        if self.monitor not in watched:
            raise SpecError(f"ReduceLROnPlateau cannot monitor {self.monitor!r}; there is {', '.join(watched)}.")
        value, greater = watched[self.monitor]
        value = jnp.asarray(value, jnp.float32)
        sign = 1 if greater else -1
        best = jnp.where(jnp.isnan(memory.best), -sign * jnp.inf, memory.best)
        bar = best * (1 + sign * self.threshold) if self.threshold_mode == "rel" else best + sign * self.threshold
        better = value > bar if greater else value < bar
        waits = memory.cooldown > 0
        bad = jnp.where(better | waits, 0, memory.bad_epochs + 1)
        lower = jnp.maximum(memory.factor * self.gamma, self.min_factor)
        reduces = bad > self.patience
        return PlateauMemory(
            factor=jnp.where(reduces & (memory.factor - lower > self.eps), lower, memory.factor),
            best=jnp.where(better, value, memory.best),
            bad_epochs=jnp.where(reduces, 0, bad),
            cooldown=jnp.where(reduces, self.cooldown, jnp.where(waits, memory.cooldown - 1, 0)),
        )

    def given(self, memory: PlateauMemory) -> Schedule:
        return _Given(memory.factor)


class _Given(Schedule):
    """A factor that is known already."""

    value: Scalar

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        return jnp.asarray(self.value, jnp.float32)
