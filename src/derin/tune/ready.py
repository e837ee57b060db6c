"""A search space for an experiment that has none: what the course tunes, in its order of importance.   S4.01

ready_space(experiment)                  # the experiment with distributions where its most telling values stood
ready_paths(experiment)                  # the same by path, the most important first
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from derin.distributions import Distribution, choice, log, one_minus_log, uniform
from derin.engine.experiment import Experiment
from derin.errors import SpecError
from derin.models import TabularMLP
from derin.nn import MLP, Module
from derin.optim import Constant, ExponentialLR
from derin.spec import Spec, _fields, set

PRIORITIES = 3


def ready_space(experiment: Experiment, priorities: int = PRIORITIES) -> Experiment:
    """The experiment with distributions in place of what the course would tune first.   S4.01

    priorities: 1 is the learning rate alone; 2 adds momentum (or Adam's first beta), hidden units and batch size;
    3 also a further layer, the learning rate's decay, dropout and weight decay. Adam's other numbers stay: "almost
    never tuned". What holds a distribution already is left as it is. Raises SpecError where nothing is left to tune.

    Each range lies around the experiment's own value, which has been chosen with care. All but two of them are of
    numbers, which cost nothing: trials that differ in numbers alone train side by side in one program. Widths and
    batch sizes are structure: each combination is a program of its own, which takes seconds to compile and fills its
    slots with its share of the trials only. So there are three nets and two batch sizes, six programs, and the decay
    is a number too (a factor an epoch, from none to a hundredth over the run) and not a choice of schedules.

    >>> from derin import nn, optim
    >>> ready_space(Experiment(nn.MLP((64,), 3), optimizer=optim.SGD(0.1)), priorities=2)
    Experiment(MLP(widths=choice((64,), (32,)), out=3), optimizer=SGD(learning_rate=log(0.0033, 3.0), \
momentum=one_minus_log(0.5, 0.98)), batch_size=choice(64, 128))
    """
    found = ready_paths(experiment, priorities)
    if not found and not experiment._has_distributions:
        raise SpecError("this experiment has nothing that a ready space would tune; say --tune PATH=DISTRIBUTION.")
    if "schedule.gamma" in found:
        experiment = experiment.replace(schedule=ExponentialLR(1.0))
    for path, distribution in found.items():
        experiment = set(experiment, path, distribution)
    return experiment


def ready_paths(experiment: Experiment, priorities: int = PRIORITIES) -> dict[str, Distribution]:
    """What ready_space puts where: path -> distribution, the most important first."""
    if not 1 <= priorities <= PRIORITIES:
        raise SpecError(f"priorities is 1 (the learning rate), 2 or 3 (all), got {priorities!r}.")
    found: dict[str, Distribution] = {}
    optimizer = experiment.optimizer
    tuned = not isinstance(optimizer, Distribution)
    rate: Any = optimizer.learning_rate if tuned else None
    if _is_number(rate):
        found["optimizer.learning_rate"] = log(_short(rate / 30), _short(rate * 30))
    if priorities >= 2:
        found |= _momentum(optimizer) if tuned else {}
        found |= _widths(experiment.net, further_layer=priorities >= 3)
        if type(experiment.batch_size) is int:
            found["batch_size"] = choice(experiment.batch_size, 2 * experiment.batch_size)
    if priorities >= 3:
        if experiment.schedule == Constant() and type(experiment.epochs) is int:
            low, high = (_short_of_one(share ** (1 / experiment.epochs)) for share in (0.01, 0.99))
            found["schedule.gamma"] = one_minus_log(low, high)
        found |= _dropout(experiment.net)
        decay = getattr(optimizer, "weight_decay", 0.0)
        if tuned and _is_number(decay) and decay > 0:
            found["optimizer.weight_decay"] = log(_short(decay / 30), _short(decay * 10))
    return found


def _momentum(optimizer: Any) -> dict[str, Distribution]:
    """Around the 0.9 of the course, which averages ten steps."""
    if _is_number(getattr(optimizer, "momentum", None)):
        return {"optimizer.momentum": one_minus_log(0.5, 0.98)}
    betas = getattr(optimizer, "betas", ())
    if betas and _is_number(betas[0]):
        return {"optimizer.betas.0": one_minus_log(0.8, 0.95)}
    return {}


def _widths(net: Any, further_layer: bool) -> dict[str, Distribution]:
    """As they are, halved, and with one layer more: of the first net that has widths."""
    for path, part in _modules(net, "net"):
        widths = getattr(part, "widths", None)
        if isinstance(widths, tuple) and widths and all(type(w) is int for w in widths):
            options = [widths, tuple(max(w // 2, 1) for w in widths)]
            if further_layer and isinstance(part, (MLP, TabularMLP)):  # a CNN's pooling may have no pixels left
                options.append((*widths, widths[-1]))
            different = tuple(dict.fromkeys(options))
            return {f"{path}.widths": choice(*different)} if len(different) > 1 else {}
    return {}


def _dropout(net: Any) -> dict[str, Distribution]:
    for path, part in _modules(net, "net"):
        if _is_number(part.__dict__.get("dropout")):
            return {f"{path}.dropout": uniform(0.0, 0.5)}
    return {}


def _modules(value: Any, path: str) -> Iterator[tuple[str, Module]]:
    """The net and the nets in its fields, with their paths; not those in a choice."""
    if isinstance(value, Module):
        yield path, value
    if isinstance(value, Spec) and not isinstance(value, Distribution):
        for name, v in _fields(value).items():
            yield from _modules(v, f"{path}.{name}")
    elif isinstance(value, tuple):
        for i, v in enumerate(value):
            yield from _modules(v, f"{path}.{i}")


def _is_number(value: Any) -> bool:
    return isinstance(value, float)  # neither traced, nor None, nor a distribution


def _short(value: float) -> float:
    return float(f"{value:.2g}")


def _short_of_one(value: float) -> float:
    return float(f"{1 - _short(1 - value):.10g}")
