"""A trace as JSON: everything that a program may want of it."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from derin.trace.formulas import formula
from derin.trace.numbers import summary
from derin.trace.result import Trace
from derin.trace.steps import Step, Value, numbers_in

LARGEST = 10_000  # numbers of an array that are written


def as_json(trace: Trace) -> str:
    """{"value", "arguments", "steps": [{"number", "operation", "formula", "layer", "source", "inputs", "outputs",
    "incoming", "shares"}], "gradients", "update"}; what is not finite is a string, "nan" or "inf"."""
    found: dict[str, Any] = {
        "title": trace.title,
        "of": trace.of,
        "value": [_array(v.array) for v in trace.outputs],
        "arguments": [_value(v) for v in trace.arguments],
        "steps": [_step(s) for s in trace.steps],
        "gradients": {n: _array(trace.by[n]) for n in trace.wanted if n in trace.by},
        "update": None,
    }
    if trace.update is not None:
        found["update"] = {
            "optimizer": repr(trace.update.optimizer),
            "steps": [_step(s) for s in trace.update.steps],
            "new": {n: _array(v.array) for n, v in trace.update.new.items()},
        }
    return json.dumps(found, ensure_ascii=False, allow_nan=False)


def _step(step: Step) -> dict[str, Any]:
    return {
        "number": step.number,
        "operation": step.operation,
        "formula": formula(step),
        "layer": step.layer,
        "source": {"file": step.source.file, "line": step.source.line, "text": step.source.text}
        if step.source
        else None,
        "inputs": [v.name for v in step.inputs],
        "outputs": [_value(v) for v in step.outputs],
        "incoming": [None if g is None else _array(g) for g in step.incoming],
        "shares": [
            {
                "to": share.to.name,
                "local": _array(share.local) if share.to.size <= LARGEST and share.local is not None else None,
                "local_is": "each element's" if share.diagonal else "a matrix [outputs, inputs]",
                "product": _array(share.product),
            }
            for share in step.shares
        ],
    }


def _value(v: Value) -> dict[str, Any]:
    return {"name": v.name, "kind": v.kind, "shape": list(v.shape), "array": _array(v.array)}


def _array(array: Any) -> Any:
    found = numbers_in(array)
    if found is None or found.size > LARGEST:
        return {"summary": summary(array)}
    return _plain(found.tolist())


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return float(np.format_float_positional(np.float32(value))) if isinstance(value, float) else value
