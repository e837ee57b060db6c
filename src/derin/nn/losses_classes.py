"""Losses of one class out of several. Where torch has the classes at axis 1, they are last: [batch, ..., classes].

A label that does not exist is an error, or nan inside a compiled program.
"""

from __future__ import annotations

from dataclasses import field
from typing import Literal

import jax
import jax.numpy as jnp

from derin.errors import ModelError
from derin.nn.losses import (
    Loss,
    class_weights,
    filled,
    matched,
    not_negative,
    per_example,
    positive,
    refuse,
    share_of_one,
    within,
)
from derin.spec import Scalar

__all__ = ["CrossEntropyLoss", "FocalLoss", "KLDivLoss", "MultiMarginLoss", "NLLLoss"]


class CrossEntropyLoss(Loss):
    """-log softmax(output)[label]. S1.37.   output: [batch, ..., classes] logits (classes last); target:
    int labels [batch, ...], or probabilities of the output's shape.

    `weight` counts each class so often (the mean is torch's: divided by the sum of the labels' weights);
    `label_smoothing` moves that share of the target to all classes alike (arXiv:1512.00567); labels that are
    `ignore_index` do not count (where none counts, the mean is 0; torch's is nan).

    >>> import jax.numpy as jnp
    >>> round(float(CrossEntropyLoss()(jnp.array([[2.0, 1.0, 0.1]]), jnp.array([0]))), 4)
    0.417
    """

    fits = ("classes",)
    weight: tuple[Scalar, ...] | None = None
    label_smoothing: Scalar = 0.0
    ignore_index: int = -100

    def check(self) -> None:
        share_of_one(self, "label_smoothing")
        not_negative(self, "weight")
        if self.weight is not None:
            self.weight = tuple(float(w) if isinstance(w, int) else w for w in self.weight)

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        labels = self._labels(output, target)
        classes = output.shape[-1]
        x = output.astype(jnp.float32)
        x = x - jax.lax.stop_gradient(x.max(-1, keepdims=True))
        log_sum = jnp.log(jnp.exp(x).sum(-1))
        w, smooth = class_weights(self, self.weight, output), jnp.asarray(self.label_smoothing, jnp.float32)
        if labels:
            hit = _hits(target, x.shape)
            own = log_sum - jnp.where(hit, x, 0).sum(-1)
            own = own if w is None else own * jnp.where(hit, w, 0).sum(-1)
            own = _known(self, own, target, classes, self.ignore_index)
        else:
            within(self, target, 0, 1, "a float target must be probabilities, from 0 to 1; int labels are classes")
            share = target.astype(jnp.float32)
            own = _dot(share if w is None else share * w, log_sum[..., None] - x)
        every = log_sum[..., None] - x
        every = every.sum(-1) if w is None else (every * w).sum(-1)
        every = jnp.where(smooth > 0, every, 0)  # a logit of -inf times 0 is not 0
        value = (1 - smooth) * own + smooth / classes * every
        return jnp.where(target == self.ignore_index, 0, value) if labels else value

    def share(self, output: jax.Array, target: jax.Array) -> jax.Array | None:
        if not self._labels(output, target):
            return None
        return _label_share(self, self.weight, output, target, self.ignore_index)

    def _labels(self, output: jax.Array, target: jax.Array) -> bool:
        """True for int labels, False for probabilities. Raises ModelError for neither."""
        filled(self, output)
        if jnp.issubdtype(target.dtype, jnp.floating):
            if target.shape == output.shape and output.ndim > 1:
                return False
            raise ModelError(
                f"CrossEntropyLoss got an output of shape {output.shape} and a {target.dtype} target of shape "
                f"{target.shape}. Give int labels {output.shape[:-1]}, or probabilities {output.shape}."
            )
        _check_labels(self, "logits", output, target)
        return True


class NLLLoss(Loss):
    """-output[label]. S1.36.   output: [batch, ..., classes] log-probabilities (classes last), as of log_softmax;
    target: int labels [batch, ...]. `weight` and `ignore_index` as in CrossEntropyLoss. A run's net ends with
    LogSoftmax() then.

    >>> import jax, jax.numpy as jnp
    >>> round(float(NLLLoss()(jax.nn.log_softmax(jnp.array([[2.0, 1.0, 0.1]])), jnp.array([0]))), 4)
    0.417
    """

    fits = ("classes",)
    weight: tuple[Scalar, ...] | None = None
    ignore_index: int = -100

    def check(self) -> None:
        not_negative(self, "weight")

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        _check_labels(self, "log-probabilities", output, target)
        hit, w = _hits(target, output.shape), class_weights(self, self.weight, output)
        own = -jnp.where(hit, output.astype(jnp.float32), 0).sum(-1)
        own = own if w is None else own * jnp.where(hit, w, 0).sum(-1)
        return _known(self, own, target, output.shape[-1], self.ignore_index)

    def share(self, output: jax.Array, target: jax.Array) -> jax.Array | None:
        return _label_share(self, self.weight, output, target, self.ignore_index)


class FocalLoss(Loss):
    """Cross-entropy times (1 - p)^gamma, p being the label's probability: easy examples count little.

    output: [batch, ..., classes] logits; target: int labels [batch, ...]. `alpha` counts each class so often; the
    mean is divided by the number of labels that are not ignore_index. Lin et al. 2017, arXiv:1708.02002.

    >>> import jax.numpy as jnp
    >>> loss = FocalLoss(gamma=2.0)
    >>> [round(float(loss(jnp.array([[x, 0.0]]), jnp.array([0]))), 4) for x in (-2.0, 2.0)]
    [1.6501, 0.0018]
    """

    fits = ("classes",)
    gamma: Scalar = 2.0
    alpha: tuple[Scalar, ...] | None = None
    ignore_index: int = -100

    def check(self) -> None:
        positive(self, "gamma", zero=True)
        not_negative(self, "alpha")

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        _check_labels(self, "logits", output, target)
        x, hit = output.astype(jnp.float32), _hits(target, output.shape)
        every = jax.nn.logsumexp(x, axis=-1)
        own = every - jnp.where(hit, x, 0).sum(-1)
        missed = jax.nn.logsumexp(x, axis=-1, where=~hit) - every  # log(1 - p): its power has a slope at p = 1
        value = jnp.exp(self.gamma * jnp.minimum(missed, 0)) * own
        w = class_weights(self, self.alpha, output, "alpha")
        value = value if w is None else value * jnp.where(hit, w, 0).sum(-1)
        return _known(self, value, target, output.shape[-1], self.ignore_index)

    def share(self, output: jax.Array, target: jax.Array) -> jax.Array | None:
        return _label_share(self, None, output, target, self.ignore_index)


class MultiMarginLoss(Loss):
    """The sum over the other classes i of max(0, margin - x[label] + x[i])^p, over the number of classes.

    output: [batch, ..., classes] scores; target: int labels [batch, ...]. `weight` counts each class so often; the
    mean is divided by the number of labels. Crammer & Singer 2001.

    >>> import jax.numpy as jnp
    >>> float(MultiMarginLoss()(jnp.array([[0.5, 1.0]]), jnp.array([0])))
    0.75
    """

    fits = ("classes",)
    p: Literal[1, 2] = 1
    margin: Scalar = 1.0
    weight: tuple[Scalar, ...] | None = None

    def check(self) -> None:
        not_negative(self, "weight")

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        _check_labels(self, "scores", output, target)
        x, hit = output.astype(jnp.float32), _hits(target, output.shape)
        missing = self.margin - jnp.where(hit, x, 0).sum(-1, keepdims=True) + x
        missing = jnp.where((missing > 0) & ~hit, missing, 0)
        value = (missing if self.p == 1 else missing * missing).mean(-1)
        w = class_weights(self, self.weight, output)
        value = value if w is None else value * jnp.where(hit, w, 0).sum(-1)
        return _known(self, value, target, output.shape[-1])


class KLDivLoss(Loss):
    """target (log target - output), the divergence of the output from the target.   output: [batch, ...]
    log-probabilities; target: probabilities, or with log_target=True their logarithms, the same shape.

    "mean" is torch's, over all elements; reduction="batchmean" divides the sum by the number of examples, which
    is the divergence itself. Kullback & Leibler 1951.

    >>> import jax.numpy as jnp
    >>> p, q = jnp.array([[0.5, 0.5]]), jnp.array([[0.25, 0.75]])
    >>> round(float(KLDivLoss(reduction="batchmean")(jnp.log(q), p)), 4)
    0.1438
    """

    fits = ()
    instead = "a target of a run has labels, not probabilities"
    log_target: bool = False
    reduction: Literal["none", "mean", "sum", "batchmean"] = field(default="mean", kw_only=True)  # type: ignore[assignment]

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        output, target = matched(self, output, target)
        p = jnp.exp(target) if self.log_target else target
        some = p > 0  # nothing times infinity is nothing
        log_p = target if self.log_target else jnp.log(jnp.where(some, p, 1))
        value = jnp.where(some, p * (jnp.where(some, log_p, 0) - jnp.where(some, output, 0)), 0)
        if not self.log_target:
            refuse(self, target < 0, target, "the target must be probabilities; log_target=True takes their logarithms")
            value = jnp.where(target < 0, jnp.nan, value)
        return value

    def _reduced(self, inputs: tuple[jax.Array, ...], weight: jax.Array | None) -> jax.Array:
        if self.reduction != "batchmean":
            return super()._reduced(inputs, weight)
        output = inputs[0]
        return self.replace(reduction="mean")._reduced(inputs, weight) * (output.size / output.shape[0])


# -- parts


def _check_labels(loss: Loss, what: str, output: jax.Array, target: jax.Array) -> None:
    filled(loss, output)
    whole = jnp.issubdtype(target.dtype, jnp.integer)
    if not whole or output.ndim < 2 or target.shape != output.shape[:-1]:
        raise ModelError(
            f"{type(loss).__name__} needs {what} [batch, ..., classes] and int labels [batch, ...], got shapes "
            f"{output.shape} and {target.shape} ({target.dtype})."
        )


def _hits(labels: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """True where a class is the label.   labels: [batch, ...] -> [batch, ..., classes]"""
    return jax.lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1) == labels[..., None].astype(jnp.int32)


def _known(loss: Loss, values: jax.Array, target: jax.Array, classes: int, ignored: int | None = None) -> jax.Array:
    """0 where the label is the ignored one, nan where there is no such class."""
    wrong = (target < 0) | (target >= classes)
    skip = jnp.zeros_like(wrong) if ignored is None else target == ignored
    rule = f"labels go from 0 to {classes - 1}" + ("" if ignored is None else f", ignore_index is {ignored}")
    refuse(loss, wrong & ~skip, target, rule)
    return jnp.where(skip, 0, jnp.where(wrong, jnp.nan, values))


def _label_share(
    loss: Loss, weight: tuple[Scalar, ...] | None, output: jax.Array, target: jax.Array, ignored: int
) -> jax.Array:
    w = class_weights(loss, weight, output)
    count = jnp.float32(1) if w is None else jnp.where(_hits(target, output.shape), w, 0).sum(-1)
    return per_example(jnp.where(target == ignored, 0, count))


def _dot(share: jax.Array, value: jax.Array) -> jax.Array:
    """Sum of share * value over the last axis, where nothing times infinity is nothing."""
    return jnp.where(share == 0, 0, share * jnp.where(share == 0, 0, value)).sum(-1)
