"""The journal of a run, what may change while it trains, and how other processes ask for it. S4.08

RUN/requests/*.json   {kind, path, value, reason, by}: taken before the next chunk or epoch, written down, removed
RUN/journal.jsonl     {step, epoch, time, kind, path, old, new, reason, by}, a line a change, in their order

A change holds from the step after `step` on. Numbers can change: they are arguments of the compiled program.
Structure cannot: it is the program. What the process that trains does about requests is in wheel.py.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derin import spec
from derin.errors import RunError, SpecError

if TYPE_CHECKING:
    from derin.engine.experiment import Experiment
    from derin.engine.folder import RunFolder

Line = dict[str, Any]


def read(path: Path) -> list[Line]:
    """The lines of a run's journal, the oldest first. Raises RunError for a damaged one."""
    file = path / "journal.jsonl"
    lines: list[Line] = []
    try:
        for text in lines_in(file.read_text(encoding="utf-8")):
            line = json.loads(text)
            line["kind"] = line.get("kind") or ("threshold" if line["path"] == "threshold" else "set")
            lines.append(line | {"step": int(line["step"]), "epoch": int(line["epoch"])})
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file} is damaged in line {len(lines) + 1}: {error}.") from None
    return lines


def lines_in(text: str) -> list[str]:
    r"""The lines of a file of JSON lines. str.splitlines also ends them at U+2028 and its like, which JSON leaves as
    they are.

    >>> lines_in('{"reason": "a\u2028b"}\n{}\n') == ['{"reason": "a\u2028b"}', '{}']
    True
    """
    found = text.split("\n")
    return found if found[-1] else found[:-1]


def changes(lines: Iterable[Line]) -> list[Line]:
    """Those that changed a value of the experiment."""
    return [line for line in lines if line["kind"] == "set"]


def present(experiment: Experiment, lines: Sequence[Line], path: Path) -> Experiment:
    """The experiment with every change in it; experiment.json may lack the last, if the process was killed just then.

    Raises RunError for a journal that does not fit its run.
    """
    last = {line["path"]: line for line in changes(lines)}
    for line in last.values():
        found = as_json(value_at(experiment, line, path))
        if found not in (line["new"], line["old"]):
            raise misfit(path, line, f"experiment.json has {found!r} there, neither the old nor the new value")
    for line in changes(lines):
        experiment = put(experiment, line, "new", path)
    return experiment


def first(experiment: Experiment, lines: Sequence[Line], path: Path) -> Experiment:
    """The experiment as it was at the start: every change taken back."""
    for line in reversed(changes(lines)):
        experiment = put(experiment, line, "old", path)
    return experiment


def put(experiment: Experiment, line: Line, which: str, path: Path) -> Experiment:
    """The experiment with the line's "old" or "new" value in it. Raises RunError."""
    value_at(experiment, line, path)
    try:
        return spec.set(experiment, line["path"], spec.from_dict(line[which]))
    except SpecError as error:
        raise misfit(path, line, str(error)) from None


def value_at(experiment: Experiment, line: Line, path: Path) -> Any:
    try:
        return spec.get(experiment, line["path"])
    except SpecError as error:
        raise misfit(path, line, str(error)) from None


def misfit(path: Path, line: Line, why: str) -> RunError:
    return RunError(
        f"{path / 'journal.jsonl'} does not fit its run: at step {line['step']} it changes {line['path']} from "
        f"{line['old']!r} to {line['new']!r}, and {why.rstrip('.')}. Bring back the files as derin wrote them."
    )


def as_json(value: Any) -> Any:
    """A value as a line of the journal holds it."""
    return spec.strict_json(spec.to_dict(value))


def changed(experiment: Experiment, path: str, value: Any, done: int, run: Path | str) -> Experiment:
    """The experiment with another number at `path`, after `done` epochs.

    Raises SpecError for an unknown path, a wrong type, and for structure, with the way that leads there.
    """
    new = spec.set(experiment, path, value)
    spec.require_fixed(new, "a run that trains")
    fixed = {"seed": 0, "epochs": 1}
    same = spec.structure(new.replace(**fixed)) == spec.structure(experiment.replace(**fixed))
    if not same or new.seed != experiment.seed:
        old = spec.get(experiment, path)
        why = "first weights, order and dropout were drawn from it" if same else "it is structure: another program"
        if type(value) in (int, float) and type(old) in (int, float) and not same:
            why += ", and other arrays to train"
        raise SpecError(
            f"{path} is {old!r} and cannot become {value!r} while the run trains: {why}. Numbers can change, such as "
            "optimizer.learning_rate. A new run can start from these weights: "
            f'`derin fit --from {run} --set "{path}={value!r}"`, in Python '
            f"derin.spec.set(run.experiment, {path!r}, {value!r}).fit(data, start=run)."
        )
    if new.epochs < max(1, done):
        raise SpecError(f"{done} epochs are done already: epochs must not be fewer, got {new.epochs}.")
    return new


# -- asking


def ask(path: Path, kind: str, name: str | None = None, value: Any = None, reason: str = "", by: str = "") -> str:
    """Leave a request for the process that trains the run in the folder; its name, which the journal repeats."""
    request = f"{time.time_ns()}-{uuid.uuid4().hex[:8]}"
    text = json.dumps({"kind": kind, "path": name, "value": as_json(value), "reason": reason, "by": by})
    fresh = path / "requests" / f".{request}.new"
    try:
        fresh.parent.mkdir(exist_ok=True)
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, fresh.with_name(f"{request}.json"))
    except OSError as error:
        raise RunError(f"cannot write {fresh.parent}: {error.strerror}.") from None
    return request


def ask_to_set(folder: RunFolder, assigned: dict[str, Any], reason: str, by: str) -> list[str]:
    """Ask for other numbers. Raises SpecError for what cannot change in mid-run, RunError for a run that is over."""
    experiment, status, training = folder.experiment(), folder.status(), folder.writer() is not None
    done = folder.epochs_written() if training else folder.epochs_saved()
    if not training and (status == "early stopping" or done >= experiment.epochs):
        why = "early stopping ended it" if status == "early stopping" else f"all {done} epochs are done"
        more = (
            "" if status == "early stopping" else f"for more epochs: `derin resume {folder.path} --epochs {2 * done}`; "
        )
        raise RunError(
            f"the run in {folder.path} is finished ({why}), so nothing can be set in it; {more}"
            f"from an earlier epoch: `derin rewind {folder.path} --epoch N`."
        )
    for path, value in assigned.items():
        experiment = changed(experiment, path, value, done, folder.path)
    return [ask(folder.path, "set", path, value, reason, by) for path, value in assigned.items()]


def ask_trainer(folder: RunFolder, kind: str, reason: str, by: str) -> str:
    """Ask for "pause", "continue" or "stop". Raises RunError if nobody trains the run."""
    if folder.writer() is None:
        raise RunError(f"nobody trains the run in {folder.path} now, so there is nothing to {kind}.")
    return ask(folder.path, kind, reason=reason, by=by)


def waiting(path: Path) -> list[dict[str, Any]]:
    """The requests that nobody has taken yet, the oldest first."""
    found = []
    for file in sorted((path / "requests").glob("*.json")):
        try:
            request = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # taken just now
            continue
        found += [request] if isinstance(request, dict) and "kind" in request else []
    return found


def answers(path: Path, requests: Sequence[str], seconds: float) -> list[Line]:
    """The journal's lines about these requests, waiting for them so long."""
    end = time.monotonic() + seconds
    while True:
        found = [line for line in read(path) if line.get("request") in requests]
        if {line["request"] for line in found} == {*requests} or time.monotonic() > end:
            return found
        time.sleep(0.05)
