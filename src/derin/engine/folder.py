"""A run on disk: plain files that can be read without derin.

runs/NAME/experiment.json   the value               runs/NAME/data.json      how the data were understood
runs/NAME/history.jsonl     one line an epoch       runs/NAME/journal.jsonl  every change, with its step
runs/NAME/checkpoints/      the newest checkpoint: weights, best weights, optimiser, counters
runs/NAME/health.jsonl      what was measured layer by layer after some of the epochs
runs/NAME/threshold.json    from which probability on a row is positive, where one was chosen
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from derin import spec
from derin.engine import checkpoint
from derin.engine.checkpoint import (
    folder_that_appears_whole,
    missing_parents,
    remove_empty,
    replace_file,
    write_synced,
)
from derin.engine.epoch import Carry
from derin.engine.experiment import Experiment
from derin.engine.threshold import DecisionThreshold
from derin.errors import RunError


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

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The folder of a run that exists. Raises RunError."""
        if not path.is_dir():
            raise RunError(f"there is no run at {path}.{_runs_beside(path)}")
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
        return found

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
            for line in file.read_text(encoding="utf-8").splitlines()[:epochs]:
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

    # -- writing
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
        change = {"path": "threshold", "old": spec.to_dict(old), "new": spec.to_dict(threshold)}
        at = {"epoch": len(history), "step": history[-1]["step"] if history else 0}
        file, journal = self.path / "threshold.json", self.path / "journal.jsonl"
        lines = journal.read_text(encoding="utf-8") if journal.exists() else ""
        if threshold is not None:
            replace_file(file, spec.to_json(threshold).encode())
        else:
            file.unlink(missing_ok=True)
        if old != threshold:
            replace_file(journal, (lines + _line(at | change | {"reason": why or "chosen"})).encode())

    def reopen(
        self, experiment: Experiment, history: list[dict[str, Any]], health: Sequence[dict[str, Any]] = ()
    ) -> None:
        """Before a run is continued: the history as of the checkpoint, and the experiment if it has changed."""
        replace_file(self.path / "history.jsonl", "".join(map(_line, history)).encode())
        if health or (self.path / "health.jsonl").exists():
            replace_file(self.path / "health.jsonl", "".join(map(_line, health)).encode())
        if experiment != self.experiment():
            journal = self.path / "journal.jsonl"
            lines = journal.read_text(encoding="utf-8") if journal.exists() else ""
            for path, old, new in spec.diff(self.experiment(), experiment):
                at = {"epoch": len(history), "step": history[-1]["step"] if history else 0}
                change = {"path": path, "old": spec.to_dict(old), "new": spec.to_dict(new)}
                lines += _line(at | change | {"reason": "resumed with another value"})
            replace_file(journal, lines.encode())
            replace_file(self.path / "experiment.json", spec.to_json(experiment).encode())

    def discard_if_empty(self) -> None:
        """Remove the folder of a run that failed before its first checkpoint: there is nothing to go on from."""
        if self.checkpoint() is None:
            shutil.rmtree(self.path, ignore_errors=True)
            remove_empty(self.made)

    def load_carry(self, like: Any) -> tuple[Carry | None, dict[str, Any]]:
        """The training state of the newest checkpoint, or None where there is none yet."""
        found = self.checkpoint()
        if found is None:
            return None, {}
        arrays, manifest = checkpoint.load(found, like)
        return jax.tree.map(jax.numpy.asarray, arrays), manifest


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


def _line(values: dict[str, Any]) -> str:
    return json.dumps(spec.strict_json(values), ensure_ascii=False, allow_nan=False) + "\n"


def _runs_beside(path: Path) -> str:
    folder = path.parent
    runs = sorted(p.name for p in folder.iterdir() if (p / "experiment.json").is_file()) if folder.is_dir() else []
    return f" Runs there: {', '.join(runs[:8])}." if runs else ""
