"""How weights change: optimisers, learning-rate schedules, gradient clipping."""

from derin.optim.optimizers import (
    SGD,
    Adam,
    AdamW,
    Clip,
    ClipByGlobalNorm,
    ClipByValue,
    Optax,
    OptaxTransformation,
    Optimizer,
    as_optimizer,
    from_optax,
)
from derin.optim.schedules import (
    Constant,
    ConstantLR,
    CosineAnnealingLR,
    CosineLog,
    FlatCosine,
    LinearLR,
    Schedule,
    StepLR,
    Warmup,
)

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Clip",
    "ClipByGlobalNorm",
    "ClipByValue",
    "Constant",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineLog",
    "FlatCosine",
    "LinearLR",
    "Optax",
    "OptaxTransformation",
    "Optimizer",
    "Schedule",
    "StepLR",
    "Warmup",
    "as_optimizer",
    "from_optax",
]
