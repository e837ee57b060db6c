"""Optimisers of optax: any by its name, in files too, or a GradientTransformation made in Python."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from derin.errors import SpecError
from derin.optim.base import Optimizer, Tree
from derin.spec import Scalar, nearest


class Optax(Optimizer):
    """Any optimiser of optax by its name; `contrib.muon` names one of optax.contrib.

    `names` and `values` are its number options (traced: another value compiles nothing anew), `fixed` its
    other options as (name, value) pairs. `from_optax` writes them for you. Raises SpecError for an unknown
    name or option, and for optimisers that need more than gradients (line searches).

    >>> from_optax("lion", learning_rate=1e-4, b1=0.95)
    Optax(learning_rate=0.0001, name='lion', names=('b1',), values=(0.95,))
    """

    name: str = dataclasses.field(kw_only=True)
    names: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)
    values: tuple[Scalar, ...] = dataclasses.field(default=(), kw_only=True)
    fixed: tuple[Any, ...] = dataclasses.field(default=(), kw_only=True)

    elementwise: ClassVar[bool] = False  # some look at whole matrices or at norms

    def check(self) -> None:
        super().check()
        if len(self.names) != len(self.values):
            raise SpecError(f"Optax.names and Optax.values must pair up, got {self.names} and {self.values}.")
        self._try_out(_optax_function(self.name))

    def init(self, params: Tree) -> Any:
        return self._transformation(self.learning_rate).init(params)

    def update(self, grads: Tree, state: Any, params: Tree, learning_rate: Scalar) -> tuple[Tree, Any]:
        return self._transformation(learning_rate).update(grads, state, params)

    def _transformation(self, learning_rate: Scalar) -> Any:
        """optax's pair of functions, built inside the trace: so the learning rate may be traced."""
        options = dict(zip(self.names, self.values, strict=True)) | dict(self.fixed)
        return _optax_function(self.name)(learning_rate=learning_rate, **options)

    def _try_out(self, function: Callable) -> None:
        """One abstract step, so that what cannot work is said now."""
        allowed = [n for n in inspect.signature(function).parameters if n != "learning_rate"]
        for pair in self.fixed:
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
                raise SpecError(f"Optax.fixed must be pairs such as (('nesterov', True),), got {self.fixed!r}.")
        for name in (*self.names, *(n for n, _ in self.fixed)):
            if name not in allowed:
                raise SpecError(f"optax.{self.name} has no option {name!r}.{nearest(name, allowed)}")
        params = {"weight": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}

        def step(spec: Optax) -> Any:
            return spec.update(params, spec.init(params), params, spec.learning_rate)

        try:
            jax.eval_shape(step, self)
        except jax.errors.ConcretizationTypeError:
            raise SpecError(
                f"optax.{self.name} cannot take all of {self.names} as traced numbers. "
                f"Give them in fixed=((name, value), ...) instead."
            ) from None
        except Exception as error:
            raise SpecError(f"optax.{self.name} cannot be used as an optimiser here: {error}") from None


class OptaxTransformation(Optimizer):
    """An optax.GradientTransformation made in Python; see `as_optimizer`. A file cannot hold one.

    Its own learning rate is inside it; this one, times the schedule's factor, multiplies its updates.
    """

    learning_rate: Scalar = 1.0
    transformation: Any = None

    elementwise: ClassVar[bool] = False

    def init(self, params: Tree) -> Any:
        return self.transformation.init(params)

    def update(self, grads: Tree, state: Any, params: Tree, learning_rate: Scalar) -> tuple[Tree, Any]:
        updates, state = self.transformation.update(grads, state, params)
        return jax.tree.map(lambda u: learning_rate * u, updates), state

    def _before_saving(self) -> None:
        raise SpecError(
            "an optax.GradientTransformation object holds functions, so no file and no run can keep it. "
            "Name it instead: derin.optim.from_optax('adamw', learning_rate=1e-3, weight_decay=1e-4)."
        )


def from_optax(name: str, learning_rate: Scalar = 1e-3, **options: Any) -> Optax:
    """The optax optimiser of that name with its options: floats may be traced, the others are fixed.

    >>> from_optax("sgd", learning_rate=0.1, momentum=0.9, nesterov=True)
    Optax(learning_rate=0.1, name='sgd', names=('momentum',), values=(0.9,), fixed=(('nesterov', True),))
    """
    numbers = {k: v for k, v in options.items() if isinstance(v, (float, jax.Array))}
    fixed = tuple((k, v) for k, v in options.items() if k not in numbers)
    return Optax(learning_rate, name=name, names=tuple(numbers), values=tuple(numbers.values()), fixed=fixed)


def as_optimizer(value: Any) -> Optimizer:
    """An Optimizer as it is; an optax.GradientTransformation wrapped into one. Raises SpecError for others.

    >>> from derin.optim import SGD
    >>> as_optimizer(SGD(0.1))
    SGD(learning_rate=0.1)
    """
    if isinstance(value, Optimizer):
        return value
    if isinstance(value, type):
        raise SpecError(f"an optimiser must be a value, and {value.__name__} is a class: write {value.__name__}().")
    if callable(getattr(value, "init", None)) and callable(getattr(value, "update", None)):
        return OptaxTransformation(transformation=value)
    raise SpecError(
        "an optimiser must be an Optimizer such as Adam(learning_rate=1e-3), "
        f"or an optax.GradientTransformation, got {value!r} ({type(value).__name__})."
    )


def _optax_function(name: str) -> Callable:
    """optax's function of that name, if it makes an optimiser from a learning rate."""
    import optax  # takes half a second: only those who ask for it pay
    import optax.contrib

    known = _makers(optax) | {f"contrib.{k}": f for k, f in _makers(optax.contrib).items()}
    if name not in known:
        raise SpecError(f"optax has no optimiser {name!r}.{nearest(name, known)}")
    return known[name]


def _makers(module: Any) -> dict[str, Callable]:
    functions = {k: f for k, f in vars(module).items() if inspect.isfunction(f) and not k.startswith("_")}
    return {k: f for k, f in functions.items() if "learning_rate" in inspect.signature(f).parameters}
