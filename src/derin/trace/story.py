"""A trace as sections, groups and lines: what text, Markdown and HTML show, each in its own way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from derin.trace.formulas import (
    PLUMBING,
    depends_on_examples,
    factor,
    formula,
    formula_in_numbers,
    local_formula,
    prime,
    products_back,
    sum_of_products,
    terms,
)
from derin.trace.numbers import MOST_WRITTEN, WRITTEN_OUT, index_text, lines_of, number, size_form
from derin.trace.result import Trace
from derin.trace.steps import Share, Source, Step, Value

LONGEST_SUM = 64  # products of one element that are written out
MANY = 60  # operations from which "auto" writes no products out


class Line(NamedTuple):
    """One operation, or one share of a gradient: `text`, the same in numbers, and details below."""

    label: str
    text: str
    numbers: str = ""
    details: tuple[str, ...] = ()
    source: Source | None = None
    step: Step | None = None
    share: Share | None = None


class Group(NamedTuple):
    """Lines of one layer."""

    title: str
    lines: tuple[Line, ...]


class Section(NamedTuple):
    name: str  # inputs, forward, backward, gradients, parameters, update
    title: str
    groups: tuple[Group, ...]


class Telling(NamedTuple):
    """How it is told, and what the lines need to know of the trace."""

    trace: Trace
    form: str
    layout: str
    digits: int
    rows: frozenset[str]  # arrays of examples, which the layout "columns" turns

    def turned(self, v: Value) -> bool:
        return self.layout == "columns" and v.name in self.rows and len(v.shape) == 2

    def array(self, v: Value, array: Any = None) -> list[str]:
        """Its numbers, or those of something of its shape, as lines."""
        found = v.array if array is None else array
        return lines_of(np.asarray(found).T if self.turned(v) else found, self.form, self.digits)

    def at(self, v: Value, index: tuple[int, ...]) -> str:
        return index_text(index[::-1] if self.turned(v) else index)

    def number(self, value: Any) -> str:
        return number(value, self.digits)


def story(trace: Trace, form: str, layout: str, digits: int) -> list[Section]:
    """The sections of a trace, in the order in which they happened."""
    every = [*trace.steps, *(trace.update.steps if trace.update else ())]
    form = "brief" if form == "auto" and len(every) > MANY else form
    rows = frozenset(depends_on_examples(every, trace.arguments, trace.examples))
    telling = Telling(trace, form, layout, digits, rows)
    sections = [
        Section("inputs", "inputs", (Group("", tuple(_inputs(telling))),)),
        Section("forward", "forward", _grouped(telling, [(s, forward_line(telling, s)) for s in trace.steps])),
    ]
    if trace.by:
        back = [(s, line) for s in reversed(trace.steps) for line in backward_lines(telling, s)]
        arrays = any(v.size > 1 for v in trace.arguments)
        title = f"backward   d {trace.of} / d {trace.of} = 1" + ("; G is the gradient that comes in" if arrays else "")
        sections.append(Section("backward", title, _grouped(telling, back)))
        sections.append(Section("gradients", "gradients", (Group("", tuple(_gradients(telling))),)))
    if trace.update is not None:
        sections.append(_update(telling))
    if trace.parameters and trace.by:
        each = _each_parameter(telling)
        if each:
            sections.append(Section("parameters", "number by number", tuple(each)))
    return [s for s in sections if any(g.lines for g in s.groups)]


def _grouped(telling: Telling, lines: Iterable[tuple[Step, Line]]) -> tuple[Group, ...]:
    kinds = telling.trace.kinds

    def title(layer: str) -> str:
        path, _, turn = layer.partition(" [")
        kind = kinds.get(path, "")
        name = path if path else "(net)" if kind else ""
        return f"{name}  {kind}".strip() + (f"  turn {turn.rstrip(']')}" if turn else "")

    return tuple(
        Group(title(layer), tuple(line for _, line in some)) for layer, some in groupby(lines, lambda p: p[0].layer)
    )


def _inputs(telling: Telling) -> Iterator[Line]:
    for v in telling.trace.arguments:
        if v.numbers is not None:
            array = telling.array(v)
            yield Line("", v.name, array[0] if len(array) == 1 else "", tuple(array) if len(array) > 1 else ())


# -- forward


def forward_line(telling: Telling, step: Step) -> Line:
    """One operation: what it is, and what came out."""
    out = step.output
    text = f"{', '.join(v.name for v in step.outputs)} = {_formula(telling, step)}"
    shared: dict[str, Any] = dict(source=step.source, step=step)
    label = str(step.number)
    if len(step.outputs) > 1:
        details = [f"{v.name}: {line}" for v in step.outputs for line in telling.array(v)]
        return Line(label, text, details=tuple(details), **shared)
    if step.operation in (*PLUMBING, "stop_gradient") and out.size > 1:
        return Line(label, text, **shared)
    if out.size == 1 and all(v.size == 1 and v.numbers is not None for v in step.inputs) and _simple(step):
        result = telling.number(np.asarray(out.numbers).reshape(-1)[0].item())
        return Line(label, text, f"{_scalars(telling, step)} = {result}", **shared)
    if written := _written_forward(telling, step):
        return Line(label, text, details=tuple(written), **shared)
    array = telling.array(out)
    return Line(label, text, array[0] if len(array) == 1 else "", tuple(array) if len(array) > 1 else (), **shared)


def _simple(step: Step) -> bool:
    return step.elementwise or step.operation == "dot_general"


def _scalars(telling: Telling, step: Step) -> str:
    if step.operation == "dot_general":
        return sum_of_products(list(terms(step, (0,) * len(step.output.shape))), telling.digits)
    index = (0,) * len(step.output.shape)
    return formula_in_numbers(step, index, telling.digits)


def _formula(telling: Telling, step: Step) -> str:
    """With examples in columns a product changes its sides: x @ w' is w @ x."""
    a = step.inputs[0] if step.inputs else None
    if a is not None and step.operation == "dot_general" and telling.turned(step.output) and telling.turned(a):
        b = step.inputs[1]
        return f"{b.name if telling.turned(b) else prime(b.name)} @ {a.name}"
    return formula(step)


def _written_forward(telling: Telling, step: Step) -> list[str]:
    """Every element with its numbers, where they are few."""
    out = step.output
    if not _writes(telling, out) or not out.size or out.numbers is None:
        return []
    lines = []
    for index in np.ndindex(out.shape):
        if step.operation == "dot_general":
            found = list(terms(step, index))
            if len(found) > LONGEST_SUM:
                return []
            if telling.turned(out) and not telling.turned(step.inputs[1]):
                found = [(b, a) for a, b in found]
            text = sum_of_products(found, telling.digits)
        elif step.elementwise:
            text = formula_in_numbers(step, index, telling.digits)
        elif step.operation == "reduce_sum" and out.size == 1 and step.inputs[0].size <= WRITTEN_OUT:
            text = " + ".join(factor(v.item(), telling.digits) for v in np.asarray(step.inputs[0].numbers).reshape(-1))
        else:
            return []
        result = telling.number(np.asarray(out.numbers)[index].item())
        lines.append((telling.at(out, index), f"{out.name}{telling.at(out, index)} = {text} = {result}"))
    return [text for _, text in sorted(lines, key=lambda p: [int(i) for i in p[0].strip("[]").split(",") if i])]


def _writes(telling: Telling, v: Value) -> bool:
    return size_form(v.shape, telling.form) == "scalar" and v.size <= MOST_WRITTEN


# -- backward


def backward_lines(telling: Telling, step: Step) -> Iterator[Line]:
    """What a step sends back, a line for each input; and the sums that are complete with it."""
    of = telling.trace.of
    for share in step.shares:
        meeting = telling.trace.meets[share.to.name]
        name = f"d {of} / d {share.to.name}"
        several = len(meeting) > 1
        yield _share_line(telling, share, f"part of {name}" if several else name)
        if several and share is meeting[-1]:
            yield _sum_line(telling, share.to, name, meeting)


def _share_line(telling: Telling, share: Share, name: str) -> Line:
    step, to = share.step, share.to
    label = str(step.number)
    text = f"{name} = {_local_formula(telling, share)}"
    shared: dict[str, Any] = dict(source=step.source, step=step, share=share)
    product = np.asarray(share.product)
    if to.size == 1 and step.output.size == 1 and share.local is not None:
        local = np.asarray(share.local).reshape(-1)[0].item()
        incoming = np.asarray(share.incoming).reshape(-1)[0].item()
        numbers = f"{factor(incoming, telling.digits)} * {factor(local, telling.digits)}"
        return Line(label, name, f"{numbers} = {telling.number(product.reshape(-1)[0].item())}", (), **shared)
    if step.operation in PLUMBING and to.size == step.output.size:
        return Line(label, text, **shared)
    if _writes(telling, to) and (written := _written_back(telling, share)):
        return Line(label, text, details=tuple(written), **shared)
    details = []
    if size_form(to.shape, telling.form) == "matrix" and share.diagonal:
        details = _labelled("G    ", telling.array(step.output, share.incoming))
        details += _labelled("local", telling.array(to, share.local))
        details += _labelled("  -> ", telling.array(to, product))
        return Line(label, text, details=tuple(details), **shared)
    array = telling.array(to, product)
    return Line(label, text, array[0] if len(array) == 1 else "", tuple(array) if len(array) > 1 else (), **shared)


def _labelled(label: str, lines: list[str]) -> list[str]:
    return [(label if i == 0 else " " * len(label)) + " " + line for i, line in enumerate(lines)]


def _local_formula(telling: Telling, share: Share) -> str:
    text = local_formula(share)
    left, at, right = text.partition(" @ ")
    if at and telling.turned(share.step.output):  # (A B)' = B' A'; examples are turned already
        rows = telling.rows | {"G"}
        turn = lambda n: n if n in rows else prime(n)  # noqa: E731
        if telling.turned(share.to):
            return f"{turn(right)} @ {turn(left)}"
        return f"{left.removesuffix(chr(39))} @ G'" if right == "G" else f"G @ {right.removesuffix(chr(39))}'"
    return text


def _written_back(telling: Telling, share: Share) -> list[str]:
    found = products_back(share)
    if not found or max(map(len, found.values())) > LONGEST_SUM:
        return []
    product = np.asarray(share.product)
    width = max(len(telling.at(share.to, i)) for i in found) + 3
    lines = []
    for index, products in found.items():
        one = len(products) == 1
        written = " * ".join(factor(v, telling.digits) for v in products[0]) if one else ""
        text = written if one else sum_of_products(products, telling.digits)
        result = telling.number(product[index].item())
        equals = f"{text} = {result}" if products else "0"
        at = f"at {telling.at(share.to, index)}" if share.to.shape else ""
        lines.append(f"{at:<{width}} {equals}".strip())
    return lines


def _sum_line(telling: Telling, v: Value, name: str, meeting: tuple[Share, ...]) -> Line:
    """Where paths meet, their shares are added."""
    steps = [str(s.step.number) for s in meeting]
    where = f"{', '.join(steps[:-1])} and {steps[-1]}"
    total = np.asarray(telling.trace.by[v.name])
    text = f"{name} = the sum of the parts from steps {where}"
    if v.size == 1:
        parts = " + ".join(factor(np.asarray(s.product).reshape(-1)[0].item(), telling.digits) for s in meeting)
        return Line("", name, f"{parts} = {telling.number(total.reshape(-1)[0].item())}   (steps {where})")
    array = telling.array(v, total)
    return Line("", text, array[0] if len(array) == 1 else "", tuple(array) if len(array) > 1 else ())


# -- what comes of it


def _gradients(telling: Telling) -> Iterator[Line]:
    trace = telling.trace
    values = {v.name: v for v in trace.arguments}
    for name in trace.wanted:
        array = telling.array(values[name], trace.by[name])
        text = f"d {trace.of} / d {name}"
        yield Line("", text, array[0] if len(array) == 1 else "", tuple(array) if len(array) > 1 else ())


def _update(telling: Telling) -> Section:
    """The new parameters; for any rule but plain gradient descent its operations before them."""
    trace, update = telling.trace, telling.trace.update
    if update is None:
        raise ValueError("this trace has no update.")
    plain = all(_is_plain(telling, name) for name in update.new)
    lines = []
    for name, new in update.new.items():
        array = telling.array(new)
        rate = telling.number(update.optimizer.learning_rate) if plain else ""
        text = f"new {name} = {name} - {rate} * d {trace.of} / d {name}" if plain else f"new {name}"
        lines.append(Line("", text, array[0] if len(array) == 1 else "", tuple(array) if len(array) > 1 else ()))
    groups = [Group("", tuple(lines))]
    if not plain:
        steps = _grouped(telling, [(s, forward_line(telling, s)) for s in update.steps])
        groups = [*steps, Group("the new parameters", tuple(lines))]
    return Section("update", f"update   {update.optimizer!r}", tuple(groups))


def _is_plain(telling: Telling, name: str) -> bool:
    """Is the update of this parameter the learning rate times the gradient?"""
    from derin.optim import SGD

    update = telling.trace.update
    if update is None or not isinstance(update.optimizer, SGD) or not isinstance(update.optimizer.learning_rate, float):
        return False
    old, new = np.asarray(update.old[name].array, np.float64), np.asarray(update.new[name].array)
    moved = old - update.optimizer.learning_rate * np.asarray(telling.trace.by[name], np.float64)
    return bool(np.allclose(new, moved, rtol=1e-6, atol=1e-7))


def _each_parameter(telling: Telling) -> list[Group]:
    """For each number of the weights: the products its gradient is made of, and its update; S0.22's "For w1"."""
    trace = telling.trace
    values = {v.name: v for v in trace.arguments}
    if sum(values[n].size for n in trace.parameters) > WRITTEN_OUT and telling.form != "scalar":
        return []
    groups = []
    for name in trace.parameters:
        v = values[name]
        for index in np.ndindex(v.shape):
            at = f"{name}{index_text(index)}"
            gradient = np.asarray(trace.by[name])[index].item()
            lines = []
            for products in _sources_of(trace, name, index):
                written = sum_of_products(products, telling.digits)
                lines.append(Line("", f"d {trace.of} / d {at}", f"{written} = {telling.number(gradient)}"))
            if trace.update is not None:
                old, new = np.asarray(v.array)[index].item(), np.asarray(trace.update.new[name].array)[index].item()
                lines.append(
                    Line("", f"new {at}", f"{_moved(telling, name, old, gradient, new)} = {telling.number(new)}")
                )
            groups.append(Group(f"For {at}", tuple(lines)))
    return groups


def _moved(telling: Telling, name: str, old: float, gradient: float, new: float) -> str:
    if telling.trace.update and _is_plain(telling, name):
        rate = telling.number(telling.trace.update.optimizer.learning_rate)
        return f"{telling.number(old)} - {rate} * {factor(gradient, telling.digits)}"
    return f"{telling.number(old)} + {factor(new - old, telling.digits)}"


def _sources_of(trace: Trace, name: str, index: tuple[int, ...]) -> Iterator[list[tuple[float, float]]]:
    """The products that make up the gradient of one number of a parameter, through transposes and reshapes."""
    shares = trace.meets.get(name, ())
    if len(shares) != 1:
        return
    share = shares[0]
    while (
        share.step.operation in ("transpose", "reshape", "squeeze", "copy") and share.to.size == share.step.output.size
    ):
        v = share.to
        numbered = np.arange(v.size, dtype=np.int32).reshape(v.shape)
        moved = np.asarray(share.step.run(numbered)[0])
        index = tuple(int(i) for i in np.argwhere(moved == numbered[index])[0])
        following = trace.meets.get(share.step.output.name, ())
        if len(following) != 1:
            return
        share = following[0]
    found = products_back(share).get(index)
    if found and len(found) <= LONGEST_SUM:
        yield found
