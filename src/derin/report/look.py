"""The look of all pages: one style sheet for light, dark, phone and print, and the parts that pages are made of.

No script, nothing from the network. The page of a study (tune/page.py) looks the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

CSS = """
:root { color-scheme: light dark; --page: #ffffff; --card: #f6f8fa; --ink: #24292f; --faint: #636c76; --line: #d8dee4;
  --c0: #2f6fb7; --c1: #d9650b; --c2: #2a8d6a; --c3: #9654b5; --bad: #c0392b; --good: #2a8d6a; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1c2126; --ink: #e6edf3; --faint: #9aa4ae;
  --line: #343b42; --c0: #62a5ea; --c1: #f2913d; --c2: #55bd95; --c3: #c08ae0; --bad: #ef7d72; --good: #55bd95; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0.4rem 0 0.2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 0.5rem; } h3 { font-size: 1rem; margin: 1.2rem 0 0.3rem; }
p { margin: 0.4rem 0; max-width: 46rem; } .faint, small { color: var(--faint); }
p.faint { font-size: 0.85rem; }
dl { display: flex; flex-wrap: wrap; gap: 0.5rem 2rem; } dt { color: var(--faint); font-size: 0.85rem; }
dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
nav { font-size: 0.9rem; margin: 0.8rem 0; }
nav a { display: inline-block; margin: 0 0.9rem 0.2rem 0; color: var(--c0); }
.pictures { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.large { grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
figure { margin: 0; min-width: 0; } figure.wide { grid-column: 1 / -1; }
.table { margin: 0.4rem 0 1rem; }
figure > div, .table { overflow-x: auto; } figcaption { color: var(--faint); font-size: 0.85rem; max-width: 46rem; }
svg { display: block; width: 100%; height: auto; max-width: 46rem; } svg * { stroke-linejoin: round; }
.wide svg { max-width: calc(1.7 * var(--least)); min-width: var(--least); }
table { border-collapse: collapse; font-size: 0.9rem; } th, td { padding: 0.25rem 0.9rem 0.25rem 0; text-align: left;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; vertical-align: top; }
th { font-weight: 600; white-space: nowrap; } td { max-width: 28rem; overflow-wrap: break-word; }
.plain td, .plain th { white-space: nowrap; } td.n, th.n { text-align: right; white-space: nowrap; }
.matrix td { text-align: center; padding: 0.3rem 0.5rem; min-width: 2.6rem; border: 1px solid var(--page);
  background: color-mix(in srgb, var(--shade) calc(var(--share) * 70%), var(--card)); }
.matrix th { text-align: center; border: 0; padding: 0.2rem 0.5rem; } .matrix tr > th:first-child { text-align: right; }
pre, code { font: 0.85rem/1.45 ui-monospace, monospace; } pre { background: var(--card); padding: 0.7rem 0.9rem;
  overflow-x: auto; border-radius: 4px; } details { margin: 0.6rem 0; } summary { cursor: pointer; color: var(--c0); }
.verdict { border-left: 4px solid var(--c1); background: var(--card); padding: 0.5rem 0.9rem; margin: 0.7rem 0; }
.verdict.fine { border-color: var(--good); } .verdict h3 { margin: 0; }
.drawn svg { max-width: 32rem; }
.drawn text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.drawn .tick { font-size: 11px; fill: var(--faint); }
.drawn .mid { text-anchor: middle; } .drawn .end, .drawn .num { text-anchor: end; }
.drawn .halo { paint-order: stroke; stroke: var(--page); stroke-width: 3px; }
.drawn path { fill: none; } .drawn .grid { stroke: var(--line); stroke-width: 0.7; }
.drawn path.faint, .drawn .frame { stroke: var(--faint); stroke-width: 0.8; fill: none; }
.drawn .dash { stroke: var(--faint); stroke-width: 1; stroke-dasharray: 4 3; }
.drawn .line { stroke-width: 1.8; } .drawn .bar { stroke-width: 1.6; }
.drawn .dots { stroke-width: 4; stroke-linecap: round; opacity: 0.55; }
.drawn .c0 { stroke: var(--c0); } .drawn .c1 { stroke: var(--c1); } .drawn .c2 { stroke: var(--c2); }
.drawn .c3 { stroke: var(--c3); } .drawn .fill { stroke: none; } .drawn .fill.c0 { fill: var(--c0); }
.drawn .fill.c1 { fill: var(--c1); } .drawn .fill.c2 { fill: var(--c2); } .drawn .fill.c3 { fill: var(--c3); }
@media print { :root { --page: #ffffff; --card: #f6f6f6; --ink: #000000; --faint: #555555; --line: #cccccc;
  --c0: #2f6fb7; --c1: #d9650b; --c2: #2a8d6a; --c3: #9654b5; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; } nav { display: none; }
  body { max-width: none; padding: 0; font-size: 9pt; } .pictures { grid-template-columns: 1fr 1fr; gap: 0.8rem; }
  figure, tr, .verdict { break-inside: avoid; } h2, h3 { break-after: avoid; } .wide svg { min-width: 0; }
  pre { white-space: pre-wrap; } }
"""


def document(title: str, body: str, lang: str) -> str:
    """A whole page; `body` is HTML."""
    return (
        f'<!doctype html>\n<html lang="{lang}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def facts(values: Mapping[str, str]) -> str:
    """Names with what they are, side by side."""
    found = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values.items())
    return f"<dl>{''.join(found)}</dl>\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = (), plain: bool = False) -> str:
    """Rows of text below their heads; `right`: columns of numbers; plain: no cell takes a second line."""

    def row(tag: str, cells: Sequence[str]) -> str:
        side = lambda i: " class=n" if i in right else ""  # noqa: E731
        return "<tr>" + "".join(f"<{tag}{side(i)}>{escape(c)}</{tag}>" for i, c in enumerate(cells)) + "</tr>\n"

    lines = "".join(row("td", cells) for cells in rows)
    return f"<div class='table{' plain' * plain}'><table>\n{row('th', head)}{lines}</table></div>\n"


def figure(picture: str, told: str = "", title: str = "") -> str:
    """A picture of svg.py with what a reader should know of it; nothing where there is no picture."""
    if not picture:
        return ""
    head = f"<h3>{escape(title)}</h3>" if title else ""
    caption = f"<figcaption>{escape(told)}</figcaption>" if told else ""
    return f"<figure class=drawn>{head}<div>{picture}</div>{caption}</figure>\n"


def pictures(figures: Sequence[str]) -> str:
    """Figures side by side, as many as there is room for."""
    found = [f for f in figures if f]
    return f"<div class='pictures'>\n{''.join(found)}</div>\n" if found else ""


def section(name: str, title: str, body: str) -> str:
    """A part of the page, with a heading that the contents lead to; nothing where it is empty."""
    return f'<section id="{name}">\n<h2>{escape(title)}</h2>\n{body}</section>\n' if body else ""
