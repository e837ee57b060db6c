"""Connectionist temporal classification: a sequence of labels whose places in time nobody has marked."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from derin.errors import ModelError, SpecError
from derin.nn.losses import SeveralInputs, filled, refuse

__all__ = ["CTCLoss"]

_NEVER = -1e30  # a finite logarithm of 0: differences of it are numbers


class CTCLoss(SeveralInputs):
    """-log of the total probability of all alignments of the labels with time. Graves et al. 2006,
    doi:10.1145/1143844.1143891.

    log_probs: [batch, time, classes], as of log_softmax (torch's is time first); targets: int [batch, longest],
    what stands behind a row's length does not matter; input_lengths, target_lengths: int [batch].

    "mean" divides each loss by its number of labels (at least 1) first, as torch's. Labels that cannot be said in
    the time given (equal neighbours need a blank between them) have an infinite loss with gradient 0;
    zero_infinity=True makes it 0.

    >>> import jax, jax.numpy as jnp
    >>> log_probs = jnp.log(jnp.full((1, 2, 2), 0.5))      # "a" in two steps: "a-", "-a", "aa"
    >>> round(float(CTCLoss()(log_probs, jnp.array([[1]]), jnp.array([2]), jnp.array([1]))), 4)   # -log 3/4
    0.2877
    """

    inputs = ("log_probs", "targets", "input_lengths", "target_lengths")
    blank: int = 0
    zero_infinity: bool = False

    def check(self) -> None:
        if self.blank < 0:
            raise SpecError(f"CTCLoss.blank is a class, 0 or more, got {self.blank}.")

    def values(
        self, log_probs: jax.Array, targets: jax.Array, input_lengths: jax.Array, target_lengths: jax.Array
    ) -> jax.Array:
        self._fit(log_probs, targets, input_lengths, target_lengths)
        b, t, classes = log_probs.shape
        s = targets.shape[1]
        wrong = self._wrong(targets, t, classes, input_lengths, target_lengths)

        # labels with blanks around them: - a - b -   [batch, 2s + 1]
        between = jnp.full((b, s), self.blank, jnp.int32)
        spoken = jnp.stack([between, jnp.clip(targets, 0, classes - 1).astype(jnp.int32)], axis=2).reshape(b, 2 * s)
        spoken = jnp.concatenate([spoken, jnp.full((b, 1), self.blank, jnp.int32)], axis=1)
        # a blank may be left out between different labels
        leap = jnp.pad((spoken[:, 2:] != self.blank) & (spoken[:, 2:] != spoken[:, :-2]), ((0, 0), (2, 0)))
        leap = leap[:, : 2 * s + 1]
        heard = jnp.maximum(log_probs.astype(jnp.float32), _NEVER)
        heard = jnp.take_along_axis(heard, spoken[:, None, :], axis=2)  # [batch, time, 2s + 1]

        def step(at: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            """at: the logarithm of the probability to be at each place.   [batch, 2s + 1]"""
            here, alive = now
            from_last = jnp.pad(at, ((0, 0), (1, 0)), constant_values=_NEVER)[:, :-1]
            from_before = jnp.pad(at, ((0, 0), (2, 0)), constant_values=_NEVER)[:, : 2 * s + 1]
            moved = _log_add(at, from_last, jnp.where(leap, from_before, _NEVER)) + here
            return jnp.where(alive[:, None], moved, at), None

        start = jnp.where(jnp.arange(2 * s + 1) == 0, 0.0, _NEVER) + jnp.zeros((b, 1))
        alive = jnp.arange(t)[:, None] < input_lengths  # [time, batch]
        at, _ = jax.lax.scan(step, start, (heard.transpose(1, 0, 2), alive))

        last = (2 * jnp.clip(target_lengths, 0, s))[:, None]
        end = jnp.take_along_axis(at, last, axis=1)[:, 0]
        label = jnp.take_along_axis(at, jnp.maximum(last - 1, 0), axis=1)[:, 0]
        total = _log_add(end, jnp.where(last[:, 0] > 0, label, _NEVER), jnp.full(b, _NEVER))
        value = jnp.where(total < 0.1 * _NEVER, 0.0 if self.zero_infinity else jnp.inf, -total)
        return jnp.where(wrong, jnp.nan, value)

    def each(self, *inputs: jax.Array) -> jax.Array:
        return self.values(*inputs) / jnp.maximum(inputs[3], 1)

    def _fit(self, log_probs: jax.Array, targets: jax.Array, *lengths: jax.Array) -> None:
        b = log_probs.shape[:1]
        if log_probs.ndim != 3 or targets.ndim != 2 or {targets.shape[:1], *(n.shape for n in lengths)} != {b}:
            raise ModelError(
                "CTCLoss needs log_probs [batch, time, classes], targets [batch, longest] and two lengths [batch], got "
                f"{log_probs.shape}, {targets.shape}, {lengths[0].shape} and {lengths[1].shape}."
            )
        filled(self, log_probs)
        for name, x in zip(self.inputs[1:], (targets, *lengths), strict=True):
            if not jnp.issubdtype(x.dtype, jnp.integer):
                raise ModelError(f"CTCLoss needs whole numbers as {name}, got {x.dtype}.")
        if self.blank >= log_probs.shape[2]:
            raise ModelError(f"CTCLoss.blank is {self.blank}, the output has {log_probs.shape[2]} classes.")

    def _wrong(self, targets: jax.Array, t: int, classes: int, inputs: jax.Array, labels: jax.Array) -> jax.Array:
        """[batch]: True where a label or a length cannot be."""
        s = targets.shape[1]
        short = (inputs < 0) | (inputs > t)
        refuse(self, short, inputs, f"input_lengths go from 0 to the time steps, {t}")
        long = (labels < 0) | (labels > s)
        refuse(self, long, labels, f"target_lengths go from 0 to the labels of a row, {s}")
        used = jnp.arange(s) < labels[:, None]
        odd = used & ((targets < 0) | (targets >= classes) | (targets == self.blank))
        refuse(self, odd, targets, f"labels go from 0 to {classes - 1} without the blank, {self.blank}")
        return short | long | odd.any(1)


def _log_add(*terms: jax.Array) -> jax.Array:
    """log(exp(a) + exp(b) + exp(c)); none is -inf."""
    most = jax.lax.stop_gradient(jnp.stack(terms).max(0))
    return most + jnp.log(sum((jnp.exp(x - most) for x in terms), jnp.zeros_like(most)))
