"""Several nets that predict together, as one net."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from derin.errors import SpecError
from derin.nn.module import Module


class Ensemble(Module):
    """Nets side by side; what they predict is averaged, as probabilities or numbers.

    x: [batch, in] -> [batch, members, out]; a net that is an ensemble itself counts with its members. In training
    each has a loss of its own. own_inputs: each net begins with an input layer of its own, so it takes rows as they
    are encoded, and the layer that the data would put before it is left out. Lakshminarayanan et al. 2017,
    arXiv:1612.01474.

    >>> import jax, jax.numpy as jnp
    >>> from derin.nn import Linear, Sequential, Tanh
    >>> net = Ensemble(Linear(3), Sequential(Linear(8), Tanh(), Linear(3)))
    >>> params, state = net.init(jax.random.key(0), jnp.ones((5, 4)))
    >>> net.apply(params, state, jnp.ones((5, 4)))[0].shape
    (5, 2, 3)
    """

    ensemble = True
    _variadic = "nets"

    nets: tuple[Module, ...]
    own_inputs: bool = False

    def check(self) -> None:
        if not self.nets:
            raise SpecError("Ensemble needs at least one net.")

    def forward(self, x: jax.Array) -> jax.Array:
        found = [net(x) for net in self.nets]
        return jnp.concatenate([y if y.ndim == 3 else y[:, None] for y in found], axis=1)
