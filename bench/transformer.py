"""A training step of a Transformer encoder, 4 layers of width 128, sequences of 64: derin and torch, compiled too.

    PYTHONPATH=src python -m bench transformer [--rounds 5] [--dropout 0.1] [--write]

4 heads, 512 units in the feed-forward part, mean over time, 10 classes; batch 32, Adam. An epoch of 20 steps is timed,
the first two left out. Without dropout, unless asked for.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bench.measure import (
    THREADS,
    Turn,
    compared,
    finish,
    keep,
    refusal_of_torch_compile,
    serve,
    take_turns,
    warn_if_busy,
)

ROWS, BATCH, TIME, WIDTH, HEADS, FEED, LAYERS = 640, 32, 64, 128, 4, 512, 4
WANTED = {"torch": (0.85, 1.3)}


def data(rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """x: float32 [rows, time, width], y: int32 [rows], ten classes"""
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, TIME, WIDTH), dtype=np.float32)
    return x, random.integers(0, 10, rows).astype(np.int32)


def with_derin(turn: Turn, dropout: float) -> None:
    import derin
    from derin import nn

    rows = np.arange(ROWS + BATCH)
    loaded = derin.data.load(data(len(rows)), indices=(rows[:ROWS], rows[ROWS:], []))
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, FEED, dropout=dropout or None)
    net = nn.Sequential(nn.TransformerEncoder(layer, LAYERS), lambda x: x.mean(1), nn.Linear(10))
    derin.fit(
        net, loaded, epochs=1_000_000, batch_size=BATCH, optimizer=derin.optim.Adam(1e-3),
        progress=False, callbacks=[turn.next],
    )  # fmt: skip


def with_torch(turn: Turn, dropout: float, compiled: bool = False) -> None:
    import torch
    from torch import nn

    torch.set_num_threads(THREADS)
    x, y = data()
    x, y = torch.from_numpy(x), torch.from_numpy(y).long()
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, FEED, dropout=dropout, batch_first=True)
    encoder, head = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False), nn.Linear(WIDTH, 10)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 1e-3)
    encoder = torch.compile(encoder) if compiled else encoder
    while True:
        turn.begin()
        for rows in torch.randperm(ROWS).split(BATCH):
            loss = nn.functional.cross_entropy(head(encoder(x[rows]).mean(1)), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        turn.end()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench transformer", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each that are counted")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--json", type=Path, help="write the seconds to this file")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    workers = {
        "derin": lambda turn: with_derin(turn, given.dropout),
        "torch": lambda turn: with_torch(turn, given.dropout),
        "torch.compile": lambda turn: with_torch(turn, given.dropout, compiled=True),
    }
    if given.worker:
        serve(workers, given.worker)
        return
    warn_if_busy()
    refusal = refusal_of_torch_compile()
    names = [name for name in workers if not (refusal and name == "torch.compile")]
    times = take_turns("bench.transformer", names, given.rounds, arguments=("--dropout", str(given.dropout)))
    keep(given.json, times)
    text = compared(times, "ms a step", 1e3 / (ROWS // BATCH), WANTED, digits=1)
    note = (
        f"{LAYERS} layers, width {WIDTH}, {HEADS} heads, feed-forward {FEED}, {TIME} places, batch {BATCH}, Adam, "
        f"dropout {given.dropout:g}; {given.rounds} epochs of {ROWS // BATCH} steps, in turn, after two.{refusal}"
    )
    finish("transformer", "Transformer encoder, a step", text, given.write, note)


if __name__ == "__main__":
    main()
