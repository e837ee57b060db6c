"""SGD, Adam and AdamW with random hyperparameters against torch.optim; optax; clipping. The others: test_optim_rules.py."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import derin.spec as spec
from derin.errors import SpecError
from derin.optim import (
    SGD,
    Adam,
    AdamW,
    ClipByGlobalNorm,
    ClipByValue,
    Optax,
    OptaxTransformation,
    as_optimizer,
    from_optax,
)

SHAPES = {"hidden.weight": (4, 3), "hidden.bias": (4,), "head.weight": (1, 4)}
seeds = st.integers(0, 2**31 - 1)
shares = st.floats(0, 0.95)
rates = st.floats(1e-4, 0.2)
decays = st.floats(0, 0.3)


def start(seed: int) -> tuple[dict, list[dict]]:
    """Random weights, and the gradients of twenty steps: sizes from 1e-3 to 10, some exactly 0."""
    rng = np.random.default_rng(seed)
    draw = lambda: {k: rng.standard_normal(s).astype(np.float32) for k, s in SHAPES.items()}  # noqa: E731
    grads = [{k: g * np.float32(10 ** rng.uniform(-3, 1)) for k, g in draw().items()} for _ in range(20)]
    for g in grads[:5]:
        g["hidden.bias"][0] = 0
    return draw(), grads


def by_derin(optimizer, params: dict, grads: list[dict], factors=None) -> dict:
    """The weights after all steps, in one compiled program."""
    factors = jnp.ones(len(grads)) if factors is None else jnp.asarray(factors, jnp.float32)

    @jax.jit
    def run(optimizer, params, grads):
        def step(carry, at):
            params, state = carry
            grad, factor = at
            updates, state = optimizer.update(grad, state, params, optimizer.learning_rate * factor)
            return (jax.tree.map(jnp.add, params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), (grads, factors))[0][0]

    stacked = jax.tree.map(lambda *g: jnp.stack(g), *grads)
    return run(optimizer, jax.tree.map(jnp.asarray, params), stacked)


def by_torch(make, params: dict, grads: list[dict]) -> dict:
    weights = {k: torch.nn.Parameter(torch.tensor(p)) for k, p in params.items()}
    optimizer = make(list(weights.values()))
    for grad in grads:
        for k, w in weights.items():
            w.grad = torch.tensor(grad[k])
        optimizer.step()
    return {k: w.detach().numpy() for k, w in weights.items()}


def assert_close(ours: dict, theirs: dict, tolerance: float = 1e-5) -> None:
    for k in theirs:
        np.testing.assert_allclose(ours[k], theirs[k], rtol=tolerance, atol=tolerance, err_msg=k)


class TestAgainstTorch:
    @settings(max_examples=25, deadline=None)
    @given(seeds, rates, st.one_of(st.just(0.0), st.floats(1e-6, 0.95)), st.floats(-0.5, 0.9), decays, st.booleans())
    def test_sgd(self, seed, rate, momentum, dampening, decay, nesterov):
        nesterov = nesterov and momentum > 0  # one below float32's smallest number is 0 here, and is not in torch
        dampening = 0.0 if nesterov else dampening
        params, grads = start(seed)
        ours = by_derin(SGD(rate, momentum, dampening, decay, nesterov), params, grads)
        theirs = by_torch(
            lambda w: torch.optim.SGD(
                w, rate, momentum=momentum, dampening=dampening, weight_decay=decay, nesterov=nesterov
            ),
            params,
            grads,
        )
        scale = max(1.0, max(abs(v).max() for v in theirs.values()))
        assert_close({k: v / scale for k, v in ours.items()}, {k: v / scale for k, v in theirs.items()})

    @pytest.mark.parametrize("ours, theirs", [(Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW)])
    @settings(max_examples=25, deadline=None)
    @given(
        seed=seeds,
        rate=rates,
        beta1=shares,
        beta2=st.floats(0.5, 0.9999),
        decay=decays,
        eps=st.floats(1e-8, 1e-3),
    )
    def test_adam(self, ours, theirs, seed, rate, beta1, beta2, decay, eps):
        params, grads = start(seed)
        got = by_derin(ours(rate, (beta1, beta2), eps, decay), params, grads)
        make = lambda w: theirs(w, rate, betas=(beta1, beta2), eps=eps, weight_decay=decay)  # noqa: E731
        assert_close(got, by_torch(make, params, grads))

    def test_the_first_step_of_sgd_is_not_dampened(self):
        params, grads = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
        sgd = SGD(1.0, momentum=0.5, dampening=0.9)
        _, state = sgd.update(grads, sgd.init(params), params, 1.0)
        np.testing.assert_allclose(state.momentum_buffer["w"], 1.0)
        _, state = sgd.update(grads, state, params, 1.0)
        np.testing.assert_allclose(state.momentum_buffer["w"], 0.5 + 0.1, rtol=1e-6)

    def test_bias_correction_is_exact_after_many_steps(self):
        """A constant gradient: every step of Adam is learning_rate long, at step 1 as at step 10,000."""
        adam, params, grads = Adam(eps=0.0), jnp.zeros(1), jnp.full(1, 3.0)
        state, moved = adam.init(params), []
        update = jax.jit(adam.update)
        for _ in range(2000):
            updates, state = update(grads, state, params, 1.0)
            moved.append(float(updates[0]))
        np.testing.assert_allclose(moved, -1.0, rtol=3e-5)


class TestAsValues:
    MANY = (
        SGD(0.1, momentum=None),
        SGD(0.1),
        SGD(0.1, momentum=0.9, nesterov=True),
        Adam(0.01),
        AdamW(0.01),
        from_optax("lion", learning_rate=0.01, b1=0.8),
        from_optax("rmsprop", learning_rate=0.01, decay=0.8, momentum=0.5, nesterov=True),
    )

    @pytest.mark.parametrize("optimizer", MANY, ids=repr)
    def test_a_stack_under_vmap_is_a_loop(self, optimizer):
        params, grads = start(0)
        trials = [jax.tree.map(lambda v, i=i: v * (1 - 0.1 * i), optimizer) for i in range(3)]
        stack = jax.tree.map(lambda *v: jnp.array(v), *trials)
        together = jax.vmap(lambda o: by_derin(o, params, grads))(stack)
        for i, trial in enumerate(trials):
            alone = by_derin(trial, params, grads)
            assert_close({k: v[i] for k, v in together.items()}, alone, 1e-5)
            assert i == 0 or not np.allclose(alone["head.weight"], together["head.weight"][0])

    @pytest.mark.parametrize("optimizer", MANY, ids=repr)
    def test_other_numbers_compile_nothing_anew(self, optimizer):
        traces = []

        @jax.jit
        def step(optimizer, state, params, rate):
            traces.append(1)
            return optimizer.update(params, state, params, rate)

        params = {"w": jnp.ones(3)}
        for i in range(4):
            other = jax.tree.map(lambda v, i=i: v * (1 - 0.1 * i), optimizer)
            step(other, other.init(params), params, 0.1 * i)
        assert len(traces) == 1

    @pytest.mark.parametrize("optimizer", MANY, ids=repr)
    def test_the_state_keeps_its_structure_and_types(self, optimizer):
        params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
        first = optimizer.init(params)
        _, second = optimizer.update(params, first, params, jnp.float32(0.1))
        like = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)  # noqa: E731
        assert like(first) == like(second)

    @pytest.mark.parametrize("optimizer", MANY[:5], ids=repr)
    def test_one_flat_vector_gives_the_same(self, optimizer):
        assert optimizer.elementwise
        params, grads = start(1)
        flat = lambda d: {"": np.concatenate([d[k].ravel() for k in SHAPES])}  # noqa: E731
        ours = by_derin(optimizer, flat(params), [flat(g) for g in grads])
        assert_close(ours, flat(jax.tree.map(np.asarray, by_derin(optimizer, params, grads))), 1e-6)

    @pytest.mark.parametrize("optimizer", MANY, ids=repr)
    def test_files_hold_them(self, optimizer):
        assert spec.from_json(spec.to_json(optimizer)) == optimizer
        assert spec.from_toml(spec.to_toml(optimizer)) == optimizer
        assert spec.parse(repr(optimizer)) == optimizer

    def test_momentum_none_keeps_no_buffer_and_equals_zero(self):
        params, grads = start(2)
        assert SGD(0.1, momentum=None).init(params).momentum_buffer is None
        assert_close(by_derin(SGD(0.1, None), params, grads), by_derin(SGD(0.1, 0.0), params, grads), 1e-6)

    def test_momentum_traced_through_zero(self):
        """A population may sweep momentum down to 0, dampening and all."""
        params, grads = start(3)
        stack = SGD(jnp.full(2, 0.01), jnp.array([0.0, 0.9]), jnp.full(2, 0.5), jnp.zeros(2))
        together = jax.vmap(lambda o: by_derin(o, params, grads))(stack)
        make = lambda w: torch.optim.SGD(w, 0.01, momentum=0.0, dampening=0.5)  # noqa: E731
        assert_close({k: v[0] for k, v in together.items()}, by_torch(make, params, grads))


class TestOptax:
    @pytest.mark.parametrize(
        "name, options",
        [
            ("adamw", {"b1": 0.8, "weight_decay": 0.1}),
            ("lion", {"b2": 0.9}),
            ("sgd", {"momentum": 0.9, "nesterov": True}),
            ("adagrad", {"initial_accumulator_value": 0.0}),
            ("lamb", {}),
            ("adafactor", {"min_dim_size_to_factor": 2}),
            ("contrib.muon", {}),
            ("rmsprop", {"centered": True, "decay": 0.8}),
        ],
    )
    def test_by_name_equals_optax(self, name, options):
        params, grads = start(4)
        factors = np.linspace(1, 0.2, 20)
        ours = by_derin(from_optax(name, 0.02, **options), params, grads, factors)
        maker = getattr(optax.contrib if "." in name else optax, name.split(".")[-1])
        theirs, state = jax.tree.map(jnp.asarray, params), None
        for grad, factor in zip(grads, factors, strict=True):
            transformation = maker(learning_rate=0.02 * float(factor), **options)
            state = transformation.init(theirs) if state is None else state
            updates, state = transformation.update(jax.tree.map(jnp.asarray, grad), state, theirs)
            theirs = optax.apply_updates(theirs, updates)
        assert_close(ours, theirs)

    def test_a_transformation_object(self):
        params, grads = start(5)
        chain = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
        wrapped = as_optimizer(chain)
        factors = np.linspace(1, 0.5, 20)
        ours = by_derin(wrapped, params, grads, factors)
        theirs = jax.tree.map(jnp.asarray, params)
        state = chain.init(theirs)
        for grad, factor in zip(grads, factors, strict=True):
            updates, state = chain.update(jax.tree.map(jnp.asarray, grad), state)
            theirs = jax.tree.map(lambda p, u, f=factor: p + np.float32(f) * u, theirs, updates)
        assert_close(ours, theirs)
        assert isinstance(wrapped, OptaxTransformation) and not wrapped.elementwise
        with pytest.raises(SpecError, match=r"no file and no run can keep it.*from_optax\('adamw'"):
            spec.to_json(wrapped)

    def test_as_optimizer(self):
        assert as_optimizer(SGD(0.1)) == SGD(0.1)
        with pytest.raises(SpecError, match=r"must be an Optimizer such as Adam\(.*got 'adam' \(str\)"):
            as_optimizer("adam")

    @pytest.mark.parametrize(
        "make, words",
        [
            (lambda: from_optax("adamm"), "optax has no optimiser 'adamm'. Nearest: adam"),
            (lambda: from_optax("clip"), "optax has no optimiser 'clip'"),
            (lambda: from_optax("adam", beta1=0.9), "optax.adam has no option 'beta1'. Nearest: b1"),
            (lambda: from_optax("lbfgs"), "optax.lbfgs cannot be used as an optimiser here"),
            (lambda: Optax(name="adam", names=("b1",)), "must pair up"),
            (lambda: Optax(name="adam", fixed=("nesterov", True)), "must be pairs"),
            (lambda: Optax(learning_rate=0.1), "Optax needs a value for 'name'"),
            (lambda: from_optax("adam", math.nan), "learning_rate must be a positive, finite number"),
        ],
    )
    def test_what_cannot_work_is_said(self, make, words):
        with pytest.raises(SpecError) as said:
            make()
        assert words in str(said.value)


class TestMessages:
    @pytest.mark.parametrize("cls", [SGD, Adam, AdamW])
    @pytest.mark.parametrize("rate", [math.nan, math.inf, -1e-3, 0.0, 0])
    def test_learning_rate(self, cls, rate):
        with pytest.raises(SpecError, match=rf"{cls.__name__}.learning_rate must be a positive, finite number.*got "):
            cls(learning_rate=rate)

    @pytest.mark.parametrize(
        "make, words",
        [
            (lambda: Adam(betas=(0.9, 1.0)), r"Adam.betas.1 must be in \[0, 1\), got 1.0"),
            (lambda: AdamW(betas=(-0.1, 0.9)), r"AdamW.betas.0 must be in \[0, 1\), got -0.1"),
            (
                lambda: Adam(betas=(0.9,)),
                r"Adam.betas must be two numbers such as \(0.9, 0.999\), got \(0.9,\)",
            ),
            (lambda: Adam(eps=-1e-8), "Adam.eps must be 0 or more"),
            (lambda: AdamW(weight_decay=math.nan), "AdamW.weight_decay must be 0 or more, got nan"),
            (lambda: SGD(momentum=-0.1), "SGD.momentum must be 0 or more"),
            (lambda: SGD(nesterov=True), "needs a momentum above 0"),
            (lambda: SGD(momentum=None, nesterov=True), "needs a momentum above 0"),
            (lambda: SGD(momentum=0.9, dampening=0.1, nesterov=True), "no dampening"),
            (lambda: SGD(lr=0.1), "SGD has no field 'lr'"),
            (lambda: ClipByValue(0.0), "ClipByValue.limit must be above 0, got 0.0"),
            (lambda: ClipByGlobalNorm(math.nan), "ClipByGlobalNorm.limit must be above 0, got nan"),
        ],
    )
    def test_other_values(self, make, words):
        with pytest.raises(SpecError, match=words):
            make()

    def test_a_stack_of_values_is_not_judged(self):
        assert Adam(jnp.array([0.1, 0.2])).learning_rate.shape == (2,)


class TestClip:
    @settings(max_examples=20, deadline=None)
    @given(seeds, st.floats(1e-3, 100))
    def test_equals_torch(self, seed, limit):
        _, grads = start(seed)
        for clip, theirs in (
            (ClipByValue(limit), torch.nn.utils.clip_grad_value_),
            (ClipByGlobalNorm(limit), torch.nn.utils.clip_grad_norm_),
        ):
            weights = [torch.nn.Parameter(torch.zeros(s)) for s in SHAPES.values()]
            for w, g in zip(weights, grads[0].values(), strict=True):
                w.grad = torch.tensor(g)
            theirs(weights, limit)
            ours = jax.jit(lambda clip, g: clip(g))(clip, grads[0])
            assert_close(ours, {k: w.grad.numpy() for k, w in zip(SHAPES, weights, strict=True)}, 2e-6)

    def test_a_zero_gradient_stays(self):
        zeros = {"w": jnp.zeros(3)}
        np.testing.assert_array_equal(ClipByGlobalNorm(1.0)(zeros)["w"], 0)

    def test_files_and_vmap(self):
        assert spec.from_json(spec.to_json(ClipByGlobalNorm(2.0))) == ClipByGlobalNorm(2.0)
        lengths = jax.vmap(lambda c: jnp.linalg.norm(c({"w": jnp.array([3.0, 4.0])})["w"]))(
            ClipByGlobalNorm(jnp.array([1.0, 2.0, 9.0]))
        )
        np.testing.assert_allclose(lengths, [1, 2, 5], rtol=1e-5)


def test_gradient_descent_by_hand():
    """S0.22: one step of linear regression, from data to weights."""
    x, y = jnp.array([[1.0, 2, 3], [4, 5, 6]]), jnp.array([14.0, 32.0])
    w = jnp.full(3, 2.0)
    cost = lambda w: jnp.mean((y - x @ w) ** 2)  # noqa: E731
    sgd = SGD(learning_rate=0.01)
    updates, _ = sgd.update(jax.grad(cost)(w), sgd.init(w), w, sgd.learning_rate)
    np.testing.assert_allclose(w + updates, [2.10, 2.14, 2.18], atol=1e-6)
    np.testing.assert_allclose([cost(w), cost(w + updates)], [4.0, 0.5994], atol=1e-4)
