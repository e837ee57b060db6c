"""Layers made of layers: values, names, one set of weights in two places, files; options of Embedding, Bilinear."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from nn_against_torch import close, compare, numpy

from derin import nn, optim, spec
from derin.errors import ModelError, SpecError
from derin.testing import check_layer

torch.set_num_threads(1)


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# -- residual, branches


def test_residual_adds_what_went_in(key):
    net, x = nn.Residual(nn.Linear(5), nn.Tanh(), nn.Linear(4)), normal((3, 4))
    params, state = net.init(key, x)
    body = nn.Sequential(*net.layers)
    np.testing.assert_allclose(net.apply(params, state, x)[0], x + body.apply(params, state, x)[0], rtol=1e-6)
    assert [*params] == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_a_residual_way_around_can_have_a_layer(key):
    net = nn.Sequential(nn.Branches(nn.Sequential(nn.Linear(5), nn.ReLU()), nn.Linear(5, bias=False)), nn.Join("sum"))
    x = normal((3, 4))
    params, state = net.init(key, x)
    assert [*params] == ["0.0.0.weight", "0.0.0.bias", "0.1.weight"]
    y = np.maximum(x @ params["0.0.0.weight"].T + params["0.0.0.bias"], 0) + x @ params["0.1.weight"].T
    close(net.apply(params, state, x)[0], np.asarray(y), 1e-5, "output")


def test_several_inputs_and_several_outputs(key):
    net, a, b = nn.Branches(nn.Linear(2), nn.Sequential(nn.Linear(3), nn.ReLU())), normal((4, 5)), normal((4, 6), 1)
    params, state = net.init(key, a, b)
    ya, yb = net.apply(params, state, a, b)[0]
    assert ya.shape == (4, 2) and yb.shape == (4, 3)
    as_pair = net.apply(params, state, (a, b))[0]
    np.testing.assert_array_equal(as_pair[1], yb)
    close(ya, np.asarray(a @ params["0.weight"].T + params["0.bias"]), 1e-5, "first")


def test_one_table_can_feed_several_towers(key):
    net = nn.Sequential(nn.Split(2, 3), nn.Branches(nn.Linear(4), nn.Linear(4)), nn.Join("product"), nn.Linear(1))
    x = normal((6, 5))
    params, state = net.init(key, x)
    assert params["1.0.weight"].shape == (4, 2) and params["1.1.weight"].shape == (4, 3)
    assert net.apply(params, state, x)[0].shape == (6, 1)


@pytest.mark.parametrize(
    "how, right", [("sum", 6.0), ("product", 6.0), ("mean", 2.0), ("concatenate", [1.0, 2.0, 3.0])]
)
def test_join(how, right):
    arrays = tuple(jnp.full((2, 1), v) for v in (1.0, 2.0, 3.0))
    for given in (arrays, (arrays,)):
        np.testing.assert_array_equal(nn.Join(how).apply({}, {}, *given)[0][0], np.broadcast_to(right, np.size(right)))
    assert nn.Join(axis=0).apply({}, {}, arrays)[0].shape == (6, 1)


# -- shared


def test_one_layer_in_two_places_has_one_set_of_weights_and_the_sum_of_the_gradients(key):
    net, x = nn.Sequential(nn.Shared("a", nn.Linear(3)), nn.Tanh(), nn.Shared("a", nn.Linear(3))), normal((5, 3))
    params, state = net.init(key, x)
    assert {n: p.shape for n, p in params.items()} == {"shared.a.weight": (3, 3), "shared.a.bias": (3,)}
    one = torch.nn.Linear(3, 3)
    one.load_state_dict({n[9:]: torch.tensor(np.array(p)) for n, p in params.items()})
    out = one(torch.tanh(one(torch.tensor(x))))
    out.sum().backward()
    close(net.apply(params, state, x)[0], numpy(out), 1e-5, "output")
    grads = jax.grad(lambda p: net.apply(p, state, x)[0].sum())(params)
    close(grads["shared.a.weight"], numpy(one.weight.grad), 1e-4, "gradient")


def test_words_are_read_off_with_the_table_they_were_read_in_with(key):
    net = nn.Sequential(nn.Shared("word", nn.Embedding(7, 4)), nn.Shared("word", nn.Linear(7, bias=False)))
    codes = np.array([[1, 2], [6, 0]])
    params, state = net.init(key, codes)
    w = params["shared.word.weight"]
    assert len(params) == 1 and abs(w.std() - 1) < 0.5  # the first place says how they start
    close(net.apply(params, state, codes)[0], np.asarray(w[codes] @ w.T), 1e-5, "output")


def test_twins_keep_one_running_state(key):
    net = nn.Branches(nn.Shared("t", nn.BatchNorm()), nn.Shared("t", nn.BatchNorm()))
    x = normal((8, 2)) + 3
    params, state = net.init(key, x)
    _, after = net.apply(params, state, x, train=True)
    assert [*after] == ["shared.t.running_mean", "shared.t.running_var"]
    close(after["shared.t.running_mean"], x.mean(0) * (1 - 0.9**2), 1e-5, "two batches")
    assert spec.from_json(spec.to_json(net)) == net
    table = nn.summary(net, jnp.ones((1, 2)))
    assert [(r.path, r.kind, r.parameters) for r in table.rows if r.parameters] == [("shared.t", "BatchNorm", 4)]


# -- embedding


def test_the_padding_row_starts_at_zero_and_gets_no_gradient(key):
    codes = np.array([[0, 3, 3], [1, 3, 4]])
    for padding in (3, -2):
        layer = nn.Embedding(5, 2, padding_idx=padding)
        params, _ = layer.init(key, codes)
        assert (params["weight"][3] == 0).all() and (params["weight"][:3] != 0).all()
        compare(layer, torch.nn.Embedding(5, 2, padding_idx=padding), codes)


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, float("inf")])
def test_max_norm_gives_torch_s_rows_and_gradients(norm_type):
    module = torch.nn.Embedding(6, 3, max_norm=1.2, norm_type=norm_type)
    table = np.array(numpy(module.weight)) * 2
    module.weight.data = torch.tensor(table)
    codes, g = np.array([[0, 1], [4, 1]]), normal((2, 2, 3))
    out = module(torch.tensor(codes))
    out.backward(torch.tensor(g))
    layer = nn.Embedding(6, 3, max_norm=1.2, norm_type=norm_type)
    y, pull = jax.vjp(lambda p: layer.apply(p, {}, codes)[0], {"weight": jnp.asarray(table)})
    close(y, numpy(out), 1e-6, "rows")
    close(pull(jnp.asarray(g))[0]["weight"], numpy(module.weight.grad), 1e-6, "gradient")
    zero = {"weight": jnp.zeros((6, 3))}
    assert np.isfinite(jax.grad(lambda p: layer.apply(p, {}, codes)[0].sum())(zero)["weight"]).all()


def test_a_frozen_table_is_no_parameter_so_that_no_decay_can_move_it(key):
    vectors, codes = normal((5, 3)), np.array([[0, 1], [4, 1]])
    net = nn.Sequential(nn.Embedding.from_pretrained(vectors), nn.Flatten(), nn.Linear(2))
    params, state = net.init(key, codes)
    assert [*params] == ["2.weight", "2.bias"] and [*state] == ["0.weight"]
    np.testing.assert_array_equal(net.apply(params, state, codes)[1]["0.weight"], vectors)
    free = nn.Embedding.from_pretrained(vectors, freeze=False, padding_idx=0)
    params, state = free.init(key, codes)
    np.testing.assert_array_equal(params["weight"], vectors)  # torch does not zero a given row either
    assert state == {}
    adamw = optim.AdamW(weight_decay=0.5)
    updates, _ = adamw.update({"weight": jnp.zeros((5, 3))}, adamw.init(params), params, 0.1)
    assert (updates["weight"] != 0).all()  # which is why a frozen one must not be among them
    again = spec.from_json(spec.to_json(net))
    np.testing.assert_array_equal(again.init(key, codes)[1]["0.weight"], vectors)


def test_bilinear_is_torch_s():
    module = torch.nn.Bilinear(3, 4, 2)
    a, b = normal((5, 3)), normal((5, 4), 1)
    params = {n: jnp.asarray(numpy(p)) for n, p in module.named_parameters()}
    layer = nn.Bilinear(2)
    made = layer.init(jax.random.key(0), a, b)[0]
    assert {n: p.shape for n, p in made.items()} == {n: p.shape for n, p in params.items()}
    assert abs(made["weight"]).max() <= 3**-0.5
    ta, tb = (torch.tensor(v, requires_grad=True) for v in (a, b))
    out, g = module(ta, tb), normal((5, 2), 2)
    out.backward(torch.tensor(g))
    y, pull = jax.vjp(lambda p, a, b: layer.apply(p, {}, a, b)[0], params, jnp.asarray(a), jnp.asarray(b))
    by_params, by_a, by_b = pull(jnp.asarray(g))
    close(y, numpy(out), 1e-5, "output")
    for ours, theirs in ((by_a, ta.grad), (by_b, tb.grad), (by_params["weight"], module.weight.grad)):
        close(ours, numpy(theirs), 1e-5, "gradient")
    np.testing.assert_array_equal(layer.apply(params, {}, (a, b))[0], y)


# -- alpha dropout


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_alpha_dropout_keeps_mean_and_variance(rate, key):
    x = jnp.asarray(normal((400, 300)))
    y, _ = nn.AlphaDropout(rate).apply({}, {}, x, train=True, key=key)
    assert abs(y.mean()) < 0.02 and abs(y.std() - 1) < 0.02
    module = torch.nn.AlphaDropout(rate).train()
    theirs = numpy(module(torch.zeros(100_000)))  # what a kept and a dropped zero become
    ours = np.asarray(nn.AlphaDropout(rate).apply({}, {}, jnp.zeros(100_000), train=True, key=key)[0])
    np.testing.assert_allclose(np.unique(ours), np.unique(theirs), rtol=1e-5)
    assert abs((ours == ours.min()).mean() - rate) < 0.01
    np.testing.assert_array_equal(nn.AlphaDropout(rate).apply({}, {}, x)[0], x)


def test_alpha_dropout_of_whole_channels(key):
    y = np.asarray(
        nn.AlphaDropout(0.5, whole_channels=True).apply({}, {}, jnp.zeros((8, 5, 5, 6)), train=True, key=key)[0]
    )
    assert (y == y[:, :1, :1]).all() and len(np.unique(y)) == 2


# -- messages, conformance


@pytest.mark.parametrize(
    "bad, message",
    [
        (lambda: nn.Residual(nn.Linear), "Residual: layer 0, Linear is a class; write Linear"),
        (lambda: nn.Branches(), "Branches needs at least one layer"),
        (lambda: nn.Branches(3), "Branches: layer 0 is 3, a int, not a layer or a function"),
        (lambda: nn.Join("add"), "Join.how must be one of 'concatenate', 'sum', 'product', 'mean', got 'add'"),
        (lambda: nn.Split(2, 0), r"Split.sizes must be at least 1, got \(2, 0\)"),
        (lambda: nn.Shared("a.b", nn.Linear(2)), "Shared.name must be a name of letters, digits and _, got 'a.b'"),
        (lambda: nn.Bilinear(0), "Bilinear.features must be at least 1"),
        (lambda: nn.AlphaDropout(1.0), r"AlphaDropout.rate must be in \[0, 1\), got 1.0"),
        (lambda: nn.Embedding(5, 2, padding_idx=5), "padding_idx must be one of the 5 codes, 0 to 4, got 5"),
        (lambda: nn.Embedding(5, 2, max_norm=0.0), "Embedding.max_norm must be above 0, got 0.0"),
        (lambda: nn.Embedding.from_pretrained(np.ones(3)), r"needs vectors \[count, features\], got shape \(3,\)"),
    ],
)
def test_a_bad_field_is_refused(bad, message):
    with pytest.raises(SpecError, match=message):
        bad()


X = jnp.ones((2, 3))


@pytest.mark.parametrize(
    "layer, inputs, message",
    [
        (nn.Residual(nn.Linear(4)), (X,), r"turned \(2, 3\) into \(2, 4\); they must keep the shape"),
        (nn.Branches(nn.ReLU(), nn.ReLU()), (X, X, X), r"Branches has 2 layers, 3 inputs came: \(2, 3\), \(2, 3\)"),
        (nn.Join(), (X, X[:1]), r"needs arrays of the same shape except along axis -1, got \(2, 3\), \(1, 3\)"),
        (nn.Join("sum"), (X, X[:1]), r"Join\('sum'\) needs arrays of one shape"),
        (nn.Join(axis=2), (X, X), "there is no axis 2 in the shapes"),
        (nn.Split(2, 2), (X,), r"the sizes \(2, 2\) add up to 4, the input \(2, 3\)"),
        (nn.Bilinear(2), (X,), r"Bilinear needs two inputs .* got one of shape \(2, 3\)"),
        (nn.Bilinear(2), (X, X[:1]), r"differ in the last axis only, got \(2, 3\) and \(1, 3\)"),
        (
            nn.Embedding(3, 2, weight_init=nn.Given(np.ones((2, 2)))),
            (jnp.array([1]),),
            r"given values have shape \(2, 2\)",
        ),
        (
            nn.Sequential(nn.Shared("a", nn.Linear(2)), nn.Shared("a", nn.Linear(2))),
            (X,),
            r"'shared.a.weight' is shared by two calls that need different shapes: \(2, 3\) and \(2, 2\)",
        ),
    ],
)
def test_a_bad_input_is_refused(layer, inputs, message, key):
    with pytest.raises(ModelError, match=message):
        layer.init(key, *inputs)


@pytest.mark.parametrize(
    "layer, inputs",
    [
        (nn.Residual(nn.Linear(3), nn.Dropout(0.1)), (normal((4, 3)),)),
        (nn.Sequential(nn.Branches(nn.Linear(3), nn.BatchNorm()), nn.Join()), (normal((4, 3)),)),
        (nn.Sequential(nn.Shared("a", nn.Linear(3)), nn.Shared("a", nn.Linear(3))), (normal((4, 3)),)),
        (nn.Bilinear(2), (normal((4, 3)), normal((4, 2)))),
        (nn.Embedding(5, 3, padding_idx=1, max_norm=1.0), (np.array([[1, 2], [0, 4]]),)),
        (nn.Embedding.from_pretrained(normal((5, 3))), (np.array([[1, 2], [0, 4]]),)),
        (nn.AlphaDropout(0.3), (normal((4, 3)),)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_conformance(layer, inputs):
    check_layer(layer, *inputs)
