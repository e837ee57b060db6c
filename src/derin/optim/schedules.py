"""Learning-rate schedules: a factor of the base learning rate, as a pure function of the time.

    rate = optimizer.learning_rate * schedule.factor(epoch, step, steps, epochs)

epoch and step count from 0 and may be traced; `steps` is the number of steps an epoch, `epochs` the number
planned. Names and values are those of torch.optim.lr_scheduler, with one difference: what torch gives as an
absolute rate (`eta_min`) is a factor here too, so a schedule keeps its shape while the rate is tuned.
Lengths are Scalars: another one compiles nothing anew. Cycles are in cycles.py; ReduceLROnPlateau, which
follows what is measured and not the time, in plateau.py.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from derin.errors import SpecError
from derin.optim.optimizers import require
from derin.spec import Scalar, Spec

Number = Any  # a Python number or a traced scalar
Watched = dict[str, tuple[Any, bool]]  # what an epoch has measured, by name: the value, and whether greater is better


class Schedule(Spec):
    """What every schedule has: `factor`. Only one that follows what is measured has the other four as well.

    Its memory is a pytree of arrays that the engine carries, saves and maps over the members of a population:

        memory = schedule.memory()                                # before the first epoch
        memory = schedule.after(memory, watched)                  # at the end of each
        schedule.given(memory).factor(epoch, step, steps, epochs)
    """

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        """What multiplies the base learning rate now.   four scalars -> []"""
        raise NotImplementedError(f"{type(self).__name__} has no factor(self, epoch, step, steps, epochs).")

    def memory(self) -> Any:
        """What it remembers before the first epoch; () if it is a function of the time alone."""
        return ()

    def after(self, memory: Any, watched: Watched) -> Any:
        """What it remembers after an epoch with these values."""
        return memory

    def given(self, memory: Any) -> Schedule:
        """The schedule with its memory filled in: a function of the time again."""
        return self

    def monitors(self) -> tuple[str, ...]:
        """The names of the values that `after` looks at."""
        return ()


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
        t, _ = now(self.by, epoch, step, steps, epochs)
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
        t, _ = now(self.by, epoch, step, steps, epochs)
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
        t, _ = now(self.by, epoch, step, steps, epochs)
        drops = jnp.floor_divide(t, self.step_size)  # exact; compiled, floor(47 * (1 / 47)) would be 0
        return jnp.power(jnp.float32(self.gamma), drops)


class MultiStepLR(Schedule):
    """`gamma` times lower at each of the `milestones`, in epochs or steps.   S1.60

    >>> [float(MultiStepLR((1, 4), gamma=0.5).factor(e, 0, 1, 6)) for e in range(6)]
    [1.0, 0.5, 0.5, 0.5, 0.25, 0.25]
    """

    milestones: tuple[Scalar, ...]
    gamma: Scalar = 0.1
    by: Literal["epoch", "step"] = "epoch"

    def check(self) -> None:
        require_times(self, "milestones")
        require_factor(self, "gamma")

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        t, _ = now(self.by, epoch, step, steps, epochs)
        passed = sum((jnp.float32(t >= m) for m in self.milestones), start=jnp.float32(0))
        return jnp.power(jnp.float32(self.gamma), passed)


class ExponentialLR(Schedule):
    """`gamma` times lower after every epoch or step.   S1.61

    >>> [float(ExponentialLR(0.5).factor(e, 0, 1, 4)) for e in range(4)]
    [1.0, 0.5, 0.25, 0.125]
    """

    gamma: Scalar
    by: Literal["epoch", "step"] = "epoch"

    def check(self) -> None:
        require_factor(self, "gamma")

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        t, _ = now(self.by, epoch, step, steps, epochs)
        return jnp.power(jnp.float32(self.gamma), t)


class PolynomialLR(Schedule):
    """(1 - t / total_iters) to the `power`, and 0 from `total_iters` epochs or steps on.   S1.61

    `total_iters=None` is the whole run.

    >>> [float(PolynomialLR(4, power=2).factor(e, 0, 1, 6)) for e in range(6)]
    [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """

    total_iters: Scalar | None = 5.0
    power: Scalar = 1.0
    by: Literal["epoch", "step"] = "epoch"

    def check(self) -> None:
        require(self, "total_iters", lambda v: 0 < v < math.inf, "above 0 (or none: the whole run)")
        require(self, "power", lambda v: 0 < v < math.inf, "above 0")

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        t, all_of_it = now(self.by, epoch, step, steps, epochs)
        total = all_of_it if self.total_iters is None else self.total_iters
        left = jnp.maximum(total - t, 0) / total  # 1 - t / total would lose digits near the end
        return jnp.power(left, self.power)


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
        t, all_of_it = now(self.by, epoch, step, steps, epochs)
        half = all_of_it if self.T_max is None else self.T_max
        share = jnp.mod(t, 2 * half) / half  # float32 has no digits left for the cosine of a large number
        return self.end_factor + (1 - self.end_factor) * half_cosine(share)


class FlatCosine(Schedule):
    """The base rate for the first `flat` share of all steps, then half a cosine down to 0, step by step.

    >>> [round(float(FlatCosine(0.5).factor(0, s, 8, 1)), 4) for s in range(8)]
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.8536, 0.5, 0.1464]
    """

    flat: Scalar = 0.5

    def check(self) -> None:
        require(self, "flat", lambda v: 0 <= v < 1, "a share of the run in [0, 1)")

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        t, all_of_it = now("step", epoch, step, steps, epochs)
        share = jnp.clip((t / all_of_it - self.flat) / (1 - self.flat), 0, 1)
        return half_cosine(share)


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
        t, all_of_it = now("step", epoch, step, steps, epochs)
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
        begin = self.length * _unit(self.by, steps)
        rising = _line(self.start_factor, 1.0, step / jnp.maximum(begin, 1e-6))
        return jnp.where(step < begin, rising, _later(self.then, begin, steps * epochs, step, steps))

    def memory(self) -> Any:
        return self.then.memory()

    def after(self, memory: Any, watched: Watched) -> Any:
        return self.then.after(memory, watched)

    def given(self, memory: Any) -> Warmup:
        return self.replace(then=self.then.given(memory)) if self.monitors() else self

    def monitors(self) -> tuple[str, ...]:
        return self.then.monitors()


class _Several(Schedule):
    """What ChainedScheduler and SequentialLR share: each of their schedules has a memory of its own."""

    schedulers: tuple[Schedule, ...]

    def check(self) -> None:
        if not self.schedulers:
            raise SpecError(f"{type(self).__name__} needs at least one schedule: {type(self).__name__}((StepLR(30),)).")

    def memory(self) -> Any:
        return tuple(s.memory() for s in self.schedulers)

    def after(self, memory: Any, watched: Watched) -> Any:
        return tuple(s.after(m, watched) for s, m in zip(self.schedulers, memory, strict=True))

    def given(self, memory: Any) -> Schedule:
        if not self.monitors():
            return self
        return self.replace(schedulers=tuple(s.given(m) for s, m in zip(self.schedulers, memory, strict=True)))

    def monitors(self) -> tuple[str, ...]:
        return tuple(name for s in self.schedulers for name in s.monitors())


class ChainedScheduler(_Several):
    """All schedules at once: the product of their factors.   S1.65

    Equals torch's where each only multiplies the rate; torch's cosine with a floor (eta_min) adds to it, so a
    chain with one depends on the order there.

    >>> chain = ChainedScheduler((ExponentialLR(3 / 2), ExponentialLR(2 / 3)))      # the course's: a constant
    >>> [round(float(chain.factor(e, 0, 1, 3)), 4) for e in range(3)]
    [1.0, 1.0, 1.0]
    """

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        product = jnp.ones((), jnp.float32)
        for schedule in self.schedulers:
            product = product * schedule.factor(epoch, step, steps, epochs)
        return product


class SequentialLR(_Several):
    """One schedule after another, the next one beginning at each of the `milestones`, in epochs or steps.   S1.65

    Each counts time from its own beginning, and a length of None is the time until the next one's.

    >>> schedule = SequentialLR((ConstantLR(0.1, 2), CosineAnnealingLR()), milestones=(2,))
    >>> [round(float(schedule.factor(e, e, 1, 6)), 4) for e in range(6)]
    [0.1, 0.1, 1.0, 0.8536, 0.5, 0.1464]
    """

    milestones: tuple[Scalar, ...]
    by: Literal["epoch", "step"] = "epoch"

    def check(self) -> None:
        super().check()
        require_times(self, "milestones")
        if len(self.milestones) != len(self.schedulers) - 1:
            raise SpecError(
                f"SequentialLR.milestones must be the {len(self.schedulers) - 1} times at which the second and later "
                f"schedules begin, got {len(self.milestones)}: {self.milestones}."
            )
        numbers = [m for m in self.milestones if isinstance(m, (int, float))]
        if numbers != sorted(numbers):
            raise SpecError(f"SequentialLR.milestones must not fall, got {self.milestones}.")

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        begins = [0.0, *(m * _unit(self.by, steps) for m in self.milestones)]
        ends = [*begins[1:], steps * epochs]
        factor = jnp.ones((), jnp.float32)
        for schedule, begin, end in zip(self.schedulers, begins, ends, strict=True):
            factor = jnp.where(step >= begin, _later(schedule, begin, end, step, steps), factor)
        return factor


def _later(schedule: Schedule, begin: Number, end: Number, step: Number, steps: Number) -> jax.Array:
    """The factor of a schedule whose time begins and ends at these steps."""
    since = jnp.maximum(jnp.float32(step) - begin, 0)
    left = jnp.maximum(end - begin, 1)  # a schedule without time would divide by it
    return schedule.factor(jnp.floor_divide(since, steps), since, steps, left / steps)


def _unit(by: str, steps: Number) -> Number:
    """Steps in one epoch or in one step: what a length is counted in."""
    return steps if by == "epoch" else 1


def now(by: str, epoch: Number, step: Number, steps: Number, epochs: Number) -> tuple[jax.Array, jax.Array]:
    """(now, the end) in epochs or in steps, as float32: whole numbers are exact up to 16.7 million."""
    if by == "epoch":
        return jnp.float32(epoch), jnp.float32(epochs)
    return jnp.float32(step), jnp.float32(steps) * jnp.float32(epochs)


def require_factor(spec: Spec, field: str) -> None:
    require(spec, field, lambda v: 0 <= v < math.inf, "a factor of the learning rate, 0 or more")


def require_times(spec: Spec, field: str) -> None:
    for i in range(len(getattr(spec, field))):
        require(spec, f"{field}.{i}", lambda v: 0 <= v < math.inf, "0 or more, in epochs (or steps)")


def _line(start: Scalar, end: Scalar, share: jax.Array) -> jax.Array:
    return start + (end - start) * jnp.clip(share, 0, 1)


def half_cosine(share: jax.Array) -> jax.Array:
    """1 at share 0, 0 at share 1: (1 + cos(pi share)) / 2, in a form that keeps its digits near 0."""
    return jnp.square(jnp.sin(0.5 * jnp.pi * (1 - share)))
