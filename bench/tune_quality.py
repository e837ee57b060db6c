"""What is found in the same time: derin's search, and Optuna's with PyTorch, on six real sets.

    PYTHONPATH=src python -m bench tune_quality [--data DIR] [--seconds 30] [--splits 5] [--sets digits] [--write]

Both get the same columns (numbers imputed and standardised, categories one-hot), the same training, validation and test
rows, the same space, net by net, and the same seconds of wall time, which for derin hold its compiling. derin prunes by
ASHA; Optuna samples by TPE, prunes by its successive halving, and trains in two processes of one thread. derin's time
is enough for more than one net a trial, and it is used: below 1,000 validation rows, which tell an accuracy to no
better than a point, a trial is judged over five folds of training and validation rows. What it finds are the best five
nets together: five folds of the best trial, or else the best five trials (`study.ensemble(5)`); one net alone stands
beside them. Optuna's is the net with the best validation score. The test score is the accuracy, or R2 for numbers. A
test part of 200 rows is off by 3 points by chance, so there are several splits, compared in pairs.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
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
FEW, FOLDS = 1000, 5  # validation rows below which folds judge; how many
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


def with_derin(given: dict[str, Any], seconds: float) -> tuple[float, float, int]:
    """The test score of one net of the best trial, that of the best five nets together, and how many trials ended."""
    import derin
    from derin import nn, optim

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
    few = len(given["valid"]) < FEW
    study = derin.tune(space, data, time=left, pruner="asha", folds=FOLDS if few else None, progress=False)
    ended = sum(bool(t.curve) for t in study.trials)
    return tested(study.ensemble(1), data, given), tested(study.ensemble(5), data, given), ended


def tested(run: Any, data: Any, given: dict[str, Any]) -> float:
    """The test score of a run."""
    from derin.engine.predict import predicted_blocks

    found = np.concatenate([b[0] for b in predicted_blocks(run.task, run.params, run.state, data.test.x)])
    if given["task"] == "number":
        return score("number", data.test.y, found.reshape(-1, 1))
    labels = np.array([int(label) for label in data.schema.targets[0].labels])
    return float((labels[found.argmax(1)] == given["y"][data.test.rows]).mean())


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
        for *_, result in running:  # a pool that is torn down with work in it may raise
            result.wait()
    return best[1], ended


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench tune_quality", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder that holds tabular/")
    parser.add_argument("--seconds", type=float, default=30, help="of wall time for each search")
    parser.add_argument("--sets", default=",".join(SETS), help="names, commas between them")
    parser.add_argument("--splits", type=int, default=5, help="of each set in training, validation and test rows")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    given = parser.parse_args(argv)
    warn_if_busy()
    rows, better, level = [], 0, 0
    names = given.sets.split(",")
    for name in names:
        found = []
        for seed in range(given.splits):
            data = prepared(read_set(name, given.data), seed)
            found.append((*with_derin(data, given.seconds), *with_torch(data, given.seconds)))
            print(name, seed, *found[-1], file=sys.stderr, flush=True)
        best, together, ours, theirs, others = np.array(found).T
        points, error = difference(together, theirs)
        alone, its_error = difference(best, theirs)
        better, level = better + (points >= 0), level + (points >= -error)
        rows.append([
            name, f"{len(data['valid']):,}", *(f"{np.mean(part):.2%}" for part in (best, together, theirs)),
            f"{alone:+.2f} ± {its_error:.2f}", f"{points:+.2f} ± {error:.2f}",
            f"{np.median(ours):,.0f}", f"{np.median(others):,.0f}",
        ])  # fmt: skip
        print(*rows[-1], flush=True)
    head = ["", "validation rows", "derin, one net", "derin, five nets", "Optuna and torch", "one less Optuna, points",
            "five less Optuna, points", "trials, derin", "trials, Optuna"]  # fmt: skip
    note = (
        f"{given.seconds:g} s each, {given.splits} splits, means and standard errors of the differences in pairs. Five "
        f"nets are better or equal on {better} of {len(names)} sets (must: 5 of 6), and on {level} better or within a "
        "standard error."
    )
    finish("tune_quality", "What a search finds", markdown(head, rows), given.write, note)


def difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """In points, of a hundred: the mean over the splits, and its standard error."""
    points = 100 * (ours - theirs)
    return float(points.mean()), float(points.std(ddof=1) / len(points) ** 0.5) if len(points) > 1 else math.nan


if __name__ == "__main__":
    main()
