"""How the pictures of a search are drawn: colours, marks, legends, and a figure as SVG text. It knows no trials."""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from derin.errors import RunError
from derin.tune.axis import Axis, shortened, tail

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, HALO = "#24292f", "#6e7781", "#fefefe"  # text, text of less weight, what is behind it
DONE, PRUNED, FAILED, BEST = "#2f81c7", "#8f98a3", "#d1453b", "#e8710a"  # seen on white and on black
MERIT = (PRUNED, "#4f9fd6", "#2a9d74", BEST)  # from the worst to the best
WIDTH, HEIGHT = 5.4, 3.3  # inches: as wide as a phone's screen at 10 points

STYLE: dict[str, Any] = {
    "font.size": 10, "font.family": "DejaVu Sans", "axes.titlesize": 10.5, "axes.titleweight": "bold",
    "axes.labelsize": 10, "xtick.labelsize": 9, "ytick.labelsize": 9, "legend.fontsize": 9, "legend.frameon": False,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT, "xtick.color": FAINT, "ytick.color": FAINT,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.facecolor": "none", "axes.titlelocation": "left",
    "svg.hashsalt": "derin", "svg.fonttype": "none", "text.parse_math": False,  # a name may hold a $
}  # fmt: skip


class Look(NamedTuple):
    """How a trial of one state is drawn."""

    colour: str
    marker: str
    size: float
    face: str | None  # None: the colour
    alpha: float
    width: float  # of its learning curve


LOOKS = {  # in the order of drawing
    "pruned": Look(PRUNED, "o", 3.5, "none", 0.75, 0.8),
    "unfinished": Look(PRUNED, "s", 3.5, "none", 0.75, 0.8),
    "diverged": Look(FAILED, "x", 4.5, None, 0.9, 0.8),
    "finished": Look(DONE, "o", 4.5, None, 0.85, 1.3),
}
BOX: dict[str, Any] = {"boxstyle": "square,pad=0.05", "fc": HALO, "ec": "none", "alpha": 0.75}


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise RunError("pictures need matplotlib: pip install derin[plots]") from None
    return matplotlib


def styled() -> Any:
    """with styled(): draws so. Raises RunError where there is no matplotlib."""
    return _matplotlib().rc_context(STYLE)


def figure_of(width: float, height: float) -> Figure:
    """Empty, in inches. Without pyplot, which would hold on to it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def say(panel: Axes, what: str) -> Figure:
    """A picture that says why it is empty."""
    panel.text(0.5, 0.5, what, ha="center", va="center", color=FAINT, transform=panel.transAxes)
    panel.set_axis_off()
    return panel.get_figure(root=True)  # type: ignore[return-value]


def fence(values: Sequence[float], greater: bool) -> tuple[float, float]:
    """The range worth drawing: a few absurdly bad scores do not press the others into a line."""
    here = np.array([v for v in values if v is not None and math.isfinite(v)], float)
    if not len(here):
        return 0.0, 1.0
    q1, q3 = np.quantile(here, [0.25, 0.75])
    low, high = float(here.min()), float(here.max())
    if q3 > q1 and greater:
        low = max(low, float(q1 - 4 * (q3 - q1)))
    elif q3 > q1:
        high = min(high, float(q3 + 4 * (q3 - q1)))
    return (low, high) if high > low else (low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1))


def svg(figure: Figure, background: str = "white") -> str:
    """A figure as SVG text: words stay words, and equal marks are written with one style, a third of the size."""
    file = io.StringIO()
    with styled():
        figure.savefig(file, format="svg", facecolor=background, metadata={"Date": None, "Creator": None})
    lines = (line.strip() for line in file.getvalue().splitlines())
    written = []
    for look, run in itertools.groupby(lines, _look_of_mark):
        uses = list(run)
        if look and len(uses) > 1:
            uses = [f'<g style="{look}">', *(line.replace(f' style="{look}"', "") for line in uses), "</g>"]
        written += uses
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), "\n".join(written))
    return text.replace("font-family: 'DejaVu Sans'", "font-family: 'DejaVu Sans', Verdana, sans-serif")


def _look_of_mark(line: str) -> str:
    found = re.search(r'^<use [^>]* style="([^"]*)"/>$', line)
    return found[1] if found else ""


# -- parts of a picture


def clipped(value: float, low: float, high: float, greater: bool) -> float:
    """What lies outside stands at the edge; so does a trial without a score, at the worse one."""
    return min(max(value, low), high) if value == value else (low if greater else high)


def limit(panel: Axes, low: float, high: float) -> None:
    """The range of the metric, with a little room."""
    panel.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))


def _map() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("merit", MERIT)


def colours_of(merit: np.ndarray) -> np.ndarray:
    """In 24 shades: equal ones are written once.   [n] -> [n, 4]"""
    return np.asarray(_map()(np.round(23 * merit) / 23)).reshape(-1, 4)


def colourbar(panel: Axes, metric: str, greater: bool, low: float, high: float) -> None:
    """What the colours mean, beside the panel."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    shades = _map() if greater else _map().reversed()
    bar = panel.figure.colorbar(
        ScalarMappable(Normalize(low, high), shades), ax=panel, fraction=0.05, pad=0.1, aspect=30
    )
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label(metric, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.solids.set(gid="shades", rasterized=True)  # type: ignore[union-attr]


def marks(panel: Axes, x: Any, y: Any, look: Look, gid: str, colours: Any = None) -> None:
    """A group of marks; colours: of each, over those of the look."""
    if len(x):
        edge = look.colour if colours is None else colours
        face: dict[str, Any] = {} if look.marker == "x" else {"facecolors": look.face or edge}
        edges: dict[str, Any] = {"color": edge} if look.marker == "x" else {"edgecolors": edge}
        shape: dict[str, Any] = {"marker": look.marker, "alpha": look.alpha, "linewidths": 0.9}
        panel.scatter(x, y, look.size**2, clip_on=False, gid=gid, **shape, **face, **edges)


def legend(figure: Figure, counts: Mapping[str, int], best: str | None, names: Mapping[str, str]) -> None:
    """How many trials of each state, and which was the best, below the panel. names: what the states are called."""
    from matplotlib.lines import Line2D

    handles = []
    for state, look in reversed(LOOKS.items()):
        if counts.get(state):
            face = look.face or look.colour
            line = Line2D([], [], color=look.colour, marker=look.marker, ms=look.size, mfc=face, lw=0, alpha=look.alpha)
            line.set_label(f"{counts[state]:,} {names[state]}")
            handles.append(line)
    if best is not None:
        handles.append(Line2D([], [], color=BEST, lw=2.2, label=best))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), handletextpad=0.3, columnspacing=1.2)


def label_axis(panel: Axes, axis: Axis) -> None:
    """The axis of a hyperparameter below its panel; long labels are turned."""
    found = axis.ticks(6)
    long = axis.labels and len(found) * max(min(len(label), 16) for _, label in found) > 34
    panel.set_xticks([place for place, _ in found], [shortened(label, 16) for _, label in found])
    if long:
        for label in panel.get_xticklabels():
            label.set(rotation=25, ha="right", rotation_mode="anchor", fontsize=8)
    margin = 0.5 if axis.labels else 0.05 * (axis.high - axis.low)
    panel.set_xlim(axis.low - margin, axis.high + margin)


def spread(numbers: Sequence[int]) -> np.ndarray:
    """Marks of one place beside each other, the same each time: the golden ratio.   -> [n] within -0.3 ... 0.3"""
    return 0.6 * ((np.asarray(numbers, float) * 0.6180339887 + 0.5) % 1 - 0.5)


def times(seconds: Sequence[float]) -> tuple[np.ndarray, str]:
    """In the unit that suits the longest: "hours", "minutes" or "seconds"."""
    found = np.asarray(seconds, float)
    most = found.max(initial=0)
    unit, size = next(((u, s) for u, s in (("hours", 3600), ("minutes", 60)) if most >= 2 * s), ("seconds", 1))
    return found / size, unit


def folded(path: str, width: int) -> str:
    """A path in up to three lines, cut at its dots."""
    lines = [""]
    for piece in path.replace(".", ".\0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(tail(line, width) for line in ([lines[0], "…", lines[-1]] if len(lines) > 3 else lines))
