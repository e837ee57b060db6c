"""Arrays: (X, y), .npy and .npz, MNIST-style idx files, HDF5, and the sets that come with scikit-learn.

Numbers are standardised by feature; uint8 arrays of images stay uint8 (see images.py); token ids stay int32.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from derin.data import readers, stream
from derin.data.assemble import assemble, encoded_batches
from derin.data.dataset import Batch, Dataset, Inputs, Line
from derin.data.images import as_images, assemble_images
from derin.data.readers import BUNDLED, Read, Seen
from derin.data.targets import Target
from derin.data.warning import DataWarning
from derin.errors import DataError
from derin.spec import Scalar

__all__ = ["BUNDLED", "ArrayInputs", "TokenInputs", "load_arrays"]

KINDS = ("numbers", "images", "tokens")
_CACHED = 2**16  # numbers worked on at once: half a MiB of float64
_SHOWN = 60  # lines of the table of columns; more features are one line


class ArrayInputs(Inputs):
    """Numbers, standardised by the last axis.   [n, *shape] -> float32 [n, *shape]

    A missing value (nan) becomes the feature's median. Where an example is one row of features, those that
    had missing values in training also get a column of 0 and 1 at the end that says so. A feature that does
    not vary has scale 1.

    >>> inputs = ArrayInputs((2,), np.array([1.0, 2.0]), np.array([2.0, 1.0]), np.array([1.0, 2.0]))
    >>> inputs.encode(np.array([[3.0, 2.0]])).tolist()
    [[1.0, 0.0]]
    """

    shape: tuple[int, ...]  # of one example
    mean: Scalar | np.ndarray  # [features]
    scale: Scalar | np.ndarray  # [features]
    fill: Scalar | np.ndarray  # [features], the medians
    missing: tuple[int, ...] = ()  # features with a column that says "was missing"
    missing_share: tuple[float, ...] = ()  # of those features, in training
    names: tuple[str, ...] = ()  # of the features, where they have names
    array: str = ""  # the array's name in its file, where a person gave it

    def check(self) -> None:
        if any(len(np.atleast_1d(v)) != self.shape[-1] for v in (self.mean, self.scale, self.fill)):
            raise DataError(f"ArrayInputs of shape {self.shape} needs {self.shape[-1]} means, scales and fills.")

    @property
    def standardised(self) -> np.ndarray | None:
        return np.arange(self.shape[0] + len(self.missing)) < self.shape[0] if len(self.shape) == 1 else None

    def encode(self, raw: Any) -> np.ndarray:
        """[n, *shape] -> float32 [n, *shape] (wider by the columns that say what was missing)"""
        x = np.asarray(self._source(readers.inputs(raw))[:])
        return self._encoded(x, np.arange(len(x)))

    def _encoded(self, raw: np.ndarray, rows: np.ndarray) -> np.ndarray:
        x, gone = self._scaled(raw), None
        if not np.isfinite(x).all():
            values = np.asarray(raw, np.float64)
            _refuse_infinite(values, self.names, rows)
            gone = np.isnan(values)
            values = np.where(gone, np.asarray(self.fill), values)
            x = self._scaled(values)
        if gone is not None and not np.isfinite(x).all():
            place = np.argwhere(~np.isfinite(x))[0]
            raise DataError(
                f"{_feature(self.names, int(place[-1]))} is {values[tuple(place)]:g} in row "
                f"{int(rows[place[0]])}, too large for 32-bit numbers after scaling."
            )
        if not self.missing:
            return x
        flags = np.zeros((len(x), len(self.missing)), np.float32) if gone is None else gone[:, list(self.missing)]
        return np.concatenate([x, flags.astype(np.float32)], axis=1)

    def _scaled(self, raw: np.ndarray) -> np.ndarray:
        """Computed in float64, in pieces that stay in the processor's cache.   [n, ...] -> float32 [n, ...]"""
        mean, scale = np.asarray(self.mean, np.float64), np.asarray(self.scale, np.float64)
        x = np.empty(raw.shape, np.float32)
        step = max(1, _CACHED // max(1, math.prod(raw.shape[1:])))
        with np.errstate(over="ignore"):
            for i in range(0, len(raw), step):
                x[i : i + step] = np.subtract(raw[i : i + step], mean, dtype=np.float64) / scale
        return x

    def _source(self, x: Any) -> Any:
        shape = tuple(x.shape[1:])
        if shape == self.shape:
            return x
        if (*shape, 1) == self.shape:
            return Seen(x, self.shape, x.dtype, lambda block: block[..., None])
        raise DataError(
            f"an example has shape {shape} here; the model was trained on {self.shape}"
            + (f", the features {_listed(self.names)}." if self.names else ".")
        )

    def batches(self, source: Any, rows: int, targets: tuple[Target, ...]) -> Iterator[Batch]:
        """Arrays, a file of arrays, or a table with these features, in pieces."""
        if _is_table(source):
            yield from self._of_table(source, rows, targets)
            return
        with readers.opened_again(source, self.array, tuple(t.name for t in targets)) as read:
            x = self._source(read.x)
            yield from encoded_batches(read._replace(x=x), self._encoded, rows, targets)

    def _of_table(self, source: Any, rows: int, targets: tuple[Target, ...]) -> Iterator[Batch]:
        """Features by name where all are there, else all columns that are no target, in their order."""
        from derin.data.columns import TableFormat, numbers
        from derin.data.frames import batches, target_values

        if len(self.shape) != 1:
            raise DataError(f"the model was trained on {self.shape} numbers an example; a table has one row.")
        wanted = tuple(t.name for t in targets)
        first = 0
        names = self.names or tuple(f"x{i}" for i in range(self.shape[0]))
        form = TableFormat((*names, *wanted), header=_has_header(source), targets=wanted)
        for frame in batches(source, form, rows):
            columns = [n for n in self.names if n in frame.columns]
            if not columns or len(columns) < len(self.names):
                columns = [c for c in frame.columns if c not in wanted]
            x = np.stack([numbers(frame[c], first) for c in columns], 1)
            y = {n: target_values(frame[n]) for n in wanted if n in frame.columns}
            for batch in encoded_batches(Read(self._source(x), y), self._encoded, rows, targets):
                yield batch._replace(rows=batch.rows + first)
            first += len(frame)

    def lines(self) -> list[Line]:
        share = dict(zip(self.missing, self.missing_share, strict=True))
        features = self.shape[-1]
        if len(self.shape) > 1 or (features > _SHOWN):
            what = f"numbers {list(self.shape)}"
            gone = f"{len(share)} features" if share else ""
            return [
                Line(
                    "X",
                    what,
                    gone,
                    "",
                    "standardised by the last axis" if len(self.shape) > 1 else "standardised",
                )
            ]
        return [
            Line(
                self.names[i] if self.names else f"x{i}",
                "number",
                f"{100 * share[i]:.1f} %" if i in share else "",
                "",
                "standardised" + (", missing -> median + indicator" if i in share else ""),
            )
            for i in range(features)
        ]


class TokenInputs(Inputs):
    """Whole numbers that name something, kept for an Embedding.   int [n, *shape] -> int32 [n, *shape]

    >>> TokenInputs((3,), 10).encode([[1, 2, 9]]).dtype
    dtype('int32')
    """

    shape: tuple[int, ...]
    size: int  # ids are 0 ... size - 1
    array: str = ""

    def encode(self, raw: Any) -> np.ndarray:
        x = np.asarray(self._source(readers.inputs(raw))[:])
        return self._encoded(x, np.arange(len(x)))

    def _source(self, x: Any) -> Any:
        if tuple(x.shape[1:]) != self.shape:
            raise DataError(f"an example has shape {tuple(x.shape[1:])} here; the model was trained on {self.shape}.")
        return x

    def _encoded(self, raw: np.ndarray, rows: np.ndarray) -> np.ndarray:
        _refuse_fractions(raw)
        low, high = raw.min(), raw.max()
        if low < 0 or high >= self.size:
            raise DataError(
                f"token ids go from 0 to {self.size - 1}, the largest of training; {low if low < 0 else high} came."
            )
        return raw.astype(np.int32)

    def batches(self, source: Any, rows: int, targets: tuple[Target, ...]) -> Iterator[Batch]:
        with readers.opened_again(source, self.array, tuple(t.name for t in targets)) as read:
            yield from encoded_batches(read._replace(x=self._source(read.x)), self._encoded, rows, targets)

    def lines(self) -> list[Line]:
        return [Line("X", f"token ids {list(self.shape)}", "", f"{self.size:,}", "ids for an Embedding")]


# -- loading


def load_arrays(
    source: Any,
    target: Any = None,
    *,
    valid: Any = 0.15,
    test: Any = 0.15,
    stratify: bool | None = None,
    group: Any = None,
    time: Any = None,
    indices: Sequence[Any] | None = None,
    seed: int = 0,
    task: str | None = None,
    memory_budget: int | None = None,
    cache: str | Path | None = None,
    inputs: str | None = None,
    kind: str | None = None,
) -> Dataset:
    """(X, y), a file of arrays, or a bundled set, as a Dataset.

    target: the name of the array (or arrays) in an .npz or HDF5 file, the file of y beside an .npy or idx
        file, or names for the targets of (X, y). inputs: the name of X in its file. Known names are found.
    kind: "numbers", standardised; "images", uint8 [n, h, w] or [n, h, w, c], or rows of square grey images;
        "tokens", whole numbers kept as they are. None: uint8 of three or four axes are images, the rest
        numbers.
    valid, test: shares, or sources of those parts. group, time: a value for each row, or a feature.
    memory_budget: bytes that the encoded arrays may take in memory; what is larger is written to a temporary
        folder inside `cache` and streams from there. None: a quarter of the machine's memory.
    Raises DataError. Missing values: see ArrayInputs; infinite ones are refused.

    >>> data = load_arrays(([[1.0], [2.0], [3.0], [4.0]], [0.5, 1.0, 1.5, 2.0]), valid=0, test=0)
    >>> data.train.x.shape, data.schema.targets[0].kind
    ((4, 1), 'number')
    """
    if kind is not None and kind not in KINDS:
        raise DataError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}.")
    options = dict(
        target=target, valid=valid, test=test, stratify=stratify, group=group, time=time, indices=indices,
        seed=seed, task=task, memory_budget=memory_budget, cache=cache, inputs=inputs, kind=kind,
    )  # fmt: skip
    options |= {name: value for name in ("inputs", "kind") if (value := options.pop(name)) is not None}
    others = {name: given for name, given in (("valid", valid), ("test", test)) if not _is_share(given)}
    with readers.opened(source, target, inputs=inputs, **others) as read:
        images = as_images(read.x, kind)
        if images is not None:
            read = read._replace(x=images)
            if images.dtype == np.uint8:
                return assemble_images(source, read, options)
        x = read.x
        if kind == "tokens":

            def fit(rows: np.ndarray) -> Inputs:
                return fit_tokens(x, rows)
        else:

            def fit(rows: np.ndarray) -> Inputs:
                return fit_numbers(x, rows, read.names, inputs or "")

        return assemble(source, read, fit, _block_encoded, None, options)


def _block_encoded(spec: Inputs, block: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if not isinstance(spec, (ArrayInputs, TokenInputs)):
        raise TypeError(f"{type(spec).__name__} encodes no arrays")
    return spec._encoded(block, rows)


def _is_share(given: Any) -> bool:
    return isinstance(given, (int, float, np.number))


def fit_tokens(x: Any, rows: np.ndarray) -> TokenInputs:
    """Ids from 0 to the largest of all rows.   x: whole numbers [n, ...]"""
    high = 0
    for _, block in stream.blocks(x):
        _refuse_fractions(block)
        if block.min() < 0:
            raise DataError(f"token ids start at 0; {block.min()} came.")
        high = max(high, int(block.max()))
    return TokenInputs(tuple(x.shape[1:]), high + 1)


def _refuse_fractions(block: np.ndarray) -> None:
    if block.dtype.kind not in "iu" and not (block == np.round(block)).all():
        raise DataError("token ids are whole numbers; fractions or missing values came.")


def fit_numbers(x: Any, rows: np.ndarray, names: Sequence[str] = (), array: str = "") -> ArrayInputs:
    """Mean, deviation and median of each feature over the training rows.   x: [n, ..., features], rows: [m]

    Sums run over fixed blocks in float64, in one pass in the order of the source. Raises DataError for
    infinities, with their feature and row.

    >>> fit_numbers(np.array([[0.0], [2.0], [9.0]]), np.array([0, 1])).mean.tolist()
    [1.0]
    """
    shape = tuple(int(s) for s in x.shape[1:])
    d = shape[-1]
    mean, squares, count = np.zeros(d), np.zeros(d), np.zeros(d)
    with np.errstate(over="ignore", invalid="ignore"):
        for places, block in stream.blocks(x, rows):
            m, here_mean, here_squares = _moments(block, names, rows[places])
            n = np.maximum(count + m, 1)
            step = here_mean - mean
            squares += here_squares + step**2 * count * m / n  # Chan, Golub, LeVeque 1979
            mean += step * m / n
            count += m
        scale = np.sqrt(squares / np.maximum(count, 1))
    huge = ~np.isfinite(mean) | ~np.isfinite(scale)
    if huge.any():
        raise DataError(
            f"{_feature(names, int(np.argmax(huge)))} has values too large to take their mean square. Divide it first."
        )
    scale[scale <= 1e-13 * np.abs(mean)] = 1.0  # constant, but for rounding
    scale[scale == 0] = 1.0
    gaps = np.flatnonzero(count < _size(x, rows))
    fill = mean.copy()
    if len(gaps):
        fill[gaps] = _medians(x, rows, gaps)
        _say_missing(names, gaps, count, _size(x, rows))
    indicated = tuple(int(i) for i in gaps) if len(shape) == 1 else ()
    share = tuple(float(1 - count[i] / _size(x, rows)) for i in indicated)
    return ArrayInputs(shape, mean, scale, fill, indicated, share, tuple(names), array)


def _size(x: Any, rows: np.ndarray) -> int:
    """Values of each feature in those rows."""
    return len(rows) * math.prod(x.shape[1:-1])


def _moments(block: np.ndarray, names: Sequence[str], rows: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray]:
    """How many values of each feature a block has, their mean, and the sum of squares around it."""
    values = _by_feature(block)
    total = values.sum(0)
    if np.isfinite(total).all():
        mean = total / len(values)
        return len(values), mean, ((values - mean) ** 2).sum(0)
    _refuse_infinite(block, names, rows)
    here = ~np.isnan(values)
    count = here.sum(0)
    mean = np.where(here, values, 0).sum(0) / np.maximum(count, 1)
    return count, mean, (np.where(here, values - mean, 0) ** 2).sum(0)


def _by_feature(block: np.ndarray) -> np.ndarray:
    return np.asarray(block, np.float64).reshape(-1, block.shape[-1])


def _medians(x: Any, rows: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Medians of some features, a few at a time so that 128 MiB are enough for 16 million rows."""
    size = _size(x, rows)
    at_once = max(1, 2**27 // max(1, 8 * size))
    medians = np.zeros(len(features))
    for i in range(0, len(features), at_once):
        some = features[i : i + at_once]
        values = np.concatenate([_by_feature(block)[:, some] for _, block in stream.blocks(x, rows)])
        for j in range(len(some)):
            column = values[:, j]
            column = column[~np.isnan(column)]
            medians[i + j] = np.median(column) if len(column) else 0.0
    return medians


def _say_missing(names: Sequence[str], gaps: np.ndarray, count: np.ndarray, n: int) -> None:
    shown = ", ".join(f"{_feature(names, int(i))} {100 * (1 - count[i] / n):.1f} %" for i in gaps[:6])
    more = f" and {len(gaps) - 6} more" if len(gaps) > 6 else ""
    warnings.warn(
        f"X has missing values (nan): {shown}{more}. They become the median of the training rows.",
        DataWarning,
        stacklevel=6,
    )


def _refuse_infinite(block: np.ndarray, names: Sequence[str], rows: np.ndarray) -> None:
    infinite = np.isinf(block)
    if infinite.any():
        place = np.argwhere(infinite)[0]
        raise DataError(
            f"{_feature(names, int(place[-1]))} is infinite in row {int(rows[place[0]])} "
            f"({int(infinite.sum())} such values near it). Replace them; if they are missing, by nan."
        )


def _feature(names: Sequence[str], i: int) -> str:
    return f"feature {names[i]!r}" if names else f"feature {i} of X"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


# -- prediction


def _is_table(source: Any) -> bool:
    from derin.data.frames import is_table

    if isinstance(source, (str, Path)) and str(source) in BUNDLED:
        return False
    return is_table(source)


def _has_header(source: Any) -> bool:
    """Does a text table begin with names? Yes, unless its first line is numbers only."""
    if not isinstance(source, (str, Path)) or not Path(source).is_file():
        return True
    with Path(source).open("rb") as file:
        line = file.readline(2**16).decode("utf-8", "replace")
    return re.search(r"[A-DF-Za-df-z]", line) is not None  # 1e5 is a number
