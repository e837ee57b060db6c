"""Data: any source becomes a Dataset of encoded parts, with a schema that encodes new rows the same way.

>>> import derin.data
>>> houses = {"size": [50, 60, 70, 80, 100], "price": [400, 450, 500, 550, 650]}
>>> data = derin.data.load(houses, "price", valid=0, test=0)
>>> data.train.x.shape, data.schema.targets[0].kind
((5, 1), 'number')
"""

from derin.data.dataset import Batch, Dataset, Inputs, Line, Part, Schema, load
from derin.data.folds import Fold, folds, restandardised, union
from derin.data.report import Survey, survey
from derin.data.splits import Split, split_rows
from derin.data.targets import ClassTarget, NumberTarget, Target, VectorTarget, fit_target
from derin.data.warning import DataWarning

__all__ = [
    "Batch",
    "ClassTarget",
    "DataWarning",
    "Dataset",
    "Fold",
    "Inputs",
    "Line",
    "NumberTarget",
    "Part",
    "Schema",
    "Split",
    "Survey",
    "Target",
    "VectorTarget",
    "fit_target",
    "folds",
    "load",
    "restandardised",
    "split_rows",
    "survey",
    "union",
]
