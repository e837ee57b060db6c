"""What is trained when nobody says otherwise."""

from __future__ import annotations

from typing import Any

from derin.engine.experiment import Experiment
from derin.errors import SpecError
from derin.nn import MLP, Conv2d, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential


def default_experiment(dataset: Any, net: str | Module | None = None, **fields: Any) -> Experiment:
    """An experiment for these data.   net: None, "mlp", "mlp:128,64", "cnn", or a Module.

    Raises SpecError for another text.
    """
    out = sum(t.width for t in dataset.schema.targets)
    images = dataset.train.x.ndim == 4
    if isinstance(net, Module):
        return Experiment(net=net, **fields)
    kind, _, widths = (net or ("cnn" if images else "mlp")).partition(":")
    try:
        numbers = tuple(int(w) for w in widths.split(",")) if widths else (128, 64)
    except ValueError:
        raise SpecError(f"{net!r}: widths are whole numbers with commas, mlp:128,64.") from None
    if kind == "mlp":
        mlp = MLP(numbers, out)
        return Experiment(net=Sequential(Flatten(), mlp) if dataset.train.x.ndim > 2 else mlp, **fields)
    if kind == "cnn" and images and not widths:
        return Experiment(
            net=Sequential(
                Conv2d(32, 3, padding="same"), ReLU(), MaxPool2d(2),
                Conv2d(64, 3, padding="same"), ReLU(), MaxPool2d(2),
                Flatten(), Linear(128), ReLU(), Linear(out),
            ), **fields,
        )  # fmt: skip
    if kind == "cnn" and not widths:
        raise SpecError(f"a cnn is for images; these rows have shape {dataset.train.x.shape[1:]}.")
    raise SpecError(f"no default network is called {net!r}: mlp, mlp:128,64 or cnn.")
