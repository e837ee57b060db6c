"""The peers of the search: Optuna's samplers and a plain PyTorch loop, in one process or two.

    PYTHONPATH=src python -m bench.tune_peers [--only "MLP 30-32-2"] [--rounds 3]    # which of them is the faster

A search draws a learning rate for each trial, trains it with Adam for some epochs, and judges it after each.
`Work` says what is trained; `WORKERS` are the peers, for bench.measure.take_turns.
One process has two threads; of two processes each has one, and takes the next trial when it is done with the last.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench import cnn, mlp, recurrent
from bench.measure import Turn, finish, keep, markdown, median, serve, spread, take_turns, warn_if_busy

JUDGED = 512  # rows on which a trial is judged after each epoch
RATES = (1e-4, 1e-1)  # learning rates, on a logarithmic scale


class Work(NamedTuple):
    """What a search trains: how many trials of which net, on how many rows, and what derin must: (must, goal)."""

    net: str
    trials: int
    rows: int
    batch: int
    epochs: int
    wanted: tuple[float, float]

    @property
    def steps(self) -> int:
        """Model-steps of the whole search."""
        return self.trials * self.epochs * (self.rows // self.batch)


WORKS = {  # some seconds a search on two cores
    "MLP 30-128-64-2": Work("mlp", 64, 8192, 64, 2, (3, 6)),
    "MLP 30-32-2": Work("small", 256, 4096, 64, 2, (10, 25)),
    "CNN": Work("cnn", 32, 1280, 128, 1, (1.4, 1.8)),
    "LSTM 16-64": Work("lstm", 32, 1280, 64, 2, (0.7, 1.2)),
}


def data(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """x: float32 [rows + JUDGED, ...], channels last; y: int32 [rows + JUDGED]. The last JUDGED rows judge."""
    n = work.rows + JUDGED
    if work.net == "cnn":
        return cnn.data(n)
    if work.net == "lstm":
        kind = recurrent.WORKS["LSTM 16-64"]
        x, y = recurrent.data(kind._replace(steps=-(-n // kind.batch)))
        return x.reshape(-1, *x.shape[2:])[:n], y.reshape(-1)[:n]
    return mlp.data(n)


def torch_net(work: Work) -> Any:
    """The net in PyTorch, inputs as PyTorch has them."""
    from torch import nn

    if work.net == "mlp":
        return nn.Sequential(nn.Linear(30, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 2))
    if work.net == "small":
        return nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 2))
    if work.net == "cnn":
        return nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10),
        )  # fmt: skip

    class LastStep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(16, 64, batch_first=True), nn.Linear(64, recurrent.CLASSES)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[1][0][-1])

    return LastStep()


def torch_data(work: Work) -> tuple[Any, Any]:
    import torch

    x, y = data(work)
    if work.net == "cnn":
        x = x.transpose(0, 3, 1, 2).copy()
    return torch.from_numpy(x), torch.from_numpy(y).long()


def torch_trial(work: Work, x: Any, y: Any, rate: float, seed: int) -> float:
    """Train one trial as one writes it by hand; its accuracy after the last epoch."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    net, score = torch_net(work), 0.0
    optimizer = torch.optim.Adam(net.parameters(), rate)
    for _ in range(work.epochs):
        net.train()
        for rows in torch.randperm(work.rows).split(work.batch):
            loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            score = (net(x[work.rows :]).argmax(1) == y[work.rows :]).double().mean().item()
    return score


# -- searches


@contextmanager
def searching(work: Work, processes: int, sampler: str = "random") -> Iterator[Callable[[int], Any]]:
    """Set up; what comes is a function: seed -> the Optuna study of one whole search.

    sampler: "random" or "tpe". Two processes share nothing but the parent's study, in memory: no storage slows them."""
    import optuna
    import torch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    kind = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}[sampler]

    def study_of(seed: int) -> Any:
        return optuna.create_study(direction="maximize", sampler=kind(seed=seed))

    if processes == 1:
        torch.set_num_threads(2)
        x, y = torch_data(work)

        def search(seed: int) -> Any:
            study = study_of(seed)
            study.optimize(
                lambda trial: torch_trial(
                    work, x, y, trial.suggest_float("learning_rate", *RATES, log=True), trial.number
                ),
                n_trials=work.trials,
            )
            return study

        yield search
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _start, (work,)) as pool:
        for _ in range(2):  # every process is up before the clock runs
            list(pool.map(_one, [1e-3] * processes, range(processes)))

        def search_in_pool(seed: int) -> Any:
            study = study_of(seed)
            asked: list[Any] = []

            def ask() -> Any:
                trial = study.ask()
                rate = trial.suggest_float("learning_rate", *RATES, log=True)
                return trial, pool.submit(_one, rate, trial.number)

            for _ in range(work.trials):
                asked.append(ask())
                if len(asked) > 2 * processes:  # one waits for each process: none is ever idle
                    trial, running = asked.pop(0)
                    study.tell(trial, running.result())
            for trial, running in asked:
                study.tell(trial, running.result())
            return study

        yield search_in_pool


_here: dict[str, Any] = {}  # of a process of the pool: its work and data


def _start(work: Work) -> None:
    import torch

    torch.set_num_threads(1)
    _here.update(work=work, data=torch_data(work))
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(0)), daemon=True).start()  # even if that one is killed


def _one(rate: float, seed: int) -> float:
    return torch_trial(_here["work"], *_here["data"], rate, seed)


def _with(turn: Turn, work: Work, processes: int, sampler: str = "random") -> None:
    with searching(work, processes, sampler) as search:
        seed = 0
        while True:
            turn.begin()
            study = search(seed)
            turn.end()
            assert len(study.trials) == work.trials
            seed += 1


def with_one_process(turn: Turn, work: Work) -> None:
    _with(turn, work, 1)


def with_two_processes(turn: Turn, work: Work) -> None:
    _with(turn, work, 2)


def with_tpe(turn: Turn, work: Work) -> None:
    _with(turn, work, 2, "tpe")


ONE, TWO, TPE = "torch, 1 process x 2 threads", "torch, 2 processes x 1 thread", "Optuna TPE, 2 processes"
WORKERS: dict[str, Callable[..., None]] = {ONE: with_one_process, TWO: with_two_processes, TPE: with_tpe}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.tune_peers", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="searches of each that are counted")
    parser.add_argument("--only", choices=WORKS, help="one of the rows")
    parser.add_argument("--json", type=Path, help="write the seconds to this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.worker:
        work = WORKS[given.only]
        serve({name: functools.partial(run, work=work) for name, run in WORKERS.items()}, given.worker)
        return
    warn_if_busy()
    rows, kept = [], {}
    for name in [given.only] if given.only else WORKS:
        work = WORKS[name]
        kept[name] = times = take_turns("bench.tune_peers", list(WORKERS), given.rounds, 1, ["--only", name])
        for peer, seconds in times.items():
            middle = median(seconds)
            step = f"{1e6 * middle / work.steps:,.0f}"
            rows.append([name, peer, step, f"{work.trials / middle:,.1f}", spread(seconds)])
    keep(given.json, kept)
    note = f"Whole searches at equal epochs, {given.rounds} of each in turn, after one."
    table = markdown(["", "", "us a model-step", "trials a second", "spread"], rows)
    finish("tune_peers", "Peers of the search", table, False, note)


if __name__ == "__main__":
    main()
