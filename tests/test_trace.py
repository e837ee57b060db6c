"""derin.trace: the steps are the real computation, gradients equal jax.grad, and each form shows it."""

import json
import re
import xml.etree.ElementTree as ET

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import derin
from derin import nn, optim
from derin.errors import ModelError, SpecError
from derin.trace import forward, table

ROWS = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
IMAGES = np.random.default_rng(1).normal(size=(2, 4, 4, 2)).astype("float32")
SERIES = np.random.default_rng(2).normal(size=(2, 3, 4)).astype("float32")


def graph(a, b, c):
    u = b * c
    v = a + u
    return 3 * v


def step_of(net, x, y, loss, **options):
    return derin.trace(net, x, y, loss=loss, optimizer=optim.SGD(0.1), **options)


class TestFunctions:
    def test_a_computation_graph(self):
        """S2.09: J = 3 (a + b c): the names of the source, every operation, gradients 3, 3 c, 3 b."""
        t = derin.trace(graph, 5.0, 3.0, 2.0)
        assert float(t.value) == 33 and [float(g) for g in t.gradients] == [3, 6, 9]
        assert [s.output.name for s in t.steps] == ["u", "v", "graph"]
        assert [s.source.text for s in t.steps] == ["u = b * c", "v = a + u", "return 3 * v"]
        assert all(s.source.file.endswith("test_trace.py") for s in t.steps)
        shares = [(s.number, float(p.incoming), float(p.local), float(p.product)) for s in t.steps for p in s.shares]
        assert shares == [(1, 3, 2, 6), (1, 3, 3, 9), (2, 3, 1, 3), (2, 3, 1, 3), (3, 1, 3, 3)]

    def test_sums_where_paths_meet(self):
        t = derin.trace(lambda x: x * jnp.exp(x) + jnp.sin(x), 0.5)
        assert len(t.meets["x"]) == 3
        total = sum(float(s.product) for s in t.meets["x"])
        np.testing.assert_allclose([total, float(t.gradients[0])], np.exp(0.5) * 1.5 + np.cos(0.5), rtol=1e-6)
        assert "d f / d x = " in t.to_text() and "(steps " in t.to_text()

    def test_arguments_are_trees_and_whole_numbers_have_no_gradient(self):
        t = derin.trace(lambda p, i: (p["w"] * p["b"][i]).sum(), {"w": jnp.ones(2), "b": jnp.arange(3.0)}, 2)
        np.testing.assert_allclose(t.gradients[0]["w"], [2, 2])
        np.testing.assert_allclose(t.gradients[0]["b"], [0, 0, 2])
        assert t.gradients[1] is None and t.wanted == ("p.b", "p.w")

    def test_loops_and_branches_are_entered(self):
        def f(w, x):
            def turn(h, row):
                h = jnp.tanh(w * h + row)
                return h, h

            h, hs = jax.lax.scan(turn, 0.0, x)
            return jax.lax.cond(h > 0, lambda h: h * hs.sum(), lambda h: -h, h)

        x = jnp.array([0.3, -0.2, 0.5])
        t = derin.trace(f, 0.7, x)
        assert sum(s.operation == "tanh" for s in t.steps) == 3
        assert {"[0]", "[1]", "[2]"} <= {s.layer.strip() for s in t.steps}
        for found, wanted in zip(t.gradients, jax.grad(f, (0, 1))(0.7, x), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-6)

    def test_a_long_loop_is_one_step(self):
        f = lambda w: jax.lax.fori_loop(0, forward.LONGEST + 1, lambda i, h: jnp.sin(w * h), 0.3)  # noqa: E731
        t = derin.trace(f, 1.1)
        assert "scan" in [s.operation for s in t.steps]
        np.testing.assert_allclose(t.gradients[0], jax.grad(f)(1.1), atol=1e-6)

    def test_rules_of_their_own_are_kept(self):
        """At 0 the derivative of relu is 0 by its rule; that of max(x, 0) would be a half."""
        assert float(derin.trace(lambda x: nn.relu(x), 0.0).gradients[0]) == float(jax.grad(nn.relu)(0.0)) == 0
        stopped = derin.trace(lambda x: x * jax.lax.stop_gradient(x), 3.0)
        assert float(stopped.gradients[0]) == 3

    def test_the_local_derivative_times_what_comes_in_is_the_share(self):
        """Where each element is by itself, product = incoming * local; else incoming @ local, a matrix."""

        def f(x):
            return (jax.nn.softmax(nn.relu(x) @ jnp.ones((3, 2))) ** 2).sum() * nn.softplus(x).mean()

        t = derin.trace(f, jnp.array([[0.5, -1.0, 2.0], [0.1, 0.2, -0.3]]))
        for share in (share for s in t.steps for share in s.shares):
            incoming, local = np.asarray(share.incoming), share.local
            found = incoming * local if share.diagonal else incoming.reshape(-1) @ local
            np.testing.assert_allclose(np.reshape(found, share.to.shape), share.product, atol=1e-6)

    @pytest.mark.parametrize(
        ("f", "args"),
        [
            (lambda x: (x * 2).sum(), [np.ones(0)]),
            (lambda x: x, [1.0]),
            (lambda x: (x, {"twice": x * 2}), [1.0]),
            (lambda x: jnp.log(x), [-1.0]),
            (lambda key, x: x + jax.random.normal(key, (2,)).sum(), [jax.random.key(0), 1.0]),
            (lambda x: jax.vmap(jax.grad(jnp.sin))(x).sum(), [np.arange(3.0)]),
            (lambda a: jnp.einsum("bij,bjk->", a, a), [np.ones((2, 2, 2))]),
        ],
    )
    def test_every_form_of_odd_functions(self, f, args):
        t = derin.trace(f, *args)
        for show in (t.to_text, t.to_markdown, t.to_html, t.to_svg, t.to_json):
            assert show()

    def test_an_output_that_is_no_number_goes_forward_only(self):
        t = derin.trace(nn.softmax, np.array([2.0, 1.0, 0.1]))
        np.testing.assert_allclose(t.value, [0.6590, 0.2424, 0.0986], atol=1e-4)
        with pytest.raises(ModelError, match=r"no gradients: softmax returns an array of shape \[3\]"):
            t.gradients  # noqa: B018


# -- a hundred random nets

FLAT = [nn.ReLU(), nn.Tanh(), nn.GELU(), nn.SiLU(), nn.Softmax(), nn.LeakyReLU(), nn.LayerNorm(), nn.BatchNorm(),
        nn.Dropout(0.3), nn.Linear(4), nn.Residual(nn.Linear(4))]  # fmt: skip
IMAGE = [nn.Conv2d(2, 3, padding=1), nn.ReLU(), nn.BatchNorm(), nn.Sigmoid()]
SERIAL = [nn.LSTM(4), nn.GRU(4), nn.MultiheadAttention(4, 2), nn.LayerNorm(), nn.Linear(4), nn.Tanh()]
ENDS = {"rows": [], "images": [nn.MaxPool2d(2), nn.Flatten()], "series": [nn.Flatten()]}


@st.composite
def nets(draw):
    kind = draw(st.sampled_from(["rows"] * 6 + ["images", "series"]))
    x, menu = {"rows": (ROWS, FLAT), "images": (IMAGES, IMAGE), "series": (SERIES, SERIAL)}[kind]
    body = draw(st.lists(st.sampled_from(menu), min_size=1, max_size=3 if kind == "rows" else 2))
    fresh = [derin.spec.from_dict(derin.spec.to_dict(layer)) for layer in body]  # one object has one path
    return nn.Sequential(*fresh, *ENDS[kind], nn.Linear(1)), x


@pytest.fixture
def quick_compiler():
    """Hundreds of programs of one operation: optimising them takes longer than running them."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compiler")
@settings(max_examples=100, deadline=None, derandomize=True, database=None,
          phases=[Phase.generate], suppress_health_check=list(HealthCheck))  # fmt: skip
@given(nets(), st.sampled_from([nn.MSELoss(), nn.BCEWithLogitsLoss()]))
def test_gradients_of_random_nets_equal_jax_grad(made, loss):
    """Convolution, LSTM, BatchNorm, attention among them; to 1e-6 of the largest."""
    net, x = made
    y = jnp.asarray(np.arange(len(x)) % 2, jnp.float32)
    rng, shapes = np.random.default_rng(1), net.look(x)[0]
    drawn = {
        name: rng.uniform(0.1, 0.9, d.shape).astype("float32") - (d.kind == "param") / 2 for name, d in shapes.items()
    }
    params, state = ({n: jnp.asarray(a) for n, a in drawn.items() if shapes[n].kind == k} for k in ("param", "state"))
    key = jax.random.key(2)
    t = derin.trace(net, x, y, loss=loss, params=params, state=state, key=key)

    def objective(params):
        return loss(net.apply(params, state, x, train=True, key=key)[0], y)

    value, gradient = jax.value_and_grad(objective)(params)
    np.testing.assert_allclose(t.value, value, atol=1e-6, rtol=1e-6)
    assert set(t.gradients) == set(params)
    for name, wanted in gradient.items():
        np.testing.assert_allclose(t.gradients[name], wanted, atol=1e-6 * max(1, float(jnp.abs(wanted).max())))


class TestTraining:
    def test_layers_sources_and_the_update(self):
        net = nn.Sequential(nn.Linear(3), nn.ReLU(), nn.Linear(1))
        t = step_of(net, ROWS, np.ones(3), nn.MSELoss())
        assert {s.layer for s in t.steps} >= {"0", "1", "2", "loss"}
        assert "derin/nn/layers.py" in {s.source.file for s in t.steps if s.layer == "0"}
        for name, new in t.new_params.items():
            np.testing.assert_allclose(new, t.update.old[name].array - 0.1 * t.gradients[name], atol=1e-6)

    @pytest.mark.parametrize("optimizer", [optim.Adam(0.01), optim.SGDMomentum(0.1), optim.RMSprop(0.01)])
    def test_every_optimizer(self, optimizer):
        net, y = nn.Linear(1), np.ones(3)
        t = derin.trace(net, ROWS, y, loss=nn.MSELoss(), optimizer=optimizer)
        old = {n: v.array for n, v in t.update.old.items()}
        change, _ = optimizer.update(t.gradients, optimizer.init(old), old, optimizer.learning_rate)
        for name in old:
            np.testing.assert_allclose(t.new_params[name], old[name] + change[name], atol=1e-6)
        assert "update" in t.to_text()

    def test_the_scalar_form_writes_every_product(self):
        """S0.22: (1*2) + (2*2) + (3*2) = 12, and "For w1 ..." with its update."""
        x, params = np.array([[1.0, 2, 3], [4, 5, 6]]), {"weight": np.array([[2.0, 2, 2]])}
        t = derin.trace(nn.Linear(1, bias=False), x, np.array([14.0, 32]), loss=nn.MSELoss(),
                        optimizer=optim.SGD(0.01), params=params)  # fmt: skip
        text = t.to_text()
        assert "(1*2) + (2*2) + (3*2) = 12" in text and "(4*2) + (5*2) + (6*2) = 30" in text
        assert re.search(r"For weight\[0,0\]\n.* \(-2\*1\) \+ \(-2\*4\) = -10\n", text)
        assert "2 - 0.01 * (-10) = 2.1" in text

    def test_columns_instead_of_rows(self):
        """S0.04, S2.04: with examples in columns the product is w x, and arrays of examples are turned."""
        x, params = np.array([[1.0, 2, 3], [4, 5, 6]]), {"weight": np.array([[2.0, 2, 2]])}
        t = derin.trace(nn.Linear(1, bias=False), x, params=params)
        rows, columns = t.to_text(), t.to_text(layout="columns")
        assert "x @ weight'" in rows and "[[1, 2, 3]," in rows
        assert "weight @ x" in columns and "[[1, 4]," in columns
        assert "[0,1] = (2*4) + (2*5) + (2*6) = 30" in columns

    def test_large_arrays_are_summarised(self):
        t = step_of(nn.Sequential(nn.Linear(64), nn.ReLU(), nn.Linear(1)), np.ones((20, 30)), np.ones(20), nn.MSELoss())
        text = t.to_text()
        assert "% zeros" in text and "all finite" in text and len(text.splitlines()) < 200
        assert "[20, 64] min " in text

    def test_several_steps_as_a_table(self):
        """S0.19: 5, 4.7, 4.43, with half the square."""
        found = table(nn.Linear(1, bias=False), np.ones((1, 1)), np.full(1, 2.0), loss=nn.MSELoss(half=True),
                      optimizer=optim.SGD(0.1), steps=2, params={"weight": np.array([[5.0]])})  # fmt: skip
        assert found.columns == ("step", "weight[0,0]", "loss", "d loss / d weight[0,0]", "change")
        np.testing.assert_allclose([r[1] for r in found.rows], [5, 4.7, 4.43], rtol=1e-6)
        assert found.to_markdown().count("\n") == 5 and "<td>4.43</td>" in found.to_html()
        assert json.loads(found.to_json())["rows"][2][4] is None


class TestForms:
    T = derin.trace(nn.Sequential(nn.Linear(2), nn.ReLU(), nn.Linear(1)), ROWS, np.ones(3), loss=nn.MSELoss(),
                    optimizer=optim.SGD(0.1))  # fmt: skip

    @pytest.mark.parametrize("form", ["auto", "scalar", "matrix", "summary"])
    @pytest.mark.parametrize("layout", ["rows", "columns"])
    def test_every_form(self, form, layout):
        for show in (self.T.to_text, self.T.to_markdown, self.T.to_html):
            assert "0.weight" in show(form=form, layout=layout)

    def test_markdown_has_formulas(self):
        text = derin.trace(graph, 5.0, 3.0, 2.0).to_markdown()
        assert r"$u = b \cdot c$ `3 * 2 = 6`" in text
        assert r"\frac{\partial \mathrm{graph}}{\partial b} \leftarrow" in text

    def test_html_is_whole_and_opens_and_closes_by_layer(self):
        page = self.T.to_html()
        assert page.startswith("<!doctype html>") and page.count("<details") >= 8 and "http" not in page.replace(
            "http://www.w3.org/2000/svg", "")  # fmt: skip
        assert "<svg" in self.T._repr_html_() and "<html" not in self.T._repr_html_()

    def test_json_has_everything(self):
        found = json.loads(self.T.to_json())
        assert found["gradients"]["0.bias"] == pytest.approx(np.asarray(self.T.gradients["0.bias"]).tolist(), rel=1e-5)
        assert len(found["steps"]) == len(self.T.steps) and found["update"]["optimizer"].startswith("SGD")
        assert {"operation", "layer", "source", "inputs", "outputs", "incoming", "shares"} <= set(found["steps"][0])

    def test_the_graph_has_values_and_gradients(self):
        """S2.09, S4.20"""
        svg = derin.trace(graph, 5.0, 3.0, 2.0).to_svg()
        words = [e.text for e in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
        assert {"a", "5", "u = b * c", "6", "v = a + u", "11", "33", "9"} <= set(words)

    @pytest.mark.parametrize("layers", [1, 12, 90])
    def test_no_boxes_or_words_of_the_graph_overlap(self, layers):
        body = [layer for _ in range(layers) for layer in (nn.Residual(nn.Linear(4)), nn.Tanh())]
        svg = step_of(nn.Sequential(*body, nn.Linear(1)), ROWS, np.ones(3), nn.MSELoss()).to_svg()
        root, space = ET.fromstring(svg), "{http://www.w3.org/2000/svg}"
        boxes = [
            tuple(float(r.get(k)) for k in ("x", "y", "width", "height"))
            for r in root.iter(space + "rect")
            if r.get("x")
        ]
        assert 5 < len(boxes) <= 61
        for i, (x, y, w, h) in enumerate(boxes):
            assert not any(x < u + a and u < x + w and y < v + b and v < y + h for u, v, a, b in boxes[:i])


class TestRefusals:
    """Functions that cannot be traced, arrays too large to show: one message each."""

    @pytest.mark.parametrize(
        ("f", "says"),
        [
            (lambda x: x if x > 0 else -x, r"cannot be traced: an `if`.*jnp.where.*test_trace.py:\d+"),
            (lambda x: np.sin(np.asarray(x)), "NumPy.*use jax.numpy"),
            (lambda x: jnp.array(float(x)), "asks for the number in an array|NumPy, or float"),
            (lambda x: [1, 2, 3][x.astype(int)], "as a Python integer"),
            (lambda x: "text", "no array of numbers"),
        ],
    )
    def test_a_function_that_cannot_be_traced(self, f, says):
        with pytest.raises(ModelError, match=says):
            derin.trace(f, 2.0)

    def test_what_is_no_function_or_no_array(self):
        with pytest.raises(ModelError, match="takes a function or a net, got 3"):
            derin.trace(3, 2.0)
        with pytest.raises(ModelError, match=r"was given 'a' .str."):
            derin.trace(lambda x: x, "a")
        with pytest.raises(ModelError, match="loss= belongs to the trace of a net"):
            derin.trace(lambda x: x, 1.0, loss=nn.MSELoss())
        with pytest.raises(ModelError, match=r"write 3\.0 for 3"):
            derin.trace(lambda x: 1.0 * x.astype(float), 3).gradients  # noqa: B018

    def test_a_while_loop_has_no_gradient(self):
        f = lambda x: jax.lax.while_loop(lambda h: h < 10, lambda h: h * 2, x)  # noqa: E731
        with pytest.raises(ModelError, match="while, has no gradient"):
            derin.trace(f, 1.0)

    def test_what_is_too_large(self, monkeypatch):
        t = derin.trace(lambda x: (x * 2).sum(), np.ones((200, 100), "float32"))
        with pytest.raises(SpecError, match=r'x has 20,000 numbers, \[200, 100\]: too many.*matrix.*form="auto"'):
            t.to_text(form="matrix")
        with pytest.raises(SpecError, match="the most in the scalar form is 400"):
            t.to_html(form="scalar")
        monkeypatch.setattr(forward, "MOST_BYTES", 1000)
        with pytest.raises(ModelError, match=r"keeps every value.*Trace fewer rows, x\[:8\]"):
            derin.trace(lambda x: (x * 2).sum(), np.ones(300, "float32"))

    def test_forms_that_do_not_exist(self):
        t = derin.trace(lambda x: x * 2, 1.0)
        for bad, says in (
            (dict(form="long"), "form must be"),
            (dict(layout="x"), "layout must"),
            (dict(digits=0), "digits"),
        ):
            with pytest.raises(SpecError, match=says):
                t.to_text(**bad)

    @pytest.mark.parametrize(
        ("args", "options", "says"),
        [
            ((ROWS, np.ones(3)), {}, "with y there is a loss"),
            ((ROWS,), {"loss": nn.MSELoss()}, "compares the output with y"),
            ((ROWS, np.ones(3)), {"loss": "mse"}, "loss must be one of derin.nn"),
            ((ROWS, np.ones(2)), {"loss": nn.MSELoss()}, "x has 3 rows, y"),
            ((ROWS, np.ones(3)), {"loss": nn.MSELoss(), "optimizer": 0.1}, "optimizer must be one of derin.optim"),
            ((ROWS,), {"optimizer": optim.SGD(0.1)}, "they need a loss"),
            ((), {}, "after the net came 0 arrays"),
        ],
    )
    def test_a_net_without_what_it_needs(self, args, options, says):
        with pytest.raises((ModelError, SpecError), match=says):
            derin.trace(nn.Linear(1), *args, **options)

    @pytest.mark.parametrize(
        ("call", "says"),
        [
            (lambda: table(lambda w: w, 1.0, optimizer=0.1), "optimizer must be"),
            (lambda: table(lambda w: w, 1.0, optimizer=optim.SGD(0.1), steps=0), "steps must be"),
            (lambda: table(lambda w: w * jnp.ones(2), 1.0, optimizer=optim.SGD(0.1)), "must return one number"),
            (
                lambda: table(lambda w: w.sum(), np.ones(50), optimizer=optim.SGD(0.1)),
                "up to 12 parameters, these are 50",
            ),
            (lambda: table(nn.Linear(1), ROWS, optimizer=optim.SGD(0.1)), "table of a net is"),
        ],
    )
    def test_tables(self, call, says):
        with pytest.raises((ModelError, SpecError), match=says):
            call()
