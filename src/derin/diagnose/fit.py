"""Bias and variance, by the course's table (S3.11-S3.14); trained too short, or too long.

    error on   training    validation    verdict                          what helps (S3.14)
               high        as high       high bias (underfitting)         a larger net, more features, longer training
               low         high          high variance (overfitting)      regularisation, more rows
               high        higher        both
               low         little more   just right

S3.13 names regularisation and more rows as remedies for high bias, S3.14 and S3.10 do not. derin follows S3.14:
regularisation takes freedom from a net that lacks it already, and more rows do not bend a line; less regularisation
is what helps.

"High" is measured as a share of what the trivial predictor gets wrong, against what gradient boosting gets wrong.
"""

from __future__ import annotations

import math

import numpy as np

from derin.diagnose.evidence import Evidence
from derin.diagnose.verdict import Remedy, Verdict, ramp
from derin.optim import DecoupledDecay

HIGH = (0.10, 0.25)  # excess of an error, as a share of the trivial one, that is a little and that is a lot
GAP = (0.12, 0.30)
SECOND = 0.45  # a finding that another explains as well: listed, and no verdict


def excess(e: Evidence) -> float:
    """How much more of the trivial error is left in training than a good model leaves on fresh rows."""
    reached = e.share(e.ceiling) if e.ceiling else 0.15
    return e.share(e.train) - min(reached, 1.0)


def doing_badly(e: Evidence) -> float:
    """1 where a good model is so much better, in training or on fresh rows, that something must be wrong."""
    reached = min(e.share(e.ceiling), 1.0) if e.ceiling else 0.6
    fresh = e.share(e.valid) - e.noise if e.judged else 0.0
    return ramp(max(e.share(e.train), fresh) - reached, *HIGH)


def high_in_training(e: Evidence) -> float:
    """The same where rows are few, so that gradient boosting fails on fresh rows too and is no measure.

    A line with half as many weights as rows leaves about half of the error that it would leave of many rows: what it
    cannot bend to is told by the error per degree of freedom.
    """
    reached = min(e.share(e.ceiling), 0.15) if e.ceiling else 0.15
    free = 1 - e.weights / (e.numbers * max(e.rows, 1)) if e.numbers and not e.hidden else 1.0
    return ramp(e.share(e.train) / max(free, 0.2) - reached, *HIGH)


def gap(e: Evidence) -> float:
    """Validation error less training error, as a share of the trivial one, one and a half standard errors taken off."""
    return e.share(e.valid) - e.share(e.train) - 1.5 * e.noise if e.judged else 0.0


def falling(curve: np.ndarray) -> float:
    """By which share of itself the loss fell over the last quarter of the epochs."""
    curve = curve[np.isfinite(curve)]
    if len(curve) < 2:
        return float(len(curve))
    k = max(1, len(curve) // 4)
    before, after = float(np.mean(curve[-2 * k : -k])) if len(curve) >= 2 * k else float(curve[0]), curve[-k:].mean()
    return float((before - after) / max(abs(before), 1e-9))


def pace(e: Evidence, curve: np.ndarray) -> float:
    """The share of all that the loss has fallen which it fell in the last quarter of the epochs: 0.25 of a line."""
    curve = curve[np.isfinite(curve)]
    if len(curve) < 3 or curve[0] - curve[-1] < 0.02 * e.floor.loss:
        return 0.0
    k = max(1, len(curve) // 4)
    return float((curve[-1 - k] - curve[-1]) / (curve[0] - curve[-1]))


def moved(e: Evidence) -> float:
    """By how much of themselves the weights can have changed: the steps times the size of one. nan without health."""
    looks = [[v for v in e.matrices("update", line).values() if math.isfinite(v)] for line in range(len(e.health))]
    return e.steps * max((float(np.median(found)) for found in looks if found), default=math.nan)


def early(e: Evidence) -> float:
    """1 where the net has hardly left its first weights: what it does then says nothing of what it can do."""
    return ramp(moved(e), 0.4, 0.1)


def gained(e: Evidence, curve: np.ndarray) -> float:
    """By how much of the trivial loss a curve fell in its last quarter."""
    curve = curve[np.isfinite(curve)]
    return float(curve[-1 - max(1, len(curve) // 4)] - curve[-1]) / max(e.floor.loss, 1e-9) if len(curve) > 1 else 0.0


def steady(curve: np.ndarray) -> float:
    """1 where a curve goes one way in the second half of the epochs, 0 where it goes up and down and gets nowhere."""
    steps = np.diff(curve[np.isfinite(curve)][len(curve) // 2 - 1 :]) if len(curve) > 3 else np.ones(1)
    return ramp(abs(steps.sum()) / max(float(np.abs(steps).sum()), 1e-12), 0.15, 0.4)


def unfinished(e: Evidence) -> float:
    """1 where the loss was still falling when training ended: by its own size, by how it fell before, or at all
    where the weights have hardly moved."""
    fell = falling(e.loss)
    far = max(ramp(fell, 0.04, 0.12), ramp(pace(e, e.loss), 0.12, 0.22), early(e) * ramp(fell, 0.002, 0.01))
    return far * steady(e.loss)


def settled(e: Evidence) -> float:
    """1 where training changes nothing any more, 0 where the loss still falls or the net has hardly moved."""
    return 1 - max(unfinished(e), early(e))


def _numbers(e: Evidence) -> dict[str, float]:
    found = {"training error": e.train.error, "validation error": e.valid.error, "trivial error": e.floor.error}
    return found | ({"gradient boosting's": e.ceiling.error} if e.ceiling else {})


def bias(e: Evidence) -> Verdict | None:
    high = ramp(excess(e), *HIGH)
    wide = ramp(gap(e), *GAP)
    return Verdict(
        "high bias",
        high * settled(e) * (1 - wide),
        _numbers(e) | {"loss fell at the end by": falling(e.loss)},
        "The net is as wrong on the rows it learned from as on others, and a good model is much better: it is too "
        "simple for these data.",
        ("S3.11", "S3.12", "S3.14", "S3.10"),
        (
            Remedy("more layers or units"),
            Remedy("better features, or layers that fit the data (convolutions for images)"),
            *_less_regularisation(e),
            Remedy("train longer", {"epochs": 3 * e.experiment.epochs}),
        ),
    )


def gap_of_loss(e: Evidence) -> float:
    """Validation loss less training loss, over the trivial one: it shows confidence in wrong answers too."""
    return (e.valid.loss - e.train.loss) / max(e.floor.loss, 1e-9) if e.judged else 0.0


def variance(e: Evidence) -> Verdict | None:
    best = _best_epoch(e)
    return Verdict(
        "high variance",
        max(ramp(gap(e), *GAP), ramp(gap_of_loss(e), 0.35, 0.6)) * (1 - high_in_training(e)),
        _numbers(e) | {"rows": e.rows, "weights": e.weights, "best epoch": best},
        "The net knows its training rows by heart and is much worse on others.",
        ("S3.11", "S3.12", "S3.14", "S3.09"),
        (
            Remedy("more rows; derin.learning_curve says whether they would help"),
            Remedy("weight decay", {"penalty": DecoupledDecay(1e-2)}),
            Remedy("dropout, Dropout(0.3) after the hidden layers"),
            Remedy("fewer units"),
        ),
    )


def both(e: Evidence) -> Verdict | None:
    high, wide = high_in_training(e), ramp(gap(e), *GAP)
    return Verdict(
        "high bias and high variance",
        min(high, wide) * max(settled(e), 0.6),
        _numbers(e) | {"rows": e.rows, "weights": e.weights},
        "The net is wrong on the rows it learned from, and much more so on others: its shape does not fit the data, "
        "and there are too few rows for it.",
        ("S3.11", "S3.12", "S3.14"),
        (
            Remedy("a net that fits the data better: other features or layers"),
            Remedy("more rows"),
            Remedy("weight decay on a larger net", {"penalty": DecoupledDecay(1e-2)}),
        ),
    )


def _less_regularisation(e: Evidence) -> tuple[Remedy, ...]:
    found = []
    if e.experiment.penalty is not None:
        found.append(Remedy("no penalty on the weights", {"penalty": None}))
    if getattr(e.experiment.optimizer, "weight_decay", 0.0):
        found.append(Remedy("less weight decay", {"optimizer.weight_decay": 0.0}))
    if getattr(e.experiment.net, "dropout", None):
        found.append(Remedy("no dropout", {"net.dropout": 0.0}))
    return tuple(found)


def too_short(e: Evidence) -> Verdict:
    fell = falling(e.valid_loss)
    valid_still = max(
        ramp(fell, 0.02, 0.06),
        ramp(pace(e, e.valid_loss), 0.05, 0.15),
        early(e) * ramp(fell, 0, 0.005),
        SECOND * ramp(risen(e), 0.1, 0.02),  # it may come yet
    )
    far = ramp(excess(e), 0.02, 0.15) if e.ceiling else 1.0
    far = max(far, ramp(gained(e, e.valid_loss) if e.judged else 0.0, 0.04, 0.12))
    still_best = _best_epoch(e) == e.epochs  # early stopping had nothing to stop yet
    return Verdict(
        "trained too short",
        unfinished(e) * (valid_still if e.judged else 1.0) * max(far, 0.3) * (not e.early_stopped or still_best),
        {
            "loss fell at the end by": falling(e.loss),
            "validation loss fell at the end by": fell,
            "share of the whole fall": pace(e, e.loss),
            "epochs": e.epochs,
            "steps": e.steps,
        }
        | _numbers(e),
        "Both losses were still falling when training ended.",
        ("S3.14", "S1.32"),
        (
            Remedy("train longer", {"epochs": 4 * e.experiment.epochs}),
            Remedy("a larger learning rate", {"optimizer.learning_rate": 3 * rate_of(e)}),
        ),
    )


def rate_of(e: Evidence) -> float:
    return float(e.experiment.optimizer.learning_rate)


def _best_epoch(e: Evidence) -> int:
    curve = e.valid_loss
    return int(np.nanargmin(curve)) + 1 if np.isfinite(curve).any() else 0


def risen(e: Evidence) -> float:
    """By which share of its least value the validation loss rose again until the end."""
    curve = e.valid_loss[np.isfinite(e.valid_loss)]
    if len(curve) < 5:
        return 0.0
    least = float(curve.min())
    return float((np.median(curve[-3:]) - least) / max(least, 0.02))


def risen_far(e: Evidence) -> float:
    """The same rise as a share of the trivial loss: that of a loss near 0 is of no matter, however many times it is."""
    curve = e.valid_loss[np.isfinite(e.valid_loss)]
    return float(np.median(curve[-3:]) - curve.min()) / max(e.floor.loss, 1e-9) if len(curve) else 0.0


def overtrained(e: Evidence) -> Verdict | None:
    best = _best_epoch(e)
    if not e.judged or not best or e.early_stopped:
        return None
    then = float(e.valid_loss[best - 1])
    gap_then = (then - float(e.loss[best - 1])) / max(e.floor.loss, 1e-9)
    late = ramp(e.epochs - best, 0.3 * e.epochs, 0.5 * e.epochs)
    fell = ramp(float(e.loss[best - 1] - e.loss[-1]) / max(e.floor.loss, 1e-9), 0.02, 0.1)
    was_good = ramp(gap_then, 0.40, 0.20) * ramp(then / e.floor.loss, 1.0, 0.9)  # else too few rows are the matter
    return Verdict(
        "overtrained",
        ramp(risen(e), 0.10, 0.30) * ramp(risen_far(e), 0.03, 0.1) * late * fell * (SECOND + (1 - SECOND) * was_good),
        {
            "best epoch": best,
            "epochs": e.epochs,
            "validation loss then": then,
            "validation loss at the end": float(e.valid_loss[-1]),
            "training loss then": float(e.loss[best - 1]),
            "training loss at the end": float(e.loss[-1]),
        },
        f"Since epoch {best} the validation loss has risen while the training loss went on falling.",
        ("S3.16", "S1.66", "S3.09", "S3.14"),
        (
            Remedy("early stopping, which keeps the weights of the best epoch", {"early_stopping": _stopping()}),
            Remedy("fewer epochs", {"epochs": max(1, best)}),
            Remedy("weight decay", {"penalty": DecoupledDecay(1e-2)}),
        ),
    )


def _stopping():  # type: ignore[no-untyped-def]
    from derin.engine.experiment import EarlyStopping

    return EarlyStopping(10)


RULES = (bias, variance, both, too_short, overtrained)
