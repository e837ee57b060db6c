"""Muon: steps in which every direction of a weight matrix has its part."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from derin.errors import SpecError
from derin.optim.adam import AdamW
from derin.optim.base import NOT_NEGATIVE, SHARE, Optimizer, Tree, require, running_mean, with_decay, zeros
from derin.spec import Scalar, nearest


class MuonState(NamedTuple):
    momentum_buffer: Tree  # running mean of the gradient, like params; None where a weight is no matrix
    others: Any  # the state of `others`, which has the weights that are no matrix


class Muon(Optimizer):
    """Momentum whose step is made orthogonal, for weights that are matrices.   Jordan et al. 2024

    https://kellerjordan.github.io/posts/muon. For a weight of shape [n, m]:

        B <- momentum B + (1 - momentum) g,     G = momentum B + (1 - momentum) g   (nesterov; else G = B)
        O = the nearest orthogonal matrix to G, by `ns_steps` steps of Newton and Schulz
        w <- w - learning_rate weight_decay w - learning_rate s O

    s is sqrt(max(1, n / m)), or with adjust_lr_fn="match_rms_adamw" 0.2 sqrt(max(n, m)), so that learning
    rates of AdamW fit (Liu et al. 2025, arXiv:2502.16982). Equals torch.optim.Muon, which rounds the Newton-
    Schulz steps to bfloat16; here they have the dtype of the weights.

    Weights of other shapes (biases, norms, kernels of convolutions) go to `others`, an AdamW, and so do the
    matrices whose names fit a pattern of `exclude`: Jordan leaves embeddings and the last layer to AdamW,
    exclude=("embedding.*", "head.*"). Its own learning rate counts for them, and the schedule lowers both.
    (torch.optim.Muon refuses weights of other shapes.) Raises SpecError for values that cannot work, and
    where a pattern fits no name.

    >>> import jax.numpy as jnp
    >>> muon, w = Muon(learning_rate=1.0, weight_decay=0.0), jnp.zeros((2, 2))
    >>> long_and_short = jnp.array([[100.0, 0.0], [0.0, 1.0]])           # both directions get a step near 1
    >>> muon.update(long_and_short, muon.init(w), w, muon.learning_rate)[0].round(1)
    Array([[-0.7, -0. ],
           [-0. , -0.7]], dtype=float32)
    """

    learning_rate: Scalar = 1e-3
    weight_decay: Scalar = 0.1
    momentum: Scalar = 0.95
    nesterov: bool = True
    ns_coefficients: tuple[Scalar, ...] = (3.4445, -4.775, 2.0315)
    eps: Scalar = 1e-7
    ns_steps: int = 5
    adjust_lr_fn: Literal["original", "match_rms_adamw"] | None = None
    others: Optimizer = AdamW()
    exclude: tuple[str, ...] = ()

    elementwise: ClassVar[bool] = False

    def check(self) -> None:
        super().check()
        require(self, "momentum", *SHARE)
        require(self, "weight_decay", *NOT_NEGATIVE)
        require(self, "eps", lambda v: 0 < v < float("inf"), "above 0: it divides a gradient of 0, often 1e-7")
        if len(self.ns_coefficients) != 3:
            raise SpecError(
                "Muon.ns_coefficients must be three numbers such as (3.4445, -4.775, 2.0315), "
                f"got {self.ns_coefficients!r}."
            )
        if not 1 <= self.ns_steps < 100:
            raise SpecError(f"Muon.ns_steps must be a whole number from 1 to 99, often 5, got {self.ns_steps}.")

    def init(self, params: Tree) -> MuonState:
        names = [_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
        for pattern in self.exclude:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise SpecError(f"Muon.exclude: no weight's name fits {pattern!r}.{nearest(pattern, names)}")
        matrices, rest = self._parted(params, params)
        return MuonState(zeros(matrices), self.others.init(rest))

    def update(self, grads: Tree, state: MuonState, params: Tree, learning_rate: Scalar) -> tuple[Tree, MuonState]:
        matrices, rest = self._parted(params, params)
        matrix_grads, rest_grads = self._parted(grads, params)
        buffer = running_mean(state.momentum_buffer, matrix_grads, self.momentum)
        ahead = running_mean(buffer, matrix_grads, self.momentum) if self.nesterov else buffer
        updates = jax.tree.map(lambda g: -learning_rate * self._adjustment(*g.shape) * self._orthogonal(g), ahead)
        updates = with_decay(updates, matrices, learning_rate * self.weight_decay)
        rate = self.others.learning_rate * (learning_rate / self.learning_rate)  # the schedule's factor
        other_updates, others = self.others.update(rest_grads, state.others, rest, rate)
        joined = jax.tree.map(lambda m, o: o if m is None else m, updates, other_updates, is_leaf=lambda a: a is None)
        return joined, MuonState(buffer, others)

    def _parted(self, tree: Tree, params: Tree) -> tuple[Tree, Tree]:
        """The arrays of `tree` for the matrices, and for the others; None in place of what is not there."""

        def mine(path: Any, p: jax.Array) -> bool:
            return p.ndim == 2 and not any(fnmatchcase(_name(path), pattern) for pattern in self.exclude)

        taken = jax.tree_util.tree_map_with_path(mine, params)
        return (
            jax.tree.map(lambda yes, a: a if yes else None, taken, tree),
            jax.tree.map(lambda yes, a: None if yes else a, taken, tree),
        )

    def _adjustment(self, rows: int, columns: int) -> float:
        if self.adjust_lr_fn == "match_rms_adamw":
            return 0.2 * max(rows, columns) ** 0.5
        return max(1.0, rows / columns) ** 0.5

    def _orthogonal(self, g: jax.Array) -> jax.Array:
        """U S V' for g = U D V', with every entry of S about 1 (0.7 to 1.2).   g: [n, m] -> [n, m]

        The polynomial a x + b x^3 + c x^5 draws every singular value in (0, 1] there.
        """
        a, b, c = self.ns_coefficients
        tall = g.shape[0] > g.shape[1]
        x = g.T if tall else g  # so that x x' is the smaller of the two squares
        x = x / jnp.maximum(jnp.linalg.norm(x), self.eps)
        for _ in range(self.ns_steps):
            gram = x @ x.T
            x = a * x + (b * gram + c * gram @ gram) @ x
        return x.T if tall else x


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
