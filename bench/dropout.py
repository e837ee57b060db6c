"""A steady epoch of the small MLP with dropout: derin, derin with jax.random.bernoulli, and PyTorch.

    PYTHONPATH=src python -m bench dropout [--rounds 7] [--write]

The work of `bench mlp` with Dropout(0.2) behind both hidden layers. `Module.bernoulli` draws four decisions from a
block of random bits, jax.random.bernoulli one.
"""

from __future__ import annotations

import argparse
from typing import Any

from bench import mlp
from bench.measure import Turn, compared, finish, serve, take_turns, warn_if_busy

RATE = 0.2
PLAIN = "derin, jax.random.bernoulli"


def with_a_block_each(turn: Turn) -> None:
    import jax

    from derin import nn

    def bernoulli(layer: Any, share: Any, shape: tuple[int, ...]) -> Any:
        return jax.random.bernoulli(layer.rng(), share, shape)

    nn.Module.bernoulli = bernoulli  # type: ignore[method-assign]
    mlp.with_derin(turn, RATE)


WORKERS = {
    "derin": lambda turn: mlp.with_derin(turn, RATE),
    PLAIN: with_a_block_each,
    "torch": lambda turn: mlp.with_torch(turn, RATE),
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench dropout", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each that are counted")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.worker:
        serve(WORKERS, given.worker)
        return
    warn_if_busy()
    times = take_turns("bench.dropout", list(WORKERS), given.rounds)
    table = compared(times, "us a step", 1e6 / (mlp.ROWS // mlp.BATCH), {})
    finish("dropout", "MLP with dropout, a steady epoch", table, given.write, f"{given.rounds} epochs of each in turn.")


if __name__ == "__main__":
    main()
