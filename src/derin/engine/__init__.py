"""The engine: a run is one program, a population is the same program."""

from derin.engine.experiment import EarlyStopping, Experiment
from derin.engine.run import Run, load
from derin.engine.training import EpochReport, fit

__all__ = ["EarlyStopping", "EpochReport", "Experiment", "Run", "fit", "load"]
