"""Optimisers that look at the sign of a gradient and not at its size."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from derin.optim.base import (
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Optimizer,
    Tree,
    require,
    require_pair,
    running_mean,
    with_decay,
    zeros,
)
from derin.spec import Scalar


class RpropState(NamedTuple):
    prev: Tree  # the last gradient, 0 where its sign had just changed; like params
    step_size: Tree  # how far each weight goes; like params


class Rprop(Optimizer):
    """Each weight has its own step, which grows while the gradient keeps its sign.   Riedmiller & Braun 1993

        s <- s eta_plus     where g and the last g have the same sign    (at most step_sizes[1])
        s <- s eta_minus    where they have not, and there g <- 0        (at least step_sizes[0])
        w <- w - s sign(g)

    For full batches: signs of noisy gradients tell nothing. `learning_rate` is the first step of every
    weight and has no part afterwards, so a schedule changes nothing. Equals torch.optim.Rprop. Raises
    SpecError for values that cannot work.

    >>> import jax.numpy as jnp
    >>> rprop, w = Rprop(learning_rate=0.1), jnp.float32(0.0)
    >>> state = rprop.init(w)
    >>> for g in (5.0, 0.01, 3.0, -2.0, -2.0):
    ...     update, state = rprop.update(jnp.float32(g), state, w, rprop.learning_rate)
    ...     print(f"{update:.3f}")
    -0.100
    -0.120
    -0.144
    -0.000
    0.072
    """

    learning_rate: Scalar = 1e-2
    etas: tuple[Scalar, ...] = (0.5, 1.2)
    step_sizes: tuple[Scalar, ...] = (1e-6, 50.0)

    def check(self) -> None:
        super().check()
        require_pair(self, "etas", POSITIVE, "(0.5, 1.2)")
        require(self, "etas.0", lambda v: v < 1, "below 1")
        require(self, "etas.1", lambda v: v > 1, "above 1")
        require_pair(self, "step_sizes", POSITIVE, "(1e-6, 50)")

    def init(self, params: Tree) -> RpropState:
        first = jax.tree.map(lambda p: jnp.zeros_like(p) + self.learning_rate, params)
        return RpropState(zeros(params), first)

    def update(self, grads: Tree, state: RpropState, params: Tree, learning_rate: Scalar) -> tuple[Tree, RpropState]:
        shrink, grow = self.etas
        smallest, largest = self.step_sizes

        def longer(s: jax.Array, g: jax.Array, last: jax.Array) -> jax.Array:
            same = jnp.sign(g) * jnp.sign(last)  # of g times last float32 would make 0 below 1e-38
            factor = jnp.where(same > 0, grow, jnp.where(same < 0, shrink, 1.0))
            return jnp.clip(s * factor, smallest, largest)

        sizes = jax.tree.map(longer, state.step_size, grads, state.prev)
        grads = jax.tree.map(lambda g, last: jnp.where(jnp.sign(g) * jnp.sign(last) < 0, 0.0, g), grads, state.prev)
        updates = jax.tree.map(lambda g, s: -jnp.sign(g) * s, grads, sizes)
        return updates, RpropState(grads, sizes)


class LionState(NamedTuple):
    exp_avg: Tree  # running mean of the gradient, like params


class Lion(Optimizer):
    """Steps of one size for every weight, along the sign of a mean gradient.   Chen et al. 2023, arXiv:2302.06675

        w <- w - learning_rate (sign(b1 m + (1 - b1) g) + weight_decay w)
        m <- b2 m + (1 - b2) g

    Its learning rate wants to be 3 to 10 times smaller than AdamW's, its weight decay as much larger. Equals
    optax.lion (PyTorch has none). Raises SpecError for values that cannot work.

    >>> import jax.numpy as jnp
    >>> lion, w = Lion(learning_rate=0.1), jnp.zeros(2)
    >>> [round(u, 4) for u in lion.update(jnp.array([5.0, -0.1]), lion.init(w), w, 0.1)[0].tolist()]
    [-0.1, 0.1]
    """

    learning_rate: Scalar = 1e-4
    betas: tuple[Scalar, ...] = (0.9, 0.99)
    weight_decay: Scalar = 0.0

    def check(self) -> None:
        super().check()
        require_pair(self, "betas", SHARE, "(0.9, 0.99)")
        require(self, "weight_decay", *NOT_NEGATIVE)

    def init(self, params: Tree) -> LionState:
        return LionState(zeros(params))

    def update(self, grads: Tree, state: LionState, params: Tree, learning_rate: Scalar) -> tuple[Tree, LionState]:
        beta1, beta2 = self.betas
        direction = running_mean(state.exp_avg, grads, beta1)
        updates = jax.tree.map(lambda d: -learning_rate * jnp.sign(d), direction)
        updates = with_decay(updates, params, learning_rate * self.weight_decay)
        return updates, LionState(running_mean(state.exp_avg, grads, beta2))
