"""What health costs: epochs with and without it, and the compiling that it adds.

    PYTHONPATH=src python -m bench health [--rounds 5] [--write]

Both train the same nets on the same rows; an epoch is timed between two callbacks, and the mean counts, since not
every epoch is looked at. "digits" is 64-64-10 on 1,347 rows, batch 64; "large" the net and rows of `bench mlp`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import finish, keep, median, warn_if_busy


def cases() -> dict[str, Any]:
    import derin
    from bench.mlp import data
    from derin import nn

    large = nn.Sequential(nn.Linear(128), nn.ReLU(), nn.Linear(64), nn.ReLU(), nn.Linear(2))
    rows = np.arange(66_000)
    digits = derin.data.load("digits", test=0, valid=0.25)
    return {
        "iris": (nn.MLP((16,), 3), derin.data.load("iris"), 400),
        "digits": (nn.MLP((64,), 10), digits, 200),
        "large": (large, derin.data.load(data(66_000), indices=(rows[:65_536], rows[65_536:], [])), 8),
    }


def epochs(net: Any, data: Any, count: int, health: bool) -> tuple[float, float]:
    """Mean seconds of an epoch after the first two, and seconds spent compiling."""
    import derin
    from derin.engine.programs import seconds

    before, times = sum(seconds.values()), [time.perf_counter()]
    derin.fit(
        net, data, epochs=count, health=health, progress=False, callbacks=[lambda _: times.append(time.perf_counter())]
    )
    return float(np.mean(np.diff(times)[2:])), sum(seconds.values()) - before


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench health", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="trainings of each that are counted")
    parser.add_argument("--json", type=Path, help="write the seconds to this file")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    given = parser.parse_args(argv)
    warn_if_busy()
    lines = ["| rows and net | epoch without | with | costs | compiling without | with |", "|---|---|---|---|---|---|"]
    everything = {}
    for name, (net, data, count) in cases().items():
        first = {h: epochs(net, data, 4, h)[1] for h in (False, True)}
        times: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(given.rounds):
            for h in (False, True):
                times[h].append(epochs(net, data, count, h)[0])
        without, with_it = (median(times[h]) for h in (False, True))
        cost = median([b / a - 1 for a, b in zip(times[False], times[True], strict=True)])
        compiling = f"{first[False]:.2f} s | {first[False] + first[True]:.2f} s"
        lines.append(f"| {name} | {without * 1e3:.2f} ms | {with_it * 1e3:.2f} ms | {cost:+.1%} | {compiling} |")
        everything[name] = {"without": times[False], "with": times[True]}
    keep(given.json, everything)
    finish("health", "Health, measured as a net trains", "\n".join(lines), given.write)


if __name__ == "__main__":
    main()
