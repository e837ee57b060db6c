"""Which verdict comes first: causes before what follows from them."""

from __future__ import annotations

from collections.abc import Sequence

from derin.diagnose.evidence import Evidence
from derin.diagnose.verdict import LIKELY, Remedy, Verdict

LISTED = 0.2  # confidence from which on a finding is worth mentioning

# A sick net shows many symptoms of one cause. Each line: what, if it is so, also makes the net look like what. Causes
# stand before what they explain: rows, then the net as it was built, then how it was trained, then how it fits.
_TRAINED = ("learning rate too high", "learning rate too low", "batch too small", "batch too large",
            "plateau or saddle", "trained too short")  # fmt: skip
_FIT = ("overtrained", "high variance", "high bias and high variance", "high bias", "class imbalance ignored")
_UNITS = ("vanishing gradients", "dead ReLUs", "saturated units", "poor initialisation")
EXPLAINS: dict[str, tuple[str, ...]] = {
    "unnormalised inputs": ("exploding gradients", *_UNITS, "misleading BatchNorm statistics", *_TRAINED, *_FIT),
    "different distributions": ("misleading BatchNorm statistics", "shuffled labels", *_FIT),
    "target leak": (),
    "duplicated rows": ("overtrained", "high variance"),
    "shuffled labels": (*(name for name in _TRAINED if name != "plateau or saddle"), *_FIT),  # it looks the same
    "unfitting output layer": (*_UNITS, *_TRAINED, *_FIT),
    "exploding gradients": (*_UNITS, *_TRAINED, *_FIT),
    "dead ReLUs": ("poor initialisation", "vanishing gradients", *_TRAINED, *_FIT),
    "saturated units": ("poor initialisation", "vanishing gradients", *_TRAINED, *_FIT),
    "poor initialisation": ("vanishing gradients", *_TRAINED, *_FIT),
    "vanishing gradients": (*_TRAINED, *_FIT),
    "misleading BatchNorm statistics": (*_TRAINED, *_FIT),
    "batch too small": ("learning rate too high", "trained too short", *_FIT),
    "learning rate too high": ("plateau or saddle", "trained too short", *_FIT),
    "learning rate too low": ("batch too large", "trained too short", "plateau or saddle", *_FIT),
    "batch too large": ("trained too short", "plateau or saddle", *_FIT),
    "plateau or saddle": ("trained too short", *_FIT),
    "trained too short": tuple(name for name in _FIT if name != "class imbalance ignored"),  # see rows.imbalance
    "class imbalance ignored": ("high bias",),
    "overtrained": ("high variance", "high bias and high variance"),
    "high bias and high variance": (),
    "high variance": (),
    "high bias": (),
}


def ranked(found: Sequence[Verdict], something: bool = False) -> list[Verdict]:
    """The verdicts by confidence, after each has lost what a likelier cause explains of it.

    something: the likeliest one is kept, however small it is.
    """
    by_name = {v.name: v for v in found}
    sure: dict[str, float] = {}
    for name in EXPLAINS:
        if name in by_name:
            left = by_name[name].confidence
            for cause, consequences in EXPLAINS.items():
                if name in consequences and sure.get(cause, 0.0) >= LIKELY:
                    left *= 1 - 0.8 * sure[cause]
            sure[name] = left
    order = sorted(sure, key=lambda name: -sure[name])
    listed = {name for name in order if sure[name] >= LISTED or by_name[name].confidence >= LIKELY}
    if something and order and sure[order[0]] > 0:
        listed.add(order[0])
    kept = [(by_name[name], sure[name]) for name in order if name in listed]
    return [Verdict(**{**vars(v), "confidence": confidence}) for v, confidence in kept]


def just_right(e: Evidence, suspected: Sequence[Verdict]) -> Verdict:
    """Nothing was found."""
    evidence = {"training error": e.train.error, "validation error": e.valid.error, "trivial error": e.floor.error}
    if e.ceiling:
        evidence["gradient boosting's"] = e.ceiling.error
    return Verdict(
        "just right",
        1 - max((v.confidence for v in suspected), default=0.0),
        evidence,
        "The training error is low and the validation error is little more: the net fits these data.",
        ("S3.11", "S3.14"),
        (
            Remedy("nothing is to be cured; derin.tune looks for what is better still"),
            Remedy("more rows help where derin.learning_curve still falls"),
        ),
    )
