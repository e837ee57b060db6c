"""Importance: how much of the difference between trials each hyperparameter makes.   S4.02: not all matter"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from derin.distributions import choice
from derin.errors import SpecError
from derin.tune.samplers import Told
from derin.tune.space import Dimension, Space

FEWEST = 4  # trials that can say anything
DRAWS = 2048  # points of the space at which the forest is asked
ABSENT = -1.0  # the number of a dimension that does not count in a trial


def importance(space: Space, told: Sequence[Told]) -> dict[str, float]:
    """Each path's share of the differences between scores, the largest first; the shares add up to 1.

    A random forest learns the trials' ranks, a diverged trial being last, so that one huge loss does not drown
    the rest. A path's share is how far the forest's answer moves, squared, when that path alone is drawn anew:
    its total Sobol index, interactions included, over the whole space and not only where the search looked.
    All are 0 where no trial differed. A choice and what stands in its options count apart. Raises SpecError for
    fewer than 4 trials.

    Hutter, Hoos & Leyton-Brown 2014, ICML (the forest); Jansen 1999, Comput. Phys. Commun. 117 (the estimator).
    """
    from sklearn.ensemble import RandomForestRegressor

    if len(told) < FEWEST:
        raise SpecError(f"importance needs at least {FEWEST} finished trials, there are {len(told)}.")
    names = [d.name for d in space.dimensions]
    shares = np.full((len(told), len(names)), 0.5)
    for row, t in enumerate(told):
        for name, u in space.place(t.values).items():
            shares[row, names.index(name)] = u
    forest = RandomForestRegressor(100, min_samples_leaf=2, random_state=0)
    forest.fit(_features(space, shares), _ranks([t.score for t in told]))

    keys = [d.key for d in space.dimensions]
    same = [keys.index(key) for key in keys]  # another optimizer, the learning rate at the same place of its range
    draw = np.random.default_rng(0).random
    drawn, anew = draw((DRAWS, len(names)))[:, same], draw((DRAWS, len(names)))[:, same]
    before = forest.predict(_features(space, drawn))
    moved = {}
    for path in space.paths:
        own = [i for i, d in enumerate(space.dimensions) if d.path == path]
        changed = drawn.copy()
        changed[:, own] = anew[:, own]
        moved[path] = float(np.mean((forest.predict(_features(space, changed)) - before) ** 2))
    total = sum(moved.values()) or 1.0
    return {path: moved[path] / total for path in sorted(moved, key=lambda p: -moved[p])}


def _ranks(scores: Sequence[float]) -> np.ndarray:
    """0 for the best; equal scores have one rank, and all that diverged share the last."""
    finite = np.array([s if math.isfinite(s) else math.inf for s in scores])
    _, ranks, counts = np.unique(finite, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[ranks]


def _features(space: Space, shares: np.ndarray) -> np.ndarray:
    """What the forest sees of trials: their values' shares, or ABSENT.   [n, dimensions] -> [n, keys]"""
    names = {d.name: i for i, d in enumerate(space.dimensions)}
    seen = shares.copy()
    counts = np.ones(shares.shape, bool)
    for i, d in enumerate(space.dimensions):
        if isinstance(d.distribution, choice):
            seen[:, i] = _options(d, shares[:, i])
        if d.parent is not None:
            parent = names[d.parent]
            counts[:, i] = counts[:, parent] & (_options(space.dimensions[parent], shares[:, parent]) == d.option)
    seen = np.where(counts, seen, ABSENT)
    keys = [d.key for d in space.dimensions]  # of the options' dimensions with one key, at most one counts
    return np.stack([seen[:, [k == key for k in keys]].max(axis=1) for key in dict.fromkeys(keys)], axis=1)


def _options(d: Dimension, shares: np.ndarray) -> np.ndarray:
    n = len(d.distribution)  # type: ignore[arg-type]
    return np.minimum((shares * n).astype(int), n - 1)
