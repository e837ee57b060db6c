"""What `derin show` says of a run, from its files alone: a run that is still training can be shown."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from derin.cli.show import can_draw, curves_text, metrics_text, number


def run_report(path: Path) -> tuple[dict[str, Any], str]:
    """(values, text) of a run. Raises RunError."""
    from derin import spec
    from derin.data.report import aligned
    from derin.engine.folder import RunFolder
    from derin.errors import RunError

    folder = RunFolder.open(path)
    experiment, about = folder.experiment(), folder.about_data()
    schema = about["schema"]
    file = path / "history.jsonl"
    try:
        history = folder.history(file.read_bytes().count(b"\n"))
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}.") from None
    manifest = folder.manifest()
    status = manifest.get("status", "not started")
    arrays = manifest.get("arrays", {})
    weights = sum(_size(shape) for name, (_, shape) in arrays.items() if name.startswith("params/"))
    best = manifest.get("best_epoch") or None if experiment.early_stopping else None
    threshold = folder.threshold()
    table = schema.inputs.lines()
    values = {
        "path": str(path),
        "status": status,
        "epochs": len(history),
        "best_epoch": best,
        "weights": weights,
        "threshold": spec.to_dict(threshold),
        "experiment": spec.to_dict(experiment),
        "source": about["source"],
        "options": about["options"],
        "fingerprint": about["fingerprint"],
        "rows": about["rows"],
        "targets": [spec.to_dict(t) for t in schema.targets],
        "columns": [line._asdict() for line in table],
        "history": history,
    }
    rows = ", ".join(f"{n:,} {part}" for part, n in about["rows"].items() if n)
    lines = [
        f"{path}: {status}, {len(history)} of {experiment.epochs} epochs",
        "",
        f"data      {about['source'] or 'arrays in memory'}: {rows}",
        *(f"target    {t.name}: {_target(t)}" for t in schema.targets),
        *([f"threshold {threshold.line()}"] if threshold else []),
        f"net       {experiment.net!r}",
        f"          {weights:,} weights" if weights else "",
        f"training  {experiment.optimizer!r}, batches of {experiment.batch_size}",
    ]
    changed = _changed(experiment)
    lines += [f"          {line}" for line in changed]
    if table:
        lines += ["", *aligned(table)]
    if history:
        last = history[-1] if best is None else history[best - 1]
        shown = {k: v for k, v in last.items() if k not in ("epoch", "step")}
        labels = schema.targets[0].labels if len(schema.targets) == 1 and schema.targets[0].kind != "number" else ()
        lines += ["", f"epoch {last['epoch']}" + (" (the best)" if best else ""), *metrics_text(shown, labels)]
        width = max(20, min(72, shutil.get_terminal_size().columns - 16))
        curves = curves_text(history, width, plain=not can_draw())
        lines += ["", *curves] if curves else []
    lines += ["", *_next(path, status, len(history), experiment.epochs)]
    return values, "\n".join(line for i, line in enumerate(lines) if line or lines[i - 1])


def _size(shape: list[int]) -> int:
    n = 1
    for s in shape:
        n *= s
    return n


def _target(t: Any) -> str:
    if t.width > 1 and t.kind == "number":
        return f"a vector of {t.width} numbers"
    if t.kind == "number":
        return f"a number, mean {number(float(t.mean))}, standard deviation {number(float(t.scale))}"
    return f"{len(t.labels)} classes: " + ", ".join(map(str, t.labels[:8])) + (", ..." if len(t.labels) > 8 else "")


def _changed(experiment: Any) -> list[str]:
    """What is not as by default."""
    from derin import spec
    from derin.engine import Experiment

    default = Experiment(net=experiment.net, optimizer=experiment.optimizer, batch_size=experiment.batch_size)
    return [f"{path} = {new!r}" for path, _, new in spec.diff(default, experiment) if path != "epochs"]


def _next(path: Path, status: str, done: int, epochs: int) -> list[str]:
    named = f'"{path}"' if " " in str(path) else str(path)
    if done < epochs and status not in ("early stopping", "a callback stopped it"):
        return [f"to go on:    derin resume {named}"]
    return [f"to predict:  derin predict {named} NEW_ROWS -o predictions.csv"]
