"""Schedules that rise as well as fall: warm restarts, cycles, one cycle.

torch moves momentum against the learning rate in CyclicLR and OneCycleLR unless told `cycle_momentum=False`.
Here a schedule is a factor of the learning rate and nothing else: momentum stays what the optimiser says, and
the rates are torch's with either setting.
"""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from derin.optim.optimizers import require
from derin.optim.schedules import Number, Schedule, half_cosine, now, require_factor
from derin.spec import Scalar


class CosineAnnealingWarmRestarts(Schedule):
    """Half a cosine from 1 to `end_factor` in `T_0` epochs or steps, then again, each `T_mult` times as long.

    Loshchilov & Hutter 2017 (SGDR), arXiv:1608.03983. torch's absolute `eta_min` is `end_factor` times the
    learning rate; torch's step(epoch + i / iters) is `by="step"` with T_0 in steps.

    >>> schedule = CosineAnnealingWarmRestarts(2, T_mult=2)
    >>> [round(float(schedule.factor(e, 0, 1, 8)), 4) for e in range(7)]
    [1.0, 0.5, 1.0, 0.8536, 0.5, 0.1464, 1.0]
    """

    T_0: Scalar
    T_mult: int = 1
    end_factor: Scalar = 0.0
    by: Literal["epoch", "step"] = "epoch"

    def check(self) -> None:
        require(self, "T_0", lambda v: 0 < v < math.inf, "above 0, in epochs (or steps)")
        require(self, "T_mult", lambda v: v >= 1, "at least 1")
        require_factor(self, "end_factor")

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        t, _ = now(self.by, epoch, step, steps, epochs)
        if self.T_mult == 1:
            share = jnp.mod(t, self.T_0) / self.T_0
        else:
            # T_0 (1 + m + m^2 + ...): a table, for a logarithm in float32 would miss the beginnings by one
            cycles = math.ceil(32 / math.log2(self.T_mult)) + 1
            lengths = np.array([float(self.T_mult**k) for k in range(cycles)])
            begins = self.T_0 * jnp.asarray(np.cumsum(lengths) - lengths, jnp.float32)
            cycle = jnp.sum(t >= begins) - 1
            share = (t - begins[cycle]) / (self.T_0 * jnp.asarray(lengths, jnp.float32)[cycle])
        return self.end_factor + (1 - self.end_factor) * half_cosine(share)


class CyclicLR(Schedule):
    """Straight up from `base_factor` to `max_factor` and down again, over and over.   S1.64; arXiv:1506.01186

    `step_size_up` epochs or steps up, `step_size_down` down (None: as many). mode "triangular": always as high;
    "triangular2": half as high each cycle; "exp_range": gamma^t as high. torch's absolute base_lr and max_lr are
    the factors times the learning rate. Momentum is not cycled: torch's cycle_momentum=False.

    >>> [round(float(CyclicLR(0.0, step_size_up=2).factor(0, s, 9, 1)), 4) for s in range(6)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.5]
    """

    base_factor: Scalar = 0.1
    max_factor: Scalar = 1.0
    step_size_up: Scalar = 2000.0
    step_size_down: Scalar | None = None
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    gamma: Scalar = 1.0
    by: Literal["epoch", "step"] = "step"

    def check(self) -> None:
        require_factor(self, "base_factor")
        require_factor(self, "max_factor")
        require(self, "step_size_up", lambda v: 0 < v < math.inf, "above 0, in steps (or epochs)")
        require(self, "step_size_down", lambda v: 0 < v < math.inf, "above 0, in steps (or epochs), or none")
        require_factor(self, "gamma")

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        t, _ = now(self.by, epoch, step, steps, epochs)
        up = self.step_size_up
        down = up if self.step_size_down is None else self.step_size_down
        within = jnp.mod(t, up + down)
        height = jnp.where(within <= up, within / up, (up + down - within) / down)
        if self.mode == "triangular2":
            height = height * jnp.exp2(-jnp.floor_divide(t, up + down))
        elif self.mode == "exp_range":
            height = height * jnp.power(jnp.float32(self.gamma), t)
        return self.base_factor + (self.max_factor - self.base_factor) * height


class OneCycleLR(Schedule):
    """Up from 1 / div_factor to 1 in the first `pct_start` of the run, then down to almost nothing.

    The learning rate is the highest one, torch's max_lr; the last is the first over `final_div_factor`.
    `total_steps=None` is the whole run. `three_phase` falls as long as it rose, to the first rate, and then to
    the last. Momentum is not cycled: torch's cycle_momentum=False. Smith & Topin 2018, arXiv:1708.07120.

    >>> [round(float(OneCycleLR(pct_start=0.5, div_factor=10).factor(0, s, 6, 1)), 4) for s in range(6)]
    [0.1, 0.55, 1.0, 0.75, 0.25, 0.0]
    """

    total_steps: Scalar | None = None
    pct_start: Scalar = 0.3
    anneal_strategy: Literal["cos", "linear"] = "cos"
    div_factor: Scalar = 25.0
    final_div_factor: Scalar = 1e4
    three_phase: bool = False
    by: Literal["epoch", "step"] = "step"

    def check(self) -> None:
        require(self, "total_steps", lambda v: 1 < v < math.inf, "above 1 (or none: the whole run)")
        top = 0.5 if self.three_phase else 1.0
        require(self, "pct_start", lambda v: 0 <= v <= top, f"a share of the run in [0, {top:g}]")
        require(self, "div_factor", lambda v: 0 < v < math.inf, "above 0: the first rate is 1 / div_factor")
        require(self, "final_div_factor", lambda v: 0 < v < math.inf, "above 0: what the first rate is divided by")

    def factor(self, epoch: Number, step: Number, steps: Number, epochs: Number) -> jax.Array:
        t, all_of_it = now(self.by, epoch, step, steps, epochs)
        total = all_of_it if self.total_steps is None else self.total_steps
        first = 1 / self.div_factor
        ends, values = [self.pct_start * total - 1], [first, 1.0]
        if self.three_phase:
            ends, values = [*ends, 2 * self.pct_start * total - 2], [*values, first]
        ends, values = [*ends, total - 1], [*values, first / self.final_div_factor]
        begins = [0.0, *ends[:-1]]
        factor = jnp.zeros((), jnp.float32)
        for i in reversed(range(len(ends))):  # the first phase that is not over, or else the last
            share = jnp.clip((t - begins[i]) / jnp.maximum(ends[i] - begins[i], 1e-6), 0, 1)
            fall = half_cosine(share) if self.anneal_strategy == "cos" else 1 - share
            phase = values[i + 1] + (values[i] - values[i + 1]) * fall
            factor = phase if i == len(ends) - 1 else jnp.where(t <= ends[i], phase, factor)
        return factor
