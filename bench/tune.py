"""Searches: derin's populations, and Optuna with a plain PyTorch loop.

    PYTHONPATH=src python -m bench tune [--rounds 3] [--only "MLP 30-32-2"] [--write]

Whole searches at equal epochs, the peers in turn in processes that live on (bench/tune_peers.py); "bookkeeping" is what
derin's search takes beside its populations. Then ten folds against ten runs, and the programs of bench/asha: a
whole process, from import to the best of 1,000 nets for scikit-learn's digits, 64-32-10, by successive halving, on the
same rows for all.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench import tune_peers
from bench.measure import (
    Turn,
    finish,
    keep,
    markdown,
    median,
    serve,
    spread,
    take_turns,
    verdict,
    warn_if_busy,
)
from bench.start import run_program
from bench.tune_peers import RATES, WORKS, Work

FOLDS = "ten folds"
PROGRAMS = {"derin": "with_derin", "Optuna and torch": "with_torch", "scikit-learn": "with_sklearn"}
NEEDED = {"Optuna and torch": "optuna", "scikit-learn": "sklearn"}
ASHA_WANTED, FOLDS_WANTED = (5, 12), (1.2, 2)
ASHA_POINTS = 0.3  # the best score may be so far behind
BOOKKEEPING = 0.03  # must be
WEIGHTS = 3  # derin's searches a round
SEEDS = 10  # of ASHA at least: 360 rows judge, one is 0.28 points, and the best scores of two seeds differ by up to 2


def experiment_of(work: Work, rate: Any) -> Any:
    """The experiment of a trial, or of the search where rate is a distribution."""
    import derin
    from derin import nn, optim

    nets = {
        "mlp": lambda: [nn.Linear(128), nn.ReLU(), nn.Linear(64), nn.ReLU(), nn.Linear(2)],
        "small": lambda: [nn.Linear(32), nn.ReLU(), nn.Linear(2)],
        "lstm": lambda: [nn.LastStep(nn.LSTM(64)), nn.Linear(4)],
        "cnn": lambda: [
            nn.Conv2d(32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(64, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(128), nn.ReLU(), nn.Linear(10),
        ],
    }  # fmt: skip
    net = nn.Sequential(*nets[work.net]())
    return derin.Experiment(
        net, optimizer=optim.Adam(rate), epochs=work.epochs, batch_size=work.batch, metrics=("accuracy",)
    )


def dataset(work: Work) -> Any:
    import derin

    x, y = tune_peers.data(work)
    return derin.load_data((x, y), indices=(np.arange(work.rows), np.arange(work.rows, len(x)), []))


def with_derin(turn: Turn, work: Work) -> None:
    import derin

    experiment, data, seed = experiment_of(work, derin.log(*RATES)), dataset(work), 0
    while True:
        turn.begin()
        study = derin.tune(experiment, data, trials=work.trials, seed=seed, progress=False)
        turn.end()
        assert all(t.epochs == work.epochs or t.state == "diverged" for t in study.trials)
        seed += 1


WORKERS = {"derin": with_derin, **tune_peers.WORKERS}


def bookkeeping(work: Work) -> str:
    """That of the search; where it is more than it must be, also of one whose trials train for ten epochs."""
    share = share_of_bookkeeping(work)
    if share <= BOOKKEEPING:
        return f"{share:.1%}"
    return f"{share:.1%}, {share_of_bookkeeping(work._replace(epochs=10)):.1%} of ten epochs"


def share_of_bookkeeping(work: Work) -> float:
    """The share of a search's time that its populations do not take, which take in the data, draw weights and train;
    programs at hand."""
    import derin
    from derin.engine.population import Population
    from derin.tune import Random, Space
    from derin.tune.arena import Arena
    from derin.tune.search import Search, Settings

    experiment, data, shares = experiment_of(work, derin.log(*RATES)), dataset(work), []
    spent = [0.0]

    def timed(method: Any) -> Any:
        def call(*given: Any, **options: Any) -> Any:
            begin = time.perf_counter()
            found = method(*given, **options)
            spent[0] += time.perf_counter() - begin
            return found

        return call

    homes = {"population": Arena, "bytes": Population, "put": Population, "epoch": Population}
    methods = {name: getattr(home, name) for name, home in homes.items()}
    for name, method in methods.items():
        setattr(homes[name], name, timed(method))
    try:
        for seed in range(12 if work.epochs < 10 else 6):
            begin, spent[0] = time.perf_counter(), 0.0
            settings = Settings(trials=work.trials, sampler=Random(), seed=seed)
            Search(experiment, Space.of(experiment), data, settings).run(lambda _: None)
            shares.append(1 - spent[0] / (time.perf_counter() - begin))
    finally:
        for name, method in methods.items():
            setattr(homes[name], name, method)
    return median(shares[1:])


# -- ten folds


def with_folds(turn: Turn, work: Work) -> None:
    import derin

    experiment, data = experiment_of(work, 1e-3).replace(epochs=10), dataset(work)
    while True:
        turn.begin()
        derin.cross_validate(experiment, data, folds=10, progress=False)
        turn.end()


def with_ten_runs(turn: Turn, work: Work) -> None:
    """Ten single runs on nine tenths of the rows each."""
    import derin

    experiment, (x, y) = experiment_of(work, 1e-3).replace(epochs=10), tune_peers.data(work)
    parts = np.array_split(np.arange(len(x)), 10)
    sets = [
        derin.load_data((x, y), indices=(np.setdiff1d(np.arange(len(x)), part), part, [])) for part in parts
    ]  # fmt: skip
    while True:
        turn.begin()
        for data in sets:
            experiment.fit(data, progress=False)
        turn.end()


FOLD_WORKERS = {"cross_validate": with_folds, "ten runs": with_ten_runs}


# -- the program


def searches(names: list[str], rounds: int) -> tuple[str, dict[str, Any]]:
    rows, kept = [], {}
    for name in names:
        work = WORKS[name]
        kept[name] = times = take_turns("bench.tune", list(WORKERS), rounds, 1, ["--only", name])
        ours = median(times["derin"])
        best = min(median(times[p]) for p in (tune_peers.ONE, tune_peers.TWO)) if tune_peers.TWO in times else None
        shares = bookkeeping(work)
        for peer, seconds in times.items():
            middle = median(seconds)
            mine = peer == "derin"
            ratio = best / ours if mine and best else middle / ours
            rows.append([
                name, peer, f"{1e6 * middle / work.steps:,.1f}", f"{work.trials / middle:,.1f}", spread(seconds),
                "" if mine and not best else f"{ratio:.2f}x",
                *([f"{b:g}x" for b in work.wanted] if mine else ["", ""]),
                verdict(ratio, work.wanted) if mine and best else "", shares if mine else "",
            ])  # fmt: skip
    head = ["", "", "us a model-step", "trials/s", "spread", "to derin; derin: of the faster torch", "must", "goal", "",
            "bookkeeping"]  # fmt: skip
    return markdown(head, rows), kept


def folds(rounds: int) -> tuple[str, dict[str, Any]]:
    times = take_turns("bench.tune", list(FOLD_WORKERS), rounds, 1, ["--only", FOLDS])
    one, ten = median(times["cross_validate"]), median(times["ten runs"])
    ratio = ten / one
    row = [
        f"{one:.2f}",
        f"{ten:.2f}",
        f"{ratio:.2f}x",
        *(f"{b:g}x" for b in FOLDS_WANTED),
        verdict(ratio, FOLDS_WANTED),
    ]
    head = ["ten folds, s", "ten runs, s", "ratio", "must", "goal", ""]
    return markdown(head, [row]), {FOLDS: times}


def asha(rounds: int) -> tuple[str, dict[str, Any]]:
    """Round i has seed i, which draws the rows that judge, the values and the weights: peers are compared in pairs.

    The trials of a derin search begin with the same weights, which may be lucky: its score is the mean of several."""
    rounds = max(rounds, SEEDS)
    names = [n for n in PROGRAMS if n not in NEEDED or find_spec(NEEDED[n])]
    seen: dict[str, list[dict[str, float]]] = {n: [] for n in (*names, "derin, cold")}
    folder = Path(tempfile.mkdtemp(prefix="derin-bench-"))
    try:
        one_run("derin", folder / "warm", 0)
        for i in range(rounds):
            for name in names:
                draws = [one_run(name, folder / "warm", i, k) for k in range(WEIGHTS if name == "derin" else 1)]
                seen[name].append({key: float(np.mean([d[key] for d in draws])) for key in draws[0]})
            seen["derin, cold"].append(one_run("derin", folder / f"cold-{i}", i))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return asha_table(seen), {"asha": seen}


def asha_table(seen: dict[str, list[dict[str, float]]]) -> str:
    """seen: by peer, what each seed came to."""
    ours, rows = median([s["seconds"] for s in seen["derin"]]), []
    for name, found in seen.items():
        seconds, scores = [s["seconds"] for s in found], [s["score"] for s in found]
        ratio, asked = median(seconds) / ours, name == "Optuna and torch"
        rows.append([
            name, f"{median(seconds):.1f}", spread(seconds),
            f"{ratio:.2f}x", *([f"{b:g}x" for b in ASHA_WANTED] if asked else ["", ""]),
            verdict(ratio, ASHA_WANTED) if asked else "",
            f"{median(scores):.2%}", f"{min(scores):.2%}, {max(scores):.2%}",
            *(behind(scores, [s["score"] for s in seen["derin"]]) if name in NEEDED else ["", ""]),
            f"{median([s['epochs'] for s in found]):,.0f}",
        ])  # fmt: skip
    head = ["", "s, whole process", "spread", "to derin", "must", "goal", "", "best score", "lowest and highest",
            "derin less it, points", f"within {ASHA_POINTS:g}", "epochs trained"]  # fmt: skip
    return markdown(head, rows)


def behind(theirs: list[float], ours: list[float]) -> list[str]:
    """Points from a peer's best score to derin's: the mean over the seeds, its standard error, and a verdict."""
    points = 100 * (np.array(ours) - np.array(theirs))
    error = points.std(ddof=1) / len(points) ** 0.5
    return [f"{points.mean():+.2f} ± {error:.2f}", "yes" if points.mean() >= -ASHA_POINTS else "no"]


def one_run(name: str, cache: Path, seed: int, weights: int = 0) -> dict[str, float]:
    arguments = [str(seed), str(weights)] if name == "derin" else [str(seed)]
    seconds, _, said = run_program(f"asha/{PROGRAMS[name]}.py", cache, arguments)
    return {"seconds": seconds} | json.loads(said)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench tune", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="searches of each that are counted")
    parser.add_argument("--only", choices=[*WORKS, FOLDS, "asha"], help="one of the rows")
    parser.add_argument("--json", type=Path, help="write the seconds to this file")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.worker:
        name = WORKERS if given.only in WORKS else FOLD_WORKERS
        work = WORKS[given.only if given.only in WORKS else "MLP 30-128-64-2"]
        serve({key: functools.partial(run, work=work) for key, run in name.items()}, given.worker)
        return
    warn_if_busy()
    tables, kept = [], {}
    parts = [*([given.only] if given.only else ["searches", FOLDS, "asha"])]
    for part in parts:
        if part == FOLDS:
            table, found = folds(given.rounds)
        elif part == "asha":
            table, found = asha(given.rounds)
        else:
            table, found = searches([part] if part in WORKS else list(WORKS), given.rounds)
        tables.append(table)
        kept |= found
    keep(given.json, kept)
    note = f"{given.rounds} of each in turn, after one; of ASHA at least {SEEDS}, each with a seed of its own. "
    note += "The work is in bench/tune_peers.py and bench/asha."
    finish("tune", "Searches", "\n\n".join(tables), given.write, note)


if __name__ == "__main__":
    main()
