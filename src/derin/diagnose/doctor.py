"""derin.diagnose: gather the evidence, ask every rule, rank what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from derin.diagnose import fit, layers, rate, rows
from derin.diagnose.evidence import Evidence, gather
from derin.diagnose.ranking import just_right, ranked
from derin.diagnose.verdict import LIKELY, Diagnosis
from derin.errors import RunError

RULES = (*rows.RULES, *layers.RULES, *rate.RULES, *fit.RULES)


def diagnose(run: Any, data: Any = None) -> Diagnosis:
    """What is wrong with a run: verdicts with evidence, confidence, the course's concept and remedies.

    run: a Run, its folder's path, or the TrainingFailed that ended it. data: what it was trained on, where the run
    cannot find them itself. Raises RunError where there is nothing to look at. Concepts S3.08-S3.14.

    >>> import derin
    >>> run = derin.fit(derin.nn.Linear(3), derin.data.load("iris"), epochs=2, progress=False,
    ...                 optimizer=derin.optim.SGD(1e-5))
    >>> derin.diagnose(run).verdicts[0].name
    'learning rate too low'
    """
    return judged(gather(_run_of(run), data))


def _run_of(run: Any) -> Any:
    from derin.engine import Run, load
    from derin.errors import TrainingFailed

    if isinstance(run, (str, Path)):
        return load(run)
    if isinstance(run, TrainingFailed) and run.run is not None:
        return run.run
    if not isinstance(run, Run):
        raise RunError(f"derin.diagnose takes a run, or the path of its folder; got a {type(run).__name__}.")
    return run


def judged(e: Evidence) -> Diagnosis:
    """What the rules make of this evidence.

    A net that does far worse than gradient boosting, or learns as little as it does where that learns nothing, is not
    just right: the likeliest finding is given, though unsure.
    """
    badly = fit.doing_badly(e) == 1 or rate.both_fail(e)
    found = ranked([v for rule in RULES if (v := rule(e)) is not None], something=badly)
    likely = min(LIKELY, found[0].confidence) if badly and found else LIKELY
    verdicts = tuple(v for v in found if v.confidence >= likely)
    suspected = tuple(v for v in found if v.confidence < likely)
    scores: dict[str, Any] = {
        "training": {"loss": e.train.loss, "error": e.train.error},
        "validation": {"loss": e.valid.loss, "error": e.valid.error} if e.judged else None,
        "floor": {"loss": e.floor.loss, "error": e.floor.error},
        "ceiling": {"loss": e.ceiling.loss, "error": e.ceiling.error} if e.ceiling else None,
    }
    return Diagnosis(verdicts or (just_right(e, suspected),), scores, suspected, _notes(e))


def _notes(e: Evidence) -> tuple[str, ...]:
    notes = []
    if not e.health:
        notes.append(
            "this run has no health records (it was trained with health=False, or by an older derin): gradients, units "
            "and first weights were not looked at. Train it again with health=True for those."
        )
    if not e.judged:
        notes.append(
            "there are no validation rows: variance, overtraining and drift were not looked at. Load with valid=0.15."
        )
    if e.ceiling is None:
        notes.append("gradient boosting was not tried, since these are a handful of rows, or many targets.")
    return tuple(notes)
