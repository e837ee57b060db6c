"""A study as pictures, a page and a notebook's table see it."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derin.distributions import choice, log, log_integer, one_minus_log
from derin.errors import RunError, SpecError

if TYPE_CHECKING:
    from derin.tune import pictures
    from derin.tune.study import Study

SHOWN = 10  # rows in a notebook
STATES = {"finished": "finished", "pruned": "pruned", "diverged": "diverged"}  # the others have not come to an end


def seen(study: Study) -> pictures.Search:
    """The study as derin.tune.pictures draws it; of trials that never began their number."""
    from derin.tune import pictures

    space = study.space
    try:
        shares = study.importance()
    except SpecError:  # one trial, or too few
        shares = {}
    trials = [
        {"number": t.number, "values": space.shown(t.values) if space else {}, "score": t.score,
         "state": STATES.get(t.state, "unfinished"), "epochs": t.epochs, "curve": t.curve,
         "seconds": study.seconds if t.seconds is None else t.seconds}
        for t in study.trials
        if t.epochs
    ]  # fmt: skip
    scales = {path: _scale(d) for path, d in space.paths.items()} if space else {}
    unseen = len(study.trials) - len(trials)
    return pictures.Search(trials, study.metric, study.greater_is_better, scales, shares, unseen=unseen)


def _scale(distribution: Any) -> str:
    """The scale of an axis: that on which the distribution is even."""
    if isinstance(distribution, choice):
        return "choice"
    if isinstance(distribution, (log, log_integer)):
        return "log"
    return "one_minus_log" if isinstance(distribution, one_minus_log) else "linear"


def write_page(study: Study, path: Path, lang: str) -> Path:
    """See Study.page. Raises RunError."""
    from derin.engine.checkpoint import replace_file
    from derin.report.words import named, words
    from derin.tune.page import page

    about, say = study.about_data, words(lang)
    source = str(about["source"] or say("data.arrays"))
    facts = {say("data.source"): source, say("head.status"): named(say, "status", study.state)}
    text = page(seen(study), study.path.name if study.path else say("study.untitled"), facts, lang)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode())
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}.") from None
    return path


def html(study: Study) -> str:
    """What a notebook shows: the best trials as a table, under a line about the whole."""
    import polars

    best = [t.number for t in study.ranked()[:SHOWN]]
    table = study.table
    if len(table):
        table = polars.concat([table.filter(polars.col("trial") == n) for n in best]) if best else table.head(SHOWN)
    return f"<p>{escape(repr(study))}</p>\n{table._repr_html_()}"
