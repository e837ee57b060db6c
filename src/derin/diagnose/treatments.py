"""Treatments: what may help a run, each as its experiment with one thing changed.

A treatment goes on from the run's weights where they fit it; else, and where it acts on the first weights, it begins
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from derin import nn
from derin.engine.experiment import EarlyStopping, Experiment
from derin.nn import Module
from derin.optim import L2, Adam, ClipByGlobalNorm
from derin.spec import _fields, get, set

ACTIVATIONS = (nn.ReLU, nn.Sigmoid, nn.Tanh, nn.Function)
ENDS = (*ACTIVATIONS, nn.Softmax, nn.LogSoftmax)
NORMS = (nn.BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm, nn.RMSNorm)
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCHES = (8, 1024)  # sizes between which a larger or a smaller batch is tried


@dataclass(frozen=True)
class Treatment:
    """One thing to try.   fresh: it begins again; longer: how many times as many further epochs as the others"""

    name: str
    experiment: Experiment
    concept: str
    fresh: bool = False
    longer: int = 1


def treatments(experiment: Experiment, classes: bool = True, standardised: bool = True) -> list[Treatment]:
    """All that can be tried on this experiment.   classes: there is one target, with classes

    >>> from derin import Experiment, nn
    >>> [t.name for t in treatments(Experiment(nn.MLP((8,), 3)))][:4]
    ['learning rate x 10', 'learning rate x 3', 'learning rate / 3', 'learning rate / 10']
    """
    found = [*_of_rate(experiment), *_of_training(experiment, classes), *_of_net(experiment)]
    if not standardised:
        net = nn.Sequential(nn.BatchNorm(), experiment.net)
        found.append(Treatment("normalised inputs", experiment.replace(net=net), "S4.10", fresh=True))
    return [t for t in found if t.experiment != experiment or t.longer > 1]


def _of_rate(experiment: Experiment) -> Iterator[Treatment]:
    path = "optimizer.learning_rate"
    rate = get(experiment, path)
    for name, factor in (("x 10", 10), ("x 3", 3), ("/ 3", 1 / 3), ("/ 10", 1 / 10)):
        yield Treatment(f"learning rate {name}", set(experiment, path, float(f"{rate * factor:.4g}")), "S0.23")


def _of_training(experiment: Experiment, classes: bool) -> Iterator[Treatment]:
    if experiment.clip is None:
        yield Treatment("clipped gradients", experiment.replace(clip=ClipByGlobalNorm(1.0)), "S1.33")
    if not isinstance(experiment.optimizer, Adam):
        yield Treatment("Adam", experiment.replace(optimizer=Adam()), "S1.51", fresh=True)
    if experiment.penalty is None:
        yield Treatment("L2", experiment.replace(penalty=L2(1e-3, except_="biases and norms")), "S1.39")
    else:
        yield Treatment("no penalty", experiment.replace(penalty=None), "S1.39")
    if classes and experiment.class_weights is None:
        yield Treatment("class weights", experiment.replace(class_weights="balanced"), "S3.28")
    if isinstance(size := experiment.batch_size, int):
        if 4 * size <= BATCHES[1]:
            yield Treatment("larger batch", experiment.replace(batch_size=4 * size), "S3.07")
        if size >= 4 * BATCHES[0]:
            yield Treatment("smaller batch", experiment.replace(batch_size=size // 4), "S3.07")
    else:
        yield Treatment("batches of 64", experiment.replace(batch_size=64), "S3.07")
    if experiment.early_stopping is None:
        patience = max(3, experiment.epochs // 4)
        stopping = experiment.replace(early_stopping=EarlyStopping(patience))
        yield Treatment("early stopping", stopping, "S1.66", fresh=True)
    yield Treatment("longer training", experiment, "S3.10", longer=3)


def _of_net(experiment: Experiment) -> Iterator[Treatment]:
    net = experiment.net
    layers = list(_layers(net))
    last = next((layer for layer in reversed(layers) if isinstance(layer, WEIGHTED)), None)

    def with_(rule: Callable[[Module], Any]) -> Experiment:
        return experiment.replace(net=rebuilt(net, rule))

    def leaky(layer: Module) -> Any:
        if isinstance(layer, nn.MLP):
            return layer.replace(activation="leaky_relu")
        return nn.LeakyReLU() if isinstance(layer, ACTIVATIONS) and not _at_the_end(layer, layers) else layer

    def drawn(layer: Module) -> Any:
        if isinstance(layer, WEIGHTED):
            return layer.replace(weight_init=None if layer.weight_init is not None else nn.init.HeNormal())
        return layer

    def normed(layer: Module) -> Any:
        if isinstance(layer, nn.MLP):
            return layer.replace(norm=True)
        inside = isinstance(layer, ACTIVATIONS) and not _at_the_end(layer, layers)
        return (nn.BatchNorm(), layer) if inside else layer

    def sized(factor: float) -> Callable[[Module], Any]:
        def rule(layer: Module) -> Any:
            if isinstance(widths := getattr(layer, "widths", None), tuple):
                return layer.replace(widths=tuple(max(1, int(w * factor)) for w in widths))
            if isinstance(layer, WEIGHTED) and layer is not last:
                return layer.replace(features=max(1, int(layer.features * factor)))
            return layer

        return rule

    def dropped(rate: float | None) -> Callable[[Module], Any]:
        def rule(layer: Module) -> Any:
            if isinstance(layer, nn.Dropout):
                return layer.replace(rate=rate or 0.0)
            if hasattr(layer, "dropout") and not isinstance(layer, NORMS):
                return layer.replace(dropout=rate if isinstance(layer, nn.MLP) else rate or 0.0)
            if rate and not drops and isinstance(layer, ACTIVATIONS) and not _at_the_end(layer, layers):
                return (layer, nn.Dropout(rate))
            return layer

        return rule

    drops = any(isinstance(layer, nn.Dropout) or getattr(layer, "dropout", None) for layer in layers)
    yield Treatment("other first weights", with_(drawn), "S1.59", fresh=True)
    yield Treatment("LeakyReLU", with_(leaky), "S1.19", fresh=True)
    if not any(isinstance(layer, NORMS) or getattr(layer, "norm", False) for layer in layers):
        yield Treatment("BatchNorm", with_(normed), "S4.10")
    yield Treatment("twice the units", with_(sized(2)), "S3.10")
    yield Treatment("half the units", with_(sized(0.5)), "S3.09")
    if drops:
        yield Treatment("no dropout", with_(dropped(None)), "S1.58")
    else:
        yield Treatment("dropout", with_(dropped(0.3)), "S1.58")
    if isinstance(net, nn.Sequential) and len(net.layers) > 1 and isinstance(net.layers[-1], ENDS):
        cut = nn.Sequential(*net.layers[:-1])
        yield Treatment("no activation at the end", experiment.replace(net=cut), "S2.13", fresh=True)


def _layers(value: Any) -> Iterator[Module]:
    """Every module in a net's fields, outer ones first."""
    if isinstance(value, tuple):
        for v in value:
            yield from _layers(v)
    elif isinstance(value, Module):
        yield value
        yield from _layers(tuple(_fields(value).values()))


def _at_the_end(layer: Module, layers: list[Module]) -> bool:
    """Whether nothing with weights comes behind it: it makes the outputs."""
    at = next(i for i, other in enumerate(layers) if other is layer)
    return not any(isinstance(other, WEIGHTED) for other in layers[at:])


def rebuilt(value: Any, rule: Callable[[Module], Any]) -> Any:
    """A net whose layers are what `rule` makes of them: one layer, or several in a row.

    >>> from derin.nn import Dropout, Linear, ReLU, Sequential
    >>> rebuilt(Sequential(Linear(8), ReLU(), Linear(2)), lambda l: (l, Dropout(0.1)) if isinstance(l, ReLU) else l)
    Sequential(Linear(8), ReLU(), Dropout(rate=0.1), Linear(2))
    """
    if isinstance(value, tuple):
        found: list[Any] = []
        for v in value:
            new = rebuilt(v, rule)
            found += new if isinstance(new, tuple) and isinstance(v, Module) else [new]
        return tuple(found)
    if not isinstance(value, Module):
        return value
    made = rule(value)
    if made is not value:
        return made
    parts = {name: v for name, v in _fields(value).items() if _holds_modules(v)}
    new = {name: rebuilt(v, rule) for name, v in parts.items()}
    in_a_row = {name: nn.Sequential(*v) if isinstance(parts[name], Module) and isinstance(v, tuple) else v
                for name, v in new.items()}  # fmt: skip
    return value.replace(**in_a_row) if in_a_row != parts else value


def _holds_modules(value: Any) -> bool:
    return isinstance(value, Module) or (isinstance(value, tuple) and any(map(_holds_modules, value)))
