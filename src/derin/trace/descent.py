"""Several steps of gradient descent as a table, a row a step (S0.19, S0.20)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derin.errors import ModelError, SpecError
from derin.nn import Loss, Module
from derin.optim import Optimizer
from derin.trace.functions import _array, named_leaves, program_of
from derin.trace.numbers import is_nan, number

WIDEST = 12  # numbers of the parameters that have columns of their own
FIRST, LAST = 12, 4  # rows of a long table that are shown


@dataclass(frozen=True)
class Table:
    """Steps as rows: step, the parameters before it, the value, its gradient, and what is added to the parameters."""

    columns: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    params: Any  # after the last step

    def to_text(self, digits: int = 5) -> str:
        cells = [self.columns, *self._cells(digits)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join("  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)

    def to_markdown(self, digits: int = 5) -> str:
        lines = ["| " + " | ".join(row) + " |" for row in [self.columns, *self._cells(digits)]]
        return "\n".join([lines[0], "|" + "---:|" * len(self.columns), *lines[1:]]) + "\n"

    def to_html(self, digits: int = 5) -> str:
        rows = [
            "<tr>" + "".join(f"<{tag}>{escape(c)}</{tag}>" for c in row) + "</tr>"
            for tag, row in [("th", self.columns), *(("td", row) for row in self._cells(digits))]
        ]
        return "<table>\n" + "\n".join(rows) + "\n</table>\n"

    def to_json(self) -> str:
        """{"columns": [...], "rows": [[...], ...]}, all rows; what is not finite is null."""
        rows = [[v if np.isfinite(v) else None for v in row] for row in self.rows]
        return json.dumps({"columns": self.columns, "rows": rows}, allow_nan=False)

    def _repr_html_(self) -> str:
        return self.to_html()

    def __str__(self) -> str:
        return self.to_text()

    def _cells(self, digits: int) -> list[tuple[str, ...]]:
        shown = [tuple("" if is_nan(v) else number(v, digits) for v in row) for row in self.rows]
        if len(shown) <= FIRST + LAST + 1:
            return shown
        return [*shown[:FIRST], ("...",) * len(self.columns), *shown[-LAST:]]


def table(what: Any, *args: Any, optimizer: Any, steps: int = 5, loss: Any = None, params: Any = None,
          state: Any = None) -> Table:  # fmt: skip
    """Steps of an optimiser as a table.

    table(net, x, y, loss=..., optimizer=...)     a net's training on the same rows
    table(f, w, *others, optimizer=...)           the first argument of f is moved to where f is small

    The last row is the state after the last step.

    >>> from derin import optim
    >>> print(table(lambda w: (2 - w * 1) ** 2 / 2, 5.0, optimizer=optim.SGD(0.1), steps=2))
    step     w       f  d f / d w  change
       1     5     4.5          3    -0.3
       2   4.7   3.645        2.7   -0.27
       3  4.43  2.9524       2.43
    """
    if not isinstance(optimizer, Optimizer):
        raise SpecError(f"optimizer must be one of derin.optim, such as optim.SGD(0.1), got {optimizer!r}.")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise SpecError(f"steps must be a whole number of 1 or more, got {steps!r}.")
    if isinstance(what, Module):
        f, start, of, prefix = _of_net(what, args, loss, params, state)
    else:
        if loss is not None or params is not None or state is not None:
            raise SpecError("loss, params and state belong to the table of a net, table(net, x, y, loss=...).")
        f, start, of, prefix = _of_function(what, args)
    names = _columns(start, prefix)
    value_and_grad = jax.jit(jax.value_and_grad(f))
    memory, rows = optimizer.init(start), []
    for i in range(steps + 1):
        value, gradient = value_and_grad(start)
        change, memory = optimizer.update(gradient, memory, start, optimizer.learning_rate)
        shown = _flat(change) if i < steps else [float("nan")] * len(names)
        rows.append((i + 1, *_flat(start), _plain(value), *_flat(gradient), *shown))
        if i < steps:
            start = jax.tree.map(jnp.add, start, change)
    one = len(names) == 1
    changes = ["change"] if one else [f"change of {n}" for n in names]
    return Table(("step", *names, of, *(f"d {of} / d {n}" for n in names), *changes), tuple(rows), start)


def _of_net(net: Module, args: Sequence[Any], loss: Any, params: Any, state: Any) -> Any:
    if len(args) != 2 or not isinstance(loss, Loss):
        raise SpecError("the table of a net is table(net, x, y, loss=nn.MSELoss(), optimizer=optim.SGD(0.1)).")
    x, y = map(jnp.asarray, args)
    if params is None:
        params, state = net.init(jax.random.key(0), x)
    key = jax.random.key(0)

    def f(params: Any) -> jax.Array:
        return loss(net.apply(params, state or {}, x, train=True, key=key)[0], y)

    return f, jax.tree.map(jnp.asarray, dict(params)), "loss", ""


def _of_function(what: Any, args: Sequence[Any]) -> Any:
    if not callable(what) or not args:
        raise ModelError(f"table takes a function and where it starts, table(f, w, optimizer=...), got {what!r}.")
    called = getattr(what, "__name__", type(what).__name__)
    called = "f" if called == "<lambda>" else called
    args = tuple(jax.tree.map(lambda a: _array(a, called), a) for a in args)
    first = jax.tree.map(lambda a: a if jnp.issubdtype(a.dtype, jnp.floating) else a.astype(jnp.float32), args[0])
    _, shape = program_of(what, (first, *args[1:]), called)
    if getattr(shape, "shape", None) != ():
        raise ModelError(f"{called} must return one number to be made small, it returns {shape}.")
    import inspect

    names = list(inspect.signature(what).parameters) if hasattr(what, "__code__") else ["w"]
    return lambda w: what(w, *args[1:]), first, called, names[0]


def _columns(start: Any, prefix: str) -> list[str]:
    leaves, names = named_leaves([start], [prefix])
    found = [
        f"{name}[{','.join(map(str, index))}]" if index else name
        for name, leaf in zip(names, leaves, strict=True)
        for index in np.ndindex(np.shape(leaf))
    ]
    if len(found) > WIDEST:
        raise SpecError(
            f"a table has a column for each of up to {WIDEST} parameters, these are {len(found):,}. "
            "trace(net, x, y, ...) shows one step of a larger net."
        )
    return found


def _flat(tree: Any) -> list[float]:
    return [_plain(v) for leaf in jax.tree.leaves(tree) for v in np.asarray(leaf).reshape(-1)]


def _plain(value: Any) -> float:
    return float(str(np.float32(value)))
