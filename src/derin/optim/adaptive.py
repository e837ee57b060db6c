"""Optimisers that divide each gradient by how large that weight's gradients have been."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from derin.errors import SpecError
from derin.optim.base import (
    EPS,
    NOT_NEGATIVE,
    SHARE,
    Optimizer,
    Tree,
    first_step,
    require,
    running_mean,
    squares,
    with_decay,
    with_l2,
    zeros,
)
from derin.spec import Scalar


class AdagradState(NamedTuple):
    step: jax.Array  # int32: steps taken
    sum: Tree  # the sum of all squared gradients, like params


class Adagrad(Optimizer):
    """Divide by the root of the sum of all squared gradients so far.   S1.41, S1.48; Duchi et al. 2011

        G <- G + g^2
        w <- w - learning_rate / (1 + lr_decay (t - 1)) g / (sqrt(G) + eps)

    G starts at `initial_accumulator_value` and only grows, so steps only shrink: for sparse data, whose
    rare features keep large steps. `weight_decay` is L2, added to the gradient. `eps_inside` writes
    sqrt(G + eps), as Keras and optax do (there eps is 1e-7 and G starts at 0.1). Equals torch.optim.Adagrad.
    Raises SpecError for values that cannot work.

    >>> import jax.numpy as jnp
    >>> adagrad, w = Adagrad(learning_rate=1.0), jnp.float32(0.0)
    >>> state = adagrad.init(w)
    >>> for g in (5.0, 6.0, 7.0):
    ...     update, state = adagrad.update(jnp.float32(g), state, w, adagrad.learning_rate)
    ...     print(f"{state.sum:.0f} {update:.4f}")
    25 -1.0000
    61 -0.7682
    110 -0.6674
    """

    learning_rate: Scalar = 1e-2
    lr_decay: Scalar = 0.0
    weight_decay: Scalar = 0.0
    initial_accumulator_value: Scalar = 0.0
    eps: Scalar = 1e-10
    eps_inside: bool = False

    def check(self) -> None:
        super().check()
        for name in ("lr_decay", "weight_decay", "initial_accumulator_value", "eps"):
            require(self, name, *NOT_NEGATIVE)

    def init(self, params: Tree) -> AdagradState:
        start = jax.tree.map(lambda p: jnp.zeros_like(p) + self.initial_accumulator_value, params)
        return AdagradState(first_step(), start)

    def update(
        self, grads: Tree, state: AdagradState, params: Tree, learning_rate: Scalar
    ) -> tuple[Tree, AdagradState]:
        grads = with_l2(grads, params, self.weight_decay)
        total = jax.tree.map(lambda total, g: total + g * g, state.sum, grads)
        size = learning_rate / (1 + self.lr_decay * state.step.astype(jnp.float32))
        updates = jax.tree.map(lambda g, total: -size * g / _root(total, self.eps, self.eps_inside), grads, total)
        return updates, AdagradState(state.step + 1, total)


class RMSpropState(NamedTuple):
    square_avg: Tree  # running mean of the squared gradient, like params
    grad_avg: Tree  # running mean of the gradient, like params; None if not centered
    momentum_buffer: Tree  # like params; None where momentum is None


class RMSprop(Optimizer):
    """Divide by the root of the mean squared gradient of late.   S1.49; Tieleman & Hinton 2012

        G <- alpha G + (1 - alpha) g^2
        d <- momentum d + g / (sqrt(G) + eps),     w <- w - learning_rate d

    `centered` takes the variance G - mean(g)^2 in place of G (Graves 2013, arXiv:1308.0850). `momentum` is a
    number that may be traced, so its buffer exists even at 0.0; `momentum=None` keeps none. `eps_inside`
    writes sqrt(G + eps), as Keras and optax do. `weight_decay` is L2, added to the gradient. Equals
    torch.optim.RMSprop. Raises SpecError for values that cannot work.

    >>> import jax.numpy as jnp
    >>> rule, w = RMSprop(learning_rate=0.1, alpha=0.75), jnp.zeros(2)
    >>> [round(u, 4) for u in rule.update(jnp.array([8.0, -0.5]), rule.init(w), w, 0.1)[0].tolist()]
    [-0.2, 0.2]
    """

    learning_rate: Scalar = 1e-2
    alpha: Scalar = 0.99
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    momentum: Scalar | None = 0.0
    centered: bool = False
    eps_inside: bool = False

    def check(self) -> None:
        super().check()
        require(self, "alpha", *SHARE)
        require(self, "eps", *EPS)
        require(self, "weight_decay", *NOT_NEGATIVE)
        require(self, "momentum", *NOT_NEGATIVE)

    def init(self, params: Tree) -> RMSpropState:
        return RMSpropState(
            zeros(params),
            zeros(params) if self.centered else None,
            None if self.momentum is None else zeros(params),
        )

    def update(
        self, grads: Tree, state: RMSpropState, params: Tree, learning_rate: Scalar
    ) -> tuple[Tree, RMSpropState]:
        grads = with_l2(grads, params, self.weight_decay)
        square = spread = running_mean(state.square_avg, squares(grads), self.alpha)
        mean, buffer = None, state.momentum_buffer
        if self.centered:
            mean = running_mean(state.grad_avg, grads, self.alpha)
            # a constant gradient has no variance, and rounding would make it negative
            spread = jax.tree.map(lambda s, m: jnp.maximum(s - m * m, 0), square, mean)
        direction = jax.tree.map(lambda g, s: g / _root(s, self.eps, self.eps_inside), grads, spread)
        if buffer is not None:
            direction = buffer = jax.tree.map(lambda b, d: self.momentum * b + d, buffer, direction)
        updates = jax.tree.map(lambda d: -learning_rate * d, direction)
        return updates, RMSpropState(square, mean, buffer)


def _root(square: jax.Array, eps: Scalar, inside: bool) -> jax.Array:
    return jnp.sqrt(square + eps) if inside else jnp.sqrt(square) + eps


class AdadeltaState(NamedTuple):
    square_avg: Tree  # running mean of the squared gradient, like params
    acc_delta: Tree  # running mean of the squared step, like params


class Adadelta(Optimizer):
    """Steps as large as the late steps were, over the late gradients.   S1.50; Zeiler 2012, arXiv:1212.5701

        G <- rho G + (1 - rho) g^2
        d <- sqrt(D + eps) / sqrt(G + eps) g,     D <- rho D + (1 - rho) d^2
        w <- w - learning_rate d

    The rule needs no learning rate: 1.0, the default, leaves it out as the course does. Any other factor
    multiplies every step (S1.50 says only the first ones; torch's does not do so). `weight_decay` is L2,
    added to the gradient. Equals torch.optim.Adadelta. Raises SpecError for values that cannot work.

    >>> import jax.numpy as jnp
    >>> rule, w = Adadelta(rho=0.75, eps=1e-4), jnp.zeros(2)
    >>> [round(u, 4) for u in rule.update(jnp.array([8.0, -0.5]), rule.init(w), w, 1.0)[0].tolist()]
    [-0.02, 0.02]
    """

    learning_rate: Scalar = 1.0
    rho: Scalar = 0.9
    eps: Scalar = 1e-6
    weight_decay: Scalar = 0.0

    def check(self) -> None:
        super().check()
        require(self, "rho", lambda v: 0 <= v <= 1, "in [0, 1]")
        require(self, "eps", lambda v: 0 < v < float("inf"), "above 0: it makes the first step, often 1e-6")
        require(self, "weight_decay", *NOT_NEGATIVE)

    def init(self, params: Tree) -> AdadeltaState:
        return AdadeltaState(zeros(params), zeros(params))

    def update(
        self, grads: Tree, state: AdadeltaState, params: Tree, learning_rate: Scalar
    ) -> tuple[Tree, AdadeltaState]:
        grads = with_l2(grads, params, self.weight_decay)
        square = running_mean(state.square_avg, squares(grads), self.rho)
        delta = jax.tree.map(
            lambda g, s, d: jnp.sqrt(d + self.eps) / jnp.sqrt(s + self.eps) * g, grads, square, state.acc_delta
        )
        acc_delta = running_mean(state.acc_delta, squares(delta), self.rho)
        return jax.tree.map(lambda d: -learning_rate * d, delta), AdadeltaState(square, acc_delta)


class AdafactorState(NamedTuple):
    step: jax.Array  # int32: steps taken
    row_var: Tree  # [..., n, 1] for a weight [..., n, m]: means of rows of g^2; None for vectors
    col_var: Tree  # [..., 1, m]: means of columns; None for vectors
    variance: Tree  # running mean of g^2 for vectors and numbers; None for the others


class Adafactor(Optimizer):
    """Adam's division with the memory of one row and one column a matrix.   S1.53

    Shazeer & Stern 2018, arXiv:1804.04235, in torch's form. For a weight [..., n, m], keep = 1 - t^beta2_decay:

        R <- keep R + (1 - keep) mean of g^2 over columns,     C likewise over rows
        V = R C / mean(R)                                      (vectors keep V itself)
        u = g / max(sqrt(V), eps1),     u <- u / max(1, rms(u) / d)
        w <- w - learning_rate weight_decay w - max(eps2, rms(w)) min(learning_rate, 1 / sqrt(t)) u

    So the learning rate is relative to the size of the weights. `eps` is (eps1, eps2); eps1=None takes the
    smallest step of the weight's dtype. Equals torch.optim.Adafactor. Raises SpecError for values that
    cannot work.

    >>> import jax.numpy as jnp
    >>> state = Adafactor().init({"weight": jnp.zeros((50, 40))})
    >>> sum(a.size for a in jax.tree.leaves(state))                      # Adam keeps 4,001
    91
    """

    learning_rate: Scalar = 1e-2
    beta2_decay: Scalar = -0.8
    eps: tuple[Scalar | None, ...] = (None, 1e-3)
    d: Scalar = 1.0
    weight_decay: Scalar = 0.0

    elementwise: ClassVar[bool] = False

    def check(self) -> None:
        super().check()
        if len(self.eps) != 2 or self.eps[1] is None:
            raise SpecError(
                f"Adafactor.eps must be two numbers such as (1e-30, 1e-3), the first may be None, got {self.eps!r}."
            )
        for name in ("eps.0", "eps.1", "weight_decay"):
            require(self, name, *NOT_NEGATIVE)
        require(self, "beta2_decay", lambda v: -math.inf < v <= 0, "0 or less, often -0.8")
        require(self, "d", lambda v: 1 <= v < math.inf, "1 or more: a longer step than d is cut to d")

    def init(self, params: Tree) -> AdafactorState:
        rows = jax.tree.map(lambda p: jnp.zeros_like(p[..., :1]) if p.ndim > 1 else None, params)
        columns = jax.tree.map(lambda p: jnp.zeros_like(p[..., :1, :]) if p.ndim > 1 else None, params)
        vectors = jax.tree.map(lambda p: None if p.ndim > 1 else jnp.zeros_like(p), params)
        return AdafactorState(first_step(), rows, columns, vectors)

    def update(
        self, grads: Tree, state: AdafactorState, params: Tree, learning_rate: Scalar
    ) -> tuple[Tree, AdafactorState]:
        t = (state.step + 1).astype(jnp.float32)
        new = t**self.beta2_decay  # 1 at the first step: nothing is left of the zeros
        rate = jnp.minimum(learning_rate, 1 / jnp.sqrt(t))
        eps1, eps2 = self.eps

        def renewed(old: jax.Array | None, g: jax.Array, axis: int | None) -> jax.Array | None:
            if old is None:
                return None
            square = g * g if axis is None else jnp.mean(g * g, axis, keepdims=True)
            return (1 - new) * old + new * square

        def step(p: jax.Array, g: jax.Array, row: jax.Array | None, column: jax.Array, v: jax.Array) -> jax.Array:
            least = jnp.finfo(p.dtype).eps if eps1 is None else eps1
            if row is not None:
                v = row * column / jnp.maximum(row.mean(-2, keepdims=True), least)
            u = g / jnp.maximum(jnp.sqrt(v), least)
            u = u / jnp.maximum(1, _rms(u) / self.d)
            return -jnp.maximum(jnp.asarray(eps2), _rms(p)) * rate * u

        none = {"is_leaf": lambda a: a is None}  # a state is None where another one is kept
        rows = jax.tree.map(lambda r, g: renewed(r, g, -1), state.row_var, grads, **none)
        columns = jax.tree.map(lambda c, g: renewed(c, g, -2), state.col_var, grads, **none)
        vectors = jax.tree.map(lambda v, g: renewed(v, g, None), state.variance, grads, **none)
        updates = jax.tree.map(step, params, grads, rows, columns, vectors)
        updates = with_decay(updates, params, learning_rate * self.weight_decay)
        return updates, AdafactorState(state.step + 1, rows, columns, vectors)


def _rms(a: jax.Array) -> jax.Array:
    """The root of the mean square of all entries."""
    return jnp.sqrt(jnp.mean(jnp.square(a)))
