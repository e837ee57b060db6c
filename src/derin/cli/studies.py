"""What `derin tune`, `derin cv`, `derin study` and `derin retest` say."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from derin.cli.show import number

if TYPE_CHECKING:
    from derin.tune import Study
    from derin.tune.local import Retest
    from derin.tune.trial import Trial

SHOWN = 10  # trials in a table


def study_report(study: Study) -> tuple[dict[str, Any], str]:
    """(values, text): the best trials, what mattered, how the trials ended."""
    from derin.errors import SpecError

    about = study.about_data
    try:
        shares = study.importance()
    except SpecError:  # one trial, or too few
        shares = {}
    rows = ", ".join(f"{n:,} {part}" for part, n in about["rows"].items() if n)
    lines = [
        f"{study.path}: {study.state}, {ended(study)}",
        "",
        f"data      {about['source'] or 'arrays in memory'}: {rows}",
        f"judged    by {judged_by(study)}",
    ]
    if study.space is not None:
        lines += ["", *_searched(study, shares)]
    lines += ["", *best_trials(study)] if study.ranked() else ["", no_best(study)]
    if refused := refused_in_lines(study, 10):
        lines += ["", *refused]
    values = study_values(study) | {
        "importance": shares,
        "space": {p: repr(d) for p, d in study.space.paths.items()} if study.space else {},
        "trials": [_trial(study, t) for t in study.trials],
    }
    return values, "\n".join(lines)


def study_values(study: Study) -> dict[str, Any]:
    """What all commands about a study have in their JSON."""
    ranked = study.ranked()
    return {
        "path": None if study.path is None else str(study.path),
        "status": study.state,
        "metric": study.metric,
        "states": dict(Counter(t.state for t in study.trials)),
        "refused": _refused(study),
        "seconds": study.seconds,
        "best": _trial(study, ranked[0]) if ranked else None,
    }


def _trial(study: Study, t: Trial) -> dict[str, Any]:
    values = study.space.shown(t.values) if study.space else {}
    return {"trial": t.number, "state": t.state, "values": values, "score": t.score,
            "deviation": t.deviation(study.metric), "epochs": t.epochs, "seconds": t.seconds}  # fmt: skip


def ended(study: Study) -> str:
    """How the trials ended, in words."""
    begun = [t for t in study.trials if t.epochs or t.state != "stopped"]
    counts = Counter(t.state for t in begun)
    each = ", ".join(f"{n:,} {state}" for state, n in counts.most_common())
    trials = f"{len(begun):,} trial{'s' * (len(begun) != 1)}"
    late = len(study.trials) - len(begun)
    more = f"; for {late:,} more there was no time" if late else ""
    if study.space is not None and study.space.size == len(study.trials):
        more = f", the whole space{more}"
    return f"{trials}: {each}{more}" if len(counts) > 1 or "finished" not in counts else f"{trials} finished{more}"


def _refused(study: Study) -> list[dict[str, Any]]:
    """Why trials were refused, the most frequent reason first: how many, and the first of them."""
    found: dict[str, dict[str, Any]] = {}
    for t in study.trials:
        if t.state == "refused":
            alike = re.sub(r"\d[\d.e+-]*", "", t.why)  # a reason names the numbers of its trial
            reason = found.setdefault(alike, {"trials": 0, "trial": t.number, "why": " ".join(t.why.split())})
            reason["trials"] += 1
    return sorted(found.values(), key=lambda reason: -reason["trials"])


def refused_in_lines(study: Study, side: int) -> list[str]:
    """Why trials were refused, a line a reason, behind a word of `side` letters."""
    lines: list[str] = []
    for reason in _refused(study):
        like = f"{reason['trials']:,} trials, as " if reason["trials"] > 1 else ""
        lines.append(f"{'' if lines else 'refused':<{side}}{like}trial {reason['trial']}: {reason['why']}")
    return lines


def judged_by(study: Study) -> str:
    """The metric, and where it comes from."""
    settings = study.settings
    on = f"the mean over {settings.folds} folds" if settings.folds else "the validation rows"
    seeds = f", {settings.seeds} seeds a trial" if settings.seeds > 1 else ""
    return f"{study.metric} ({'greater' if study.greater_is_better else 'smaller'} is better), {on}{seeds}"


def no_best(study: Study) -> str:
    """Why there is none: the message of Study.best."""
    from derin.errors import RunError

    try:
        return f"the best is trial {study.best.number}"
    except RunError as error:
        return str(error)


def best_in_lines(study: Study) -> list[str]:
    """The best trial and its values."""
    best = study.best
    deviation = best.deviation(study.metric)
    spread = "" if math.isnan(deviation) else f" (deviation {number(deviation)})"
    lines = [f"best    {study.metric} {number(best.score)}{spread}, trial {best.number} of {ended(study)}"]
    if study.space is not None:
        shown = study.space.shown(best.values)
        side = max(map(len, shown), default=0)
        lines += [f"        {path:<{side}}  {number(value)}" for path, value in shown.items()]
    return lines


def best_trials(study: Study, most: int = SHOWN) -> list[str]:
    """The best trials as a table, a row each; columns of paths by their last names."""
    ranked = study.ranked()[:most]
    paths = list(study.space.paths) if study.space else []
    several = any(not math.isnan(t.deviation(study.metric)) for t in ranked)
    head = ["trial", study.metric, *(["deviation"] if several else []), "epochs", *tails(paths)]
    rows = []
    for t in ranked:
        shown = study.space.shown(t.values) if study.space else {}
        deviation = [number(t.deviation(study.metric))] if several else []
        values = [number(shown[p]) if p in shown else "" for p in paths]
        rows.append([str(t.number), number(t.score), *deviation, str(t.epochs), *values])
    return in_columns(head, rows)


def tails(paths: Sequence[str]) -> list[str]:
    """The ends of paths that tell them apart.

    >>> tails(["optimizer.learning_rate", "optimizer.betas.0", "net.0.widths", "net.2.widths"])
    ['learning_rate', 'betas.0', '0.widths', '2.widths']
    """
    found = []
    for path in paths:
        steps = path.split(".")
        ends = [".".join(steps[-n:]) for n in range(1, len(steps) + 1)]
        fits = [end for end in ends if not end.isdigit() and sum(p == end or p.endswith("." + end) for p in paths) == 1]
        found.append(fits[0] if fits else path)
    return found


def in_columns(head: Sequence[str], rows: Sequence[Sequence[str]], most: int = 24) -> list[str]:
    """Rows of text under their heads, numbers to the right."""
    cells = [[c if len(c) <= most else c[: most - 3] + "..." for c in row] for row in (head, *rows)]
    width = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return ["  ".join(c.rjust(w) for c, w in zip(row, width, strict=True)).rstrip() for row in cells]


def _searched(study: Study, shares: dict[str, float]) -> list[str]:
    """The space, the most important path first, with its share of what made the difference."""
    assert study.space is not None  # noqa: S101  the caller's
    paths = sorted(study.space.paths, key=lambda p: -shares.get(p, 0.0))
    side = max(map(len, paths))
    lines = ["searched" + f"{'':<{max(0, side - 6)}}  importance" * bool(shares)]
    for p in paths:
        share = f"{shares[p]:>10.0%}  " if p in shares else ""
        lines.append(f"  {p:<{side}}  {share}{study.space.paths[p]!r}")
    return lines


def cross_validation_report(study: Study, dataset: Any) -> tuple[dict[str, Any], str]:
    """(values, text): each metric fold by fold, with mean and deviation."""
    import statistics

    members = study.members
    names = [n for n in members[0] if n not in ("fold", "seed", "loss")]
    names = [study.metric, *(n for n in names if n != study.metric)]
    seeds = study.settings.seeds > 1
    head = ["fold", *(["seed"] if seeds else []), *names]
    rows = [[str(m["fold"] + 1), *([str(m["seed"])] if seeds else []), *(number(m[n]) for n in names)] for m in members]
    gap = [""] * seeds
    mean = {n: statistics.fmean(m[n] for m in members) for n in names}
    deviation = {n: statistics.stdev(m[n] for m in members) for n in names}
    rows.append(["mean", *gap, *(number(mean[n]) for n in names)])
    rows.append(["deviation", *gap, *(number(deviation[n]) for n in names)])
    seen = len(dataset.train.x) + len(dataset.valid.x)
    folds = study.settings.folds
    lines = [f"{folds} folds of {seen:,} rows; {number(study.seconds)} s", "", *in_columns(head, rows)]
    if held := len(dataset.test.x):
        lines += ["", f"The {held:,} test rows were left out: --test 0 uses them too."]
    if study.experiment.early_stopping:
        lines += [] if held else [""]
        lines.append("Each fold's own rows chose its best epoch (early stopping): the scores are a little too good.")
    values = study_values(study) | {"folds": members, "mean": mean, "deviation": deviation}
    return values, "\n".join(lines)


def retest_report(path: str, found: Retest) -> tuple[dict[str, Any], str]:
    """(values, text): whether a run's values still hold, and what would be better."""
    rows = []
    for name, own, best in found.changes:
        rows.append([name, number(own), number(best)])
    score = [found.metric, number(found.own), number(found.best)]
    spread = ["its deviation over seeds", number(found.own_deviation), number(found.deviation)]
    cells = [["", "run", "best"], score, spread, *rows]
    width = [max(len(row[i]) for row in cells) for i in range(3)]
    lines = [f"{row[0]:<{width[0]}}  {row[1]:>{width[1]}}  {row[2]:>{width[2]}}" for row in cells]
    verdict = f"{path}: its values still hold: " if found.holds else f"{path}: its values no longer hold: "
    trials = len(found.study.trials)
    if found.same:
        verdict += f"none of the {trials - 1} others tried near them is better."
    else:
        apart = number(abs(found.own - found.best))
        verdict += (
            f"the best of {trials} trials near them differs by {apart}, "
            f"{'within' if found.holds else 'beyond'} its deviation over seeds, {number(found.deviation)}."
        )
    lines = [verdict, "", *lines]
    if not found.holds:
        better = " ".join(f"--set {name}={number(best)}" for name, _, best in found.changes)
        lines += ["", f"better    {better}"]
    values = {
        "path": path,
        "holds": found.holds,
        "metric": found.metric,
        "run": {"score": found.own, "deviation": found.own_deviation},
        "best": {"score": found.best, "deviation": found.deviation},
        "values": {name: {"run": own, "best": best} for name, own, best in found.changes},
        "trials": trials,
    }
    return values, "\n".join(lines)
