"""Learning-rate schedules: a factor of the base learning rate, as a pure function of the time.

    rate = optimizer.learning_rate * schedule.factor(epoch, step, steps, epochs)

epoch and step count from 0 and may be traced; `steps` is the number of steps an epoch, `epochs` the number
planned. Names and values are those of torch.optim.lr_scheduler, with one difference: what torch gives as an
absolute rate (`eta_min`) is a factor here too, so a schedule keeps its shape while the rate is tuned.
Lengths are Scalars: another one compiles nothing anew.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from derin.optim.optimizers import require
from derin.spec import Scalar, Spec

Number = Any  # a Python number or a traced scalar


class Schedule(Spec):
    """What every schedule has: `factor`."""

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        """What multiplies the base learning rate now.   four scalars -> []"""
        raise NotImplementedError(f"{type(self).__name__} has no factor(self, epoch, step, steps, epochs).")


class Constant(Schedule):
    """The base learning rate throughout.

    >>> float(Constant().factor(epoch=3, step=30, steps=10, epochs=20))
    1.0
    """

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        return jnp.ones((), jnp.float32)


class ConstantLR(Schedule):
    """`start_factor` (torch's `factor`) for `total_iters` epochs or steps, then the base rate.   S1.62

    >>> [round(float(ConstantLR(0.5, 2).factor(e, 0, 1, 4)), 4) for e in range(4)]
    [0.5, 0.5, 1.0, 1.0]
    """

    start_factor: Scalar = 1 / 3
    total_iters: Scalar = 5.0
    by: Literal["epoch", "step"] = "epoch"

    def check(self) -> None:
        require_factor(self, "start_factor")
        require(self, "total_iters", lambda v: 0 <= v < math.inf, "0 or more")

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        t, _ = _now(self.by, epoch, step, steps, epochs)
        return jnp.where(t < self.total_iters, self.start_factor, 1.0)


class LinearLR(Schedule):
    """From `start_factor` to `end_factor` in a straight line over `total_iters` epochs or steps.   S1.62

    >>> [round(float(LinearLR(0.1, 1.0, 3).factor(e, 0, 1, 5)), 4) for e in range(5)]
    [0.1, 0.4, 0.7, 1.0, 1.0]
    """

    start_factor: Scalar = 1 / 3
    end_factor: Scalar = 1.0
    total_iters: Scalar = 5.0
    by: Literal["epoch", "step"] = "epoch"

    def check(self) -> None:
        require_factor(self, "start_factor")
        require_factor(self, "end_factor")
        require(self, "total_iters", lambda v: 0 < v < math.inf, "above 0")

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        t, _ = _now(self.by, epoch, step, steps, epochs)
        return _line(self.start_factor, self.end_factor, t / self.total_iters)


class StepLR(Schedule):
    """`gamma` times lower after every `step_size` epochs or steps.   S1.60

    >>> [float(StepLR(2, gamma=0.5).factor(e, 0, 1, 6)) for e in range(6)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """

    step_size: Scalar
    gamma: Scalar = 0.1
    by: Literal["epoch", "step"] = "epoch"

    def check(self) -> None:
        require(self, "step_size", lambda v: 0 < v < math.inf, "above 0, in epochs (or steps)")
        require_factor(self, "gamma")

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        t, _ = _now(self.by, epoch, step, steps, epochs)
        drops = jnp.floor_divide(t, self.step_size)  # exact; compiled, floor(47 * (1 / 47)) would be 0
        return jnp.power(jnp.float32(self.gamma), drops)


class CosineAnnealingLR(Schedule):
    """Half a cosine from 1 down to `end_factor` in `T_max` epochs or steps.   S1.63; arXiv:1608.03983

        end_factor + (1 - end_factor) (1 + cos(pi t / T_max)) / 2

    `T_max=None` is the whole run. Past T_max it rises again, as torch's does. torch's absolute `eta_min` is
    `end_factor` times the learning rate.

    >>> [round(float(CosineAnnealingLR().factor(e, 0, 1, 4)), 4) for e in range(4)]
    [1.0, 0.8536, 0.5, 0.1464]
    """

    T_max: Scalar | None = None
    end_factor: Scalar = 0.0
    by: Literal["epoch", "step"] = "epoch"

    def check(self) -> None:
        require(self, "T_max", lambda v: 0 < v < math.inf, "above 0 (or none: the whole run)")
        require_factor(self, "end_factor")

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        t, all_of_it = _now(self.by, epoch, step, steps, epochs)
        half = all_of_it if self.T_max is None else self.T_max
        share = jnp.mod(t, 2 * half) / half  # float32 has no digits left for the cosine of a large number
        return self.end_factor + (1 - self.end_factor) * _half_cosine(share)


class FlatCosine(Schedule):
    """The base rate for the first `flat` share of all steps, then half a cosine down to 0, step by step.

    >>> [round(float(FlatCosine(0.5).factor(0, s, 8, 1)), 4) for s in range(8)]
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.8536, 0.5, 0.1464]
    """

    flat: Scalar = 0.5

    def check(self) -> None:
        require(self, "flat", lambda v: 0 <= v < 1, "a share of the run in [0, 1)")

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        t, all_of_it = _now("step", epoch, step, steps, epochs)
        share = jnp.clip((t / all_of_it - self.flat) / (1 - self.flat), 0, 1)
        return _half_cosine(share)


class CosineLog(Schedule):
    """Cosine cycles, each twice as long as the one before, from 0 up and down again, step by step.

        (1 - cos(2 pi log2(1 + (2^cycles - 1) t / T))) / 2

    Holzmüller et al. 2024, arXiv:2407.04491, where four cycles are called coslog4.

    >>> [round(float(CosineLog(cycles=1).factor(0, s, 4, 1)), 4) for s in range(4)]
    [0.0, 0.7184, 0.9304, 0.3237]
    """

    cycles: Scalar = 4.0

    def check(self) -> None:
        require(self, "cycles", lambda v: 0 < v < 24, "between 0 and 24")

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        t, all_of_it = _now("step", epoch, step, steps, epochs)
        turns = jnp.log2(1 + (2.0**self.cycles - 1) * t / all_of_it)
        return 0.5 * (1 - jnp.cos(2 * jnp.pi * turns))


class Warmup(Schedule):
    """A line from `start_factor` to 1, a little every step, for `length` epochs or steps; after it, `then`.

    `then` begins when the warm-up ends, with the time that is left: torch's
    SequentialLR([LinearLR(start_factor), then], milestones=[length]). Goyal et al. 2017, arXiv:1706.02677.

    >>> [round(float(Warmup(2, start_factor=0.5, by="step").factor(0, s, 4, 1)), 4) for s in range(4)]
    [0.5, 0.75, 1.0, 1.0]
    >>> schedule = Warmup(1, then=CosineAnnealingLR())                   # one epoch up, the others down
    >>> [round(float(schedule.factor(e, 10 * e, 10, 5)), 4) for e in range(5)]
    [0.01, 1.0, 0.8536, 0.5, 0.1464]
    """

    length: Scalar
    then: Schedule = Constant()
    start_factor: Scalar = 0.01
    by: Literal["epoch", "step"] = "epoch"

    def check(self) -> None:
        require(self, "length", lambda v: 0 <= v < math.inf, "0 or more, in epochs (or steps)")
        require_factor(self, "start_factor")

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        in_epochs = self.by == "epoch"
        length_steps = self.length * steps if in_epochs else self.length
        length_epochs = self.length if in_epochs else self.length / steps
        since = jnp.maximum(jnp.float32(step) - length_steps, 0)
        left = jnp.maximum(epochs - length_epochs, 1 / steps)
        rising = _line(self.start_factor, 1.0, step / jnp.maximum(length_steps, 1e-6))
        after = self.then.factor(jnp.floor_divide(since, steps), since, steps, left)
        return jnp.where(step < length_steps, rising, after)


def _now(by: str, epoch: Number, step: Number, steps: Number, epochs: Number) -> tuple[jax.Array, jax.Array]:
    """(now, the end) in epochs or in steps, as float32: whole numbers are exact up to 16.7 million."""
    if by == "epoch":
        return jnp.float32(epoch), jnp.float32(epochs)
    return jnp.float32(step), jnp.float32(steps) * jnp.float32(epochs)


def require_factor(spec: Spec, field: str) -> None:
    require(spec, field, lambda v: 0 <= v < math.inf, "a factor of the learning rate, 0 or more")


def _line(start: Scalar, end: Scalar, share: jax.Array) -> jax.Array:
    return start + (end - start) * jnp.clip(share, 0, 1)


def _half_cosine(share: jax.Array) -> jax.Array:
    """1 at share 0, 0 at share 1."""
    return 0.5 * (1 + jnp.cos(jnp.pi * share))
