"""Schedules: every factor of 200 epochs or steps against torch.optim.lr_scheduler."""

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

import derin.spec as spec
from derin import optim
from derin.errors import SpecError
from derin.optim import (
    ChainedScheduler,
    Constant,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CosineLog,
    CyclicLR,
    ExponentialLR,
    FlatCosine,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
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
        """S1.63; up again past T_max, as torch's."""
        check(CosineAnnealingLR(n, floor), lambda o: torch_lr.CosineAnnealingLR(o, n, eta_min=floor))

    def test_cosine_over_the_whole_run(self):
        check(CosineAnnealingLR(), lambda o: torch_lr.CosineAnnealingLR(o, 200))

    @settings(max_examples=5, deadline=None)
    @given(st.lists(st.integers(0, 200), min_size=1, max_size=4), st.floats(0.1, 1.1))
    def test_multi_step(self, milestones, gamma):
        """In any order; one that comes twice counts twice."""
        check(MultiStepLR(tuple(milestones), gamma), lambda o: torch_lr.MultiStepLR(o, milestones, gamma))

    @settings(max_examples=5, deadline=None)
    @given(st.floats(0.5, 1.02))
    def test_exponential(self, gamma):
        want = by_torch(lambda o: torch_lr.ExponentialLR(o, gamma))
        np.testing.assert_allclose(by_epoch(ExponentialLR(gamma)), want, rtol=3e-5, atol=1e-37)
        np.testing.assert_allclose(by_step(ExponentialLR(gamma, by="step")), want, rtol=3e-5, atol=1e-37)

    @settings(max_examples=5, deadline=None)
    @given(st.integers(1, 250), st.floats(0.2, 4))
    def test_polynomial(self, n, power):
        check(PolynomialLR(n, power), lambda o: torch_lr.PolynomialLR(o, n, power))

    @settings(max_examples=5, deadline=None)
    @given(counts, st.integers(1, 4), st.floats(0, 0.9))
    def test_warm_restarts(self, first, times, floor):
        ours = CosineAnnealingWarmRestarts(first, times, floor)
        check(ours, lambda o: torch_lr.CosineAnnealingWarmRestarts(o, first, times, eta_min=floor))

    def test_warm_restarts_begin_where_they_should(self):
        """The table of beginnings is exact where a logarithm would be one step off."""
        for first, times in ((1, 2), (3, 3), (7, 2), (10, 10)):
            begins = np.cumsum([0] + [first * times**k for k in range(9)])
            schedule = CosineAnnealingWarmRestarts(first, times)
            at = jax.vmap(lambda t, s=schedule: s.factor(t, t, 1, 1))
            begins = begins[begins < 2**22]
            np.testing.assert_array_equal(at(jnp.asarray(begins, jnp.int32)), 1.0)
            assert (at(jnp.asarray(begins[2:] - 1, jnp.int32)) < 1).all()

    @settings(max_examples=5, deadline=None)
    @given(counts, counts, st.sampled_from(["triangular", "triangular2", "exp_range"]), st.floats(0, 0.5))
    def test_cyclic(self, up, down, mode, low):
        """S1.64."""
        ours = CyclicLR(low, 0.9, up, down, mode=mode, gamma=0.99, by="epoch")
        check(
            ours,
            lambda o: torch_lr.CyclicLR(o, low, 0.9, up, down, mode=mode, gamma=0.99, cycle_momentum=False),
        )
        same = CyclicLR(low, 0.9, up, mode=mode, gamma=0.99, by="epoch")
        check(same, lambda o: torch_lr.CyclicLR(o, low, 0.9, up, mode=mode, gamma=0.99, cycle_momentum=False))

    @settings(max_examples=5, deadline=None)
    @given(st.floats(0.02, 0.5), st.sampled_from(["cos", "linear"]), st.booleans(), st.floats(1, 50), st.floats(1, 1e5))
    def test_one_cycle(self, start, strategy, three, div, final):
        fields = {"pct_start": start, "anneal_strategy": strategy, "three_phase": three}
        fields |= {"div_factor": div, "final_div_factor": final}
        want = by_torch(lambda o: torch_lr.OneCycleLR(o, 1.0, 200, cycle_momentum=False, **fields))
        for ours in (OneCycleLR(**fields), OneCycleLR(200, **fields)):
            np.testing.assert_allclose(by_epoch(ours.replace(by="epoch")), want, rtol=1e-4, atol=2e-6)
            np.testing.assert_allclose(by_step(ours), want, rtol=1e-4, atol=2e-6)

    def test_one_cycle_moves_the_rate_and_not_the_momentum(self):
        """torch's rates are the same whether it cycles the momentum or not."""
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([weight], lr=1.0, momentum=0.9)
        schedule, rates = torch_lr.OneCycleLR(optimizer, 1.0, 200), []
        for _ in range(200):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        np.testing.assert_allclose(by_step(OneCycleLR()), rates, rtol=1e-4, atol=2e-6)

    def test_one_cycle_stays_at_its_end(self):
        """torch raises an error there."""
        rates = by_step(OneCycleLR(50))
        np.testing.assert_allclose(rates[49:], 1 / 25 / 1e4, rtol=1e-5)

    @settings(max_examples=5, deadline=None)
    @given(st.floats(0.5, 1.0), counts, st.floats(0.2, 2), st.floats(0.9, 1.0))
    def test_chained(self, factor, n, power, gamma):
        def theirs(o):
            parts = [torch_lr.ConstantLR(o, factor, n), torch_lr.PolynomialLR(o, 230, power)]
            return torch_lr.ChainedScheduler([*parts, torch_lr.ExponentialLR(o, gamma)], o)

        parts = [ConstantLR(factor, n), PolynomialLR(230, power), ExponentialLR(gamma)]
        want = by_torch(theirs)
        np.testing.assert_allclose(by_epoch(ChainedScheduler(parts)), want, rtol=5e-5, atol=2e-6)
        parts = [p.replace(by="step") for p in parts]
        np.testing.assert_allclose(by_step(ChainedScheduler(parts)), want, rtol=5e-5, atol=2e-6)

    def test_the_chain_of_the_course_is_constant(self):
        """S1.65: gamma 3/2 and 2/3."""
        rates = by_epoch(ChainedScheduler((ExponentialLR(3 / 2), ExponentialLR(2 / 3))))
        np.testing.assert_allclose(rates[:100], 1.0, rtol=2e-5)

    @settings(max_examples=5, deadline=None)
    @given(st.integers(1, 99), st.integers(100, 199), st.floats(0.1, 0.9))
    def test_sequential(self, first, second, gamma):
        def theirs(o):
            parts = [torch_lr.ConstantLR(o, 0.1, 500), torch_lr.ExponentialLR(o, gamma), torch_lr.StepLR(o, 20, gamma)]
            return torch_lr.SequentialLR(o, parts, milestones=[first, second])

        parts = [ConstantLR(0.1, 500), ExponentialLR(gamma), StepLR(20, gamma)]
        want = by_torch(theirs)
        ours = SequentialLR(parts, (first, second))
        np.testing.assert_allclose(by_epoch(ours), want, rtol=5e-5, atol=1e-36)
        by_steps = SequentialLR([p.replace(by="step") for p in parts], (first, second), by="step")
        np.testing.assert_allclose(by_step(by_steps), want, rtol=5e-5, atol=1e-36)

    def test_sequential_with_a_length_of_the_time_that_is_left(self):
        want = by_torch(
            lambda o: torch_lr.SequentialLR(
                o, [torch_lr.PolynomialLR(o, 60), torch_lr.CosineAnnealingLR(o, 140)], milestones=[60]
            )
        )
        ours = SequentialLR((PolynomialLR(None), CosineAnnealingLR()), (60,))
        np.testing.assert_allclose(by_epoch(ours), want, rtol=1e-5, atol=2e-6)

    def test_the_course(self):
        """S1.62: 0.01 to 0.1 in 10 epochs, S1.60: halved; S1.61: (1 - t/T)^2."""
        at = lambda s: [round(0.1 * float(v), 5) for v in by_epoch(s)[:11]]  # noqa: E731
        assert at(LinearLR(0.1, 1.0, 10))[::5] == [0.01, 0.055, 0.1]
        assert at(StepLR(5, 0.5))[::5] == [0.1, 0.05, 0.025]
        assert at(PolynomialLR(10, 2))[::5] == [0.1, 0.025, 0.0]

    def test_defaults(self):
        check(ConstantLR(), torch_lr.ConstantLR)
        check(LinearLR(), torch_lr.LinearLR)
        check(StepLR(30), lambda o: torch_lr.StepLR(o, 30))
        check(MultiStepLR((3, 8)), lambda o: torch_lr.MultiStepLR(o, [3, 8]))
        check(PolynomialLR(), torch_lr.PolynomialLR)
        check(CosineAnnealingWarmRestarts(7), lambda o: torch_lr.CosineAnnealingWarmRestarts(o, 7))
        check(OneCycleLR(by="epoch"), lambda o: torch_lr.OneCycleLR(o, 1.0, 200, cycle_momentum=False))
        cyclic = torch_lr.CyclicLR
        check(CyclicLR(0.1, 1.0, by="epoch"), lambda o: cyclic(o, 0.1, 1.0, cycle_momentum=False))

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
    MultiStepLR((1, 5, 2), 0.5),
    ExponentialLR(0.9),
    PolynomialLR(4, 0.8),
    PolynomialLR(None, by="step"),
    CosineAnnealingWarmRestarts(2.5),
    CosineAnnealingWarmRestarts(2, 2, 0.1, by="step"),
    CyclicLR(0.1, 1.0, 7),
    CyclicLR(0.1, 1.0, 7, 3, "exp_range", 0.9),
    OneCycleLR(),
    OneCycleLR(60, anneal_strategy="linear", three_phase=True),
    ReduceLROnPlateau(),
    ChainedScheduler((LinearLR(), ExponentialLR(0.9))),
    SequentialLR((ConstantLR(0.1), StepLR(2), CosineAnnealingLR()), (1, 2.5)),
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
        (lambda: MultiStepLR((3, -1)), r"MultiStepLR.milestones.1 must be 0 or more, in epochs \(or steps\), got -1"),
        (lambda: MultiStepLR(30), "MultiStepLR.milestones must be a tuple of a number, got 30"),
        (lambda: ExponentialLR(), "ExponentialLR needs a value for 'gamma'"),
        (lambda: PolynomialLR(0), "PolynomialLR.total_iters must be above 0"),
        (lambda: PolynomialLR(power=0), "PolynomialLR.power must be above 0"),
        (lambda: CosineAnnealingWarmRestarts(0), "CosineAnnealingWarmRestarts.T_0 must be above 0"),
        (lambda: CosineAnnealingWarmRestarts(5, 0), "CosineAnnealingWarmRestarts.T_mult must be at least 1, got 0"),
        (lambda: CosineAnnealingWarmRestarts(5, 1.5), "CosineAnnealingWarmRestarts.T_mult must be a whole number"),
        (lambda: CyclicLR(step_size_up=0), "CyclicLR.step_size_up must be above 0"),
        (lambda: CyclicLR(mode="square"), "CyclicLR.mode must be one of 'triangular', 'triangular2', 'exp_range'"),
        (lambda: CyclicLR(max_lr=0.1), "CyclicLR has no field 'max_lr'.*max_factor"),
        (lambda: OneCycleLR(pct_start=1.5), r"OneCycleLR.pct_start must be a share of the run in \[0, 1\], got 1.5"),
        (lambda: OneCycleLR(pct_start=0.7, three_phase=True), r"share of the run in \[0, 0.5\], got 0.7"),
        (lambda: OneCycleLR(1), "OneCycleLR.total_steps must be above 1"),
        (lambda: ReduceLROnPlateau(1.0), r"ReduceLROnPlateau.gamma must be in \[0, 1\)"),
        (lambda: ReduceLROnPlateau(patience=-1), "ReduceLROnPlateau.patience must be 0 or more, in epochs"),
        (lambda: ReduceLROnPlateau(min_factor=-1), "ReduceLROnPlateau.min_factor must be a factor"),
        (lambda: ChainedScheduler(()), r"ChainedScheduler needs at least one schedule: ChainedScheduler\(\("),
        (lambda: ChainedScheduler(StepLR(3)), "ChainedScheduler.schedulers must be a tuple of a Schedule"),
        (lambda: SequentialLR((StepLR(3),), (5,)), r"must be the 0 times at which .* begin, got 1: \(5.0,\)"),
        (lambda: SequentialLR((StepLR(3),) * 3, (5, 2)), "SequentialLR.milestones must not fall"),
    ],
)
def test_messages(make, words):
    with pytest.raises(SpecError, match=words):
        make()


def test_the_picture_shows_every_schedule():
    """docs/schedules.svg is drawn from this table; docs/schedules.md shows it and names each."""
    docs = Path(__file__).resolve().parents[1] / "docs"
    curves = runpy.run_path(str(docs / "make_schedules.py"))["CURVES"]
    public = [getattr(optim, name) for name in optim.__all__]
    every = {c.__name__ for c in public if isinstance(c, type) and issubclass(c, Schedule)} - {"Schedule"}
    assert {type(schedule).__name__ for schedule, _ in curves.values()} == every
    page = (docs / "schedules.md").read_text("utf-8")
    assert (docs / "schedules.svg").is_file() and "schedules.svg" in page
    assert all(f"`{name}`" in page for name in every)
