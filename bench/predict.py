"""Prediction with a small MLP, a million rows and one row ten thousand times: derin and PyTorch.

    PYTHONPATH=src python -m bench predict [--rounds 5] [--write]

30-128-64-2. Both give probabilities as a NumPy array for rows that come as a NumPy array. PyTorch works in inference
mode, in the chunks that are fastest here (of several sizes, tried at the start). derin reads the million rows through
the schema, as it does any source, which standardises them; PyTorch is given them standardised. For single rows derin
is run.predictor().
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import THREADS, Turn, compared, finish, keep, serve, take_turns, warn_if_busy

ROWS, SINGLE = 1_000_000, 10_000
CHUNKS = (1024, 4096, 16384, 65536, 262144, ROWS)
MILLION, ONE = {"torch": (0.9, 1.5)}, {"torch": (0.7, 1.2)}


def rows(n: int = ROWS) -> np.ndarray:
    """float32 [n, 30]"""
    return np.random.default_rng(1).standard_normal((n, 30), dtype=np.float32)


def _repeat(turn: Turn, work: Callable[[], object]) -> None:
    while True:
        turn.begin()
        work()
        turn.end()


def _trained_run() -> Any:
    import derin
    from derin import nn

    x = rows(1000)
    net = nn.Sequential(nn.Linear(128), nn.ReLU(), nn.Linear(64), nn.ReLU(), nn.Linear(2))
    return derin.fit(net, (x, (x[:, 0] * x[:, 1] > 0).astype(np.int32)), epochs=1, progress=False)


def derin_million(turn: Turn) -> None:
    run, x = _trained_run(), rows()
    _repeat(turn, lambda: run.predict_proba(x))


def derin_one(turn: Turn) -> None:
    run, x = _trained_run(), rows(SINGLE)
    predict = run.predictor()

    def work() -> None:
        for i in range(SINGLE):
            predict(x[i : i + 1])

    _repeat(turn, work)


def _torch_predict() -> Callable[[np.ndarray], np.ndarray]:
    import torch
    from torch import nn

    torch.set_num_threads(THREADS)
    net = nn.Sequential(nn.Linear(30, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 2)).eval()

    @torch.inference_mode()
    def predict(x: np.ndarray) -> np.ndarray:
        return net(torch.from_numpy(x)).softmax(1).numpy()

    return predict


def torch_million(turn: Turn) -> None:
    predict, x = _torch_predict(), rows()

    def chunked(size: int) -> np.ndarray:
        return np.concatenate([predict(x[i : i + size]) for i in range(0, ROWS, size)])

    best = min(CHUNKS, key=lambda size: min(_seconds(lambda: chunked(size)) for _ in range(3)))
    _repeat(turn, lambda: chunked(best))


def torch_one(turn: Turn) -> None:
    predict, x = _torch_predict(), rows(SINGLE)

    def work() -> None:
        for i in range(SINGLE):
            predict(x[i : i + 1])

    _repeat(turn, work)


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


WORKERS = {"derin": derin_million, "torch": torch_million}
SINGLE_WORKERS = {"derin": derin_one, "torch": torch_one}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench predict", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each is counted")
    parser.add_argument("--json", type=Path, help="write the seconds to this file")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--single", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.worker:
        serve(SINGLE_WORKERS if given.single else WORKERS, given.worker)
        return
    warn_if_busy()
    million = take_turns("bench.predict", list(WORKERS), given.rounds)
    one = take_turns("bench.predict", list(WORKERS), given.rounds, arguments=["--single"])
    keep(given.json, {"million": million, "one": one})
    text = compared(million, f"ms for {ROWS:,} rows", 1e3, MILLION)
    text += "\n\n" + compared(one, "us for one row", 1e6 / SINGLE, ONE, digits=1)
    finish("predict", "Prediction", text, given.write, f"Medians of {given.rounds}, in turn, after two.")


if __name__ == "__main__":
    main()
