"""Tables: CSV, TSV and Parquet files, polars, pandas and Arrow frames, dicts of columns -> Dataset."""

from __future__ import annotations

import inspect
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from derin.data import stream
from derin.data.columns import (
    RUNNING,
    Column,
    TableFormat,
    TableInputs,
    UnusedColumn,
    fit_columns,
    refuse_stray_text,
    table_inputs,
)
from derin.data.dataset import Dataset, Part, Schema, kept_options
from derin.data.frames import batches, frames, is_table, natural, read, read_format, target_values
from derin.data.report import giveaways
from derin.data.splits import Split, group_codes, split_rows
from derin.data.targets import MISSING, ClassTarget, Target, as_numbers, fit_target, infer_task, said_of_many
from derin.data.warning import DataWarning
from derin.errors import DataError
from derin.spec import nearest

if TYPE_CHECKING:
    import polars as pl

__all__ = ["frames", "is_table", "load_table", "resolve"]

IN_MEMORY = 5  # bytes in memory for one of a text file, about
ROWS = 65536  # encoded at a time


def load_table(
    source: Any,
    target: Any = None,
    *,
    valid: Any = 0.15,
    test: Any = 0.15,
    stratify: bool | None = None,
    group: str | int | None = None,
    time: str | int | None = None,
    indices: Sequence[Any] | None = None,
    seed: int = 0,
    task: Any = None,
    memory_budget: int | None = None,
    header: bool | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    missing: Sequence[str] = MISSING,
    categorical: Sequence[str | int] = (),
    numeric: Sequence[str | int] = (),
    drop: Sequence[str | int] = (),
    scaling: str = "standard",
    cache: str | None = None,
) -> Dataset:
    """Load a table; see derin.data.load for the arguments that all sources share.

    header: does the first line hold names? None: found out. Without one, columns are called "0", "1", ...
    separator, encoding: found out, utf-8 assumed. missing: the texts that mean "no value".
    categorical, numeric: columns that are so, whatever they look like. drop: columns not to use.
    scaling: how numbers are scaled: "standard" (mean 0, variance 1), "robust" (median and quartiles, then a
        smooth clip) or "quantile" (to a normal distribution).
    cache: folder for encoded data over the memory budget; None: the system's folder for temporary files.
    Raises DataError."""
    options = {k: v for k, v in locals().items() if k != "source"}
    others = {
        name: given
        for name, given in (("valid", valid), ("test", test))
        if not isinstance(given, (int, float)) or isinstance(given, bool)
    }
    table = _Table(source, others, memory_budget, header, separator, encoding, missing)
    form = table.form
    targets = resolve(form.names, _target_names(target, form), "target")
    form = form.replace(targets=tuple(targets))
    chosen = {w: resolve(form.names, [c], w)[0] for w, c in (("group", group), ("time", time)) if c is not None}
    for what, name in chosen.items():
        if name in targets:
            raise DataError(f"column {name!r} cannot be the target and the {what} as well.")
    tasks = [task] * len(targets) if task is None or isinstance(task, str) else list(task)
    if len(tasks) != len(targets):
        raise DataError(f"{len(targets)} targets need as many tasks, got {task!r}.")

    notes: list[str] = []
    head, _ = table.columns([*targets, *chosen.values()])
    kept = np.logical_and.reduce([head[name].is_not_null().to_numpy() for name in targets])
    named = " or ".join(map(repr, targets))
    if not kept.any():
        raise DataError(f"target {named} is missing in every row.")
    if not kept.all():
        notes.append(f"{int((~kept).sum()):,} of {len(kept):,} rows have no {named} and are left out.")
    rows = np.flatnonzero(kept)
    head = head.filter(kept)
    split = _split(head, rows, table, valid, test, stratify, chosen, indices, seed, targets, tasks)
    fitted: list[Target] = []
    own = rows < table.lengths[0]  # the main source tells which classes there are
    in_train = np.zeros(len(rows), bool)
    in_train[split.train] = True
    for name, its_task in zip(targets, tasks, strict=True):
        fitted.append(fit_target(name, target_values(head[name])[own], its_task, in_train[own]))
    ys = [t.encode(target_values(head[t.name])) for t in fitted]
    _check_classes(fitted, ys, split)

    columns: list[Column] = []
    asked: dict[str, str] = {}
    for what, given in (("categorical", categorical), ("numeric", numeric)):
        for name in resolve(form.names, given, what):
            if name in asked:
                raise DataError(f"column {name!r} cannot be both categorical and numeric.")
            asked[name] = what
    unused = dict.fromkeys(chosen.values(), "decides the split") | dict.fromkeys(
        resolve(form.names, drop, "drop"), "left out on request"
    )
    for name in targets:
        if name in unused:
            raise DataError(f"column {name!r} is the target and cannot be dropped.")
    leaks: list[str] = []
    for _ in range(2):
        columns, leaks = [], []
        for names in table.groups([n for n in form.names if n not in targets]):
            frame, forms = table.columns(names)
            for name in names:
                if name not in asked and name not in unused:
                    refuse_stray_text(frame[name])
            train = frame[rows[split.train]]
            found = fit_columns(train, rows[split.train], forms, asked, unused, chosen.get("time"), scaling)
            leaks += giveaways(train, found, fitted, [y[split.train] for y in ys])
            columns += found
        used = sum(not isinstance(c, UnusedColumn) for c in columns)
        running = [c.name for c in columns if isinstance(c, UnusedColumn) and c.why.startswith(RUNNING)]
        if used or not running:
            break
        asked |= dict.fromkeys(running, "numeric")  # a running number is all there is
    notes += leaks if used > 1 else []  # of one column alone nothing else is expected
    for note in notes:
        _warn(note)
    notes += said_of_many(fitted)
    inputs = table_inputs(columns, form)
    xs, unseen, on_disk = _encoded(table, inputs, rows, split, memory_budget, cache)
    notes += [f"levels of {c!r} in {n:,} rows that no training row has" for c, n in unseen.items()]
    if on_disk:
        notes.append("the encoded data are over the memory budget and stream from disk")
    parts = [
        Part(x, tuple(y[i] for y in ys) if len(ys) > 1 else ys[0][i], rows[i].astype(np.int64))
        for x, i in zip(xs, split, strict=True)
    ]
    cut = head[np.concatenate([split.train, split.valid])]  # what folds are made of
    again = all(isinstance(s, (str, Path)) for s in table.sources)
    return Dataset(
        Schema(inputs, tuple(fitted)),
        *parts,
        source=str(Path(source).resolve()) if again else None,
        options=kept_options(options, _defaults()) if again else {},
        notes=notes,
        groups=group_codes(cut[chosen["group"]].cast(str).to_numpy()) if "group" in chosen else None,
        times=cut[chosen["time"]].to_numpy() if "time" in chosen else None,
    )


class _Table:
    """The main source and those of separate parts, one below the other.

    What is larger than the budget is read again for every few columns, and nothing but these is held. So the
    fit sees what it would see in memory."""

    def __init__(
        self,
        source: Any,
        others: dict[str, Any],
        memory_budget: int | None,
        header: bool | None,
        separator: str | None,
        encoding: str | None,
        missing: Sequence[str],
    ) -> None:
        stream.Space(0, memory_budget)  # refuses what is no number of bytes
        self.sources, self.parts = [source, *others.values()], tuple(others)
        self.lengths: list[int] = []
        self.form: Any = None
        self.how = (header, separator, encoding, tuple(missing))
        self.whole: Any = None
        size = sum(Path(s).stat().st_size for s in self.sources if isinstance(s, (str, Path)) and Path(s).is_file())
        budget = stream.budget_for(IN_MEMORY * size) if memory_budget is None else memory_budget
        self.passes = math.ceil(IN_MEMORY * size / max(budget, 1))
        if self.passes <= 1:
            self.whole = self._read(None)
        else:
            self.form = read_format(source, *self.how)

    def _read(self, names: list[str] | None) -> tuple[pl.DataFrame, dict[str, str]]:
        frames: list[pl.DataFrame] = []
        for source in self.sources:
            frame, form = read(source, *self.how, like=self.form, columns=names)
            self.form = self.form or form
            if frames:
                lacks = [c for c in frames[0].columns if c not in frame.columns]
                if lacks:
                    which = self.parts[len(frames) - 1]
                    raise DataError(f"the source for the {which} part has no column {', '.join(map(repr, lacks))}.")
            frames.append(frame)
        self.lengths = [len(f) for f in frames]
        return below(frames)

    def columns(self, names: list[str]) -> tuple[pl.DataFrame, dict[str, str]]:
        """These columns of all rows, by what they hold; and how they are written."""
        if self.whole is None:
            return self._read(names)
        frame, forms = self.whole
        return frame.select(names), forms

    def groups(self, names: list[str]) -> list[list[str]]:
        """The columns in groups that fit in memory."""
        size = max(1, len(names) // max(self.passes, 1))
        return [names[i : i + size] for i in range(0, len(names), size)]

    def frames(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """All rows in pieces, each with the number of its first row."""
        if self.whole is not None:
            frame = self.whole[0]
            yield from ((i, frame[i : i + ROWS]) for i in range(0, len(frame), ROWS))
            return
        first = 0
        for source in self.sources:
            for frame in batches(source, self.form, ROWS):
                yield first, frame
                first += len(frame)


def _encoded(
    table: _Table, inputs: TableInputs, rows: np.ndarray, split: Split, memory_budget: int | None, cache: Any
) -> tuple[list[np.ndarray], Counter[str], bool]:
    """x of the three parts, in memory or over the budget on disk; and the unseen levels by column."""
    width = len(inputs.features)
    space = stream.Space(4 * width * sum(map(len, split)), memory_budget, cache)
    wanted = [rows[part] for part in split]  # sorted row numbers of the sources
    xs = [space.array(f"{p}.x", (len(w), width), np.float32) for p, w in zip(Split._fields, wanted, strict=True)]
    unseen: Counter[str] = Counter()
    for first, frame in table.frames():
        x, new = inputs.encode_counted(frame, first)
        unseen += new
        for to, want in zip(xs, wanted, strict=True):
            a, b = np.searchsorted(want, [first, first + len(frame)])
            to.put(int(a), x[want[a:b] - first])
    return [x.done() for x in xs], unseen, space.on_disk


def _defaults() -> dict[str, Any]:
    return {k: p.default for k, p in inspect.signature(load_table).parameters.items()}


def _split(
    head: pl.DataFrame,
    rows: np.ndarray,
    table: _Table,
    valid: Any,
    test: Any,
    stratify: bool | None,
    chosen: dict[str, str],
    indices: Sequence[Any] | None,
    seed: int,
    targets: list[str],
    tasks: list[Any],
) -> Split:
    """The parts as positions in `rows`, the rows that have a target."""
    n_main = table.lengths[0]
    if indices is not None:
        if table.parts:
            raise DataError("give indices or separate sources for valid and test, not both.")
        place = np.full(n_main, -1)
        place[rows] = np.arange(len(rows))
        found = [place[part] for part in split_rows(n_main, indices=indices)]
        return Split(*(part[part >= 0] for part in found))
    own = np.flatnonzero(rows < n_main)
    values = target_values(head[targets[0]][own])
    kind = tasks[0] or infer_task(values)
    if stratify is None:
        stratify = kind == "classes" and not chosen
    labels = None
    if stratify and kind == "number":  # tenths
        numbers = as_numbers(values, targets[0])
        labels = np.searchsorted(np.quantile(numbers, np.linspace(0.1, 0.9, 9)), numbers)
    elif stratify:
        labels = values.astype(str)
    inner = split_rows(
        len(own),
        valid=0.0 if "valid" in table.parts else valid,
        test=0.0 if "test" in table.parts else test,
        labels=labels,
        groups=group_values(head[chosen["group"]][own]) if "group" in chosen else None,
        times=time_values(head[chosen["time"]][own]) if "time" in chosen else None,
        seed=seed,
    )
    parts = dict(zip(Split._fields, (own[part] for part in inner), strict=True))
    start = n_main
    for name, length in zip(table.parts, table.lengths[1:], strict=True):
        parts[name] = np.flatnonzero((rows >= start) & (rows < start + length))
        start += length
        if not len(parts[name]):
            raise DataError(f"the source for the {name} part has no row with a target.")
    return Split(**parts)


def _check_classes(targets: Sequence[Target], ys: Sequence[np.ndarray], split: Split) -> None:
    for t, y in zip(targets, ys, strict=True):
        if isinstance(t, ClassTarget):
            counts = np.bincount(y[split.train], minlength=len(t.labels))
            if (counts > 0).sum() < 2:
                only = t.labels[int(counts.argmax())]
                raise DataError(
                    f"the training part has rows of one class of {t.name!r} only, {only!r}. Split otherwise."
                )
            absent = [t.labels[i] for i in np.flatnonzero(counts == 0)]
            if absent:
                _warn(f"no training row has {t.name!r} = {', '.join(map(repr, absent))}, so it cannot be learned.")


def below(frames: list[pl.DataFrame]) -> tuple[pl.DataFrame, dict[str, str]]:
    """Frames one below the other, with columns of one type each; and how they are written."""
    import polars as pl

    names = frames[0].columns
    mixed = [c for c in names if len({f[c].dtype for f in frames}) > 1]
    frames = [f.select(pl.col(c).cast(pl.String) if c in mixed else c for c in names) for f in frames]
    found = {c: natural(column) for c, column in pl.concat(frames).to_dict().items()}
    return pl.DataFrame([f.column for f in found.values()]), {c: f.form for c, f in found.items() if f.form}


def _target_names(target: Any, form: TableFormat) -> list[Any]:
    if target is None:
        likely = [n for n in form.names if n.lower() in ("target", "label", "class", "y")]
        if len(likely) == 1:
            return likely
        raise DataError(
            f"which column is the target? Say target=..., one of {', '.join(map(repr, form.names[:20]))}"
            + (", ..." if len(form.names) > 20 else "")
            + ("." if form.header else ". The file has no line of names; -1 is the last column.")
        )
    many = isinstance(target, (list, tuple))
    if many and not target:
        raise DataError("target=() names no column.")
    return list(target) if many else [target]


def resolve(names: Sequence[str], given: Sequence[Any], what: str) -> list[str]:
    """Column names for names or places (-1 is the last). Raises DataError with the nearest names."""
    found = []
    for c in [given] if isinstance(given, (str, int)) else given:
        if isinstance(c, str) and c in names:
            found.append(c)
            continue
        place = int(c) if isinstance(c, (int, np.integer)) or re.fullmatch(r"-?\d+", str(c)) else None
        if place is not None and -len(names) <= place < len(names):
            found.append(names[place])
        elif place is not None:
            raise DataError(f"{what}: there is no column {place}; the table has {len(names)}, 0 to {len(names) - 1}.")
        else:
            raise DataError(f"{what}: there is no column {c!r}.{nearest(str(c), names)}")
    if len(set(found)) < len(found):
        raise DataError(f"{what}: a column is named twice in {given!r}.")
    return found


def group_values(column: pl.Series) -> np.ndarray:
    import polars as pl

    missing = column.null_count()
    if missing:
        raise DataError(f"{missing} rows have no group in {column.name!r}; a split by group needs one in every row.")
    return column.cast(pl.String).to_numpy().astype(str)


def time_values(column: pl.Series) -> np.ndarray:
    import polars as pl

    if column.dtype == pl.String:
        bad = column.drop_nulls()[0]
        raise DataError(f"the time column {column.name!r} holds {bad!r}, which is no number and no date that is known.")
    return column.to_numpy()


def _warn(message: str) -> None:
    warnings.warn(message, DataWarning, stacklevel=4)
