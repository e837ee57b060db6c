"""From raw rows to a Dataset: targets understood, rows cut into parts, inputs fitted and encoded.

What arrays and folders of images have in common. The inputs are read in blocks of a few MiB, so a source may
be larger than memory; what is encoded goes to memory or, over the budget, to files.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from derin.data import stream
from derin.data.dataset import Batch, Dataset, Inputs, Part, Schema, Y, kept_options
from derin.data.readers import PARTS, Read, by_columns
from derin.data.splits import Split, group_codes, split_rows
from derin.data.targets import (
    ClassTarget,
    Target,
    VectorTarget,
    fit_target,
    infer_task,
    is_vector,
    present,
    said_of_many,
)
from derin.data.warning import DataWarning
from derin.errors import DataError

DEFAULTS: dict[str, Any] = {
    "target": None,
    "valid": 0.15,
    "test": 0.15,
    "stratify": None,
    "group": None,
    "time": None,
    "indices": None,
    "seed": 0,
    "task": None,
    "memory_budget": None,
    "cache": None,
}


def assemble(
    source: Any,
    read: Read,
    fit: Callable[[np.ndarray], Inputs],
    encode: Callable[[Inputs, np.ndarray, np.ndarray], np.ndarray],
    finish: Callable[[Inputs, np.ndarray], Inputs] | None,
    options: dict[str, Any],
    task: str | None = None,
) -> Dataset:
    """The Dataset of what a reader found.

    fit: sorted training rows -> the inputs' spec. encode: (spec, raw block, row numbers) -> x. finish: a spec
    with numbers that are taken from the encoded training part. task: of the target, over that of the options.
    Raises DataError.
    """
    n = read.x.shape[0]
    if not read.y:
        raise DataError(
            "there is no target to learn. Give (X, y), target=..., or a file that holds inputs and targets."
        )
    task = task or options["task"]
    read = read._replace(y=by_columns(read.y, lambda _, array: is_vector(array, task)))
    kept, said = _present(read, n)
    split = _split(read, kept, task, options)
    targets, ys = _targets(read, kept, split, task)
    _check_classes(targets, ys, split)

    said += said_of_many(targets)
    inputs = fit(split.train)
    probe = encode(inputs, np.asarray(read.x[:1]), np.arange(1))
    rows = sum(len(part) for part in split)
    nbytes = rows * math.prod(probe.shape[1:]) * probe.dtype.itemsize
    space = stream.Space(nbytes, options["memory_budget"], options["cache"])
    xs = _place(read.x, split, lambda block, rows: encode(inputs, block, rows), probe, space)
    if finish is not None:
        inputs = finish(inputs, xs[0])
    several = len(ys) > 1
    cut = np.concatenate([split.train, split.valid])
    parts = [
        Part(x, tuple(y[part] for y in ys) if several else ys[0][part], part) for x, part in zip(xs, split, strict=True)
    ]
    if space.on_disk:
        said.append(f"{stream.size_text(nbytes)} of encoded data are over the memory budget and stream from disk")
    return Dataset(
        Schema(inputs, targets),
        *parts,
        source=_source(source, options),
        options=kept_options(_absolute(options), DEFAULTS),
        notes=said,
        groups=None if (column := _column(read, options["group"], "group", cut)) is None else group_codes(column),
        times=_column(read, options["time"], "time", cut),
    )


def _absolute(options: dict[str, Any]) -> dict[str, Any]:
    """With paths that hold wherever the work goes on."""
    found = dict(options)
    for name in ("target", "valid", "test", "cache"):
        given = options[name]
        if isinstance(given, (str, Path)) and Path(given).exists():
            found[name] = str(Path(given).resolve())
    return found


def _source(source: Any, options: dict[str, Any]) -> str | None:
    """The text that loads the same again; None for arrays in memory."""
    for given in (options["valid"], options["test"]):
        if not isinstance(given, (int, float, str, Path)):
            return None
    if not isinstance(source, (str, Path)):
        return None
    return str(Path(source).resolve()) if Path(source).exists() else str(source)


def _present(read: Read, n: int) -> tuple[np.ndarray, list[str]]:
    """The rows in which no target is missing, and notes; a warning counts the others."""
    here = np.ones(n, bool)
    for values in read.y.values():
        here &= present(values)
    if not here.any():
        raise DataError(f"target {', '.join(map(repr, read.y))} is missing in every row.")
    said = list(read.notes)
    if not here.all():
        _say_dropped(int((~here).sum()), n, list(read.y), stacklevel=6)
        said.append(f"{int((~here).sum()):,} rows without a target left out")
    return np.flatnonzero(here), said


def _say_dropped(gone: int, n: int, names: Sequence[str], stacklevel: int) -> None:
    warnings.warn(
        f"{gone:,} of {n:,} rows have no {' or '.join(map(repr, names))} and are left out.",
        DataWarning,
        stacklevel=stacklevel,
    )


def _main(read: Read, kept: np.ndarray) -> np.ndarray:
    """The rows with a target of the main source: all, unless valid or test have sources of their own."""
    if read.parts is None:
        return kept
    own = read.parts["train"]
    return kept[(kept >= own.start) & (kept < own.stop)]


def _split(read: Read, kept: np.ndarray, task: str | None, options: dict[str, Any]) -> Split:
    """Row numbers of the parts: the source's own, or cut from its rows."""
    n = read.x.shape[0]
    if options["indices"] is not None:
        if read.parts is not None:
            raise DataError("give indices, or valid and test of their own, not both.")
        split = split_rows(n, indices=options["indices"])
        return Split(*(rows[np.isin(rows, kept)] for rows in split))
    own = read.parts or {}
    main = _main(read, kept)
    if not len(main):
        raise DataError("no row of the training part has a target.")
    first = next(iter(read.y.values()))[main]
    stratify = options["stratify"]
    if stratify is None:
        free = options["group"] is None and options["time"] is None
        stratify = free and (task or infer_task(first)) == "classes"
    cut = split_rows(
        len(main),
        valid=0.0 if "valid" in own else options["valid"],
        test=0.0 if "test" in own else options["test"],
        labels=_strata(first, task) if stratify else None,
        groups=_column(read, options["group"], "group", main),
        times=_column(read, options["time"], "time", main),
        seed=options["seed"],
    )
    found = {p: main[rows] for p, rows in zip(PARTS, cut, strict=True)}
    for p in own:
        if p != "train":
            found[p] = kept[(kept >= own[p].start) & (kept < own[p].stop)]
            if not len(found[p]):
                raise DataError(f"the {p} part has no row with a target.")
    return Split(*(found[p].astype(np.int64) for p in PARTS))


def _strata(values: np.ndarray, task: str | None) -> np.ndarray:
    """Classes as they are; ten bins of a number.   [n] -> [n]"""
    if values.ndim == 2:
        raise DataError(f"stratify needs one value a row, and the target has {values.shape[1]}.")
    if (task or infer_task(values)) == "number":
        numbers = np.asarray(values, np.float64)
        return np.searchsorted(np.quantile(numbers, np.linspace(0.1, 0.9, 9)), numbers)
    if values.dtype.kind == "O":
        values = np.array([str(v) for v in values.tolist()])
    return np.unique(values, return_inverse=True)[1]


def _column(read: Read, given: Any, option: str, rows: np.ndarray) -> np.ndarray | None:
    """The groups or times of rows: an array with a value for each row, or a feature by name or place."""
    n = read.x.shape[0]
    if given is None:
        return None
    if isinstance(given, str):
        if given not in read.names:
            have = ", ".join(read.names) or "no names"
            raise DataError(f"{option}={given!r} is no feature of this source; it has {have}.")
        given = read.names.index(given)
    if isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        if len(read.x.shape) != 2 or not -read.x.shape[1] <= given < read.x.shape[1]:
            raise DataError(f"{option}={given} is no column of X, whose shape is {tuple(read.x.shape)}.")
        given = np.concatenate([block[:, given] for _, block in stream.blocks(read.x)])
    column = np.asarray(given)
    if column.shape != (n,):
        raise DataError(f"{option} needs one value for each of the {n:,} rows; its shape is {column.shape}.")
    return column[rows]


def _targets(
    read: Read, kept: np.ndarray, split: Split, task: str | None
) -> tuple[tuple[Target, ...], list[np.ndarray]]:
    """The targets' specs, and y for every row of the source (of rows without a target it means nothing)."""
    specs, ys = [], []
    main = _main(read, kept)
    for name, column in read.y.items():
        classes = read.classes if len(read.y) == 1 and task != "number" and column.ndim == 1 else ()
        column = named_classes(column, classes)
        spec: Target = fit_target(name, column[main], task, train=np.isin(main, split.train))
        if isinstance(spec, ClassTarget) and set(spec.labels) <= set(classes):
            spec = ClassTarget(name, classes)  # in the order of the source
        specs.append(spec)
        ys.append(_spread(spec.encode(column[kept]), kept, len(column)))
    return tuple(specs), ys


def _spread(coded: np.ndarray, kept: np.ndarray, n: int) -> np.ndarray:
    """The encoded targets of the rows that have one, in their places among all n."""
    if len(coded) == n:
        return coded
    y = np.zeros((n, *coded.shape[1:]), coded.dtype)
    y[kept] = coded
    return y


def named_classes(column: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Class numbers as the names that the source has for them, where it has."""
    if not classes or column.dtype.kind not in "iu" or not len(column):
        return column
    if column.min() < 0 or column.max() >= len(classes):
        return column
    return np.array(classes, object)[column]


def _check_classes(targets: tuple[Target, ...], ys: list[np.ndarray], split: Split) -> None:
    for target, y in zip(targets, ys, strict=True):
        if isinstance(target, ClassTarget):
            counts = np.bincount(y[split.train], minlength=len(target.labels))
            if (counts > 0).sum() < 2:
                only = target.labels[int(counts.argmax())]
                raise DataError(
                    f"the training part has rows of one class of {target.name!r} only, {only!r}. Split otherwise."
                )
            absent = ", ".join(repr(target.labels[i]) for i in np.flatnonzero(counts == 0)[:8])
            if absent:
                warnings.warn(
                    f"no training row has {target.name!r} = {absent}, so it cannot be learned.",
                    DataWarning,
                    stacklevel=5,
                )


def _place(
    x: Any,
    split: Split,
    encode: Callable[[np.ndarray, np.ndarray], np.ndarray],
    probe: np.ndarray,
    space: stream.Space,
) -> list[np.ndarray]:
    """Read the source once, encode each block, and put its rows where they belong."""
    shape = probe.shape[1:]
    arrays = [space.array(f"{p}.x", (len(rows), *shape), probe.dtype) for p, rows in zip(PARTS, split, strict=True)]
    edges = np.cumsum([0] + [len(rows) for rows in split])
    wanted = np.concatenate(split)
    try:
        for places, block in stream.blocks(x, wanted):
            encoded = encode(block, wanted[places])
            for array, start, stop in zip(arrays, edges, edges[1:], strict=False):
                mine = (places >= start) & (places < stop)
                if mine.all():
                    array.put_at(places - start, encoded)
                elif mine.any():
                    array.put_at(places[mine] - start, encoded[mine])
        return [array.done() for array in arrays]
    except BaseException:
        for array in arrays:
            array.discard()
        raise


def encoded_batches(
    read: Read,
    encode: Callable[[np.ndarray, np.ndarray], np.ndarray],
    rows: int,
    targets: tuple[Target, ...],
) -> Iterator[Batch]:
    """A source as encoded batches in its order; with targets, rows that have none are left out."""
    ys: list[np.ndarray] = []
    n = read.x.shape[0]
    kept = np.ones(n, bool)
    if targets:
        columns = _matching(read, targets)
        for column in columns:
            kept &= present(column)
        if not kept.any():
            raise DataError(f"target {', '.join(repr(t.name) for t in targets)} is missing in every row.")
        if not kept.all():
            _say_dropped(int((~kept).sum()), n, [t.name for t in targets], stacklevel=4)
        for target, column in zip(targets, columns, strict=True):
            ys.append(_spread(target.encode(column[kept]), kept, n))
    per_row = max(1, math.prod(read.x.shape[1:]) * max(4, read.x.dtype.itemsize))
    step = max(1, min(rows, 2**26 // per_row))
    for start in range(0, n, step):
        block = np.asarray(read.x[start : start + step])
        here = kept[start : start + step]
        numbers = np.arange(start, start + len(block), dtype=np.int64)
        if not here.all():
            block, numbers = block[here], numbers[here]
        if len(block):
            y = tuple(a[numbers] for a in ys)
            labels: Y | None = None if not targets else y if len(y) > 1 else y[0]
            yield Batch(encode(block, numbers), labels, numbers)


def _matching(read: Read, targets: tuple[Target, ...]) -> list[np.ndarray]:
    """The columns of the targets: by name, or by place where names say nothing."""
    vectors = [t.name for t in targets if isinstance(t, VectorTarget)]
    y = by_columns(read.y, lambda name, _: name in vectors or len(targets) == len(vectors) == 1)
    if len(targets) == len(vectors) == 1 and len(y) == targets[0].width:  # its columns have names here
        y = {targets[0].name: np.stack(list(y.values()), 1)}
    columns = list(y.values())
    if all(t.name in y for t in targets):
        columns = [y[t.name] for t in targets]
    elif len(columns) != len(targets):
        have = ", ".join(map(repr, y)) or "none"
        raise DataError(
            f"the model predicts {', '.join(repr(t.name) for t in targets)}; the source has targets: {have}."
        )
    return [
        named_classes(c, read.classes) if isinstance(t, ClassTarget) else c
        for c, t in zip(columns, targets, strict=True)
    ]
