"""Predictions as a CSV or Parquet file: a row for each row of the source, in its order, written as they come."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from derin.errors import DataError, RunError

if TYPE_CHECKING:
    import polars as pl

    from derin.engine import Run

SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")


def check_output(out: Path, source: str = "") -> None:
    """Refuse an output that cannot work before anything is computed. Raises DataError."""
    if out.suffix.lower() not in SUFFIXES:
        raise DataError(f"predictions are written as {', '.join(SUFFIXES)}; got {str(out)!r}.")
    if out.is_dir():
        raise DataError(f"{out} is a folder; name a file.")
    if not out.parent.is_dir():
        raise DataError(f"there is no folder {str(out.parent)!r} to write {out.name} to.")
    if source and out.exists() and Path(source).exists() and out.samefile(source):
        raise DataError(f"{out} is the file to predict; write the predictions to another one.")


def write_predictions(run: Run, source: str, out: Path) -> int:
    """Predict a source, batch by batch, into a file that appears whole or not at all. Returns the rows.

    Columns: `file` for folders of images; `prediction`; a `probability_LABEL` for each class. A vector has
    `prediction_0`, `prediction_1`, ... With several targets, each of them has its name in front. Raises DataError
    for the source, RunError for the file.
    """
    check_output(out, source)
    frames = _frames(run, source)
    first = next(frames, None)
    if first is None:
        raise DataError(f"there are no rows to predict in {source!r}.")
    handle, name = _fresh(out)
    try:
        os.close(handle)
        rows = _write(first, frames, Path(name), out.suffix.lower())
        _synced(Path(name))
        os.replace(name, out)
    except OSError as error:
        raise RunError(f"cannot write {out}: {error.strerror or error}.") from None
    finally:
        Path(name).unlink(missing_ok=True)
    return rows


def _fresh(out: Path) -> tuple[int, str]:
    try:
        return tempfile.mkstemp(prefix=f".{out.name}-", dir=out.parent)
    except OSError as error:
        raise RunError(f"cannot write {out}: {error.strerror}.") from None


def _synced(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)  # as any new file; mkstemp's are for their owner only


def _frames(run: Run, source: str) -> Iterator[pl.DataFrame]:
    """The predictions of each block of rows, as a frame."""
    import polars as pl

    targets = run.schema.targets
    files = _files(source)
    for rows, found in _blocks(run, source):
        columns: dict[str, Any] = {"file": [files[i] for i in rows]} if files else {}
        decided = run.decided(found)
        answers = decided if len(targets) > 1 else (decided,)
        for target, values, answer in zip(targets, found, answers, strict=True):
            front = f"{target.name}_" if len(targets) > 1 else ""
            if answer.ndim == 2:
                columns |= {f"{front}prediction_{i}": np.ascontiguousarray(a) for i, a in enumerate(answer.T)}
            else:
                columns[f"{front}prediction"] = answer
            if target.kind == "number":
                continue
            for label, column in zip(target.labels, values.T, strict=True):
                columns[f"{front}probability_{label}"] = np.ascontiguousarray(column)
        yield pl.DataFrame(columns)


def _blocks(run: Run, source: str) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
    """(row numbers, predictions) of each block; a batch of the source may become several blocks."""
    batch, at = None, 0
    for this, found in run.predict_batches(source):
        if this is not batch:
            batch, at = this, 0
        n = len(found[0])
        yield this.rows[at : at + n], found
        at += n


def _files(source: str) -> list[str]:
    """The image files of a folder by row, relative to it; empty for other sources."""
    from derin.data.images import find, is_folder_of_images

    path = Path(source)
    if not (path.is_dir() or path.is_file()) or not is_folder_of_images(path):
        return []
    root = path if path.is_dir() else path.parent
    return [file.relative_to(root).as_posix() for file in find(path).files]


def _write(first: pl.DataFrame, rest: Iterator[pl.DataFrame], path: Path, suffix: str) -> int:
    if suffix in (".csv", ".tsv"):
        return _write_text(first, rest, path, "\t" if suffix == ".tsv" else ",")
    return _write_parquet(first, rest, path)


def _write_text(first: pl.DataFrame, rest: Iterator[pl.DataFrame], path: Path, separator: str) -> int:
    rows = 0
    with open(path, "wb") as file:
        for frame in _chained(first, rest):
            file.write(frame.write_csv(include_header=not rows, separator=separator).encode())
            rows += len(frame)
    return rows


def _write_parquet(first: pl.DataFrame, rest: Iterator[pl.DataFrame], path: Path) -> int:
    """polars writes a Parquet file at once, so pieces are written first and then streamed into one."""
    import polars as pl

    rows = 0
    with tempfile.TemporaryDirectory(prefix=f"{path.name}-", dir=path.parent) as folder:
        pieces: list[Path] = []
        for frame in _gathered(_chained(first, rest)):
            pieces.append(Path(folder) / f"{len(pieces):06d}.parquet")
            _written(frame.write_parquet, pieces[-1])
            rows += len(frame)
        if len(pieces) == 1:
            os.replace(pieces[0], path)
        else:
            _written(pl.scan_parquet(pieces).sink_parquet, path)
    return rows


def _written(write: Callable[[Path], Any], path: Path) -> None:
    """polars reports a full disk as an error of its own."""
    import polars as pl

    try:
        write(path)
    except pl.exceptions.PolarsError as error:
        raise OSError(str(error).splitlines()[0].split("IO error: ")[-1]) from None


def _gathered(frames: Iterator[pl.DataFrame], rows: int = 100_000) -> Iterator[pl.DataFrame]:
    """Fewer, larger frames."""
    import polars as pl

    held: list[pl.DataFrame] = []
    for frame in frames:
        held.append(frame)
        if sum(map(len, held)) >= rows:
            yield pl.concat(held)
            held = []
    if held:
        yield pl.concat(held)


def _chained(first: pl.DataFrame, rest: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    yield first
    yield from rest
