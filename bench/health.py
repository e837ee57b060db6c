"""What health costs: looks beside epochs, and the compiling that they add.

    PYTHONPATH=src python -m bench health [--rounds 5] [--write]

Two trainings of the same net differ by more than looking costs, so that it is measured within one: looks and epochs
are timed by themselves, and the cost is by how much the epochs with a look, and those after one, take longer than the
others; where every epoch is looked at, what the looks take. "digits" is 64-64-10 on 1,347 rows, batch 64; "large" the
net and rows of `bench mlp`.
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
        "iris": (nn.MLP((16,), 3), derin.data.load("iris"), 1000),
        "digits": (nn.MLP((64,), 10), digits, 400),
        "large": (large, derin.data.load(data(66_000), indices=(rows[:65_536], rows[65_536:], [])), 24),
    }


def compiling(net: Any, data: Any, health: bool) -> float:
    """Seconds that the programs of a run take."""
    import derin
    from derin.engine.programs import seconds

    before = sum(seconds.values())
    derin.fit(net, data, epochs=4, health=health, progress=False, callbacks=[lambda _: None])
    return sum(seconds.values()) - before


def looks(net: Any, data: Any, count: int) -> tuple[int, float, float, float]:
    """(epochs from look to look, seconds of a look, of an epoch without it, cost as a share): one training."""
    import derin
    from derin.engine.health import Watch

    look, every, looked, ends = Watch.look, [0], {}, []

    def timed(watch: Watch, *given: Any) -> Any:
        begin = time.perf_counter()
        line = look(watch, *given)
        every[0], looked[line["epoch"]] = watch.every, time.perf_counter() - begin
        return line

    Watch.look = timed  # type: ignore[method-assign]
    try:
        derin.fit(net, data, epochs=count, progress=False, callbacks=[lambda _: ends.append(time.perf_counter())])
    finally:
        Watch.look = look  # type: ignore[method-assign]
    begun = 2 * every[0]  # those before warm up
    taken = {epoch: ends[epoch - 1] - ends[epoch - 2] for epoch in range(begun + 1, count)}  # not the last
    seen = [epoch for epoch in looked if epoch in taken]
    near = {at for epoch in seen for at in (epoch, epoch + 1) if at in taken}
    look_seconds, rest = median([looked[e] for e in seen]), [t for epoch, t in taken.items() if epoch not in near]
    if not rest:  # every epoch is looked at
        plain = sum(taken.values()) - sum(looked[e] for e in seen)
        return every[0], look_seconds, plain / len(taken), sum(looked[e] for e in seen) / plain
    more = sum(taken[epoch] for epoch in near) - len(near) * float(np.mean(rest))
    return every[0], look_seconds, median(rest), more / (len(taken) * float(np.mean(rest)))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench health", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="trainings of each that are counted")
    parser.add_argument("--json", type=Path, help="write the seconds to this file")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    given = parser.parse_args(argv)
    warn_if_busy()
    lines = [
        "| rows and net | looked at | epoch without a look | a look | costs | compiling without | with |",
        "|---|---|---|---|---|---|---|",
    ]
    everything = {}
    for name, (net, data, count) in cases().items():
        first = [compiling(net, data, health) for health in (False, True)]
        found = [looks(net, data, count) for _ in range(given.rounds)]
        every, (look, without, cost) = found[0][0], (median(list(v)) for v in list(zip(*found, strict=True))[1:])
        often = "every epoch" if every == 1 else f"every {every} epochs"
        lines.append(
            f"| {name} | {often} | {without * 1e3:.2f} ms | {look * 1e3:.2f} ms | {cost:.1%} "
            f"| {first[0]:.2f} s | {sum(first):.2f} s |"
        )
        everything[name] = found
    keep(given.json, everything)
    finish("health", "Health, measured as a net trains", "\n".join(lines), given.write)


if __name__ == "__main__":
    main()
