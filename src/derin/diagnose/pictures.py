"""Pictures of health: each layer over the epochs. They need matplotlib, as those of a search do.

from derin.diagnose import health_pictures
from derin.tune.pictures import save
save(health_pictures(run), "pictures")                    # pictures/gradients.svg, ...
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from derin.errors import RunError
from derin.tune.axis import tail, text
from derin.tune.drawing import BEST, DONE, FAILED, FAINT, HEIGHT, WIDTH, figure_of, say, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED = 9  # lines that a legend names; of more, the first and the last layers
DEPTH = ("#5b2a86", DONE, "#2a9d74", BEST)  # from the first layer to the last
USUAL = 1e-3  # an update is about this share of the weights where learning goes well


def health_pictures(run: Any) -> dict[str, Figure]:
    """All of them, by the name of their file.   Raises RunError for a run without health records"""
    health = list(run.health)
    if not health:
        raise RunError(
            "this run has no health records: it was trained with health=False, or by an older derin. Train it again "
            "with health=True for pictures of its layers."
        )
    made = {
        "gradients": _weights(health, "gradient", "gradient norm of each weight", matrices=True),
        "zeros": _zeros(health),
        "updates": _weights(health, "update", "update as a share of the weight", matrices=True, guide=USUAL),
        "weights": _weights(health, "norm", "norm of each weight", matrices=True),
        "outputs": _outputs(health),
        "units": _units(health),
        "modes": _modes(health),
    }
    return made


def _weights(
    health: Sequence[Mapping[str, Any]], of: str, title: str, matrices: bool, guide: float | None = None
) -> Figure:
    """One number of each weight, a line each, on a logarithmic scale."""
    names = [n for n in health[0]["weights"] if not matrices or not n.endswith("bias")]
    series = {n: [line["weights"].get(n, {}).get(of, math.nan) for line in health] for n in names}
    with styled():
        figure = figure_of(WIDTH, HEIGHT)
        panel = figure.subplots()
        drawn = _lines(panel, _epochs(health), series, log=True)
        if not drawn:
            return say(panel, f"{title}: all are 0, or not finite")
        if guide is not None:
            low, high = panel.get_ylim()
            panel.axhline(guide, color=FAINT, lw=0.8, ls=(0, (4, 3)), zorder=0)
            panel.set_ylim(min(low, guide / 2), max(high, guide * 2))
            panel.annotate(f"{guide:g} is usual", (1, guide), (-2, 2), xycoords=("axes fraction", "data"),
                           textcoords="offset points", ha="right", color=FAINT, fontsize=8)  # fmt: skip
        _named(panel, title)
    return figure


def _outputs(health: Sequence[Mapping[str, Any]]) -> Figure:
    """Mean and deviation of each layer's outputs."""
    names = list(health[0]["layers"])
    with styled():
        figure = figure_of(WIDTH, 1.7 * HEIGHT)
        above, below = figure.subplots(2, 1, sharex=True)
        for panel, of, title in ((above, "mean", "mean of each layer's outputs"), (below, "deviation", "deviation")):
            series = {n: [line["layers"].get(n, {}).get(of, math.nan) for line in health] for n in names}
            if not _lines(panel, _epochs(health), series, log=of == "deviation"):
                say(panel, f"{title}: all are 0, or not finite")
            _named(panel, title, legend=of == "mean", axis=of == "deviation")
    return figure


def _units(health: Sequence[Mapping[str, Any]]) -> Figure:
    """Shares of dead units and of saturated outputs."""
    with styled():
        figure = figure_of(WIDTH, HEIGHT)
        panel = figure.subplots()
        series = {}
        for of in ("dead", "saturated"):
            for n in health[0]["layers"]:
                values = [line["layers"].get(n, {}).get(of, math.nan) for line in health]
                if np.nanmax([*values, 0.0]) > 0:
                    series[f"{n} {of}"] = [100 * v for v in values]
        if not series:
            return say(panel, "no unit was dead, no output saturated")
        _lines(panel, _epochs(health), series, log=False)
        panel.set_ylim(-3, 103)
        _named(panel, "% of a layer that is dead or saturated")
    return figure


def _zeros(health: Sequence[Mapping[str, Any]]) -> Figure:
    """Share of each weight's gradient that is 0: units that are dead, or inputs that never come."""
    series = {}
    for n in health[0]["weights"]:
        if not n.endswith("bias"):
            series[n] = [100 * line["weights"].get(n, {}).get("zeros", math.nan) for line in health]
    with styled():
        figure = figure_of(WIDTH, HEIGHT)
        panel = figure.subplots()
        if not _lines(panel, _epochs(health), series, log=False):
            return say(panel, "no weight was looked at, or its gradient was not finite")
        panel.set_ylim(-3, 103)
        _named(panel, "% of each weight's gradient that is 0")
    return figure


def _modes(health: Sequence[Mapping[str, Any]]) -> Figure:
    """The loss on the same rows in training and in evaluation mode; below, the norm and the noise of its gradient."""
    with styled():
        figure = figure_of(WIDTH, 1.7 * HEIGHT)
        panel, below = figure.subplots(2, 1, sharex=True)
        for name, colour, label, width in (
            ("train_mode_loss", FAILED, "in training mode", 3.2),  # the other one may lie upon it
            ("eval_mode_loss", DONE, "in evaluation mode", 1.2),
        ):
            values = [line[name] for line in health]
            panel.plot(_epochs(health), values, color=colour, marker="o", ms=1.6 * width, lw=width, label=label)
        _named(panel, "loss on the same training rows", axis=False, inside=True)
        series = {said: [line.get(f"gradient_{said}", math.nan) for line in health] for said in ("norm", "noise")}
        if not _lines(below, _epochs(health), series, log=True):
            say(below, "no gradient was finite")
        _named(below, "the whole gradient", inside=True)
    return figure


def _epochs(health: Sequence[Mapping[str, Any]]) -> list[int]:
    return [line["epoch"] for line in health]


def _lines(panel: Axes, epochs: list[int], series: Mapping[str, Sequence[float]], log: bool) -> int:
    """A line a layer, coloured by its depth; how many had something to draw."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("depth", DEPTH)
    kept = {n: np.array(v, float) for n, v in series.items()}
    kept = {n: np.where(np.isfinite(v) & ((v > 0) | (not log)), v, np.nan) for n, v in kept.items()}
    kept = {n: v for n, v in kept.items() if np.isfinite(v).any()}
    named = set(kept) if len(kept) <= NAMED else {*list(kept)[: NAMED // 2], *list(kept)[-(NAMED // 2) :]}
    for i, (name, values) in enumerate(kept.items()):
        colour = shades(i / max(1, len(kept) - 1))
        label = tail(name, 22) if name in named else "_"
        panel.plot(epochs, values, color=colour, marker="o", ms=2.6, lw=1.3, label=label)
    if log and kept:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=8))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda v, _: text(float(f"{v:.3g}"))))  # 10^-3 would be code
        panel.yaxis.set_minor_formatter(NullFormatter())
    return len(kept)


def _named(panel: Axes, title: str, legend: bool = True, axis: bool = True, inside: bool = False) -> None:
    panel.set_title(title)
    panel.margins(x=0.02)
    if axis:
        panel.set_xlabel("epoch")
        from matplotlib.ticker import MaxNLocator

        panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    if legend and panel.get_legend_handles_labels()[1]:
        if inside:
            panel.legend(loc="best", handlelength=1.2)
        else:
            panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)
