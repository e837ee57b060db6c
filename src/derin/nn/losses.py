"""Losses: `loss(output, target)` is torch's number; `loss.each(output, target)` is one value an example.

    nn.HuberLoss(delta=2.0)(output, target)                      # the mean
    nn.HuberLoss(delta=2.0, reduction="none")(output, target)    # one value an element

All are computed in float32, whatever the network computes in, and stay finite for outputs of any size. This
file has the base and the losses of numbers; losses_binary, losses_classes, losses_pairs and losses_ctc have
the others.
"""

from __future__ import annotations

import math
from dataclasses import field
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from derin.errors import ModelError, SpecError
from derin.spec import Scalar, Spec

__all__ = [
    "GaussianNLLLoss",
    "HuberLoss",
    "L1Loss",
    "Loss",
    "MSELoss",
    "PoissonNLLLoss",
    "QuantileLoss",
    "RMSELoss",
    "SeveralInputs",
    "SmoothL1Loss",
]


class Loss(Spec):
    """Base of the losses. A subclass writes `values`, or `each` where it has one value an example anyway.

    `reduction` is torch's: "mean" over all elements, "sum" of them, or "none": one value an element. A run
    minimises means; the other two are for training loops of one's own.

    >>> import jax.numpy as jnp
    >>> class Cubed(Loss):
    ...     def values(self, output, target):          # [batch, ...], [batch, ...] -> [batch, ...]
    ...         return jnp.abs(output - target) ** 3
    >>> output, target = jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0])
    >>> float(Cubed()(output, target)), float(Cubed(reduction="sum")(output, target))
    (4.0, 8.0)
    """

    reduction: Literal["none", "mean", "sum"] = field(default="mean", kw_only=True)

    # What targets of a run it can be given: "number" (one output), "logit" (two classes, one output), "classes"
    # (two outputs or more). None: not known, nothing is refused. `instead` says why others are refused.
    fits: ClassVar[tuple[str, ...] | None] = None
    instead: ClassVar[str] = ""

    def values(self, *inputs: Any, **named: Any) -> jax.Array:
        """One value an element, float32: torch's reduction="none".   [batch, ...] -> [batch, ...]"""
        if type(self).each is Loss.each:
            raise NotImplementedError(f"{type(self).__name__} has no values(self, output, target).")
        return self.each(*inputs)

    def each(self, *inputs: Any, **named: Any) -> jax.Array:
        """One value an example, float32: the mean of its elements.   output: [batch, ...], target -> [batch]"""
        return per_example(self.values(*inputs))

    def share(self, *inputs: Any, **named: Any) -> jax.Array | None:
        """[batch]: how much each example counts in the mean, or None: all the same."""
        return None

    def __call__(self, output: jax.Array, target: jax.Array, weight: jax.Array | None = None) -> jax.Array:
        """The reduced loss; each example counts `weight` times.   output, target, weight [batch] -> []"""
        return self._reduced((jnp.asarray(output), jnp.asarray(target)), weight)

    def _reduced(self, inputs: tuple[jax.Array, ...], weight: jax.Array | None) -> jax.Array:
        if self.reduction != "mean":
            values = self.values(*inputs)
            if weight is not None:
                values = values * _of_examples(weight, values.shape[:1]).reshape((-1,) + (1,) * (values.ndim - 1))
            return values if self.reduction == "none" else values.sum()
        each, share = self.each(*inputs), self.share(*inputs)
        if weight is None:
            return each.mean() if share is None else each.sum() / above_zero(share.sum())
        weight = _of_examples(weight, each.shape)
        return (weight * each).sum() / above_zero((weight if share is None else weight * share).sum())


class SeveralInputs(Loss):
    """Base of the losses that compare more than an output and a target: for training loops of one's own.

    A weight for every example is given by name: `loss(anchor, positive, negative, weight=w)`.
    """

    fits = ()
    inputs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, *inputs: jax.Array, weight: jax.Array | None = None) -> jax.Array:  # type: ignore[override]
        """The reduced loss; each example counts `weight` times.   inputs -> []"""
        if len(inputs) != len(self.inputs):
            raise ModelError(f"{type(self).__name__} takes {', '.join(self.inputs)}: {len(inputs)} arrays came.")
        return self._reduced(tuple(map(jnp.asarray, inputs)), weight)


# -- numbers


class MSELoss(Loss):
    """Mean of (output - target)^2, without a half. S0.09.   output: [batch] or [batch, ...], target the same

    `half=True` halves it, so that the gradient has no 2: the course's (1/2m) sum of squares (S1.39), and with
    reduction="sum" its L = 1/2 sum of squares (S1.31, S1.44).

    >>> import jax.numpy as jnp
    >>> round(float(MSELoss()(jnp.array([10.0, 20.0, 30.0]), jnp.array([12.0, 18.0, 30.0]))), 4)
    2.6667
    >>> float(MSELoss(half=True, reduction="sum")(jnp.array([10.0, 20.0, 30.0]), jnp.array([12.0, 18.0, 30.0])))
    4.0
    """

    fits = ("number",)
    half: bool = False

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        output, target = matched(self, output, target)
        return jnp.square(output - target) * (0.5 if self.half else 1.0)


class RMSELoss(Loss):
    """The root of the mean of (output - target)^2. S0.11.   output: [batch] or [batch, ...], target the same

    It is a number of the whole batch: the mean of batches' values is not the value of all rows, and `each`,
    the root of one example's mean square, does not average to it. Its gradient where all errors are 0 is 0.

    >>> import jax.numpy as jnp
    >>> round(float(RMSELoss()(jnp.array([10.0, 20.0, 30.0]), jnp.array([12.0, 18.0, 30.0]))), 5)
    1.63299
    """

    fits = ("number",)
    reduction: Literal["mean"] = field(default="mean", kw_only=True)

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        return self.each(output, target)

    def each(self, output: jax.Array, target: jax.Array) -> jax.Array:
        return _root(per_example(jnp.square(jnp.subtract(*matched(self, output, target)))))

    def __call__(self, output: jax.Array, target: jax.Array, weight: jax.Array | None = None) -> jax.Array:
        return _root(MSELoss()(*matched(self, output, target), weight))


class L1Loss(Loss):
    """Mean of |output - target|, the mean absolute error. S0.12.   output: [batch] or [batch, ...], target the same"""

    fits = ("number",)

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        output, target = matched(self, output, target)
        return magnitude(output - target)


class HuberLoss(Loss):
    """Mean of e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2), of e = output - target. S0.14.

    output: [batch] or [batch, ...], target the same. In a run numbers are standardised: delta counts standard
    deviations of the training rows' target. Huber 1964, doi:10.1214/aoms/1177703732.

    >>> import jax.numpy as jnp
    >>> round(float(HuberLoss(delta=4.0)(jnp.array([5.0, 2.0, 10.0]), jnp.zeros(3))) * 3, 3)
    46.0
    """

    fits = ("number",)
    delta: Scalar = 1.0

    def check(self) -> None:
        positive(self, "delta")

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        output, target = matched(self, output, target)
        error = magnitude(output - target)
        return jnp.where(error <= self.delta, 0.5 * error * error, self.delta * (error - 0.5 * self.delta))


class SmoothL1Loss(Loss):
    """Mean of e^2 / (2 beta) where |e| < beta, else |e| - beta / 2, of e = output - target. S0.15.

    output: [batch] or [batch, ...], target the same. It is HuberLoss(delta=beta) / beta; with beta=0 it is L1Loss.

    >>> import jax.numpy as jnp
    >>> round(float(SmoothL1Loss(beta=5.0)(jnp.array([5.0, 2.0, 10.0]), jnp.zeros(3))) * 3, 3)
    10.4
    """

    fits = ("number",)
    beta: Scalar = 1.0

    def check(self) -> None:
        positive(self, "beta", zero=True)

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        output, target = matched(self, output, target)
        error = magnitude(output - target)
        divisor = jnp.where(jnp.asarray(self.beta) > 0, self.beta, 1.0)  # the branch not taken must not be 0 / 0
        return jnp.where(error < self.beta, 0.5 * error * error / divisor, error - 0.5 * self.beta)


class QuantileLoss(Loss):
    """The pinball loss: its best constant is the quantile of the targets, 0.5 the median. Koenker & Bassett 1978.

    quantile * e where e = target - output >= 0, else (quantile - 1) * e.   output: [batch, ...], target the same

    >>> import jax.numpy as jnp
    >>> QuantileLoss(0.75, reduction="none")(jnp.array([1.0, 3.0]), jnp.array([2.0, 2.0])).tolist()
    [0.75, 0.25]
    """

    fits = ("number",)
    quantile: Scalar = 0.5

    def check(self) -> None:
        q = self.quantile
        if isinstance(q, (int, float)) and not 0 < q < 1:
            raise SpecError(f"QuantileLoss.quantile must be between 0 and 1, got {q}. The median is 0.5.")

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        output, target = matched(self, output, target)
        error = target - output
        return jnp.where(error >= 0, self.quantile * error, (self.quantile - 1) * error)


class PoissonNLLLoss(Loss):
    """-log p of a count, its rate being exp(output), or the output itself with log_input=False.

    output: [batch] or [batch, ...], target: counts, the same. Without `full` the term log(target!) is left out;
    with it, it is Stirling's for targets above 1, as torch's. exp goes on as a straight line above e^70, so
    that no output is infinite.

    >>> import jax.numpy as jnp
    >>> float(PoissonNLLLoss()(jnp.array([0.0]), jnp.array([3.0])))
    1.0
    """

    fits = ()
    instead = "a run standardises numbers, and a count must stay one"
    log_input: bool = True
    full: bool = False
    eps: Scalar = 1e-8

    def check(self) -> None:
        positive(self, "eps", zero=True)

    def values(self, output: jax.Array, target: jax.Array) -> jax.Array:
        output, target = matched(self, output, target)
        within(self, target, 0, math.inf, "the target must be counts, 0 or more")
        if self.log_input:
            near = jnp.minimum(output, 70.0)
            value = jnp.exp(near) * (1 + output - near) - target * output
        else:
            within(self, output, 0, math.inf, "the output must be rates, 0 or more; log_input=True takes logarithms")
            value = output - target * jnp.log(output + self.eps)
        if not self.full:
            return value
        t = jnp.maximum(target, 1.0)
        stirling = t * jnp.log(t) - t + 0.5 * jnp.log(2 * math.pi * t)
        return value + jnp.where(target > 1, stirling, 0)


class GaussianNLLLoss(SeveralInputs):
    """-log p of a number, the net giving its mean and its variance: (log var + (output - target)^2 / var) / 2.

    output: [batch] or [batch, ...], target the same; var: the same shape, or with a last axis of 1 or without it:
    one for all. A variance below eps counts as eps; a negative one gives nan. `full` adds log(2 pi) / 2.
    Nix & Weigend 1994.

    >>> import jax.numpy as jnp
    >>> float(GaussianNLLLoss()(jnp.array([1.0]), jnp.array([3.0]), jnp.array([1.0])))
    2.0
    """

    inputs = ("output", "target", "var")
    instead = "a run's net gives a number no variance"
    full: bool = False
    eps: Scalar = 1e-6

    def check(self) -> None:
        positive(self, "eps")

    def values(self, output: jax.Array, target: jax.Array, var: jax.Array) -> jax.Array:
        output, target = matched(self, output, target)
        var = jnp.asarray(var, jnp.float32)
        if var.shape != output.shape:
            if var.shape == output.shape[:-1] and output.ndim > 1:
                var = var[..., None]
            elif var.shape != (*output.shape[:-1], 1):
                raise ModelError(
                    f"GaussianNLLLoss needs a variance of the output's shape {output.shape}, or one for all of its "
                    f"last axis, got {var.shape}."
                )
        refuse(self, var < 0, var, "a variance is 0 or more; end the net with softplus or exp there")
        held = jnp.where(var < 0, jnp.nan, jnp.maximum(var, self.eps))
        var = var + jax.lax.stop_gradient(held - var)  # torch's: the clamp lets the gradient through
        value = 0.5 * (jnp.log(var) + jnp.square(output - target) / var)
        return value + 0.5 * math.log(2 * math.pi) if self.full else value


# -- shared by the files of losses


def matched(loss: Loss, output: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both in float32 and of one shape; [n, 1] and [n] are the same n numbers, nothing else is broadcast."""
    output, target = jnp.asarray(output), jnp.asarray(target)
    if output.shape != target.shape:
        if {output.shape, target.shape} == {(output.shape[:1]), (*output.shape[:1], 1)}:
            target = target.reshape(output.shape)
        else:
            raise ModelError(
                f"{type(loss).__name__} needs output and target of one shape, got {output.shape} and {target.shape}."
            )
    filled(loss, output)
    return output.astype(jnp.float32), target.astype(jnp.float32)


def filled(loss: Loss, output: jax.Array) -> None:
    """Raise ModelError for a batch without a row: a mean of nothing would be nan."""
    if output.size == 0:
        raise ModelError(f"{type(loss).__name__} got an empty batch, of shape {output.shape}: it has no mean.")


def refuse(loss: Loss, wrong: jax.Array, given: jax.Array, rule: str) -> None:
    """Raise ModelError where something given is wrong. A compiled program cannot: there the loss becomes nan."""
    if not isinstance(wrong, jax.core.Tracer) and bool(wrong.any()):
        first = jnp.broadcast_to(given, wrong.shape)[wrong][0]
        raise ModelError(f"{type(loss).__name__}: {rule}; got {first}.")


def within(loss: Loss, given: jax.Array, low: float, high: float, rule: str) -> None:
    """Raise ModelError where a value given lies outside [low, high]. In a compiled program it is not looked at."""
    if not isinstance(given, jax.core.Tracer):
        refuse(loss, ~((given >= low) & (given <= high)), given, rule)


def not_negative(loss: Loss, name: str) -> None:
    """Refuse a field that has a number below 0, unless it is traced."""
    value = getattr(loss, name)
    for v in value if isinstance(value, tuple) else (value,):
        if isinstance(v, (int, float)) and not v >= 0:
            raise SpecError(f"{type(loss).__name__}.{name} must be 0 or more, got {value}. It counts how often.")


def per_example(values: jax.Array) -> jax.Array:
    """The mean over all axes but the first."""
    return values if values.ndim <= 1 else values.mean(tuple(range(1, values.ndim)))


def magnitude(x: jax.Array) -> jax.Array:
    """|x| with torch's slope 0 at 0; jnp.abs has 1 there."""
    return x * jnp.sign(x)


def above_zero(total: jax.Array) -> jax.Array:
    """What may be divided by: a mean of nothing is 0, not nan."""
    return jnp.maximum(total, 1e-30)


def vector(values: Scalar | tuple[Scalar, ...]) -> jax.Array:
    """Scalars of a tuple as one float32 array."""
    if isinstance(values, tuple):
        return jnp.stack([jnp.asarray(v, jnp.float32) for v in values])
    return jnp.asarray(values, jnp.float32)


def positive(loss: Loss, name: str, zero: bool = False) -> None:
    """Refuse a field that is not above 0, unless it is traced."""
    value = getattr(loss, name)
    if isinstance(value, (int, float)) and not (value > 0 or (zero and value == 0)):
        raise SpecError(f"{type(loss).__name__}.{name} must be {'0 or more' if zero else 'above 0'}, got {value}.")


def class_weights(
    loss: Loss, given: tuple[Scalar, ...] | None, output: jax.Array, name: str = "weight"
) -> jax.Array | None:
    """[classes], or None.  Raises ModelError where their number is not the output's."""
    if given is None:
        return None
    if len(given) != output.shape[-1]:
        raise ModelError(
            f"{type(loss).__name__}.{name} has {len(given)} values, the output has {output.shape[-1]} classes."
        )
    return vector(given)


def share_of_one(loss: Loss, name: str) -> None:
    """Refuse a field that is no share, unless it is traced."""
    value = getattr(loss, name)
    if isinstance(value, (int, float)) and not 0 <= value <= 1:
        raise SpecError(f"{type(loss).__name__}.{name} must be in [0, 1], got {value}.")


def _of_examples(weight: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    if weight.shape != shape:
        raise ModelError(f"weight needs one value an example, {shape}; got shape {weight.shape}.")
    return weight.astype(jnp.float32)


def _root(mean: jax.Array) -> jax.Array:
    some = mean > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, mean, 1.0)), 0.0)
