"""The losses of classes and of labels against torch: values, gradients, reductions; far logits; messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from losses_against_torch import agree, close, draw, labels, signs

from derin import nn, spec
from derin.errors import ModelError, SpecError
from derin.testing import check_loss

few = settings(max_examples=5, deadline=None)
rows, wide, seeds = st.sampled_from([1, 3]), st.integers(1, 2), st.integers(0, 2**31 - 1)


def made(theirs, *args, **kwargs):
    return lambda reduction: theirs(*args, **kwargs, reduction=reduction)


def some_weights(seed, classes):
    """The same weights for derin and for torch."""
    w = np.random.default_rng(seed).uniform(0.2, 3, classes).astype(np.float32)
    return tuple(w.tolist()), torch.tensor(w)


# -- a yes or no for each label


@few
@given(rows, wide, st.floats(0.1, 4), seeds)
def test_bce_with_logits(n, width, p, seed):
    output, target = draw(seed, n, width, scale=5), (draw(seed + 1, n, width) > 0).astype(np.float32)
    theirs = torch.nn.BCEWithLogitsLoss
    agree(nn.BCEWithLogitsLoss(), theirs, output, target)
    agree(nn.BCEWithLogitsLoss(pos_weight=p), made(theirs, pos_weight=torch.tensor(p)), output, target)
    ours, given = some_weights(seed, width)
    agree(nn.BCEWithLogitsLoss(ours), made(theirs, pos_weight=given), output, target)
    agree(nn.BCEWithLogitsLoss(weight=ours), made(theirs, given), output, target)
    w = np.random.default_rng(seed).uniform(0.2, 3, (n, 1)).astype(np.float32)  # S1.35: a weight for each sample
    soft = 1 / (1 + np.exp(-draw(seed + 2, n, width)))
    agree(nn.BCEWithLogitsLoss(weight=jnp.asarray(w)), made(theirs, torch.tensor(w)), output, soft)


@few
@given(rows, wide, seeds)
def test_bce_of_probabilities(n, width, seed):
    output, target = 1 / (1 + np.exp(-draw(seed, n, width, scale=3))), (draw(seed + 1, n, width) > 0)
    agree(nn.BCELoss(), torch.nn.BCELoss, output, target.astype(np.float32))
    ours, given = some_weights(seed, width)
    agree(nn.BCELoss(ours), made(torch.nn.BCELoss, given), output, target.astype(np.float32))


def test_bce_at_0_and_1_is_torch_s():
    p, y = np.array([0, 0, 1, 1, 0.25], np.float32), np.array([0, 1, 0, 1, 1], np.float32)
    agree(nn.BCELoss(), torch.nn.BCELoss, p, y)
    by_target = jax.grad(nn.BCELoss(), 1)(jnp.array([0.25]), jnp.array([0.5]))
    np.testing.assert_allclose(by_target, np.log(0.75) - np.log(0.25), rtol=1e-6)


@few
@given(rows, wide, st.one_of(st.none(), st.floats(0, 1)), st.floats(0, 4), seeds)
def test_sigmoid_focal_is_the_paper_s(n, width, alpha, gamma, seed):
    output, target = draw(seed, n, width, scale=3), (draw(seed + 1, n, width) > 0).astype(np.float32)

    def theirs(reduction):  # torchvision.ops.sigmoid_focal_loss, line by line
        def loss(x, y):
            p = torch.sigmoid(x)
            ce = torch.nn.functional.binary_cross_entropy_with_logits(x, y, reduction="none")
            p_t = p * y + (1 - p) * (1 - y)
            value = ce * (1 - p_t) ** gamma
            value = value if alpha is None else (alpha * y + (1 - alpha) * (1 - y)) * value
            return value if reduction == "none" else getattr(value, reduction)()

        return loss

    agree(nn.SigmoidFocalLoss(alpha, gamma), theirs, output, target, tolerance=2e-5)
    soft = (1 / (1 + np.exp(-draw(seed + 2, n, width)))).astype(np.float32)
    agree(nn.SigmoidFocalLoss(alpha, gamma), theirs, output, soft, tolerance=2e-5)


@few
@given(rows, st.lists(wide, max_size=2), seeds)
def test_soft_margin(n, rest, seed):
    agree(nn.SoftMarginLoss(), torch.nn.SoftMarginLoss, draw(seed, n, *rest, scale=3), signs(seed, n, *rest))


@few
@given(rows, wide, st.booleans(), seeds)
def test_multi_label_soft_margin(n, width, weighted, seed):
    output, target = draw(seed, n, width, scale=3), (signs(seed, n, width) + 1) / 2
    ours, given = some_weights(seed, width) if weighted else (None, None)
    agree(nn.MultiLabelSoftMarginLoss(ours), made(torch.nn.MultiLabelSoftMarginLoss, given), output, target)


@few
@given(st.integers(2, 20), seeds)
def test_hinge_is_scikit_learn_s(n, seed):
    from sklearn.metrics import hinge_loss

    output, y = draw(seed, n), signs(seed, n)
    y[:2] = 1, -1
    value, slope = jax.value_and_grad(nn.HingeLoss())(jnp.asarray(output), jnp.asarray(y))
    np.testing.assert_allclose(value, hinge_loss(y, output), rtol=1e-5)
    np.testing.assert_allclose(slope, np.where(y * output < 1, -y, 0) / n, rtol=1e-5)
    for loss in (nn.HingeLoss(), nn.SoftMarginLoss()):  # 0 stands for -1, as in a run
        assert float(loss(jnp.asarray(output), jnp.asarray(y > 0, int))) == float(loss(jnp.asarray(output), y))


# -- one class of several


@few
@given(rows, st.integers(2, 3), st.lists(st.sampled_from([1, 2]), max_size=2), st.sampled_from([0.0, 0.1, 1.0]),
       st.booleans(), seeds)  # fmt: skip
def test_cross_entropy_of_labels(n, classes, rest, smoothing, weighted, seed):
    output, target = draw(seed, n, *rest, classes, scale=4), labels(seed, classes, n, *rest)
    ours, given = some_weights(seed, classes) if weighted else (None, None)
    theirs = made(torch.nn.CrossEntropyLoss, given, label_smoothing=smoothing)
    agree(nn.CrossEntropyLoss(ours, smoothing), theirs, output, target, classes_last=True)
    skip = made(torch.nn.CrossEntropyLoss, given, ignore_index=1, label_smoothing=smoothing)
    target.flat[0] = 0  # not all ignored: torch's mean of none is nan
    agree(nn.CrossEntropyLoss(ours, smoothing, 1), skip, output, target, classes_last=True)


@few
@given(rows, st.integers(2, 3), st.lists(st.integers(1, 2), max_size=1), st.sampled_from([0.0, 0.3]), seeds)
def test_cross_entropy_of_probabilities(n, classes, rest, smoothing, seed):
    output, target = draw(seed, n, *rest, classes, scale=4), np.exp(draw(seed + 1, n, *rest, classes))
    target = target / target.sum(-1, keepdims=True)
    theirs = made(torch.nn.CrossEntropyLoss, label_smoothing=smoothing)
    agree(nn.CrossEntropyLoss(None, smoothing), theirs, output, target, classes_last=True)
    if not rest:
        ours, given = some_weights(seed, classes)
        agree(nn.CrossEntropyLoss(ours), made(torch.nn.CrossEntropyLoss, given), output, target)


@few
@given(rows, st.integers(2, 3), st.lists(st.sampled_from([1, 2]), max_size=2), st.booleans(), seeds)
def test_nll(n, classes, rest, weighted, seed):
    output = draw(seed, n, *rest, classes, scale=2)
    output -= np.log(np.exp(output).sum(-1, keepdims=True))
    target = labels(seed, classes, n, *rest)
    ours, given = some_weights(seed, classes) if weighted else (None, None)
    agree(nn.NLLLoss(ours), made(torch.nn.NLLLoss, given), output, target, classes_last=True)
    target.flat[0], target.flat[-1] = -100, 0
    if target.size > 1:
        agree(nn.NLLLoss(ours), made(torch.nn.NLLLoss, given), output, target, classes_last=True)


@few
@given(rows, st.integers(2, 3), st.booleans(), st.floats(0, 3), seeds)
def test_focal_is_cross_entropy_times_a_power(n, classes, weighted, gamma, seed):
    output, target = draw(seed, n, classes, scale=3), labels(seed, classes, n)
    ours, given = some_weights(seed, classes) if weighted else (None, None)

    def theirs(reduction):
        def loss(x, y):
            log_p = torch.log_softmax(x, 1).gather(1, y[:, None])[:, 0]
            value = (1 - log_p.exp()) ** gamma * -log_p * (1 if given is None else given[y])
            return value if reduction == "none" else getattr(value, reduction)()

        return loss

    agree(nn.FocalLoss(gamma, ours), theirs, output, target, tolerance=1e-4)  # torch's 1 - p loses digits near p = 1
    agree(nn.FocalLoss(0.0), torch.nn.CrossEntropyLoss, output, target)
    ignored = np.where(np.arange(n) == 0, -100, target)
    if n > 1:
        agree(nn.FocalLoss(0.0), torch.nn.CrossEntropyLoss, output, ignored.astype(np.int32))


@few
@given(rows, st.integers(2, 3), st.sampled_from([1, 2]), st.floats(0.1, 2), st.booleans(), seeds)
def test_multi_margin(n, classes, p, margin, weighted, seed):
    output, target = draw(seed, n, classes, scale=2), labels(seed, classes, n)
    ours, given = some_weights(seed, classes) if weighted else (None, None)
    agree(nn.MultiMarginLoss(p, margin, ours), made(torch.nn.MultiMarginLoss, p, margin, given), output, target)


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")  # torch's own
@few
@given(rows, st.integers(2, 3), st.booleans(), seeds)
def test_kl_divergence(n, classes, log_target, seed):
    output = np.array(jax.nn.log_softmax(draw(seed, n, classes, scale=2)))
    target = np.array(jax.nn.softmax(draw(seed + 1, n, classes)))
    target = np.log(target) if log_target else np.where(np.arange(classes) == 0, 0, target).astype(np.float32)
    theirs = made(torch.nn.KLDivLoss, log_target=log_target)
    agree(nn.KLDivLoss(log_target), theirs, output, target, reductions=("none", "mean", "sum", "batchmean"))


# -- far logits


@pytest.mark.parametrize("far", [1e4, -1e4, 1e2, -1e2])
def test_far_logits_have_exact_finite_values_and_gradients(far):
    output = np.array([[far, 0.0, -far], [0.0, far, 0.0]], np.float32)
    for label in range(3):
        target = np.array([label, 1], np.int32)
        agree(nn.CrossEntropyLoss(), torch.nn.CrossEntropyLoss, output, target)
        agree(nn.MultiMarginLoss(2), made(torch.nn.MultiMarginLoss, 2), output, target)
        for gamma in (0.0, 0.5, 2.0):
            value, slope = jax.value_and_grad(nn.FocalLoss(gamma))(output, target)
            assert np.isfinite(value) and np.isfinite(slope).all()
    for y in (0.0, 1.0):
        target = np.full((2, 3), y, np.float32)
        agree(nn.BCEWithLogitsLoss(), torch.nn.BCEWithLogitsLoss, output, target)
        agree(nn.MultiLabelSoftMarginLoss(), torch.nn.MultiLabelSoftMarginLoss, output, target)
        for loss in (nn.SigmoidFocalLoss(gamma=0.5), nn.SigmoidFocalLoss(), nn.SoftMarginLoss(), nn.HingeLoss()):
            value, slope = jax.value_and_grad(loss)(output, target)
            assert np.isfinite(value) and np.isfinite(slope).all(), loss
    for loss, target in ((nn.NLLLoss(), np.array([0, 2])), (nn.KLDivLoss(), np.full((2, 3), 1 / 3))):
        value, slope = jax.value_and_grad(loss)(output, jnp.asarray(target))
        assert np.isfinite(value) and np.isfinite(slope).all()
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
    value, slope = jax.value_and_grad(nn.KLDivLoss())(output, jnp.array([[0.5, 0.0, 0.5]]))
    assert np.isfinite(value) and np.isfinite(slope).all()


# -- the list of every loss


@pytest.mark.parametrize(
    "loss, output, target",
    [
        (nn.BCEWithLogitsLoss(), draw(0, 5), np.array([0, 1, 1, 0, 1])),
        (nn.BCEWithLogitsLoss(pos_weight=2.0), draw(0, 5, 1), np.array([0, 1, 1, 0, 1])),
        (nn.BCEWithLogitsLoss(pos_weight=(2.0, 0.5)), draw(0, 4, 2), (draw(1, 4, 2) > 0)),
        (nn.BCEWithLogitsLoss(weight=(2.0, 0.5)), draw(0, 4, 2), (draw(1, 4, 2) > 0)),
        (nn.BCELoss(), np.linspace(0.1, 0.9, 5, dtype=np.float32), np.array([0, 1, 1, 0, 1])),
        (nn.SigmoidFocalLoss(), draw(0, 5), np.array([0, 1, 1, 0, 1])),
        (nn.SigmoidFocalLoss(None), draw(0, 5, 1), np.array([0, 1, 1, 0, 1])),
        (nn.HingeLoss(), draw(0, 5), np.array([0, 1, 1, 0, 1])),
        (nn.SoftMarginLoss(), draw(0, 5), np.array([-1, 1, 1, -1, 1])),
        (nn.MultiLabelSoftMarginLoss(), draw(0, 4, 2), (draw(1, 4, 2) > 0)),
        (nn.CrossEntropyLoss(), draw(0, 5, 3), np.array([0, 1, 2, 1, 0], np.int32)),
        (nn.CrossEntropyLoss((1.0, 0.5, 2.0), 0.1), draw(0, 5, 3), np.array([0, 1, 2, 1, 0], np.int32)),
        (nn.CrossEntropyLoss(ignore_index=1), draw(0, 5, 3), np.array([0, 1, 2, 1, 0], np.int32)),
        (nn.CrossEntropyLoss(label_smoothing=0.1), draw(0, 4, 3), np.full((4, 3), 1 / 3, np.float32)),
        (nn.NLLLoss((1.0, 0.5, 2.0)), draw(0, 5, 3), np.array([0, 1, 2, 1, 0], np.int32)),
        (nn.FocalLoss(), draw(0, 5, 3), np.array([0, 1, 2, 1, 0], np.int32)),
        (nn.FocalLoss(1.5, (1.0, 0.5, 2.0)), draw(0, 5, 3), np.array([0, 1, 2, 1, 0], np.int32)),
        (nn.MultiMarginLoss(weight=(1.0, 0.5, 2.0)), draw(0, 5, 3), np.array([0, 1, 2, 1, 0], np.int32)),
        (nn.KLDivLoss(), draw(0, 4, 3), np.full((4, 3), 1 / 3, np.float32)),
        (nn.KLDivLoss(reduction="batchmean"), draw(0, 4, 3), np.full((4, 3), 1 / 3, np.float32)),
    ],
)
def test_conformance(loss, output, target):
    check_loss(loss, jnp.asarray(output), jnp.asarray(target))


def test_the_course_s_numbers():
    p = jnp.array([0.9, 0.7, 0.3])
    y = jnp.array([1, 1, 0])
    assert float(nn.BCEWithLogitsLoss()(jnp.log(p / (1 - p)), y)) == pytest.approx(0.27290, abs=5e-6)  # S0.28
    terms = nn.BCELoss(reduction="none")(p, y)
    np.testing.assert_allclose(terms, [0.10536, 0.35667, 0.35667], atol=5e-6)  # S0.28, printed .10, .35, .35
    logits = jnp.array([[2.0, 1.0, 0.1]])
    value = nn.CrossEntropyLoss()(logits, jnp.array([0]))
    assert float(value) == pytest.approx(0.4170, abs=5e-5)  # S1.36, printed 0.41
    assert float(nn.NLLLoss()(jax.nn.log_softmax(logits), jnp.array([0]))) == pytest.approx(float(value))  # S1.37


def test_ignored_labels_do_not_count_in_any_reduction():
    output, target = jnp.asarray(draw(0, 3, 2)), jnp.array([0, -100, 1])
    loss = nn.CrossEntropyLoss()
    assert float(loss(output, target)) == pytest.approx(float(loss(output[jnp.array([0, 2])], jnp.array([0, 1]))))
    assert nn.CrossEntropyLoss(reduction="none")(output, target)[1] == 0
    value, slope = jax.value_and_grad(loss)(output, jnp.full(3, -100))  # torch: nan
    assert value == 0 and not slope.any()


# -- what is refused


@pytest.mark.parametrize(
    "loss, output, target, message",
    [
        (nn.CrossEntropyLoss(), jnp.ones((3, 2)), jnp.zeros(4, int), r"got shapes \(3, 2\) and \(4,\)"),
        (nn.CrossEntropyLoss(), jnp.ones(3), jnp.zeros(3, int), r"needs logits \[batch, ..., classes\]"),
        (nn.CrossEntropyLoss(), jnp.ones((3, 2)), jnp.zeros(3), r"a float32 target .* int labels \(3,\)"),
        (nn.CrossEntropyLoss(), jnp.ones((3, 2)), jnp.zeros(3, bool), "int labels"),
        (nn.CrossEntropyLoss(), jnp.ones((0, 2)), jnp.zeros(0, int), "CrossEntropyLoss got an empty batch"),
        (nn.CrossEntropyLoss((1.0, 2.0, 3.0)), jnp.ones((3, 2)), jnp.zeros(3, int), "has 3 values, .* 2 classes"),
        (nn.CrossEntropyLoss(), jnp.ones((3, 2)), jnp.array([0, 2, 1]), "from 0 to 1, ignore_index is -100; got 2"),
        (nn.NLLLoss(), jnp.ones((3, 2)), jnp.array([0, -1, 1]), "NLLLoss: labels go from 0 to 1, .*; got -1"),
        (nn.FocalLoss(alpha=(1.0,)), jnp.ones((3, 2)), jnp.zeros(3, int), "FocalLoss.alpha has 1 values"),
        (nn.MultiMarginLoss(), jnp.ones((3, 2)), jnp.zeros((3, 2), int), r"scores \[batch, ..., classes\]"),
        (nn.BCEWithLogitsLoss((1.0, 2.0, 3.0)), jnp.ones((3, 2)), jnp.zeros((3, 2)), "has 3 values, .* 2 labels"),
        (nn.BCEWithLogitsLoss(weight=jnp.ones(3)), jnp.ones((3, 2)), jnp.zeros((3, 2)), r"shape \(3,\) does not fit"),
        (nn.BCELoss(), jnp.array([0.5, 1.5]), jnp.ones(2), "BCELoss: the output must be probabilities.*; got 1.5"),
        (nn.HingeLoss(), jnp.ones(2), jnp.array([0.5, 1]), "HingeLoss: labels are 1, and -1 or 0 .*; got 0.5"),
        (nn.KLDivLoss(), jnp.ones(2), jnp.array([0.5, -0.5]), "the target must be probabilities; .* got -0.5"),
    ],
)
def test_messages(loss, output, target, message):
    with pytest.raises(ModelError, match=message):
        loss(output, target)


@pytest.mark.parametrize(
    "loss, output, target",
    [
        (nn.CrossEntropyLoss(), jnp.ones((3, 2)), jnp.array([0, 2, -1])),
        (nn.NLLLoss(), jnp.ones((3, 2)), jnp.array([0, 2, -1])),
        (nn.FocalLoss(), jnp.ones((3, 2)), jnp.array([0, 2, -1])),
        (nn.MultiMarginLoss(), jnp.ones((3, 2)), jnp.array([0, 2, -1])),
        (nn.BCELoss(), jnp.array([0.5, 1.5, -0.5]), jnp.ones(3)),
        (nn.SoftMarginLoss(), jnp.ones(3), jnp.array([1, 0.5, 2])),
    ],
)
def test_what_a_compiled_loss_cannot_refuse_is_nan(loss, output, target):
    assert np.isnan(jax.jit(loss.each)(output, target)).tolist() == [False, True, True]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.CrossEntropyLoss(label_smoothing=1.5), r"label_smoothing must be in \[0, 1\], got 1.5"),
        (lambda: nn.SigmoidFocalLoss(alpha=2.0), r"SigmoidFocalLoss.alpha must be in \[0, 1\], got 2.0"),
        (lambda: nn.FocalLoss(gamma=-1.0), r"FocalLoss.gamma must be 0 or more, got -1.0"),
        (lambda: nn.MultiMarginLoss(p=3), r"MultiMarginLoss.p must be one of 1, 2, got 3"),
    ],
)
def test_bad_hyperparameters(make, message):
    with pytest.raises(SpecError, match=message):
        make()


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
    close(value(nn.CrossEntropyLoss((1, 2)), output, target), nn.CrossEntropyLoss((1, 2))(output, target), 1e-6, "")
