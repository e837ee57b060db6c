"""When a number is not finite: which layer it came out of first."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import jax
import jax.numpy as jnp

from derin.engine import epoch as engine
from derin.engine.epoch import Carry, Task
from derin.nn import Arrays
from derin.nn.module import named_key


def first_not_finite(
    task: Task, carry: Carry, x: jax.Array, y: tuple[jax.Array, ...], weight: Any, key: jax.Array
) -> str:
    """Words for the first layer whose output, or else gradient, is not finite on this batch.

    Run layer by layer, not compiled, with the weights as they were before the broken step.
    """
    drawn = jax.random.fold_in(named_key(key, "layers"), carry.broken_at)
    if jnp.issubdtype(x.dtype, jnp.floating) and not bool(jnp.all(jnp.isfinite(x))):
        return "the input holds a number that is not finite"
    seen: dict[str, Any] = {}
    inner: dict[str, Any] = {}
    params = carry.params
    out, _ = engine.run_net(task, params, carry.state, x, True, drawn, weight, seen=(inner, seen))
    for path, value in [*inner.items(), *seen.items()]:
        if not all(bool(jnp.all(jnp.isfinite(a))) for a in jax.tree.leaves(value)):
            large = max((float(jnp.max(jnp.abs(a))) for a in params.values() if a.size), default=0.0)
            return f"the output of layer '{path or 'net'}' is not finite (the largest weight is {large:.3g})"
    loss = engine.total_loss(task, out, y, weight)
    if not bool(jnp.isfinite(loss)):
        return f"the loss is {float(loss)} although every layer's output is finite"

    def objective(params: Arrays) -> jax.Array:
        return engine.total_loss(task, engine.run_net(task, params, carry.state, x, True, drawn, weight)[0], y, weight)

    gradients = jax.grad(objective)(params)
    names = [*declared_order(task, params, x)]
    for name in reversed(names):  # gradients come from the last layer to the first
        if not bool(jnp.all(jnp.isfinite(gradients[name]))):
            return f"the gradient of '{name}' is not finite"
    return "the loss was not finite in the compiled step, and is finite when run layer by layer"


def declared_order(task: Task, params: Container[str], x: jax.Array) -> list[str]:
    """The weights' names in the order in which the net calls for them."""
    names: list[str] = []

    def look() -> None:  # a dict that leaves eval_shape comes back sorted
        names.extend(engine.look_and_draw(task, jax.random.key(0), x)[0])

    jax.eval_shape(look)
    return [name for name in names if name in params]
