"""The pictures of a search in one HTML page: no script, nothing from the network, light or dark as the reader's screen.

Path("study/report.html").write_text(page(seen, "wine, 1,000 trials"), encoding="utf-8")
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from derin.tune import pictures
from derin.tune.axis import shortened, text
from derin.tune.drawing import FAINT, HALO, INK, LOOKS, svg
from derin.tune.pictures import Search, score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOP = 10  # trials in the table
TOLD = {  # what a reader should know of each picture
    "best": "Each step is a trial better than all before it; fainter marks are other trials that came near.",
    "importance": "How much of what differs between trials each hyperparameter explains.",
    "parallel": "Follow a line from left to right: it is one trial. The more orange, the better.",
    "curves": "Pruned trials are grey and end where they were stopped.",
    "rungs": "Each mark is a trial where it stopped; a cross diverged. At the right, how many stopped there.",
}
CSS = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #24292f; --faint: #6e7781; --line: #d8dee4; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --ink: #e6edf3; --faint: #9aa4ae; --line: #343b42; } }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2rem 0 0.5rem; }
dl { display: flex; flex-wrap: wrap; gap: 0.5rem 2rem; } dt { color: var(--faint); font-size: 0.85rem; }
dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.pictures { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.large { grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
figure { margin: 0; min-width: 0; } figure.wide { grid-column: 1 / -1; }
figure > div, .table { overflow-x: auto; } figcaption { color: var(--faint); font-size: 0.85rem; }
svg { display: block; width: 100%; height: auto; max-width: 46rem; } svg * { stroke-linejoin: round; }
.wide svg { max-width: none; min-width: var(--least); }
table { border-collapse: collapse; font-size: 0.9rem; } th, td { padding: 0.25rem 0.9rem 0.25rem 0; text-align: left;
  border-bottom: 1px solid var(--line); white-space: nowrap; font-variant-numeric: tabular-nums; }
@media print { :root { --page: #ffffff; --ink: #000000; --faint: #555555; --line: #cccccc; }
  body { max-width: none; font-size: 9pt; } .pictures { grid-template-columns: 1fr 1fr; gap: 0.8rem; }
  figure, table { break-inside: avoid; } .wide svg { min-width: 0; } }
"""


def page(search: Search, title: str = "Search", facts: Mapping[str, str] = {}) -> str:
    """One HTML page: facts about the search, the best trials, all pictures.

    facts: more of them to stand on top, name -> text. Texts may hold anything; they are escaped."""
    found = pictures.pictures(search)
    del found["hyperparameters"]  # a panel each instead, which a phone can show
    order = [name for name in ("best", "importance", "curves", "rungs", "parallel") if name in found]
    shown = [_figure(found[name], name, TOLD[name], wide=name == "parallel") for name in order]
    panels = [
        _figure(pictures.hyperparameter(search, axis), f"p{i}", "", label=f"{search.metric} against {axis.path}")
        for i, axis in enumerate(search.axes)
    ]
    facts = {**_facts(search), **facts}
    told = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    against = f"<h2>Each hyperparameter</h2>\n<div class=pictures>\n{''.join(panels)}</div>\n" if panels else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<dl>{told}</dl>\n{_table(search)}"
        "<h2>The search</h2>\n<div class='pictures large'>\n"
        f"{''.join(shown)}</div>\n{against}</body>\n</html>\n"
    )


def _facts(search: Search) -> dict[str, str]:
    states = [t["state"] for t in search.trials]
    counts = {state: f"{states.count(state):,}" for state in reversed(LOOKS) if state in states}
    best = search.best
    top = {f"best {search.metric}": f"{text(score(best))} (trial {best['number']})"} if best else {}
    return {"trials": f"{len(states):,}", **counts, **top}


def _table(search: Search) -> str:
    """The best trials and their values."""
    best = [t for t in search.trials if score(t) == score(t)]
    if any(t["state"] == "finished" for t in best):
        best = [t for t in best if t["state"] == "finished"]
    best = sorted(best, key=search.loss)[:TOP]
    if not best:
        return "<p>No trial has a score yet.</p>\n"
    head = ["trial", search.metric, "epochs", *search.paths]
    rows = [
        [str(t["number"]), f"{score(t):.5g}", f"{t['epochs']:,}", *(_cell(t["values"].get(p)) for p in search.paths)]
        for t in best
    ]
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<h2>The best trials</h2>\n<div class=table><table>\n<tr>{heads}</tr>\n{lines}</table></div>\n"


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else shortened(text(value), 40)


def _figure(figure: Figure, name: str, told: str, label: str = "", wide: bool = False) -> str:
    """SVG that takes its colours from the page, with ids of its own."""
    drawn = svg(figure, background="none")
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'\bid="', f'id="{name}-', drawn)
    drawn = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", drawn)
    for colour, of_page in ((INK, "ink"), (FAINT, "faint"), (HALO, "page")):
        drawn = re.sub(rf"(fill|stroke): {colour}\b", rf"\1: var(--{of_page})", drawn)
    drawn = re.sub(r"^<svg ", f'<svg role="img" aria-label="{escape(label or told)}" ', drawn)
    drawn = re.sub(r'(<svg [^>]*?)width="[^"]*" height="[^"]*" ', r"\1", drawn, count=1)
    least = f' style="--least: {figure.get_figwidth() * 72:.0f}px"' if wide else ""
    caption = f"<figcaption>{escape(told)}</figcaption>" if told else ""
    return f"<figure{' class=wide' * wide}{least}><div>{drawn.strip()}</div>{caption}</figure>\n"
