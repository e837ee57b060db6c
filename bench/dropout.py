"""A steady epoch of the small MLP with dropout: derin, derin with jax.random.bernoulli, and PyTorch.

    PYTHONPATH=src python -m bench dropout [--rounds 7] [--write]

The work of `bench mlp` with Dropout(0.2) behind both hidden layers. `Module.bernoulli` draws four decisions from a
block of random bits, jax.random.bernoulli one.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from bench.measure import THREADS, Turn, compared, finish, serve, take_turns, warn_if_busy
from bench.mlp import BATCH, FOREVER, JUDGED, ROWS, data

PLAIN = "derin, jax.random.bernoulli"


def with_derin(turn: Turn) -> None:
    import derin
    from derin import nn

    rows = np.arange(ROWS + JUDGED)
    loaded = derin.data.load(data(len(rows)), indices=(rows[:ROWS], rows[ROWS:], []))
    hidden = [layer for width in (128, 64) for layer in (nn.Linear(width), nn.ReLU(), nn.Dropout(0.2))]
    derin.fit(
        nn.Sequential(*hidden, nn.Linear(2)), loaded, epochs=FOREVER, batch_size=BATCH,
        optimizer=derin.optim.Adam(1e-3), health=False, progress=False, callbacks=[turn.next],
    )  # fmt: skip


def with_a_block_each(turn: Turn) -> None:
    import jax

    from derin import nn

    def bernoulli(layer: Any, share: Any, shape: tuple[int, ...]) -> Any:
        return jax.random.bernoulli(layer.rng(), share, shape)

    nn.Module.bernoulli = bernoulli  # type: ignore[method-assign]
    with_derin(turn)


def with_torch(turn: Turn) -> None:
    import torch
    from torch import nn

    torch.set_num_threads(THREADS)
    x, y = (torch.from_numpy(a) for a in data())
    y = y.long()
    net = nn.Sequential(
        nn.Linear(30, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 2)
    )
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    while True:
        turn.begin()
        for rows in torch.randperm(ROWS).split(BATCH):
            loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        turn.end()


WORKERS = {"derin": with_derin, PLAIN: with_a_block_each, "torch": with_torch}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench dropout", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each that are counted")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.worker:
        serve(WORKERS, given.worker)
        return
    warn_if_busy()
    times = take_turns("bench.dropout", list(WORKERS), given.rounds)
    table = compared(times, "us a step", 1e6 / (ROWS // BATCH), {})
    finish("dropout", "MLP with dropout, a steady epoch", table, given.write, f"{given.rounds} epochs of each in turn.")


if __name__ == "__main__":
    main()
