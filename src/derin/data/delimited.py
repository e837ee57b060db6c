"""Text files of cells between separators (CSV, TSV), found out and checked, in blocks of whole records.

    opened = open_text(Path("adult.csv"), like=None)
    for block, lines_before in opened.blocks:
        frame = parsed(path, opened, block, lines_before)         # all cells text

Separator and line of names are found out; a ragged line, another encoding or an open quote is an error that
names the line. A file of any size is read with bounded memory.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from derin.data.columns import TableFormat
from derin.errors import DataError

if TYPE_CHECKING:
    import polars as pl

SEPARATORS = ("\t", ";", "|", ",")
BLOCK = 1 << 24  # bytes of a file parsed at a time
SAMPLE = 1 << 18  # bytes looked at to find separator and header


class Opened(NamedTuple):
    """A text file's format, and its blocks from the first record on."""

    form: TableFormat
    names: tuple[str, ...]  # of this file's columns
    blanks: bool  # between separator and quote
    blocks: Iterator[tuple[bytes, int]]  # (whole records, lines before them)


def open_text(
    path: Path,
    header: bool | None,
    separator: str | None,
    encoding: str | None,
    missing: Sequence[str],
    like: TableFormat | None,
) -> Opened:
    if not path.exists():
        raise DataError(f"there is no file {str(path)!r}.")
    if path.is_dir():
        raise DataError(f"{str(path)!r} is a folder, not a table.")
    encoding = encoding or (like.encoding if like else None)
    if separator is not None and len(separator) != 1:
        raise DataError(f"separator must be one character, got {separator!r}.")
    stream = _blocks(path, encoding)
    first, _ = next(stream, (b"", 0))
    if not first.strip():
        raise DataError(f"{path} is empty.")
    sample = first[:SAMPLE].decode("utf-8", "replace")
    if len(first) > SAMPLE:
        sample = sample[: sample.rfind("\n") + 1] or sample
    if separator is None and like is not None and len(_records(sample, like.separator, 1)[0]) > 1:
        separator = like.separator
    separator = separator or _separator(sample, path)
    records = [[c.strip() for c in r] for r in _records(sample, separator) if r]
    width = len(records[0])
    names: tuple[str, ...]
    if like is not None:
        header, names = _known_names(records[0], like)
    else:
        header = _has_header(records, missing) if header is None else header
        names = tuple(c or f"column {i}" for i, c in enumerate(records[0])) if header else tuple(map(str, range(width)))
    twice = [n for n, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"{path} has more than one column called {', '.join(map(repr, twice))}; give each its own name."
        )

    def blocks() -> Iterator[tuple[bytes, int]]:
        before, block = 0, first
        if header:
            end = _record_end(block)
            before, block = block[:end].count(b"\n"), block[end:]
        while True:
            if block:
                yield block, before
            before += block.count(b"\n")
            block, _ = next(stream, (b"", 0))
            if not block:
                return

    form = TableFormat(names, header, separator, encoding, tuple(missing))
    blanks = separator != " " and any(
        c.lstrip(" ")[:1] == '"' for r in _records(sample, separator, 200, False) for c in r
    )
    return Opened(form, names, blanks, blocks())


def _known_names(first: list[str], like: TableFormat) -> tuple[bool, tuple[str, ...]]:
    """Does this file, of the kind trained on, have a line of names; and what are its columns called?"""
    inputs = [n for n in like.names if n not in like.targets]
    if like.header or set(inputs) <= set(first):
        return True, tuple(c or f"column {i}" for i, c in enumerate(first))
    if len(first) == len(like.names):
        return False, like.names
    if len(first) == len(inputs):
        return False, tuple(inputs)
    raise DataError(
        f"the file trained on has {len(like.names)} columns and no line of names; this one has {len(first)} "
        "columns, "
        f"so which is which cannot be known."
    )


def _blocks(path: Path, encoding: str | None) -> Iterator[tuple[bytes, int]]:
    """UTF-8 blocks of whole records, and the number of lines before each."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            start = file.read(4)
            if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                encoding = encoding or "utf-16"
            file.seek(0)
            yield from _records_of(path, file, encoding)
    except PermissionError:
        raise DataError(f"{path} may not be read: permission denied.") from None
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None


def _records_of(path: Path, file: Any, encoding: str | None) -> Iterator[tuple[bytes, int]]:
    read_more, close = lambda: file.read(BLOCK), file.close
    if encoding is not None:
        try:
            text = io.TextIOWrapper(file, encoding=encoding, newline="")
        except LookupError:
            raise DataError(f"no encoding is called {encoding!r}; examples: 'utf-8', 'cp1254', 'latin-1'.") from None
        read_more, close = lambda: text.read(BLOCK).encode(), text.close
    rest, lines = b"", 0
    try:
        ahead = read_more()
        while ahead or rest:
            block, ahead = rest + ahead, read_more() if ahead else b""
            if not lines and block.startswith(codecs.BOM_UTF8):
                block = block[3:]
            end = _last_record_end(block) if ahead else len(block)
            block, rest = block[:end], block[end:]
            if block:  # else a record longer than the block
                _check_text(path, block, lines)
                yield block, lines
                lines += block.count(b"\n")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(
            f"{path} is not in the encoding {encoding!r}: byte 0x{byte:02x} after line {lines + 1}."
        ) from None
    finally:
        close()  # here, for a reader that wants the first lines only as well


def _check_text(path: Path, block: bytes, lines: int) -> None:
    if block.isascii() and b"\0" not in block:
        if b"\r" in block and b"\n" not in block:
            raise DataError(f"the lines of {path} end in a carriage return alone; save it with usual line ends.")
        return
    nul = block.find(b"\0")
    if nul >= 0:
        raise DataError(f"{path} is not a text file: there is a zero byte in line {lines + block[:nul].count(10) + 1}.")
    try:
        block.decode("utf-8")
    except UnicodeDecodeError as error:
        line = lines + block[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path} is not UTF-8: byte 0x{block[error.start]:02x} in line {line}. Say its encoding, for "
            "example "
            "encoding='cp1252' (Western Europe), 'cp1254' (Turkish) or 'latin-1'."
        ) from None


def _record_end(block: bytes) -> int:
    """Where the first record ends, its line end included."""
    end = block.find(b"\n")
    while end >= 0 and block.count(b'"', 0, end) % 2:
        end = block.find(b"\n", end + 1)
    return len(block) if end < 0 else end + 1


def _last_record_end(block: bytes) -> int:
    last = end = block.rfind(b"\n")
    for _ in range(200):
        if end < 0 or block.count(b'"', 0, end) % 2 == 0:
            return end + 1
        end = block.rfind(b"\n", 0, end)
    return last + 1  # a stray quote: records are lines then


def parsed(path: Path, opened: Opened, block: bytes, before: int) -> pl.DataFrame:
    """A block as text columns. Raises DataError that names the line of a ragged row."""
    import polars as pl

    sep = opened.form.separator
    text = block.lstrip(b"\r\n")
    before += block[: len(block) - len(text)].count(b"\n")
    block = text
    if opened.blanks:  # `a, "b, c"`: the blank would keep the quote from being one
        block = re.sub(re.escape(sep).encode() + rb' +"', sep.encode() + b'"', block)
    names = opened.names
    try:
        frame = pl.read_csv(
            block, has_header=False, separator=sep, infer_schema=False, schema={n: pl.String for n in names}
        )
    except pl.exceptions.PolarsError as error:
        _refuse_ragged(path, block, sep, len(names), before)
        raise DataError(f"{path} cannot be read: {first_line(error)}") from None
    if frame[names[-1]].null_count():  # polars fills short rows up without a word
        blank = _refuse_ragged(path, block, sep, len(names), before)
        if blank is not None and blank.any() and len(blank) == len(frame):
            frame = frame.filter(~blank)
    return frame


def _refuse_ragged(path: Path, block: bytes, sep: str, width: int, before: int) -> np.ndarray | None:
    """Refuse a record with too few or too many fields; else tell which lines are blank."""
    if not block.endswith(b"\n"):
        block += b"\n"
    data = np.frombuffer(block, np.uint8)
    inside = np.bitwise_xor.accumulate((data == ord('"')).view(np.uint8)).view(bool)
    if len(inside) and inside[-1]:
        line = before + block[: block.rfind(b'"')].count(b"\n") + 1
        raise DataError(f"{path}: a quote is opened and never closed; the last one is in line {line}.")
    ends = np.flatnonzero((data == 10) & ~inside)
    separators = np.flatnonzero((data == ord(sep)) & ~inside)
    starts = np.concatenate([[0], ends[:-1] + 1])
    fields = np.diff(np.searchsorted(separators, ends), prepend=0) + 1
    length = ends - starts - (data[np.maximum(ends - 1, 0)] == 13)
    blank = (length <= 0) & (fields == 1)
    wrong = np.flatnonzero((fields != width) & ~blank)
    if len(wrong):
        line = before + block[: starts[wrong[0]]].count(b"\n") + 1
        n = int(fields[wrong[0]])
        raise DataError(
            f"line {line} of {path} has {n} field{'s' * (n != 1)}, the lines above it {width} "
            f"(separator {sep!r}; {len(wrong)} such line{'s' * (len(wrong) != 1)}). Mend the file, or say "
            "separator=..."
        )
    return blank if width > 1 else None


def _records(sample: str, separator: str, most: int = 1000, skip: bool = True) -> list[list[str]]:
    rows = []
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=separator, skipinitialspace=skip)
    try:
        for row in reader:
            if row:
                rows.append(row)
            if len(rows) == most:
                break
    except csv.Error:
        pass
    return rows


def _separator(sample: str, path: Path) -> str:
    """The separator that cuts nearly every line into the same number of fields, more than one."""
    best, best_share = "\t" if suffix_of(path) in (".tsv", ".tab") else ",", 0.0
    for separator in (*SEPARATORS, " "):
        widths = [len(r) for r in _records(sample, separator, 200)]
        if not widths:
            continue
        width, count = Counter(widths).most_common(1)[0]
        share = count / len(widths)
        if width < 2 or (separator == " " and share < 1):
            continue
        if share >= 0.95 and widths[0] == width:
            return separator
        if share > best_share:
            best, best_share = separator, share
    return best


def _has_header(records: list[list[str]], missing: Sequence[str]) -> bool:
    """Is the first record names? Yes if one stands over numbers; no if one is itself a number; yes if none is
    found again below."""
    first, body = records[0], records[1:]
    if first == [str(i) for i in range(len(first))]:
        return True
    if len(set(first)) < len(first) - first.count("") + (1 if "" in first else 0):
        return bool(body) and not any(map(_is_number, first)) and all(c and c not in missing for c in first)
    if not body:
        return not any(map(_is_number, first))
    numbers = [_is_number(c) for c in first]
    for i, c in enumerate(first):
        if c in missing or numbers[i]:
            continue
        below = [r[i] for r in body if i < len(r) and r[i] not in missing]
        if below and sum(map(_is_number, below)) >= 0.95 * len(below):
            return True
    if any(numbers):
        return False
    again = [i for i, c in enumerate(first) if any(i < len(r) and r[i] == c for r in body)]
    return not again


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.lower().strip("+-") not in ("nan", "inf", "infinity")


def suffix_of(path: Path) -> str:
    return (Path(path.stem).suffix if path.suffix == ".gz" else path.suffix).lower()


def first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
