"""A run in numbers: what a row goes through, and the step at which something was not finite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derin.engine import Run
from derin.engine import epoch as engine
from derin.engine.training import key_bits, key_of, replayed_failure
from derin.errors import DataError, RunError
from derin.nn.module import Run as Pass
from derin.nn.module import _kinds, bind, named_key
from derin.trace.formulas import formula, formula_in_numbers
from derin.trace.numbers import index_text, number, summary
from derin.trace.result import Trace
from derin.trace.steps import Share, Step
from derin.trace.training import traced


def trace_row(run: Run, row: int, part: str = "test") -> Trace:
    """How a trained net came to its output for a row of its data, and how that row's loss depends on the weights.

    In evaluation mode, as in prediction: dropout off, running statistics of BatchNorm. part: "test", "valid", "train".
    """
    if part not in ("test", "valid", "train"):
        raise DataError(f'part must be "test", "valid" or "train", got {part!r}.')
    rows = run._part(part)
    n = len(rows.x)
    if not isinstance(row, int) or isinstance(row, bool) or not 0 <= row < n:
        have = f"has rows 0 to {n - 1:,}" if n else "is empty"
        raise DataError(f"the {part} part {have}, counted from 0; got row {row!r}.")
    ys = rows.y if isinstance(rows.y, tuple) else (rows.y,)
    at = slice(row, row + 1)
    title = f"row {row} of the {part} part"
    x, y = jnp.asarray(rows.x[at]), tuple(jnp.asarray(t[at]) for t in ys)
    return _traced(run.task, run.params, run.state, x, y, None, False, title)


def _traced(task: Any, params: Any, state: Any, x: Any, y: Any, weight: Any, train: bool, title: str,
            key: Any = None) -> Trace:  # fmt: skip
    """The trace of a run's loss on a batch: input layer, net, loss."""

    def objective(params: Any, state: Any, x: Any, y: Any, key: Any, weight: Any) -> Any:
        out, state = engine.run_net(task, params, state, x, train, key, weight)
        with jax.named_scope("loss"):
            return engine.total_loss(task, out, y, weight), state

    kinds = dict(_kinds(task.experiment.net))
    if task.inputs is not None:
        kinds |= _kinds_below(task.inputs, "input")
    kinds["loss"] = ", ".join(type(a).__name__ for a in task.losses)
    args = (dict(params), dict(state), x, y, jax.random.key(0) if key is None else key, weight)
    names = ("", "state", "x", "y", "key", "row weights")  # a bare Linear has a parameter that is called weight
    return traced(objective, args, names, "loss", title, kinds)


def _kinds_below(module: Any, path: str) -> dict[str, str]:
    found = {path: type(module).__name__}
    return found | {f"{path}.{p}": kind for p, kind in _kinds(bind(module, Pass({}, {}))).items() if p}


# -- the first number that is not finite


@dataclass(frozen=True, eq=False)
class NotFinite:
    """Where a run broke: epoch and step, the operation that first gave a number that is not finite, its values.

    phase: "input", "forward", "backward" or "update". `trace` is the whole broken step.
    """

    epoch: int
    step: int
    steps: int
    learning_rate: float
    phase: str
    operation: Step | None
    share: Share | None
    words: tuple[str, ...]
    trace: Trace

    @property
    def layer(self) -> str:
        return self.operation.layer if self.operation else ""

    def to_text(self) -> str:
        at = f"epoch {self.epoch}, step {self.step} of {self.steps} (learning rate {self.learning_rate:g})"
        return "\n".join([f"the first number that is not finite came in {at}:", *(f"  {w}" for w in self.words)])

    def to_dict(self) -> dict[str, Any]:
        """What `derin trace RUN --nan --json` prints."""
        source = self.operation.source if self.operation else None
        return {
            "epoch": self.epoch, "step": self.step, "learning_rate": self.learning_rate, "phase": self.phase,
            "operation": self.operation.operation if self.operation else None, "layer": self.layer,
            "source": str(source) if source else None, "words": list(self.words),
        }  # fmt: skip


def first_not_finite(run: Run) -> NotFinite:
    """Replay the failing step of a run operation by operation. Raises RunError if the run did not fail."""
    data = run.reload_data()
    if run.stopped != "failed" and int(run.carry.broken_at) < 0:
        raise RunError(
            f"this run did not fail ({run.stopped or 'it is in memory'}): every loss and gradient was finite. "
            "`derin trace RUN --row 0` shows a row instead."
        )
    broken = replayed_failure(run, data)
    if broken is None:
        raise RunError(
            "the failing step was replayed and every number was finite: the run was made on another device or version "
            f"({', '.join(f'{k} {v}' for k, v in run.made_on.items())})."
        )
    carry, x, y, weight, step, steps, rate = broken
    drawn = jax.random.fold_in(named_key(key_of(jnp.asarray(key_bits(run.experiment.seed))), "layers"), step)
    title = f"step {step + 1}"
    trace = _traced(run.task, carry.params, carry.state, x, y, weight, True, title, drawn)
    phase, operation, share, words = _first(trace, run)
    return NotFinite(
        int(carry.epoch) + 1, step % steps + 1, steps, float(rate), phase, operation, share, tuple(words), trace
    )


def _first(trace: Trace, run: Run) -> tuple[str, Step | None, Share | None, list[str]]:
    """Forward first, then backward; else it is the update."""
    bad = [v for v in trace.arguments if not v.is_finite]
    if bad:
        return "input", None, None, [f"{v.name} came in so: {summary(v.array)}" for v in bad]
    for step in trace.steps:
        if any(not v.is_finite for v in step.outputs):
            return "forward", step, None, _about_forward(trace, step)
    for step in reversed(trace.steps):
        for share in step.shares:
            if not np.isfinite(np.asarray(share.product)).all():
                return "backward", step, share, _about_backward(trace, share)
    largest = max(trace.parameters, key=lambda n: float(np.abs(trace.by[n]).max(initial=0)))
    optimizer = run.experiment.optimizer
    words = [
        f"the update of {type(optimizer).__name__}: values and gradients are finite, the new weights are not",
        f"the largest gradient: {largest} {summary(trace.by[largest])}",
    ]
    return "update", None, None, words


def _place(trace: Trace, step: Step) -> list[str]:
    kind = trace.kinds.get(step.layer.partition(" [")[0], "")
    layer = f"layer {step.layer or '(net)'}" + (f" ({kind})" if kind else "")
    words = [f"operation {step.number}, {step.operation}, in {layer}"]
    return words + ([f"{step.source}: {step.source.text}"] if step.source else [])


def _about_forward(trace: Trace, step: Step) -> list[str]:
    broken = next(v for v in step.outputs if not v.is_finite)  # a scan has several
    words = [*_place(trace, step), f"{broken.name} = {formula(step)}"]
    width = max(len(v.name) for v in (*step.inputs, *step.outputs))
    words += [
        f"  {v.name:<{width}}  {summary(v.array)}" for v in (*step.inputs, *step.outputs) if v.numbers is not None
    ]
    found = np.asarray(broken.numbers)
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(found))[0])
    if step.elementwise:
        words.append(
            f"  at {index_text(index) or 'it'}: {formula_in_numbers(step, index)} = {number(found[index].item())}"
        )
    else:
        words.append(f"  at {index_text(index) or 'it'}: {number(found[index].item())}")
    return words


def _about_backward(trace: Trace, share: Share) -> list[str]:
    step = share.step
    words = _place(trace, step)
    words[0] += f": the gradient of {share.to.name}"
    words.append(f"{step.output.name} = {formula(step)}")
    shown: list[tuple[str, Any]] = [(v.name, v.array) for v in step.inputs if v.numbers is not None]
    shown.append((f"d loss / d {step.output.name}", share.incoming))
    if share.local is not None:
        shown.append(("local derivative", share.local))
    shown.append((f"d loss / d {share.to.name}", share.product))
    width = max(len(name) for name, _ in shown)
    return words + [f"  {name:<{width}}  {summary(array)}" for name, array in shown]
