"""The order of an epoch is a permutation, and nothing in it tells of the row's number. S0.34."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derin.engine.order import SORTED_BELOW, batches, shuffled

draw = jax.jit(shuffled, static_argnums=1)
draws = jax.jit(jax.vmap(shuffled, in_axes=(0, None)), static_argnums=1)


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([1, 2, 5, 1000, SORTED_BELOW - 1, SORTED_BELOW, 5000, 8192, 10007]), st.integers(0, 2**31))
def test_every_row_comes_once(n, seed):
    order = np.asarray(draw(jax.random.key(seed), n))
    assert (np.sort(order) == np.arange(n)).all()


@pytest.mark.parametrize("n", [SORTED_BELOW - 96, 5000, 16384])
def test_the_order_looks_random(n):
    """200 orders against what uniform permutations give; bounds are 4.5 standard errors."""
    times = 200
    orders = np.asarray(draws(jax.random.split(jax.random.key(1), times), n)).astype(float)
    fixed_points = (orders == np.arange(n)).sum() / times
    assert abs(fixed_points - 1) < 4.5 / np.sqrt(times)
    place = np.arange(n)
    for later, what in [(place, "row number"), (None, "next row"), (2, "row after the next")]:
        if isinstance(later, np.ndarray):
            r = [np.corrcoef(o, later)[0, 1] for o in orders]
        else:
            lag = 1 if later is None else later
            r = [np.corrcoef(o[:-lag], o[lag:])[0, 1] for o in orders]
        z = np.array(r) * np.sqrt(n)
        assert abs(z.mean()) < 4.5 / np.sqrt(times), what
        assert abs(z.std() - 1) < 0.23, what
    ups = ((orders[:, 1:] > orders[:, :-1]).mean(1) - 0.5) * np.sqrt(12 * n)
    assert abs(ups.std() - 1) < 0.23
    inside = orders[:, : n // 64 * 64].reshape(times, -1, 64)
    for halves in ((inside % 2), (inside < n / 2), (inside // 16 % 2)):  # a batch holds as many as chance gives
        assert abs(halves.sum(2).var() - 16) < 1.5


def test_epochs_and_keys_differ():
    a, b = (np.asarray(draw(jax.random.key(s), 5000)) for s in (0, 1))
    assert (a == b).mean() < 0.01


def test_the_last_batch_is_filled_from_the_beginning():
    order = np.arange(10)[::-1].copy()
    assert batches(jax.numpy.asarray(order), 4).tolist() == [[9, 8, 7, 6], [5, 4, 3, 2], [1, 0, 9, 8]]
    assert batches(jax.numpy.asarray(order), 5).shape == (2, 5)
