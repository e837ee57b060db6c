"""Attention, and the Transformer's layers made of it. Batch first: sequences are [batch, time, features].

Masks are torch's: in a mask of bools True means "not this one"; a mask of floats is added to the scores. A place that
may look at nothing at all gets zeros (torch: nan).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from derin.errors import ModelError, SpecError
from derin.nn.activations import Function
from derin.nn.checks import at_least, float_input, share, some_in_each_row
from derin.nn.init import XavierUniform, Zeros
from derin.nn.layers import Dropout, Identity, Linear
from derin.nn.module import Module
from derin.nn.normalization import LayerNorm
from derin.spec import Scalar

__all__ = [
    "MultiheadAttention",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]


class MultiheadAttention(Module):
    """Each place takes a mean of all values, weighed by how its query fits their keys; `num_heads` times over.

    query: [batch, time, embed_dim] -> [batch, time, embed_dim]; key and value, [batch, places, width], are the query
    unless given. attn_mask: [time, places], or one for each row and head, [batch * num_heads, time, places].
    key_padding_mask: [batch, places], the places of a row that are only filled up. `causal`: no place sees later ones.

    in_proj_weight: [3 embed_dim, embed_dim] (q_proj_weight, k_proj_weight, v_proj_weight where keys or values have
    another width), in_proj_bias: [3 embed_dim], out_proj.weight, out_proj.bias. `dropout` is that of the attention's
    weights; None, the default, draws nothing. The weights themselves are in nn.activations(...)["PATH.weights"].
    Vaswani et al. 2017, arXiv:1706.03762.

    >>> import jax, jax.numpy as jnp
    >>> net = MultiheadAttention(8, 2, causal=True)
    >>> params, state = net.init(jax.random.key(0), jnp.ones((3, 5, 8)))
    >>> {name: w.shape for name, w in params.items()}
    {'in_proj_weight': (24, 8), 'in_proj_bias': (24,), 'out_proj.weight': (8, 8), 'out_proj.bias': (8,)}
    """

    embed_dim: int
    num_heads: int
    dropout: Scalar | None = None
    bias: bool = True
    causal: bool = False

    def check(self) -> None:
        at_least(self, 1, embed_dim=self.embed_dim, num_heads=self.num_heads)
        share(self, "the share of attention weights set to zero", dropout=self.dropout)
        if self.embed_dim % self.num_heads:
            raise SpecError(
                f"MultiheadAttention: {self.num_heads} heads do not divide embed_dim={self.embed_dim}: "
                "each head takes an equal part."
            )

    def setup(self) -> None:
        self.weights = Identity()  # so that they can be looked at
        self.drop = _dropout(self.dropout)
        self.out_proj = Linear(self.embed_dim, self.bias, bias_init=Zeros())

    def forward(
        self,
        query: jax.Array,
        key: jax.Array | None = None,
        value: jax.Array | None = None,
        attn_mask: jax.Array | None = None,
        key_padding_mask: jax.Array | None = None,
    ) -> jax.Array:
        key = query if key is None else key
        value = key if value is None else value
        self._check_inputs(query, key, value)
        q, k, v = self._projected(query, key, value)  # [batch, time or places, heads, width of a head]
        scores = jnp.einsum("bthd,bshd->bhts", q / math.sqrt(q.shape[-1]), k)
        scores = self._masked(scores, attn_mask, key_padding_mask)
        weights = self.weights(_shares(scores).astype(v.dtype))  # [batch, heads, time, places]
        y = jnp.einsum("bhts,bshd->bthd", self.drop(weights), v)
        return self.out_proj(y.reshape(query.shape))

    def _projected(self, *inputs: jax.Array) -> list[jax.Array]:
        """Query, key and value, each times its own part of the weight, cut into heads."""
        query, key, value = inputs
        e, heads, dtype = self.embed_dim, self.num_heads, query.dtype
        if key.shape[-1] == e and value.shape[-1] == e:
            w = self.param("in_proj_weight", XavierUniform(), (3 * e, e)).astype(dtype)
            parts = [w[:e], w[e : 2 * e], w[2 * e :]]
        else:
            names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
            parts = [
                self.param(name, XavierUniform(), (e, x.shape[-1])).astype(dtype)
                for name, x in zip(names, inputs, strict=True)
            ]
            w = None
        b = self.param("in_proj_bias", Zeros(), (3 * e,)).astype(dtype) if self.bias else jnp.zeros(3 * e, dtype)
        if w is not None and query is key is value:
            every = jnp.split(query @ w.T + b, 3, -1)  # one product instead of three
        else:
            every = [x @ p.T + c for x, p, c in zip(inputs, parts, jnp.split(b, 3), strict=True)]
        return [a.reshape(*a.shape[:2], heads, e // heads) for a in every]

    def _masked(self, scores: jax.Array, attn_mask: Any, key_padding_mask: Any) -> jax.Array:
        """-inf where a place must not look, the masks of floats added.   scores: [batch, heads, time, places]"""
        b, h, t, s = scores.shape
        if self.causal:
            scores = jnp.where(jnp.tri(t, s, dtype=bool), scores, -jnp.inf)
        if attn_mask is not None:
            attn_mask = jnp.asarray(attn_mask)
            if attn_mask.shape not in ((t, s), (b * h, t, s)):
                raise ModelError(
                    f"MultiheadAttention.attn_mask must be [time, places] = {(t, s)}, or [batch * heads, time, places] "
                    f"= {(b * h, t, s)}; got shape {attn_mask.shape}."
                )
            scores = _with(scores, attn_mask if attn_mask.ndim == 2 else attn_mask.reshape(b, h, t, s), "attn_mask")
        if key_padding_mask is not None:
            key_padding_mask = jnp.asarray(key_padding_mask)
            if key_padding_mask.shape != (b, s):
                raise ModelError(
                    f"MultiheadAttention.key_padding_mask must be [batch, places] = {(b, s)}; "
                    f"got shape {key_padding_mask.shape}."
                )
            scores = _with(scores, key_padding_mask[:, None, None], "key_padding_mask")
        return scores

    def _check_inputs(self, query: Any, key: Any, value: Any) -> None:
        for x in (query, key, value):
            float_input(self, x, "[batch, time, features]", 3, exactly=True)
            some_in_each_row(self, x)
        if query.shape[-1] != self.embed_dim:
            raise ModelError(
                f"MultiheadAttention has embed_dim={self.embed_dim}, the query {query.shape} has {query.shape[-1]} "
                "features: they must be equal."
            )
        if key.shape[:2] != value.shape[:2] or key.shape[0] != query.shape[0]:
            raise ModelError(
                "MultiheadAttention needs a value for each key, and both for each row of the query; "
                f"got query {query.shape}, key {key.shape}, value {value.shape}."
            )


class TransformerEncoderLayer(Module):
    """Self-attention, then two Linear layers at each place.   src: [batch, time, d_model] -> [batch, time, d_model]

    Each of the two is added to what went into it; LayerNorm after the sum, or with `norm_first` before the layer.
    Names as torch's: self_attn.*, linear1.*, linear2.*, norm1.*, norm2.*. The masks are MultiheadAttention's.
    `dropout=None` has no dropout and draws nothing. Vaswani et al. 2017, arXiv:1706.03762.
    """

    d_model: int
    nhead: int
    dim_feedforward: int = 2048
    dropout: Scalar | None = 0.1
    activation: str | Callable[[Any], Any] = "relu"
    layer_norm_eps: float = 1e-5
    norm_first: bool = False
    bias: bool = True
    causal: bool = False

    def check(self) -> None:
        _check(self)

    def setup(self) -> None:
        self.self_attn = MultiheadAttention(self.d_model, self.nhead, self.dropout, self.bias, self.causal)
        self.linear1 = Linear(self.dim_feedforward, self.bias)
        self.act = Function(self.activation)
        self.drop = _dropout(self.dropout)
        self.linear2 = Linear(self.d_model, self.bias)
        self.norm1, self.norm2 = (LayerNorm(eps=self.layer_norm_eps, bias=self.bias) for _ in range(2))
        self.dropout1, self.dropout2 = _dropout(self.dropout), _dropout(self.dropout)

    def forward(
        self, src: jax.Array, src_mask: jax.Array | None = None, src_key_padding_mask: jax.Array | None = None
    ) -> jax.Array:
        def attend(x: jax.Array) -> jax.Array:
            return self.dropout1(self.self_attn(x, attn_mask=src_mask, key_padding_mask=src_key_padding_mask))

        def feed(x: jax.Array) -> jax.Array:
            return self.dropout2(self.linear2(self.drop(self.act(self.linear1(x)))))

        x = _around(self.norm1, attend, src, self.norm_first)
        return _around(self.norm2, feed, x, self.norm_first)


class TransformerDecoderLayer(Module):
    """Self-attention, attention to an encoder's output, then two Linear layers at each place.

    tgt: [batch, time, d_model], memory: [batch, places, d_model] -> [batch, time, d_model]

    The rest is as in TransformerEncoderLayer. Names as torch's: self_attn.*, multihead_attn.*, linear1.*, linear2.*,
    norm1.* to norm3.*. In a Sequential it takes the pair (tgt, memory). Vaswani et al. 2017, arXiv:1706.03762.
    """

    d_model: int
    nhead: int
    dim_feedforward: int = 2048
    dropout: Scalar | None = 0.1
    activation: str | Callable[[Any], Any] = "relu"
    layer_norm_eps: float = 1e-5
    norm_first: bool = False
    bias: bool = True
    causal: bool = False

    def check(self) -> None:
        _check(self)

    def setup(self) -> None:
        self.self_attn = MultiheadAttention(self.d_model, self.nhead, self.dropout, self.bias, self.causal)
        self.multihead_attn = MultiheadAttention(self.d_model, self.nhead, self.dropout, self.bias)
        self.linear1 = Linear(self.dim_feedforward, self.bias)
        self.act = Function(self.activation)
        self.drop = _dropout(self.dropout)
        self.linear2 = Linear(self.d_model, self.bias)
        self.norm1, self.norm2, self.norm3 = (LayerNorm(eps=self.layer_norm_eps, bias=self.bias) for _ in range(3))
        self.dropout1, self.dropout2, self.dropout3 = (_dropout(self.dropout) for _ in range(3))

    def forward(
        self,
        tgt: Any,
        memory: jax.Array | None = None,
        tgt_mask: jax.Array | None = None,
        memory_mask: jax.Array | None = None,
        tgt_key_padding_mask: jax.Array | None = None,
        memory_key_padding_mask: jax.Array | None = None,
    ) -> jax.Array:
        tgt, memory = _pair_of(self, tgt, memory)

        def attend(x: jax.Array) -> jax.Array:
            return self.dropout1(self.self_attn(x, attn_mask=tgt_mask, key_padding_mask=tgt_key_padding_mask))

        def look(x: jax.Array) -> jax.Array:
            y = self.multihead_attn(x, memory, attn_mask=memory_mask, key_padding_mask=memory_key_padding_mask)
            return self.dropout2(y)

        def feed(x: jax.Array) -> jax.Array:
            return self.dropout3(self.linear2(self.drop(self.act(self.linear1(x)))))

        x = _around(self.norm1, attend, tgt, self.norm_first)
        x = _around(self.norm2, look, x, self.norm_first)
        return _around(self.norm3, feed, x, self.norm_first)


class TransformerEncoder(Module):
    """`num_layers` layers like the given one, each with weights of its own, and a `norm` at the end if given.

    src: [batch, time, d_model] -> [batch, time, d_model]      layers.0.self_attn.in_proj_weight, ..., norm.weight

    >>> import jax, jax.numpy as jnp
    >>> net = TransformerEncoder(TransformerEncoderLayer(8, 2, 16), 3)
    >>> params, state = net.init(jax.random.key(0), jnp.ones((4, 5, 8)))
    >>> len(params), params["layers.2.linear1.weight"].shape
    (36, (16, 8))
    """

    encoder_layer: TransformerEncoderLayer
    num_layers: int
    norm: Module | None = None

    def check(self) -> None:
        at_least(self, 1, num_layers=self.num_layers)

    def setup(self) -> None:
        self.layers = [self.encoder_layer.replace() for _ in range(self.num_layers)]

    def forward(
        self, src: jax.Array, mask: jax.Array | None = None, src_key_padding_mask: jax.Array | None = None
    ) -> jax.Array:
        x = src
        for layer in self.layers:
            x = layer(x, mask, src_key_padding_mask)
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(Module):
    """`num_layers` layers like the given one, each with weights of its own, and a `norm` at the end if given.

    tgt: [batch, time, d_model], memory: [batch, places, d_model] -> [batch, time, d_model]
    """

    decoder_layer: TransformerDecoderLayer
    num_layers: int
    norm: Module | None = None

    def check(self) -> None:
        at_least(self, 1, num_layers=self.num_layers)

    def setup(self) -> None:
        self.layers = [self.decoder_layer.replace() for _ in range(self.num_layers)]

    def forward(self, tgt: Any, memory: jax.Array | None = None, **masks: jax.Array | None) -> jax.Array:
        x, memory = _pair_of(self, tgt, memory)
        for layer in self.layers:
            x = layer(x, memory, **masks)
        return x if self.norm is None else self.norm(x)


# -- what they share


@jax.custom_jvp
def _shares(scores: jax.Array) -> jax.Array:
    """Softmax over the last axis, in float32; zeros where all is -inf."""
    scores = scores.astype(jnp.float32) if scores.dtype.itemsize < 4 else scores
    top = scores.max(-1, keepdims=True)
    e = jnp.exp(scores - jnp.where(jnp.isfinite(top), top, 0))
    total = e.sum(-1, keepdims=True)
    return e / jnp.where(total > 0, total, 1)


@_shares.defjvp
def _shares_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """From the shares alone: the scores need not be kept, nor their exponentials be taken again."""
    shares, change = _shares(*primals), tangents[0]
    change = change.astype(shares.dtype)
    return shares, shares * (change - (shares * change).sum(-1, keepdims=True))


def _with(scores: jax.Array, mask: jax.Array, name: str) -> jax.Array:
    if mask.dtype == bool:
        return jnp.where(mask, -jnp.inf, scores)
    if not jnp.issubdtype(mask.dtype, jnp.floating):
        raise ModelError(
            f"MultiheadAttention.{name} must be of bools (True: not this one) or of floats (added to the scores), "
            f"got {mask.dtype}."
        )
    return scores + mask.astype(scores.dtype)


def _dropout(rate: Scalar | None) -> Module:
    return Identity() if rate is None else Dropout(rate)


def _around(norm: Module, layer: Callable[[Any], Any], x: jax.Array, norm_first: bool) -> jax.Array:
    return x + layer(norm(x)) if norm_first else norm(x + layer(x))


def _pair_of(layer: Module, x: Any, memory: Any) -> tuple[Any, Any]:
    if memory is None and isinstance(x, tuple) and len(x) == 2:
        return x
    if memory is None:
        raise ModelError(
            f"{type(layer).__name__} needs two inputs, a sequence and an encoder's output; got one, {jnp.shape(x)}."
        )
    return x, memory


def _check(layer: Any) -> None:
    name = type(layer).__name__
    at_least(layer, 1, d_model=layer.d_model, nhead=layer.nhead, dim_feedforward=layer.dim_feedforward)
    share(layer, "the share of entries set to zero", dropout=layer.dropout)
    if layer.d_model % layer.nhead:
        raise SpecError(f"{name}: {layer.nhead} heads do not divide d_model={layer.d_model}: each takes an equal part.")
    if not layer.layer_norm_eps >= 0:
        raise SpecError(f"{name}.layer_norm_eps must be 0 or more, got {layer.layer_norm_eps}.")
