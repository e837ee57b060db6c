"""The graph of a computation as SVG: a box an operation, values on the edges, gradients under them (S2.09, S4.20).

Short computations run from left to right, as in the course; long ones from top to bottom. From 60 boxes on, a box is
a layer.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from derin.trace.formulas import CALLED, INFIX, PLUMBING, formula
from derin.trace.numbers import number, numbers_in
from derin.trace.result import Trace
from derin.trace.steps import Step, Value

MOST_BOXES = 60
LETTER = 6.65  # points of a monospaced letter of 11 points
GAP, CURVE, BOX = 20.0, 44.0, 30.0  # between boxes, where edges bend, the least height of a box
LONGEST = 26  # letters in a box
STYLE = """
.derin-graph .box { fill: #f6f8fa; stroke: #6e7781; } .derin-graph .input { fill: #ddf4ff; }
.derin-graph .end { fill: #fff1e5; } .derin-graph .edge { fill: none; stroke: #6e7781; }
.derin-graph .page { fill: #ffffff; } .derin-graph text { fill: #24292f; }
.derin-graph text { font-size: 11px; font-family: "DejaVu Sans Mono", ui-monospace, monospace; }
.derin-graph .small { font-size: 9.5px; fill: #6e7781; } .derin-graph .gradient { fill: #c2410c; }
"""


@dataclass(eq=False)
class Box:
    """A box, or (with no lines) a bend of an edge that passes its rank."""

    lines: tuple[str, ...]
    kind: str = "box"
    into: list[Edge] = field(default_factory=list)
    out: list[Edge] = field(default_factory=list)
    rank: int = 0
    across: float = 0.0  # of its middle
    along: float = 0.0  # of its beginning
    title: str = ""

    @property
    def letters(self) -> int:
        return max(map(len, self.lines), default=0)


@dataclass(eq=False)
class Edge:
    begin: Box
    end: Box
    value: str = ""
    gradient: str = ""
    bends: list[Box] = field(default_factory=list)

    @property
    def letters(self) -> int:
        return max(len(self.value), len(self.gradient))


def as_svg(trace: Trace) -> str:
    """The graph; see Trace.to_svg."""
    boxes = _boxes(trace)
    ranks = _ranked(boxes)
    return _drawn(boxes, ranks, trace)


# -- what is drawn


def _boxes(trace: Trace) -> list[Box]:
    boxes = _by_step(trace)
    if len(boxes) <= MOST_BOXES:
        return boxes
    deepest = max(s.layer.count(".") for s in trace.steps) + 1
    for keep in (*((depth, True) for depth in range(deepest, 0, -1)), (1, False)):
        boxes = _by_layer(trace, *keep)
        if len(boxes) <= MOST_BOXES:
            return boxes
    return _by_layer(trace, 1, False, together=math.ceil(len(boxes) / (MOST_BOXES - 10)))


def _by_step(trace: Trace) -> list[Box]:
    """A box for each input and operation; those that only reshape are passed through."""
    made: dict[str, Box] = {}
    source: dict[str, Value] = {}  # a reshaped value -> the one that it came from
    boxes = []
    for v in trace.arguments:
        if v.numbers is not None:
            made[v.name] = Box((v.name, _short(v.array)) if v.size <= 4 else (v.name, _shape(v)), "input")
            boxes.append(made[v.name])
    for step in trace.steps:
        inputs = [v for v in step.inputs if v.kind != "constant" and v.numbers is not None]
        if step.operation in PLUMBING and len(inputs) == 1 and step.output is not trace.outputs[0]:
            source[step.output.name] = source.get(inputs[0].name, inputs[0])
            continue
        box = Box((_sign(step, source),), title=f"{step.number}: {step.source or ''}")
        for v in step.outputs:
            made[v.name] = box
        boxes.append(box)
        for i, v in enumerate(step.inputs):
            origin = source.get(v.name, v)
            if origin.name in made:
                sent = next((s.product for s in step.shares if s.position == i), None)
                _join(made[origin.name], box, origin, sent)
    _finish(trace, made, boxes)
    return [b for b in boxes if b.into or b.out]


def _by_layer(trace: Trace, depth: int, turns: bool, together: int = 1) -> list[Box]:
    """A box for the steps of a layer that follow each other, paths cut to so many names; or for several layers."""
    made: dict[str, Box] = {}
    boxes: list[Box] = []
    for v in trace.arguments:
        if v.name not in trace.parameters and v.numbers is not None:
            made[v.name] = Box((v.name, _shape(v)), "input")
            boxes.append(made[v.name])
    last, layers = None, 0
    joined: dict[tuple[int, str], Edge] = {}
    for step in trace.steps:
        path, _, turn = step.layer.partition(" [")
        cut = ".".join(path.split(".")[:depth])
        key = (cut, turn if turns else "")
        label = f"{cut or '(net)'}{f' [{turn}' if turn and turns else ''}"
        if key != last and (layers % together == 0 or cut == "loss"):
            lines = (label, trace.kinds.get(cut, "")) if together == 1 else (label,)
            boxes.append(Box(tuple(t for t in lines if t), title=f"from operation {step.number}"))
            layers = 0
        elif key != last:
            boxes[-1].lines = (f"{boxes[-1].lines[0].partition(' ... ')[0]} ... {label}",)
        layers += key != last
        last, box = key, boxes[-1]
        for i, v in enumerate(step.inputs):
            begin = made.get(v.name)
            if begin is None or begin is box:
                continue
            sent = next((s.product for s in step.shares if s.position == i), None)
            if (id(box), v.name) in joined:  # two operations of one layer use it: their parts are added
                edge = joined[id(box), v.name]
                edge.gradient = (
                    _short(trace.by[v.name]) if v.name in trace.by and len(begin.out) == 1 else edge.gradient
                )
            else:
                joined[id(box), v.name] = _join(begin, box, v, sent)
        for v in step.outputs:
            made[v.name] = box
    _finish(trace, made, boxes)
    return [b for b in boxes if b.into or b.out]


def _join(begin: Box, end: Box, v: Value, sent: Any) -> Edge:
    shape_differs = sent is not None and np.shape(sent) != v.shape
    gradient = "" if sent is None else _short(np.reshape(sent, v.shape) if _fits(sent, v) and shape_differs else sent)
    edge = Edge(begin, end, _short(v.array), gradient)
    begin.out.append(edge)
    end.into.append(edge)
    return edge


def _fits(sent: Any, v: Value) -> bool:
    return int(np.size(sent)) == v.size


def _finish(trace: Trace, made: dict[str, Box], boxes: list[Box]) -> None:
    """The result stands at the end."""
    if trace.outputs and trace.outputs[0].name in made:
        v = trace.outputs[0]
        end = Box((trace.of,), "end")
        boxes.append(end)
        edge = _join(made[v.name], end, v, None)
        edge.gradient = _short(trace.by[v.name]) if v.name in trace.by else ""


def _sign(step: Step, source: dict[str, Value]) -> str:
    """u = b * c if that is short, else the operation alone."""
    out = step.output.name
    text = formula(step)
    if out[0] != "#":
        text = f"{out} = {text}"
    text = re.sub(r"#\d+(\.\d+)?", "\u00b7", re.sub(r":(\d+x?)+|:number", "", text))
    if len(text) <= LONGEST:
        return text
    sign = INFIX.get(step.operation) or CALLED.get(step.operation, step.operation)
    if step.operation in ("integer_pow", "square"):
        sign = f"^{step.settings.get('y', 2)}"
    constants = [v.name for v in step.inputs if v.kind == "constant" and v.shape == ()]
    if step.operation in INFIX and constants and len(step.inputs) == 2:
        sign = f"{constants[0]} {sign}" if step.inputs[0].kind == "constant" else f"{sign} {constants[0]}"
    sign = {"dot_general": "@", "custom_jvp_call": "function"}.get(sign, sign)
    return f"{out} = ... {sign}" if out[0] != "#" and len(out) < 16 else sign


def _short(array: Any) -> str:
    """An array in a few letters.

    >>> _short(np.array(0.25)), _short(np.array([1.0, 2.0])), _short(np.ones((3, 4)))
    ('0.25', '[1, 2]', '3x4, mean 1')
    """
    found = numbers_in(array)
    if found is None:
        return "key"
    if found.size == 1:
        return number(found.reshape(-1)[0].item(), 4)
    if found.size <= 3:
        return "[" + ", ".join(number(v.item(), 3) for v in found.reshape(-1)) + "]"
    if found.dtype.kind not in "fiu":
        return "x".join(map(str, found.shape))
    mean = float(np.mean(found, dtype=np.float64)) if found.size else 0.0
    return f"{'x'.join(map(str, found.shape))}, mean {number(mean, 3)}"


def _shape(v: Value) -> str:
    return "x".join(map(str, v.shape)) or "a number"


# -- where it stands


def _ranked(boxes: list[Box]) -> list[list[Box]]:
    """Ranks by the longest way from the beginning, inputs beside what uses them; bends where edges pass a rank."""
    for box in boxes:  # they come in an order in which edges go forward
        box.rank = max((e.begin.rank + 1 for e in box.into), default=0)
    for box in reversed(boxes):
        if not box.into and box.out:
            box.rank = min(e.end.rank for e in box.out) - 1
    ranks: list[list[Box]] = [[] for _ in range(max(b.rank for b in boxes) + 1)] if boxes else []
    for box in boxes:
        ranks[box.rank].append(box)
    for box in boxes:
        for edge in box.out:
            edge.bends = [Box((), "bend", rank=r) for r in range(box.rank + 1, edge.end.rank)]
            for bend in edge.bends:
                ranks[bend.rank].append(bend)
    _order(ranks, [e for b in boxes for e in b.out])
    return ranks


def _order(ranks: list[list[Box]], edges: list[Edge]) -> None:
    """Few crossings: each rank by the mean place of its neighbours, forth and back."""
    before: dict[int, list[Box]] = {}
    after: dict[int, list[Box]] = {}
    for edge in edges:
        way = [edge.begin, *edge.bends, edge.end]
        for a, b in itertools.pairwise(way):
            after.setdefault(id(a), []).append(b)
            before.setdefault(id(b), []).append(a)
    place = {id(b): float(i) for rank in ranks for i, b in enumerate(rank)}
    for turn in range(8):
        neighbours = after if turn % 2 else before
        for rank in reversed(ranks) if turn % 2 else ranks:
            means = {
                id(b): float(np.mean([place[id(n)] for n in neighbours[id(b)]]))
                if id(b) in neighbours
                else place[id(b)]
                for b in rank
            }
            rank.sort(key=lambda b: means[id(b)])
            place.update({id(b): float(i) for i, b in enumerate(rank)})
    for rank in ranks:
        for box in rank:  # edges come in in the order in which they stand
            box.into.sort(key=lambda e: place[id(e.bends[-1] if e.bends else e.begin)])


def _place(ranks: list[list[Box]], edges: list[Edge], right: bool) -> tuple[float, float]:
    """Set across and along of every box; the size of the whole."""
    neighbours: dict[int, list[Box]] = {}
    for edge in edges:
        way = [edge.begin, *edge.bends, edge.end]
        for a, b in itertools.pairwise(way):
            neighbours.setdefault(id(a), []).append(b)
            neighbours.setdefault(id(b), []).append(a)
    for rank in ranks:
        at = 0.0
        for box in rank:
            box.across = at + _breadth(box, right) / 2
            at += _breadth(box, right) + GAP
    for turn in range(24):
        for rank in reversed(ranks) if turn % 2 else ranks:
            wanted = [float(np.mean([n.across for n in neighbours.get(id(b), [b])])) for b in rank]
            _apart(rank, wanted, right)
    low = min(b.across - _breadth(b, right) / 2 for rank in ranks for b in rank)
    for rank in ranks:
        for box in rank:
            box.across -= low - 12
    along = 12.0
    for rank in ranks:
        lead = max((_lead(e, right) for b in rank for e in b.into), default=0.0)
        along += (CURVE + lead) if lead else 0.0
        for box in rank:
            box.along = along
        along += max(_length(b, right) for b in rank)
    return along + 12, max(b.across + _breadth(b, right) / 2 for rank in ranks for b in rank) + 12


def _apart(rank: list[Box], wanted: list[float], right: bool) -> None:
    """As near to the wanted places as boxes that may not overlap can be: pools of neighbours move together."""
    pools: list[list[Any]] = []  # [sum of (wanted - offset), count, boxes with offsets]
    for box, want in zip(rank, wanted, strict=True):
        pools.append([want, 1, [(box, 0.0)]])
        while len(pools) > 1:
            a, b = pools[-2], pools[-1]
            last, offset = a[2][-1]
            first = b[2][0][0]
            space = offset + (_breadth(last, right) + _breadth(first, right)) / 2 + GAP
            if b[0] / b[1] >= a[0] / a[1] + space:
                break
            pools[-2:] = [[a[0] + b[0] - space * b[1], a[1] + b[1], a[2] + [(x, o + space) for x, o in b[2]]]]
    for total, count, boxes in pools:
        for box, offset in boxes:
            box.across = total / count + offset


def _port(right: bool, box: Box) -> float:
    """The space of an edge that comes in: its label's height, or width."""
    return 32.0 if right else max((e.letters for e in box.into), default=0) * LETTER + 16


def _breadth(box: Box, right: bool) -> float:
    if not box.lines:
        return 8.0
    own = max(BOX, 15.0 * len(box.lines) + 8) if right else box.letters * LETTER + 18
    return max(own, _port(right, box) * len(box.into))


def _length(box: Box, right: bool) -> float:
    if not box.lines:
        return 0.0
    return box.letters * LETTER + 18 if right else max(BOX, 15.0 * len(box.lines) + 8)


def _lead(edge: Edge, right: bool) -> float:
    return edge.letters * LETTER + 14 if right else 36.0


# -- drawing


def _drawn(boxes: list[Box], ranks: list[list[Box]], trace: Trace) -> str:
    if not boxes:
        return '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"></svg>'
    right = len(ranks) <= 9
    edges = [e for b in boxes for e in b.out]
    along, across = _place(ranks, edges, right)
    width, height = (along, across) if right else (across, along)
    starts = [max((b.along for b in rank), default=0.0) for rank in ranks]
    lengths = [max(_length(b, right) for b in rank) for rank in ranks]
    shapes = [_edge(e, right, starts, lengths) for e in edges] + [_box(b, right) for b in boxes]
    note = escape(f"graph of {trace.title}: values" + (", and below them gradients" if trace.by else ""))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="derin-graph" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{note}">'
        f'<style>{STYLE}</style><rect width="100%" height="100%" class="page"/>\n' + "\n".join(shapes) + "\n</svg>"
    )


def _point(along: float, across: float, right: bool) -> str:
    x, y = (along, across) if right else (across, along)
    return f"{x:.1f},{y:.1f}"


def _edge(edge: Edge, right: bool, starts: list[float], lengths: list[float]) -> str:
    """A curve from box to box, straight where its label stands."""
    port = _port(right, edge.end)
    n = edge.end.into.index(edge)
    end = edge.end.across + (n - (len(edge.end.into) - 1) / 2) * port
    if not right:  # the label stands beside the line: the two are in the middle
        end -= edge.letters * LETTER / 2
    lead = max(_lead(e, right) for e in edge.end.into)
    at, here = edge.begin.along + _length(edge.begin, right), edge.begin.across
    path = [f"M{_point(at, here, right)}"]
    for bend in edge.bends:
        path.append(_curve(at, here, starts[bend.rank], bend.across, right))
        at, here = starts[bend.rank] + lengths[bend.rank], bend.across
        path.append(f"L{_point(at, here, right)}")
    begin, finish = edge.end.along - lead, edge.end.along
    path.append(_curve(at, here, begin, end, right))
    path.append(f"L{_point(finish, end, right)}")
    drawn = f'<path class="edge" d="{" ".join(path)}"/>'
    for i, (text, css) in enumerate([(edge.value, ""), (edge.gradient, ' class="gradient"')]):
        if text and right:
            y = end + (-4 if i == 0 else 12)
            drawn += f'<text{css} x="{finish - 5:.1f}" y="{y:.1f}" text-anchor="end">{escape(text)}</text>'
        elif text:
            drawn += f'<text{css} x="{end + 5:.1f}" y="{finish - 21 + 14 * i:.1f}">{escape(text)}</text>'
    return drawn


def _curve(along: float, across: float, to_along: float, to_across: float, right: bool) -> str:
    middle = (along + to_along) / 2
    points = [(middle, across), (middle, to_across), (to_along, to_across)]
    return "C" + " ".join(_point(a, b, right) for a, b in points)


def _box(box: Box, right: bool) -> str:
    length, breadth = _length(box, right), _breadth(box, right)
    x, y = (box.along, box.across - breadth / 2) if right else (box.across - breadth / 2, box.along)
    w, h = (length, breadth) if right else (breadth, length)
    kind = "box" if box.kind == "box" else f"box {box.kind}"
    title = f"<title>{escape(box.title)}</title>" if box.title else ""
    drawn = f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="5">{title}</rect>'
    first = y + h / 2 + 4 - 7 * (len(box.lines) - 1)
    for i, line in enumerate(box.lines):
        css = ' class="small"' if i else ""
        drawn += f'<text{css} x="{x + w / 2:.1f}" y="{first + 14 * i:.1f}" text-anchor="middle">{escape(line)}</text>'
    return drawn
