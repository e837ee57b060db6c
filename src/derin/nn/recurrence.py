"""The recurrences of RNN, GRU and LSTM over time, as functions of arrays. Everything is time major.

    x: [time, batch, in], h: [batch, hidden], w: [gates * hidden, in], v: [gates * hidden, hidden], b: [gates * hidden]

A step costs little but its operations' overhead, so what can be done for all steps at once is: x W before the loop, and
after it the gradients of all weights in one product over time and batch. The loop backwards is linear in the gradient
that comes in; its factors are made before it. bench/recurrent.py has the numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

__all__ = ["gru", "gru_step", "lstm", "lstm_projected", "lstm_step", "rnn", "rnn_step"]

FUNCTIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"tanh": jnp.tanh, "relu": jax.nn.relu}


# -- a step, as the formulas are


def rnn_step(z: jax.Array, h: jax.Array, v: jax.Array, nonlinearity: str) -> jax.Array:
    """h' = f(z + V h), with z = W x + b.   z: [batch, hidden], h: [batch, hidden] -> [batch, hidden]

    Elman 1990."""
    return FUNCTIONS[nonlinearity](z + h @ v.T)


def gru_step(z: jax.Array, h: jax.Array, v: jax.Array, b_n: jax.Array | None) -> jax.Array:
    """Reset, update and new gate; b_n: the bias inside the reset.   z: [batch, 3 * hidden] -> [batch, hidden]

    r = sigmoid(z_r + V_r h), u = sigmoid(z_u + V_u h), n = tanh(z_n + r (V_n h + b_n)), h' = (1 - u) n + u h.
    Cho et al. 2014, arXiv:1406.1078, with the reset after the product, as cuDNN and torch have it."""
    z_r, z_u, z_n = jnp.split(z, 3, -1)
    q_r, q_u, q = jnp.split(h @ v.T, 3, -1)
    r, u = jax.nn.sigmoid(z_r + q_r), jax.nn.sigmoid(z_u + q_u)
    n = jnp.tanh(z_n + r * (q if b_n is None else q + b_n))
    return n + u * (h - n)


def lstm_step(
    z: jax.Array, h: jax.Array, c: jax.Array, v: jax.Array, project: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Input, forget, cell and output gate.   z: [batch, 4 * hidden] -> h': [batch, out], c': [batch, hidden]

    i, f, g, o = parts of z + V h; c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = P (sigmoid(o) tanh(c')); project: P,
    [out, hidden]. Hochreiter & Schmidhuber 1997; Gers et al. 2000; the projection: Sak et al. 2014, arXiv:1402.1128."""
    i, f, g, o = jnp.split(z + h @ v.T, 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h if project is None else h @ project.T), c


# -- all steps. Compiled here, so that calls outside of a program do not compile anew


@functools.partial(jax.jit, static_argnames=("nonlinearity", "reverse"))
def rnn(x: Any, h: Any, w: Any, v: Any, b: Any, *, nonlinearity: str, reverse: bool = False) -> jax.Array:
    """h of every step; `reverse`: from the last step to the first.   -> [time, batch, hidden]"""
    return _rnn(nonlinearity, reverse, x, h, w, v, b)


@functools.partial(jax.jit, static_argnames="reverse")
def gru(x: Any, h: Any, w: Any, v: Any, b: Any, b_n: Any, *, reverse: bool = False) -> jax.Array:
    """h of every step; `reverse`: from the last step to the first.   -> [time, batch, hidden]"""
    return _gru(reverse, x, h, w, v, b, b_n)


@functools.partial(jax.jit, static_argnames="reverse")
def lstm(x: Any, h: Any, c: Any, w: Any, v: Any, b: Any, *, reverse: bool = False) -> tuple[jax.Array, jax.Array]:
    """h and c of every step; `reverse`: from the last step to the first.   -> [time, batch, hidden] each"""
    return _lstm(reverse, x, h, c, w, v, b)


@functools.partial(jax.jit, static_argnames="reverse")
def lstm_projected(
    x: Any, h: Any, c: Any, w: Any, v: Any, b: Any, project: Any, *, reverse: bool = False
) -> tuple[jax.Array, jax.Array]:
    """h and c of every step, h by way of a projection.   -> [time, batch, out], [time, batch, hidden]"""

    def step(state: tuple[jax.Array, jax.Array], z: jax.Array) -> Any:
        state = lstm_step(z, *state, v, project)
        return state, state

    return jax.lax.scan(step, (h, c), _plus(x @ w.T, b), reverse=reverse)[1]


# -- the loops and their gradients


def _rnn_loop(nonlinearity: str, reverse: bool, x: Any, h: Any, w: Any, v: Any, b: Any) -> jax.Array:
    function = FUNCTIONS[nonlinearity]
    vt = v.T

    def step(h: jax.Array, z: jax.Array) -> Any:
        h = function(_plus(z + h @ vt, b))
        return h, h

    return jax.lax.scan(step, h, x @ w.T, reverse=reverse)[1]


_rnn = jax.custom_vjp(_rnn_loop, nondiff_argnums=(0, 1))


def _rnn_forward(nonlinearity: str, reverse: bool, x: Any, h: Any, w: Any, v: Any, b: Any) -> tuple:
    hs = _rnn_loop(nonlinearity, reverse, x, h, w, v, b)
    return hs, (hs, x, h, w, v, b)


def _rnn_backward(nonlinearity: str, reverse: bool, kept: tuple, by_hs: jax.Array) -> tuple:
    hs, x, h, w, v, b = kept
    slope = 1 - hs * hs if nonlinearity == "tanh" else (hs > 0).astype(hs.dtype)

    def step(dh: jax.Array, at: tuple) -> Any:
        by_h, slope = at
        dz = (dh + by_h) * slope
        return dz @ v, dz

    dh, dz = jax.lax.scan(step, jnp.zeros_like(h), (by_hs, slope), reverse=not reverse)
    dw, dv, db = _by_weights([x, _before(hs, h, reverse)], dz, b is not None)
    return dz @ w, dh, dw, dv, db


_rnn.defvjp(_rnn_forward, _rnn_backward)


def _gru_loop(reverse: bool, x: Any, h: Any, w: Any, v: Any, b: Any, b_n: Any) -> tuple[jax.Array, ...]:
    """h, and what the gradient needs of every step: both gates as one, the new gate, and what the reset scales."""
    vt, n_ = v.T, h.shape[-1]

    def step(h: jax.Array, z: jax.Array) -> Any:
        z, q = _plus(z, b), h @ vt
        gates = _sigmoid(z[:, : 2 * n_] + q[:, : 2 * n_])
        r, u, q = gates[:, :n_], gates[:, n_:], _plus(q[:, 2 * n_ :], b_n)
        n = jnp.tanh(z[:, 2 * n_ :] + r * q)
        h = n + u * (h - n)
        return h, (h, gates, n, q)

    return jax.lax.scan(step, h, x @ w.T, reverse=reverse)[1]


def _gru_value(reverse: bool, *given: Any) -> jax.Array:
    return _gru_loop(reverse, *given)[0]


_gru = jax.custom_vjp(_gru_value, nondiff_argnums=(0,))


def _gru_forward(reverse: bool, *given: Any) -> tuple:
    states = _gru_loop(reverse, *given)
    return states[0], (states, given)


def _gru_backward(reverse: bool, kept: tuple, by_hs: jax.Array) -> tuple:
    (hs, gates, n, q), (x, h, w, v, b, b_n) = kept
    r, u = jnp.split(gates, 2, -1)
    before = _before(hs, h, reverse)
    by_n = (1 - u) * (1 - n * n)
    factors = jnp.concatenate([by_n * q * r * (1 - r), (before - n) * u * (1 - u), by_n * r], -1)

    def step(dh: jax.Array, at: tuple) -> Any:
        by_h, factors, u = at
        dh = dh + by_h
        return (jnp.concatenate([dh, dh, dh], -1) * factors) @ v + dh * u, dh

    dh, dhs = jax.lax.scan(step, jnp.zeros_like(h), (by_hs, factors, u), reverse=not reverse)
    dq = jnp.concatenate([dhs, dhs, dhs], -1) * factors
    dz = jnp.concatenate([dq[..., : 2 * h.shape[-1]], dhs * by_n], -1)
    dw, db = _by_weights([x], dz, b is not None)
    dv, db_q = _by_weights([before], dq, b_n is not None)
    return dz @ w, dh, dw, dv, db, None if b_n is None else db_q[2 * h.shape[-1] :]


_gru.defvjp(_gru_forward, _gru_backward)


def _lstm_loop(reverse: bool, x: Any, h: Any, c: Any, w: Any, v: Any, b: Any) -> list[tuple[jax.Array, ...]]:
    """For each part of the batch: h, c, and the four gates of every step as one array."""
    vt, n = v.T, h.shape[-1]
    half = jnp.array([0.5, 0.5, 1.0, 0.5], x.dtype).repeat(n)  # sigmoid(x) = (1 + tanh(x / 2)) / 2
    rest = jnp.array([0.5, 0.5, 0.0, 0.5], x.dtype).repeat(n)

    def step(state: tuple, z: jax.Array) -> Any:
        h, c = state
        a = jnp.tanh(_plus(z + h @ vt, b) * half) * half + rest
        i, f, g, o = a[:, :n], a[:, n : 2 * n], a[:, 2 * n : 3 * n], a[:, 3 * n :]
        c = f * c + i * g
        h = o * jnp.tanh(c)
        return (h, c), (h, c, a)

    starts = list(zip(_parts(h, v), _parts(c, v), strict=True))
    return _side_by_side(step, starts, [x @ w.T for x in _parts(x, v, 1)], reverse)[1]


def _lstm_value(reverse: bool, *given: Any) -> tuple[jax.Array, jax.Array]:
    return _lstm_states(_lstm_loop(reverse, *given))


def _lstm_states(parts: list[tuple[jax.Array, ...]]) -> tuple[jax.Array, jax.Array]:
    return _whole([hs for hs, _, _ in parts], 1), _whole([cs for _, cs, _ in parts], 1)


_lstm = jax.custom_vjp(_lstm_value, nondiff_argnums=(0,))


def _lstm_forward(reverse: bool, *given: Any) -> tuple:
    given = tuple(None if g is None else g.value for g in given)
    parts = _lstm_loop(reverse, *given)
    return _lstm_states(parts), (parts, given)


def _lstm_backward(reverse: bool, kept: tuple, by: tuple) -> tuple:
    parts, (x, h, c, w, v, b) = kept
    starts, inputs, at = [], [], []
    by = tuple(
        [None] * len(parts) if isinstance(d, SymbolicZero) else _parts(d, v, 1) for d in by
    )  # c: seldom asked for
    given = zip(parts, *by, _parts(x, v, 1), _parts(h, v), _parts(c, v), strict=True)
    for (hs, cs, a), by_h, by_c, x_part, h_start, c_start in given:
        i, f, g, o = jnp.split(a, 4, -1)
        tanh_c = jnp.tanh(cs)
        factors = [g * i * (1 - i), _before(cs, c_start, reverse) * f * (1 - f), i * (1 - g * g), tanh_c * o * (1 - o)]
        at.append((by_h, by_c, jnp.concatenate(factors, -1), o * (1 - tanh_c * tanh_c), f))
        starts.append((jnp.zeros_like(h_start), jnp.zeros_like(c_start)))
        inputs.append([x_part, _before(hs, h_start, reverse)])

    def step(state: tuple, at: tuple) -> Any:
        (dh, dc), (by_h, by_c, factors, by_o, f) = state, at
        dh = _plus(dh, by_h)
        dc = _plus(dc + dh * by_o, by_c)
        dz = jnp.concatenate([dc, dc, dc, dh], -1) * factors
        return (dz @ v, dc * f), dz

    ends, dzs = _side_by_side(step, starts, at, not reverse)
    dh, dc = (_whole(end) for end in zip(*ends, strict=True))
    found = [_by_weights(u, dz, b is not None) for u, dz in zip(inputs, dzs, strict=True)]
    return _whole([dz @ w for dz in dzs], 1), dh, dc, *jax.tree.map(lambda *d: sum(d[1:], d[0]), *found)


_lstm.defvjp(_lstm_forward, _lstm_backward, symbolic_zeros=True)


# -- a large batch in two halves that know nothing of each other: so XLA's threads both have work at every step

_LARGE = 2**22  # products of numbers in a step from which this is faster (bench/recurrent.py)


def _parts(a: jax.Array, v: jax.Array, axis: int = 0) -> list[jax.Array]:
    """The halves of a batch where the product with v is large, else all of it."""
    b = a.shape[axis]
    return jnp.split(a, 2, axis) if b % 2 == 0 and b * v.size >= _LARGE else [a]


def _whole(parts: Sequence[jax.Array], axis: int = 0) -> jax.Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis)


def _side_by_side(step: Callable[..., Any], starts: list[Any], at: list[Any], reverse: bool) -> tuple[Any, Any]:
    """One scan for several states, each with what it meets on its way: their last states, and what they put out."""

    def steps(states: list[Any], at: list[Any]) -> Any:
        done = [step(*each) for each in zip(states, at, strict=True)]
        return [state for state, _ in done], [out for _, out in done]

    return jax.lax.scan(steps, starts, at, reverse=reverse)


# -- the gradients of weights


def _before(states: jax.Array, start: jax.Array, reverse: bool) -> jax.Array:
    """The state each step started from."""
    if reverse:
        return jnp.concatenate([states[1:], start[None]])
    return jnp.concatenate([start[None], states[:-1]])


def _by_weights(inputs: list[jax.Array], dz: jax.Array, bias: bool) -> list[Any]:
    """Gradients of the weights of each input and of the bias, or None, from one product.

    (u' dz)' takes XLA half the time that dz' u does."""
    ones = [jnp.ones((*dz.shape[:2], 1), dz.dtype)] * bias
    u = jnp.concatenate([*inputs, *ones], -1) if len(inputs) + bias > 1 else inputs[0]
    product = u.reshape(-1, u.shape[-1]).T @ dz.reshape(-1, dz.shape[-1])
    found: list[Any] = []
    at = 0
    for some in inputs:
        found.append(product[at : at + some.shape[-1]].T)
        at += some.shape[-1]
    return [*found, product[at] if bias else None]


def _plus(a: jax.Array, b: jax.Array | None) -> jax.Array:
    return a if b is None else a + b


def _sigmoid(x: jax.Array) -> jax.Array:
    """As a tanh: XLA on a CPU divides slowly."""
    return 0.5 * jnp.tanh(0.5 * x) + 0.5
