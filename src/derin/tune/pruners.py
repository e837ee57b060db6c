"""Which trials go on: rules that look at the scores at fixed epochs, the rungs.

ASHA(factor=3)                  stop at once what is not in the best third of those that came this far before
SuccessiveHalving(factor=3)     wait for all, then let the best third go on
Hyperband(factor=3)             several ASHA that begin to prune at different epochs
PopulationBased(every=5)        the worst copy the weights of the best and try other values

A score is better when it is smaller, whatever the metric; nan is worst. Of equal scores the smaller validation loss is
better: 360 rows give few different accuracies, and were the first to come the better one, fewer than 1/factor went on.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from derin.errors import SpecError
from derin.spec import Spec, nearest, parse

__all__ = ["ASHA", "Hyperband", "PopulationBased", "Pruner", "SuccessiveHalving", "pruner_of"]


GOLDEN = (5**0.5 - 1) / 2


class Arrived(NamedTuple):
    """A trial at a rung. loss: on the validation rows; 0 in a study that was begun before it counted."""

    number: int
    score: float
    loss: float = 0.0


class GoesOn(NamedTuple):
    """A trial that leaves a rung: with the weights of `source`, and other values if it explores."""

    number: int
    source: int
    explores: bool = False


class Pruner(Spec):
    """Base of the rules. Those with `waits` decide over all trials of a rung at once, the others one by one."""

    def rungs(self, epochs: int, number: int) -> tuple[int, ...]:
        """The epochs, below the last, at which trial `number` is judged."""
        raise NotImplementedError

    @property
    def waits(self) -> bool:
        return False

    def keeps(self, arrived: Arrived, before: Sequence[Arrived]) -> bool:
        """Whether a trial goes on, by those that came to the same rung of the same bracket before it, best first."""
        raise NotImplementedError

    def bracket(self, number: int, epochs: int) -> int:
        """Trials are compared within their bracket."""
        return 0

    def chosen(self, arrived: Sequence[Arrived], rung: int, seed: int) -> list[GoesOn]:
        """Of all that came to a rung, those that go on. For rules that wait."""
        raise NotImplementedError

    @property
    def fewest(self) -> int:
        """Trials that must come to a rung together, or the rule does nothing there. For rules that wait."""
        return 1


class _Rungs(Pruner):
    min_epochs: int = 1
    factor: int = 3

    def check(self) -> None:
        if self.min_epochs < 1:
            raise SpecError(f"{type(self).__name__}.min_epochs must be at least 1, got {self.min_epochs}.")
        if self.factor < 2:
            raise SpecError(f"{type(self).__name__}.factor must be at least 2, got {self.factor}.")

    def rungs(self, epochs: int, number: int) -> tuple[int, ...]:
        return _powers(self.min_epochs, self.factor, epochs)


class ASHA(_Rungs):
    """Asynchronous successive halving: at each rung a trial stops unless it is among the best 1/factor so far.

    Rungs are min_epochs * factor**k. Nobody waits, so the first trials go on easily. Li et al. 2020, arXiv:1810.05934,
    in the form that stops trials.

    >>> ASHA(factor=3).rungs(30, 0)
    (1, 3, 9, 27)
    """

    def keeps(self, arrived: Arrived, before: Sequence[Arrived]) -> bool:
        return _keeps(arrived, before, self.factor)


class SuccessiveHalving(_Rungs):
    """All trials train to a rung; the best 1/factor of them go on. Jamieson & Talwalkar 2016, arXiv:1502.07943.

    >>> rule = SuccessiveHalving(factor=2)
    >>> rule.chosen([Arrived(0, 0.5), Arrived(1, 0.2), Arrived(2, 0.9), Arrived(3, 0.3)], rung=1, seed=0)
    [GoesOn(number=1, source=1, explores=False), GoesOn(number=3, source=3, explores=False)]
    """

    @property
    def waits(self) -> bool:
        return True

    @property
    def fewest(self) -> int:
        return self.factor

    def chosen(self, arrived: Sequence[Arrived], rung: int, seed: int) -> list[GoesOn]:
        best = sorted(arrived, key=rank)[: max(1, len(arrived) // self.factor)]
        return [GoesOn(a.number, a.number) for a in sorted(best)]


class Hyperband(_Rungs):
    """ASHA in brackets: bracket k prunes from min_epochs * factor**k on. Li et al. 2018, arXiv:1603.06560.

    Brackets take turns by the paper's shares: the one that prunes earliest has the most trials.

    >>> [Hyperband(factor=3).bracket(i, 27) for i in range(12)]
    [0, 1, 0, 2, 0, 0, 1, 0, 3, 1, 0, 2]
    """

    def rungs(self, epochs: int, number: int) -> tuple[int, ...]:
        return _powers(self.min_epochs, self.factor, epochs)[self.bracket(number, epochs) :]

    def bracket(self, number: int, epochs: int) -> int:
        count = len(_powers(self.min_epochs, self.factor, epochs)) + 1
        shares = [math.ceil(count * self.factor ** (count - 1 - k) / (count - k)) for k in range(count)]
        at = number * GOLDEN % 1 * sum(shares)  # any run of numbers is spread over the shares evenly
        return int(np.searchsorted(np.cumsum(shares), at, side="right"))

    def keeps(self, arrived: Arrived, before: Sequence[Arrived]) -> bool:
        return _keeps(arrived, before, self.factor)


class PopulationBased(Pruner):
    """Every few epochs the worst `share` take over weights and values of one of the best, and change the values.

    A value is drawn anew with probability `resample`, else moved by a step on its own scale. Jaderberg et al. 2017,
    arXiv:1711.09846.
    """

    every: int = 5
    share: float = 0.2
    resample: float = 0.25

    def check(self) -> None:
        if self.every < 1:
            raise SpecError(f"PopulationBased.every must be at least 1 epoch, got {self.every}.")
        if not 0 < self.share <= 0.5:
            raise SpecError(f"PopulationBased.share must be above 0 and at most 0.5, got {self.share}.")
        if not 0 <= self.resample <= 1:
            raise SpecError(f"PopulationBased.resample is a probability, from 0 to 1; got {self.resample}.")

    @property
    def waits(self) -> bool:
        return True

    @property
    def fewest(self) -> int:
        return math.ceil(1 / self.share)

    def rungs(self, epochs: int, number: int) -> tuple[int, ...]:
        return tuple(range(self.every, epochs, self.every))

    def chosen(self, arrived: Sequence[Arrived], rung: int, seed: int) -> list[GoesOn]:
        ranked = sorted(arrived, key=rank)
        count = int(len(ranked) * self.share)
        best, worst = ranked[:count], {a.number for a in ranked[len(ranked) - count :]}
        random = np.random.default_rng([seed, rung])
        found = []
        for a in sorted(arrived):
            if a.number in worst:
                found.append(GoesOn(a.number, best[random.integers(count)].number, True))
            else:
                found.append(GoesOn(a.number, a.number))
        return found


def pruner_of(given: Any) -> Pruner | None:
    """A pruner by its name, text like ASHA(factor=4), itself, or None. Raises SpecError.

    >>> pruner_of("asha"), pruner_of("ASHA(factor=4)")
    (ASHA(), ASHA(factor=4))
    """
    names = {"none": None, "asha": ASHA(), "halving": SuccessiveHalving(), "hyperband": Hyperband(),
             "pbt": PopulationBased()}  # fmt: skip
    if given is None or isinstance(given, Pruner):
        return given
    if isinstance(given, str) and given in names:
        return names[given]
    if isinstance(given, str) and "(" in given and isinstance(found := parse(given), Pruner):
        return found
    raise SpecError(f"pruner must be one of {', '.join(names)} or a Pruner, got {given!r}.{nearest(str(given), names)}")


def _powers(first: int, factor: int, epochs: int) -> tuple[int, ...]:
    found = []
    while first < epochs:
        found.append(first)
        first *= factor
    return tuple(found)


def rank(a: Arrived) -> tuple[float, float, int]:
    """The best first, nan last."""
    return (_or_worst(a.score), _or_worst(a.loss), a.number)


def _or_worst(number: float) -> float:
    return math.inf if math.isnan(number) else number


def _keeps(arrived: Arrived, before: Sequence[Arrived], factor: int) -> bool:
    """Among the best 1/factor of all so far; while there are fewer than `factor`, the best."""
    better = bisect.bisect_left(before, rank(arrived), key=rank)
    return not math.isnan(arrived.score) and better < max(1, (len(before) + 1) // factor)
