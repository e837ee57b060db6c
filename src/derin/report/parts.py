"""Two parts of a run's page: the health of its layers over the epochs, and what derin.diagnose says."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from derin.errors import DerinError
from derin.report import svg
from derin.report.look import figure, pictures
from derin.report.words import named, remedy

if TYPE_CHECKING:
    from derin.engine.run import Run

Say = Callable[..., str]
MOST_ROWS = 24  # layers in a picture; of a deeper net every second, third, ... is shown
MOST_LOOKS = 60  # columns: four pictures of 24 x 60 cells are 0.7 MB of a page
SOUND = {  # verdicts whose run has weights that are worth going on from
    "high bias", "learning rate too low", "batch too small", "batch too large", "plateau or saddle",
    "misleading BatchNorm statistics", "class imbalance ignored", "trained too short",
}  # fmt: skip


def health_part(run: Run, say: Say) -> str:
    """A grid of layers over epochs for each measure; the losses in both modes. "" for a run without health records."""
    lines: list[dict[str, Any]] = list(getattr(run, "health", ()))
    if not lines:
        return ""
    found = []
    both = {
        say(f"health.{name}"): [(float(line["epoch"]), line[name]) for line in lines]
        for name in ("train_mode_loss", "eval_mode_loss")
        if name in lines[-1]
    }
    if both and len(lines) > 1:
        found.append(
            figure(svg.lines(both, "epoch", say("health.modes")), say("health.modes_told"), say("health.modes"))
        )
    for group, measure, log in (
        ("weights", "gradient", True),
        ("weights", "update", True),
        ("layers", "dead", False),
        ("layers", "saturated", False),
    ):
        found.append(_grid(lines, group, measure, log, say))
    epochs = ", ".join(str(line["epoch"]) for line in lines[:12]) + (", ..." if len(lines) > 12 else "")
    body = pictures(found)
    return body + f"<p class=faint>{escape(say('health.epochs', epochs=epochs))}</p>\n" if body else ""


def _grid(lines: Sequence[dict[str, Any]], group: str, measure: str, log: bool, say: Say) -> str:
    """Rows: layers from the input to the output; columns: the epochs that were looked at."""
    lines = _thinned(lines)
    paths = [p for p in lines[-1].get(group, {}) if any(_number(line, group, p, measure) for line in lines)]
    if not paths:
        return ""
    paths = paths[:: math.ceil(len(paths) / MOST_ROWS)]
    values = [[_number(line, group, p, measure) for line in lines] for p in paths]
    flat = [v for row in values for v in row if v > 0]
    low, high = min(flat), max(flat)
    told = say(f"health.{measure}_told", low=f"{low:.3g}", high=f"{high:.3g}")
    shades = values
    if log:  # a factor of 10 is a step of shade, at least four of them
        span = max(math.log10(high / low), 4.0)
        shades = [[1 - math.log10(high / v) / span if v > 0 else 0.0 for v in row] for row in values]
    title = say(f"health.{measure}")
    return figure(svg.cells(shades, title, 1.0, [p or "net" for p in paths]), told, title)


def _thinned(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most MOST_LOOKS, the first and the last among them."""
    shown = min(len(lines), MOST_LOOKS)
    return [lines[round(i * (len(lines) - 1) / max(1, shown - 1))] for i in range(shown)]


def _number(line: Mapping[str, Any], group: str, path: str, measure: str) -> float:
    value = line.get(group, {}).get(path, {}).get(measure)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def diagnosis_part(run: Run, say: Say) -> str:
    """The verdicts with their evidence and remedies."""
    from derin.diagnose.doctor import diagnose

    try:
        found = diagnose(run)
    except DerinError as error:  # a run without what the rules look at
        return f"<p>{escape(say('diagnosis.none', why=str(error)))}</p>\n"
    body = "".join(_verdict(v, found.healthy, run, say) for v in found.verdicts)
    if found.suspected:
        seen = ", ".join(f"{named(say, 'verdict', v.name)} ({v.confidence:.0%})" for v in found.suspected)
        body += f"<p class=faint>{escape(say('diagnosis.suspected', names=seen))}</p>\n"
    for note in found.notes:
        body += f"<p class=faint>{escape(say('diagnosis.note', note=named(say, 'note', note)))}</p>\n"
    return body


def _verdict(v: Any, fine: bool, run: Run, say: Say) -> str:
    name = named(say, "verdict", v.name)
    sure = say("diagnosis.sure", share=f"{v.confidence:.0%}", concepts=", ".join(v.concepts))
    why = named(say, "why", v.name)
    why = v.why if why == v.name else why  # English has the rule's own sentence, with its numbers
    numbers = "; ".join(f"{named(say, 'evidence', k)} {_value(k, value, say)}" for k, value in v.evidence.items())
    remedies = "".join(_remedy(r, v.name in SOUND, run, say) for r in v.remedies)
    listed = f"<ul>{remedies}</ul>" if remedies else ""
    return (
        f'<div class="verdict{" fine" * fine}"><h3>{escape(name)}</h3><small>{escape(sure)}</small>'
        f"<p>{escape(why)}</p><p class=faint>{escape(numbers)}</p>{listed}</div>\n"
    )


def _remedy(r: Any, sound: bool, run: Run, say: Say) -> str:
    """What helps, and how to do it: from the run's weights where these are sound and fit, else from new ones."""
    code = ""
    if r.changes:
        command, goes_on = adoption(r, sound, run)
        told = "" if goes_on else f" <small>{escape(say('diagnosis.anew'))}</small>"
        code = f"<br><code>{escape(command)}</code>{told}"
    return f"<li>{escape(remedy(r.text, say))}{code}</li>"


def adoption(r: Any, sound: bool, run: Run) -> tuple[str, bool]:
    """(the command for a remedy, True); or (options of a `derin fit` that begins with new weights, False)"""
    if run.path is None:
        return r.command(), False
    where = f'"{run.path}"' if " " in str(run.path) else str(run.path)
    if sound and list(r.changes) == ["epochs"] and not bool(run.carry.done):
        return f"derin resume {where} --epochs {r.changes['epochs']}", True
    fits = not {path.partition(".")[0] for path in r.changes} & {"net", "weight_init", "epochs", "early_stopping"}
    return (f"derin fit --from {where} {r.command()}", True) if sound and fits else (r.command(), False)


def _value(name: str, value: Any, say: Say) -> str:
    """Evidence as text; names of the person's own stay as they are."""
    text = shown(value)
    return text if name in ("column", "class", "layer") else named(say, "value", text)


def shown(value: Any) -> str:
    """Evidence as text.

    >>> shown(0.123456), shown({"a": 1, "b": 2.0}), shown("x")
    ('0.1235', 'a 1, b 2', 'x')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {shown(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
