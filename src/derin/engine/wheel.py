"""The hand on the wheel: what the process that trains does about requests, between chunks, and about a journal. S4.08

Before a change is written down the training state is saved and kept (RUN/turns): no checkpoint is older than the last
change. So a run that was killed anywhere goes on to the same bits, and `rewind` finds the states where someone steered.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from derin import spec
from derin.engine.journal import Line, as_json, changed, misfit, put, value_at
from derin.errors import SpecError

if TYPE_CHECKING:
    from derin.engine.experiment import Experiment
    from derin.engine.folder import RunFolder

EVERY = 0.1  # seconds between two looks at the requests of a run that is paused


class Here(NamedTuple):
    """Where training stands between two chunks, and what can be done there."""

    step: int
    epoch: int
    save: Callable[[str], None]  # a checkpoint with this status
    say: Callable[[str], None]  # to the person who watches
    interrupted: Sequence[Any]  # not empty after Ctrl-C

    def line(self, kind: str, path: Any = None, old: Any = None, new: Any = None, **more: Any) -> Line:
        return {"step": self.step, "epoch": self.epoch, "kind": kind, "path": path, "old": old, "new": new, **more}


class Wheel:
    """Takes requests out of a run's folder, and follows a journal.

    follows: changes to make again, each at its step, of the run in the folder `source`. until: the step to stop before;
    why: the status of the run then.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        follows: Sequence[Line] = (),
        source: Path | None = None,
        until: int = -1,
        why: str = "",
    ) -> None:
        self.folder, self.follows, self.until, self.why = folder, list(follows), until, why
        self.path = folder.path if folder else Path()
        self.source = source or self.path
        for name in self._names():  # a pause that was asked of an earlier process is none of this one's
            if self._read(name)["kind"] != "set":
                self._remove(name)

    def calls(self, step: Any) -> bool:
        """Is there something to do before the next step? Cheap: it is asked at every chunk."""
        if self.until >= 0 or self.follows:
            step = int(step)
            if step >= self.until >= 0 or (self.follows and step >= self.follows[0]["step"]):
                return True
        return bool(self._names())

    def turn(self, experiment: Experiment, here: Here) -> tuple[Experiment, str]:
        """(the experiment from here on, why to stop or ""). Waits while the run is paused."""
        while self.follows and self.follows[0]["step"] <= here.step:
            experiment = self._again(experiment, self.follows.pop(0), here)
        if here.step >= self.until >= 0:
            self._require_followed(here)
            return experiment, self.why
        paused = False
        while True:
            for name in self._names():
                request = self._read(name)
                kind = request["kind"]
                if kind in ("pause", "continue"):  # before the journal has it: who waits for that then asks
                    paused = kind == "pause"
                    here.save("paused" if paused else "running")
                experiment = self._obey(experiment, request, name, here, "paused" if paused else "running")
                self._remove(name)
                if kind == "stop":
                    return experiment, "stopped"
            if not paused:
                return experiment, ""
            if here.interrupted:
                return experiment, "interrupted"
            time.sleep(EVERY)

    def end(self, here: Here) -> None:
        """Training is over: what was asked too late is refused. Raises RunError for changes not come to."""
        self._require_followed(here)
        for name in self._names():
            request = self._read(name)
            about = {"reason": "training was over", "by": request["by"], "request": _id(name)}
            self._note(here.line("refused", request["path"], None, request["value"], **about))
            self._remove(name)

    def _require_followed(self, here: Here) -> None:
        for line in self.follows:
            raise misfit(self.source, line, f"training ended at step {here.step}")

    # -- a change
    def _again(self, experiment: Experiment, line: Line, here: Here) -> Experiment:
        """One change of the journal that is followed."""
        if line["step"] < here.step:
            raise misfit(self.source, line, f"no chunk of this training ends there: one ends at step {here.step}")
        if as_json(value_at(experiment, line, self.source)) != line["old"]:
            raise misfit(self.source, line, f"the value there is {spec.get(experiment, line['path'])!r}")
        new = put(experiment, line, "new", self.source)
        line = {k: v for k, v in line.items() if k != "request"} | {"epoch": here.epoch}
        self._keep(experiment, new, here, "running", [line])
        return new

    def _obey(self, experiment: Experiment, request: Line, name: str, here: Here, status: str) -> Experiment:
        """The experiment after a request; what came of it is written down."""
        kind, path, value = (request[k] for k in ("kind", "path", "value"))
        about = {"reason": request["reason"], "by": request["by"], "request": _id(name)}
        new = experiment
        if kind in ("pause", "continue", "stop"):
            lines = [here.line(kind, **about)]
            here.say({"pause": "paused", "continue": "going on", "stop": "stopping"}[kind])
        else:
            try:
                if kind != "set" or not isinstance(path, str):
                    raise SpecError(f"{name} is no request that derin knows")
                new = changed(experiment, path, spec.from_dict(value), here.epoch, self.path)
                found = spec.diff(experiment, new) or [(path, spec.get(new, path), spec.get(new, path))]
                lines = [here.line("set", p, as_json(old), as_json(now), **about) for p, old, now in found]
            except SpecError as error:
                lines = [here.line("refused", path, None, value, **about | {"reason": str(error)})]
        for line in lines:
            if line["path"]:
                why = f"  ({line['reason']})" if line["reason"] else ""
                here.say(f"step {here.step}: {line['path']} {line['old']} -> {line['new']}{why}")
        self._keep(experiment, new, here, status, lines)
        return new

    def _keep(self, old: Experiment, new: Experiment, here: Here, status: str, lines: list[Line]) -> None:
        """The state first, the journal then, the experiment last: killed between two of them, nothing is lost."""
        if self.folder is None:
            return
        if new != old:
            here.save(status)
            self.folder.keep_turn(here.step)
        known = {line.get("request") for line in self.folder.journal()} - {None}
        self._note(*(line for line in lines if line.get("request") not in known))  # known: killed before it went
        if new != old:
            self.folder.rewrite(new)

    def _note(self, *lines: Line) -> None:
        if self.folder:
            self.folder.note(*lines)

    # -- requests
    def _names(self) -> list[str]:
        try:
            return sorted(n for n in os.listdir(self.path / "requests") if n[0] != ".") if self.folder else []
        except FileNotFoundError:
            return []

    def _read(self, name: str) -> Line:
        try:
            found = json.loads((self.path / "requests" / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        known = found if isinstance(found, dict) else {}
        return {"kind": "unreadable", "path": None, "value": None, "reason": "", "by": ""} | known

    def _remove(self, name: str) -> None:
        (self.path / "requests" / name).unlink(missing_ok=True)


def _id(name: str) -> str:
    return name.removesuffix(".json")
