"""What the tests share: the real data, and a key."""

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets that stands beside the checkout; they may not be copied into it."""
    if not SHARED.is_dir():
        pytest.skip("the folder shared/data with real data sets is not beside this checkout")
    return SHARED


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)


@pytest.fixture(autouse=True, scope="module")
def no_health() -> Iterator[None]:
    """Nothing is measured layer by layer but where a test asks for `watched`: a program less to compile a net.

    For the files of this folder: doctests elsewhere have what users have."""
    from derin.engine import health

    health.WATCHED = False
    yield
    health.WATCHED = True


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs have health, as they have outside the tests."""
    monkeypatch.setattr("derin.engine.health.WATCHED", True)


@pytest.fixture(autouse=True, scope="module")
def programs_go_with_their_file() -> Iterator[None]:
    """Thousands of small programs, one for every shape that hypothesis draws, would take gigabytes in the end."""
    yield
    from derin.engine import programs

    programs._programs.clear()
    jax.clear_caches()
