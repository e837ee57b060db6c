"""The page of a run: what was asked, what the data are, how it went, how good it is and why, how to make it again.

Path("report.html").write_text(page(run, "en"), encoding="utf-8")           # or run.report("report.html", lang="tr")
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from derin import spec
from derin.engine.folder import describe_data
from derin.errors import DerinError
from derin.report import measure, svg
from derin.report.look import document, facts, figure, pictures, section, table
from derin.report.measure import Judged
from derin.report.parts import diagnosis_part, health_part
from derin.report.words import becomes, named, note, words

if TYPE_CHECKING:
    from derin.engine.run import Run

Say = Callable[..., str]
MOST_CLASSES = 14  # of a confusion matrix in numbers; more are shades
MOST_SHADES = 40  # classes of a matrix of shades: of more, those that are confused most
MOST_COLUMNS = 80  # rows of the table of columns
MOST_POINTS = 1500  # marks of a scatter
MOST_LINES = 60  # of the journal


def page(run: Run, lang: str = "en") -> str:
    """The whole page as HTML text. Without the run's data it says so, and what it cannot say is left out."""
    say = words(lang)
    why = ""
    try:
        run.data = run.reload_data()
    except DerinError as error:  # arrays that were in memory, a file that has moved
        why = str(error)
    of = None if why else measure.judged(run)
    missing = f"<p>{escape(say('metrics.no_data', why=why))}</p>\n"
    parts = {
        "asked": _asked(run, say),
        "data": _data(run, say),
        "curves": _curves(run, say),
        "metrics": _metrics(run, of, say) if of else missing,
        "predictions": _predictions(run, of, say) if of else "",
        "importance": _importance(run, of, say) if of else "",
        "health": health_part(run, say),
        "diagnosis": diagnosis_part(run, say) if of else "",
        "journal": _journal(run, say),
        "reproduce": _reproduce(run, say),
    }
    shown = {name: body for name, body in parts.items() if body}
    links = "".join(f'<a href="#{name}">{escape(say(f"{name}.title"))}</a>' for name in shown)
    title = run.path.name if run.path else say("run.in_memory")
    head = (
        f"<small>{escape(say('run.kind'))}</small>\n<h1>{escape(title)}</h1>\n{_head(run, of, say)}<nav>{links}</nav>\n"
    )
    body = "".join(section(name, say(f"{name}.title"), text) for name, text in shown.items())
    return document(title, head + body, lang)


def _head(run: Run, of: Judged | None, say: Say) -> str:
    """The one number, and how far the run is."""
    done, wanted = len(run.history), run.experiment.epochs
    found = {}
    for s in measure.quick(run, of)[:1] if of else []:
        found[f"{named(say, 'metric', s.name)} ({say(f'part.{of.part}')})"] = number(s.value)  # type: ignore[union-attr]
    status = named(say, "status", run.stopped or "finished")
    return facts({**found, say("head.epochs"): f"{done} / {wanted}", say("head.status"): status})


# -- the parts


def _asked(run: Run, say: Say) -> str:
    e = run.experiment
    size = sum(int(a.size) for a in run.params.values())
    batch = say("asked.full") if e.batch_size == "full" else str(e.batch_size)
    rows = [
        [say("asked.net"), repr(e.net)],
        [say("asked.weights"), f"{size:,}"],
        [say("asked.loss"), repr(e.loss) if e.loss is not None else repr(run.task.losses[0])],
        [say("asked.optimizer"), repr(e.optimizer)],
        [say("asked.batch"), batch],
        [say("asked.epochs"), str(e.epochs)],
    ]
    shown = {"net", "optimizer", "batch_size", "epochs", "loss"}
    default = type(e)(net=e.net, optimizer=e.optimizer, batch_size=e.batch_size, epochs=e.epochs, loss=e.loss)
    rows += [[path, _short(repr(new))] for path, _, new in spec.diff(default, e) if path not in shown]
    return table([say("asked.what"), say("asked.value")], rows)


def _data(run: Run, say: Say) -> str:
    data = run.data
    about = run.about_data or describe_data(data, None)
    parts = ", ".join(f"{n:,} {say(f'part.{name}')}" for name, n in about["rows"].items() if n)
    source = str(about["source"]) if about["source"] is not None else say("data.arrays")
    shape = " x ".join(map(str, about["input"][1]))
    found = facts({say("data.source"): source, say("data.rows"): parts, say("data.row"): shape})
    ys = (None,) * len(run.schema.targets) if data is None else data.train.y
    for t, y in zip(run.schema.targets, ys if isinstance(ys, tuple) else (ys,), strict=True):
        found += _target(t, y, say)
    lines = run.schema.inputs.lines()
    if lines:
        rows = [
            [c.column, named(say, "kind", c.kind), c.missing, c.levels, becomes(c.becomes, say)]
            for c in lines[:MOST_COLUMNS]
        ]
        head = [say(f"data.{name}") for name in ("column", "kind", "missing", "levels", "becomes")]
        listed = table(head, rows)
        if len(lines) > MOST_COLUMNS:
            listed += f"<p class=faint>{escape(say('data.more', n=len(lines) - MOST_COLUMNS))}</p>"
        if len(rows) > 16:
            listed = f"<details><summary>{escape(say('data.columns', n=len(lines)))}</summary>{listed}</details>\n"
        found += listed
    notes = "".join(f"<li>{escape(note(text, say))}</li>" for text in (data.notes[:12] if data is not None else ()))
    return found + (f"<ul>{notes}</ul>\n" if notes else "")


def _target(t: Any, y: Any, say: Say) -> str:
    """What is predicted: its classes with their share of the training rows, or its mean and deviation."""
    head = f"<h3>{escape(say('data.target', name=t.name))}</h3>\n"
    if t.kind == "number":
        if t.width > 1:
            return f"{head}<p>{escape(say('data.vector', n=t.width))}</p>\n"
        return head + facts({say("data.mean"): number(float(t.mean)), say("data.deviation"): number(float(t.scale))})
    if y is None:
        return f"{head}<p>{escape(', '.join(map(str, t.labels)))}</p>\n"
    n = np.bincount(y, minlength=len(t.labels))
    rows = [[str(label), f"{k:,}", f"{k / max(1, len(y)):.1%}"] for label, k in zip(t.labels, n, strict=True)]
    return head + table([say("data.class"), say("data.training_rows"), say("data.share")], rows[:40], right=(1, 2))


def _curves(run: Run, say: Say) -> str:
    """Losses in one picture, each metric in its own, with the best epoch and the changes."""
    history = run.history
    if not history:
        return f"<p>{escape(say('curves.none'))}</p>\n"
    names = [k for k, v in history[-1].items() if isinstance(v, float)]
    series = {k: [(float(line["epoch"]), float(line.get(k, math.nan))) for line in history] for k in names}
    best = run.best_epoch if run.experiment.early_stopping else 0
    marks = [(float(best), say("curves.best", epoch=best))] if best else []
    changes = [line for line in run.journal if line["kind"] == "set" and 0 < line["epoch"] < len(history)]
    marks += [(line["epoch"] + 0.5, f"{line['path']} {line['old']} -> {line['new']}") for line in changes]
    losses = {named(say, "metric", k): series.pop(k) for k in ("loss", "valid_loss") if k in series}
    rates = series.pop("learning_rate", [])
    told = (
        [say("curves.losses")]
        + [say("curves.best_is", epoch=best)] * bool(best)
        + [say("curves.changes")] * bool(changes)
    )
    found = [figure(svg.lines(losses, "epoch", say("curves.title"), marks=marks), " ".join(told), say("metric.loss"))]
    for k, points in series.items():
        title = named(say, "metric", k)
        found.append(figure(svg.lines({title: points}, "epoch", title, marks=marks, log=False), "", title))
    if len({rate for _, rate in rates}) > 1:
        title = say("metric.learning_rate")
        found.append(figure(svg.lines({title: rates}, "epoch", title, marks=marks), "", title))
    return pictures(found)


def _metrics(run: Run, of: Judged, say: Say) -> str:
    found = measure.scores(run, of)
    rows = [[named(say, "metric", s.name), number(s.value), f"[{number(s.low)}, {number(s.high)}]"] for s in found]
    rows_said = say("rows", n=f"{len(of.outputs):,}")
    told = say("metrics.judged", part=say(f"part.{of.part}"), rows=rows_said)
    how = say("metrics.wilson") if any(s.wilson for s in found) else ""
    head = [say("metrics.metric"), say("metrics.value"), say("metrics.interval")]
    warn = f"<p>{escape(say(f'metrics.{of.part}'))}</p>\n" if of.part != "test" else ""
    thinned = f" {say('metrics.thinned', n=f'{of.of:,}')}" if of.of > len(of.outputs) else ""
    note = (
        f"<p class=faint>{escape(' '.join(t for t in (say('metrics.bootstrap', n=measure.RESAMPLES), how) if t))}</p>\n"
    )
    return f"<p>{escape(told + thinned)}</p>\n{warn}{table(head, rows, right=(1, 2), plain=True)}{note}"


def _predictions(run: Run, of: Judged, say: Say) -> str:
    """A confusion matrix and calibration for classes, residuals for numbers, target by target."""
    found = []
    for t, p, y in zip(run.schema.targets, measure.probabilities(run, of), measure.answers(run, of), strict=True):
        head = f"<h3>{escape(t.name)}</h3>\n" if len(run.schema.targets) > 1 else ""
        found.append(head + (_of_numbers(p, y, say) if t.kind == "number" else _of_classes(t, p, y, say)))
    return "".join(found)


def _of_classes(t: Any, p: np.ndarray, y: np.ndarray, say: Say) -> str:
    matrix = measure.confusion(y, p)
    labels = [str(label) for label in t.labels]
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    if len(labels) <= MOST_CLASSES:
        shown = f"<figure><h3>{escape(say('confusion.title'))}</h3>{_matrix(matrix, shares, labels)}"
        shown += f"<figcaption>{escape(say('confusion.told'))}</figcaption></figure>\n"
    else:
        at = _confused(matrix)
        told = say("confusion.shades")
        if len(at) < len(labels):
            told += " " + say("confusion.cut", n=len(at), of=len(labels))
        drawn = svg.cells(shares[np.ix_(at, at)].tolist(), say("confusion.title"), 1.0, [labels[i] for i in at])
        shown = figure(drawn, told, say("confusion.title"))
        wrong = [(int(matrix[i, j]), i, j) for i, j in np.argwhere(matrix) if i != j]
        rows = [[labels[i], labels[j], str(n)] for n, i, j in sorted(wrong, reverse=True)[:12]]
        shown += (
            table([say("confusion.is"), say("confusion.called"), say("confusion.rows")], rows, right=(2,))
            if rows
            else ""
        )
    bins, error = measure.calibration(y, p)
    of_what = say("calibration.of", label=labels[1]) if len(labels) == 2 else say("calibration.of_called")
    drawn = svg.reliability(bins, of_what, say("calibration.share"), say("calibration.title"))
    return pictures([shown, figure(drawn, say("calibration.told", error=f"{error:.3f}"), say("calibration.title"))])


def _confused(matrix: np.ndarray) -> np.ndarray:
    """The classes with most wrong rows, of them or called so, at most MOST_SHADES, in their order."""
    wrong = matrix.sum(0) + matrix.sum(1) - 2 * np.diag(matrix)
    return np.sort(np.argsort(-wrong, kind="stable")[:MOST_SHADES])


def _matrix(matrix: np.ndarray, shares: np.ndarray, labels: Sequence[str]) -> str:
    """Counts, the darker the larger their share of the row; right ones blue, wrong ones red."""
    head = "".join(f"<th>{escape(svg.shortened(label, 14))}</th>" for label in labels)
    rows = []
    for i, label in enumerate(labels):
        cells = "".join(
            f'<td style="--share:{shares[i, j]:.2f};--shade:var(--{"c0" if i == j else "bad"})">{matrix[i, j]:,}</td>'
            for j in range(len(labels))
        )
        rows.append(f"<tr><th>{escape(svg.shortened(label, 20))}</th>{cells}</tr>\n")
    return f"<div class='table matrix'><table>\n<tr><th></th>{head}</tr>\n{''.join(rows)}</table></div>"


def _of_numbers(p: np.ndarray, y: np.ndarray, say: Say) -> str:
    p, y = p.reshape(-1), y.reshape(-1)
    at = measure.thin(len(p), MOST_POINTS)
    told = [(float(a), float(b)) for a, b in zip(p[at], y[at], strict=True)]
    left = [(float(a), float(b - a)) for a, b in zip(p[at], y[at], strict=True)]
    residual = (y - p).tolist()
    spread = say("residuals.told", mean=number(float(np.mean(y - p))), deviation=number(float(np.std(y - p))))
    return pictures([
        figure(svg.scatter(told, say("residuals.predicted"), say("residuals.against"), diagonal=True),
               say("residuals.against_told"), say("residuals.against")),
        figure(svg.scatter(left, say("residuals.predicted"), say("residuals.title"), zero=True),
               say("residuals.of_predicted"), say("residuals.title")),
        figure(svg.histogram(residual, say("residuals.axis"), say("residuals.histogram")), spread,
               say("residuals.histogram")),
    ])  # fmt: skip


def _importance(run: Run, of: Judged, say: Say) -> str:
    name, found = measure.importances(run, of)
    if not found:
        return ""
    shown, rest = found[:20], found[20:]
    drawn = svg.intervals(shown, say("importance.title"))
    told = say("importance.told", metric=named(say, "metric", name), n=measure.REPEATS)
    more = ""
    if rest:
        rows = [[m.column, number(m.value), f"[{number(m.low)}, {number(m.high)}]"] for m in rest]
        more = table([say("data.column"), say("metrics.value"), say("metrics.interval")], rows, right=(1, 2))
        more = f"<details><summary>{escape(say('importance.rest', n=len(rest)))}</summary>{more}</details>\n"
    return pictures([figure(drawn, told)]) + more


def _journal(run: Run, say: Say) -> str:
    lines = run.journal
    if not lines:
        return ""
    rows = []
    for line in lines[-MOST_LINES:]:
        change = (
            f"{line['path']}: {_short(_plain(line['old']))} -> {_short(_plain(line['new']))}"
            if line.get("path")
            else ""
        )
        what = named(say, "journal", line["kind"]) if not change else change
        when = str(line.get("time", "")).replace("T", " ").replace("Z", "")
        rows.append([str(line["step"]), str(line["epoch"]), when, what, str(line.get("reason") or "")])
    head = [say(f"journal.{name}") for name in ("step", "epoch", "time", "change", "reason")]
    return table(head, rows, right=(0, 1))


def _reproduce(run: Run, say: Say) -> str:
    import platform

    import jax

    import derin
    from derin.engine.checkpoint import here

    made = run.made_on or here()
    where = {say(f"reproduce.{k}"): str(made[k]) for k in ("device", "cores", "jaxlib") if k in made}
    found = facts({**where, "derin": derin.__version__, "jax": jax.__version__, "Python": platform.python_version(),
                   say("reproduce.fingerprint"): run.fingerprint[:16]})  # fmt: skip
    if run.path is not None:
        path = f'"{run.path}"' if " " in str(run.path) else str(run.path)
        code = (
            f"derin replay {path}    # {say('reproduce.replay')}\n"
            f"derin evaluate {path}  # {say('reproduce.evaluate')}\n"
            f"derin predict {path} NEW_ROWS -o predictions.csv  # {say('reproduce.predict')}"
        )
        found += f"<pre>{escape(code)}</pre>\n"
    file = json.dumps(json.loads(spec.to_json(run.experiment)), indent=2, ensure_ascii=False)
    found += f"<details><summary>{escape(say('reproduce.experiment'))}</summary><pre>{escape(file)}</pre></details>\n"
    return f"<p>{escape(say('reproduce.told'))}</p>\n{found}"


# -- small ones


def number(value: float) -> str:
    """Four digits that count.

    >>> number(0.98765), number(12345.678), number(1234567.0)
    ('0.9877', '12,346', '1.235e+06')
    """
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e6 else f"{value:.4g}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str, most: int = 160) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
