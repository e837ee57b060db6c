"""Every loss against torch: values, gradients, weights; far logits; messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from derin import nn, spec
from derin.errors import ModelError, SpecError
from derin.testing import check_loss

few = settings(max_examples=15, deadline=None)
rows, wide, seeds = st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**31 - 1)


def agree(loss, theirs, output, target, torch_output=None, torch_target=None, axis_last=False):
    """The mean and its gradient are torch's; torch wants classes at axis 1 where derin has them last."""
    o = torch.tensor(np.moveaxis(output, -1, 1) if axis_last else output, requires_grad=True)
    t = torch.tensor(target if torch_target is None else torch_target)
    value = theirs(o, t)
    value.backward()
    ours, slope = jax.value_and_grad(lambda o: loss(o, jnp.asarray(target)))(jnp.asarray(output))
    np.testing.assert_allclose(ours, value.detach().numpy(), rtol=1e-5, atol=1e-6)
    grad = o.grad.numpy()
    np.testing.assert_allclose(slope, np.moveaxis(grad, 1, -1) if axis_last else grad, rtol=1e-4, atol=1e-6)


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@few
@given(rows, st.lists(wide, max_size=2), seeds)
def test_regression_losses(n, rest, seed):
    output, target = draw(seed, n, *rest), draw(seed + 1, n, *rest)
    agree(nn.MSELoss(), torch.nn.MSELoss(), output, target)
    agree(nn.L1Loss(), torch.nn.L1Loss(), output, target)


@few
@given(rows, wide, st.floats(0.1, 4), seeds)
def test_bce_with_logits(n, labels, weight, seed):
    output, target = draw(seed, n, labels) * 5, (draw(seed + 1, n, labels) > 0).astype(np.float32)
    agree(nn.BCEWithLogitsLoss(), torch.nn.BCEWithLogitsLoss(), output, target)
    theirs = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weight))
    agree(nn.BCEWithLogitsLoss(pos_weight=weight), theirs, output, target)
    each = tuple(weight + i for i in range(labels))
    theirs = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(each))
    agree(nn.BCEWithLogitsLoss(pos_weight=each), theirs, output, target)
    soft = 1 / (1 + np.exp(-draw(seed + 2, n, labels)))
    agree(nn.BCEWithLogitsLoss(), torch.nn.BCEWithLogitsLoss(), output, soft.astype(np.float32))


@few
@given(rows, st.integers(2, 5), st.lists(st.integers(1, 3), max_size=2), st.sampled_from([0.0, 0.1, 1.0]),
       st.booleans(), seeds)  # fmt: skip
def test_cross_entropy_of_labels(n, classes, rest, smoothing, weighted, seed):
    output = draw(seed, n, *rest, classes) * 4
    target = np.random.default_rng(seed).integers(0, classes, (n, *rest))
    weight = np.random.default_rng(seed).uniform(0.2, 3, classes).astype(np.float32) if weighted else None
    theirs = torch.nn.CrossEntropyLoss(None if weight is None else torch.tensor(weight), label_smoothing=smoothing)
    ours = nn.CrossEntropyLoss(None if weight is None else tuple(weight.tolist()), smoothing)
    agree(ours, theirs, output, target.astype(np.int32), torch_target=target, axis_last=True)


@few
@given(rows, st.integers(2, 5), st.sampled_from([0.0, 0.3]), st.booleans(), seeds)
def test_cross_entropy_of_probabilities(n, classes, smoothing, weighted, seed):
    output, target = draw(seed, n, classes) * 4, np.exp(draw(seed + 1, n, classes))
    target = (target / target.sum(1, keepdims=True)).astype(np.float32)
    weight = np.random.default_rng(seed).uniform(0.2, 3, classes).astype(np.float32) if weighted else None
    theirs = torch.nn.CrossEntropyLoss(None if weight is None else torch.tensor(weight), label_smoothing=smoothing)
    agree(nn.CrossEntropyLoss(None if weight is None else tuple(weight.tolist()), smoothing), theirs, output, target)


@pytest.mark.parametrize("far", [1e4, -1e4, 1e2, -1e2])
def test_far_logits_have_exact_finite_values_and_gradients(far):
    output = np.array([[far, 0.0, -far], [0.0, far, 0.0]], np.float32)
    for label in range(3):
        target = np.array([label, 1])
        agree(nn.CrossEntropyLoss(), torch.nn.CrossEntropyLoss(), output, target)
    for y in (0.0, 1.0):
        target = np.full((2, 3), y, np.float32)
        agree(nn.BCEWithLogitsLoss(), torch.nn.BCEWithLogitsLoss(), output, target)
    value = nn.BCEWithLogitsLoss()(jnp.array([-20.0]), jnp.array([0.0]))  # torch's form rounds it to 0 or 2e-6
    np.testing.assert_allclose(value, np.log1p(np.exp(-20.0)), rtol=1e-5)


def test_a_class_that_is_ruled_out_by_minus_infinity():
    output = jnp.array([[1.0, -jnp.inf, 2.0]])
    for loss in (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(weight=(1, 2, 3))):
        value, slope = jax.value_and_grad(loss)(output, jnp.array([0]))
        np.testing.assert_allclose(value, np.log(1 + np.e), rtol=1e-6)
        assert np.isfinite(slope).all()
    value, slope = jax.value_and_grad(nn.CrossEntropyLoss())(output, jnp.array([[0.5, 0.0, 0.5]]))
    assert np.isfinite(value) and np.isfinite(slope).all()


@pytest.mark.parametrize(
    "loss, output, target",
    [
        (nn.MSELoss(), draw(0, 5), draw(1, 5)),
        (nn.MSELoss(), draw(0, 5, 1), draw(1, 5)),
        (nn.L1Loss(), draw(0, 5, 3), draw(1, 5, 3)),
        (nn.BCEWithLogitsLoss(), draw(0, 5), np.array([0, 1, 1, 0, 1])),
        (nn.BCEWithLogitsLoss(pos_weight=2.0), draw(0, 5, 1), np.array([0, 1, 1, 0, 1])),
        (nn.BCEWithLogitsLoss(pos_weight=(2.0, 0.5)), draw(0, 4, 2), (draw(1, 4, 2) > 0)),
        (nn.CrossEntropyLoss(), draw(0, 5, 3), np.array([0, 1, 2, 1, 0], np.int32)),
        (nn.CrossEntropyLoss((1.0, 0.5, 2.0), 0.1), draw(0, 5, 3), np.array([0, 1, 2, 1, 0], np.int32)),
        (nn.CrossEntropyLoss(label_smoothing=0.1), draw(0, 4, 3), np.full((4, 3), 1 / 3, np.float32)),
    ],
)
def test_conformance(loss, output, target):
    check_loss(loss, jnp.asarray(output), jnp.asarray(target))


def test_the_course_s_numbers():
    assert float(nn.MSELoss()(jnp.array([10.0, 20, 30]), jnp.array([12.0, 18, 30]))) == pytest.approx(8 / 3)  # S0.09
    assert float(nn.L1Loss()(jnp.array([10.0, 20, 30]), jnp.array([12.0, 18, 30]))) == pytest.approx(4 / 3)  # S0.12
    p = jnp.array([0.9, 0.7, 0.3])
    bce = nn.BCEWithLogitsLoss()(jnp.log(p / (1 - p)), jnp.array([1, 1, 0]))
    assert float(bce) == pytest.approx(0.27290, abs=5e-6)  # S0.28, printed 0.27
    value = nn.CrossEntropyLoss()(jnp.array([[2.0, 1.0, 0.1]]), jnp.array([0]))
    assert float(value) == pytest.approx(0.4170, abs=5e-5)  # S1.36, printed 0.41


def test_a_mean_of_nothing_is_nothing():
    assert float(nn.MSELoss()(jnp.ones(3), jnp.zeros(3), jnp.zeros(3))) == 0


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.L1Loss(), nn.BCEWithLogitsLoss()])
@pytest.mark.parametrize("output, target", [((4, 2), (4,)), ((4,), (5,)), ((4, 1), (4, 4)), ((4,), (1, 4)), ((4,), ())])
def test_shapes_are_never_broadcast(loss, output, target):
    with pytest.raises(ModelError, match=f"{type(loss).__name__} needs output and target of one shape"):
        loss(jnp.ones(output), jnp.ones(target))


def test_n_by_1_is_n_numbers():
    output, target = jnp.array([[1.0], [3.0]]), jnp.array([1.0, 1.0])
    assert float(nn.MSELoss()(output, target)) == 2 and float(nn.MSELoss()(target, output)) == 2
    assert nn.MSELoss().each(output, target).tolist() == [0, 4]


@pytest.mark.parametrize(
    "loss, output, target, message",
    [
        (nn.CrossEntropyLoss(), jnp.ones((3, 2)), jnp.zeros(4, int), r"got shapes \(3, 2\) and \(4,\)"),
        (nn.CrossEntropyLoss(), jnp.ones(3), jnp.zeros(3, int), r"needs logits \[batch, ..., classes\]"),
        (nn.CrossEntropyLoss(), jnp.ones((3, 2)), jnp.zeros(3), r"a float32 target .* int labels \(3,\)"),
        (nn.CrossEntropyLoss(), jnp.ones((3, 2)), jnp.zeros(3, bool), "int labels"),
        (nn.CrossEntropyLoss((1.0, 2.0, 3.0)), jnp.ones((3, 2)), jnp.zeros(3, int), "has 3 values, .* 2 classes"),
        (nn.BCEWithLogitsLoss((1.0, 2.0, 3.0)), jnp.ones((3, 2)), jnp.zeros((3, 2)), "has 3 values, .* 2 labels"),
    ],
)
def test_messages(loss, output, target, message):
    with pytest.raises(ModelError, match=message):
        loss(output, target)


def test_a_weight_for_every_example():
    with pytest.raises(ModelError, match=r"weight needs one value an example, \(3,\); got shape \(2,\)"):
        nn.MSELoss()(jnp.ones(3), jnp.ones(3), jnp.ones(2))


def test_a_label_that_does_not_exist_is_not_a_loss():
    each = nn.CrossEntropyLoss().each(jnp.ones((3, 2)), jnp.array([0, 2, -1]))
    assert np.isnan(each).tolist() == [False, True, True]


def test_label_smoothing_is_a_share():
    with pytest.raises(SpecError, match=r"label_smoothing must be in \[0, 1\], got 1.5"):
        nn.CrossEntropyLoss(label_smoothing=1.5)


def test_one_program_for_every_weight_and_smoothing():
    traces = []

    @jax.jit
    def value(loss, output, target):
        traces.append(1)
        return loss(output, target)

    output, target = jnp.asarray(draw(0, 4, 2)), jnp.array([0, 1, 1, 0])
    for loss in (nn.CrossEntropyLoss((1, 2), 0.1), nn.CrossEntropyLoss((2.5, 0.5), 0.0)):
        np.testing.assert_allclose(value(loss, output, target), loss(output, target), rtol=1e-6)
        assert spec.from_json(spec.to_json(loss)) == loss
    assert len(traces) == 1
