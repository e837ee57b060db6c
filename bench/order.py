"""Drawing an epoch's order: the engine's keyed bijection, a sort of random numbers, jax.random.permutation.

PYTHONPATH=src python -m bench order [--rounds 9] [--write]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from bench.measure import compared, finish, keep

SIZES = (4_096, 65_536, 1_000_000)


def main(argv: list[str] | None = None) -> None:
    import jax
    import jax.numpy as jnp

    from derin.engine.order import shuffled

    parser = argparse.ArgumentParser(prog="python -m bench order", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="draws of each that are counted")
    parser.add_argument("--json", type=Path, help="write the seconds to this file")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    given = parser.parse_args(argv)
    ways = {
        "derin": shuffled,
        "sort": lambda key, n: jnp.argsort(jax.random.bits(key, (n,))),
        "jax.random.permutation": jax.random.permutation,
    }
    drawn = {name: jax.jit(way, static_argnums=1) for name, way in ways.items()}
    texts, everything = [], {}
    for n in SIZES:
        times: dict[str, list[float]] = {name: [] for name in ways}
        for i in range(-2, given.rounds):
            for name, draw in drawn.items():
                begin = time.perf_counter()
                draw(jax.random.key(i + 2), n).block_until_ready()
                if i >= 0:
                    times[name].append(time.perf_counter() - begin)
        everything[n] = times
        texts.append(f"{n:,} rows\n\n" + compared(times, "ms", 1e3, {}, digits=2))
    keep(given.json, everything)
    finish("order", "An epoch's order", "\n\n".join(texts), given.write)


if __name__ == "__main__":
    main()
