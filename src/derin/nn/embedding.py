"""Embeddings: a row of numbers for each code; and for each place in a sequence."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derin.errors import ModelError, SpecError
from derin.nn.checks import at_least, float_input
from derin.nn.init import Initializer, Normal
from derin.nn.module import Init, Module
from derin.spec import Scalar

__all__ = ["Embedding", "Given", "LearnedPositions", "SinusoidalPositions"]


class Embedding(Module):
    """A learned row for each of `count` codes.   x: [...] -> [..., features]      weight: [count, features]

    x holds whole numbers in [0, count). Another number raises ModelError where it can be seen, and gives nan
    inside a compiled program. S3.30.

    The row of `padding_idx` starts at 0 and gets no gradient. Rows whose norm (of order `norm_type`) is above
    `max_norm` come out scaled down to it; torch scales them in the table as well, here the table stays as the
    optimiser left it. `frozen` keeps the table in the state and not among the params: no optimiser, weight decay or
    penalty can move it; as all state it stays float32 in a bfloat16 run, and so do its rows. `from_pretrained` makes
    one from given vectors.
    """

    count: int
    features: int
    padding_idx: int | None = None
    max_norm: Scalar | None = None
    norm_type: float = 2.0
    frozen: bool = False
    weight_init: Init | None = None  # None: torch's, N(0, 1)

    @classmethod
    def from_pretrained(cls, vectors: Any, freeze: bool = True, **fields: Any) -> Embedding:
        """An embedding that starts as the given vectors, [count, features]; frozen unless told otherwise.

        The vectors travel in the spec, and so into an experiment's file.

        >>> import jax, numpy as np
        >>> layer = Embedding.from_pretrained(np.eye(3), padding_idx=0)
        >>> params, state = layer.init(jax.random.key(0), np.array([0]))
        >>> list(params), state["weight"].shape
        ([], (3, 3))
        """
        try:
            given = Given(np.asarray(vectors, np.float32))
        except (TypeError, ValueError) as error:
            reason = str(error).removesuffix(".")
            raise SpecError(
                f"Embedding.from_pretrained needs vectors [count, features] of numbers: {reason}."
            ) from None
        if np.ndim(given.values) != 2:
            raise SpecError(
                f"Embedding.from_pretrained needs vectors [count, features], got shape {np.shape(given.values)}."
            )
        count, features = np.shape(given.values)
        return cls(count, features, frozen=freeze, weight_init=given, **fields)

    def check(self) -> None:
        at_least(self, 1, count=self.count, features=self.features)
        if self.padding_idx is not None and not -self.count <= self.padding_idx < self.count:
            raise SpecError(
                f"Embedding.padding_idx must be one of the {self.count} codes, 0 to {self.count - 1}, "
                f"got {self.padding_idx}."
            )
        for name in ("max_norm", "norm_type"):
            value = getattr(self, name)
            if isinstance(value, (int, float)) and not value > 0:
                raise SpecError(f"Embedding.{name} must be above 0, got {value}.")

    def forward(self, x: jax.Array) -> jax.Array:
        if not jnp.issubdtype(jnp.result_type(x), jnp.integer):
            raise ModelError(
                f"Embedding needs whole numbers (codes), got {jnp.result_type(x)} of shape {jnp.shape(x)}."
            )
        if not isinstance(x, jax.core.Tracer) and np.size(x):
            seen = np.asarray(x)  # jnp.min of a constant would be traced inside a jit
            low, high = int(seen.min()), int(seen.max())
            if low < 0 or high >= self.count:
                raise ModelError(
                    f"Embedding has {self.count} codes, 0 to {self.count - 1}; the input has {low} to {high}."
                )
        read = self.state if self.frozen else self.param
        w = read("weight", self._start, (self.count, self.features))
        codes = jnp.where(x < 0, self.count, x)  # JAX would count a negative one from the end
        rows = w.at[codes].get(mode="fill", fill_value=jnp.nan)
        if self.padding_idx is not None:
            padding = (x == self.padding_idx % self.count)[..., None]
            rows = jnp.where(padding, jax.lax.stop_gradient(rows), rows)
        return rows if self.max_norm is None else rows + jax.lax.stop_gradient(self._shortened(rows) - rows)

    def _start(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        w = (self.weight_init or Normal())(key, shape, dtype)
        if self.padding_idx is None or isinstance(self.weight_init, Given):
            return w
        return w.at[self.padding_idx].set(0)

    def _shortened(self, rows: jax.Array) -> jax.Array:
        """Rows of at most max_norm; their gradient is taken as if they had been so in the table, as in torch."""
        longest = jnp.asarray(self.max_norm, rows.dtype)
        size = jnp.max(jnp.abs(rows), -1, keepdims=True)  # taken out, so that no power overflows
        size = jnp.where(size > 0, size, 1)
        norm = size * jnp.linalg.norm(rows / size, self.norm_type, -1, keepdims=True)
        return jnp.where(norm > longest, rows * (longest / (norm + 1e-7)), rows)


class Given(Initializer):
    """Starts as these values, which must have the shape that is asked for.

    >>> import jax
    >>> Given(np.array([1.0, 2.0]))(jax.random.key(0), (2,))
    Array([1., 2.], dtype=float32)
    """

    values: jax.Array | np.ndarray

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        if jnp.shape(self.values) != tuple(shape):
            raise ModelError(f"the given values have shape {jnp.shape(self.values)}, the weight needs {tuple(shape)}.")
        return jnp.array(self.values, dtype)


class SinusoidalPositions(Module):
    """Add to each place of a sequence sines and cosines of it.   x: [batch, time, features] -> [batch, time, features]

    Place p gets sin(p / 10000^(2i / features)) in feature 2i and the cosine in 2i + 1.
    Vaswani et al. 2017, arXiv:1706.03762.

    >>> SinusoidalPositions().apply({}, {}, jnp.zeros((1, 2, 4)))[0][0, 1].round(4)
    Array([0.8415, 0.5403, 0.01  , 1.    ], dtype=float32)
    """

    def forward(self, x: jax.Array) -> jax.Array:
        float_input(self, x, "[batch, time, features]", 3, exactly=True)
        _, t, d = x.shape
        rate = np.exp(-math.log(10_000) / d * np.arange(0, d, 2))
        angle = np.arange(t)[:, None] * rate  # float64: float32 would lose the digits of far places
        waves = np.stack([np.sin(angle), np.cos(angle)], -1).reshape(t, -1)[:, :d]
        return x + jnp.asarray(waves, x.dtype)


class LearnedPositions(Module):
    """Add a learned row to each place.   x: [batch, time, features] -> [batch, time, features]

    weight: [count, features], of which a sequence reads the first `time`: a longer one raises ModelError. Starts as
    N(0, 0.02). Gehring et al. 2017, arXiv:1705.03122.
    """

    count: int
    weight_init: Init | None = None  # None: N(0, 0.02)

    def check(self) -> None:
        at_least(self, 1, count=self.count)

    def forward(self, x: jax.Array) -> jax.Array:
        float_input(self, x, "[batch, time, features]", 3, exactly=True)
        _, t, d = x.shape
        if t > self.count:
            raise ModelError(f"LearnedPositions has {self.count} places, the input {x.shape} has {t}. Take count={t}.")
        w = self.param("weight", self.weight_init or Normal(std=0.02), (self.count, d))
        return x + w[:t].astype(x.dtype)
