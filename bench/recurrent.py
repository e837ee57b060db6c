"""A training step of LSTM and GRU: derin and PyTorch, eager and compiled.

    PYTHONPATH=src python -m bench recurrent [--rounds 5] [--only "LSTM 16-64"] [--write]

Batches of sequences to four classes by the last step; forward, backward and an SGD update. derin runs the steps of a
round as one program, as its epochs do; PyTorch runs its loop. Both have two threads. torch.compile leaves LSTM and GRU
themselves as they are.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.measure import (
    THREADS,
    Turn,
    finish,
    keep,
    markdown,
    median,
    refusal_of_torch_compile,
    serve,
    spread,
    take_turns,
    verdict,
    warn_if_busy,
)

CLASSES = 4


class Work(NamedTuple):
    """A layer, the shape of its batches, how many steps a round has, and what is asked for: (must, goal)."""

    kind: str
    features: int
    hidden: int
    time: int
    batch: int
    layers: int
    both: bool
    steps: int
    wanted: tuple[float, float]


WORKS = {
    "LSTM 16-64": Work("LSTM", 16, 64, 50, 64, 1, False, 40, (0.85, 1.2)),
    "GRU 16-64": Work("GRU", 16, 64, 50, 64, 1, False, 40, (0.85, 1.2)),
    "LSTM 64-256": Work("LSTM", 64, 256, 100, 32, 1, False, 20, (1, 1.3)),
    "LSTM 64-256, two layers": Work("LSTM", 64, 256, 100, 32, 2, False, 10, (1, 1.3)),
    "LSTM 64-256, both directions": Work("LSTM", 64, 256, 100, 32, 1, True, 10, (1, 1.3)),
}


def data(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """x: float32 [steps, batch, time, features], y: int32 [steps, batch]"""
    random = np.random.default_rng(0)
    x = random.standard_normal((work.steps, work.batch, work.time, work.features), dtype=np.float32)
    return x, random.integers(0, CLASSES, (work.steps, work.batch)).astype(np.int32)


def with_derin(turn: Turn, work: Work) -> None:
    import jax

    from derin import nn

    x, y = data(work)
    layer = getattr(nn, work.kind)(work.hidden, num_layers=work.layers, bidirectional=work.both)
    net = nn.Sequential(nn.LastStep(layer), nn.Linear(CLASSES))
    loss = nn.CrossEntropyLoss()
    params, state = net.init(jax.random.key(0), x[0])

    @jax.jit
    def steps(params, x, y):
        def step(params, batch):
            x, y = batch
            grads = jax.grad(lambda p: loss(net.apply(p, state, x, train=True)[0], y))(params)
            return jax.tree.map(lambda p, g: p - 0.01 * g, params, grads), None

        return jax.lax.scan(step, params, (x, y))[0]

    x, y = jax.device_put((x, y))
    while True:
        turn.begin()
        params = jax.block_until_ready(steps(params, x, y))
        turn.end()


def with_torch(turn: Turn, work: Work, compiled: bool = False) -> None:
    import torch
    from torch import nn

    torch.set_num_threads(THREADS)
    x, y = data(work)
    x, y = torch.from_numpy(x), torch.from_numpy(y).long()
    layer = getattr(nn, work.kind)(work.features, work.hidden, work.layers, batch_first=True, bidirectional=work.both)
    head = nn.Linear(work.hidden * (1 + work.both), CLASSES)
    optimizer = torch.optim.SGD([*layer.parameters(), *head.parameters()], 0.01)
    layer = torch.compile(layer) if compiled else layer
    while True:
        turn.begin()
        for xs, ys in zip(x, y, strict=True):
            _, h = layer(xs)
            h = h[0] if work.kind == "LSTM" else h
            last = torch.cat([h[-2], h[-1]], -1) if work.both else h[-1]
            loss = nn.functional.cross_entropy(head(last), ys)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        turn.end()


WORKERS = {"derin": with_derin, "torch": with_torch, "torch.compile": functools.partial(with_torch, compiled=True)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench recurrent", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each that are counted")
    parser.add_argument("--only", choices=WORKS, help="one of the rows")
    parser.add_argument("--json", type=Path, help="write the seconds to this file")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.worker:
        work = WORKS[given.only]
        serve({name: functools.partial(run, work=work) for name, run in WORKERS.items()}, given.worker)
        return
    warn_if_busy()
    rows, kept = [], {}
    refusal = refusal_of_torch_compile()
    names = [name for name in WORKERS if not (refusal and name == "torch.compile")]
    for name in [given.only] if given.only else WORKS:
        work = WORKS[name]
        kept[name] = times = take_turns("bench.recurrent", names, given.rounds, arguments=["--only", name])
        ours = median(times["derin"])
        wanted = [f"{bound:g}x" for bound in work.wanted]
        cells = [name, f"{1e3 * ours / work.steps:.1f}", spread(times["derin"])]
        if "torch" in times:
            theirs = median(times["torch"])
            ratio = theirs / ours
            cells += [f"{1e3 * theirs / work.steps:.1f}", spread(times["torch"]), f"{ratio:.2f}x"]
            compiled = f"{median(times['torch.compile']) / ours:.2f}x" if "torch.compile" in times else ""
            rows.append([*cells, *wanted, verdict(ratio, work.wanted), compiled])
        else:
            rows.append([*cells, "not installed here", "", "", *wanted, "", ""])
    keep(given.json, kept)
    head = [
        "",
        "derin, ms",
        "spread",
        "torch, ms",
        "spread",
        "torch / derin",
        "must",
        "goal",
        "",
        "torch.compile / derin",
    ]
    note = f"A step; in-hidden, T=50 and batch 64, or T=100 and batch 32; {given.rounds} rounds in turn, after two."
    finish("recurrent", "LSTM and GRU, a step", markdown(head, rows), given.write, note + refusal)


if __name__ == "__main__":
    main()
