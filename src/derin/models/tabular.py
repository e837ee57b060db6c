"""A net for tables: several small MLPs side by side, each with a loss of its own, that predict together.

Members see the same batches and differ by their first weights only; their mean is a better and steadier
prediction than one wide net's. On tables with many rows each number also enters as learned waves, which lets a
net bend as sharply as a tree does. After TabM (Gorishniy et al. 2024, arXiv:2410.24210: members with losses of
their own), Gorishniy et al. 2022 (arXiv:2203.05556: periodic features) and RealMLP (Holzmüller et al. 2024,
arXiv:2407.04491: soft clipping, the first value kept beside its waves).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from derin.errors import ModelError
from derin.nn import Dropout, Function, Module
from derin.spec import Scalar


class TabularMLP(Module):
    """Several MLPs with losses of their own that predict together.   x: [batch, in] -> [batch, members, out]

    `waves` names the columns of x that also enter as PeriodicFeatures; () for none.

    >>> import jax, jax.numpy as jnp
    >>> net = TabularMLP(out=3, widths=(16,), members=4, waves=(0, 1))
    >>> params, state = net.init(jax.random.key(0), jnp.ones((5, 6)))
    >>> net.apply(params, state, jnp.ones((5, 6)))[0].shape
    (5, 4, 3)
    """

    ensemble = True

    out: int = 1
    widths: tuple[int, ...] = (128, 128)
    members: int = 8
    activation: str = "silu"
    dropout: Scalar = 0.1
    waves: tuple[int, ...] = ()

    def check(self) -> None:
        if self.members < 1 or self.out < 1 or any(w < 1 for w in self.widths):
            raise ModelError(
                f"TabularMLP needs at least one member, output and unit a layer, got members={self.members}, "
                f"out={self.out}, widths={self.widths}."
            )

    def setup(self) -> None:
        self.features = PeriodicFeatures(self.waves)
        self.hidden = [MemberLinear(width) for width in self.widths]
        self.act = Function(self.activation)
        self.drop = Dropout(self.dropout)
        self.head = MemberLinear(self.out)

    def forward(self, x: jax.Array) -> jax.Array:
        if x.ndim != 2:
            raise ModelError(f"TabularMLP takes rows of a table, [batch, in], and got shape {x.shape}.")
        x = x / jnp.sqrt(1 + (x / 3) ** 2)  # soft clipping: an outlier is at most 3
        x = self.features(x)
        h = jnp.broadcast_to(x, (self.members, *x.shape))
        for layer in self.hidden:
            h = self.drop(self.act(layer(h)))
        return self.head(h).swapaxes(0, 1)


class MemberLinear(Module):
    """A Linear layer for each member.   x: [members, batch, in] -> [members, batch, features]"""

    features: int

    def forward(self, x: jax.Array) -> jax.Array:
        members, _, n = x.shape
        uniform = _uniform(1 / math.sqrt(n))  # as nn.Linear draws
        weight = self.param("weight", uniform, (members, self.features, n))
        bias = self.param("bias", uniform, (members, 1, self.features))
        return jnp.einsum("mbi,moi->mbo", x, weight) + bias


class PeriodicFeatures(Module):
    """Some columns also as learned waves, cos(2 pi w x + b), mixed to `width` numbers each.

    x: [batch, in] -> [batch, more]   (in + width a column of `columns`)

    Gorishniy et al. 2022, arXiv:2203.05556, with a phase instead of sine and cosine (arXiv:2407.04491).
    """

    columns: tuple[int, ...]
    frequencies: int = 16
    width: int = 4
    scale: float = 0.1  # deviation of the first frequencies, in waves a standard deviation of x

    def forward(self, x: jax.Array) -> jax.Array:
        c, f = len(self.columns), self.frequencies
        if c == 0:
            return x
        w = self.param("frequency", _normal(self.scale), (c, f))
        b = self.param("phase", _uniform(math.pi), (c, f))
        mix = self.param("mix", _normal(1 / math.sqrt(f)), (c, f, self.width))
        bias = self.param("bias", _uniform(0.0), (c, self.width))
        waves = jnp.cos(2 * math.pi * x[:, jnp.array(self.columns), None] * w + b)  # [batch, c, f]
        mixed = jnp.einsum("bcf,cfw->bcw", waves, mix) + bias
        return jnp.concatenate([x, mixed.reshape(x.shape[0], c * self.width)], axis=1)


def _uniform(bound: float) -> Any:
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


def _normal(deviation: float) -> Any:
    return lambda key, shape, dtype: deviation * jax.random.normal(key, shape, dtype)
