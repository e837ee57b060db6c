"""Averages of the weights over training: often a better net than the last weights, at no cost in gradients.

    Experiment(net, average=EMA(0.999))                 # every step counts, the older ones less and less
    Experiment(net, average=SWA(start=15))              # the weights at the end of each epoch after the 15th, equally

Training itself does not see the average. Evaluation, the best weights, prediction and the exported file do.
The rules are those of torch.optim.swa_utils.AveragedModel with use_buffers=True: running statistics (BatchNorm's)
are averaged like the weights. torch's default takes them from the current weights, which they fit and the average
does not: an MLP with BatchNorm on digits had test losses of 0.10 (EMA 0.99 and SWA, averaged statistics) against
0.12 (current ones), and at a large learning rate 0.86 against 1.80.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, Self

import jax
import jax.numpy as jnp

from derin.optim.optimizers import require
from derin.spec import Scalar, Spec

Tree = Any  # a pytree of arrays


class Averaged(NamedTuple):
    """An average, and what it was taken over."""

    params: Tree
    state: Tree  # running statistics: counters as they are, numbers averaged like the weights
    taken: jax.Array  # int32: how many weights are in it


class Average(Spec):
    """What every average has: which weights count, and `mixed`."""

    def at_steps(self) -> bool:
        """Whether it takes the weights in after every step, or only at the end of an epoch."""
        return True

    def counts(self, done: Any) -> jax.Array:
        """Whether the weights count after so many epochs, or steps; until some do, the average is the weights."""
        return jnp.bool_(True)

    def mixed(self, old: jax.Array, new: jax.Array, n: jax.Array) -> jax.Array:
        """The average of n + 1 arrays, from that of the first n and the last."""
        raise NotImplementedError(f"{type(self).__name__} has no mixed(self, old, new, n).")

    def begin(self, params: Tree, state: Tree) -> Averaged:
        """The average before the first step: a copy of the first weights that does not count."""
        params, state = jax.tree.map(jnp.copy, (params, state))
        return Averaged(params, state, jnp.int32(0))

    def take(self, average: Averaged, params: Tree, state: Tree, done: Any) -> Averaged:
        """The average with the weights taken in as they are after so many epochs or steps."""
        counts, n = self.counts(done), average.taken

        def one(old: jax.Array, new: jax.Array) -> jax.Array:
            if not jnp.issubdtype(new.dtype, jnp.floating):
                return new  # a counter has no mean
            return jnp.where(counts & (n > 0), self.mixed(old, new, n), new).astype(new.dtype)

        params, state = jax.tree.map(one, (average.params, average.state), (params, state))
        return Averaged(params, state, n + counts.astype(jnp.int32))


class EMA(Average):
    """Exponential moving average over the steps: decay old + (1 - decay) new, beginning with the first.   S1.42

    Equals torch's AveragedModel with get_ema_multi_avg_fn(decay). The course names the weight of the new value,
    alpha = 1 - decay = 2 / (N + 1): `EMA.from_alpha(0.5)`, `EMA.from_window(3)`.

    >>> import jax.numpy as jnp
    >>> ema = EMA.from_window(3)                                                    # S1.42's numbers
    >>> average, seen = ema.begin(jnp.zeros(()), ()), []
    >>> for step, value in enumerate((10.0, 12.0, 13.0, 15.0, 14.0), 1):
    ...     average = ema.take(average, jnp.float32(value), (), step)
    ...     seen.append(float(average.params))
    >>> seen
    [10.0, 11.0, 12.0, 13.5, 13.75]
    """

    decay: Scalar = 0.999

    def check(self) -> None:
        require(self, "decay", lambda v: 0 <= v < 1, "in [0, 1): what stays of the old average at each step")

    @classmethod
    def from_alpha(cls, alpha: float) -> Self:
        """The average in which the new value has the weight alpha."""
        return cls(1 - alpha)

    @classmethod
    def from_window(cls, n: float) -> Self:
        """The average that follows about the last n values: alpha = 2 / (n + 1)."""
        return cls.from_alpha(2 / (n + 1))

    def mixed(self, old: jax.Array, new: jax.Array, n: jax.Array) -> jax.Array:
        return old + (1 - self.decay) * (new - old)


class SWA(Average):
    """The plain mean of the weights at the ends of all epochs after the first `start`; or of all steps.   S1.47

    Stochastic weight averaging, Izmailov et al. 2018, arXiv:1803.05407: torch's AveragedModel as it comes. With
    by="step" it is Polyak's running mean, which the course's ASGD keeps from its t0 = `start` on.

    >>> import jax.numpy as jnp
    >>> swa = SWA(by="step")
    >>> average, seen = swa.begin(jnp.zeros(()), ()), []
    >>> for step, value in enumerate((2.0, 1.5, 1.2, 1.3, 1.1), 1):                 # S1.47's numbers
    ...     average = swa.take(average, jnp.float32(value), (), step)
    ...     seen.append(round(float(average.params), 4))
    >>> seen
    [2.0, 1.75, 1.5667, 1.5, 1.42]
    """

    start: Scalar = 0.0
    by: Literal["epoch", "step"] = "epoch"

    def check(self) -> None:
        require(self, "start", lambda v: 0 <= v < math.inf, f"0 or more, in {self.by}s")

    def at_steps(self) -> bool:
        return self.by == "step"

    def counts(self, done: Any) -> jax.Array:
        return jnp.asarray(done > self.start)

    def mixed(self, old: jax.Array, new: jax.Array, n: jax.Array) -> jax.Array:
        return old + (new - old) / (n + 1)
