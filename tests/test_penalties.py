"""Penalties: torch's param_groups, autograd and renorm over twenty steps; patterns; the course's lambda / m."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import derin
import derin.spec as spec
from derin import nn, optim
from derin.data import load
from derin.engine import epoch
from derin.engine.task import rows_of, task_of
from derin.engine.training import first_carry
from derin.errors import SpecError
from derin.models import TabularMLP
from derin.optim import BIASES_AND_NORMS, L1, L2, DecoupledDecay, ElasticNet, MaxNorm

NAMES = ["0.weight", "1.weight", "1.bias", "3.weight", "3.bias"]


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype("float32")
    return load((x, x[:, 0] * x[:, 1] > 0), valid=0.2, test=0, seed=0)


def net():
    return nn.Sequential(nn.Linear(6, bias=False), nn.BatchNorm(), nn.ReLU(), nn.Linear(1))


def ours(penalty, optimizer, steps=20, **fields):
    """The weights before and after some steps on all rows."""
    fields = {"batch_size": "full", "epochs": steps} | fields
    experiment = derin.Experiment(net(), optimizer=optimizer, penalty=penalty, **fields)
    rows = data()
    task = task_of(experiment, rows.schema, rows.train.x, None)
    before = first_carry(task, 0, rows.train.x)
    return before, experiment.fit(rows, progress=False).carry.params


def theirs(before, make, extra=lambda named: 0.0, after=lambda named: None, clip=None, steps=20):
    """torch's weights after the same steps. extra: added to the loss; after: done to the weights after each step."""
    torch.set_num_threads(1)
    twin = torch.nn.Sequential(
        torch.nn.Linear(4, 6, bias=False), torch.nn.BatchNorm1d(6), torch.nn.ReLU(), torch.nn.Linear(6, 1)
    )
    arrays = {**before.params, **before.state}
    twin.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}, strict=False)
    named = dict(twin.named_parameters())
    optimizer = make(named)
    rows = data()
    x, y = torch.from_numpy(np.array(rows.train.x)), torch.from_numpy(np.array(rows.train.y)).float()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(twin(x)[:, 0], y) + extra(named)
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(twin.parameters(), clip)
        optimizer.step()
        with torch.no_grad():
            after(named)
    return {k: v.detach().numpy() for k, v in named.items()}


def groups(named, decayed, decay):
    """torch's param_groups: weight_decay on some weights only."""
    return [
        {"params": [w for n, w in named.items() if n in decayed], "weight_decay": decay},
        {"params": [w for n, w in named.items() if n not in decayed], "weight_decay": 0.0},
    ]


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-5, atol=1e-5, err_msg=name)


MATRICES = {"0.weight", "3.weight"}


@pytest.mark.parametrize(
    ("penalty", "decayed"),
    [(L2(0.05, except_=BIASES_AND_NORMS), MATRICES), (L2(0.05), set(NAMES))],
    ids=["no biases and norms", "all"],
)
def test_l2_is_weight_decay_of_some_groups(penalty, decayed):
    before, got = ours(penalty, optim.SGD(0.1, momentum=0.9))
    same(got, theirs(before, lambda n: torch.optim.SGD(groups(n, decayed, 0.05), lr=0.1, momentum=0.9)))


def test_l2_beside_adam_and_a_clip():
    """After the clip, as torch's weight_decay is."""
    before, got = ours(L2(0.05, on=("0.*", "3.*")), optim.Adam(0.01), clip=optim.ClipByGlobalNorm(0.1))
    decayed = {"0.weight", "3.weight", "3.bias"}
    same(got, theirs(before, lambda n: torch.optim.Adam(groups(n, decayed, 0.05), lr=0.01), clip=0.1))


@pytest.mark.parametrize("packed", [True, False])
def test_decoupled_decay_is_adamw(packed):
    """S1.52, on some weights only; with the weights in one vector and by name."""
    optimizer = optim.Adam(0.01) if packed else optim.from_optax("adam", learning_rate=0.01)
    if not packed:
        assert not optimizer.elementwise
    before, got = ours(DecoupledDecay(0.3, except_="biases and norms"), optimizer)
    same(got, theirs(before, lambda n: torch.optim.AdamW(groups(n, MATRICES, 0.3), lr=0.01)))


def test_l1_and_elastic_net_are_autograds():
    sgd = lambda n: torch.optim.SGD(n.values(), lr=0.1)  # noqa: E731
    before, got = ours(L1(0.01), optim.SGD(0.1))
    same(got, theirs(before, sgd, lambda n: 0.01 * sum(w.abs().sum() for w in n.values())))
    before, got = ours(ElasticNet(0.02, 0.3, on="*.weight"), optim.SGD(0.1))

    def elastic(named):
        chosen = [w for n, w in named.items() if n.endswith(".weight")]
        return 0.02 * sum(0.3 * w.abs().sum() + 0.7 * w.square().sum() / 2 for w in chosen)

    same(got, theirs(before, sgd, elastic))


def test_max_norm_is_renorm_after_each_step():
    before, got = ours((MaxNorm(0.4, on="0.*"), MaxNorm(0.9, on="3.*")), optim.SGD(0.3))

    def renorm(named):
        for name, limit in (("0.weight", 0.4), ("3.weight", 0.9)):
            named[name].copy_(torch.renorm(named[name], p=2, dim=0, maxnorm=limit))

    same(got, theirs(before, lambda n: torch.optim.SGD(n.values(), lr=0.3), after=renorm))
    assert np.linalg.norm(got["0.weight"], axis=1).max() == pytest.approx(0.4, rel=1e-5)


def test_several_at_once_by_pattern():
    penalties = (L1(0.01, on="3.weight"), L2(0.1, on="*.bias"), MaxNorm(0.5))
    before, got = ours(penalties, optim.SGD(0.1))

    def extra(named):
        return 0.01 * named["3.weight"].abs().sum() + 0.05 * sum(named[f"{i}.bias"].square().sum() for i in (1, 3))

    def renorm(named):
        for name in MATRICES:
            named[name].copy_(torch.renorm(named[name], p=2, dim=0, maxnorm=0.5))

    same(got, theirs(before, lambda n: torch.optim.SGD(n.values(), lr=0.1), extra, renorm))


def test_lambda_over_m_of_the_course():
    """S1.39, S1.40: lambda / m with m the training rows, whatever the batch; derivatives by hand."""
    w = jnp.array([3.0, -4.0])
    np.testing.assert_allclose(L2(0.5, per_row=True).gradient(w, 10), 0.5 / 10 * w)
    np.testing.assert_allclose(L1(0.5, per_row=True).gradient(w, 10), [0.05, -0.05])
    np.testing.assert_allclose(ElasticNet(0.5, 1.0, per_row=True).gradient(w, 10), [0.05, -0.05])
    m = len(data().train.x)
    _, course = ours(L2(0.5, per_row=True), optim.SGD(0.1), steps=3, batch_size=8)
    _, plain = ours(L2(0.5 / m), optim.SGD(0.1), steps=3, batch_size=8)
    same(course, plain)


def test_losses_are_those_of_the_data():
    rows = data()
    experiment = derin.Experiment(net(), penalty=L1(10.0), batch_size="full", epochs=1)
    first = experiment.fit(rows, progress=False).history[0]["loss"]
    assert first == experiment.replace(penalty=None).fit(rows, progress=False).history[0]["loss"]


def test_each_member_of_a_population_has_its_own_strength():
    rows = data()
    experiments = [
        derin.Experiment(net(), optimizer=optim.SGD(0.1), batch_size="full", penalty=(L2(s, "3.*"), MaxNorm(s)))
        for s in (0.3, 0.5)
    ]
    tasks = [task_of(e, rows.schema, rows.train.x, None).structure_only() for e in experiments]
    train = jax.device_put(rows_of(rows.train))

    def whole(task):
        carry = epoch.start(task, jax.random.key(0), train.x)
        return epoch.epoch(task, carry, train, None, jax.random.key(0), jnp.int32(2))[0].params

    stacked = jax.tree.map(lambda *v: jnp.stack([jnp.float32(a) for a in v]), *tasks)
    together, alone = jax.jit(jax.vmap(whole))(stacked), jax.jit(whole)
    for i in range(2):
        same(jax.tree.map(lambda a, i=i: a[i], together), alone(tasks[i]))


SHAPES = {"hidden.0.weight": (8, 3), "hidden.0.bias": (8,), "norms.0.weight": (8,), "cell.bias_ih_l0": (32,)}


@pytest.mark.parametrize(
    ("penalty", "names"),
    [
        (L2(), list(SHAPES)),
        (L2(on="*.weight", except_="*norm*"), ["hidden.0.weight"]),
        (L2(except_=BIASES_AND_NORMS), ["hidden.0.weight"]),
        (L2(on=BIASES_AND_NORMS), ["hidden.0.bias", "norms.0.weight", "cell.bias_ih_l0"]),
        (L2(on=("hidden.?.bias", "cell.*")), ["hidden.0.bias", "cell.bias_ih_l0"]),
        (MaxNorm(), ["hidden.0.weight"]),
    ],
)
def test_patterns(penalty, names):
    assert penalty.chosen(SHAPES) == names


def test_biases_of_members_are_biases_too():
    """Their arrays have an axis for the members."""
    found = TabularMLP(widths=(4,), members=2).init(jax.random.key(0), jnp.ones((2, 3)))[0]
    shapes = {name: a.shape for name, a in found.items()}
    assert L2(except_=BIASES_AND_NORMS).chosen(shapes) == [n for n in shapes if n.endswith("weight")]


def test_a_pattern_that_fits_nothing_names_what_there_is():
    """Before anything is trained."""
    for penalty in (L2(on="*.kernel"), (L1(), MaxNorm(on="*.kernel"))):
        with pytest.raises(
            SpecError, match=r"\.on: no weight's name fits '\*\.kernel'\. The net has '0\.weight', '1\.b"
        ):
            derin.fit(net(), data(), penalty=penalty, progress=False)
    with pytest.raises(SpecError, match=r"L2\.except_: no weight's name fits '\*norm\*'\. The net has '0\.weight'"):
        derin.fit(net(), data(), penalty=L2(except_="*norm*"), progress=False)
    with pytest.raises(SpecError, match=r"on='0\.\*', except_='\*\.weight'\) is on no weight: .* all of '0\.weight'\."):
        derin.fit(net(), data(), penalty=L2(on="0.*", except_="*.weight"), progress=False)
    with pytest.raises(SpecError, match=r"needs weights of two or more axes, and '1\.bias', '3\.bias' have fewer"):
        derin.fit(net(), data(), penalty=MaxNorm(on="*.bias"), progress=False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: L1(-1.0), r"L1\.strength must be 0 or more, often 1e-5 to 1e-2, got -1\.0"),
        (lambda: L2(float("nan")), r"L2\.strength must be 0 or more"),
        (lambda: L2("0.1"), r"L2\.strength must be a number, got '0\.1'"),
        (lambda: L2(on=3), r"L2\.on must be a string or a tuple of a string, got 3"),
        (lambda: ElasticNet(l1_ratio=2), r"ElasticNet\.l1_ratio must be in \[0, 1\]"),
        (lambda: DecoupledDecay(-0.1), r"DecoupledDecay\.strength must be 0 or more"),
        (lambda: MaxNorm(0), r"MaxNorm\.limit must be above 0, got 0"),
        (lambda: derin.Experiment(net(), penalty=0.1), r"Experiment\.penalty must be a Penalty or .*none, got 0\.1"),
    ],
)
def test_messages(make, words):
    with pytest.raises(SpecError, match=words):
        make()


def test_files_hold_them():
    experiment = derin.Experiment(net(), penalty=(L1(0.1, on="*.weight"), MaxNorm(2.0)), average=optim.EMA(0.9))
    assert spec.from_json(spec.to_json(experiment)) == experiment
    assert spec.from_toml(spec.to_toml(experiment)) == experiment
    for penalty in (L2(except_=("*norm*", "*.bias")), ElasticNet(), DecoupledDecay(0.2), MaxNorm()):
        assert spec.parse(repr(penalty)) == penalty == spec.from_json(spec.to_json(penalty))
    old = spec.to_dict(derin.Experiment(net()))
    del old["penalty"], old["average"]  # of a file written before they were fields
    assert spec.from_dict(old) == derin.Experiment(net())
