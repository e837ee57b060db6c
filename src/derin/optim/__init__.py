"""How weights change: optimisers, learning-rate schedules, gradient clipping."""

from typing import TYPE_CHECKING

from derin.on_demand import on_demand
from derin.optim.adam import Adam, Adamax, AdamW, NAdam, RAdam
from derin.optim.base import Optimizer
from derin.optim.clipping import Clip, ClipByGlobalNorm, ClipByValue
from derin.optim.optax_wrappers import Optax, OptaxTransformation, as_optimizer, from_optax
from derin.optim.optimizers import ASGD, SGD, SGDMomentum
from derin.optim.schedules import (
    ChainedScheduler,
    Constant,
    ConstantLR,
    CosineAnnealingLR,
    CosineLog,
    ExponentialLR,
    FlatCosine,
    LinearLR,
    MultiStepLR,
    PolynomialLR,
    Schedule,
    SequentialLR,
    StepLR,
    Warmup,
)

# most runs need what stands above; the rest is imported when it is asked for
if TYPE_CHECKING:
    from derin.optim.adaptive import Adadelta, Adafactor, Adagrad, RMSprop
    from derin.optim.averages import EMA, SWA, Average
    from derin.optim.cycles import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
    from derin.optim.lbfgs import LBFGS
    from derin.optim.muon import Muon
    from derin.optim.penalties import BIASES_AND_NORMS, L1, L2, DecoupledDecay, ElasticNet, MaxNorm, Penalty
    from derin.optim.plateau import ReduceLROnPlateau
    from derin.optim.signs import Lion, Rprop
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "adaptive": "Adadelta Adafactor Adagrad RMSprop",
            "averages": "EMA SWA Average",
            "cycles": "CosineAnnealingWarmRestarts CyclicLR OneCycleLR",
            "lbfgs": "LBFGS",
            "muon": "Muon",
            "penalties": "BIASES_AND_NORMS L1 L2 DecoupledDecay ElasticNet MaxNorm Penalty",
            "plateau": "ReduceLROnPlateau",
            "signs": "Lion Rprop",
        },
    )

__all__ = [
    "ASGD",
    "BIASES_AND_NORMS",
    "EMA",
    "L1",
    "L2",
    "LBFGS",
    "SGD",
    "SWA",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Average",
    "ChainedScheduler",
    "Clip",
    "ClipByGlobalNorm",
    "ClipByValue",
    "Constant",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CosineLog",
    "CyclicLR",
    "DecoupledDecay",
    "ElasticNet",
    "ExponentialLR",
    "FlatCosine",
    "LinearLR",
    "Lion",
    "MaxNorm",
    "MultiStepLR",
    "Muon",
    "NAdam",
    "OneCycleLR",
    "Optax",
    "OptaxTransformation",
    "Optimizer",
    "Penalty",
    "PolynomialLR",
    "RAdam",
    "RMSprop",
    "ReduceLROnPlateau",
    "Rprop",
    "SGDMomentum",
    "Schedule",
    "SequentialLR",
    "StepLR",
    "Warmup",
    "as_optimizer",
    "from_optax",
]
