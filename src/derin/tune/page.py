"""The pictures of a search in one HTML page: no script, nothing from the network, light or dark as the reader's screen.

Path("study/report.html").write_text(page(seen, "wine, 1,000 trials"), encoding="utf-8")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from html import escape
from typing import TYPE_CHECKING

from derin.report.look import document, table
from derin.report.look import facts as as_facts
from derin.report.words import words
from derin.tune import pictures
from derin.tune.axis import shortened, text
from derin.tune.drawing import FAINT, HALO, INK, LOOKS, svg
from derin.tune.pictures import Search, score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOP = 10  # trials in the table


def page(search: Search, title: str = "Search", facts: Mapping[str, str] = {}, lang: str = "en") -> str:
    """One HTML page: facts about the search, the best trials, all pictures.

    facts: more of them to stand on top, name -> text. Texts may hold anything; they are escaped. lang: "en", "tr"."""
    say, search = words(lang), search._replace(lang=lang)
    found = pictures.pictures(search)
    del found["hyperparameters"]  # a panel each instead, which a phone can show
    order = [name for name in ("best", "importance", "curves", "rungs", "parallel") if name in found]
    shown = [_figure(found[name], name, say(f"study.told.{name}"), wide=name == "parallel") for name in order]
    label = lambda path: say("study.against", metric=search.metric, path=path)  # noqa: E731
    panels = [
        _figure(pictures.hyperparameter(search, axis), f"p{i}", "", label=label(axis.path))
        for i, axis in enumerate(search.axes)
    ]
    against = f"<h2>{escape(say('study.each'))}</h2>\n<div class=pictures>\n{''.join(panels)}</div>\n" if panels else ""
    body = (
        f"<h1>{escape(title)}</h1>\n{as_facts({**_facts(search, say), **facts})}{_table(search, say)}"
        f"<h2>{escape(say('study.search'))}</h2>\n<div class='pictures large'>\n{''.join(shown)}</div>\n{against}"
    )
    return document(title, body, lang)


def _facts(search: Search, say: Callable[..., str]) -> dict[str, str]:
    states = [t["state"] for t in search.trials]
    counts = {say(f"state.{state}"): f"{states.count(state):,}" for state in reversed(LOOKS) if state in states}
    counts |= {say("study.unseen"): f"{search.unseen:,}"} if search.unseen else {}
    found, best = {say("study.trials"): f"{len(states) + search.unseen:,}", **counts}, search.best
    if best:
        value = say("study.of_trial", value=text(score(best)), number=best["number"])
        found[say("study.best", metric=search.metric)] = value
    return found


def _table(search: Search, say: Callable[..., str]) -> str:
    """The best trials and their values."""
    best = [t for t in search.trials if score(t) == score(t)]
    if any(t["state"] == "finished" for t in best):
        best = [t for t in best if t["state"] == "finished"]
    best = sorted(best, key=search.loss)[:TOP]
    if not best:
        return f"<p>{escape(say('study.none'))}</p>\n"
    head = [say("study.trial"), search.metric, say("study.epochs"), *search.paths]
    rows = [
        [str(t["number"]), f"{score(t):.5g}", f"{t['epochs']:,}", *(_cell(t["values"].get(p)) for p in search.paths)]
        for t in best
    ]
    return f"<h2>{escape(say('study.best_trials'))}</h2>\n{table(head, rows, plain=True)}"


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
