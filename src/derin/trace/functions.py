"""trace(f, *args): a function of JAX arrays, operation by operation."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derin.errors import ModelError
from derin.trace.backward import backward
from derin.trace.forward import Player, named, refuse_too_large, renamed, used
from derin.trace.result import Trace
from derin.trace.steps import Step, Value


def trace(f: Any, *args: Any, loss: Any = None, optimizer: Any = None, params: Any = None, state: Any = None,
          key: Any = None) -> Trace:  # fmt: skip
    """Every operation of a function, of a net, or of a training step in numbers, forward and backward.

    trace(f, *args)                                     f: any function of JAX arrays; gradients by its float arguments
    trace(net, x)                                       a net's output
    trace(net, x, y, loss=..., optimizer=...)           a training step: output, loss, gradients, update

    params, state: a net's weights; without them they are drawn, as `net.init(jax.random.key(0), x)` does. key: for
    dropout. Raises ModelError for what cannot be traced, or is too large. S2.09, S4.20.

    >>> import derin
    >>> print(derin.trace(lambda x: 2 * x**2, 3.0).to_text())
    f(x) = 18   at x = 3
    <BLANKLINE>
    forward
      1  #1 = x^2   = 3^2 = 9
      2  f = 2 * #1 = 2 * 9 = 18
    <BLANKLINE>
    backward   d f / d f = 1
      2  d f / d #1 = 1 * 2 = 2
      1  d f / d x  = 2 * 6 = 12
    <BLANKLINE>
    gradients
      d f / d x = 12
    """
    from derin.nn import Module

    if isinstance(f, Module):
        from derin.trace.training import trace_net

        return trace_net(f, args, loss, optimizer, params, state, key)
    extra = {"loss": loss, "optimizer": optimizer, "params": params, "state": state, "key": key}
    given = [name for name, value in extra.items() if value is not None]
    if given:
        raise ModelError(
            f"{given[0]}= belongs to the trace of a net, trace(net, x, y, loss=...), and "
            f"{getattr(f, '__name__', f)!r} is none. trace(f, *args) takes a function's arguments only."
        )
    return trace_function(f, *args)


def trace_function(f: Callable[..., Any], *args: Any) -> Trace:
    """The trace of a function at these arguments."""
    if not callable(f):
        raise ModelError(f"trace takes a function or a net, got {f!r} ({type(f).__name__}).")
    called = getattr(f, "__name__", type(f).__name__)
    called = "f" if called == "<lambda>" else called
    args = tuple(_array(a, called) for a in args)
    leaves, names = named_leaves(args, _parameter_names(f, len(args)))
    arguments = [Value(n, a, "input") for n, a in zip(names, leaves, strict=True)]
    shape = jax.tree.structure(args)
    closed, out_shape = program_of(f, args, called)
    refuse_too_large(closed, called)
    player = Player()
    outputs = player.play(closed, arguments)
    steps, outputs = tidy(player, outputs, {n for n in names}, called)
    value = jax.tree.unflatten(jax.tree.structure(out_shape), [v.array for v in outputs])
    wanted = [v for v in arguments if v.is_float]
    why = _why_forward_only(outputs, wanted, called)
    grouped = lambda by: jax.tree.unflatten(shape, [by.get(n) for n in names])  # noqa: E731
    shared: dict[str, Any] = dict(title=f"{called}({', '.join(names)})", arguments=tuple(arguments), value=value)
    shared |= dict(outputs=tuple(outputs), of=outputs[0].name if outputs else called, grouped=grouped)
    if why:
        return Trace(steps=tuple(steps), why_forward_only=why, **shared)
    found = backward(steps, outputs[0], wanted)
    return Trace(
        steps=tuple(found.steps), by=found.gradients, meets=found.meets, wanted=tuple(v.name for v in wanted), **shared
    )


def program_of(f: Callable[..., Any], args: tuple[Any, ...], called: str) -> tuple[Any, Any]:
    """The jaxpr of f, and what it returns. Raises ModelError that says why there is none."""
    try:
        return jax.make_jaxpr(f, return_shape=True)(*args)
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
    ) as error:
        raise ModelError(f"{called} cannot be traced: {_why(error)}{_line_of(error)}.") from None
    except TypeError as error:
        if "JAX type" in str(error) or "valid JAX" in str(error):
            raise ModelError(
                f"{called} cannot be traced: it takes or returns something that is no array of numbers "
                f"({str(error).splitlines()[0]})."
            ) from None
        raise


def tidy(player: Player, outputs: list[Value], taken: set[str], last: str) -> tuple[list[Step], list[Value]]:
    """The steps that matter, numbered from 1, with the names of the source; the result is called `last`."""
    kept = used(player.steps, outputs)
    steps = [player.steps[i] for i in kept]
    numbers = {s.number: player.before + i + 1 for i, s in enumerate(steps)}
    labels = {v.name: v.name.replace(f"#{s.number}", f"#{numbers[s.number]}") for s in steps for v in s.outputs}
    steps, new = renamed([replace(s, number=numbers[s.number]) for s in steps], labels)
    outputs = [new(v) for v in outputs]
    taken = taken | {v.name for s in steps for v in s.inputs if v.kind == "constant"} | {last}
    names = named(steps, [player.origins[i] for i in kept], taken)
    if last and outputs and outputs[0].kind == "computed":
        names[outputs[0].name] = last
    steps, new = renamed(steps, names)
    return steps, [new(v) for v in outputs]


def named_leaves(args: Sequence[Any], names: Sequence[str]) -> tuple[list[Any], list[str]]:
    """The arrays of the arguments, and what to call them: w, or params.0.weight.

    >>> named_leaves([{"w": 1.0, "b": 2.0}, 3.0], ["p", "x"])[1]
    ['p.b', 'p.w', 'x']
    """
    leaves, found = [], []
    for arg, name in zip(args, names, strict=True):
        for path, leaf in jax.tree_util.tree_flatten_with_path(arg)[0]:
            steps = [str(next(getattr(k, n) for n in ("key", "name", "idx") if hasattr(k, n))) for k in path]
            leaves.append(leaf)
            found.append(".".join([name, *steps] if name else steps))
    return leaves, found


def _parameter_names(f: Callable[..., Any], n: int) -> list[str]:
    try:
        named = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # a function written in C
        named = []
    found = [p.name for p in named if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:n]
    return found + [f"x{i + 1}" for i in range(len(found), n)]


def _array(arg: Any, called: str) -> Any:
    def one(leaf: Any) -> Any:
        if isinstance(leaf, (bool, int, float, np.ndarray, np.generic, jax.Array)):
            try:
                return jnp.asarray(leaf) if not isinstance(leaf, jax.Array) else leaf
            except (TypeError, ValueError):
                pass
        raise ModelError(
            f"{called} was given {leaf!r} ({type(leaf).__name__}): a trace takes numbers, arrays, and dicts, lists "
            "or tuples of them. Close over other settings: trace(lambda x: f(x, setting), x)."
        )

    return jax.tree.map(one, arg, is_leaf=lambda a: a is None)


def _why_forward_only(outputs: Sequence[Value], wanted: Sequence[Value], called: str) -> str:
    if not outputs:
        return f"{called} returns nothing."
    if outputs[0].shape != () or not outputs[0].is_float:
        what = "an array of shape " + str(list(outputs[0].shape)) if outputs[0].shape else "no float"
        return f"{called} returns {what}, and a gradient is that of one number: a sum or a mean of it, for instance."
    if not wanted:
        return "no argument is a float: write 3.0 for 3."
    return ""


def _why(error: Exception) -> str:
    if isinstance(error, jax.errors.TracerBoolConversionError):
        return "an `if`, `while`, `and` or `or` asks whether an array is true; use jnp.where(condition, a, b)"
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return "NumPy, or float(), is given an array of JAX; use jax.numpy"
    if isinstance(error, jax.errors.TracerIntegerConversionError):
        return "an array is used as a Python integer, a shape or an index of a list"
    if isinstance(error, jax.errors.ConcretizationTypeError):
        return "Python asks for the number in an array, with float(), int(), range() or .item(); use jax.numpy"
    return str(error).splitlines()[0].rstrip(".")


def _line_of(error: Exception) -> str:
    """The last line of a person's own code that the error came through."""
    from derin.trace.sources import is_own

    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if is_own(frame.filename)]
    return f" ({lines[-1].filename}:{lines[-1].lineno}: {lines[-1].line})" if lines else ""
