"""What is wrong with the rows: answers, columns, and how they were cut into parts."""

from __future__ import annotations

import math

from derin.diagnose.evidence import Evidence
from derin.diagnose.facts import LEAKS, left
from derin.diagnose.fit import SECOND, excess, too_short
from derin.diagnose.rate import USUAL_STEP, USUAL_STEPS, both_fail, typical_update
from derin.diagnose.verdict import LIKELY, Remedy, Verdict, ramp

HARDLY = 0.1  # not listed, unless nothing likelier is found


def unnormalised(e: Evidence) -> Verdict | None:
    low, high = e.facts.spread
    if high != high or e.starts_normed:
        return None
    far, near = (math.log10(max(v, 1e-12)) for v in (max(high, e.facts.offset), high))
    bad = ramp(excess(e), 0.05, 0.2)  # a little is harmless, unless the net does badly
    return Verdict(
        "unnormalised inputs",
        max(ramp(far, 0.7, 1.3), ramp(near, -1.3, -2.3), bad * max(ramp(far, 0.5, 1.0), ramp(near, -1.0, -1.5))),
        {"largest mean of a column": e.facts.offset, "largest deviation": high, "smallest deviation": low},
        "Columns are far from mean 0 and deviation 1: the loss is a long narrow valley, and units saturate.",
        ("S4.09",),
        (
            Remedy("standardise the columns, as derin.data.load does: (x - mean) / deviation of the training rows"),
            Remedy("BatchNorm as the first layer"),
        ),
    )


def imbalance(e: Evidence) -> Verdict | None:
    shares = e.facts.classes
    if len(shares) < 2 or not e.valid.recall or e.experiment.class_weights is not None:
        return None
    found = dict(enumerate(e.valid.recall[: len(shares)]))
    seen = [c for c in found if shares[c] > 0 and found[c] == found[c]]
    if len(seen) < 2:
        return None
    missed = {c: ramp(shares[c] * len(shares), 0.45, 0.25) * ramp(found[c], 0.55, 0.35) for c in seen}
    rare = max(seen, key=lambda c: (missed[c], -shares[c]))
    common = max(seen, key=lambda c: shares[c])
    recall, other = found[rare], found[common]
    return Verdict(
        "class imbalance ignored",
        missed[rare] * ramp(other, 0.6, 0.8) * (1 - 0.8 * _may_come(e)),
        {
            "share of the rarest class": shares[rare],
            "class": e.labels[rare] if rare < len(e.labels) else rare,
            "share of it that is found": recall,
            "share of the commonest that is found": other,
            "class weights": "none",
        },
        "One class is rare, and the net gets a low loss by hardly ever naming it.",
        ("S3.28",),
        (
            Remedy("weights that make up for the numbers", {"class_weights": "balanced"}),
            Remedy("oversampling of the rare class, or SMOTE"),
            Remedy("a lower threshold: run.choose_threshold('f1')"),
        ),
    )


def _may_come(e: Evidence) -> float:
    """1 where training was so short that the rare class may be found in time; after twice the usual way it is late."""
    way = typical_update(e) * e.steps / (USUAL_STEP * USUAL_STEPS)
    short = too_short(e).confidence
    return short * (1 - ramp(way, 1, 2)) if short >= LIKELY else 0.0


def shuffled(e: Evidence) -> Verdict | None:
    if not e.judged or e.ceiling is None:
        return None
    best = min(e.share(e.ceiling), e.share(e.valid))
    loss = e.ceiling.loss / max(e.floor.loss, 1e-9)
    spread = e.noise
    return Verdict(
        "shuffled labels",
        max(
            ramp(best + spread, 0.88, 0.97) * ramp(loss, 0.93, 0.99) * ramp(e.rows, 60, 150) * max(_enough(e), SECOND),
            HARDLY * both_fail(e),
        ),
        {
            "validation error": e.valid.error,
            "gradient boosting's": e.ceiling.error,
            "trivial error": e.floor.error,
            "training error": e.train.error,
            "gradient boosting's loss over trivial": loss,
        },
        "Neither the net nor gradient boosting does better on fresh rows than guessing: the answers have nothing to "
        "do with the inputs. Were they shuffled, or joined to the wrong rows?",
        ("S3.12",),
        (Remedy("check how rows and answers were joined"), Remedy("look for columns that do tell of the answer")),
    )


def _enough(e: Evidence) -> float:
    """Are the rows so many for their columns that something would be found if it were there?"""
    return max(ramp(e.rows / max(e.facts.width, 1), 2, 5), ramp(e.rows, 400, 800))


def leak(e: Evidence) -> Verdict | None:
    facts = e.facts
    if facts.leak < 0 or facts.without_leak != facts.without_leak:
        return None
    name = e.columns[facts.leak] if facts.leak < len(e.columns) else facts.leak
    errors = (facts.leak_error, facts.without_leak, facts.next_error)
    alone, without, second = (left(error, e.floor.error, facts.classes) for error in errors)
    return Verdict(
        "target leak",
        ramp(alone, LEAKS, 0.12) * max(ramp(without - alone, 0.05, 0.15), ramp(second - alone, 0.3, 0.5)),
        {
            "column": name,
            "error from it alone": facts.leak_error,
            "from the next best one": facts.next_error,
            "error of gradient boosting without it": facts.without_leak,
            "trivial error": e.floor.error,
            "validation error": e.valid.error,
        },
        f"Column {name} alone gives the answer almost exactly, and no other does: was it written down after "
        "the answer was known?",
        ("S3.09",),
        (Remedy(f"leave column {name} out, unless it is known when predicting"),),
    )


def drift(e: Evidence) -> Verdict | None:
    area, error = e.facts.drift, e.facts.drift_error
    return Verdict(
        "different distributions",
        ramp(area - 2 * error, 0.58, 0.68),
        {
            "area of a classifier that tells the parts apart": area,
            "standard error": error,
            "training error": e.train.error,
            "validation error": e.valid.error,
        },
        "Training and validation rows can be told apart by their inputs alone: they are not of one distribution, so "
        "that the validation score says little about either (covariate shift: black cats, then coloured ones).",
        ("S4.13",),
        (
            Remedy("shuffle before cutting, or cut by group or time on purpose"),
            Remedy("rows like those of validation in training"),
            Remedy("leave out, or transform, the columns that differ"),
        ),
    )


def duplicates(e: Evidence) -> Verdict | None:
    return Verdict(
        "duplicated rows",
        ramp(e.facts.shared - e.facts.by_chance, 0.02, 0.08) * ramp(e.facts.agreeing, 0.9, 0.97),
        {
            "validation rows that stand in training": e.facts.shared,
            "expected by chance": e.facts.by_chance,
            "of equal inputs, answers equal": e.facts.agreeing,
            "validation error": e.valid.error,
        },
        "Rows of validation were learned from: the score says how well they were remembered.",
        ("S3.09",),
        (Remedy("remove repeated rows before cutting"), Remedy("cut with group=, so that copies stay together")),
    )


RULES = (unnormalised, imbalance, shuffled, leak, drift, duplicates)
