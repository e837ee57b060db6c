"""What can be seen in the data before any training: the table of columns, outliers, correlations, giveaways.

print(derin.data.report.survey("housing.csv", target="median_house_value"))
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from derin.data.targets import ClassTarget, NumberTarget, Target
from derin.data.warning import DataWarning

if TYPE_CHECKING:
    import polars as pl

    from derin.data.columns import Column
    from derin.data.dataset import Dataset, Line

STRONG = 0.9  # |r| from which two columns say nearly the same
GIVEAWAY = 0.995  # of AUC or R2, from which a single column is too good to be true
ENOUGH = 30  # rows, below which nothing is too good to be true
SHOWN = 100  # lines of the table of columns
ROWS = 20_000  # rows looked at for giveaways


class Outliers(NamedTuple):
    """Shares of a column's values beyond 1.5 and 3 times the interquartile range from the quartiles
    (Tukey)."""

    column: str
    mild: float
    far: float
    low: float  # the fences of 1.5
    high: float


class Pair(NamedTuple):
    """Two numeric columns and their correlation (Pearson's r)."""

    a: str
    b: str
    r: float


class Association(NamedTuple):
    """How much a column alone has to do with a target, 0 to 1.

    "|r|" for two numbers, "eta" (correlation ratio) for a number and classes or the reverse, "V" (Cramer) for
    levels and classes."""

    column: str
    target: str
    measure: str
    value: float


class Survey(NamedTuple):
    """What `derin data SOURCE` shows; print it, or take to_dict()."""

    summary: str
    rows: int
    duplicates: int  # rows that equal an earlier one
    columns: list[Line]
    outliers: list[Outliers]
    correlations: list[Pair]
    associations: list[Association]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain = self._asdict()
        for name in ("columns", "outliers", "correlations", "associations"):
            plain[name] = [row._asdict() for row in plain[name]]
        return plain

    def __repr__(self) -> str:
        lines = [self.summary]
        if self.duplicates:
            lines += ["", f"{self.duplicates:,} rows equal an earlier row."]
        if self.outliers:
            lines += ["", "outliers: share of values beyond 1.5 and 3 interquartile ranges"]
            width = max(len(_short(o.column)) for o in self.outliers)
            lines += [
                f"  {_short(o.column):<{width}}  {o.mild:6.1%}  {o.far:6.1%}   usual: {o.low:.4g} to {o.high:.4g}"
                for o in self.outliers
            ]
        if self.correlations:
            lines += ["", f"strong correlations (|r| > {STRONG}): such columns say nearly the same"]
            lines += [f"  {_short(p.a)} and {_short(p.b)}  r = {p.r:+.3f}" for p in self.correlations]
        if self.associations:
            lines += ["", "what each column alone has to do with the target"]
            width = max(len(_short(a.column)) for a in self.associations)
            lines += [
                f"  {_short(a.column):<{width}}  {a.measure:>3} = {a.value:.3f}"
                + (f"  ({a.target})" if len({b.target for b in self.associations}) > 1 else "")
                for a in self.associations
            ]
        return "\n".join(lines)


def survey(source: Any, target: Any = None, **options: Any) -> Survey:
    """Look at a source before training: see Survey. Without a target, a table's columns alone.

    options: as for derin.data.load. Warnings become notes. Raises DataError. Concept S3.09."""
    from derin.data.dataset import load
    from derin.data.frames import is_table

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        if is_table(source):
            found = _survey_table(source, target, options)
        else:
            data = load(source, target, **options)
            found = _survey_arrays(data)
    said = [str(w.message) for w in caught if issubclass(w.category, DataWarning)]
    notes = found.notes + [n for n in dict.fromkeys(said) if n not in found.notes]
    summary = "\n".join([found.summary, *(f"note: {n}" for n in notes if n not in found.notes)])
    return found._replace(summary=summary, notes=notes)


def _survey_table(source: Any, target: Any, options: dict[str, Any]) -> Survey:
    from derin.data import frames
    from derin.data.columns import NumericColumn, fit_columns, refuse_stray_text, table_inputs
    from derin.data.dataset import load
    from derin.data.tables import below

    reading = {k: options[k] for k in ("header", "separator", "encoding", "missing") if k in options}
    raw, form = frames.read(source, **reading)
    frame, forms = below([raw])
    targets: tuple[Target, ...] = ()
    notes: list[str] = []
    if target is not None:
        data = load(source, target, **options)
        inputs, targets, summary = data.schema.inputs, data.schema.targets, describe(data)
        notes = list(data.notes)
    else:
        for name in frame.columns:
            refuse_stray_text(frame[name])
        inputs = table_inputs(fit_columns(frame, np.arange(len(frame)), forms), form)
        summary = "\n".join([f"{len(frame):,} rows", "", *aligned(inputs.lines())])
    values = {c.name: column_values(frame[c.name], c) for c in inputs.columns}  # type: ignore[attr-defined]
    numeric = {c.name: values[c.name][0] for c in inputs.columns if isinstance(c, NumericColumn)}  # type: ignore[attr-defined]
    associations = []
    for t in targets:
        there = frame[t.name].is_not_null().to_numpy()
        y = frames.target_values(frame[t.name].filter(there))
        known = t.knows(y) if isinstance(t, ClassTarget) else np.ones(len(y), bool)
        y = t.encode(y[known])
        for name, (v, is_code) in values.items():
            associations.append(_associated(name, t, v[there][known], is_code, y))
    return Survey(
        summary,
        len(frame),
        len(frame) - frame.n_unique(),
        inputs.lines(),
        _outliers(numeric),
        _correlations(numeric),
        sorted(associations, key=lambda a: (a.target, -a.value)),
        notes,
    )


def _survey_arrays(data: Dataset) -> Survey:
    """The features of the training part, if an example is one row of them; scaled back for the fences."""
    inputs: Any = data.schema.inputs
    x = data.train.x
    numeric: dict[str, np.ndarray] = {}
    duplicates = 0
    if x.ndim == 2 and x.dtype.kind == "f" and hasattr(inputs, "mean"):
        names = getattr(inputs, "names", ()) or [str(i) for i in range(inputs.shape[-1])]
        back = x[:, : len(names)].astype(float) * np.asarray(inputs.scale) + np.asarray(inputs.mean)
        numeric = dict(zip(names, back.T, strict=True))
        duplicates = len(x) - len(np.unique(x, axis=0))
    ys = data.train.y if isinstance(data.train.y, tuple) else (data.train.y,)
    associations = [
        _associated(name, t, v, False, y)
        for t, y in zip(data.schema.targets, ys, strict=True)
        if y.ndim == 1
        for name, v in numeric.items()
    ]
    associations.sort(key=lambda a: (a.target, -a.value))
    total = sum(len(part.rows) for part in data.parts.values())
    return Survey(
        describe(data),
        total,
        duplicates,
        data.table,
        _outliers(numeric),
        _correlations(numeric),
        associations,
        list(data.notes),
    )


def _outliers(numeric: dict[str, np.ndarray]) -> list[Outliers]:
    """Columns with values beyond the fences, the worst first."""
    found = []
    for name, values in numeric.items():
        values = values[~np.isnan(values)]
        if len(values) < 4:
            continue
        low, high = np.quantile(values, [0.25, 0.75])
        reach = high - low
        beyond = lambda k: float(((values < low - k * reach) | (values > high + k * reach)).mean())  # noqa: B023, E731
        if beyond(1.5) > 0:
            fences = float(low - 1.5 * reach), float(high + 1.5 * reach)
            found.append(Outliers(name, beyond(1.5), beyond(3.0), *fences))
    return sorted(found, key=lambda o: (-o.far, -o.mild))


def _correlations(numeric: dict[str, np.ndarray]) -> list[Pair]:
    """Pairs with |r| over STRONG, the strongest first; missing values count as the column's mean."""
    names = [n for n, v in numeric.items() if np.nanstd(v) > 0]
    if len(names) < 2:
        return []
    z = np.stack([numeric[n] for n in names])
    z = np.where(np.isnan(z), np.nanmean(z, axis=1, keepdims=True), z)
    r = np.corrcoef(z)
    pairs = [
        Pair(names[i], names[j], float(r[i, j]))
        for i, j in zip(*np.triu_indices(len(names), 1), strict=True)
        if abs(r[i, j]) > STRONG
    ]
    return sorted(pairs, key=lambda p: -abs(p.r))


def _associated(name: str, t: Target, values: np.ndarray, is_code: bool, y: np.ndarray) -> Association:
    if not is_code:
        there = ~np.isnan(values)
        values, y = values[there], y[there]
        if isinstance(t, NumberTarget):
            return Association(name, t.name, "|r|", abs(_correlation(values, y)))
        return Association(name, t.name, "eta", _eta(y, values))
    if isinstance(t, NumberTarget):
        return Association(name, t.name, "eta", _eta(values.astype(int), y))
    return Association(name, t.name, "V", _cramer(values.astype(int), y))


def _eta(group: np.ndarray, values: np.ndarray) -> float:
    """Correlation ratio: the root of the share of variance that the groups' means have."""
    if not len(values) or values.std() == 0:
        return 0.0
    counts = np.bincount(group)
    means = np.bincount(group, values) / np.maximum(counts, 1)
    return float(np.sqrt((counts * (means - values.mean()) ** 2).sum() / (len(values) * values.var())))


def _cramer(a: np.ndarray, b: np.ndarray) -> float:
    """Cramer's V of two columns of codes."""
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    if min(table.shape) < 2:
        return 0.0
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    chi2 = ((table - expected) ** 2 / expected).sum()
    return float(np.sqrt(chi2 / table.sum() / (min(table.shape) - 1)))


# -- the table of columns


def describe(data: Dataset) -> str:
    """The rows of each part, the targets and the table of columns, as plain text."""
    sizes = [f"{len(part.rows):,} {name}" for name, part in data.parts.items() if len(part.rows)]
    total = sum(len(part.rows) for part in data.parts.values())
    lines = [f"{total:,} rows: {', '.join(sizes)}"]
    lines += [f"target {t.name}: {_target(t)}" for t in data.schema.targets]
    table = data.table
    if table:
        lines += ["", *aligned(table[:SHOWN])]
        if len(table) > SHOWN:
            lines.append(f"... and {len(table) - SHOWN:,} more columns")
    lines += [f"note: {note}" for note in data.notes]
    return "\n".join(lines)


def _target(t: Target) -> str:
    if isinstance(t, ClassTarget):
        shown = ", ".join(map(str, t.labels[:8])) + (", ..." if len(t.labels) > 8 else "")
        return f"{len(t.labels)} classes: {shown}"
    if isinstance(t, NumberTarget):
        return f"a number, mean {float(t.mean):.5g}, standard deviation {float(t.scale):.5g}"
    return f"a vector of {t.width} numbers"


def aligned(table: Sequence[Line]) -> list[str]:
    """The table of columns as lines of text."""
    head = ("column", "kind", "missing", "levels", "becomes")
    cells = [[_short(c) for c in row] for row in (head, *table)]
    width = [max(len(row[i]) for row in cells) for i in range(5)]
    right = (False, False, True, True, False)
    return [
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, width, right, strict=True)).rstrip()
        for row in cells
    ]


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


# -- giveaways


def giveaways(
    train: pl.DataFrame, columns: Sequence[Column], targets: Sequence[Target], ys: Sequence[np.ndarray]
) -> list[str]:
    """A sentence for each column that gives a target away: a copy of it, or nearly as good as one.

    Measured on training rows (at most 20,000): the AUC of the column's values for two classes, the accuracy
    or R2 of the best guess within each level or in up to 32 intervals of equally many rows."""
    if len(train) < ENOUGH:
        return []
    some = np.linspace(0, len(train) - 1, min(len(train), ROWS)).astype(int)
    frame = train[some]
    said = []
    for c in columns:
        if c.kind == "left out":
            continue
        values, is_code = column_values(frame[c.name], c)
        for t, y in zip(targets, ys, strict=True):
            score, what = foretells(values, is_code, y[some], t)
            if score >= GIVEAWAY:
                said.append(
                    f"column {c.name!r} alone gives the target {t.name!r} away ({what}). If it is known "
                    "only afterwards, "
                    f"leave it out: drop={c.name!r}."
                )
    return said


def column_values(column: pl.Series, c: Any) -> tuple[np.ndarray, bool]:
    """A column as one number a row, and whether the numbers are codes without an order; nan where missing."""
    from derin.data.columns import BooleanColumn, CategoryColumn, DateColumn, date_part, level_places, numbers

    if isinstance(c, CategoryColumn):
        return c.code(column)[0].astype(float), True
    if isinstance(c, BooleanColumn):
        place, gaps = level_places(column, c.levels)
        return np.where(gaps, np.nan, place), False
    if isinstance(c, DateColumn):
        return date_part(column, "year"), False
    return numbers(column), False


def foretells(values: np.ndarray, is_code: bool, y: np.ndarray, target: Target) -> tuple[float, str]:
    """How well one column alone gives y: (score from 0 to 1, in words).   values, y: [n]"""
    group = values.astype(int) if is_code else _intervals(values, len(y))
    if group.max() + 1 > len(y) / 3:
        return 0.0, ""
    if isinstance(target, NumberTarget):
        r2 = _explained(group, y)
        if not is_code:
            there = ~np.isnan(values)
            r = _correlation(values[there], y[there])
            r2 = max(r2, r * r * there.mean())
        return r2, f"R2 {r2:.4f}"
    classes = int(y.max()) + 1
    table = np.zeros((group.max() + 1, classes))
    np.add.at(table, (group, y), 1)
    usual = table.sum(0).max() / len(y)
    right = table.max(1).sum() / len(y)
    if len(y) - table.sum(0).max() < 5:
        return 0.0, ""
    best = 1 - (1 - right) / (1 - usual)
    best = 0.0 if best < 0.98 else max(best, GIVEAWAY)  # a fiftieth of the errors of always guessing one class
    if classes == 2 and not is_code and not np.isnan(values).any():
        area = auc(values, y)
        area = max(area, 1 - area)
        if area >= GIVEAWAY and area > best:
            return area, f"AUC {area:.4f}"
    return best, f"accuracy {right:.2%}"


def _intervals(values: np.ndarray, n: int) -> np.ndarray:
    """[n] -> int [n]: equal values together if they are few, else intervals of equally many rows; missing
    is one."""
    there = ~np.isnan(values)
    group = np.zeros(n, int)
    if not there.any():
        return group
    unique = np.unique(values[there])
    most = max(2, min(32, n // 10))
    if len(unique) > most:
        unique = np.unique(np.quantile(values[there], np.linspace(0, 1, most + 1)[:-1]))
    group[there] = np.searchsorted(unique, values[there], side="right")
    return group


def auc(values: np.ndarray, y: np.ndarray) -> float:
    """Area under the ROC curve of a score; ties count half.   values: [n], y: 0 or 1 [n]"""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positive = int((y == 1).sum())
    negative = len(y) - positive
    if not positive or not negative:
        return 0.5
    return float((rank[y == 1].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _explained(group: np.ndarray, y: np.ndarray) -> float:
    """R2 of each group's mean, less what so many groups explain by chance."""
    y = y.astype(float)
    counts = np.bincount(group)
    sums = np.bincount(group, y)
    used = counts > 0
    within = (y**2).sum() - (sums[used] ** 2 / counts[used]).sum()
    free = len(y) - used.sum()
    total = ((y - y.mean()) ** 2).sum()
    if free <= 0 or total <= 0:
        return 0.0
    return max(0.0, 1 - (within / free) / (total / (len(y) - 1)))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(float), b.astype(float)
    if len(a) < 3 or a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
