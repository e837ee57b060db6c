"""Every layer by itself: derin and PyTorch, forward, and forward with backward.

    PYTHONPATH=src python -m bench layers [--rounds 5] [--only Conv] [--write]

A turn is some calls of one layer, each on what the call before left (input and weights move by 1e-9 of the
output's mean or of their gradients), so that nothing can be computed once for all; derin's calls stand in one
compiled loop, as in training. A ratio is PyTorch's time over derin's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.measure import THREADS, Turn, finish, keep, markdown, median, serve, take_turns, warn_if_busy

SLOW = 0.6  # a ratio below it is named on the page
WAYS = ("forward", "backward")


class Case(NamedTuple):
    """A layer in both libraries and its input, channels last."""

    derin: Callable[[Any], Any]
    torch: Callable[[Any], Any]
    shape: tuple[int, ...]
    calls: int = 20
    first: bool = False  # PyTorch wants channels first
    codes: int = 0  # the input holds whole numbers below this


TABLE, MAP, SERIES = (1024, 256), (32, 32, 32, 32), (32, 128, 64)


def _both(make: Callable[[Any], Any], shape: tuple[int, ...] = TABLE, **more: Any) -> Case:
    """The same call makes the layer in both."""
    return Case(make, make, shape, **more)


CASES: dict[str, Case] = {
    "Linear": Case(lambda d: d.Linear(256), lambda t: t.Linear(256, 256), TABLE),
    "Bilinear": Case(lambda d: _OfTwo(d.Bilinear(32)), lambda t: _TorchOfTwo(t.Bilinear(64, 64, 32)), (256, 64)),
    "Embedding": Case(lambda d: d.Embedding(1000, 64), lambda t: t.Embedding(1000, 64), (64, 128), codes=1000),
    "Conv1d": Case(lambda d: d.Conv1d(64, 5, padding=2), lambda t: t.Conv1d(64, 64, 5, padding=2), SERIES, 10, True),
    "Conv2d 3x3": Case(lambda d: d.Conv2d(32, 3, padding=1), lambda t: t.Conv2d(32, 32, 3, padding=1), MAP, 5, True),
    "Conv2d 5x5": Case(lambda d: d.Conv2d(32, 5, padding=2), lambda t: t.Conv2d(32, 32, 5, padding=2), MAP, 3, True),
    "Conv2d 1x1": Case(lambda d: d.Conv2d(64, 1), lambda t: t.Conv2d(32, 64, 1), MAP, 10, True),
    "Conv2d stride 2": Case(
        lambda d: d.Conv2d(64, 3, stride=2, padding=1), lambda t: t.Conv2d(32, 64, 3, stride=2, padding=1), MAP, 5, True
    ),
    "Conv2d depthwise": Case(
        lambda d: d.Conv2d(32, 3, padding=1, groups=32),
        lambda t: t.Conv2d(32, 32, 3, padding=1, groups=32), MAP, 5, True,
    ),
    "Conv2d in 4 groups": Case(
        lambda d: d.Conv2d(32, 3, padding=1, groups=4), lambda t: t.Conv2d(32, 32, 3, padding=1, groups=4), MAP, 5, True
    ),
    "Conv3d": Case(
        lambda d: d.Conv3d(16, 3, padding=1), lambda t: t.Conv3d(8, 16, 3, padding=1), (4, 16, 16, 16, 8), 5, True
    ),
    "ConvTranspose1d": Case(
        lambda d: d.ConvTranspose1d(32, 4, stride=2, padding=1),
        lambda t: t.ConvTranspose1d(64, 32, 4, stride=2, padding=1), SERIES, 10, True,
    ),
    "ConvTranspose2d": Case(
        lambda d: d.ConvTranspose2d(16, 4, stride=2, padding=1),
        lambda t: t.ConvTranspose2d(32, 16, 4, stride=2, padding=1), (32, 16, 16, 32), 5, True,
    ),
    "ConvTranspose3d": Case(
        lambda d: d.ConvTranspose3d(8, 2, stride=2),
        lambda t: t.ConvTranspose3d(8, 8, 2, stride=2), (4, 8, 8, 8, 8), 5, True,
    ),
    "MaxPool1d": _both(lambda n: n.MaxPool1d(2), SERIES, first=True),
    "MaxPool2d": _both(lambda n: n.MaxPool2d(2), MAP, calls=10, first=True),
    "MaxPool2d 3, stride 2": _both(lambda n: n.MaxPool2d(3, 2, 1), MAP, calls=10, first=True),
    "MaxPool3d": _both(lambda n: n.MaxPool3d(2), (4, 16, 16, 16, 16), calls=10, first=True),
    "AvgPool1d": _both(lambda n: n.AvgPool1d(2), SERIES, first=True),
    "AvgPool2d": _both(lambda n: n.AvgPool2d(2), MAP, calls=10, first=True),
    "AvgPool3d": _both(lambda n: n.AvgPool3d(2), (4, 16, 16, 16, 16), calls=10, first=True),
    "LPPool2d": _both(lambda n: n.LPPool2d(2.0, 2), MAP, calls=10, first=True),
    "AdaptiveAvgPool2d": _both(lambda n: n.AdaptiveAvgPool2d(4), MAP, calls=10, first=True),
    "AdaptiveMaxPool2d": _both(lambda n: n.AdaptiveMaxPool2d(4), MAP, calls=10, first=True),
    "ReflectionPad2d": _both(lambda n: n.ReflectionPad2d(2), MAP, calls=10, first=True),
    "Upsample nearest": _both(lambda n: n.Upsample(scale_factor=2), (16, 16, 16, 32), calls=10, first=True),
    "Upsample bilinear": _both(
        lambda n: n.Upsample(scale_factor=2, mode="bilinear"), (16, 16, 16, 32), calls=10, first=True
    ),
    "PixelShuffle": _both(lambda n: n.PixelShuffle(2), MAP, calls=10, first=True),
    "BatchNorm, a table": Case(lambda d: d.BatchNorm(), lambda t: t.BatchNorm1d(256), TABLE),
    "BatchNorm, maps": Case(lambda d: d.BatchNorm(), lambda t: t.BatchNorm2d(32), MAP, 10, True),
    "LayerNorm": Case(lambda d: d.LayerNorm(), lambda t: t.LayerNorm(256), TABLE),
    "GroupNorm": Case(lambda d: d.GroupNorm(4), lambda t: t.GroupNorm(4, 32), MAP, 10, True),
    "InstanceNorm": Case(lambda d: d.InstanceNorm(), lambda t: t.InstanceNorm2d(32), MAP, 10, True),
    "RMSNorm": Case(lambda d: d.RMSNorm(), lambda t: t.RMSNorm(256), TABLE),
    "Dropout": _both(lambda n: n.Dropout(0.5)),
    "AlphaDropout": _both(lambda n: n.AlphaDropout(0.5)),
    "RNN": Case(lambda d: d.RNN(64), lambda t: _Outputs(t.RNN(64, 64, batch_first=True)), (32, 50, 64), 5),
    "LSTM": Case(lambda d: d.LSTM(64), lambda t: _Outputs(t.LSTM(64, 64, batch_first=True)), (32, 50, 64), 5),
    "GRU": Case(lambda d: d.GRU(64), lambda t: _Outputs(t.GRU(64, 64, batch_first=True)), (32, 50, 64), 5),
    "MultiheadAttention": Case(
        lambda d: _Itself(d.MultiheadAttention(64, 4)),
        lambda t: _TorchItself(t.MultiheadAttention(64, 4, batch_first=True)), (16, 64, 64), 5,
    ),
    "TransformerEncoderLayer": Case(
        lambda d: d.TransformerEncoderLayer(64, 4, 128, dropout=0.0),
        lambda t: t.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True), (16, 64, 64), 5,
    ),
    **{
        name: _both(lambda n, name=name: getattr(n, name)())
        for name in (
            "ReLU", "LeakyReLU", "ReLU6", "RReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Hardswish",
            "Sigmoid", "LogSigmoid", "Tanh", "Hardsigmoid", "Hardtanh", "Softplus", "Softsign", "Hardshrink",
            "Softshrink", "Tanhshrink", "PReLU", "GLU",
        )
    },
    **{name: Case(lambda d, n=name: getattr(d, n)(), lambda t, n=name: getattr(t, n)(-1), TABLE)
       for name in ("Softmax", "LogSoftmax", "Softmin")},
}  # fmt: skip


def _input(case: Case) -> np.ndarray:
    random = np.random.default_rng(0)
    if case.codes:
        return random.integers(0, case.codes, case.shape).astype(np.int32)
    return random.standard_normal(case.shape, dtype=np.float32)


def _rest(turn: Turn, works: list[Callable[[], None]]) -> None:
    """The pieces of work one after the other, for ever; the first call of each is not timed."""
    for work in works:
        work()
    while True:
        for work in works:
            turn.begin()
            work()
            turn.end()


# -- derin


def with_derin(turn: Turn, names: list[str]) -> None:
    from derin.engine.programs import use_disk_cache

    use_disk_cache()
    _rest(turn, [_derin_work(CASES[name], way) for name in names for way in WAYS])


def _derin_work(case: Case, way: str) -> Callable[[], None]:
    import jax
    import jax.numpy as jnp

    from derin import nn

    layer, x = case.derin(nn), jnp.asarray(_input(case))
    params, state = layer.init(jax.random.key(0), x)
    out, _ = layer.apply(params, state, x, train=True, key=jax.random.key(1))
    g = jnp.asarray(np.random.default_rng(1).standard_normal(out.shape, dtype=np.float32))
    moves = not case.codes

    def call(params: Any, x: Any, key: Any) -> Any:
        return layer.apply(params, state, x, train=True, key=key)[0]

    def forward(loop: Any, now: Any) -> Any:
        params, x, by = loop
        mean = call(params, x if moves else (x + now[1]) % case.codes, now[0]).mean()
        return (params, x + 1e-9 * mean if moves else x, by + mean), None

    def backward(loop: Any, now: Any) -> Any:
        params, x, by = loop  # `by` near 1: without it the gradient of what is linear would be the same in every call
        if moves:
            dp, dx = jax.grad(lambda p, x: (call(p, x, now[0]) * g * by).sum(), (0, 1))(params, x)
            x, by = x - 1e-9 * dx, by + 1e-9 * dx.ravel()[0]
        else:
            dp = jax.grad(lambda p: (call(p, (x + now[1]) % case.codes, now[0]) * g).sum())(params)
        return (jax.tree.map(lambda p, d: p - 1e-9 * d, params, dp), x, by), None

    step = {"forward": forward, "backward": backward}[way]
    run = jax.jit(lambda params, x, now: jax.lax.scan(step, (params, x, jnp.float32(1)), now)[0])
    now = jax.random.split(jax.random.key(2), case.calls), jnp.arange(case.calls, dtype=jnp.int32)
    return lambda: jax.block_until_ready(run(params, x, now))


# -- PyTorch


def with_torch(turn: Turn, names: list[str]) -> None:
    import torch

    torch.set_num_threads(THREADS)
    _rest(turn, [_torch_work(CASES[name], way) for name in names for way in WAYS])


def _torch_work(case: Case, way: str) -> Callable[[], None]:
    import torch

    array = _input(case)
    x = torch.tensor(np.moveaxis(array, -1, 1).copy() if case.first else array)
    x = x.long() if case.codes else x
    layer = case.torch(torch.nn).train()
    g = torch.randn_like(layer(x))

    def forward() -> None:
        with torch.no_grad():
            for i in range(case.calls):
                mean = layer((x + i) % case.codes if case.codes else x).mean()
                if not case.codes:
                    x.add_(1e-9 * mean)

    def backward() -> None:
        for i in range(case.calls):
            x.requires_grad_(not case.codes)
            layer((x + i) % case.codes if case.codes else x).backward(g)
            with torch.no_grad():
                for p in [*layer.parameters(), x]:
                    if p.grad is not None:
                        p.sub_(p.grad, alpha=1e-9)
                        p.grad = None

    return {"forward": forward, "backward": backward}[way]


# -- layers that take or give more than one array


def _OfTwo(layer: Any) -> Any:
    from derin.nn import Module

    class OfTwo(Module):
        inner: Module

        def forward(self, x: Any) -> Any:
            return self.inner(x, x)

    return OfTwo(layer)


def _Itself(layer: Any) -> Any:
    from derin.nn import Module

    class Itself(Module):
        inner: Module

        def forward(self, x: Any) -> Any:
            return self.inner(x, x, x)

    return Itself(layer)


def _wrapped(layer: Any, call: Callable[[Any, Any], Any]) -> Any:
    import torch

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = layer

        def forward(self, x: Any) -> Any:
            return call(self.inner, x)

    return Wrapped()


def _TorchOfTwo(layer: Any) -> Any:
    return _wrapped(layer, lambda inner, x: inner(x, x))


def _TorchItself(layer: Any) -> Any:
    return _wrapped(layer, lambda inner, x: inner(x, x, x, need_weights=False)[0])


def _Outputs(layer: Any) -> Any:
    return _wrapped(layer, lambda inner, x: inner(x)[0])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench layers", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each that are counted")
    parser.add_argument("--only", default="", help="only the layers whose names contain this")
    parser.add_argument("--json", type=Path, help="write the seconds to this file")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    names = [name for name in CASES if given.only.lower() in name.lower()]
    if given.worker:
        serve({"derin": lambda t: with_derin(t, names), "torch": lambda t: with_torch(t, names)}, given.worker)
        return
    warn_if_busy()
    n = len(names) * len(WAYS)
    found = take_turns(
        "bench.layers", ["derin", "torch"], given.rounds * n, warm_up=n, arguments=["--only", given.only]
    )
    keep(given.json, found)
    seconds = {peer: [median(times[i::n]) for i in range(n)] for peer, times in found.items()}
    rows, slow = [], []
    for i, name in enumerate(names):
        cells = [name, "x".join(map(str, CASES[name].shape))]
        for j in range(2):
            ours, theirs = (seconds[peer][2 * i + j] / CASES[name].calls * 1e6 for peer in ("derin", "torch"))
            cells += [f"{ours:,.0f}", f"{theirs:,.0f}", f"{theirs / ours:.2f}x"]
            if theirs / ours < SLOW:
                slow.append(f"{name} {WAYS[j]}")
        rows.append(cells)
    head = ["layer", "input", "derin, us", "torch, us", "forward", "derin, us", "torch, us", "with backward"]
    note = f"Medians of {given.rounds} turns. Below {SLOW}x: {', '.join(slow) or 'none'}."
    finish("layers", "Every layer", markdown(head, rows), given.write, note)


if __name__ == "__main__":
    main()
