"""A training step of a small CNN on 28x28x1, batch 128: derin and PyTorch.

    PYTHONPATH=src python -m bench cnn [--rounds 5] [--write]

Conv 32 3x3, ReLU, pool, Conv 64 3x3, ReLU, pool, 128, 10; Adam. An epoch of 12,800 rows is timed, the first two left
out. PyTorch is taken with its usual memory format and with channels last; the faster one counts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bench.measure import THREADS, Turn, compared, finish, keep, median, serve, take_turns, warn_if_busy

ROWS, BATCH, JUDGED = 12_800, 128, 128
WANTED = {"torch": (1.3, 1.7)}


def data(rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """x: float32 [rows, 28, 28, 1], y: int32 [rows], ten classes"""
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, 28, 28, 1), dtype=np.float32)
    return x, random.integers(0, 10, rows).astype(np.int32)


def with_derin(turn: Turn) -> None:
    import derin
    from derin import nn

    rows = np.arange(ROWS + JUDGED)
    loaded = derin.data.load(data(len(rows)), indices=(rows[:ROWS], rows[ROWS:], []))
    net = nn.Sequential(
        nn.Conv2d(32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128), nn.ReLU(), nn.Linear(10),
    )  # fmt: skip
    derin.fit(
        net, loaded, epochs=1_000_000, batch_size=BATCH, optimizer=derin.optim.Adam(1e-3),
        progress=False, callbacks=[turn.next],
    )  # fmt: skip


def with_torch(turn: Turn, channels_last: bool = False) -> None:
    import torch
    from torch import nn

    torch.set_num_threads(THREADS)
    form = torch.channels_last if channels_last else torch.contiguous_format
    images, y = data()
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).contiguous(memory_format=form)
    y = torch.from_numpy(y).long()
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10),
    ).to(memory_format=form)  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    while True:
        turn.begin()
        for rows in torch.randperm(ROWS).split(BATCH):
            loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        turn.end()


def with_torch_channels_last(turn: Turn) -> None:
    with_torch(turn, channels_last=True)


WORKERS = {"derin": with_derin, "torch": with_torch, "torch, channels last": with_torch_channels_last}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench cnn", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each that are counted")
    parser.add_argument("--json", type=Path, help="write the seconds to this file")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.worker:
        serve(WORKERS, given.worker)
        return
    warn_if_busy()
    times = take_turns("bench.cnn", list(WORKERS), given.rounds)
    keep(given.json, times)
    fastest = min((n for n in times if n != "derin"), key=lambda n: median(times[n]), default="torch")
    text = compared(times, "ms a step", 1e3 / (ROWS // BATCH), {fastest: WANTED["torch"]}, digits=1)
    note = f"28x28x1, batch {BATCH}, Adam; {given.rounds} epochs of {ROWS // BATCH} steps, in turn, after two."
    finish("cnn", "CNN, a step", text, given.write, note)


if __name__ == "__main__":
    main()
