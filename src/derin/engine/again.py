"""Going back, and trying beside: a run again by its journal, from an earlier epoch, or a copy with another number.

again = derin.replay("runs/a")                      # from the start, every change at its step: the same bits
early = derin.rewind("runs/a", epoch=12)            # runs/a-epoch-12: the run as it was then; resume it as you like
found = derin.branch("runs/a", {"optimizer.learning_rate": 3e-4}, epochs=5)   # both ways, side by side
found.adopt()
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from derin.engine import checkpoint, journal
from derin.engine import epoch as engine
from derin.engine.folder import RunFolder
from derin.engine.progress import Progress
from derin.engine.run import Run, load
from derin.engine.task import task_of
from derin.engine.training import counts_of, data_of, state_at_start, train
from derin.engine.wheel import Wheel
from derin.errors import RunError, SpecError, TrainingFailed

BRANCH_EPOCHS = 5


def replay(run: Run | str | Path, data: Any = None, *, out: str | Path | None = None, progress: bool = True) -> Run:
    """Train a run again from its start, with every change of its journal at the step where it was made. S4.08

    The same machine gives the same bits; `differences` names those that are not. data: as in Run.resume.
    Raises RunError for a journal that does not fit its run.
    """
    run, folder = _in_folder(run)
    data = data_of(run, data)
    lines = folder.journal()
    experiment = journal.first(run.experiment, lines, folder.path)
    task = task_of(experiment, run.schema, data.train.x, counts_of(data))
    carry = state_at_start(folder, task, experiment.seed, data.train.x)
    kept = folder.branched(Path(out), experiment, None, 0, 0) if out is not None else None
    wheel = Wheel(kept, journal.changes(lines), folder.path, int(run.carry.step), run.stopped or "finished")
    try:
        with kept.lock() if kept else nullcontext():
            return train(task, data, carry, [], kept, (), Progress(progress, run.experiment.epochs), wheel=wheel)
    except BaseException:
        if kept:
            kept.discard()
        raise


def differences(run: Run, again: Run) -> list[str]:
    """The names of what has other bits in two runs: arrays of the training state, "history"."""
    a, b = (checkpoint.named_arrays(r.carry) for r in (run, again))
    found = [name for name in a if name not in b or a[name].tobytes() != b[name].tobytes()]
    return found + (["history"] if run.history != again.history else [])


def rewind(run: Run | str | Path, epoch: int, out: str | Path | None = None, data: Any = None,
           *, progress: bool = True) -> Run:  # fmt: skip
    """A new run that is an old one as it stood after `epoch` epochs, before what was changed there or later.

    Trained again from the nearest state that was kept: the newest checkpoint, those before each change, or the start;
    runs are deterministic, so the bits are those of then. `out`: RUN-epoch-N. The run itself stays as it is.
    """
    run, folder = _in_folder(run)
    if isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 <= epoch <= len(run.history):
        raise RunError(f"{folder.path} has {len(run.history)} epochs behind it, so epoch is 0 to that; got {epoch!r}.")
    target = run.history[epoch - 1]["step"] if epoch else 0
    lines = folder.journal()
    where = Path(out) if out is not None else folder.path.with_name(f"{folder.path.name}-epoch-{epoch}")
    kept, experiment, step, near = _branched_near(run, folder, lines, target, where)
    try:
        if step < target or near is None:
            data = data_of(run, data)
            run.warn_if_elsewhere()
        fresh = load(where)
        if step < target:
            follows = [line for line in journal.changes(lines) if step <= line["step"] < target]
            task = task_of(experiment, run.schema, data.train.x, counts_of(data))
            carry = jax.tree.map(jnp.array, fresh.carry)
            wheel = Wheel(kept, follows, folder.path, target, "rewound")
            shown = Progress(progress, epoch)
            with kept.lock():
                fresh = train(task, data, carry, fresh.history, kept, (), shown, fresh.begun, fresh.health, wheel)
        elif near is None:
            kept.save(0, fresh.carry, "rewound")
    except BaseException:
        kept.discard()
        raise
    kept.note({"step": target, "epoch": epoch, "kind": "rewound", "path": None, "old": None, "new": None,
               "reason": f"{folder.path} as it was after epoch {epoch}"})  # fmt: skip
    return fresh


def _branched_near(
    run: Run, folder: RunFolder, lines: list[journal.Line], target: int, where: Path
) -> tuple[RunFolder, Any, int, Path | None]:
    """(a copy of the run at the last state before `target` that was kept, its experiment, step, and that state)"""
    while True:
        states = [(s, p) for s, p in _kept(folder) if s <= target]
        step, near = max([(0, None), *states], key=lambda found: found[0])
        before = checkpoint.written(near) if near else None
        experiment = journal.first(run.experiment, lines, folder.path)
        for line in journal.changes(lines):
            if line["step"] < step:
                experiment = journal.put(experiment, line, "new", folder.path)
        done = sum(line["step"] <= step for line in run.history)
        try:
            return folder.branched(where, experiment, near, step, done), experiment, step, near
        except RunError:
            if near is None or (before is not None and checkpoint.written(near) == before):
                raise  # else another process trains the run, and has removed that state meanwhile


def _kept(folder: RunFolder) -> list[tuple[int, Path]]:
    """(step, checkpoint) of all states that are there."""
    newest = folder.with_newest(lambda path: (int(checkpoint.load(path)[0]["step"]), path))
    return folder.turns() + ([newest] if newest else [])


class Branch(NamedTuple):
    """What a change did on a copy of a run, beside the same epochs without it."""

    run: Run
    changes: dict[str, Any]
    first: int  # the epoch at which both start
    epochs: int
    without: list[dict[str, Any]]  # the history of these epochs
    with_: list[dict[str, Any]]
    metric: str  # what judges
    greater: bool

    @property
    def better(self) -> bool:
        """Whether the last epoch with the change is better than the last without it; that failed, any number is."""
        a, b = (float(history[-1].get(self.metric, math.nan)) for history in (self.without, self.with_))
        if not math.isfinite(a):
            return math.isfinite(b)
        return b > a if self.greater else b < a

    def adopt(self, reason: str = "") -> None:
        """Ask for the change in the run itself. Raises RunError if that is finished."""
        a, b = self.without[-1][self.metric], self.with_[-1][self.metric]
        tried = f"tried for {self.epochs} epochs: {self.metric} {b:.4g}, without it {a:.4g}"
        journal.ask_to_set(self.run._folder(), self.changes, reason or tried, "branch")

    def __repr__(self) -> str:
        names = [k for k, v in self.with_[-1].items() if isinstance(v, float) and k != "learning_rate"]
        side = max(map(len, names))
        rows = [f"{n:<{side}}  {self.without[-1][n]:>10.4g}  {self.with_[-1][n]:>10.4g}" for n in names]
        changes = ", ".join(f"{path} = {value!r}" for path, value in self.changes.items())
        head = f"epochs {self.first + 1} to {self.first + self.epochs} with {changes}"
        verdict = f"{'better' if self.better else 'not better'} by {self.metric}"
        return "\n".join([head, f"{'':<{side}}  {'without':>10}  {'with':>10}", *rows, verdict])


def branch(run: Run | str | Path, changes: dict[str, Any], epochs: int | None = None, data: Any = None) -> Branch:
    """Try other numbers on a copy of a run, from its newest checkpoint, for some epochs (5), with the same epochs
    without them beside it. The run itself stays as it is, whoever trains it; `adopt` of what comes back changes it.

    >>> import derin, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
    >>> run = derin.fit(derin.nn.Linear(1), (X, X @ [1.0, 2.0, 3.0]), epochs=5, progress=False)
    >>> found = derin.branch(run, {"optimizer.learning_rate": 0.05}, epochs=3)
    >>> found.better, found.first, found.metric
    (True, 5, 'valid_loss')
    """
    run = load(run) if isinstance(run, (str, Path)) else run
    done = len(run.history)
    if not changes or not isinstance(changes, dict):
        raise SpecError(f"branch wants a dict of changes, {{'optimizer.learning_rate': 3e-4}}, got {changes!r}.")
    if epochs is not None and (isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1):
        raise SpecError(f"epochs must be 1 or more to try a change for, got {epochs!r}.")
    if bool(run.carry.done):
        raise RunError("early stopping ended this run; `derin.rewind` gives it back as it was at an earlier epoch.")
    epochs = epochs or BRANCH_EPOCHS
    data = data_of(run, data)
    plain = run.experiment
    other = plain
    for path, value in changes.items():
        other = journal.changed(other, path, value, done, run.path or "RUN")
    without, with_ = (_few(run, e, data, done + epochs) for e in (plain, other))
    stopping = plain.early_stopping
    metric = stopping.monitor if stopping else ("valid_loss" if len(data.valid.x) else "loss")
    better = [m.greater_is_better for n, m, _ in engine.metric_names(run.task) if n == metric]
    return Branch(
        run, changes, done, len(with_), without[: len(with_)], with_[: len(without)], metric, bool(better and better[0])
    )


def _few(run: Run, experiment: Any, data: Any, until: int) -> list[dict[str, Any]]:
    """The history of a run's next epochs, with this experiment, in memory; nan from the one on that fails."""
    if experiment.epochs < until:
        experiment = experiment.replace(epochs=until)
    task = task_of(experiment, run.schema, data.train.x, counts_of(data))
    ends: Sequence[Any] = [lambda report: "stop" if report.epoch >= until else None]
    carry = jax.tree.map(jnp.array, run.carry)
    history = list(run.history)
    try:
        train(task, data, carry, history, None, ends, Progress(False, until), list(run.begun), run.health)
    except TrainingFailed:
        names = [name for name, _, _ in engine.metric_names(task)] if len(data.valid.x) or experiment.metrics else []
        names = ["loss", *(["valid_loss"] if len(data.valid.x) else []), *names]
        history += [{"epoch": e} | dict.fromkeys(names, math.nan) for e in range(len(history) + 1, until + 1)]
    return history[len(run.history) :]


def _in_folder(run: Run | str | Path) -> tuple[Run, RunFolder]:
    run = load(run) if isinstance(run, (str, Path)) else run
    if run.folder is None:
        raise RunError('a run in memory has no journal and no checkpoints: train with out="runs/NAME".')
    return run, run.folder
