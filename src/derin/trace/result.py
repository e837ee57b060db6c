"""Trace: a computation in numbers, and the ways it shows itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from derin.errors import ModelError, SpecError
from derin.trace.steps import Share, Step, Value

FORMS = ("auto", "scalar", "matrix", "summary")
LAYOUTS = ("rows", "columns")


@dataclass(frozen=True, eq=False)
class Update:
    """What the optimiser did: old - the gradient's part = new, by the path of the parameter."""

    optimizer: Any
    steps: tuple[Step, ...]
    old: Mapping[str, Value]
    new: Mapping[str, Value]


@dataclass(frozen=True, eq=False)
class Trace:
    """A computation, operation by operation; made by `derin.trace(...)`.

    value      what came out                 gradients   by argument, or by parameter path
    steps      every operation, in order     update      what the optimiser made of the gradients

    >>> import derin
    >>> t = derin.trace(lambda x: 2 * x**2, 3.0)
    >>> float(t.value), [float(g) for g in t.gradients]
    (18.0, [12.0])
    """

    title: str
    steps: tuple[Step, ...]
    arguments: tuple[Value, ...]  # inputs, parameters: everything that came in
    outputs: tuple[Value, ...]  # the first is what is differentiated
    value: Any
    of: str = "f"  # what the value is called: loss, J
    by: Mapping[str, Any] = field(default_factory=dict)  # the gradient of every value on the way back, by name
    meets: Mapping[str, tuple[Share, ...]] = field(default_factory=dict)
    wanted: tuple[str, ...] = ()  # names of the arguments that gradients are taken by
    parameters: tuple[str, ...] = ()  # the names of those that are a net's weights
    examples: int = 0  # rows of the input: arrays whose first axis they are may be shown as columns
    kinds: Mapping[str, str] = field(default_factory=dict)  # layer path -> Linear
    why_forward_only: str = ""
    update: Update | None = None
    grouped: Any = field(default=None, repr=False)  # puts gradients by name into the shape of the arguments

    @property
    def gradients(self) -> Any:
        """The gradients: by parameter path for a net, else one for each argument.

        Raises ModelError where there are none: the value is not one number, or no argument is a float.
        """
        if self.why_forward_only:
            raise ModelError(f"this trace has no gradients: {self.why_forward_only}")
        if self.parameters:
            return {name: self.by[name] for name in self.parameters}
        return self.grouped(self.by)

    @property
    def new_params(self) -> dict[str, Any]:
        """The parameters after the update, by path."""
        if self.update is None:
            raise ModelError("there was no update: trace(net, x, y, loss=..., optimizer=optim.SGD(0.1)).")
        return {name: v.array for name, v in self.update.new.items()}

    def to_text(self, form: str = "auto", layout: str = "rows", digits: int = 5) -> str:
        """The whole computation as text.

        form: "scalar" writes every product out, "matrix" shows arrays, "summary" their shape, min, mean, max;
        "auto" takes what fits the size of each. layout: "rows" has an example a row (S0.04), "columns" an example a
        column (S2.04).
        """
        from derin.trace.text import as_text

        return as_text(self, *_checked(self, form, layout, digits))

    def to_markdown(self, form: str = "auto", layout: str = "rows", digits: int = 5) -> str:
        """Markdown with formulas between dollar signs."""
        from derin.trace.markdown import as_markdown

        return as_markdown(self, *_checked(self, form, layout, digits))

    def to_html(self, form: str = "auto", layout: str = "rows", digits: int = 5) -> str:
        """One HTML page that needs no network; layers open and close."""
        from derin.trace.page import as_page

        return as_page(self, *_checked(self, form, layout, digits))

    def to_svg(self) -> str:
        """The graph of the computation: values above the edges, gradients below (S2.09)."""
        from derin.trace.graph import as_svg

        return as_svg(self)

    def to_json(self) -> str:
        """Everything as JSON; arrays of more than 10,000 numbers as a summary."""
        from derin.trace.json_form import as_json

        return as_json(self)

    def _repr_html_(self) -> str:
        from derin.trace.page import as_fragment

        return as_fragment(self, "auto", "rows", 5)

    def __repr__(self) -> str:
        from derin.trace.numbers import shown

        value = ", ".join(shown(v) for v in self.outputs[:1])
        return f"Trace of {self.title}: {len(self.steps)} operations, {self.of} = {value}"


def _checked(trace: Trace, form: str, layout: str, digits: int) -> tuple[str, str, int]:
    from derin.trace.numbers import MOST_SHOWN, MOST_WRITTEN

    if form not in FORMS:
        raise SpecError(f"form must be one of {', '.join(FORMS)}, got {form!r}.")
    if layout not in LAYOUTS:
        raise SpecError(f'layout must be "rows" (an example a row) or "columns", got {layout!r}.')
    if not isinstance(digits, int) or not 1 <= digits <= 17:
        raise SpecError(f"digits must be a whole number from 1 to 17, got {digits!r}.")
    most = {"scalar": MOST_WRITTEN, "matrix": MOST_SHOWN}.get(form)
    if most is not None:
        values = [*trace.arguments, *(v for s in trace.steps for v in s.outputs)]
        large = max(values, key=lambda v: v.size)
        if large.size > most:
            raise SpecError(
                f"{large.name} has {large.size:,} numbers, {list(large.shape)}: too many to show, the most in the "
                f'{form} form is {most:,}. form="auto" summarises what is large; or trace fewer rows, x[:2].'
            )
    return form, layout, digits
