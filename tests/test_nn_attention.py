"""Attention and the Transformer's layers against torch, with every kind of mask; positions; messages; conformance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_against_torch import close, numpy

from derin import nn, spec
from derin.errors import ModelError, SpecError
from derin.testing import check_layer

few = settings(max_examples=5, deadline=None)
seeds = st.integers(0, 2**31 - 1)
torch.set_num_threads(1)


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def with_gradients(layer, params, inputs, masks, g):
    y, pull = jax.vjp(lambda p, xs: layer.apply(p, {}, *xs, *masks)[0], params, inputs)
    return y, *pull(g)


def same(layer, module, inputs, masks=(), tolerance=2e-5, **theirs):
    """Layer and module agree on values and on the gradients of weights and inputs.   masks: derin's, in its order"""
    module.eval().zero_grad()
    with torch.no_grad():
        for p in module.parameters():
            p.uniform_(-0.5, 0.5)
    params = {n: jnp.asarray(numpy(p)) for n, p in module.named_parameters()}
    made = layer.init(jax.random.key(0), *inputs)[0]
    assert {n: a.shape for n, a in made.items()} == {n: a.shape for n, a in params.items()}
    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    out = module(*tensors, **{n: torch.tensor(m) for n, m in theirs.items() if m is not None})
    out = out[0] if isinstance(out, tuple) else out
    g = normal(out.shape)
    out.backward(torch.tensor(g))
    y, by_params, by_inputs = with_gradients(layer, params, tuple(map(jnp.asarray, inputs)), masks, g)
    close(y, numpy(out), tolerance, "output")
    for i, (a, b) in enumerate(zip(by_inputs, tensors, strict=True)):
        close(a, numpy(b.grad), tolerance, f"gradient of input {i}")
    for name, p in module.named_parameters():
        close(by_params[name], numpy(p.grad), tolerance, f"gradient of {name}")


def blocked(shape, seed):
    """A random mask that leaves every place at least one to look at."""
    mask = np.random.default_rng(seed).random(shape) < 0.4
    mask[..., 0] = False
    return mask


# -- attention


@few
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.booleans(), seeds)
def test_self_attention(batch, time, heads, each, bias, seed):
    class OnItself(torch.nn.MultiheadAttention):
        def forward(self, x):
            return super().forward(x, x, x)

    module = OnItself(heads * each, heads, bias=bias, batch_first=True)
    same(nn.MultiheadAttention(heads * each, heads, bias=bias), module, (normal((batch, time, heads * each), seed),))


@few
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), seeds)
def test_attention_to_keys_and_values_of_other_widths(batch, time, places, kdim, vdim, seed):
    module = torch.nn.MultiheadAttention(4, 2, kdim=kdim, vdim=vdim, batch_first=True)
    inputs = (
        normal((batch, time, 4), seed),
        normal((batch, places, kdim), seed + 1),
        normal((batch, places, vdim), seed + 2),
    )
    same(nn.MultiheadAttention(4, 2), module, inputs)


@few
@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.sampled_from(["bool", "float"]), st.booleans(), seeds
)
def test_attention_masks(batch, time, places, kind, for_each_head, seed):
    module = torch.nn.MultiheadAttention(6, 3, batch_first=True)
    shape = (batch * 3, time, places) if for_each_head else (time, places)
    attn, padding = blocked(shape, seed), blocked((batch, places), seed + 1)
    if kind == "float":
        attn = np.where(attn, -np.inf, normal(shape, seed)).astype(np.float32)
        padding = np.where(padding, -np.inf, 0).astype(np.float32)
    inputs = normal((batch, time, 6), seed), normal((batch, places, 6), seed + 1), normal((batch, places, 6), seed + 2)
    same(nn.MultiheadAttention(6, 3), module, inputs, (attn, padding), attn_mask=attn, key_padding_mask=padding)


def test_causal_is_the_mask_of_what_comes_later():
    x = normal((2, 5, 6))
    later = np.triu(np.ones((5, 5), bool), 1)
    module = torch.nn.MultiheadAttention(6, 2, batch_first=True)
    same(nn.MultiheadAttention(6, 2, causal=True), module, (x, x + 0, x + 0), attn_mask=later)
    net = nn.MultiheadAttention(6, 2, causal=True)
    params, _ = net.init(jax.random.key(0), x)
    changed = x.copy()
    changed[:, 3:] += 1
    a, b = (net.apply(params, {}, v)[0] for v in (x, changed))
    np.testing.assert_array_equal(a[:, :3], b[:, :3])
    assert (a[:, 3:] != b[:, 3:]).any()


def test_a_place_that_may_look_at_nothing_gets_zeros_and_a_finite_gradient():
    net, x = nn.MultiheadAttention(4, 2), normal((2, 3, 4))
    params, _ = net.init(jax.random.key(0), x)
    padding = np.array([[True] * 3, [False] * 3])
    for mask in (padding, np.where(padding, -np.inf, 0).astype(np.float32)):
        y, by_params, by_x = with_gradients(net, params, (x,), (None, None, None, mask), normal(x.shape))
        assert (y[0] == 0).all() and (y[1] != 0).all()
        assert all(np.isfinite(g).all() for g in jax.tree.leaves((by_params, by_x)))


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_huge_scores_are_finite(size):
    net, x = nn.MultiheadAttention(4, 2, causal=True), np.full((2, 3, 4), size, np.float32)
    params, _ = net.init(jax.random.key(0), x)
    for a in jax.tree.leaves(with_gradients(net, params, (x,), (), normal(x.shape))):
        assert np.isfinite(a).all()


def test_the_weights_of_attention_can_be_looked_at():
    net, x = nn.Sequential(nn.MultiheadAttention(6, 3)), normal((2, 4, 6))
    params, state = net.init(jax.random.key(0), x)
    weights = nn.activations(net, params, state, x)["0.weights"]
    module = torch.nn.MultiheadAttention(6, 3, batch_first=True)
    module.load_state_dict({n[2:]: torch.tensor(np.array(p)) for n, p in params.items()})
    t = torch.tensor(x)
    close(weights, numpy(module(t, t, t, average_attn_weights=False)[1]), 1e-5, "weights")


def test_attention_starts_as_torch_s(key):
    params, _ = nn.MultiheadAttention(200, 4).init(key, jnp.ones((1, 2, 200)))
    assert (params["in_proj_bias"] == 0).all() and (params["out_proj.bias"] == 0).all()
    for name, bound in (("in_proj_weight", (6 / 800) ** 0.5), ("out_proj.weight", 200**-0.5)):
        assert abs(params[name]).max() <= bound and abs(params[name].std() * 3**0.5 / bound - 1) < 0.02


def test_dropout_is_of_the_weights_and_in_training_only(key):
    net, x = nn.MultiheadAttention(4, 1, dropout=0.5), normal((2, 6, 4))
    params, state = net.init(key, x)
    params["out_proj.weight"] = jnp.eye(4)
    a, b = (net.apply(params, state, x, train=True, key=jax.random.key(i))[0] for i in range(2))
    assert (a != b).any()
    plain = nn.MultiheadAttention(4, 1)
    np.testing.assert_array_equal(net.apply(params, state, x)[0], plain.apply(params, state, x)[0])
    np.testing.assert_array_equal(plain.apply(params, state, x, train=True)[0], plain.apply(params, state, x)[0])


# -- the Transformer


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation, bias", [("relu", True), ("gelu", False)])
def test_encoder_layer(norm_first, activation, bias):
    fields = {"activation": activation, "norm_first": norm_first, "bias": bias, "layer_norm_eps": 1e-3}
    module = torch.nn.TransformerEncoderLayer(6, 2, 5, batch_first=True, **fields)
    layer, x = nn.TransformerEncoderLayer(6, 2, 5, **fields), normal((2, 4, 6))
    same(layer, module, (x,), tolerance=5e-5)
    mask, padding = blocked((4, 4), 1), blocked((2, 4), 2)
    same(layer, module, (x,), (mask, padding), 5e-5, src_mask=mask, src_key_padding_mask=padding)


@pytest.mark.parametrize("norm_first", [False, True])
def test_decoder_layer(norm_first):
    module = torch.nn.TransformerDecoderLayer(6, 2, 5, batch_first=True, norm_first=norm_first)
    layer = nn.TransformerDecoderLayer(6, 2, 5, norm_first=norm_first)
    inputs = normal((2, 4, 6)), normal((2, 3, 6), 1)
    names = ("tgt_mask", "memory_mask", "tgt_key_padding_mask", "memory_key_padding_mask")
    masks = [blocked(shape, i) for i, shape in enumerate([(4, 4), (4, 3), (2, 4), (2, 3)])]
    same(layer, module, inputs, tuple(masks), 5e-5, **dict(zip(names, masks, strict=True)))
    causal = layer.replace(causal=True)
    same(causal, module, inputs, (), 5e-5, tgt_mask=np.triu(np.ones((4, 4), bool), 1))


def test_encoder_and_decoder_stacks():
    layer = torch.nn.TransformerEncoderLayer(4, 2, 5, batch_first=True)
    module = torch.nn.TransformerEncoder(layer, 2, torch.nn.LayerNorm(4), enable_nested_tensor=False)
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 5), 2, nn.LayerNorm())
    x, padding = normal((2, 3, 4)), blocked((2, 3), 1)
    same(net, module, (x,), (None, padding), 1e-4, src_key_padding_mask=padding)
    layer = torch.nn.TransformerDecoderLayer(4, 2, 5, batch_first=True)
    net = nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 5), 2)
    same(net, torch.nn.TransformerDecoder(layer, 2), (x, normal((2, 5, 4))), (), 1e-4)


def test_layers_of_a_stack_start_apart_and_a_new_rate_compiles_nothing(key):
    x = normal((2, 3, 4))
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 5), 2)
    params, state = net.init(key, x)
    assert (params["layers.0.linear1.weight"] != params["layers.1.linear1.weight"]).any()
    traces = []

    @jax.jit
    def call(net):
        traces.append(1)
        return net.apply(params, state, x, train=True, key=key)[0]

    outs = [call(spec.set(net, "encoder_layer.dropout", rate)) for rate in (0.1, 0.5)]
    assert len(traces) == 1 and (outs[0] != outs[1]).any()


def test_a_causal_model_of_characters_is_a_sequential(key):
    block = nn.TransformerEncoderLayer(8, 2, 16, causal=True, norm_first=True)
    net = nn.Sequential(
        nn.Embedding(5, 8), nn.LearnedPositions(6), nn.TransformerEncoder(block, 2, nn.LayerNorm()), nn.Linear(5)
    )
    codes = np.random.default_rng(0).integers(0, 5, (3, 6)).astype(np.int32)
    params, state = net.init(key, codes)
    by_input = jax.jacobian(lambda p: net.apply(p, state, codes)[0][0, 2].sum())(params)["1.weight"]
    assert (by_input[3:] == 0).all() and (by_input[:3] != 0).all()
    assert spec.from_json(spec.to_json(net)) == net


# -- positions


def test_sinusoidal_positions_are_the_paper_s():
    """PE(p, 2i) = sin(p / 10000^(2i/d)), PE(p, 2i+1) = cos of the same; also for an odd d."""
    for d in (6, 7):
        y = nn.SinusoidalPositions().apply({}, {}, jnp.zeros((2, 9, d)))[0]
        for p in range(9):
            for j in range(d):
                angle = p / 10_000 ** ((j - j % 2) / d)
                assert abs(y[1, p, j] - (np.cos(angle) if j % 2 else np.sin(angle))) < 1e-6


def test_learned_positions_are_the_first_rows(key):
    layer, x = nn.LearnedPositions(7), normal((2, 4, 3))
    params, _ = layer.init(key, x)
    assert params["weight"].shape == (7, 3)
    np.testing.assert_allclose(layer.apply(params, {}, x)[0], x + params["weight"][:4], rtol=1e-6)
    with pytest.raises(ModelError, match=r"LearnedPositions has 7 places, the input \(2, 8, 3\) has 8"):
        layer.apply(params, {}, normal((2, 8, 3)))


# -- messages


@pytest.mark.parametrize(
    "bad, message",
    [
        (lambda: nn.MultiheadAttention(6, 4), "4 heads do not divide embed_dim=6: each head takes an equal part"),
        (lambda: nn.MultiheadAttention(6, 0), "num_heads must be at least 1, got 0"),
        (lambda: nn.MultiheadAttention(6, 2, dropout=1.0), r"MultiheadAttention.dropout must be in \[0, 1\), got 1.0"),
        (lambda: nn.TransformerEncoderLayer(6, 4), "TransformerEncoderLayer: 4 heads do not divide d_model=6"),
        (lambda: nn.TransformerDecoderLayer(6, 2, 0), "TransformerDecoderLayer.dim_feedforward must be at least 1"),
        (lambda: nn.TransformerEncoderLayer(6, 2, dropout=-0.1), "TransformerEncoderLayer.dropout must be in"),
        (lambda: nn.TransformerEncoderLayer(6, 2, activation="rleu"), "no function is called 'rleu'. Nearest: relu"),
        (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2), 0), "num_layers must be at least 1"),
        (lambda: nn.TransformerEncoder(nn.Linear(6), 2), "encoder_layer must be a TransformerEncoderLayer, got Linear"),
        (lambda: nn.LearnedPositions(0), "LearnedPositions.count must be at least 1"),
    ],
)
def test_a_bad_field_is_refused(bad, message):
    with pytest.raises(SpecError, match=message):
        bad()


X = jnp.ones((2, 3, 6))


@pytest.mark.parametrize(
    "inputs, message",
    [
        ((X[..., :5],), r"has embed_dim=6, the query \(2, 3, 5\) has 5 features"),
        ((X[0],), r"MultiheadAttention needs an input .batch, time, features., got shape \(3, 6\)"),
        ((X.astype(int),), "MultiheadAttention needs a float input"),
        ((X, X[:1]), "a value for each key, and both for each row of the query; got query"),
        ((X, X, X[:, :2]), "a value for each key"),
        ((X, X, X, jnp.zeros((3, 2), bool)), r"attn_mask must be .* \(3, 3\), or .* \(4, 3, 3\); got shape \(3, 2\)"),
        ((X, X, X, jnp.zeros((3, 3), int)), "attn_mask must be of bools .* got int32"),
        ((X, X, X, None, jnp.zeros((3, 3), bool)), r"key_padding_mask must be .* \(2, 3\); got shape \(3, 3\)"),
    ],
)
def test_a_bad_input_is_refused(inputs, message, key):
    with pytest.raises(ModelError, match=message):
        nn.MultiheadAttention(6, 2).init(key, *inputs)


def test_a_decoder_needs_two_inputs(key):
    layer = nn.TransformerDecoderLayer(6, 2, 4)
    with pytest.raises(ModelError, match=r"TransformerDecoderLayer needs two inputs, .*; got one, \(2, 3, 6\)"):
        layer.init(key, X)
    assert layer.init(key, (X, X))[0].keys() == layer.init(key, X, X)[0].keys()


# -- conformance


@pytest.mark.parametrize(
    "layer, inputs",
    [
        (nn.MultiheadAttention(4, 2, dropout=0.2, causal=True), (normal((3, 3, 4)),)),
        (nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6), 1, nn.LayerNorm()), (normal((3, 3, 4)),)),
        (nn.TransformerDecoderLayer(4, 2, 6, norm_first=True), (normal((3, 3, 4)), normal((3, 2, 4)))),
        (nn.SinusoidalPositions(), (normal((3, 3, 4)),)),
        (nn.LearnedPositions(5), (normal((3, 3, 4)),)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_conformance(layer, inputs):
    check_layer(layer, *inputs)
