"""Tuning: a space is an experiment with distributions in it; a population trains its trials as one program.

study = derin.tune(experiment, data, trials=200, pruner="asha")        # this module may be called
derin.tune.load("studies/first").table

spaces     distributions (derin.log, ...), Space                  samplers   which values are tried
pruners    which trials go on                                     search     the loop      study   what comes of it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from derin.on_demand import callable_package, on_demand

if TYPE_CHECKING:
    from derin.tune.local import Retest, retest
    from derin.tune.pruners import ASHA, Hyperband, PopulationBased, Pruner, SuccessiveHalving
    from derin.tune.samplers import CoarseToFine, GivenTrials, Grid, Optuna, Random, Sampler, Sobol
    from derin.tune.space import Space
    from derin.tune.study import Study, cross_validate, load, tune
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "pruners": "ASHA Hyperband PopulationBased Pruner SuccessiveHalving",
            "local": "Retest retest",
            "samplers": "CoarseToFine GivenTrials Grid Optuna Random Sampler Sobol",
            "space": "Space",
            "study": "Study cross_validate load tune",
        },
    )

__all__ = [
    "ASHA",
    "CoarseToFine",
    "GivenTrials",
    "Grid",
    "Hyperband",
    "Optuna",
    "PopulationBased",
    "Pruner",
    "Random",
    "Retest",
    "Sampler",
    "Sobol",
    "Space",
    "Study",
    "SuccessiveHalving",
    "cross_validate",
    "load",
    "retest",
    "tune",
]

callable_package(__name__, "derin.tune.study:tune")
