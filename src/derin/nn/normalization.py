"""Normalisation: batch, layer, group, instance, root mean square. Channels last.

All of them count in float32 whatever the dtype of the input, and answer in its dtype. Each equals torch's of the same
name; what torch calls num_features, num_channels or normalized_shape is read off the input.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from derin.errors import ModelError, SpecError
from derin.nn.checks import at_least, float_input
from derin.nn.init import Ones, Zeros
from derin.nn.module import Module
from derin.spec import Scalar

__all__ = ["BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm"]


class BatchNorm(Module):
    """Normalise each channel over all other axes, then scale and shift it.   x: [..., c] -> [..., c]

    weight, bias: [c]; state running_mean, running_var: [c]. Running statistics follow torch: the new batch has
    weight `momentum`, and the running variance is the unbiased one. They, not the batch's, are used in
    evaluation. `momentum=None` keeps the equal mean over all batches so far, counted in the state
    num_batches_tracked (which torch has always, and only then reads). Without `track_running_stats` there is no
    state, and evaluation takes the statistics of its batch. Rows whose mask is 0 do not count.
    Ioffe & Szegedy 2015, arXiv:1502.03167. S1.55, S4.10.
    """

    momentum: Scalar | None = 0.1
    eps: float = 1e-5
    affine: bool = True
    track_running_stats: bool = True

    def check(self) -> None:
        _check(self)

    def forward(self, x: jax.Array) -> jax.Array:
        float_input(self, x, "[..., channels]", 2)
        c, dtype = x.shape[-1], x.dtype
        if self.training:
            _some_rows(self, x)
        x = _float32(x)
        if self.training or not self.track_running_stats:
            mean, var, n = _moments(x, self.mask)
            if self.track_running_stats:
                _track(self, mean, var, n, c)
        else:
            mean, var = self.state("running_mean", Zeros(), (c,)), self.state("running_var", Ones(), (c,))
        scale = jax.lax.rsqrt(var + self.eps)
        if not self.affine:
            return ((x - mean) * scale).astype(dtype)
        scale = scale * self.param("weight", Ones(), (c,)).astype(scale.dtype)
        shift = self.param("bias", Zeros(), (c,)).astype(scale.dtype)
        return ((x - mean) * scale + shift).astype(dtype)


class LayerNorm(Module):
    """Normalise the last axis, or the last `axes` together, of each row.   x: [...] -> [...]

    weight, bias: the sizes of those axes. Ba, Kiros & Hinton 2016, arXiv:1607.06450.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.array([[1.0, 2.0, 3.0]])
    >>> LayerNorm().apply(*LayerNorm().init(jax.random.key(0), x), x)[0].round(3)
    Array([[-1.225,  0.   ,  1.225]], dtype=float32)
    """

    axes: int = 1
    eps: float = 1e-5
    elementwise_affine: bool = True
    bias: bool = True

    def check(self) -> None:
        at_least(self, 1, axes=self.axes)
        _check(self)

    def forward(self, x: jax.Array) -> jax.Array:
        float_input(self, x, f"with {self.axes} axes to normalise after the batch's", self.axes + 1)
        dtype, shape, over = x.dtype, x.shape[-self.axes :], tuple(range(-self.axes, 0))
        x = _float32(x)
        x = x - x.mean(over, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.square(x).mean(over, keepdims=True) + self.eps)
        if self.elementwise_affine:
            x = x * self.param("weight", Ones(), shape).astype(x.dtype)
            if self.bias:
                x = x + self.param("bias", Zeros(), shape).astype(x.dtype)
        return x.astype(dtype)


class RMSNorm(Module):
    """Divide by the root of the mean square of the last axis, or the last `axes` together.   x: [...] -> [...]

    weight: the sizes of those axes. `eps=None` is the smallest step of the dtype that is counted in, float32: 1.2e-7.
    Zhang & Sennrich 2019, arXiv:1910.07467.
    """

    axes: int = 1
    eps: float | None = None
    elementwise_affine: bool = True

    def check(self) -> None:
        at_least(self, 1, axes=self.axes)
        _check(self)

    def forward(self, x: jax.Array) -> jax.Array:
        float_input(self, x, f"with {self.axes} axes to normalise after the batch's", self.axes + 1)
        dtype, over = x.dtype, tuple(range(-self.axes, 0))
        x = _float32(x)
        eps = float(jnp.finfo(x.dtype).eps) if self.eps is None else self.eps
        y = x * jax.lax.rsqrt(jnp.square(x).mean(over, keepdims=True) + eps)
        if self.elementwise_affine:
            y = y * self.param("weight", Ones(), x.shape[-self.axes :]).astype(y.dtype)
        return y.astype(dtype)


class GroupNorm(Module):
    """Normalise groups of channels of each row over all positions.   x: [batch, ..., c] -> [batch, ..., c]

    weight, bias: [c]. One group is a LayerNorm over the whole map, c groups an InstanceNorm.
    Wu & He 2018, arXiv:1803.08494.
    """

    num_groups: int
    eps: float = 1e-5
    affine: bool = True

    def check(self) -> None:
        at_least(self, 1, num_groups=self.num_groups)
        _check(self)

    def forward(self, x: jax.Array) -> jax.Array:
        float_input(self, x, "[batch, ..., channels]", 2)
        dtype, shape, c = x.dtype, x.shape, x.shape[-1]
        if c % self.num_groups:
            raise ModelError(
                f"GroupNorm: {self.num_groups} groups do not divide the {c} channels of the input {shape}."
            )
        x = _float32(x).reshape(shape[0], math.prod(shape[1:-1]), self.num_groups, c // self.num_groups)
        x = x - x.mean((1, 3), keepdims=True)
        x = x * jax.lax.rsqrt(jnp.square(x).mean((1, 3), keepdims=True) + self.eps)
        return _scaled(self, x.reshape(shape), c).astype(dtype)


class InstanceNorm(Module):
    """Normalise each channel of each row over its positions.   x: [batch, ..., c] -> [batch, ..., c]

    weight, bias: [c] if `affine`, which as in torch it is not unless asked. With `track_running_stats` the means over
    the batch of each row's statistics are kept in running_mean and running_var and used in evaluation.
    Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022.
    """

    momentum: Scalar = 0.1
    eps: float = 1e-5
    affine: bool = False
    track_running_stats: bool = False

    def check(self) -> None:
        _check(self)

    def forward(self, x: jax.Array) -> jax.Array:
        float_input(self, x, "[batch, positions, ..., channels]", 3)
        dtype, c, over = x.dtype, x.shape[-1], tuple(range(1, x.ndim - 1))
        if self.training and self.track_running_stats:
            _some_rows(self, x)
        n = math.prod(x.shape[1:-1])
        if n < 2 and self.training:
            raise ModelError(f"InstanceNorm needs more than one position a channel in training, got shape {x.shape}.")
        x = _float32(x)
        if self.training or not self.track_running_stats:
            mean = x.mean(over, keepdims=True)
            var = jnp.square(x - mean).mean(over, keepdims=True)
            if self.track_running_stats:
                batch_mean, batch_var = (_mean_of_rows(a.reshape(-1, c), self.mask) for a in (mean, var))
                _track(self, batch_mean, batch_var, n, c)
        else:
            mean, var = self.state("running_mean", Zeros(), (c,)), self.state("running_var", Ones(), (c,))
        return _scaled(self, (x - mean) * jax.lax.rsqrt(var + self.eps), c).astype(dtype)


# -- what they share


def _check(layer: Any) -> None:
    name, eps, momentum = type(layer).__name__, layer.eps, getattr(layer, "momentum", None)
    if eps is not None and not 0 <= eps < math.inf:
        raise SpecError(f"{name}.eps must be 0 or more, got {eps}. It is added to the variance.")
    if isinstance(momentum, (int, float)) and not 0 <= momentum <= 1:
        raise SpecError(f"{name}.momentum must be in [0, 1], got {momentum}. It is the weight of the new batch.")


def _some_rows(layer: Module, x: jax.Array) -> None:
    if len(x) == 0:
        raise ModelError(
            f"{type(layer).__name__} got an empty batch in training, of shape {x.shape}: it has no mean to keep."
        )


def _float32(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32 if x.dtype.itemsize < 4 else x.dtype)


def _scaled(layer: Any, x: jax.Array, c: int) -> jax.Array:
    """Times the weight, plus the bias, of each channel.   x: [..., c] -> [..., c]"""
    if not layer.affine:
        return x
    return x * layer.param("weight", Ones(), (c,)).astype(x.dtype) + layer.param("bias", Zeros(), (c,)).astype(x.dtype)


def _track(layer: Any, mean: jax.Array, var: jax.Array, n: Any, c: int) -> None:
    """Move the running statistics towards those of n values a channel."""
    old_mean, old_var = layer.state("running_mean", Zeros(), (c,)), layer.state("running_var", Ones(), (c,))
    if layer.momentum is None:
        count = layer.state("num_batches_tracked", Zeros(), (), jnp.int32) + 1
        layer.set_state("num_batches_tracked", count)
        momentum = 1 / count.astype(mean.dtype)
    else:
        momentum = jnp.asarray(layer.momentum, mean.dtype)
    var = jnp.where(n > 1, var * n / jnp.maximum(n - 1, 1), old_var)  # one value has no variance
    layer.set_state("running_mean", old_mean + momentum * (mean - old_mean))
    layer.set_state("running_var", old_var + momentum * (var - old_var))


def _moments(x: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array, Any]:
    """Mean, variance and number of values of each channel, over the rows that count.   x: [batch, ..., c]"""
    axes = tuple(range(x.ndim - 1))
    if mask is None:
        mean = x.mean(axes)
        return mean, jnp.square(x - mean).mean(axes), jnp.asarray(x.size // x.shape[-1], x.dtype)
    if mask.shape != x.shape[:1]:
        raise ModelError(f"BatchNorm: the mask has shape {mask.shape}, the input {x.shape} needs {x.shape[:1]}.")
    m = mask.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    n = m.sum() * math.prod(x.shape[1:-1])
    part = m / jnp.maximum(n, 1)
    mean = (x * part).sum(axes)
    return mean, (jnp.square(x - mean) * part).sum(axes), n


def _mean_of_rows(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """x: [batch, c] -> [c]"""
    if mask is None:
        return x.mean(0)
    m = mask.astype(x.dtype)
    return (x * m[:, None]).sum(0) / jnp.maximum(m.sum(), 1)
