"""Initialisers: spread and bounds are those of the formulas (S1.59) and of torch; what they keep over 50 layers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from derin import nn, spec
from derin.errors import ModelError, SpecError
from derin.nn.init import _GAINS, fans
from derin.testing import check_spec

SHAPES = [(300, 200), (60, 40, 3, 5)]
T = torch.nn.init


@pytest.mark.parametrize("shape", SHAPES)
def test_fans_are_torch_s(shape):
    assert fans(shape) == T._calculate_fan_in_and_fan_out(torch.empty(shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "ours, theirs",
    [
        (nn.HeNormal(), T.kaiming_normal_),
        (nn.HeUniform(), T.kaiming_uniform_),
        (nn.HeNormal(0.5), lambda w: T.kaiming_normal_(w, a=0.5)),
        (nn.HeUniform(math.sqrt(5)), lambda w: T.kaiming_uniform_(w, a=math.sqrt(5))),
        (nn.HeNormal(mode="fan_out"), lambda w: T.kaiming_normal_(w, mode="fan_out")),
        (nn.HeUniform(mode="fan_out"), lambda w: T.kaiming_uniform_(w, mode="fan_out")),
        (nn.HeNormal(nonlinearity="tanh"), lambda w: T.kaiming_normal_(w, nonlinearity="tanh")),
        (nn.HeUniform(nonlinearity="selu"), lambda w: T.kaiming_uniform_(w, nonlinearity="selu")),
        (nn.XavierNormal(), T.xavier_normal_),
        (nn.XavierUniform(), T.xavier_uniform_),
        (nn.XavierUniform(5 / 3), lambda w: T.xavier_uniform_(w, gain=T.calculate_gain("tanh"))),
        (nn.LeCunNormal(), lambda w: T.kaiming_normal_(w, nonlinearity="linear")),
        (nn.LeCunUniform(), lambda w: T.kaiming_uniform_(w, nonlinearity="linear")),
        (nn.LeCunNormal(2.0, "fan_out"), lambda w: T.kaiming_normal_(w, mode="fan_out", nonlinearity="linear").mul_(2)),
        (
            nn.LeCunUniform(2.0, "fan_out"),
            lambda w: T.kaiming_uniform_(w, mode="fan_out", nonlinearity="linear").mul_(2),
        ),
        (nn.Normal(0.3, 1.0), lambda w: T.normal_(w, 1.0, 0.3)),
        (nn.Uniform(0.2), lambda w: T.uniform_(w, -0.2, 0.2)),
        (nn.TruncatedNormal(), T.trunc_normal_),
        (nn.TruncatedNormal(0.5, 0.2, -0.3, 1.0), lambda w: T.trunc_normal_(w, 0.2, 0.5, -0.3, 1.0)),
        (nn.Orthogonal(), T.orthogonal_),
        (nn.Orthogonal(1.4), lambda w: T.orthogonal_(w, 1.4)),
    ],
    ids=lambda value: repr(value) if isinstance(value, nn.Initializer) else "",
)
def test_spread_is_torch_s(ours, theirs, shape):
    torch.manual_seed(0)
    a, b = np.asarray(ours(jax.random.key(0), shape)), theirs(torch.empty(shape)).numpy()
    assert a.shape == shape and a.dtype == np.float32
    np.testing.assert_allclose(a.mean(), b.mean(), atol=4 * b.std() / math.sqrt(a.size) * 1.5)
    np.testing.assert_allclose(a.std(), b.std(), rtol=0.02)
    if "Uniform" in type(ours).__name__ or "Truncated" in type(ours).__name__:
        np.testing.assert_allclose([a.min(), a.max()], [b.min(), b.max()], rtol=5e-3)
    else:
        assert np.abs(a - a.mean()).max() > 3.5 * a.std()  # not truncated


@pytest.mark.parametrize(
    "init, mean, variance, kurtosis",
    [
        (nn.Uniform(0.01), 0, 0.01**2 / 3, 1.8),  # the random start of S1.59
        (nn.Uniform(0.5, 2.0), 2, 0.5**2 / 3, 1.8),
        (nn.Normal(0.3, 1.0), 1, 0.09, 3),
        (nn.LeCunNormal(), 0, 1 / 400, 3),
        (nn.LeCunUniform(), 0, 1 / 400, 1.8),
        (nn.XavierNormal(), 0, 2 / 1000, 3),
        (nn.XavierUniform(), 0, 2 / 1000, 1.8),
        (nn.HeNormal(), 0, 2 / 400, 3),
        (nn.HeUniform(), 0, 2 / 400, 1.8),
        (nn.HeNormal(mode="fan_out"), 0, 2 / 600, 3),
        (nn.HeUniform(0.5, mode="fan_out"), 0, 2 / 1.25 / 600, 1.8),
        (nn.TruncatedNormal(), 0, 0.7737, 2.37),
        (nn.Orthogonal(), 0, 1 / 600, 3),
    ],
    ids=repr,
)
def test_mean_and_variance(init, mean, variance, kurtosis):
    """S1.59, for n = 240,000 draws, out 600 and in 400: within 5 standard errors, which are sigma / sqrt(n) for the
    mean and sigma^2 sqrt((kurtosis - 1) / n) for the variance. (Normals and uniforms; an orthogonal one is nearly so.)"""
    w = np.asarray(init(jax.random.key(3), (600, 400)), np.float64)
    np.testing.assert_allclose(w.mean(), mean, atol=5 * math.sqrt(variance / w.size))
    np.testing.assert_allclose(((w - mean) ** 2).mean(), variance, rtol=5 * math.sqrt((kurtosis - 1) / w.size) + 5e-5)


@pytest.mark.parametrize("name", [*_GAINS, "leaky_relu"])
def test_gains_are_torch_s(name):
    np.testing.assert_allclose(nn.calculate_gain(name), T.calculate_gain(name), rtol=1e-6)


def test_the_gain_of_a_slope():
    np.testing.assert_allclose(nn.calculate_gain("leaky_relu", 0.3), T.calculate_gain("leaky_relu", 0.3), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda a: nn.calculate_gain("leaky_relu", a))(0.3), 1.354571, rtol=1e-5)


# -- what each keeps


WIDTH, DEPTH = 256, 50
ACTIVATIONS = {
    "none": lambda x: x,
    "relu": nn.relu,
    "leaky_relu": lambda x: nn.leaky_relu(x, 0.2),
    "selu": nn.selu,
    "tanh": nn.tanh,
    "sigmoid": nn.sigmoid,
}


def through(init, activation, width=WIDTH):
    """Mean squares of z = W a and of the gradients at z, layer by layer, over four nets (S1.59)."""
    activation = ACTIVATIONS[activation]

    @jax.jit
    def run(key):
        keys = jax.random.split(key, DEPTH + 1)

        def net(nudge):
            def layer(a, of):
                key, nudge = of
                z = a @ init(key, (width, width)).T + nudge
                return activation(z), (z**2).mean()

            a = jax.random.normal(keys[0], (16, width))
            return jax.lax.scan(layer, a, (keys[1:], nudge))

        g = jax.random.normal(keys[0], (16, width))
        _, pull, sizes = jax.vjp(net, jnp.zeros((DEPTH, 16, width)), has_aux=True)
        (by_z,) = pull(g)
        return sizes, (by_z**2).mean((1, 2))

    sizes, gradients = jax.vmap(run)(jax.random.split(jax.random.key(0), 4))
    return np.asarray(sizes).mean(0), np.asarray(gradients).mean(0)


@pytest.mark.parametrize(
    "init, activation, backward",
    [
        (nn.LeCunNormal(), "none", True),
        (nn.XavierUniform(), "none", True),
        (nn.Orthogonal(), "none", True),
        (nn.Eye(), "none", True),
        (nn.HeNormal(), "relu", True),
        (nn.HeUniform(), "relu", True),
        (nn.HeNormal(mode="fan_out"), "relu", True),
        (nn.HeNormal(0.2), "leaky_relu", True),
        (nn.Orthogonal(math.sqrt(2)), "relu", True),
        (nn.LeCunNormal(), "selu", False),
        (nn.LeCunUniform(), "selu", False),
        (nn.XavierNormal(5 / 3), "tanh", False),
        (nn.XavierUniform(5 / 3), "tanh", False),
        (nn.LeCunNormal(), "sigmoid", False),
    ],
    ids=repr,
)
def test_the_right_start_keeps_the_variance_over_50_layers(init, activation, backward):
    """S1.59: "the variance that goes into a layer comes out". Within a factor of 4 of the first layer's after 50, where
    1.1 a layer would be 117; values, and for piecewise linear activations gradients as well."""
    # orthogonal matrices of 256 take a second
    sizes, gradients = through(init, activation, 64 if isinstance(init, nn.Orthogonal) else WIDTH)
    assert 1 / 4 < sizes[-1] / sizes[0] < 4
    if backward:
        assert 1 / 4 < gradients[0] / gradients[-1] < 4


@pytest.mark.parametrize(
    "init, activation, factor",
    [
        (nn.LeCunNormal(), "relu", 0.5),  # "ReLU gives 0 for half of its outputs, so the variance is halved"
        (nn.LeCunUniform(), "relu", 0.5),
        (nn.XavierNormal(), "relu", 0.5),
        (nn.XavierUniform(), "relu", 0.5),
        (nn.HeNormal(), "none", 2.0),
        (nn.Uniform(0.01), "relu", WIDTH * 0.01**2 / 3 / 2),
        (nn.Uniform(0.01), "tanh", WIDTH * 0.01**2 / 3),
        (nn.Normal(0.125), "relu", WIDTH * 0.125**2 / 2),
    ],
    ids=repr,
)
def test_the_wrong_start_loses_it(init, activation, factor):
    """S1.59: vanishing or exploding. Each layer changes the mean square by a known factor, here to 5 % over 12 layers."""
    sizes, gradients = through(init, activation)
    np.testing.assert_allclose((sizes[12] / sizes[0]) ** (1 / 12), factor, rtol=0.05)
    for end, start in ((sizes[-1], sizes[0]), (gradients[0], gradients[-1])):
        assert end <= 1e-12 * start if factor < 1 else end > 1e12 * start


def test_tanh_without_a_gain_fades_slowly():
    """S1.59 names LeCun and Xavier for tanh. Its slope is below 1, so q becomes about q - 2 q^2 a layer, 1 / (2 layers)
    in the end: not kept, yet nothing like the 1e-15 of the wrong start. A gain of 5/3 keeps it."""
    sizes, _ = through(nn.XavierNormal(), "tanh")
    assert 0.5 < sizes[-1] * 2 * DEPTH < 2


def test_a_sigmoid_keeps_its_size_and_forgets_its_input():
    """S1.59 names LeCun for the sigmoid, and sizes are kept (above). But all rows become the same: its slope is 1/4 at
    most, so gradients shrink sixteenfold a layer. This, not the start, is why deep nets have other activations (S1.10)."""
    _, gradients = through(nn.LeCunNormal(), "sigmoid")
    assert 0 < gradients[-11] / gradients[-1] < 16.0**-10


def test_zeros_learn_one_unit():
    """S1.59: with equal weights every unit of a layer gets the same gradient, for ever."""
    net = nn.Sequential(
        nn.Linear(4, weight_init=nn.Full(0.1), bias=False), nn.Tanh(), nn.Linear(1, weight_init=nn.Full(0.1))
    )
    x = jax.random.normal(jax.random.key(0), (8, 3))
    params, _ = net.init(jax.random.key(1), x)
    for _ in range(3):
        gradient = jax.grad(lambda p: ((net.apply(p, {}, x)[0][:, 0] - x[:, 0]) ** 2).mean())(params)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    np.testing.assert_allclose(params["0.weight"], params["0.weight"][:1].repeat(4, 0), rtol=1e-6)
    assert np.abs(params["0.weight"] - 0.1).max() > 1e-3  # they do learn, all the same


# -- with a structure


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5), (6, 2, 3, 3), (20, 2, 3)])
def test_orthogonal(shape):
    w = np.asarray(nn.Orthogonal(1.5)(jax.random.key(0), shape))
    assert w.shape == shape
    m = w.reshape(shape[0], -1)
    m = m if m.shape[0] <= m.shape[1] else m.T
    np.testing.assert_allclose(m @ m.T, 2.25 * np.eye(len(m)), atol=1e-5)


def test_orthogonal_draws_every_rotation():
    """Uniform over the orthogonal matrices: first entries of both signs, determinants too (4 sigma of 400)."""
    w = np.asarray(jax.vmap(lambda key: nn.Orthogonal()(key, (3, 3)))(jax.random.split(jax.random.key(0), 400)))
    assert abs((w > 0).mean(0) - 0.5).max() < 4 * 0.5 / 20
    assert abs((np.linalg.det(w) > 0).mean() - 0.5) < 4 * 0.5 / 20


@pytest.mark.parametrize("sparsity, rows", [(0.1, 25), (0.3, 10), (0.5, 7), (0.0, 5), (1.0, 5), (0.7, 10)])
def test_sparse_has_torch_s_number_of_zeros(sparsity, rows):
    ours = nn.Sparse(sparsity, 0.5)
    for init in (ours, jax.tree.map(jnp.float32, ours)):
        w = np.asarray(init(jax.random.key(0), (rows, 300)))
        theirs = T.sparse_(torch.empty(rows, 300), sparsity, 0.5).numpy()
        np.testing.assert_array_equal((w == 0).sum(0), (theirs == 0).sum(0))
    if 0 < sparsity < 1:  # which rows are zero is drawn for each column: 5 sigma
        share = (w == 0).sum(0)[0] / rows
        np.testing.assert_allclose((w == 0).mean(1), share, atol=5 * math.sqrt(share * (1 - share) / 300))
        kept = w[w != 0]
        np.testing.assert_allclose(kept.std(), 0.5, rtol=5 * math.sqrt(0.5 / kept.size))


def test_identity_and_dirac_are_torch_s():
    for shape in [(3, 3), (2, 4), (4, 2)]:
        np.testing.assert_array_equal(nn.Eye()(jax.random.key(0), shape), T.eye_(torch.empty(shape)))
    for shape, groups in [((3, 3, 3), 1), ((4, 2, 3, 3), 2), ((2, 3, 4), 1), ((6, 1, 3, 2, 5), 3)]:
        np.testing.assert_array_equal(
            nn.Dirac(groups)(jax.random.key(0), shape), T.dirac_(torch.empty(shape), groups), err_msg=f"{shape}"
        )


def test_truncated_normal_stays_in_its_bounds():
    w = nn.TruncatedNormal(1.0, 0.0, -0.5, 0.1)(jax.random.key(0), (100, 100), jnp.bfloat16)
    assert w.dtype == jnp.bfloat16 and -0.5 <= w.min() and w.max() <= jnp.bfloat16(0.1)


# -- as specs


def test_constants():
    key = jax.random.key(0)
    assert nn.Zeros()(key, (2, 3)).tolist() == [[0.0] * 3] * 2
    assert nn.Ones()(key, (2,)).tolist() == [1.0] * 2
    assert nn.Full(0.25)(key, (2,)).tolist() == [0.25] * 2
    assert nn.Full(0.25)(key, (2,), jnp.bfloat16).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "init",
    [
        nn.HeNormal(0.1), nn.HeUniform(0.1, "fan_out"), nn.HeNormal(nonlinearity="tanh"), nn.XavierUniform(2.0), nn.Full(1.0),
        nn.Zeros(), nn.Ones(), nn.Normal(), nn.Uniform(0.1, 0.2), nn.TruncatedNormal(0.1), nn.Orthogonal(1.5), nn.Sparse(0.2),
        nn.Eye(), nn.LeCunNormal(mode="fan_out"), nn.LeCunUniform(2.0), nn.XavierNormal(),
    ],
    ids=repr,
)  # fmt: skip
def test_a_start_is_a_spec(init):
    check_spec(init)
    layer = nn.Linear(3, weight_init=init)
    check_spec(layer)
    drawn = jax.jit(lambda layer: layer.init(jax.random.key(0), jnp.ones((1, 2)))[0])(layer)
    plain = layer.init(jax.random.key(0), jnp.ones((1, 2)))[0]
    np.testing.assert_allclose(drawn["weight"], plain["weight"], rtol=1e-6)


def test_the_gain_of_a_start_can_be_swept():
    net = nn.Sequential(nn.Linear(3, weight_init=nn.XavierNormal()), nn.Linear(1))
    assert spec.leaf_paths(net) == ["layers.0.weight_init.gain"]
    swept = spec.set(net, "layers.0.weight_init.gain", jnp.array([1.0, 2.0]))
    made = jax.vmap(lambda net: net.init(jax.random.key(0), jnp.ones((1, 2)))[0])(swept)
    np.testing.assert_allclose(made["0.weight"][1], 2 * made["0.weight"][0], rtol=1e-6)


def test_a_bias_has_no_fan_in():
    with pytest.raises(ModelError, match=r"needs a shape \[out, in, ...\], got \(3,\). For a bias, use Zeros"):
        nn.HeNormal()(jax.random.key(0), (3,))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.HeNormal(nonlinearity="relo"), "no gain is known for 'relo'. Nearest: relu"),
        (lambda: nn.calculate_gain("elu"), "no gain is known for 'elu'."),
        (lambda: nn.HeUniform(mode="fan_avg"), "HeUniform.mode must be"),
        (lambda: nn.TruncatedNormal(1.0, 0.0, 2.0, 1.0), "TruncatedNormal.a must be below b, got 2.0 and 1.0."),
        (lambda: nn.Sparse(1.5), "Sparse.sparsity must be in [0, 1], got 1.5. It is the share of zeros."),
        (lambda: nn.Dirac(0), "Dirac.groups must be at least 1, got 0."),
    ],
)  # fmt: skip
def test_what_a_start_must_be(make, message):
    with pytest.raises(SpecError) as error:
        make()
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "init, shape, message",
    [
        (nn.Orthogonal(), (3,), "Orthogonal makes weights [out, in, ...], got (3,)."),
        (nn.Sparse(0.1), (3, 2, 1), "Sparse makes weights [out, in], got (3, 2, 1)."),
        (nn.Eye(), (3,), "Eye makes weights [out, in], got (3,)."),
        (nn.Dirac(), (3, 3), "Dirac makes weights [out, in / groups, kernel, ...], got (3, 3)."),
        (nn.Dirac(2), (3, 3, 3), "Dirac: 2 groups do not divide 3 outputs of (3, 3, 3)."),
    ],
)
def test_what_a_shape_must_be(init, shape, message):
    with pytest.raises(ModelError) as error:
        init(jax.random.key(0), shape)
    assert str(error.value) == message
