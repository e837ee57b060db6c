"""Samplers: which values the trials of a search have.

    Random().ask(space, start=0, n=8, told=[], seed=0, trials=100)      # the values of the trials 0 to 7

A sampler keeps nothing between calls: what it answers follows from its arguments alone. So a search that was killed
goes on with the trials it would have made, and trials asked for one by one are those asked for together.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from derin.distributions import Range, choice, integer, log_integer
from derin.errors import SpecError
from derin.spec import Spec, nearest, parse
from derin.tune.space import Dimension, Space, Values

__all__ = ["CoarseToFine", "GivenTrials", "Grid", "Optuna", "Random", "Sampler", "Sobol", "Told", "sampler_of"]


LARGEST_BATCH = 128  # of Optuna's trials
TOGETHER = 256  # trials whose random numbers are drawn at once


class Told(NamedTuple):
    """What a search knows of a trial: a smaller score is better, nan or inf is a trial that diverged."""

    number: int
    values: Values
    score: float


class Sampler(Spec):
    """Which values the trials of a search have."""

    def ask(self, space: Space, start: int, n: int, told: Sequence[Told], seed: int, trials: int) -> list[Values]:
        """The values of the trials `start` to `start + n - 1`, of `trials` in all.

        They depend on the arguments alone, and each trial's on no other that is asked for with it. Fewer than n come
        where there are no more, or where results of earlier trials are waited for; none until they are told.
        """
        raise NotImplementedError(f"{type(self).__name__} has no ask(...).")

    def together(self, trials: int) -> int:
        """How many of so many trials are asked for before anything of them is told."""
        return trials


class Random(Sampler):
    """Each trial is drawn by itself.   S4.02: 25 trials try 25 learning rates, where a grid of 25 tries five.

    Bergstra & Bengio 2012, JMLR 13: 281-305.
    """

    def ask(self, space: Space, start: int, n: int, told: Sequence[Told], seed: int, trials: int) -> list[Values]:
        return [space.at(_shares(space, seed, i)) for i in range(start, min(start + n, trials))]


class Grid(Sampler):
    """Every combination of `points` values a dimension, both ends among them.   S4.02

    A choice counts with all its options, and a range of no more than `points` whole numbers with all of them. Where
    the grid is larger than the search, the trials are points of it drawn by the seed.

    >>> from derin import Experiment, log, nn, optim, uniform
    >>> space = Space.of(Experiment(nn.Linear(1), optimizer=optim.SGD(log(1e-4, 1), uniform(0.0, 0.9))))
    >>> trials = Grid().ask(space, 0, 25, told=[], seed=0, trials=25)
    >>> len(trials), len({t["optimizer.learning_rate"] for t in trials})
    (25, 5)
    """

    points: int = 5

    def check(self) -> None:
        _at_least_one(self, "points")

    def size(self, space: Space) -> int:
        """How many points this grid has."""
        return int(space.count(lambda d: len(self._values(d.distribution))))

    def ask(self, space: Space, start: int, n: int, told: Sequence[Told], seed: int, trials: int) -> list[Values]:
        size = self.size(space)
        places: Sequence[int] = range(size)
        if size > trials:
            places = random.Random(seed).sample(places, trials)
        return [self._point(space, place) for place in places[start : start + n]]

    def _point(self, space: Space, place: int) -> Values:
        """The combination at a place of the grid; the last dimension changes fastest."""
        values: Values = {}
        count = functools.partial(space.counted, points=lambda d: len(self._values(d.distribution)))

        def put(dimensions: list[Dimension], place: int) -> None:
            for d in reversed(dimensions):
                place, at = divmod(place, int(count(d)))
                if not isinstance(d.distribution, choice):
                    values[d.key] = self._values(d.distribution)[at]
                    continue
                for option in range(len(d.distribution)):
                    below = space.below(d, option)
                    here = math.prod(int(count(c)) for c in below)
                    if at < here:
                        values[d.key] = option
                        put(below, at)
                        break
                    at -= here

        put(space.below(None), place)
        return {d.key: values[d.key] for d in space.active(values)}

    def _values(self, found: Any) -> list[Any]:
        if isinstance(found, (integer, log_integer)) and len(found) <= self.points:
            return list(range(found.low, found.high + 1))
        shares = np.linspace(0, 1, self.points).tolist() if self.points > 1 else [0.5]
        return sorted({found.at(u) for u in shares})


class Sobol(Sampler):
    """A scrambled Sobol sequence: as random, with fewer gaps and clusters.

    Sobol' 1967, USSR Comput. Math. Math. Phys. 7(4); Owen 1998, J. Complexity 14, for the scrambling, by the seed.
    """

    def ask(self, space: Space, start: int, n: int, told: Sequence[Told], seed: int, trials: int) -> list[Values]:
        from scipy.stats import qmc

        end = min(start + n, trials)
        if start >= end:
            return []
        sequence = qmc.Sobol(len(space.dimensions), scramble=True, rng=np.random.default_rng(seed))
        points = sequence.random_base2(max(end - 1, 1).bit_length())
        return [space.at(u) for u in points[start:end]]


class CoarseToFine(Sampler):
    """Rounds of random trials, each but the first in smaller windows around the best so far.   S4.03

    With 50 trials, as the course draws it: 25 anywhere, then 25 around the best 3, each number within a quarter of
    its range (on its own scale) about its best value. Each further round has windows `zoom` times as wide. The best
    ones' options of choices are kept. A round begins when all trials of the earlier ones are told.
    """

    rounds: int = 2
    best: int = 3
    zoom: float = 0.25

    def check(self) -> None:
        _at_least_one(self, "rounds")
        _at_least_one(self, "best")
        if not 0 < self.zoom <= 1:
            raise SpecError(f"CoarseToFine.zoom is a share of a range, above 0 and at most 1, got {self.zoom}.")

    def together(self, trials: int) -> int:
        return trials // self.rounds

    def ask(self, space: Space, start: int, n: int, told: Sequence[Told], seed: int, trials: int) -> list[Values]:
        found: list[Values] = []
        begins = [r * trials // self.rounds for r in range(self.rounds)]
        for i in range(start, min(start + n, trials)):
            r = max(r for r, begin in enumerate(begins) if begin <= i)
            before = [t for t in told if t.number < begins[r]]
            if len({t.number for t in before}) < begins[r]:
                break
            best = sorted((t for t in before if math.isfinite(t.score)), key=lambda t: (t.score, t.number))
            us = _shares(space, seed, i)
            if best:
                centre = best[: self.best][(i - begins[r]) % min(self.best, len(best))]
                found.append(_around(space, centre.values, us, self.zoom**r))
            else:
                found.append(space.at(us))
        return found


def _around(space: Space, centre: Values, us: list[float], share: float) -> Values:
    """A draw near a trial: its options, and its numbers from windows around them."""
    drawn = dict(zip((d.name for d in space.dimensions), us, strict=True))
    return {
        d.key: d.distribution.narrowed(centre[d.key], share).at(float(drawn[d.name]))
        if isinstance(d.distribution, Range)
        else centre[d.key]
        for d in space.active(centre)
    }


class GivenTrials(Sampler):
    """The trials that a person wrote down: dicts of values by path, an option of a choice by itself or its label.

    >>> GivenTrials({"optimizer.learning_rate": 0.1}, {"optimizer.learning_rate": 0.01}).trials[0]
    (('optimizer.learning_rate', 0.1),)
    """

    trials: tuple[Any, ...] = ()
    _variadic = "trials"

    if TYPE_CHECKING:

        def __init__(self, *trials: Mapping[str, Any]) -> None: ...

    def _convert(self) -> None:
        self.trials = tuple(tuple(t.items()) if isinstance(t, Mapping) else t for t in self.trials)

    def check(self) -> None:
        if not self.trials:
            raise SpecError("GivenTrials has no trials: GivenTrials({'optimizer.learning_rate': 0.01}, ...).")
        for t in self.trials:
            if not isinstance(t, tuple) or any(not isinstance(p, tuple) or len(p) != 2 for p in t):
                raise SpecError(f"a given trial is a dict, {{'optimizer.learning_rate': 0.01}}, got {t!r}.")

    def ask(self, space: Space, start: int, n: int, told: Sequence[Told], seed: int, trials: int) -> list[Values]:
        found = []
        for i, given in enumerate(self.trials[start : min(start + n, trials)], start):
            try:
                found.append(space.read(dict(given)))
            except SpecError as error:
                raise SpecError(f"the given trial {i}: {error}") from None
        return found


class Optuna(Sampler):
    """Bayesian search by Optuna, in batches: each batch is proposed from the results of all batches before it.

    `tpe` is the tree-structured Parzen estimator (Bergstra et al. 2011, NeurIPS 24), which takes conditional
    distributions as they come; `gp` a Gaussian process, better with few numbers and few trials. Trials of a batch
    can train side by side: the larger it is the faster, the smaller the better informed. `batch=None` is an eighth
    of the trials, at most 128. Needs `pip install "derin[tune]"`; `gp` needs PyTorch as well.
    """

    method: Literal["tpe", "gp"] = "tpe"
    batch: int | None = None

    def check(self) -> None:
        if self.batch is not None:
            _at_least_one(self, "batch")

    def together(self, trials: int) -> int:
        return self.batch or max(1, min(trials // 8, LARGEST_BATCH))

    def ask(self, space: Space, start: int, n: int, told: Sequence[Told], seed: int, trials: int) -> list[Values]:
        size = self.together(trials)
        found: list[Values] = []
        while n > 0 and start < trials:
            batch, first = divmod(start, size)
            known = {t.number: _hashable(t) for t in told if t.number < batch * size}
            if len(known) < batch * size:
                break
            together = min(size, trials - batch * size)
            before = tuple(known[i] for i in range(batch * size))
            new = _proposed(self.method, space, before, together, (seed, batch))[first : first + n]
            found += [dict(values) for values in new]
            n -= len(new)
            start += len(new)
        return found


_Known = tuple[tuple[tuple[str, Any], ...], float]  # a trial's values and score


def _hashable(t: Told) -> _Known:
    return tuple(t.values.items()), t.score if math.isfinite(t.score) else math.inf


@functools.lru_cache(maxsize=4)  # a batch that is asked for trial by trial is made once
def _proposed(method: str, space: Space, told: tuple[_Known, ...], n: int, seed: tuple[int, int]) -> list[Values]:
    """The next n trials as Optuna proposes them after those told."""
    with _quiet_optuna() as optuna:
        bits = int(np.random.SeedSequence(seed).generate_state(1)[0])
        study = optuna.create_study(sampler=_optuna_sampler(optuna, method, bits))
        worst = max((score for _, score in told if score < math.inf), default=0.0)
        for pairs, score in told:
            values = dict(pairs)
            active = space.active(values)
            study.add_trial(
                optuna.trial.create_trial(
                    value=min(score, worst),  # a diverged trial is as bad as the worst
                    params={d.name: _to_optuna(d, values[d.key]) for d in active},
                    distributions={d.name: _optuna_distribution(optuna, d.distribution) for d in active},
                )
            )
        return [_suggested(space, study.ask()) for _ in range(n)]


def _suggested(space: Space, trial: Any) -> Values:
    values: Values = {}
    for d in space.deciding(values):
        found = d.distribution
        if isinstance(found, choice):
            values[d.key] = trial.suggest_categorical(d.name, range(len(found)))
        elif isinstance(found, (integer, log_integer)):
            values[d.key] = trial.suggest_int(d.name, found.low, found.high, log=isinstance(found, log_integer))
        else:
            values[d.key] = found.at(trial.suggest_float(d.name, 0.0, 1.0))
    return values


def _to_optuna(d: Dimension, value: Any) -> Any:
    """Whole numbers and places as they are; of other numbers the share, which has the right scale for any of them."""
    return value if isinstance(d.distribution, (choice, integer, log_integer)) else d.distribution.place(value)


def _optuna_distribution(optuna: Any, found: Any) -> Any:
    kinds = optuna.distributions
    if isinstance(found, choice):
        return kinds.CategoricalDistribution(range(len(found)))
    if isinstance(found, (integer, log_integer)):
        return kinds.IntDistribution(found.low, found.high, log=isinstance(found, log_integer))
    return kinds.FloatDistribution(0.0, 1.0)


def _optuna_sampler(optuna: Any, method: str, seed: int) -> Any:
    if method == "tpe":
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)  # the trials of a batch keep apart
    if importlib.util.find_spec("torch") is None:
        raise SpecError("Optuna('gp') computes with PyTorch, which is not installed: pip install torch.")
    return optuna.samplers.GPSampler(seed=seed)


@contextmanager
def _quiet_optuna() -> Iterator[Any]:
    """Optuna, which says nothing meanwhile. Raises SpecError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise SpecError('Optuna(...) needs the package optuna: pip install "derin[tune]".') from None
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)


def sampler_of(text: str | Sampler) -> Sampler:
    """The sampler that a name means: random, grid, sobol, coarse, tpe, gp, or text like Grid(points=3).

    >>> sampler_of("coarse"), sampler_of("Grid(points=3)")
    (CoarseToFine(), Grid(points=3))
    """
    known: dict[str, Sampler] = {
        "random": Random(),
        "grid": Grid(),
        "sobol": Sobol(),
        "coarse": CoarseToFine(),
        "coarse-to-fine": CoarseToFine(),
        "tpe": Optuna("tpe"),
        "gp": Optuna("gp"),
    }
    if isinstance(text, Sampler):
        return text
    if isinstance(text, str):
        if text.lower().replace("_", "-") in known:
            return known[text.lower().replace("_", "-")]
        found = parse(text) if "(" in text else None
        if isinstance(found, Sampler):
            return found
    raise SpecError(f"no sampler is called {text!r}.{nearest(str(text), known)}")


def _shares(space: Space, seed: int, number: int) -> list[float]:
    """A trial's random numbers, one a dimension: a function of the search's seed and the trial's number."""
    block, row = divmod(number, TOGETHER)
    return _drawn(seed, block, len(space.dimensions))[row]


@functools.lru_cache(maxsize=8)
def _drawn(seed: int, block: int, width: int) -> list[list[float]]:
    """The numbers of many trials: to seed a generator takes longer than to draw hundreds."""
    return np.random.default_rng([seed, block]).random((TOGETHER, width)).tolist()


def _at_least_one(spec: Spec, name: str) -> None:
    if getattr(spec, name) < 1:
        raise SpecError(f"{type(spec).__name__}.{name} must be at least 1, got {getattr(spec, name)}.")
