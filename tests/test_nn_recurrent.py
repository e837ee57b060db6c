"""RNN, LSTM, GRU and their cells against torch; sequences of different lengths; one to many, many to one, many to many."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_against_torch import close, numpy, weights

import derin
from derin import nn
from derin.errors import ModelError, SpecError
from derin.nn import recurrence
from derin.testing import check_layer

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

few = settings(max_examples=4, deadline=None)
size = st.integers(1, 4)
seeds = st.integers(0, 2**31 - 1)
KINDS = ["tanh", "relu", "GRU", "LSTM", "projected"]


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def pair(kind, n, hidden, **fields):
    """The layer and torch's of one kind."""
    if kind in ("tanh", "relu"):
        fields["nonlinearity"] = kind
    if kind == "projected":
        hidden, fields["proj_size"] = hidden + 1, hidden
    name = {"tanh": "RNN", "relu": "RNN", "projected": "LSTM"}.get(kind, kind)
    return getattr(nn, name)(hidden, **fields), getattr(torch.nn, name)(n, hidden, batch_first=True, **fields)


def compare_all(layer, module, x, lengths=None, seed=0, tolerance=1e-5):
    """Names, outputs, final states, and the gradients of weights, inputs and initial states are torch's."""
    params, _ = weights(module)
    made, _ = nn.WithState(layer).init(jax.random.key(0), x)
    assert {n: a.shape for n, a in made.items()} == {n: a.shape for n, a in params.items()}
    sizes = layer._sizes()
    rows = layer.num_layers * (1 + layer.bidirectional)
    start = tuple(normal((rows, len(x), s), seed + i) for i, s in enumerate(sizes))
    pack = start if len(start) > 1 else start[0]

    theirs = [torch.tensor(a, requires_grad=True) for a in (x, *start)]
    hx = tuple(theirs[1:]) if len(start) > 1 else theirs[1]
    if lengths is None:
        y, end = module(theirs[0], hx)
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            theirs[0], torch.tensor(lengths), batch_first=True, enforce_sorted=False
        )
        y, end = module(packed, hx)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])
    outs = [y, *(end if isinstance(end, tuple) else [end])]

    @jax.jit
    def run(params, x, start, lengths):
        def call(params, x, start):
            return nn.WithState(layer).apply(params, {}, x, start, lengths)[0]

        out, pull = jax.vjp(call, params, x, start)
        leaves, structure = jax.tree.flatten(out)
        some = [jnp.asarray(normal(a.shape, seed + 9)) for a in leaves]
        return leaves, pull(jax.tree.unflatten(structure, some))

    ours, (by_params, by_x, by_start) = run(params, x, pack, None if lengths is None else jnp.asarray(lengths))
    for a, b, what in zip(ours, outs, ("outputs", "h", "c"), strict=False):
        close(a, numpy(b), tolerance, what)
    assert len(ours) == len(outs)
    torch.autograd.backward(outs, [torch.tensor(normal(tuple(o.shape), seed + 9)) for o in outs])
    close(by_x, numpy(theirs[0].grad), tolerance, "gradient of the input")
    for a, b in zip(jax.tree.leaves(by_start), theirs[1:], strict=True):
        close(a, numpy(b.grad), tolerance, "gradient of the initial state")
    for name, p in module.named_parameters():
        close(by_params[name], numpy(p.grad), tolerance, f"gradient of {name}")


# -- against torch


@few
@given(st.sampled_from(KINDS), size, size, size, size, st.integers(1, 2), st.booleans(), st.booleans(), seeds)
def test_outputs_states_and_gradients_are_torch_s(kind, b, t, n, hidden, layers, bias, both, seed):
    layer, module = pair(kind, n, hidden, num_layers=layers, bias=bias, bidirectional=both)
    compare_all(layer, module, normal((b, t, n), seed), seed=seed)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_two_layers_both_ways_with_lengths_are_torch_s_packed_sequences(kind):
    layer, module = pair(kind, 3, 4, num_layers=2, bidirectional=True)
    compare_all(layer, module, normal((4, 7, 3)), lengths=[7, 1, 4, 6])


@few
@given(st.sampled_from(KINDS), st.lists(st.integers(1, 6), min_size=1, max_size=5), st.booleans(), seeds)
def test_lengths_are_torch_s_packed_sequences(kind, lengths, both, seed):
    layer, module = pair(kind, 2, 3, bidirectional=both)
    compare_all(layer, module, normal((len(lengths), 6, 2), seed), lengths, seed)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "tanh"])
def test_a_long_and_wide_one_is_torch_s(kind):
    layer, module = pair(kind, 16, 64)
    compare_all(layer, module, normal((8, 50, 16)))


@pytest.mark.parametrize(("batch", "fields"), [(16, {"bidirectional": True}), (16, {"bias": False}), (17, {})])
def test_an_lstm_whose_batch_goes_in_halves_is_torch_s(batch, fields):
    layer, module = pair("LSTM", 3, 256, **fields)
    halves = recurrence._parts(jnp.ones((batch, 256)), jnp.ones((1024, 256)))
    assert [len(h) for h in halves] == ([8, 8] if batch == 16 else [17])
    compare_all(layer, module, normal((batch, 4, 3)))


@few
@given(st.sampled_from(["tanh", "relu", "GRU", "LSTM"]), size, size, size, st.booleans(), seeds)
def test_cells_are_torch_s(kind, b, n, hidden, bias, seed):
    fields = {"bias": bias} | ({"nonlinearity": kind} if kind in ("tanh", "relu") else {})
    name = f"{kind if kind.isupper() else 'RNN'}Cell"
    cell, module = getattr(nn, name)(hidden, **fields), getattr(torch.nn, name)(n, hidden, **fields)
    params, _ = weights(module)
    x = normal((b, n), seed)
    made, _ = cell.init(jax.random.key(0), x)
    assert {n: a.shape for n, a in made.items()} == {n: a.shape for n, a in params.items()}
    states = [normal((b, hidden), seed + i) for i in range(1 + (kind == "LSTM"))]
    theirs = [torch.tensor(a, requires_grad=True) for a in (x, *states)]
    out = module(theirs[0], tuple(theirs[1:]) if kind == "LSTM" else theirs[1])
    outs = out if kind == "LSTM" else (out,)
    some = [normal((b, hidden), seed + 5 + i) for i in range(len(outs))]
    torch.autograd.backward(outs, [torch.tensor(g) for g in some])

    def call(params, x, states):
        out = cell.apply(params, {}, x, tuple(states) if kind == "LSTM" else states[0])[0]
        return out if kind == "LSTM" else (out,)

    ours, pull = jax.vjp(call, params, jnp.asarray(x), [jnp.asarray(s) for s in states])
    by_params, by_x, by_states = pull(tuple(map(jnp.asarray, some)))
    for a, b in zip(ours, outs, strict=True):
        close(a, numpy(b), 1e-5, "state")
    for a, b in zip((by_x, *by_states), theirs, strict=True):
        close(a, numpy(b.grad), 1e-5, "gradient")
    for name, p in module.named_parameters():
        close(by_params[name], numpy(p.grad), 1e-5, f"gradient of {name}")


def test_without_a_state_a_cell_starts_from_zeros(key):
    x = normal((2, 3))
    for cell, zeros in ((nn.GRUCell(4), jnp.zeros((2, 4))), (nn.LSTMCell(4), (jnp.zeros((2, 4)),) * 2)):
        params, _ = cell.init(key, x)
        a, b = cell.apply(params, {}, x)[0], cell.apply(params, {}, x, zeros)[0]
        assert jax.tree.all(jax.tree.map(lambda u, v: bool((u == v).all()), a, b))


@pytest.mark.parametrize("layer", [nn.LSTM(100), nn.GRU(100), nn.RNN(100), nn.LSTMCell(100)], ids=repr)
def test_weights_start_as_torch_s(layer, key):
    x = jnp.ones((1, 30)) if isinstance(layer, nn.LSTMCell) else jnp.ones((1, 2, 30))
    for w in layer.init(key, x)[0].values():
        assert 0.09 < abs(w).max() <= 0.1  # 1 / sqrt(hidden), whatever the fan in
        np.testing.assert_allclose(w.std(), 0.1 / math.sqrt(3), rtol=0.15)


# -- lengths, states, dropout


def test_what_stands_past_a_sequence_s_end_changes_nothing(key):
    x, lengths = normal((3, 6, 2)), jnp.array([6, 2, 3])
    net = nn.WithState(nn.LSTM(4, bidirectional=True))
    params, _ = net.init(key, x)

    @jax.jit
    def run(x):
        return net.apply(params, {}, x, None, lengths)[0]

    past = (np.arange(6)[:, None] >= np.asarray(lengths)[:, None, None])[..., 0][..., None]
    for value in (0.0, 1e30, np.nan):
        other, pull = jax.vjp(run, jnp.where(past, value, x))
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), other, run(x))
        (by_x,) = pull(jax.tree.map(jnp.ones_like, other))
        assert np.isfinite(by_x).all() and (np.asarray(by_x)[np.broadcast_to(past, x.shape)] == 0).all()
    y, _ = run(x)
    assert (np.asarray(y)[np.broadcast_to(past, y.shape)] == 0).all()


def test_a_part_of_a_sequence_goes_on_from_the_state_of_the_part_before(key):
    x = normal((2, 7, 3))
    net = nn.WithState(nn.LSTM(4, num_layers=2))
    params, _ = net.init(key, x)
    (y, end), _ = net.apply(params, {}, x)
    (first, state), _ = net.apply(params, {}, x[:, :3])
    (then, last), _ = net.apply(params, {}, x[:, 3:], state)
    close(jnp.concatenate([first, then], 1), np.asarray(y), 1e-6, "outputs")
    for a, b in zip(last, end, strict=True):
        close(a, np.asarray(b), 1e-6, "state")


def test_the_last_step_is_h_of_the_last_layer_both_ways(key):
    x, lengths = normal((3, 5, 2)), jnp.array([5, 2, 3])
    rnn = nn.GRU(4, num_layers=2, bidirectional=True)
    params, _ = rnn.init(key, x)
    for ends in (None, lengths):
        last, _ = nn.LastStep(rnn).apply(params, {}, x, None, ends)
        (y, h), _ = nn.WithState(rnn).apply(params, {}, x, None, ends)
        at = jnp.full(3, 4) if ends is None else ends - 1
        assert (last == jnp.concatenate([h[2], h[3]], -1)).all()
        assert (last[:, :4] == y[jnp.arange(3), at, :4]).all() and (last[:, 4:] == y[:, 0, 4:]).all()


def test_dropout_stands_between_layers_and_only_in_training(key):
    x = normal((20, 6, 3))
    net = nn.RNN(30, num_layers=2, nonlinearity="relu", dropout=0.25)
    params, _ = net.init(key, x)
    params |= {n: jnp.zeros_like(params[n]) for n in ("weight_hh_l1", "bias_ih_l1", "bias_hh_l1")}
    params["weight_ih_l1"] = jnp.eye(30)  # the second layer shows what it is given
    below = {n: p for n, p in params.items() if n.endswith("l0")}
    h, _ = nn.RNN(30, nonlinearity="relu").apply(below, {}, x)
    assert (net.apply(params, {}, x)[0] == h).all()
    y, _ = net.apply(params, {}, x, train=True, key=key)
    kept = np.asarray(y)[h > 0] > 0
    assert abs(kept.mean() - 0.75) < 0.03
    close(np.asarray(y)[h > 0][kept], np.asarray(h)[h > 0][kept] / 0.75, 1e-6, "scaled")
    one = nn.RNN(30, nonlinearity="relu", dropout=0.25)  # as in torch, nothing comes after the last layer
    assert (one.apply(below, {}, x, train=True, key=key)[0] == h).all()


@pytest.mark.parametrize("kind", KINDS)
def test_large_inputs_and_states_give_finite_values_and_gradients(kind):
    layer, module = pair(kind, 2, 3)
    params, _ = weights(module)
    x = jnp.asarray(normal((2, 3, 2))) * 1e4

    def run(params, x):
        y, end = nn.WithState(layer).apply(params, {}, x)[0]
        return sum(a.sum() for a in jax.tree.leaves((y, end)))

    value, grads = jax.value_and_grad(run, (0, 1))(params, x)
    assert np.isfinite(value) and jax.tree.all(jax.tree.map(lambda g: bool(np.isfinite(g).all()), grads))


# -- S3.20: one to many, many to one, many to many


class Caption(nn.Module):
    """One to many: a vector starts a sequence of answers, each given the one before.   x: [batch, in] -> [batch, time, classes]"""

    classes: int
    steps: int

    def setup(self):
        self.start, self.cell, self.head = nn.Linear(8), nn.GRUCell(8), nn.Linear(self.classes)

    def forward(self, x):
        def step(state, _):
            h, said = state
            h = self.cell(said, h)
            said = nn.softmax(self.head(h))
            return (h, said), said

        nothing = jnp.zeros((len(x), self.classes), x.dtype)
        _, said = self.scan(step, (nn.tanh(self.start(x)), nothing), jnp.arange(self.steps))
        return said.swapaxes(0, 1)


class Translate(nn.Module):
    """Many to many of another length: read all, then write.   x: [batch, time, in] -> [batch, steps, 3]"""

    steps: int

    def setup(self):
        self.encoder, self.decoder, self.head = nn.WithState(nn.LSTM(8)), nn.LSTM(8), nn.Linear(3)

    def forward(self, x):
        _, state = self.encoder(x)
        return self.head(self.decoder(jnp.zeros((len(x), self.steps, 1), x.dtype), state))


def test_one_to_many(key):
    """S3.20: headline -> article."""
    x = normal((2, 5))
    net = Caption(3, 4)
    params, _ = net.init(key, x)
    y, _ = net.apply(params, {}, x)
    assert y.shape == (2, 4, 3)
    cell = torch.nn.GRUCell(3, 8)
    cell.load_state_dict({n[5:]: torch.tensor(np.asarray(p)) for n, p in params.items() if n.startswith("cell.")})
    h = torch.tensor(np.tanh(x @ params["start.weight"].T + params["start.bias"]))
    said = torch.zeros(2, 3)
    for i in range(4):
        h = cell(said, h)
        said = torch.softmax(
            torch.nn.functional.linear(h, *(torch.tensor(np.asarray(params[f"head.{n}"])) for n in ("weight", "bias"))),
            -1,
        )
        close(y[:, i], numpy(said), 1e-5, f"step {i}")


def test_many_to_one(key):
    """S3.20: sentiment. The way from a sequence to one answer stands in a Sequential and loads torch's weights."""
    rnn, head = torch.nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True), torch.nn.Linear(8, 2)
    theirs = torch.nn.ModuleList([rnn, head])
    net = nn.Sequential(nn.LastStep(nn.LSTM(4, num_layers=2, bidirectional=True)), nn.Linear(2))
    params, state = weights(theirs)
    x = normal((5, 6, 3))
    assert {n: p.shape for n, p in net.init(key, x)[0].items()} == {n: p.shape for n, p in params.items()}
    _, (h, _) = rnn(torch.tensor(x))
    close(net.apply(params, state, x)[0], numpy(head(torch.cat([h[-2], h[-1]], -1))), 1e-5, "output")


def test_many_to_many(key):
    """S3.20: an answer for every step; and for a sequence of another length."""
    theirs = torch.nn.ModuleList([torch.nn.GRU(3, 4, batch_first=True), torch.nn.Linear(4, 2)])
    x = normal((5, 6, 3))
    y, _ = nn.Sequential(nn.GRU(4), nn.Linear(2)).apply(*weights(theirs), x)
    close(y, numpy(theirs[1](theirs[0](torch.tensor(x))[0])), 1e-5, "output")

    params, _ = Translate(7).init(key, x)
    assert Translate(7).apply(params, {}, x)[0].shape == (5, 7, 3)
    t = torch.nn.ModuleDict(
        {
            "encoder": torch.nn.LSTM(3, 8, batch_first=True),
            "decoder": torch.nn.LSTM(1, 8, batch_first=True),
            "head": torch.nn.Linear(8, 3),
        }
    )
    y, _ = Translate(7).apply(*weights(t), x)
    close(y, numpy(t["head"](t["decoder"](torch.zeros(5, 7, 1), t["encoder"](torch.tensor(x))[1])[0])), 1e-5, "output")


# -- with the engine


def waves(n, t, seed=0):
    """Slow or fast waves of two channels, and which they are.   -> [n, t, 2], [n]"""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, n)
    at = np.arange(t) * np.where(y, 1.5, 0.5)[:, None] + random.uniform(0, 6, (n, 1))
    return np.stack([np.sin(at), np.cos(at)], -1).astype(np.float32) + 0.1 * random.standard_normal((n, t, 2)), y


def test_fit_on_sequences():
    x, y = waves(200, 12)
    net = nn.Sequential(nn.LastStep(nn.LSTM(8)), nn.Linear(2))
    run = derin.fit(net, (5 + 3 * x, y), epochs=12, batch_size=20, optimizer=derin.optim.Adam(0.02), progress=False)
    assert (run.predict(5 + 3 * x[:50]) == y[:50]).mean() > 0.9


class Padded(nn.Module):
    """Sequences of different lengths: the last feature is 1 for a real step, else 0, at least after standardising."""

    def setup(self):
        self.rnn, self.head = nn.LastStep(nn.GRU(8, bidirectional=True)), nn.Linear(2)

    def forward(self, x):
        lengths = (x[..., -1] >= 0).sum(-1)
        return self.head(self.rnn(x[..., :-1], None, lengths))


def test_fit_on_sequences_of_different_lengths():
    """A column says which steps are there: the lengths travel with X."""
    x, y = waves(200, 12)
    lengths = np.random.default_rng(1).integers(5, 13, 200)
    here = np.arange(12) < lengths[:, None]
    x = np.concatenate([np.where(here[..., None], x, 0), here[..., None]], -1)
    run = derin.fit(Padded(), (x, y), epochs=12, batch_size=20, optimizer=derin.optim.Adam(0.02), progress=False)
    assert (run.predict(x[:50]) == y[:50]).mean() > 0.9


# -- bad input

X = normal((3, 5, 2))


@pytest.mark.parametrize(
    "bad, message",
    [
        (lambda: nn.LSTM(0), "LSTM.hidden_size must be at least 1, got 0"),
        (lambda: nn.GRU(4, num_layers=0), "GRU.num_layers must be at least 1, got 0"),
        (lambda: nn.RNN(4, dropout=1.0), r"RNN.dropout must be in \[0, 1\), got 1.0"),
        (lambda: nn.RNN(4, nonlinearity="sigmoid"), "RNN.nonlinearity must be .*'tanh'.*'relu'.*got 'sigmoid'"),
        (lambda: nn.LSTM(4, proj_size=-1), "LSTM.proj_size must be at least 0, got -1"),
        (lambda: nn.LSTM(4, proj_size=4), "LSTM.proj_size must be smaller than hidden_size=4, got 4"),
        (lambda: nn.GRUCell(0), "GRUCell.hidden_size must be at least 1, got 0"),
        (lambda: nn.LastStep(nn.Linear(2)), "LastStep.layer must be"),
        (lambda: nn.WithState(nn.GRUCell(2)), "WithState.layer must be"),
    ],
)
def test_a_bad_field_is_refused(bad, message):
    with pytest.raises(SpecError, match=message):
        bad()


@pytest.mark.parametrize(
    "layer, inputs, message",
    [
        (nn.LSTM(4), (X[0],), r"LSTM needs a float input \[batch, time, in\], got shape \(5, 2\)|needs an input"),
        (nn.GRU(4), (X.astype(int),), "GRU needs a float input .* got int"),
        (nn.GRU(4), (X[:, :0],), r"GRU needs at least one step of time, got an input of shape \(3, 0, 2\)"),
        (
            nn.GRU(4),
            (X, jnp.zeros((1, 3, 5))),
            r"GRU needs an initial state h of shape \(1, 3, 4\), \[layers .* got \(1, 3, 5\)",
        ),
        (
            nn.LSTM(4, 2),
            (X, jnp.zeros((2, 3, 4))),
            r"LSTM needs an initial state a tuple \(h, c\) of shape .* got \(2, 3, 4\)",
        ),
        (nn.LSTM(4), (X, (jnp.zeros((1, 3, 4)),) * 3), r"got \(1, 3, 4\) and \(1, 3, 4\) and \(1, 3, 4\)"),
        (
            nn.RNN(4),
            (X, None, jnp.array([1, 2])),
            r"lengths that are whole numbers \[batch\], got int32 of shape \(2,\) for a batch of 3",
        ),
        (nn.RNN(4), (X, None, jnp.array([1.0, 2, 3])), r"lengths that are whole numbers \[batch\], got float32"),
        (
            nn.RNN(4),
            (X, None, jnp.array([1, 0, 3])),
            "a sequence of length 0 came; the input has 5 steps, so lengths go from 1 to 5",
        ),
        (nn.RNN(4), (X, None, jnp.array([1, 6, 3])), "a sequence of length 6 came"),
        (nn.LastStep(nn.RNN(4)), (X, None, jnp.array([1, 6, 3])), "RNN: a sequence of length 6 came"),
        (nn.GRUCell(4), (X,), r"GRUCell needs an input \[batch, in\], got shape \(3, 5, 2\)"),
        (
            nn.GRUCell(4),
            (X[0], jnp.zeros((5, 3))),
            r"GRUCell needs a state of shape \(5, 4\), \[batch, hidden\], got \(5, 3\)",
        ),
        (nn.LSTMCell(4), (X[0], jnp.zeros((5, 4))), r"LSTMCell needs a state that is a tuple \(h, c\), got"),
    ],
)
def test_a_bad_input_is_refused_and_the_layer_is_told(layer, inputs, message, key):
    params, state = layer.init(key, X if "Cell" not in type(layer).__name__ else X[0])
    with pytest.raises(ModelError, match=message) as caught:
        layer.apply(params, state, *inputs)
    assert any(type(layer).__name__ in note for note in caught.value.__notes__)


# -- conformance


@pytest.mark.parametrize(
    "layer, x",
    [
        (nn.RNN(3, nonlinearity="relu"), X),
        (nn.LSTM(3, num_layers=2, dropout=0.2), X),
        (nn.LastStep(nn.GRU(3, bidirectional=True)), X),
    ],
    ids=lambda v: repr(v) if isinstance(v, nn.Module) else "",
)
def test_conformance(layer, x):
    check_layer(layer, x)


@pytest.mark.parametrize("layer", [nn.LSTM(3, proj_size=2), nn.RNNCell(3), nn.GRUCell(3), nn.LSTMCell(3)], ids=repr)
def test_conformance_but_for_stacked_models(layer):  # which takes the longest, and the others have shown
    check_layer(layer, X[0] if "Cell" in type(layer).__name__ else X, skip=("vmap",))


def test_conformance_of_a_state():
    check_layer(nn.WithState(nn.GRU(3)), X, skip=("mask", "vmap"))  # a state is not batch first


def test_a_gradient_has_a_gradient():
    """Those of the loops are written by hand, of operations that have their own; the step's formula is the oracle."""
    (x, h, c), (w, v, b) = (
        (normal(s) for s in ((4, 2, 3), (2, 3), (2, 3))),
        (normal(s, 1) for s in ((12, 3), (12, 3), (12,))),
    )

    def by_steps(x, v):
        def step(state, z):
            state = recurrence.lstm_step(z, *state, v)
            return state, state

        return jax.lax.scan(step, (h, c), x @ w.T + b)[1]

    def second(states, which):
        def slope(x, v):
            return (jax.grad(lambda v: (states(x, v)[which] ** 2).sum())(v) ** 2).sum()

        return jax.jit(jax.grad(slope, (0, 1)))(x, v)

    for which in (0, 1):
        fast = second(lambda x, v: recurrence.lstm(x, h, c, w, v, b), which)
        for ours, theirs in zip(fast, second(by_steps, which), strict=True):
            close(ours, np.asarray(theirs), 1e-5, "second derivative")


def test_a_summary_names_the_layer_once_and_counts_its_products():
    found = nn.summary(nn.Sequential(nn.LastStep(nn.LSTM(4)), nn.Linear(2)), jnp.ones((1, 5, 3)))
    assert [(r.path, r.kind, r.parameters) for r in found.rows] == [("0", "LastStep", 4 * 4 * 9), ("1", "Linear", 10)]
    assert found.total.multiply_adds == 5 * 16 * 7 + 8
