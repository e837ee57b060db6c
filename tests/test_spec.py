"""A spec is a frozen value, a pytree and a file."""

import copy
import math
import pickle
import tomllib

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from derin import spec
from derin.distributions import choice, uniform
from derin.engine import EarlyStopping, Experiment
from derin.errors import SpecError
from derin.nn import MLP, BatchNorm, Dropout, Linear, Module, ReLU, Sequential
from derin.optim import SGD, Adam, AdamW, ClipByGlobalNorm, CosineAnnealingLR, StepLR
from derin.spec import Scalar, Spec


class Nest(Spec):
    """Every kind of field a spec may have."""

    rate: Scalar
    pair: tuple[Scalar, ...] = (0.5, 0.25)
    inner: Spec | None = None
    children: tuple[Spec, ...] = ()
    count: int = 3
    fixed: float = 0.1
    name: str = "a"
    flag: bool = False
    shape: tuple[int, ...] = (1, 2)
    mixed: int | str | None = None


numbers = st.floats(width=64, allow_nan=True, allow_infinity=True)
leaves = st.builds(
    Nest,
    rate=numbers,
    pair=st.lists(numbers, max_size=3).map(tuple),
    count=st.integers(-(2**70), 2**70),
    fixed=numbers,
    name=st.text(max_size=8),
    flag=st.booleans(),
    shape=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    mixed=st.one_of(st.none(), st.integers(), st.text(max_size=4)),
)
trees = st.recursive(
    leaves,
    lambda below: st.builds(
        Nest, rate=numbers, inner=st.one_of(st.none(), below), children=st.lists(below, max_size=3).map(tuple)
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(trees)
def test_any_tree_survives_json_toml_and_flattening(tree):
    assert spec.from_json(spec.to_json(tree)) == tree
    assert spec.from_json(spec.to_json(tree, indent=None)) == tree
    found, structure = jax.tree.flatten(tree)
    back = jax.tree.unflatten(structure, found)
    assert back == tree
    assert jax.tree.structure(back) == structure and hash(back) == hash(tree)
    assert spec.diff(tree, back) == []


@settings(max_examples=40, deadline=None)
@given(trees.filter(lambda t: all(-(2**63) <= n.count < 2**63 for n in [t])))
def test_any_tree_survives_toml(tree):
    text = spec.to_toml(tree)
    assert spec.from_toml(text) == tree


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_comes_back_to_the_bit(number):
    for back in (
        spec.from_json(spec.to_json(Nest(number))),
        spec.from_toml(spec.to_toml(Nest(number))),
        spec.parse(repr(SGD(momentum=number))) if 0 < number < 1 else Nest(number),
    ):
        value = back.momentum if isinstance(back, SGD) else back.rate
        assert math.copysign(1, value) == math.copysign(1, number) and value == number


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_survive_files(number):
    tree = Nest(number, pair=(number,), fixed=number)
    assert spec.from_json(spec.to_json(tree)) == tree
    assert spec.from_toml(spec.to_toml(tree)) == tree
    assert "NaN" not in spec.to_json(tree)  # strict JSON


def test_a_stacked_experiment_survives_a_file():
    stacked = jax.tree.map(lambda *v: jnp.stack(v), *[SGD(rate) for rate in (0.1, 0.2, 0.3)])
    back = spec.from_json(spec.to_json(stacked))
    assert back == stacked and back.learning_rate.shape == (3,)


def experiment(**fields):
    net = Sequential(Linear(8), BatchNorm(), ReLU(), Dropout(0.2), Linear(2))
    return Experiment(net, **({"optimizer": Adam(1e-3)} | fields))


def test_what_is_a_leaf_and_what_is_structure():
    a = experiment()
    paths = spec.leaf_paths(a)
    assert "net.layers.3.rate" in paths and "optimizer.learning_rate" in paths and "optimizer.betas.0" in paths
    assert not any("features" in p or "epochs" in p for p in paths)
    assert spec.structure(a) == spec.structure(spec.set(a, "optimizer.learning_rate", 0.5))
    assert spec.structure(a) != spec.structure(spec.set(a, "net.layers.0.features", 9))
    assert spec.structure(a) != spec.structure(a.replace(clip=ClipByGlobalNorm(1.0)))


def test_another_float_compiles_nothing_anew():
    traces = 0

    @jax.jit
    def rate(e):
        nonlocal traces
        traces += 1
        return e.optimizer.learning_rate * e.net.layers[3].rate

    assert float(rate(experiment())) == pytest.approx(2e-4)
    assert float(rate(experiment(optimizer=Adam(1.0)))) == pytest.approx(0.2)
    assert traces == 1


def test_get_set_and_diff_by_path():
    a = experiment()
    assert spec.get(a, "net.layers.3.rate") == 0.2
    assert spec.get(a, "") is a
    b = spec.set(spec.set(a, "net.layers.3.rate", 0.5), "optimizer", AdamW(1e-2))
    assert spec.diff(a, b) == [("net.layers.3.rate", 0.2, 0.5), ("optimizer", Adam(1e-3), AdamW(1e-2))]
    assert spec.get(a, "net.layers.3.rate") == 0.2  # a is as it was


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: spec.get(experiment(), "net.layers.3.rte"), "'net.layers.3' (Dropout) has no field 'rte'. Nearest: rate"),
        (lambda: spec.get(experiment(), "net.layers.9.rate"), "has 5 entries, 0 to 4; got '9'"),
        (lambda: spec.get(experiment(), "epochs.x"), "'epochs' is 20: there is nothing below it"),
        (lambda: spec.set(experiment(), "optimiser.learning_rate", 1), "Nearest: optimizer"),
        (lambda: spec.set(experiment(), "optimizer.learning_rate", "fast"), "must be a number, got 'fast' (str)"),
        (lambda: Adam("log(1e-3,1e-1)"), "must be a number, got 'log(1e-3,1e-1)' (str). A range is no text: log(0.001, 0.1) in Python, "
            '{ type = "log", low = 0.001, high = 0.1 } in a TOML file.'),
        (lambda: spec.set(experiment(), "epochs", 2.5), "Experiment.epochs must be a whole number, got 2.5"),
        (lambda: spec.set(experiment(), "epochs", True), "must be a whole number"),
        (lambda: spec.set(experiment(), "net", 3), "Experiment.net must be a Module, got 3 (int)"),
        (lambda: [spec.set(experiment(), "net", new) for new in (Linear(3), Adam())], "net must be a Module, got Adam()"),
        (lambda: spec.set(experiment(), "precision", "float16"), "one of 'float32', 'bfloat16'"),
        (lambda: spec.set(experiment(), "batch_size", "half"), "a whole number or one of 'full'"),
        (lambda: Experiment(), "Experiment needs a value for 'net'"),
        (lambda: experiment(epocs=3), "Experiment has no field 'epocs'. Nearest: epochs"),
        (lambda: SGD(1, 2, 3, 4, 5, 6, 7, 8, 9), "values"),
        (lambda: EarlyStopping(0), "patience must be at least 1"),
        (lambda: experiment(epochs=0), "epochs must be at least 1, got 0"),
        (lambda: experiment(seed=-1), "seed must be"),
        (lambda: spec.from_json('{"type": "Sequental"}'), "no spec is called 'Sequental'. Nearest: Sequential"),
        (lambda: spec.from_json('{"type": "Linear", "featurs": 3}'), "Linear has no field 'featurs'. Nearest: features"),
        (lambda: spec.from_json('{"features": 3}'), 'has no type = "..."'),
        (lambda: spec.from_json("{"), "this is not JSON"),
        (lambda: spec.from_toml("= 3"), "this is not TOML"),
        (lambda: spec.from_json('{"type": "my.nets:Net"}'), "`import my.nets`"),
        (lambda: spec.from_json('{"type": "Sequential", "layers": [{"type": "Dropout", "rate": "x"}]}'), "at 'layers.0'"),
        (lambda: spec.parse("Linear(8"), "cannot be read"),
        (lambda: spec.parse("Linear(__import__('os'))"), "no spec is called '__import__'"),
        (lambda: spec.parse("Linear(open)"), "no spec is called 'open'"),
        (lambda: spec.parse("choice(relu, Sequential(gelu))"), "no spec is called 'gelu'"),
        (lambda: spec.parse("choice(log, 3)"), "log needs a value for 'low', 'high'"),
        (lambda: spec.parse("choice(Relu, tanh)"), "no spec is called 'Relu'. Nearest: ReLU"),
        (lambda: spec.set(experiment(), "optimizer", spec.parse("choice(adam, sgd)")), "must be an Optimizer, got choice('adam', 'sgd') (choice). Write choice(Adam(...), SGD(...))."),
        (lambda: spec.set(experiment(), "optimizer", "adam"), "must be an Optimizer, got 'adam' (str). Write Adam(...)."),
        (lambda: setattr(SGD(), "momentum", 1), "SGD is frozen"),
        (lambda: spec.read("nowhere.json"), "nowhere.json cannot be read"),
    ],
)  # fmt: skip
def test_every_mistake_is_one_clear_message(wrong, words):
    with pytest.raises(SpecError) as error:
        wrong()
    assert words in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Linear(10, "relu"),
        lambda: spec.set(experiment(), "optimizer", choice("relu", "gelu")),
        lambda: spec.set(experiment(), "optimizer", choice("adam", "fast")),
        lambda: spec.set(experiment(), "precision", "sigmoid"),
    ],
)
def test_no_class_is_named_that_the_field_does_not_take(wrong):
    with pytest.raises(SpecError, match=r"must be .*\(\w+\)\.$"):
        wrong()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("-2", -2),
        ("none", None),
        ("True", True),
        ("full", "full"),
        ("valid_loss", "valid_loss"),
        ("(64, 32)", (64, 32)),
        ("[64, 32]", (64, 32)),
        ("inf", math.inf),
        ("StepLR(3, gamma=0.5)", StepLR(3, gamma=0.5)),
        ("Sequential(Linear(8), ReLU, Linear(2, bias=false))", Sequential(Linear(8), ReLU(), Linear(2, bias=False))),
        ("a/path with spaces", "a/path with spaces"),
        ("choice(relu, he_normal)", choice("relu", "he_normal")),
        ("choice(relu,'tanh',ReLU,true,none,3)", choice("relu", "tanh", ReLU(), True, None, 3)),
    ],
)
def test_parse(text, value):
    assert spec.parse(text) == value


def test_a_range_written_as_text_is_shown_as_a_file_holds_it():
    """What the message says is read back as what was meant."""
    for meant, wrong in (
        (choice(32, 64, "full"), lambda text: experiment(batch_size=text)),
        (choice(ReLU(), Sequential(Dropout(uniform(0.0, 0.5)), Linear(8))), lambda text: Nest(1, inner=text)),
    ):
        with pytest.raises(SpecError) as error:
            wrong(repr(meant))
        told = str(error.value).removesuffix(" in a TOML file.").partition(" in Python, ")[2]
        assert spec.from_dict(tomllib.loads(f"x = {told}")["x"]) == meant


def test_repr_is_read_back():
    a = experiment(schedule=CosineAnnealingLR(), early_stopping=EarlyStopping(3, monitor="accuracy"))
    assert spec.parse(repr(a)) == a


def test_a_users_module_is_registered_by_its_class_statement():
    class Mine(Module):
        width: int = 3
        rate: Scalar = 0.5

    text = spec.to_json(Mine(4, 0.25))
    assert f"{__name__}:" in text
    assert spec.from_json(text) == Mine(4, 0.25)


def test_a_script_that_was_main_is_found_as_a_module():
    text = spec.to_json(Nest(1.0)).replace(f"{__name__}:Nest", "__main__:Nest")
    assert spec.from_json(text) == Nest(1.0)


def test_copies_pickles_and_hashes():
    a = experiment()
    assert pickle.loads(pickle.dumps(a)) == a and copy.deepcopy(a) == a
    assert {a: 1}[experiment()] == 1
    assert a != experiment(epochs=3) and a != "a"


def test_jax_may_rebuild_specs_with_its_sentinels():
    a = Experiment(MLP((8,), out=2, dropout=0.1))
    assert jax.tree.map(lambda _: None, a) is not None
    axes = jax.tree.map(lambda _: 0, a)
    many = jax.tree.map(lambda v: jnp.stack([v, v]), jax.tree.map(jnp.float32, a))
    rates = jax.vmap(lambda e: e.optimizer.learning_rate, in_axes=(axes,))(many)
    assert np.allclose(rates, 1e-3)


def test_int_and_list_are_taken_for_float_and_tuple():
    a = Nest(1, pair=[1, 2], shape=[3])
    assert type(a.rate) is float and a.pair == (1.0, 2.0) and a.shape == (3,)
    assert spec.structure(a) == spec.structure(Nest(1.0, pair=(1.0, 2.0), shape=(3,)))


def test_two_classes_of_derin_cannot_share_a_name():
    with pytest.raises(TypeError, match=r"the name Linear is taken by derin\.nn\.layers"):
        type("Linear", (spec.Spec,), {"__module__": "derin.elsewhere", "__qualname__": "Linear"})
