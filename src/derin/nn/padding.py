"""Padding: what stands around a map. Batch first, channels last."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from derin.errors import ModelError, SpecError
from derin.nn.checks import array_input
from derin.nn.module import Module
from derin.spec import Scalar

__all__ = [
    "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d",
    "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d", "ReplicationPad3d",
    "ZeroPad1d", "ZeroPad2d", "ZeroPad3d", "pad",
]  # fmt: skip

Ends = tuple[tuple[int, int], ...]  # (before, after) for each axis; below 0 cuts
Mode = Literal["zeros", "reflect", "replicate", "circular"]

_JAX = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(layer: Module, x: jax.Array, ends: Ends, mode: Mode, value: Any = 0) -> jax.Array:
    """x: [batch, *sizes, c] -> [batch, *sizes', c]      Raises ModelError that names the layer."""
    for axis, (size, (before, after)) in enumerate(zip(x.shape[1:-1], ends, strict=True), 1):
        least, words = {
            "zeros": (0, ""),
            "reflect": (max(before, after) + 1, "mirror more than there is beside the edge"),
            "replicate": (1, "repeat the edge of nothing"),
            "circular": (max(before, after), "wrap around more than once"),
        }[mode]
        if size < least:
            raise ModelError(
                f"{type(layer).__name__}: padding ({before}, {after}) cannot {words}; axis {axis} of the input "
                f"{x.shape} has {size} values and needs {least}."
            )
        if size + before + after < 1:
            raise ModelError(
                f"{type(layer).__name__}: padding ({before}, {after}) leaves nothing of the {size} values of axis "
                f"{axis} of the input {x.shape}."
            )
    if mode == "zeros":
        low = jnp.asarray(value, x.dtype)
        return jax.lax.pad(x, low, [(0, 0, 0), *((a, b, 0) for a, b in ends), (0, 0, 0)])
    x = x[:, *(slice(max(0, -a), size - max(0, -b)) for size, (a, b) in zip(x.shape[1:-1], ends, strict=True))]
    return jnp.pad(x, [(0, 0), *((max(0, a), max(0, b)) for a, b in ends), (0, 0)], mode=_JAX[mode])


class _PadNd(Module):
    """x: [batch, *sizes, c] -> [batch, *sizes', c]"""

    padding: int | tuple[int, ...]
    _axes: ClassVar[int] = 0
    _mode: ClassVar[Mode] = "zeros"

    def check(self) -> None:
        if isinstance(self.padding, tuple) and len(self.padding) != 2 * self._axes:
            order = "left, right, top, bottom, front, back".split(", ")[: 2 * self._axes]
            raise SpecError(
                f"{type(self).__name__}.padding must be one number or a tuple of {2 * self._axes} "
                f"({', '.join(order)}), got {self.padding}."
            )

    def forward(self, x: jax.Array) -> jax.Array:
        array_input(self, x, f"[batch, {self._axes} axes, channels]", self._axes + 2, exactly=True)
        return pad(self, x, self._ends(), self._mode, self._value())

    def _ends(self) -> Ends:
        if isinstance(self.padding, int):
            return ((self.padding, self.padding),) * self._axes
        return tuple((self.padding[i], self.padding[i + 1]) for i in range(2 * self._axes - 2, -1, -2))

    def _value(self) -> Any:
        return 0


class _ConstantPadNd(_PadNd):
    """x: [batch, *sizes, c] -> [batch, *sizes', c]"""

    value: Scalar = 0.0

    def _value(self) -> Any:
        return self.value


class ConstantPad1d(_ConstantPadNd):
    """Put `value` before and after a series.   x: [batch, length, c] -> [batch, length', c]

    padding: one number, or (left, right). Below 0 it cuts, as in torch.
    """

    _axes = 1


class ConstantPad2d(_ConstantPadNd):
    """Put `value` around a map.   x: [batch, h, w, c] -> [batch, h', w', c]

    padding: one number, or (left, right, top, bottom), torch's order: the last axis first. Below 0 it cuts.

    >>> import jax.numpy as jnp
    >>> ConstantPad2d((1, 0, 0, 0), 7.0).apply({}, {}, jnp.ones((1, 2, 2, 1)))[0][0, :, :, 0]
    Array([[7., 1., 1.],
           [7., 1., 1.]], dtype=float32)
    """

    _axes = 2


class ConstantPad3d(_ConstantPadNd):
    """Put `value` around a volume.   x: [batch, d, h, w, c] -> [batch, d', h', w', c]

    padding: one number, or (left, right, top, bottom, front, back). Below 0 it cuts.
    """

    _axes = 3


class ZeroPad1d(_PadNd):
    """ConstantPad1d with 0.   x: [batch, length, c] -> [batch, length', c]"""

    _axes = 1


class ZeroPad2d(_PadNd):
    """ConstantPad2d with 0.   x: [batch, h, w, c] -> [batch, h', w', c]"""

    _axes = 2


class ZeroPad3d(_PadNd):
    """ConstantPad3d with 0.   x: [batch, d, h, w, c] -> [batch, d', h', w', c]"""

    _axes = 3


class ReflectionPad1d(_PadNd):
    """Mirror a series at its ends, which are not repeated.   x: [batch, length, c] -> [batch, length', c]

    padding: one number, or (left, right), smaller than the length.
    """

    _axes, _mode = 1, "reflect"


class ReflectionPad2d(_PadNd):
    """Mirror a map at its edges, which are not repeated.   x: [batch, h, w, c] -> [batch, h', w', c]

    padding: one number, or (left, right, top, bottom), smaller than the map.
    """

    _axes, _mode = 2, "reflect"


class ReflectionPad3d(_PadNd):
    """Mirror a volume at its faces, which are not repeated.   x: [batch, d, h, w, c] -> [batch, d', h', w', c]

    padding: one number, or (left, right, top, bottom, front, back), smaller than the volume.
    """

    _axes, _mode = 3, "reflect"


class ReplicationPad1d(_PadNd):
    """Repeat the first and the last value of a series.   x: [batch, length, c] -> [batch, length', c]"""

    _axes, _mode = 1, "replicate"


class ReplicationPad2d(_PadNd):
    """Repeat the edge of a map.   x: [batch, h, w, c] -> [batch, h', w', c]"""

    _axes, _mode = 2, "replicate"


class ReplicationPad3d(_PadNd):
    """Repeat the faces of a volume.   x: [batch, d, h, w, c] -> [batch, d', h', w', c]"""

    _axes, _mode = 3, "replicate"


class CircularPad1d(_PadNd):
    """Go on with the other end of a series.   x: [batch, length, c] -> [batch, length', c]"""

    _axes, _mode = 1, "circular"


class CircularPad2d(_PadNd):
    """Go on with the other edge of a map.   x: [batch, h, w, c] -> [batch, h', w', c]"""

    _axes, _mode = 2, "circular"


class CircularPad3d(_PadNd):
    """Go on with the other face of a volume.   x: [batch, d, h, w, c] -> [batch, d', h', w', c]"""

    _axes, _mode = 3, "circular"
