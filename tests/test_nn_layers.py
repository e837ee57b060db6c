"""Every layer against torch on random shapes, its messages, and the conformance suite."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_against_torch import close, compare, maps, numpy, weights

from derin import nn, spec
from derin.errors import ModelError, SpecError
from derin.testing import check_layer

few = settings(max_examples=12, deadline=None)
size = st.integers(1, 7)
seeds = st.integers(0, 2**31 - 1)


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# -- against torch


@few
@given(st.lists(size, min_size=1, max_size=2), size, size, st.booleans(), seeds)
def test_linear(lead, d, features, bias, seed):
    layer, module = nn.Linear(features, bias=bias), torch.nn.Linear(d, features, bias=bias)
    compare(layer, module, normal((*lead, d), seed))


@few
@given(st.integers(2, 6), st.lists(size, max_size=2), size, st.booleans(), st.booleans(), seeds)
def test_batch_norm(rows, middle, c, affine, train, seed):
    ndim = len(middle) + 2
    kind = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d}[ndim]
    module = kind(c, momentum=0.3, eps=1e-3, affine=affine)
    with torch.no_grad():
        for buffer in (module.running_mean, module.running_var):
            buffer.uniform_(0.5, 2)
    x = normal((rows, *middle, c), seed)
    layer = nn.BatchNorm(momentum=0.3, eps=1e-3, affine=affine)
    if ndim == 3:  # torch has channels in the middle
        params, state = weights(module)
        module.train(train)
        y, after = layer.apply(params, state, x, train=train)
        close(y, np.moveaxis(numpy(module(torch.tensor(np.moveaxis(x, -1, 1)))), 1, -1), 2e-5, "output")
        close(after["running_var"], numpy(module.running_var), 2e-5, "running_var")
    else:
        compare(layer, module, x, train, tolerance=2e-4)


@few
@given(st.integers(1, 9), size, st.lists(size, min_size=1, max_size=2), seeds)
def test_embedding(count, features, shape, seed):
    codes = np.random.default_rng(seed).integers(0, count, shape)
    compare(nn.Embedding(count, features), torch.nn.Embedding(count, features), codes.astype(np.int32))


@few
@given(st.lists(st.integers(1, 4), min_size=2, max_size=4))
def test_flatten(shape):
    x = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    y, _ = nn.Flatten().apply({}, {}, x)
    assert (y == numpy(torch.nn.Flatten()(torch.tensor(x)))).all()


def test_identity_gives_back_what_it_got():
    x = {"any": jnp.ones(3)}
    assert nn.Identity().apply({}, {}, x)[0] is x


def test_sequential_has_the_names_and_values_of_a_torch_state_dict():
    ours = nn.Sequential(
        nn.Linear(5), nn.BatchNorm(), nn.LeakyReLU(0.2), nn.Sequential(nn.Linear(4), nn.Tanh()), nn.Linear(3)
    )
    t = torch.nn
    theirs = t.Sequential(
        t.Linear(6, 5),
        t.BatchNorm1d(5),
        t.LeakyReLU(0.2),
        t.Sequential(t.Linear(5, 4), t.Tanh()),
        t.Linear(4, 3),
    )
    compare(ours, theirs, normal((8, 6)), train=True)
    compare(ours, theirs, normal((8, 6)), train=False)


def test_a_torch_cnn_needs_only_the_linear_after_its_flatten_permuted():
    ours = nn.Sequential(nn.Conv2d(4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2))
    t = torch.nn
    theirs = t.Sequential(t.Conv2d(3, 4, 3), t.ReLU(), t.MaxPool2d(2), t.Flatten(), t.Linear(36, 2))
    x = normal((5, 8, 8, 3))
    params, state = weights(theirs)
    first = params["4.weight"].reshape(2, 4, 3, 3)  # torch flattens [c, h, w], derin [h, w, c]
    params["4.weight"] = first.transpose(0, 2, 3, 1).reshape(2, 36)
    y, _ = ours.apply(params, state, x)
    close(y, numpy(theirs(torch.tensor(maps(x)))), 2e-5, "output")


def test_dropout_zeroes_the_share_and_scales_the_rest(key):
    x = jnp.ones((200, 300))
    for rate in (0.0, 0.2, 0.9):
        y, _ = nn.Dropout(rate).apply({}, {}, x, train=True, key=key)
        kept = float((y != 0).mean())
        assert abs(kept - (1 - rate)) < 0.01
        np.testing.assert_allclose(np.unique(y[y != 0]), [1 / (1 - rate)], rtol=1e-6)
        assert (nn.Dropout(rate).apply({}, {}, x)[0] == x).all()


def test_dropout_gradient_goes_through_the_kept_entries_only(key):
    def run(x):
        return nn.Dropout(0.5).apply({}, {}, x, train=True, key=key)[0]

    x = jnp.arange(1.0, 21.0)
    np.testing.assert_array_equal(jax.grad(lambda x: run(x).sum())(x), np.asarray(run(x) / x))


# -- the start


@pytest.mark.parametrize("layer, shape", [(nn.Linear(400), (2, 300)), (nn.Conv2d(60, (3, 5)), (1, 6, 6, 20))])
def test_weights_and_biases_start_as_torch_s(layer, shape, key):
    params, _ = layer.init(key, jnp.ones(shape))
    fan_in = math.prod(params["weight"].shape[1:])
    assert abs(params["weight"]).max() <= 1 / math.sqrt(fan_in)
    np.testing.assert_allclose(params["weight"].std(), 1 / math.sqrt(3 * fan_in), rtol=0.02)
    assert abs(params["bias"]).max() <= 1 / math.sqrt(fan_in)
    assert params["bias"].std() > 0.4 / math.sqrt(fan_in)


def test_embedding_starts_as_torch_s(key):
    weight = nn.Embedding(500, 40).init(key, jnp.zeros(3, int))[0]["weight"]
    assert abs(weight.mean()) < 0.02 and abs(weight.std() - 1) < 0.02


def test_another_start_can_be_asked_for(key):
    layer = nn.Linear(3, weight_init=nn.Full(2.0), bias_init=nn.Zeros())
    params, _ = layer.init(key, jnp.ones((1, 2)))
    assert (params["weight"] == 2).all() and (params["bias"] == 0).all()
    assert spec.from_json(spec.to_json(layer)) == layer
    params, _ = nn.Linear(3, weight_init=lambda key, shape, dtype: jnp.ones(shape, dtype)).init(key, jnp.ones((1, 2)))
    assert (params["weight"] == 1).all()


# -- batch norm: masks, dtypes


@few
@given(st.integers(2, 6), st.integers(1, 4), st.integers(1, 4), st.lists(st.integers(1, 3), max_size=2), seeds)
def test_batch_norm_counts_only_the_rows_of_the_mask(rows, extra, c, middle, seed):
    layer, x = nn.BatchNorm(), normal((rows + extra, *middle, c), seed)
    mask = np.random.default_rng(seed).permutation([1.0] * rows + [0.0] * extra).astype(np.float32)
    params, state = layer.init(jax.random.key(0), x)
    y, after = layer.apply(params, state, x, train=True, mask=jnp.asarray(mask))
    y_kept, after_kept = layer.apply(params, state, x[mask == 1], train=True)
    close(y[mask == 1], np.asarray(y_kept), 1e-4, "output")
    for name in after:
        close(after[name], np.asarray(after_kept[name]), 1e-5, name)


def test_batch_norm_of_one_value_keeps_the_running_variance(key):
    x = jnp.ones((3, 2))
    params, state = nn.BatchNorm().init(key, x)
    mask = jnp.array([1.0, 0.0, 0.0])
    y, after = nn.BatchNorm().apply(params, state, x, train=True, mask=mask)
    assert (after["running_var"] == 1).all() and np.isfinite(y).all()


def test_batch_norm_counts_in_float32_and_answers_in_the_dtype_of_its_input(key):
    x = jnp.asarray(normal((64, 3))) + 300
    params, state = nn.BatchNorm().init(key, x)
    y, after = nn.BatchNorm().apply(params, state, x.astype(jnp.bfloat16), train=True)
    assert y.dtype == jnp.bfloat16 and after["running_var"].dtype == jnp.float32
    exact = np.asarray(x.astype(jnp.bfloat16), np.float64).var(0, ddof=1) * 0.1 + 0.9
    np.testing.assert_allclose(after["running_var"], exact, rtol=1e-3)


# -- containers


def test_plain_functions_in_sequential_are_kept_by_name():
    net = nn.Sequential(nn.Linear(2), jax.nn.elu, jnp.sin, nn.relu, jax.nn.relu)
    names = [layer.function for layer in net.layers[1:]]
    assert names[:3] == ["jax.nn.elu", "jax.numpy.sin", "relu"]
    again = spec.from_json(spec.to_json(net))
    assert again == net
    x = normal((3, 4))
    params, state = net.init(jax.random.key(0), x)
    y = jax.nn.relu(jnp.sin(jax.nn.elu(x @ params["0.weight"].T + params["0.bias"])))
    close(again.apply(params, state, x)[0], np.asarray(y), 1e-6, "output")


def test_a_lambda_works_in_memory_and_not_in_a_file():
    net = nn.Sequential(nn.Linear(2), lambda x: 3 * x)
    x = normal((3, 4))
    params, state = net.init(jax.random.key(0), x)
    y = jax.jit(lambda net, p: net.apply(p, state, x)[0])(net, params)
    close(y, 3 * np.asarray(nn.Linear(2).apply({n[2:]: p for n, p in params.items()}, {}, x)[0]), 1e-6, "output")
    with pytest.raises(SpecError, match=r"cannot hold the function .*lambda.*class Mine\(Module\)"):
        spec.to_json(net)


@pytest.mark.parametrize(
    "bad, message",
    [
        (lambda: nn.Sequential(nn.Linear(8), nn.ReLU), "ReLU is a class; write ReLU()"),
        (lambda: nn.Sequential(nn.Linear(8), 3), "layer 1 is 3, a int, not a layer or a function"),
        (lambda: nn.Sequential(nn.Linear(8), "relu"), "layer 1 is 'relu'"),
        (lambda: nn.Function("rleu"), "no function is called 'rleu'. Nearest: relu"),
        (lambda: nn.Function("os.system"), "no function is called 'os.system'"),
        (lambda: nn.MLP(activation="rleu"), "Nearest: relu"),
        (lambda: nn.Linear(0), "Linear.features must be at least 1, got 0"),
        (lambda: nn.Linear("8"), "Linear.features must be a whole number, got '8'"),
        (lambda: nn.Conv2d(8, 0), "Conv2d.kernel_size must be at least 1, got 0"),
        (lambda: nn.Conv2d(8, 3, stride=(1, 0)), r"Conv2d.stride must be at least 1, got \(1, 0\)"),
        (lambda: nn.Conv2d(8, 3, padding=-1), "Conv2d.padding must be at least 0, got -1"),
        (lambda: nn.Conv2d(8, 3, padding="full"), "Conv2d.padding must be .*'same', 'valid'.*got 'full'"),
        (lambda: nn.Conv2d(8, 3, padding="same", stride=2), 'padding="same" needs stride 1, got stride=2'),
        (lambda: nn.Conv2d(8, 3, groups=3), "3 groups do not divide 8 features"),
        (lambda: nn.MaxPool2d(2, padding=2), "at most half of the kernel, got padding=2"),
        (lambda: nn.Dropout(1.0), r"Dropout.rate must be in \[0, 1\), got 1.0"),
        (lambda: nn.Dropout(-0.1), "got -0.1. It is the share of entries set to zero"),
        (lambda: nn.MLP((64, 0)), r"MLP.widths must be at least 1, got \(64, 0\)"),
    ],
)
def test_a_bad_field_is_refused(bad, message):
    with pytest.raises(SpecError, match=message):
        bad()


@pytest.mark.parametrize(
    "layer, x, message",
    [
        (nn.Linear(2), jnp.ones((3, 4), int), "Linear needs a float input .* got int32 of shape"),
        (nn.Linear(2), jnp.ones(()), r"Linear needs an input \[..., in\], got shape \(\)"),
        (
            nn.Conv2d(2, 3),
            jnp.ones((3, 4)),
            r"Conv2d needs an input \[batch, height, width, channels\], got shape \(3, 4\)",
        ),
        (nn.Conv2d(2, 3), jnp.ones((1, 8, 8, 1), jnp.uint8), "Conv2d needs a float input .* got uint8"),
        (nn.Conv2d(2, 5), jnp.ones((1, 8, 4, 1)), "reaches over 5 values, .* has a width of 4"),
        (nn.Conv2d(2, 3, groups=2), jnp.ones((1, 8, 8, 3)), "2 groups do not divide the 3 channels"),
        (nn.MaxPool2d(3), jnp.ones((1, 2, 8, 1)), "the window is 3 long, .* has a height of 2"),
        (nn.MaxPool2d(3), jnp.ones((1, 2)), "MaxPool2d needs an input"),
        (nn.BatchNorm(), jnp.ones(3), r"BatchNorm needs an input \[..., channels\], got shape \(3,\)"),
        (nn.BatchNorm(), jnp.ones((3, 2), int), "BatchNorm needs a float input"),
        (nn.Embedding(5, 2), jnp.ones((3, 2)), r"Embedding needs whole numbers \(codes\), got float32"),
        (nn.Flatten(), jnp.ones(()), "Flatten needs an input"),
    ],
)
def test_a_bad_input_is_refused_and_the_path_is_told(layer, x, message, key):
    net = nn.Sequential(nn.Identity(), layer)
    with pytest.raises(ModelError, match=message) as caught:
        net.init(key, x)
    assert any("in 1 (" + type(layer).__name__ in note for note in caught.value.__notes__)


def test_an_embedding_sees_a_code_that_is_out_of_range(key):
    layer = nn.Embedding(5, 2)
    params, state = layer.init(key, jnp.zeros(3, int))
    for codes in ([0, 5], [-1, 0]):
        with pytest.raises(ModelError, match="has 5 codes, 0 to 4; the input has"):
            layer.apply(params, state, jnp.array(codes))
        y = jax.jit(lambda x: layer.apply(params, state, x)[0])(jnp.array(codes))
        assert np.isnan(y).any(1).tolist() == [not 0 <= c < 5 for c in codes]


def test_mlp_is_linear_norm_activation_dropout(key):
    x = jnp.asarray(normal((6, 3)))
    net = nn.MLP((5, 4), 2, activation="tanh", norm=True)
    params, state = net.init(key, x)
    y, _ = net.apply(params, state, x)
    for i in range(2):
        x = jnp.tanh((x @ params[f"hidden.{i}.weight"].T + params[f"hidden.{i}.bias"]) / math.sqrt(1 + 1e-5))
    close(y, np.asarray(x @ params["head.weight"].T + params["head.bias"]), 1e-5, "output")
    assert jax.tree.leaves(nn.MLP()) == [] and jax.tree.leaves(nn.MLP(dropout=0.2)) == [0.2]


# -- conformance

X, MAP = normal((4, 6)), normal((3, 8, 9, 4))


@pytest.mark.parametrize(
    "layer, x",
    [
        (nn.Linear(3), X),
        (nn.Linear(3, weight_init=nn.HeNormal(0.1), bias_init=nn.Full(0.5)), normal((2, 3, 6))),
        (nn.Conv2d(4, 3, padding="same"), MAP),
        (nn.Conv2d(8, 3), np.repeat(MAP, 2, -1)),
        (nn.Conv2d(4, (3, 2), stride=2, padding=(1, 0), groups=2), MAP),
        (nn.MaxPool2d(2), MAP),
        (nn.MaxPool2d(3, 2, 1), MAP),
        (nn.Flatten(), MAP),
        (nn.BatchNorm(), X),
        (nn.BatchNorm(), MAP),
        (nn.Dropout(0.3), X),
        (nn.Embedding(5, 3), np.array([[1, 2], [0, 4]])),
        (nn.Identity(), X),
        (nn.Sequential(nn.Linear(3), jax.nn.elu, nn.Dropout(0.1), nn.BatchNorm()), X),
        (nn.MLP((4, 3), 2, dropout=0.1, norm=True), X),
        (nn.Function("jax.nn.elu"), X),
    ],
    ids=lambda v: repr(v) if isinstance(v, nn.Module) else "",
)
def test_conformance(layer, x):
    check_layer(layer, x)
