"""For tests and doctests alike: compiled programs are cached in a folder of the session, never in the user's.

All programs are, small ones too: a third of what the tests compile, they compile again. Each worker of pytest-xdist
has a folder of its own, since JAX may read a file that another process is still writing. The processes that a test
starts share its worker's; all of it goes at the end.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

WORKER = os.environ.get("PYTEST_XDIST_WORKER")
FOLDER = None if WORKER else tempfile.mkdtemp(prefix="derin-tests-")
if WORKER:
    os.environ["DERIN_CACHE"] = str(Path(os.environ["DERIN_CACHE"], WORKER))
else:
    os.environ["DERIN_CACHE"] = str(FOLDER)
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # it would win


@pytest.fixture(autouse=True, scope="session")
def programs_are_cached() -> None:
    from derin.engine.programs import use_disk_cache

    use_disk_cache()


def pytest_unconfigure() -> None:
    if FOLDER:
        shutil.rmtree(FOLDER, ignore_errors=True)
