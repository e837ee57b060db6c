"""Pictures of a report as SVG text, drawn here: small, without matplotlib, in the colours of the page's style.

Each is as wide as a phone shows it at its own size; colours are classes of the style sheet (look.py): one picture
serves light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from derin.tune.axis import Axis, axis_of, shortened, tail, text

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 12, 38
POINTS = 300  # of a line; more are not seen

Point = tuple[float, float]


def lines(
    series: Mapping[str, Sequence[Point]],
    x_label: str,
    label: str,
    *,
    marks: Sequence[tuple[float, str]] = (),
    log: bool | None = None,
    diagonal: bool = False,
    y_range: tuple[float, float] | None = None,
) -> str:
    """Curves over x, with a legend where there are several.

    marks: places of x to draw a line at, and what it says. log: None for a logarithmic y where the values span a factor
    of 50. diagonal: y = x as well.
    """
    shown = {name: _thinned([p for p in points if _finite(p)]) for name, points in series.items()}
    values = [y for points in shown.values() for _, y in points]
    if not values:
        return ""
    if log is None:
        log = min(values) > 0 and max(values) > 50 * min(values)
    xs = [x for points in shown.values() for x, _ in points]
    frame = _Frame(axis_of("", [min(xs), max(xs)]), _y_axis(values, log, y_range))
    body = [frame.axes(x_label)]
    if diagonal:
        body.append(
            f'<path class="faint dash" d="{frame.path([(frame.x.low, frame.x.low), (frame.x.high, frame.x.high)])}"/>'
        )
    for x, said in marks:
        at = frame.at_x(x)
        body.append(
            f'<path class="faint dash" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"><title>{escape(said)}</title></path>'
        )
    for i, (name, points) in enumerate(shown.items()):
        body.append(f'<path class="line c{i}" d="{frame.path(points)}"><title>{escape(name)}</title></path>')
        if len(points) <= 12:
            body += [_dot(*frame.at(p), f"c{i}", f"{name}: {text(float(f'{p[1]:.4g}'))}") for p in points]
    names = list(shown) if len(shown) > 1 else []
    return _svg("".join(body) + _legend(names), label)


def scatter(points: Sequence[Point], x_label: str, label: str, *, diagonal: bool = False, zero: bool = False) -> str:
    """A mark a row. diagonal: y = x, on one scale for both; zero: a line at y = 0."""
    points = [p for p in points if _finite(p)]
    if not points:
        return ""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if diagonal:
        xs = ys = [*xs, *ys]
    frame = _Frame(axis_of("", xs), _y_axis([*ys, 0.0] if zero else ys, False, None))
    low, high = frame.x.low, frame.x.high
    body = [frame.axes(x_label)]
    if diagonal or zero:
        ends = [(low, low), (high, high)] if diagonal else [(low, 0.0), (high, 0.0)]
        body.append(f'<path class="dash" d="{frame.path(ends)}"/>')
    places = " ".join(f"M{x:.1f} {y:.1f}h0" for x, y in map(frame.at, points))  # round caps: dots, in one path
    body.append(f'<path class="dots c0" d="{places}"/>')
    return _svg("".join(body), label)


def histogram(values: Sequence[float], x_label: str, label: str, bins: int = 24) -> str:
    """How many values lie where."""
    values = [v for v in values if math.isfinite(v)]
    if not values:
        return ""
    axis = axis_of("", values)
    width = (axis.high - axis.low) / bins
    counts = [0] * bins
    for v in values:
        counts[min(bins - 1, max(0, int((v - axis.low) / width)))] += 1
    frame = _Frame(axis, Axis("", "linear", 0.0, 1.05 * max(counts)))
    body = [frame.axes(x_label)]
    for i, n in enumerate(counts):
        (x0, y0), (x1, y1) = frame.at((axis.low + i * width, 0.0)), frame.at((axis.low + (i + 1) * width, float(n)))
        if n:
            body.append(_box(x0, y1, max(0.5, x1 - x0 - 1), y0 - y1, str(n)))
    return _svg("".join(body), label)


def reliability(bins: Sequence[tuple[float, float, float, float, int]], x_label: str, y_label: str, label: str) -> str:
    """(predicted, share, low, high, rows) a bin, with its interval; marks as large as they have rows."""
    frame = _Frame(Axis("", "linear", 0.0, 1.0), Axis("", "linear", 0.0, 1.0))
    most = max((b[4] for b in bins), default=1)
    body = [frame.axes(x_label, y_label), f'<path class="dash" d="{frame.path([(0.0, 0.0), (1.0, 1.0)])}"/>']
    for predicted, share, low, high, rows in bins:
        x, y = frame.at((predicted, share))
        (_, bottom), (_, top) = frame.at((predicted, low)), frame.at((predicted, high))
        radius = 2.5 + 4 * math.sqrt(rows / most)
        body.append(f'<path class="bar c0" d="M{x:.1f} {bottom:.1f}V{top:.1f}"/>')
        body.append(_dot(x, y, "c0", f"{share:.1%} / {predicted:.1%}, n = {rows}", radius))
    return _svg("".join(body), label)


def intervals(rows: Sequence[tuple[str, float, float, float]], label: str, zero: bool = True) -> str:
    """(name, value, low, high) a row, as a mark with its interval, the names above them."""
    rows = [r for r in rows if all(math.isfinite(v) for v in r[1:])]
    if not rows:
        return ""
    values = [v for r in rows for v in r[1:]] + ([0.0] if zero else [])
    axis = axis_of("", values)
    step, top = 30, 8
    height = top + step * len(rows) + 26
    span = WIDTH - 2 * RIGHT - 16

    def at(v: float) -> float:
        return RIGHT + 8 + axis.share(v) * span

    body = []
    if zero:
        body.append(f'<path class="faint" d="M{at(0.0):.1f} {top}V{height - 26}"/>')
    for i, (name, value, low, high) in enumerate(rows):
        y = top + step * i + 21
        said = f"{name}: {value:.4g} ({low:.4g} - {high:.4g})"
        body.append(f'<text x="{RIGHT}" y="{y - 8}">{escape(shortened(name, 52))}</text>')
        body.append(f'<text class="num" x="{WIDTH - RIGHT}" y="{y - 8}">{escape(text(float(f"{value:.3g}")))}</text>')
        body.append(f'<path class="bar c0" d="M{at(low):.1f} {y}H{at(high):.1f}"/>')
        body.append(_dot(at(value), y, "c0", said, 4))
    for place, said in axis.ticks(5):
        body.append(f'<text class="tick mid" x="{at(place):.1f}" y="{height - 8}">{escape(said)}</text>')
    return _svg("".join(body), label, height)


def cells(values: Sequence[Sequence[float]], label: str, top: float | None = None, titles: Sequence[str] = ()) -> str:
    """A grid of shades, rows from the top, the darkest at `top` (the largest value). titles: of the rows."""
    flat = [v for row in values for v in row if math.isfinite(v)]
    if not flat:
        return ""
    top = top or max(flat) or 1.0
    count, across = len(values), max(map(len, values))
    side = 120 if titles else 4
    tall = min(22.0, 320 / count)
    height = count * tall + 8
    wide = (WIDTH - side - 4) / across
    body = []
    for i, row in enumerate(values):
        if titles:
            body.append(_word(side - 6, 4 + i * tall + tall / 2 + 3.5, tail(titles[i], 17), "tick end"))
        for j, v in enumerate(row):
            if math.isfinite(v) and v > 0:
                shade = max(0.03, min(1.0, v / top))
                said = text(float(f"{v:.3g}"))
                body.append(
                    _box(side + j * wide, 4 + i * tall, wide - 0.3, tall - 0.5, said, f' opacity="{shade:.2f}"')
                )
    body.append(f'<rect class="frame" x="{side}" y="4" width="{WIDTH - side - 4}" height="{count * tall:.1f}"/>')
    return _svg("".join(body), label, height)


# -- parts


class _Frame:
    """The axes of a picture, and where a point stands in it."""

    def __init__(self, x: Axis, y: Axis) -> None:
        self.x, self.y = x, y

    def at_x(self, x: float) -> float:
        return LEFT + self.x.share(self.x.place(x)) * (WIDTH - LEFT - RIGHT)

    def at(self, point: Point) -> Point:
        share = min(1.02, max(-0.02, self.y.share(self.y.place(point[1]))))
        return self.at_x(point[0]), HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)

    def path(self, points: Sequence[Point]) -> str:
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in map(self.at, points))

    def axes(self, x_label: str, y_label: str = "") -> str:
        bottom = HEIGHT - BOTTOM
        found = []
        for place, said in self.y.ticks(5):
            y = bottom - self.y.share(place) * (bottom - TOP)
            found.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
            found.append(f'<text class="tick end" x="{LEFT - 6}" y="{y + 3.5:.1f}">{escape(said)}</text>')
        for place, said in self.x.ticks(6):
            x = LEFT + self.x.share(place) * (WIDTH - LEFT - RIGHT)
            found.append(f'<text class="tick mid" x="{x:.1f}" y="{bottom + 16}">{escape(said)}</text>')
        found.append(f'<path class="faint" d="M{LEFT} {bottom}H{WIDTH - RIGHT}"/>')
        found.append(
            f'<text class="tick mid" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}">{escape(x_label)}</text>'
        )
        if y_label:
            middle = (TOP + bottom) / 2
            turned = f'<g transform="rotate(-90 12 {middle})">'
            found.append(f"{turned}{_word(12, middle, y_label, 'tick mid')}</g>")
        return "".join(found)


def _y_axis(values: Sequence[float], log: bool, given: tuple[float, float] | None) -> Axis:
    if given is not None:
        return Axis("", "linear", *given)
    axis = axis_of("", [min(values), max(values)], "log" if log else "linear")
    room = 0.04 * (axis.high - axis.low)
    return axis._replace(low=axis.low - room, high=axis.high + room)


def _svg(body: str, label: str, height: float = HEIGHT) -> str:
    return f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {WIDTH} {height:.0f}">{body}</svg>'


def _dot(x: float, y: float, colour: str, said: str, radius: float = 2.6) -> str:
    place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"'
    return f'<circle class="fill {colour}" {place}><title>{escape(said)}</title></circle>'


def _box(x: float, y: float, width: float, height: float, said: str, more: str = "") -> str:
    size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.2f}" height="{height:.1f}"'
    return f'<rect class="fill c0" {size}{more}><title>{escape(said)}</title></rect>'


def _word(x: float, y: float, said: str, classes: str = "") -> str:
    return f'<text class="{classes}" x="{x:.1f}" y="{y:.1f}">{escape(said)}</text>'


def _legend(names: Sequence[str]) -> str:
    """At the top right, inside: curves mostly leave it free."""
    found = []
    for i, name in enumerate(names):
        y = TOP + 12 + 15 * i
        found.append(f'<path class="line c{i}" d="M{WIDTH - RIGHT - 18} {y - 4}h18"/>')
        found.append(
            f'<text class="tick end halo" x="{WIDTH - RIGHT - 23}" y="{y}">{escape(shortened(name, 30))}</text>'
        )
    return "".join(found)


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most POINTS of a long line, its first and last among them."""
    if len(points) <= POINTS:
        return list(points)
    step = (len(points) - 1) / (POINTS - 1)
    return [points[round(i * step)] for i in range(POINTS)]


def _finite(point: Point) -> bool:
    return all(v is not None and math.isfinite(v) for v in point)
