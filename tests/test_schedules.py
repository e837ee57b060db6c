"""Schedules: every factor of 200 epochs or steps against torch.optim.lr_scheduler."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import derin.spec as spec
from derin.errors import SpecError
from derin.optim import (
    Constant,
    ConstantLR,
    CosineAnnealingLR,
    CosineLog,
    FlatCosine,
    LinearLR,
    StepLR,
    Warmup,
)
from derin.optim.schedules import Schedule

torch_lr = torch.optim.lr_scheduler
counts = st.integers(1, 60)


def by_torch(make, n: int = 200) -> np.ndarray:
    """torch's learning rates over n steps from a base rate of 1."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    schedule = make(optimizer)
    rates = []
    for _ in range(n):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return np.array(rates)


def by_epoch(schedule: Schedule, n: int = 200, steps: int = 7) -> np.ndarray:
    """Factors at the first step of each epoch, traced; they must be the same at its last."""
    at = jax.jit(jax.vmap(lambda e, s: schedule.factor(e, s, steps, n)))
    epochs = jnp.arange(n)
    first, last = at(epochs, epochs * steps), at(epochs, epochs * steps + steps - 1)
    np.testing.assert_array_equal(first, last)
    return first


def by_step(schedule: Schedule, epochs: int = 8, steps: int = 25) -> np.ndarray:
    at = jax.jit(jax.vmap(lambda s: schedule.factor(s // steps, s, steps, epochs)))
    return at(jnp.arange(epochs * steps))


def check(ours: Schedule, theirs) -> None:
    want = by_torch(theirs)
    np.testing.assert_allclose(by_epoch(ours), want, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(by_step(ours.replace(by="step")), want, rtol=1e-5, atol=2e-6)


class TestAgainstTorch:
    @settings(max_examples=10, deadline=None)
    @given(st.floats(0.001, 1), counts)  # torch divides by it
    def test_constant(self, factor, n):
        check(ConstantLR(factor, n), lambda o: torch_lr.ConstantLR(o, factor=factor, total_iters=n))

    @settings(max_examples=10, deadline=None)
    @given(st.floats(0.01, 1), st.floats(0, 1), counts)
    def test_linear(self, start, end, n):
        check(LinearLR(start, end, n), lambda o: torch_lr.LinearLR(o, start, end, n))

    @settings(max_examples=15, deadline=None)
    @given(counts, st.floats(0.1, 1.1))
    def test_step(self, n, gamma):
        want = by_torch(lambda o: torch_lr.StepLR(o, n, gamma))
        np.testing.assert_allclose(by_epoch(StepLR(n, gamma)), want, rtol=2e-5, atol=1e-30)
        np.testing.assert_allclose(by_step(StepLR(n, gamma, by="step")), want, rtol=2e-5, atol=1e-30)

    def test_step_falls_at_each_multiple(self):
        """Compiled, t / 47 is t * (1 / 47), which is a little below 1 at 47."""
        t = np.arange(300)
        for n in range(1, 120, 2):
            schedules = [StepLR(n, 0.5, by="step"), Warmup(0, StepLR(3, 0.5), by="step")]
            factors = jax.jit(lambda t, s=schedules, n=n: (s[0].factor(0, t, 1, 300), s[1].factor(0, t, n, 300)))
            ours = jax.vmap(factors)(t)
            np.testing.assert_allclose(ours[0], 0.5 ** (t // n), rtol=1e-6, atol=1e-30)
            np.testing.assert_allclose(ours[1], 0.5 ** (t // n // 3), rtol=1e-6, atol=1e-30)

    @settings(max_examples=15, deadline=None)
    @given(st.integers(2, 250), st.floats(0, 0.9))
    def test_cosine(self, n, floor):
        """Up again past T_max, as torch's."""
        check(CosineAnnealingLR(n, floor), lambda o: torch_lr.CosineAnnealingLR(o, n, eta_min=floor))

    def test_cosine_over_the_whole_run(self):
        check(CosineAnnealingLR(), lambda o: torch_lr.CosineAnnealingLR(o, 200))

    def test_defaults(self):
        check(ConstantLR(), torch_lr.ConstantLR)
        check(LinearLR(), torch_lr.LinearLR)
        check(StepLR(30), lambda o: torch_lr.StepLR(o, 30))

    @settings(max_examples=10, deadline=None)
    @given(st.integers(1, 7), st.floats(0.01, 1))
    def test_warmup_then_cosine_by_step(self, length, start):
        """8 epochs of 25 steps; the warm-up takes `length` of them, the cosine the rest."""
        warm = length * 25
        want = by_torch(
            lambda o: torch_lr.SequentialLR(
                o,
                [torch_lr.LinearLR(o, start, 1.0, warm), torch_lr.CosineAnnealingLR(o, 200 - warm)],
                milestones=[warm],
            )
        )
        then = CosineAnnealingLR(by="step")
        for ours in (Warmup(length, then, start), Warmup(warm, then, start, by="step")):
            np.testing.assert_allclose(by_step(ours), want, rtol=1e-4, atol=2e-6)

    def test_warmup_then_step_by_epoch(self):
        warm = 3
        later = by_torch(lambda o: torch_lr.StepLR(o, 2, 0.5))
        ours = by_step(Warmup(warm, StepLR(2, 0.5)))
        np.testing.assert_allclose(ours[: warm * 25], 0.01 + 0.99 * np.arange(75) / 75, rtol=1e-5)
        np.testing.assert_allclose(ours[warm * 25 :], np.repeat(later[:5], 25), rtol=1e-5)


class TestOthers:
    def test_constant(self):
        np.testing.assert_array_equal(by_epoch(Constant()), 1.0)

    def test_flat_cosine(self):
        t = np.arange(200) / 200
        np.testing.assert_allclose(
            by_step(FlatCosine()), 0.5 * (1 + np.cos(np.pi * (np.maximum(1, 2 * t) - 1))), atol=2e-6
        )
        np.testing.assert_allclose(by_step(FlatCosine(0.0)), by_step(CosineAnnealingLR(by="step")), atol=2e-6)

    def test_cosine_log(self):
        t = np.arange(200) / 200
        want = 0.5 * (1 - np.cos(2 * np.pi * np.log2(1 + 15 * t)))
        np.testing.assert_allclose(by_step(CosineLog()), want, atol=5e-6)

    @pytest.mark.parametrize("length", [0, 0.5, 8, 20])
    def test_warmup_of_any_length_is_finite(self, length):
        rates = by_step(Warmup(length, CosineAnnealingLR(by="step")))
        assert np.isfinite(rates).all() and (rates >= 0).all() and (rates <= 1.0001).all()
        if length == 0:
            np.testing.assert_allclose(rates, by_step(CosineAnnealingLR(by="step")), atol=2e-6)

    def test_warmup_within_a_warmup(self):
        """Schedules compose: each begins where the one before ends."""
        rates = by_step(Warmup(2, Warmup(2, start_factor=0.5), start_factor=0.0))
        np.testing.assert_allclose(np.asarray(rates)[[0, 25, 50, 75, 100, 199]], [0, 0.5, 0.5, 0.75, 1, 1], atol=1e-6)


ALL = (
    Constant(),
    ConstantLR(0.2, 3),
    LinearLR(),
    StepLR(3, 0.5),
    StepLR(40, by="step"),
    CosineAnnealingLR(),
    CosineAnnealingLR(T_max=20, end_factor=0.1),
    FlatCosine(0.3),
    CosineLog(),
    Warmup(1.5, then=CosineAnnealingLR(by="step")),
    Warmup(10, by="step"),
)


class TestAsValues:
    @pytest.mark.parametrize("schedule", ALL, ids=repr)
    def test_files_hold_them(self, schedule):
        assert spec.from_json(spec.to_json(schedule)) == schedule
        assert spec.from_toml(spec.to_toml(schedule)) == schedule
        assert spec.parse(repr(schedule)) == schedule

    @pytest.mark.parametrize("schedule", ALL, ids=repr)
    def test_a_stack_under_vmap_is_a_loop_and_compiles_once(self, schedule):
        trials = [jax.tree.map(lambda v, i=i: v * (1 + 0.2 * i), schedule) for i in range(3)]
        traces = []

        @jax.jit
        def at(schedule, epoch, step):
            traces.append(1)
            return schedule.factor(epoch, step, 10, 8)

        alone = [at(t, jnp.int32(3), jnp.int32(34)) for t in trials]
        assert len(traces) == 1
        stack = jax.tree.map(lambda *v: jnp.array(v), *trials)
        together = jax.vmap(lambda s: s.factor(jnp.int32(3), jnp.int32(34), 10, 8), axis_size=3)(stack)
        np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("schedule", ALL, ids=repr)
    def test_steps_and_epochs_may_be_traced(self, schedule):
        plain = schedule.factor(3, 34, 10, 8)
        traced = jax.jit(schedule.factor)(*map(jnp.int32, (3, 34, 10, 8)))
        assert plain.shape == traced.shape == () and traced.dtype == jnp.float32
        np.testing.assert_allclose(plain, traced, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: StepLR(0), "StepLR.step_size must be above 0"),
        (
            lambda: StepLR(5, gamma=-1),
            "StepLR.gamma must be a factor of the learning rate, 0 or more, got -1",
        ),
        (lambda: StepLR(), "StepLR needs a value for 'step_size'"),
        (lambda: ConstantLR(math.nan), "ConstantLR.start_factor must be a factor"),
        (lambda: LinearLR(total_iters=0), "LinearLR.total_iters must be above 0"),
        (lambda: CosineAnnealingLR(T_max=-5), r"CosineAnnealingLR.T_max must be above 0 \(or none"),
        (lambda: CosineAnnealingLR(eta_min=0.1), "CosineAnnealingLR has no field 'eta_min'"),
        (lambda: FlatCosine(1.0), r"FlatCosine.flat must be a share of the run in \[0, 1\), got 1.0"),
        (lambda: CosineLog(0), "CosineLog.cycles must be between"),
        (lambda: Warmup(-1), "Warmup.length must be 0 or more"),
        (lambda: Warmup(5, by="batch"), "Warmup.by must be one of 'epoch', 'step', got 'batch'"),
        (lambda: Warmup(5, then=0.1), "Warmup.then must be a Schedule"),
    ],
)
def test_messages(make, words):
    with pytest.raises(SpecError, match=words):
        make()
