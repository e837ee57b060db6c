"""The test bed: the right verdict first in nine of ten sick runs, in the top two nearly always, healthy ones left alone."""

import jax
import pytest
from bench.sickbed import answered, figures
from cases import CASES, HEALTHY, SETS

pytestmark = pytest.mark.usefixtures("watched")


def test_the_bed_is_as_large_as_it_must_be():
    causes = {c.cause for c in CASES}
    for name in SETS:
        assert {c.cause for c in CASES if c.set == name} == causes
    assert sum(c.cause != HEALTHY for c in CASES) >= 40 and sum(c.cause == HEALTHY for c in CASES) >= 15
    assert len({c.name for c in CASES}) == len(CASES)


@pytest.mark.slow
def test_the_right_verdict_comes_first(shared_data):
    """The fresh cases, one of each cause; `python -m bench sickbed` trains them all."""
    jax.config.update("jax_disable_most_optimizations", True)  # nearly all of the time goes into compiling
    try:
        found = [answered(c) for c in CASES if c.set == "fresh"]
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
    wrong = {a.case.name: a.names[:3] for a in found if not a.first}
    seen = figures(found)
    assert seen["first"] >= 0.85, wrong  # 22 of 23 where it was measured; other bits may cost one of them
    assert seen["top two"] >= 0.90, wrong
    assert seen["false alarms"] <= 1, wrong
