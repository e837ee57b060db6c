"""What layers ask of their fields and inputs, and the messages if they do not get it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from derin.errors import ModelError, SpecError
from derin.nn.module import Module

__all__ = ["array_input", "at_least", "float_input", "one_for_each_axis", "share", "some_in_each_row"]


def at_least(layer: Module, least: int, **values: int | tuple[int, ...]) -> None:
    """Raise SpecError for a field, or a part of one, that is smaller."""
    for name, value in values.items():
        if any(v < least for v in (value if isinstance(value, tuple) else (value,))):
            raise SpecError(f"{type(layer).__name__}.{name} must be at least {least}, got {value}.")


def one_for_each_axis(layer: Module, axes: tuple[str, ...], *names: str) -> None:
    """Raise SpecError for a tuple that has not one number for each axis."""
    for name in names:
        value = getattr(layer, name)
        if isinstance(value, tuple) and len(value) != len(axes):
            raise SpecError(
                f"{type(layer).__name__}.{name} must be one number or a tuple of {len(axes)} ({', '.join(axes)}), "
                f"got {value}."
            )


def share(layer: Module, meaning: str, **values: Any) -> None:
    """Raise SpecError for a number that is not in [0, 1); one that is traced passes."""
    for name, value in values.items():
        if isinstance(value, (int, float)) and not 0 <= value < 1:
            raise SpecError(f"{type(layer).__name__}.{name} must be in [0, 1), got {value}. It is {meaning}.")


def array_input(layer: Module, x: Any, wanted: str, ndim: int, exactly: bool = False) -> None:
    """Raise ModelError for what is no array, or has fewer (or, `exactly`, more) axes."""
    kind = type(layer).__name__
    if not hasattr(x, "shape"):
        raise ModelError(f"{kind} needs one array {wanted}, got {_in_words(x)}.")
    shape = jnp.shape(x)
    if len(shape) < ndim or (exactly and len(shape) != ndim):
        lacks = exactly and len(shape) == ndim - 1 and ndim > 2  # a table's row, or a grey image
        hint = f" Unflatten({ndim - 2}, (-1, 1)) in front of it makes one channel." if lacks else ""
        raise ModelError(f"{kind} needs an input {wanted}, got shape {shape}.{hint}")


def some_in_each_row(layer: Module, x: jax.Array) -> None:
    """Raise ModelError for rows without a value: of no length, no height, no channel."""
    if 0 in x.shape[1:]:
        raise ModelError(
            f"{type(layer).__name__} needs at least one value along each axis but the batch's, got shape {x.shape}."
        )


def float_input(layer: Module, x: Any, wanted: str, ndim: int, exactly: bool = False) -> None:
    """Raise ModelError for an array that is not float, or of fewer axes."""
    array_input(layer, x, wanted, ndim, exactly)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ModelError(
            f"{type(layer).__name__} needs a float input {wanted}, got {x.dtype} of shape {jnp.shape(x)}. "
            "Convert it: x.astype(jnp.float32)."
        )


def _in_words(x: Any) -> str:
    """What stands where an array should."""
    if isinstance(x, (tuple, list)) and x and all(hasattr(part, "shape") for part in x):
        shapes = ", ".join(str(part.shape) for part in x)
        return f"{len(x)} of shapes {shapes}. Join() makes one of several"
    return (
        f"{x!r} ({type(x).__name__}). Convert it: jnp.asarray(x)"
        if isinstance(x, (list, tuple, int, float))
        else repr(x)
    )
