"""Prediction: encoded rows through the compiled net, a few programs for any number of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derin.engine import epoch as engine
from derin.engine.epoch import Task
from derin.engine.programs import program, use_disk_cache

SIZES = (1, 16, 256, 1024, 8192)  # rows of the compiled programs; other numbers are filled up to the next one
LARGE = 256  # rows a block of images, series and other rows that are not one line of numbers


def block_rows(x: Any) -> int:
    """The most rows that go through the net at once."""
    return SIZES[-1] if x.ndim == 2 else LARGE


def padded_size(n: int) -> int:
    """The size of the program that n rows go through."""
    return next((size for size in SIZES if n <= size), SIZES[-1])


def blocks(task: Task, params: Any, state: Any, x: Any) -> Iterator[jax.Array]:
    """The net's outputs for encoded rows, block by block; the next block is queued while one computes.

    x: [n, ...] -> [rows, outputs] for each block
    """
    yield from _blocks(engine.outputs, task.structure_only(), params, state, x)


def predicted_blocks(task: Task, params: Any, state: Any, x: Any) -> Iterator[tuple[np.ndarray, ...]]:
    """Probabilities or numbers for encoded rows, block by block: a tuple with one array a target."""
    ahead: list[Any] = []
    for found in _blocks(_predictions, task.structure_only(), params, state, x):
        ahead.append(found)
        if len(ahead) > 2:
            yield _own_units(task, ahead.pop(0))
    for found in ahead:
        yield _own_units(task, found)


def _own_units(task: Task, found: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
    """Probabilities as they are, numbers in the target's own units.   [n] or [n, width] -> float64, the same"""
    return tuple(
        np.asarray(a, np.float64) * np.asarray(aim.scale) + np.asarray(aim.mean)
        if aim.kind == "number"
        else np.asarray(a)
        for aim, a in zip(task.aims, found, strict=True)
    )


def _blocks(function: Callable, task: Task, params: Any, state: Any, x: Any) -> Iterator[Any]:
    most = block_rows(x)
    for begin in range(0, len(x), most):
        rows = np.asarray(x[begin : begin + most])
        n, size = len(rows), padded_size(len(rows))
        if n < size:
            rows = np.concatenate([rows, np.zeros((size - n, *rows.shape[1:]), rows.dtype)])
        args = (task, params, state, rows, np.int32(n))
        found = program(function, *args)(*args)
        yield jax.tree.map(lambda a: np.asarray(a)[:n], found) if n < size else found  # noqa: B023


def _predictions(task: Task, params: Any, state: Any, x: jax.Array, count: Any) -> tuple[jax.Array, ...]:
    return engine.predictions(task, engine.outputs(task, params, state, x, count))


def predictor(task: Task, params: Any, state: Any) -> Callable[[np.ndarray], Any]:
    """A function from encoded rows to probabilities or numbers, for calls that must be quick.

    x: [n, ...] -> [n, classes], [n], or [n, width] for a vector; with several targets a tuple of them
    """
    use_disk_cache()
    one_target = len(task.aims) == 1
    classes = one_target and task.aims[0].kind != "number"

    def whole(params: Any, state: Any, x: jax.Array, count: Any) -> Any:
        found = _predictions(task, params, state, x, count)
        return found[0] if one_target else found

    compiled = jax.jit(whole)
    params, state = jax.tree.map(jnp.asarray, (params, state))

    def predict(x: np.ndarray) -> Any:
        n = x.shape[0]
        size = padded_size(n)
        if n > size or (x.ndim > 2 and n > LARGE):
            most = block_rows(x)
            parts = [predict(x[i : i + most]) for i in range(0, n, most)]
            return jax.tree.map(lambda *a: np.concatenate(a), *parts)
        if n < size:
            x = np.concatenate([x, np.zeros((size - n, *x.shape[1:]), x.dtype)])
        found = compiled(params, state, x, np.int32(n))
        if classes and n == size:
            return np.asarray(found)
        whole = _own_units(task, (found,) if one_target else found)
        return whole[0][:n] if one_target else tuple(a[:n] for a in whole)

    return predict
