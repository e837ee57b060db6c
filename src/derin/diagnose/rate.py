"""How fast a net learns: the learning rate, the batch, and stretches on which nothing happens."""

from __future__ import annotations

import math

import numpy as np

from derin.diagnose.evidence import Evidence
from derin.diagnose.fit import SECOND, excess, falling, pace, rate_of, unfinished
from derin.diagnose.verdict import Remedy, Verdict, ramp
from derin.optim import SGD, Adam, ClipByGlobalNorm

LARGE_STEP = (0.05, 0.3)  # an update as a share of the weights' norm; about 1e-3 is usual
SMALL_STEP = (3e-4, 5e-5)
USUAL_STEP, USUAL_STEPS = 1e-3, 1000  # what a net of a few layers takes to learn: steps of this size, so many of them


def typical_update(e: Evidence) -> float:
    """The median over matrices and looks of update over weight; nan where nothing was measured."""
    found = [v for line in range(1, len(e.health)) for v in e.matrices("update", line).values() if math.isfinite(v)]
    return float(np.median(found)) if found else math.nan


def first_update(e: Evidence) -> float:
    """The largest update over weight of a matrix at the first weights."""
    return max((v for v in e.matrices("update", 0).values() if v == v), default=math.nan)


def scaled(e: Evidence) -> bool:
    """Does the optimiser divide by the gradient's size? Its steps are then as large as the rate, on any slope."""
    return not isinstance(e.experiment.optimizer, SGD)


def slope(e: Evidence) -> float:
    """The gradient's norm, the median over looks, over the trivial loss."""
    found = e.over_time("gradient_norm")
    return float(np.median(found)) / max(e.floor.loss, 1e-9) if len(found) else math.nan


def unrest(e: Evidence, of: str = "loss") -> float:
    """How much a loss goes up again from epoch to epoch in the later two thirds, as a share of itself."""
    curve = getattr(e, of)
    curve = curve[np.isfinite(curve)]
    curve = curve[len(curve) // 3 :]
    if len(curve) < 4:
        return 0.0
    steps = np.diff(curve)
    back = np.maximum(steps, 0).sum() / max(float(np.abs(steps).sum()), 1e-12)
    return float(back * np.abs(steps).mean() / max(float(np.median(curve)), 1e-9))


def grew(e: Evidence) -> float:
    """The worst training loss over that of the first weights, or the trivial one if that is larger."""
    first = e.health[0]["eval_mode_loss"] if e.health else 0.0
    return float(np.nanmax(e.loss) / max(e.floor.loss, first, 1e-9)) if len(e.loss) else math.inf


def too_high(e: Evidence) -> Verdict | None:
    step = typical_update(e)
    stuck = ramp(e.share(e.train), 0.3, 0.8)
    worse = ramp(grew(e), 1.5, 4.0)
    harm = 1 - (1 - ramp(unrest(e), 0.05, 0.2)) * (1 - ramp(excess(e), 0.05, 0.2))  # either is a sign, both are more
    sure = (
        0.95
        if e.broken
        else max(
            ramp(step, *LARGE_STEP) * max(ramp(excess(e), 0.03, 0.15), ramp(unrest(e), 0.05, 0.2)),
            worse * max(stuck, ramp(unrest(e), 0.05, 0.2)),
            ramp(unrest(e), 0.08, 0.25) * ramp(step, 0.01, 0.05),
            ramp(first_update(e), 0.3, 1.0) * max(stuck, harm),
        )
    )
    return Verdict(
        "learning rate too high",
        sure,
        {
            "learning rate": rate_of(e),
            "update over weight": step,
            "loss goes up and down by": unrest(e),
            "largest loss over the first": grew(e),
            "training broke off": e.broken,
        },
        "Steps are so large that they jump over the valley: the loss goes up and down, or grows without bound.",
        ("S0.23", "S2.08", "S4.01"),
        (
            Remedy("a tenth of the learning rate", {"optimizer.learning_rate": rate_of(e) / 10}),
            Remedy("clip the gradient", {"clip": ClipByGlobalNorm(1.0)}),
        ),
    )


def lacking(e: Evidence) -> float:
    """Of the way that training did not go, do the sizes of the steps lack more (above 0), or their number (below)?"""
    return math.log10(USUAL_STEP / max(typical_update(e), 1e-12)) - math.log10(USUAL_STEPS / max(e.steps, 1))


def tiny(e: Evidence) -> float:
    """1 where steps are far below a thousandth of the weights."""
    return ramp(math.log10(max(typical_update(e), 1e-12)), *(math.log10(size) for size in SMALL_STEP))


def too_low(e: Evidence) -> Verdict | None:
    step = math.log10(max(typical_update(e), 1e-12))
    small = ramp(step, math.log10(USUAL_STEP), math.log10(SMALL_STEP[0])) * ramp(lacking(e), 0.0, 0.5)
    slow = SECOND * ramp(step, math.log10(3 * USUAL_STEP), math.log10(USUAL_STEP))  # longer training does as well
    return Verdict(
        "learning rate too low",
        max(tiny(e), small * unfinished(e), slow * unfinished(e))
        * ramp(excess(e), 0.05, 0.2)
        * max(ramp(slope(e), 0.06, 0.15), float(scaled(e))),
        {
            "learning rate": rate_of(e),
            "update over weight": typical_update(e),
            "steps": e.steps,
            "loss fell at the end by": falling(e.loss),
            "training error": e.train.error,
        },
        "Each step changes the weights by much less than a thousandth of themselves, and the loss is still high.",
        ("S0.23", "S2.08", "S4.01"),
        (
            Remedy("ten times the learning rate", {"optimizer.learning_rate": rate_of(e) * 10}),
            Remedy("a hundred times the learning rate", {"optimizer.learning_rate": rate_of(e) * 100}),
            Remedy("derin.lr_range_test finds one"),
        ),
    )


def noise_of(e: Evidence) -> float:
    """Noise over signal of a batch's gradient, the median over looks."""
    found = e.over_time("gradient_noise")
    found = found[np.isfinite(found)]
    return float(np.median(found)) if len(found) else math.nan


def small_batch(e: Evidence) -> Verdict | None:
    jumps = max(unrest(e), unrest(e, "valid_loss"))
    far = max(ramp(excess(e), 0.02, 0.15), ramp(jumps, 0.02, 0.08), SECOND)
    return Verdict(
        "batch too small",
        ramp(e.batch, 9, 4) * ramp(e.rows, 50, 100) * ramp(noise_of(e), 1, 5) * far,
        {"rows a batch": e.batch, "noise over gradient": noise_of(e), "loss goes up and down by": jumps},
        "The gradient of so few rows is mostly noise, and the weights follow it.",
        ("S3.16", "S3.07", "S0.34"),
        (
            Remedy("32 rows a batch", {"batch_size": 32}),
            Remedy("a tenth of the learning rate", {"optimizer.learning_rate": rate_of(e) / 10}),
        ),
    )


def large_batch(e: Evidence) -> Verdict | None:
    smaller = max(16, min(64, e.rows // 20))
    return Verdict(
        "batch too large",
        ramp(e.per_epoch, 6, 3)
        * (ramp(e.rows, 60, 150) if e.per_epoch == 1 else ramp(e.rows, 100, 250))
        * unfinished(e)
        * ramp(excess(e), 0.03, 0.12)
        * ramp(e.steps, 400, 200)
        * max(ramp(e.epochs, 2, 8), SECOND),  # a few epochs are too short with any batch
        {
            "rows a batch": e.batch,
            "steps an epoch": e.per_epoch,
            "steps": e.steps,
            "loss fell at the end by": falling(e.loss),
            "noise over gradient": noise_of(e),
        },
        f"An epoch is {e.per_epoch} step{'s' * (e.per_epoch > 1)}: all rows are read for a gradient that far fewer "
        "would give, and the net has hardly moved.",
        ("S3.16", "S3.07", "S0.34"),
        (
            Remedy(f"{smaller} rows a batch", {"batch_size": smaller}),
            Remedy("a larger learning rate", {"optimizer.learning_rate": rate_of(e) * 5}),
        ),
    )


def _left_late(e: Evidence) -> float:
    """1 where the training loss stood near the trivial one for most epochs, and fell fastest in the last ones."""
    if e.epochs < 8 or not np.isfinite(e.loss).all():
        return 0.0
    half = float(e.loss[e.epochs // 2] / max(float(e.loss[0]), 1e-9))
    return ramp(pace(e, e.loss), 0.35, 0.5) * ramp(half, 0.85, 0.95)


def stuck(e: Evidence) -> float:
    """1 where the loss of a net with hidden layers stands still near the trivial one, although trees learn.

    A curve that stood still for most of the time and falls at last has just left the plateau. One that came down by a
    third of the trivial loss has learned, slowly or not, even if it names few rows rightly yet. Where trees learn
    nothing either, it may be a plateau all the same: some functions, as parity, show no slope to them.
    """
    left = float(e.loss[-1] / max(min(float(e.loss[0]), e.floor.loss), 1e-9)) if e.epochs else 1.0
    flat = max(ramp(abs(falling(e.loss)), 0.03, 0.01) * ramp(left, 0.67, 0.8), 0.6 * _left_late(e))
    wrong = e.share(e.train)
    near = max(ramp(wrong, 0.6, 0.85), ramp(e.train.loss / max(e.floor.loss, 1e-9), 0.8, 0.95))
    learned = e.ceiling is not None and e.share(e.ceiling) < 0.7 * wrong
    possible = 1.0 if learned else SECOND * learns_nothing(e)
    return flat * near * possible * (e.hidden > 0)


def both_fail(e: Evidence) -> bool:
    """Neither gradient boosting nor the net has learned anything that holds on fresh rows."""
    return learns_nothing(e) == 1 and e.judged > 0 and e.valid.loss > 0.9 * e.floor.loss


def learns_nothing(e: Evidence) -> float:
    """1 where gradient boosting does not better than the trivial predictor on fresh rows."""
    return ramp(e.ceiling.loss / max(e.floor.loss, 1e-9), 0.93, 0.99) if e.ceiling else 0.0


def plateau(e: Evidence) -> Verdict | None:
    """No slope, no success, and a net that could do better: its hidden layers still act as one line."""
    step = typical_update(e)
    held = e.experiment.penalty is not None or getattr(e.experiment.optimizer, "weight_decay", 0.0) > 0.1
    return Verdict(
        "plateau or saddle",
        stuck(e)
        * ramp(slope(e), 0.5, 0.15)
        * (ramp(step, 3e-5, 3e-4) if scaled(e) else ramp(step, 1e-6, 1e-5))
        * ramp(step, 0.05, 0.02)
        * (0.3 if held else 1.0),
        {
            "loss fell at the end by": falling(e.loss),
            "loss": float(e.loss[-1]) if e.epochs else math.nan,
            "trivial loss": e.floor.loss,
            "gradient norm over trivial loss": slope(e),
            "update over weight": step,
        },
        "The loss stands still near the trivial one although there is more to learn: the gradient is small here, "
        "not because a minimum was reached but on a flat stretch or near a saddle point.",
        ("S4.19", "S1.38"),
        (
            Remedy("Adam, which takes longer steps where the slope is small", {"optimizer": Adam(3e-3)}),
            Remedy("momentum and a larger learning rate", {"optimizer.learning_rate": rate_of(e) * 10}),
            Remedy("larger first weights (He)"),
            Remedy("train longer", {"epochs": 5 * e.experiment.epochs}),
        ),
    )


RULES = (too_high, too_low, small_batch, large_batch, plateau)
