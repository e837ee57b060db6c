"""derin trains, tunes, diagnoses and explains deep networks on JAX.

>>> import derin
>>> data = derin.data.load("iris")
>>> net = derin.nn.Sequential(derin.nn.Linear(16), derin.nn.ReLU(), derin.nn.Linear(3))
>>> run = derin.fit(net, data, epochs=40, optimizer=derin.optim.Adam(0.01), progress=False)
>>> run.evaluate("test")["accuracy"] > 0.8
True
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from derin import data, nn, optim, spec
    from derin.data import load as load_data
    from derin.diagnose import diagnose, learning_curve
    from derin.engine import EarlyStopping, Experiment, Run, branch, fit, load, lr_range_test, replay, rewind
    from derin.errors import DataError, DerinError, ModelError, RunError, SpecError, TrainingFailed
    from derin.models import LinearRegression, LogisticRegression, SoftmaxRegression
    from derin.trace import trace
    from derin.tune import cross_validate, tune

    # a type checker sees any value: they stand in fields of every type. The classes are in derin.distributions
    def uniform(low: float, high: float) -> Any: ...
    def log(low: float, high: float) -> Any: ...
    def one_minus_log(low: float, high: float) -> Any: ...
    def integer(low: int, high: int) -> Any: ...
    def log_integer(low: int, high: int) -> Any: ...
    def choice(*options: Any) -> Any: ...


__version__ = "0.1.0"

__all__ = [
    "DataError",
    "DerinError",
    "EarlyStopping",
    "Experiment",
    "LinearRegression",
    "LogisticRegression",
    "ModelError",
    "Run",
    "RunError",
    "SoftmaxRegression",
    "SpecError",
    "TrainingFailed",
    "branch",
    "choice",
    "cross_validate",
    "data",
    "diagnose",
    "fit",
    "integer",
    "learning_curve",
    "load",
    "load_data",
    "log",
    "log_integer",
    "lr_range_test",
    "nn",
    "one_minus_log",
    "optim",
    "replay",
    "rewind",
    "spec",
    "trace",
    "tune",
    "uniform",
]

# `derin --help` must not wait for JAX: each name is imported when it is first asked for
_HOMES = {
    "load_data": "data",
    "cross_validate": "tune",
    "learning_curve": "diagnose",
    **dict.fromkeys(("choice", "integer", "log", "log_integer", "one_minus_log", "uniform"), "distributions"),
    **dict.fromkeys(
        ("EarlyStopping", "Experiment", "Run", "branch", "fit", "load", "lr_range_test", "replay", "rewind"), "engine"
    ),
    **dict.fromkeys(("LinearRegression", "LogisticRegression", "SoftmaxRegression"), "models"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'derin' has no attribute {name!r}")
    if name in ("data", "diagnose", "nn", "optim", "spec", "trace", "tune"):
        return importlib.import_module(f"derin.{name}")
    home = importlib.import_module(f"derin.{_HOMES.get(name, 'errors')}")
    value = getattr(home, "load" if name == "load_data" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
