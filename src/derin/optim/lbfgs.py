"""L-BFGS: Newton's direction from the memory of the last gradients."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from derin.errors import SpecError
from derin.optim.base import NOT_NEGATIVE, Optimizer, Tree, first_step, require
from derin.spec import Scalar


class LBFGSState(NamedTuple):
    """What is remembered of n weights, as vectors. The rows of the memories are used in turn."""

    step: jax.Array  # int32: steps taken
    prev_grad: jax.Array  # [n] the last gradient
    moved: jax.Array  # [n] the last step
    pairs: jax.Array  # int32: pairs remembered so far
    moves: jax.Array  # [history_size, n] steps s
    changes: jax.Array  # [history_size, n] changes of the gradient y over these steps
    ro: jax.Array  # [history_size] 1 / y's
    scale: jax.Array  # [] y's / y'y of the newest pair, the first guess of the inverse Hessian


class LBFGS(Optimizer):
    """Newton's method with an inverse Hessian guessed from the last gradients.   Nocedal & Wright, algorithm 7.4

        s = w - w_before,   y = g - g_before,   kept in the last `history_size` pairs if y's > 1e-10
        d = -H g,   H the BFGS inverse Hessian of these pairs (two loops over them)
        w <- w + learning_rate d          (the first step: at most learning_rate long, summed over weights)

    For full batches, `batch_size="full"`, and a run refuses others: gradients of different rows say nothing
    about curvature. One epoch is one step. For smooth problems of few weights: 30 epochs of a logistic
    regression on 30 columns did what 3,000 of gradient descent did. There is no line search; where the loss
    rises, lower the learning rate. Nothing moves any more when the largest gradient is below
    `tolerance_grad`, or the slope along d above -tolerance_change. It keeps 2 history_size + 2 numbers a
    weight.

    Equals torch.optim.LBFGS with max_iter=1 and a `step` an epoch (which is one `step` of as many
    iterations, if torch does not stop early). Raises SpecError for values that cannot work.

    >>> import jax, jax.numpy as jnp
    >>> bowl = jax.grad(lambda w: 50 * w[0] ** 2 + w[1] ** 2 + w[0] * w[1])      # 100 times steeper one way
    >>> rule, w = LBFGS(history_size=5), jnp.array([1.0, 1.0])
    >>> state = rule.init(w)
    >>> for _ in range(12):
    ...     update, state = rule.update(bowl(w), state, w, rule.learning_rate)
    ...     w = w + update
    >>> bool(jnp.abs(w).max() < 1e-6)
    True
    """

    learning_rate: Scalar = 1.0
    tolerance_grad: Scalar = 1e-7
    tolerance_change: Scalar = 1e-9
    history_size: int = 100

    elementwise: ClassVar[bool] = False
    full_batches: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        require(self, "tolerance_grad", *NOT_NEGATIVE)
        require(self, "tolerance_change", *NOT_NEGATIVE)
        if self.history_size < 1:
            raise SpecError(f"LBFGS.history_size must be 1 or more, often 10 to 100, got {self.history_size}.")

    def init(self, params: Tree) -> LBFGSState:
        n = ravel_pytree(params)[0].size
        rows = (self.history_size, n)
        return LBFGSState(
            step=first_step(),
            prev_grad=jnp.zeros(n),
            moved=jnp.zeros(n),
            pairs=first_step(),
            moves=jnp.zeros(rows),
            changes=jnp.zeros(rows),
            ro=jnp.zeros(self.history_size),
            scale=jnp.ones(()),
        )

    def update(self, grads: Tree, state: LBFGSState, params: Tree, learning_rate: Scalar) -> tuple[Tree, LBFGSState]:
        g, as_tree = ravel_pytree(grads)
        there = jnp.max(jnp.abs(g)) <= self.tolerance_grad
        first = state.step == 0
        memory = self._remember(state, g, ~first & ~there)
        direction = -_inverse_hessian_times(memory, g)
        size = learning_rate * jnp.where(first, jnp.minimum(1, 1 / jnp.sum(jnp.abs(g))), 1)
        stays = there | (_dot(g, direction) > -self.tolerance_change)
        move = jnp.where(stays, 0, size * direction)
        state = memory._replace(
            step=state.step + ~there,
            prev_grad=jnp.where(there, state.prev_grad, g),
            moved=jnp.where(there, state.moved, move),
        )
        return as_tree(move), state

    def _remember(self, state: LBFGSState, g: jax.Array, allowed: jax.Array) -> LBFGSState:
        """The newest pair takes the place of the oldest, if the loss curves upwards along it."""
        s, y = state.moved, g - state.prev_grad
        ys = _dot(y, s)
        new = allowed & (ys > 1e-10)
        at = state.pairs % self.history_size
        put = lambda memory, row: memory.at[at].set(jnp.where(new, row, memory[at]))  # noqa: E731
        return state._replace(
            pairs=state.pairs + new,
            moves=put(state.moves, s),
            changes=put(state.changes, y),
            ro=put(state.ro, 1 / jnp.where(new, ys, 1)),
            scale=jnp.where(new, ys / jnp.where(new, _dot(y, y), 1), state.scale),
        )


def _inverse_hessian_times(memory: LBFGSState, g: jax.Array) -> jax.Array:
    """H g by the two loops over the pairs: from the newest to the oldest, and back.   g: [n] -> [n]"""
    size = memory.ro.shape[0]
    used = jnp.minimum(memory.pairs, size)
    s, y, ro = memory.moves, memory.changes, memory.ro

    def back(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        q, alphas = carry
        at = (memory.pairs - 1 - i) % size
        alpha = ro[at] * _dot(s[at], q)
        return q - alpha * y[at], alphas.at[at].set(alpha)

    def forth(i: jax.Array, r: jax.Array) -> jax.Array:
        at = (memory.pairs - used + i) % size
        return r + s[at] * (alphas[at] - ro[at] * _dot(y[at], r))

    q, alphas = lax.fori_loop(0, used, back, (g, jnp.zeros_like(ro)))
    return lax.fori_loop(0, used, forth, memory.scale * q)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.vdot(a, b, precision="highest")  # a GPU would round to ten bits
