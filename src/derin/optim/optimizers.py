"""Optimisers: pure functions from gradients to updates, with PyTorch's names, defaults and rules.

    adam = Adam(learning_rate=1e-3)
    state = adam.init(params)
    updates, state = adam.update(grads, state, params, learning_rate)    # the rate that the schedule says now
    params = jax.tree.map(jnp.add, params, updates)

Every float is a leaf, so it may be traced: another learning rate, momentum or weight decay compiles nothing
anew, and a stack of optimisers runs under one vmap. `params` may be any pytree, one flat vector included.

Here: gradient descent in its three forms. The others: adam.py, adaptive.py, signs.py, muon.py, lbfgs.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from derin.errors import SpecError
from derin.optim.base import NOT_NEGATIVE, SHARE, Optimizer, Tree, first_step, require, with_l2, zeros
from derin.optim.optax_wrappers import as_optimizer
from derin.spec import Scalar

__all__ = ["ASGD", "SGD", "Optimizer", "SGDMomentum", "as_optimizer", "require"]


class SGDState(NamedTuple):
    step: jax.Array  # int32: steps taken
    momentum_buffer: Tree  # like params; None where momentum is None


class SGD(Optimizer):
    """Gradient descent, with momentum if asked.   S0.17, S1.45; Sutskever et al. 2013 for the momentum.

    The batch decides what it is called (S1.45): all rows, `batch_size="full"`, is gradient descent, one row
    stochastic gradient descent, 64 mini-batch gradient descent; the rule is the same.

        v <- momentum v + (1 - dampening) g        (the first step: v <- g, as in torch)
        w <- w - learning_rate v                   (nesterov: g + momentum v in place of v)

    `momentum` is a number that may be traced, so its buffer exists even at 0.0; `momentum=None` keeps none.
    The course's v <- b v + (1 - b) lr g (S1.46) is SGDMomentum.
    Raises SpecError for values that cannot work. Equals torch.optim.SGD.

    >>> import jax.numpy as jnp
    >>> sgd = SGD(learning_rate=0.1)
    >>> params = {"w": jnp.array([2.0, 2.0, 2.0])}                       # S0.22: one step by hand
    >>> grads = {"w": jnp.array([-10.0, -14.0, -18.0])}
    >>> updates, state = sgd.update(grads, sgd.init(params), params, learning_rate=0.01)
    >>> [round(w, 4) for w in (params["w"] + updates["w"]).tolist()]
    [2.1, 2.14, 2.18]
    """

    momentum: Scalar | None = 0.0
    dampening: Scalar = 0.0
    weight_decay: Scalar = 0.0
    nesterov: bool = False

    def check(self) -> None:
        super().check()
        require(self, "momentum", lambda v: 0 <= v < float("inf"), "0 or more, often 0.9")
        require(self, "weight_decay", *NOT_NEGATIVE)
        require(self, "dampening", lambda v: abs(v) < float("inf"), "a finite number")
        if self.nesterov and (_is(self.momentum, 0) or self.momentum is None or _isnt(self.dampening, 0)):
            raise SpecError(
                "SGD(nesterov=True) needs a momentum above 0 and no dampening, "
                f"got momentum={self.momentum!r}, dampening={self.dampening!r}."
            )

    def init(self, params: Tree) -> SGDState:
        return SGDState(first_step(), None if self.momentum is None else zeros(params))

    def update(self, grads: Tree, state: SGDState, params: Tree, learning_rate: Scalar) -> tuple[Tree, SGDState]:
        grads = with_l2(grads, params, self.weight_decay)
        step, buffer = state.step + 1, state.momentum_buffer
        if self.momentum is None:
            direction = grads
        else:
            # torch does not dampen the first step, nor when there is no momentum
            plain = (step == 1) | (jnp.asarray(self.momentum) == 0)
            share = jnp.where(plain, 1.0, 1 - jnp.asarray(self.dampening))
            buffer = jax.tree.map(lambda v, g: self.momentum * v + share * g, buffer, grads)
            direction = buffer
            if self.nesterov:
                direction = jax.tree.map(lambda v, g: g + self.momentum * v, buffer, grads)
        return jax.tree.map(lambda d: -learning_rate * d, direction), SGDState(step, buffer)


class SGDMomentumState(NamedTuple):
    velocity: Tree  # like params


class SGDMomentum(Optimizer):
    """Gradient descent along a running mean of its steps: momentum as the course writes it.   S1.46

        v <- momentum v + (1 - momentum) learning_rate g
        w <- w - v

    It differs from `SGD(momentum=b)` in the factor 1 - b, so it wants a learning rate 1 / (1 - b) times as
    large; from `SGD(momentum=b, dampening=b)` in that v starts at 0, and that the learning rate stands
    inside: when a schedule lowers it, the steps already in v keep their length. `weight_decay` is L2, added
    to the gradient. Raises SpecError for values that cannot work.

    >>> import jax.numpy as jnp
    >>> rule, w, g = SGDMomentum(learning_rate=1.0, momentum=0.9), jnp.zeros(()), jnp.ones(())
    >>> state = rule.init(w)
    >>> for _ in range(3):
    ...     update, state = rule.update(g, state, w, rule.learning_rate)
    ...     print(f"{update:.3f}")
    -0.100
    -0.190
    -0.271
    """

    momentum: Scalar = 0.9
    weight_decay: Scalar = 0.0

    def check(self) -> None:
        super().check()
        require(self, "momentum", *SHARE)
        require(self, "weight_decay", *NOT_NEGATIVE)

    def init(self, params: Tree) -> SGDMomentumState:
        return SGDMomentumState(zeros(params))

    def update(
        self, grads: Tree, state: SGDMomentumState, params: Tree, learning_rate: Scalar
    ) -> tuple[Tree, SGDMomentumState]:
        grads = with_l2(grads, params, self.weight_decay)
        new = learning_rate * (1 - self.momentum)
        velocity = jax.tree.map(lambda v, g: self.momentum * v + new * g, state.velocity, grads)
        return jax.tree.map(jnp.negative, velocity), SGDMomentumState(velocity)


class ASGDState(NamedTuple):
    step: jax.Array  # int32: steps taken
    ax: Tree  # the mean of the weights since t0, like params


class ASGD(Optimizer):
    """Averaged gradient descent: beside the weights it keeps their mean, `state.ax`.   S1.47

    Polyak & Juditsky 1992. At step t = 1, 2, ...:

        rate <- learning_rate / (1 + lambd learning_rate (t - 1))^alpha
        w    <- (1 - lambd rate) w - rate g
        ax   <- ax + (w - ax) / max(1, t - 1 - t0)          the mean of w from step t0 + 2 on

    The mean changes no step. The course's form, a constant rate and the mean of all weights after step T,
    is `ASGD(lambd=0.0, t0=T - 1)`; it uses the mean at the end, and a run does that with
    `optimizer=SGD(...), average=SWA(start=T, by="step")`. Equals torch.optim.ASGD, whose rate lags one step
    behind a schedule. Raises SpecError for values that cannot work.

    >>> import jax.numpy as jnp
    >>> asgd, w = ASGD(learning_rate=1.0, lambd=0.0, t0=-1.0), jnp.float32(3.0)
    >>> state = asgd.init(w)
    >>> for g in (1.0, 0.5, 0.3, -0.1, 0.2):                             # w: 2, 1.5, 1.2, 1.3, 1.1
    ...     update, state = asgd.update(jnp.float32(g), state, w, asgd.learning_rate)
    ...     w = w + update
    ...     print(f"{state.ax:.4f}")
    2.0000
    1.7500
    1.5667
    1.5000
    1.4200
    """

    learning_rate: Scalar = 1e-2
    lambd: Scalar = 1e-4
    alpha: Scalar = 0.75
    t0: Scalar = 1e6
    weight_decay: Scalar = 0.0

    def check(self) -> None:
        super().check()
        for name in ("lambd", "alpha", "weight_decay"):
            require(self, name, *NOT_NEGATIVE)
        require(self, "t0", lambda v: v >= -1, "-1 (the mean of all weights) or more")

    def init(self, params: Tree) -> ASGDState:
        return ASGDState(first_step(), zeros(params))

    def update(self, grads: Tree, state: ASGDState, params: Tree, learning_rate: Scalar) -> tuple[Tree, ASGDState]:
        grads = with_l2(grads, params, self.weight_decay)
        before = state.step.astype(jnp.float32)  # t - 1
        rate = learning_rate / (1 + self.lambd * learning_rate * before) ** self.alpha
        share = 1 / jnp.maximum(1, before - self.t0)
        updates = jax.tree.map(lambda g, p: -rate * (g + self.lambd * p), grads, params)
        ax = jax.tree.map(lambda a, p, u: share * (p + u) + (1 - share) * a, state.ax, params, updates)
        return updates, ASGDState(state.step + 1, ax)


def _is(value: Any, number: float) -> bool:
    return isinstance(value, (int, float)) and value == number


def _isnt(value: Any, number: float) -> bool:
    return isinstance(value, (int, float)) and value != number
