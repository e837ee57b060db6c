"""For tests and doctests alike: compiled programs are cached in a folder of the session, never in the user's.

The folder is shared by the workers of pytest-xdist and by the processes that tests start, and goes at the end.
"""

import os
import shutil
import tempfile

FOLDER = None
if "PYTEST_XDIST_WORKER" not in os.environ:
    FOLDER = os.environ["DERIN_CACHE"] = tempfile.mkdtemp(prefix="derin-tests-")
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # it would win


def pytest_unconfigure() -> None:
    if FOLDER:
        shutil.rmtree(FOLDER, ignore_errors=True)
