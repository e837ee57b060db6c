"""Retest: do a run's values still hold, on today's data?   S4.07: retest hyperparameters now and then"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from derin.distributions import Distribution, log, one_minus_log, uniform
from derin.engine.run import Run, load
from derin.engine.training import as_dataset
from derin.errors import SpecError
from derin.spec import Spec, _fields, get, set
from derin.tune.samplers import GivenTrials, Sobol
from derin.tune.space import Space
from derin.tune.study import Study, tune

HALF_A_DECADE = math.sqrt(10)  # a factor, down and up


class Retest(NamedTuple):
    """What a search near a run's values came to.

    holds: whether the run's own values are as good as the best, but for the deviation of the best over its seeds;
    changes: (path, the run's value, the best one) of each value that was searched.
    """

    holds: bool
    metric: str
    own: float
    own_deviation: float
    best: float
    deviation: float
    changes: list[tuple[str, float, float]]
    study: Study

    @property
    def same(self) -> bool:
        """Are the run's values the best of all?"""
        return self.study.best.number == 0


def retest(
    run: Run | str | Path, data: Any = None, *, trials: int = 12, seeds: int = 3, metric: str | None = None,
    progress: bool = True,
) -> Retest:  # fmt: skip
    """Search near a run's values: the learning rate, momentum, dropout and the strength of penalties.   S4.07

    data: today's; by default those of the run. Trial 0 is the run itself; all are trained from `seeds` first weights,
    so that there is a deviation to compare with. Where the data have no validation rows, five folds judge.
    Raises SpecError where nothing of the run can be searched; RunError, DataError.

    >>> import derin
    >>> net = derin.nn.Sequential(derin.nn.Linear(16), derin.nn.ReLU(), derin.nn.Linear(3))
    >>> slow = derin.fit(net, derin.load_data("iris"), optimizer=derin.optim.Adam(1e-3), epochs=15, progress=False)
    >>> found = derin.tune.retest(slow, trials=4, progress=False)
    >>> found.holds, found.changes[0][2] > 2e-3
    (False, True)
    """
    run = load(run) if isinstance(run, (str, Path)) else run
    if trials < 2 or seeds < 2:
        raise SpecError(f"a retest needs at least 2 trials and 2 seeds to compare, got {trials=}, {seeds=}.")
    data = run.reload_data() if data is None else as_dataset(data)
    ranges = near(run.experiment)
    if not ranges:
        raise SpecError("nothing of this run can be searched: it has no learning rate, dropout or penalty of its own.")
    own = {path: float(get(run.experiment, path)) for path in ranges}
    experiment = run.experiment
    for path, distribution in ranges.items():
        experiment = set(experiment, path, distribution)
    space = Space.of(experiment)
    others = Sobol().ask(space, 0, trials - 1, [], 0, trials - 1)
    study = tune(
        experiment, data, trials=trials, sampler=GivenTrials(own, *others), seeds=seeds, metric=metric,
        folds=None if len(data.valid.x) else 5, progress=progress,
    )  # fmt: skip
    mine, best = study.trials[0], study.best
    deviation = best.deviation(study.metric)
    holds = best.number == 0 or abs(mine.score - best.score) <= deviation  # nan, for one that diverged, does not hold
    changes = [(path, own[path], float(best.values[path])) for path in ranges]
    return Retest(
        holds, study.metric, mine.score, mine.deviation(study.metric), best.score, deviation, changes, study
    )  # fmt: skip


def near(experiment: Any) -> dict[str, Distribution]:
    """The ranges around an experiment's own values, by path: what costs no other program to try.

    >>> from derin import Experiment, nn, optim
    >>> near(Experiment(nn.MLP((8,), 3, dropout=0.2), optimizer=optim.SGD(0.1, momentum=0.9)))
    {'optimizer.learning_rate': log(0.0316, 0.316), 'optimizer.momentum': one_minus_log(0.8, 0.95), \
'net.dropout': uniform(0.1, 0.3)}
    """
    found: dict[str, Distribution] = {}
    for part in ("optimizer", "net", "penalty"):
        _near(get(experiment, part), part, found)
    return found


def _near(value: Any, path: str, found: dict[str, Distribution]) -> None:
    if isinstance(value, (tuple, Spec)):
        parts = enumerate(value) if isinstance(value, tuple) else _fields(value).items()
        for name, v in parts:
            _near(v, f"{path}.{name}", found)
    elif isinstance(value, float):
        distribution = _range(path, value)
        if distribution is not None:
            found[path] = distribution


def _range(path: str, value: float) -> Distribution | None:
    part, _, field = path.partition(".")
    name = field.rpartition(".")[2]
    strengths = {"optimizer": ("learning_rate", "weight_decay"), "penalty": ("strength",)}
    if name in strengths.get(part, ()):
        return log(_short(value / HALF_A_DECADE), _short(value * HALF_A_DECADE)) if value > 0 else None
    if part == "optimizer" and field in ("momentum", "betas.0"):  # twice and half as many steps to forget in
        fast, slow = _short(2 * (1 - value)), _short((1 - value) / 2)
        return one_minus_log(round(max(1 - fast, 0.0), 10), round(1 - slow, 10)) if 0 < value < 1 else None
    if part == "net" and name in ("dropout", "rate"):
        return uniform(_short(max(value - 0.1, 0.0)), _short(value + 0.1)) if 0 < value < 0.8 else None
    return None


def _short(value: float) -> float:
    return float(f"{value:.3g}")
