"""Draws docs/activations.svg: each activation and its derivative, by derin's own functions and gradients.

pip install -e ".[docs]"
python docs/make_activations.py
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from derin import nn

PICTURE = Path(__file__).resolve().parent / "activations.svg"
THRESHOLD, SIGMOID, RELU, ELU, SOFTMAX = (
    "tab:purple",
    "tab:green",
    "tab:blue",
    "tab:red",
    "tab:brown",
)  # S1.03's families
CURVES: dict[nn.Module, tuple[str, str]] = {  # layer -> what stands above it, its family's colour
    nn.Threshold(0.0, 0.0, above=1.0): ("Threshold, above=1", THRESHOLD),
    nn.Threshold(1.0, 0.0): ("Threshold(1, 0)", THRESHOLD),
    nn.Sign(): ("Sign", THRESHOLD),
    nn.Softsign(): ("Softsign", THRESHOLD),
    nn.Hardshrink(1.0): ("Hardshrink(1)", THRESHOLD),
    nn.Softshrink(1.0): ("Softshrink(1)", THRESHOLD),
    nn.Tanhshrink(): ("Tanhshrink", THRESHOLD),
    nn.Sigmoid(): ("Sigmoid", SIGMOID),
    nn.LogSigmoid(): ("LogSigmoid", SIGMOID),
    nn.Tanh(): ("Tanh", SIGMOID),
    nn.Hardsigmoid(): ("Hardsigmoid", SIGMOID),
    nn.Hardtanh(): ("Hardtanh", SIGMOID),
    nn.ReLU(): ("ReLU", RELU),
    nn.LeakyReLU(0.1): ("LeakyReLU(0.1)", RELU),
    nn.PReLU(): ("PReLU, as it starts", RELU),
    nn.RReLU(): ("RReLU, mean and range", RELU),
    nn.ReLU6(): ("ReLU6", RELU),
    nn.Softplus(): ("Softplus", RELU),
    nn.GELU(): ("GELU", RELU),
    nn.SiLU(): ("SiLU (Swish)", RELU),
    nn.Hardswish(): ("Hardswish", RELU),
    nn.Mish(): ("Mish", RELU),
    nn.ELU(): ("ELU", ELU),
    nn.SELU(): ("SELU", ELU),
    nn.CELU(2.0): ("CELU(2)", ELU),
    nn.Softmax(): ("Softmax of (x, 0)", SOFTMAX),
    nn.LogSoftmax(): ("LogSoftmax of (x, 0)", SOFTMAX),
    nn.Softmin(): ("Softmin of (x, 0)", SOFTMAX),
    nn.Hardmax(): ("Hardmax of (x, 0)", SOFTMAX),
    nn.GLU(): ("GLU of (1, x)", SOFTMAX),
}
SOFT = (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Hardmax)  # they need a second entry: 0


def curve(layer: nn.Module, x: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Values and derivatives at each x, with gaps where they jump."""
    params, state = layer.init(jax.random.key(0), jnp.zeros(2))

    def at(x: jax.Array) -> jax.Array:
        row = x
        if isinstance(layer, SOFT):
            row = jnp.stack([x, jnp.zeros(())])
        if isinstance(layer, nn.GLU):
            row = jnp.stack([jnp.ones(()), x])
        return layer.apply(params, state, row)[0].ravel()[0]

    y, slope = jax.vmap(jax.value_and_grad(at))(x)
    return _with_gaps(y), _with_gaps(slope)


def _with_gaps(y: jax.Array) -> np.ndarray:
    y = np.array(y)
    y[1:][np.abs(np.diff(y)) > 0.12] = np.nan
    return y


def draw():  # the figure
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "derin", "font.size": 9})  # the same file from the same curves
    from matplotlib import pyplot

    x = jnp.linspace(-7, 7, 281)  # a point at each kink
    figure, panels = pyplot.subplots(6, 5, figsize=(12, 13.5), layout="constrained")
    for (layer, (title, colour)), panel in zip(CURVES.items(), panels.flat, strict=True):
        y, slope = curve(layer, x)
        if isinstance(layer, nn.RReLU):
            left = np.asarray(x[x <= 0])
            panel.fill_between(left, left * layer.lower, left * layer.upper, color=colour, alpha=0.25, lw=0)
        panel.axhline(0, color="0.75", lw=0.7, zorder=0)
        panel.axvline(0, color="0.75", lw=0.7, zorder=0)
        panel.plot(x, y, color=colour, lw=2, label="value")
        panel.plot(x, slope, color="0.2", lw=1.2, ls=(0, (3, 1.5)), label="derivative")
        panel.set_title(title, fontsize=10.5)
        panel.set_xlim(-7, 7)
        panel.set_xticks([-6, -3, 0, 3, 6])
        panel.spines[["top", "right"]].set_visible(False)
        low, high = np.nanmin([y, slope]), np.nanmax([y, slope])
        room = 0.08 * (high - low)
        panel.set_ylim(low - room, high + room)
    handles = [pyplot.Line2D([], [], color="0.5", lw=2), pyplot.Line2D([], [], color="0.2", lw=1.2, ls=(0, (3, 1.5)))]
    labels = ["value (a colour for each family)", "derivative"]
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=11)
    return figure


if __name__ == "__main__":
    draw().savefig(PICTURE, metadata={"Date": None})
