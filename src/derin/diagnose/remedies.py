"""Remedies that were tried: each is a lane of a population, beside one that changes nothing.

    cure = run.try_remedies()
    cure.table                                  # remedy, its value and effect with their deviations, cost, command
    better = cure.adopt()                       # the best one as a run of its own

Lanes go on from the run's weights where these fit what the remedy makes of the net, and begin again where they do
not; all end with as many epochs behind them as the lane that changes nothing. Lanes of one structure are one program.
"""

from __future__ import annotations

import json
import math
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derin import spec
from derin.data.stream import budget_for
from derin.diagnose.treatments import Treatment, treatments
from derin.engine import epoch as engine
from derin.engine.checkpoint import replace_file
from derin.engine.experiment import Experiment
from derin.engine.population import BLOCK, Member, Population, cores, fitting
from derin.engine.programs import program
from derin.engine.task import balanced_weights
from derin.engine.training import as_dataset
from derin.errors import DataError, ModelError, RunError, SpecError
from derin.optim import L2, ClipByGlobalNorm
from derin.spec import nearest
from derin.tune.arena import Arena
from derin.tune.space import Drawn

if TYPE_CHECKING:
    import polars

    from derin.engine.run import Run

NOTHING = "nothing"


class Lane(NamedTuple):
    """What became of one remedy.   values: the metric for each seed, nan for one that diverged"""

    treatment: Treatment
    values: tuple[float, ...]
    epochs: int
    seconds: float
    fresh: bool
    refused: str = ""

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values) if self.values and all(map(math.isfinite, self.values)) else math.nan


@dataclass
class Cure:
    """The remedies of a run, tried. `table`, `best`, `adopt`.

    An effect is how much better the metric is than with nothing changed, so above 0 the remedy helped, whether the
    metric is to be large or small; its deviation is that over the seeds.
    """

    run: Run
    data: Any
    metric: str
    greater_is_better: bool
    lanes: list[Lane] = field(default_factory=list)

    @property
    def nothing(self) -> Lane:
        """The lane that changes nothing."""
        return self.lanes[0]

    def effect(self, lane: Lane) -> tuple[float, float]:
        """How much better than nothing, and the deviation of that over the seeds; inf where only nothing diverged."""
        sign = 1 if self.greater_is_better else -1
        if self.state(lane) != "tried":
            return math.nan, math.nan
        if self.state(self.nothing) != "tried":
            return math.inf, math.nan
        each = [sign * (a - b) for a, b in zip(lane.values, self.nothing.values, strict=True)]
        return statistics.fmean(each), _deviation(each)

    def ranked(self) -> list[Lane]:
        """The remedies, the most helpful first; those that diverged or were refused last."""

        def order(lane: Lane) -> float:
            effect, _ = self.effect(lane)
            return math.inf if math.isnan(effect) else -effect

        return sorted(self.lanes[1:], key=order)

    @property
    def best(self) -> Lane | None:
        """The remedy that helped most; None where none did."""
        first = next(iter(self.ranked()), None)
        return first if first is not None and self.effect(first)[0] > 0 else None

    @property
    def table(self) -> polars.DataFrame:
        """A row a remedy, the most helpful first: its metric, effect and deviations, what it cost, how to adopt it."""
        import polars

        rows = []
        for lane in [*self.ranked(), self.nothing]:
            effect, deviation = (0.0, 0.0) if lane is self.nothing else self.effect(lane)
            rows.append(
                {"remedy": lane.treatment.name, self.metric: lane.mean, "deviation": _deviation(lane.values)}
                | {"effect": effect, "effect_deviation": deviation}
                | {"starts": "anew" if lane.fresh else "from the run", "epochs": lane.epochs}
                | {"seconds": lane.seconds, "state": self.state(lane), "command": self.command(lane)}
            )
        return polars.DataFrame(rows, infer_schema_length=None)

    def state(self, lane: Lane) -> str:
        """tried, diverged, or refused: why"""
        if lane.refused:
            return f"refused: {lane.refused}"
        return "tried" if all(map(math.isfinite, lane.values)) else "diverged"

    def command(self, lane: Lane) -> str:
        """The command that trains a run with this remedy; "" for a run in memory, whose remedies `adopt` trains."""
        if self.run.path is None or lane is self.nothing or lane.refused or about_data(self.run).get("source") is None:
            return ""
        begin = "" if lane.fresh else f" --from {shlex.quote(str(self.run.path))}"
        return "derin fit " + shlex.quote(str(self.file(lane))) + begin

    def file(self, lane: Lane) -> Path:
        """Where the experiment of a remedy stands in the run's folder."""
        if self.run.path is None:
            raise RunError("this run is in memory, so its remedies have no files: cure.adopt trains one.")
        name = lane.treatment.name.replace(" x ", " times ").replace("/", "by").replace(" ", "-").lower()
        return self.run.path / "remedies" / f"{name}.json"

    def adopt(self, name: str | None = None, *, out: str | Path | None = None, progress: bool = True) -> Run:
        """A new run with a remedy, by default the best one; it begins with this run's weights where the lane did.

        Raises RunError where none helped, SpecError for a remedy that was not tried.
        """
        if name is None and self.best is None:
            raise RunError(f"no remedy made {self.metric} better than changing nothing: look at `table`.")
        names = [lane.treatment.name for lane in self.lanes]
        lane = self.best if name is None else next((x for x in self.lanes if x.treatment.name == name), None)
        if lane is None:
            raise SpecError(f"no remedy {name!r} was tried.{nearest(str(name), names)}")
        if lane.refused:
            raise RunError(f"the remedy {lane.treatment.name!r} was refused: {lane.refused}")
        start = None if lane.fresh else self.run
        return self.experiment(lane).fit(self.data, out=out, start=start, progress=progress)

    def experiment(self, lane: Lane) -> Experiment:
        """What a run with this remedy trains: for as long as its lane did, or as that went on."""
        epochs = lane.epochs if lane.fresh else lane.epochs - len(self.run.history)
        return lane.treatment.experiment.replace(epochs=epochs)


def try_remedies(
    run: Run, data: Any = None, *, remedies: Sequence[str] | None = None, seeds: int = 3, epochs: int | None = None,
    metric: str | None = None, progress: bool = True,
) -> Cure:  # fmt: skip
    """Train each remedy beside a lane that changes nothing, and tell what it did to the metric.

    remedies: some of them, by name; all by default. epochs: how many more than the run has behind it; by default as
    many as the experiment asks for. metric: by default the experiment's first, or the validation loss.
    Raises DataError without validation rows, or where the data stream from disk; RunError, SpecError.

    >>> import derin
    >>> net = derin.nn.Sequential(derin.nn.Linear(16), derin.nn.ReLU(), derin.nn.Linear(3))
    >>> slow = derin.fit(net, "iris", optimizer=derin.optim.SGD(1e-4), epochs=5, progress=False)
    >>> cure = slow.try_remedies(remedies=["learning rate x 10", "Adam"], progress=False)
    >>> cure.best.treatment.name
    'Adam'
    """
    if seeds < 1:
        raise SpecError(f"seeds is how often each remedy is tried, at least 1; got {seeds}.")
    if epochs is not None and epochs < 1:
        raise SpecError(f"epochs is how many more are trained, at least 1; got {epochs}.")
    data = run.reload_data() if data is None else as_dataset(data)
    if data.fingerprint != run.fingerprint:
        raise RunError("these are not the data of the run: pass those it was trained on.")
    if not len(data.valid.x):
        raise DataError("remedies are judged on validation rows, and there are none: load the data with valid=0.15.")
    experiment = run.experiment
    targets = data.schema.targets
    standardised = data.schema.inputs.standardised
    classes = len(targets) == 1 and targets[0].kind != "number"
    found = treatments(experiment, classes, standardised is not None or data.train.x.dtype != np.float32)
    chosen = _chosen(found, remedies)
    arena = Arena(data, None, seeds, experiment.seed)
    name, greater, values_of = arena.judge(experiment, metric)
    done, more = len(run.history), epochs or experiment.epochs
    tried = [Treatment(NOTHING, experiment, ""), *chosen]
    trained = _Lanes(run, arena, done, more, name, lambda report: values_of(report)[name], greater)
    lanes = trained.train(tried, progress)
    cure = Cure(run, data, name, greater, lanes)
    _write(cure)
    return cure


def _chosen(found: list[Treatment], wanted: Sequence[str] | None) -> list[Treatment]:
    if wanted is None:
        return found
    names = [t.name for t in found]
    for name in wanted:
        if name not in names:
            raise SpecError(f"there is no remedy {name!r} for this run.{nearest(name, names)} All: {', '.join(names)}.")
    return [t for t in found if t.name in wanted]


class _Lanes:
    """Trains treatments, those of one structure together."""

    def __init__(self, run: Run, arena: Arena, done: int, more: int, name: str, value: Any, greater: bool) -> None:
        self.run, self.arena, self.done, self.more, self.name = run, arena, done, more, name
        self.value, self.better = value, max if greater else min

    def train(self, tried: list[Treatment], progress: bool) -> list[Lane]:
        groups: dict[Any, list[int]] = {}
        for i, treatment in enumerate(tried):
            groups.setdefault(self.arena.structure(self._alike(treatment.experiment)), []).append(i)
        lanes: dict[int, Lane] = {}
        for some in groups.values():
            lanes |= self._together([tried[i] for i in some], some)
            if progress:
                print(f"tried {', '.join(tried[i].name for i in some)}", file=sys.stderr, flush=True)
        return [lanes[i] for i in range(len(tried))]

    def _together(self, tried: list[Treatment], numbers: list[int]) -> dict[int, Lane]:
        """A population of one structure: each treatment once for each seed."""
        first, begin = self._alike(tried[0].experiment), time.perf_counter()
        try:
            like = self.arena.like(first)
            each = [(i, member) for i, t in zip(numbers, tried, strict=True) for member in self._members(t, like)]
            slots = min(len(each), BLOCK * cores())
            population = fitting(self._population(first), slots, lambda needed: 2 * budget_for(needed))
        except (ModelError, SpecError, DataError) as error:  # DoesNotFit is a ModelError
            return {
                i: Lane(t, (), 0, 0.0, True, str(error))
                for i, t in zip(numbers, tried, strict=True)
            }  # fmt: skip
        values: dict[int, list[float]] = {i: [] for i in numbers}
        waiting = list(each)
        running: dict[int, tuple[int, int, Member]] = {}
        while waiting or running:
            new, waiting = waiting[: population.free], waiting[population.free :]
            for (i, member), handle in zip(new, population.put([m for _, m in new]), strict=True):
                values[i].append(math.nan)
                running[handle] = (i, len(values[i]) - 1, member)
            if not waiting:
                population.thin_out()
            for handle, seen in population.epoch().items():
                i, at, member = running[handle]
                keeps_best = tried[numbers.index(i)].experiment.early_stopping is not None
                now = math.nan if seen.broken else self.value(seen.report)
                before = values[i][at]
                values[i][at] = self.better(before, now) if keeps_best and math.isfinite(before) else now
                if seen.broken or seen.done or seen.epoch >= member.epochs:
                    if not seen.broken and self._weighs_otherwise(tried[numbers.index(i)]):
                        values[i][at] = self._own_loss(population.carry(handle))
                    population.clear(handle)
                    del running[handle]
        seconds = (time.perf_counter() - begin) / len(tried)
        lanes = {}
        for i, treatment in zip(numbers, tried, strict=True):
            member = next(m for j, m in each if j == i)
            lanes[i] = Lane(treatment, tuple(values[i]), member.epochs, seconds, member.carry is None)
        return lanes

    def _weighs_otherwise(self, treatment: Treatment) -> bool:
        """Whether its validation loss is another sum than the run's, and says nothing beside it."""
        return self.name == "valid_loss" and treatment.experiment.class_weights != self.run.experiment.class_weights

    def _own_loss(self, carry: Any) -> float:
        """The validation loss as the run has it."""
        weights = engine.trained(self.run.experiment, carry)
        args = (self.arena.tasks_of(self.run.experiment)[0], *weights, self.arena.placed[1])
        return float(program(engine.evaluate, *args)(*args)[0])

    def _alike(self, experiment: Experiment) -> Experiment:
        """The same with a limit that clips nothing, a penalty of 0 and weights of 1: so one program tries them all."""
        changes: dict[str, Any] = {}
        if experiment.clip is None:
            changes["clip"] = ClipByGlobalNorm(1e30)
        if experiment.penalty is None:
            changes["penalty"] = L2(0.0, except_="biases and norms")
        counts = self.arena.counts[0]
        if counts and not isinstance(experiment.class_weights, tuple):
            changes["class_weights"] = balanced_weights(counts) if experiment.class_weights else (1.0,) * len(counts)
        return experiment.replace(**changes)

    def _population(self, experiment: Experiment) -> Callable[[int], Population]:
        return lambda slots: self.arena.population(experiment, slots, order_seed=None)

    def _members(self, treatment: Treatment, like: Any) -> list[Member]:
        goes_on = not treatment.fresh and self.done > 0 and _fits(self.run.carry, like)
        carry = None
        if goes_on:
            carry = jax.tree.map(np.asarray, self.run.carry)
            carry = carry._replace(done=np.bool_(False), waited=np.int32(0), broken_at=np.int32(-1))
            carry = carry._replace(epoch=np.int32(self.done))
        epochs = self.done + self.more * treatment.longer
        experiment = self._alike(treatment.experiment).replace(epochs=epochs)
        members = self.arena.members_of(Drawn.of(experiment), [carry] * self.arena.members if goes_on else None)
        return [m._replace(epochs=epochs) for m in members]


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan


def _fits(carry: Any, like: Any) -> bool:
    """Whether a run can go on from these weights and this memory of the optimiser."""
    structure: Any = jax.tree.structure(carry)
    if structure != jax.tree.structure(like):
        return False
    pairs = zip(jax.tree.leaves(carry), jax.tree.leaves(like), strict=True)
    return all(jnp.shape(a) == b.shape and jnp.asarray(a).dtype == b.dtype for a, b in pairs)


def _write(cure: Cure) -> None:
    """An experiment file for each remedy in the run's folder, so that a command can adopt it."""
    for lane in cure.lanes[1:]:
        if cure.command(lane):
            file, about = cure.file(lane), about_data(cure.run)
            file.parent.mkdir(exist_ok=True)
            options = {name: v for name, v in about["options"].items() if v is not None}
            text = json.dumps(
                spec.to_dict(cure.experiment(lane)) | {"data": {"source": about["source"], **options}}, indent=2
            )
            replace_file(file, text.encode())


def about_data(run: Run) -> dict[str, Any]:
    """Where the run's data came from."""
    return run.about_data or (run.folder.about_data() if run.folder else {})
