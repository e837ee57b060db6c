"""Columns of a table: what each is understood as, and how it becomes numbers. Fitted on the training part.

    column      becomes
    numeric     one scaled number; where training has gaps: the median, and a second number "is missing"
    boolean     any two values: -1 and 1, a gap is 0; where training has gaps a second number "is missing"
    category    one number a level (up to 12 levels), else a code that TableInput embeds. Missing is a level;
                rare levels are one level together, "(other)", and levels that training has not are of it too
    date        year as a number; month, day, weekday and hour as points on a circle; only those that vary
    left out    constants, identifiers, free text, columns without a value

Each is a Spec, so the whole encoding is a JSON text. Rows of x: [numbers ... | codes of embedded categories].
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from derin.data.dataset import Batch, Inputs, Line
from derin.data.targets import MISSING, Target
from derin.data.warning import DataWarning
from derin.errors import DataError
from derin.nn.module import Module
from derin.spec import Scalar, Spec, nearest

if TYPE_CHECKING:
    import polars as pl

ONE_HOT_UP_TO = 12  # more levels are embedded
KNOTS = 256  # of the quantile scaling
OTHER = "(other)"
DRESSED = r"^[+-]?[$€£¥₺]?\s?[+-]?(\d+|[1-9]\d{0,2}(,\d{3})+)(\.\d+)?\s?[%$€£¥₺]?$"  # a number with signs around it
THOUSANDS = "1,234"
FEW = 64  # rows, up to which cells are looked up one by one


class TableInput(Module):
    """Numbers pass, codes are embedded.   x: [batch, numeric + k] -> [batch, numeric + sum(widths)]

    The last k columns are codes of k categories with `levels[i]` levels; each becomes `widths[i]` numbers.
    Level 0 is "(other)": its vector starts at zero, so a level that nobody has seen says nothing at first.
    Codes are exact in float32: give x as it is, not rounded to bfloat16. Concepts S0.02, S3.18.

    >>> import jax, jax.numpy as jnp
    >>> layer = TableInput(numeric=1, levels=(20,), widths=(3,))
    >>> params, state = layer.init(jax.random.key(0), jnp.zeros((5, 2)))
    >>> layer.apply(params, state, jnp.zeros((5, 2)))[0].shape
    (5, 4)
    """

    numeric: int
    levels: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()

    def forward(self, x: jax.Array) -> jax.Array:
        if not self.levels:
            return x
        pieces = [x[:, : self.numeric]]
        for i, (levels, width) in enumerate(zip(self.levels, self.widths, strict=True)):
            weight = self.param(f"embeddings.{i}.weight", _level_vectors, (levels, width))
            code = jnp.clip(x[:, self.numeric + i].astype(jnp.int32), 0, levels - 1)
            pieces.append(weight[code].astype(x.dtype))
        return jnp.concatenate(pieces, axis=1)


def _level_vectors(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Normal, of the size that a row of one-hot columns would have; zero for level 0."""
    return (jax.random.normal(key, shape, dtype) / math.sqrt(shape[1])).at[0].set(0.0)


class TableFormat(Spec):
    """How the table trained on was written: what is needed to read another one alike."""

    names: tuple[str, ...]  # of all columns, in their order
    header: bool = True
    separator: str = ","
    encoding: str | None = None
    missing: tuple[str, ...] = MISSING
    targets: tuple[str, ...] = ()


class Column(Spec):
    """Base of what a column can be."""

    kind: ClassVar[str] = ""
    name: str

    @property
    def width(self) -> int:
        """Numbers in x, leaving a code aside."""
        return 0

    @property
    def features(self) -> tuple[str, ...]:
        """What each of these numbers is called."""
        return ()

    @property
    def standardised(self) -> tuple[bool, ...]:
        """Which of them have mean 0 and deviation 1 over the training part."""
        return (False,) * self.width

    def encode(self, column: pl.Series, first: int = 0) -> tuple[np.ndarray, int]:
        """[n] cells -> ([n, width], how many were levels that training has not)

        first: the number of the first row, for messages."""
        raise NotImplementedError

    def line(self) -> Line:
        """What the table of columns says of it."""
        raise NotImplementedError


class NumericColumn(Column):
    """A number.   standard: (x - center) / scale; robust: the same by median and quartiles, then
    z / sqrt(1 + (z/3)^2) (Holzmueller et al. 2024, arXiv:2407.04491); quantile: to normal scores by
    `knots`."""

    kind: ClassVar[str] = "numeric"

    center: Scalar
    scale: Scalar
    fill: Scalar  # stands for a missing value: the median
    missing: float = 0.0  # share of the training rows
    scaling: Literal["standard", "robust", "quantile"] = "standard"
    knots: tuple[Scalar, ...] = ()
    scores: tuple[Scalar, ...] = ()
    form: str = ""  # THOUSANDS: a comma in text is no decimal point

    @property
    def width(self) -> int:
        return 1 + (self.missing > 0)

    @property
    def features(self) -> tuple[str, ...]:
        return (self.name, f"{self.name} is missing")[: self.width]

    @property
    def standardised(self) -> tuple[bool, ...]:
        return (self.scaling == "standard", False)[: self.width]

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """float64 [n], no nan -> float64 [n]"""
        if self.scaling == "quantile":
            return np.interp(values, np.asarray(self.knots), np.asarray(self.scores))
        z = (values - float(self.center)) / float(self.scale)
        return z / np.sqrt(1 + (z / 3) ** 2) if self.scaling == "robust" else z

    def encode(self, column: pl.Series, first: int = 0) -> tuple[np.ndarray, int]:
        values = numbers(column, first, self.form)
        gaps = np.isnan(values)
        z = self.scaled(np.where(gaps, float(self.fill), values))
        return np.stack([z, gaps], 1)[:, : self.width], 0

    def line(self) -> Line:
        how = {"standard": "standardised", "robust": "scaled robustly", "quantile": "normal scores"}[self.scaling]
        gaps = ", missing: median + indicator" if self.missing else ""
        return Line(self.name, self.kind, _share(self.missing), "", how + gaps)


class BooleanColumn(Column):
    """One of two values.   the first level -1, the second 1, missing or unseen 0"""

    kind: ClassVar[str] = "boolean"

    levels: tuple[str, ...]
    missing: float = 0.0

    @property
    def width(self) -> int:
        return 1 + (self.missing > 0)

    @property
    def features(self) -> tuple[str, ...]:
        return (f"{self.name}={self.levels[1]}", f"{self.name} is missing")[: self.width]

    def encode(self, column: pl.Series, first: int = 0) -> tuple[np.ndarray, int]:
        place, gaps = level_places(column, self.levels)
        value = np.array([0.0, -1.0, 1.0])[place]
        return np.stack([value, gaps], 1)[:, : self.width], int(((place == 0) & ~gaps).sum())

    def line(self) -> Line:
        gaps = ", missing: 0 + indicator" if self.missing else ""
        return Line(self.name, self.kind, _share(self.missing), "2", f"{self.levels[0]} -1, {self.levels[1]} 1{gaps}")


class CategoryColumn(Column):
    """One of several levels.

    Code 0: rare and unseen; 1, 2, ...: `levels`; the last: missing, if training has gaps."""

    kind: ClassVar[str] = "category"

    levels: tuple[str, ...]
    rare: int = 0  # how many levels of training are rare and stand together
    missing: float = 0.0
    embedded: int = 0  # width of the embedding; 0: one number a level

    @property
    def codes(self) -> int:
        return 1 + len(self.levels) + (self.missing > 0)

    @property
    def width(self) -> int:
        return 0 if self.embedded else self.codes - (self.rare == 0)

    @property
    def features(self) -> tuple[str, ...]:
        levels = (OTHER, *self.levels, "(missing)")[self.rare == 0 :]
        return tuple(f"{self.name}={level}" for level in levels[: self.width])

    def code(self, column: pl.Series) -> tuple[np.ndarray, int]:
        """[n] cells -> (int [n] codes, how many were levels that training has not)"""
        place, gaps = level_places(column, self.levels)
        unseen = int(((place == 0) & ~gaps).sum())
        return (np.where(gaps, self.codes - 1, place) if self.missing else place), unseen

    def encode(self, column: pl.Series, first: int = 0) -> tuple[np.ndarray, int]:
        code, unseen = self.code(column)
        return np.eye(self.codes)[code][:, self.codes - self.width :], unseen

    def line(self) -> Line:
        rare = f", {self.rare} rare as one" if self.rare else ""
        gaps = ", missing a level" if self.missing else ""
        how = f"embedding of {self.embedded}" if self.embedded else f"one-hot of {self.width}"
        return Line(self.name, self.kind, _share(self.missing), str(len(self.levels) + self.rare), how + rare + gaps)


class DateColumn(Column):
    """A date or a moment: year (standardised, with its fraction), sine and cosine of the other parts."""

    kind: ClassVar[str] = "date"

    parts: tuple[str, ...]  # of "year", "month", "day", "weekday", "hour"
    form: str = ""  # how the text is written, as strftime has it
    center: Scalar = 0.0
    scale: Scalar = 1.0
    missing: float = 0.0

    @property
    def width(self) -> int:
        return sum(1 if part == "year" else 2 for part in self.parts) + (self.missing > 0)

    @property
    def features(self) -> tuple[str, ...]:
        named = [
            f"{self.name} {part}{wave}"
            for part in self.parts
            for wave in ([""] if part == "year" else [" sin", " cos"])
        ]
        return (*named, f"{self.name} is missing")[: self.width]

    @property
    def standardised(self) -> tuple[bool, ...]:
        return tuple(feature == f"{self.name} year" for feature in self.features)

    def encode(self, column: pl.Series, first: int = 0) -> tuple[np.ndarray, int]:
        moments = _moments(column, self.form, first)
        gaps = moments.is_null().to_numpy()
        found = []
        for part in self.parts:
            turn = date_part(moments, part)
            if part == "year":
                found.append((turn - float(self.center)) / float(self.scale))
            else:
                found += [np.sin(2 * np.pi * turn), np.cos(2 * np.pi * turn)]
        x = np.stack([np.nan_to_num(f) for f in found] + [gaps.astype(float)], 1)
        return x[:, : self.width], 0

    def line(self) -> Line:
        gaps = ", missing: indicator" if self.missing else ""
        return Line(self.name, self.kind, _share(self.missing), "", f"{', '.join(self.parts)}{gaps}")


class UnusedColumn(Column):
    """A column that is no input, and why."""

    kind: ClassVar[str] = "left out"

    why: str
    missing: float = 0.0
    values: int = 0  # different ones

    def line(self) -> Line:
        return Line(self.name, self.kind, _share(self.missing), str(self.values) if self.values else "", self.why)


class TableInputs(Inputs):
    """How the rows of a table become x: [n, numbers + codes], float32."""

    columns: tuple[Column, ...]  # the inputs, in the table's order
    unused: tuple[UnusedColumn, ...] = ()
    format: TableFormat = TableFormat(())

    @property
    def numeric(self) -> int:
        """How many leading columns of x are plain numbers; codes follow."""
        return sum(c.width for c in self.columns)

    @property
    def embedded(self) -> tuple[CategoryColumn, ...]:
        return tuple(c for c in self.columns if isinstance(c, CategoryColumn) and c.embedded)

    @property
    def features(self) -> tuple[str, ...]:
        """What the columns of x are called."""
        return tuple(f for c in self.columns for f in c.features) + tuple(c.name for c in self.embedded)

    @property
    def standardised(self) -> np.ndarray:
        found = [f for c in self.columns for f in c.standardised]
        return np.array(found + [False] * len(self.embedded), bool)

    def meaning(self) -> TableInputs:
        columns = tuple(c.replace(form="") if isinstance(c, (NumericColumn, DateColumn)) else c for c in self.columns)
        return self.replace(columns=columns, format=TableFormat(()))  # how cells are written is not what they say

    def layer(self) -> Module:
        coded = self.embedded
        return TableInput(self.numeric, tuple(c.codes for c in coded), tuple(c.embedded for c in coded))

    def encode(self, raw: Any) -> np.ndarray:
        """A frame, a dict of columns or a list of dicts -> x.   Other columns than the inputs do not matter.

        Raises DataError: a column is missing, text where numbers were. Warns of new levels."""
        from derin.data.frames import to_frame

        x, unseen = self.encode_counted(to_frame(raw, self.format.missing))
        warn_unseen(unseen)
        return x

    def encode_counted(self, frame: pl.DataFrame, first: int = 0) -> tuple[np.ndarray, Counter[str]]:
        """A frame as derin.data.frames gives it -> (x, how many cells of each column were unseen levels)"""
        lacks = [c.name for c in self.columns if c.name not in frame.columns]
        if lacks:
            near = nearest(lacks[0], frame.columns)
            raise DataError(
                f"the data have no column {', '.join(map(repr, lacks))}, which the model was trained with.{near}"
            )
        coded = self.embedded
        x = np.empty((len(frame), self.numeric + len(coded)), np.float32)
        unseen: Counter[str] = Counter()
        at, code_at = 0, self.numeric
        for c in self.columns:
            if c in coded:
                x[:, code_at], new = c.code(frame[c.name])  # type: ignore[attr-defined]
                code_at += 1
            else:
                x[:, at : at + c.width], new = c.encode(frame[c.name], first)
                at += c.width
            if new and not (isinstance(c, CategoryColumn) and c.rare):
                unseen[c.name] += new
        if not np.isfinite(x).all():
            row, place = np.argwhere(~np.isfinite(x))[0]
            raise DataError(
                f"column {self.features[place]!r} is too far from the values of training in row "
                f"{first + row} to be "
                "a 32-bit number."
            )
        return x, unseen

    def batches(self, source: Any, rows: int, targets: tuple[Target, ...]) -> Iterator[Batch]:
        from derin.data import frames

        unseen: Counter[str] = Counter()
        first = dropped = 0
        for frame in frames.batches(source, self.format, rows):
            at = np.arange(first, first + len(frame))
            first += len(frame)
            y = None
            if targets:
                frame, at, gone, y = _with_targets(frame, at, targets)
                dropped += gone
            x, new = self.encode_counted(frame, int(at[0]) if len(at) else 0)
            unseen += new
            yield Batch(x, y, at)
        warn_unseen(unseen)
        if dropped:
            names = " or ".join(repr(t.name) for t in targets)
            warnings.warn(f"{dropped} rows have no {names} and are left out.", DataWarning, stacklevel=2)

    def lines(self) -> list[Line]:
        by_name = {c.name: c for c in (*self.columns, *self.unused)}
        order = {name: i for i, name in enumerate(self.format.names)}
        return [c.line() for c in sorted(by_name.values(), key=lambda c: order.get(c.name, len(order)))]


def _with_targets(frame: pl.DataFrame, at: np.ndarray, targets: tuple[Target, ...]) -> tuple[Any, np.ndarray, int, Any]:
    from derin.data import frames

    kept = np.ones(len(frame), bool)
    for t in targets:
        if t.name not in frame.columns:
            raise DataError(f"the data have no column {t.name!r}, the target.{nearest(t.name, frame.columns)}")
        kept &= frame[t.name].is_not_null().to_numpy()
    if not kept.all():
        frame, at = frame.filter(kept), at[kept]
    ys = tuple(t.encode(frames.target_values(frames.natural(frame[t.name]).column)) for t in targets)
    return frame, at, int((~kept).sum()), ys if len(ys) > 1 else ys[0]


def warn_unseen(unseen: Counter[str]) -> None:
    """One warning for all levels that training has not."""
    if unseen:
        cells = ", ".join(f"{column!r} in {n} row{'s' * (n != 1)}" for column, n in unseen.items())
        warnings.warn(f"levels that training has not, taken as {OTHER}: {cells}.", DataWarning, stacklevel=3)


# -- cells to values


def numbers(column: pl.Series, first: int = 0, form: str = "") -> np.ndarray:
    """[n] cells -> float64 [n], nan where missing.   Raises DataError for a cell that is no finite number"""
    import polars as pl

    if column.dtype == pl.String:
        made = column.cast(pl.Float64, strict=False)
        if made.null_count() > column.null_count():
            comma = column.str.replace(r"^([+-]?\d*),(\d+)$", "$1.$2").cast(pl.Float64, strict=False)
            plain = column.str.strip_chars("'").cast(pl.Float64, strict=False)
            ways = (made, plain, undressed(column)) if form == THOUSANDS else (made, comma, plain, undressed(column))
            made = min(ways, key=pl.Series.null_count)
        bad = (made.is_null() & column.is_not_null()).to_numpy()
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(
                f"column {column.name!r} holds numbers, but {column[row]!r} in row {first + row}"
                + (f" and {int(bad.sum()) - 1} more such cells" if bad.sum() > 1 else "")
                + ". Mend the file; a cell without a value is left empty."
            )
        column = made
    elif column.dtype == pl.Datetime:
        raise DataError(f"column {column.name!r} holds numbers in training and dates here.")
    values = (column if column.dtype == pl.Float64 else column.cast(pl.Float64)).to_numpy()
    infinite = np.isinf(values)
    if infinite.any():
        rows = np.flatnonzero(infinite)
        raise DataError(
            f"column {column.name!r} is infinite in {len(rows)} row{'s' * (len(rows) != 1)}, the first of "
            "them row "
            f"{first + int(rows[0])}. Put a number or nothing there."
        )
    return values


def undressed(column: pl.Series) -> pl.Series:
    """Text like "$1,234.50", "12 %" and "1,234,567" as numbers; null where it is not.

    Signs of money and percent and the commas between thousands go: "12 %" is 12."""
    import polars as pl

    bare = column.str.replace_all(r"[$€£¥₺%,\s]", "").cast(pl.Float64, strict=False)
    return bare.set((~column.str.contains(DRESSED)).fill_null(True), None)


def level_text(column: pl.Series) -> pl.Series:
    """Cells as the text of their level: whole numbers without a fraction."""
    import polars as pl

    if column.dtype == pl.Float64:
        whole = column.drop_nulls()
        if (whole == whole.round()).all():
            column = column.cast(pl.Int64, strict=False)
    return column if column.dtype == pl.String else column.cast(pl.String)


def level_places(column: pl.Series, levels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """[n] cells -> (int [n]: place among the levels from 1, 0 for none; bool [n]: is missing)

    "1.0" is the level "1", and "True" the level "true", where these are not levels themselves."""
    import polars as pl

    text = level_text(column)
    place_of = {level: i for i, level in enumerate(levels, 1)}
    if len(text) <= FEW:  # one row at a time: a call of polars takes longer than the row
        cells = text.to_list()
        place = np.array([place_of.get(c, 0) for c in cells], np.int32)
        gaps = np.array([c is None for c in cells], bool)
    else:
        found = text.replace_strict(place_of, default=0, return_dtype=pl.Int32) if levels else text.is_null()
        place = found.to_numpy().astype(np.int32)
        gaps = text.is_null().to_numpy()
    place[gaps] = 0
    lost = (place == 0) & ~gaps
    if lost.any() and levels:
        truth = {level.lower(): i for level, i in place_of.items() if level.lower() in ("true", "false")}
        again = {
            cell: place_of.get(re.sub(r"\.0+$", "", cell.strip("'")), 0) or truth.get(cell.lower(), 0)
            for cell in text.filter(lost).unique().to_list()
        }
        place[lost] = [again[cell] for cell in text.filter(lost).to_list()]
    return place, gaps


_DAYS = (
    "%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d-%b-%Y", "%d %b %Y", "%d %B "
    "%Y",
    "%b %d, %Y", "%B %d, %Y",
)  # fmt: skip
_TIMES = ("", " %H:%M:%S", " %H:%M", "T%H:%M:%S", "T%H:%M", " %H:%M:%S%.f", "T%H:%M:%S%.f")
_ZONE = r"(Z|[+-]\d\d:?\d\d)$"


def date_forms(cells: pl.Series) -> list[str]:
    """The ways of writing dates in which all of these cells are written, the usual one first."""
    if (
        not cells.str.contains(r"^(\d{1,4}[-./ ]|[A-Z][a-z]{2})").all()
        or not cells.str.len_chars().is_between(6, 35).all()
    ):
        return []
    forms = ["%Y-%m"] if cells.str.contains(r"^\d{4}-\d{2}$").all() else [d + t for d in _DAYS for t in _TIMES]
    one = cells[:1]
    return [f for f in forms if dates_from(one, f).null_count() == 0 and dates_from(cells, f).null_count() == 0]


def dates_from(cells: pl.Series, form: str) -> pl.Series:
    """Text [n] -> moments [n]; null where a cell is not written so.

    A time zone is ignored: the clock's time counts."""
    import polars as pl

    if form == "%Y-%m":
        cells, form = cells + "-01", "%Y-%m-%d"
    if ":" in form:
        return cells.str.replace(_ZONE, "").str.strptime(pl.Datetime("us"), form, strict=False)
    return cells.str.strptime(pl.Date, form, strict=False).cast(pl.Datetime("us"))


def _moments(column: pl.Series, form: str, first: int) -> pl.Series:
    import polars as pl

    if column.dtype == pl.Datetime:
        return column
    if column.dtype != pl.String:
        raise DataError(f"column {column.name!r} holds dates in training and {column.dtype} here.")
    made = dates_from(column, form or "%Y-%m-%d")
    if made.null_count() > column.null_count():
        cells = column.drop_nulls()
        others = date_forms(cells)
        if others and (not form or "/" not in form):
            made = dates_from(column, others[0])
    bad = (made.is_null() & column.is_not_null()).to_numpy()
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"column {column.name!r} holds dates"
            + (f" like {form}" if form else "")
            + f", but {column[row]!r} in row {first + row}."
        )
    return made


def date_part(moments: pl.Series, part: str) -> np.ndarray:
    """[n] moments -> float64 [n]: the year with its fraction, or the share of the circle; nan if missing"""
    at = moments.dt
    if part == "year":
        found = at.year() + (at.ordinal_day() - 1) / 366
    elif part == "month":
        found = (at.month() - 1) / 12
    elif part == "day":
        found = (at.day() - 1) / 31
    elif part == "weekday":
        found = (at.weekday() - 1) / 7
    else:
        found = (at.hour() + at.minute() / 60) / 24
    return found.to_numpy().astype(np.float64)


# -- understanding


def fit_columns(
    train: pl.DataFrame,
    rows: np.ndarray,
    forms: dict[str, str] | None = None,
    asked: dict[str, str] | None = None,
    unused: dict[str, str] | None = None,
    time: str | None = None,
    scaling: str = "standard",
) -> list[Column]:
    """Decide what each column is and fit its encoder, from the training rows alone.

    train: columns as frames.natural gives them. rows: their row numbers in the source.
    forms: how dates and numbers were written. unused: columns that are no inputs, and why.
    asked: "categorical" or "numeric", for columns that are so whatever they look like.
    time: the column that decides the split. Of a date the year is no input then: later rows lie outside it.
    Raises DataError."""
    if scaling not in ("standard", "robust", "quantile"):
        raise DataError(f"scaling must be 'standard', 'robust' or 'quantile', got {scaling!r}.")
    found: list[Column] = []
    for name, column in train.to_dict().items():
        why = (unused or {}).get(name)
        if why and not (name == time and str(column.dtype).startswith("Datetime")):
            found.append(UnusedColumn(name, why, _missing(column), column.n_unique()))
        else:
            form, want = (forms or {}).get(name, ""), (asked or {}).get(name)
            found.append(_understood(column, rows, want, form, name == time, scaling))
    return found


def table_inputs(found: Sequence[Column], form: TableFormat) -> TableInputs:
    """The inputs of these columns. Raises DataError if none is one."""
    used = tuple(c for c in found if not isinstance(c, UnusedColumn))
    unused = tuple(c for c in found if isinstance(c, UnusedColumn))
    if not used:
        told = "; ".join(f"{c.name!r}: {c.why}" for c in unused) or "the table has the target only"
        raise DataError(f"no column is left as an input ({told}).")
    return TableInputs(used, unused, form)


RUNNING = "identifier: a running number"


def _understood(
    column: pl.Series, rows: np.ndarray, asked: str | None, form: str, is_time: bool, scaling: str
) -> Column:
    import polars as pl

    name, gaps = column.name, _missing(column)
    cells = column.drop_nulls()
    values = cells.n_unique()
    if not len(cells):
        return UnusedColumn(name, "no value in any training row", gaps)
    if values == 1 and not gaps:
        return UnusedColumn(name, f"constant: {cells[0]!r} in every training row", gaps, 1)
    if asked == "categorical":
        return _category(column, asked=True)
    if asked == "numeric":
        return _numeric(pl.Series(name, numbers(column)).fill_nan(None), scaling)
    if column.dtype == pl.Datetime:
        return _date(column, form, is_time)
    if column.dtype == pl.String:
        if values == 2:
            return _boolean(column)
        return _category(column)
    if column.dtype == pl.Boolean or (column.dtype != pl.Float64 and values == 2 and set(cells.unique()) == {0, 1}):
        return _boolean(column) if values == 2 else _category(column)
    if column.dtype == pl.Int64 and values == len(column) and len(column) > 2:
        running = np.ptp(cells.to_numpy() - rows) == 0
        if running:
            return UnusedColumn(name, f"{RUNNING}, its own in every row", gaps, values)
        if re.search(
            r"(^|[_\W])(id|no|nr|key|index|code)$|[a-z](Id|ID|Key|Index)$", name, re.I if "_" in name else 0
        ) or (name.lower() in ("id", "no", "nr", "key", "index", "code", "uuid")):
            return UnusedColumn(name, "identifier: its own number in every row", gaps, values)
    return _numeric(column, scaling).replace(form=form)


def refuse_stray_text(column: pl.Series) -> None:
    """A column of numbers with a handful of other cells is not a category: somebody should look at it.

    column: all rows, as what it holds must not depend on the split. Raises DataError."""
    import polars as pl

    if column.dtype != pl.String:
        return

    made = column.cast(pl.Float64, strict=False)
    good = made.drop_nulls()
    bad = made.null_count() - column.null_count()
    if bad and bad <= 0.1 * len(good) and good.n_unique() > max(10, 0.05 * len(good)):
        row = int(np.argmax((made.is_null() & column.is_not_null()).to_numpy()))
        raise DataError(
            f"column {column.name!r} holds numbers, except for {bad} cell{'s' * (bad != 1)} such as "
            f"{column[row]!r}. Mend "
            f"the file; or, if this means no value, say missing=({column[row]!r}, ...); or say "
            f"categorical={column.name!r}."
        )


def _numeric(column: pl.Series, scaling: str) -> NumericColumn:
    values = numbers(column)
    gaps = float(np.isnan(values).mean())
    values = values[~np.isnan(values)]
    median = float(np.median(values))
    knots: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()
    if scaling == "robust":
        low, high = np.quantile(values, [0.25, 0.75])
        spread = high - low or np.ptp(values) / 2  # half the range where most values are one
        center, scale = median, float(spread)
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            center, scale = float(values.mean()), float(values.std())
    if not math.isfinite(scale):
        raise DataError(f"column {column.name!r} has values up to {np.abs(values).max():g}, too large to be scaled.")
    if scaling == "quantile":
        from jax.scipy.special import ndtri

        shares = np.linspace(0, 1, min(KNOTS, len(values)))
        at = np.quantile(values, shares)
        unique, inverse = np.unique(at, return_inverse=True)
        mean_share = np.bincount(inverse, shares) / np.bincount(inverse)
        mean_share = np.clip(mean_share, 1e-3, 1 - 1e-3)
        knots = tuple(map(float, unique))
        scores = tuple(float(s) for s in ndtri(jnp.asarray(mean_share)))
    if not scale > 1e-12 * max(abs(center), 1e-300):
        scale = 1.0
    return NumericColumn(column.name, center, scale, median, gaps, scaling, knots, scores)  # type: ignore[arg-type]


def _boolean(column: pl.Series) -> BooleanColumn:
    levels = sorted(level_text(column.drop_nulls()).unique().to_list())
    if {v.lower() for v in levels} in ({"yes", "no"}, {"true", "false"}, {"y", "n"}, {"t", "f"}):
        levels.sort(key=lambda v: v.lower() in ("yes", "true", "y", "t"))
    return BooleanColumn(column.name, tuple(levels), _missing(column))


def _category(column: pl.Series, asked: bool = False) -> Column:
    """Levels with few rows stand together; where nearly every row has its own, the column is left out."""
    text = level_text(column)
    n = len(text)
    counts = text.drop_nulls().value_counts()
    found = dict(zip(counts[column.name].to_list(), counts["count"].to_list(), strict=True))
    gaps = _missing(column)
    enough = max(4, min(10, n // 200))
    levels = sorted((v for v, count in found.items() if count >= enough), key=_natural_order)
    filled = n - text.null_count()
    if not asked and gaps < 0.05 and len(found) > 0.5 * filled and len(found) > 12:
        words = text.drop_nulls().str.count_matches(" ").mean()
        what = "free text" if isinstance(words, float) and words >= 2 else "identifier"
        return UnusedColumn(column.name, f"{what}: {len(found)} different values in {filled} rows", gaps, len(found))
    if not levels and not gaps:
        if asked or len(found) <= 12:
            levels = sorted(found, key=_natural_order)
        else:
            why = f"identifier: {len(found)} different values in {filled} rows"
            return UnusedColumn(column.name, why, gaps, len(found))
    rare = len(found) - len(levels)
    made = CategoryColumn(column.name, tuple(levels), rare, gaps)
    wide = made.codes > ONE_HOT_UP_TO
    return made.replace(embedded=min(32, math.ceil(1.6 * made.codes**0.56))) if wide else made


def _natural_order(level: str) -> tuple[Any, ...]:
    """2 before 10, as a person would sort."""
    try:
        return (0, float(level), level)
    except ValueError:
        return (1, 0.0, level)


def _date(column: pl.Series, form: str, is_time: bool) -> Column:
    moments = column.drop_nulls()
    parts = []
    for part in ("year", "month", "day", "weekday", "hour"):
        if (part == "year" and is_time) or (part in ("day", "weekday") and form == "%Y-%m"):
            continue
        if np.ptp(date_part(moments, part)) > 0:
            parts.append(part)
    if not parts:
        return UnusedColumn(column.name, "a date none of whose parts varies", _missing(column), column.n_unique())
    years = date_part(moments, "year")
    return DateColumn(column.name, tuple(parts), form, float(years.mean()), float(years.std()) or 1.0, _missing(column))


def _missing(column: pl.Series) -> float:
    return column.null_count() / max(len(column), 1)


def _share(missing: float) -> str:
    return "" if not missing else f"{missing:.1%}" if missing >= 0.0005 else "<0.1%"
