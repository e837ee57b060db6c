"""What is trained when nobody says otherwise. bench/defaults.py is where these numbers come from."""

from __future__ import annotations

from typing import Any

import numpy as np

from derin.distributions import Distribution
from derin.engine.experiment import EarlyStopping, Experiment
from derin.errors import SpecError
from derin.models import TabularMLP
from derin.nn import MLP, Module, Sequential
from derin.optim import Adam, AdamW, ClipByGlobalNorm, CosineAnnealingLR

FEW_ROWS = 1500  # training rows; below, waves only help a net to learn the rows by heart
MOST_WAVES = 64  # columns; with more of them waves would be most of the net
WAVE_VALUES = 8  # a column with fewer different values has no shape for waves to follow


def default_experiment(dataset: Any, net: str | Module | Distribution | None = None, **fields: Any) -> Experiment:
    """An experiment for these data: what derin fit trains with no other options.

    net: None (TabularMLP for rows of numbers, SmallCNN for images), "mlp:128,64", "cnn:32,64", a Module, or a choice.
    `fields` of Experiment win over the defaults. Raises SpecError for another text.
    """
    shape, out = dataset.train.x.shape[1:], sum(t.width for t in dataset.schema.targets)
    if isinstance(net, Module | Distribution):
        return Experiment(net=net, **fields)  # type: ignore[arg-type]  # a choice of nets
    if net is None and len(shape) == 1:
        return _for_tables(dataset, out, fields)
    kind, _, text = (net or ("cnn" if len(shape) == 3 else "mlp")).partition(":")
    widths = _widths(net, text)
    if kind == "mlp":
        mlp: Module = MLP(widths or (128, 64), out)
        if len(shape) > 1:
            from derin.nn import Flatten  # tables need no maps

            mlp = Sequential(Flatten(), mlp)
        return Experiment(net=mlp, **_stopping(dataset, fields))
    if kind == "cnn":
        return _for_images(shape, widths, out, fields)
    known = "mlp, mlp:128,64, cnn, cnn:32,64, or Sequential(Linear(64), ...)"
    raise SpecError(f"no net is called {net!r}. Known: {known}.")


def _for_tables(dataset: Any, out: int, fields: dict[str, Any]) -> Experiment:
    """Eight small MLPs side by side; few rows get small batches, many rows waves."""
    n = len(dataset.train.x)
    few = n < FEW_ROWS
    net = TabularMLP(out, dropout=0.2 if few else 0.1, waves=() if few else _columns_with_shape(dataset))
    defaults: dict[str, Any] = {
        "optimizer": AdamW(1e-3 if few else 2e-3),
        "epochs": 200,
        "batch_size": 32 if few else 128 if n < 5000 else 256,
        "clip": ClipByGlobalNorm(1.0),
    }
    return Experiment(net=net, **(defaults | _stopping(dataset, fields, 30 if few else 16)))


def _for_images(shape: tuple[int, ...], widths: tuple[int, ...], out: int, fields: dict[str, Any]) -> Experiment:
    """A small convolutional net, its learning rate falling to zero along half a cosine."""
    if len(shape) != 3:
        raise SpecError(f"a cnn is for images, [height, width, channels]; these rows have shape {shape}.")
    from derin.models import SmallCNN  # tables need no convolutions

    sides = min(shape[:2])
    fitting = tuple(w for i, w in enumerate((32, 64, 128)) if sides // 2 ** (i + 1) >= 4) or (32,)
    defaults: dict[str, Any] = {"optimizer": Adam(2e-3), "schedule": CosineAnnealingLR(by="step"), "epochs": 6}
    return Experiment(net=SmallCNN(out, widths or fitting), **(defaults | fields))


def _stopping(dataset: Any, fields: dict[str, Any], patience: int = 16) -> dict[str, Any]:
    """Early stopping, unless the caller decides or there is nothing to validate on."""
    if "early_stopping" in fields or len(dataset.valid.x) == 0:
        return fields
    return {"early_stopping": EarlyStopping(patience)} | fields


def _columns_with_shape(dataset: Any) -> tuple[int, ...]:
    """The leading number columns of x that take many values."""
    x = dataset.train.x[:2000]
    numbers = getattr(dataset.schema.input_layer(), "numeric", x.shape[1])
    found = tuple(i for i in range(numbers) if len(np.unique(x[:, i])) > WAVE_VALUES)
    return found if len(found) <= MOST_WAVES else ()


def _widths(net: str | None, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(w) for w in text.split(",")) if text else ()
    except ValueError:
        raise SpecError(f"{net!r}: widths are whole numbers with commas between, like mlp:128,64.") from None
