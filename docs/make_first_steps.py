"""Draws docs/first_steps.svg: what gradient descent does, step by step, computed by derin.

pip install -e ".[docs]"
python docs/make_first_steps.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import derin
from derin import nn, optim

PICTURE = Path(__file__).resolve().parent / "first_steps.svg"
SHADES = ("#c6dbef", "#9ecae1", "#6baed6", "#3182bd", "#08519c")


def descent(cost: Any, params: Any, rate: float, steps: int, momentum: float = 0.0) -> list[Any]:
    """The weights after 0, 1, 2, ... steps."""
    optimizer = optim.SGD(rate, momentum=momentum)
    memory, path = optimizer.init(params), [params]
    for _ in range(steps):
        updates, memory = optimizer.update(jax.grad(cost)(params), memory, params, rate)
        params = jax.tree.map(jnp.add, params, updates)
        path.append(params)
    return path


def line(axes: Any) -> None:
    """A line that moves into its points."""
    x = jnp.linspace(-1.5, 1.5, 12)[:, None]
    y = 1.2 * x[:, 0] + 0.5 + 0.25 * jnp.sin(9 * x[:, 0])
    net = nn.Linear(1)
    out = lambda p: net.apply(p, {}, x)[0][:, 0]  # noqa: E731
    path = descent(
        lambda p: nn.MSELoss()(out(p), y), {"weight": jnp.array([[-1.0]]), "bias": jnp.array([-0.8])}, 0.1, 24
    )
    axes.plot(x, y, "o", color="black", markersize=4)
    for at, shade in zip((0, 2, 5, 10, 24), SHADES, strict=True):
        axes.plot(x, out(path[at]), color=shade, label=f"{at} steps")
    axes.set(title="A line, fitted", xlabel="x", ylabel="y")
    axes.legend(frameon=False, fontsize=8)


def logistic(axes: Any) -> None:
    """The same with classes."""
    x = jnp.array([1.0, 2, 2.5, 3, 4, 4.5, 5, 6, 7, 8])[:, None]
    y = jnp.array([0.0, 0, 0, 1, 0, 1, 1, 1, 1, 1])
    net, grid = nn.Linear(1), jnp.linspace(0, 9, 91)[:, None]
    path = descent(lambda p: nn.BCEWithLogitsLoss()(net.apply(p, {}, x)[0][:, 0], y),
                   {"weight": jnp.array([[-0.4]]), "bias": jnp.array([0.5])}, 0.3, 400)  # fmt: skip
    axes.plot(x, y, "o", color="black", markersize=4)
    for at, shade in zip((0, 5, 20, 80, 400), SHADES, strict=True):
        axes.plot(grid, nn.sigmoid(net.apply(path[at], {}, grid)[0]), color=shade, label=f"{at} steps")
    axes.axhline(0.5, color="grey", linewidth=0.6)
    axes.set(title="A probability, fitted", xlabel="x", ylabel="probability of class 1")
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def boundary(axes: Any) -> None:
    """What a small net says of every point of the plane."""
    random = np.random.default_rng(0)
    turn = random.uniform(0, np.pi, 80)
    a, b = np.stack([np.cos(turn), np.sin(turn)], 1), np.stack([1 - np.cos(turn), 0.4 - np.sin(turn)], 1)
    x = np.concatenate([a, b]) + 0.12 * random.normal(size=(160, 2))
    y = np.repeat([0, 1], 80)
    run = derin.fit(
        nn.MLP((16, 16), 1), (x.astype("float32"), y), epochs=200, progress=False, optimizer=optim.Adam(0.01)
    )
    u, v = np.meshgrid(np.linspace(-1.5, 2.5, 50), np.linspace(-1.1, 1.6, 40))
    found = run.predict_proba(np.stack([u.ravel(), v.ravel()], 1).astype("float32"))[:, 1].reshape(u.shape)
    axes.contourf(u, v, found, levels=np.linspace(0, 1, 6), cmap="RdBu_r", alpha=0.8)
    axes.contour(u, v, found, levels=[0.5], colors="black", linewidths=1)
    axes.scatter(*x.T, c=y, cmap="RdBu_r", s=6, edgecolors="black", linewidths=0.2)
    axes.set(title="The decision surface of a net of 16-16", xlabel="first input", ylabel="second input")


def surface(axes: Any) -> None:
    """Three ways down a cost that is steep one way and flat the other, as inputs of different sizes make it."""
    cost = lambda w: 0.5 * (w[0] ** 2 + 12 * w[1] ** 2)  # noqa: E731
    u, v = np.meshgrid(np.linspace(-3.3, 1, 40), np.linspace(-1.4, 1.4, 40))
    axes.contour(u, v, cost((u, v)), levels=8, colors="lightgrey", linewidths=0.8)
    start = jnp.array([-3.0, 1.1])
    for rate, momentum, colour in ((0.03, 0.0, SHADES[4]), (0.155, 0.0, "tab:red"), (0.03, 0.8, "tab:green")):
        path = np.array(descent(cost, start, rate, 25, momentum))
        name = f"rate {rate:g}" + (f", momentum {momentum:g}" if momentum else "")
        axes.plot(*path.T, "o-", color=colour, markersize=2.5, linewidth=1, label=name)
    axes.plot(0, 0, "k*")
    axes.set(title="25 steps down a cost", xlabel="first weight", ylabel="second weight", ylim=(-1.4, 1.9))
    axes.legend(frameon=False, fontsize=8, loc="upper center", ncols=2)


def minima(axes: Any) -> None:
    """Where one starts decides where one ends."""
    cost = lambda w: 0.1 * w**4 - 0.6 * w**2 + 0.25 * w  # noqa: E731
    w = np.linspace(-2.5, 2.4, 200)
    axes.plot(w, cost(w), color="grey")
    for start, colour, word in ((-0.1, SHADES[4], "global"), (0.6, "tab:red", "local")):
        path = np.array(descent(cost, jnp.float32(start), 0.25, 30))
        axes.plot(path, cost(path), "o-", color=colour, markersize=3, linewidth=0.8)
        axes.annotate(
            f"{word} minimum", (path[-1], cost(path[-1])), (path[-1] - 0.6, cost(path[-1]) - 0.22), fontsize=8
        )
    axes.set(title="Two starts, two minima", xlabel="weight", ylabel="cost", ylim=(-1.85, 0.9))


def averages(axes: Any) -> None:
    """A short, a middling and a long memory."""
    t = np.arange(200)
    noisy = np.sin(t / 30) + 0.35 * np.random.default_rng(0).normal(size=200)
    axes.plot(t, noisy, ".", color="lightgrey", markersize=4)
    for window, colour, word in (
        (3, "tab:red", "too short"),
        (15, SHADES[4], "about right"),
        (80, "tab:green", "too long"),
    ):
        alpha, mean = 2 / (window + 1), [noisy[0]]
        for x in noisy[1:]:
            mean.append(alpha * x + (1 - alpha) * mean[-1])
        axes.plot(t, mean, color=colour, linewidth=1.2, label=f"N = {window}, {word}")
    axes.set(title="Exponential averages of noise", xlabel="step", ylim=(-2.1, 2.4))
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def draw() -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams.update({"svg.hashsalt": "derin", "axes.spines.top": False, "axes.spines.right": False})
    figure, panels = plt.subplots(2, 3, figsize=(13, 7.6), layout="constrained")
    for panel, axes in zip((line, logistic, boundary, surface, minima, averages), panels.flat, strict=True):
        panel(axes)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    draw()
