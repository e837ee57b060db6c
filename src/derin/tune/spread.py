"""A search whose trials others train: it asks, cuts units, gives them out, and decides; processes or Ray do the rest.

Units have a fixed composition: the queue's trials of one structure, bracket and epoch, `slots` at a time, in order.
Trials go to their next rung, all of them, before any is judged there; rules that decide at once (ASHA, Hyperband) then
judge them in the order of their numbers. So nothing that is found depends on which unit came back first, and the table
is the same, but for `seconds`, whoever did the work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any, Protocol

import jax

from derin.engine.experiment import Experiment
from derin.engine.population import BLOCK, cores
from derin.errors import SpecError
from derin.tune.search import Search, Settings
from derin.tune.space import Space
from derin.tune.trial import ENDED, Trial
from derin.tune.units import Done, Job, Unit

POLL = 0.2  # seconds between two looks at the clock and for Ctrl-C


class Crew(Protocol):
    """Those who do units: `workers.Processes`, `on_ray.Cluster`."""

    def start(self, job: Job) -> None:
        """Make ready. Called before the first unit."""

    @property
    def idle(self) -> int:
        """How many units it would take now."""

    @property
    def busy(self) -> int:
        """How many units it has, and has not given back."""

    def give(self, unit: Unit) -> None:
        """Have a unit done; should its worker die, by another."""

    def wait(self, seconds: float) -> list[Done]:
        """The units that are done, waiting so long for the first. Raises what a worker raised, RunError if it died."""

    def close(self) -> None:
        """Stop at once."""


class Spread(Search):
    """A search that trains nothing itself."""

    def __init__(self, experiment: Experiment, space: Space | None, data: Any, settings: Settings, crew: Crew) -> None:
        super().__init__(experiment, space, data, settings)
        self.crew = crew
        self.started = False

    def run(self, after: Callable[[Search], Any], stop: Sequence[Any] = ()) -> None:
        try:
            super().run(after, stop)
        finally:
            self.crew.close()

    def train(self, after: Callable[[Search], Any], stop: Sequence[Any]) -> None:
        """Have the whole queue trained to its next rungs."""
        if not self.started:
            settings = self.settings.replace(slots=self._slots())
            self.crew.start(Job(self.experiment, self.arena.data, settings, 1))
            self.started = True
        todo = deque(self._cut())
        while todo or self.crew.busy:
            while todo and self.crew.idle:
                numbers = todo.popleft()
                for n in numbers:
                    self.trials[n].state = "running"
                self.crew.give(self._unit(numbers))
            for done in self.crew.wait(POLL):
                self._take(done)
                after(self)
            if stop:
                self.stopped = "interrupted"
                return
            if self.time_is_over():
                todo.clear()  # workers look at the clock themselves: theirs come back within an epoch
        if self.time_is_over():
            self._out_of_time()

    def _cut(self) -> list[list[int]]:
        """The queue in units. Taking away some whole ones leaves the others as they are: so a resumed search cuts."""
        groups: dict[Any, list[int]] = {}
        for n in self.queue:
            rule, trial = self.settings.pruner, self.trials[n]
            bracket = rule.bracket(n, self.alike(n).epochs) if rule else 0
            groups.setdefault((self._structure(n), bracket, trial.epochs), []).append(n)
        size = max(1, self._slots() // self.arena.members)
        units = [[some[i : i + size] for i in range(0, len(some), size)] for some in groups.values()]
        return [unit for turn in zip_longest(*units) for unit in turn if unit]  # structures in turn: time may end it

    def _unit(self, numbers: Iterable[int]) -> Unit:
        trials = [self.trials[n].to_dict() for n in numbers]
        return Unit(trials, {n: self.parked[n] for n in numbers if n in self.parked}, self.seconds())

    def _slots(self) -> int:
        """A core's worth, not a machine's: there are as many workers as cores."""
        given = self.settings.slots or (BLOCK if jax.default_backend() == "cpu" else 1024)
        return max(self.arena.members, given)

    def _take(self, done: Done) -> None:
        """Enter what a unit came to."""
        for found in done.trials:
            trial = Trial(**found)
            n, state = trial.number, trial.state
            self.queue.remove(n)
            self.trials[n] = trial
            if state in ENDED:
                self.parked.pop(n, None)  # it has gone on since
                self._end(trial, state, trial.why)
                if n in done.best:
                    self._keep_if_best(trial, done.best[n])
                    self._settle()
            else:
                self.waiting.setdefault(trial.epochs, []).append(n)
                self.parked[n] = done.carries[n]
        self.used, self.idle = self.used + done.slot_epochs[0], self.idle + done.slot_epochs[1]
        self.compile_seconds += done.compile_seconds

    def _promote(self) -> None:
        """All have come to a rung. Rules that decide at once judge them by number."""
        pruner = self.settings.pruner
        if pruner is None or pruner.waits:
            super()._promote()
            return
        for n in sorted(self.waiting.pop(min(self.waiting))):
            trial = self.trials[n]
            if self._goes_on(trial, pruner):
                trial.state = "queued"
                self.queue.append(n)
            else:
                self._end(trial, "pruned")


def crew_of(workers: int | None, ray: str | None) -> Crew:
    """Who does the units of a search. Raises SpecError, RunError."""
    if workers is not None and ray is not None:
        raise SpecError("workers are processes of this machine and ray is a cluster: give one of them.")
    if ray is not None:
        from derin.tune.on_ray import Cluster

        return Cluster(ray)
    from derin.tune.workers import Processes

    return Processes(cores() if workers is None else workers)
