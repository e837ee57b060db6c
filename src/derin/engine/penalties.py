"""Penalties inside a step, where all weights may be one vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from derin.nn import Arrays
from derin.optim import Penalty
from derin.optim.penalties import penalties_of


class Penalties:
    """An experiment's penalties on these weights. Without any, each method gives back what it got.

    `closed` turns a dict of weights into what the optimiser sees, `opened` back. A penalty on some of the weights
    is one vector of ones and zeros times that on all: a few kernels a step, made once an epoch.
    """

    def __init__(
        self,
        penalty: Penalty | tuple[Penalty, ...] | None,
        params: Arrays,
        opened: Callable[[Any], Arrays],
        closed: Callable[[Arrays], Any],
        rows: int,
    ) -> None:
        self.opened, self.closed, self.rows = opened, closed, rows
        shapes = {name: a.shape for name, a in params.items()}
        self.chosen = [(p, frozenset(p.chosen(shapes))) for p in penalties_of(penalty)]
        self.masks: dict[frozenset[str], Any] = {}
        for _, names in self.chosen:
            if names != shapes.keys():
                self.masks[names] = closed(
                    {n: jnp.full(a.shape, float(n in names), a.dtype) for n, a in params.items()}
                )

    def gradient(self, gradient: Any, params: Any) -> Any:
        """The gradient with those of the penalties added."""
        return self._added(gradient, params, lambda p, w: p.gradient(w, self.rows))

    def decay(self, updates: Any, params: Any, learning_rate: Any) -> Any:
        """The updates with decoupled decay."""
        return self._added(updates, params, lambda p, w: p.decay(w, learning_rate))

    def constrained(self, params: Any) -> Any:
        """The weights within their constraints: by name, not in one vector."""
        for penalty, names in self.chosen:
            arrays = self.opened(params)
            found = {name: a for name in names if (a := penalty.constrained(arrays[name])) is not None}
            params = self.closed(arrays | found) if found else params
        return params

    def _added(self, tree: Any, params: Any, part: Callable[[Penalty, jax.Array], jax.Array | None]) -> Any:
        for penalty, names in self.chosen:
            extra = jax.tree.map(lambda w, p=penalty: part(p, w), params)
            if not jax.tree.leaves(extra):
                continue
            if names in self.masks:
                extra = jax.tree.map(lambda e, m: e * m, extra, self.masks[names])
            tree = jax.tree.map(lambda a, e: a + e.astype(a.dtype), tree, extra)
        return tree
