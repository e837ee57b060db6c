"""A training step of an autoencoder 784-256-64-256-784 and of an MLP 784-512-512-10: derin and torch, compiled too.

    PYTHONPATH=src python -m bench dense [--rounds 7] [--write]

ReLU, batch 128, Adam. An epoch of 100 steps is timed, the first two left out. The MLP is trained by derin.fit; the
autoencoder by derin.nn and derin.optim in a scan, without fit's checks of each step and scores of each epoch.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

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

ROWS, BATCH, JUDGED = 12_800, 128, 128
WIDTHS = {"autoencoder": (784, 256, 64, 256, 784), "mlp": (784, 512, 512, 10)}
WANTED = {"autoencoder": {"torch": (1.6, 2.3)}, "mlp": {"torch": (1.3, 1.8)}}


def data(rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """x: float32 [rows, 784], y: int32 [rows], ten classes"""
    random = np.random.default_rng(0)
    return random.random((rows, 784), dtype=np.float32), random.integers(0, 10, rows).astype(np.int32)


def with_derin(turn: Turn, widths: tuple[int, ...]) -> None:
    import derin
    from derin import nn

    layers = [layer for width in widths[1:-1] for layer in (nn.Linear(width), nn.ReLU())]
    net = nn.Sequential(*layers, nn.Linear(widths[-1]))
    if widths[-1] == 784:
        autoencoder(turn, net)
    rows = np.arange(ROWS + JUDGED)
    loaded = derin.data.load(data(len(rows)), indices=(rows[:ROWS], rows[ROWS:], []))
    derin.fit(
        net, loaded, epochs=1_000_000, batch_size=BATCH, optimizer=derin.optim.Adam(1e-3),
        progress=False, callbacks=[turn.next],
    )  # fmt: skip


def autoencoder(turn: Turn, net: Any) -> None:
    import jax
    import jax.numpy as jnp

    import derin

    x, optimizer = jnp.asarray(data()[0]), derin.optim.Adam(1e-3)
    params, state = net.init(jax.random.key(0), x[:1])

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return jnp.square(net.apply(params, state, x, train=True)[0] - x).mean()

    @jax.jit
    def epoch(params: Any, memory: Any, key: jax.Array) -> Any:
        def step(carry: Any, rows: jax.Array) -> Any:
            params, memory = carry
            value, gradient = jax.value_and_grad(loss)(params, x[rows])
            updates, memory = optimizer.update(gradient, memory, params, optimizer.learning_rate)
            return (jax.tree.map(jnp.add, params, updates), memory), value

        return jax.lax.scan(step, (params, memory), jax.random.permutation(key, ROWS).reshape(-1, BATCH))

    memory, key = optimizer.init(params), jax.random.key(1)
    while True:
        turn.begin()
        key, own = jax.random.split(key)
        (params, memory), _ = jax.block_until_ready(epoch(params, memory, own))
        turn.end()


def with_torch(turn: Turn, widths: tuple[int, ...], compiled: bool = False) -> None:
    import torch
    from torch import nn

    torch.set_num_threads(THREADS)
    x, y = map(torch.from_numpy, data())
    target, loss_of = (x, nn.MSELoss()) if widths[-1] == 784 else (y.long(), nn.CrossEntropyLoss())
    layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    net = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    net = torch.compile(net) if compiled else net
    while True:
        turn.begin()
        for rows in torch.randperm(ROWS).split(BATCH):
            loss = loss_of(net(x[rows]), target[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        turn.end()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench dense", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each that are counted")
    parser.add_argument("--json", type=Path, help="write the seconds to this file")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--net", default="mlp", help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    workers = {
        "derin": lambda turn: with_derin(turn, WIDTHS[given.net]),
        "torch": lambda turn: with_torch(turn, WIDTHS[given.net]),
        "torch.compile": lambda turn: with_torch(turn, WIDTHS[given.net], compiled=True),
    }
    if given.worker:
        serve(workers, given.worker)
        return
    warn_if_busy()
    refusal = refusal_of_torch_compile()
    names = [name for name in workers if not (refusal and name == "torch.compile")]
    found = {net: take_turns("bench.dense", names, given.rounds, arguments=("--net", net)) for net in WIDTHS}
    keep(given.json, found)
    parts = []
    for net, times in found.items():
        table = compared(times, "ms a step", 1e3 / (ROWS // BATCH), WANTED[net], digits=2)
        parts.append(f"{net} {'-'.join(map(str, WIDTHS[net]))}\n\n{table}")
    note = f"ReLU, batch {BATCH}, Adam; {given.rounds} epochs of {ROWS // BATCH} steps, in turn, after two.{refusal}"
    finish("dense", "Dense nets, a step", "\n\n".join(parts), given.write, note)


if __name__ == "__main__":
    main()
