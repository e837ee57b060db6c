"""The recurrences of RNN, GRU and LSTM over time, as functions of arrays.

Everything is time major, and what the input adds to a step, z, comes computed: one matrix product for all steps.

    z: [time, batch, gates * hidden], h: [batch, hidden], w: [gates * hidden, hidden] -> hs: [time, batch, hidden]
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

__all__ = ["gru", "gru_step", "lstm", "lstm_step", "rnn", "rnn_step"]

FUNCTIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"tanh": jnp.tanh, "relu": jax.nn.relu}


def rnn_step(z: jax.Array, h: jax.Array, w: jax.Array, nonlinearity: str) -> jax.Array:
    """h' = f(z + W h).   z: [batch, hidden], h: [batch, hidden], w: [hidden, hidden] -> [batch, hidden]

    Elman 1990."""
    return FUNCTIONS[nonlinearity](z + h @ w.T)


def gru_step(z: jax.Array, h: jax.Array, w: jax.Array, b: jax.Array | None) -> jax.Array:
    """Reset, update and new gate; b: the new gate's bias inside the reset.   z: [batch, 3 * hidden] -> [batch, hidden]

    r = sigmoid(z_r + W_r h), u = sigmoid(z_u + W_u h), n = tanh(z_n + r (W_n h + b)), h' = (1 - u) n + u h.
    Cho et al. 2014, arXiv:1406.1078, with the reset after the product, as cuDNN and torch have it."""
    z_r, z_u, z_n = jnp.split(z, 3, -1)
    a_r, a_u, a_n = jnp.split(h @ w.T, 3, -1)
    r, u = jax.nn.sigmoid(z_r + a_r), jax.nn.sigmoid(z_u + a_u)
    n = jnp.tanh(z_n + r * (a_n if b is None else a_n + b))
    return n + u * (h - n)


def lstm_step(
    z: jax.Array, h: jax.Array, c: jax.Array, w: jax.Array, project: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Input, forget, cell and output gate.   z: [batch, 4 * hidden] -> h': [batch, out], c': [batch, hidden]

    i, f, g, o = parts of z + W h; c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = P (sigmoid(o) tanh(c')); project: P,
    [out, hidden]. Hochreiter & Schmidhuber 1997; Gers et al. 2000; the projection: Sak et al. 2014, arXiv:1402.1128."""
    i, f, g, o = jnp.split(z + h @ w.T, 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h if project is None else h @ project.T), c


@functools.partial(jax.jit, static_argnames=("nonlinearity", "reverse"))
def rnn(z: jax.Array, h: jax.Array, w: jax.Array, nonlinearity: str, reverse: bool = False) -> jax.Array:
    """h of every step; `reverse`: from the last step to the first."""

    def step(h: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = rnn_step(z, h, w, nonlinearity)
        return h, h

    return jax.lax.scan(step, h, z, reverse=reverse)[1]


@functools.partial(jax.jit, static_argnames="reverse")
def gru(z: jax.Array, h: jax.Array, w: jax.Array, b: jax.Array | None, reverse: bool = False) -> jax.Array:
    """h of every step; `reverse`: from the last step to the first."""

    def step(h: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = gru_step(z, h, w, b)
        return h, h

    return jax.lax.scan(step, h, z, reverse=reverse)[1]


@functools.partial(jax.jit, static_argnames="reverse")
def lstm(
    z: jax.Array,
    h: jax.Array,
    c: jax.Array,
    w: jax.Array,
    project: jax.Array | None = None,
    reverse: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """h and c of every step; `reverse`: from the last step to the first."""

    def step(state: tuple[jax.Array, jax.Array], z: jax.Array) -> tuple:
        state = lstm_step(z, *state, w, project)
        return state, state

    return jax.lax.scan(step, (h, c), z, reverse=reverse)[1]
