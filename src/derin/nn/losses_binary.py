"""Losses of a yes or no for each label: one logit, one score or one probability a label."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.nn import softplus

from derin.errors import ModelError
from derin.nn.losses import (
    Loss,
    class_weights,
    matched,
    not_negative,
    positive,
    refuse,
    share_of_one,
    vector,
    within,
)
from derin.spec import Scalar

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "HingeLoss",
    "MultiLabelSoftMarginLoss",
    "SigmoidFocalLoss",
    "SoftMarginLoss",
]


class BCEWithLogitsLoss(Loss):
    """-w [p y log s(x) + (1 - y) log(1 - s(x))] of logits x, s the sigmoid, p = pos_weight. S0.28, S1.35.

    output: [batch], [batch, 1] or [batch, labels]; target: 0 to 1, [batch] or [batch, labels]. weight: one number,
    one a label, or an array that fits the output: [batch, 1] is one a sample. Means are divided by the number of
    elements, as torch's.

    >>> import jax.numpy as jnp
    >>> float(BCEWithLogitsLoss()(jnp.array([1e4, -1e4]), jnp.array([1.0, 1.0])))
    5000.0
    """

    fits = ("logit",)
    pos_weight: Scalar | tuple[Scalar, ...] | None = None  # one number, or one a label
    weight: Scalar | tuple[Scalar, ...] | None = None

    def check(self) -> None:
        not_negative(self, "pos_weight")
        not_negative(self, "weight")

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        output, target = _with_shares(self, output, target)
        positive = target * softplus(-output)
        if self.pos_weight is not None:
            p = vector(self.pos_weight)
            labels = output.shape[-1] if output.ndim > 1 else 1
            if p.ndim and p.shape[0] not in (1, labels):
                raise ModelError(
                    f"BCEWithLogitsLoss.pos_weight has {p.shape[0]} values, the output {output.shape} has "
                    f"{labels} labels."
                )
            positive = positive * p
        return _weighted(self, positive + (1 - target) * softplus(output))

    @property
    def _weight(self) -> jax.Array | None:
        return None if self.weight is None else vector(self.weight)


class BCELoss(Loss):
    """-w [y log p + (1 - y) log(1 - p)] of probabilities p, a logarithm being -100 at the least. S0.28, S1.35.

    output: [batch], [batch, 1] or [batch, labels], from 0 to 1; target and weight as in BCEWithLogitsLoss, which
    is exact where a sigmoid before this loss has rounded p to 0 or 1.

    >>> import jax.numpy as jnp
    >>> round(float(BCELoss()(jnp.array([0.9, 0.7, 0.3]), jnp.array([1, 1, 0]))), 5)
    0.2729
    """

    fits = ()
    instead = "nets put out logits in a run"
    weight: Scalar | tuple[Scalar, ...] | None = None

    def check(self) -> None:
        not_negative(self, "weight")

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        p, y = _with_shares(self, output, target)
        outside = ~((p >= 0) & (p <= 1))
        refuse(self, outside, p, "the output must be probabilities, from 0 to 1; BCEWithLogitsLoss takes logits")
        return _weighted(self, _bce(jnp.where(outside, jnp.nan, p), y))

    @property
    def _weight(self) -> jax.Array | None:
        return None if self.weight is None else vector(self.weight)


@jax.custom_jvp
def _bce(p: jax.Array, y: jax.Array) -> jax.Array:
    return -y * jnp.maximum(jnp.log(p), -100) - (1 - y) * jnp.maximum(jnp.log1p(-p), -100)


@_bce.defjvp
def _bce_slope(at: tuple, along: tuple) -> tuple:
    """torch's: (p - y) / (p (1 - p)), the divisor 1e-12 at the least."""
    (p, y), (dp, dy) = at, along
    by_y = jnp.maximum(jnp.log1p(-p), -100) - jnp.maximum(jnp.log(p), -100)
    return _bce(p, y), dp * (p - y) / jnp.maximum(p * (1 - p), 1e-12) + dy * by_y


class SigmoidFocalLoss(Loss):
    """BCE with logits times (1 - p)^gamma, p being what the right answer got: easy examples count little.

    output: [batch] or [batch, labels]; target: 0 to 1, the same. A right answer of 1 counts alpha times, of 0
    (1 - alpha) times; alpha=None: both once. Lin et al. 2017, arXiv:1708.02002; torchvision's sigmoid_focal_loss.

    >>> import jax.numpy as jnp
    >>> loss = SigmoidFocalLoss(alpha=None)
    >>> [round(float(loss(jnp.array([x]), jnp.array([1.0]))), 4) for x in (-2.0, 2.0)]
    [1.6501, 0.0018]
    """

    fits = ("logit",)
    alpha: Scalar | None = 0.25
    gamma: Scalar = 2.0

    def check(self) -> None:
        share_of_one(self, "alpha")
        positive(self, "gamma", zero=True)

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        x, y = _with_shares(self, output, target)
        yes, no = -softplus(-x), -softplus(x)  # log p, log(1 - p)
        # the logarithm of 1 - p, so that a power of it has a slope where 1 - p is 0
        missed = jnp.logaddexp(no + jnp.log(y), yes + jnp.log(1 - y))
        value = jnp.exp(self.gamma * missed) * -(y * yes + (1 - y) * no)
        return value if self.alpha is None else value * (self.alpha * y + (1 - self.alpha) * (1 - y))


class HingeLoss(Loss):
    """max(0, 1 - y x) of scores x: the loss of support vector machines.

    output: [batch] or [batch, labels]; target y: 1, and -1 or 0 for the other class, the same. In a run the
    sigmoid of the score stands for the probability: the decision at 0.5 is right, the number means little.
    Rosasco et al. 2004, doi:10.1162/089976604773135104; scikit-learn's hinge_loss.

    >>> import jax.numpy as jnp
    >>> HingeLoss(reduction="none")(jnp.array([2.0, 0.25, 0.25]), jnp.array([1, 1, -1])).tolist()
    [0.0, 0.75, 1.25]
    """

    fits = ("logit",)

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        output, target = matched(self, output, target)
        missing = 1 - _signs(self, target) * output
        return jnp.where(missing > 0, missing, 0)


class SoftMarginLoss(Loss):
    """log(1 + exp(-y x)) of scores x.   output: [batch] or [batch, ...]; target y: 1, and -1 or 0, the same

    >>> import jax.numpy as jnp
    >>> float(SoftMarginLoss()(jnp.array([-1e4]), jnp.array([1.0])))
    10000.0
    """

    fits = ("logit",)

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        output, target = matched(self, output, target)
        return softplus(-_signs(self, target) * output)


class MultiLabelSoftMarginLoss(Loss):
    """The mean over labels of BCE with logits, weighted.   output: [batch, ..., labels]; target: 0 or 1, the same

    One value for each row of labels: reduction="none" gives [batch, ...], as torch's.

    >>> import jax.numpy as jnp
    >>> MultiLabelSoftMarginLoss(reduction="none")(jnp.zeros((2, 3)), jnp.ones((2, 3))).round(3).tolist()
    [0.6930000185966492, 0.6930000185966492]
    """

    fits = ()
    instead = "a target of a run has one class for each row"
    weight: tuple[Scalar, ...] | None = None

    def check(self) -> None:
        not_negative(self, "weight")

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        output, target = _with_shares(self, output, target)
        value = target * softplus(-output) + (1 - target) * softplus(output)
        w = class_weights(self, self.weight, output)
        return (value if w is None else value * w).mean(-1)


# -- parts


def _with_shares(loss: Loss, output: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    output, target = matched(loss, output, target)
    within(loss, target, 0, 1, "the target must be from 0 to 1")
    return output, target


def _weighted(loss: BCELoss | BCEWithLogitsLoss, values: jax.Array) -> jax.Array:
    w = loss._weight
    if w is None:
        return values
    if w.ndim == 1 and values.shape == (*w.shape, 1):
        w = w[:, None]
    try:
        fits = jnp.broadcast_shapes(w.shape, values.shape) == values.shape
    except ValueError:
        fits = False
    if not fits:
        raise ModelError(f"{type(loss).__name__}.weight of shape {w.shape} does not fit the output {values.shape}.")
    return values * w


def _signs(loss: Loss, target: jax.Array) -> jax.Array:
    wrong = (target != 1) & (target != 0) & (target != -1)
    refuse(loss, wrong, target, "labels are 1, and -1 or 0 for the other class")
    return jnp.where(wrong, jnp.nan, jnp.where(target > 0, 1.0, -1.0))
