"""One writer: a file that a process holds while it writes in a folder; the system lets go of it when that ends."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from derin.errors import RunError


class Lock:
    """`with Lock(folder, "study"):` Raises RunError if another process writes there."""

    def __init__(self, folder: Path, what: str) -> None:
        self.file, self.what = folder / ".lock", what
        self.handle: Any = None

    def __enter__(self) -> Lock:
        try:
            self.handle = open(self.file, "a+")
        except OSError as error:
            raise RunError(f"cannot write {self.file}: {error.strerror}.") from None
        try:
            _lock_soon(self.handle)
        except OSError:
            self.handle.seek(0)
            who = self.handle.read().strip()
            self.handle.close()
            raise RunError(
                f"process {who or 'unknown'} is writing to the {self.what} in {self.file.parent}: "
                "wait for it, or stop it."
            ) from None
        self.handle.truncate(0)
        self.handle.write(str(os.getpid()))
        self.handle.flush()
        return self

    def __exit__(self, *_: Any) -> None:
        self.handle.truncate(0)  # the file stays: removing it would let two in
        self.handle.close()


def holder(folder: Path) -> str | None:
    """The number of the process that writes in the folder ("unknown" if it has not said so), or None."""
    try:
        with open(folder / ".lock", "r+") as handle:
            try:
                _lock(handle)
            except OSError:
                handle.seek(0)
                return handle.read().strip() or "unknown"
    except OSError:  # never locked, or not ours to write
        return None
    return None


def _lock_soon(handle: Any) -> None:
    """Lock it; one who only asks who holds it (`holder`) has it for a moment."""
    for _ in range(4):
        try:
            return _lock(handle)
        except OSError:
            time.sleep(0.02)
    _lock(handle)


def _lock(handle: Any) -> None:
    if sys.platform == "win32":
        import msvcrt

        handle.seek(0)
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
