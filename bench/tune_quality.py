"""What is found in the same time: derin's search, and Optuna's with PyTorch, on six real sets.

    PYTHONPATH=src python -m bench tune_quality --data ../shared/data [--seconds 30] [--sets digits,titanic] [--write]

Both get the same columns (numbers imputed and standardised, categories one-hot), the same training, validation and test
rows, the same space, net by net, and the same seconds of wall time, which for derin hold its compiling. derin prunes by
ASHA; Optuna samples by TPE, prunes by its successive halving, and trains in two processes of one thread. The test
score is that of the weights with the best validation score: accuracy, or R2 for numbers.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.defaults import split
from bench.measure import finish, markdown, warn_if_busy
from bench.sets import Set, read_set

SETS = ("digits", "titanic", "german_credit", "california_housing", "abalone", "bank_marketing")
EPOCHS, BATCH, RUNGS = 27, 64, (1, 3, 9, 27)
WIDTHS = ((64,), (128, 64))
_here: dict[str, Any] = {}  # of a process of the pool


def prepared(data: Set, seed: int) -> dict[str, Any]:
    """x: float32 [n, d]; y: int or standardised float; the rows of each part."""
    from sklearn.impute import SimpleImputer
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rest, test = split(data, seed)
    labels = data.y[rest] if data.task == "classes" else None
    train, valid = train_test_split(rest, test_size=0.2, stratify=labels, random_state=seed)
    columns = []
    if data.numbers.shape[1]:
        scaled = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
        columns.append(scaled.fit(data.numbers[train]).transform(data.numbers))
    if data.categories.shape[1]:
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(data.categories[train])
        columns.append(one_hot.transform(data.categories))
    y = data.y
    if data.task == "number":
        y = ((y - y[train].mean()) / y[train].std()).astype(np.float32)
    outputs = 1 if data.task == "number" else int(y.max()) + 1
    parts = {"train": np.sort(train), "valid": np.sort(valid), "test": np.sort(test)}
    return {"x": np.hstack(columns).astype(np.float32), "y": y, "outputs": outputs, "task": data.task} | parts


def score(task: str, y: np.ndarray, found: np.ndarray) -> float:
    if task == "classes":
        return float((found.argmax(1) == y).mean())
    return float(1 - ((found[:, 0] - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())


# -- derin


def with_derin(given: dict[str, Any], seconds: float) -> tuple[float, int]:
    """The test score, and how many trials ended."""
    import derin
    from derin import nn, optim
    from derin.engine.predict import predicted_blocks

    begin = time.perf_counter()
    number = given["task"] == "number"
    y = given["y"] if number else np.array([f"{c:03d}" for c in given["y"]])
    parts = [given[p] for p in ("train", "valid", "test")]
    data = derin.load_data((given["x"], y), indices=parts, task="number" if number else "classes")

    def net(widths: tuple[int, ...]) -> Any:
        hidden = [f for w in widths for f in (nn.Linear(w), nn.ReLU(), nn.Dropout(derin.uniform(0.0, 0.5)))]
        return nn.Sequential(*hidden, nn.Linear(given["outputs"]))

    space = derin.Experiment(
        derin.choice(*(net(w) for w in WIDTHS)), epochs=EPOCHS, batch_size=BATCH,
        loss=None if number else nn.CrossEntropyLoss(), metrics=("r2",) if number else ("accuracy",),
        optimizer=optim.AdamW(derin.log(1e-4, 1e-1), weight_decay=derin.log(1e-5, 1e-1)),
    )  # fmt: skip
    left = seconds - (time.perf_counter() - begin)
    study = derin.tune(space, data, trials=10_000, time=left, pruner="asha", progress=False)
    run = study.ensemble(1)  # the best trial's weights
    found = np.concatenate([b[0] for b in predicted_blocks(run.task, run.params, run.state, data.test.x)])
    if number:
        return score("number", data.test.y, found.reshape(-1, 1)), sum(bool(t.curve) for t in study.trials)
    labels = np.array([int(label) for label in data.schema.targets[0].labels])
    right = labels[found.argmax(1)] == given["y"][data.test.rows]
    return float(right.mean()), sum(bool(t.curve) for t in study.trials)


# -- Optuna and PyTorch


def _start(given: dict[str, Any]) -> None:
    import os

    import torch

    torch.set_num_threads(1)
    y = given["y"].astype(np.float32)[:, None] if given["task"] == "number" else given["y"].astype(np.int64)
    x, y = torch.from_numpy(given["x"]), torch.from_numpy(y)
    _here.update(given, parts={p: (x[given[p]], y[given[p]]) for p in ("train", "valid", "test")})
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(0)), daemon=True).start()


def _train(state: Any, values: dict[str, Any], first: int, last: int) -> tuple[float, float, Any]:
    """From one rung to the next.   -> validation score, test score, what goes on"""
    import torch
    from torch import nn

    (x, y), widths = _here["parts"]["train"], WIDTHS[values["net"]]
    layers: list[Any] = []
    for a, b in zip((x.shape[1], *widths), widths, strict=False):
        layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(values[f"drop {len(layers) // 3}"])]
    net = nn.Sequential(*layers, nn.Linear(widths[-1], _here["outputs"]))
    optimizer = torch.optim.AdamW(net.parameters(), values["rate"], weight_decay=values["decay"])
    if state is not None:
        net.load_state_dict(state[0])
        optimizer.load_state_dict(state[1])
    loss_of = nn.functional.mse_loss if _here["task"] == "number" else nn.functional.cross_entropy
    for _ in range(first, last):
        net.train()
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = loss_of(net(x[rows]), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        scores = [
            score(_here["task"], y.numpy().reshape(-1), net(x).numpy())
            for x, y in (_here["parts"]["valid"], _here["parts"]["test"])
        ]
    return *scores, (net.state_dict(), optimizer.state_dict())


def with_torch(given: dict[str, Any], seconds: float) -> tuple[float, int]:
    """The test score, and how many trials ended."""
    import optuna

    begin = time.perf_counter()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0), pruner=pruner)
    best, ended = (-math.inf, math.nan), 0
    with multiprocessing.get_context("spawn").Pool(2, _start, (given,)) as pool:

        def ask() -> Any:
            trial = study.ask()
            values = {"net": trial.suggest_categorical("net", [0, 1])} | {
                "rate": trial.suggest_float("rate", 1e-4, 1e-1, log=True),
                "decay": trial.suggest_float("decay", 1e-5, 1e-1, log=True),
            }
            values |= {f"drop {i}": trial.suggest_float(f"drop {i}", 0.0, 0.5) for i in range(2)}
            return trial, values, 0, pool.apply_async(_train, (None, values, 0, RUNGS[0]))

        running = [ask() for _ in range(4)]
        while running and time.perf_counter() - begin < seconds:
            trial, values, rung, result = running.pop(0)
            valid, test, state = result.get()
            trial.report(-1.0 if math.isnan(valid) else valid, RUNGS[rung])
            if rung < len(RUNGS) - 1 and not trial.should_prune():
                again = pool.apply_async(_train, (state, values, RUNGS[rung], RUNGS[rung + 1]))
                running.append((trial, values, rung + 1, again))
                continue
            done = rung == len(RUNGS) - 1
            study.tell(trial, valid if done else None, optuna.trial.TrialState.COMPLETE if done else
                       optuna.trial.TrialState.PRUNED)  # fmt: skip
            best, ended = max(best, (valid, test)), ended + 1
            running.append(ask())
        pool.terminate()
    return best[1], ended


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench tune_quality", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder that holds tabular/")
    parser.add_argument("--seconds", type=float, default=30, help="of wall time for each search")
    parser.add_argument("--sets", default=",".join(SETS), help="names, commas between them")
    parser.add_argument("--seed", type=int, default=0, help="draws the test part")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    given = parser.parse_args(argv)
    warn_if_busy()
    rows, better = [], 0
    names = given.sets.split(",")
    for name in names:
        data = prepared(read_set(name, given.data), given.seed)
        ours, trials = with_derin(data, given.seconds)
        theirs, others = with_torch(data, given.seconds)
        better += ours >= theirs
        rows.append([name, f"{ours:.4f}", str(trials), f"{theirs:.4f}", str(others), "derin" if ours > theirs else
                     "equal" if ours == theirs else "Optuna"])  # fmt: skip
        print(*rows[-1], flush=True)
    head = ["", "derin, test score", "trials", "Optuna and torch, test score", "trials", "better"]
    note = f"{given.seconds:g} s each; better or equal on {better} of {len(names)} (must: 5 of 6)."
    finish("tune_quality", "What a search finds", markdown(head, rows), given.write, note)


if __name__ == "__main__":
    main()
