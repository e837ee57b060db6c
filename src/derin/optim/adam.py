"""Adam and its family: steps from running means of the gradient and of its size."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from derin.optim.base import (
    EPS,
    NOT_NEGATIVE,
    SHARE,
    Optimizer,
    Tree,
    first_step,
    one_minus_power,
    require,
    require_pair,
    running_mean,
    squares,
    with_decay,
    with_l2,
    zeros,
)
from derin.spec import Scalar


class AdamState(NamedTuple):
    step: jax.Array  # int32: steps taken
    exp_avg: Tree  # running mean of the gradient, like params
    exp_avg_sq: Tree  # running mean of its square, like params
    max_exp_avg_sq: Tree = None  # the largest exp_avg_sq so far, with amsgrad only


class Adam(Optimizer):
    """Adam: steps from running means of the gradient and of its square.   S1.51

    Kingma & Ba 2015, arXiv:1412.6980.

        m <- b1 m + (1 - b1) g,     v <- b2 v + (1 - b2) g^2
        w <- w - learning_rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    `weight_decay` is L2: it is added to the gradient (AdamW's is not). `amsgrad` takes the largest v so far
    (Reddi et al. 2018, arXiv:1904.09237). `eps_inside` writes sqrt(v / (1 - b2^t) + eps). Equals
    torch.optim.Adam. Raises SpecError for values that cannot work.

    >>> import jax.numpy as jnp
    >>> params, grads = {"w": jnp.array([1.0, 1.0])}, {"w": jnp.array([0.5, -20.0])}
    >>> adam = Adam()
    >>> updates, state = adam.update(grads, adam.init(params), params, adam.learning_rate)
    >>> [round(u, 6) for u in updates["w"].tolist()]                     # the first step only has a sign
    [-0.001, 0.001]
    """

    betas: tuple[Scalar, ...] = (0.9, 0.999)
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    amsgrad: bool = False
    eps_inside: bool = False

    def check(self) -> None:
        super().check()
        _check_adam(self)

    def init(self, params: Tree) -> AdamState:
        return _adam_state(self, params)

    def update(self, grads: Tree, state: AdamState, params: Tree, learning_rate: Scalar) -> tuple[Tree, AdamState]:
        return _adam(self, with_l2(grads, params, self.weight_decay), state, learning_rate)


class AdamW(Optimizer):
    """Adam whose weight decay acts on the weights and not on the gradient.   S1.52

    Loshchilov & Hutter 2019, arXiv:1711.05101.

        w <- w - learning_rate weight_decay w,     then Adam's step.     Equals torch.optim.AdamW.

    `eps` stands outside the root, as in Adam; with `eps_inside=True` it stands where S1.52 prints it,
    m / sqrt(v + eps). Raises SpecError for values that cannot work.

    >>> import jax.numpy as jnp
    >>> params, grads = {"w": jnp.array([1.0, -1.0])}, {"w": jnp.zeros(2)}
    >>> adamw = AdamW(learning_rate=0.1, weight_decay=0.5)
    >>> adamw.update(grads, adamw.init(params), params, adamw.learning_rate)[0]["w"]
    Array([-0.05,  0.05], dtype=float32)
    """

    betas: tuple[Scalar, ...] = (0.9, 0.999)
    eps: Scalar = 1e-8
    weight_decay: Scalar = 1e-2
    amsgrad: bool = False
    eps_inside: bool = False

    def check(self) -> None:
        super().check()
        _check_adam(self)

    def init(self, params: Tree) -> AdamState:
        return _adam_state(self, params)

    def update(self, grads: Tree, state: AdamState, params: Tree, learning_rate: Scalar) -> tuple[Tree, AdamState]:
        updates, state = _adam(self, grads, state, learning_rate)
        return with_decay(updates, params, learning_rate * self.weight_decay), state


def _adam_state(adam: Adam | AdamW, params: Tree) -> AdamState:
    return AdamState(first_step(), zeros(params), zeros(params), zeros(params) if adam.amsgrad else None)


def _adam(adam: Adam | AdamW, grads: Tree, state: AdamState, learning_rate: Scalar) -> tuple[Tree, AdamState]:
    """Adam's step, shared by Adam and AdamW."""
    beta1, beta2 = adam.betas
    step = state.step + 1
    m = running_mean(state.exp_avg, grads, beta1)
    v = running_mean(state.exp_avg_sq, squares(grads), beta2)
    largest = jax.tree.map(jnp.maximum, state.max_exp_avg_sq, v) if adam.amsgrad else None
    size = learning_rate / one_minus_power(beta1, step)
    correction = one_minus_power(beta2, step)
    root = jnp.sqrt(correction)

    def spread(v: jax.Array) -> jax.Array:
        return jnp.sqrt(v / correction + adam.eps) if adam.eps_inside else jnp.sqrt(v) / root + adam.eps

    updates = jax.tree.map(lambda m, v: -size * m / spread(v), m, largest if adam.amsgrad else v)
    return updates, AdamState(step, m, v, largest)


def _check_adam(spec: Optimizer) -> None:
    require_pair(spec, "betas", SHARE, "(0.9, 0.999)")
    require(spec, "eps", *EPS)
    require(spec, "weight_decay", *NOT_NEGATIVE)


class AdamaxState(NamedTuple):
    step: jax.Array  # int32: steps taken
    exp_avg: Tree  # running mean of the gradient, like params
    exp_inf: Tree  # decaying largest size of the gradient, like params


class Adamax(Optimizer):
    """Adam with the largest gradient in place of the mean square.   Kingma & Ba 2015, arXiv:1412.6980, section 7

        m <- b1 m + (1 - b1) g,     u <- max(b2 u, |g| + eps)
        w <- w - learning_rate (m / (1 - b1^t)) / u

    `weight_decay` is L2, added to the gradient. Equals torch.optim.Adamax. Raises SpecError for values that
    cannot work.

    >>> import jax.numpy as jnp
    >>> adamax, w = Adamax(learning_rate=0.1), jnp.zeros(2)
    >>> [round(u, 4) for u in adamax.update(jnp.array([5.0, -0.1]), adamax.init(w), w, 0.1)[0].tolist()]
    [-0.1, 0.1]
    """

    learning_rate: Scalar = 2e-3
    betas: tuple[Scalar, ...] = (0.9, 0.999)
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0

    def check(self) -> None:
        super().check()
        _check_adam(self)

    def init(self, params: Tree) -> AdamaxState:
        return AdamaxState(first_step(), zeros(params), zeros(params))

    def update(self, grads: Tree, state: AdamaxState, params: Tree, learning_rate: Scalar) -> tuple[Tree, AdamaxState]:
        grads = with_l2(grads, params, self.weight_decay)
        beta1, beta2 = self.betas
        step = state.step + 1
        m = running_mean(state.exp_avg, grads, beta1)
        u = jax.tree.map(lambda u, g: jnp.maximum(beta2 * u, jnp.abs(g) + self.eps), state.exp_inf, grads)
        size = learning_rate / one_minus_power(beta1, step)
        return jax.tree.map(lambda m, u: -size * m / u, m, u), AdamaxState(step, m, u)


class NAdamState(NamedTuple):
    step: jax.Array  # int32: steps taken
    mu_product: jax.Array  # the product of all mu so far
    exp_avg: Tree  # running mean of the gradient, like params
    exp_avg_sq: Tree  # running mean of its square, like params


class NAdam(Optimizer):
    """Adam with Nesterov's look ahead, its momentum growing towards b1.   Dozat 2016, ICLR workshop

        mu_t = b1 (1 - 0.96^(t momentum_decay) / 2),     m, v as Adam's
        w <- w - learning_rate (mu_{t+1} m / (1 - mu_1 ... mu_{t+1}) + (1 - mu_t) g / (1 - mu_1 ... mu_t))
                 / (sqrt(v / (1 - b2^t)) + eps)

    `weight_decay` is L2, added to the gradient, or acts on the weights with `decoupled_weight_decay=True`
    (NAdamW). Equals torch.optim.NAdam. Raises SpecError for values that cannot work.
    """

    learning_rate: Scalar = 2e-3
    betas: tuple[Scalar, ...] = (0.9, 0.999)
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    momentum_decay: Scalar = 4e-3
    decoupled_weight_decay: bool = False

    def check(self) -> None:
        super().check()
        _check_adam(self)
        require(self, "momentum_decay", *NOT_NEGATIVE)

    def init(self, params: Tree) -> NAdamState:
        return NAdamState(first_step(), jnp.ones(()), zeros(params), zeros(params))

    def update(self, grads: Tree, state: NAdamState, params: Tree, learning_rate: Scalar) -> tuple[Tree, NAdamState]:
        if not self.decoupled_weight_decay:
            grads = with_l2(grads, params, self.weight_decay)
        beta1, beta2 = self.betas
        step = state.step + 1
        m = running_mean(state.exp_avg, grads, beta1)
        v = running_mean(state.exp_avg_sq, squares(grads), beta2)
        t = step.astype(jnp.float32)
        mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (at * self.momentum_decay)) for at in (t, t + 1))
        product = state.mu_product * mu
        ahead = learning_rate * mu_next / (1 - product * mu_next)
        now = learning_rate * (1 - mu) / (1 - product)
        root = jnp.sqrt(one_minus_power(beta2, step))
        updates = jax.tree.map(lambda m, v, g: -(ahead * m + now * g) / (jnp.sqrt(v) / root + self.eps), m, v, grads)
        if self.decoupled_weight_decay:
            updates = with_decay(updates, params, learning_rate * self.weight_decay)
        return updates, NAdamState(step, product, m, v)


class RAdam(Optimizer):
    """Adam that does without v until v can be trusted.   Liu et al. 2020, arXiv:1908.03265

        m, v as Adam's,   rho = 2 / (1 - b2) - 1,   rho_t = rho - 2 t b2^t / (1 - b2^t)
        rho_t > 5:   w <- w - learning_rate r_t (m / (1 - b1^t)) sqrt(1 - b2^t) / (sqrt(v) + eps),
                     r_t = sqrt((rho_t - 4)(rho_t - 2) rho / ((rho - 4)(rho - 2) rho_t))
        else:        w <- w - learning_rate (m / (1 - b1^t))

    It warms up by itself: the first five steps are plain momentum. `weight_decay` is L2, added to the
    gradient, or acts on the weights with `decoupled_weight_decay=True`. Equals torch.optim.RAdam. Raises
    SpecError for values that cannot work.
    """

    betas: tuple[Scalar, ...] = (0.9, 0.999)
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    decoupled_weight_decay: bool = False

    def check(self) -> None:
        super().check()
        _check_adam(self)

    def init(self, params: Tree) -> AdamState:
        return AdamState(first_step(), zeros(params), zeros(params))

    def update(self, grads: Tree, state: AdamState, params: Tree, learning_rate: Scalar) -> tuple[Tree, AdamState]:
        if not self.decoupled_weight_decay:
            grads = with_l2(grads, params, self.weight_decay)
        beta1, beta2 = self.betas
        step = state.step + 1
        m = running_mean(state.exp_avg, grads, beta1)
        v = running_mean(state.exp_avg_sq, squares(grads), beta2)
        size = learning_rate / one_minus_power(beta1, step)
        trusted, rectified = _rectification(beta2, step)
        scale = rectified * jnp.sqrt(one_minus_power(beta2, step))
        updates = jax.tree.map(lambda m, v: -size * m * jnp.where(trusted, scale / (jnp.sqrt(v) + self.eps), 1.0), m, v)
        if self.decoupled_weight_decay:
            updates = with_decay(updates, params, learning_rate * self.weight_decay)
        return updates, AdamState(step, m, v)


def _rectification(beta2: Scalar, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether rho_t > 5, and r_t."""
    t = step.astype(jnp.float32)
    beta2 = jnp.asarray(beta2, jnp.float32)
    powered = one_minus_power(beta2, step)  # 1 - b2^t
    end = 2 / (1 - beta2) - 1
    rho = end - 2 * t * (1 - powered) / powered
    # rho_t <= t always; float32 loses it in the difference of two numbers of 40,000 where b2 = 0.99995
    trusted = (rho > 5) & (step > 5)
    rho, end = jnp.where(trusted, rho, 6.0), jnp.where(trusted, end, 6.0)  # no root of a negative number
    return trusted, jnp.sqrt((rho - 4) * (rho - 2) * end / ((end - 4) * (end - 2) * rho))
