"""The engine: a run is one program, a population is the same program."""

from derin.engine.again import Branch, branch, replay, rewind
from derin.engine.experiment import EarlyStopping, Experiment
from derin.engine.range_test import RangeTest, lr_range_test
from derin.engine.run import Run, load
from derin.engine.threshold import DecisionThreshold
from derin.engine.training import EpochReport, fit

__all__ = [
    "Branch",
    "DecisionThreshold",
    "EarlyStopping",
    "EpochReport",
    "Experiment",
    "RangeTest",
    "Run",
    "branch",
    "fit",
    "load",
    "lr_range_test",
    "replay",
    "rewind",
]
