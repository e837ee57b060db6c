"""Workers as processes of this machine: each is given the data once, then units through a pipe.

They are started anew, as `python -c`, so a script needs no `if __name__ == "__main__"`; the price is that a class
defined in the script itself is not known to them. A worker that dies is noticed at the end of its pipe, and its unit is
given to a fresh one.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

import jax

from derin.engine.population import cores
from derin.errors import DerinError, RunError, SpecError
from derin.tune.units import Done, Job, Trainer, Unit, check_importable, worker_environment

DEATHS = 3  # of workers in the same unit, after which it is the unit


class Processes:
    """So many processes; see `spread.Crew`."""

    def __init__(self, count: int) -> None:
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise SpecError(f"workers is a number of processes, at least 1; got {count!r}.")
        if jax.default_backend() != "cpu":
            raise SpecError(
                f"workers share the cores of this machine, and this search would run on its {jax.default_backend()}, "
                "which one population keeps busy: leave workers out, or set JAX_PLATFORMS=cpu."
            )
        self.count = count
        self.came: queue.Queue[tuple[_Worker, Any]] = queue.Queue()  # what workers sent; None when one is dead
        self.workers: list[_Worker] = []
        self.deaths: dict[tuple[int, ...], int] = {}
        self.job = b""

    def start(self, job: Job) -> None:
        check_importable(job.experiment)
        self.job = _pickled(job._replace(threads=max(1, cores() // self.count)))
        self.workers = [_Worker(self.job, self.came) for _ in range(self.count)]

    @property
    def idle(self) -> int:
        return sum(w.unit is None for w in self.workers)

    @property
    def busy(self) -> int:
        return sum(w.unit is not None for w in self.workers)

    def give(self, unit: Unit) -> None:
        next(w for w in self.workers if w.unit is None).give(unit)

    def wait(self, seconds: float) -> list[Done]:
        found: list[Done] = []
        try:
            while True:
                worker, what = self.came.get(timeout=0 if found else seconds)
                if isinstance(what, Done):
                    worker.unit = None
                    found.append(what)
                elif what is None:
                    self._replace(worker)
                else:
                    raise what
        except queue.Empty:
            return found

    def _replace(self, dead: _Worker) -> None:
        """A fresh worker, with the unit of one that died."""
        code = dead.process.wait()
        dead.end()
        if not dead.ready and code > 0:  # below 0 it is a signal: it was killed as it started
            raise RunError(
                f"a worker ended as it started, with exit code {code}; what it said is above. It imports derin and "
                "the modules of the experiment, from the folders this process does."
            )
        self.workers[self.workers.index(dead)] = fresh = _Worker(self.job, self.came)
        if dead.unit is None:
            return
        name = dead.unit.name
        self.deaths[name] = self.deaths.get(name, 0) + 1
        if self.deaths[name] == DEATHS:
            raise RunError(
                f"{DEATHS} workers died, with exit code {code} the last, training trials {name[0]} to {name[-1]}: is "
                "there memory enough? Resume with fewer workers."
            )
        fresh.give(dead.unit)

    def close(self) -> None:
        for w in self.workers:
            w.process.kill()
        for w in self.workers:
            w.end()
        self.workers = []


class _Worker:
    """A process, what it is doing, and the thread that reads what it sends."""

    def __init__(self, job: bytes, came: queue.Queue) -> None:
        paths = os.pathsep.join(p or os.getcwd() for p in sys.path)
        self.unit: Unit | None = None
        self.ready = False
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from derin.tune.workers import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | worker_environment() | {"PYTHONPATH": paths},
        )
        self.reader = threading.Thread(target=self._read, args=(came,), daemon=True)
        self.reader.start()
        self._send(job)

    def give(self, unit: Unit) -> None:
        self.unit = unit
        self._send(pickle.dumps(unit, pickle.HIGHEST_PROTOCOL))

    def _send(self, whole: bytes) -> None:
        pipe = self.process.stdin
        try:
            if pipe is not None:
                pipe.write(whole)
                pipe.flush()
        except OSError:  # it is dead: the reader says so
            pass

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            _quietly_closed(pipe)

    def _read(self, came: queue.Queue) -> None:
        for what in _messages(self.process.stdout):
            if what == "ready":
                self.ready = True
            else:
                came.put((self, what))
        came.put((self, None))


def _messages(pipe: Any) -> Iterator[Any]:
    """What comes through a pipe, until its other end is closed."""
    while True:
        try:
            yield pickle.load(pipe)
        except (EOFError, pickle.UnpicklingError, OSError, ValueError):
            return


def _quietly_closed(pipe: Any) -> None:
    try:
        pipe.close()
    except OSError:  # what was still to be written has no reader any more
        pass


def _pickled(job: Job) -> bytes:
    try:
        return pickle.dumps(job, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SpecError(f"this experiment cannot be sent to workers: {error}.") from None


# -- in the worker


def main() -> None:
    """Do the units that come through stdin until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who gives the units
    out: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed here goes to stderr: stdout is for messages
    send(out, "ready")
    parent = os.getppid()

    def alone(_: Any) -> None:
        if os.getppid() != parent:
            os._exit(1)

    try:
        given = _messages(sys.stdin.buffer)
        trainer = Trainer(next(given))
        for unit in given:
            send(out, trainer.do(unit, alone))
    except (BrokenPipeError, StopIteration):
        return
    except Exception as error:
        send(
            out,
            error if isinstance(error, DerinError) else RunError(f"a worker failed: {type(error).__name__}: {error}"),
        )


def send(out: BinaryIO, what: Any) -> None:
    out.write(pickle.dumps(what, pickle.HIGHEST_PROTOCOL))
    out.flush()
