"""Losses that compare examples with each other, for embeddings and rankings, in training loops of one's own."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from derin.errors import ModelError, SpecError
from derin.nn.losses import Loss, SeveralInputs, filled, magnitude, matched, refuse
from derin.spec import Scalar

__all__ = ["CosineEmbeddingLoss", "HingeEmbeddingLoss", "MarginRankingLoss", "TripletMarginLoss"]


class CosineEmbeddingLoss(SeveralInputs):
    """1 - cos(a, b) for pairs that belong together (target 1), max(0, cos(a, b) - margin) for others (-1).

    input1, input2: [batch, width]; target: [batch] of 1 and -1.

    >>> import jax.numpy as jnp
    >>> a, b = jnp.array([[1.0, 0.0], [1.0, 0.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])
    >>> CosineEmbeddingLoss(reduction="none")(a, b, jnp.array([1, 1])).tolist()
    [0.0, 1.0]
    """

    inputs = ("input1", "input2", "target")
    margin: Scalar = 0.0

    def check(self) -> None:
        if isinstance(self.margin, (int, float)) and not -1 <= self.margin <= 1:
            raise SpecError(f"CosineEmbeddingLoss.margin is a cosine, from -1 to 1, got {self.margin}.")

    def values(self, input1: jax.Array, input2: jax.Array, target: jax.Array) -> jax.Array:
        a, b = _alike(self, input1=input1, input2=input2)
        if a.ndim != 2 or target.shape != a.shape[:1]:
            raise ModelError(
                f"CosineEmbeddingLoss needs vectors [batch, width] and a target [batch], "
                f"got {a.shape} and {target.shape}."
            )
        together = _pairs(self, target)
        squares = (jnp.square(a).sum(-1) + 1e-12) * (jnp.square(b).sum(-1) + 1e-12)
        cosine = (a * b).sum(-1) / jnp.sqrt(squares)
        return jnp.where(together > 0, 1 - cosine, _above(cosine - self.margin)) * jnp.abs(together)


class MarginRankingLoss(SeveralInputs):
    """max(0, margin - y (input1 - input2)): the first should be larger where the target y is 1, smaller where -1.

    input1, input2, target: [batch] or [batch, ...], all the same.

    >>> import jax.numpy as jnp
    >>> float(MarginRankingLoss()(jnp.array([1.0]), jnp.array([3.0]), jnp.array([1])))
    2.0
    """

    inputs = ("input1", "input2", "target")
    margin: Scalar = 0.0

    def values(self, input1: jax.Array, input2: jax.Array, target: jax.Array) -> jax.Array:
        a, b = _alike(self, input1=input1, input2=input2)
        a, target = matched(self, a, target)
        return _above(self.margin - _pairs(self, target) * (a - b))


class TripletMarginLoss(SeveralInputs):
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), d the p-norm of the difference plus eps.

    anchor, positive, negative: [batch, ..., width], all the same. `swap` takes the nearer of anchor and positive as
    the one the negative must keep away from. Balntas et al. 2016, doi:10.5244/C.30.119.

    >>> import jax.numpy as jnp
    >>> round(float(TripletMarginLoss()(jnp.array([[0.0]]), jnp.array([[1.0]]), jnp.array([[1.5]]))), 3)
    0.5
    """

    inputs = ("anchor", "positive", "negative")
    margin: Scalar = 1.0
    p: float = 2.0
    eps: Scalar = 1e-6
    swap: bool = False

    def check(self) -> None:
        if not self.p > 0:
            raise SpecError(f"TripletMarginLoss.p must be above 0, got {self.p}. 2 is the Euclidean distance.")
        if isinstance(self.margin, (int, float)) and self.margin <= 0:
            raise SpecError(f"TripletMarginLoss.margin must be above 0, got {self.margin}.")

    def values(self, anchor: jax.Array, positive: jax.Array, negative: jax.Array) -> jax.Array:
        a, p, n = _alike(self, anchor=anchor, positive=positive, negative=negative)
        away = self._distance(a, n)
        if self.swap:
            away = jnp.minimum(away, self._distance(p, n))
        return _above(self.margin + self._distance(a, p) - away)

    def _distance(self, a: jax.Array, b: jax.Array) -> jax.Array:
        apart = magnitude(a - b + self.eps)
        largest = jax.lax.stop_gradient(apart.max(-1, keepdims=True))
        if self.p == float("inf"):
            return apart.max(-1)
        scaled = apart / jnp.maximum(largest, 1e-30)  # 1e4 to a high power would leave float32
        some = scaled > 0  # a power below 1 has no slope at 0
        total = jnp.where(some, jnp.where(some, scaled, 1) ** self.p, 0).sum(-1)
        root = jnp.where(total > 0, jnp.where(total > 0, total, 1) ** (1 / self.p), 0)
        return root * largest[..., 0]


class HingeEmbeddingLoss(Loss):
    """A distance itself for pairs that belong together (target 1), max(0, margin - distance) for others (-1).

    output: [batch] or [batch, ...] distances; target: 1 and -1, the same. The hinge of classifiers is HingeLoss.

    >>> import jax.numpy as jnp
    >>> HingeEmbeddingLoss(reduction="none")(jnp.array([0.25, 0.25]), jnp.array([1, -1])).tolist()
    [0.25, 0.75]
    """

    fits = ()
    instead = "it takes distances between two examples"
    margin: Scalar = 1.0

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        distance, target = matched(self, output, target)
        together = _pairs(self, target)
        return jnp.where(together > 0, distance, _above(self.margin - distance)) * jnp.abs(together)


def _alike(loss: Loss, **inputs: jax.Array) -> list[jax.Array]:
    shapes = {name: x.shape for name, x in inputs.items()}
    if len({*shapes.values()}) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ModelError(f"{type(loss).__name__} needs inputs of one shape, got {listed}.")
    for x in inputs.values():
        filled(loss, x)
    return [x.astype(jnp.float32) for x in inputs.values()]


def _pairs(loss: Loss, target: jax.Array) -> jax.Array:
    """1, -1, or nan for anything else."""
    wrong = (target != 1) & (target != -1)
    refuse(loss, wrong, target, "the target is 1 or -1")
    return jnp.where(wrong, jnp.nan, target.astype(jnp.float32))


def _above(x: jax.Array) -> jax.Array:
    """max(0, x), with torch's slope 1 at 0."""
    return jnp.where(x >= 0, x, 0)
