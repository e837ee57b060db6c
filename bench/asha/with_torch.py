"""1,000 nets for digits by Optuna's successive halving, 27 epochs at most, in two PyTorch processes of one thread."""

import json
import multiprocessing
import sys

import numpy as np
import optuna
import torch
from sklearn.datasets import load_digits
from torch import nn

EPOCHS, BATCH, RUNGS = 27, 64, (1, 3, 9)
_here = {}


def start(seed):
    torch.set_num_threads(1)
    x, y = load_digits(return_X_y=True)
    rows = np.random.default_rng(seed).permutation(1797)
    mean, deviation = x[rows[:1437]].mean(0), x[rows[:1437]].std(0)
    x = ((x - mean) / np.where(deviation == 0, 1, deviation)).astype(np.float32)
    parts = x[rows[:1437]], y[rows[:1437]], x[rows[1437:]], y[rows[1437:]]
    _here["data"] = [torch.from_numpy(a) for a in parts]


def train(state, seed, rate, decay, drop, first, last):
    """Train from one rung to the next; what was trained before comes in `state`."""
    x, y, xv, yv = _here["data"]
    torch.manual_seed(seed + first)
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(drop), nn.Linear(32, 10))
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=decay)
    if state is not None:
        net.load_state_dict(state[0])
        optimizer.load_state_dict(state[1])
    for _ in range(first, last):
        net.train()
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        score = (net(xv).argmax(1) == yv).double().mean().item()
    return score, (net.state_dict(), optimizer.state_dict())


def main(seed):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=seed), pruner=pruner)
    best, total = 0.0, 0
    with multiprocessing.get_context("spawn").Pool(2, start, (seed,)) as pool:

        def begin():
            trial = study.ask()
            values = (
                (1000 * seed + trial.number) * EPOCHS,  # the seed of its weights, its dropout and the order of the rows
                trial.suggest_float("rate", 1e-4, 1e-1, log=True),
                trial.suggest_float("decay", 1e-5, 1e-1, log=True),
                trial.suggest_float("drop", 0.0, 0.5),
            )
            return trial, values, 0, pool.apply_async(train, (None, *values, 0, RUNGS[0]))

        running, begun = [begin() for _ in range(6)], 6
        ends = [*RUNGS, EPOCHS]
        while running:
            trial, values, rung, result = running.pop(0)
            score, state = result.get()
            total += ends[rung] - (ends[rung - 1] if rung else 0)
            trial.report(score, ends[rung])
            if rung == len(ends) - 1:
                study.tell(trial, score)
                best = max(best, score)
            elif trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                more = pool.apply_async(train, (state, *values, ends[rung], ends[rung + 1]))
                running.append((trial, values, rung + 1, more))
                continue
            if begun < 1000:
                running.append(begin())
                begun += 1
    print(json.dumps({"score": best, "epochs": total}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
