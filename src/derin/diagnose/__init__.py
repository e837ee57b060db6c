"""Diagnosis: what is wrong with a run, with the numbers that say so and what helps.

found = derin.diagnose(run)                               # this module may be called
found.verdicts[0].name, found.verdicts[0].remedies

evidence   what the rules look at, gathered once         facts   what the rows say: floor, ceiling, leaks, drift
fit        bias, variance, too short, too long           rate    learning rate, batch, plateaus
layers     gradients, units, first weights, BatchNorm    rows    labels, leaks, drift, duplicates, imbalance
ranking    causes before what follows from them          pictures  health, a layer a line
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from derin.on_demand import callable_package, on_demand

if TYPE_CHECKING:
    from derin.diagnose.doctor import diagnose
    from derin.diagnose.learning import LearningCurve, learning_curve
    from derin.diagnose.pictures import health_pictures
    from derin.diagnose.verdict import Diagnosis, Remedy, Verdict
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "doctor": "diagnose",
            "learning": "LearningCurve learning_curve",
            "pictures": "health_pictures",
            "verdict": "Diagnosis Remedy Verdict",
        },
    )

__all__ = ["Diagnosis", "LearningCurve", "Remedy", "Verdict", "diagnose", "health_pictures", "learning_curve"]

callable_package(__name__, "derin.diagnose.doctor:diagnose")
