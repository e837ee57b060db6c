"""The commands that sit with a run while it trains: set, pause, continue, stop, status, watch; and those that go back.

replay, rewind and branch train again, from what the run's folder keeps. What they do is in engine/journal.py, wheel.py
and again.py.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from derin.cli.answers import Answer, command
from derin.cli.arguments import AsJson, MovedData, Quiet, RunPath
from derin.cli.asked import load_data
from derin.cli.options import Text, Texts, argument, option
from derin.cli.told import quoted

if TYPE_CHECKING:
    from derin.engine.folder import RunFolder

WAIT = 3.0  # seconds that `derin set` waits for the trainer's answer; a long epoch answers later
LOOK = 0.5  # seconds between two looks of `derin watch`

Assignments = Annotated[
    Texts,
    argument("[PATH=VALUE]...", "A number of the experiment: optimizer.learning_rate=3e-4. Without: all of them."),
]
Why = Annotated[str, option("--reason", metavar="TEXT", help="Why; it is written in the journal.")]
EpochNumber = Annotated[int, option("--epoch", metavar="N", help="As it was after this epoch; 0: at the start.")]
RewindOut = Annotated[Text, option("--out", "-o", metavar="FOLDER", help="The new run (RUN-epoch-N).")]
ReplayOut = Annotated[Text, option("--out", "-o", metavar="FOLDER", help="Keep it as a run in this new folder.")]
BranchSet = Annotated[
    Texts, option("--set", metavar="PATH=VALUE", help="The number to try: optimizer.learning_rate=3e-4. Repeatable.")
]
BranchEpochs = Annotated[int | None, option("--epochs", metavar="N", help="For how many epochs it is tried (5).")]
Adopt = Annotated[bool, option("--adopt", help="If it is better, ask for the change in the run itself.")]


@command(
    "set",
    "Change a number of a run while it trains.",
    """
derin set runs/titanic-1
derin set runs/titanic-1 optimizer.learning_rate=3e-4 --reason "the loss jumps"
""",
)
def set_(run: RunPath, assignments: Assignments = None, reason: Why = "", as_json: AsJson = False) -> Answer:
    """Change numbers of a run from its next chunk or epoch on, while another process trains it. Nothing is compiled.

    A run that was stopped takes them up when it is resumed. Structure (layers, batch size) cannot change: the message
    says how a new run starts from these weights."""
    from derin import spec
    from derin.engine import journal
    from derin.errors import SpecError

    folder = _folder(run)
    if not assignments:
        experiment = folder.experiment()
        values = {p: spec.get(experiment, p) for p in spec.leaf_paths(experiment)} | {"epochs": experiment.epochs}
        side = max(map(len, values))
        return Answer({"path": run, "values": values}, "\n".join(f"{p:<{side}}  {v}" for p, v in values.items()))
    changes = _changes(assignments)
    requests = journal.ask_to_set(folder, changes, reason, "derin set")
    training = folder.writer() is not None
    found = journal.answers(folder.path, requests, WAIT) if training else []
    if refused := [line for line in found if line["kind"] == "refused"]:
        raise SpecError(refused[0]["reason"])
    lines = [f"{line['path']}: {line['old']} -> {line['new']} after step {line['step']}" for line in found]
    if training and len({line["request"] for line in found}) < len(requests):
        lines.append(f"{run} takes it up at the end of the epoch, or chunk, that it is in")
    elif not training:
        lines.append(f"nobody trains {run} now; it holds from `derin resume {quoted(run)}` on")
    return Answer({"path": run, "asked": changes, "training": training, "journal": found}, "\n".join(lines))


@command("pause", "Let a run that trains wait.", "derin pause runs/titanic-1")
def pause(run: RunPath, reason: Why = "", as_json: AsJson = False) -> Answer:
    """Let the process that trains a run wait after its chunk or epoch, all of it saved, until `derin continue`."""
    return _asked(run, "pause", reason)


@command("continue", "Let a run that waits train on.", "derin continue runs/titanic-1")
def continue_(run: RunPath, reason: Why = "", as_json: AsJson = False) -> Answer:
    """Let a run that was paused train on, in the process that waits."""
    return _asked(run, "continue", reason)


@command("stop", "Stop a run that trains.", "derin stop runs/titanic-1")
def stop(run: RunPath, reason: Why = "", as_json: AsJson = False) -> Answer:
    """Stop a run after its chunk or epoch; all of it is kept, and `derin resume` goes on to the same bits."""
    return _asked(run, "stop", reason)


def _asked(run: str, kind: str, reason: str) -> Answer:
    from derin.engine import journal

    folder = _folder(run)
    request = journal.ask_trainer(folder, kind, reason, f"derin {kind}")
    found = journal.answers(folder.path, [request], WAIT)
    word = {"pause": "paused", "continue": "goes on", "stop": "stops"}[kind]
    where = f" after step {found[0]['step']}" if found else " at the end of the epoch, or chunk, that it is in"
    return Answer({"path": run, "asked": kind, "journal": found}, f"{run} {word}{where}")


@command("status", "Say how far a run is, and who trains it.", "derin status runs/titanic-1")
def status(run: RunPath, as_json: AsJson = False) -> Answer:
    """Say how far a run is, whether a process trains it, what was changed, and what is asked and not yet done."""
    from derin.cli.show import number

    folder = _folder(run)
    about = _status(folder)
    last = {k: v for k, v in (about["last"] or {}).items() if isinstance(v, float)}
    lines = [_status_line(run, about)]
    if last:
        lines.append("last     " + "  ".join(f"{k} {number(v)}" for k, v in last.items()))
    for line in about["journal"][-8:]:
        what = f"{line['path']} {line['old']} -> {line['new']}" if line["path"] else ""
        why = f"({line['reason']})" if line.get("reason") else ""
        lines.append("  ".join(t for t in (f"step {line['step']:<6}", line["kind"], what, why) if t))
    for request in about["asked"]:
        what = f"{request['path']} = {request['value']!r}" if request.get("path") else request["kind"]
        lines.append(f"asked    {what}, not done yet")
    return Answer(about, "\n".join(lines))


@command("watch", "Watch the curves of a run that trains.", "derin watch runs/titanic-1")
def watch(run: RunPath) -> Answer:
    """Watch a run's curves in the terminal until nobody trains it any more; Ctrl-C ends the watching, not the run."""
    folder = _folder(run)
    live = sys.stdout.isatty()
    seen = 0
    try:
        if live:
            _draw_until_over(run, folder)
        while not live:
            over, history = folder.writer() is None, _history(folder)
            for line in history[seen:]:
                print(_epoch_line(line), flush=True)
            seen = len(history)
            if over:
                break
            time.sleep(LOOK)
    except KeyboardInterrupt:
        pass
    return Answer({}, "" if live else _status_line(run, _status(folder)))


def _draw_until_over(run: str, folder: RunFolder) -> None:
    from rich.live import Live
    from rich.text import Text as Shown

    from derin.cli.show import can_draw, curves_text

    with Live(auto_refresh=False, vertical_overflow="crop") as screen:
        while True:
            about = _status(folder)
            width = max(20, min(100, shutil.get_terminal_size().columns - 16))
            history = _history(folder)
            lines = [_status_line(run, about), "", *curves_text(history, width, plain=not can_draw())]
            lines += [_epoch_line(history[-1])] if history else []
            screen.update(Shown("\n".join(lines)), refresh=True)
            if about["writer"] is None:
                return
            time.sleep(LOOK)


@command(
    "replay",
    "Train a run again by its journal.",
    """
derin replay runs/titanic-1
derin replay runs/titanic-1 --out runs/titanic-again
""",
)
def replay(run: RunPath, out: ReplayOut = None, data: MovedData = None, quiet: Quiet = False,
           as_json: AsJson = False) -> Answer:  # fmt: skip
    """Train a run again from its start, with every change of its journal at its step, and compare the bits."""
    from derin.engine import load
    from derin.engine.again import differences
    from derin.engine.again import replay as again

    old = load(run)
    new = again(old, _moved(old, data), out=out, progress=not (quiet or as_json))
    found = differences(old, new)
    made = sum(line["kind"] == "set" for line in old.journal)
    what = f"{len(new.history)} epochs, {made} change{'s' * (made != 1)}"
    text = f"{run}: {what}, the same bits" if not found else f"{run}: {what}, other bits in {', '.join(found[:6])}"
    if found:
        old.warn_if_elsewhere()
    values = {"path": run, "out": out, "epochs": len(new.history), "changes": made, "same": not found, "other": found}
    return Answer(values, text, 3 if found else 0)


@command(
    "rewind",
    "Make a new run of an earlier epoch of another.",
    """
derin rewind runs/titanic-1 --epoch 12
derin rewind runs/titanic-1 --epoch 12 --out runs/titanic-b
""",
)
def rewind(run: RunPath, epoch: EpochNumber, out: RewindOut = None, data: MovedData = None, quiet: Quiet = False,
           as_json: AsJson = False) -> Answer:  # fmt: skip
    """Make a new run that is RUN as it stood after an epoch, to go on with another way; RUN stays as it is.

    It is trained again from the nearest state that was kept, to the same bits."""
    from derin.engine import load
    from derin.engine.again import rewind as again

    old = load(run)
    new = again(old, epoch, out, _moved(old, data), progress=not (quiet or as_json))
    text = f"{new.path}: {run} as it was after epoch {epoch}\n\nnext    derin set {quoted(new.path)} PATH=VALUE\n"
    values = {"path": run, "out": str(new.path), "epochs": len(new.history)}
    return Answer(values, f"{text}        derin resume {quoted(new.path)}")


@command(
    "branch",
    "Try a change on a copy of a run.",
    """
derin branch runs/titanic-1 --set optimizer.learning_rate=3e-4
derin branch runs/titanic-1 --set optimizer.learning_rate=3e-4 --epochs 10 --adopt
""",
)
def branch(run: RunPath, set: BranchSet = None, epochs: BranchEpochs = None, adopt: Adopt = False,
           data: MovedData = None, as_json: AsJson = False) -> Answer:  # fmt: skip
    """Try other numbers on a copy of a run, from its newest checkpoint, beside the same epochs without them.

    The run itself, whoever trains it, changes only with --adopt, and only for the better."""
    from derin.engine import load
    from derin.engine.again import branch as tried
    from derin.errors import SpecError

    if not set:
        raise SpecError("branch wants what to try: --set PATH=VALUE, as in --set optimizer.learning_rate=3e-4.")
    old = load(run)
    found = tried(old, _changes(set), epochs, _moved(old, data))
    lines = [repr(found)]
    adopted = adopt and found.better
    if adopted:
        found.adopt()
        lines.append(f"asked {run} for it")
    else:
        command = " ".join(f'"{text}"' if " " in text else text for text in set)
        lines += [] if adopt else ["", f"to adopt it:  derin set {quoted(run)} {command}"]
        lines += ["not adopted"] if adopt else []
    values = {
        "path": run,
        "changes": found.changes,
        "epochs": found.epochs,
        "without": found.without,
        "with": found.with_,
        "metric": found.metric,
        "better": found.better,
        "adopted": adopted,
    }
    return Answer(values, "\n".join(lines))


# -- what they share


def _folder(run: str) -> RunFolder:
    from derin.engine.folder import RunFolder

    return RunFolder.open(Path(run))


def _changes(texts: list[str]) -> dict[str, Any]:
    """PATH=VALUE texts as values by path. Raises SpecError."""
    from derin import spec
    from derin.errors import SpecError

    found = {}
    for text in texts:
        path, sign, value = text.partition("=")
        if not sign or not path.strip():
            raise SpecError(f"a change is written PATH=VALUE, as in optimizer.learning_rate=3e-4; got {text!r}.")
        found[path.strip()] = spec.parse(value)
    return found


def _moved(run: Any, data: str | None) -> Any:
    return load_data(data, run.about_data["options"]) if data is not None else None


def _history(folder: RunFolder) -> list[dict[str, Any]]:
    return folder.history(folder.epochs_written())


def _status(folder: RunFolder) -> dict[str, Any]:
    """What is known of a run from outside."""
    from derin.engine import journal

    history, experiment = _history(folder), folder.experiment()
    asked = journal.waiting(folder.path)
    writer, state = folder.writer(), folder.status()
    if writer is not None and state != "paused":
        state = "running"
    elif writer is None and state in ("running", "paused", "not started"):
        state = "killed" if history or state != "not started" else state
    ago = time.time() - (folder.path / "history.jsonl").stat().st_mtime
    return {
        "path": str(folder.path),
        "status": state,
        "writer": writer,
        "epochs": len(history),
        "of": experiment.epochs,
        "seconds_ago": round(ago, 1),
        "last": history[-1] if history else None,
        "journal": folder.journal(),
        "asked": asked,
    }


def _status_line(run: str, about: dict[str, Any]) -> str:
    from derin.engine.progress import time_in_words

    who = f", process {about['writer']}" if about["writer"] else ""
    ago = f", the last {time_in_words(about['seconds_ago'])} ago" if about["epochs"] and about["writer"] else ""
    on = about["writer"] is None and about["epochs"] < about["of"] and about["status"] != "early stopping"
    more = f"; to go on: derin resume {quoted(run)}" if on else ""
    return f"{run}: {about['status']}{who}, {about['epochs']} of {about['of']} epochs{ago}{more}"


def _epoch_line(line: dict[str, Any]) -> str:
    from derin.cli.show import number

    values = {k: v for k, v in line.items() if isinstance(v, float)}
    return f"epoch {line['epoch']}  " + "  ".join(f"{k} {number(v)}" for k, v in values.items())
