"""What the tests share: the real data, and a key."""

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
