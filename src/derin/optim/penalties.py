"""Penalties on the weights: L1, L2, elastic net, decoupled decay, max-norm; each on the weights that a pattern names.

    Experiment(net, penalty=L2(1e-4))                                        # every weight
    Experiment(net, penalty=L2(1e-4, except_="biases and norms"))            # the usual choice
    Experiment(net, penalty=(L1(1e-5, on="0.*"), MaxNorm(3.0, on="head.*")))

Patterns are those of a shell (*, ?, [...]) on the weights' names, `hidden.0.weight`. They act on the gradient or
on the weights, after any clipping and beside whatever the optimiser does: losses that are shown are those of
the data alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp

from derin.errors import SpecError
from derin.optim.optimizers import require
from derin.spec import Scalar, Spec

Number = Any  # a Python number or a traced scalar
Patterns = str | tuple[str, ...]
Shapes = dict[str, tuple[int, ...]]  # of all weights, by name

BIASES_AND_NORMS = "biases and norms"  # names have no spaces, so this is no pattern that could mean another


class Penalty(Spec):
    """What every penalty has: the weights it is on, its fields `on` and `except_`, and a place where it acts."""

    def gradient(self, weight: jax.Array, rows: Number) -> jax.Array | None:
        """What is added to the gradient of a weight, or None.   rows: how many there are to train on"""
        return None

    def decay(self, weight: jax.Array, learning_rate: Number) -> jax.Array | None:
        """What is added to the optimiser's update of a weight, or None."""
        return None

    def constrained(self, weight: jax.Array) -> jax.Array | None:
        """The weight after a step, as this allows it, or None."""
        return None

    def chosen(self, shapes: Shapes) -> list[str]:
        """The names of the weights it is on. Raises SpecError, with the names there are, if a pattern fits none.

        >>> shapes = {"0.weight": (8, 3), "0.bias": (8,), "1.weight": (8,), "1.bias": (8,), "3.weight": (2, 8)}
        >>> L2(1e-4, except_="biases and norms").chosen(shapes)
        ['0.weight', '3.weight']
        """
        on = self._matching("on", getattr(self, "on", "*"), shapes)
        off = self._matching("except_", getattr(self, "except_", ()), shapes)
        found = [name for name in shapes if name in on and name not in off]
        if not found:
            raise SpecError(f"{self!r} is on no weight: except_ takes out all of {_listed(on)}.")
        return found

    def _matching(self, field: str, patterns: Patterns, shapes: Shapes) -> set[str]:
        found: set[str] = set()
        for pattern in (patterns,) if isinstance(patterns, str) else patterns:
            if pattern == BIASES_AND_NORMS:
                found |= {name for name, shape in shapes.items() if _is_bias_or_norm(name, shape)}
                continue
            fitting = {name for name in shapes if fnmatchcase(name, pattern)}
            if not fitting:
                raise SpecError(
                    f"{type(self).__name__}.{field}: no weight's name fits {pattern!r}. The net has {_listed(shapes)}."
                )
            found |= fitting
        return found


def _is_bias_or_norm(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) < 2 or name.rpartition(".")[2].startswith("bias")


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(map(repr, names[:12])) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


class L1(Penalty):
    """The sum of strength |w| added to the loss: weights that do little become 0.   S1.40

    The gradient is strength sign(w), and 0 at 0. `per_row` divides the strength by the number of training
    rows: the course's lambda / m.

    >>> import jax.numpy as jnp
    >>> L1(0.1).gradient(jnp.array([-2.0, 0.0, 5.0]), rows=100)
    Array([-0.1,  0. ,  0.1], dtype=float32)
    """

    strength: Scalar = 1e-4
    on: Patterns = "*"
    except_: Patterns = ()
    per_row: bool = False

    def check(self) -> None:
        _require_strength(self)

    def gradient(self, weight: jax.Array, rows: Number) -> jax.Array:
        return _share(self.strength, self.per_row, rows) * jnp.sign(weight)


class L2(Penalty):
    """The sum of strength w^2 / 2 added to the loss: the gradient is strength w, torch's `weight_decay`.   S1.39

    `per_row` divides the strength by the number of training rows: the course's lambda / m. With an optimiser
    that scales gradients, Adam, this is not weight decay: for that, DecoupledDecay (S1.52).

    >>> import jax.numpy as jnp
    >>> L2(0.1, per_row=True).gradient(jnp.array([-2.0, 0.0, 5.0]), rows=100)
    Array([-0.002,  0.   ,  0.005], dtype=float32)
    """

    strength: Scalar = 1e-4
    on: Patterns = "*"
    except_: Patterns = ()
    per_row: bool = False

    def check(self) -> None:
        _require_strength(self)

    def gradient(self, weight: jax.Array, rows: Number) -> jax.Array:
        return _share(self.strength, self.per_row, rows) * weight


class ElasticNet(Penalty):
    """L1 and L2 together: strength (l1_ratio |w| + (1 - l1_ratio) w^2 / 2), summed.

    Zou & Hastie 2005, doi:10.1111/j.1467-9868.2005.00503.x; the names are scikit-learn's, whose alpha is
    `strength`. `per_row` as in L1.

    >>> import jax.numpy as jnp
    >>> ElasticNet(0.1, l1_ratio=0.5).gradient(jnp.array([-2.0, 0.0, 5.0]), rows=100)
    Array([-0.15,  0.  ,  0.3 ], dtype=float32)
    """

    strength: Scalar = 1e-4
    l1_ratio: Scalar = 0.5
    on: Patterns = "*"
    except_: Patterns = ()
    per_row: bool = False

    def check(self) -> None:
        _require_strength(self)
        require(self, "l1_ratio", lambda v: 0 <= v <= 1, "in [0, 1]: 0 is L2 alone, 1 is L1 alone")

    def gradient(self, weight: jax.Array, rows: Number) -> jax.Array:
        mix = self.l1_ratio * jnp.sign(weight) + (1 - self.l1_ratio) * weight
        return _share(self.strength, self.per_row, rows) * mix


class DecoupledDecay(Penalty):
    """w <- w - learning_rate strength w beside the optimiser's step, as AdamW decays.   S1.52; arXiv:1711.05101

    For no decay on biases and norms give AdamW no decay of its own:
    Experiment(net, optimizer=AdamW(weight_decay=0.0), penalty=DecoupledDecay(1e-2, except_="biases and norms")).
    An optax transformation with a rate of its own has learning_rate 1 here.

    >>> import jax.numpy as jnp
    >>> DecoupledDecay(0.1).decay(jnp.array([-2.0, 0.0, 5.0]), learning_rate=0.1)
    Array([ 0.02, -0.  , -0.05], dtype=float32)
    """

    strength: Scalar = 1e-2
    on: Patterns = "*"
    except_: Patterns = ()

    def check(self) -> None:
        _require_strength(self)

    def decay(self, weight: jax.Array, learning_rate: Number) -> jax.Array:
        return -learning_rate * self.strength * weight


class MaxNorm(Penalty):
    """After each step, the weights into each unit are shortened to the length `limit` if they are longer.

    A unit's weights are one entry of the first axis, as in torch.renorm(w, p=2, dim=0, maxnorm=limit). Arrays with
    fewer than two axes, biases and norms, have no such rows and are left alone. Srivastava et al. 2014 (dropout).

    >>> import jax.numpy as jnp
    >>> kept = MaxNorm(1.0).constrained(jnp.array([[3.0, 4.0], [0.3, 0.4]]))
    >>> [[round(w, 4) for w in row] for row in kept.tolist()]
    [[0.6, 0.8], [0.3, 0.4]]
    """

    limit: Scalar = 3.0
    on: Patterns = "*"
    except_: Patterns = ()

    def check(self) -> None:
        require(self, "limit", lambda v: 0 < v < math.inf, "above 0")

    def chosen(self, shapes: Shapes) -> list[str]:
        found = super().chosen(shapes)
        with_rows = [name for name in found if len(shapes[name]) > 1]
        if not with_rows:
            raise SpecError(f"{self!r} needs weights of two or more axes, and {_listed(found)} have fewer.")
        return with_rows

    def constrained(self, weight: jax.Array) -> jax.Array:
        lengths = jnp.sqrt(jnp.sum(jnp.square(weight), axis=tuple(range(1, weight.ndim)), keepdims=True))
        return weight * jnp.where(lengths > self.limit, self.limit / (lengths + 1e-7), 1).astype(weight.dtype)


def penalties_of(penalty: Penalty | tuple[Penalty, ...] | None) -> tuple[Penalty, ...]:
    """None, one or several as a tuple."""
    return penalty if isinstance(penalty, tuple) else () if penalty is None else (penalty,)


def _share(strength: Scalar, per_row: bool, rows: Number) -> Number:
    return strength / rows if per_row else strength


def _require_strength(spec: Penalty) -> None:
    require(spec, "strength", lambda v: 0 <= v < math.inf, "0 or more, often 1e-5 to 1e-2")
