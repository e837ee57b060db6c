"""The columns of a regression: named, numeric, and with the way back to their own units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from derin.errors import DataError

__all__ = ["Design", "design_of"]


@dataclass(frozen=True)
class Design:
    """Encoded rows as columns of numbers.   own units = value * scale + shift, for each of `names`

    Numbers are encoded as (value - mean) / standard deviation. Of two values the second is 1, the first 0 in own
    units; a category has a column for each level, 0 or 1. Numbers that were not scaled in a straight line
    (`scaling="robust"` or "quantile") keep their scaled units.
    """

    names: tuple[str, ...]
    scale: np.ndarray  # [columns]
    shift: np.ndarray  # [columns]
    codes: tuple[int, ...] = ()  # levels of the categories whose codes stand at the end of x
    standardize: bool = True

    def columns(self, x: np.ndarray) -> np.ndarray:
        """x as a part or a batch has it -> float64 [n, columns], in own units without `standardize`"""
        x = np.asarray(x).reshape(len(x), -1)
        if x.dtype == np.uint8:  # of images, in own units as yet
            return (x - self.shift) / self.scale if self.standardize else x.astype(np.float64)
        plain = x.shape[1] - len(self.codes)
        ones = [np.eye(n)[x[:, plain + i].astype(int)] for i, n in enumerate(self.codes)]
        found = np.concatenate([x[:, :plain].astype(np.float64), *ones], axis=1)
        return found if self.standardize else found * self.scale + self.shift

    def own(self, weight: np.ndarray) -> np.ndarray:
        """Weights of these columns -> weights of columns in their own units."""
        return weight / self.scale if self.standardize else weight


def design_of(inputs: Any, standardize: bool) -> Design:
    """The columns that a data set's inputs become. Raises DataError for texts."""
    from derin.data.arrays import ArrayInputs
    from derin.data.columns import OTHER, TableInputs
    from derin.data.images import ImageInputs

    if isinstance(inputs, ImageInputs):
        shape = (*inputs.size, inputs.channels)
        names = tuple(f"pixel {','.join(map(str, at))}" for at in np.ndindex(shape))
        scale, shift = (255 * np.asarray(a, np.float64) for a in (inputs.std, inputs.mean))
        scale, shift = (np.broadcast_to(a, shape).ravel() for a in (scale, shift))
        return Design(names, scale, shift, (), standardize)
    if isinstance(inputs, ArrayInputs):
        shape = inputs.shape
        last = inputs.names or tuple(f"x{i}" for i in range(shape[-1]))
        names = tuple(last[at[-1]] + "".join(f" at {i}" for i in at[:-1]) for at in np.ndindex(shape))
        scale, shift = (np.broadcast_to(np.asarray(a, np.float64), shape).ravel() for a in (inputs.scale, inputs.mean))
        gaps = tuple(f"{last[i]} is missing" for i in inputs.missing)
        return Design(
            names + gaps, np.append(scale, np.ones(len(gaps))), np.append(shift, np.zeros(len(gaps))), (), standardize
        )
    if not isinstance(inputs, TableInputs):
        raise DataError(
            f"a regression takes numbers: the columns of a table, arrays, images; not {type(inputs).__name__}."
        )
    units = [unit for column in inputs.columns for unit in _units(column)]
    names = inputs.features[: inputs.numeric]
    for c in inputs.embedded:
        levels = (OTHER, *c.levels, "(missing)")[: c.codes]
        names += tuple(f"{c.name}={level}" for level in levels)
        units += [(1.0, 0.0)] * c.codes
    scale, shift = np.array(units, np.float64).reshape(-1, 2).T
    return Design(names, scale, shift, tuple(c.codes for c in inputs.embedded), standardize)


def _units(column: Any) -> list[tuple[float, float]]:
    """(scale, shift) of each number that a column becomes."""
    from derin.data.columns import BooleanColumn, DateColumn, NumericColumn

    plain = [(1.0, 0.0)] * column.width
    if isinstance(column, NumericColumn) and column.scaling == "standard":
        plain[0] = float(column.scale), float(column.center)
    elif isinstance(column, BooleanColumn):
        plain[0] = 0.5, 0.5  # -1 and 1
    elif isinstance(column, DateColumn) and "year" in column.parts:
        at = sum(2 for part in column.parts[: column.parts.index("year")])
        plain[at] = float(column.scale), float(column.center)
    return plain
