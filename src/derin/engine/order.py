"""In which order an epoch visits its rows."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

SORTED_BELOW = 4096  # rows; a sort is exactly uniform, and cheap when short


def shuffled(key: jax.Array, n: int) -> jax.Array:
    """A random order of n rows, drawn on the device.   key -> int32 [n], a permutation of 0..n-1

    A sort of n random numbers costs XLA's CPU a sixth of a small net's whole epoch (15 us a step of 64 rows
    of 91, bench/order.py), so long orders are a keyed bijection of the numbers below 2**k: rounds of
    multiplication by a random odd number, addition and xor-shift, each one-to-one; what lands beyond n is
    left out. Concept S0.34.
    """
    if n < SORTED_BELOW:
        return jnp.argsort(jax.random.bits(key, (n,))).astype(jnp.int32)
    k = max(1, math.ceil(math.log2(n)))
    below = jnp.uint32(2**k - 1)
    rounds = jax.random.bits(key, (4, 2))
    x = jnp.arange(2**k, dtype=jnp.uint32)
    for factor, shift in rounds:
        x = (x * (factor | 1) + shift) & below
        x = x ^ (x >> (k // 2))
        x = (x * jnp.uint32(0x9E3779B1)) & below
        x = x ^ (x >> (k // 3 + 1))
    keep = x < n
    place = jnp.where(keep, jnp.cumsum(keep) - 1, n)
    return jnp.zeros(n, jnp.int32).at[place].set(x.astype(jnp.int32), mode="drop", unique_indices=False)


def batches(order: jax.Array, size: int) -> jax.Array:
    """The order cut into batches.   int32 [n] -> [steps, size]

    The last batch is filled up from the order's beginning; the engine gives those rows weight zero.
    """
    n = order.shape[0]
    steps = math.ceil(n / size)
    fill = jnp.resize(order, (steps * size,)) if steps * size > n else order
    return fill.reshape(steps, size)
