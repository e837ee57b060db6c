"""What population-based training came to, to be trained again: its learning rates as a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from derin import spec
from derin.engine.experiment import Experiment
from derin.errors import SpecError
from derin.optim import ChainedScheduler, Constant, ConstantLR, Schedule, SequentialLR

if TYPE_CHECKING:
    from derin.tune.study import Study

RATE = "optimizer.learning_rate"


def schedule_of(study: Study) -> Schedule:
    """See Study.schedule: each rate for as many epochs as the best trial's weights were trained with it."""
    best = study.best
    begins, rates = [0], []
    for epoch, values in best.history:
        rates.append(values.get(RATE))
        begins.append(epoch)
    rates.append(best.values.get(RATE))
    if len(set(rates)) < 2:
        raise SpecError(
            "the learning rate of the best trial did not change while it trained: only PopulationBased with a "
            f"distribution at {RATE} makes a schedule."
        )
    if any(path.startswith("schedule.") for path in best.values):
        raise SpecError("the schedule's own values were searched as well, so the rates are no factors of one schedule.")
    ends = [*begins[1:], best.experiment.epochs]
    parts = tuple(
        ConstantLR(start_factor=rate / rates[0], total_iters=float(end - begin))
        for rate, begin, end in zip(rates, begins, ends, strict=True)
    )
    found = SequentialLR(parts, milestones=tuple(float(b) for b in begins[1:]))
    own = best.experiment.schedule
    return found if own == Constant() else ChainedScheduler((own, found))


def replayed(study: Study) -> Experiment:
    """See Study.replayed."""
    best = study.best
    rates = [values.get(RATE) for _, values in best.history] + [best.values.get(RATE)]
    if len(set(rates)) < 2 or any(path.startswith("schedule.") for path in best.values):
        return best.experiment
    first = spec.set(best.experiment, RATE, rates[0])
    return first.replace(schedule=schedule_of(study))
