"""Layers without weights that reshape or enlarge maps, and dropout of whole channels. Channels last."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from derin.errors import ModelError, SpecError
from derin.nn.checks import array_input, at_least, float_input, share
from derin.nn.module import Module
from derin.nn.window import per_axis
from derin.spec import Scalar

__all__ = [
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "Flatten",
    "PixelShuffle",
    "PixelUnshuffle",
    "Unflatten",
    "Upsample",
]


class Flatten(Module):
    """Make one axis of several.   x: [batch, ...] -> ...

    From `start_dim` to `end_dim`, both counted in; usually one row an example, [batch, values]. Maps are channels
    last, so after a convolution the values stand in the order height, width, channel (torch: channel, height, width).
    """

    start_dim: int = 1
    end_dim: int = -1

    def forward(self, x: jax.Array) -> jax.Array:
        array_input(self, x, "[batch, ...]", 1)
        if (self.start_dim, self.end_dim) == (1, -1):
            return x.reshape(x.shape[0], math.prod(x.shape[1:]))
        first, last = (_axis(self, name, x) for name in ("start_dim", "end_dim"))
        if first > last:
            raise ModelError(f"Flatten: start_dim={self.start_dim} is behind end_dim={self.end_dim} in {x.shape}.")
        return x.reshape(*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :])


class Unflatten(Module):
    """Make several axes of one.   x: [batch, ...] -> ...

    Axis `dim` becomes axes of `unflattened_size`; one of them may be -1, whatever is left. Flatten's opposite.

    >>> import jax.numpy as jnp
    >>> Unflatten(1, (7, 7, -1)).apply({}, {}, jnp.ones((2, 98)))[0].shape
    (2, 7, 7, 2)
    """

    dim: int
    unflattened_size: tuple[int, ...]

    def check(self) -> None:
        sizes = self.unflattened_size
        if not sizes or min(sizes) < -1 or sizes.count(-1) > 1:
            raise SpecError(f"Unflatten.unflattened_size needs sizes, at most one of them -1, got {sizes}.")

    def forward(self, x: jax.Array) -> jax.Array:
        array_input(self, x, "[batch, ...]", 1)
        axis = _axis(self, "dim", x)
        known, size = math.prod(n for n in self.unflattened_size if n != -1), x.shape[axis]
        fits = (known > 0 and size % known == 0) if -1 in self.unflattened_size else size == known
        if not fits:
            raise ModelError(
                f"Unflatten: the {size} values of axis {axis} of the input {x.shape} do not make "
                f"{self.unflattened_size}."
            )
        sizes = [size // known if n == -1 else n for n in self.unflattened_size]
        return x.reshape(*x.shape[:axis], *sizes, *x.shape[axis + 1 :])


def _axis(layer: Module, name: str, x: jax.Array) -> int:
    axis = getattr(layer, name)
    if not -x.ndim <= axis < x.ndim:
        raise ModelError(f"{type(layer).__name__}: {name}={axis}, but the input {x.shape} has {x.ndim} axes.")
    return axis % x.ndim


_AXES = {"linear": 1, "bilinear": 2, "trilinear": 3}


class Upsample(Module):
    """Enlarge (or shrink) a map by interpolation.   x: [batch, ..., c] -> ...

    One to three axes between batch and channels become `size`, or `scale_factor` times as long. `mode`: "nearest"
    repeats values; "linear", "bilinear" and "trilinear" (for one, two and three axes) weigh the two next to each place.
    With `align_corners` the first and last places of input and output are the same, else they are cells whose edges
    are the same. All as in torch.

    >>> import jax.numpy as jnp
    >>> Upsample(scale_factor=2).apply({}, {}, jnp.ones((2, 5, 7, 3)))[0].shape
    (2, 10, 14, 3)
    """

    size: int | tuple[int, ...] | None = None
    scale_factor: float | tuple[float, ...] | None = None
    mode: Literal["nearest", "nearest-exact", "linear", "bilinear", "trilinear"] = "nearest"
    align_corners: bool | None = None

    def check(self) -> None:
        if (self.size is None) == (self.scale_factor is None):
            raise SpecError(
                f"Upsample needs size or scale_factor, one of them; got size={self.size}, "
                f"scale_factor={self.scale_factor}."
            )
        if self.size is not None:
            at_least(self, 1, size=self.size)
        elif min(per_axis(self.scale_factor, 1)) <= 0:
            raise SpecError(f"Upsample.scale_factor must be above 0, got {self.scale_factor}.")
        if self.align_corners is not None and self.mode not in _AXES:
            raise SpecError(f'Upsample.align_corners is for the linear modes, not for mode="{self.mode}".')

    def forward(self, x: jax.Array) -> jax.Array:
        float_input(self, x, "[batch, ..., channels] with one to three axes in between", 3)
        n = x.ndim - 2
        if _AXES.get(self.mode, n) != n or n > 3:
            raise ModelError(
                f'Upsample: mode="{self.mode}" is for {_AXES.get(self.mode, "one to three")} axes between batch and '
                f"channels, the input {x.shape} has {n}."
            )
        given = self.scale_factor if self.size is None else self.size
        if isinstance(given, tuple) and len(given) != n:
            raise ModelError(f"Upsample: {given} is for {len(given)} axes, the input {x.shape} has {n}.")
        scales = per_axis(self.scale_factor, n) if self.size is None else (None,) * n
        for axis, (wanted, scale) in enumerate(zip(per_axis(given, n), scales, strict=True), 1):
            size = wanted if scale is None else math.floor(x.shape[axis] * scale)
            if size < 1:
                raise ModelError(f"Upsample: scale_factor={self.scale_factor} leaves nothing of the input {x.shape}.")
            x = self._along(x, axis, size, scale)
        return x

    def _along(self, x: jax.Array, axis: int, size: int, scale: float | None) -> jax.Array:
        old = x.shape[axis]
        if self.mode not in _AXES and size % old == 0 and scale in (None, size // old):
            return jnp.repeat(x, size // old, axis)
        step = np.float32(1 / scale) if scale else np.float32(old) / np.float32(size)  # counted as torch does
        at = np.arange(size, dtype=np.float32)
        if self.mode in _AXES:
            if self.align_corners:
                at = at * (np.float32((old - 1) / (size - 1)) if size > 1 else np.float32(0))
            else:
                at = np.maximum((at + np.float32(0.5)) * step - np.float32(0.5), 0)
            low = np.minimum(at.astype(int), old - 1)
            high, part = np.minimum(low + 1, old - 1), np.clip(at - low, 0, 1)
        else:
            at = (at + np.float32(0.5)) * step if self.mode == "nearest-exact" else at * step
            low = high = np.minimum(np.floor(at).astype(int), old - 1)
            part = np.zeros(size, np.float32)
        weights = np.zeros((size, old), np.float32)
        np.add.at(weights, (np.arange(size), low), 1 - part)
        np.add.at(weights, (np.arange(size), high), part)
        precise = jnp.asarray(weights.astype(x.dtype))
        return jnp.moveaxis(jnp.tensordot(x, precise, ((axis,), (1,)), precision="highest"), -1, axis)


class PixelShuffle(Module):
    """Make a map r times as high and wide of r r times as many channels.   x: [batch, h, w, in] -> [batch, h', w', c]

    r is `upscale_factor`. Channel (c r + i) r + j becomes row i, column j of channel c, as in torch.
    Shi et al. 2016, arXiv:1609.05158.
    """

    upscale_factor: int

    def check(self) -> None:
        at_least(self, 1, upscale_factor=self.upscale_factor)

    def forward(self, x: jax.Array) -> jax.Array:
        array_input(self, x, "[batch, height, width, channels]", 4, exactly=True)
        (b, h, w, c), r = x.shape, self.upscale_factor
        if c % r**2:
            raise ModelError(f"PixelShuffle: {r} x {r} does not divide the {c} channels of the input {x.shape}.")
        x = x.reshape(b, h, w, c // r**2, r, r)
        return x.transpose(0, 1, 4, 2, 5, 3).reshape(b, h * r, w * r, c // r**2)


class PixelUnshuffle(Module):
    """PixelShuffle's opposite.   x: [batch, h, w, in] -> [batch, h', w', c]"""

    downscale_factor: int

    def check(self) -> None:
        at_least(self, 1, downscale_factor=self.downscale_factor)

    def forward(self, x: jax.Array) -> jax.Array:
        array_input(self, x, "[batch, height, width, channels]", 4, exactly=True)
        (b, h, w, c), r = x.shape, self.downscale_factor
        if h % r or w % r:
            raise ModelError(f"PixelUnshuffle: {r} does not divide height and width of the input {x.shape}.")
        x = x.reshape(b, h // r, r, w // r, r, c)
        return x.transpose(0, 1, 3, 5, 2, 4).reshape(b, h // r, w // r, c * r**2)


class _DropoutNd(Module):
    """x: [batch, *sizes, c] -> [batch, *sizes, c]"""

    rate: Scalar = 0.5
    _axes: ClassVar[int] = 0

    def check(self) -> None:
        share(self, "the share of channels set to zero", rate=self.rate)

    def forward(self, x: jax.Array) -> jax.Array:
        float_input(self, x, f"[batch, {self._axes} axes, channels]", self._axes + 2, exactly=True)
        if not self.training:
            return x
        keep = 1 - jnp.asarray(self.rate, jnp.float32)
        kept = self.bernoulli(keep, (x.shape[0], *(1,) * self._axes, x.shape[-1]))
        return jnp.where(kept, x / keep.astype(x.dtype), jnp.zeros((), x.dtype))


class Dropout1d(_DropoutNd):
    """In training, zero whole channels of a series.   x: [batch, length, c] -> [batch, length, c]

    The rest is as in Dropout2d.
    """

    _axes = 1


class Dropout2d(_DropoutNd):
    """In training, zero whole channels of a map.   x: [batch, h, w, c] -> [batch, h, w, c]

    Each channel of each example goes with probability `rate`; the others are scaled by 1 / (1 - rate). Neighbours in a
    map tell each other's values, so dropping single ones would hide little. Tompson et al. 2015, arXiv:1411.4280.
    """

    _axes = 2


class Dropout3d(_DropoutNd):
    """In training, zero whole channels of a volume.   x: [batch, d, h, w, c] -> [batch, d, h, w, c]

    The rest is as in Dropout2d.
    """

    _axes = 3
