"""Run a program operation by operation. It is the program JAX would compile: the jaxpr of the function.

Calls of functions within it (jit, remat) are entered, so are short loops and the branch that is taken. A function with
a derivative rule of its own stays one step where its rule and its inside would not give the same gradient.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derin.errors import ModelError
from derin.trace.sources import Frame, frames_of, source_of, variable_of
from derin.trace.steps import ELEMENTWISE, Step, Value

LONGEST = 12  # turns up to which a loop is shown turn by turn
MOST_BYTES = 2**31  # of values kept
_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr",
          "checkpoint": "jaxpr", "remat": "jaxpr", "remat2": "jaxpr"}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where in the program we are: named scopes, the turn of a loop, frames of the calls around."""

    scopes: tuple[str, ...] = ()
    turn: str = ""
    frames: tuple[Frame, ...] = ()


@dataclass
class Player:
    """Plays a jaxpr and records its steps.   known: paths of layers, which scopes may name"""

    known: frozenset[str] = frozenset()
    before: int = 0  # steps that came before the first
    steps: list[Step] = field(default_factory=list)
    origins: list[tuple[Frame, ...]] = field(default_factory=list)  # of each step: the frames that asked for it
    constants: int = 0

    def play(self, closed: Any, arguments: Sequence[Value], place: Place = Place()) -> list[Value]:
        """The outputs for these arguments.   closed: a ClosedJaxpr"""
        jaxpr = closed.jaxpr
        values: dict[Any, Value] = dict(zip(jaxpr.invars, arguments, strict=True))
        for variable, array in zip(jaxpr.constvars, closed.consts, strict=True):
            values[variable] = self.constant(array)
        read = lambda v: self.constant(v.val) if hasattr(v, "val") else values[v]  # noqa: E731  a literal has a val
        for equation in jaxpr.eqns:
            outs = self.equation(equation, [read(v) for v in equation.invars], place)
            values.update(zip(equation.outvars, outs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def equation(self, equation: Any, inputs: list[Value], place: Place) -> list[Value]:
        """One equation: entered if it is a call, a loop or a branch; else run and recorded."""
        name, settings = equation.primitive.name, equation.params
        frames = frames_of(equation.source_info)
        here = replace(place, scopes=place.scopes + _scopes(equation), frames=(*frames, *place.frames))
        if name in _CALLS and not _draws(inputs):
            return self.play(_closed(settings[_CALLS[name]]), inputs, here)
        if name == "custom_vjp_call" and _opens(equation, inputs):
            return self.play(_closed(settings["call_jaxpr"]), inputs, here)
        if name == "cond":
            branches = settings["branches"]
            chosen = min(max(int(inputs[0].array), 0), len(branches) - 1)
            return self.play(branches[chosen], inputs[1:], here)
        if name == "scan" and settings["length"] <= LONGEST:
            return self.scan(settings, inputs, here)

        def run(*arrays: Any) -> tuple[Any, ...]:
            with equation.ctx.manager if hasattr(equation, "ctx") else contextlib.nullcontext():
                outs = equation.primitive.bind(*arrays, **equation.primitive.get_bind_params(settings))
            return tuple(outs) if equation.primitive.multiple_results else (outs,)

        return self.record(_called(name, settings), inputs, run, here, _told(equation))

    def scan(self, settings: Any, inputs: list[Value], place: Place) -> list[Value]:
        """A loop, turn by turn: each takes its row of the inputs, and the rows it puts out are stacked."""
        n, carried = settings["num_consts"], settings["num_carry"]
        held, carry, rows = inputs[:n], inputs[n : n + carried], inputs[n + carried :]
        stacked: list[list[Value]] = []
        turns = range(settings["length"])
        for i in reversed(turns) if settings["reverse"] else turns:
            here = replace(place, turn=f"{place.turn}, {i}".lstrip(", "))
            at = [self.record("row", [v], lambda a, i=i: (a[i],), here, {"row": i})[0] for v in rows]
            outs = self.play(settings["jaxpr"], [*held, *carry, *at], here)
            carry = outs[:carried]
            stacked.append(outs[carried:])
        if settings["reverse"]:
            stacked.reverse()
        stack = lambda *arrays: (jnp.stack(arrays),)  # noqa: E731
        return [*carry, *(self.record("stack", list(ys), stack, place)[0] for ys in zip(*stacked, strict=True))]

    def record(
        self,
        operation: str,
        inputs: list[Value],
        run: Callable[..., tuple[Any, ...]],
        place: Place,
        settings: dict[str, Any] | None = None,
    ) -> list[Value]:
        """Run a step and keep it."""
        number = self.before + len(self.steps) + 1
        arrays = run(*(v.array for v in inputs))
        names = [f"#{number}"] if len(arrays) == 1 else [f"#{number}.{i + 1}" for i in range(len(arrays))]
        outputs = tuple(Value(name, a, step=number) for name, a in zip(names, arrays, strict=True))
        layer = layer_of(place.scopes, self.known) + (f" [{place.turn}]" if place.turn else "")
        step = Step(number, operation, tuple(inputs), outputs, run, settings or {}, layer, source_of(place.frames))
        self.steps.append(step)
        self.origins.append(place.frames)
        return list(outputs)

    def constant(self, array: Any) -> Value:
        if np.ndim(array) == 0:
            return Value(_literal(array), array, "constant")
        self.constants += 1
        return Value(f"constant{self.constants}", array, "constant")


def named(steps: Sequence[Step], origins: Sequence[tuple[Frame, ...]], taken: set[str]) -> dict[str, str]:
    """Names of the source for results: `u = b * c` calls the result of its last operation u.   -> {"#3": "u"}

    A name that is there already gets a number: u, u2, u3.
    """
    found: dict[str, str] = {}
    for i, step in enumerate(steps):
        variable = variable_of(origins[i], origins[i + 1] if i + 1 < len(steps) else ())
        variable = variable or _view(step, found)
        if variable and len(step.outputs) == 1:
            name, n = variable, 1
            while name in taken:
                n += 1
                name = f"{variable}~{n}" if "'" in variable or ":" in variable else f"{variable}{n}"
            taken.add(name)
            found[step.output.name] = name
    return found


def _view(step: Step, names: dict[str, str]) -> str:
    """The name of the same numbers in another shape: w' for the transposed, b:1x3 for a row of b; else ""."""
    if (
        step.operation not in ("transpose", "broadcast_in_dim", "reshape", "squeeze")
        or step.inputs[0].kind == "constant"
    ):
        return ""
    base = names.get(step.inputs[0].name, step.inputs[0].name).partition(":")[0]
    if step.operation == "transpose":
        return base + "'" if len(step.output.shape) == 2 else ""
    return f"{base}:{'x'.join(map(str, step.output.shape)) or 'number'}"


def renamed(steps: Sequence[Step], names: dict[str, str]) -> tuple[list[Step], Callable[[Value], Value]]:
    """The same steps under other names of values."""
    made: dict[str, Value] = {}

    def new(value: Value) -> Value:
        if value.kind != "computed" and value.name not in names:
            return value
        if value.name not in made:
            made[value.name] = replace(value, name=names.get(value.name, value.name))
        return made[value.name]

    return [replace(s, inputs=tuple(map(new, s.inputs)), outputs=tuple(map(new, s.outputs))) for s in steps], new


def used(steps: Sequence[Step], outputs: Sequence[Value]) -> list[int]:
    """Positions of the steps whose results go into the outputs; a program may compute what nobody asks for."""
    wanted = {v.step for v in outputs}
    for step in reversed(steps):
        if step.number in wanted:
            wanted |= {v.step for v in step.inputs}
    return [i for i, s in enumerate(steps) if s.number in wanted]


def refuse_too_large(closed: Any, what: str) -> None:
    """Before anything is computed: would the values fit?"""
    total = _bytes(closed.jaxpr)
    if total > MOST_BYTES:
        raise ModelError(
            f"a trace keeps every value, and those of {what} are {total / 2**30:.1f} GiB; the most is "
            f"{MOST_BYTES / 2**30:.0f} GiB. Trace fewer rows, x[:8], or a part of the net."
        )


def _bytes(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        total += sum(v.aval.size * getattr(v.aval.dtype, "itemsize", 8) for v in equation.outvars)
        if equation.primitive.name in _CALLS:
            total += _bytes(_closed(equation.params[_CALLS[equation.primitive.name]]).jaxpr)
    return total


def layer_of(scopes: Sequence[str], known: frozenset[str] = frozenset()) -> str:
    """A layer's path out of the named scopes around: the last that is known, else all of them.

    >>> layer_of(("Sequential", "block", "block.0"), frozenset({"block", "block.0"}))
    'block.0'
    >>> layer_of(("encoder", "softmax"))
    'encoder/softmax'
    """
    if known:
        return next((s for s in reversed(scopes) if s in known), "")
    kept = [s for i, s in enumerate(scopes) if i + 1 == len(scopes) or not scopes[i + 1].startswith(s + ".")]
    return "/".join(kept)


def _scopes(equation: Any) -> tuple[str, ...]:
    return tuple(s for s in str(equation.source_info.name_stack).split("/") if s)


def _closed(jaxpr: Any) -> Any:
    from jax.extend.core import ClosedJaxpr

    return jaxpr if hasattr(jaxpr, "jaxpr") else ClosedJaxpr(jaxpr, ())


def _draws(inputs: Sequence[Value]) -> bool:
    """A call that takes a random key: how bits become numbers is not what anyone wants to read."""
    return any(v.numbers is None for v in inputs)


def _opens(equation: Any, inputs: Sequence[Value]) -> bool:
    """Does the inside of a function give the gradient its own rule gives, here?"""
    jaxpr = _closed(equation.params["call_jaxpr"]).jaxpr
    if _longest_loop(jaxpr) > LONGEST:
        return False
    if jaxpr not in _comparisons:
        _comparisons[jaxpr] = jax.jit(_comparison(equation, [v.is_float for v in inputs]))
    try:
        return bool(_comparisons[jaxpr]([v.array for v in inputs]))
    except Exception:  # the inside has no derivative: that is why there is a rule
        return False


_comparisons: weakref.WeakKeyDictionary[Any, Callable[..., Any]] = weakref.WeakKeyDictionary()


def _comparison(equation: Any, floats: Sequence[bool]) -> Callable[[list[Any]], jax.Array]:
    """A function that says whether rule and inside agree for these inputs."""
    from jax.extend.core import jaxpr_as_fun

    primitive, settings = equation.primitive, equation.params
    held = settings.get("num_consts", 0)  # what it closes over: JAX refuses gradients by that
    places = [i for i, is_float in enumerate(floats) if is_float and i >= held]
    inside = jaxpr_as_fun(_closed(settings["call_jaxpr"]))
    rule = lambda *a: primitive.bind(*a, **primitive.get_bind_params(settings))  # noqa: E731

    def pulled(f: Callable[..., Any], arrays: list[Any]) -> Any:
        def of(*given: Any) -> Any:
            full = list(arrays)
            for i, a in zip(places, given, strict=True):
                full[i] = a
            return [o for o in f(*full) if jnp.issubdtype(o.dtype, jnp.floating)]

        outs, back = jax.vjp(of, *(arrays[i] for i in places))
        return back([jnp.cos(jnp.arange(o.size, dtype=o.dtype)).reshape(o.shape) for o in outs])

    def agree(arrays: list[Any]) -> jax.Array:
        pairs = zip(pulled(rule, arrays), pulled(inside, arrays), strict=True)
        return jnp.all(jnp.stack([jnp.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in pairs]))

    return agree


def _longest_loop(jaxpr: Any) -> int:
    longest = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("scan", "while"):
            longest = max(longest, equation.params.get("length", LONGEST + 1))
        for name in ("jaxpr", "call_jaxpr"):
            if name in equation.params:
                longest = max(longest, _longest_loop(_closed(equation.params[name]).jaxpr))
    return longest


def _called(name: str, settings: Any) -> str:
    """What to call a step: a function with a rule of its own by its own name."""
    if name in ("custom_jvp_call", "custom_vjp_call") or name in _CALLS:
        inner = settings.get("name") or getattr(settings.get("call_jaxpr"), "debug_info", None)
        return str(getattr(inner, "func_name", inner) or name).lstrip("_").split(" ")[0]
    return name


def _told(equation: Any) -> dict[str, Any]:
    """The settings of an operation that a reader may want; not programs and functions."""
    kept = {k: v for k, v in equation.params.items() if not callable(v) and not hasattr(v, "jaxpr")}
    if equation.primitive.name == "custom_jvp_call":
        kept["elementwise"] = _elementwise(_closed(equation.params["call_jaxpr"]).jaxpr)
    return kept


def _elementwise(jaxpr: Any) -> bool:
    """Does a program work on each element by itself, as relu does and softmax does not?"""
    for equation in jaxpr.eqns:
        name, settings = equation.primitive.name, equation.params
        inner = settings.get(_CALLS.get(name, "call_jaxpr"))
        if inner is not None:
            if not _elementwise(_closed(inner).jaxpr):
                return False
        elif name not in ELEMENTWISE and not (name == "broadcast_in_dim" and equation.invars[0].aval.shape == ()):
            return False
    return True


def _literal(array: Any) -> str:
    from derin.trace.numbers import number

    found = np.asarray(array) if not hasattr(array, "dtype") or array.dtype != jnp.bfloat16 else float(array)
    return number(np.asarray(found).item())
