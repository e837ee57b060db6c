"""The conformance suite finds what it is for: one wrong layer, loss or optimiser for each check."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from derin import nn
from derin.nn import Module, Scalar
from derin.nn.losses import Loss
from derin.optim import SGD, Optimizer
from derin.testing import CHECKS, ConformanceError, check_layer, check_loss, check_optimizer, check_spec

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


class NamesByRows(Module):
    """x: [batch, in] -> [batch, in]"""

    def forward(self, x):
        return x * self.param("scale", nn.Ones(), (len(x), 1))


class NeedsAKey(Module):
    """x: [batch, in] -> [batch, in]"""

    def forward(self, x):
        return x * jax.random.bernoulli(self.rng(), 0.5, x.shape)


class WritesInEvaluation(Module):
    """x: [batch, in] -> [batch, in]"""

    def forward(self, x):
        seen = self.state("seen", nn.Zeros(), ())
        self.set_state("seen", seen + 1)
        return x


class OtherWhenCompiled(Module):
    """x: [batch, in] -> [batch, in]"""

    def forward(self, x):
        return x * 2 if isinstance(x, jax.core.Tracer) else x


@jax.custom_batching.custom_vmap
def _twice(x):
    return 2 * x


@_twice.def_vmap
def _twice_stacked(size, stacked, x):
    return 3 * x, stacked[0]


class OtherWhenStacked(Module):
    """x: [batch, in] -> [batch, in]"""

    def forward(self, x):
        return x + jax.lax.stop_gradient(_twice(jax.lax.stop_gradient(x)))


class AsksAScalar(Module):
    """x: [batch, in] -> [batch, in]"""

    rate: Scalar = 0.5

    def forward(self, x):
        return x * self.rate if self.rate > 0.1 else x


class ScalarTakesTwoWays(Module):
    """x: [batch, in] -> [batch, in]"""

    rate: Scalar = 0.5

    def forward(self, x):
        return x * self.rate if isinstance(self.rate, float) else x


class WrongShape(Module):
    """x: [batch, in] -> [batch, width]"""

    width: int = 5

    def forward(self, x):
        return x


class NoShape(Module):
    """Nothing is said."""

    def forward(self, x):
        return x


class NotForHalf(Module):
    """x: [batch, in] -> [batch, in]"""

    def forward(self, x):
        return jnp.round(x * 100).astype(jnp.bfloat16) if x.dtype == jnp.float32 else x.astype(jnp.int32)


class InfiniteSlope(Module):
    """x: [batch, in] -> [batch, in]"""

    def forward(self, x):
        return jnp.sqrt(x * 0) + x


class MixesRows(Module):
    """x: [batch, in] -> [batch, in]"""

    def forward(self, x):
        return x - x.mean(0)


@pytest.mark.parametrize(
    "layer, check, message",
    [
        (NamesByRows(), "names", r"params depend on the number of rows: \{'scale': \(4, 1\)\}"),
        (NeedsAKey(), "evaluation", "without a key fails: .* pass key=..."),
        (WritesInEvaluation(), "evaluation", "evaluation changed the state"),
        (OtherWhenCompiled(), "jit", r"compiled and not compiled differ \(train=False\), by up to"),
        (OtherWhenStacked(), "vmap", "vmap over models and a loop over them differ"),
        (AsksAScalar(), "scalars", "a Scalar is not used as one .*TracerBoolConversionError"),
        (ScalarTakesTwoWays(), "scalars", r"something else \(\['rate'\]\)"),
        (WrongShape(), "shape", r"\[batch, in\] -> \[batch, width\], but \(4, 3\) gave \(4, 3\): width is 5 and 3"),
        (NoShape(), "shape", r"states no shape. Write a line like `x: \[batch, in\] -> \[batch, width\]`"),
        (nn.Sequential(lambda x: x), "file", "JSON fails: SpecError: a file cannot hold the function"),
        (NotForHalf(), "bfloat16", "gives int32, not a float"),
        (InfiniteSlope(), "gradient", "the gradient of input 0 is not finite"),
        (MixesRows(), "mask", "self.mask marks as not there changes the others"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, Module) else "",
)
def test_a_wrong_layer_is_found(layer, check, message):
    others = tuple(name for name in CHECKS if name != check)
    check_layer(layer, X, skip=(check, *others))
    with pytest.raises(ConformanceError, match=f"^{type(layer).__name__}: {check}: .*{message}"):
        check_layer(layer, X, skip=others)


def test_a_check_that_does_not_exist_cannot_be_skipped():
    with pytest.raises(ValueError, match="no check is called 'shapes'; there are names, "):
        check_layer(nn.Linear(2), X, skip=("shapes",))


class Two(Module):
    """A layer of one's own, of two inputs.   x: [batch, ..., in], scale: [batch] -> [batch, ..., 2], [batch]"""

    rate: Scalar = 0.1

    def setup(self):
        self.linear, self.norm, self.drop = nn.Linear(2), nn.BatchNorm(), nn.Dropout(self.rate)

    def forward(self, x, scale):
        y = self.drop(self.norm(self.linear(x)))
        return y * scale.reshape(-1, *[1] * (y.ndim - 1)).astype(y.dtype), scale


@pytest.mark.parametrize("middle", [(), (2,), (2, 3)])
def test_a_right_layer_of_one_s_own_passes(middle):
    x = np.random.default_rng(0).standard_normal((5, *middle, 3)).astype(np.float32)
    check_layer(Two(), x, np.linspace(1, 2, 5, dtype=np.float32))


class Total(Loss):
    def each(self, output, target):
        return jnp.square(output - target).sum(keepdims=True)


class ForgetsWeights(Loss):
    def each(self, output, target):
        return jnp.square(output - target)

    def __call__(self, output, target, weight=None):
        return self.each(output, target).mean()


class HasNoSlopeAtZero(Loss):
    def each(self, output, target):
        return jnp.sqrt(jnp.square(output - target))


@pytest.mark.parametrize(
    "loss, message",
    [
        (Total(), r"each gave float32\(1,\), not one float32 for each of 4 examples"),
        (ForgetsWeights(), "examples of weight 0 change the mean"),
        (HasNoSlopeAtZero(), "the gradient is not finite"),
    ],
)
def test_a_wrong_loss_is_found(loss, message):
    with pytest.raises(ConformanceError, match=f"^{type(loss).__name__}: {message}"):
        check_loss(loss, jnp.arange(4.0), jnp.array([0.0, 3.0, 1.0, 7.0]))


class Grows(Optimizer):
    learning_rate: Scalar = 0.1

    def init(self, params):
        return ()

    def update(self, grads, state, params, learning_rate):
        return jax.tree.map(lambda g: -learning_rate * g, grads), (*state, 1)


class NotElementwise(Optimizer):
    learning_rate: Scalar = 0.1
    elementwise = True

    def init(self, params):
        return ()

    def update(self, grads, state, params, learning_rate):
        return jax.tree.map(lambda g: -learning_rate * g / jnp.abs(g).max(), grads), state


class AsksTheRate(Optimizer):
    learning_rate: Scalar = 0.1

    def init(self, params):
        return ()

    def update(self, grads, state, params, learning_rate):
        return jax.tree.map(lambda g: -g * (learning_rate if learning_rate > 0 else 0), grads), state


@pytest.mark.parametrize(
    "optimizer, message",
    [
        (Grows(), "update changed the structure"),
        (NotElementwise(), "elementwise is True, but one flat vector gives something else"),
        (AsksTheRate(), "its Scalars or the learning rate cannot be traced"),
    ],
)
def test_a_wrong_optimizer_is_found(optimizer, message):
    check_optimizer(SGD(momentum=0.9))
    with pytest.raises(ConformanceError, match=f"^{type(optimizer).__name__}: {message}"):
        check_optimizer(optimizer)


def test_a_spec_that_is_no_file_is_found():
    with pytest.raises(ConformanceError, match=r"^Sequential: JSON fails"):
        check_spec(nn.Sequential(lambda x: x))
