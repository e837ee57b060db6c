"""Networks over time: RNN, LSTM and GRU, their cells, and what is taken from them. Concepts S3.20, S3.21.

    Sequential(LSTM(64), Linear(3))                # many to many: an answer for every step
    Sequential(LastStep(LSTM(64)), Linear(3))      # many to one: an answer for the sequence
    y, (h, c) = WithState(LSTM(64))(x)             # in a forward: the outputs and the final state, to go on from

One to many is a cell in `Module.scan`, or a layer that starts from an `initial` state. Weights have torch's names and
layouts; x is [batch, time, in], torch's batch_first=True.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from derin.errors import ModelError, SpecError
from derin.nn.checks import at_least as _at_least
from derin.nn.checks import float_input as _float_input
from derin.nn.checks import share as _share
from derin.nn.init import Uniform
from derin.nn.layers import Dropout
from derin.nn.module import Module
from derin.nn.recurrence import gru, gru_step, lstm, lstm_projected, lstm_step, rnn, rnn_step
from derin.spec import Scalar

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "LastStep", "RNNCell", "WithState"]

State = Any  # h: [layers * directions, batch, out], of an LSTM (h, c)


class _Recurrent(Module):
    """What RNN, LSTM and GRU share: layers, directions, lengths.   x: [batch, time, in] -> [batch, time, out]"""

    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    dropout: Scalar | None = None  # between layers, so one layer has none
    bidirectional: bool = False

    def check(self) -> None:
        _at_least(self, 1, hidden_size=self.hidden_size, num_layers=self.num_layers)
        _share(self, "the share of entries set to zero between layers", dropout=self.dropout)

    def setup(self) -> None:
        self.between = None if self.dropout is None else Dropout(self.dropout)

    def forward(self, x: jax.Array, initial: State = None, lengths: Any = None) -> jax.Array:
        return self._unroll(x, initial, lengths)[0]

    def _unroll(self, x: jax.Array, initial: State, lengths: Any) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """The outputs, batch first, and the final state as a tuple of [layers * directions, batch, size]."""
        _float_input(self, x, "[batch, time, in]", 3, exactly=True)
        b, t, _ = x.shape
        if t == 0:
            raise ModelError(f"{type(self).__name__} needs at least one step of time, got an input of shape {x.shape}.")
        starts = self._starts(initial, b, x.dtype)
        x = x.swapaxes(0, 1)  # [time, batch, in]
        if lengths is not None:
            lengths = _lengths(self, lengths, b, t)
            here = (jnp.arange(t)[:, None] < lengths)[:, :, None]
            x = jnp.where(here, x, 0)
        ends: list[tuple[jax.Array, ...]] = []
        for layer in range(self.num_layers):
            if layer and self.between is not None:
                x = self.between(x)
            sides = []
            for reverse in (False, True)[: 1 + self.bidirectional]:
                start = tuple(s[len(ends)] for s in starts)
                y, end = self._direction(x, start, f"_l{layer}" + "_reverse" * reverse, reverse, lengths)
                sides.append(y if lengths is None else jnp.where(here, y, 0))
                ends.append(end)
            x = jnp.concatenate(sides, -1) if self.bidirectional else sides[0]
        return x.swapaxes(0, 1), tuple(jnp.stack(s) for s in zip(*ends, strict=True))

    def _direction(
        self, x: jax.Array, start: tuple[jax.Array, ...], suffix: str, reverse: bool, lengths: jax.Array | None
    ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """One layer, one way through time.   x: [time, batch, in] -> [time, batch, out] and the final state"""
        if lengths is None:
            states = self._steps(x, start, suffix, reverse)
            return states[0], tuple(s[0 if reverse else -1] for s in states)
        if not reverse:
            states = self._steps(x, start, suffix, False)
            return states[0], _last(states, start, lengths)
        # Backwards from each sequence's own end: turned around, it is a way forwards.
        turn = jnp.arange(len(x))[:, None]
        turn = jnp.where(turn < lengths, lengths - 1 - turn, turn)[:, :, None]
        states = self._steps(jnp.take_along_axis(x, turn, 0), start, suffix, False)
        return jnp.take_along_axis(states[0], turn, 0), _last(states, start, lengths)

    def _starts(self, initial: State, batch: int, dtype: Any) -> tuple[jax.Array, ...]:
        rows = self.num_layers * (1 + self.bidirectional)
        wanted = [(rows, batch, size) for size in self._sizes()]
        if initial is None:
            return tuple(jnp.zeros(shape, dtype) for shape in wanted)
        given = initial if isinstance(initial, tuple) else (initial,)
        if [jnp.shape(s) for s in given] != wanted:
            names = "h" if len(wanted) == 1 else "a tuple (h, c)"
            raise ModelError(
                f"{type(self).__name__} needs an initial state {names} of shape {_listed(wanted)}, "
                f"[layers * directions, batch, size], got {_listed([jnp.shape(s) for s in given])}."
            )
        return tuple(s.astype(dtype) for s in given)

    def _sizes(self) -> tuple[int, ...]:
        """Widths of the arrays of a state."""
        return (self.hidden_size,)

    def _steps(self, x: jax.Array, start: tuple, suffix: str, reverse: bool) -> tuple[jax.Array, ...]:
        """The states of all steps; the first of them is the output."""
        raise NotImplementedError


class RNN(_Recurrent):
    """Elman's network, h' = f(W x + b + V h + c).   x: [batch, time, in] -> [batch, time, out]

    out = hidden_size, twice that with both directions. Called with `initial`, a state to start from, and `lengths`,
    int [batch], for sequences that end before the last step: outputs past the end are 0, and backwards starts at the
    end. Raises ModelError. Elman 1990. S3.20.

    >>> import jax, jax.numpy as jnp
    >>> params, state = RNN(4).init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> {name: w.shape for name, w in params.items()}
    {'weight_ih_l0': (4, 3), 'weight_hh_l0': (4, 4), 'bias_ih_l0': (4,), 'bias_hh_l0': (4,)}
    """

    nonlinearity: Literal["tanh", "relu"] = "tanh"

    def _steps(self, x: jax.Array, start: tuple, suffix: str, reverse: bool) -> tuple[jax.Array, ...]:
        w, v, b, c = _weights(self, x, 1, self.hidden_size, suffix)
        bias = None if b is None else b + c
        return (rnn(x, start[0], w, v, bias, nonlinearity=self.nonlinearity, reverse=reverse),)


class GRU(_Recurrent):
    """Gated recurrent units, two gates.   x: [batch, time, in] -> [batch, time, out]

    out = hidden_size, twice that with both directions. Called with `initial`, a state to start from, and `lengths`,
    int [batch], for sequences that end before the last step: outputs past the end are 0, and backwards starts at the
    end. Raises ModelError. Cho et al. 2014, arXiv:1406.1078; S3.21.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.ones((2, 5, 3))
    >>> net = GRU(4, bidirectional=True)
    >>> net.apply(*net.init(jax.random.key(0), x), x, None, jnp.array([5, 2]))[0].shape  # lengths 5 and 2
    (2, 5, 8)
    """

    def _steps(self, x: jax.Array, start: tuple, suffix: str, reverse: bool) -> tuple[jax.Array, ...]:
        w, v, b, c = _weights(self, x, 3, self.hidden_size, suffix)
        return (gru(x, start[0], w, v, *_gru_biases(b, c), reverse=reverse),)


class LSTM(_Recurrent):
    """Long short-term memory, three gates and a cell.   x: [batch, time, in] -> [batch, time, out]

    out = hidden_size, or proj_size if that is not 0: h is then W_hr h; twice that with both directions. Called with
    `initial`, a state (h, c) to start from, and `lengths`, int [batch], for sequences that end before the last step:
    outputs past the end are 0, and backwards starts at the end. Raises ModelError. Hochreiter & Schmidhuber
    1997; S3.21.

    >>> import jax, jax.numpy as jnp
    >>> params, state = LSTM(4, proj_size=2).init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> {name: w.shape for name, w in params.items() if "weight" in name}
    {'weight_ih_l0': (16, 3), 'weight_hh_l0': (16, 2), 'weight_hr_l0': (2, 4)}
    """

    proj_size: int = 0

    def check(self) -> None:
        super().check()
        _at_least(self, 0, proj_size=self.proj_size)
        if self.proj_size >= self.hidden_size:
            raise SpecError(
                f"LSTM.proj_size must be smaller than hidden_size={self.hidden_size}, got {self.proj_size}. "
                "It is the width of the output; 0 is no projection."
            )

    def _sizes(self) -> tuple[int, ...]:
        return self.proj_size or self.hidden_size, self.hidden_size

    def _steps(self, x: jax.Array, start: tuple, suffix: str, reverse: bool) -> tuple[jax.Array, ...]:
        w, v, b, c = _weights(self, x, 4, self._sizes()[0], suffix)
        h, cell = start
        bias = None if b is None else b + c
        if not self.proj_size:
            return lstm(x, h, cell, w, v, bias, reverse=reverse)
        shape = self.proj_size, self.hidden_size
        project = self.param(f"weight_hr{suffix}", _start(self.hidden_size), shape).astype(x.dtype)
        return lstm_projected(x, h, cell, w, v, bias, project, reverse=reverse)


# -- what is taken from them


class WithState(Module):
    """The outputs and the final state of an RNN, LSTM or GRU.   x: [batch, time, in] -> ...

    A state is h: [layers * directions, batch, out], of an LSTM the tuple (h, c), as torch's; it may be the `initial`
    one of another call. Weights have the names of the layer inside.

    >>> import jax, jax.numpy as jnp
    >>> net, x = WithState(LSTM(4)), jnp.ones((2, 5, 3))
    >>> (y, (h, c)), _ = net.apply(*net.init(jax.random.key(0), x), x)
    >>> y.shape, h.shape
    ((2, 5, 4), (1, 2, 4))
    """

    layer: RNN | LSTM | GRU
    _inline = "layer"

    def forward(self, x: jax.Array, initial: State = None, lengths: Any = None) -> tuple[jax.Array, State]:
        y, end = self.layer._unroll(x, initial, lengths)
        return y, (end if len(end) > 1 else end[0])


class LastStep(Module):
    """What an RNN, LSTM or GRU puts out last: many to one.   x: [batch, time, in] -> [batch, out]

    The last layer's h after the last real step; with both directions, that and the h after the first step, the last
    one of the way backwards. Weights have the names of the layer inside. S3.20.

    >>> import jax, jax.numpy as jnp
    >>> from derin.nn import Linear, Sequential
    >>> params, _ = Sequential(LastStep(GRU(4)), Linear(2)).init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> list(params)
    ['0.weight_ih_l0', '0.weight_hh_l0', '0.bias_ih_l0', '0.bias_hh_l0', '1.weight', '1.bias']
    """

    layer: RNN | LSTM | GRU
    _inline = "layer"

    def forward(self, x: jax.Array, initial: State = None, lengths: Any = None) -> jax.Array:
        h = self.layer._unroll(x, initial, lengths)[1][0]
        return jnp.concatenate([h[-2], h[-1]], -1) if self.layer.bidirectional else h[-1]


# -- one step


class RNNCell(Module):
    """One step of an RNN.   x: [batch, in] -> [batch, hidden_size]

    Called as cell(x, h); without h it starts from zeros. Over time: self.scan(...)."""

    hidden_size: int
    bias: bool = True
    nonlinearity: Literal["tanh", "relu"] = "tanh"

    def check(self) -> None:
        _at_least(self, 1, hidden_size=self.hidden_size)

    def forward(self, x: jax.Array, h: jax.Array | None = None) -> jax.Array:
        h = _cell_state(self, x, h)
        w, v, b, c = _weights(self, x, 1, self.hidden_size)
        return rnn_step(x @ w.T if b is None else x @ w.T + (b + c), h, v, self.nonlinearity)


class GRUCell(Module):
    """One step of a GRU.   x: [batch, in] -> [batch, hidden_size]

    Called as cell(x, h); without h it starts from zeros. Over time: self.scan(...)."""

    hidden_size: int
    bias: bool = True

    def check(self) -> None:
        _at_least(self, 1, hidden_size=self.hidden_size)

    def forward(self, x: jax.Array, h: jax.Array | None = None) -> jax.Array:
        h = _cell_state(self, x, h)
        w, v, b, c = _weights(self, x, 3, self.hidden_size)
        bias, b_n = _gru_biases(b, c)
        return gru_step(x @ w.T if bias is None else x @ w.T + bias, h, v, b_n)


class LSTMCell(Module):
    """One step of an LSTM: the next (h, c).   x: [batch, in] -> [batch, hidden_size], [batch, hidden_size]

    Called as cell(x, (h, c)); without a state it starts from zeros. Over time: self.scan(...)."""

    hidden_size: int
    bias: bool = True

    def check(self) -> None:
        _at_least(self, 1, hidden_size=self.hidden_size)

    def forward(self, x: jax.Array, state: tuple[jax.Array, jax.Array] | None = None) -> tuple[jax.Array, jax.Array]:
        if state is not None and (not isinstance(state, tuple) or len(state) != 2):
            raise ModelError(f"LSTMCell needs a state that is a tuple (h, c), got {type(state).__name__}.")
        h, c = (None, None) if state is None else state
        h, c = _cell_state(self, x, h), _cell_state(self, x, c)
        w, v, b, bias = _weights(self, x, 4, self.hidden_size)
        return lstm_step(x @ w.T if b is None else x @ w.T + (b + bias), h, c, v)


# -- weights, states


def _start(hidden: int) -> Uniform:
    return Uniform(1 / math.sqrt(hidden))


def _weights(layer: Any, x: jax.Array, gates: int, out: int, suffix: str = "") -> tuple[Any, Any, Any, Any]:
    """weight_ih, weight_hh, and the two biases or None, uniform in +-1/sqrt(hidden) as torch's start."""
    init, rows, n, dtype = _start(layer.hidden_size), gates * layer.hidden_size, x.shape[-1], x.dtype
    w = layer.param(f"weight_ih{suffix}", init, (rows, n)).astype(dtype)
    v = layer.param(f"weight_hh{suffix}", init, (rows, out)).astype(dtype)
    if not layer.bias:
        return w, v, None, None
    b = layer.param(f"bias_ih{suffix}", init, (rows,)).astype(dtype)
    c = layer.param(f"bias_hh{suffix}", init, (rows,)).astype(dtype)
    return w, v, b, c


def _gru_biases(b: Any, c: Any) -> tuple[Any, Any]:
    """What is added to the input, and what stands inside the reset gate."""
    if b is None:
        return None, None
    gates = 2 * len(b) // 3
    return b.at[:gates].add(c[:gates]), c[gates:]


def _cell_state(cell: Any, x: jax.Array, h: jax.Array | None) -> jax.Array:
    _float_input(cell, x, "[batch, in]", 2, exactly=True)
    wanted = (len(x), cell.hidden_size)
    if h is None:
        return jnp.zeros(wanted, x.dtype)
    if jnp.shape(h) != wanted:
        raise ModelError(f"{type(cell).__name__} needs a state of shape {wanted}, [batch, hidden], got {jnp.shape(h)}.")
    return h.astype(x.dtype)


def _lengths(layer: Module, lengths: Any, batch: int, time: int) -> jax.Array:
    """int [batch], each from 1 to `time`; values that are traced are not looked at."""
    kind = type(layer).__name__
    if not isinstance(lengths, jax.core.Tracer):
        lengths = np.asarray(lengths)  # inside a program, jax would make a part of it of the checks
    if lengths.shape != (batch,) or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ModelError(
            f"{kind} needs lengths that are whole numbers [batch], got {lengths.dtype} of shape {lengths.shape} "
            f"for a batch of {batch}."
        )
    if isinstance(lengths, np.ndarray):
        low, high = int(lengths.min(initial=time)), int(lengths.max(initial=1))
        if low < 1 or high > time:
            raise ModelError(
                f"{kind}: a sequence of length {low if low < 1 else high} came; the input has {time} steps, so lengths "
                f"go from 1 to {time}. Leave empty sequences out."
            )
    return jnp.asarray(lengths)


def _last(states: tuple[jax.Array, ...], start: tuple[jax.Array, ...], lengths: jax.Array) -> tuple[jax.Array, ...]:
    """The state after each sequence's last step.   [time, batch, size] -> [batch, size]"""
    at = jnp.clip(lengths - 1, 0)[None, :, None]
    return tuple(
        jnp.where(lengths[:, None] > 0, jnp.take_along_axis(s, at, 0)[0], s0)
        for s, s0 in zip(states, start, strict=True)
    )


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(map(str, shapes))
