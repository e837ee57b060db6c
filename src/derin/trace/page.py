"""A trace as HTML: one page that needs no network, light or dark as the reader's screen; layers open and close."""

from __future__ import annotations

from html import escape

from derin.trace.result import Trace
from derin.trace.story import Group, Line, Section, story
from derin.trace.text import headline

CSS = """
.derin-trace { color-scheme: light dark; --page: #ffffff; --ink: #24292f; --faint: #6e7781; --line: #d8dee4;
  --gradient: #c2410c; --box: #f6f8fa; --input: #ddf4ff; --end: #fff1e5; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { .derin-trace { --page: #14171a; --ink: #e6edf3; --faint: #9aa4ae;
  --line: #343b42; --gradient: #ff9d5c; --box: #22272e; --input: #10304a; --end: #46290f; } }
.derin-trace h1 { font-size: 1.3rem; overflow-wrap: anywhere; }
.derin-trace h2 { font-size: 1.1rem; margin: 1.5rem 0 0.4rem; }
.derin-trace details { border-left: 3px solid var(--line); margin: 0.4rem 0; padding-left: 0.7rem; }
.derin-trace summary { cursor: pointer; font-weight: 600; }
.derin-trace .graph, .derin-trace .lines { overflow-x: auto; }
.derin-trace .graph svg { max-width: none; }
.derin-trace .graph .box { fill: var(--box); stroke: var(--faint); } .derin-trace .graph .input { fill: var(--input); }
.derin-trace .graph .end { fill: var(--end); } .derin-trace .graph .edge { stroke: var(--faint); }
.derin-trace .graph .page { fill: var(--page); } .derin-trace .graph text { fill: var(--ink); }
.derin-trace .graph .small { fill: var(--faint); } .derin-trace .graph .gradient { fill: var(--gradient); }
 .derin-trace table { border-collapse: collapse; }
.derin-trace td { padding: 0.1rem 0.8rem 0.1rem 0; vertical-align: top; text-align: left; white-space: pre;
  font: 0.85rem/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
.derin-trace .n, .derin-trace .where { color: var(--faint); } .derin-trace .back td.f { color: var(--gradient); }
@media print { .derin-trace details:not([open]) > * { display: block; } }
"""
OPEN = 400  # lines up to which all layers stand open at first


def as_page(trace: Trace, form: str, layout: str, digits: int) -> str:
    """A whole page; see Trace.to_html."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(trace.title)}</title>\n<style>body {{ margin: 0; }} .derin-trace {{ padding: 1rem; "
        f"min-height: 100vh; box-sizing: border-box; }}</style>\n</head>\n<body>\n"
        f"{as_fragment(trace, form, layout, digits)}</body>\n</html>\n"
    )


def as_fragment(trace: Trace, form: str, layout: str, digits: int) -> str:
    """What a notebook shows."""
    sections = story(trace, form, layout, digits)
    many = sum(len(g.lines) for s in sections for g in s.groups) > OPEN
    told = "".join(_section(s, many) for s in sections)
    why = f"<p>No gradients: {escape(trace.why_forward_only)}</p>" if trace.why_forward_only else ""
    return (
        f"<div class=derin-trace>\n<style>{CSS}</style>\n<h1>{escape(headline(trace, digits))}</h1>\n"
        f"<div class=graph>{trace.to_svg()}</div>\n{told}{why}</div>\n"
    )


def _section(section: Section, many: bool) -> str:
    groups = "".join(_group(g, many and section.name in ("forward", "backward")) for g in section.groups)
    kind = " class=back" if section.name == "backward" else ""
    return f"<section{kind}>\n<h2>{escape(section.title)}</h2>\n{groups}</section>\n"


def _group(group: Group, closed: bool) -> str:
    rows = "".join(_row(line) for line in group.lines)
    table = f"<div class=lines><table>\n{rows}</table></div>\n"
    if not group.title:
        return table
    return f"<details{'' if closed else ' open'}><summary>{escape(group.title)}</summary>\n{table}</details>\n"


def _row(line: Line) -> str:
    numbers = "\n".join([line.numbers, *line.details]).strip("\n")
    where = escape(f"{line.source}: {line.source.text}") if line.source else ""
    short = f'<span title="{where}">{escape(str(line.source).rpartition("/")[2])}</span>' if line.source else ""
    return (
        f"<tr><td class=n>{escape(line.label)}</td><td class=f>{escape(line.text)}</td><td>{escape(numbers)}</td>"
        f"<td class=where>{short}</td></tr>\n"
    )
