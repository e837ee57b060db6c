"""Every optimiser, with its options: twenty steps on a random net, as PyTorch's (or optax's), and the course's forms."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from sklearn.datasets import load_breast_cancer

import derin.spec as spec
from derin.errors import SpecError
from derin.optim import (
    ASGD,
    LBFGS,
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    Muon,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
    SGDMomentum,
)
from derin.optim.base import running_mean
from derin.testing import check_optimizer

torch.set_num_threads(1)
t = torch.optim


class MuonAndAdamW:
    """torch's Muon refuses biases; its documentation gives them to AdamW."""

    def __init__(self, weights, adamw=None, **options):
        self.parts = [
            t.Muon([w for w in weights if w.ndim == 2], **options),
            t.AdamW([w for w in weights if w.ndim != 2], **(adamw or {})),
        ]

    def step(self, closure=None):
        for part in self.parts:
            part.step()


# (ours, theirs): each option at least once away from its default
TORCH = [
    (SGD(0.1), lambda w: t.SGD(w, 0.1)),
    (SGD(0.1, 0.9, nesterov=True), lambda w: t.SGD(w, 0.1, 0.9, nesterov=True)),
    (SGD(0.1, 0.8, 0.3, 0.1), lambda w: t.SGD(w, 0.1, 0.8, 0.3, 0.1)),
    (ASGD(0.1), lambda w: t.ASGD(w, 0.1)),
    (
        ASGD(0.2, lambd=0.1, alpha=0.5, t0=5.0, weight_decay=0.1),
        lambda w: t.ASGD(w, 0.2, 0.1, 0.5, 5, 0.1),
    ),
    (Adagrad(0.1), lambda w: t.Adagrad(w, 0.1)),
    (Adagrad(0.3, 0.1, 0.1, 0.5, 1e-3), lambda w: t.Adagrad(w, 0.3, 0.1, 0.1, 0.5, 1e-3)),
    (RMSprop(0.01), lambda w: t.RMSprop(w, 0.01)),
    (RMSprop(0.01, 0.9, 1e-3, 0.1, 0.8), lambda w: t.RMSprop(w, 0.01, 0.9, 1e-3, 0.1, 0.8)),
    (RMSprop(0.01, 0.9, 1e-3, centered=True), lambda w: t.RMSprop(w, 0.01, 0.9, 1e-3, centered=True)),
    (
        RMSprop(0.01, 0.9, 1e-2, momentum=0.5, centered=True),
        lambda w: t.RMSprop(w, 0.01, 0.9, 1e-2, momentum=0.5, centered=True),
    ),
    (RMSprop(0.01, momentum=None), lambda w: t.RMSprop(w, 0.01)),
    (Adadelta(), lambda w: t.Adadelta(w)),
    (Adadelta(0.7, 0.8, 1e-3, 0.1), lambda w: t.Adadelta(w, 0.7, 0.8, 1e-3, 0.1)),
    (Adam(0.03), lambda w: t.Adam(w, 0.03)),
    (
        Adam(0.03, (0.7, 0.9), 1e-3, 0.1, amsgrad=True),
        lambda w: t.Adam(w, 0.03, (0.7, 0.9), 1e-3, 0.1, amsgrad=True),
    ),
    (AdamW(0.03), lambda w: t.AdamW(w, 0.03)),
    (
        AdamW(0.03, (0.7, 0.8), 1e-3, 0.5, amsgrad=True),
        lambda w: t.AdamW(w, 0.03, (0.7, 0.8), 1e-3, 0.5, amsgrad=True),
    ),
    (Adamax(0.03), lambda w: t.Adamax(w, 0.03)),
    (Adamax(0.03, (0.7, 0.8), 1e-3, 0.1), lambda w: t.Adamax(w, 0.03, (0.7, 0.8), 1e-3, 0.1)),
    (NAdam(0.03), lambda w: t.NAdam(w, 0.03)),
    (NAdam(0.03, (0.7, 0.9), 1e-3, 0.1, 0.1), lambda w: t.NAdam(w, 0.03, (0.7, 0.9), 1e-3, 0.1, 0.1)),
    (
        NAdam(0.03, weight_decay=0.5, decoupled_weight_decay=True),
        lambda w: t.NAdam(w, 0.03, weight_decay=0.5, decoupled_weight_decay=True),
    ),
    (RAdam(0.03), lambda w: t.RAdam(w, 0.03)),
    (RAdam(0.03, (0.7, 0.9), 1e-3, 0.1), lambda w: t.RAdam(w, 0.03, (0.7, 0.9), 1e-3, 0.1)),
    (RAdam(0.03, (0.9, 0.5)), lambda w: t.RAdam(w, 0.03, (0.9, 0.5))),  # never trusts v
    (RAdam(0.03, (0.9, 0.99995)), lambda w: t.RAdam(w, 0.03, (0.9, 0.99995))),  # float32's hardest case
    (
        RAdam(0.03, weight_decay=0.5, decoupled_weight_decay=True),
        lambda w: t.RAdam(w, 0.03, weight_decay=0.5, decoupled_weight_decay=True),
    ),
    (Rprop(), lambda w: t.Rprop(w)),
    (Rprop(0.1, (0.3, 1.5), (1e-2, 0.15)), lambda w: t.Rprop(w, 0.1, (0.3, 1.5), (1e-2, 0.15))),
    (Adafactor(0.1), lambda w: t.Adafactor(w, 0.1)),
    (
        Adafactor(0.5, -0.5, (1e-3, 0.1), 1.5, 0.1),
        lambda w: t.Adafactor(w, 0.5, -0.5, (1e-3, 0.1), 1.5, 0.1),
    ),
    (Muon(0.02), lambda w: MuonAndAdamW(w, lr=0.02)),
    (
        Muon(0.05, 0.3, 0.8, False, (3.0, -4.0, 2.0), 1e-3, 3, "match_rms_adamw", AdamW(0.01, weight_decay=0.2)),
        lambda w: MuonAndAdamW(
            w,
            {"lr": 0.01, "weight_decay": 0.2},
            lr=0.05,
            weight_decay=0.3,
            momentum=0.8,
            nesterov=False,
            ns_coefficients=(3.0, -4.0, 2.0),
            eps=1e-3,
            ns_steps=3,
            adjust_lr_fn="match_rms_adamw",
        ),
    ),
    (LBFGS(0.5), lambda w: t.LBFGS(w, 0.5, max_iter=1)),
    (LBFGS(0.5, history_size=3), lambda w: t.LBFGS(w, 0.5, max_iter=1, history_size=3)),
]

# what PyTorch has not: Lion, and eps inside the root
OPTAX = [
    (Lion(0.01), lambda: optax.lion(0.01, weight_decay=0.0)),
    (Lion(0.02, (0.8, 0.9), 0.3), lambda: optax.lion(0.02, 0.8, 0.9, weight_decay=0.3)),
    (Adagrad(0.1, eps=1e-2, eps_inside=True), lambda: optax.adagrad(0.1, 0.0, eps=1e-2)),
    (RMSprop(0.01, 0.9, 1e-2, eps_inside=True), lambda: optax.rmsprop(0.01, 0.9, eps=1e-2)),
    (Adam(0.03, eps=1e-2, eps_inside=True), lambda: optax.adam(0.03, eps=0.0, eps_root=1e-2)),
    (
        AdamW(0.03, eps=1e-2, weight_decay=0.5, eps_inside=True),
        lambda: optax.adamw(0.03, eps=0.0, eps_root=1e-2, weight_decay=0.5),
    ),
]

ALL = [ours for ours, _ in TORCH + OPTAX] + [SGDMomentum(0.1), SGDMomentum(0.1, 0.8, 0.1)]
KINDS = list({type(o): o for o in reversed(ALL)}.values())  # one of each class


def net(x, params, tanh):
    """A random net of two layers in either library.   x: [rows, 4] -> [rows, 2]"""
    hidden = tanh(x @ params["hidden.weight"].T + params["hidden.bias"])
    return hidden @ params["head.weight"].T + params["head.bias"]


def problem(seed: int) -> tuple[dict, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"hidden.weight": (6, 4), "hidden.bias": (6,), "head.weight": (2, 6), "head.bias": (2,)}
    params = {k: rng.normal(0, 0.5, s).astype(np.float32) for k, s in shapes.items()}
    x = rng.normal(size=(16, 4)).astype(np.float32)
    return params, x, np.stack([np.sin(2 * x[:, 0]), x[:, 1] * x[:, 2]], 1)


def loss_of(params, x, y):
    return jnp.mean((net(x, params, jnp.tanh) - y) ** 2)


@jax.jit
def trained(optimizer, params, x, y):
    """The weights after twenty full-batch steps, and the optimiser's last state."""

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss_of)(params, x, y), state, params, optimizer.learning_rate)
        return (jax.tree.map(jnp.add, params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), length=20)[0]


def trained_by_torch(make, params, x, y):
    weights = {k: torch.nn.Parameter(torch.tensor(p)) for k, p in params.items()}
    optimizer = make(list(weights.values()))
    x, y = torch.tensor(x), torch.tensor(y)

    def closure():
        for w in weights.values():
            w.grad = None
        loss = ((net(x, weights, torch.tanh) - y) ** 2).mean()
        loss.backward()
        return loss

    for _ in range(20):
        closure()
        optimizer.step(closure)
    return {k: w.detach().numpy() for k, w in weights.items()}, optimizer


def assert_close(ours, theirs, tolerance=1e-5):
    for k in theirs:
        np.testing.assert_allclose(ours[k], theirs[k], rtol=tolerance, atol=tolerance, err_msg=k)


@pytest.fixture
def muon_in_float32(monkeypatch):
    """torch rounds Muon's Newton-Schulz steps to bfloat16; the rule itself is compared without that."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())


@pytest.mark.parametrize("ours, theirs", TORCH, ids=[repr(o) for o, _ in TORCH])
def test_twenty_steps_on_a_random_net_equal_torch(ours, theirs, muon_in_float32):
    params, x, y = problem(3)
    got, _ = trained(ours, params, x, y)
    want, _ = trained_by_torch(theirs, params, x, y)
    assert max(np.abs(want[k] - params[k]).max() for k in params) > 1e-2, "nothing was learned"
    assert_close(got, want)


@pytest.mark.parametrize("ours, theirs", OPTAX, ids=[repr(o) for o, _ in OPTAX])
def test_twenty_steps_on_a_random_net_equal_optax(ours, theirs):
    params, x, y = problem(4)
    rule = theirs()

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            updates, state = rule.update(jax.grad(loss_of)(params, x, y), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, rule.init(params)), length=20)[0][0]

    assert_close(trained(ours, params, x, y)[0], run(params))


def stepped(optimizer, params, grads):
    """The weights after one step for each of the stacked gradients; one program for each structure."""
    return _stepped(jax.tree.map(jnp.asarray, optimizer), params, grads)


@jax.jit
def _stepped(optimizer, params, grads):

    def step(carry, grad):
        params, state = carry
        updates, state = optimizer.update(grad, state, params, optimizer.learning_rate)
        return (jax.tree.map(jnp.add, params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), grads)[0][0]


def drawn(seed: int) -> tuple[dict, dict]:
    """Random weights, and twenty gradients: sizes from 1e-3 to 10, some entries 0, one of them always."""
    rng = np.random.default_rng(seed)
    params = {"weight": rng.normal(size=(3, 4)).astype(np.float32), "bias": rng.normal(size=3).astype(np.float32)}
    sizes = 10 ** rng.uniform(-3, 1, 20).astype(np.float32)
    grads = {k: np.einsum("s,s...->s...", sizes, rng.normal(size=(20, *p.shape))) for k, p in params.items()}
    grads = {k: g.astype(np.float32) for k, g in grads.items()}
    grads["weight"][:, 0, 0] = 0
    grads["weight"][:5, 1], grads["bias"][10:] = 0, 0
    return params, grads


DRAWN = [(o, make) for o, make in TORCH if o in KINDS and not isinstance(o, LBFGS)]  # LBFGS: no loss has these


@pytest.mark.parametrize("ours, theirs", DRAWN, ids=[repr(o) for o, _ in DRAWN])
def test_gradients_of_all_sizes_and_zeros_equal_torch(ours, theirs, muon_in_float32):
    params, grads = drawn(5)
    weights = {k: torch.nn.Parameter(torch.tensor(p)) for k, p in params.items()}
    optimizer = theirs(list(weights.values()))
    for i in range(20):
        for k, w in weights.items():
            w.grad = torch.tensor(grads[k][i])
        optimizer.step()
    assert_close(stepped(ours, params, grads), {k: w.detach().numpy() for k, w in weights.items()})


@pytest.mark.parametrize("ours", KINDS, ids=lambda o: type(o).__name__)
def test_gradients_far_too_large_or_small_leave_finite_weights(ours):
    params, _ = drawn(6)
    sizes = np.array([1e4, -1e4, 0, 1e-30, -1e4, 1e-10, 1e4] + [0] * 13, np.float32)
    after = stepped(ours, params, {k: sizes.reshape(20, *[1] * p.ndim) * np.ones_like(p) for k, p in params.items()})
    assert all(np.isfinite(a).all() for a in after.values())


@pytest.mark.parametrize("ours", KINDS, ids=lambda o: type(o).__name__)
def test_each_is_a_value(ours):
    """The conformance suite; files; a stack of three under one vmap is a loop over three."""
    check_optimizer(ours)
    assert spec.from_toml(spec.to_toml(ours)) == ours and spec.parse(repr(ours)) == ours
    params, grads = drawn(7)
    trials = [jax.tree.map(lambda v, i=i: jnp.float32(v * (1 - 0.1 * i)), ours) for i in range(3)]
    stack = jax.tree.map(lambda *v: jnp.stack(v), *trials)
    together = jax.vmap(lambda o: stepped(o, params, grads))(stack)
    for i, trial in enumerate(trials):
        alone = stepped(trial, params, grads)
        assert_close({k: v[i] for k, v in together.items()}, alone)
        assert i == 0 or not np.allclose(alone["weight"], together["weight"][0], atol=1e-4)


NEW = {"eps_inside", "others", "exclude", "learning_rate"}  # fields that torch does not have, or calls otherwise
LEFT_OUT = {LBFGS: {"max_iter", "max_eval", "line_search_fn"}, Adam: {"decoupled_weight_decay"}}  # AdamW has it


@pytest.mark.parametrize("kind", [k for k in map(type, KINDS) if hasattr(t, k.__name__)])
def test_defaults_and_names_are_those_of_torch(kind):
    theirs = {k: p.default for k, p in inspect.signature(getattr(t, kind.__name__)).parameters.items()}
    ours = spec.to_dict(kind()) | {"type": None}
    fields = {k: getattr(kind(), k) for k in ours if k != "type"}
    assert fields["learning_rate"] == theirs.pop("lr")
    assert {k: v for k, v in fields.items() if k not in NEW} == {k: theirs[k] for k in fields if k not in NEW}
    left_out = set(theirs) - set(fields) - {"params", "foreach", "maximize", "differentiable", "capturable", "fused"}
    assert left_out == LEFT_OUT.get(kind, set())


class TestTheCoursesForms:
    """Concepts S1.41 to S1.53: its formulas and numbers, one weight at a time."""

    GRADS = (0.5, -0.2, 0.3, 0.1)

    def steps(self, rule, grads=GRADS, w=1.0, rate=None):
        """The weight after each step, in float32, and the last state."""
        state, found = rule.init(jnp.float32(w)), []
        for g in grads:
            update, state = rule.update(jnp.float32(g), state, jnp.float32(w), rate or rule.learning_rate)
            w = w + float(update)
            found.append(w)
        return found, state

    def test_cumulative_square_sum(self):
        """S1.41: 5, 6, 7 -> 25, 61, 110; it grows for ever."""
        rule = Adagrad()
        assert [float(self.steps(rule, (5.0, 6.0, 7.0)[:n])[1].sum) for n in (1, 2, 3)] == [25, 61, 110]

    def test_exponential_moving_average(self):
        """S1.42: alpha = 2 / (N + 1) = 1/2 for N = 3; 10, 12, 13, 15, 14 -> 10, 11, 12, 13.5, 13.75. decay = 1 - alpha."""
        means = [jnp.float32(10)]
        for x in (12, 13, 15, 14):
            means.append(running_mean(means[-1], x, decay=1 - 2 / (3 + 1)))
        assert [float(m) for m in means] == [10, 11, 12, 13.5, 13.75]

    def test_gradient_descent(self):
        """S1.45 (numbers of S4.20): w^2 - 10 w + 25 from 0 at rate 0.01 -> 0.1 after a step, 4.99999 after 1000."""
        slope, rule = jax.grad(lambda w: w**2 - 10 * w + 25), SGD(0.01)

        def step(w, _):
            return w + rule.update(slope(w), rule.init(w), w, rule.learning_rate)[0], w

        last, path = jax.lax.scan(step, jnp.float32(0), length=1000)
        np.testing.assert_allclose(path[1], 0.1, rtol=1e-6)
        np.testing.assert_allclose(last, 4.99999, atol=2e-5)

    def test_momentum(self):
        """S1.46: v <- b v + (1 - b) rate g, w <- w - v; the rate inside, so that v keeps the old one."""
        v, w, want = 0.0, 1.0, []
        rule = SGDMomentum(0.1, momentum=0.9)
        state, got, ours = rule.init(jnp.float32(1)), [], 1.0
        for g, rate in zip(self.GRADS, (0.1, 0.1, 0.05, 0.05), strict=True):
            v = 0.9 * v + (1 - 0.9) * rate * g
            w -= v
            want.append(w)
            update, state = rule.update(jnp.float32(g), state, jnp.float32(ours), rate)
            ours += float(update)
            got.append(ours)
        np.testing.assert_allclose(got, want, rtol=1e-6)

    def test_averaged_descent(self):
        """S1.47: w 2, 1.5, 1.2, 1.3, 1.1 -> means 2, 1.75, 1.57 (1.5667), 1.5, 1.42; here after 100 other steps, t0 = 100."""
        path, means = (2, 1.5, 1.2, 1.3, 1.1), (2, 1.75, 1.5667, 1.5, 1.42)
        grads = [-1.0] * 99 + [98.0] + [a - b for a, b in zip((2.0, *path), path, strict=False)]  # back to 2.0
        asgd = ASGD(1.0, lambd=0.0, t0=99.0)
        state, w, found = asgd.init(jnp.float32(1)), jnp.float32(1), []
        update = jax.jit(asgd.update)
        for g in grads:
            change, state = update(jnp.float32(g), state, w, 1.0)
            w = w + change
            found.append((float(w), float(state.ax)))
        np.testing.assert_allclose(found[-5:], list(zip(path, means, strict=True)), atol=5e-5)

    def test_adagrad(self):
        """S1.48: w <- w - rate g / (sqrt(G) + eps), eps outside the root."""
        total, w, want = 0.0, 1.0, []
        for g in self.GRADS:
            total += g * g
            w -= 0.1 * g / (total**0.5 + 0.01)
            want.append(w)
        np.testing.assert_allclose(self.steps(Adagrad(0.1, eps=0.01))[0], want, rtol=1e-6)

    def test_rmsprop(self):
        """S1.49: G <- c G + (1 - c) g^2, eps outside the root; inside it is another path."""
        mean, w, want = 0.0, 1.0, []
        for g in self.GRADS:
            mean = 0.9 * mean + 0.1 * g * g
            w -= 0.1 * g / (mean**0.5 + 0.01)
            want.append(w)
        np.testing.assert_allclose(self.steps(RMSprop(0.1, 0.9, 0.01))[0], want, rtol=1e-6)
        assert abs(self.steps(RMSprop(0.1, 0.9, 0.01, eps_inside=True))[0][-1] - want[-1]) > 0.01

    def test_adadelta(self):
        """S1.50: no learning rate. A factor, if given, multiplies every step, not only the first ones."""
        square, moved, w, want = 0.0, 0.0, 1.0, []
        for g in self.GRADS:
            square = 0.9 * square + 0.1 * g * g
            step = -((moved + 1e-3) ** 0.5) / (square + 1e-3) ** 0.5 * g
            moved = 0.9 * moved + 0.1 * step * step
            w += step
            want.append(w)
        rule = Adadelta(eps=1e-3)
        assert rule.learning_rate == 1.0
        np.testing.assert_allclose(self.steps(rule)[0], want, rtol=1e-6)
        np.testing.assert_allclose(np.array(self.steps(rule, rate=0.5)[0]) - 1, (np.array(want) - 1) / 2, rtol=1e-5)

    @pytest.mark.parametrize("inside", [False, True])
    def test_adam_and_adamw(self, inside):
        """S1.51: eps outside the root. S1.52 prints it inside, and decays by rate * lambda * w."""
        for decay in (0.0, 0.3):
            m, v, w, want = 0.0, 0.0, 1.0, []
            for i, g in enumerate(self.GRADS, 1):
                m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
                up, spread = m / (1 - 0.9**i), v / (1 - 0.99**i)
                root = (spread + 0.01) ** 0.5 if inside else spread**0.5 + 0.01
                w = w - 0.1 * up / root - 0.1 * decay * w
                want.append(w)
            rules = [AdamW(0.1, (0.9, 0.99), 0.01, decay, eps_inside=inside)]
            rules += [] if decay else [Adam(0.1, (0.9, 0.99), 0.01, eps_inside=inside)]
            for rule in rules:
                np.testing.assert_allclose(self.steps(rule)[0], want, rtol=1e-5)

    def test_adafactor(self):
        """S1.53: v of a matrix is one row and one column; of a product of two vectors that loses nothing."""
        rng = np.random.default_rng(0)
        g = jnp.asarray(np.outer(rng.uniform(0.1, 2, 30), rng.uniform(0.1, 2, 20)), jnp.float32)
        rule = Adafactor()
        update, state = rule.update(g, rule.init(g), g, rule.learning_rate)
        assert state.row_var.shape == (30, 1) and state.col_var.shape == (1, 20) and state.variance is None
        estimate = state.row_var * state.col_var / state.row_var.mean()
        np.testing.assert_allclose(estimate, g * g, rtol=1e-5)
        np.testing.assert_allclose(update, update[0, 0], rtol=1e-5)  # g / sqrt(v) is 1 everywhere


class TestSpecialCases:
    def test_torchs_muon_in_bfloat16_is_near(self):
        """Its Newton-Schulz steps round to 8 bits: after twenty steps of 0.02 the weights differ by less than one step."""
        params, x, y = problem(8)
        want, _ = trained_by_torch(lambda w: MuonAndAdamW(w, lr=0.02), params, x, y)
        assert_close(trained(Muon(0.02), params, x, y)[0], want, 0.02)

    def test_muon_makes_steps_orthogonal_and_schedules_its_others(self):
        rng = np.random.default_rng(0)
        params = {"w": jnp.asarray(rng.normal(size=(8, 3)), jnp.float32), "b": jnp.ones(3)}
        muon = Muon(1.0, weight_decay=0.0, others=AdamW(0.01, weight_decay=0.0))
        updates, _ = muon.update(params, muon.init(params), params, 0.5)  # the schedule has halved it
        sizes = np.linalg.svd(updates["w"] / (0.5 * (8 / 3) ** 0.5), compute_uv=False)
        assert ((sizes > 0.65) & (sizes < 1.25)).all()
        np.testing.assert_allclose(updates["b"], -0.005, rtol=1e-5)

    def test_muon_leaves_excluded_matrices_to_its_others(self):
        params = {"body.weight": jnp.eye(2), "head.weight": jnp.eye(2)}
        muon = Muon(1.0, weight_decay=0.0, others=AdamW(0.01, weight_decay=0.0), exclude=("head.*",))
        state = muon.init(params)
        updates, _ = muon.update(params, state, params, 1.0)
        np.testing.assert_allclose(updates["head.weight"], -0.01 * np.eye(2), rtol=1e-5)  # Adam's first step
        assert jnp.abs(updates["body.weight"]).max() > 0.6
        assert state.momentum_buffer["head.weight"] is None and state.others.exp_avg["body.weight"] is None
        with pytest.raises(
            SpecError, match=r"Muon.exclude: no weight's name fits 'haed.\*'. Known: body.weight, head.weight"
        ):
            muon.replace(exclude=("haed.*",)).init(params)

    def test_lbfgs_is_one_step_of_torch_with_many_iterations(self):
        # in float64: twenty steps make 1e-7 of rounding to 1e-5, on some processors more than on others
        params, x, y = jax.tree.map(lambda a: np.asarray(a, np.float64), problem(9))
        weights = {k: torch.nn.Parameter(torch.tensor(p)) for k, p in params.items()}
        rule = t.LBFGS(list(weights.values()), 0.5, max_iter=20)

        def closure():
            rule.zero_grad()
            loss = ((net(torch.tensor(x), weights, torch.tanh) - torch.tensor(y)) ** 2).mean()
            loss.backward()
            return loss

        rule.step(closure)
        with jax.enable_x64(True):
            ours = trained(LBFGS(0.5), jax.tree.map(jnp.asarray, params), x, y)[0]
        assert_close(ours, {k: w.detach().numpy() for k, w in weights.items()}, 1e-10)

    def test_lbfgs_stays_where_the_gradient_is_zero(self):
        rule, w = LBFGS(), {"a": jnp.ones(3), "b": jnp.ones((2, 2))}
        nothing = jax.tree.map(jnp.zeros_like, w)
        state = rule.init(w)
        for _ in range(3):
            updates, state = rule.update(nothing, state, w, 1.0)
            assert all((np.asarray(u) == 0).all() for u in updates.values()) and int(state.step) == 0

    def test_lbfgs_fits_a_logistic_regression_in_thirty_steps(self):
        """Breast cancer, 30 standardised columns, L2: gradient descent needs 3,000."""
        x, y = load_breast_cancer(return_X_y=True)
        x, y = jnp.asarray((x - x.mean(0)) / x.std(0), jnp.float32), jnp.asarray(y, jnp.float32)

        def loss(w):
            z = x @ w["weight"] + w["bias"]
            return jnp.mean(jnp.logaddexp(0, z) - y * z) + 0.5e-3 * jnp.sum(w["weight"] ** 2)

        def run(rule, steps):
            def step(carry, _):
                w, state = carry
                update, state = rule.update(jax.grad(loss)(w), state, w, rule.learning_rate)
                return (jax.tree.map(jnp.add, w, update), state), None

            w = {"weight": jnp.zeros(30), "bias": jnp.zeros(())}
            return float(loss(jax.lax.scan(step, (w, rule.init(w)), length=steps)[0][0]))

        best = 0.059828
        assert run(LBFGS(), 30) < best + 2e-6
        assert run(SGD(1.0), 1000) > best + 1e-4 and run(SGD(1.0), 3000) < best + 3e-6

    def test_centered_rmsprop_with_a_constant_gradient_has_no_negative_variance(self):
        rule, grads = RMSprop(0.01, 0.5, centered=True, eps=1.0), {"weight": np.full((300, 3, 4), 0.1, np.float32)}
        after = stepped(rule, {"weight": np.zeros((3, 4), np.float32)}, grads)
        assert np.isfinite(after["weight"]).all()

    def test_rprop_ignores_the_schedule(self):
        rule, w = Rprop(0.1), jnp.float32(0)
        a, b = (rule.update(jnp.float32(1), rule.init(w), w, rate)[0] for rate in (0.1, 0.001))
        assert float(a) == float(b) == np.float32(-0.1)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: ASGD(t0=-2), r"ASGD.t0 must be -1 \(the mean of all weights\) or more, got -2.0"),
        (lambda: ASGD(lambd=-1e-4), "ASGD.lambd must be 0 or more"),
        (lambda: SGDMomentum(momentum=1.0), r"SGDMomentum.momentum must be in \[0, 1\), got 1.0"),
        (lambda: Adagrad(initial_accumulator_value=-0.1), "Adagrad.initial_accumulator_value must be 0 or more"),
        (lambda: Adagrad(lr_decay=-0.1), "Adagrad.lr_decay must be 0 or more"),
        (lambda: RMSprop(alpha=1.0), r"RMSprop.alpha must be in \[0, 1\), got 1.0"),
        (lambda: RMSprop(momentum=-0.5), "RMSprop.momentum must be 0 or more"),
        (lambda: RMSprop(beta=0.9), "RMSprop has no field 'beta'"),
        (lambda: Adadelta(rho=1.1), r"Adadelta.rho must be in \[0, 1\], got 1.1"),
        (lambda: Adadelta(eps=0.0), "Adadelta.eps must be above 0: it makes the first step"),
        (lambda: Adafactor(eps=(1e-30,)), r"Adafactor.eps must be two numbers such as .* got \(1e-30,\)"),
        (lambda: Adafactor(eps=(None, None)), "Adafactor.eps must be two numbers"),
        (lambda: Adafactor(d=0.5), "Adafactor.d must be 1 or more"),
        (lambda: Adafactor(beta2_decay=0.8), "Adafactor.beta2_decay must be 0 or less, often -0.8, got 0.8"),
        (lambda: Adamax(betas=(0.9, 1.0)), r"Adamax.betas.1 must be in \[0, 1\)"),
        (lambda: NAdam(momentum_decay=-1), "NAdam.momentum_decay must be 0 or more"),
        (lambda: RAdam(weight_decay=-1), "RAdam.weight_decay must be 0 or more"),
        (lambda: Lion(betas=(0.9,)), r"Lion.betas must be two numbers such as \(0.9, 0.99\), got \(0.9,\)"),
        (lambda: Rprop(etas=(1.2, 0.5)), "Rprop.etas.0 must be below 1, got 1.2"),
        (lambda: Rprop(etas=(0.5, 1.0)), "Rprop.etas.1 must be above 1, got 1.0"),
        (lambda: Rprop(step_sizes=(0.0, 1.0)), "Rprop.step_sizes.0 must be above 0"),
        (lambda: Muon(ns_steps=0), "Muon.ns_steps must be a whole number from 1 to 99, often 5, got 0"),
        (lambda: Muon(ns_coefficients=(1.0, 2.0)), "Muon.ns_coefficients must be three numbers"),
        (lambda: Muon(adjust_lr_fn="adam"), "Muon.adjust_lr_fn must be one of 'original', 'match_rms_adamw'"),
        (lambda: Muon(eps=0.0), "Muon.eps must be above 0"),
        (lambda: Muon(others=0.1), "Muon.others must be an Optimizer, got 0.1"),
        (lambda: LBFGS(history_size=0), "LBFGS.history_size must be 1 or more, often 10 to 100, got 0"),
        (lambda: LBFGS(tolerance_grad=-1), "LBFGS.tolerance_grad must be 0 or more"),
    ],
)
def test_what_cannot_work_is_said(make, words):
    with pytest.raises(SpecError, match=words):
        make()
