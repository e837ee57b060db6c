"""Arena: where trials compete. The data as the programs take them, the folds, and the task of each trial."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from derin.engine import epoch as engine
from derin.engine.epoch import Fold, Rows, Task
from derin.engine.experiment import Experiment
from derin.engine.metrics import metric_names
from derin.engine.population import Member, Population, epoch_work
from derin.engine.task import class_counts, rows_of, same_structure, task_of
from derin.engine.training import check_monitors, counts_of
from derin.errors import DataError, SpecError
from derin.nn import Identity, Module
from derin.spec import Scalar, nearest
from derin.tune.space import Drawn, Shape


class Restandardised(Module):
    """Columns by the means and deviations of a fold's own training rows.   x: [batch, d] -> as `inner` gives it"""

    inner: Module
    shift: Scalar
    scale: Scalar

    def forward(self, x: jax.Array) -> jax.Array:
        return self.inner((x - self.shift) / self.scale)


class Arena:
    """The rows trials train on and are judged by: validation rows, or folds of training and validation rows.

    A trial is trained `members` times: once for each fold and seed. Raises DataError where there is nothing to judge
    by, and where the data do not fit in memory.
    """

    def __init__(self, data: Any, folds: int | None, seeds: int, seed: int) -> None:
        from derin.data.folds import folds as cut
        from derin.data.folds import restandardised, union

        if isinstance(data.train.x, np.memmap):
            raise DataError(
                "a search keeps its data in memory, and these stream from disk: load them with a larger "
                "memory_budget, or tune on a part of the rows."
            )
        if seeds < 1:
            raise SpecError(f"seeds is how often each trial is trained anew, at least 1; got {seeds}.")
        self.epochs: int | None = None  # of the first trial
        self.data, self.seeds = data, range(seed, seed + seeds)
        self.folds: Fold | None = None
        self.valid: Rows | None = None
        self.adjusted: tuple[np.ndarray, np.ndarray] | None = None
        if folds is None:
            if not len(data.valid.x):
                raise DataError(
                    "there are no validation rows to judge trials by: load with valid=0.15, or give folds=5."
                )
            self.part, self.valid = data.train, rows_of(data.valid)
            self.counts = [counts_of(data)]
        else:
            found = cut(data, folds, seed=seed)
            self.part = union(data)
            self.folds = _stacked(found)
            self.adjusted = restandardised(data, found)
            self.counts = [self._counts(f.train) for f in found]
        self.rows = rows_of(self.part)
        self.tasks: dict[Any, list[Task]] = {}
        self.rests: dict[Shape, list[list[Any]] | None] = {}  # the numbers of a fold's task that no trial changes

    def _counts(self, rows: np.ndarray) -> tuple[int, ...] | None:
        targets = self.data.schema.targets
        if len(targets) != 1 or targets[0].kind == "number":
            return None
        return class_counts(self.part.y[rows], len(targets[0].labels))

    @property
    def members(self) -> int:
        return len(self.counts) * len(self.seeds)

    def structure(self, experiment: Experiment) -> Any:
        """What decides the program of a trial; epochs do not, and all have one seed."""
        if self.epochs is None:
            self.epochs = experiment.epochs
        if experiment.epochs != self.epochs:
            experiment = experiment.replace(epochs=self.epochs)
        return jax.tree.structure(experiment)

    def tasks_of(self, experiment: Experiment) -> list[Task]:
        """The task of each fold of the first trial of this structure: it is checked, the others share what it found."""
        key = self.structure(experiment)
        if key not in self.tasks:
            tasks = [task_of(experiment, self.data.schema, self.part.x, self.counts[0])] * len(self.counts)
            if isinstance(experiment.class_weights, str):  # those of each fold's own rows
                tasks = [task_of(experiment, self.data.schema, self.part.x, counts) for counts in self.counts]
            self.tasks[key] = [self._of_fold(task, i) for i, task in enumerate(tasks)]
            if self.folds is None:
                check_monitors(experiment, self.data)
        return self.tasks[key]

    def leaves_of(self, drawn: Drawn) -> list[list[Any]]:
        """The numbers of the trial's task in each fold."""
        shape, own = drawn
        if shape not in self.rests:
            tasks, experiment = self.tasks_of(shape.experiment), shape.experiment
            alike = experiment.loss is None and not isinstance(experiment.class_weights, tuple)
            self.rests[shape] = [jax.tree.leaves(task)[len(own) :] for task in tasks] if alike else None
        rests = self.rests[shape]
        if rests is not None:
            return [[*own, *rest] for rest in rests]  # a task begins with its experiment
        experiment = drawn.experiment
        return [jax.tree.leaves(same_structure(task, experiment)) for task in self.tasks_of(experiment)]

    def _of_fold(self, task: Task, fold: int) -> Task:
        if self.adjusted is not None:
            shift, scale = (a[fold] for a in self.adjusted)
            inner = Identity() if task.inputs is None else task.inputs
            task = task.replace(inputs=Restandardised(inner, shift, scale))
        return task.structure_only()

    def members_of(self, drawn: Drawn, carries: Any = None) -> list[Member]:
        """What a trial trains: for each fold, each seed."""
        epochs, found = drawn.shape.experiment.epochs, []
        for fold, leaves in enumerate(self.leaves_of(drawn)):
            for seed in self.seeds:
                found.append(Member(leaves, seed, epochs, fold))
        return [m._replace(carry=c) for m, c in zip(found, carries, strict=True)] if carries else found

    def population(self, experiment: Experiment, slots: int, **how: Any) -> Population:
        task, (rows, valid) = self.tasks_of(experiment)[0], self.placed
        how = {"order_seed": self.seeds[0]} | how
        return Population(task, rows, valid, slots, folds=self.folds, **how)

    @functools.cached_property
    def placed(self) -> tuple[Rows, Rows | None]:
        """The rows, and those that judge, on the device: put there once, and only where trials train."""
        return jax.device_put((self.rows, self.valid))

    def epoch_work(self, experiment: Experiment) -> float:
        """What one member does in an epoch, as numbers: see engine.population."""
        return epoch_work(self.tasks_of(experiment)[0], self.rows)

    def like(self, experiment: Experiment) -> Any:
        """Shapes of a member's state."""
        shape = jax.ShapeDtypeStruct((1, *self.part.x.shape[1:]), self.part.x.dtype)
        return jax.eval_shape(lambda: engine.start(self.tasks_of(experiment)[0], jax.random.key(0), shape))

    # -- what trials are judged by
    def judge(
        self, experiment: Experiment, metric: str | None, searched: str = ""
    ) -> tuple[str, bool, Callable[[Any], dict[str, float]]]:
        """The metric's name, whether greater is better, and what a report says by name.   Raises SpecError

        searched: a path in which trials differ that changes what their losses measure, "" if there is none."""
        named = [(i, name, m) for i, (name, m, _) in enumerate(engine.metric_names(self.tasks_of(experiment)[0]))]
        named = [(i, name, m) for i, name, m in named if m.scalar]
        greater = {"valid_loss": False, "loss": False} | {name: m.greater_is_better for _, name, m in named}
        if metric is None:
            metric = named[0][1] if (experiment.metrics or searched) and named else "valid_loss"
        if metric not in greater:
            known = metric in metric_names()
            raise SpecError(
                f"there is no metric {metric!r} to tune for; this experiment has {', '.join(greater)}."
                + (f" Give the experiment metrics=({metric!r},)." if known else nearest(metric, greater))
            )

        if searched and metric in ("loss", "valid_loss"):
            others = " or ".join(f"metric={name!r}" for _, name, _ in named) or "metrics=(...) in the experiment"
            raise SpecError(
                f"trials differ in {searched}, which changes what their losses measure: {metric} cannot compare them. "
                f"Give {others}."
            )

        places = [(name, i) for i, name, _ in named]

        def values(report: Any) -> dict[str, float]:
            found, metrics = {"loss": report.loss, "valid_loss": report.valid_loss}, report.metrics
            for name, i in places:
                found[name] = metrics[i]
            return found

        return metric, greater[metric], values


def _stacked(found: Any) -> Fold:
    """Folds of unequal size as arrays: the shorter are filled up with rows that do not count."""

    def filled(parts: list[np.ndarray]) -> Any:
        longest = max(map(len, parts))
        return np.stack([np.resize(p, longest) for p in parts]).astype(np.int32)

    trains, valids = [f.train for f in found], [f.valid for f in found]
    sizes: list[Any] = [np.array([len(p) for p in parts], np.int32) for parts in (trains, valids)]
    return Fold(filled(trains), sizes[0], filled(valids), sizes[1])
