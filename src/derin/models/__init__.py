"""The zoo: whole nets that train well as they are."""

from derin.models.images import SmallCNN
from derin.models.tabular import MemberLinear, PeriodicFeatures, TabularMLP

__all__ = ["MemberLinear", "PeriodicFeatures", "SmallCNN", "TabularMLP"]
