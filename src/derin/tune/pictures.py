"""Pictures of a search: what each hyperparameter did, which trials learned, and how fast the best was found.

seen = Search(trials, "valid_accuracy", greater=True, scales={"optimizer.learning_rate": "log"})
save(pictures(seen), "study/pictures")                # study/pictures/curves.svg, ...
Path("study/report.html").write_text(page(seen))      # derin.tune.page: all in one file

trials: dicts of
    number   which trial                              state    "finished", "pruned", "diverged" or "unfinished"
    values   path -> number or label                  epochs   how many it trained
    score    the metric; None or nan if diverged      curve    the metric after each epoch
    seconds  from the start of the search to the end of the trial
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from derin.errors import RunError
from derin.report.words import words
from derin.tune.axis import Axis, axis_of, tail
from derin.tune.drawing import (
    BEST,
    BOX,
    DONE,
    FAINT,
    HEIGHT,
    LOOKS,
    WIDTH,
    clipped,
    colourbar,
    colours_of,
    fence,
    figure_of,
    folded,
    label_axis,
    legend,
    limit,
    marks,
    say,
    spread,
    styled,
    svg,
    times,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS = 5000  # points in all panels together; more are thinned out
LINES = 240  # learning curves drawn; lines across parallel axes
PLACES = 60  # points of a learning curve
ACROSS = 12  # parallel axes


class Search(NamedTuple):
    """What the pictures show.

    metric: its name; greater: is more of it better? scales: path -> "linear", "log", "one_minus_log" or
    "choice". importance: path -> share of the metric's variance, as Study.importance() gives it."""

    trials: Sequence[dict[str, Any]]
    metric: str
    greater: bool
    scales: dict[str, str]
    importance: dict[str, float] = {}  # noqa: RUF012  never changed
    lang: str = "en"  # of what the pictures say
    unseen: int = 0  # trials beside these that never trained: refused, or stopped before their first epoch

    @property
    def paths(self) -> list[str]:
        """The hyperparameters that any trial has, the most important first."""
        here = {path for t in self.trials for path in t["values"]}
        order = [*self.scales, *sorted(here - set(self.scales))]
        return sorted((p for p in order if p in here), key=lambda p: -self.importance.get(p, 0))

    @property
    def axes(self) -> list[Axis]:
        return [axis_of(p, [t["values"].get(p) for t in self.trials], self.scales.get(p)) for p in self.paths]

    @property
    def best(self) -> dict[str, Any] | None:
        """The best finished trial; if none was finished, of those that were not pruned, and then of all."""
        here = [t for t in self.trials if math.isfinite(score(t))]
        for state in ("finished", "unfinished"):
            if some := [t for t in here if t["state"] == state]:
                return min(some, key=self.loss)
        return min(here, key=self.loss, default=None)

    def say(self, key: str, **values: Any) -> str:
        """A text of the pictures in their language."""
        return words(self.lang)(f"pictures.{key}", **values)

    def loss(self, trial: dict[str, Any]) -> float:
        """To be sorted by: the least is the best."""
        return -score(trial) if self.greater else score(trial)


def score(trial: dict[str, Any]) -> float:
    """Of a trial; nan for one that has none or diverged."""
    found = trial["score"]
    return float(found) if found is not None and trial["state"] != "diverged" and math.isfinite(found) else math.nan


def pictures(search: Search) -> dict[str, Figure]:
    """All of them, by the name of their file. Importance only where it is known."""
    made = {
        "best": best_so_far(search),
        "hyperparameters": hyperparameters(search),
        "parallel": parallel(search),
        "curves": curves(search),
        "rungs": rungs(search),
    }
    for figure in made.values() if search.unseen else ():
        _tell_unseen(figure, search)
    return made | ({"importance": importance(search)} if search.importance else {})


def save(
    figures: dict[str, Figure], folder: str | Path, format: Literal["svg", "png"] = "svg"
) -> list[Path]:  # the argument's name is matplotlib's
    """Writes NAME.svg or NAME.png for each figure, and gives the paths. The same figures give the same bytes."""
    if format not in ("svg", "png"):
        raise RunError(f"format must be 'svg' or 'png', got {format!r}.")
    Path(folder).mkdir(parents=True, exist_ok=True)
    found = []
    for name, figure in figures.items():
        found.append(Path(folder) / f"{name}.{format}")
        if format == "svg":
            found[-1].write_text(svg(figure), encoding="utf-8")
        else:
            with styled():
                figure.savefig(found[-1], format="png", dpi=160, facecolor="white")
    return found


# -- the pictures


def hyperparameters(search: Search) -> Figure:
    """The metric against each hyperparameter on its own scale, a panel each."""
    axes = search.axes
    columns = min(3, max(1, len(axes)))
    rows = max(1, math.ceil(len(axes) / columns))
    with styled():
        figure = figure_of(3.5 * columns, 2.7 * rows)
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for panel, axis in zip(panels.flat, axes, strict=False):
            _against(panel, search, axis)
        for panel in panels.flat[len(axes) :]:
            panel.set_visible(not axes)
        if not axes:
            say(panels[0, 0], search.say("no_hyperparameter"))
        for panel in panels[:, 0]:
            panel.set_ylabel(search.metric)
    return figure


def hyperparameter(search: Search, axis: Axis) -> Figure:
    """One of these panels."""
    with styled():
        figure = figure_of(4.2, 3.0)
        panel = figure.subplots()
        _against(panel, search, axis)
        panel.set_ylabel(search.metric)
    return figure


def _against(panel: Axes, search: Search, axis: Axis) -> None:
    low, high = _range(search)
    shown = thinned(search, max(100, MARKS // max(1, len(search.paths))))
    for state, look in LOOKS.items():
        mine = [t for t in shown if t["state"] == state]
        x = axis.places([t["values"].get(axis.path) for t in mine])
        if axis.labels:
            x = x + spread([t["number"] for t in mine])
        y = np.array([clipped(score(t), low, high, search.greater) for t in mine])
        here = np.isfinite(x)
        marks(panel, x[here], y[here], look, f"{state}-{axis.path}")
    if (best := search.best) is not None:
        x = axis.places([best["values"].get(axis.path)])
        if axis.labels:
            x = x + spread([best["number"]])
        panel.plot(x, [score(best)], "o", ms=9, mfc="none", mec=BEST, mew=2, zorder=5, gid=f"best-{axis.path}")
    panel.set_title(tail(axis.path, 30))
    label_axis(panel, axis)
    limit(panel, low, high)


def parallel(search: Search) -> Figure:
    """One line a trial across all hyperparameters and the metric, coloured by the metric."""
    axes = search.axes[:ACROSS]
    finished = [t for t in search.trials if math.isfinite(score(t))]
    low, high = _range(search)
    measured = Axis(search.metric, "linear", low, high)
    with styled():
        figure = figure_of(max(WIDTH, 1.25 * (len(axes) + 1.4)), 3.9)
        panel = figure.subplots()
        if not finished or not axes:
            return say(panel, search.say("no_score"))
        from matplotlib.collections import LineCollection

        shown = thinned(search._replace(trials=finished), LINES)[::-1]  # the best on top
        y = [a.shares([t["values"].get(a.path) for t in shown]) for a in axes]
        bundle = 0.1 * spread([t["number"] for t in shown])  # or all lines of a label would be one
        absent = [(s < 0).any() for s in y]
        y = [s + bundle * (s >= 0) if a.labels else s for s, a in zip(y, axes, strict=True)]
        y.append(_merit(search, shown))  # the best is at the top
        points = np.stack([np.broadcast_to(np.arange(len(y)), (len(shown), len(y))), np.stack(y, 1)], -1)
        rank = np.linspace(0, 1, len(shown)) ** 4  # few lines stand out
        colours = colours_of(_merit(search, shown))
        colours[:, 3] = 0.3 + 0.6 * rank
        panel.add_collection(LineCollection(list(points), colors=colours, linewidths=0.6 + rank, gid="lines"))
        if (best := search.best) in shown:
            panel.plot(points[shown.index(best)][:, 0], points[shown.index(best)][:, 1], color=BEST, lw=2.4, gid="best")
        for i, axis in enumerate([*axes, measured]):
            panel.plot([i, i], [0, 1], color=FAINT, lw=1, zorder=3)
            ticks = [(axis.share(place), label) for place, label in axis.ticks(7, 12)]
            if axis is measured and not search.greater:
                ticks = [(1 - share, label) for share, label in ticks]
            if i < len(axes) and absent[i]:
                ticks.append((-0.12, search.say("not_set")))
            for share, label in ticks:
                text = panel.annotate(label, (i, share), (4, 0), textcoords="offset points", va="center")
                text.set(fontsize=8, zorder=6, bbox=BOX)
                panel.plot([i - 0.02, i + 0.02], [share, share], color=FAINT, lw=1, zorder=3)
        names = [folded(a.path, 15) for a in axes] + [folded(search.metric, 15)]
        panel.set_xticks(range(len(names)), names, fontsize=8.5)
        panel.get_xticklabels()[-1].set_fontweight("bold")
        panel.tick_params(length=0)
        panel.set_yticks([])
        panel.set(xlim=(-0.35, len(axes) + 0.6), ylim=(-0.18 if any(absent) else -0.04, 1.04))
        panel.spines[:].set_visible(False)
        panel.set_title(search.say("parallel") + _of(search, len(shown), len(finished)))
    return figure


def curves(search: Search) -> Figure:
    """The metric after each epoch; pruned trials faded."""
    with styled():
        figure = figure_of(WIDTH, HEIGHT)
        panel = figure.subplots()
        here = [t for t in search.trials if np.isfinite(np.asarray(t["curve"], float)).any()]
        if not here:
            return say(panel, search.say("no_epoch"))
        from matplotlib.collections import LineCollection
        from matplotlib.ticker import MaxNLocator

        shown = thinned(search._replace(trials=here), LINES)
        low, high = fence([v for t in here for v in t["curve"]], search.greater)
        best = search.best
        for state, look in LOOKS.items():
            lines = [_curve(t["curve"], low, high) for t in shown if t["state"] == state]
            alpha = 0.4 if state in ("pruned", "unfinished") else look.alpha * (1 if len(lines) < 30 else 0.6)
            panel.add_collection(
                LineCollection(lines, colors=look.colour, alpha=alpha, linewidths=look.width, gid=f"curves-{state}")
            )
            ends = np.array([line[-1] for line in lines if len(line) == 1 or state == "diverged"]).reshape(-1, 2)
            marks(panel, ends[:, 0], ends[:, 1], look, f"ends-{state}")
        if best is not None and best["curve"]:
            line = _curve(best["curve"], low, high)
            panel.plot(*line.T, color=BEST, lw=2.2, gid="best", marker="o" if len(line) == 1 else None)
        title = search.say("curves") + _of(search, len(shown), len(here))
        panel.set(xlabel="epoch", ylabel=search.metric, title=title)
        longest = max(len(t["curve"]) for t in here)
        panel.set_xlim(1 - 0.02 * longest, longest + 0.02 * longest)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        limit(panel, low, high)
        _legend(figure, search)
    return figure


def importance(search: Search) -> Figure:
    """How much of the metric's variance each hyperparameter explains, the largest first."""
    order = sorted(search.importance.items(), key=lambda item: -item[1])
    with styled():
        figure = figure_of(WIDTH, 0.9 + 0.42 * max(1, len(order)))
        panel = figure.subplots()
        if not order:
            return say(panel, search.say("no_importance"))
        for i, (path, share) in enumerate(order):
            (bar,) = panel.barh(i, share, 0.42, color=DONE)
            bar.set_gid(f"bar-{path}")
            panel.annotate(tail(path, 52), (0, i - 0.26), (1, 0), textcoords="offset points", va="bottom")
            panel.annotate(f"{share:.0%}", (max(share, 0), i), (4, 0), textcoords="offset points", va="center")
        panel.set(ylim=(len(order) - 0.5, -0.85), xlim=(0, 1.12 * max(max(s for _, s in order), 1e-9)))
        panel.set_title(search.say("importance"))
        panel.set(xticks=[], yticks=[])
        panel.spines[["bottom"]].set_visible(False)
    return figure


def rungs(search: Search) -> Figure:
    """When each trial ended, and after how many epochs; coloured by the metric."""
    with styled():
        figure = figure_of(WIDTH, HEIGHT + 0.3)
        panel = figure.subplots()
        if not search.trials:
            return say(panel, search.say("no_end"))
        ended = [t["epochs"] for t in search.trials if t["state"] != "diverged"]  # a trial may diverge at any epoch
        levels = sorted(set(ended or [t["epochs"] for t in search.trials]))
        even = len(levels) <= 12  # a line for each rung; else as numbers
        seconds, unit = times([t["seconds"] for t in search.trials])
        height = np.array([t["epochs"] for t in search.trials], float)
        if even:
            height = np.interp(height, levels, np.arange(len(levels)))
            height += 0.9 * spread([t["number"] for t in search.trials])
        merit = _merit(search, search.trials)
        shown = {t["number"] for t in thinned(search, MARKS // 3)}
        for state, look in LOOKS.items():
            mine = [i for i in np.argsort(merit) if (t := search.trials[i])["state"] == state and t["number"] in shown]
            edges = look.colour if state == "diverged" else colours_of(merit[mine])
            found = look._replace(marker="o" if state == "pruned" else look.marker, face=None)
            marks(panel, seconds[mine], height[mine], found, f"rungs-{state}", colours=edges)
        if even:
            panel.set_yticks(range(len(levels)), [f"{n:,}" for n in levels])
            panel.set_ylim(-0.6, len(levels) - 0.4)
            for i, level in enumerate(levels):
                n = ended.count(level)
                panel.annotate(f"{n:,}", (1, i), (4, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                               va="center", color=FAINT)  # fmt: skip
        panel.set(xlabel=search.say(unit), ylabel=search.say("epochs_trained"))
        panel.set_title(search.say("ended_many" if even else "ended"))
        low, high = _range(search)
        colourbar(panel, search.metric, search.greater, low, high)
    return figure


def best_so_far(search: Search) -> Figure:
    """The best score known at each moment of the search."""
    with styled():
        figure = figure_of(WIDTH, HEIGHT)
        panel = figure.subplots()
        if search.best is None:
            return say(panel, search.say("no_score"))
        seconds, unit = times([t["seconds"] for t in search.trials])
        kinds = {search.best["state"]}
        scored = [i for i, t in enumerate(search.trials) if t["state"] in kinds and math.isfinite(score(t))]
        scored.sort(key=lambda i: seconds[i])
        x, y, least = [], [], math.inf
        for i in scored:
            if search.loss(search.trials[i]) < least:
                least = search.loss(search.trials[i])
                x.append(seconds[i])
                y.append(score(search.trials[i]))
        low, high = _range(search) if len(y) == 1 else (min(y), max(y))  # what is worse than the first is not shown
        shown = {t["number"] for t in thinned(search, MARKS // 5)}
        for state, look in LOOKS.items():
            mine = [i for i, t in enumerate(search.trials) if t["state"] == state and t["number"] in shown]
            tops = np.array([score(search.trials[i]) for i in mine])
            here = (tops >= low) & (tops <= high) if state != "diverged" else np.zeros(len(mine), bool)
            faded = look._replace(alpha=0.6 * look.alpha)
            marks(panel, seconds[mine][here], tops[here], faded, f"trials-{state}")
        panel.plot([*x, seconds.max()], [*y, y[-1]], color=BEST, lw=2.2, drawstyle="steps-post", gid="best")
        panel.plot(x, y, "o", color=BEST, ms=5, gid="improvements")
        panel.set(xlabel=search.say(unit), ylabel=search.metric, title=search.say("best_so_far"))
        panel.set_xlim(left=-0.02 * seconds.max())
        limit(panel, low, high)
        _legend(figure, search)
    return figure


# -- what they share


def thinned(search: Search, limit: int) -> list[dict[str, Any]]:
    """At most so many trials, the best first: the best quarter of them, and every so-manieth of the rest."""
    order = sorted(search.trials, key=lambda t: (math.isnan(score(t)), search.loss(t) if score(t) == score(t) else 0))
    if len(order) <= limit:
        return order
    kept = limit // 4
    rest = order[kept:]
    return order[:kept] + [rest[i] for i in np.linspace(0, len(rest) - 1, limit - kept).astype(int)]


def _range(search: Search) -> tuple[float, float]:
    return fence([score(t) for t in search.trials], search.greater)


def _merit(search: Search, trials: Sequence[dict[str, Any]]) -> np.ndarray:
    """0 for the worst, or no score; 1 for the best.   -> [n]"""
    low, high = _range(search)
    share = np.array([(clipped(score(t), low, high, search.greater) - low) / (high - low) for t in trials])
    return share if search.greater else 1 - share


def _curve(values: Sequence[float], low: float, high: float) -> np.ndarray:
    """Epochs and values of a learning curve, up to the first that is not finite.   -> [m, 2]"""
    y = np.asarray(values, float)
    finite = np.isfinite(y)
    y = y[: len(y) if finite.all() else int(np.argmin(finite))]
    at = np.unique(np.linspace(0, len(y) - 1, min(len(y), PLACES)).astype(int)) if len(y) else np.zeros(0, int)
    return np.stack([at + 1.0, np.clip(y[at], low, high)], 1)


def _of(search: Search, shown: int, all_of: int) -> str:
    return " " + search.say("drawn", shown=f"{shown:,}", of=f"{all_of:,}") if shown < all_of else ""


def _tell_unseen(figure: Figure, search: Search) -> None:
    """How many trials are in no picture: in the legend, or below a picture that has none."""
    told = search.say("unseen", n=f"{search.unseen:,}")
    with styled():
        if figure.legends:
            figure.legends[0].set_title(told)
            figure.legends[0].get_title().set(color=FAINT, fontsize=9)
        else:
            figure.supxlabel(told, color=FAINT, fontsize=9)


def _legend(figure: Figure, search: Search) -> None:
    best = search.best
    told = None if best is None else search.say("best_trial", number=best["number"])
    names = {state: words(search.lang)(f"state.{state}") for state in LOOKS}
    legend(figure, Counter(t["state"] for t in search.trials), told, names)
