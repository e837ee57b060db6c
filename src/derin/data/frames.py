"""Tables as polars frames: from text and Parquet files, from polars, pandas and Arrow frames, from dicts.

Cells of text files stay text until `natural` finds what all cells of a column are. So one way of reading
serves training and prediction, in memory or in pieces.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from derin.data.columns import DRESSED, FEW, THOUSANDS, TableFormat, date_forms, dates_from, undressed
from derin.data.delimited import first_line, open_text, parsed, suffix_of
from derin.data.targets import MISSING
from derin.data.warning import DataWarning
from derin.errors import DataError

if TYPE_CHECKING:
    import polars as pl

TEXT = (".csv", ".tsv", ".tab", ".txt", ".data", ".dat")
PARQUET = (".parquet", ".pq")


def is_table(source: Any) -> bool:
    """A path with a table's suffix, a frame, a dict of columns or a list of dicts."""
    if isinstance(source, (str, Path)):
        return suffix_of(Path(source)) in TEXT + PARQUET and not Path(source).is_dir()
    if isinstance(source, dict) or _is_frame(source):
        return True
    return isinstance(source, list) and bool(source) and all(isinstance(row, dict) for row in source)


def joined(source: Any, names: Sequence[str] = ()) -> tuple[Any, tuple[str, ...]]:
    """(frame, y) as one frame, and what its targets are called; anything else as it is.

    names: what to call the columns of y; None given: their own names, else "target"."""
    if not (isinstance(source, tuple) and len(source) == 2 and _is_frame(source[0])):
        return source, ()
    import polars as pl

    from derin.data.readers import by_columns, targets

    frame = to_frame(source[0])
    width = source[1].shape[1] if len(getattr(source[1], "shape", ())) == 2 else 1
    columns, _ = targets(source[1], len(frame), tuple(names) if len(names) == width else ())
    columns = by_columns(columns, lambda name, y: False)  # a table has one value a cell
    twice = [name for name in columns if name in frame.columns]
    if twice:
        raise DataError(f"X has a column called {twice[0]!r}, and so has y. Leave it out of X.")
    made = [pl.Series(name, values.tolist(), strict=False) for name, values in columns.items()]
    return frame.with_columns(made), tuple(columns)


def read(
    source: Any,
    header: bool | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    missing: Sequence[str] = MISSING,
    like: TableFormat | None = None,
    columns: list[str] | None = None,
) -> tuple[pl.DataFrame, TableFormat]:
    """A source as a frame, cells of text files still text, and its format.

    like: the format of the source trained on, which tells what its columns are called. columns: only these,
    if the source has them. Raises DataError."""
    import polars as pl

    if isinstance(source, (str, Path)):
        path = Path(source)
        if suffix_of(path) in PARQUET:
            form = read_format(source, missing=missing)
            wanted = [n for n in form.names if columns is None or n in columns]
            frame = to_frame(_parquet(path, lambda p: pl.read_parquet(p, columns=wanted)), missing)
        else:
            opened = open_text(path, header, separator, encoding, missing, like)
            wanted = [n for n in opened.names if columns is None or n in columns]
            frames = [parsed(path, opened, *block).select(wanted) for block in opened.blocks]
            if not frames or not sum(map(len, frames)):
                raise DataError(f"{path} has a line of names and no rows below it.")
            frame, form = _cleaned(pl.concat(frames), missing), opened.form
    else:
        frame = to_frame(source, missing)
        form = TableFormat(tuple(frame.columns), missing=tuple(missing))
        frame = frame if columns is None else frame.select(n for n in frame.columns if n in columns)
    if not len(frame):
        raise DataError("the table has no rows.")
    return frame, form


def read_format(
    source: Any,
    header: bool | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    missing: Sequence[str] = MISSING,
) -> TableFormat:
    """The names of a source's columns and how it is written, without reading it as a whole."""
    import polars as pl

    if not isinstance(source, (str, Path)):
        return TableFormat(tuple(to_frame(source, missing).columns), missing=tuple(missing))
    path = Path(source)
    if suffix_of(path) in PARQUET:
        names = _parquet(path, lambda p: pl.scan_parquet(p).collect_schema().names())
        return TableFormat(tuple(names), missing=tuple(missing))
    return open_text(path, header, separator, encoding, missing, None).form


def frames(source: Any, rows: int) -> Iterator[pl.DataFrame]:
    """Any table in its order, as frames of at most `rows` rows; cells of text files still text."""
    return batches(source, TableFormat(()), rows)


def batches(source: Any, form: TableFormat, rows: int) -> Iterator[pl.DataFrame]:
    """The same for a source that is like the one of that format."""
    import polars as pl

    if isinstance(source, (str, Path)):
        path = Path(source)
        if not path.exists():
            raise DataError(f"there is no file {str(path)!r}.")
        if suffix_of(path) in PARQUET:
            n = _parquet(path, lambda p: pl.scan_parquet(p).select(pl.len()).collect().item())
            for start in range(0, n, rows):
                piece = _parquet(path, lambda p, s=start: pl.scan_parquet(p).slice(s, rows).collect())
                yield to_frame(piece, form.missing)
            return
        opened = open_text(path, None, None, None, form.missing, form if form.names else None)
        for block, before in opened.blocks:
            frame = _cleaned(parsed(path, opened, block, before), form.missing)
            for start in range(0, len(frame), rows):
                yield frame[start : start + rows]
        return
    frame = to_frame(source, form.missing)
    for start in range(0, len(frame), rows):
        yield frame[start : start + rows]


def _parquet(path: Path, read_it: Any) -> Any:
    import polars as pl

    try:
        return read_it(path)
    except FileNotFoundError:
        raise DataError(f"there is no file {str(path)!r}.") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {first_line(error)}") from None


# -- frames


def to_frame(source: Any, missing: Sequence[str] = MISSING) -> pl.DataFrame:
    """Any frame as polars: numbers, booleans, dates and text; missing cells null. Raises DataError."""
    import polars as pl

    if isinstance(source, pl.DataFrame):
        frame = source
    elif isinstance(source, pl.LazyFrame):
        frame = source.collect()
    else:
        try:
            frame = _foreign(source)
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"a {type(source).__name__} cannot be read as a table: {first_line(error)}") from None
    return _cleaned(frame, missing)


def _foreign(source: Any) -> pl.DataFrame:
    import polars as pl

    if type(source).__module__.split(".")[0] == "pandas":
        names = [str(c) for c in source.columns]
        twice = [n for n, count in Counter(names).items() if count > 1]
        if twice:
            raise DataError(f"the frame has more than one column called {', '.join(map(repr, twice))}.")
        return pl.DataFrame([_from_pandas(name, source.iloc[:, i]) for i, name in enumerate(names)])
    if type(source).__module__.split(".")[0] == "pyarrow":
        made = pl.from_arrow(source)
        return made if isinstance(made, pl.DataFrame) else made.to_frame()
    if isinstance(source, dict):
        return pl.DataFrame({str(k): v for k, v in source.items()}, strict=False)
    return pl.DataFrame(source, strict=False, infer_schema_length=None)


def _from_pandas(name: str, column: Any) -> pl.Series:
    """One pandas column without pyarrow: numbers by NumPy, the rest value by value."""
    import polars as pl

    kind = getattr(column.dtype, "kind", "O")
    if kind in "iufbmM" and isinstance(column.dtype, np.dtype):
        return pl.Series(name, column.to_numpy())
    cells = zip(column.astype(object).tolist(), column.isna().tolist(), strict=True)
    values = [None if gone else v for v, gone in cells]
    made = pl.Series(name, values, strict=False)
    if made.dtype == pl.Object:  # periods and their like
        made = pl.Series(name, [None if v is None else str(v) for v in values])
    return made


def _cleaned(frame: pl.DataFrame, missing: Sequence[str]) -> pl.DataFrame:
    """Every column Int64, Float64, Boolean, Datetime or String; blanks cut off, missing texts null."""
    import polars as pl

    usual = {pl.String, pl.Float64, pl.Int64, pl.Boolean}
    if len(frame) <= FEW and all(dtype in usual for dtype in frame.dtypes):
        return pl.DataFrame([_few_cleaned(column, missing) for column in frame.iter_columns()])
    made = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if dtype == pl.Null:
            column = column.cast(pl.String)
        elif dtype in (pl.String, pl.Categorical, pl.Enum):
            text = column.cast(pl.String).str.strip_chars()
            column = pl.when(text.is_in(list(missing)).not_()).then(text)
        elif dtype in (pl.Float64, pl.Float32):
            column = column.cast(pl.Float64).fill_nan(None)
        elif dtype.is_decimal():
            column = column.cast(pl.Float64)
        elif dtype in (pl.UInt64, pl.Int128):
            column = column.cast(pl.Float64)
        elif dtype.is_integer():
            column = column.cast(pl.Int64)
        elif dtype in (pl.Date, pl.Datetime):
            column = column.cast(pl.Datetime("us"))
        elif dtype == pl.Duration:
            column = column.dt.total_microseconds() / 1e6
        elif dtype == pl.Time:
            column = column.cast(pl.Int64) / 3.6e12  # hours
        elif dtype != pl.Boolean:
            raise DataError(
                f"column {name!r} holds {dtype}, not one value a row. Leave it out of the table, or make numbers of it."
            )
        made.append(column.alias(name))
    return frame.select(made)


def _few_cleaned(column: pl.Series, missing: Sequence[str]) -> pl.Series:
    """The same cell by cell: for one row at a time, starting polars' threads takes longer than the row."""
    import polars as pl

    if column.dtype == pl.String:
        cells = [None if c is None else c.strip() for c in column.to_list()]
        return pl.Series(column.name, [None if c in missing else c for c in cells], dtype=pl.String)
    if column.dtype == pl.Float64:
        return pl.Series(column.name, [None if v != v else v for v in column.to_list()], dtype=pl.Float64)
    return column


class Natural(NamedTuple):
    """A column by what its cells are, and how its dates were written, or THOUSANDS for numbers like "$1,234"."""

    column: pl.Series
    form: str = ""


def natural(column: pl.Series) -> Natural:
    """A text column as what all its cells are: whole numbers, numbers, dates; else text.

    Whole numbers of one length that begin with zeros ("02208") are codes and stay text. A comma may stand for
    the decimal point. Single quotes around every cell go, and so do signs of money, of percent and the commas of
    thousands. Warns where day and month, or the two kinds of commas, cannot be told apart."""
    import polars as pl

    if column.dtype != pl.String:
        return Natural(column)
    cells = column.drop_nulls()
    if not len(cells):
        return Natural(column)
    probe = cells[:200]
    if probe.str.contains(r"^'.*'$").all() and cells.str.contains(r"^'.*'$").all():
        column = column.str.strip_chars("'")
        cells = column.drop_nulls()
        probe = cells[:200]
    if probe.cast(pl.Float64, strict=False).null_count() == 0:
        whole = column.cast(pl.Int64, strict=False)
        if whole.null_count() == column.null_count():
            lengths = cells.str.len_chars()
            codes = lengths.min() == lengths.max() and lengths[0] >= 3 and cells.str.contains(r"^0\d").any()
            return Natural(column if codes else whole)
        number = column.cast(pl.Float64, strict=False)
        if number.null_count() == column.null_count():
            return Natural(number.fill_nan(None))
    if probe.str.contains(r"^[+-]?\d*(,\d+)?$").all() and not cells.str.contains(DRESSED).all():
        number = column.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
        if number.null_count() == column.null_count():
            return Natural(number)
    if probe.str.contains(DRESSED).all() and cells.str.contains("%").sum() in (0, len(cells)):
        number = undressed(column)
        if number.null_count() == column.null_count():
            if not cells.str.contains(r"[^\d,+-]|,\d+,").any():
                odd = cells.filter(cells.str.contains(","))[0]
                _warn_of(column.name, f"{odd!r} is read as {odd.replace(',', '')}, its comma as one of thousands")
            broken = cells.str.contains(".", literal=True).any()
            return Natural(number if broken else number.cast(pl.Int64), THOUSANDS)
    ways = [
        (form, dates)
        for form in date_forms(probe)
        if (dates := dates_from(column, form)).null_count() == column.null_count()
    ]
    if not ways:
        return Natural(column)
    if len(ways) > 1 and not ways[0][1].equals(ways[1][1]):
        _warn_of(column.name, f"{cells[0]!r} is read as {ways[0][0]}, though {ways[1][0]} is possible as well")
    return Natural(ways[0][1], ways[0][0])


def _warn_of(name: str, what: str) -> None:
    warnings.warn(f"column {name!r}: {what}.", DataWarning, stacklevel=6)


def target_values(column: pl.Series) -> np.ndarray:
    """A target column as NumPy values: numbers, booleans, or objects that are text."""
    import polars as pl

    if column.dtype == pl.Datetime:
        raise DataError(f"target {column.name!r} holds dates; a target is a number or a class.")
    if column.dtype == pl.String:
        return column.to_numpy().astype(object)
    return column.to_numpy()


def _is_frame(source: Any) -> bool:
    package = type(source).__module__.split(".")[0]
    names = ("DataFrame", "LazyFrame", "Table", "RecordBatch")
    return package in ("polars", "pandas", "pyarrow") and type(source).__name__ in names
