"""What the benchmarks share: peers in processes of their own, taken in turn; medians; the machine; the page.

A worker is a process that lives through the whole benchmark and does one piece of work whenever it is asked, so that
the peers take turns (A B C A B C ...) and a slow minute of the machine is shared by all:

    def with_torch(turn):                     # in the worker: set up, then
        while True:
            turn.begin()                      # wait for the word
            ...                               # one epoch
            turn.end()                        # tell how long it took

    times = take_turns("bench.mlp", WORKERS, rounds=7)    # in the parent: {"torch": [0.51, 0.52, ...], ...}
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
PACKAGES = ("jax", "jaxlib", "torch", "keras", "lightning", "optuna", "scikit-learn", "numpy")
NEEDS = {"torch": "torch", "torch, one model": "torch", "Keras on JAX": "keras", "Lightning": "lightning",
         "scikit-learn": "sklearn", "torch, channels last": "torch", "torch.compile": "torch",
         "torch, 1 process x 2 threads": "optuna", "torch, 2 processes x 1 thread": "optuna",
         "Optuna TPE, 2 processes": "optuna"}  # fmt: skip
THREADS = 2  # of the peers that ask for a number


# -- workers


class Turn:
    """The worker's side: waits for the parent's word, tells the seconds."""

    def __init__(self) -> None:
        self.hear = os.fdopen(os.dup(0), "r")
        self.tell = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what a library prints must not be taken for an answer
        self.started: float | None = None

    def begin(self) -> None:
        """Wait until it is this worker's turn; ends the process when there are no more."""
        self._say("ready")
        if self.hear.readline().strip() != "go":
            os._exit(0)
        self.started = time.perf_counter()

    def end(self) -> None:
        """The work is done. Before the first begin() this does nothing."""
        if self.started is not None:
            self._say(repr(time.perf_counter() - self.started))

    def next(self, *_: Any) -> None:
        """For callbacks at the end of an epoch: this one is over, wait for the next."""
        self.end()
        self.begin()

    def _say(self, text: str) -> None:
        self.tell.write(text + "\n")
        self.tell.flush()


def serve(workers: dict[str, Callable[[Turn], None]], name: str) -> None:
    """The worker process: `python -m bench.mlp --worker NAME`."""
    workers[name](Turn())


def take_turns(
    module: str, names: Sequence[str], rounds: int, warm_up: int = 2, arguments: Sequence[str] = ()
) -> dict[str, list[float]]:
    """Seconds of each worker's pieces of work, taken in turn; peers that are not installed are left out.

    The first `warm_up` rounds are not counted: they compile and fill caches.
    """
    workers: dict[str, subprocess.Popen[str]] = {}
    times: dict[str, list[float]] = {}
    try:
        for name in names:
            if name in NEEDS and find_spec(NEEDS[name]) is None:
                continue
            workers[name] = subprocess.Popen(
                [sys.executable, "-m", module, "--worker", name, *arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT,
            )  # fmt: skip
            _expect(workers[name], name)  # one after the other: they do not disturb each other's start
            times[name] = []
        for i in range(warm_up + rounds):
            for name, worker in workers.items():
                assert worker.stdin
                worker.stdin.write("go\n")
                worker.stdin.flush()
                seconds = float(_expect(worker, name))
                _expect(worker, name)
                if i >= warm_up:
                    times[name].append(seconds)
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    return times


def refusal_of_torch_compile() -> str:
    """Why torch.compile does not work here, for the note under a table; "" where it does, or torch is not there.

    It needs a C++ compiler. A small net is tried, in a process of its own.
    """
    if find_spec("torch") is None:
        return ""
    tried = "import torch; torch.compile(torch.nn.Linear(2, 2))(torch.ones(2, 2)).sum().backward()"
    done = subprocess.run([sys.executable, "-c", tried], capture_output=True, text=True, env=environment())
    if done.returncode == 0:
        return ""
    last = next((line for line in reversed(done.stderr.splitlines()) if "Error" in line), "it failed without a word")
    return f" torch.compile is left out, for it does not work here: {last.strip()[:200]}."


def _expect(worker: subprocess.Popen[str], name: str) -> str:
    assert worker.stdout
    line = worker.stdout.readline().strip()
    if not line:
        raise RuntimeError(f"the worker {name!r} ended; its message is above.")
    return line


def environment(**more: str) -> dict[str, str]:
    """The environment of a child: this checkout's derin, and Keras on JAX."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"} | more


# -- numbers and words


def median(times: Sequence[float]) -> float:
    return statistics.median(times)


def spread(times: Sequence[float]) -> str:
    """Smallest and largest as a share of the median: -3 % +12 %"""
    middle = median(times)
    return f"-{100 * (1 - min(times) / middle):.0f} % +{100 * (max(times) / middle - 1):.0f} %"


def compared(
    times: dict[str, list[float]],
    unit: str,
    factor: float,
    wanted: dict[str, tuple[float, float]],
    digits: int = 0,
) -> str:
    """The table of a benchmark: medians, spreads, peer / derin, and whether that is what must be.

    times: seconds; shown times `factor`. wanted: {peer: (must, goal)}
    """
    rows = []
    ours = median(times["derin"])
    for name in dict.fromkeys(["derin", *wanted, *times]):
        if name not in times:
            rows.append([name, "not installed here", "", "", *_wanted(wanted.get(name)), ""])
            continue
        middle = median(times[name])
        ratio = middle / ours
        cells = [name, f"{middle * factor:,.{digits}f}", spread(times[name])]
        if name == "derin":
            rows.append([*cells, "1", "", "", ""])
        else:
            bounds = wanted.get(name)
            rows.append([*cells, f"{ratio:.2f}x", *_wanted(bounds), verdict(ratio, bounds)])
    return markdown(["", unit, "spread", "peer / derin", "must", "goal", ""], rows)


def _wanted(bounds: tuple[float, float] | None) -> list[str]:
    return ["", ""] if bounds is None else [f"{b:g}x" for b in bounds]


def verdict(ratio: float, bounds: tuple[float, float] | None) -> str:
    if bounds is None:
        return ""
    return "goal" if ratio >= bounds[1] else "must" if ratio >= bounds[0] else "falls short"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are aligned in the source as well."""
    lines = [list(map(str, row)) for row in (head, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    texts = [f"| {' | '.join(line)} |" for line in padded]
    return "\n".join([texts[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *texts[1:]])


def machine() -> str:
    """Processor, cores, operating system, versions: a sentence."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":")[1].strip() if lines else model
    return f"Measured on {model}, {cores()} cores, {platform.system()}; {versions()}."


def warn_if_busy() -> None:
    """Say so on stderr when other processes are at work: threads that wait for each other are then slowed most."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5:
        print(f"the machine is busy (load {load:.1f}): these numbers will not mean much", file=sys.stderr)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


# -- the page


def finish(name: str, title: str, text: str, write: bool, note: str = "") -> None:
    """Print a benchmark's result; with `write` also put it into docs/benchmarks.md."""
    body = f"## {title}\n\n{text}\n\n{note + ' ' if note else ''}{machine()}"
    print(body)
    if write:
        write_section(name, body)


def write_section(name: str, text: str) -> None:
    """Put text between the markers of a section of docs/benchmarks.md, which is made if it is not there."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else HEAD
    if begin not in page:
        page = page.rstrip("\n") + f"\n\n{begin}\n{end}\n"
    before, rest = page.split(begin, 1)
    after = rest.split(end, 1)[1]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def keep(path: Path | None, found: Any) -> None:
    """Write the raw numbers to a JSON file, if one is named."""
    if path is not None:
        path.write_text(json.dumps(found, indent=1))


HEAD = """# Benchmarks

derin and its peers on the same work, taken in turn in one run; medians. Written by `python -m bench NAME --write`;
`python -m bench` lists the names. Machines are noisy: read the ratios, not the seconds. A ratio is the peer's time
(or memory) over derin's, so above 1 derin is ahead. "must" and "goal" are what the project asks of itself.
"""
