"""Draws docs/schedules.svg: the factor that each schedule gives, by derin's own functions.

pip install -e ".[docs]"
python docs/make_schedules.py
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from derin import optim
from derin.optim import Schedule

PICTURE = Path(__file__).resolve().parent / "schedules.svg"
EPOCHS, STEPS = 40, 10  # of the run in the picture
FALLS, WAVES, RISES, FOLLOWS, JOINS = "tab:blue", "tab:green", "tab:red", "tab:purple", "tab:brown"
CURVES: dict[str, tuple[Schedule, str]] = {  # what stands above it -> the schedule, its colour
    "Constant()": (optim.Constant(), FALLS),
    "ConstantLR(0.3, 10)": (optim.ConstantLR(0.3, 10), FALLS),
    "LinearLR(0.1, 1.0, 20)": (optim.LinearLR(0.1, 1.0, 20), FALLS),
    "StepLR(10, gamma=0.5)": (optim.StepLR(10, gamma=0.5), FALLS),
    "MultiStepLR((5, 25), gamma=0.4)": (optim.MultiStepLR((5, 25), gamma=0.4), FALLS),
    "ExponentialLR(0.92)": (optim.ExponentialLR(0.92), FALLS),
    'PolynomialLR(None, 2, by="step")': (optim.PolynomialLR(None, 2, by="step"), FALLS),
    "CosineAnnealingLR(end_factor=0.1)": (optim.CosineAnnealingLR(end_factor=0.1), WAVES),
    "FlatCosine(0.5)": (optim.FlatCosine(0.5), WAVES),
    "CosineLog()": (optim.CosineLog(), WAVES),
    "CosineAnnealingWarmRestarts(10)": (optim.CosineAnnealingWarmRestarts(10), WAVES),
    "CosineAnnealingWarmRestarts(5, 2)": (optim.CosineAnnealingWarmRestarts(5, 2), WAVES),
    "CyclicLR(0.1, 1.0, 50)": (optim.CyclicLR(0.1, 1.0, 50), RISES),
    'CyclicLR(..., "triangular2")': (optim.CyclicLR(0.1, 1.0, 50, mode="triangular2"), RISES),
    'CyclicLR(..., "exp_range", 0.995)': (optim.CyclicLR(0.1, 1.0, 50, mode="exp_range", gamma=0.995), RISES),
    "OneCycleLR()": (optim.OneCycleLR(), RISES),
    "Warmup(5, CosineAnnealingLR())": (optim.Warmup(5, optim.CosineAnnealingLR()), JOINS),
    "ChainedScheduler(LinearLR, StepLR)": (
        optim.ChainedScheduler((optim.LinearLR(0.2, 1.0, 8), optim.StepLR(15, gamma=0.5))),
        JOINS,
    ),
    "SequentialLR(ConstantLR, ExponentialLR)": (
        optim.SequentialLR((optim.ConstantLR(0.4, 99), optim.ExponentialLR(0.9)), milestones=(12,)),
        JOINS,
    ),
    "ReduceLROnPlateau(0.5, patience=3)": (optim.ReduceLROnPlateau(0.5, patience=3), FOLLOWS),
}


def losses() -> np.ndarray:
    """A validation loss that falls, stands still, and falls again when the rate does."""
    epochs = np.arange(EPOCHS)
    noise = 0.02 * np.sin(3.7 * epochs) * np.cos(1.3 * epochs)
    return np.maximum(0.45, 0.95 * 0.8**epochs) - 0.15 * (epochs > 18) - 0.1 * (epochs > 27) + noise


def curve(schedule: Schedule) -> np.ndarray:
    """The factor at each step of the run.   -> [EPOCHS * STEPS]"""
    at = jax.jit(jax.vmap(lambda s, epoch, step: s.factor(epoch, step, STEPS, EPOCHS), in_axes=(None, None, 0)))
    memory, factors = schedule.memory(), []
    for epoch, loss in enumerate(losses()):
        steps = epoch * STEPS + jnp.arange(STEPS)
        factors.append(at(schedule.given(memory), jnp.int32(epoch), steps))
        memory = schedule.after(memory, {"valid_loss": (jnp.float32(loss), False)})
    return np.concatenate(factors)


def draw():  # the figure
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "derin", "font.size": 9})  # the same file from the same curves
    from matplotlib import pyplot

    time = np.arange(EPOCHS * STEPS) / STEPS
    figure, panels = pyplot.subplots(5, 4, figsize=(12, 10.5), sharex=True, sharey=True, layout="constrained")
    for (title, (schedule, colour)), panel in zip(CURVES.items(), panels.flat, strict=True):
        panel.axhline(0, color="0.75", lw=0.7, zorder=0)
        panel.plot(time, curve(schedule), color=colour, lw=2)
        if schedule.monitors():
            panel.plot(np.arange(EPOCHS) + 1, losses(), color="0.3", lw=1.1, ls=(0, (3, 1.5)))
            panel.annotate("validation loss", (3, 0.32), color="0.3", fontsize=8.5)
        panel.set_title(title, fontsize=9.5)
        panel.set_xlim(0, EPOCHS)
        panel.set_ylim(-0.04, 1.07)
        panel.set_xticks([0, 10, 20, 30, 40])
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("epoch")
    figure.supylabel("factor of the learning rate")
    return figure


if __name__ == "__main__":
    draw().savefig(PICTURE, metadata={"Date": None})
