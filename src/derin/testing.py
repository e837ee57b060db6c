"""What every layer, loss and optimiser must do, as tests that anybody can run on their own.

    from derin.testing import check_layer
    check_layer(MyLayer(width=8), jnp.ones((4, 3)))       # silent, or a ConformanceError that says what is wrong

All of derin's own pass them. `skip=("mask",)` leaves checks out; CHECKS lists their names.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derin import spec
from derin.errors import DerinError
from derin.nn.losses import Loss
from derin.nn.module import Arrays, Module
from derin.spec import Spec

__all__ = ["CHECKS", "ConformanceError", "check_layer", "check_loss", "check_optimizer", "check_spec"]


class ConformanceError(AssertionError):
    """A layer, a loss or an optimiser does not do what every one of them must."""


# -- layers


def check_layer(layer: Module, *inputs: Any, key: jax.Array | None = None, skip: tuple[str, ...] = ()) -> None:
    """Run every check of CHECKS on a layer, with inputs of its kind: at least two rows, ordinary values.

    Raises ConformanceError at the first that fails.

    >>> import jax.numpy as jnp
    >>> from derin.nn import Linear
    >>> check_layer(Linear(4), jnp.ones((3, 2)))
    >>> class Wrong(Module):
    ...     '''Twice as wide.   x: [batch, in] -> [batch, in]'''
    ...     def forward(self, x):
    ...         return jnp.concatenate([x, x], -1)
    >>> check_layer(Wrong(), jnp.ones((3, 2)))
    Traceback (most recent call last):
    derin.testing.ConformanceError: Wrong: shape: [batch, in] -> [batch, in], but (3, 2) gave (3, 4): in is 2 and 4.
    """
    key = jax.random.key(0) if key is None else key
    inputs = tuple(jnp.asarray(x) for x in inputs)
    for unknown in set(skip) - CHECKS.keys():
        raise ValueError(f"no check is called {unknown!r}; there are {', '.join(CHECKS)}.")
    for name, check in CHECKS.items():
        if name in skip:
            continue
        try:
            check(layer, inputs, key)
        except _Failed as failed:
            raise ConformanceError(f"{type(layer).__name__}: {name}: {failed}") from failed.__cause__


class _Failed(Exception):
    """What is wrong, without the layer's name."""


def _names(layer: Module, inputs: tuple, key: jax.Array) -> None:
    """The same weights, whatever the key and the number of rows; all that a call needs is made by init."""
    params, state = layer.init(key, *inputs)
    again = layer.init(key, *inputs)
    other = jax.eval_shape(layer.init, jax.random.key(99), *(x[:1] if x.ndim else x for x in inputs))
    for which, a, b, c in (("params", params, again[0], other[0]), ("state", state, again[1], other[1])):
        if _shapes(a) != _shapes(c):
            raise _Failed(f"{which} depend on the number of rows: {_shapes(a)} and, for one row, {_shapes(c)}.")
        if any(not np.array_equal(_numpy(a[n]), _numpy(b[n]), equal_nan=True) for n in a):
            raise _Failed(f"two calls of init with one key drew different {which}.")
    for train in (False, True):
        try:
            layer.apply(params, state, *inputs, train=train, key=key)
        except DerinError as error:
            raise _Failed(f"apply(train={train}) fails with the weights made by init: {error}") from error


def _evaluation(layer: Module, inputs: tuple, key: jax.Array) -> None:
    """Evaluation needs no key, changes no state, and gives the same twice."""
    params, state = layer.init(key, *inputs)
    try:
        first, after = layer.apply(params, state, *inputs)
    except DerinError as error:
        raise _Failed(f"apply(train=False) without a key fails: {error}") from error
    if not _close(state, after, exact=True):
        raise _Failed("evaluation changed the state; write it only if self.training.")
    if not _close(first, layer.apply(params, state, *inputs)[0], exact=True):
        raise _Failed("two evaluations of one input differ; use self.rng() for randomness, in training only.")


def _jit(layer: Module, inputs: tuple, key: jax.Array) -> None:
    """The compiled layer gives what the layer gives step by step."""
    params, state = layer.init(key, *inputs)
    for train in (False, True):
        call = _caller(layer, train, key)
        try:
            compiled = jax.jit(call)(params, state, *inputs)
        except Exception as error:
            raise _Failed(f"jax.jit of apply(train={train}) fails: {_line(error)}") from error
        _same(call(params, state, *inputs), compiled, f"compiled and not compiled differ (train={train})")


def _vmap(layer: Module, inputs: tuple, key: jax.Array) -> None:
    """Stacked models (weights, Scalars, inputs, keys) under vmap give what a loop gives, gradients too."""
    floats = _floats(inputs)

    def member(m: int) -> Any:
        xs = [x * (1 + 0.1 * m) if i in floats else x for i, x in enumerate(inputs)]
        own = jax.random.fold_in(key, m)
        return jax.tree.map(lambda a: a * (1 - 0.05 * m), layer), *layer.init(own, *inputs), xs, own

    members = [member(m) for m in range(3)]
    stacked = jax.tree.map(lambda *a: jnp.stack([jnp.asarray(v) for v in a]), *members)
    for train in (False, True):
        try:
            together = jax.jit(jax.vmap(partial(_slopes, train)))(stacked)
        except Exception as error:
            raise _Failed(f"jax.vmap over models fails (train={train}): {_line(error)}") from error
        alone = jax.jit(partial(_slopes, train))  # one program; step by step compiles each operation
        loop = jax.tree.map(lambda *a: jnp.stack(a), *map(alone, members))
        _same(loop, together, f"vmap over models and a loop over them differ (train={train})")


def _slopes(train: bool, one: tuple[Module, Arrays, Arrays, list[jax.Array], jax.Array]) -> Any:
    """Gradients by the weights and by the inputs that are floats; and what the layer gave.

    Two checks compile it alike: where programs are cached, as in our tests, it is compiled once.
    """
    layer, params, state, inputs, key = one
    floats = _floats(inputs)

    def score(params: Arrays, some: list[jax.Array]) -> Any:
        xs = list(inputs)
        for i, x in zip(floats, some, strict=True):
            xs[i] = x
        out = _caller(layer, train, key)(params, state, *xs)
        return _total(out[0]), out

    return jax.grad(score, (0, 1), has_aux=True)(params, [inputs[i] for i in floats])


def _scalars(layer: Module, inputs: tuple, key: jax.Array) -> None:
    """Scalar fields may be traced: one program serves all their values."""
    if not jax.tree.leaves(layer):
        return
    params, state = layer.init(key, *inputs)
    traces = []

    @jax.jit
    def call(layer: Module, params: Arrays, state: Arrays) -> Any:
        traces.append(1)
        return layer.apply(params, state, *inputs, train=True, key=key)

    for factor in (1.0, 0.9):
        changed = jax.tree.map(lambda a, factor=factor: a * factor, layer)
        try:
            traced = call(changed, params, state)
        except (jax.errors.JAXTypeError, TypeError, ValueError) as error:
            raise _Failed(f"a Scalar is not used as one (`if` or float() on it?): {_line(error)}") from error
        plain = changed.apply(params, state, *inputs, train=True, key=key)
        _same(
            plain,
            traced,
            f"with its Scalars traced, the layer gives something else ({spec.leaf_paths(layer)})",
        )
    if len(traces) != 1:
        raise _Failed("another value of a Scalar compiled another program.")


def _shape(layer: Module, inputs: tuple, key: jax.Array) -> None:
    """The line `x: [batch, in] -> [batch, width]` of the docstring is true."""
    text = " ".join((type(layer).__doc__ or "").split())
    stated = re.search(r"((?:\w+: \[[^\]]*\](?:, )?)+) -> (\.\.\.|\[[^\]]*\](?:, \[[^\]]*\])*)", text)
    if not stated:
        raise _Failed("the docstring states no shape. Write a line like `x: [batch, in] -> [batch, width]`.")
    left, right = re.findall(r"\[[^\]]*\]", stated[1]), re.findall(r"\[[^\]]*\]", stated[2])
    out, _ = jax.eval_shape(lambda *xs: layer.apply(*layer.init(key, *xs), *xs), *inputs)
    shapes = [x.shape for x in inputs], [y.shape for y in jax.tree.leaves(out)]
    sizes: dict[str, Any] = {k: v for k, v in vars(layer).items() if type(v) is int}
    if len(left) != len(inputs):
        raise _Failed(f"the docstring names {len(left)} inputs, {len(inputs)} came.")
    if right and len(right) != len(shapes[1]):
        raise _Failed(f"the docstring names {len(right)} outputs, {len(shapes[1])} came.")
    for part, found in ((left, shapes[0]), (right, shapes[1])):
        for pattern, shape in zip(part, found if part else (), strict=True):
            wrong = _bind(pattern[1:-1], shape, sizes)
            if wrong:
                said = f"{', '.join(left)} -> {', '.join(right)}"
                came = ", ".join(map(str, shapes[0])), ", ".join(map(str, shapes[1]))
                raise _Failed(f"{said}, but {came[0]} gave {came[1]}: {wrong}.")


def _bind(pattern: str, shape: tuple[int, ...], sizes: dict[str, Any]) -> str:
    """Give the names in a pattern their sizes; what is wrong, or nothing."""
    names = [n.strip() for n in pattern.split(",") if n.strip()]
    if "..." in names:
        at = names.index("...")
        after = len(names) - at - 1
        if len(shape) < at + after:
            return f"[{pattern}] has at least {at + after} axes"
        middle = shape[at : len(shape) - after]
        if sizes.setdefault("...", middle) != middle:
            return f"... is {sizes['...']} and {middle}"
        names, shape = names[:at] + names[at + 1 :], shape[:at] + shape[len(shape) - after :]
    if len(names) != len(shape):
        return f"[{pattern}] has {len(names)} axes"
    for name, size in zip(names, shape, strict=True):
        known = int(name) if name.isdigit() else sizes.setdefault(name, size)
        if known != size:
            return f"{name} is {known} and {size}"
    return ""


def _file(layer: Module, inputs: tuple, key: jax.Array) -> None:
    """pickle, replace, JSON and jax's flatten give an equal layer back."""
    _same_spec(layer)


def _bfloat16(layer: Module, inputs: tuple, key: jax.Array) -> None:
    """bfloat16 inputs give finite floats near those of float32, and no weight or state changes its dtype."""
    if not any(jnp.issubdtype(x.dtype, jnp.floating) for x in inputs):
        return
    half = tuple(x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x for x in inputs)
    params, state = layer.init(key, *inputs)
    for train in (False, True):
        call = jax.jit(_caller(layer, train, key))
        y, _ = call(params, state, *inputs)
        try:
            small, after = call(params, state, *half)
        except Exception as error:
            raise _Failed(f"a bfloat16 input fails (train={train}): {_line(error)}") from error
        for a, b in zip(jax.tree.leaves(y), jax.tree.leaves(small), strict=True):
            if not jnp.issubdtype(b.dtype, jnp.floating):
                raise _Failed(f"a bfloat16 input gives {b.dtype}, not a float.")
            far = np.abs(_numpy(a) - _numpy(b)).max(initial=0) / max(1.0, np.abs(_numpy(a)).max(initial=0))
            if not far < 0.1:
                raise _Failed(f"a bfloat16 input gives values off by {far:.2g} of the largest (train={train}).")
        if {n: a.dtype for n, a in state.items()} != {n: a.dtype for n, a in after.items()}:
            raise _Failed("a bfloat16 input changes the dtype of the state.")


def _gradient(layer: Module, inputs: tuple, key: jax.Array) -> None:
    """Gradients of weights and float inputs exist and are finite."""
    params, state = layer.init(key, *inputs)
    (by_params, by_inputs), _ = jax.jit(partial(_slopes, True))((layer, params, state, list(inputs), key))
    named = zip(_floats(inputs), by_inputs, strict=True)
    for name, g in [*by_params.items(), *((f"input {i}", g) for i, g in named)]:
        if not np.isfinite(_numpy(g)).all():
            raise _Failed(f"the gradient of {name} is not finite.")


def _mask(layer: Module, inputs: tuple, key: jax.Array) -> None:
    """A row whose mask is 0 changes nothing for the others, nor the state."""
    if not inputs or inputs[0].ndim == 0 or len(inputs[0]) < 2:
        return
    rows = len(inputs[0])
    mask = jnp.ones(rows).at[-1].set(0)
    params, state = layer.init(key, *inputs)

    @jax.jit
    def run(*inputs: jax.Array) -> Any:
        y, after = layer.apply(params, state, *inputs, train=True, key=key, mask=mask)
        return [a[:-1] if a.ndim and len(a) == rows else a for a in jax.tree.leaves(y)], after

    def other(x: jax.Array) -> jax.Array:
        if not x.ndim or len(x) != rows:
            return x
        return x.at[-1].set(3 * x[0] + 1 if jnp.issubdtype(x.dtype, jnp.floating) else x[0])

    _same(run(*inputs), run(*map(other, inputs)), "a row that self.mask marks as not there changes the others")


CHECKS: dict[str, Callable[[Module, tuple, jax.Array], None]] = {
    "names": _names,
    "evaluation": _evaluation,
    "jit": _jit,
    "vmap": _vmap,
    "scalars": _scalars,
    "shape": _shape,
    "file": _file,
    "bfloat16": _bfloat16,
    "gradient": _gradient,
    "mask": _mask,
}


# -- losses, optimisers, any spec


def check_loss(loss: Loss, *inputs: jax.Array) -> None:
    """One float32 an example; the mean obeys weights; Scalars traced; finite gradients; a file holds it.

    inputs: what the loss is called with, output and target for most; the gradient is by the first.

    >>> from derin.nn import MSELoss
    >>> check_loss(MSELoss(), jnp.array([1.0, 2.0]), jnp.array([0.0, 1.0]))
    """
    n, who = len(inputs[0]), type(loss).__name__
    call: Callable[..., jax.Array] = loss
    try:
        each = loss.each(*inputs)
        if each.shape != (n,) or each.dtype != jnp.float32:
            raise _Failed(f"each gave {each.dtype}{each.shape}, not one float32 for each of {n} examples.")
        mean = loss(*inputs)
        _same(mean, call(*inputs, weight=jnp.ones(n)), "weights of one change the mean")
        _same(mean, jax.jit(loss)(*inputs), "compiled and not compiled differ")
        _same(
            mean,
            jax.jit(lambda own: own(*inputs))(loss),
            "with its Scalars traced, it gives something else",
        )
        half = jnp.arange(n) < (n + 1) // 2
        few = loss(*(x[half] for x in inputs))
        _same(few, call(*inputs, weight=half.astype(jnp.float32)), "examples of weight 0 change the mean")
        if not np.isfinite(_numpy(jax.grad(lambda o: loss(o, *inputs[1:]))(inputs[0]))).all():
            raise _Failed("the gradient is not finite.")
        if loss(inputs[0].astype(jnp.bfloat16), *inputs[1:]).dtype != jnp.float32:
            raise _Failed("a bfloat16 output gives a loss that is not float32.")
        _same_spec(loss)
    except _Failed as failed:
        raise ConformanceError(f"{who}: {failed}") from failed


def check_optimizer(optimizer: Any, params: Arrays | None = None) -> None:
    """A state of fixed structure; jit = eager; the learning rate and Scalars traced; `elementwise` is true.

    >>> from derin.optim import SGD
    >>> check_optimizer(SGD(momentum=0.9))
    """
    params = params or {"weight": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "bias": jnp.array([0.5, -0.5])}
    who = type(optimizer).__name__

    def run(optimizer: Any, params: Any, rate: Any) -> Any:
        state = optimizer.init(params)
        for step in range(3):
            grads = jax.tree.map(lambda p, step=step: 2 * p - 0.1 * step, params)
            updates, after = optimizer.update(grads, state, params, rate)
            if _kinds(after) != _kinds(state):
                raise _Failed("update changed the structure, a shape or a dtype of the state.")
            params, state = jax.tree.map(lambda p, u: p + u, params, updates), after
        return params

    try:
        plain = run(optimizer, params, 0.01)
        if _kinds(plain) != _kinds(params):
            raise _Failed("the updates have not the structure, shapes and dtypes of the params.")
        try:
            compiled = jax.jit(run)(optimizer, params, jnp.float32(0.01))
        except (jax.errors.JAXTypeError, TypeError) as error:
            raise _Failed(f"its Scalars or the learning rate cannot be traced: {_line(error)}") from error
        _same(plain, compiled, "compiled and not compiled differ")
        if getattr(type(optimizer), "elementwise", False):
            flat = {"": jnp.concatenate([p.ravel() for p in params.values()])}
            joined = {"": jnp.concatenate([plain[name].ravel() for name in params])}
            _same(
                joined,
                jax.jit(run)(optimizer, flat, jnp.float32(0.01)),
                "elementwise is True, but one flat vector gives something else",
            )
        _same_spec(optimizer)
    except _Failed as failed:
        raise ConformanceError(f"{who}: {failed}") from failed


def check_spec(value: Spec) -> None:
    """pickle, replace, JSON and jax's flatten give an equal spec back."""
    try:
        _same_spec(value)
    except _Failed as failed:
        raise ConformanceError(f"{type(value).__name__}: {failed}") from failed


def _same_spec(value: Spec) -> None:
    leaves, structure = jax.tree.flatten(value)
    ways: dict[str, Callable[[], Any]] = {
        "jax.tree.unflatten": lambda: jax.tree.unflatten(structure, leaves),
        "replace": lambda: value.replace(),
        "JSON": lambda: spec.from_json(spec.to_json(value)),
        "pickle": lambda: pickle.loads(pickle.dumps(value)),
    }
    for way, copied in ways.items():
        try:
            copy = copied()
        except Exception as error:
            raise _Failed(f"{way} fails: {_line(error)}") from error
        if copy != value or bool(spec.structure(copy) != structure):
            raise _Failed(f"{way} gives {copy!r} back, not {value!r}.")


# -- comparing


def _caller(layer: Module, train: bool, key: jax.Array) -> Callable:
    return lambda params, state, *xs: layer.apply(params, state, *xs, train=train, key=key if train else None)


def _floats(inputs: Sequence[jax.Array]) -> list[int]:
    return [i for i, x in enumerate(inputs) if jnp.issubdtype(x.dtype, jnp.floating)]


def _total(tree: Any) -> jax.Array:
    """A number that depends on every entry, each in another way."""
    parts = [a.astype(jnp.float32).ravel() for a in jax.tree.leaves(tree)]
    return sum((jnp.sin(jnp.arange(1.0, a.size + 1)) * a).sum() for a in parts)


def _same(a: Any, b: Any, what: str) -> None:
    if not _close(a, b):
        raise _Failed(f"{what}, by up to {_distance(a, b):.2g}.")


def _close(a: Any, b: Any, exact: bool = False) -> bool:
    here, there = jax.tree.structure(a), jax.tree.structure(b)
    if here != there:  # type: ignore[operator]  # jaxlib's stub of PyTreeDef has no ==
        return False
    for u, v in zip(map(_numpy, jax.tree.leaves(a)), map(_numpy, jax.tree.leaves(b)), strict=True):
        within = 0 if exact else 1e-4 * max(1.0, np.abs(u[np.isfinite(u)]).max(initial=0))
        if u.shape != v.shape or not np.allclose(u, v, rtol=0, atol=within, equal_nan=True):
            return False
    return True


def _distance(a: Any, b: Any) -> float:
    pairs = zip(map(_numpy, jax.tree.leaves(a)), map(_numpy, jax.tree.leaves(b)), strict=False)
    return max((float(np.abs(u - v).max(initial=0)) for u, v in pairs if u.shape == v.shape), default=float("inf"))


def _numpy(a: Any) -> np.ndarray:
    a = jnp.asarray(a)
    return np.asarray(a.astype(jnp.float32) if a.dtype == jnp.bfloat16 else a, dtype=np.float64)


def _shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: a.shape for name, a in arrays.items()}


def _kinds(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return str(structure), [(jnp.shape(a), jnp.result_type(a)) for a in leaves]


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
