"""A run on disk: plain files that can be read without derin.

runs/NAME/experiment.json   the value               runs/NAME/data.json      how the data were understood
runs/NAME/history.jsonl     one line an epoch       runs/NAME/journal.jsonl  every change, with its step
runs/NAME/checkpoints/      the newest checkpoint: weights, best weights, optimiser, counters
runs/NAME/health.jsonl      what was measured layer by layer after some of the epochs
runs/NAME/threshold.json    from which probability on a row is positive, where one was chosen
runs/NAME/turns/            the state before each change of a value in mid-run
runs/NAME/start/            the weights it began with, where those of another run were given
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax

from derin import spec
from derin.engine import checkpoint, journal
from derin.engine.checkpoint import (
    folder_that_appears_whole,
    missing_parents,
    remove_empty,
    replace_file,
    write_synced,
)
from derin.engine.epoch import Carry
from derin.engine.experiment import Experiment
from derin.engine.journal import Line
from derin.engine.lock import Lock, holder
from derin.engine.threshold import DecisionThreshold
from derin.errors import RunError

T = TypeVar("T")


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path, made: list[Path] | None = None) -> None:
        self.path = path
        self.made = made or []  # folders above it that were made for it

    @classmethod
    def create(cls, path: Path, experiment: Experiment, data: Any, counts: tuple[int, ...] | None) -> RunFolder:
        """Make the folder of a new run. Raises RunError if it is there with something in it, or cannot be written."""
        refuse_existing(path)
        texts = {
            "experiment.json": spec.to_json(experiment),
            "data.json": json.dumps(spec.strict_json(describe_data(data, counts)), indent=1, ensure_ascii=False),
            "history.jsonl": "",
            "journal.jsonl": "",
        }
        made = missing_parents(path)
        with folder_that_appears_whole(path) as fresh:
            for name, text in texts.items():
                write_synced(fresh / name, text.encode())
            (fresh / "checkpoints").mkdir()
        return cls(path, made)

    def branched(self, out: Path, experiment: Experiment, at: Path | None, step: int, epoch: int) -> RunFolder:
        """A new run folder: this one as it stood at a checkpoint (None: at the start), and its journal till then."""
        refuse_existing(out)
        made = missing_parents(out)
        lines = [
            line
            for line in self.journal()
            if line["kind"] == "start" or (line["step"] < step and line["kind"] != "threshold")
        ]
        with folder_that_appears_whole(out) as fresh:
            write_synced(fresh / "experiment.json", spec.to_json(experiment).encode())
            write_synced(fresh / "data.json", (self.path / "data.json").read_bytes())
            write_synced(fresh / "journal.jsonl", "".join(map(_line, lines)).encode())
            for name in ("history.jsonl", "health.jsonl"):
                if (self.path / name).exists():
                    whole, _, _ = (self.path / name).read_text(encoding="utf-8").rpartition("\n")  # it may be written
                    kept = [line for line in journal.lines_in(whole) if json.loads(line)["epoch"] <= epoch]
                    write_synced(fresh / name, "".join(f"{line}\n" for line in kept).encode())
            (fresh / "checkpoints").mkdir()
            if at is not None:
                copied = fresh / "checkpoints" / f"epoch-{epoch:06d}"
                shutil.copytree(at, copied)
                checkpoint.load(copied)  # the trainer may have been removing it
            if (self.path / "start").is_dir():
                shutil.copytree(self.path / "start", fresh / "start")
            for when, kept_turn in self.turns():
                if when < step:
                    shutil.copytree(kept_turn, fresh / "turns" / kept_turn.name)
        return RunFolder(out, made)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The folder of a run that exists. Raises RunError."""
        if not path.is_dir():
            raise RunError(f"there is no run at {path}.{_runs_beside(path)}")
        if (path / "study.json").is_file():
            best = f" Its best trial is the run {path / 'best'}." if (path / "best").is_dir() else ""
            raise RunError(f"{path} is a study, not a run.{best} `derin study show {path}` says what it found.")
        for name in ("experiment.json", "data.json", "history.jsonl"):
            if not (path / name).is_file():
                raise RunError(f"{path} is not a run of derin, or a damaged one: it has no {name}.")
        return cls(path)

    # -- reading
    def experiment(self) -> Experiment:
        found = spec.read(self.path / "experiment.json")
        if not isinstance(found, Experiment):
            raise RunError(f"{self.path / 'experiment.json'} holds a {type(found).__name__}, not an Experiment.")
        spec.require_fixed(found, f"the run in {self.path}")
        return journal.present(found, self.journal(), self.path)

    def journal(self) -> list[Line]:
        """What was changed, by whom and when, the oldest first."""
        return journal.read(self.path)

    def status(self) -> str:
        """What the newest checkpoint says: "running", "paused", "finished", "interrupted" ...; or "not started"."""
        found = self.manifest()
        return found.get("status", "running") if found else "not started"

    def writer(self) -> str | None:
        """The number of the process that trains the run now, or None."""
        return holder(self.path)

    def epochs_saved(self) -> int:
        """Epochs that the newest checkpoint is of."""
        return int(self.manifest().get("epoch", 0))

    def manifest(self) -> dict[str, Any]:
        """What stands beside the newest checkpoint, or {} where there is none yet."""
        return self.with_newest(checkpoint.read_manifest) or {}

    def epochs_written(self) -> int:
        """Lines of the history; a run that trains may have more of them than its checkpoint."""
        try:
            return (self.path / "history.jsonl").read_bytes().count(b"\n")
        except OSError as error:
            raise RunError(f"{self.path / 'history.jsonl'} cannot be read: {error.strerror}.") from None

    def about_data(self) -> dict[str, Any]:
        """data.json, with the schema as a spec."""
        file = self.path / "data.json"
        try:
            about = json.loads(file.read_text(encoding="utf-8"))
            return about | {"schema": spec.from_dict(about["schema"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{file} is damaged: {error}") from None

    def history(self, epochs: int) -> list[dict[str, Any]]:
        """The first `epochs` lines of the history; what came after the checkpoint is done again."""
        file = self.path / "history.jsonl"
        lines: list[dict[str, Any]] = []
        try:
            for line in journal.lines_in(file.read_text(encoding="utf-8"))[:epochs]:
                lines.append(spec.from_dict_values(json.loads(line)))
        except (OSError, ValueError) as error:
            raise RunError(f"{file} is damaged in line {len(lines) + 1}: {error}.") from None
        if len(lines) < epochs:
            raise RunError(f"{file} has {len(lines)} lines, and the checkpoint is of epoch {epochs}: it was cut.")
        return lines

    def health(self, epochs: int) -> list[dict[str, Any]]:
        """What was measured layer by layer until this epoch; [] where nothing was, as in runs of older versions."""
        file = self.path / "health.jsonl"
        lines: list[dict[str, Any]] = []
        if not file.exists():
            return lines
        texts = file.read_text(encoding="utf-8").split("\n")  # the last is empty, or was being written as it was killed
        try:
            for text in texts[:-1]:
                line = spec.loose_json(json.loads(text))
                if line["epoch"] <= epochs:
                    lines.append(line)
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{file} is damaged in line {len(lines) + 1}: {error}. Remove it: without it the run is whole, but for "
                "what derin diagnose reads there."
            ) from None
        return lines

    def threshold(self) -> DecisionThreshold | None:
        """The threshold that was chosen for the run, or None."""
        file = self.path / "threshold.json"
        if not file.exists():
            return None
        found = spec.read(file)
        if not isinstance(found, DecisionThreshold):
            raise RunError(f"{file} holds a {type(found).__name__}, not a DecisionThreshold.")
        return found

    def checkpoint(self) -> Path | None:
        return checkpoint.newest(self.path / "checkpoints")

    def with_newest(self, read: Callable[[Path], T]) -> T | None:
        """What `read` makes of the newest checkpoint, None where there is none yet. Read again where it went
        meanwhile: another process trains the run and has written a newer one."""
        while (found := self.checkpoint()) is not None:
            before = checkpoint.written(found)
            try:
                return read(found)
            except RunError:
                if self.checkpoint() == found and checkpoint.written(found) == before:
                    raise
        return None

    # -- writing
    def lock(self) -> Lock:
        """Held while the folder is written: `with folder.lock():` raises RunError if another process does."""
        return Lock(self.path, "run")

    def append(self, line: dict[str, Any], name: str = "history.jsonl") -> None:
        """One more line of history, or of health.jsonl."""
        try:
            with open(self.path / name, "a", encoding="utf-8", newline="\n") as file:
                file.write(_line(line))
        except OSError as error:
            raise RunError(f"cannot write {self.path / name}: {error.strerror}.") from None

    def save(self, epoch: int, carry: Carry, status: str, begun: Sequence[float] = ()) -> None:
        """History to the disk first, the checkpoint then: a checkpoint never knows more than the history."""
        try:
            with open(self.path / "history.jsonl", "rb+") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(f"cannot write {self.path / 'history.jsonl'}: {error.strerror}.") from None
        about = {"status": status, "best_epoch": int(carry.best_epoch), "begun": list(begun)}
        checkpoint.save(self.path / "checkpoints", epoch, carry, about)

    def keep_threshold(
        self, threshold: DecisionThreshold | None, history: Sequence[dict[str, Any]], why: str = ""
    ) -> None:
        """Write threshold.json, or remove it, and say so in the journal."""
        old = self.threshold()
        file = self.path / "threshold.json"
        if threshold is not None:
            replace_file(file, spec.to_json(threshold).encode())
        else:
            file.unlink(missing_ok=True)
        if old != threshold:
            self.note(_change(history, "threshold", "threshold", old, threshold, why or "chosen"))

    def reopen(
        self,
        experiment: Experiment,
        history: list[dict[str, Any]],
        step: int,
        health: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Before a run is continued: the history as of the checkpoint, and the experiment if it has changed."""
        replace_file(self.path / "history.jsonl", "".join(map(_line, history)).encode())
        if health or (self.path / "health.jsonl").exists():
            replace_file(self.path / "health.jsonl", "".join(map(_line, health)).encode())
        found = spec.diff(self.experiment(), experiment)
        if found:
            why = "resumed with another value"
            self.note(*(_change(history, "set", path, old, new, why) | {"step": step} for path, old, new in found))
        self.rewrite(experiment)

    def rewrite(self, experiment: Experiment) -> None:
        """experiment.json with the present values; the journal has the earlier ones."""
        replace_file(self.path / "experiment.json", spec.to_json(experiment).encode())

    def note(self, *lines: Line) -> None:
        """More lines of the journal."""
        file = self.path / "journal.jsonl"
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        now = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        order = ("step", "epoch", "time", "kind", "path", "old", "new", "reason", "by", "request")
        whole = [{k: (line | now).get(k) for k in order if k in line | now} for line in lines]
        replace_file(file, (before + "".join(map(_line, whole))).encode())

    def keep_turn(self, step: int) -> None:
        """Keep the newest checkpoint, which is that of this step: a way back to before a change."""
        newest, kept = self.checkpoint(), self.path / "turns" / f"step-{step:08d}"
        if newest is None or kept.exists():
            return
        with folder_that_appears_whole(kept) as fresh:
            for file in newest.iterdir():
                try:
                    os.link(file, fresh / file.name)
                except OSError:  # a file system without links
                    shutil.copy2(file, fresh / file.name)

    def keep_start(self, carry: Carry, run: Path | None, epochs: int) -> None:
        """Write the state that weights of another run were put in, and say so in the journal."""
        checkpoint.save(self.path / "start", 0, carry, {"status": "start"})
        why = f"begun with the weights of {run or 'a run in memory'}, {epochs} epochs old"
        self.note({"step": 0, "epoch": 0, "kind": "start", "path": None, "old": None, "new": None, "reason": why})

    def load_start(self, like: Any) -> Carry | None:
        """The state at the start where weights were given, or None."""
        found = checkpoint.newest(self.path / "start")
        return jax.tree.map(jax.numpy.asarray, checkpoint.load(found, like)[0]) if found else None

    def turns(self) -> list[tuple[int, Path]]:
        """(step, checkpoint) of the states that were kept, the earliest first."""
        found = sorted((self.path / "turns").glob("step-*"))
        return [(int(p.name[5:]), p) for p in found if p.name[5:].isdigit() and (p / "manifest.json").is_file()]

    def discard_if_empty(self) -> None:
        """Remove the folder of a run that failed before its first checkpoint: there is nothing to go on from."""
        if self.checkpoint() is None:
            self.discard()

    def discard(self) -> None:
        """Remove the folder, and those that were made for it."""
        shutil.rmtree(self.path, ignore_errors=True)
        remove_empty(self.made)

    def load_carry(self, like: Any) -> tuple[Carry | None, dict[str, Any]]:
        """The training state of the newest checkpoint, or None where there is none yet."""
        found = self.with_newest(lambda newest: checkpoint.load(newest, like))
        return (jax.tree.map(jax.numpy.asarray, found[0]), found[1]) if found else (None, {})


def refuse_existing(path: Path) -> None:
    """Raise RunError where there is something already; an empty folder is nothing."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise RunError(
            f"{path} exists already. Give another --out, continue it with `derin resume {path}`, or remove it."
        )


def describe_data(data: Any, counts: tuple[int, ...] | None) -> dict[str, Any]:
    """How the data were understood, where they came from and what they were, as JSON holds it."""
    return {
        "schema": spec.to_dict(data.schema),
        "source": data.source,
        "options": data.options,
        "fingerprint": data.fingerprint,
        "rows": {name: len(part.x) for name, part in data.parts.items()},
        "input": [str(data.train.x.dtype), list(data.train.x.shape[1:])],
        "class_counts": counts,
    }


def _change(history: Sequence[dict[str, Any]], kind: str, path: str, old: Any, new: Any, why: str) -> Line:
    step = history[-1]["step"] if history else 0
    at = {"step": step, "epoch": len(history), "kind": kind, "path": path}
    return at | {"old": journal.as_json(old), "new": journal.as_json(new), "reason": why, "by": "derin"}


def _line(values: dict[str, Any]) -> str:
    return json.dumps(spec.strict_json(values), ensure_ascii=False, allow_nan=False) + "\n"


def _runs_beside(path: Path) -> str:
    folder = path.parent
    runs = sorted(p.name for p in folder.iterdir() if (p / "experiment.json").is_file()) if folder.is_dir() else []
    return f" Runs there: {', '.join(runs[:8])}." if runs else ""
