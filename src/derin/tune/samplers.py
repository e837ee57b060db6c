"""Samplers: which trials a search makes. Each is a pure function of what is known, so a killed search goes on alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from derin.spec import Spec
from derin.tune.space import Space, Values


class Told(NamedTuple):
    """What a search knows of a trial: smaller scores are better, nan or inf is a trial that diverged."""

    number: int
    values: Values
    score: float


class Sampler(Spec):
    """Which values the trials of a search have."""

    def ask(self, space: Space, start: int, n: int, told: Sequence[Told], seed: int, trials: int) -> list[Values]:
        """The values of the trials start to start + n - 1, of `trials` in all.

        They depend on the arguments alone: asked in pieces, or again after a crash, the same come. Fewer than n, or
        none, come where there are no more, or where the results of earlier trials are waited for.
        """
        raise NotImplementedError(f"{type(self).__name__} has no ask(...).")


class Random(Sampler):
    """Every trial is drawn by itself.   S4.02: 25 trials try 25 learning rates, a grid of 25 five.

    Bergstra & Bengio 2012, JMLR 13.
    """

    def ask(self, space: Space, start: int, n: int, told: Sequence[Told], seed: int, trials: int) -> list[Values]:
        return [_drawn(space, seed, i) for i in range(start, min(start + n, trials))]


def _drawn(space: Space, seed: int, number: int) -> Values:
    return space.at(np.random.default_rng([seed, number]).random(len(space.dimensions)))


def sampler_of(name: str | Sampler) -> Sampler:
    """The sampler of that name."""
    raise NotImplementedError
