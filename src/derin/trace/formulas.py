"""How an operation is written: with names, and with every number."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from derin.trace.numbers import factor, number, shape_text
from derin.trace.steps import Share, Step

INFIX = {"add": "+", "add_any": "+", "sub": "-", "mul": "*", "div": "/", "rem": "mod", "eq": "==", "ne": "!=",
         "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "and": "and", "or": "or"}  # fmt: skip
CALLED = {"logistic": "sigmoid", "reduce_sum": "sum", "reduce_max": "max", "reduce_min": "min",
          "reduce_prod": "product", "reduce_and": "all", "reduce_or": "any", "random_fold_in": "fold_in",
          "conv_general_dilated": "convolve", "add_any": "add"}  # fmt: skip
PLUMBING = frozenset("broadcast_in_dim reshape squeeze expand_dims convert_element_type copy copy_p transpose".split())


def formula(step: Step) -> str:
    """The operation with names: x @ weight', max(z, 0).

    The output stands before it: f"{step.output.name} = {formula(step)}".
    """
    return _written(step, [_operand(v.name) for v in step.inputs], [v.name for v in step.inputs])


def formula_in_numbers(step: Step, index: tuple[int, ...] = (), digits: int = 5) -> str:
    """The operation with the numbers of one element of its output: 3 * (-2)."""
    texts, plain = [], []
    for v in step.inputs:
        at = np.broadcast_to(np.asarray(v.numbers), step.output.shape)[index].item()
        texts.append(factor(at, digits))
        plain.append(number(at, digits))
    return _written(step, texts, plain)


def _written(step: Step, operands: list[str], arguments: list[str]) -> str:
    """operands: for use beside a sign, in brackets where they need them; arguments: for use within brackets."""
    op, settings = step.operation, step.settings
    first = operands[0] if operands else ""
    if op in INFIX and len(operands) == 2:
        return f"{first} {INFIX[op]} {operands[1]}"
    if op == "neg":
        return f"-{first}" if first[0] not in "-.0123456789" else f"-({arguments[0]})"
    if op == "logaddexp" and arguments[1:] == ["0"]:
        return f"softplus({arguments[0]})"
    if op in ("integer_pow", "pow"):
        return f"{first}^{settings['y'] if op == 'integer_pow' else operands[1]}"
    if op == "square":
        return f"{first}^2"
    if op == "rsqrt":
        return f"1 / sqrt({arguments[0]})"
    if op == "abs":
        return f"|{arguments[0]}|"
    if op == "dot_general":
        return _product(step, operands)
    if op == "transpose":
        return f"{first}, transposed" if len(step.output.shape) == 2 else f"{first} with axes {settings['permutation']}"
    if op == "broadcast_in_dim":
        return f"{first}, repeated to {shape_text(step.output.shape)}"
    if op in ("reshape", "squeeze", "expand_dims"):
        return f"{first} as {shape_text(step.output.shape)}"
    if op == "convert_element_type":
        return f"{first} as {settings['new_dtype']}"
    if op in ("copy", "copy_p"):
        return first
    if op == "stop_gradient":
        return f"{first}, no gradient goes back"
    if op == "select_n" and len(operands) == 3:
        return f"{operands[2]} where {first}, else {operands[1]}"
    if op == "row":
        return f"{first}[{settings['row']}]"
    if op == "scan":
        return f"{settings['length']} turns of a loop over {', '.join(arguments)}"
    if op == "slice":
        parts = [f"{a}:{b}" for a, b in zip(settings["start_indices"], settings["limit_indices"], strict=True)]
        return f"{first}[{', '.join(parts)}]"
    axes = settings.get("axes")
    over = ""
    if axes is not None and step.inputs and len(axes) < len(step.inputs[0].shape):
        over = f" over axis {', '.join(map(str, axes))}"
    return f"{CALLED.get(op, op)}({', '.join(arguments)}{over})"


def _operand(name: str) -> str:
    return f"({name})" if name.startswith("-") else name


def _product(step: Step, operands: list[str]) -> str:
    (left, right), (batch, _) = step.settings["dimension_numbers"]
    a, b = step.inputs
    if batch or len(a.shape) > 2 or len(b.shape) > 2 or len(left) != 1:
        return f"{operands[0]} @ {operands[1]}"
    first = operands[0] if len(a.shape) < 2 or left[0] == 1 else prime(operands[0])
    second = operands[1] if len(b.shape) < 2 or right[0] == 0 else prime(operands[1])
    return f"{first} @ {second}"


def prime(name: str) -> str:
    """Of a matrix the transposed: w becomes w', w' becomes w."""
    return name[:-1] if name.endswith("'") else name + "'"


# -- every product of a matrix product


def terms(step: Step, index: tuple[int, ...]) -> Iterator[tuple[float, float]]:
    """The pairs that a matrix product multiplies and adds for one element of its output."""
    a, b = (np.asarray(v.numbers) for v in step.inputs)
    for left, right in pairs(step, index):
        yield a[left].item(), b[right].item()


def pairs(step: Step, index: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Where these numbers stand in the two inputs."""
    (left, right), (left_batch, right_batch) = step.settings["dimension_numbers"]
    a, b = step.inputs
    left_free = [i for i in range(len(a.shape)) if i not in (*left, *left_batch)]
    right_free = [i for i in range(len(b.shape)) if i not in (*right, *right_batch)]
    n, m = len(left_batch), len(left_free)
    for at in itertools.product(*(range(a.shape[i]) for i in left)):
        i, j = [0] * len(a.shape), [0] * len(b.shape)
        for axes, values in ((left_batch, index[:n]), (left_free, index[n : n + m]), (left, at)):
            for axis, v in zip(axes, values, strict=True):
                i[axis] = v
        for axes, values in ((right_batch, index[:n]), (right_free, index[n + m :]), (right, at)):
            for axis, v in zip(axes, values, strict=True):
                j[axis] = v
        yield tuple(i), tuple(j)


def sum_of_products(products: list[tuple[float, float]], digits: int = 5) -> str:
    """(1*2) + (2*2) + (3*2), as in S0.22."""
    return " + ".join(f"({number(a, digits)}*{number(b, digits)})" for a, b in products) or "0"


def products_back(share: Share) -> dict[tuple[int, ...], list[tuple[float, float]]]:
    """For every element that a share goes to: the (incoming, local derivative) whose products are added."""
    step, to = share.step, share.to
    incoming = np.asarray(share.incoming, np.float64)
    found: dict[tuple[int, ...], list[tuple[float, float]]] = {i: [] for i in np.ndindex(to.shape)}
    if step.operation == "dot_general" and len(step.outputs) == 1:
        other = np.asarray(step.inputs[1 - share.position].numbers)
        for index in np.ndindex(step.output.shape):
            for places in pairs(step, index):
                pair = (incoming[index].item(), other[places[1 - share.position]].item())
                found[places[share.position]].append(pair)
        return found
    local = share.local
    if local is None:
        return {}
    if share.diagonal:
        return {i: [(incoming[i].item(), local[i].item())] for i in found}
    for flat, index in enumerate(found):
        rows = np.flatnonzero(local[:, flat])
        found[index] = [(incoming.reshape(-1)[r].item(), local[r, flat].item()) for r in rows]
    return found


def local_formula(share: Share) -> str:
    """How the incoming gradient G becomes the share, for arrays: x' @ G, or G * local."""
    step = share.step
    names = [v.name for v in step.inputs]
    if step.operation == "dot_general" and all(len(v.shape) == 2 for v in step.inputs) and not _batched(step):
        (left, right), _ = step.settings["dimension_numbers"]
        if share.position == 0:
            other = names[1] if right[0] == 1 else prime(names[1])
            return f"G @ {other}" if left[0] == 1 else f"{prime(other)} @ G'"
        other = prime(names[0]) if left[0] == 1 else names[0]
        return f"{other} @ G" if right[0] == 0 else f"G' @ {prime(other)}"
    if step.operation == "transpose" and len(share.to.shape) == 2:
        return "G'"
    if step.operation in PLUMBING and share.to.size == step.output.size:
        return f"G as {shape_text(share.to.shape)}"
    if step.operation == "broadcast_in_dim":
        return "the sum of G over what was repeated"
    if step.operation == "reduce_sum":
        return "G for each that was added"
    if share.diagonal:
        derivative = slope(share)
        return f"G * {derivative if derivative[0] == '(' or ' ' not in derivative else f'({derivative})'}"
    if step.elementwise:
        return (
            "the sum of G * " + (f"({slope(share)})" if " " in slope(share) else slope(share)) + ", over what repeats"
        )
    return "G through this operation"


def _batched(step: Step) -> bool:
    return bool(step.settings["dimension_numbers"][1][0])


def slope(share: Share) -> str:
    """The local derivative of an elementwise operation in words: cos(x), 2 x, b."""
    step, i = share.step, share.position
    x = _operand(step.inputs[i].name)
    other = _operand(step.inputs[1 - i].name) if len(step.inputs) == 2 else ""
    y = step.output.name
    op = step.operation
    if op == "logaddexp" and step.inputs[1].name == "0":
        return f"sigmoid({step.inputs[0].name})"
    if op == "integer_pow":
        n = step.settings["y"]
        return f"{n} {x}" if n == 2 else f"{n} {x}^{n - 1}"
    table: dict[str, Any] = {
        "add": "1", "add_any": "1", "sub": "1" if i == 0 else "-1", "mul": other, "neg": "-1",
        "div": f"1 / {other}" if i == 0 else f"-{other} / {x}^2", "exp": y, "log": f"1 / {x}", "square": f"2 {x}",
        "sqrt": f"1 / (2 {y})", "tanh": f"(1 - {y}^2)", "logistic": f"{y} (1 - {y})", "sin": f"cos({x})",
        "cos": f"-sin({x})", "abs": f"sign({x})", "log1p": f"1 / (1 + {x})", "rsqrt": f"-{y}^3 / 2",
        "expm1": f"({y} + 1)", "relu": f"(1 where {x} > 0, else 0)", "convert_element_type": "1", "copy": "1",
        "max": f"(1 where {x} is the greater)", "min": f"(1 where {x} is the less)",
        "select_n": "(1 where it was taken, else 0)",
    }  # fmt: skip
    return str(table.get(op, f"d {y} / d {x}"))


def depends_on_examples(steps: Any, arguments: Any, examples: int) -> set[str]:
    """Names of the arrays whose first axis is the examples'."""
    found = {v.name for v in arguments if v.name.partition(".")[0] in ("x", "y") and v.shape[:1] == (examples,)}
    for step in steps:
        if any(v.name in found for v in step.inputs):
            found |= {v.name for v in step.outputs if v.shape[:1] == (examples,) and examples}
    return found
