"""Nets for images."""

from __future__ import annotations

import jax

from derin.errors import ModelError
from derin.nn import BatchNorm, Conv2d, Dropout, Flatten, Linear, MaxPool2d, Module, relu
from derin.spec import Scalar


class SmallCNN(Module):
    """Convolution, norm, ReLU and pooling, once a width, then two linear layers.   x: [batch, h, w, c] -> [batch, out]

    Each pooling halves height and width, so that an image of 28 pixels needs at most four widths. S3.17.

    >>> import jax, jax.numpy as jnp
    >>> net = SmallCNN(out=10, widths=(8, 16))
    >>> params, state = net.init(jax.random.key(0), jnp.ones((2, 28, 28, 1)))
    >>> net.apply(params, state, jnp.ones((2, 28, 28, 1)))[0].shape
    (2, 10)
    """

    out: int = 10
    widths: tuple[int, ...] = (32, 64)
    head: int = 128
    dropout: Scalar = 0.3

    def setup(self) -> None:
        self.convolutions = [Conv2d(width, 3, padding="same", bias=False) for width in self.widths]
        self.norms = [BatchNorm() for _ in self.widths]
        self.pool, self.flat = MaxPool2d(2), Flatten()
        self.hidden, self.drop, self.last = Linear(self.head), Dropout(self.dropout), Linear(self.out)

    def forward(self, x: jax.Array) -> jax.Array:
        if x.ndim != 4 or min(x.shape[1:3]) < 2 ** len(self.widths):
            raise ModelError(
                f"SmallCNN with {len(self.widths)} poolings takes images [batch, h, w, c] of at least "
                f"{2 ** len(self.widths)} pixels a side, and got shape {x.shape}."
            )
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = relu(self.pool(norm(convolution(x))))  # pooled first: a quarter of the work for relu
        x = relu(self.hidden(self.flat(x)))
        return self.last(self.drop(x))
