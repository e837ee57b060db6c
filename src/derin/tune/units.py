"""Units: the pieces in which a search is dealt to workers. A unit is some trials and the epochs they stand at.

A worker trains a unit's trials to their next rung, or to their end. What comes back is a function of the unit alone:
not of the worker, nor of what it did before. So a unit that was lost is done again, and how many workers there are
changes no bit. Two things see to that: blocks are chosen by the size of the net, not by a measurement
(`Population.measure`), and a worker's programs run on one thread each, so that no sum is split by the number of cores.
"""

from __future__ import annotations

import copy
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from derin.engine.epoch import Weights
from derin.engine.experiment import Experiment
from derin.engine.population import cores
from derin.engine.programs import seconds
from derin.errors import SpecError
from derin.spec import Spec
from derin.tune.pruners import Pruner
from derin.tune.search import Search, Settings
from derin.tune.space import Space
from derin.tune.trial import Trial

FLAGS = "--xla_cpu_multi_thread_eigen=false"  # to stand in XLA_FLAGS before a worker's first program


class Job(NamedTuple):
    """What every worker of a search is given once."""

    experiment: Experiment
    data: Any
    settings: Settings
    threads: int


class Unit(NamedTuple):
    """Trials of one structure that stand at the same epoch. carries: by trial, its members' states; none at epoch 0."""

    trials: list[dict[str, Any]]
    carries: dict[int, list[Any]]
    seconds: float  # of the search so far: time may be limited

    @property
    def name(self) -> tuple[int, ...]:
        return tuple(t["number"] for t in self.trials)


class Done(NamedTuple):
    """What a unit came to. carries: of the trials that wait at a rung; best: the weights of the best that finished."""

    name: tuple[int, ...]
    trials: list[dict[str, Any]]
    carries: dict[int, list[Any]]
    best: dict[int, list[Weights]]
    slot_epochs: tuple[int, int]  # used, idle
    compile_seconds: float


class Pausing(Pruner):
    """The rungs of a rule, where everyone waits: the decision is another's."""

    rule: Pruner

    def rungs(self, epochs: int, number: int) -> tuple[int, ...]:
        return self.rule.rungs(epochs, number)

    @property
    def waits(self) -> bool:
        return True


class Trainer:
    """Does units, one after the other."""

    def __init__(self, job: Job) -> None:
        settings, rule = job.settings, job.settings.pruner
        if rule is not None:
            settings = settings.replace(pruner=Pausing(rule))
        space = Space.of(job.experiment)
        self.search = Search(job.experiment, space, job.data, settings)
        self.search.how = {"threads": job.threads, "measure": False}
        self.search.workers = cores()  # whatever the number of workers: slots are not to depend on it

    def do(self, unit: Unit, after: Callable[[Search], Any] = lambda _: None, stop: Sequence[Any] = ()) -> Done:
        """Train a unit, calling `after` behind every epoch.

        Raises ModelError where the net does not fit the data.
        """
        search = self.search
        trials: dict[int, Trial] = {t["number"]: Trial(**copy.deepcopy(t)) for t in unit.trials}
        search.trials = trials  # type: ignore[assignment]  # found by their number, as in the whole list
        search.queue, search.parked, search.best, search.levels = deque(trials), dict(unit.carries), {}, []
        search.waiting, search.running, search.population, search.stopped = {}, {}, None, ""
        search.before, search.begun = unit.seconds, time.perf_counter()
        search.used = search.idle = 0
        compiling = sum(seconds.values())
        search.blocks.clear()
        search.forget(trials)  # population-based training gives a trial other values
        search.train(after, stop)
        return Done(unit.name, [t.to_dict() for t in trials.values()], search.parked, search.best,
                    search.slot_epochs(), sum(seconds.values()) - compiling)  # fmt: skip


def worker_environment() -> dict[str, str]:
    """What a worker needs to find in its environment when it starts."""
    given = os.environ.get("XLA_FLAGS", "")
    return {"XLA_FLAGS": f"{given} {FLAGS}".strip(), "JAX_PLATFORMS": "cpu"}


def check_importable(experiment: Any) -> None:
    """Raises SpecError for a class or function of the experiment that a fresh process could not import."""
    for part in _parts(experiment):
        home = part if callable(part) and hasattr(part, "__qualname__") else type(part)
        if home.__module__ == "__main__":
            raise SpecError(
                f"workers import classes by their module, and {home.__qualname__} is defined in the program itself: "
                "move it to a file of its own, and import it from there."
            )


def _parts(value: Any) -> Iterator[Any]:
    """All specs and functions in a spec."""
    if isinstance(value, Spec):
        yield value
        value = [getattr(value, f) for f in value.__dataclass_fields__]  # type: ignore[attr-defined]
    elif callable(value):
        yield value
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, (list, tuple)):
        for v in value:
            yield from _parts(v)
