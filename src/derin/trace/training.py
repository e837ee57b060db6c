"""trace(net, x, y, loss=..., optimizer=...): a training step, from the input to the new weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from derin.errors import ModelError, SpecError
from derin.nn import Loss, Module
from derin.nn.module import Run, _kinds, as_written, bind
from derin.optim import Optimizer
from derin.trace.backward import backward
from derin.trace.forward import Player, refuse_too_large
from derin.trace.functions import named_leaves, program_of, tidy
from derin.trace.result import Trace, Update
from derin.trace.steps import Value


def trace_net(net: Module, data: tuple[Any, ...], loss: Any, optimizer: Any, params: Any, state: Any, key: Any,
              train: bool = True) -> Trace:  # fmt: skip
    """A net's output for x; with a loss and y a training step."""
    x, y = _checked(net, data, loss, optimizer)
    if params is None:
        params, drawn = net.init(jax.random.key(0), x)
        state = drawn if state is None else state
    params, state = jax.tree.map(jnp.asarray, dict(params)), dict(state or {})
    key = jax.random.key(0) if key is None else key

    def forward(params: Any, state: Any, x: Any, y: Any, key: Any) -> Any:
        run = Run(params, dict(state), train and loss is not None, key)
        out = bind(net, run)(x)
        if loss is None:
            return out, run.state
        with jax.named_scope("loss"):
            return loss(out, y), run.state

    kinds = {p: k for p, k in _kinds(net).items()} | ({"loss": type(loss).__name__} if loss is not None else {})
    of = "output" if loss is None else "loss"
    title = f"{type(net).__name__} on {x.shape[0]} example{'s' * (x.shape[0] != 1)}" if x.ndim else type(net).__name__
    found = traced(forward, (params, state, x, y, key), ("", "state", "x", "y", "key"), of, title, kinds)
    return found if optimizer is None else updated(found, optimizer, params)


def traced(f: Any, args: tuple[Any, ...], names: tuple[str, ...], of: str, title: str,
           kinds: Mapping[str, str]) -> Trace:  # fmt: skip
    """The trace of f(params, state, x, ...) -> (value, state), gradients by the parameters alone."""
    leaves, called = named_leaves(args, names)
    arguments = [Value(n, a, "input") for n, a in zip(called, leaves, strict=True)]
    token = as_written.set(True)  # a convolution as one, not as the matrices that are faster
    try:
        closed, shape = program_of(f, args, title)
    finally:
        as_written.reset(token)
    refuse_too_large(closed, title)
    player = Player(frozenset(kinds))
    outputs = player.play(closed, arguments)
    steps, outputs = tidy(player, outputs, set(called), of)
    parameters = tuple(args[0])
    wanted = [v for v in arguments[: len(jax.tree.leaves(args[0]))] if v.is_float]
    value = jax.tree.unflatten(jax.tree.structure(shape), [v.array for v in outputs])[0]
    used = {v.name for s in steps for v in s.inputs}
    x = args[names.index("x")]
    shared: dict[str, Any] = dict(
        title=title,
        arguments=tuple(a for a in arguments if a.name in used or a.name in parameters),
        outputs=tuple(outputs),
        value=value,
        of=of,
        parameters=parameters,
        examples=x.shape[0] if x.ndim else 0,
        kinds=kinds,
    )
    if of != "loss":
        why = "a net without a loss: trace(net, x, y, loss=nn.MSELoss()) has gradients."
        return Trace(steps=tuple(steps), why_forward_only=why, **shared)
    found = backward(steps, outputs[0], wanted)
    by = found.gradients
    return Trace(steps=tuple(found.steps), by=by, meets=found.meets, wanted=parameters, **shared)


def updated(trace: Trace, optimizer: Optimizer, params: Any, memory: Any = None, rate: Any = None) -> Trace:
    """The trace with the optimiser's step after its gradients. memory: its state, of a first step if there is none."""
    from dataclasses import replace

    memory = optimizer.init(params) if memory is None else memory
    rate = jnp.asarray(optimizer.learning_rate if rate is None else rate, jnp.float32)

    def update(gradients: Any, memory: Any, params: Any, rate: Any) -> Any:
        change, memory = optimizer.update(gradients, memory, params, rate)
        return jax.tree.map(jnp.add, params, change), memory

    args = ({n: trace.by[n] for n in params}, memory, params, rate)
    leaves, called = named_leaves(args, ("grad", "memory", "", "rate"))
    arguments = [Value(n, a, "input") for n, a in zip(called, leaves, strict=True)]
    closed, _ = program_of(update, args, type(optimizer).__name__)
    player = Player(before=len(trace.steps))
    outputs = player.play(closed, arguments)
    taken = {v.name for s in trace.steps for v in s.outputs} | set(called)
    steps, outputs = tidy(player, outputs, taken, "")
    order = jax.tree.leaves({n: n for n in params})  # a dict's leaves come sorted
    new = {n: v for n, v in zip(order, outputs[: len(params)], strict=True)}
    names = {v.name: f"new {n}" for n, v in new.items() if v.kind == "computed"}
    from derin.trace.forward import renamed

    steps, again = renamed(steps, names)
    new = {n: again(new[n]) for n in params}
    old = {v.name: v for v in trace.arguments if v.name in new}
    return replace(trace, update=Update(optimizer, tuple(steps), old, new))


def _checked(net: Module, data: tuple[Any, ...], loss: Any, optimizer: Any) -> tuple[Any, Any]:
    if len(data) not in (1, 2):
        raise ModelError(f"trace(net, x) or trace(net, x, y, loss=...): after the net came {len(data)} arrays.")
    if loss is not None and not isinstance(loss, Loss):
        raise SpecError(f"loss must be one of derin.nn, such as nn.MSELoss(), got {loss!r}.")
    if len(data) == 2 and loss is None:
        raise SpecError("with y there is a loss: trace(net, x, y, loss=nn.MSELoss()); without: trace(net, x).")
    if loss is not None and len(data) == 1:
        raise ModelError(f"loss={loss!r} compares the output with y: trace(net, x, y, loss=...).")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise SpecError(f"optimizer must be one of derin.optim, such as optim.SGD(0.1), got {optimizer!r}.")
    if optimizer is not None and loss is None:
        raise SpecError(
            "an optimizer needs gradients, and they need a loss: trace(net, x, y, loss=..., optimizer=...)."
        )
    arrays = [jnp.asarray(a) for a in data]
    if len(arrays) == 2 and arrays[0].ndim and arrays[1].shape[:1] != arrays[0].shape[:1]:
        raise ModelError(f"x has {arrays[0].shape[0]} rows, y {list(arrays[1].shape)}: an answer for each example.")
    return arrays[0], arrays[1] if len(arrays) == 2 else None
