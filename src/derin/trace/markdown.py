"""A trace as Markdown, with formulas between dollar signs as GitHub, Jupyter and pandoc show them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from derin.trace.formulas import INFIX, PLUMBING
from derin.trace.numbers import number, numbers_in, shape_text
from derin.trace.result import Trace
from derin.trace.steps import Share, Step
from derin.trace.story import Line, story
from derin.trace.text import headline

MATRIX = 36  # numbers of a matrix in a formula
GREEK = {"alpha", "beta", "gamma", "delta", "epsilon", "theta", "lambda", "mu", "sigma", "phi", "rho", "eta"}


def as_markdown(trace: Trace, form: str, layout: str, digits: int) -> str:
    """Headings, an item an operation, formulas; see Trace.to_markdown."""
    lines = [f"# {headline(trace, digits)}"]
    for section in story(trace, form, layout, digits):
        lines += ["", f"## {section.title}"]
        for group in section.groups:
            if group.title:
                lines += ["", f"### {group.title}"]
            lines.append("")
            for line in group.lines:
                lines += _item(trace, line, digits)
    if trace.why_forward_only:
        lines += ["", f"No gradients: {trace.why_forward_only}"]
    return "\n".join(lines) + "\n"


def _item(trace: Trace, line: Line, digits: int) -> list[str]:
    label = f"**{line.label}**  " if line.label else ""
    if line.share is not None:
        first = f"- {label}${share_formula(line.share, trace.of)}$"
    elif line.step is not None and len(line.step.outputs) == 1:
        first = f"- {label}${step_formula(line.step)}$"
    else:
        first = f"- {label}`{line.text}`"
    if line.numbers:
        first += f" `{line.numbers.strip()}`"
    if line.source and line.share is None:
        first += f"  ({line.source})"
    matrix = _matrix_of(line, digits)
    if matrix:
        return [first, "", f"  $${matrix}$$", ""]
    if not line.details:
        return [first]
    return [first, "", "  ```text", *(f"  {detail}" for detail in line.details), "  ```"]


def _matrix_of(line: Line, digits: int) -> str:
    """The array that came out, where it is shown as one."""
    if not line.details or (line.share is None and line.step is None) or not line.details[0].startswith("["):
        return ""
    array: Any = line.share.product if line.share is not None else line.step.output.array if line.step else None
    return matrix(array, digits) if np.ndim(array) in (1, 2) and np.size(array) <= MATRIX else ""


def matrix(array: Any, digits: int = 5) -> str:
    r"""An array as LaTeX writes it.

    >>> print(matrix(np.array([[1.0, 2.0], [3.0, 4.0]])))
    \begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}
    """
    found = numbers_in(array)
    if found is None or found.ndim > 2:
        return r"\text{" + shape_text(np.shape(array)) + "}"
    rows = [" & ".join(number(v.item(), digits) for v in row) for row in np.atleast_2d(found)]
    return r"\begin{bmatrix} " + r" \\ ".join(rows) + r" \end{bmatrix}"


def symbol(name: str) -> str:
    r"""A name as LaTeX writes it.

    >>> [symbol(n) for n in ("w1", "0.weight'", "#3", "2.5", "x")]
    ['w_{1}', '\\mathrm{0.weight}^\\top', 'v_{3}', '2.5', 'x']
    """
    if name.endswith("'"):
        return symbol(name[:-1]) + r"^\top"
    if re.fullmatch(r"-?[\d.]+(e-?\d+)?", name):
        return name
    if re.fullmatch(r"#[\d.]+", name):
        return f"v_{{{name[1:]}}}"
    if name in GREEK:
        return f"\\{name}"
    if found := re.fullmatch(r"([A-Za-z])_?(\d+)", name):
        return f"{found[1]}_{{{found[2]}}}"
    if len(name) == 1:
        return name
    return r"\mathrm{" + re.sub(r"([_#%&$])", r"\\\1", name.split(":")[0]) + "}"


def step_formula(step: Step) -> str:
    """The operation as LaTeX writes it."""
    a = [symbol(v.name) for v in step.inputs]
    op, out = step.operation, symbol(step.output.name)
    signs = {"*": r" \cdot ", "!=": r" \neq ", "<=": r" \leq ", ">=": r" \geq ", "and": r" \wedge ", "or": r" \vee "}
    if op == "div":
        return rf"{out} = \frac{{{a[0]}}}{{{a[1]}}}"
    if op in INFIX and len(a) == 2:
        return f"{out} = {a[0]}{signs.get(INFIX[op], f' {INFIX[op]} ')}{a[1]}"
    if op == "dot_general" and all(len(v.shape) <= 2 for v in step.inputs):
        (left, right), (batch, _) = step.settings["dimension_numbers"]
        if not batch and len(left) == 1:
            first = a[0] if len(step.inputs[0].shape) < 2 or left[0] == 1 else a[0] + r"^\top"
            second = a[1] if len(step.inputs[1].shape) < 2 or right[0] == 0 else a[1] + r"^\top"
            return rf"{out} = {first}\,{second}"
    if op == "transpose" and len(step.output.shape) == 2:
        return rf"{out} \quad\text{{({step.inputs[0].name}, transposed)}}"
    if op in PLUMBING:
        return rf"{out} = {a[0]} \quad\text{{as {shape_text(step.output.shape)}}}"
    written = {
        "neg": "-{0}", "exp": "e^{{{0}}}", "log": r"\ln {0}", "sqrt": r"\sqrt{{{0}}}", "square": "{0}^2",
        "rsqrt": r"\frac{{1}}{{\sqrt{{{0}}}}}", "logistic": r"\sigma({0})", "tanh": r"\tanh {0}", "abs": r"|{0}|",
        "reduce_sum": r"\sum {0}", "reduce_max": r"\max {0}", "max": r"\max({0}, {1})", "min": r"\min({0}, {1})",
        "pow": "{0}^{{{1}}}", "sin": r"\sin {0}", "cos": r"\cos {0}", "stop_gradient": "{0}",
        "conv_general_dilated": "{0} * {1}",
    }.get(op)  # fmt: skip
    if written:
        return f"{out} = " + written.format(*a)
    if op == "integer_pow":
        return f"{out} = {a[0]}^{{{step.settings['y']}}}"
    return rf"{out} = \operatorname{{{op.replace('_', chr(92) + '_')}}}({', '.join(a)})"


def share_formula(share: Share, of: str) -> str:
    """The chain rule for one input: dL/dx = dL/dy dy/dx."""
    loss, x, y = symbol(of), symbol(share.to.name), symbol(share.step.output.name)
    through = rf"\frac{{\partial {loss}}}{{\partial {y}}}"
    local = _local(share, x, y)
    return rf"\frac{{\partial {loss}}}{{\partial {x}}} \leftarrow {through} {local}"


def _local(share: Share, x: str, y: str) -> str:
    step = share.step
    if share.diagonal:
        value = share.local
        if value is not None and value.size == 1:
            return rf"\cdot \frac{{\partial {y}}}{{\partial {x}}} = {_scalar(share)}"
        return rf"\odot \frac{{\partial {y}}}{{\partial {x}}}"
    if step.operation == "dot_general":
        other = symbol(step.inputs[1 - share.position].name)
        return rf"\;\text{{with}}\; {other}"
    return rf"\frac{{\partial {y}}}{{\partial {x}}}"


def _scalar(share: Share) -> str:
    g, d = np.asarray(share.incoming).reshape(-1)[0].item(), np.asarray(share.local).reshape(-1)[0].item()
    return rf"{number(g)} \cdot {number(d)} = {number(np.asarray(share.product).reshape(-1)[0].item())}"
