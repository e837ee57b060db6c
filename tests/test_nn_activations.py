"""Activations against torch, values and gradients, at the kinks and far out; and the course's numbers."""

import math
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_against_torch import close, compare

from derin import nn, spec
from derin.errors import ModelError, SpecError
from derin.nn import activation_functions
from derin.nn.activations import __all__ as exported
from derin.nn.activations import _functions
from derin.testing import check_layer

T = torch.nn


class Calls(torch.nn.Module):
    """What torch has as a function only."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


def torch_hardmax(x):
    return torch.nn.functional.one_hot(x.argmax(-1), x.shape[-1]).to(x.dtype) + 0 * x


PAIRS = [
    (nn.Threshold(0.5, 20.0), T.Threshold(0.5, 20.0)),
    (nn.Threshold(0.0, 0.0, above=1.0), Calls(lambda x: (x > 0).to(x.dtype) + 0 * x)),
    (nn.Sign(), Calls(torch.sign)),
    (nn.Softsign(), T.Softsign()),
    (nn.Hardshrink(), T.Hardshrink()),
    (nn.Hardshrink(3.0), T.Hardshrink(3.0)),
    (nn.Softshrink(), T.Softshrink()),
    (nn.Softshrink(3.0), T.Softshrink(3.0)),
    (nn.Tanhshrink(), T.Tanhshrink()),
    (nn.Sigmoid(), T.Sigmoid()),
    (nn.LogSigmoid(), T.LogSigmoid()),
    (nn.Tanh(), T.Tanh()),
    (nn.Hardsigmoid(), T.Hardsigmoid()),
    (nn.Hardtanh(), T.Hardtanh()),
    (nn.Hardtanh(-3.0, 6.0), T.Hardtanh(-3.0, 6.0)),
    (nn.ReLU(), T.ReLU()),
    (nn.LeakyReLU(), T.LeakyReLU()),
    (nn.LeakyReLU(1.5), T.LeakyReLU(1.5)),
    (nn.PReLU(), T.PReLU()),
    (nn.RReLU(), T.RReLU()),
    (nn.RReLU(0.1, 0.9), T.RReLU(0.1, 0.9)),
    (nn.ReLU6(), T.ReLU6()),
    (nn.Softplus(), T.Softplus()),
    (nn.Softplus(0.5), T.Softplus(0.5)),
    (nn.Softplus(5.0), T.Softplus(5.0)),
    (nn.GELU(), T.GELU()),
    (nn.GELU("tanh"), T.GELU("tanh")),
    (nn.SiLU(), T.SiLU()),
    (nn.Hardswish(), T.Hardswish()),
    (nn.Mish(), T.Mish()),
    (nn.ELU(), T.ELU()),
    (nn.ELU(0.3), T.ELU(0.3)),
    (nn.SELU(), T.SELU()),
    (nn.CELU(), T.CELU()),
    (nn.CELU(0.3), T.CELU(0.3)),
    (nn.Softmax(), T.Softmax(-1)),
    (nn.Softmax(axis=0), T.Softmax(0)),
    (nn.LogSoftmax(), T.LogSoftmax(-1)),
    (nn.LogSoftmax(axis=0), T.LogSoftmax(0)),
    (nn.Softmin(), T.Softmin(-1)),
    (nn.Softmin(axis=0), T.Softmin(0)),
    (nn.Hardmax(), Calls(torch_hardmax)),
    (nn.Identity(), T.Identity()),
]
LAYERS = [ours for ours, _ in PAIRS]
EVERY = [*LAYERS, nn.PReLU(4), nn.GLU(), nn.GLU(axis=1)]
one_of_each = list({type(layer): layer for layer in reversed(EVERY)}.values())


@jax.jit
def all_layers(x, g):
    """(output, gradient of the input, gradients of the weights) of every layer of PAIRS, as one program."""
    found = []
    for layer in LAYERS:
        params = {n: jnp.full((1,), 0.25) for n in (["weight"] if isinstance(layer, nn.PReLU) else [])}
        y, pull = jax.vjp(lambda params, x, layer=layer: layer.apply(params, {}, x)[0], params, x)
        found.append((y, *pull(g)[::-1]))
    return found


def compare_all(x, tolerance=2e-5):
    g = np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)
    for (ours, theirs), (y, by_x, by_params) in zip(PAIRS, all_layers(x, g), strict=True):
        theirs.train(False).zero_grad()
        x_theirs = torch.tensor(x, requires_grad=True)
        y_theirs = theirs(x_theirs)
        y_theirs.backward(torch.tensor(g))
        close(y, y_theirs.detach().numpy(), tolerance, f"output of {ours}")
        close(by_x, x_theirs.grad.numpy(), tolerance, f"gradient of {ours} by its input")
        for name, p in theirs.named_parameters():
            close(by_params[name], p.grad.numpy(), tolerance, f"gradient of {ours} by {name}")


@settings(max_examples=3, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 2**31 - 1))
def test_random_shapes(shape, seed):
    """S1.04-S1.28: values and gradients of all of them are torch's, to 2e-5 of the largest."""
    compare_all(np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 4)


def test_at_the_kinks():
    """Where the derivative jumps, it is the one that torch takes."""
    kinks = np.array([0, 0.5, 1, 3, 6], np.float32)
    near = np.float32([1e-30, *(kinks[1:] * (1 + 2e-7)), *(kinks[1:] * (1 - 1e-7))])
    compare_all(np.concatenate([kinks, -kinks, near, -near])[:, None])


def test_far_out():
    """To +-1e4 and beyond; for entries one by one, as a softmax would only ever see the largest."""
    x = np.array([1e-30, 30, 100, 1e4, 1e8, 1e30], np.float32)
    for entry in [*x, *-x]:
        compare_all(np.array([[entry, 0.0]], np.float32))


def test_not_a_number_stays_one():
    """A nan that a layer hid would be found late."""
    x = jnp.array([[jnp.nan, jnp.nan]])
    for layer, (y, *_) in zip(LAYERS, all_layers(x, x), strict=True):
        step = isinstance(layer, nn.Hardmax) or (isinstance(layer, nn.Threshold) and layer.above is not None)
        assert step or np.isnan(y).all(), layer


@pytest.mark.parametrize("layer", one_of_each, ids=repr)
def test_conformance(layer):
    check_layer(layer, jnp.linspace(-3, 3, 12).reshape(3, 4))


def test_every_exported_one_is_here():
    assert {type(layer).__name__ for layer in EVERY} - {"Identity"} == {*exported} - {"Function"}


# -- learned and random slopes, halves


@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 5, 3)])
def test_prelu_with_a_slope_for_each_channel(shape):
    """S1.20."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32) * 4
    x.flat[0] = 0
    ours, theirs = nn.PReLU(3), T.PReLU(3)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor([0.1, -0.3, 1.7]))  # past 1, where the course's max(x, a x) would turn round
    compare(ours, theirs, x)
    assert ours.init(jax.random.key(0), x)[0]["weight"].tolist() == [0.25] * 3
    other = nn.PReLU(3, weight_init=nn.Full(0.1)).init(jax.random.key(0), x)[0]
    np.testing.assert_allclose(other["weight"], 0.1)


def test_max_form_of_leaky_relu_holds_up_to_slope_one():
    """S1.19 writes max(x, a x)."""
    x = jnp.linspace(-3, 3, 13)
    for slope in (0.01, 0.5, 1.0):
        np.testing.assert_array_equal(nn.leaky_relu(x, slope), jnp.maximum(x, slope * x))
    assert not np.allclose(nn.leaky_relu(x, 2.0), jnp.maximum(x, 2 * x))


def test_rrelu_draws_a_slope_for_each_entry():
    """S1.22: uniform in [lower, upper] in training (5 sigma of 20,000 draws); the mean slope in evaluation."""
    layer, x = nn.RReLU(0.1, 0.4), -jnp.ones((100, 200)) * 2
    y, _ = layer.apply({}, {}, x, train=True, key=jax.random.key(0))
    slopes = np.asarray(y / x)
    assert slopes.min() >= 0.1 - 1e-6 and slopes.max() <= 0.4 + 1e-6
    np.testing.assert_allclose(slopes.mean(), 0.25, atol=5 * 0.3 / math.sqrt(12 * slopes.size))
    np.testing.assert_allclose(slopes.std(), 0.3 / math.sqrt(12), rtol=0.02)
    by_x = jax.grad(lambda x: layer.apply({}, {}, x, train=True, key=jax.random.key(0))[0].sum())(x)
    np.testing.assert_allclose(by_x, slopes, rtol=1e-5)  # the slope drawn is the derivative
    again, _ = layer.apply({}, {}, x, train=True, key=jax.random.key(1))
    assert not np.allclose(y, again)
    np.testing.assert_allclose(layer.apply({}, {}, x)[0], 0.25 * x, rtol=1e-6)
    np.testing.assert_array_equal(layer.apply({}, {}, -x, train=True, key=jax.random.key(0))[0], -x)
    assert nn.RReLU() == nn.RReLU(1 / 8, 1 / 3)


@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_glu_halves_an_axis(axis):
    x = np.random.default_rng(0).standard_normal((2, 4, 6)).astype(np.float32) * 4
    x[0, 0, 0], x[1, 3, 5] = 1e4, -1e4
    compare(nn.GLU(axis), T.GLU(axis), x)


def test_hardmax_along_an_axis():
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    hard = np.asarray(nn.hardmax(x, axis=1))
    np.testing.assert_array_equal(hard.argmax(1), x.argmax(1))
    np.testing.assert_array_equal(np.sort(hard, 1)[:, :2], 0)
    np.testing.assert_array_equal(hard.sum(1), 1)


# -- the course


def test_softmax_of_the_course():
    p = nn.softmax(jnp.array([2.0, 1.0, 0.1]))  # S1.15
    np.testing.assert_allclose(p, [0.6590, 0.2424, 0.0986], atol=5e-5)
    np.testing.assert_allclose(jnp.exp(jnp.array([2.0, 1.0, 0.1])).sum(), 11.2125, atol=5e-5)


def test_log_softmax_of_the_course():
    """S1.16: exact -.4170, -1.4170, -2.3170; the notes print -.41, -1.41, -2.31, cut off."""
    p = nn.log_softmax(jnp.array([2.0, 1.0, 0.1]))
    np.testing.assert_allclose(p, [-0.4170, -1.4170, -2.3170], atol=5e-5)


def test_softmin_of_the_course():
    """S1.17: e^-x = .13, .36, .9 with the sum 1.4081, which the notes print as 1.39."""
    x = jnp.array([2.0, 1.0, 0.1])
    np.testing.assert_allclose(jnp.exp(-x).sum(), 1.4081, atol=5e-5)
    np.testing.assert_allclose(nn.softmin(x), np.array([0.1353, 0.3679, 0.9048]) / 1.4081, atol=5e-5)
    np.testing.assert_allclose(nn.softmin(x), nn.softmax(-x))


def test_hardmax_of_the_course():
    """S4.16: 1 where z is largest, 0 elsewhere; softmax of the same z is .842, .042, .002, .114."""
    z = jnp.array([5.0, 2.0, -1.0, 3.0])
    assert nn.hardmax(z).tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(nn.softmax(z), [0.842, 0.042, 0.002, 0.114], atol=5e-4)
    assert nn.hardmax(jnp.array([3.0, 5.0, 5.0])).tolist() == [0, 1, 0]  # of equal ones, the first


def test_formulas_of_the_course():
    """S1.05-S1.09, S1.13, S1.14, S1.21, S1.23-S1.28, as the notes write them, in double precision, to 1e-6."""
    x = np.linspace(-7, 7, 141)
    e = np.exp
    written = {
        "sign": np.where(x < 0, -1, np.where(x == 0, 0, 1)),
        "softsign": x / (1 + abs(x)),
        "hardshrink": np.where(abs(x) > 0.5, x, 0),
        "softshrink": np.where(x > 0.5, x - 0.5, np.where(x < -0.5, x + 0.5, 0)),
        "tanhshrink": x - np.tanh(x),
        "hardsigmoid": np.where(x <= -3, 0, np.where(x >= 3, 1, x / 6 + 0.5)),
        "hardtanh": np.clip(x, -1, 1),
        "relu6": np.minimum(np.maximum(0, x), 6),
        "softplus": np.log(1 + e(x)),
        "silu": x / (1 + e(-x)),
        "hardswish": x * np.minimum(np.maximum(0, x + 3), 6) / 6,
        "mish": x * np.tanh(np.log(1 + e(x))),
        "elu": np.where(x > 0, x, e(x) - 1),
        "selu": 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (e(x) - 1)),
        "celu": np.maximum(0, x) + np.minimum(0, e(x) - 1),
    }
    x32 = jnp.asarray(x, jnp.float32)
    for name, y in written.items():
        np.testing.assert_allclose(getattr(nn, name)(x32), y, rtol=0, atol=1e-6, err_msg=name)
    tanh_form = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))  # S1.24
    np.testing.assert_allclose(nn.gelu(x32, "tanh"), tanh_form, rtol=0, atol=1e-6)
    assert 1e-4 < np.abs(nn.gelu(x32) - tanh_form).max() < 1e-3  # the default is torch's exact one
    np.testing.assert_allclose(nn.softplus(x32, 2.0), np.log(1 + e(2 * x)) / 2, rtol=0, atol=1e-6)


def test_threshold_of_the_course_is_a_step_without_derivative():
    """S1.04; torch's Threshold lets x through."""
    step = lambda x: nn.threshold(x, 0.0, 0.0, above=1.0)  # noqa: E731
    x = jnp.array([-2.0, 0.0, 1e-6, 3.0])
    assert step(x).tolist() == [0, 0, 1, 1]
    assert jax.vmap(jax.grad(step))(x).tolist() == [0, 0, 0, 0]


def test_logsigmoid_is_the_stabler_one():
    """S1.11: where the sigmoid is 0, its logarithm is not finite."""
    x = jnp.array(-200.0)
    assert np.isneginf(jnp.log(nn.sigmoid(x))) and nn.logsigmoid(x) == -200


def test_family_table():
    """S1.03: 27 activations in five families, and hardmax; all are functions and layers."""
    families = activation_functions.__doc__.split("\n\n")[2]
    names = families.replace(", and glu", "").split()
    heads = ["threshold-like", "sigmoid-like", "ReLU-like", "ELU-like", "softmax-like"]
    assert [n for n in names if n.endswith("-like")] == heads
    assert sorted({*names} - {*heads}) == sorted({*activation_functions.__all__} - {"glu"})
    assert len({*names} - {*heads}) == 28


# -- functions


def test_functions_are_the_layers():
    x = jnp.linspace(-3, 3, 8)
    for name, function in _functions().items():
        if "." in name:
            continue
        (layer,) = (a for a in one_of_each if type(a).__name__.lower() == name.replace("_", ""))
        np.testing.assert_array_equal(function(x), type(layer)().apply({}, {}, x)[0])
        np.testing.assert_array_equal(function(x), nn.Function(name).apply({}, {}, x)[0])
    assert {*activation_functions.__all__} - {*_functions()} == {"threshold", "prelu", "rrelu"}


def test_every_function_that_a_file_may_name_works():
    for name in _functions():
        y = jax.eval_shape(lambda x, name=name: nn.Function(name).apply({}, {}, x)[0], jnp.ones((2, 4)))
        assert jnp.issubdtype(y.dtype, jnp.floating), name


@pytest.mark.parametrize("slope", [0.01, jnp.float32(0.01)])
def test_bfloat16_stays_bfloat16(slope):
    y = jax.jit(lambda s, x: nn.LeakyReLU(s).apply({}, {}, x)[0])(slope, jnp.ones(3, jnp.bfloat16))
    assert y.dtype == jnp.bfloat16


def test_bfloat16_is_near_float32():
    """Within 2 % of the value, or 0.02: bfloat16 has 8 bits."""
    one = jnp.ones((1, 2))
    for x in ([-1e4, 1e4], [-100, 100], [-3, 3], [-0.5, 0.5], [0, 0.1]):
        exact = all_layers(jnp.array([x], jnp.float32), one)
        half = all_layers(jnp.array([x], jnp.bfloat16), one.astype(jnp.bfloat16))
        for layer, fine, coarse in zip(LAYERS, exact, half, strict=True):
            for a, b in zip(fine[:2], coarse[:2], strict=True):
                assert b.dtype == jnp.bfloat16, layer
                np.testing.assert_allclose(b.astype(jnp.float32), a, rtol=0.02, atol=0.02, err_msg=f"{layer} at {x}")


def test_whole_numbers_become_floats():
    """A slope of 0.01 cast to an integer would be 0."""
    x = jnp.array([[-2, 4]])
    params = {"weight": jnp.array([0.25])}
    outputs = jax.jit(lambda x: [layer.apply(params, {}, x)[0] for layer in LAYERS[:-1]])
    for layer, y, exact in zip(LAYERS, outputs(x), outputs(x.astype(jnp.float32)), strict=False):
        assert y.dtype == jnp.float32, layer
        np.testing.assert_array_equal(y, exact, err_msg=repr(layer))


def test_slopes_can_be_swept():
    """Stacked Scalars under vmap: one program for all members."""
    net = nn.Sequential(nn.ELU(), nn.Softplus(), nn.Hardtanh(), nn.RReLU(), nn.PReLU(weight_init=nn.Full(0.1)))
    paths = spec.leaf_paths(net)
    assert [p.removeprefix("layers.") for p in paths] == [
        "0.alpha", "1.beta", "2.min_val", "2.max_val", "3.lower", "3.upper", "4.weight_init.value",
    ]  # fmt: skip
    x = jnp.linspace(-3, 3, 8)
    some = spec.set(nn.Sequential(nn.ELU(), nn.Softplus()), "layers.0.alpha", jnp.array([0.5, 2.0]))
    some = spec.set(some, "layers.1.beta", jnp.array([1.0, 3.0]))
    together = jax.vmap(lambda net: net.apply({}, {}, x)[0])(some)
    for i, (alpha, beta) in enumerate([(0.5, 1.0), (2.0, 3.0)]):
        np.testing.assert_allclose(together[i], nn.softplus(nn.elu(x, alpha), beta), rtol=1e-5)


# -- bad input


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.Hardshrink(-1.0), "Hardshrink.lambd must be 0 or more, got -1.0."),
        (lambda: nn.Softshrink(math.nan), "Softshrink.lambd must be 0 or more, got nan."),
        (lambda: nn.Hardtanh(2.0, 1.0), "Hardtanh.min_val must be at most max_val, got 2.0 and 1.0."),
        (lambda: nn.RReLU(0.5), "RReLU.lower must be at most upper, got 0.5 and 0.3333333333333333."),
        (lambda: nn.Softplus(0.0), "Softplus.beta must be more than 0, got 0.0. The larger, the nearer to a ReLU."),
        (lambda: nn.CELU(0.0), "CELU.alpha must not be 0: x is divided by it."),
        (lambda: nn.PReLU(0), "PReLU.num_parameters must be at least 1, got 0."),
        (lambda: nn.Threshold(1.0), "Threshold needs a value for 'value'."),
        (lambda: nn.Function("mosh"), "no function is called 'mosh'. Nearest: mish."),
    ],
)  # fmt: skip
def test_what_a_field_must_be(make, message):
    with pytest.raises(SpecError) as error:
        make()
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "layer, shape, message",
    [
        (nn.PReLU(3), (2, 4), "PReLU has 3 slopes, so its input must be [batch, ..., 3], channels last; got (2, 4). PReLU() has one slope for all channels."),
        (nn.PReLU(3), (3,), "PReLU has 3 slopes, so its input must be [batch, ..., 3], channels last; got (3,). PReLU() has one slope for all channels."),
        (nn.GLU(), (2, 3), "glu halves axis 1, so its size must be even; got an input of shape (2, 3)."),
        (nn.GLU(2), (2, 4), "glu: there is no axis 2 in an input of shape (2, 4)."),
        (nn.Softmax(1), (3,), "softmax: there is no axis 1 in an input of shape (3,)."),
        (nn.LogSoftmax(-2), (3,), "log_softmax: there is no axis -2 in an input of shape (3,)."),
        (nn.Softmin(), (), "softmin: there is no axis -1 in an input of shape ()."),
        (nn.Hardmax(), (2, 0), "hardmax needs a value along axis 1, got an input of shape (2, 0)."),
    ],
)  # fmt: skip
def test_what_an_input_must_be(layer, shape, message):
    with pytest.raises(ModelError) as error:
        layer.init(jax.random.key(0), jnp.ones(shape))
    assert str(error.value) == message


def test_functions_say_what_they_need():
    with pytest.raises(ModelError, match=r'gelu: approximate is "none" or "tanh", got \'erf\''):
        nn.gelu(jnp.ones(2), "erf")
    with pytest.raises(ModelError, match=r"prelu needs one slope, or one for each channel .* got \(3,\) slopes"):
        nn.prelu(jnp.ones((2, 4)), jnp.ones(3))


# -- the picture


def test_the_picture_shows_every_curve():
    """docs/activations.svg is drawn from this table; docs/activations.md shows it."""
    docs = Path(__file__).resolve().parents[1] / "docs"
    curves = runpy.run_path(str(docs / "make_activations.py"))["CURVES"]
    assert {type(layer) for layer in curves} == {type(layer) for layer in EVERY} - {nn.Identity}
    assert (docs / "activations.svg").is_file() and "activations.svg" in (docs / "activations.md").read_text("utf-8")
