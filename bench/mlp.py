"""A steady epoch of a small MLP: derin, PyTorch, Keras on JAX, Lightning, scikit-learn.

    PYTHONPATH=src python -m bench mlp [--rounds 7] [--write]

30-128-64-2, batch 64, 65,536 rows, Adam. Every peer shuffles anew each epoch and computes in float32. derin trains
through its public API, and its times are those between two callbacks, so they hold its history and its judging of
128 validation rows (without any it would judge the training rows); the peers judge nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import THREADS, Turn, compared, finish, keep, serve, take_turns, warn_if_busy

ROWS, BATCH, JUDGED = 65_536, 64, 128
FOREVER = 1_000_000  # epochs; the parent ends the worker
WANTED = {"torch": (4, 6), "Keras on JAX": (1.4, 2), "Lightning": (10, 15), "scikit-learn": (3, 5)}


def data(rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """x: float32 [rows, 30], y: int32 [rows], two classes; fewer rows are the first of more"""
    x = np.random.default_rng(0).standard_normal((rows, 30), dtype=np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(np.int32)


def hidden(nn: Any, sizes: list[Any], rate: float) -> list[Any]:
    """The hidden layers of a library's net: its linear ones, each with what stands behind it."""
    return [layer for size in sizes for layer in (size, nn.ReLU(), *([nn.Dropout(rate)] if rate else []))]


def with_derin(turn: Turn, rate: float = 0.0) -> None:
    import derin
    from derin import nn

    rows = np.arange(ROWS + JUDGED)
    loaded = derin.data.load(data(len(rows)), indices=(rows[:ROWS], rows[ROWS:], []))
    net = nn.Sequential(*hidden(nn, [nn.Linear(128), nn.Linear(64)], rate), nn.Linear(2))
    derin.fit(
        net, loaded, epochs=FOREVER, batch_size=BATCH, optimizer=derin.optim.Adam(1e-3),
        progress=False, callbacks=[turn.next],
    )  # fmt: skip


def with_torch(turn: Turn, rate: float = 0.0) -> None:
    import torch
    from torch import nn

    torch.set_num_threads(THREADS)
    x, y = (torch.from_numpy(a) for a in data())
    y = y.long()
    net = nn.Sequential(*hidden(nn, [nn.Linear(30, 128), nn.Linear(128, 64)], rate), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    while True:
        turn.begin()
        for rows in torch.randperm(ROWS).split(BATCH):
            loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        turn.end()


def with_keras(turn: Turn) -> None:
    import keras
    from keras import layers

    class Ends(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            turn.next()

    sizes = [layers.Dense(128, "relu"), layers.Dense(64, "relu"), layers.Dense(2)]
    net = keras.Sequential([layers.Input((30,)), *sizes])
    net.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = data()
    net.fit(x, y, batch_size=BATCH, epochs=FOREVER, verbose=0, callbacks=[Ends()])


def with_lightning(turn: Turn) -> None:
    import logging
    import warnings

    import lightning
    import torch
    from torch import nn

    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(THREADS)

    class Net(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            sizes = [nn.Linear(30, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 2)]
            self.net = nn.Sequential(*sizes)

        def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), 1e-3)

        def on_train_epoch_end(self) -> None:
            turn.next()

    x, y = (torch.from_numpy(a) for a in data())
    rows = torch.utils.data.TensorDataset(x, y.long())
    trainer = lightning.Trainer(
        max_epochs=FOREVER, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Net(), torch.utils.data.DataLoader(rows, batch_size=BATCH, shuffle=True))


def with_sklearn(turn: Turn) -> None:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    x, y = data()
    net = MLPClassifier((128, 64), batch_size=BATCH, max_iter=1, warm_start=True)
    while True:
        turn.begin()
        net.fit(x, y)
        turn.end()


WORKERS = {
    "derin": with_derin,
    "torch": with_torch,
    "Keras on JAX": with_keras,
    "scikit-learn": with_sklearn,
    "Lightning": with_lightning,
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench mlp", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each that are counted")
    parser.add_argument("--peers", default=",".join(WORKERS), help="which ones")
    parser.add_argument("--json", type=Path, help="write the seconds to this file")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.worker:
        serve(WORKERS, given.worker)
        return
    warn_if_busy()
    names = given.peers.split(",")
    times = take_turns("bench.mlp", names, given.rounds)
    keep(given.json, times)
    wanted = {name: bounds for name, bounds in WANTED.items() if name in names}
    text = compared(times, "us a step", 1e6 / (ROWS // BATCH), wanted)
    note = f"30-128-64-2, batch {BATCH}, {ROWS:,} rows, Adam; {given.rounds} epochs of each, in turn, after two."
    finish("mlp", "MLP, a steady epoch", text, given.write, note)


if __name__ == "__main__":
    main()
