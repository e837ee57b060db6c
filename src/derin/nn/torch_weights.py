"""Weights trained in PyTorch: a state_dict, or a safetensors file of one, for a net of the same layers.

    params, state, notes = nn.load_torch(net, "model.safetensors", x)
    y, _ = net.apply(params, state, x)

Names and layouts are torch's, so arrays go by name and as they are. One thing differs: maps are channels last here. A
Linear that reads a flattened map has its columns in another order, and is permuted; `notes` says which. torch itself
is not needed, and no pickle is opened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from derin.errors import ModelError
from derin.nn.composition import Shared
from derin.nn.module import Arrays, Declared, Module, Run, bind

__all__ = ["TorchWeights", "load_torch"]

_PREFIXES = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every name


class TorchWeights(NamedTuple):
    """What `net.apply` needs, and what was changed on the way, in words."""

    params: Arrays
    state: Arrays
    notes: tuple[str, ...]


def load_torch(net: Module, weights: Mapping[str, Any] | str | Path, *inputs: Any) -> TorchWeights:
    """The weights of a torch module for a net of the same names, and notes on what was permuted or left out.

    weights: a state_dict (name -> tensor or array), or the path of a .safetensors file. inputs: arrays, or
    jax.ShapeDtypeStruct, like those the net will get; channels last. Raises ModelError that names every missing, extra
    and misshapen array. torch's num_batches_tracked is read where a BatchNorm counts (momentum=None), else left out.

    >>> import numpy as np
    >>> from derin.nn import Flatten, Linear, Sequential
    >>> net = Sequential(Flatten(), Linear(1))
    >>> theirs = {"1.weight": np.arange(8.0).reshape(1, 8), "1.bias": np.zeros(1)}        # columns: [2, 2, 2] = c, h, w
    >>> params, state, notes = load_torch(net, theirs, np.zeros((1, 2, 2, 2), np.float32))
    >>> params["1.weight"].tolist()
    [[0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]]
    >>> notes[0]
    "'1.weight' reads a flattened map: axis 1 was permuted from (channel, height, width) = (2, 2, 2) to channels last."
    """
    arrays, notes = _without_prefix(_read(weights))
    declared, orders, aliases, doubts = _looked(net, inputs)
    arrays, problems = _under_shared_names(arrays, aliases)
    wanted = {name: d.shape for name, d in declared.items()}
    arrays = {n: a for n, a in arrays.items() if n in wanted or n.rpartition(".")[2] != "num_batches_tracked"}
    _refuse_what_does_not_fit(arrays, wanted, orders, problems)
    made = {}
    for name, d in declared.items():
        a = arrays[name]
        for order in orders.get(name, ()):
            a = order.applied(a)
            notes.append(order.note(name))
        made[name] = jnp.array(a, d.dtype)
    return TorchWeights(
        {n: a for n, a in made.items() if declared[n].kind == "param"},
        {n: a for n, a in made.items() if declared[n].kind == "state"},
        (*notes, *doubts),
    )


# -- reading


def _read(weights: Mapping[str, Any] | str | Path) -> dict[str, np.ndarray]:
    if isinstance(weights, (str, Path)):
        return _read_file(Path(weights))
    if not isinstance(weights, Mapping):
        raise ModelError(
            f"load_torch needs a state_dict (a mapping of names to arrays) or the path of a .safetensors file, "
            f"got {type(weights).__name__}. Of a torch module: module.state_dict()."
        )
    found = {}
    for name, value in weights.items():
        if isinstance(value, Mapping):
            raise ModelError(f"this is a checkpoint that holds a state_dict; pass checkpoint[{name!r}].")
        try:
            found[str(name)] = np.asarray(value)
        except (TypeError, RuntimeError, ValueError) as error:
            raise ModelError(
                f"the array {name!r} cannot be read ({error}). Of a tensor: tensor.detach().float().cpu()."
            ) from None
    return found


def _read_file(path: Path) -> dict[str, np.ndarray]:
    if path.suffix != ".safetensors":
        raise ModelError(
            f"{path.name} is not a .safetensors file. A pickle can run code, so derin opens none; convert it where "
            f"torch is:\n  import torch, safetensors.torch as st; d = torch.load({path.name!r}, map_location='cpu'); "
            f"st.save_file({{k: v.clone() for k, v in d.get('state_dict', d).items()}}, '{path.stem}.safetensors')"
        )
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="flax") as file:  # numpy's reader knows no bfloat16
            return {name: np.asarray(file.get_tensor(name)) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}.") from None


def _without_prefix(arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    notes = []
    while arrays:
        prefix = next((p for p in _PREFIXES if all(n.startswith(p) for n in arrays)), None)
        if prefix is None:
            break
        arrays = {n[len(prefix) :]: a for n, a in arrays.items()}
        notes.append(f"'{prefix}' before every name was left out.")
    return arrays, notes


def _under_shared_names(arrays: dict[str, np.ndarray], aliases: dict[str, str]) -> tuple[dict[str, np.ndarray], list]:
    """torch names a shared layer after each of its places; here all of them are one."""
    found: dict[str, np.ndarray] = {}
    problems = []
    for name, a in arrays.items():
        place = next((p for p in aliases if name.startswith(p + ".")), None)
        to = name if place is None else aliases[place] + name[len(place) :]
        if to in found and not np.array_equal(found[to], a):
            problems.append(f"'{name}' is shared as '{to}', but differs from it")
        found.setdefault(to, a)
    return found, problems


def _refuse_what_does_not_fit(arrays: dict, wanted: dict, orders: dict, problems: list[str]) -> None:
    missing = [n for n in wanted if n not in arrays]
    extra = [n for n in arrays if n not in wanted]
    shapes = {n: orders[n][0].theirs(s) if n in orders else s for n, s in wanted.items()}
    fits = {n: n not in arrays or arrays[n].shape == s for n, s in shapes.items()}
    wrong = [f"'{n}' has shape {arrays[n].shape}, the net needs {shapes[n]}" for n, fit in fits.items() if not fit]
    problems = [f"missing {', '.join(map(repr, missing))}"] * bool(missing) + problems
    problems += [f"extra {', '.join(map(repr, extra))}"] * bool(extra) + wrong
    if problems:
        raise ModelError("these torch weights belong to another net: " + "; ".join(problems) + ".")


# -- where channels-last order touches a weight


class _Order(NamedTuple):
    """An axis (or, with `whole`, all axes) of a weight that torch has channels first.

    parts: the shapes, channels last, that lie flat one after the other along the axis; (n,) for one without an order.
    """

    axis: int
    parts: tuple[tuple[int, ...], ...]
    whole: bool = False

    def theirs(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[-1], *shape[:-1]) if self.whole else shape

    def applied(self, a: np.ndarray) -> np.ndarray:
        if self.whole:
            return np.moveaxis(a, 0, -1)
        index, start = [], 0
        for part in self.parts:
            of_part = np.arange(start, start + math.prod(part))
            index.append(np.moveaxis(of_part.reshape(part[-1], *part[:-1]), 0, -1).ravel())
            start += of_part.size
        return np.take(a, np.concatenate(index), self.axis)

    def note(self, name: str) -> str:
        axes = {2: "channel, length", 3: "channel, height, width", 4: "channel, depth, height, width"}
        said = [f"({axes[len(p)]}) = {(p[-1], *p[:-1])}" for p in self.parts if len(p) > 1]
        if self.whole:
            return f"'{name}' spans a map: its axes were permuted from {said[0]} to channels last."
        return (
            f"'{name}' reads a flattened map: axis {self.axis} was permuted from {' and '.join(said)} to channels last."
        )


class _Flat(NamedTuple):
    """The last axis holds these shapes one after the other, channels last within each."""

    parts: tuple[tuple[int, ...], ...]


_MAP = "map"  # [batch, ..., channels], where torch has [batch, channels, ...]
Label = _Flat | str | None
_MAKES_MAPS = ("Conv", "MaxPool", "AvgPool", "LPPool", "AdaptiveMax", "AdaptiveAvg", "Upsample", "Pixel", "Dropout2d")


class _Found(NamedTuple):
    declared: dict[str, Declared]  # the weights the net asks for
    orders: dict[str, list[_Order]]  # those that torch has in another order
    aliases: dict[str, str]  # {place: name} of shared layers
    doubts: list[str]


def _looked(net: Module, inputs: Any) -> _Found:
    """What the net asks for, and which of it channels-last order touches.

    The net is traced with each layer that has no layers of its own as one opaque call, so that what remains of the
    program is what the net does to their outputs; labels (a map, a flattened map) flow through it.
    """
    found = _Found({}, {}, {}, [])
    bound = bind(net, Run({}, {}, True, declared=found.declared))
    layers = {}
    for layer in _modules(bound, set()):
        if isinstance(layer, Shared):
            found.aliases[layer.path] = layer.layer.path
        if not any(True for _ in _children(layer)):
            layers[f"layer {layer.path}"] = layer
            vars(layer)["forward"] = _opaque(layer)
    jaxpr = jax.make_jaxpr(lambda *xs: bound(*xs))(*inputs).jaxpr
    _flow(jaxpr, {v: _MAP if len(v.aval.shape) > 3 else None for v in jaxpr.invars}, layers, found)
    return found


def _opaque(layer: Module) -> Callable:
    inner = layer.forward

    def forward(*args: Any) -> Any:
        return inner(*args)

    forward.__name__ = f"layer {layer.path}"
    return jax.jit(forward)


def _flow(jaxpr: Any, labels: dict, layers: dict, found: _Found) -> None:
    for eqn in jaxpr.eqns:
        came = [None if isinstance(v, Literal) else labels.get(v) for v in eqn.invars]
        name, inner = eqn.params.get("name"), eqn.params.get("jaxpr")
        if name in layers:
            _through_layer(layers[name], eqn, came, labels, found)
        elif hasattr(inner, "jaxpr") and len(inner.jaxpr.invars) == len(came):  # a jitted function of jnp
            inside = dict(zip(inner.jaxpr.invars, came, strict=True))
            _flow(inner.jaxpr, inside, layers, found)
            for v, of in zip(eqn.outvars, inner.jaxpr.outvars, strict=True):
                labels[v] = None if isinstance(of, Literal) else inside.get(of)
        else:
            if eqn.primitive.name == "dot_general" and any(isinstance(c, _Flat) for c in came):
                found.doubts.append("a product that is no Linear reads a flattened map: its weight was not permuted.")
            for v in eqn.outvars:
                labels[v] = _through_primitive(eqn, came, v.aval.shape)


def _through_layer(layer: Module, eqn: Any, came: list, labels: dict, found: _Found) -> None:
    """What a layer makes of its input's label; its weights may need another order."""
    at, label = next(((v, c) for v, c in zip(eqn.invars, came, strict=True) if c is not None), (None, None))
    kind, out = type(layer).__name__, eqn.outvars[0].aval.shape
    shapes = {n: d.shape for n, d in found.declared.items() if n.rpartition(".")[0] == layer.path}
    for name, shape in shapes.items():
        if isinstance(label, _Flat) and kind == "Linear" and len(shape) == 2:
            found.orders[name] = [_Order(1, label.parts)]
        elif isinstance(label, _Flat) and kind != "Linear" and shape == (sum(map(math.prod, label.parts)),):
            found.orders[name] = [_Order(0, label.parts)]  # a norm, a slope: a number a column
        elif isinstance(label, _Flat) and len(shape) > 1:
            found.doubts.append(f"'{name}' may read a flattened map: it was not permuted.")
        elif label == _MAP and at is not None and len(shape) > 1 and shape == at.aval.shape[1:]:
            found.orders[name] = [_Order(0, (shape,), whole=True)]  # a LayerNorm over whole maps
    if kind.startswith(_MAKES_MAPS):
        after: Label = _MAP
    elif at is not None and label == _MAP and len(out) < len(at.aval.shape):
        after = _flattened(at.aval.shape, out)
    else:
        after = label if at is not None and (out == at.aval.shape) and kind != "Linear" else None
    for v in eqn.outvars:
        labels[v] = after


def _through_primitive(eqn: Any, came: list, out: tuple[int, ...]) -> Label:
    """What jnp's own operations make of the labels of their inputs."""
    shapes = [v.aval.shape for v in eqn.invars]
    if eqn.primitive.name == "concatenate" and any(isinstance(c, _Flat) for c in came) and len(out) == 2:
        parts = [c.parts if isinstance(c, _Flat) else ((s[-1],),) for c, s in zip(came, shapes, strict=True)]
        return _Flat(tuple(p for ps in parts for p in ps)) if eqn.params["dimension"] == 1 else None
    for label, shape in zip(came, shapes, strict=True):
        if label is None or eqn.primitive.name == "transpose":
            continue
        if label == _MAP and len(out) == len(shape):
            return _MAP
        if label == _MAP and eqn.primitive.name == "reshape":
            return _flattened(shape, out)
        if out == shape:
            return label
    return None


def _flattened(shape: tuple[int, ...], out: tuple[int, ...]) -> Label:
    """[batch, ..., channels] as [batch, n]; nothing if there is but one place, or one channel."""
    whole = out == (shape[0], math.prod(shape[1:]))
    return _Flat((tuple(shape[1:]),)) if whole and 1 not in (shape[-1], math.prod(shape[1:-1])) else None


def _children(value: Any) -> Iterator[Module]:
    for name, v in vars(value).items():
        if name != "_run":
            yield from _found(v)


def _found(value: Any) -> Iterator[Module]:
    if isinstance(value, Module):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from _found(v)
    elif type(value) is dict:
        for v in value.values():
            yield from _found(v)


def _modules(module: Module, seen: set[int]) -> Iterator[Module]:
    if id(module) not in seen:
        seen.add(id(module))
        yield module
        for child in _children(module):
            yield from _modules(child, seen)
