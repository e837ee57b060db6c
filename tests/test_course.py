"""The course's worked numbers and experiments, done with derin. IDs are those of the course's concepts.

Where the notes print a rounded or a wrong number, the exact one is tested and the printed one stands beside it.
"""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import derin
from derin import nn, optim
from derin.data import NumberTarget
from derin.engine import epoch as engine

X = jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
W = {"weight": jnp.array([[2.0, 2.0, 2.0]])}
PLAIN = nn.Linear(1, bias=False)


def output(net, params, x):
    return net.apply(params, {}, jnp.asarray(x, jnp.float32))[0]


def stepped(net, loss, params, x, y, rate):
    """One step of plain gradient descent: (new weights, gradient)."""
    gradient = jax.grad(lambda p: loss(output(net, p, x)[:, 0], jnp.asarray(y, jnp.float32)))(params)
    optimizer = optim.SGD(rate)
    update, _ = optimizer.update(gradient, optimizer.init(params), params, rate)
    return jax.tree.map(jnp.add, params, update), gradient


class TestLinearRegression:
    def test_a_line_through_points(self):
        """S0.06, S0.24, S2.08: (50,400) ... (100,650) lie on 5 x + 150; x = 120 gives 750."""
        x = np.array([50.0, 60, 70, 80, 100])
        A = np.stack([x, np.ones(5)], 1)
        w, b = np.linalg.solve(A.T @ A, A.T @ np.array([400.0, 450, 500, 550, 650]))
        line = {"weight": jnp.array([[w]]), "bias": jnp.array([b])}
        np.testing.assert_allclose(output(nn.Linear(1), line, [[120.0]]), [[750.0]], rtol=1e-5)

    def test_several_inputs(self):
        """S0.07: 5.1 * 75 + 6.5 * 2 + 133 = 528.5, which the notes leave open."""
        params = {"weight": jnp.array([[5.1, 6.5]]), "bias": jnp.array([133.0])}
        np.testing.assert_allclose(output(nn.Linear(1), params, [[75.0, 2.0]]), [[528.5]], rtol=1e-6)

    def test_matrix_form_loop_form_and_the_transposed_layout(self):
        """S0.04, S0.05, S0.16, S2.04, S2.11, S2.16: rows are examples; columns as examples give the same numbers."""
        x = np.array([[1.0, 2, 3], [4, 2, 2], [-1, -2, -3], [-4, -5, -6]])
        w = np.array([1.0, 2, 3])
        y = output(PLAIN, {"weight": jnp.asarray(w[None], jnp.float32)}, x)[:, 0]
        loop = [sum(a * b for a, b in zip(row, w, strict=True)) for row in x]
        np.testing.assert_allclose(y, loop, rtol=1e-6)
        np.testing.assert_allclose(y, (w[None] @ x.T)[0], rtol=1e-6)
        assert y[0] == 14 and y[2] == -14 and y[3] == -32

    def test_squares_do_not_cancel(self):
        """S0.08, S0.10, S0.11, S0.13: errors -2, 2, 0 add up to nothing, their squares do not."""
        truth, guess = jnp.array([10.0, 20, 30]), jnp.array([12.0, 18, 30])
        assert float((truth - guess).sum()) == 0
        np.testing.assert_allclose(nn.MSELoss()(guess, truth), 8 / 3, rtol=1e-6)
        np.testing.assert_allclose(jnp.sqrt(nn.MSELoss()(guess, truth)), 1.63299, rtol=1e-5)

    @pytest.mark.parametrize(("start", "trace"), [(5.0, [4.7, 4.43]), (1.0, [1.1, 1.19])])
    def test_one_weight_step_by_step(self, start, trace):
        """S0.17, S0.19, S0.20: y = 2 x at x = 1, rate 0.1, the gradient without the 2: half of the mean square.

        5, 4.7, 4.43 ... 2.01; 1, 1.1, 1.19 ... (the notes' second row of the latter has 0.89 for a residual of 0.90).
        """
        params = {"weight": jnp.array([[start]])}
        rate = 0.1 / 2  # MSELoss has the 2
        for expected in trace:
            params, _ = stepped(PLAIN, nn.MSELoss(), params, [[1.0]], [2.0], rate)
            np.testing.assert_allclose(params["weight"], [[expected]], rtol=1e-5)
        for _ in range(60):
            params, gradient = stepped(PLAIN, nn.MSELoss(), params, [[1.0]], [2.0], rate)
        np.testing.assert_allclose(params["weight"], [[2.0]], atol=0.01)
        assert abs(float(gradient["weight"][0, 0])) < 0.02  # S0.21: nothing at the minimum

    def test_the_derivative_tells_direction_and_size(self):
        """S0.21, S0.23, S2.07, S2.08: its sign is the way up, its size grows with the distance; twice the rate is twice the step."""

        def slope(w):
            gradient = stepped(PLAIN, nn.MSELoss(), {"weight": jnp.array([[w]])}, [[1.0]], [2.0], 0.1)[1]
            return float(gradient["weight"][0, 0])

        assert slope(5.0) > slope(3.0) > 0 > slope(1.0) and slope(2.0) == 0
        moved = [
            float(stepped(PLAIN, nn.MSELoss(), W, X, [14.0, 32], rate)[0]["weight"][0, 0]) - 2 for rate in (0.01, 0.02)
        ]
        np.testing.assert_allclose(moved[1], 2 * moved[0], rtol=1e-4)
        for f, expected in ((lambda a: 3 * a, 3.0), (lambda a: a**3, 12.0), (lambda a: 3 * a**2, 12.0)):
            assert float(jax.grad(f)(2.0)) == expected

    def test_a_whole_step(self):
        """S0.18, S0.22: gradient (-10, -14, -18), weights (2.10, 2.14, 2.18), loss 4 before and 0.5994 after (0.59)."""
        y = jnp.array([14.0, 32.0])
        assert float(nn.MSELoss()(output(PLAIN, W, X)[:, 0], y)) == 4.0
        params, gradient = stepped(PLAIN, nn.MSELoss(), W, X, y, 0.01)
        np.testing.assert_allclose(gradient["weight"], [[-10, -14, -18]], rtol=1e-6)
        np.testing.assert_allclose(params["weight"], [[2.10, 2.14, 2.18]], rtol=1e-6)
        np.testing.assert_allclose(nn.MSELoss()(output(PLAIN, params, X)[:, 0], y), 0.5994, rtol=1e-4)

    def test_the_gradient_of_half_a_square(self):
        """S1.44: d/dw of (w x - y)^2 / 2 is (w x - y) x."""
        w, x, y = jnp.array([0.3, -0.2]), jnp.array([1.0, 2.0]), 0.5
        gradient = jax.grad(lambda w: nn.MSELoss()(w @ x[:, None], jnp.array([y])) / 2)(w)
        np.testing.assert_allclose(gradient, (w @ x - y) * x, rtol=1e-6)


class TestLogisticRegression:
    def test_bce(self):
        """S0.28, S2.05: -ln .9, -ln .7, -ln .7 are .10536, .35667, .35667; the mean is .27290 (printed .27)."""
        p, y = jnp.array([0.9, 0.7, 0.3]), jnp.array([1.0, 1.0, 0.0])
        logits = jnp.log(p / (1 - p))
        each = nn.BCEWithLogitsLoss().each(logits, y)
        np.testing.assert_allclose(each, [0.10536, 0.35667, 0.35667], atol=1e-5)
        np.testing.assert_allclose(nn.BCEWithLogitsLoss()(logits, y), 0.27290, atol=1e-5)

    def test_a_prediction(self):
        """S0.25, S0.29, S0.30, S2.03: w = (2.8, -4.5), b = .4, x = (1, 1.5): z = -3.55, p = .02792 (printed .02), class 0."""
        params = {"weight": jnp.array([[2.8, -4.5]]), "bias": jnp.array([0.4])}
        z = output(nn.Linear(1), params, [[1.0, 1.5]])
        p = output(nn.Sequential(nn.Linear(1), nn.Sigmoid()), {f"0.{k}": v for k, v in params.items()}, [[1.0, 1.5]])
        np.testing.assert_allclose(z, [[-3.55]], rtol=1e-6)
        np.testing.assert_allclose(p, [[0.02792]], atol=1e-5)
        assert not bool(p[0, 0] > 0.5)

    def test_a_whole_step(self):
        """S0.32, S0.33: z = (12, 30), gradient (.99, 1.98, 2.97) before the mean, weights (1.95, 1.90, 1.85).

        The loss is 6.0000 before (the notes print 6.4) and 5.6500 after.
        """
        y, loss = jnp.array([0.0, 1.0]), nn.BCEWithLogitsLoss()
        np.testing.assert_allclose(output(PLAIN, W, X)[:, 0], [12, 30])
        np.testing.assert_allclose(loss(output(PLAIN, W, X)[:, 0], y), 6.0000, atol=1e-4)
        params, gradient = stepped(PLAIN, loss, W, X, y, 0.1)
        np.testing.assert_allclose(gradient["weight"] * 2, [[0.99999, 1.99999, 2.99998]], atol=1e-4)
        np.testing.assert_allclose(params["weight"], [[1.95, 1.90, 1.85]], atol=1e-4)
        np.testing.assert_allclose(loss(output(PLAIN, params, X)[:, 0], y), 5.6500, atol=1e-4)

    def test_backward_by_hand(self):
        """S2.10, S2.14: dz = a - y, dw = x dz, db = dz, example by example and divided by m."""
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(5, 3)).astype("float32"), np.array([0, 1, 1, 0, 1], "float32")
        params, _ = nn.Linear(1).init(jax.random.key(0), x)
        gradient = jax.grad(lambda p: nn.BCEWithLogitsLoss()(output(nn.Linear(1), p, x)[:, 0], y))(params)
        dw, db = np.zeros(3), 0.0
        for row, target in zip(x, y, strict=True):
            dz = float(jax.nn.sigmoid(output(nn.Linear(1), params, row[None])[0, 0])) - target
            dw, db = dw + row * dz / 5, db + dz / 5
        np.testing.assert_allclose(gradient["weight"][0], dw, atol=1e-6)
        np.testing.assert_allclose(gradient["bias"][0], db, atol=1e-6)


class TestNetworks:
    def test_stacked_linear_layers_are_one(self):
        """S1.02: without an activation, three layers are the matrix product of their weights."""
        net = nn.Sequential(nn.Linear(7), nn.Linear(5), nn.Linear(2))
        x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
        params, _ = net.init(jax.random.key(0), x)
        one = {"weight": params["2.weight"] @ params["1.weight"] @ params["0.weight"]}
        one["bias"] = params["2.weight"] @ (params["1.weight"] @ params["0.bias"] + params["1.bias"]) + params["2.bias"]
        np.testing.assert_allclose(output(net, params, x), output(nn.Linear(2), one, x), atol=1e-5)
        bent = nn.Sequential(nn.Linear(7), nn.ReLU(), nn.Linear(5), nn.ReLU(), nn.Linear(2))
        inner = output(bent, {k.replace("2.", "4.").replace("1.", "2."): v for k, v in params.items()}, x)
        A = np.column_stack([x, np.ones(20)])
        left = inner - A @ np.linalg.lstsq(A, np.asarray(inner), rcond=None)[0]
        assert float(jnp.abs(left).max()) > 0.01  # no linear function of x

    def test_backpropagation_by_hand(self):
        """S1.30, S1.31: .5, 1.1, .91; dL/dy = -.09, dL/dw5 = -.045, dL/dw6 = -.099; the loss is .00405."""
        net = nn.Sequential(nn.Linear(2, bias=False), nn.Linear(1, bias=False), nn.ReLU())
        params = {"0.weight": jnp.array([[0.1, 0.2], [0.3, 0.4]]), "1.weight": jnp.array([[0.5, 0.6]])}
        half_square = lambda p: nn.MSELoss()(output(net, p, [[1.0, 2.0]]), jnp.array([[1.0]])) / 2  # noqa: E731
        seen = nn.activations(net, params, {}, jnp.array([[1.0, 2.0]]))
        np.testing.assert_allclose(seen["0"], [[0.5, 1.1]], rtol=1e-6)
        np.testing.assert_allclose(seen["2"], [[0.91]], rtol=1e-6)
        np.testing.assert_allclose(half_square(params), 0.00405, rtol=1e-5)
        gradient = jax.grad(half_square)(params)
        np.testing.assert_allclose(gradient["1.weight"], [[-0.045, -0.099]], rtol=1e-5)
        np.testing.assert_allclose(gradient["0.weight"], [[-0.045, -0.09], [-0.054, -0.108]], rtol=1e-5)  # w1 ... w4

    def test_the_shapes_of_four_layers(self):
        """S1.01, S1.54, S1.57, S2.12, S2.16: 3-5-5-3-1; weights [out, in], the input's width found at the first call."""
        net = nn.MLP((5, 5, 3), 1)
        params, _ = net.init(jax.random.key(0), jnp.ones((4, 3)))
        shapes = [params[f"hidden.{i}.weight"].shape for i in range(3)] + [params["head.weight"].shape]
        assert shapes == [(5, 3), (5, 5), (3, 5), (1, 3)]
        assert output(net, params, jnp.ones((4, 3))).shape == (4, 1)

    def test_two_layers_forward_and_backward_in_matrices(self):
        """S2.13, S2.14: dZ2 = A2 - Y, dW2 = dZ2 A1' / m, dZ1 = W2' dZ2 * g'(Z1), with examples in columns."""
        rng = np.random.default_rng(1)
        x, y = rng.normal(size=(6, 3)).astype("float32"), (rng.random(6) > 0.5).astype("float32")
        net = nn.Sequential(nn.Linear(4), nn.Tanh(), nn.Linear(1))
        params, _ = net.init(jax.random.key(0), x)
        gradient = jax.grad(lambda p: nn.BCEWithLogitsLoss()(output(net, p, x)[:, 0], y))(params)
        A0, Y, m = x.T, y[None], 6
        A1 = np.tanh(params["0.weight"] @ A0 + params["0.bias"][:, None])
        A2 = jax.nn.sigmoid(params["2.weight"] @ A1 + params["2.bias"][:, None])
        dZ2 = A2 - Y
        dZ1 = (params["2.weight"].T @ dZ2) * (1 - A1**2)
        np.testing.assert_allclose(gradient["2.weight"], dZ2 @ A1.T / m, atol=1e-6)
        np.testing.assert_allclose(gradient["0.weight"], dZ1 @ A0.T / m, atol=1e-6)
        np.testing.assert_allclose(gradient["0.bias"], np.sum(dZ1, axis=1) / m, atol=1e-6)

    @pytest.mark.parametrize(("factor", "slope"), [(0.9, 1.3689147905858837e-07), (1.1, 1617717.8357)])
    def test_gradients_vanish_and_explode(self, factor, slope):
        """S1.33: 0.9^150 = 1.37e-7 and 1.1^150 = 1,617,717.8 (printed 1617717), as 150 layers of one weight each."""
        net = nn.Sequential(*[nn.Linear(1, bias=False) for _ in range(150)])
        params = {f"{i}.weight": jnp.array([[factor]]) for i in range(150)}
        by = jax.grad(lambda x: output(net, params, x)[0, 0])(jnp.ones((1, 1)))
        np.testing.assert_allclose(by, [[slope]], rtol=2e-5)  # 150 roundings of float32

    def test_a_computation_graph(self):
        """S2.09: J = 3 (a + b c): dJ/da = 3, dJ/db = 3c, dJ/dc = 3b."""
        by = jax.grad(lambda a, b, c: 3 * (a + b * c), (0, 1, 2))(5.0, 3.0, 2.0)
        assert [float(v) for v in by] == [3.0, 6.0, 9.0]


class TestWords:
    """What the notes name, by the names it has here."""

    def test_losses_have_torchs_names(self):
        """S1.34, S1.35, S3.35: MSELoss, L1Loss, HuberLoss, SmoothL1Loss, BCELoss, CrossEntropyLoss, and torch's values."""
        rng = np.random.default_rng(0)
        a, b = rng.normal(0, 2, 50).astype("float32"), rng.normal(0, 2, 50).astype("float32")
        for name in ("MSELoss", "L1Loss", "HuberLoss", "SmoothL1Loss"):
            theirs = getattr(torch.nn, name)()(torch.tensor(a), torch.tensor(b))
            np.testing.assert_allclose(getattr(nn, name)()(a, b), theirs, rtol=1e-5)
        p, y = jax.nn.sigmoid(a), (b > 0).astype("float32")
        np.testing.assert_allclose(nn.BCELoss()(p, y), nn.BCEWithLogitsLoss()(a, y), rtol=1e-4)

    def test_several_labels_at_once(self):
        """S0.26: a row may have several labels; each is a logistic regression of its own."""
        z = jnp.array([[2.0, -1.0, 0.5], [0.1, 0.2, -3.0]])
        y = jnp.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
        alone = [nn.BCEWithLogitsLoss()(z[:, i], y[:, i]) for i in range(3)]
        np.testing.assert_allclose(nn.BCEWithLogitsLoss()(z, y), np.mean(alone), rtol=1e-6)

    def test_dropout(self):
        """S1.58: each unit is zero with probability p, on its own, in training only; the others grow by 1 / (1 - p)."""
        x = jnp.ones((400, 50))
        y, _ = nn.Dropout(0.3).apply({}, {}, x, train=True, key=jax.random.key(0))
        assert set(np.unique(y).round(5)) == {0.0, np.float32(1 / 0.7).round(5)}
        np.testing.assert_allclose((y == 0).mean(), 0.3, atol=0.01)  # 20,000 draws: a deviation of 0.003
        assert (nn.Dropout(0.3).apply({}, {}, x)[0] == x).all()

    def test_every_hyperparameter_has_a_path(self):
        """S2.18, S4.01: rate, epochs, batch, layers, units, activation, momentum are values that can be set by path."""
        experiment = derin.Experiment(nn.MLP((64, 32), 1), optimizer=optim.SGD(0.1, momentum=0.9))
        for path, value in {
            "optimizer.learning_rate": 0.3, "epochs": 7, "batch_size": 16, "net.widths": (8, 8, 8),
            "net.activation": "tanh", "optimizer.momentum": 0.5,
        }.items():  # fmt: skip
            assert derin.spec.get(derin.spec.set(experiment, path, value), path) == value

    def test_one_layer_cannot_do_what_two_can(self):
        """S3.01, S3.06: a perceptron is AND; XOR needs a hidden layer."""
        x = jnp.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
        perceptron = nn.Sequential(nn.Linear(1), nn.Threshold(0.0, 0.0, above=1.0))
        both = {"0.weight": jnp.array([[1.0, 1.0]]), "0.bias": jnp.array([-1.5])}
        assert output(perceptron, both, x)[:, 0].tolist() == [0, 0, 0, 1]
        two = nn.Sequential(nn.Linear(2), nn.Threshold(0.0, 0.0, above=1.0), nn.Linear(1))
        either = {
            "0.weight": jnp.ones((2, 2)), "0.bias": jnp.array([-0.5, -1.5]),
            "2.weight": jnp.array([[1.0, -1.0]]), "2.bias": jnp.zeros(1),
        }  # fmt: skip
        assert output(two, either, x)[:, 0].tolist() == [0, 1, 1, 0]

    def test_convolution_shares_its_weights(self):
        """S3.17, S3.22: Conv1d, pooling, Flatten and Linear; a kernel has as many weights however long the input is."""
        net = nn.Sequential(nn.Conv1d(8, 3, stride=2), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(3))
        shapes = {}
        for time in (21, 41):
            x = jnp.ones((2, time, 4))
            params, state = net.init(jax.random.key(0), x)
            shapes[time] = {n: p.shape for n, p in params.items()}
            assert net.apply(params, state, x)[0].shape == (2, 3)
        assert shapes[21]["0.weight"] == shapes[41]["0.weight"] == (8, 4, 3)
        assert shapes[21]["4.weight"] == (3, 40) and shapes[41]["4.weight"] == (3, 80)  # a dense layer grows

    def test_a_gru_has_three_quarters_of_an_lstm(self):
        """S3.21: two gates and a candidate against three and one."""
        x = jnp.ones((2, 5, 6))
        count = {
            layer: sum(p.size for p in layer(8).init(jax.random.key(0), x)[0].values()) for layer in (nn.GRU, nn.LSTM)
        }
        assert count[nn.GRU] * 4 == count[nn.LSTM] * 3

    def test_small_random_starts(self):
        """S1.59, S2.15: [-.01, .01], and np.random.rand * 0.01, which is [0, .01)."""
        for init, low, high in ((nn.Uniform(0.01), -0.01, 0.01), (nn.Uniform(0.005, mean=0.005), 0, 0.01)):
            w = init(jax.random.key(0), (100, 100), jnp.float32)
            assert low <= w.min() < low + 1e-5 and high - 1e-5 < w.max() <= high

    def test_ranges_of_activations(self):
        """S1.03, S2.13, S3.36: sigmoid 0 to 1, tanh -1 to 1, ReLU from 0, ELU from -1, softmax sums to 1."""
        x = jnp.linspace(-20, 20, 401)
        for f, low, high in ((nn.sigmoid, 0, 1), (nn.tanh, -1, 1), (nn.relu, 0, 20), (nn.elu, -1, 20)):
            y = f(x)
            np.testing.assert_allclose([y.min(), y.max()], [low, high], atol=1e-6)
        np.testing.assert_allclose(nn.softmax(x).sum(), 1, rtol=1e-5)

    def test_equal_codes_have_equal_vectors(self):
        """S3.18, S3.30: an embedding is a linear layer on one-hot codes, without the zeros."""
        params, state = nn.Embedding(5, 3).init(jax.random.key(0), jnp.array([0]))
        codes = jnp.array([4, 1, 4])
        y, _ = nn.Embedding(5, 3).apply(params, state, codes)
        np.testing.assert_allclose(y, jax.nn.one_hot(codes, 5) @ params["weight"], atol=1e-6)


class TestTraining:
    def data(self, n=320, seed=0):
        x = np.random.default_rng(seed).normal(size=(n, 2)).astype("float32")
        return derin.data.load((x, x @ np.array([1.0, -2.0])), valid=0, test=0)

    @pytest.mark.parametrize(("batch", "steps"), [(32, 10), (1, 320), ("full", 1), (50, 7)])
    def test_batches_iterations_epochs(self, batch, steps):
        """S0.34, S1.32, S3.07, S3.16: 320 rows in batches of 32 are 10 iterations; online 320; full batch 1."""
        run = derin.fit(PLAIN, self.data(), epochs=2, batch_size=batch, progress=False)
        assert [line["step"] for line in run.history] == [steps, 2 * steps]

    def test_what_the_size_of_a_batch_trades(self):
        """S3.07, S3.16: a larger batch has a truer gradient (its error falls with the root of the size), and fewer steps.

        After one epoch at the same rate, smaller batches have come further: speed SGD > mini-batch > full batch.
        """
        rng = np.random.default_rng(0)
        x = rng.normal(size=(4096, 4)).astype("float32")
        y = (x @ np.array([1.0, -2.0, 0.5, 3.0]) + rng.normal(size=4096)).astype("float32")
        gradient = jax.jit(jax.grad(lambda w, a, b: nn.MSELoss()(a @ w, b)))
        whole = gradient(jnp.zeros(4), x, y)
        error = {}
        for size in (1, 16, 256):
            picks = rng.integers(0, 4096, (200, size))
            error[size] = np.mean([np.sum((gradient(jnp.zeros(4), x[p], y[p]) - whole) ** 2) for p in picks]) ** 0.5
        assert 3 < error[1] / error[16] < 5.3 and 3 < error[16] / error[256] < 5.3  # a factor of 4 in theory
        data = derin.data.load((x, y), valid=0, test=0)
        first = [
            derin.fit(PLAIN, data, epochs=1, batch_size=b, optimizer=optim.SGD(0.01), progress=False).evaluate("train")[
                "loss"
            ]
            for b in (8, 64, "full")
        ]
        assert first[0] < first[1] < first[2]

    def test_early_stopping(self):
        """S1.66, S3.09: training stops `patience` epochs after the best validation loss, and its weights come back."""
        x = np.random.default_rng(0).normal(size=(60, 20)).astype("float32")
        y = np.random.default_rng(1).normal(size=60)  # nothing to learn: validation only gets worse
        run = derin.fit(nn.MLP((32,), 1), (x, y), epochs=100, batch_size=8, early_stopping=derin.EarlyStopping(4),
                        optimizer=optim.Adam(0.01), progress=False)  # fmt: skip
        assert run.stopped == "early stopping" and len(run.history) == run.best_epoch + 4
        best = min(run.history, key=lambda line: line["valid_loss"])
        assert best["epoch"] == run.best_epoch
        np.testing.assert_allclose(run.evaluate("valid")["loss"], best["valid_loss"], rtol=1e-5)

    def test_standardised_inputs_train_faster(self):
        """S4.09: features of sizes 1 and 1000 stretch the cost's surface; standardised, one rate suits both."""
        x = np.random.default_rng(0).normal(size=(256, 2)).astype("float32")
        y = (x @ np.array([1.0, -2.0])).astype("float32")
        stretched = x * np.array([1.0, 1000.0], "float32")
        fitted = derin.fit(PLAIN, (stretched, y), epochs=20, optimizer=optim.SGD(0.1), progress=False)
        assert fitted.evaluate("test")["r2"] > 0.999  # derin standardises
        w = jnp.zeros(2)
        for _ in range(160):  # the largest rate that does not diverge is set by the large feature
            w = w - 1e-7 * jax.grad(lambda w: nn.MSELoss()(stretched @ w, y))(w)
        assert abs(float(w[0])) < 0.01  # the small one has not moved

    def test_targets_and_inputs_of_every_kind(self):
        """S0.02, S0.03, S3.18, S3.29: integers, numbers, booleans, classes in; numbers and classes out, one-hot inside."""
        n = 80
        table = {
            "age": [20 + i % 40 for i in range(n)],
            "ratio": [i / 7 for i in range(n)],
            "insured": [i % 3 == 0 for i in range(n)],
            "licence": ["ABC"[i % 3] for i in range(n)],
            "price": [3.5 * i + 0.25 for i in range(n)],
            "kind": [["dog", "cat", "bird"][i % 3] for i in range(n)],
        }
        with pytest.warns(derin.data.DataWarning, match="away"):
            data = derin.data.load(table, target=["price", "kind"], stratify=False)
        kinds = {line.column: line.kind for line in data.table}
        assert kinds == {"age": "numeric", "ratio": "numeric", "insured": "boolean", "licence": "category"}
        number, classes = data.schema.targets
        assert isinstance(number, NumberTarget) and classes.labels == ("bird", "cat", "dog")
        assert data.train.x.shape[1] == 3 + 3  # three numbers, and one-hot of three levels

    def test_pictures_of_the_first_steps(self):
        """S0.27, S1.38, S2.08: the descents that docs/first_steps.svg shows: costs fall, two starts end in two minima."""
        descent = runpy.run_path(str(Path(__file__).resolve().parents[1] / "docs" / "make_first_steps.py"))["descent"]
        cost = lambda w: 0.1 * w**4 - 0.6 * w**2 + 0.25 * w  # noqa: E731
        ends = []
        for start in (-0.1, 0.6):
            path = descent(cost, jnp.float32(start), 0.25, 60)
            costs = [float(cost(w)) for w in path]
            assert np.diff(costs).max() < 1e-6
            assert abs(float(jax.grad(cost)(path[-1]))) < 1e-3  # nothing to go by, in the local one as well
            ends.append(costs[-1])
        assert ends[0] < ends[1] - 0.5


class TestNormalisation:
    def test_batch_norm_can_restore_identity(self):
        """S1.55, S4.10, S4.11: biased variance; with weight sqrt(var + eps) and bias mean the output is the input."""
        x = np.random.default_rng(0).normal(3, 2, (64, 4)).astype("float32")
        mean, var = x.mean(0), x.var(0)
        layer = nn.BatchNorm()
        _, state = layer.init(jax.random.key(0), x)
        normal, _ = layer.apply({"weight": jnp.ones(4), "bias": jnp.zeros(4)}, state, x, train=True)
        np.testing.assert_allclose(normal.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(normal.var(0), var / (var + 1e-5), rtol=1e-4)
        same, _ = layer.apply({"weight": jnp.sqrt(var + 1e-5), "bias": jnp.asarray(mean)}, state, x, train=True)
        np.testing.assert_allclose(same, x, atol=2e-5)

    def test_the_plotted_batch(self):
        """S1.56: mean 4.87 and deviation 2.71 become 0 and 1, then -0.5 and 1.5 with weight 1.5 and bias -0.5."""
        x = np.random.default_rng(0).normal(4.87, 2.71, (5000, 1)).astype("float32")
        layer = nn.BatchNorm()
        _, state = layer.init(jax.random.key(0), x)
        y, _ = layer.apply({"weight": jnp.array([1.5]), "bias": jnp.array([-0.5])}, state, x, train=True)
        np.testing.assert_allclose([y.mean(), y.std()], [-0.5, 1.5], atol=1e-4)

    def test_a_bias_before_batch_norm_does_nothing(self):
        """S4.11: the mean takes it away again."""
        x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
        net = nn.Sequential(nn.Linear(4), nn.BatchNorm())
        params, state = net.init(jax.random.key(0), x)
        moved = params | {"0.bias": params["0.bias"] + 7}
        a, b = (net.apply(p, state, x, train=True)[0] for p in (params, moved))
        np.testing.assert_allclose(a, b, atol=2e-5)

    def test_evaluation_uses_the_running_average(self):
        """S4.12, S4.14: mean and variance over mini-batches, exponentially weighted; the training batch does not count."""
        layer, rng = nn.BatchNorm(momentum=0.1), np.random.default_rng(0)
        params, state = layer.init(jax.random.key(0), jnp.ones((2, 1)))
        mean = 0.0
        for _ in range(50):
            x = rng.normal(5, 2, (32, 1)).astype("float32")
            _, state = layer.apply(params, state, x, train=True)
            mean = 0.9 * mean + 0.1 * float(x.mean())
        np.testing.assert_allclose(state["running_mean"], [mean], rtol=1e-4)
        y, _ = layer.apply(params, state, jnp.array([[mean]]))
        np.testing.assert_allclose(y, 0, atol=1e-4)


class TestSoftmax:
    def test_the_table(self):
        """S4.15, S4.16: z = (5, 2, -1, 3) gives .842, .042, .002, .114."""
        np.testing.assert_allclose(nn.softmax(jnp.array([5.0, 2, -1, 3])), [0.842, 0.042, 0.002, 0.114], atol=5e-4)

    def test_two_classes_are_logistic_regression(self):
        """S4.16: softmax of (z, 0) is the sigmoid of z, and so are losses and gradients."""
        z, y = jnp.linspace(-8, 8, 17), jnp.arange(17) % 2
        two = lambda z: jnp.stack([jnp.zeros_like(z), z], -1)  # noqa: E731
        np.testing.assert_allclose(nn.softmax(two(z))[:, 1], nn.sigmoid(z), rtol=1e-5)
        soft, logistic = nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss()
        np.testing.assert_allclose(soft(two(z), y), logistic(z, y), rtol=1e-5)
        by_soft, by_logistic = jax.grad(lambda z: soft(two(z), y))(z), jax.grad(lambda z: logistic(z, y))(z)
        np.testing.assert_allclose(by_soft, by_logistic, atol=1e-6)

    def test_the_loss(self):
        """S1.36, S1.37, S4.17: -ln .2 = 1.6094 for probabilities (.3, .2, .1, .4) and the class cat."""
        p = jnp.array([[0.3, 0.2, 0.1, 0.4]])
        np.testing.assert_allclose(nn.CrossEntropyLoss()(jnp.log(p), jnp.array([1])), 1.6094, atol=5e-5)

    def test_its_gradient(self):
        """S4.18: dz = prediction - truth."""
        z = jnp.array([[5.0, 2, -1, 3], [0.1, 0.2, 0.3, 0.4]])
        y = jnp.array([3, 0])
        by = jax.grad(lambda z: nn.CrossEntropyLoss()(z, y) * 2)(z)
        np.testing.assert_allclose(by, nn.softmax(z) - jax.nn.one_hot(y, 4), atol=1e-6)


class TestTensors:
    def test_channels_last_and_first(self):
        """S3.04, S3.05: images are [n, h, w, c]; a grey one gets its axis; order of rows is shuffled every epoch."""
        pixels = np.random.default_rng(0).integers(0, 255, (20, 8, 8), dtype=np.uint8)
        data = derin.data.load((pixels, np.arange(20) % 2), valid=0, test=0)
        assert data.train.x.shape == (20, 8, 8, 1) and data.train.x.dtype == np.uint8
        task = engine.Task(derin.Experiment(PLAIN, batch_size=4), None, (), ())
        orders = [engine.epoch_order(task, jnp.int32(e), 20, jax.random.key(0)).reshape(-1) for e in range(2)]
        assert all(sorted(o.tolist()) == list(range(20)) for o in orders) and (orders[0] != orders[1]).any()
