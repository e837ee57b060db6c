"""Remedies on the test bed's sick runs: does the best one do better than changing nothing?

    PYTHONPATH=src python -m bench cures [--every 3] [--seeds 2] [--write]

The cases are in tests/sick. The best remedy is the one with the largest effect on the loss of the validation
rows; "clearly" counts the runs where that is larger than its deviation over the seeds.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from bench.measure import finish, markdown

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "sick"))


def cured(case: Any, seeds: int) -> Any:
    """A case's remedies, tried."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return case.train().try_remedies(seeds=seeds, metric="valid_loss", progress=False)


def main(argv: list[str] | None = None) -> None:
    from cases import CASES, HEALTHY

    parser = argparse.ArgumentParser(prog="python -m bench cures", description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="only each so many-th case")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    given = parser.parse_args(argv)
    chosen = [c for c in CASES if c.cause != HEALTHY][:: given.every]
    rows, better, clearly = [], 0, 0
    for case in chosen:
        begin = time.perf_counter()
        found = cured(case, given.seeds)
        best = found.best
        effect, deviation = (0.0, 0.0) if best is None else found.effect(best)
        better += effect > 0
        clearly += effect == float("inf") or effect > deviation
        name = "none" if best is None else best.treatment.name
        change = f"{found.nothing.mean:.4g} -> {found.nothing.mean if best is None else best.mean:.4g}"
        rows.append([case.name, case.cause, name, change, f"{deviation:.2g}", f"{time.perf_counter() - begin:.0f}"])
        print("  ".join(rows[-1]), flush=True)
    rows.append([f"{len(chosen)} runs", "", f"better in {better / len(chosen):.0%}", "", "", ""])
    rows.append(["", "", f"clearly in {clearly / len(chosen):.0%}", "", "", ""])
    head = ["run", "its cause", "best remedy", "validation loss", "deviation", "s"]
    note = f"{given.seeds} seeds; each {given.every}. case of the bed." if given.every > 1 else f"{given.seeds} seeds."
    finish("cures", "Remedies of runs made sick on purpose", markdown(head, rows), given.write, note)


if __name__ == "__main__":
    main()
