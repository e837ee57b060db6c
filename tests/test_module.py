"""The design of nn in tests: a model is a frozen description, bound per call."""

import copy
import pickle
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from derin import nn, spec
from derin.errors import ModelError, SpecError
from derin.nn import BatchNorm, Dropout, Linear, Module, Scalar, Sequential, relu
from derin.nn.module import Run, activation_gradient, activations, bind, named_key, summary

X = jnp.asarray(np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32))


class Net(Module):
    """x: [batch, in] -> [batch, classes]"""

    widths: tuple[int, ...] = (5, 4)
    classes: int = 2
    rate: Scalar = 0.3

    def setup(self):
        self.hidden = [Linear(w) for w in self.widths]
        self.norms = {"first": BatchNorm()}
        self.drop = Dropout(self.rate)
        self.head = Linear(self.classes)

    def forward(self, x):
        for i, layer in enumerate(self.hidden):
            x = layer(x)
            x = self.norms["first"](x) if i == 0 else x
            x = self.drop(relu(x))
        return self.head(x)


NAMES = {
    "hidden.0.weight": (5, 3),
    "hidden.0.bias": (5,),
    "norms.first.weight": (5,),
    "norms.first.bias": (5,),
    "hidden.1.weight": (4, 5),
    "hidden.1.bias": (4,),
    "head.weight": (2, 4),
    "head.bias": (2,),
}


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


# -- init


def test_init_makes_the_weights_by_name_in_call_order(key):
    params, state = Net().init(key, X)
    assert {n: p.shape for n, p in params.items()} == NAMES and [*params] == [*NAMES]
    assert {n: s.shape for n, s in state.items()} == {"norms.first.running_mean": (5,), "norms.first.running_var": (5,)}


def test_init_is_a_function_of_the_key_only_and_needs_shapes_only(key):
    net = Net()
    params, state = net.init(key, X)
    for again in (
        net.init(key, X),
        net.init(key, jax.ShapeDtypeStruct((1, 3), jnp.float32)),
        jax.jit(net.init)(key, X),
    ):
        for a, b in zip((params, state), again, strict=True):
            for name in a:
                np.testing.assert_allclose(a[name], b[name], rtol=1e-6)
    other, _ = net.init(jax.random.key(1), X)
    assert (other["head.weight"] != params["head.weight"]).any()


def test_another_layer_does_not_reseed_the_others(key):
    small, _ = Sequential(Linear(4), Linear(4)).init(key, X)
    large, _ = Sequential(Linear(4), Linear(4), Linear(4)).init(key, X)
    for name in small:
        np.testing.assert_array_equal(small[name], large[name])
    assert (small["1.weight"][:, :3] != small["0.weight"]).any()


def test_init_under_vmap_draws_other_weights_for_each_key(key):
    params, _ = jax.vmap(lambda k: Net().init(k, X))(jax.random.split(key, 3))
    assert params["head.weight"].shape == (3, 2, 4)
    one, _ = Net().init(jax.random.split(key, 3)[1], X)
    np.testing.assert_allclose(params["head.weight"][1], one["head.weight"], rtol=1e-6)


def test_init_works_inside_a_scan(key):
    def step(carry, k):
        params, state = Net().init(k, X)
        return carry + Net().apply(params, state, X)[0].sum(), params["head.bias"]

    total, biases = jax.lax.scan(step, 0.0, jax.random.split(key, 2))
    assert np.isfinite(total) and biases.shape == (2, 2)


# -- apply


def test_apply_is_pure(key):
    net = Net()
    params, state = net.init(key, X)
    kept = dict(params), dict(state), jax.tree.leaves(net), dict(vars(net))
    y1, after1 = net.apply(params, state, X, train=True, key=key)
    y2, after2 = net.apply(params, state, X, train=True, key=key)
    np.testing.assert_array_equal(y1, y2)
    same(after1, after2)
    same(params, kept[0])
    same(state, kept[1])
    assert jax.tree.leaves(net) == kept[2] and vars(net) == kept[3]
    assert (after1["norms.first.running_mean"] != state["norms.first.running_mean"]).any()


def test_a_nested_apply_has_its_own_run(key):
    class Student(Module):
        def setup(self):
            self.own = Linear(2)

        def forward(self, x, teacher):
            return self.own(x) - Linear(2).apply(teacher, {}, x)[0]

    params, _ = Linear(2).init(key, X)
    same_weights = {f"own.{n}": p for n, p in params.items()}
    assert (Student().apply(same_weights, {}, X, params)[0] == 0).all()


def test_keys_come_from_names_and_calls(key):
    class Twice(Module):
        def setup(self):
            self.a, self.b = Dropout(0.5), Dropout(0.5)

        def forward(self, x):
            return self.a(x), self.b(x), self.a(x)

    ones = jnp.ones((50,))
    a, b, again = Twice().apply({}, {}, ones, train=True, key=key)[0]
    assert (a != b).any() and (a != again).any()

    class Swapped(Twice):
        def forward(self, x):
            b = self.b(x)
            return self.a(x), b, self.a(x)

    for u, v in zip((a, b, again), Swapped().apply({}, {}, ones, train=True, key=key)[0], strict=True):
        np.testing.assert_array_equal(u, v)


def test_a_population_is_the_description_with_stacked_scalars(key):
    net, rates = Net(), jnp.array([0.0, 0.3, 0.6])
    params, state = net.init(key, X)
    traces = []

    @jax.jit
    def run(rates):
        traces.append(1)
        return jax.vmap(lambda r: Net(rate=r).apply(params, state, X, train=True, key=key)[0])(rates)

    together = run(rates)
    run(rates / 2)
    assert len(traces) == 1
    for y, rate in zip(together, rates, strict=True):
        np.testing.assert_allclose(y, Net(rate=rate).apply(params, state, X, train=True, key=key)[0], atol=1e-5)
    stacked = spec.set(net, "rate", rates)
    by_tree = jax.vmap(lambda net: net.apply(params, state, X, train=True, key=key)[0])(stacked)
    np.testing.assert_allclose(by_tree, together, atol=1e-6)


# -- sharing


def test_a_child_made_once_and_called_twice_shares_its_weights(key):
    class Tied(Module):
        def setup(self):
            self.a = Linear(3)
            self.b = self.a

        def forward(self, x):
            return self.b(self.a(x))

    params, _ = Tied().init(key, X)
    assert [*params] == ["a.weight", "a.bias"]
    once = X @ params["a.weight"].T + params["a.bias"]
    expected = once @ params["a.weight"].T + params["a.bias"]
    np.testing.assert_allclose(Tied().apply(params, {}, X)[0], expected, rtol=1e-4, atol=1e-6)
    assert [*activations(Tied(), params, {}, X)] == ["a", "a#2", ""]


def test_one_object_in_two_fields_is_refused():
    layer = Linear(3)
    with pytest.raises(ModelError, match=r"holds one Linear twice, in 'layers.0' and 'layers.2'. To share weights"):
        Sequential(layer, nn.ReLU(), layer)


def test_a_shared_layer_needs_one_shape(key):
    class Tied(Module):
        def setup(self):
            self.a = Linear(4)

        def forward(self, x):
            return self.a(self.a(x))

    with pytest.raises(ModelError, match=r"'a.weight' is shared by two calls .* \(4, 3\) and \(4, 4\)"):
        Tied().init(key, X)


def test_a_layer_as_a_default_is_refused():
    with pytest.raises(TypeError, match="a layer as a default would be shared by every instance"):

        class Bad(Module):
            layer: Module = Linear(3)


@pytest.mark.parametrize("name", ["path", "state", "param", "init", "apply", "training", "mask", "scan"])
def test_a_field_may_not_take_a_name_of_the_module(name):
    with pytest.raises(TypeError, match=f"'{name}' is taken by Module"):
        type("Bad", (Module,), {"__annotations__": {name: int}, "__module__": __name__})


def test_a_module_has_no_init_of_its_own():
    with pytest.raises(TypeError, match="declare hyperparameters as fields"):

        class Bad(Module):
            def __init__(self):
                pass


# -- scan, remat, raw transformations


class Loop(Module):
    """Elman's network with dropout and batch norm.   x: [batch, time, in] -> [batch, time, width]"""

    width: int = 4
    rate: Scalar = 0.5

    def setup(self):
        self.inp, self.hid, self.norm, self.drop = (
            Linear(self.width),
            Linear(self.width),
            BatchNorm(),
            Dropout(self.rate),
        )

    def forward(self, x):
        def step(h, x_t):
            h = jnp.tanh(self.norm(self.inp(x_t)) + self.hid(self.drop(h)))
            return h, h

        _, ys = self.scan(step, jnp.ones((x.shape[0], self.width)), x.swapaxes(0, 1))
        return ys.swapaxes(0, 1)


def test_scan_carries_state_and_draws_new_keys_at_every_step_and_call(key):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((6, 5, 3)).astype(np.float32))
    net = Loop()
    params, state = net.init(key, x)
    y, after = net.apply(params, state, x, train=True, key=key)
    jitted, after_jit = jax.jit(lambda p, s: net.apply(p, s, x, train=True, key=key))(params, state)
    np.testing.assert_allclose(y, jitted, atol=1e-5)
    mean = np.zeros(4)  # five updates by hand
    for t in range(5):
        u = x[:, t] @ params["inp.weight"].T + params["inp.bias"]
        mean = 0.9 * mean + 0.1 * np.asarray(u.mean(0))
    np.testing.assert_allclose(after["norm.running_mean"], mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after_jit["norm.running_mean"], mean, rtol=1e-4, atol=1e-6)

    class Masks(Module):
        def setup(self):
            self.drop = Dropout(0.5)

        def forward(self, x):
            def step(c, x_t):
                return c, self.drop(x_t)

            return self.scan(step, 0, x)[1], self.scan(step, 0, x)[1]

    first, second = Masks().apply({}, {}, jnp.ones((4, 30)), train=True, key=key)[0]
    assert len({tuple(r) for r in np.asarray(jnp.concatenate([first, second])).tolist()}) == 8
    slope = jax.grad(lambda p: net.apply(p, state, x, train=True, key=key)[0].sum())(params)
    assert all(np.isfinite(g).all() for g in slope.values())


def test_remat_gives_the_same_values_gradients_and_state(key):
    class Block(Module):
        again: bool = True

        def setup(self):
            self.inner = Sequential(Linear(4), BatchNorm(), nn.Tanh(), Linear(2))

        def forward(self, x):
            return self.remat(self.inner, x) if self.again else self.inner(x)

    params, state = Block().init(key, X)

    def run(again):
        def loss(p):
            y, after = Block(again).apply(p, state, X, train=True, key=key)
            return (y**2).sum(), after

        return jax.value_and_grad(loss, has_aux=True)(params)

    (a, state_a), grad_a = run(True)
    (b, state_b), grad_b = run(False)
    np.testing.assert_allclose(a, b, rtol=1e-6)
    for u, v in ((state_a, state_b), (grad_a, grad_b)):
        for name in u:
            np.testing.assert_allclose(u[name], v[name], rtol=1e-4, atol=1e-6)


def test_reading_weights_inside_vmap_and_grad_is_free(key):
    class Slopes(Module):
        def setup(self):
            self.net = Sequential(Linear(4), nn.Tanh(), Linear(1))

        def forward(self, x):
            return jax.vmap(jax.grad(lambda row: self.net(row[None])[0, 0]))(x)

    params, _ = Slopes().init(key, X)
    w1, w2 = params["net.0.weight"], params["net.2.weight"]
    hidden = jnp.tanh(X @ w1.T + params["net.0.bias"])
    expected = ((1 - hidden**2) * w2) @ w1
    np.testing.assert_allclose(Slopes().apply(params, {}, X)[0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer, what", [(BatchNorm(), "write state"), (Dropout(), "draw random numbers")])
def test_writing_inside_a_raw_scan_says_what_to_do(layer, what, key):
    class Raw(Module):
        inner: Module

        def forward(self, x):
            return jax.lax.scan(lambda c, x_t: (c, self.inner(x_t)), 0, x)[1]

    net, x = Raw(layer), jnp.ones((2, 4, 3))
    params, state = net.init(key, x)
    net.apply(params, state, x)  # evaluation writes nothing
    with pytest.raises(ModelError, match=rf"tried to {what} inside jax.lax.scan.* Use self.scan\(...\)"):
        net.apply(params, state, x, train=True, key=key)


# -- errors


def test_errors_tell_the_path_from_the_inside_out(key):
    params, state = Net().init(key, X)
    with pytest.raises(ModelError, match=r"'hidden.0.weight' has shape \(5, 3\), but this input needs \(5, 7\)") as e:
        Net().apply(params, state, jnp.ones((2, 7)))
    assert e.value.__notes__ == [
        "  in hidden.0 (Linear), input ((2, 7),)",
        "  in model (Net), input ((2, 7),)",
    ]


def test_a_missing_weight_has_nearest_names(key):
    params, state = Net().init(key, X)
    params["haed.weight"] = params.pop("head.weight")
    with pytest.raises(ModelError, match=r"no param is called 'head.weight'. Nearest names: \['haed.weight'"):
        Net().apply(params, state, X)


def test_a_description_cannot_be_called():
    with pytest.raises(ModelError, match=r"Net is only a description here. Call y, state = model.apply"):
        Net()(X)


def test_training_with_dropout_needs_a_key(key):
    params, state = Net().init(key, X)
    with pytest.raises(ModelError, match=r"'drop' draws random numbers in training; pass key=... to apply\(\)"):
        Net().apply(params, state, X, train=True)


def test_a_module_is_frozen(key):
    net = Net()
    with pytest.raises(SpecError, match=r"Net is frozen. For a changed copy: value.replace\(classes=...\)"):
        net.classes = 3

    class Writes(Module):
        def forward(self, x):
            self.count = 1
            return x

    with pytest.raises(
        ModelError, match=r"'count' cannot be set in forward\(\). For running statistics: self.set_state"
    ):
        Writes().apply({}, {}, X)


def test_a_module_without_forward():
    class Empty(Module):
        pass

    with pytest.raises(ModelError, match=r"Empty has no forward\(self, x\)"):
        Empty().apply({}, {}, X)


# -- a spec like any other


def test_a_net_is_a_value(key):
    net = Net((6,), rate=0.1)
    assert net == Net((6,), rate=0.1) and net != Net((6,), rate=0.2) and hash(net) == hash(Net((6,)))
    assert repr(net) == "Net(widths=(6,), rate=0.1)"
    for twin in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net), spec.from_json(spec.to_json(net)), net.replace()):
        assert twin == net and spec.structure(twin) == spec.structure(net)
        same(twin.init(key, X)[0], net.init(key, X)[0])
    assert net.hidden[0] == Linear(6)  # the layers can be looked at before any data


def test_a_net_crosses_jit_and_tree_map(key):
    net = Sequential(Linear(4), Dropout(0.2), Net())
    params, state = net.init(key, X)
    y, _ = net.apply(params, state, X)
    np.testing.assert_allclose(jax.jit(lambda net, p: net.apply(p, state, X)[0])(net, params), y, rtol=1e-4, atol=1e-6)
    halved = jax.tree.map(lambda a: a / 2, net)
    assert spec.get(halved, "layers.1.rate") == 0.1 and spec.get(halved, "layers.2.rate") == 0.15
    assert jax.tree.map(lambda a: None, net) is not None  # JAX may put in what is no number


# -- looking in


def test_activations_by_path(key):
    net = Net()
    params, state = net.init(key, X)
    seen = activations(net, params, state, X)
    assert {p: a.shape for p, a in seen.items()} == {
        "hidden.0": (8, 5),
        "norms.first": (8, 5),
        "drop": (8, 5),
        "hidden.1": (8, 4),
        "drop#2": (8, 4),
        "head": (8, 2),
        "": (8, 2),
    }
    np.testing.assert_array_equal(seen[""], net.apply(params, state, X)[0])


def test_activation_gradient_by_path(key):
    net = Sequential(Linear(4), nn.Tanh(), Linear(2))
    params, state = net.init(key, X)
    g = activation_gradient(net, lambda y: y[:, 1].sum(), params, state, X, "1")
    np.testing.assert_allclose(g, jnp.broadcast_to(params["2.weight"][1], (8, 4)), rtol=1e-6)
    with pytest.raises(ModelError, match=r"no layer is called '9'. Layers: 0, 1, 2, \(model\)"):
        activation_gradient(net, jnp.sum, params, state, X, "9")


def test_bind_gives_layers_that_can_be_called(key):
    net = Net()
    params, state = net.init(key, X)
    head = bind(net, Run(params, state)).head
    h = jnp.ones((1, 4))
    np.testing.assert_allclose(head(h), h @ params["head.weight"].T + params["head.bias"], rtol=1e-5)


def test_summary_counts():
    net = Sequential(nn.Conv2d(4, 3, groups=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), Linear(10))
    table = summary(net, jax.ShapeDtypeStruct((1, 8, 8, 2), jnp.float32))
    rows = {r.path: r for r in table.rows}
    assert rows["0"].parameters == 4 * 1 * 9 + 4 and rows["0"].multiply_adds == 36 * 9 * 4
    assert rows["4"].parameters == 36 * 10 + 10 and rows["4"].multiply_adds == 360
    assert rows["0"].bytes == 4 * (40 + 36 * 4)
    assert table.total.parameters == 410 and table.total.multiply_adds == 36 * 9 * 4 + 360
    assert repr(table).splitlines()[0].split() == ["path", "layer", "output", "parameters", "multiply-adds", "bytes"]
    many = summary(nn.Conv2d(16, 3, padding=1), jax.ShapeDtypeStruct((2, 8, 8, 8), jnp.float32))
    assert many.total.multiply_adds == 2 * 64 * 9 * 8 * 16  # as written, however it is computed
    several = summary(Net(), X)
    assert several.total.parameters == sum(np.prod(s) for s in NAMES.values())


def test_layer_names_reach_the_compiled_program(key):
    params, state = Net().init(key, X)
    text = jax.jit(lambda p: Net().apply(p, state, X)[0]).lower(params).as_text(debug_info=True)
    assert "hidden.0" in text and "head" in text


# -- JAX's own checkers


def test_threads_do_not_meet(key):
    net = Net()
    params, state = net.init(key, X)
    expected = [net.apply(params, state, X * i, train=True, key=jax.random.key(i))[0] for i in range(4)]
    got = [None] * 4

    def work(i):
        for _ in range(5):
            got[i] = net.apply(params, state, X * i, train=True, key=jax.random.key(i))[0]
            jax.tree.map(lambda a: a, net)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def train_once(key, x=X):
    net = Net()
    params, state = net.init(key, x)

    def loss(p):
        y, after = net.apply(p, state, x, train=True, key=jax.random.fold_in(key, 1))
        return (y**2).mean(), after

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)


def test_no_tracer_leaks(key):
    with jax.checking_leaks():
        train_once(key)
        x = jnp.ones((2, 3, 3))
        params, state = Loop().init(key, x)
        jax.jit(lambda p: Loop().apply(p, state, x, train=True, key=key))(params)


def test_strict_dtype_promotion(key):
    with jax.numpy_dtype_promotion("strict"):
        train_once(key)
        maps = jnp.ones((2, 8, 8, 2))
        net = Sequential(
            nn.Conv2d(8, 3, groups=2), nn.Conv2d(8, 3, padding=1), BatchNorm(), nn.LeakyReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 2),
            nn.Flatten(), Linear(3), nn.GELU(), nn.SiLU(), nn.Softmax(), Dropout(0.1), Linear(2),
        )  # fmt: skip
        for dtype in (jnp.float32, jnp.bfloat16):
            x = maps.astype(dtype)
            params, state = net.init(key, x)

            def loss(p, state=state, x=x):
                y, _ = net.apply(p, state, x, train=True, key=key)
                return nn.CrossEntropyLoss((1, 2), 0.1)(y, jnp.array([0, 1]))

            jax.grad(loss)(params)


def test_no_key_is_used_twice(key):
    with jax.debug_key_reuse(True):
        train_once(jax.random.key(7))


def test_nothing_keeps_a_donated_buffer(key):
    net = Net()
    params, state = net.init(key, X)
    step = jax.jit(lambda p, s: net.apply(p, s, X, train=True, key=key), donate_argnums=1)
    _, after = step(params, state)
    step(params, after)
    assert np.isfinite(net.apply(params, net.init(key, X)[1], X)[0]).all()


def test_named_keys_differ_by_name(key):
    a, b = named_key(key, "a"), named_key(key, "b")
    assert (jax.random.key_data(a) != jax.random.key_data(b)).any()
    assert (jax.random.key_data(a) == jax.random.key_data(named_key(key, "a"))).all()


def test_bfloat16_keeps_float32_statistics(key):
    params, state = Net().init(key, X)
    _, after = Net().apply(params, state, X.astype(jnp.bfloat16), train=True, key=key)
    assert {a.dtype for a in after.values()} == {jnp.dtype(jnp.float32)}


# -- randomness


class Chance(Module):
    def forward(self, share, like):
        return self.bernoulli(share, like.shape)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 7), (250, 41)])
def test_bernoulli_is_true_with_its_probability(shape):
    """Each entry by itself, and each pair that is made of one block of random bits."""
    net, keys = Chance(), jax.random.split(jax.random.key(1), 400)
    drawn = jax.jit(
        jax.vmap(lambda share, key: net.apply({}, {}, share, jnp.zeros(shape), train=True, key=key)[0], (None, 0))
    )
    for share in (0.0, 0.001, 0.3, 0.8, 1.0):
        found = np.asarray(drawn(jnp.float32(share), keys))
        assert found.shape == (400, *shape) and found.dtype == bool
        error = (share * (1 - share) / found.size) ** 0.5
        assert abs(found.mean() - share) <= 5 * error + 2**-16
    found = np.asarray(drawn(jnp.float32(0.5), keys)).reshape(400, -1)
    if 1 < found.shape[1] < 50:
        correlation = np.corrcoef(found.T) - np.eye(found.shape[1])
        assert np.abs(correlation).max() < 5.5 / 20  # a standard error is 1/sqrt(400)
    if found.shape[1] > 1000:  # along the entries: those of one block stand a quarter, a half, ... apart
        n = found.shape[1]
        for lag in (1, 2, n // 4, n // 2, -(-n // 2)):
            a, b = found[:, lag:] - 0.5, found[:, :-lag] - 0.5
            assert abs((a * b).mean() * 4) < 5 / a.size**0.5
    assert (drawn(jnp.float32(0.5), keys) == drawn(jnp.float32(0.5), keys)).all()
