"""Populations by the number of their slots, on this machine's GPU or CPU: derin, PyTorch a model at a time, the roof.

    PYTHONPATH=src python -m bench slots [--rounds 5] [--only mlp] [--slots 1,16] [--write]

The nets of bench/tune.py. An epoch of a population is one call; PyTorch trains one model eagerly, on the GPU where
there is one. The roof is what the device could do at most: its rates of copying and of multiplying matrices, measured,
over the bytes and the multiply-adds of a model-step (`step_of`). It needs jax, numpy and optax, and torch for the peer.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench import tune_peers
from bench.measure import Turn, finish, keep, markdown, median, serve, spread, take_turns, verdict, warn_if_busy

WORKS = {"mlp": "MLP 30-128-64-2", "cnn": "CNN", "lstm": "LSTM 16-64"}
SLOTS = {
    "gpu": {"mlp": (1, 16, 256, 1024, 4096), "cnn": (1, 16, 64), "lstm": (1, 64, 1024)},
    "cpu": {"mlp": (1, 16, 64, 256), "cnn": (1, 4), "lstm": (1, 16)},
}
WANTED = {"gpu": {"mlp": (100, 1000)}}  # of PyTorch's model-steps a second, by the most slots
TORCH = "torch, one model"


def task_of(name: str) -> tuple[Any, Any, Any]:
    """The task, its training rows and its validation rows, on the device."""
    import jax

    import derin
    from bench.tune import experiment_of
    from derin.engine.epoch import Rows
    from derin.engine.task import task_of as made

    work = tune_peers.WORKS[WORKS[name]]
    x, y = tune_peers.data(work)
    rows = Rows(jax.device_put(x[: work.rows]), (jax.device_put(y[: work.rows]),))
    valid = Rows(jax.device_put(x[work.rows :]), (jax.device_put(y[work.rows :]),))
    data = derin.load_data((x, y), indices=(np.arange(work.rows), np.arange(work.rows, len(x)), []))
    return made(experiment_of(work, 1e-3), data.schema, x, None), rows, valid


def with_derin(turn: Turn, name: str, slots: int) -> None:
    import jax

    from derin.engine.population import Member, Population

    task, rows, valid = task_of(name)
    leaves = jax.tree.leaves(task.structure_only())
    population = Population(task, rows, valid, slots, shared_order=True)
    population.put([Member(leaves, seed, 1_000_000) for seed in range(slots)])
    while True:
        turn.begin()
        population.epoch()
        turn.end()


def with_torch(turn: Turn, name: str) -> None:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    work = tune_peers.WORKS[WORKS[name]]
    x, y = (a.to(device) for a in tune_peers.torch_data(work))
    net = tune_peers.torch_net(work).to(device)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    while True:
        turn.begin()
        for rows in torch.randperm(work.rows, device=device).split(work.batch):
            loss = torch.nn.functional.cross_entropy(net(x[rows]), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        turn.end()


# -- the roof


class Step(NamedTuple):
    """What a step of one model needs at least."""

    bytes: float
    flops: float


def step_of(name: str) -> Step:
    """Adam reads and writes each weight some ten times: forward, backward, its gradient, two averages, itself. What
    layers with weights put out is written once and read once; what stands between them can be part of their kernels."""
    import jax

    from derin import nn

    work = tune_peers.WORKS[WORKS[name]]
    task, rows, _ = task_of(name)
    like = jax.ShapeDtypeStruct((work.batch, *rows.x.shape[1:]), rows.x.dtype)
    seen = nn.summary(task.experiment.net, like)
    outputs = sum(row.bytes - 4 * row.parameters for row in seen.rows if row.parameters)
    return Step(40.0 * seen.total.parameters + 2 * outputs, 6.0 * seen.total.multiply_adds)


def rates() -> tuple[float, float]:
    """Bytes a second of a copy, and float32 operations a second of a product of matrices, as JAX does them."""
    import jax
    import jax.numpy as jnp

    big = jax.default_backend() != "cpu"
    x, a = jnp.ones(2 ** (28 if big else 25)), jnp.ones((8192, 8192) if big else (2048, 2048))
    copied, multiplied = jax.jit(lambda x: x + 1), jax.jit(lambda a: a @ a)
    return 2.0 * x.nbytes / _seconds(copied, x), 2.0 * a.shape[0] ** 3 / _seconds(multiplied, a)


def _seconds(function: Any, x: Any) -> float:
    import jax

    times = []
    for _ in range(6):
        begin = time.perf_counter()
        jax.block_until_ready(function(x))
        times.append(time.perf_counter() - begin)
    return median(times[1:])


def roof(turn: Turn) -> None:
    """A worker that measures and prints: the parent must not take the device from its children."""
    import json
    import sys

    import jax

    found = {name: step_of(name)._asdict() for name in WORKS}
    copying, multiplying = rates()
    device = jax.devices()[0]
    said = {"platform": device.platform, "kind": device.device_kind, "copying": copying, "multiplying": multiplying}
    print(json.dumps(said | {"steps": found}), file=sys.stderr)


# -- the table


def measured(rounds: int, names: list[str], slots: tuple[int, ...] | None) -> tuple[str, dict[str, Any], str]:
    device = about()
    rows, kept = [], {"device": device}
    for name in names:
        work = tune_peers.WORKS[WORKS[name]]
        steps, needed = work.rows // work.batch, Step(**device["steps"][name])
        most = device["multiplying"] / needed.flops
        if device["platform"] != "cpu":  # whose caches hold a small net
            most = min(most, device["copying"] / needed.bytes)
        chosen = slots or SLOTS[device["platform"]][name]
        peers = [f"derin, {k:,} slots" for k in chosen]
        arguments = ["--only", name, "--slots", ",".join(map(str, chosen))]
        times = take_turns("bench.slots", [*peers, TORCH], rounds, 2, arguments)
        kept[name] = times
        theirs = steps / median(times[TORCH]) if TORCH in times else 0.0
        for peer, k in zip(peers, chosen, strict=True):
            rate = k * steps / median(times[peer])
            wanted = WANTED.get(device["platform"], {}).get(name) if k == max(chosen) else None
            rows.append([
                WORKS[name], f"{k:,}", f"{rate:,.0f}", spread(times[peer]), f"{rate / most:.1%}",
                f"{rate / theirs:.1f}x" if theirs else "", *([f"{b:g}x" for b in wanted] if wanted else ["", ""]),
                verdict(rate / theirs, wanted) if theirs else "",
            ])  # fmt: skip
        if theirs:
            rows.append([WORKS[name], TORCH, f"{theirs:,.0f}", spread(times[TORCH]), f"{theirs / most:.1%}", *[""] * 4])
    head = ["", "slots", "model-steps/s", "spread", "of the roof", "to torch", "must", "goal", ""]
    note = (
        f"On {device['kind']} ({device['platform']}): copies at {device['copying'] / 1e9:,.0f} GB/s, products at "
        f"{device['multiplying'] / 1e12:,.2f} TFLOP/s. {rounds} epochs of each in turn, after two."
    )
    return markdown(head, rows), kept, note


def about() -> dict[str, Any]:
    """The device, its rates and what a step needs, from a process of its own."""
    import json
    import subprocess
    import sys

    from bench.measure import ROOT, environment

    command = [sys.executable, "-c", "from bench.slots import roof; roof(None)"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=ROOT)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stderr.splitlines()[-1])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench slots", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each that are counted")
    parser.add_argument("--only", choices=list(WORKS), help="one of the nets")
    parser.add_argument("--slots", help="how many, such as 1,16,256; by the device where it is left out")
    parser.add_argument("--json", type=Path, help="write the seconds to this file")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    slots = tuple(map(int, given.slots.split(","))) if given.slots else None
    if given.worker:
        workers = {f"derin, {k:,} slots": functools.partial(with_derin, name=given.only, slots=k) for k in slots or ()}
        serve({**workers, TORCH: functools.partial(with_torch, name=given.only)}, given.worker)
        return
    warn_if_busy()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the workers share one GPU
    table, kept, note = measured(given.rounds, [given.only] if given.only else list(WORKS), slots)
    keep(given.json, kept)
    finish("slots", "Populations by their slots", table, given.write, note)


if __name__ == "__main__":
    main()
