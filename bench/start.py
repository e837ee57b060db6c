"""A whole process, from import to a trained and scored digits MLP: seconds and peak memory.

    PYTHONPATH=src python -m bench start [--rounds 7] [--write]

The programs are those of bench/digits, each as its library is usually used: derin reads scikit-learn's digits by name,
the others call load_digits(). 64-128-64-10, 20 epochs, batch 32, Adam, 1,437 rows standardised, 360 rows scored.
"warm": compiled programs lie in a cache on disk, which Keras has as well (JAX's own, told to keep everything);
"cold": the cache is a fresh folder each time. Python's own bytecode is there in both.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from bench.measure import NEEDS, ROOT, environment, finish, keep, markdown, median, spread, verdict, warn_if_busy

PROGRAMS = {
    "derin": "with_derin",
    "Keras on JAX": "with_keras",
    "torch": "with_torch",
    "scikit-learn": "with_sklearn",
}
COMPILED = ("derin", "Keras on JAX")  # those that have a cache
WARM = {"Keras on JAX": (2, 3), "torch": (1.5, 2), "scikit-learn": (0.5, 0.8)}
COLD = {"Keras on JAX": (1, 1.5)}
MEMORY = {"torch": (1, 1.3)}


class Seen(NamedTuple):
    """One process.   seconds of wall time, peak memory in MB, accuracy on the test rows"""

    seconds: float
    megabytes: float
    accuracy: float


def run(name: str, cache: Path) -> Seen:
    """Run a program once with its compiled programs in `cache`. Raises RuntimeError when it fails."""
    seconds, megabytes, said = run_program(f"digits/{PROGRAMS[name]}.py", cache)
    return Seen(seconds, megabytes, json.loads(said)["accuracy"])


def run_program(program: str, cache: Path, arguments: Sequence[str] = ()) -> tuple[float, float, str]:
    """Run a program of bench/ once.   -> seconds, peak megabytes, the last line it printed"""
    command = [sys.executable, str(ROOT / "bench" / program), *arguments]
    env = environment(
        JAX_COMPILATION_CACHE_DIR=str(cache),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
    )
    with tempfile.TemporaryFile() as out:
        begin = time.perf_counter()
        child = subprocess.Popen(command, stdout=out, env=env, cwd=ROOT)
        megabytes = _wait(child)
        seconds = time.perf_counter() - begin
        if child.returncode != 0:
            raise RuntimeError(f"{command[-1]} ended with code {child.returncode}; its message is above.")
        out.seek(0)
        return seconds, megabytes, out.read().splitlines()[-1].decode()


def _wait(child: subprocess.Popen[bytes]) -> float:
    """Wait for the end of a child.   -> its peak memory in MB (nan where the system does not tell)"""
    if not hasattr(os, "wait4"):
        child.wait()
        return float("nan")
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure(names: list[str], rounds: int) -> dict[str, list[Seen]]:
    """Processes of each, in turn; "NAME, cold" are those whose cache was empty."""
    found: dict[str, list[Seen]] = {}
    folder = Path(tempfile.mkdtemp(prefix="derin-bench-"))
    try:
        for name in names:
            run(name, folder / "warm")  # fills the caches, and the pages of the files
        for i in range(rounds):
            for name in names:
                found.setdefault(name, []).append(run(name, folder / "warm"))
            for name in names:
                if name in COMPILED:
                    found.setdefault(f"{name}, cold", []).append(run(name, folder / f"{name}-{i}"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def report(found: dict[str, list[Seen]]) -> str:
    """One table: seconds, memory, and the ratios that are asked for."""
    rows = []
    for name, seen in found.items():
        cold = name.endswith(", cold")
        peer = name.removesuffix(", cold")
        seconds, megabytes = [s.seconds for s in seen], [s.megabytes for s in seen]
        ours = found["derin, cold" if cold else "derin"]
        ratio = median(seconds) / median([s.seconds for s in ours])
        memory = median(megabytes) / median([s.megabytes for s in ours])
        time_asked = _asked(ratio, (COLD if cold else WARM).get(peer))
        memory_asked = "" if cold else _asked(memory, MEMORY.get(peer))
        rows.append([
            name if cold or peer not in COMPILED else f"{name}, warm",
            f"{median(seconds):.2f}", spread(seconds), f"{ratio:.2f}x", time_asked,
            f"{median(megabytes):.0f}", f"{memory:.2f}x", memory_asked,
            f"{100 * median([s.accuracy for s in seen]):.1f} %",
        ])  # fmt: skip
    missing = [p for p in PROGRAMS if p not in found]
    head = ["", "seconds", "spread", "/ derin", "must; goal", "peak MB", "/ derin", "must; goal", "test accuracy"]
    return markdown(head, rows) + (f"\n\nNot installed here: {', '.join(missing)}." if missing else "")


def _asked(ratio: float, bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:g}x; {bounds[1]:g}x: {verdict(ratio, bounds)}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench start", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="processes of each")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    given = parser.parse_args(argv)
    names = [n for n in PROGRAMS if n not in NEEDS or find_spec(NEEDS[n])]
    warn_if_busy()
    found = measure(names, given.rounds)
    keep(given.json, found)
    note = f"Medians of {given.rounds} processes of each, in turn."
    finish("start", "Digits, the whole process", report(found), given.write, note)


if __name__ == "__main__":
    main()
