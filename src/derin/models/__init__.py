"""The zoo: whole nets that train well as they are, and the classical regressions."""

from typing import TYPE_CHECKING

from derin.models.tabular import MemberLinear, PeriodicFeatures, TabularMLP
from derin.on_demand import on_demand

# a net for tables needs no convolution: these are imported when they are asked for
if TYPE_CHECKING:
    from derin.models.ensemble import Ensemble
    from derin.models.images import SmallCNN
    from derin.models.linear import Fitted, LinearRegression, LogisticRegression, SoftmaxRegression
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "ensemble": "Ensemble",
            "images": "SmallCNN",
            "linear": "Fitted LinearRegression LogisticRegression SoftmaxRegression",
        },
    )

__all__ = [
    "Ensemble",
    "Fitted",
    "LinearRegression",
    "LogisticRegression",
    "MemberLinear",
    "PeriodicFeatures",
    "SmallCNN",
    "SoftmaxRegression",
    "TabularMLP",
]
