"""The chain rule, from the last operation to the first: each sends its incoming gradient on, times its derivative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from derin.errors import ModelError
from derin.trace.steps import Share, Step, Value


class Backward(NamedTuple):
    """What the way back found: the steps with their shares, and for each value's name the shares that meet there."""

    steps: list[Step]
    gradients: dict[str, Any]  # of every value on the way, their sums
    meets: dict[str, tuple[Share, ...]]


def backward(steps: Sequence[Step], value: Value, wanted: Sequence[Value]) -> Backward:
    """The gradient of `value`, one number, by every value between it and those wanted.

    A value that several steps use gets a share from each: their sum is its gradient.
    """
    leads = {v.name for v in wanted}  # the values through which a wanted one matters
    for step in steps:
        if any(v.name in leads for v in step.inputs):
            leads |= {v.name for v in step.outputs if v.is_float}
    meets: dict[str, list[Share]] = {}
    gradients: dict[str, Any] = {value.name: jnp.ones(value.shape, jnp.result_type(value.array))}
    done = []
    for step in reversed(steps):
        arrived = [gradients.get(v.name) if v.name in leads else None for v in step.outputs]
        if any(g is not None for g in arrived):
            step = _sent_on(replace(step, incoming=tuple(arrived)), leads)
            for share in step.shares:
                name = share.to.name
                meets.setdefault(name, []).append(share)
                gradients[name] = gradients[name] + share.product if name in gradients else share.product
        done.append(step)
    for v in wanted:
        gradients.setdefault(v.name, jnp.zeros(v.shape, jnp.result_type(v.array)))
    return Backward(done[::-1], gradients, {name: tuple(shares) for name, shares in meets.items()})


def _sent_on(step: Step, leads: set[str]) -> Step:
    """The step with its shares: the vector-Jacobian product of this one operation."""
    places = [i for i, v in enumerate(step.inputs) if v.is_float and v.name in leads]
    if not places or step.operation == "stop_gradient":
        return step
    arrays = [v.array for v in step.inputs]
    floats = [i for i, v in enumerate(step.outputs) if v.is_float]

    def alone(*given: Any) -> list[Any]:
        full = list(arrays)
        for i, a in zip(places, given, strict=True):
            full[i] = a
        outs = step.run(*full)
        return [outs[i] for i in floats]

    incoming = [jnp.zeros_like(step.outputs[i].array) if step.incoming[i] is None else step.incoming[i] for i in floats]
    try:
        _, back = jax.vjp(alone, *(arrays[i] for i in places))
        products = back([jnp.asarray(g, jnp.result_type(step.outputs[i].array)) for g, i in zip(incoming, floats)])  # noqa: B905
    except (ValueError, NotImplementedError) as error:
        where = f" ({step.source}: {step.source.text})" if step.source else ""
        raise ModelError(
            f"step {step.number}, {step.operation}, has no gradient{where}: {error}. "
            "A while loop has none; a loop of a fixed number of turns, jax.lax.scan or fori_loop, does."
        ) from None
    return replace(step, shares=tuple(Share(step, i, p) for i, p in zip(places, products, strict=True)))
