"""Data over a memory budget: encoded once into files on disk, then read in chunks ahead of the training.

    space = Space(nbytes, memory_budget=2**30)     # arrays in memory, or mapped files over the budget
    x = space.array("train.x", (n, 784), np.float32)
    x.put(0, block)                                # rows from 0 on
    part = Part(x.done(), y, rows)
    for x, y in chunks(part, order, 4096): ...     # the next chunk is read while this one is used

What is written and in which order does not depend on the budget, so training on mapped files gives the bits
that training in memory gives.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from derin.errors import DataError

_SMALL = 2**28  # bytes that any machine has to spare
_BLOCK = 2**22  # bytes of the source read at a time


def default_budget() -> int:
    """Bytes of encoded data kept in memory by default: a quarter of what there is, at least 256 MiB.

    What there is: the machine's memory, a container's share of it, a GPU's own."""
    import jax

    found = []
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(ValueError, OSError):  # "max", or no such file
            found.append(int(Path(limit).read_text()))
    on_device = jax.local_devices()[0].memory_stats() or {}  # None on a CPU
    if "bytes_limit" in on_device:
        found.append(on_device["bytes_limit"])
    return max(_SMALL, min(found, default=2**32) // 4)


def budget_for(nbytes: int) -> int:
    """The default budget; what any machine has to spare is not worth asking the machine."""
    return default_budget() if nbytes > _SMALL else _SMALL


def rows_per_block(x: Any) -> int:
    """Rows of a source that are read at a time: about 4 MiB. It depends on nothing else, so sums over blocks
    have the same bits whatever the budget."""
    return max(1, _BLOCK // max(1, math.prod(x.shape[1:]) * x.dtype.itemsize))


# -- arrays in memory or on disk


class Space:
    """Where encoded arrays are put: in memory, or over the budget in files of a temporary folder.

    nbytes: what all arrays will take together. memory_budget: bytes, None for `default_budget()`.
    cache: the folder in which the temporary one is made, for a disk with room. The files are deleted when the
    arrays are no longer used, at the latest when Python ends. Raises DataError when the disk has no room.
    """

    def __init__(self, nbytes: int, memory_budget: int | None = None, cache: str | Path | None = None) -> None:
        if memory_budget is not None and (
            isinstance(memory_budget, bool) or not isinstance(memory_budget, (int, float)) or memory_budget < 0
        ):
            raise DataError(f"memory_budget is a number of bytes, got {memory_budget!r}.")
        budget = budget_for(nbytes) if memory_budget is None else memory_budget
        self.folder: Path | None = None
        self.nbytes = nbytes
        if nbytes <= budget:
            return
        parent = Path(cache) if cache is not None else Path(tempfile.gettempdir())
        try:
            parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(parent).free
            if free < nbytes:
                raise _no_room(parent, nbytes, free)
            self.folder = Path(tempfile.mkdtemp(prefix="derin-", dir=parent))
        except OSError as error:
            raise DataError(
                f"the encoded data ({size_text(nbytes)}) are over the memory budget ({size_text(budget)}) "
                f"and cannot be written to {parent}: {error.strerror or error}. Give cache=FOLDER."
            ) from None
        self.remove = weakref.finalize(self, shutil.rmtree, self.folder, True)

    @property
    def on_disk(self) -> bool:
        return self.folder is not None

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> Rows:
        """An array of that shape, to be filled by put()."""
        return Rows(self, name, shape, np.dtype(dtype))


class Rows:
    """An array being filled. put() writes rows; done() gives the array, read-only if it is a file."""

    def __init__(self, space: Space, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.space, self.shape, self.dtype = space, shape, dtype
        self.row = math.prod(shape[1:]) * dtype.itemsize
        self.array: np.ndarray | None = None
        if space.folder is None or math.prod(shape) == 0:
            self.array = np.empty(shape, dtype)
            return
        self.path = space.folder / f"{name}.npy"
        try:
            self.file = self.path.open("wb")
            np.lib.format.write_array_header_1_0(
                self.file,
                {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape},
            )
            self.start = self.file.tell()
            _reserve(self.file.fileno(), self.start + self.row * shape[0])
        except OSError as error:
            raise self._failed(error) from None

    def put(self, start: int, block: np.ndarray) -> None:
        """Write rows start, start + 1, ...   block: [m, ...]"""
        if self.array is not None:
            self.array[start : start + len(block)] = block
            return
        try:
            self.file.seek(self.start + start * self.row)
            self.file.write(np.ascontiguousarray(block, self.dtype).data.cast("B"))
        except OSError as error:
            raise self._failed(error) from None

    def put_at(self, rows: np.ndarray, block: np.ndarray) -> None:
        """Write rows given by number.   rows: int [m], block: [m, ...]"""
        if self.array is not None:
            self.array[rows] = block
            return
        edges = np.flatnonzero(np.diff(rows) != 1) + 1  # runs of neighbours are written as one
        for a, b in zip([0, *edges], [*edges, len(rows)], strict=True):
            if b > a:
                self.put(int(rows[a]), block[a:b])

    def done(self) -> np.ndarray:
        """The filled array: np.ndarray, or np.memmap that cannot be written."""
        if self.array is not None:
            return self.array
        try:
            self.file.close()
        except OSError as error:
            raise self._failed(error) from None
        mapped = np.load(self.path, mmap_mode="r")
        weakref.finalize(mapped._mmap, _removed, self.space, self.path)  # views keep the map, the map the file
        return mapped

    def discard(self) -> None:
        """Close and delete the file of an array that is not wanted after all."""
        if self.array is None:
            with contextlib.suppress(OSError):
                self.file.close()
                self.path.unlink()

    def _failed(self, error: OSError) -> DataError:
        self.discard_quietly()
        folder = self.space.folder or Path(".")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            with contextlib.suppress(OSError):
                return _no_room(folder, self.space.nbytes, shutil.disk_usage(folder).free)
        return DataError(f"{self.path} cannot be written: {error.strerror or error}.")

    def discard_quietly(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            self.path.unlink()


def _reserve(file: int, nbytes: int) -> None:
    """Ask for the room now, so that a full disk is an error before the work; not every file system can."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, nbytes)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise


def _removed(space: Space, path: Path) -> None:
    """Delete the file of a mapped array; holding `space` until now keeps its folder."""
    with contextlib.suppress(OSError):
        path.unlink()


def _no_room(folder: Path, wanted: int, free: int) -> DataError:
    return DataError(
        f"the encoded data take {size_text(wanted)}, but {folder} has {size_text(free)} free. "
        "Give cache=FOLDER on a larger disk, or a larger memory_budget."
    )


def size_text(nbytes: float) -> str:
    """A number of bytes for people.

    >>> size_text(1536), size_text(3 * 2**30)
    ('1.5 KiB', '3.0 GiB')
    """
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if nbytes < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "bytes" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"


# -- reading


def blocks(x: Any, rows: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A source from its first row to its last, block by block: (places, block).

    x: anything with shape, dtype and x[start:stop].   rows: int [m], which rows are wanted, in any order;
    `places` says where in `rows` each row of the block belongs. All rows when None.
    """
    step, n = rows_per_block(x), x.shape[0]
    if rows is None:
        for start in range(0, n, step):
            block = np.asarray(x[start : start + step])
            yield np.arange(start, start + len(block)), block
        return
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    for start in range(0, n, step):
        a, b = np.searchsorted(ordered, (start, start + step))
        if b > a:
            block = np.asarray(x[start : min(n, start + step)])
            wanted = ordered[a:b] - start
            yield order[a:b], block if b - a == len(block) else block[wanted]


def gather(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """array[rows], reading a mapped file in the order of the disk.   [n, ...], int [m] -> [m, ...]"""
    if not isinstance(array, np.memmap):
        return array[rows]
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return np.array(array[rows[0] : rows[-1] + 1])
    order = np.argsort(rows, kind="stable")
    out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    out[order] = array[rows[order]]
    return out


def chunks(part: Any, order: np.ndarray, rows_per_chunk: int) -> Iterator[tuple[np.ndarray, Any]]:
    """The rows of a part in a given order, chunk by chunk: (x, y).   order: int [m], places in the part

    The next chunk is read in a thread while the caller uses this one, so two are in memory. Leaving the loop
    early, or an exception in it, ends the thread. y is an array or a tuple of them, as in the part.

    >>> from types import SimpleNamespace
    >>> part = SimpleNamespace(x=np.arange(5) * 10, y=np.arange(5))
    >>> [x.tolist() for x, y in chunks(part, np.array([4, 2, 0, 1, 3]), 2)]
    [[40, 20], [0, 10], [30]]
    """
    if rows_per_chunk < 1:
        raise DataError(f"rows_per_chunk must be at least 1, got {rows_per_chunk}.")
    order = np.asarray(order)

    def read(start: int) -> tuple[np.ndarray, Any]:
        rows = order[start : start + rows_per_chunk]
        y = tuple(gather(v, rows) for v in part.y) if isinstance(part.y, tuple) else gather(part.y, rows)
        return gather(part.x, rows), y

    starts = range(0, len(order), rows_per_chunk)
    with ThreadPoolExecutor(1, "derin-reader") as thread:
        ahead = thread.submit(read, 0) if len(order) else None
        for start in starts:
            now = ahead.result()  # type: ignore[union-attr]
            following = start + rows_per_chunk
            ahead = thread.submit(read, following) if following < len(order) else None
            yield now
