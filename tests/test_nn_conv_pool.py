"""Convolution, activation and max pooling in one step: as torch does them one after another, ties included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_against_torch import close, compare

from derin import ModelError, nn
from derin.nn import conv_pool, window

few = settings(max_examples=6, deadline=None)
seeds = st.integers(0, 2**31 - 1)
ACTIVATIONS = {"ReLU": nn.ReLU, "ReLU6": nn.ReLU6, "Tanh": nn.Tanh}


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def early(monkeypatch):
    """How often a convolution has pooled; images of any size count as large."""
    calls = []
    monkeypatch.setattr(conv_pool, "_MANY", 0)
    for name in ("conv_pool", "_by_tiles"):
        function = getattr(conv_pool, name)
        monkeypatch.setattr(
            conv_pool, name, lambda *given, f=function, name=name: (calls.append(name), f(*given))[1]
        )  # fmt: skip
    return calls


@few
@given(st.integers(1, 3), st.integers(1, 2), st.sampled_from(list(ACTIVATIONS)), st.sampled_from([1, 40, 2**20]), seeds)
def test_equals_torch(n, groups, activation, block, seed):
    random = np.random.default_rng(seed)
    kernel, pool = (tuple(map(int, random.integers(1, 4, n))) for _ in range(2))
    fields = {"stride": 1, "dilation": 1, "padding": int(random.integers(0, 2)), "groups": groups}
    if random.random() < 0.4:
        fields |= {"stride": 2, "dilation": 2}
    more = {"padding": int(min(pool) // 2), "stride": 2, "ceil_mode": True} if random.random() < 0.3 else {}
    sizes = (
        2 * (k - 1) + 1 + fields["stride"] * (p - 1) + int(random.integers(4))
        for k, p in zip(kernel, pool, strict=True)
    )
    x = normal((4, *sizes, 2), seed)
    ours = nn.Sequential(
        getattr(nn, f"Conv{n}d")(4, kernel, **fields), ACTIVATIONS[activation](), getattr(nn, f"MaxPool{n}d")(pool, **more)
    )  # fmt: skip
    theirs = torch.nn.Sequential(
        getattr(torch.nn, f"Conv{n}d")(2, 4, kernel, **fields),
        getattr(torch.nn, activation)(),
        getattr(torch.nn, f"MaxPool{n}d")(pool, **more),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_pool, "_MANY", 0)
        patch.setattr(window, "_BLOCK", block)
        for data in (x, np.round(x).clip(0)):  # many equal values: the first takes the gradient
            compare(ours, theirs, data, axes=n + 2)


NET = nn.Sequential(
    nn.Conv2d(4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 3, padding=1), jnp.tanh, nn.MaxPool2d(3, 2, padding=1)
)  # fmt: skip
X = normal((8, 13, 11, 1))


def drawn(seed=0):
    return NET.init(jax.random.key(seed), X)[0]


def test_each_convolution_pools_and_that_of_an_image_by_tiles(early):
    NET.apply(drawn(), {}, X)
    assert early == ["conv_pool", "_by_tiles", "conv_pool"]


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(4, 3), nn.GELU(), nn.MaxPool2d(2)),
        (nn.Conv2d(4, 3), nn.BatchNorm(), nn.MaxPool2d(2)),
        (nn.Conv2d(4, 3), nn.ReLU(), nn.AvgPool2d(2)),
        (nn.Conv2d(4, 3), nn.ReLU()),
    ],
)
def test_what_may_not_come_first_does_not(layers, early):
    net = nn.Sequential(*layers)
    net.apply(*net.init(jax.random.key(0), X), X)
    assert early == []


def test_whoever_looks_at_the_layers_sees_each_as_it_is(early):
    seen = nn.module.activations(NET, drawn(), {}, X)
    assert early == []
    assert [seen[str(i)].shape[1:] for i in range(4)] == [(11, 9, 4), (11, 9, 4), (5, 4, 4), (5, 4, 6)]
    close(NET.apply(drawn(), {}, X)[0], seen[""], 1e-6, "output")
    assert early


def test_stacked_models_equal_a_loop(early):
    every = [drawn(seed) for seed in range(2)]
    stack = jax.tree.map(lambda *a: jnp.stack(a), *every)
    gradient = jax.grad(lambda params, x: (NET.apply(params, {}, x)[0] ** 2).sum())
    together = jax.jit(jax.vmap(gradient, (0, None)))(stack, X)
    for i, params in enumerate(every):
        for name, g in jax.jit(gradient)(params, X).items():
            close(together[name][i], np.asarray(g), 2e-5, name)
    assert early


def test_second_derivatives(early):
    params = drawn()
    along = jax.tree.map(jnp.ones_like, params)

    def slope(params, net):
        gradient = jax.grad(lambda params: (net(params) ** 2).sum())
        return jax.jit(lambda params: jax.jvp(gradient, (params,), (along,))[1])(params)

    plain = slope(params, lambda params: nn.module.activations(NET, params, {}, X)[""])
    assert early == []
    for name, g in slope(params, lambda params: NET.apply(params, {}, X)[0]).items():
        close(g, np.asarray(plain[name]), 2e-5, name)
    assert early


def test_a_window_longer_than_the_map_is_named(early):
    net = nn.Sequential(nn.Conv2d(4, 3), nn.ReLU(), nn.MaxPool2d(4))
    params, state = net.init(jax.random.key(0), X)
    with pytest.raises(ModelError, match=r"MaxPool2d: the window is 4 long, the input \(3, 3\)"):
        net.apply(params, state, X[:, :5, :5])
