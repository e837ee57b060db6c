"""Writes docs/worked_examples.md: the course's worked examples, computed by derin.trace.

    python docs/make_worked_examples.py      # a test checks that the page is what this writes

EXAMPLES is the table behind the page and behind tests/test_worked_examples.py: for each number what derin computes, the
exact value, and what the notes print.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import derin
from derin import nn, optim
from derin.trace import table

PAGE = Path(__file__).resolve().parent / "worked_examples.md"
HEAD = """# The course's worked examples

Every worked example of the course, computed by `derin.trace`: what derin finds (in float32), the exact value, and the
number that the notes print. Where the notes round, cut or slip, the exact value stands beside it. The IDs are those of
[the course's concepts](course.md). This page is written by `python docs/make_worked_examples.py`.
"""


class Number(NamedTuple):
    """A number of an example: what it is, what derin found, the exact value, what the notes print ("" for nothing)."""

    what: str
    found: Any
    exact: float
    printed: str = ""


class Worked(NamedTuple):
    numbers: list[Number]
    text: str = ""  # the trace, as it stands on the page


class Example(NamedTuple):
    concept: str
    title: str
    work: Callable[[], Worked]


X = np.array([[1.0, 2, 3], [4, 5, 6]])
W = {"weight": np.array([[2.0, 2, 2]])}
LINE = nn.Linear(1, bias=False)


def numbers(what: str, found: Any, exact: Any, printed: str = "") -> list[Number]:
    """One for each entry; `printed` has as many words, - for one that the notes leave out."""
    values, exacts = np.asarray(found).reshape(-1), np.asarray(exact, np.float64).reshape(-1)
    words = printed.split() if printed else [""] * len(exacts)
    names = [what] if len(exacts) == 1 else [f"{what} {i + 1}" for i in range(len(exacts))]
    return [
        Number(n, v.item(), e.item(), p.replace("-none", ""))
        for n, v, e, p in zip(names, values, exacts, words, strict=True)
    ]


# -- lines and losses


def simple_line() -> Worked:
    t = derin.trace(lambda x, w, b: w * x + b, 120.0, 5.0, 150.0)
    x, y = np.array([50.0, 60, 70, 80, 100])[:, None], np.array([400.0, 450, 500, 550, 650])
    params = {"weight": np.array([[5.0]]), "bias": np.array([150.0])}
    fit = derin.trace(nn.Linear(1), x, y, loss=nn.MSELoss(), params=params)
    return Worked(
        numbers("price at x = 120", t.value, 750, "750") + numbers("MSE of the line on the five points", fit.value, 0),
        t.to_text(),
    )


def several_inputs() -> Worked:
    params = {"weight": np.array([[5.1, 6.5]]), "bias": np.array([133.0])}
    t = derin.trace(nn.Linear(1), np.array([[75.0, 2.0]]), params=params)
    return Worked(numbers("(5.1*75) + (6.5*2) + 133", t.value, 528.5), t.to_text())


TRUTH, GUESS = np.array([10.0, 20, 30]), np.array([12.0, 18, 30])


def residuals() -> Worked:
    t = derin.trace(lambda y, prediction: y - prediction, TRUTH, GUESS)
    return Worked(numbers("residual", t.value, [-2, 2, 0], "-2 2 0"), t.to_text())


def mse(y: Any, prediction: Any) -> Any:
    error = y - prediction
    loss = error**2
    return loss.mean()


def mean_squared_error() -> Worked:
    t = derin.trace(mse, TRUTH, GUESS)
    each = next(s.output.array for s in t.steps if s.output.name == "loss")
    return Worked(numbers("loss", each, [4, 4, 0], "4 4 0") + numbers("MSE", t.value, 8 / 3, "8/3"), t.to_text())


def why_square() -> Worked:
    plain = derin.trace(lambda y, prediction: (y - prediction).sum(), TRUTH, GUESS)
    squared = derin.trace(lambda y, prediction: ((y - prediction) ** 2).sum(), TRUTH, GUESS)
    return Worked(
        numbers("sum of errors", plain.value, 0, "0") + numbers("sum of squares", squared.value, 8), plain.to_text()
    )


def root_mean_squared_error() -> Worked:
    t = derin.trace(lambda y, prediction: jnp.sqrt(mse(y, prediction)), TRUTH, GUESS)
    return Worked(numbers("RMSE", t.value, (8 / 3) ** 0.5, "(8/3)^(1/2)"))


def mean_absolute_error() -> Worked:
    t = derin.trace(lambda y, prediction: jnp.abs(y - prediction).mean(), TRUTH, GUESS)
    return Worked(numbers("MAE", t.value, 4 / 3, "4/3"), t.to_text())


def three_losses() -> Worked:
    losses = (nn.MSELoss(), nn.RMSELoss(), nn.L1Loss())
    found = [derin.trace(lambda p, loss=loss: loss(p, jnp.asarray(TRUTH)), GUESS).value for loss in losses]  # type: ignore[misc]
    return Worked(numbers("MSE, RMSE, MAE of the same rows:", found, [8 / 3, (8 / 3) ** 0.5, 4 / 3]))


FAR = np.array([15.0, 18, 40])


def huber(y: Any, prediction: Any, delta: float = 4.0) -> Any:
    e = jnp.abs(y - prediction)
    each = jnp.where(e <= delta, e**2 / 2, delta * (e - delta / 2))
    return each.mean()


def huber_loss() -> Worked:
    t = derin.trace(huber, TRUTH, FAR)
    each = next(s.output.array for s in t.steps if s.output.name == "each")
    layer = derin.trace(lambda p: nn.HuberLoss(delta=4.0)(p, jnp.asarray(TRUTH)), FAR).value
    found = numbers("loss", each, [12, 2, 32], "12 2 32") + numbers("Huber, delta 4", t.value, 46 / 3, "46/3")
    return Worked(found + numbers("nn.HuberLoss", layer, 46 / 3), t.to_text())


def smooth_l1_loss() -> Worked:
    loss = nn.SmoothL1Loss(beta=5.0)
    t = derin.trace(lambda p: loss.each(p, jnp.asarray(TRUTH)), FAR)
    mean = derin.trace(lambda p: loss(p, jnp.asarray(TRUTH)), FAR)
    return Worked(
        numbers("loss", t.value, [2.5, 0.4, 7.5], "2.5 0.4 7.5")
        + numbers("Smooth L1, beta 5", mean.value, 10.4 / 3, "3.47")
    )


def matrix_form() -> Worked:
    x = np.array([[1.0, 2, 3], [4, 5, 6], [-1, -2, -3], [-4, -5, -6]])
    t = derin.trace(lambda x, w: x @ w, x, np.array([[1.0], [2], [3]]))
    return Worked(numbers("x w, row", t.value, [14, 32, -14, -32], "14 32 -14 -32"), t.to_text())


# -- gradient descent


def partial_derivatives() -> Worked:
    def loss(w: Any, b: Any) -> Any:
        prediction = X @ w + b
        return mse(jnp.array([14.0, 32.0]), prediction)

    t = derin.trace(loss, np.array([2.0, 2, 2]), 0.0)
    return Worked(
        numbers("d MSE / d w", t.gradients[0], [-10, -14, -18], "-10 -14 -18")
        + numbers("d MSE / d b", t.gradients[1], -4)
    )


def repeat_until_converge() -> Worked:
    found = table(half_square, 5.0, optimizer=optim.SGD(0.1), steps=60)
    slopes = [abs(row[3]) for row in found.rows]
    smaller = all(b <= a for a, b in itertools.pairwise(slopes))
    return Worked(
        numbers("w after 60 iterations", found.params, 2 + 3 * 0.9**60)
        + numbers("the slope never grows", float(smaller), 1.0)
    )


def half_square(w: Any) -> Any:
    residual = 2.0 - w * 1.0
    return residual**2 / 2


def descent_from_5() -> Worked:
    found = table(half_square, 5.0, optimizer=optim.SGD(0.1), steps=54)
    w, slope, change = (found.columns.index(n) for n in ("w", "d half_square / d w", "change"))
    rows = found.rows
    return Worked(
        numbers("w of step", [rows[0][w], rows[1][w], rows[54][w]], [5, 4.7, 2 + 3 * 0.9**54], "5 4.7 2.01")
        + numbers("residual y - w x of step", [-rows[0][slope], -rows[1][slope]], [-3, -2.7], "-3 -2.7")
        + numbers("what is taken from w in step", [-rows[0][change], -rows[1][change]], [0.3, 0.27], "0.3 0.27"),
        found.to_text(),
    )


def descent_from_1() -> Worked:
    found = table(half_square, 1.0, optimizer=optim.SGD(0.1), steps=44)
    w, slope, change = (found.columns.index(n) for n in ("w", "d half_square / d w", "change"))
    rows = found.rows
    return Worked(
        numbers("w of step", [rows[0][w], rows[1][w], rows[44][w]], [1, 1.1, 2 - 0.9**44], "1 1.1 1.99")
        + numbers("residual y - w x of step", [-rows[0][slope], -rows[1][slope]], [1, 0.9], "1 0.89")
        + numbers("what is taken from w in step", [-rows[0][change], -rows[1][change]], [-0.1, -0.09], "-0.1 -0.08"),
        found.to_text(),
    )


def roles_of_the_derivative() -> Worked:
    slopes = [derin.trace(half_square, w).gradients[0] for w in (5.0, 1.0, 2.0)]
    return Worked(numbers("slope at w = 5, 1, 2:", slopes, [3, -1, 0]), derin.trace(half_square, 5.0).to_text())


def linear_step() -> Worked:
    y = np.array([14.0, 32])
    t = derin.trace(LINE, X, y, loss=nn.MSELoss(), optimizer=optim.SGD(0.01), params=W)
    after = derin.trace(LINE, X, y, loss=nn.MSELoss(), params=t.new_params)
    output = derin.trace(LINE, X, params=W).value
    return Worked(
        numbers("prediction", output, [12, 30], "12 30")
        + numbers("gradient", t.gradients["weight"], [-10, -14, -18], "-10 -14 -18")
        + numbers("new w", t.new_params["weight"], [2.1, 2.14, 2.18], "2.10 2.14 2.18")
        + numbers("MSE before", t.value, 4, "4.0")
        + numbers("MSE after", after.value, 0.5994, "0.59"),
        t.to_text(),
    )


# -- logistic regression and softmax


def logistic_prediction() -> Worked:
    params = {"0.weight": np.array([[2.8, -4.5]]), "0.bias": np.array([0.4])}
    t = derin.trace(nn.Sequential(nn.Linear(1), nn.Sigmoid()), np.array([[1.0, 1.5]]), params=params)
    z = derin.trace(nn.Linear(1), np.array([[1.0, 1.5]]), params={k[2:]: v for k, v in params.items()}).value
    return Worked(numbers("z", z, -3.55, "-3.55") + numbers("y'", t.value, 1 / (1 + np.exp(3.55)), "0.02"), t.to_text())


def logistic_step() -> Worked:
    y, loss = np.array([0.0, 1]), nn.BCEWithLogitsLoss()
    t = derin.trace(LINE, X, y, loss=loss, optimizer=optim.SGD(0.1), params=W)
    after = derin.trace(LINE, X, y, loss=loss, params=t.new_params)
    e = 1 / (1 + np.exp(-12.0)), 1 / (1 + np.exp(-30.0)) - 1
    gradient = e[0] * X[0] + e[1] * X[1]
    new = 2 - 0.1 * gradient / 2
    z = X @ new
    return Worked(
        numbers("z", derin.trace(LINE, X, params=W).value, [12, 30], "12 30")
        + numbers("gradient before 1/n", 2 * np.asarray(t.gradients["weight"]), gradient, "0.99 1.98 2.97")
        + numbers("new w", t.new_params["weight"], new, "1.95 1.90 1.85")
        + numbers("BCE before", t.value, (np.log1p(np.exp(12.0)) + np.log1p(np.exp(-30.0))) / 2, "6.4")
        + numbers("BCE after", after.value, (np.log1p(np.exp(z[0])) + np.log1p(np.exp(-z[1]))) / 2, "5.6"),
        t.to_text(),
    )


Z = np.array([2.0, 1.0, 0.1])


def softmax(z: Any) -> Any:
    e = jnp.exp(z)
    return e / e.sum()


def log_softmax(z: Any) -> Any:
    log_of_sum = jnp.log(jnp.exp(z).sum())
    return z - log_of_sum


def softmin(z: Any) -> Any:
    e = jnp.exp(-z)
    return e / e.sum()


def of(t: Any, name: str) -> Any:
    """The value of that name in a trace."""
    return next(v.array for s in t.steps for v in s.outputs if v.name == name)


def softmax_example() -> Worked:
    t, e = derin.trace(softmax, Z), np.exp(Z)
    return Worked(
        numbers("e^z", of(t, "e"), e, "7.38 2.71 1.10")
        + numbers("sum", np.asarray(of(t, "e")).sum(), e.sum(), "11.21")
        + numbers("y", t.value, e / e.sum())
        + numbers("nn.softmax", derin.trace(nn.softmax, Z).value, e / e.sum()),
        t.to_text(),
    )


def log_softmax_example() -> Worked:
    t, log = derin.trace(log_softmax, Z), np.log(np.exp(Z).sum())
    return Worked(
        numbers("ln of the sum", of(t, "log_of_sum"), log, "2.41")
        + numbers("y", t.value, Z - log, "-0.41 -1.41 -2.31")
        + numbers("nn.log_softmax", derin.trace(nn.log_softmax, Z).value, Z - log),
        t.to_text(),
    )


def softmin_example() -> Worked:
    t, e = derin.trace(softmin, Z), np.exp(-Z)
    return Worked(
        numbers("e^-z", of(t, "e"), e, "0.13 0.36 0.9")
        + numbers("sum", np.asarray(of(t, "e")).sum(), e.sum(), "1.39")
        + numbers("y", t.value, e / e.sum()),
        t.to_text(),
    )


def softmax_of_four() -> Worked:
    z = np.array([5.0, 2, -1, 3])
    e = np.exp(z)
    two = derin.trace(nn.softmax, np.array([5.0, 5 - np.log(0.842 / 0.158)])).value
    return Worked(
        numbers("a", derin.trace(softmax, z).value, e / e.sum(), "0.842 0.042 0.002 0.114")
        + numbers("hardmax", derin.trace(nn.hardmax, z).value, [1, 0, 0, 0])
        + numbers("two classes", two, [0.842, 0.158], "0.842 -0.158"),
        derin.trace(softmax, z).to_text(),
    )


def softmax_loss() -> Worked:
    t = derin.trace(lambda y, p: -(y * jnp.log(p)).sum(), np.array([0.0, 1, 0, 0]), np.array([0.3, 0.2, 0.1, 0.4]))
    return Worked(numbers("loss", t.value, -np.log(0.2), "-log 0.2".replace(" ", "_")), t.to_text())


# -- networks, averages, graphs


def backpropagation() -> Worked:
    net = nn.Sequential(nn.Linear(2, bias=False), nn.Linear(1, bias=False), nn.ReLU())
    params = {"0.weight": np.array([[0.1, 0.2], [0.3, 0.4]]), "1.weight": np.array([[0.5, 0.6]])}
    t = derin.trace(net, np.array([[1.0, 2.0]]), np.array([[1.0]]), loss=nn.MSELoss(half=True), params=params)
    seen = nn.activations(net, {k: jnp.asarray(v) for k, v in params.items()}, {}, jnp.array([[1.0, 2.0]]))
    incoming = next(s for s in t.steps if s.operation == "relu").incoming[0]
    return Worked(
        numbers("y", seen["0"], [0.5, 1.1], "0.5 1.1")
        + numbers("z", seen["1"], 0.91, "0.91")
        + numbers("loss", t.value, 0.00405)
        + numbers("d L / d y'", incoming, -0.09, "-0.09")
        + numbers("d L / d w5, w6:", t.gradients["1.weight"], [-0.045, -0.099], "-0.045 -0.099")
        + numbers("d L / d w1 ... w4:", t.gradients["0.weight"], [-0.045, -0.09, -0.054, -0.108]),
        t.to_text(),
    )


def squares_add_up(g: Any) -> Any:
    total = g[0] ** 2
    seen = [total]
    for i in (1, 2):
        total = total + g[i] ** 2
        seen.append(total)
    return jnp.stack(seen)


def cumulative_squares() -> Worked:
    t = derin.trace(squares_add_up, np.array([5.0, 6, 7]))
    return Worked(numbers("G", t.value, [25, 61, 110], "25 61 110"), t.to_text())


def average(x: Any, alpha: Any) -> Any:
    ema = x[0]
    seen = [ema]
    for i in range(1, 5):
        ema = alpha * x[i] + (1 - alpha) * ema
        seen.append(ema)
    return jnp.stack(seen)


def exponential_average() -> Worked:
    t = derin.trace(average, np.array([10.0, 12, 13, 15, 14]), 0.5)
    return Worked(numbers("EMA", t.value, [10, 11, 12, 13.5, 13.75], "10 11 12 13.5 13.75"), t.to_text())


def averaged_descent() -> Worked:
    t = derin.trace(lambda theta: jnp.cumsum(theta) / jnp.arange(1.0, 6.0), np.array([2.0, 1.5, 1.2, 1.3, 1.1]))
    return Worked(numbers("mean", t.value, [2, 1.75, 4.7 / 3, 1.5, 1.42], "2 1.75 1.57 1.5 1.42"), t.to_text())


def J(a: Any, b: Any, c: Any) -> Any:
    u = b * c
    v = a + u
    return 3 * v


def computation_graph() -> Worked:
    t = derin.trace(J, 5.0, 3.0, 2.0)
    return Worked(
        numbers("J", t.value, 33) + numbers("d J / d a, b, c:", t.gradients, [3, 6, 9], "3 3c 3b"), t.to_text()
    )


def cost(w: Any) -> Any:
    return w**2 - 10 * w + 25


def fed_cost(w: Any, x: Any) -> Any:
    return x[0] * w**2 + x[1] * w + x[2]


def minimise() -> Worked:
    found = table(cost, 0.0, optimizer=optim.SGD(0.01), steps=1000)
    return Worked(
        numbers("w after 1 step", found.rows[1][1], 0.1, "0.1")
        + numbers("w after 1000 steps", found.rows[1000][1], 5 * (1 - 0.98**1000), "4.99999"),
        derin.trace(cost, 0.0).to_text() + "\n\n" + found.to_text(),
    )


def minimise_what_is_fed() -> Worked:
    first = table(fed_cost, 0.0, np.array([1.0, -10, 25]), optimizer=optim.SGD(0.01), steps=1000)
    second = table(fed_cost, 0.0, np.array([1.0, -20, 25]), optimizer=optim.SGD(0.01), steps=1000)
    return Worked(
        numbers("w for 1, -10, 25", first.params, 5 * (1 - 0.98**1000), "4.99999")
        + numbers("w for 1, -20, 25 (the notes: (w-5)^2)", second.params, 10 * (1 - 0.98**1000)),
        derin.trace(fed_cost, 0.0, np.array([1.0, -10, 25])).to_text(),
    )


EXAMPLES = [
    Example("S0.06", "A line through points", simple_line),
    Example("S0.07", "Several inputs", several_inputs),
    Example("S0.08", "Truth, prediction, residual", residuals),
    Example("S0.09", "Mean squared error", mean_squared_error),
    Example("S0.10", "Why the square", why_square),
    Example("S0.11", "Root of the mean squared error", root_mean_squared_error),
    Example("S0.12", "Mean absolute error", mean_absolute_error),
    Example("S0.13", "Losses are not comparable with each other", three_losses),
    Example("S0.14", "Huber loss", huber_loss),
    Example("S0.15", "Smooth L1 loss", smooth_l1_loss),
    Example("S0.16", "Linear regression in matrices", matrix_form),
    Example("S0.17", "Gradient descent, until it converges", repeat_until_converge),
    Example("S0.18", "Partial derivatives of the mean squared error", partial_derivatives),
    Example("S0.19", "Gradient descent from w = 5", descent_from_5),
    Example("S0.20", "Gradient descent from w = 1", descent_from_1),
    Example("S0.21", "What the derivative tells", roles_of_the_derivative),
    Example("S0.22", "A whole step of linear regression", linear_step),
    Example("S0.30", "A logistic prediction", logistic_prediction),
    Example("S0.33", "A whole step of logistic regression", logistic_step),
    Example("S1.15", "Softmax", softmax_example),
    Example("S1.16", "LogSoftmax", log_softmax_example),
    Example("S1.17", "Softmin", softmin_example),
    Example("S1.31", "Backpropagation", backpropagation),
    Example("S1.41", "Squares that add up", cumulative_squares),
    Example("S1.42", "Exponential moving average", exponential_average),
    Example("S1.47", "Averaged gradient descent", averaged_descent),
    Example("S2.09", "A computation graph", computation_graph),
    Example("S4.16", "Softmax and hardmax", softmax_of_four),
    Example("S4.17", "Loss of softmax", softmax_loss),
    Example("S4.20", "A cost that is minimised", minimise),
    Example("S4.21", "A cost whose coefficients are fed", minimise_what_is_fed),
]


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for example in EXAMPLES:
        worked = example.work()
        parts.append(f"## {example.concept} {example.title}\n")
        rows = [
            f"| {n.what} | {_digits(n.found)} | {_digits(n.exact)} | {_printed(n.printed)} |" for n in worked.numbers
        ]
        parts.append("\n".join(["| | derin | exact | printed |", "|---|---:|---:|---:|", *rows]) + "\n")
        if worked.text:
            without_sources = re.sub(r"\n +# derin/.*", "", worked.text)  # their lines move
            parts.append(f"```text\n{without_sources}\n```\n")
    return "\n".join(parts)


def _digits(value: float) -> str:
    text = f"{value:.5g}"
    return "0" if float(text) == 0 or abs(value) < 1e-9 else text


def _printed(text: str) -> str:
    return text.replace("_", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    print(f"wrote {PAGE}: {len(EXAMPLES)} examples")
