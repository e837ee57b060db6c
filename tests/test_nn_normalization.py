"""Normalisation against torch: values, gradients, running statistics; the course's claims; messages; conformance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_against_torch import close, compare, numpy

from derin import nn
from derin.errors import ModelError, SpecError
from derin.testing import check_layer

few = settings(max_examples=6, deadline=None)
torch.set_num_threads(1)
size = st.integers(1, 5)
seeds = st.integers(0, 2**31 - 1)


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def first(a):
    """Channels last to channels first, whatever the number of axes."""
    return np.ascontiguousarray(np.moveaxis(a, -1, 1))


@functools.partial(jax.jit, static_argnums=(0, 5))
def with_gradients(layer, params, state, x, g, train):
    """(output, state, gradients of the weights, gradient of the input), the output's gradient being g"""
    y, pull, after = jax.vjp(lambda p, x: layer.apply(p, state, x, train=train), params, x, has_aux=True)
    return y, after, *pull(g)


def same(layer, module, x, train=False, tolerance=2e-4, seed=0):
    """Layer and module agree on values, gradients and state.   x: [batch, ..., c], for torch [batch, c, ...]"""
    with torch.no_grad():
        for p in module.parameters():
            p.uniform_(-1, 1)
    params = {n: jnp.asarray(numpy(p)) for n, p in module.named_parameters()}
    made, state = layer.init(jax.random.key(0), x)
    assert {n: a.shape for n, a in made.items()} == {n: a.shape for n, a in params.items()}
    buffers = dict(module.named_buffers())
    state = {n: jnp.asarray(numpy(buffers[n]).copy(), state[n].dtype) for n in state}  # torch writes in place
    module.train(train)
    theirs = torch.tensor(first(x), requires_grad=True)
    out = module(theirs)
    g = normal(x.shape, seed)
    out.backward(torch.tensor(first(g)))
    y, after, by_params, by_x = with_gradients(layer, params, state, x, g, train)
    close(y, np.moveaxis(numpy(out), 1, -1), tolerance, "output")
    close(by_x, np.moveaxis(numpy(theirs.grad), 1, -1), tolerance, "gradient of the input")
    for name, p in module.named_parameters():
        close(by_params[name], numpy(p.grad), tolerance, f"gradient of {name}")
    for name, value in after.items():
        close(value, numpy(dict(module.named_buffers())[name]), tolerance, name)


# -- batch norm


@few
@given(st.integers(2, 5), st.lists(size, max_size=3), size, st.booleans(), seeds)
def test_batch_norm_of_any_number_of_axes(rows, middle, c, train, seed):
    kinds = {0: torch.nn.BatchNorm1d, 1: torch.nn.BatchNorm1d, 2: torch.nn.BatchNorm2d, 3: torch.nn.BatchNorm3d}
    same(
        nn.BatchNorm(momentum=0.3, eps=1e-2), kinds[len(middle)](c, 1e-2, 0.3), normal((rows, *middle, c), seed), train
    )


def test_cumulative_batch_norm_is_the_mean_over_all_batches():
    module = torch.nn.BatchNorm1d(3, momentum=None)
    layer = nn.BatchNorm(momentum=None)
    params, state = layer.init(jax.random.key(0), normal((4, 3)))
    assert state["num_batches_tracked"] == 0
    batches = [normal((4, 3), seed) * (seed + 1) for seed in range(4)]
    for x in batches:
        _, state = jax.jit(lambda s, x: layer.apply(params, s, x, train=True))(state, x)
        module(torch.tensor(x))
    close(state["running_mean"], np.mean([x.mean(0) for x in batches], 0), 1e-5, "running_mean")
    for name, value in module.named_buffers():
        close(state[name], numpy(value), 1e-5, name)
    x = normal((4, 3), 9)
    close(layer.apply(params, state, x)[0], numpy(module.eval()(torch.tensor(x))), 1e-5, "evaluation")


@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_without_running_statistics_takes_those_of_its_batch(train):
    layer = nn.BatchNorm(track_running_stats=False)
    assert layer.init(jax.random.key(0), normal((4, 3)))[1] == {}
    same(layer, torch.nn.BatchNorm2d(3, track_running_stats=False), normal((4, 2, 5, 3)), train)


def test_batch_norm_can_restore_the_identity():
    """S4.10: with weight = sqrt(var + eps) and bias = mean, what comes out is what came in; var is the biased one."""
    x = normal((16, 3)) * 3 + 5
    params = {"weight": jnp.sqrt(x.var(0) + 1e-5), "bias": jnp.asarray(x.mean(0))}
    state = nn.BatchNorm().init(jax.random.key(0), x)[1]
    close(nn.BatchNorm().apply(params, state, x, train=True)[0], x, 1e-5, "output")


def test_batch_norm_moves_a_feature_to_where_it_is_told():
    """S1.56: mean 4.87 and deviation 2.71 become 0 and 1, and with weight 1.5 and bias -0.5 these."""
    x = normal((400, 1)) * 2.71 + 4.87
    params, state = nn.BatchNorm().init(jax.random.key(0), x)
    y = nn.BatchNorm().apply(params, state, x, train=True)[0]
    assert abs(y.mean()) < 1e-4 and abs(y.std() - 1) < 1e-4
    moved = nn.BatchNorm().apply({"weight": jnp.array([1.5]), "bias": jnp.array([-0.5])}, state, x, train=True)[0]
    assert abs(moved.mean() + 0.5) < 1e-4 and abs(moved.std() - 1.5) < 1e-4


# -- the others


@few
@given(st.lists(size, min_size=1, max_size=2), st.lists(st.integers(2, 5), min_size=1, max_size=3), seeds)
def test_layer_norm(lead, last, seed):
    x = normal((*lead, *last), seed)
    module = torch.nn.LayerNorm(last, eps=1e-3)
    compare_last(nn.LayerNorm(axes=len(last), eps=1e-3), module, x)


def compare_last(layer, module, x):
    """For layers of the last axes: torch's order is ours."""
    with torch.no_grad():
        for p in module.parameters():
            p.uniform_(-1, 1)
    params = {n: jnp.asarray(numpy(p)) for n, p in module.named_parameters()}
    assert {n: a.shape for n, a in layer.init(jax.random.key(0), x)[0].items()} == {
        n: a.shape for n, a in params.items()
    }
    theirs = torch.tensor(x, requires_grad=True)
    out = module(theirs)
    g = normal(x.shape)
    out.backward(torch.tensor(g))
    y, _, by_params, by_x = with_gradients(layer, params, {}, x, g, True)
    close(y, numpy(out), 2e-5, "output")
    close(by_x, numpy(theirs.grad), 1e-4, "gradient of the input")
    for name, p in module.named_parameters():
        close(by_params[name], numpy(p.grad), 1e-4, f"gradient of {name}")


@pytest.mark.parametrize("affine, bias", [(False, True), (True, False)])
def test_layer_norm_without_weight_or_bias(affine, bias):
    layer = nn.LayerNorm(elementwise_affine=affine, bias=bias)
    compare(layer, torch.nn.LayerNorm(6, elementwise_affine=affine, bias=bias), normal((4, 6)))


@few
@given(
    st.lists(size, min_size=1, max_size=2), st.lists(st.integers(2, 5), min_size=1, max_size=2), st.booleans(), seeds
)
def test_rms_norm(lead, last, affine, seed):
    module = torch.nn.RMSNorm(last, elementwise_affine=affine)
    compare_last(nn.RMSNorm(axes=len(last), elementwise_affine=affine), module, normal((*lead, *last), seed))
    module = torch.nn.RMSNorm(last, eps=0.1)
    compare_last(nn.RMSNorm(axes=len(last), eps=0.1), module, normal((*lead, *last), seed))


@few
@given(size, st.lists(st.integers(2, 4), max_size=3), st.integers(1, 3), st.integers(2, 3), st.booleans(), seeds)
def test_group_norm(rows, middle, groups, each, affine, seed):
    c = groups * each
    module = torch.nn.GroupNorm(groups, c, eps=1e-3, affine=affine)
    same(nn.GroupNorm(groups, eps=1e-3, affine=affine), module, normal((rows, *middle, c), seed))


def test_groups_of_one_channel_are_instances_and_one_group_is_the_whole_map():
    x = normal((3, 4, 5, 6))
    instance = nn.InstanceNorm().apply({}, {}, x)[0]
    close(nn.GroupNorm(6, affine=False).apply({}, {}, x)[0], np.asarray(instance), 1e-5, "instances")
    whole = nn.LayerNorm(axes=3, elementwise_affine=False).apply({}, {}, x)[0]
    close(nn.GroupNorm(1, affine=False).apply({}, {}, x)[0], np.asarray(whole), 1e-5, "the whole map")


@few
@given(
    size, st.lists(st.integers(2, 4), min_size=1, max_size=3), size, st.booleans(), st.booleans(), st.booleans(), seeds
)
def test_instance_norm(rows, middle, c, affine, track, train, seed):
    kinds = {1: torch.nn.InstanceNorm1d, 2: torch.nn.InstanceNorm2d, 3: torch.nn.InstanceNorm3d}
    module = kinds[len(middle)](c, eps=1e-2, momentum=0.3, affine=affine, track_running_stats=track)
    layer = nn.InstanceNorm(momentum=0.3, eps=1e-2, affine=affine, track_running_stats=track)
    same(layer, module, normal((rows, *middle, c), seed), train)


# -- extreme values, dtypes, messages

ALL = [nn.BatchNorm(), nn.LayerNorm(), nn.RMSNorm(), nn.GroupNorm(2), nn.InstanceNorm(affine=True)]


@pytest.mark.parametrize("layer", ALL, ids=repr)
@pytest.mark.parametrize("x", [np.full((4, 3, 6), 1e4), np.zeros((4, 3, 6)), 1e4 * np.sign(normal((4, 3, 6)))])
def test_large_and_constant_inputs_give_finite_values_and_gradients(layer, x):
    x = jnp.asarray(x, jnp.float32)
    params, state = layer.init(jax.random.key(0), x)
    y, pull, _ = jax.vjp(lambda p, x: layer.apply(p, state, x, train=True), params, x, has_aux=True)
    for a in jax.tree.leaves((y, pull(jnp.ones_like(y)))):
        assert np.isfinite(a).all()


@pytest.mark.parametrize("layer", ALL, ids=repr)
def test_bfloat16_is_counted_in_float32(layer):
    x = jnp.asarray(normal((16, 9, 6)) + 100).astype(jnp.bfloat16)
    params, state = layer.init(jax.random.key(0), x)
    y, _ = layer.apply(params, state, x, train=True)
    exact, _ = layer.apply(params, state, x.astype(jnp.float32), train=True)
    assert y.dtype == jnp.bfloat16
    close(y.astype(jnp.float32), np.asarray(exact), 1e-2, "output")


@pytest.mark.parametrize(
    "bad, message",
    [
        (lambda: nn.LayerNorm(0), "LayerNorm.axes must be at least 1, got 0"),
        (lambda: nn.GroupNorm(0), "GroupNorm.num_groups must be at least 1, got 0"),
        (lambda: nn.BatchNorm(momentum=1.5), r"BatchNorm.momentum must be in \[0, 1\], got 1.5. It is the weight"),
        (lambda: nn.RMSNorm(eps=-1.0), "RMSNorm.eps must be 0 or more, got -1.0. It is added to the variance"),
        (lambda: nn.InstanceNorm(momentum=-0.1), "InstanceNorm.momentum must be in"),
    ],
)
def test_a_bad_field_is_refused(bad, message):
    with pytest.raises(SpecError, match=message):
        bad()


@pytest.mark.parametrize(
    "layer, shape, message",
    [
        (nn.GroupNorm(4), (2, 3, 6), r"GroupNorm: 4 groups do not divide the 6 channels of the input \(2, 3, 6\)"),
        (
            nn.LayerNorm(3),
            (2, 3),
            r"LayerNorm needs a.* with 3 axes to normalise after the batch's, got shape \(2, 3\)",
        ),
        (nn.RMSNorm(), (2,), "RMSNorm needs a"),
        (nn.InstanceNorm(), (2, 3), "InstanceNorm needs an input .batch, positions"),
        (nn.InstanceNorm(), (2, 1, 3), "needs more than one position a channel in training"),
    ],
)
def test_a_bad_input_is_refused(layer, shape, message):
    with pytest.raises(ModelError, match=message):
        layer.init(jax.random.key(0), jnp.ones(shape))
    with pytest.raises(
        ModelError, match=f"{type(layer).__name__} needs a float input|needs an input|do not divide|axes"
    ):
        layer.init(jax.random.key(0), jnp.ones(shape, int))


X, MAP = normal((4, 6)), normal((3, 4, 5, 4))


@pytest.mark.parametrize(
    "layer, x",
    [
        (nn.BatchNorm(momentum=None), X),
        (nn.BatchNorm(track_running_stats=False), MAP),
        (nn.LayerNorm(2, bias=False), MAP),
        (nn.RMSNorm(), X),
        (nn.GroupNorm(2), MAP),
        (nn.InstanceNorm(affine=True, track_running_stats=True), MAP),
    ],
    ids=lambda v: repr(v) if isinstance(v, nn.Module) else "",
)
def test_conformance(layer, x):
    check_layer(layer, x)
