"""Losses: `loss(output, target)` is torch's mean; `loss.each(output, target)` is one value an example.

All are computed in float32, whatever the network computes in, and stay finite for logits of any size.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from derin.errors import ModelError, SpecError
from derin.spec import Scalar, Spec

__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss", "L1Loss", "Loss", "MSELoss"]


class Loss(Spec):
    """Base of the losses. A subclass writes `each`.

    >>> import jax.numpy as jnp
    >>> class Cubed(Loss):
    ...     def each(self, output, target):          # [batch], [batch] -> [batch]
    ...         return jnp.abs(output - target) ** 3
    >>> float(Cubed()(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0])))
    4.0
    """

    def each(self, output: jax.Array, target: jax.Array) -> jax.Array:
        """One value an example, float32.   output: [batch, ...], target -> [batch]"""
        raise NotImplementedError(f"{type(self).__name__} has no each(self, output, target).")

    def share(self, output: jax.Array, target: jax.Array) -> jax.Array | None:
        """[batch]: how much each example counts in the mean, or None: all the same."""
        return None

    def __call__(self, output: jax.Array, target: jax.Array, weight: jax.Array | None = None) -> jax.Array:
        """The mean over the batch, each example weighted by `weight`.   output, target, weight [batch] -> []"""
        each, share = self.each(output, target), self.share(output, target)
        if weight is None:
            return each.mean() if share is None else each.sum() / _above_zero(share.sum())
        if weight.shape != each.shape:
            raise ModelError(f"weight needs one value an example, {each.shape}; got shape {weight.shape}.")
        weight = weight.astype(jnp.float32)
        return (weight * each).sum() / _above_zero((weight if share is None else weight * share).sum())


class MSELoss(Loss):
    """Mean of (output - target)^2, without a half. S0.09.   output: [batch] or [batch, ...], target the same

    >>> import jax.numpy as jnp
    >>> round(float(MSELoss()(jnp.array([10.0, 20.0, 30.0]), jnp.array([12.0, 18.0, 30.0]))), 4)
    2.6667
    """

    def each(self, output: jax.Array, target: jax.Array) -> jax.Array:
        output, target = _matched(self, output, target)
        return _per_example(jnp.square(output - target))


class L1Loss(Loss):
    """Mean of |output - target|. S0.12.   output: [batch] or [batch, ...], target the same"""

    def each(self, output: jax.Array, target: jax.Array) -> jax.Array:
        output, target = _matched(self, output, target)
        return _per_example(jnp.abs(output - target))


class BCEWithLogitsLoss(Loss):
    """-[p y log s(x) + (1 - y) log(1 - s(x))] of logits x, s the sigmoid, p = pos_weight. S0.28, S1.35.

    output: [batch], [batch, 1] or [batch, labels]; target: 0 to 1, [batch] or [batch, labels].

    >>> import jax.numpy as jnp
    >>> float(BCEWithLogitsLoss()(jnp.array([1e4, -1e4]), jnp.array([1.0, 1.0])))
    5000.0
    """

    pos_weight: Scalar | tuple[Scalar, ...] | None = None  # one number, or one a label

    def each(self, output: jax.Array, target: jax.Array) -> jax.Array:
        output, target = _matched(self, output, target)
        positive = target * jax.nn.softplus(-output)
        if self.pos_weight is not None:
            p = _vector(self.pos_weight)
            labels = output.shape[-1] if output.ndim > 1 else 1
            if p.ndim and p.shape[0] not in (1, labels):
                raise ModelError(
                    f"BCEWithLogitsLoss.pos_weight has {p.shape[0]} values, the output {output.shape} has "
                    f"{labels} labels."
                )
            positive = positive * p
        return _per_example(positive + (1 - target) * jax.nn.softplus(output))


class CrossEntropyLoss(Loss):
    """-log softmax(output)[label]. S1.37.   output: [batch, ..., classes] logits (classes last); target:
    int labels [batch, ...], or probabilities of the output's shape.

    `weight` counts each class so often (the mean is torch's: divided by the sum of the labels' weights);
    `label_smoothing` moves that share of the target to all classes alike (arXiv:1512.00567).

    >>> import jax.numpy as jnp
    >>> round(float(CrossEntropyLoss()(jnp.array([[2.0, 1.0, 0.1]]), jnp.array([0]))), 4)
    0.417
    """

    weight: tuple[Scalar, ...] | None = None
    label_smoothing: Scalar = 0.0

    def check(self) -> None:
        s = self.label_smoothing
        if isinstance(s, (int, float)) and not 0 <= s <= 1:
            raise SpecError(f"CrossEntropyLoss.label_smoothing must be in [0, 1], got {s}.")
        if self.weight is not None:
            self.weight = tuple(float(w) if isinstance(w, int) else w for w in self.weight)

    def each(self, output: jax.Array, target: jax.Array) -> jax.Array:
        labels = self._labels(output, target)
        classes = output.shape[-1]
        x = output.astype(jnp.float32)
        x = x - jax.lax.stop_gradient(x.max(-1, keepdims=True))
        log_sum = jnp.log(jnp.exp(x).sum(-1))
        w, smooth = self._weights(classes), jnp.asarray(self.label_smoothing, jnp.float32)
        if labels:
            hit = _hits(target, x.shape)
            own = log_sum - jnp.where(hit, x, 0).sum(-1)
            own = own if w is None else own * jnp.where(hit, w, 0).sum(-1)
            own = jnp.where((target >= 0) & (target < classes), own, jnp.nan)  # a wrong label must not pass unseen
        else:
            share = target.astype(jnp.float32)
            own = _dot(share if w is None else share * w, log_sum[..., None] - x)
        every = log_sum[..., None] - x
        every = every.sum(-1) if w is None else (every * w).sum(-1)
        every = jnp.where(smooth > 0, every, 0)  # a logit of -inf times 0 is not 0
        return _per_example((1 - smooth) * own + smooth / classes * every)

    def share(self, output: jax.Array, target: jax.Array) -> jax.Array | None:
        w = self._weights(output.shape[-1]) if self._labels(output, target) else None
        return None if w is None else _per_example(jnp.where(_hits(target, output.shape), w, 0).sum(-1))

    def _weights(self, classes: int) -> jax.Array | None:
        if self.weight is None:
            return None
        if len(self.weight) != classes:
            raise ModelError(
                f"CrossEntropyLoss.weight has {len(self.weight)} values, the output has {classes} classes."
            )
        return _vector(self.weight)

    def _labels(self, output: jax.Array, target: jax.Array) -> bool:
        """True for int labels, False for probabilities. Raises ModelError for neither."""
        if jnp.issubdtype(target.dtype, jnp.floating):
            if target.shape == output.shape and output.ndim > 1:
                return False
            raise ModelError(
                f"CrossEntropyLoss got an output of shape {output.shape} and a {target.dtype} target of shape "
                f"{target.shape}. Give int labels {output.shape[:-1]}, or probabilities {output.shape}."
            )
        whole = jnp.issubdtype(target.dtype, jnp.integer)
        if not whole or output.ndim < 2 or target.shape != output.shape[:-1]:
            raise ModelError(
                "CrossEntropyLoss needs logits [batch, ..., classes] and int labels [batch, ...], got shapes "
                f"{output.shape} and {target.shape} ({target.dtype})."
            )
        return True


def _matched(loss: Loss, output: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both in float32 and of one shape; [n, 1] and [n] are the same n numbers, nothing else is broadcast."""
    output, target = jnp.asarray(output), jnp.asarray(target)
    if output.shape != target.shape:
        if {output.shape, target.shape} == {(output.shape[:1]), (*output.shape[:1], 1)}:
            target = target.reshape(output.shape)
        else:
            raise ModelError(
                f"{type(loss).__name__} needs output and target of one shape, got {output.shape} and {target.shape}."
            )
    return output.astype(jnp.float32), target.astype(jnp.float32)


def _hits(labels: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """True where a class is the label.   labels: [batch, ...] -> [batch, ..., classes]"""
    return jax.lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1) == labels[..., None].astype(jnp.int32)


def _per_example(values: jax.Array) -> jax.Array:
    return values if values.ndim <= 1 else values.mean(tuple(range(1, values.ndim)))


def _dot(share: jax.Array, value: jax.Array) -> jax.Array:
    """Sum of share * value over the last axis, where nothing times infinity is nothing."""
    return jnp.where(share == 0, 0, share * jnp.where(share == 0, 0, value)).sum(-1)


def _vector(values: Scalar | tuple[Scalar, ...]) -> jax.Array:
    if isinstance(values, tuple):
        return jnp.stack([jnp.asarray(v, jnp.float32) for v in values])
    return jnp.asarray(values, jnp.float32)


def _above_zero(total: jax.Array) -> jax.Array:
    return jnp.maximum(total, math.ulp(0.0) if total.dtype == jnp.float64 else 1e-30)
