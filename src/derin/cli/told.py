"""What a command says of data and of a run that was trained."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derin.cli.answers import Answer
from derin.cli.options import as_options

if TYPE_CHECKING:
    from derin.data import Dataset
    from derin.engine import Experiment, Run


def about(dataset: Dataset, experiment: Experiment) -> str:
    rows = ", ".join(f"{len(part.x):,} {name}" for name, part in dataset.parts.items() if len(part.x))
    targets = "; ".join(_target(t) for t in dataset.schema.targets)
    shape = " x ".join(map(str, dataset.train.x.shape[1:]))
    lines = [f"data    {rows}; a row is {shape}"]
    lines += [f"unused  {note}" for note in unused_columns(dataset)[:12]]
    lines += [f"target  {targets}", f"net     {experiment.net!r}"]
    return "\n".join(lines)


def unused_columns(dataset: Dataset) -> list[str]:
    """The columns that are left out, and why."""
    return [f"{line.column}: {line.becomes}" for line in dataset.table if line.kind == "left out"]


def _target(t: Any) -> str:
    if t.kind == "number":
        return f"{t.name}: {'a number' if t.width == 1 else f'a vector of {t.width} numbers'}"
    labels = ", ".join(map(str, t.labels[:6])) + (", ..." if len(t.labels) > 6 else "")
    return f"{t.name}: {len(t.labels)} classes ({labels})"


def trained(run: Run, dataset: Dataset, again: str | None = None) -> Answer:
    """The answer after training, or after Ctrl-C; again: the command that goes on."""
    again = again or to_resume(run.path)
    values: dict[str, Any] = {
        "status": run.stopped,
        "path": str(run.path),
        "epochs": len(run.history),
        "best_epoch": run.best_epoch or None,
        "rows": {name: len(part.x) for name, part in dataset.parts.items()},
        "weights": sum(int(a.size) for a in run.params.values()),
        "last": run.history[-1] if run.history else None,
        "notes": [as_options(note) for note in [*dataset.notes, *unused_columns(dataset)]],
    }
    if run.stopped == "interrupted":
        values["resume"] = again
        when = f"in epoch {len(run.history) + 1}" if run.begun else f"after epoch {len(run.history)}"
        print(
            f"derin: interrupted {when} of {run.experiment.epochs}; all of it is kept. "
            f"To go on:\n    {values['resume']}",
            file=sys.stderr,
        )
        return Answer(values, "", 130)
    lines = []
    if run.stopped == "stopped":
        values["resume"] = again
        lines.append(
            f"stopped after {len(run.history)} of {run.experiment.epochs} epochs; to go on: {values['resume']}"
        )
    if run.stopped == "early stopping":
        lines.append(f"stopped early, after {len(run.history)} epochs; epoch {run.best_epoch} was the best")
    judge = next((name for name in ("test", "valid") if len(dataset.parts[name].x)), None)
    if judge is not None:
        try:
            values[judge] = run.evaluate(judge)
        except KeyboardInterrupt:
            again = f"derin evaluate {quoted(run.path)} --part {judge}"
            print(f"derin: interrupted; the run is trained and kept. To score it:\n    {again}", file=sys.stderr)
            return Answer(values, "", 130)
        lines.append(f"{judge:<7} {in_a_line(values[judge])}")
        if judge == "valid":
            lines.append("        (the epochs were judged by these rows: a test part would tell more)")
    else:
        lines.append("test    none: all rows were for training")
    lines += [
        f"run     {run.path}",
        "",
        f"next    derin show {quoted(run.path)}",
        f"        derin predict {quoted(run.path)} NEW_ROWS -o predictions.csv",
    ]
    return Answer(values, "\n".join(lines))


def interrupted_at_once(path: Path, again: str | None = None) -> Answer:
    """The answer after a second Ctrl-C, which does not wait for the end of the epoch."""
    if not path.exists():  # before the first checkpoint
        raise KeyboardInterrupt
    values = {"status": "interrupted", "path": str(path), "resume": again or to_resume(path)}
    print(f"\nderin: interrupted; the last checkpoint is kept. To go on:\n    {values['resume']}", file=sys.stderr)
    return Answer(values, "", 130)


def to_resume(
    path: Any, data: str | None = None, refit: bool = True, workers: int | None = None, ray: str | None = None
) -> str:
    """The command that goes on with a run or a study the way it was asked for."""
    given = {"--data": data, "--workers": workers, "--ray": ray}
    more = [f"{name} {quoted(value)}" for name, value in given.items() if value is not None]
    return " ".join(["derin resume", quoted(path), *more, *([] if refit else ["--no-refit"])])


def in_a_line(values: dict[str, Any]) -> str:
    from derin.cli.show import number

    shown = {k: v for k, v in values.items() if isinstance(v, float)}
    first = [k for k in shown if k != "loss"]
    return (
        ", ".join(f"{k} {number(shown[k])}" for k in [*first, "loss"] if k in shown) + f"   ({values['rows']:,} rows)"
    )


def show_metrics(values: dict[str, Any], labels: Sequence[Any]) -> list[str]:
    from derin.cli.show import metrics_text

    return metrics_text(values, labels)


def quoted(path: Any) -> str:
    """A path as it is typed."""
    return f'"{path}"' if " " in str(path) else str(path)


def labels_of(run: Run) -> Sequence[Any]:
    targets = run.schema.targets
    return targets[0].labels if len(targets) == 1 and targets[0].kind != "number" else ()
