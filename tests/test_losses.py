"""The losses of numbers against torch, the course's numbers, the base of all losses, and what each refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from losses_against_torch import agree, draw

from derin import nn, spec
from derin.errors import ModelError, SpecError
from derin.testing import check_loss

few = settings(max_examples=5, deadline=None)
rows, wide, seeds = st.sampled_from([1, 3]), st.integers(1, 2), st.integers(0, 2**31 - 1)
TRUE, GUESS = jnp.array([10.0, 20.0, 30.0]), jnp.array([12.0, 18.0, 30.0])


@few
@given(rows, st.lists(wide, max_size=2), st.floats(0.1, 3), seeds)
def test_errors_of_numbers(n, rest, size, seed):
    output, target = draw(seed, n, *rest, scale=2), draw(seed + 1, n, *rest, scale=2)
    agree(nn.MSELoss(), torch.nn.MSELoss, output, target, slopes=(0, 1))
    agree(nn.L1Loss(), torch.nn.L1Loss, output, target, slopes=(0, 1))
    agree(nn.HuberLoss(size), lambda reduction: torch.nn.HuberLoss(reduction, size), output, target)
    agree(
        nn.SmoothL1Loss(size), lambda reduction: torch.nn.SmoothL1Loss(reduction=reduction, beta=size), output, target
    )


@few
@given(rows, st.lists(wide, max_size=1), st.booleans(), st.booleans(), seeds)
def test_poisson(n, rest, log_input, full, seed):
    output = draw(seed, n, *rest)
    output = output if log_input else np.abs(output)
    target = np.random.default_rng(seed).poisson(2, (n, *rest)).astype(np.float32)
    theirs = lambda reduction: torch.nn.PoissonNLLLoss(log_input, full, reduction=reduction)  # noqa: E731
    agree(nn.PoissonNLLLoss(log_input, full), theirs, output, target, tolerance=3e-5)


@few
@given(rows, wide, st.sampled_from(["own", "one", "none"]), st.booleans(), seeds)
def test_gaussian(n, width, spread, full, seed):
    output, target = draw(seed, n, width), draw(seed + 1, n, width)
    var = {"own": (n, width), "one": (n, 1), "none": (n,)}[spread]
    var = np.maximum(np.random.default_rng(seed).uniform(-0.5, 2, var), 0).astype(np.float32)  # some are 0: eps holds
    theirs = lambda reduction: torch.nn.GaussianNLLLoss(full=full, eps=0.01, reduction=reduction)  # noqa: E731
    agree(nn.GaussianNLLLoss(full, eps=0.01), theirs, output, target, var, slopes=(0, 1, 2), tolerance=3e-5)


def test_kinks_have_torch_s_slopes():
    output, target = np.array([0, 1, -1, 2, -2], np.float32), np.zeros(5, np.float32)
    agree(nn.L1Loss(), torch.nn.L1Loss, output, target)
    agree(nn.HuberLoss(), torch.nn.HuberLoss, output, target)
    agree(nn.SmoothL1Loss(), torch.nn.SmoothL1Loss, output, target)
    agree(nn.SmoothL1Loss(0.0), lambda reduction: torch.nn.SmoothL1Loss(reduction=reduction, beta=0.0), output, target)


@few
@given(st.integers(1, 20), st.floats(0.05, 0.95), seeds)
def test_quantile_is_scikit_learn_s(n, q, seed):
    from sklearn.metrics import mean_pinball_loss

    output, target = draw(seed, n), draw(seed + 1, n)
    value, slope = jax.value_and_grad(nn.QuantileLoss(q))(jnp.asarray(output), jnp.asarray(target))
    np.testing.assert_allclose(value, mean_pinball_loss(target, output, alpha=q), rtol=1e-5)
    np.testing.assert_allclose(slope, np.where(target >= output, -q, 1 - q) / n, rtol=1e-5)


def test_the_best_constant_of_each_loss():
    target = jnp.asarray(np.random.default_rng(0).exponential(size=999).astype(np.float32))
    grid = jnp.linspace(0, 3, 1201)
    best = lambda loss: float(grid[jax.vmap(lambda c: loss(jnp.full(999, c), target))(grid).argmin()])  # noqa: E731
    assert best(nn.MSELoss()) == pytest.approx(float(target.mean()), abs=0.003)
    assert best(nn.L1Loss()) == pytest.approx(float(jnp.median(target)), abs=0.005)
    assert best(nn.QuantileLoss(0.9)) == pytest.approx(float(jnp.quantile(target, 0.9)), abs=0.02)


def test_the_course_s_numbers():
    assert float(nn.MSELoss()(GUESS, TRUE)) == pytest.approx(8 / 3)  # S0.09
    assert nn.MSELoss(reduction="none")(GUESS, TRUE).tolist() == [4, 4, 0]  # S0.09
    assert float(nn.RMSELoss()(GUESS, TRUE)) == pytest.approx(1.63299, abs=1e-5)  # S0.11
    assert float(nn.L1Loss()(GUESS, TRUE)) == pytest.approx(4 / 3)  # S0.12
    errors = jnp.array([5.0, 2.0, 10.0])
    assert nn.HuberLoss(4.0, reduction="none")(errors, jnp.zeros(3)).tolist() == [12, 2, 32]  # S0.14
    assert float(nn.HuberLoss(4.0)(errors, jnp.zeros(3))) == pytest.approx(46 / 3)  # S0.14
    smooth = nn.SmoothL1Loss(5.0, reduction="none")(errors, jnp.zeros(3))
    np.testing.assert_allclose(smooth, [2.5, 0.4, 7.5], rtol=1e-6)  # S0.15
    np.testing.assert_allclose(nn.HuberLoss(5.0)(errors, jnp.zeros(3)) / 5, smooth.mean(), rtol=1e-6)  # S0.15


def test_the_course_s_halves():
    half = nn.MSELoss(half=True, reduction="sum")
    assert float(half(jnp.array([0.91]), jnp.array([1.0]))) == pytest.approx(0.00405)  # S1.31
    x, w, y = jnp.array([1.0, 2.0]), jnp.array([0.5, 0.25]), 3.0
    slope = jax.grad(lambda w: half((w @ x)[None], jnp.array([y])))(w)
    np.testing.assert_allclose(slope, (w @ x - y) * x, rtol=1e-6)  # S1.44: (prediction - y) x, no 2
    X, y = jnp.asarray(draw(0, 5, 2)), jnp.asarray(draw(1, 5))
    slope = jax.grad(lambda w: nn.MSELoss(half=True)(X @ w, y))(w)
    np.testing.assert_allclose(slope, X.T @ (X @ w - y) / 5, rtol=1e-5)  # S1.39: the (1/2m) sum, gradient (1/m)
    w = 5.0
    for _ in range(2):  # S0.19: w 5 -> 4.7 -> 4.43, y = 2x at x = 1, rate 0.1
        w = w - 0.1 * float(jax.grad(lambda w: nn.MSELoss(half=True)(w[None], jnp.array([2.0])))(jnp.float32(w)))
    assert w == pytest.approx(4.43, abs=1e-5)


def test_root_mean_square():
    output, target, weight = jnp.asarray(draw(0, 4, 3)), jnp.asarray(draw(1, 4, 3)), jnp.array([1.0, 0, 2, 1])
    value, slope = jax.value_and_grad(nn.RMSELoss())(output, target, weight)
    mean, by = jax.value_and_grad(nn.MSELoss())(output, target, weight)
    np.testing.assert_allclose(value, np.sqrt(mean), rtol=1e-6)
    np.testing.assert_allclose(slope, by / (2 * value), rtol=1e-5, atol=1e-8)
    assert not jax.grad(nn.RMSELoss())(target, target).any()  # no errors: slope 0, not nan
    with pytest.raises(SpecError, match=r"RMSELoss.reduction must be one of 'mean', got 'sum'"):
        nn.RMSELoss(reduction="sum")


@pytest.mark.parametrize("far", [1e4, -1e4])
def test_far_outputs_are_finite_in_value_and_gradient(far):
    output, target = jnp.array([far, 0.0, -far]), jnp.array([1.0, 2.0, 0.0])
    for loss in (nn.MSELoss(), nn.RMSELoss(), nn.L1Loss(), nn.HuberLoss(), nn.SmoothL1Loss(), nn.QuantileLoss(0.9),
                 nn.PoissonNLLLoss(full=True)):  # fmt: skip
        value, slope = jax.value_and_grad(loss)(output, target)
        assert np.isfinite(value) and np.isfinite(slope).all(), loss
    value, slope = jax.value_and_grad(nn.GaussianNLLLoss())(output, target, jnp.array([1e4, 0.0, 1e-9]))
    assert np.isfinite(value) and np.isfinite(slope).all()


@pytest.mark.parametrize(
    "loss, inputs",
    [
        (nn.MSELoss(), (draw(0, 5), draw(1, 5))),
        (nn.MSELoss(half=True), (draw(0, 5, 1), draw(1, 5))),
        (nn.RMSELoss(), (draw(0, 5, 2), draw(1, 5, 2))),
        (nn.L1Loss(), (draw(0, 5, 3), draw(1, 5, 3))),
        (nn.HuberLoss(0.5), (draw(0, 5), draw(1, 5))),
        (nn.SmoothL1Loss(0.5), (draw(0, 5), draw(1, 5))),
        (nn.QuantileLoss(0.9), (draw(0, 5), draw(1, 5))),
        (nn.PoissonNLLLoss(), (draw(0, 5), np.arange(5.0))),
        (nn.GaussianNLLLoss(), (draw(0, 5), draw(1, 5), np.arange(1.0, 6.0))),
    ],
)
def test_conformance(loss, inputs):
    check_loss(loss, *map(jnp.asarray, inputs))


def test_a_mean_of_nothing_is_nothing():
    assert float(nn.MSELoss()(jnp.ones(3), jnp.zeros(3), jnp.zeros(3))) == 0


def test_reductions_and_weights():
    output, target, weight = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.zeros((2, 2)), jnp.array([1.0, 0.5])
    assert nn.MSELoss(reduction="none")(output, target, weight).tolist() == [[1, 4], [4.5, 8]]
    assert float(nn.MSELoss(reduction="sum")(output, target, weight)) == 17.5
    assert float(nn.MSELoss()(output, target, weight)) == pytest.approx((2.5 + 0.5 * 12.5) / 1.5)
    with pytest.raises(SpecError, match=r"MSELoss.reduction must be one of 'none', 'mean', 'sum', got 'average'"):
        nn.MSELoss(reduction="average")
    with pytest.raises(ModelError, match=r"weight needs one value an example, \(2,\); got shape \(2, 2\)"):
        nn.MSELoss(reduction="sum")(output, target, output)


def test_a_loss_of_one_value_an_example_has_all_reductions():
    class Worst(nn.Loss):
        def each(self, output, target):
            return jnp.abs(output - target).max(-1)

    output, target = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.zeros((2, 2))
    assert Worst(reduction="none")(output, target).tolist() == [2, 4]
    assert float(Worst()(output, target)) == 3 and float(Worst(reduction="sum")(output, target)) == 6

    class Nothing(nn.Loss):
        pass

    with pytest.raises(NotImplementedError, match=r"Nothing has no values\(self, output, target\)"):
        Nothing()(output, target)


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.L1Loss(), nn.HuberLoss(), nn.RMSELoss(), nn.BCEWithLogitsLoss()])
@pytest.mark.parametrize("output, target", [((4, 2), (4,)), ((4,), (5,)), ((4, 1), (4, 4)), ((4,), (1, 4)), ((4,), ())])
def test_shapes_are_never_broadcast(loss, output, target):
    with pytest.raises(ModelError, match=f"{type(loss).__name__} needs output and target of one shape"):
        loss(jnp.ones(output), jnp.ones(target))


def test_n_by_1_is_n_numbers():
    output, target = jnp.array([[1.0], [3.0]]), jnp.array([1.0, 1.0])
    assert float(nn.MSELoss()(output, target)) == 2 and float(nn.MSELoss()(target, output)) == 2
    assert nn.MSELoss().each(output, target).tolist() == [0, 4]


def test_a_weight_for_every_example():
    with pytest.raises(ModelError, match=r"weight needs one value an example, \(3,\); got shape \(2,\)"):
        nn.MSELoss()(jnp.ones(3), jnp.ones(3), jnp.ones(2))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.HuberLoss(0), r"HuberLoss.delta must be above 0, got 0.0"),
        (lambda: nn.SmoothL1Loss(-1), r"SmoothL1Loss.beta must be 0 or more, got -1.0"),
        (lambda: nn.QuantileLoss(1.5), r"QuantileLoss.quantile must be between 0 and 1, got 1.5"),
        (lambda: nn.GaussianNLLLoss(eps=0), r"GaussianNLLLoss.eps must be above 0"),
    ],
)
def test_bad_hyperparameters(make, message):
    with pytest.raises(SpecError, match=message):
        make()


@pytest.mark.parametrize(
    "loss, shapes, message",
    [
        (nn.MSELoss(), [(0,), (0,)], r"MSELoss got an empty batch, of shape \(0,\)"),
        (nn.GaussianNLLLoss(), [(3, 2), (3, 2), (2,)], r"needs a variance of the output's shape \(3, 2\).* got \(2,\)"),
        (nn.GaussianNLLLoss(), [(3,), (3,)], "GaussianNLLLoss takes output, target, var: 2 arrays came"),
    ],
)
def test_bad_shapes(loss, shapes, message):
    with pytest.raises(ModelError, match=message):
        loss(*map(jnp.ones, shapes))


def test_a_negative_variance_is_not_a_loss():
    one = jnp.ones(2)
    with pytest.raises(ModelError, match=r"a variance is 0 or more; .* got -2.0"):
        nn.GaussianNLLLoss()(one, one, jnp.array([1.0, -2.0]))
    assert np.isnan(jax.jit(nn.GaussianNLLLoss())(one, one, jnp.array([1.0, -2.0])))


def test_one_program_for_every_number_of_a_loss():
    traces = []

    @jax.jit
    def value(loss, output, target):
        traces.append(1)
        return loss(output, target)

    output, target = jnp.asarray(draw(0, 4)), jnp.asarray(draw(1, 4))
    for loss in (nn.SmoothL1Loss(1.0), nn.SmoothL1Loss(0.0), nn.SmoothL1Loss(0.3)):
        np.testing.assert_allclose(value(loss, output, target), loss(output, target), rtol=1e-6)
        assert spec.from_json(spec.to_json(loss)) == loss
    assert len(traces) == 1
    many = nn.HuberLoss(jnp.array([0.5, 1.0, 2.0]))
    each = [float(nn.HuberLoss(d)(output, target)) for d in (0.5, 1.0, 2.0)]
    np.testing.assert_allclose(jax.vmap(lambda loss: loss(output, target))(many), each, rtol=1e-6)
