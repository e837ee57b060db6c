"""Nets of several widths in a search: a program for each width, or one for the widest whose other units are masked.

    PYTHONPATH=src python -m bench masking [--rounds 5] [--write]

The masked net is a sketch that does no less than a true one would: it draws the widest net's weights, and multiplies
what the hidden units put out by 0 or 1. Seconds are CPU time of populations on one core: of their programs, without
and with a cache on disk, and of a search of so many trials, dealt evenly to the widths, in blocks of 16.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.measure import finish, keep, markdown, median
from derin import nn
from derin.engine import programs
from derin.spec import Scalar

WIDTHS = ((24, 32, 48), (32, 64, 128))
TRIALS = (64, 256)
STEPS = (320, 3200)  # of a trial: 20 and 200 epochs
ROWS, INPUTS, BLOCK = 1024, 30, 16


class Masked(nn.Module):
    """Two hidden layers of `widest` units, of which the first `width` count.   x: [batch, in] -> [batch, 2]"""

    widest: int
    width: Scalar

    def setup(self) -> None:
        self.first, self.second, self.head = nn.Linear(self.widest), nn.Linear(self.widest), nn.Linear(2)
        self.drop = nn.Dropout(0.2)

    def forward(self, x: jax.Array) -> jax.Array:
        counts = (jnp.arange(self.widest) < self.width).astype(x.dtype)
        for layer in (self.first, self.second):
            x = self.drop(jax.nn.relu(layer(x))) * counts
        return self.head(x)


def measured(net: Any, rounds: int) -> dict[str, float]:
    """CPU seconds of the programs, cold and warm, and of an epoch of a block."""
    import derin
    from derin import optim
    from derin.engine.population import Member, Population
    from derin.engine.task import rows_of, task_of
    from derin.engine.training import counts_of

    x = np.random.default_rng(0).standard_normal((ROWS, INPUTS)).astype(np.float32)
    data = derin.load_data((x, (x[:, 0] > 0).astype(int)), valid=0.2, test=0)
    experiment = derin.Experiment(net, optimizer=optim.Adam(1e-3), batch_size=64, epochs=1000)
    task = task_of(experiment, data.schema, data.train.x, counts_of(data))
    rows, valid = jax.device_put((rows_of(data.train), rows_of(data.valid)))
    member = Member(jax.tree.leaves(task.structure_only()), 0, 1000)
    found = {}
    for name in ("cold", "warm"):
        programs._programs.clear()
        population = Population(task, rows, valid, BLOCK, block=BLOCK, threads=1)
        begin = time.process_time()
        population.put([member] * BLOCK)
        population.epoch()
        found[name] = time.process_time() - begin
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        population.epoch()
        times.append(time.process_time() - begin)
    steps = -(-len(data.train.x) // 64)
    return found | {"step": median(times) / steps}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench masking", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each that are counted")
    parser.add_argument("--json", type=Path, help="write the seconds to this file")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    given = parser.parse_args(argv)
    os.environ["DERIN_CACHE"] = tempfile.mkdtemp()
    measured(nn.MLP((8, 8), 2), 1)  # what is compiled once in a process
    rows, everything = [], {}
    for widths in WIDTHS:
        each = [measured(nn.MLP((w, w), 2, dropout=0.2), given.rounds) for w in widths]
        masked = measured(Masked(widths[-1], float(widths[0])), given.rounds)
        everything[str(widths)] = [*each, masked]
        for trials in TRIALS:
            share = -(-trials // len(widths) // BLOCK)  # blocks of a width
            for steps in STEPS:
                cells: list[Any] = [str(widths), trials, steps]
                for state in ("cold", "warm"):
                    apart = sum(m[state] + share * steps * m["step"] for m in each)
                    together = masked[state] + -(-trials // BLOCK) * steps * masked["step"]
                    cells += [f"{apart:.1f}", f"{together:.1f}", f"{apart / together:.2f}x"]
                rows.append(cells)
    keep(given.json, everything)
    head = ["widths", "trials", "steps", "cold: apart", "masked", "", "warm: apart", "masked", ""]
    finish("masking", "Widths in one program by masking", "CPU seconds.\n\n" + markdown(head, rows), given.write)


if __name__ == "__main__":
    main()
