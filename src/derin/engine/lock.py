"""One writer: a file that a process holds while it writes in a folder; the system lets go of it when that ends."""

from __future__ import annotations

import os
import sys
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
            _lock(self.handle)
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


def _lock(handle: Any) -> None:
    if sys.platform == "win32":
        import msvcrt

        handle.seek(0)
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
