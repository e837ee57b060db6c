"""The losses with several inputs, and CTC, against torch: values, gradients, reductions; messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from losses_against_torch import agree, draw, signs

from derin import nn
from derin.errors import ModelError, SpecError
from derin.testing import check_loss

few = settings(max_examples=5, deadline=None)
rows, wide, seeds = st.sampled_from([1, 3]), st.integers(1, 3), st.integers(0, 2**31 - 1)


@few
@given(rows, wide, st.floats(-1, 1), seeds)
def test_cosine_embedding(n, width, margin, seed):
    theirs = lambda reduction: torch.nn.CosineEmbeddingLoss(margin, reduction=reduction)  # noqa: E731
    inputs = draw(seed, n, width), draw(seed + 1, n, width), signs(seed, n)
    agree(nn.CosineEmbeddingLoss(margin), theirs, *inputs, slopes=(0, 1), tolerance=2e-5)


@few
@given(rows, st.lists(st.integers(1, 2), max_size=1), st.floats(-1, 1), seeds)
def test_margin_ranking_and_hinge_embedding(n, rest, margin, seed):
    a, b, y = draw(seed, n, *rest), draw(seed + 1, n, *rest), signs(seed, n, *rest)
    theirs = lambda reduction: torch.nn.MarginRankingLoss(margin, reduction=reduction)  # noqa: E731
    agree(nn.MarginRankingLoss(margin), theirs, a, b, y, slopes=(0, 1))
    theirs = lambda reduction: torch.nn.HingeEmbeddingLoss(margin, reduction=reduction)  # noqa: E731
    agree(nn.HingeEmbeddingLoss(margin), theirs, np.abs(a), y)


def test_kinks_have_torch_s_slopes():
    one, y = np.ones(2, np.float32), np.array([1, -1], np.float32)
    agree(nn.MarginRankingLoss(), torch.nn.MarginRankingLoss, one, one, y, slopes=(0, 1))
    agree(nn.HingeEmbeddingLoss(), torch.nn.HingeEmbeddingLoss, one, y)
    a, b = np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[::-1].copy()
    agree(nn.CosineEmbeddingLoss(), torch.nn.CosineEmbeddingLoss, a, b, y, slopes=(0, 1))


@few
@given(rows, wide, st.floats(0.1, 2), st.sampled_from([(2.0, False), (1.0, True), (3.0, False), (2.0, True)]), seeds)
def test_triplet(n, width, margin, form, seed):
    inputs = [draw(seed + i, n, width) for i in range(3)]
    p, swap = form
    theirs = lambda reduction: torch.nn.TripletMarginLoss(margin, p, swap=swap, reduction=reduction)  # noqa: E731
    agree(nn.TripletMarginLoss(margin, p, swap=swap), theirs, *inputs, slopes=(0, 1, 2), tolerance=3e-5)


def test_triplet_by_the_largest_difference():
    theirs = lambda reduction: torch.nn.TripletMarginLoss(p=float("inf"), reduction=reduction)  # noqa: E731
    agree(nn.TripletMarginLoss(p=float("inf")), theirs, *(draw(i, 3, 4) for i in range(3)), slopes=(0, 1, 2))


@pytest.mark.parametrize("far", [1e4, -1e4])
def test_far_inputs_are_finite_in_value_and_gradient(far):
    a, b = jnp.full((2, 3), far), jnp.array([[0.0, 1.0, far], [0.0, 0.0, 0.0]])
    y = jnp.array([1, -1])
    for loss, inputs in (
        (nn.CosineEmbeddingLoss(), (a, b, y)),
        (nn.MarginRankingLoss(), (a[:, 0], b[:, 1], y)),
        (nn.HingeEmbeddingLoss(), (a[:, 0], y)),
        (nn.TripletMarginLoss(), (a, b, -a)),
        (nn.TripletMarginLoss(p=10.0), (a, b, -a)),
        (nn.TripletMarginLoss(p=0.5, eps=0.0), (a, a, b)),
    ):
        value, slope = jax.value_and_grad(loss)(*inputs)
        assert np.isfinite(value) and np.isfinite(slope).all(), loss


# -- CTC


def ctc(zero_infinity=False, blank=0):
    """torch's, from logits [batch, time, classes]: its gradient is only right behind a log_softmax."""

    def made(reduction):
        loss = torch.nn.CTCLoss(blank, reduction, zero_infinity)
        return lambda x, *rest: loss(torch.log_softmax(x.transpose(0, 1), -1), *rest)

    return made


class FromLogits(nn.SeveralInputs):
    """CTC with the log_softmax before it."""

    inputs = nn.CTCLoss.inputs
    blank: int = 0
    zero_infinity: bool = False

    def values(self, x, *rest):
        return nn.CTCLoss(self.blank, self.zero_infinity).values(jax.nn.log_softmax(x), *rest)

    def each(self, x, *rest):
        return nn.CTCLoss(self.blank, self.zero_infinity).each(jax.nn.log_softmax(x), *rest)


@settings(max_examples=12, deadline=None)
@given(st.booleans(), st.sampled_from([1, 3]), seeds)
def test_ctc_of_random_lengths(last, scale, seed):
    rng = np.random.default_rng(seed)
    n, t, s, classes = 4, 7, 3, 4
    blank = classes - 1 if last else 0
    targets = rng.integers(0, classes - 1, (n, s)) + (0 if last else 1)
    lengths = rng.integers(2 * s, t + 1, n), rng.integers(0, s + 1, n)
    targets[np.arange(s) >= lengths[1][:, None]] = -7  # what stands behind the end does not matter
    theirs = ctc(blank=blank)
    given = np.where(targets < 0, blank, targets)  # torch looks at it: give it blanks
    inputs = draw(seed, n, t, classes, scale=scale), targets.astype(np.int32), *(x.astype(np.int32) for x in lengths)
    made = lambda reduction: lambda x, _, *rest: theirs(reduction)(x, torch.tensor(given), *rest)  # noqa: E731
    agree(FromLogits(blank), made, *inputs, tolerance=2e-5)


def test_ctc_that_cannot_be_said():
    """Two equal labels need three steps; a label needs one; no label needs none."""
    x = draw(0, 4, 3, 3)
    targets = np.array([[1, 1], [1, 1], [2, 0], [0, 0]], np.int32)
    lengths = np.array([2, 3, 0, 0], np.int32), np.array([2, 2, 1, 0], np.int32)
    each = FromLogits(reduction="none")(*map(jnp.asarray, (x, targets, *lengths)))
    theirs = ctc()("none")(*(torch.tensor(a) for a in (x, targets, *lengths)))
    np.testing.assert_allclose(each, theirs, rtol=1e-5, atol=1e-6)
    assert np.isinf(each).tolist() == [True, False, True, False] and each[3] == 0
    agree(FromLogits(zero_infinity=True), ctc(zero_infinity=True), x, targets, *lengths, tolerance=2e-5)
    slope = jax.grad(FromLogits(reduction="sum"))(*map(jnp.asarray, (x, targets, *lengths)))
    assert np.isfinite(slope).all() and slope[1].any() and not slope[0].any()


def test_ctc_of_no_labels_at_all():
    x, none = draw(0, 2, 3, 3), np.zeros((2, 0), np.int32)
    lengths = np.array([3, 2], np.int32), np.zeros(2, np.int32)
    agree(FromLogits(), ctc(), x, none, *lengths, tolerance=2e-5)


@pytest.mark.parametrize("far", [1e4, -1e4])
def test_ctc_of_far_logits_is_finite(far):
    x = np.where(np.arange(3) == 1, far, 0) * np.ones((2, 5, 1))
    inputs = (
        x.astype(np.float32),
        np.array([[1, 2], [2, 1]], np.int32),
        np.full(2, 5, np.int32),
        np.full(2, 2, np.int32),
    )
    agree(FromLogits(), ctc(), *inputs, tolerance=2e-4)  # a float32 near 4e4 steps by 4e-3, torch's as well


def test_ctc_under_vmap_and_scan():
    inputs = (jnp.asarray(draw(0, 2, 3, 5, 4)), jnp.ones((2, 3, 2), int), jnp.full((2, 3), 5), jnp.full((2, 3), 2))
    loss = FromLogits()
    each = [loss(*(a[i] for a in inputs)) for i in range(2)]
    np.testing.assert_allclose(jax.vmap(loss)(*inputs), each, rtol=1e-5)
    np.testing.assert_allclose(jax.lax.map(lambda a: loss(*a), inputs), each, rtol=1e-5)


# -- the list of every loss, and what is refused


@pytest.mark.parametrize(
    "loss, inputs",
    [
        (nn.CosineEmbeddingLoss(0.1), (draw(0, 4, 3), draw(1, 4, 3), signs(0, 4))),
        (nn.MarginRankingLoss(0.1), (draw(0, 4), draw(1, 4), signs(0, 4))),
        (nn.TripletMarginLoss(), (draw(0, 4, 3), draw(1, 4, 3), draw(2, 4, 3))),
        (nn.HingeEmbeddingLoss(), (np.abs(draw(0, 4)), signs(0, 4))),
        (nn.CTCLoss(), (np.log(np.full((4, 5, 3), 1 / 3, np.float32)), np.array([[1, 2]] * 4), np.full(4, 5),
                        np.array([2, 1, 0, 2]))),
    ],
)  # fmt: skip
def test_conformance(loss, inputs):
    check_loss(loss, *map(jnp.asarray, inputs))


CTC = jnp.zeros((2, 4, 3)), jnp.ones((2, 2), int), jnp.full(2, 4), jnp.full(2, 2)


@pytest.mark.parametrize(
    "loss, inputs, message",
    [
        (nn.TripletMarginLoss(), [jnp.ones((2, 3))] * 2, "takes anchor, positive, negative: 2 arrays came"),
        (
            nn.MarginRankingLoss(),
            [jnp.ones(2), jnp.ones(3), jnp.ones(2)],
            r"one shape, got input1 \(2,\), input2 \(3,\)",
        ),
        (nn.CosineEmbeddingLoss(), [jnp.ones(3), jnp.ones(3), jnp.ones(3)], r"vectors \[batch, width\]"),
        (nn.CosineEmbeddingLoss(), [jnp.ones((2, 3))] * 2 + [jnp.array([1, 0])], "the target is 1 or -1; got 0"),
        (nn.HingeEmbeddingLoss(), [jnp.ones(2), jnp.array([1, 2])], "HingeEmbeddingLoss: the target is 1 or -1; got 2"),
        (nn.TripletMarginLoss(), [jnp.ones((0, 3))] * 3, "empty batch"),
        (nn.CTCLoss(), [*CTC[:3], jnp.full(3, 2)], r"needs log_probs \[batch, time, classes\].*\(2,\) and \(3,\)"),
        (nn.CTCLoss(), [CTC[0], jnp.ones((2, 2)), *CTC[2:]], "whole numbers as targets, got float32"),
        (nn.CTCLoss(blank=5), CTC, "CTCLoss.blank is 5, the output has 3 classes"),
        (nn.CTCLoss(), [CTC[0], CTC[1] * 3, *CTC[2:]], "labels go from 0 to 2 without the blank, 0; got 3"),
        (nn.CTCLoss(), [CTC[0], CTC[1] * 0, *CTC[2:]], "without the blank, 0; got 0"),
        (nn.CTCLoss(), [*CTC[:2], jnp.full(2, 9), CTC[3]], "input_lengths go from 0 to the time steps, 4; got 9"),
        (nn.CTCLoss(), [*CTC[:3], jnp.full(2, 3)], "target_lengths go from 0 to the labels of a row, 2; got 3"),
        (nn.CTCLoss(), [jnp.zeros((2, 0, 3)), *CTC[1:]], "empty batch"),
    ],
)
def test_messages(loss, inputs, message):
    with pytest.raises(ModelError, match=message):
        loss(*inputs)


def test_what_a_compiled_loss_cannot_refuse_is_nan():
    values = jax.jit(nn.CTCLoss(reduction="none"))(CTC[0], jnp.array([[1, 2], [1, 3]]), *CTC[2:])
    assert np.isnan(values).tolist() == [False, True]
    loss = nn.CosineEmbeddingLoss(reduction="none")
    assert np.isnan(jax.jit(loss)(jnp.ones((2, 3)), jnp.ones((2, 3)), jnp.array([1, 0]))).tolist() == [False, True]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.CosineEmbeddingLoss(2), "CosineEmbeddingLoss.margin is a cosine, from -1 to 1, got 2.0"),
        (lambda: nn.TripletMarginLoss(p=0), "TripletMarginLoss.p must be above 0, got 0"),
        (lambda: nn.TripletMarginLoss(margin=0), "TripletMarginLoss.margin must be above 0"),
        (lambda: nn.CTCLoss(blank=-1), "CTCLoss.blank is a class, 0 or more, got -1"),
    ],
)
def test_bad_hyperparameters(make, message):
    with pytest.raises(SpecError, match=message):
        make()
