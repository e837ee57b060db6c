"""What every optimiser is, and what their rules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from derin.errors import SpecError
from derin.spec import Scalar, Spec

Tree = Any  # a pytree of arrays, shaped like the parameters


class Optimizer(Spec):
    """What every optimiser has: a base learning rate, `init` and `update`.

    The engine multiplies `learning_rate` by the schedule's factor and hands the product to `update`.
    """

    learning_rate: Scalar = 1e-3

    # True: each weight's update depends on that weight alone, so all weights may come as one flat vector.
    elementwise: ClassVar[bool] = True

    # True: it compares gradients of different steps, so all must be of the same rows; batches are refused.
    full_batches: ClassVar[bool] = False

    def init(self, params: Tree) -> Any:
        """The state before the first step: a pytree of arrays whose structure never changes."""
        raise NotImplementedError(f"{type(self).__name__} has no init(self, params).")

    def update(self, grads: Tree, state: Any, params: Tree, learning_rate: Scalar) -> tuple[Tree, Any]:
        """What to add to the parameters, and the next state.   grads, params: like init's params"""
        raise NotImplementedError(f"{type(self).__name__} has no update(...).")

    def check(self) -> None:
        require(
            self,
            "learning_rate",
            lambda v: 0 < v < float("inf"),
            "a positive, finite number, often between 1e-4 and 1e-1",
        )


# -- what the rules share


def zeros(params: Tree) -> Tree:
    """A buffer of zeros for every weight. Each call makes its own: XLA may not be given one array twice."""
    return jax.tree.map(jnp.zeros_like, params)


def with_l2(grads: Tree, params: Tree, weight_decay: Scalar) -> Tree:
    """The gradient of loss + weight_decay / 2 |params|^2: what torch's optimisers call weight decay."""
    return jax.tree.map(lambda g, p: g + weight_decay * p, grads, params)


def with_decay(updates: Tree, params: Tree, share: Scalar) -> Tree:
    """Updates that also take this share off each weight: decoupled weight decay."""
    return jax.tree.map(lambda u, p: u - share * p, updates, params)


def running_mean(mean: Tree, new: Tree, decay: Scalar) -> Tree:
    """decay mean + (1 - decay) new, for every weight.   S1.42, whose alpha is 1 - decay

    >>> import jax.numpy as jnp
    >>> means = [jnp.float32(10)]
    >>> for x in (12, 13, 15, 14):
    ...     means.append(running_mean(means[-1], x, decay=0.5))
    >>> [float(m) for m in means]
    [10.0, 11.0, 12.0, 13.5, 13.75]
    """
    decay = jnp.asarray(decay, jnp.float32)  # so that 1 - decay is the same everywhere
    return jax.tree.map(lambda m, x: decay * m + (1 - decay) * x, mean, new)


def squares(tree: Tree) -> Tree:
    """Every entry squared."""
    return jax.tree.map(jnp.square, tree)


def one_minus_power(beta: Scalar, step: jax.Array) -> jax.Array:
    """1 - beta^step, without the cancellation that costs float32 four digits at the first steps."""
    return -jnp.expm1(step.astype(jnp.float32) * jnp.log(jnp.asarray(beta, jnp.float32)))


def first_step() -> jax.Array:
    """The count of steps before the first."""
    return jnp.zeros((), jnp.int32)


# -- checks

Limit = tuple[Callable[[Any], bool], str]  # what fits, and the words for it

POSITIVE: Limit = (lambda v: 0 < v < float("inf"), "above 0")
NOT_NEGATIVE: Limit = (lambda v: 0 <= v < float("inf"), "0 or more")
SHARE: Limit = (lambda v: 0 <= v < 1, "in [0, 1)")
EPS: Limit = (lambda v: 0 <= v < float("inf"), "0 or more, often 1e-8")


def require(spec: Spec, path: str, fits: Callable[[Any], bool], words: str) -> None:
    """Refuse a field that does not fit. Only Python numbers are looked at: traced or stacked ones pass."""
    value: Any = spec
    for step in path.split(".") if "." in path else (path,):
        value = value[int(step)] if isinstance(value, tuple) else getattr(value, step)
    if isinstance(value, (int, float)) and not fits(value):
        raise SpecError(f"{type(spec).__name__}.{path} must be {words}, got {value!r}.")


def require_pair(spec: Spec, name: str, limit: Limit, example: str) -> None:
    """Refuse a field that is not two numbers within a limit."""
    pair, (fits, words) = getattr(spec, name), limit
    if len(pair) != 2:
        raise SpecError(f"{type(spec).__name__}.{name} must be two numbers such as {example}, got {pair!r}.")
    for i, value in enumerate(pair):
        if isinstance(value, (int, float)) and not fits(value):
            raise SpecError(f"{type(spec).__name__}.{name}.{i} must be {words}, got {value!r}.")
