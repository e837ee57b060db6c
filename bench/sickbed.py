"""The test bed of derin.diagnose: runs of a known cause, and which verdict comes first.

    PYTHONPATH=src python -m bench sickbed [--set written|"held out"|fresh|unseen|strangers] [--only NAME] [--write]

The cases are in tests/sick: those that were there while the rules were written, those that were held out until then,
fresh ones that were written afterwards, and twice ones of another hand that no rule had seen when they were written.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "sick"))


class Answered(NamedTuple):
    """A case, and the names of what was found, the likeliest first."""

    case: Any
    names: tuple[str, ...]
    confidences: tuple[float, ...]
    seconds: float

    @property
    def first(self) -> bool:
        return self.names[:1] == (self.case.cause,)

    @property
    def among_two(self) -> bool:
        return self.case.cause in self.names[:2]


def answered(case: Any) -> Answered:
    """Train a case and diagnose it."""
    import derin

    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = derin.diagnose(case.train())
    both = [*found.verdicts, *found.suspected]
    return Answered(case, tuple(v.name for v in both), tuple(v.confidence for v in both), time.perf_counter() - begin)


def figures(found: Sequence[Answered]) -> dict[str, float]:
    """Shares of right verdicts among the sick, and false alarms among the healthy."""
    sick = [a for a in found if a.case.cause != "just right"]
    healthy = [a for a in found if a.case.cause == "just right"]
    return {
        "sick": len(sick),
        "first": sum(a.first for a in sick) / max(1, len(sick)),
        "top two": sum(a.among_two for a in sick) / max(1, len(sick)),
        "healthy": len(healthy),
        "false alarms": sum(not a.first for a in healthy),
    }


def table(halves: dict[str, Sequence[Answered]]) -> str:
    """A row a half."""
    lines = [
        "| cases | sick | right verdict first | in the top two | healthy | false alarms |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in halves.items():
        f = figures(found)
        lines.append(
            f"| {name} | {f['sick']:.0f} | {f['first']:.1%} | {f['top two']:.1%} | {f['healthy']:.0f} "
            f"| {f['false alarms']:.0f} |"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    import jax
    from cases import CASES, SETS

    from bench.measure import finish

    parser = argparse.ArgumentParser(prog="python -m bench sickbed", description=__doc__.splitlines()[0])
    parser.add_argument("--set", choices=SETS, help="only these cases")
    parser.add_argument("--only", help="only cases whose name holds this; their evidence is shown")
    parser.add_argument("--quiet", action="store_true", help="only the table")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    given = parser.parse_args(argv)
    chosen = [c for c in CASES if given.set in (None, c.set)]
    chosen = [c for c in chosen if given.only is None or given.only in c.name]
    found = []
    for i, case in enumerate(chosen):
        if i % 20 == 19:
            jax.clear_caches()  # a process may map some 65,000 pieces of memory, and every program takes many
        found.append(answered(case))
        a = found[-1]
        if not given.quiet:
            said = ", ".join(f"{n} {c:.2f}" for n, c in list(zip(a.names, a.confidences, strict=True))[:4])
            mark = " " if a.first else "~" if a.among_two else "!"
            print(f"{mark} {case.name:34s} {case.cause:32s} {a.seconds:5.1f} s  {said}", flush=True)
    halves = {words: [a for a in found if a.case.set == name] for name, words in SETS.items()}
    halves = {name: some for name, some in halves.items() if some}
    print(f"{sum(a.seconds for a in found):.0f} s in all")
    finish("sickbed", "Diagnoses of runs made sick on purpose", table(halves), given.write)


if __name__ == "__main__":
    main()
