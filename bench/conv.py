"""A training step of convolutional nets: derin and PyTorch, eager and compiled.

    PYTHONPATH=src python -m bench conv [--rounds 5] [--only NAME] [--write]

Float32, Adam. PyTorch is taken with its usual memory format and, for maps, with channels last; the faster one counts.
torch.compile, with channels last where there are maps, stands beside them.

* Conv1d stack: series of 256 x 16, batch 64; three Conv1d of 128 channels, kernel 3, mean over time, 10 classes
* Conv1d, deep: series of 256 x 128, batch 64; sixteen of them
* separable: 32x32x3, batch 128; Conv 32, then four times depthwise 3x3 and 1x1 (64, 64, 128 at half the size, 128)
* decoder: 64 numbers, batch 128; Linear to 7x7x64, ConvTranspose 4x4 stride 2 to 14x14x32 and to 28x28x1, 10 classes
* ResNet-20: 32x32x3, batch 128; He et al. 2015, arXiv:1512.03385, section 4.2, shortcuts by 1x1 convolutions
"""

from __future__ import annotations

import argparse
import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import (
    THREADS,
    Turn,
    finish,
    keep,
    markdown,
    median,
    refusal_of_torch_compile,
    serve,
    spread,
    take_turns,
    verdict,
    warn_if_busy,
)

# name: (shape of an example, batch, steps a turn, must and goal)
NETS: dict[str, tuple[tuple[int, ...], int, int, tuple[float, float]]] = {
    "Conv1d stack": ((256, 16), 64, 8, (0.7, 1.2)),
    "Conv1d, deep": ((256, 128), 64, 2, (0.7, 1.2)),
    "separable": ((32, 32, 3), 128, 8, (0.7, 1.2)),
    "decoder": ((64,), 128, 30, (0.7, 1.2)),
    "ResNet-20": ((32, 32, 3), 128, 4, (0.5, 1.0)),
}
JUDGED = 64


def data(name: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """x: float32 [rows, ...]; y: ten classes [rows]"""
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, *NETS[name][0]), dtype=np.float32)
    return x, random.integers(0, 10, rows).astype(np.int32)


# -- derin


def with_derin(turn: Turn, name: str) -> None:
    import derin
    from derin import nn

    class Block(nn.Module):
        width: int = 16
        stride: int = 1
        changed: bool = False

        def setup(self) -> None:
            self.first = nn.Conv2d(self.width, 3, self.stride, padding=1, bias=False)
            self.second = nn.Conv2d(self.width, 3, padding=1, bias=False)
            self.norms = [nn.BatchNorm(), nn.BatchNorm()]
            self.short = nn.Conv2d(self.width, 1, self.stride, bias=False) if self.changed else nn.Identity()

        def forward(self, x: Any) -> Any:
            y = nn.relu(self.norms[0](self.first(x)))
            return nn.relu(self.norms[1](self.second(y)) + self.short(x))

    def separable(c: int, width: int, stride: int) -> tuple:
        return nn.Conv2d(c, 3, stride, padding=1, groups=c), nn.ReLU(), nn.Conv2d(width, 1), nn.ReLU()

    head = nn.GlobalAvgPool(), nn.Linear(10)
    if name.startswith("Conv1d"):
        layers = 3 if name == "Conv1d stack" else 16
        net = nn.Sequential(*(f for _ in range(layers) for f in (nn.Conv1d(128, 3, padding=1), nn.ReLU())), *head)
    elif name == "separable":
        plan = [(32, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
        parts = (layer for one in plan for layer in separable(*one))
        net = nn.Sequential(nn.Conv2d(32, 3, padding=1), nn.ReLU(), *parts, *head)
    elif name == "decoder":
        net = nn.Sequential(
            nn.Linear(7 * 7 * 64), nn.ReLU(), nn.Unflatten(1, (7, 7, 64)), nn.ConvTranspose2d(32, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(1, 4, 2, 1), nn.Flatten(), nn.Linear(10),
        )  # fmt: skip
    else:
        widths = [(w, i) for w in (16, 32, 64) for i in range(3)]
        blocks = (Block(w, 2 if w > 16 and i == 0 else 1, w > 16 and i == 0) for w, i in widths)
        net = nn.Sequential(nn.Conv2d(16, 3, padding=1, bias=False), nn.BatchNorm(), nn.ReLU(), *blocks, *head)

    _, batch, steps, _ = NETS[name]
    rows = np.arange(batch * steps + JUDGED)
    loaded = derin.data.load(data(name, len(rows)), indices=(rows[: batch * steps], rows[batch * steps :], []))
    derin.fit(
        net, loaded, epochs=1_000_000, batch_size=batch, optimizer=derin.optim.Adam(1e-3),
        progress=False, callbacks=[turn.next],
    )  # fmt: skip


# -- PyTorch


def with_torch(turn: Turn, name: str, channels_last: bool = False, compiled: bool = False) -> None:
    import torch
    from torch import nn

    torch.set_num_threads(THREADS)

    class Block(nn.Module):
        def __init__(self, c: int, width: int, stride: int) -> None:
            super().__init__()
            self.first = nn.Conv2d(c, width, 3, stride, 1, bias=False)
            self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.norms = nn.ModuleList([nn.BatchNorm2d(width), nn.BatchNorm2d(width)])
            self.short = nn.Identity() if c == width else nn.Conv2d(c, width, 1, stride, bias=False)

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.norms[0](self.first(x)))
            return torch.relu(self.norms[1](self.second(y)) + self.short(x))

    def separable(c: int, width: int, stride: int) -> tuple:
        return nn.Conv2d(c, c, 3, stride, 1, groups=c), nn.ReLU(), nn.Conv2d(c, width, 1), nn.ReLU()

    shape, batch, steps, _ = NETS[name]
    if name.startswith("Conv1d"):
        layers = 3 if name == "Conv1d stack" else 16
        inputs = [shape[-1]] + [128] * (layers - 1)
        parts = [f for c in inputs for f in (nn.Conv1d(c, 128, 3, padding=1), nn.ReLU())]
        net = nn.Sequential(*parts, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(128, 10))
    elif name == "separable":
        plan = [(32, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
        parts = [layer for one in plan for layer in separable(*one)]
        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)
        net = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), *parts, *head)
    elif name == "decoder":
        net = nn.Sequential(
            nn.Linear(64, 7 * 7 * 64), nn.ReLU(), nn.Unflatten(1, (64, 7, 7)), nn.ConvTranspose2d(64, 32, 4, 2, 1),
            nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Flatten(), nn.Linear(784, 10),
        )  # fmt: skip
    else:
        widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
        blocks = [Block(a, b, 1 if a == b else 2) for a, b in itertools.pairwise(widths)]
        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
        net = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *blocks, *head)

    inputs, targets = data(name, batch * steps)
    x = torch.from_numpy(np.moveaxis(inputs, -1, 1).copy() if len(shape) > 1 else inputs)
    y = torch.from_numpy(targets).long()
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    net = torch.compile(net) if compiled else net
    while True:
        turn.begin()
        for rows in torch.randperm(len(x)).split(batch):
            loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        turn.end()


def with_torch_channels_last(turn: Turn, name: str) -> None:
    with_torch(turn, name, channels_last=True)


def with_torch_compile(turn: Turn, name: str) -> None:
    with_torch(turn, name, channels_last=_has_maps(name), compiled=True)


def _has_maps(name: str) -> bool:
    return len(NETS[name][0]) == 3 or name == "decoder"


WORKERS = {
    "derin": with_derin,
    "torch": with_torch,
    "torch, channels last": with_torch_channels_last,
    "torch.compile": with_torch_compile,
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench conv", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each that are counted")
    parser.add_argument("--only", choices=NETS, help="one net")
    parser.add_argument("--json", type=Path, help="write the seconds to this file")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.worker:
        serve({n: functools.partial(f, name=given.only) for n, f in WORKERS.items()}, given.worker)
        return
    warn_if_busy()
    every: dict[str, dict[str, list[float]]] = {}
    rows = []
    refusal = refusal_of_torch_compile()
    for name in [given.only] if given.only else NETS:
        _, _, steps, bounds = NETS[name]
        without = {"torch, channels last": not _has_maps(name), "torch.compile": bool(refusal)}
        peers = [n for n in WORKERS if not without.get(n)]
        times = every[name] = take_turns("bench.conv", peers, given.rounds, arguments=["--only", name])
        rows.append(_row(name, times, 1e3 / steps, bounds))
    keep(given.json, every)
    head = [
        "",
        "derin, ms a step",
        "spread",
        "torch",
        "channels last",
        "faster one / derin",
        "must",
        "goal",
        "",
        "torch.compile / derin",
    ]
    note = f"Adam; {given.rounds} epochs of a few steps, in turn, after two. The nets are in bench/conv.py.{refusal}"
    finish("conv", "Convolutional nets, a step", markdown(head, rows), given.write, note)


def _row(name: str, times: dict[str, list[float]], factor: float, bounds: tuple[float, float]) -> list[str]:
    middle = {n: f"{median(t) * factor:,.1f}" for n, t in times.items()}
    cells = [
        name,
        middle["derin"],
        spread(times["derin"]),
        middle.get("torch", ""),
        middle.get("torch, channels last", ""),
    ]
    peers = [median(t) for n, t in times.items() if n not in ("derin", "torch.compile")]
    if not peers:
        return [*cells, "not installed here", *(f"{b:g}x" for b in bounds), "", ""]
    ours = median(times["derin"])
    ratio = min(peers) / ours
    compiled = f"{median(times['torch.compile']) / ours:.2f}x" if "torch.compile" in times else ""
    return [*cells, f"{ratio:.2f}x", *(f"{b:g}x" for b in bounds), verdict(ratio, bounds), compiled]


if __name__ == "__main__":
    main()
