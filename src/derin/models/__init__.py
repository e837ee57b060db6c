"""The zoo: whole nets that train well as they are, and the classical regressions."""

from derin.models.images import SmallCNN
from derin.models.linear import Fitted, LinearRegression, LogisticRegression, SoftmaxRegression
from derin.models.tabular import MemberLinear, PeriodicFeatures, TabularMLP

__all__ = [
    "Fitted",
    "LinearRegression",
    "LogisticRegression",
    "MemberLinear",
    "PeriodicFeatures",
    "SmallCNN",
    "SoftmaxRegression",
    "TabularMLP",
]
