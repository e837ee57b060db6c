"""A model is a frozen description; its weights live in plain dicts.

    net = MLP(widths=(64, 64), classes=3)                # a Spec: holds no arrays
    params, state = net.init(key, x)                     # {"hidden.0.weight": f32[64, 8], ...}
    y, state = net.apply(params, state, x, train=True, key=key)

`apply` makes a bound twin of the model: a copy whose layers know their own path ("hidden.0") and the one
Run they read from and write to. Nothing is global, so `init` and `apply` are pure functions and go under
jit, grad, vmap and scan. Names and layouts are those of torch's state_dict.
"""

from __future__ import annotations

import difflib
import inspect
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state

from derin.errors import ModelError
from derin.spec import Scalar, Spec, _field_names, _rebuilding, require_fixed

__all__ = [
    "Arrays",
    "Init",
    "Module",
    "Run",
    "Scalar",
    "activation_gradient",
    "activations",
    "bind",
    "named_key",
]

Arrays = dict[str, jax.Array]  # "block.0.weight" -> array
Init = Callable[[jax.Array, tuple[int, ...], Any], jax.Array]  # (key, shape, dtype) -> array


class Declared(NamedTuple):
    """What a layer asked for: a weight ("param") or a running value ("state")."""

    kind: str
    init: Init
    shape: tuple[int, ...]
    dtype: Any


def named_key(key: jax.Array, name: str) -> jax.Array:
    """A key that depends on the name only, so adding a layer does not reseed the others."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def _trace() -> Any:
    return get_opaque_trace_state(convention="flax")


@dataclass
class Run:
    """One pass through a model: what its layers read, and what they write."""

    params: Arrays
    state: Arrays
    train: bool = False
    key: jax.Array | None = None
    mask: jax.Array | None = None  # [batch]: 1 for a real row, 0 for one that only fills the batch up
    declared: dict[str, Declared] | None = None  # filled while init looks for shapes
    seen: dict[str, Any] | None = None  # outputs by path, when asked for
    nudge: Arrays = field(default_factory=dict)  # added to outputs, to differentiate by them
    draws: Counter = field(default_factory=Counter)
    calls: Counter = field(default_factory=Counter)
    trace: Any = field(default_factory=_trace)

    @property
    def unwatched(self) -> bool:
        """Nobody looks at what single layers put out, or changes it: only the last output counts."""
        return self.seen is None and self.declared is None and not self.nudge

    def read(self, path: str, want: Declared) -> jax.Array:
        if self.declared is not None:  # init: note the shape, lend a stand-in
            known = self.declared.setdefault(path, want)
            if known.shape != want.shape:
                raise ModelError(
                    f"'{path}' is shared by two calls that need different shapes: {known.shape} and {want.shape}."
                )
            return jnp.zeros(want.shape, want.dtype)
        table = self.params if want.kind == "param" else self.state
        if path not in table:
            near = difflib.get_close_matches(path, table, n=3)
            raise ModelError(
                f"no {want.kind} is called '{path}'. Nearest names: {near or 'none'}. "
                "Were these weights made by init() of this same model?"
            )
        if table[path].shape != want.shape:
            raise ModelError(
                f"'{path}' has shape {table[path].shape}, but this input needs {want.shape}. "
                "The model was initialised for another input shape."
            )
        return table[path]

    def write(self, path: str, value: jax.Array) -> None:
        self.check_trace(path, "write state")
        if self.declared is None:
            self.state[path] = jax.lax.stop_gradient(value).astype(self.state[path].dtype)

    def draw(self, path: str) -> jax.Array:
        if self.declared is not None:
            return jax.random.key(0)
        self.check_trace(path, "draw random numbers")
        if self.key is None:
            raise ModelError(f"'{path}' draws random numbers in training; pass key=... to apply().")
        self.draws[path] += 1
        return jax.random.fold_in(named_key(self.key, path), self.draws[path])

    def check_trace(self, path: str, what: str) -> None:
        if self.declared is None and _trace() != self.trace:
            raise ModelError(
                f"'{path}' tried to {what} inside jax.lax.scan, vmap, grad, jit or checkpoint. "
                "Use self.scan(...) or self.remat(...), which carry state and keys."
            )

    def note(self, spot: str, out: Any) -> None:
        if self.seen is None:
            return
        if self.declared is not None:  # init: keep shapes only, never tracers
            out = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), out)
        elif _trace() != self.trace:
            return
        self.seen[spot] = out

    @contextmanager
    def inside(self, **fields: Any) -> Iterator[None]:
        """Lend the layers other params, state or key for a while: the body of scan and remat."""
        fields.update(trace=_trace(), seen=self.seen if self.declared is not None else None)
        kept = {name: getattr(self, name) for name in fields}
        vars(self).update(fields)
        try:
            yield
        finally:
            vars(self).update(kept)


class Module(Spec):
    """Base of every layer. Fields are hyperparameters; children are made in setup().

    A subclass statement makes it a frozen dataclass, a pytree and a registered name. One object has one
    path and one set of weights: a child used twice in `forward` shares them. A child is made in `setup`, or
    handed over in a field; the same object in two fields is refused (it would be two after a jit).
    Concepts S1.01, S1.54.

    >>> import jax, jax.numpy as jnp
    >>> from derin.nn import Linear, Module, relu
    >>> class Two(Module):
    ...     width: int = 4
    ...     def setup(self):
    ...         self.a, self.b = Linear(self.width), Linear(1)
    ...     def forward(self, x):                     # [batch, in] -> [batch, 1]
    ...         return self.b(relu(self.a(x)))
    >>> params, state = Two().init(jax.random.key(0), jnp.ones((5, 3)))
    >>> {name: w.shape for name, w in params.items()}
    {'a.weight': (4, 3), 'a.bias': (4,), 'b.weight': (1, 4), 'b.bias': (1,)}
    >>> y, state = Two().apply(params, state, jnp.ones((5, 3)))
    >>> y.shape
    (5, 1)
    """

    path: ClassVar[str] = ""
    ensemble: ClassVar[bool] = False  # True: forward puts out [batch, members, outputs], a prediction each
    _run: ClassVar[Run | None] = None
    _inline: ClassVar[str | None] = None  # a container field whose name is left out of the paths

    def __init_subclass__(cls) -> None:
        for name in inspect.get_annotations(cls):
            if not name.startswith("_") and hasattr(Module, name) and cls.__module__ != __name__:
                raise TypeError(f"{cls.__name__}.{name}: '{name}' is taken by Module; rename the field.")
            if isinstance(vars(cls).get(name), Module):
                raise TypeError(
                    f"{cls.__name__}.{name}: a layer as a default would be shared by every instance; "
                    "make it in setup(self)."
                )
        super().__init_subclass__()

    def _complete(self) -> None:
        if self._has_distributions or getattr(_rebuilding, "on", False):
            return  # JAX may be passing sentinels: setup waits until somebody looks
        found: dict[int, str] = {}
        for name in _field_names(type(self)):
            for child, path in _modules_in(self.__dict__[name], name):
                if id(child) in found:
                    raise ModelError(
                        f"{type(self).__name__} holds one {type(child).__name__} twice, in '{found[id(child)]}' and "
                        f"'{path}'. To share weights, make the layer in setup() and call it twice in forward()."
                    )
                found[id(child)] = path
        self._set_up()

    def _set_up(self) -> None:
        self.__dict__["_sealed"] = False
        self.__dict__["_ready"] = True
        self.setup()
        self.__dict__["_sealed"] = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_ready" in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        if self._has_distributions:
            raise AttributeError(f"{type(self).__name__} makes {name!r} when its distributions have become values.")
        was, _rebuilding.on = getattr(_rebuilding, "on", False), False
        try:
            self._set_up()
        finally:
            _rebuilding.on = was
        return getattr(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if self._sealed and self._run is not None:
            raise ModelError(
                f"{type(self).__name__} is frozen; '{name}' cannot be set in forward(). For running statistics: "
                f"self.set_state('{name}', value). For a changed copy: layer.replace({name}=...)."
            )
        super().__setattr__(name, tuple(value) if type(value) is list else value)

    # -- written by a layer
    def setup(self) -> None:
        """Make the child layers: `self.head = Linear(self.classes)`."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise ModelError(f"{type(self).__name__} has no forward(self, x).")

    # -- asked for by a layer, inside forward
    def param(self, name: str, init: Init, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        """The weight of that name, of that shape; `init(key, shape, dtype)` draws it at the start."""
        return self._bound().read(self._join(name), Declared("param", init, tuple(shape), dtype))

    def state(self, name: str, init: Init, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        """A value that the layer keeps between calls and no gradient reaches: running statistics."""
        return self._bound().read(self._join(name), Declared("state", init, tuple(shape), dtype))

    def set_state(self, name: str, value: jax.Array) -> None:
        """Write a value declared by state(); it keeps its dtype."""
        self._bound().write(self._join(name), value)

    def rng(self) -> jax.Array:
        """A fresh random key, a function of apply's key, this layer's path and the call's number."""
        return self._bound().draw(self.path or type(self).__name__)

    def bernoulli(self, share: Any, shape: tuple[int, ...]) -> jax.Array:
        """Fresh bools of a shape, each True with probability `share`, to within 2^-16.

        Sixteen random bits each, four of them from a block of threefry, whatever the key's kind. jax.random.bernoulli
        spends a block on each, which takes longer than the layer before a Dropout (bench/dropout.py).
        """
        from jax.extend.random import threefry_2x32  # nets without dropout need not wait for it

        n = math.prod(shape)
        counts = jnp.arange(2 * -(-n // 4), dtype=jnp.uint32)
        words = threefry_2x32(jax.random.key_data(self.rng())[:2], counts)
        halves = jnp.concatenate([words >> 16, words & 0xFFFF])[:n].reshape(shape)
        return halves.astype(jnp.float32) < 65536 * jnp.asarray(share, jnp.float32)

    @property
    def training(self) -> bool:
        """True inside apply(..., train=True)."""
        return self._bound().train

    @property
    def mask(self) -> jax.Array | None:
        """[batch] of 0 and 1, or None: rows that only fill up the last batch are 0. For layers that mix rows."""
        return self._bound().mask

    def scan(self, body: Callable, carry: Any, xs: Any) -> tuple[Any, Any]:
        """lax.scan whose body may call layers: state is carried, every step has its own keys."""
        run = self._bound()
        key = None if run.key is None else self.rng()  # another one at every call

        def step(loop: Any, at: Any) -> Any:
            (carry, state), (i, x) = loop, at
            step_key = None if key is None else jax.random.fold_in(key, i)
            with run.inside(state=dict(state), key=step_key, draws=Counter()):
                carry, y = body(carry, x)
                return (carry, run.state), y

        steps = jnp.arange(jax.tree.leaves(xs)[0].shape[0])
        (carry, run.state), ys = jax.lax.scan(step, (carry, run.state), (steps, xs))
        return carry, ys

    def remat(self, f: Callable, *args: Any) -> Any:
        """jax.checkpoint around a call that uses layers: less memory, the work is done twice."""
        run = self._bound()

        def pure(params: Arrays, state: Arrays, *args: Any) -> Any:
            with run.inside(params=params, state=dict(state)):
                return f(*args), run.state

        out, run.state = jax.checkpoint(pure)(run.params, run.state, *args)
        return out

    # -- called from outside
    def init(self, key: jax.Array, *inputs: Any) -> tuple[Arrays, Arrays]:
        """Draw the weights for inputs of these shapes (arrays or jax.ShapeDtypeStruct): (params, state)."""
        declared, _ = self.look(*inputs)
        made = {p: d.init(named_key(key, p), d.shape, d.dtype) for p, d in declared.items()}
        return (
            {p: a for p, a in made.items() if declared[p].kind == "param"},
            {p: a for p, a in made.items() if declared[p].kind == "state"},
        )

    def apply(
        self,
        params: Arrays,
        state: Arrays,
        *inputs: Any,
        train: bool = False,
        key: jax.Array | None = None,
        mask: jax.Array | None = None,
    ) -> tuple[Any, Arrays]:
        """Run forward. Always returns (output, state)."""
        run = Run(params, dict(state), train, key, mask)
        return bind(self, run)(*inputs), run.state

    def look(self, *inputs: Any) -> tuple[dict[str, Declared], dict[str, Any]]:
        """Every weight and every layer's output shape, in call order, by one abstract pass."""
        for x in jax.tree.leaves(inputs):
            if not hasattr(x, "shape") and not isinstance(x, (int, float)):
                raise ModelError(
                    f"{type(self).__name__} needs arrays as inputs, or jax.ShapeDtypeStruct, got {x!r} "
                    f"({type(x).__name__})."
                )
        declared: dict[str, Declared] = {}
        seen: dict[str, Any] = {}
        jax.eval_shape(lambda *xs: bind(self, Run({}, {}, True, declared=declared, seen=seen))(*xs), *inputs)
        return declared, seen

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        run = self._bound()
        try:
            with jax.named_scope(self.path or type(self).__name__):
                out = self.forward(*args, **kwargs)
        except Exception as error:
            error.add_note(
                f"  in {self.path or 'model'} ({type(self).__name__}), input {jax.tree.map(jnp.shape, args)}"
            )
            raise
        run.calls[self.path] += 1
        nth = run.calls[self.path]
        spot = self.path if nth == 1 else f"{self.path}#{nth}"  # a layer may be called twice
        if spot in run.nudge:
            out = out + run.nudge[spot]
        run.note(spot, out)
        return out

    def _bound(self) -> Run:
        if self._run is None:
            raise ModelError(
                f"{type(self).__name__} is only a description here. Call "
                "y, state = model.apply(params, state, x), or make the layer in setup()."
            )
        return self._run

    def _join(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def _place(self, name: str, path: str) -> str:
        """The path of the layers in an attribute, this layer's own being `path`."""
        return path if name == self._inline else f"{path}.{name}" if path else name


def bind(model: Module, run: Run, path: str = "") -> Any:
    """Copy the tree so that every layer knows its path (below `path`) and this run."""
    require_fixed(model, "a net that computes")
    twins: dict[int, Module] = {}

    def twin(value: Any, path: str) -> Any:
        below = lambda name: f"{path}.{name}" if path else str(name)  # noqa: E731
        if isinstance(value, Module):
            if id(value) not in twins:  # the first place found gives the path
                if "_ready" not in value.__dict__:
                    value._set_up()
                twins[id(value)] = copy = object.__new__(type(value))
                for name, v in vars(value).items():
                    vars(copy)[name] = twin(v, value._place(name, path))
                vars(copy).update(_run=run, path=path)
            return twins[id(value)]
        if type(value) in (list, tuple):
            return type(value)(twin(v, below(i)) for i, v in enumerate(value))
        if type(value) is dict:
            return {k: twin(v, below(k)) for k, v in value.items()}
        return value

    return twin(model, path)


def activations(model: Module, params: Arrays, state: Arrays, *inputs: Any) -> dict[str, Any]:
    """The output of every layer by path, in evaluation mode; a layer's second call is `path#2`.

    >>> import jax, jax.numpy as jnp
    >>> from derin.nn import Linear, ReLU, Sequential
    >>> net, x = Sequential(Linear(4), ReLU()), jnp.ones((2, 3))
    >>> {p: a.shape for p, a in activations(net, *net.init(jax.random.key(0), x), x).items()}
    {'0': (2, 4), '1': (2, 4), '': (2, 4)}
    """
    run = Run(params, dict(state), seen={})
    bind(model, run)(*inputs)
    return run.seen or {}


def activation_gradient(model: Module, score: Callable, params: Arrays, state: Arrays, x: Any, path: str) -> jax.Array:
    """d score(output) / d output-of-`path`, in evaluation mode: the raw material of Grad-CAM."""
    at = activations(model, params, state, x)
    if path not in at:
        raise ModelError(f"no layer is called '{path}'. Layers: {', '.join(p or '(model)' for p in at)}.")

    def scored(nudge: jax.Array) -> jax.Array:
        return score(bind(model, Run(params, dict(state), nudge={path: nudge}))(x))

    return jax.grad(scored)(jnp.zeros_like(at[path]))


def _modules_in(value: Any, path: str) -> Iterator[tuple[Module, str]]:
    """Every module below a field's value, itself included."""
    if isinstance(value, Module):
        yield value, path
        for name in _field_names(type(value)):
            yield from _modules_in(value.__dict__[name], f"{path}.{name}")
    elif isinstance(value, tuple):
        for i, v in enumerate(value):
            yield from _modules_in(v, f"{path}.{i}")


# -- the table of a model


class Row(NamedTuple):
    """One line of a summary: a layer, the shape it puts out, and what it costs."""

    path: str
    kind: str
    output: str
    parameters: int
    multiply_adds: int
    bytes: int


class Summary:
    """Path, output shape, parameters, multiply-adds and bytes of every layer; print it, or read `.rows`."""

    def __init__(self, rows: list[Row], total: Row) -> None:
        self.rows, self.total = rows, total

    def __repr__(self) -> str:
        cells: list[tuple[str, ...]] = [("path", "layer", "output", "parameters", "multiply-adds", "bytes")]
        for r in [*self.rows, self.total]:
            numbers = (f"{n:,}" if n else "" for n in r[3:])
            cells.append((r.path or "(model)", r.kind, r.output, *numbers))
        widths = [max(len(row[i]) for row in cells) for i in range(6)]
        lines = [
            "  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in cells
        ]
        return "\n".join(line.rstrip() for line in lines)


def summary(net: Module, *inputs: Any) -> Summary:
    """What each layer puts out and costs, for inputs of these shapes. One abstract pass, no arithmetic.

    Multiply-adds are those of the matrix products and convolutions of one forward pass; bytes those of
    parameters and of the output.

    >>> import jax.numpy as jnp
    >>> from derin.nn import Linear, ReLU, Sequential
    >>> summary(Sequential(Linear(4), ReLU(), Linear(2)), jnp.ones((1, 3)))
    path   layer   output  parameters  multiply-adds  bytes
    0      Linear  (1, 4)          16             12     80
    1      ReLU    (1, 4)                                16
    2      Linear  (1, 2)          10              8     48
    total          (1, 2)          26             20    144
    """
    declared, seen = net.look(*inputs)
    kinds = _kinds(net)
    sizes = {p: (math.prod(d.shape), jnp.dtype(d.dtype).itemsize) for p, d in declared.items() if d.kind == "param"}
    work = _multiply_adds(net, declared, inputs)
    rows = []
    for spot, out in seen.items():
        path = spot.partition("#")[0]
        first = spot == path
        own = [s for p, s in sizes.items() if p.rpartition(".")[0] == path and first]
        leaves = jax.tree.leaves(out)
        shapes = ", ".join(str(tuple(o.shape)) for o in leaves)
        size = sum(n * b for n, b in own)
        moved = sum(math.prod(o.shape) * o.dtype.itemsize for o in leaves)
        if path:
            rows.append(
                Row(
                    spot,
                    kinds.get(path, ""),
                    shapes,
                    sum(n for n, _ in own),
                    work.get(path, 0) if first else 0,
                    size + moved,
                )
            )
    out = ", ".join(str(tuple(o.shape)) for o in jax.tree.leaves(seen[""]))
    parameters = sum(n for n, _ in sizes.values())
    weights = sum(n * b for n, b in sizes.values())
    inner = [r for r in rows if not any(o.path.startswith(r.path + ".") for o in rows)]
    moved = sum(r.bytes for r in inner) - sum(
        n * b for p, (n, b) in sizes.items() if p.rpartition(".")[0] in {r.path for r in inner}
    )
    return Summary(rows, Row("total", "", out, parameters, sum(work.values()), weights + moved))


def _kinds(net: Module) -> dict[str, str]:
    return {path: type(layer).__name__ for path, layer in layers_by_path(net).items()}


def layers_by_path(net: Module) -> dict[str, Module]:
    """Every layer below a net, and the net itself, by path; of two at one path the outer one."""
    found: dict[str, Module] = {}
    done: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, Module):
            if found.setdefault(value.path, value) and value.path in done:
                return
            done.add(value.path)
            for name, v in vars(value).items():
                if name != "_run":
                    walk(v)
        elif isinstance(value, (list, tuple)):
            for v in value:
                walk(v)
        elif type(value) is dict:
            for v in value.values():
                walk(v)

    walk(bind(net, Run({}, {})))
    return found


as_written = ContextVar("as_written", default=False)  # True: layers trace a convolution as one, whatever is faster


def _multiply_adds(net: Module, declared: dict[str, Declared], inputs: Any) -> dict[str, int]:
    """Multiply-adds of matrix products and convolutions by layer, read off the traced program."""
    params = {p: jax.ShapeDtypeStruct(d.shape, d.dtype) for p, d in declared.items() if d.kind == "param"}
    state = {p: jax.ShapeDtypeStruct(d.shape, d.dtype) for p, d in declared.items() if d.kind == "state"}
    token = as_written.set(True)
    try:
        jaxpr = jax.make_jaxpr(lambda p, s, *xs: net.apply(p, s, *xs)[0])(params, state, *inputs)
    finally:
        as_written.reset(token)
    found: dict[str, int] = {}
    paths = _kinds(net)

    def walk(jaxpr: Any, times: int, above: str) -> None:
        for eqn in jaxpr.eqns:
            scopes = [s for s in str(eqn.source_info.name_stack).split("/") if s in paths]
            at = scopes[-1] if scopes else above
            count = 0
            if eqn.primitive.name == "dot_general":
                (contract, _), _ = eqn.params["dimension_numbers"]
                a = eqn.invars[0].aval.shape
                count = math.prod(eqn.outvars[0].aval.shape) * math.prod(a[i] for i in contract)
            elif eqn.primitive.name == "conv_general_dilated":
                kernel = eqn.invars[1].aval.shape
                out_axis = eqn.params["dimension_numbers"].rhs_spec[0]
                per_output = math.prod(kernel) // kernel[out_axis]
                count = math.prod(eqn.outvars[0].aval.shape) * per_output
            if count:
                found[at] = found.get(at, 0) + times * count
            inner = eqn.params.get("length", 1) if eqn.primitive.name == "scan" else 1
            for p in eqn.params.values():
                for sub in p if isinstance(p, (tuple, list)) else (p,):
                    sub = getattr(sub, "jaxpr", sub)
                    if hasattr(sub, "eqns"):
                        walk(sub, times * inner, at)

    walk(jaxpr.jaxpr, 1, "")
    return found
