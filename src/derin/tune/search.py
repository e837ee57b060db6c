"""The search: trials are asked of a sampler, trained in populations, judged at rungs, and recorded.

All that decides what comes next is in `Search.state()` and the members' carries, so a search that was killed goes on
from its last checkpoint as if nothing had happened: the same trials, the same bits. Where time is to end it, structures
take turns by the clock, and whom a trial is compared with hangs on the clock, too.
"""

from __future__ import annotations

import bisect
import functools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from derin.data.stream import budget_for
from derin.engine.epoch import Weights, trained
from derin.engine.experiment import Experiment
from derin.engine.population import BLOCK, Population, Seen, cores, fitting
from derin.engine.programs import seconds
from derin.errors import DoesNotFit, SpecError
from derin.spec import Spec
from derin.tune.arena import Arena
from derin.tune.pruners import Arrived, Pruner, rank
from derin.tune.samplers import CoarseToFine, Sampler, Told
from derin.tune.space import Drawn, Shape, Space
from derin.tune.trial import ENDED, Trial, mean, tie_breaker

MANY = 2**31  # trials, where only the time is limited
ROUNDS = 4  # turns of each structure, where it is
SHORT, MORE = 1e9, 4  # the work of an epoch of all slots that takes no time, some 0.1 s; so many times the slots then


class Settings(Spec):
    """How a search goes: what `tune` was called with."""

    trials: int | None
    sampler: Sampler
    pruner: Pruner | None = None
    folds: int | None = None
    seeds: int = 1
    metric: str | None = None
    slots: int | None = None
    time: float | None = None
    seed: int = 0
    keep: int = 5
    units: bool = False  # workers train, in units of fixed composition

    def check(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise SpecError(f"seed must be a whole number from 0 to 2**32 - 1, got {self.seed}.")
        for name, least in (("trials", 1), ("seeds", 1), ("slots", 1), ("time", 0), ("keep", 1)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise SpecError(f"{name} must be at least {least}, got {value}.")
        if self.trials is None and self.time is None:
            raise SpecError("a search needs an end: give trials=64, or time=600 (seconds).")
        if self.trials is None and isinstance(self.sampler, CoarseToFine):
            raise SpecError("coarse to fine divides the trials into rounds: give trials=200 beside the time.")


class Search:
    """Trains the trials of a space. `run` goes on until all have ended; `state` and `carries` are what to save."""

    def __init__(self, experiment: Experiment, space: Space | None, data: Any, settings: Settings) -> None:
        self.experiment, self.space, self.settings = experiment, space, settings
        self.arena = Arena(data, settings.folds, settings.seeds, experiment.seed)
        first = experiment if space is None else space.fixed(space.at([0.5] * len(space.dimensions)))
        judge = self.arena.judge(first, settings.metric, space.searched_loss if space else "")
        self.metric, self.greater, self.values_of = judge
        self.trials: list[Trial] = []
        self.queue: deque[int] = deque()
        self.waiting: dict[int, list[int]] = {}  # at a rung, for rules that wait
        self.parked: dict[int, list[Any]] = {}  # the members' carries of those
        self.arrived: dict[tuple[int, int], list[Arrived]] = {}  # by bracket and rung
        self.running: dict[int, list[int]] = {}  # the handles of a trial's members
        self.best: dict[int, Any] = {}  # the members' Weights of the best trials, the best first; see _settle
        self.levels: list[tuple[bool, float]] = []  # of these, ascending
        self.population: Population | None = None
        self.group: Any = None  # the structure that trains now
        self.leader = first  # an experiment of it: the others differ in numbers, and in epochs if those are searched
        self.epochs_vary = space is not None and "epochs" in space.paths
        self.blocks: dict[Any, tuple[int, int]] = {}  # by structure: what a measurement chose
        self.ended = 0
        self.used = self.idle = 0  # slot-epochs of populations that are done with
        self.begun = time.perf_counter()
        self.before = 0.0  # seconds of earlier sittings
        self.epoch_seconds = self.compile_seconds = 0.0
        self.compiled = sum(seconds.values())  # by this process before
        self.stopped = ""
        self.opening = 0.0  # seconds that it took to compile and begin a structure, at most
        self._drawn: dict[int, Drawn] = {}
        self._groups: dict[Shape, Any] = {}  # the structure of the program
        self._interned: dict[Any, Any] = {}  # one object for equal ones: they are compared quickly then
        self.how: dict[str, Any] = {}  # more options of its populations
        self.workers = 1  # that share this machine's memory

    # -- the loop
    def run(self, after: Callable[[Search], Any], stop: Sequence[Any] = ()) -> None:
        """Train to the end, calling `after` behind every epoch; leaves early once something is in `stop`."""
        while not self.stopped:
            if stop:
                self.stopped = "interrupted"
            elif self.time_is_over():
                self._out_of_time()
            elif self.running or self.queue:
                self.train(after, stop)
            elif self.waiting:
                self._promote()
            elif not self._ask():
                self.stopped = "finished"
        after(self)

    def _ask(self) -> bool:
        """More trials from the sampler; False if there are none."""
        wanted = self.settings.trials or MANY
        if self.space is None:
            new: list[dict[str, Any]] = [{}] if not self.trials else []
        else:
            count = min(wanted - len(self.trials), wanted if self._all_at_once() else self._some())
            if count <= 0:
                return False
            told = [Told(t.number, t.values, self._score(t)) for t in self.trials if t.state in ENDED]
            new = self.settings.sampler.ask(self.space, len(self.trials), count, told, self.settings.seed, wanted)
        for values in new:
            trial = Trial(len(self.trials), values)
            self.trials.append(trial)
            try:
                self.drawn(trial.number)
            except SpecError as error:  # two numbers that do not go together
                self._end(trial, "refused", str(error))
            else:
                self.queue.append(trial.number)
        return bool(new)

    def train(self, after: Callable[[Search], Any], stop: Sequence[Any]) -> None:
        """Train the queued trials that share the structure of the first: all of them, or where time is short a turn."""
        turn = time.perf_counter()
        if not self.running:
            self._open(self.queue[0])
        opened = time.perf_counter()
        self.opening = max(self.opening, opened - turn)
        refills = self.settings.time is not None and not self._waits() and not self.settings.units
        while not self.stopped:
            if refills and len(self.queue) < self._slots():
                self._ask()  # the slots are not to run empty before the next are asked for
            self._fill()
            population = self.population
            if population is None or not self.running:
                break
            if not any(self._mine(n) for n in self.queue):
                population.thin_out()
            begin = time.perf_counter()
            seen = population.epoch()
            self.compile_seconds = sum(seconds.values()) - self.compiled
            self.epoch_seconds += time.perf_counter() - begin
            for number, handles in [*self.running.items()]:
                self._record(self.trials[number], handles, seen)
            if stop:
                self.stopped = "interrupted"
            elif self.time_is_over():
                self._out_of_time()
            self._settle()
            after(self)
            if self._turn_is_over(time.perf_counter() - opened):
                self._give_way()
                break
        if self.population is not None and not self.running:
            self.used, self.idle = self.used + self.population.used, self.idle + self.population.idle
            self.population = None

    def _all_at_once(self) -> bool:
        """Whether all trials are asked for in the beginning: where time may end the search most would never begin."""
        return self.settings.trials is not None and (self.settings.time is None or self._waits())

    def _some(self) -> int:
        """Trials that are asked for at a time: enough to fill all slots for a while, for each worker's if there are."""
        return max(1, (64 if self.settings.units else 8) * self._slots() // self.arena.members)

    def _waits(self) -> bool:
        return self.settings.pruner is not None and self.settings.pruner.waits

    def _turn_is_over(self, trained: float) -> bool:
        """Where time is short every structure has its turns: of several rounds, and longer than it takes to open one.

        None is opened in the end that would hardly train."""
        if self.settings.time is None or self.stopped:
            return False
        if trained < max(self.opening, self.settings.time / 100) or self._left() < 2 * self.opening:
            return False
        structures = {self._structure(n) for n in self.queue} | {self.group}
        return len(structures) > 1 and trained >= self.settings.time / (ROUNDS * len(structures))

    def _give_way(self) -> None:
        """Those that train now go on when all others have had their turn."""
        mine = [*self.running, *(n for n in self.queue if self._mine(n))]
        others = [n for n in self.queue if not self._mine(n)]
        for n in [*self.running]:
            self._leave(self.trials[n], park=True)
            self.trials[n].state = "queued"
        self.queue = deque([*others, *mine])

    def _open(self, number: int) -> None:
        """A population for the structure of this trial."""
        self.leader = experiment = self.alike(number)
        self.group = self._structure(number)
        how = self.blocks.get(self.group)
        options = dict(shared_order=self._in_step(), block=how[0] if how else None, **self.how)

        def make(slots: int) -> Population:
            return self.arena.population(experiment, slots, **options)

        try:
            self.population = fitting(make, self._slots_of(experiment), self.budget)
            if self.population.slots < self.arena.members:
                raise DoesNotFit(
                    f"{self.arena.members} members a trial, for its folds and seeds, do not fit in memory together."
                )
            if how:
                self.population.alone = how[1]
            self.blocks[self.group] = (self.population.block, self.population.alone)
        except DoesNotFit as error:
            for n in [n for n in self.queue if self._mine(n)]:
                self.queue.remove(n)
                self._end(self.trials[n], "refused", str(error))

    def budget(self, needed: int) -> int:
        """Bytes there are for a population that needs so many: half of the memory."""
        return 2 * budget_for(needed * self.workers) // self.workers

    def _slots(self) -> int:
        given = self.settings.slots
        if given is None:
            on_cpu = jax.default_backend() == "cpu"
            given = BLOCK * cores() if on_cpu else 1024
        return max(self.arena.members, min(given, self._wanted()))

    def _wanted(self) -> int:
        """Members of all trials."""
        return (self.settings.trials or MANY) * self.arena.members

    def _slots_of(self, experiment: Experiment) -> int:
        """More where an epoch of all takes no time and none of them ends early: each epoch stops all threads."""
        slots = self._slots()
        if self.settings.slots is not None or not self._in_step() or jax.default_backend() != "cpu":
            return slots
        times = min(MORE, int(SHORT / max(slots * self.arena.epoch_work(experiment), 1)))
        return max(slots, min(times * slots, self._wanted()))

    def _in_step(self) -> bool:
        """Whether the members of a population are always in the same epoch. Those that take turns are not."""
        rules = (self.settings.pruner, self.settings.time, self.experiment.early_stopping)
        return all(rule is None for rule in rules) and not self.epochs_vary

    def _fill(self) -> None:
        """Free slots go to the next trials of this structure."""
        if self.population is None or (self._in_step() and self.running):
            return
        free = self.population.free // self.arena.members
        numbers: list[int] = []
        for n in self.queue:
            if len(numbers) == free:
                break
            if self._mine(n):
                numbers.append(n)
        members = [m for n in numbers for m in self.arena.members_of(self.drawn(n), self.parked.pop(n, None))]
        handles = self.population.put(members)
        each = self.arena.members
        for i, n in enumerate(numbers):
            self.queue.remove(n)
            self.running[n] = handles[i * each : (i + 1) * each]
            self.trials[n].state = "running"

    def _mine(self, number: int) -> bool:
        return self._structure(number) is self.group

    def _structure(self, number: int) -> Any:
        shape = self.drawn(number).shape
        group = self._groups.get(shape)
        if group is None:
            found = self.arena.structure(shape.experiment)
            group = self._groups[shape] = self._interned.setdefault(found, found)
        return group

    def forget(self, numbers: Iterable[int]) -> None:
        """The values of these trials have changed."""
        for n in numbers:
            self._drawn.pop(n, None)

    def drawn(self, number: int) -> Drawn:
        """The experiment of a trial in parts."""
        found = self._drawn.get(number)
        if found is None:
            values = self.trials[number].values
            found = Drawn.of(self.experiment) if self.space is None else self.space.drawn(values)
            self._drawn[number] = found
        return found

    def alike(self, number: int) -> Experiment:
        """An experiment that differs from a trial's in numbers only."""
        return self.drawn(number).shape.experiment

    # -- what an epoch left
    def _record(self, trial: Trial, handles: list[int], seen: dict[int, Seen]) -> None:
        experiment = self.alike(trial.number) if self.epochs_vary else self.leader
        trial.epochs += 1
        members, values, done = [], [], True
        for i, handle in enumerate(handles):
            report, _, stopped, broken = seen[handle]
            if broken:
                self._end(trial, "diverged", f"a loss or gradient was not finite in epoch {trial.epochs}")
                return
            if trial.members and experiment.early_stopping is not None and not report.improved:
                found = trial.members[i]  # each member counts with its best epoch, as its weights will
            else:
                found = self.values_of(report)
            members.append(found)
            values.append(found[self.metric])
            done = done and stopped
        trial.members = members
        trial.curve.append(mean(values))
        if done or trial.epochs >= experiment.epochs:
            self._end(trial, "finished")
            return
        pruner = self.settings.pruner
        if pruner is None or trial.epochs not in pruner.rungs(experiment.epochs, trial.number):
            return
        if pruner.waits:
            self.waiting.setdefault(trial.epochs, []).append(trial.number)
            self._leave(trial, park=True)
            trial.state = "waiting"
        elif not self._goes_on(trial, pruner):
            self._end(trial, "pruned")

    def _goes_on(self, trial: Trial, pruner: Pruner) -> bool:
        """Whether a trial leaves its rung, by a rule that decides at once."""
        here = self._arrived(trial)
        bracket = pruner.bracket(trial.number, self.alike(trial.number).epochs)
        before = self.arrived.setdefault((bracket, trial.epochs), [])
        goes_on = pruner.keeps(here, before)
        bisect.insort(before, here, key=rank)
        return goes_on

    def _arrived(self, trial: Trial) -> Arrived:
        return Arrived(trial.number, self._score(trial), tie_breaker(trial, self.space))

    def _score(self, trial: Trial) -> float:
        """Smaller is better; inf for a trial that diverged."""
        if trial.state == "diverged" or not trial.curve or math.isnan(trial.curve[-1]):
            return math.inf
        return -trial.curve[-1] if self.greater else trial.curve[-1]

    def _leave(self, trial: Trial, park: bool = False) -> None:
        handles, population = self.running.pop(trial.number), self.population
        if population is None:
            return
        if park:
            self.parked[trial.number] = [population.carry(h) for h in handles]
        population.clear(*handles)

    def _end(self, trial: Trial, state: str, why: str = "") -> None:
        trial.state, trial.why = state, why
        trial.seconds = self.seconds()
        trial.place = self.ended
        self.ended += 1
        if trial.number in self.running:
            if self.population is not None and self._joins_best(trial):
                part = functools.partial(trained, self.leader)
                copiers = [self.population.copier(h, part) for h in self.running[trial.number]]
                self.best[trial.number] = lambda: [copied() for copied in copiers]
            self._leave(trial)
        elif trial.number in self.parked:
            parked = self.parked.pop(trial.number)
            self._keep_if_best(trial, [trained(self.alike(trial.number), carry) for carry in parked])

    def _keep_if_best(self, trial: Trial, weights: list[Weights]) -> None:
        """The weights of the best trials stay: for ensembles, and to predict with at once."""
        if self._joins_best(trial):
            self.best[trial.number] = lambda: weights

    def _joins_best(self, trial: Trial) -> bool:
        """Whether a trial is not behind the last of the best, as most are: then its level counts among theirs."""
        if trial.state not in ("finished", "stopped") or not trial.curve:
            return False
        level, keep = self._level(trial), self.settings.keep
        if len(self.levels) == keep and level > self.levels[-1]:
            return False
        bisect.insort(self.levels, level)
        del self.levels[keep:]
        return True

    def _settle(self) -> None:
        """The best are chosen: only now their weights are copied, as of those that end together few stay the best."""
        if not any(map(callable, self.best.values())):
            return
        last = self.levels[-1]
        ranked = sorted((n for n in self.best if self._level(self.trials[n]) <= last), key=self._place)
        self.best = {n: found() if callable(found := self.best[n]) else found for n in ranked[: self.settings.keep]}

    def _level(self, trial: Trial) -> tuple[bool, float]:
        """The best trial first; of those that are alike _place tells."""
        return trial.state != "finished", self._score(trial)

    def _place(self, number: int) -> tuple[Any, ...]:
        """The best trial first."""
        trial = self.trials[number]
        return (trial.state != "finished", *rank(self._arrived(trial)))

    def _out_of_time(self) -> None:
        for number in [*self.running, *self.queue, *(n for some in self.waiting.values() for n in some)]:
            trial = self.trials[number]
            self._end(trial, "stopped", "out of time")
        self.queue.clear()
        self.waiting.clear()
        self._settle()
        self.stopped = "out of time"

    def _promote(self) -> None:
        """All have come to a rung: the rule says who goes on, with whose weights."""
        rung, pruner = min(self.waiting), self.settings.pruner
        numbers = self.waiting.pop(rung)
        arrived = [self._arrived(self.trials[n]) for n in numbers]
        chosen = pruner.chosen(arrived, rung, self.settings.seed) if pruner else []
        weights = {c.number: self.parked[c.source] for c in chosen}
        ended = set(numbers) - {c.number for c in chosen}
        for n in sorted(ended):
            self._end(self.trials[n], "pruned")
        for c in chosen:
            trial = self.trials[c.number]
            if c.explores and self.space is not None:
                self._explore(self.space, trial, self.trials[c.source], rung)
            self.parked[c.number] = weights[c.number]
            trial.state = "queued"
            self.queue.append(c.number)

    def _explore(self, space: Space, trial: Trial, source: Trial, rung: int) -> None:
        """Take over another's values, changed: on their own scale by up to a tenth, or drawn anew."""
        rule: Any = self.settings.pruner
        random = np.random.default_rng([self.settings.seed, rung, trial.number])
        places = space.place(source.values)
        for name, u in places.items():
            anew = random.random() < rule.resample
            places[name] = random.random() if anew else float(np.clip(u + random.uniform(-0.1, 0.1), 0, 1))
        trial.history = [*source.history, [trial.epochs, source.values]]  # what its weights were trained with
        trial.curve, trial.members = [*source.curve], [*source.members]  # and what they came to
        everywhere = dict.fromkeys((d.name for d in space.dimensions), 0.5) | places
        trial.values = space.at(everywhere)
        try:
            space.drawn(trial.values)
        except SpecError:  # two numbers that do not go together
            trial.values = source.values
        trial.source = source.number
        self.forget([trial.number])

    # -- for the screen, and for the disk
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.begun

    def slot_epochs(self) -> tuple[int, int]:
        """How many were used, and how many idle."""
        now = self.population
        return self.used + (now.used if now else 0), self.idle + (now.idle if now else 0)

    def time_is_over(self) -> bool:
        return self._left() < 0

    def _left(self) -> float:
        """Seconds."""
        return math.inf if self.settings.time is None else self.settings.time - self.seconds()

    def ended_since(self, place: int) -> list[Trial]:
        """The trials that ended, in that order, leaving out the first `place`."""
        found = [t for t in self.trials if t.place is not None and t.place >= place]
        return sorted(found, key=lambda t: t.place or 0)

    def state(self) -> dict[str, Any]:
        """All but the arrays, as JSON holds it."""
        return {
            "trials": [t.to_dict() for t in self.trials],
            "queue": list(self.queue),
            "waiting": [[rung, numbers] for rung, numbers in self.waiting.items()],
            "arrived": [[*key, [list(a) for a in some]] for key, some in self.arrived.items()],
            "running": [[n, handles] for n, handles in self.running.items()],
            "layout": self.population.layout() if self.population and self.running else None,
            "slots": self.population.slots if self.population and self.running else None,
            "blocks": [[self._of_structure(key), *how] for key, how in self.blocks.items()],
            "slot_epochs": self.slot_epochs(),
            "ended": self.ended,
            "seconds": self.seconds(),
            "stopped": self.stopped,
            "metric": self.metric,
            "greater": self.greater,
        }

    def _of_structure(self, key: Any) -> int:
        """A trial of that structure: it names the structure in a file."""
        return next(t.number for t in self.trials if self._structure(t.number) == key)

    def arrays(self) -> dict[str, Any]:
        """The carries of members that run and of parked trials, the weights of the best."""
        carries = self.population.carries() if self.population and self.running else {}
        running = {f"running.{n}.{i}": carries[h] for n, some in self.running.items() for i, h in enumerate(some)}
        parked = {f"parked.{n}.{i}": c for n, some in self.parked.items() for i, c in enumerate(some)}
        best = {f"best.{n}.{i}": w for n, some in self.best.items() for i, w in enumerate(some)}
        return running | parked | best

    def restore(self, state: dict[str, Any], names: Sequence[str], load: Callable[[Any], Any]) -> None:
        """Stand where a saved search stood.   names: of its arrays; load: their shapes, by name -> the arrays"""
        self.trials = [Trial(**t) for t in state["trials"]]
        arrays = load({name: self._like(*name.split(".")) for name in names})
        self.queue = deque(state["queue"])
        self.waiting = {rung: numbers for rung, numbers in state["waiting"]}
        self.arrived = {(b, r): [Arrived(*a) for a in some] for b, r, some in state["arrived"]}
        self.ended, self.before, self.begun = state["ended"], state["seconds"], time.perf_counter()
        self.used, self.idle = state["slot_epochs"]
        for n, block, alone in state["blocks"]:
            self.blocks[self._structure(n)] = (block, alone)
        each = range(self.arena.members)
        found: dict[str, dict[int, list[Any]]] = {"running": {}, "parked": {}, "best": {}}
        for name in arrays:
            kind, n, _ = name.split(".")
            found[kind][int(n)] = [arrays[f"{kind}.{n}.{i}"] for i in each]
        self.parked, self.best = found["parked"], {n: found["best"][n] for n in sorted(found["best"], key=self._place)}
        self.levels = [self._level(self.trials[n]) for n in self.best]
        self.running = {n: handles for n, handles in state["running"]}
        if self.running:
            self._reopen(state, found["running"])

    def _like(self, kind: str, number: str, _: str) -> Any:
        """The shapes of a member's arrays."""
        experiment = self.alike(int(number))
        carry = self.arena.like(experiment)
        return trained(experiment, carry) if kind == "best" else carry

    def _reopen(self, state: dict[str, Any], carries: dict[int, list[Any]]) -> None:
        self.leader = experiment = self.alike(next(iter(self.running)))
        self.group = self._structure(next(iter(self.running)))
        block, alone = self.blocks[self.group]
        self.population = self.arena.population(experiment, state["slots"], shared_order=self._in_step(), block=block)
        self.population.alone = alone
        members = {
            h: member
            for n, handles in self.running.items()
            for h, member in zip(handles, self.arena.members_of(self.drawn(n), carries[n]), strict=True)
        }
        self.population.restore(state["layout"], members)
