"""Layers made of layers: in a row, around, side by side, and one in several places."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp

from derin.distributions import choice
from derin.errors import ModelError, SpecError
from derin.nn.activations import Function
from derin.nn.checks import array_input, at_least
from derin.nn.module import Module

__all__ = ["Branches", "Join", "Residual", "Sequential", "Shared", "Split"]

Layer = Module | Callable[[Any], Any]


class Sequential(Module):
    """Call the layers one after another; plain functions may stand among them.   x: [...] -> ...

    >>> import jax
    >>> from derin.nn import Linear
    >>> Sequential(Linear(8), jax.nn.elu, Linear(2))
    Sequential(Linear(8), Function('jax.nn.elu'), Linear(2))
    """

    layers: tuple[Layer, ...] = ()
    _variadic = "layers"
    _inline = "layers"

    if TYPE_CHECKING:

        def __init__(self, *layers: Layer) -> None: ...

    def _convert(self) -> None:
        self.layers = _as_layers(self, self.layers)

    def forward(self, x: Any) -> Any:
        layers: tuple[Any, ...] = self.layers
        done = None  # a max pooling that its convolution has done already
        for i, layer in enumerate(layers):
            if layer is done:
                continue
            pool = self._early_pool(i)
            if pool is None:
                x = layer(x)
            else:
                x, done = layer(x, pool=pool), pool
        return x

    def _early_pool(self, i: int) -> Any:
        """The max pooling that the convolution at i may do, unless somebody looks at what single layers put out."""
        third = self.layers[i + 2] if i + 2 < len(self.layers) else None
        if not (type(third).__name__.startswith("MaxPool") and self._bound().unwatched):
            return None  # before an import that few nets need
        from derin.nn.conv_pool import early_pool

        return early_pool(*self.layers[i : i + 3])


class Residual(Module):
    """The layers one after another, plus what went into them.   x: [...] -> [...]

    Where the shapes differ, the way around needs a layer too: Sequential(Branches(body, Conv2d(8, 1)), Join("sum")).
    He et al. 2016, arXiv:1512.03385.

    >>> import jax.numpy as jnp
    >>> Residual(jnp.square).apply({}, {}, jnp.array([3.0]))[0].tolist()
    [12.0]
    """

    layers: tuple[Layer, ...] = ()
    _variadic = "layers"
    _inline = "layers"

    if TYPE_CHECKING:

        def __init__(self, *layers: Layer) -> None: ...

    def _convert(self) -> None:
        self.layers = _as_layers(self, self.layers)

    def forward(self, x: jax.Array) -> jax.Array:
        y = x
        for layer in self.layers:
            y = layer(y)
        if jnp.shape(y) != jnp.shape(x):
            raise ModelError(
                f"Residual: its layers turned {jnp.shape(x)} into {jnp.shape(y)}; they must keep the shape. With a "
                'layer on the way around: Sequential(Branches(Sequential(...), Conv2d(..., 1)), Join("sum")).'
            )
        return x + y


class Branches(Module):
    """Layers side by side: each gets the input, or each its own of several; the outputs are a tuple.   x: [...] -> ...

    Several inputs are the arguments of `apply`, or the tuple that the layer before put out. Join makes one array of
    the tuple again.

    >>> import jax, jax.numpy as jnp
    >>> from derin.nn import Linear
    >>> net = Sequential(Branches(Linear(2), Linear(3)), Join())         # two widths on one input
    >>> net.apply(*net.init(jax.random.key(0), jnp.ones((5, 4))), jnp.ones((5, 4)))[0].shape
    (5, 5)
    >>> net = Branches(Linear(2), Linear(2))                             # two inputs
    >>> params, state = net.init(jax.random.key(0), jnp.ones((5, 4)), jnp.ones((5, 3)))
    >>> {name: w.shape for name, w in params.items() if "weight" in name}
    {'0.weight': (2, 4), '1.weight': (2, 3)}
    """

    layers: tuple[Layer, ...] = ()
    _variadic = "layers"
    _inline = "layers"

    if TYPE_CHECKING:

        def __init__(self, *layers: Layer) -> None: ...

    def _convert(self) -> None:
        self.layers = _as_layers(self, self.layers)

    def check(self) -> None:
        if not self.layers:
            raise SpecError("Branches needs at least one layer.")

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        if len(inputs) == 1 and isinstance(inputs[0], (tuple, list)):
            inputs = tuple(inputs[0])
        if len(inputs) == 1:
            inputs = inputs * len(self.layers)
        if len(inputs) != len(self.layers):
            raise ModelError(
                f"Branches has {len(self.layers)} layers, {len(inputs)} inputs came: {_shapes(inputs)}. "
                "Give one input, which each layer gets, or one for each layer."
            )
        return tuple(layer(x) for layer, x in zip(self.layers, inputs, strict=True))


class Join(Module):
    """One array of a tuple of them: one after the other along an axis, or their sum, product or mean.   x: [...] -> ...

    >>> import jax.numpy as jnp
    >>> pair = jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0]])
    >>> Join().apply({}, {}, pair)[0].tolist(), Join("sum").apply({}, {}, pair)[0].tolist()
    ([[1.0, 2.0, 3.0, 4.0]], [[4.0, 6.0]])
    """

    how: Literal["concatenate", "sum", "product", "mean"] = "concatenate"
    axis: int = -1  # of "concatenate"

    def forward(self, *inputs: Any) -> jax.Array:
        arrays = tuple(inputs[0]) if len(inputs) == 1 and isinstance(inputs[0], (tuple, list)) else inputs
        shapes = [list(jnp.shape(a)) for a in arrays]
        if self.how == "concatenate":
            if any(not -len(s) <= self.axis < len(s) for s in shapes):
                raise ModelError(f"Join: there is no axis {self.axis} in the shapes {_shapes(arrays)}.")
            for s in shapes:
                s[self.axis] = 0
        if any(s != shapes[0] for s in shapes):
            same = f"the same shape except along axis {self.axis}" if self.how == "concatenate" else "one shape"
            raise ModelError(f"Join({self.how!r}) needs arrays of {same}, got {_shapes(arrays)}.")
        if self.how == "concatenate":
            return jnp.concatenate(arrays, self.axis)
        y = arrays[0]
        for a in arrays[1:]:
            y = y * a if self.how == "product" else y + a
        return y / len(arrays) if self.how == "mean" else y


class Split(Module):
    """Cut the last axis into parts of these sizes: a net of several inputs on one table.   x: [..., c] -> ...

    >>> import jax.numpy as jnp
    >>> [a.tolist() for a in Split(1, 2).apply({}, {}, jnp.array([1.0, 2.0, 3.0]))[0]]
    [[1.0], [2.0, 3.0]]
    """

    sizes: tuple[int, ...] = ()
    _variadic = "sizes"

    if TYPE_CHECKING:

        def __init__(self, *sizes: int) -> None: ...

    def check(self) -> None:
        at_least(self, 1, sizes=self.sizes)

    def forward(self, x: jax.Array) -> tuple[jax.Array, ...]:
        array_input(self, x, "[..., channels]", 1)
        if sum(self.sizes) != x.shape[-1]:
            raise ModelError(f"Split: the sizes {self.sizes} add up to {sum(self.sizes)}, the input {x.shape} has not.")
        ends = [sum(self.sizes[: i + 1]) for i in range(len(self.sizes))]
        return tuple(x[..., end - size : end] for size, end in zip(self.sizes, ends, strict=True))


class Shared(Module):
    """A layer whose weights go by a name: every Shared of that name in the net has the same ones.   x: [...] -> ...

    The weights stand under `shared.NAME`. The layers may be of different kinds as long as their weights are called
    alike and have the same shapes, as those of an Embedding and of the Linear that reads words off again.
    Press & Wolf 2017, arXiv:1608.05859.

    >>> import jax, jax.numpy as jnp
    >>> from derin.nn import Embedding, Linear
    >>> net = Sequential(Shared("word", Embedding(65, 8)), jnp.tanh, Shared("word", Linear(65, bias=False)))
    >>> params, state = net.init(jax.random.key(0), jnp.array([[1, 2, 3]]))
    >>> {name: w.shape for name, w in params.items()}
    {'shared.word.weight': (65, 8)}
    >>> twins = Branches(Shared("tower", Linear(4)), Shared("tower", Linear(4)))      # a siamese net
    """

    name: str
    layer: Module

    def check(self) -> None:
        if not self.name.isidentifier():
            raise SpecError(f"Shared.name must be a name of letters, digits and _, got {self.name!r}.")

    def forward(self, *inputs: Any) -> Any:
        return self.layer(*inputs)

    def _place(self, name: str, path: str) -> str:
        return f"shared.{self.name}" if name == "layer" else super()._place(name, path)


def _as_layers(owner: Module, values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_as_layer(owner, v, i) for i, v in enumerate(values))


def _as_layer(owner: Module, value: Any, i: int) -> Any:
    name = type(owner).__name__
    if isinstance(value, Module):
        return value
    if isinstance(value, choice):
        return value.replace(options=_as_layers(owner, value.options))
    if isinstance(value, type):
        raise SpecError(f"{name}: layer {i}, {value.__name__} is a class; write {value.__name__}().")
    if not callable(value):
        raise SpecError(f"{name}: layer {i} is {value!r}, a {type(value).__name__}, not a layer or a function.")
    return Function(value)


def _shapes(arrays: Any) -> str:
    return ", ".join(str(jnp.shape(a)) for a in arrays)
