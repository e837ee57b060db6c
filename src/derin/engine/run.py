"""Run: a trained (or half-trained) net with its experiment, its data's schema and its history."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from derin.engine import epoch as engine
from derin.engine.epoch import Carry, Task
from derin.engine.experiment import Experiment
from derin.engine.folder import RunFolder
from derin.engine.journal import ask_to_set, ask_trainer
from derin.engine.predict import blocks, predicted_blocks, predictor
from derin.engine.programs import program
from derin.engine.threshold import DecisionThreshold, best_threshold, parsed_rule
from derin.errors import DataError, RunError, SpecError
from derin.spec import nearest


class Run:
    """What training leaves: `evaluate`, `predict`, `predict_proba`, `history`, `health`, `params`, `resume`, `export`.

    With early stopping `params` are the weights of the best epoch, without it those of the last; averaged ones if
    the experiment has an `average`. The other ones are in `carry`. `path` is the run's folder, or None for a run
    in memory.
    """

    def __init__(
        self,
        experiment: Experiment,
        schema: Any,
        task: Task,
        carry: Carry,
        history: list[dict[str, Any]],
        folder: RunFolder | None = None,
        data: Any = None,
        about_data: dict[str, Any] | None = None,
        stopped: str = "",
        made_on: dict[str, Any] | None = None,
        begun: list[float] | None = None,
    ) -> None:
        self.experiment, self.schema, self.task, self.carry = experiment, schema, task, carry
        self.history, self.folder, self.data, self.stopped = history, folder, data, stopped
        self.about_data = about_data or {}
        self.made_on = made_on or {}  # device, cores, jaxlib of a loaded run
        self.begun = begun or []  # losses of the steps done of an epoch that was left, where data stream
        self.threshold: DecisionThreshold | None = None  # see choose_threshold
        self._health: list[dict[str, Any]] = []
        self.unseen: list[tuple[int, Callable[[], dict[str, Any]]]] = []  # step, and what makes the line of health
        self.start: Run | None = None  # whose weights it began with
        self._quick: Any = None

    @property
    def health(self) -> list[dict[str, Any]]:
        """A line of numbers by layer for each epoch that was looked at; see derin.engine.health.Watch.look."""
        self.catch_up()
        return self._health

    @health.setter
    def health(self, lines: Iterable[dict[str, Any]]) -> None:
        self._health = list(lines)

    @property
    def looked_at(self) -> int:
        """The step that was looked at last; -1 before the first."""
        if self.unseen:
            return self.unseen[-1][0]
        return self._health[-1]["step"] if self._health else -1

    def look_later(self, look: Callable[[], dict[str, Any]]) -> None:
        """Keep what makes the line of health of this step until `health` is asked for."""
        self.unseen.append((int(self.carry.step), look))

    def catch_up(self) -> None:
        """Look at the weights that were kept for it."""
        while self.unseen:
            self._health.append(self.unseen[0][1]())
            del self.unseen[0]

    @property
    def path(self) -> Path | None:
        return self.folder.path if self.folder else None

    @property
    def params(self) -> dict[str, jax.Array]:
        """The weights that predict, by name, in torch's layouts."""
        return self.carry.best_params if self._uses_best() else engine.predicting(self.carry)[0]

    @property
    def state(self) -> dict[str, jax.Array]:
        """Running statistics that go with `params`."""
        return self.carry.best_state if self._uses_best() else engine.predicting(self.carry)[1]

    @property
    def best_epoch(self) -> int:
        """The epoch with the best monitored value, counted from 1; 0 before the first."""
        return int(self.carry.best_epoch)

    @property
    def fingerprint(self) -> str:
        return self.about_data["fingerprint"] if self.about_data else self.data.fingerprint

    def _uses_best(self) -> bool:
        return self.experiment.early_stopping is not None and self.best_epoch > 0

    # -- judging
    def evaluate(self, source: Any = "test", **reading: Any) -> dict[str, Any]:
        """Loss and metrics on a part of the run's data ("test", "valid", "train"), or on another labelled source.

        A folder of one of those names is given as a Path. Raises DataError if the source lacks a column or the target.
        """
        outputs, answers = [], []
        for piece in self._labelled(source, **reading):
            if len(piece.x):
                outputs += [np.asarray(b) for b in blocks(self.task, self.params, self.state, piece.x)]
                answers.append(piece.y if isinstance(piece.y, tuple) else (piece.y,))
        if not outputs:
            raise DataError(f"there are no rows to evaluate in {source!r}.")
        ys = tuple(np.concatenate(t) for t in zip(*answers, strict=True))
        args = (self.task.structure_only(), np.concatenate(outputs), ys)
        loss, metrics = program(engine.scores, *args)(*args)
        names = [name for name, _, _ in engine.metric_names(self.task)]
        rows = {"rows": len(ys[0]), "loss": plain(loss)}
        return rows | {n: plain(m) for n, m in zip(names, metrics, strict=True)}

    def _labelled(self, source: Any, **reading: Any) -> Any:
        """Encoded rows with y: a part of the run's data by name, or another source."""
        from derin.data.readers import BUNDLED

        own = isinstance(source, str) and source in ("train", "valid", "test")
        if isinstance(source, str) and not own and not Path(source).exists() and source not in BUNDLED:
            near = nearest(source, ["train", "valid", "test"])
            raise DataError(f"{source!r} is neither a file nor a part of the run's data (train, valid, test).{near}")
        return [self._part(source)] if own else self.schema.batches(source, labelled=True, **reading)

    def choose_threshold(self, rule: str | None, on: Any = "valid", **reading: Any) -> DecisionThreshold | None:
        """Choose from which probability on `predict` calls a row positive, and keep that with the run. S0.31.

        rule: "f1", "precision=0.9", "recall=0.95", "cost=FN:5,FP:1"; None: the more probable class again.
        on: "valid", or other labelled rows, which should not be those it was trained on. Positive is the second of
        the target's two labels. Metrics of `evaluate` are of the more probable class still.
        """
        targets = self.schema.targets
        if len(targets) != 1 or targets[0].kind != "binary":
            what = "several targets" if len(targets) > 1 else f"{targets[0].name!r}, which is none"
            raise SpecError(f"a threshold parts two classes; this run predicts {what}.")
        found = None
        if rule is not None:
            parsed_rule(rule)
            p, y = [], []
            for piece in self._labelled(on, **reading):
                p += [a[0][:, 1] for a in predicted_blocks(self.task, self.params, self.state, piece.x)]
                y.append(piece.y)
            if not p:
                raise DataError(f"there are no rows in {on!r} to choose a threshold on: load the data with valid=0.15.")
            value, scores = best_threshold(np.concatenate(p), np.concatenate(y), rule)
            named = on if isinstance(on, (str, Path)) else "rows in memory"
            found = DecisionThreshold(value, rule, targets[0].labels[1], str(named), sum(map(len, y)), **scores)
        if self.folder:
            with self.folder.lock():
                self.folder.keep_threshold(found, self.history)
        self.threshold = found
        return found

    def _part(self, name: str) -> Any:
        if self.data is None:
            self.data = self.reload_data()
        return self.data.parts[name]

    # -- predicting
    def predict_proba(self, source: Any, **reading: Any) -> Any:
        """Probabilities of the classes, in the order of `schema.targets[0].labels`; numbers where those are predicted.

        source: rows like those of training: a path, a frame, an array.   -> [n, classes], [n], or [n, width] for a
        vector; with several targets a tuple of them
        """
        parts = [found for _, found in self.predict_batches(source, **reading)]
        if not parts:
            raise DataError(f"there are no rows to predict in {source!r}.")
        whole = tuple(np.concatenate(a) for a in zip(*parts, strict=True))
        return whole[0] if len(whole) == 1 else whole

    def predict(self, source: Any, **reading: Any) -> Any:
        """Class labels, or numbers in the target's own units.   source: as in predict_proba -> [n], [n, width]"""
        found = self.predict_proba(source, **reading)
        return self.decided(found[0] if isinstance(found, tuple) and len(found) == 1 else found)

    def decided(self, found: Any) -> Any:
        """Labels for probabilities, by the threshold if there is one; numbers as they are."""
        parts = found if isinstance(found, tuple) else (found,)
        if self.threshold is not None:
            return np.asarray(self.schema.targets[0].labels)[(parts[0][:, 1] >= self.threshold.value).astype(int)]
        out = tuple(
            p if t.kind == "number" else np.asarray(t.labels)[p.argmax(1)]
            for t, p in zip(self.schema.targets, parts, strict=True)
        )
        return out[0] if len(out) == 1 else out

    def predict_batches(self, source: Any, **reading: Any) -> Iterator[tuple[Any, tuple[np.ndarray, ...]]]:
        """(encoded batch, its probabilities or numbers for each target), for sources larger than memory."""
        for batch in self.schema.batches(source, **reading):
            for found in predicted_blocks(self.task, self.params, self.state, batch.x):
                yield batch, found

    def predictor(self) -> Any:
        """A quick function from encoded rows to probabilities or numbers, for one row at a time.

        x: [n, ...], as in `schema.encode(rows)` -> [n, classes], [n] or [n, width]
        """
        if self._quick is None:
            self._quick = predictor(self.task, self.params, self.state)
        return self._quick

    # -- babysitting
    def set(self, path: str, value: Any, reason: str = "") -> None:
        """Ask for another number in the run's experiment, while another process (or thread) trains it. S4.08

        It holds from the next chunk or epoch on, is written in the journal, and compiles nothing. A run that was
        stopped takes it up when it is resumed. Raises SpecError for an unknown path, a wrong type or structure,
        RunError for a run that is finished or lives in memory only.
        """
        ask_to_set(self._folder(), {path: value}, reason, "run.set")

    def pause(self, reason: str = "") -> None:
        """Ask the process that trains this run to wait, until `unpause` or `stop`."""
        ask_trainer(self._folder(), "pause", reason, "run.pause")

    def unpause(self, reason: str = "") -> None:
        """Ask the process that waits to train on."""
        ask_trainer(self._folder(), "continue", reason, "run.unpause")

    def stop(self, reason: str = "") -> None:
        """Ask the process that trains this run to keep it as it is then and end; `resume` goes on."""
        ask_trainer(self._folder(), "stop", reason, "run.stop")

    @property
    def journal(self) -> list[dict[str, Any]]:
        """What was changed while the run trained: step, epoch, time, path, old, new, reason, by. [] in memory."""
        return self.folder.journal() if self.folder else []

    def _folder(self) -> RunFolder:
        if self.folder is None:
            raise RunError(
                'the run is in memory, where nobody can reach it while it trains: train with out="runs/NAME".'
            )
        return self.folder

    # -- to look at
    def report(self, file: str | Path | None = None, lang: str = "en") -> Path:
        """Write one page that says what was asked, what the data are, how it went, how good it is, and why.

        file: an .html file, RUN/report.html where none is named. lang: "en" or "tr". It opens without a network.
        """
        from derin.report import write

        return write(self, file, lang)

    # -- going on, and away
    def resume(self, data: Any = None, **options: Any) -> Run:
        """Train on to the end, or to `epochs=`; see derin.engine.training.resume."""
        from derin.engine.training import resume

        return resume(self, data, **options)

    def try_remedies(self, data: Any = None, **options: Any) -> Any:
        """Try what may help this run, beside a lane that changes nothing; see derin.diagnose.remedies.try_remedies."""
        from derin.diagnose.remedies import try_remedies

        return try_remedies(self, data, **options)

    def reload_data(self) -> Any:
        """The data this run was trained on, read again from where they came."""
        from derin.data import load

        if self.data is not None:
            return self.data
        source = self.about_data.get("source")
        if source is None:
            raise RunError(
                "this run was trained on arrays in memory: pass them, run.resume(data) or run.evaluate(data)."
            )
        data = load(source, **self.about_data["options"])
        if data.fingerprint != self.fingerprint:
            raise RunError(
                f"{source} is not what this run was trained on: its fingerprint is {data.fingerprint[:12]}, the run's "
                f"is {self.fingerprint[:12]}. Bring the data back as they were, or start a new run."
            )
        return data

    def warn_if_elsewhere(self) -> None:
        """Warn if this is another device, jaxlib or number of cores than those the run was made on."""
        import warnings

        from derin.engine.checkpoint import here

        now = here()
        changed = [f"{k} was {v}, is {now[k]}" for k, v in self.made_on.items() if now.get(k) != v]
        if changed:
            what = "; ".join(changed)
            warnings.warn(f"this run was made elsewhere: {what}. Its last bits may differ now.", stacklevel=3)

    def export(self, file: str | Path) -> Path:
        """Write params and state as safetensors, named and laid out as torch's state_dict."""
        from safetensors.numpy import save

        from derin.engine.checkpoint import replace_file

        file = Path(file)
        arrays = {k: np.asarray(v, order="C") for k, v in {**self.params, **self.state}.items()}
        replace_file(file, save(arrays, metadata={"format": "pt", "experiment": _json(self.experiment)}))
        return file

    def save(self, out: str | Path) -> Path:
        """Write a run that was kept in memory to a folder."""
        from derin.engine.training import counts_of, started_from

        if self.data is None:
            raise RunError("only a run with its data at hand can be saved; this one was loaded: copy its folder.")
        folder = RunFolder.create(Path(out), self.experiment, self.data, counts_of(self.data))
        for line in self.history:
            folder.append(line)
        for line in self.health:
            folder.append(line, "health.jsonl")
        if self.start is not None:
            begun = started_from(self.start, self.task, self.experiment.seed, self.data.train.x)
            folder.keep_start(begun, self.start.path, len(self.start.history))
        folder.save(len(self.history), self.carry, self.stopped or "finished", self.begun)
        if self.threshold is not None:
            folder.keep_threshold(self.threshold, self.history)
        self.folder = folder
        return folder.path

    def __repr__(self) -> str:
        last = self.history[-1] if self.history else {}
        numbers = ", ".join(f"{k} {v:.4g}" for k, v in last.items() if isinstance(v, float))
        size = sum(a.size for a in self.params.values())
        where = f" at {self.path}" if self.path else ""
        return (
            f"Run{where}: {size:,} weights, {len(self.history)} of {self.experiment.epochs} epochs"
            f"{f' ({self.stopped})' if self.stopped else ''}: {numbers}"
        )


def load(path: str | Path) -> Run:
    """The run in a folder. Raises RunError for what is missing, damaged or of a newer version."""
    from derin.engine.task import task_of
    from derin.engine.training import state_at_start

    if not isinstance(path, (str, Path)):
        raise RunError(f"a run is loaded from its folder's path, got {path!r}.")
    folder = RunFolder.open(Path(path))
    experiment = folder.experiment()
    about = folder.about_data()
    dtype, shape = about["input"]
    x = jax.ShapeDtypeStruct((1, *shape), np.dtype(dtype))
    counts = tuple(about["class_counts"]) if about["class_counts"] else None
    task = task_of(experiment, about["schema"], x, counts)
    like = jax.eval_shape(lambda: engine.start(task, jax.random.key(0), x))
    carry, manifest = folder.load_carry(like)
    if carry is None:
        carry = state_at_start(folder, task, experiment.seed, x)
    history = folder.history(int(carry.epoch))
    run = Run(
        experiment,
        about["schema"],
        task,
        carry,
        history,
        folder,
        about_data=about,
        stopped=manifest.get("status", "not started"),
        made_on=manifest.get("here"),
        begun=manifest.get("begun"),
    )
    run.threshold = folder.threshold()
    run.health = folder.health(int(carry.epoch))
    return run


def plain(value: Any) -> Any:
    """A float32 as the shortest float that is the same float32; an array as lists of them."""
    array = np.asarray(value)
    if array.ndim:
        return [plain(v) for v in array]
    return float(str(array[()])) if array.dtype == np.float32 else array.item()


def _json(experiment: Experiment) -> str:
    from derin import spec

    return spec.to_json(experiment, None)
