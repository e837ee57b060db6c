"""`python -m bench` lists the benchmarks, `python -m bench NAME ...` runs one."""

from __future__ import annotations

import importlib
import sys

NAMES = (
    "mlp",
    "dropout",
    "cnn",
    "conv",
    "layers",
    "recurrent",
    "start",
    "predict",
    "defaults",
    "order",
    "transformer",
    "dense",
    "tune",
    "tune_quality",
    "slots",
    "masking",
    "health",
    "sickbed",
    "cures",
)


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in NAMES:
        importlib.import_module(f"bench.{sys.argv[1]}").main(sys.argv[2:])
        return
    print("python -m bench NAME [--help]; each takes derin and its peers in turn and prints the medians:\n")
    for name in NAMES:
        said = importlib.import_module(f"bench.{name}").__doc__ or ""
        print(f"  {name:13s}{said.splitlines()[0]}")
    if len(sys.argv) > 1 and sys.argv[1] not in ("-h", "--help"):
        sys.exit(2)


if __name__ == "__main__":
    main()
