"""Gradient clipping: what happens to the gradient before the optimiser sees it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from derin.optim.base import Tree, require
from derin.spec import Scalar, Spec


class Clip(Spec):
    """What happens to gradients before the optimiser sees them."""

    def __call__(self, grads: Tree) -> Tree:
        raise NotImplementedError(f"{type(self).__name__} has no __call__(self, grads).")


class ClipByValue(Clip):
    """Cut every entry of the gradient to [-limit, limit]. Equals torch.nn.utils.clip_grad_value_.

    >>> import jax.numpy as jnp
    >>> ClipByValue(1.0)({"w": jnp.array([0.5, -3.0])})["w"]
    Array([ 0.5, -1. ], dtype=float32)
    """

    limit: Scalar

    def check(self) -> None:
        require(self, "limit", lambda v: v > 0, "above 0")

    def __call__(self, grads: Tree) -> Tree:
        return jax.tree.map(lambda g: jnp.clip(g, -self.limit, self.limit), grads)


class ClipByGlobalNorm(Clip):
    """Shorten the whole gradient to the length `limit` if it is longer; its direction stays.

    Equals torch.nn.utils.clip_grad_norm_ (whose 1e-6 is kept). Pascanu et al. 2013, arXiv:1211.5063.

    >>> import jax.numpy as jnp
    >>> clipped = ClipByGlobalNorm(1.0)({"w": jnp.array(3.0), "b": jnp.array(4.0)})
    >>> {name: round(float(g), 4) for name, g in clipped.items()}
    {'b': 0.8, 'w': 0.6}
    """

    limit: Scalar

    def check(self) -> None:
        require(self, "limit", lambda v: v > 0, "above 0")

    def __call__(self, grads: Tree) -> Tree:
        scale = jnp.minimum(1.0, self.limit / (global_norm(grads) + 1e-6))
        return jax.tree.map(lambda g: (g * scale).astype(g.dtype), grads)


def global_norm(tree: Tree) -> jax.Array:
    """The length of all arrays of a pytree taken as one vector."""
    squares = [jnp.sum(jnp.square(a.astype(jnp.float32))) for a in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, start=jnp.zeros((), jnp.float32)))
