"""Spec: everything a person chooses is one value, which is also a JAX pytree and also a file.

    class Dropout(Module):                      # a Module is a Spec
        rate: Scalar = 0.5                      # leaf: a number that may be traced, stacked or swept
        ...

    spec.get(experiment, "net.layers.2.rate")              # 0.5
    spec.set(experiment, "optimizer.learning_rate", 3e-4)  # a changed copy; compiles nothing anew
    spec.diff(a, b)                                        # [("optimizer.learning_rate", 0.001, 0.0003)]
    spec.from_json(spec.to_json(experiment)) == experiment

Three kinds of fields. Annotated `Scalar`: **leaves**. Holding specs, or tuples with specs: **children**.
Everything else (ints, bools, strings, shapes): **structure**. Two specs compile to the same program exactly
when `structure(a) == structure(b)`. A file can name registered classes and hold plain values, nothing else.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import difflib
import functools
import importlib
import inspect
import json
import math
import re
import threading
import tomllib
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, dataclass_transform

import jax
import numpy as np

from derin.errors import SpecError

Scalar = float | jax.Array  # may be traced: do arithmetic with it, never `if`

_REGISTRY: dict[str, type[Spec]] = {}
_rebuilding = threading.local()  # set while JAX unflattens: its sentinels are not a person's mistake


@dataclass_transform(eq_default=False, kw_only_default=False)
class Spec:
    """A frozen dataclass that is a pytree and a file. Subclasses are registered by their class statement.

    Raises SpecError for an unknown field, a value of the wrong type, or an attempt to change a field.

    >>> from derin.optim import SGD
    >>> SGD(learning_rate=0.1).replace(momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9)
    """

    _sealed = False
    _variadic: typing.ClassVar[str | None] = None  # the field that takes all positional values: Sequential(a, b)
    _leaves: typing.ClassVar[frozenset[str]] = frozenset()
    _hints: typing.ClassVar[dict[str, tuple[Any, builtins.set[type]]] | None] = None
    _names: typing.ClassVar[tuple[str, ...]] = ()  # of the fields, in their order
    _placed: typing.ClassVar[tuple[str, ...]] = ()  # of those that may be given by their place
    _needed: typing.ClassVar[tuple[str, ...]] = ()  # of those without a default
    _is_distribution = False  # derin.uniform, derin.log, ...: it stands where a value will be
    _has_distributions = False  # one stands in a field, or anywhere below: a search space, not yet a value

    def __init_subclass__(cls) -> None:
        if {"__init__", "__post_init__"} & vars(cls).keys():
            raise TypeError(f"{cls.__name__}: declare hyperparameters as fields; a spec has no __init__ of its own.")
        dataclasses.dataclass(eq=False, repr=False)(cls)
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        cls._names = tuple(f.name for f in fields)
        cls._placed = tuple(f.name for f in fields if not f.kw_only)
        cls._needed = tuple(f.name for f in fields if _required(f))
        if cls._variadic:
            cls.__init__ = _variadic_init(cls.__init__, cls._variadic)  # type: ignore[method-assign]
        leaves = {name for name, hint in _annotations(cls).items() if _mentions_scalar(hint)}
        cls._leaves = frozenset(leaves)
        cls._hints = None  # resolved at first use: forward references
        name = registered_name(cls)
        own = _REGISTRY.get(name, cls).__module__  # a notebook may define a class again, derin may not use a name twice
        if ":" not in name and own != cls.__module__:
            raise TypeError(f"the name {name} is taken by {own}: a file could not tell the two apart.")
        _REGISTRY[name] = cls
        jax.tree_util.register_pytree_with_keys(cls, _flatten_with_keys, _unflattener(cls), _flatten)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        names = _field_names(cls)
        for name in kwargs:
            if name not in names:
                raise SpecError(
                    f"{cls.__name__} has no field {name!r}.{_in_torch(name, names) or nearest(name, names)}"
                )
        if cls._variadic:
            return object.__new__(cls)
        if len(args) > len(cls._placed):
            raise SpecError(f"{cls.__name__} takes {len(cls._placed)} values {cls._placed}, {len(args)} came.")
        given = cls._placed[: len(args)]
        twice = [name for name in given if name in kwargs]
        if twice:
            raise SpecError(f"{cls.__name__}.{twice[0]} came twice: by its place and by its name.")
        missing = [name for name in cls._needed if name not in given and name not in kwargs]
        if missing:
            raise SpecError(f"{cls.__name__} needs a value for {', '.join(map(repr, missing))}.")
        return object.__new__(cls)

    def __post_init__(self) -> None:
        if not getattr(_rebuilding, "on", False):
            fields = self.__dict__
            for name, (hint, plain) in _resolved_hints(type(self)).items():
                value = fields[name]
                if type(value) not in plain:
                    found = fields[name] = _checked(self, name, hint, value)
                    if found is value and isinstance(value, Spec) and not value._is_distribution:
                        plain.add(type(value))  # of a spec its type alone decides
            self._convert()
        for value in self.__dict__.values():
            if isinstance(value, (Spec, tuple)) and _holds_distributions(value):
                self.__dict__["_has_distributions"] = True
                break
        if not getattr(_rebuilding, "on", False) and (self._is_distribution or not self._has_distributions):
            self.check()
        self._complete()
        self.__dict__["_sealed"] = True

    def check(self) -> None:
        """Refuse values that have the right type and cannot work. Skip what is not a Python number."""

    def _meant(self, name: str, value: Any) -> str:
        """The end of the message about a value of a wrong type, where one knows what was meant."""
        return ""

    def _convert(self) -> None:
        """Turn what a person may write into what a file holds; also where distributions stand around it."""

    def _complete(self) -> None:
        """Make what follows from the fields; a Module makes its layers here."""

    def _before_saving(self) -> None:
        """Raise SpecError if a file cannot hold this: a closure, an object of another library."""

    def __setattr__(self, name: str, value: Any) -> None:
        if self._sealed:
            raise SpecError(f"{type(self).__name__} is frozen. For a changed copy: value.replace({name}=...).")
        self.__dict__[name] = value

    def replace(self, **changes: Any) -> typing.Self:
        """A copy with other values.

        >>> from derin.nn import Linear
        >>> Linear(8).replace(bias=False)
        Linear(8, bias=False)
        """
        return type(self)(**{**_fields(self), **changes})

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(_equal(value, getattr(other, name)) for name, value in _fields(self).items())

    def __hash__(self) -> int:
        return hash(jax.tree.structure(self))

    def __repr__(self) -> str:
        shown, by_name = [], False
        if self._variadic:
            shown = [*map(repr, self.__dict__[self._variadic])]
            others = [f for f in dataclasses.fields(self) if f.name != self._variadic]  # type: ignore[arg-type]
            shown += [f"{f.name}={v!r}" for f in others if not _equal(v := self.__dict__[f.name], _default(f))]
            return f"{type(self).__name__}({', '.join(shown)})"
        for f in sorted(dataclasses.fields(self), key=lambda f: bool(f.kw_only)):  # type: ignore[arg-type]
            value = self.__dict__[f.name]
            if _required(f) and not by_name and not f.kw_only:
                shown.append(repr(value))
            elif _required(f) or not _equal(value, _default(f)):
                shown.append(f"{f.name}={value!r}")
                by_name = True
            else:
                by_name = True
        return f"{type(self).__name__}({', '.join(shown)})"

    def __reduce__(self) -> Any:
        return _rebuilt, (type(self), _fields(self))

    def __copy__(self) -> typing.Self:
        return self

    def __deepcopy__(self, memo: Any) -> typing.Self:
        return self


def _variadic_init(init: Callable, name: str) -> Callable:
    def __init__(self: Any, *values: Any, **fields: Any) -> None:
        if len(values) == 1 and isinstance(values[0], (list, tuple)):
            values = tuple(values[0])
        init(self, **({} if name in fields else {name: values}), **fields)

    return __init__


def _rebuilt(cls: type[Spec], fields: dict[str, Any]) -> Spec:
    return cls(**fields)


# -- reading and changing by path


def get(value: Any, path: str) -> Any:
    """The part of a spec at a dotted path. Raises SpecError with the nearest names.

    >>> from derin.nn import Dropout, Linear, Sequential
    >>> get(Sequential(Linear(8), Dropout(0.2)), "layers.1.rate")
    0.2
    """
    at = ""
    for step in path.split(".") if path else []:
        value = _child(value, step, at)
        at = f"{at}.{step}" if at else step
    return value


def set(spec: Any, path: str, value: Any) -> Any:  # the field's word for it; the builtin is builtins.set here
    """A copy of a spec with another value at a dotted path.

    >>> from derin.nn import Dropout, Linear, Sequential
    >>> set(Sequential(Linear(8), Dropout(0.2)), "layers.1.rate", 0.4)
    Sequential(Linear(8), Dropout(rate=0.4))
    """
    return _set(spec, path.split("."), value, "")


def _set(spec: Any, steps: list[str], value: Any, at: str) -> Any:
    step, rest = steps[0], steps[1:]
    here = f"{at}.{step}" if at else step
    old = _child(spec, step, at)
    new = _set(old, rest, value, here) if rest else value
    if isinstance(spec, tuple):
        return tuple(new if i == int(step) else v for i, v in enumerate(spec))
    return spec.replace(**{step: new})


def _child(value: Any, step: str, at: str) -> Any:
    if isinstance(value, Spec):
        names = _field_names(type(value))
        if step in names:
            return getattr(value, step)
        where = f"'{at}' ({type(value).__name__})" if at else type(value).__name__
        raise SpecError(f"{where} has no field {step!r}.{nearest(step, names)}")
    if isinstance(value, tuple):
        if step.isdigit() and int(step) < len(value):
            return value[int(step)]
        raise SpecError(f"'{at}' has {len(value)} entries, 0 to {len(value) - 1}; got {step!r}.")
    raise SpecError(f"'{at}' is {value!r}: there is nothing below it, so no {step!r}.")


def diff(a: Any, b: Any, at: str = "") -> list[tuple[str, Any, Any]]:
    """What differs between two specs: (path, value in a, value in b).

    >>> from derin.optim import SGD
    >>> diff(SGD(learning_rate=0.1), SGD(learning_rate=0.2))
    [('learning_rate', 0.1, 0.2)]
    """
    below = lambda name: f"{at}.{name}" if at else str(name)  # noqa: E731
    if isinstance(a, Spec) and type(a) is type(b):
        pairs = [(below(n), v, getattr(b, n)) for n, v in _fields(a).items()]
    elif isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        pairs = [(below(i), u, v) for i, (u, v) in enumerate(zip(a, b, strict=True))]
    else:
        return [] if _equal(a, b) else [(at, a, b)]
    return [change for path, u, v in pairs for change in diff(u, v, path)]


def structure(spec: Any) -> Any:
    """What decides the compiled program: equal structures share one.

    >>> from derin.nn import Dropout, Linear
    >>> structure(Dropout(0.1)) == structure(Dropout(0.2)), structure(Linear(8)) == structure(Linear(9))
    (True, False)
    """
    return jax.tree.structure(spec)


def leaf_paths(spec: Any) -> list[str]:
    """The dotted path of every leaf, in the order of jax.tree.leaves."""
    found, _ = jax.tree_util.tree_flatten_with_path(spec)
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in found]


# -- distributions: a spec that holds one is a search space (distributions.py, tune/space.py)


def distributions(value: Any, at: str = "") -> dict[str, Any]:
    """The distributions in a spec, by path.

    >>> from derin import log, optim
    >>> distributions(optim.SGD(log(1e-4, 0.1), momentum=0.9))
    {'learning_rate': log(0.0001, 0.1)}
    """
    if not _holds_distributions(value):
        return {}
    if isinstance(value, Spec) and value._is_distribution:
        return {at: value}
    parts = _fields(value).items() if isinstance(value, Spec) else enumerate(value)
    return {p: d for name, v in parts for p, d in distributions(v, f"{at}.{name}" if at else str(name)).items()}


def require_fixed(value: Any, what: str) -> None:
    """Raise SpecError if a distribution stands where `what` needs a value."""
    if not _holds_distributions(value):
        return
    found = distributions(value)
    listed = ", ".join(f"{path or type(value).__name__} = {d!r}" for path, d in [*found.items()][:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    raise SpecError(
        f"{what} needs values, and this is a search space: {listed}{more}. derin.tune(experiment, data) searches it, "
        f"`derin tune` on the command line; for one run give a value in place of each distribution."
    )


def _holds_distributions(value: Any) -> bool:
    if isinstance(value, Spec):
        return value._has_distributions
    return isinstance(value, tuple) and any(map(_holds_distributions, value))


# -- files


def to_dict(value: Any) -> Any:
    """Plain dicts, lists and values, as a file holds them: {"type": "Dropout", "rate": 0.5}."""
    if isinstance(value, Spec):
        value._before_saving()
        return {"type": registered_name(type(value))} | {name: to_dict(v) for name, v in _fields(value).items()}
    if isinstance(value, tuple):
        return [to_dict(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        array = np.asarray(value)
        if array.ndim == 0:
            return array.item()
        return {"array": array.tolist(), "dtype": str(array.dtype)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise SpecError(f"a spec's file cannot hold {value!r}, a {type(value).__name__}.")


def from_dict(data: Any, at: str = "") -> Any:
    """The opposite of to_dict. Raises SpecError that names the path, and the nearest class or field."""
    if isinstance(data, list):
        return tuple(from_dict(v, f"{at}.{i}" if at else str(i)) for i, v in enumerate(data))
    if not isinstance(data, dict):
        return data
    if data.keys() == {"array", "dtype"} or data.keys() == {"float"}:
        return _numbers(data, at)
    if data.keys() == {"none"}:
        return None
    if not isinstance(data.get("type"), str):
        raise SpecError(f"the table at '{at or 'the top'}' has no type = \"...\"; it has {[*data]}.")
    cls = registered(data["type"])
    fields = {k: from_dict(v, f"{at}.{k}" if at else k) for k, v in data.items() if k != "type"}
    try:
        return cls(**fields)
    except SpecError as error:
        raise SpecError(f"at '{at}': {error}" if at else str(error)) from None


def _numbers(data: dict[str, Any], at: str) -> Any:
    try:
        if "float" in data:
            return float(data["float"])
        if np.dtype(data["dtype"]).kind in "biuf":
            return np.array(data["array"], dtype=data["dtype"])
        raise ValueError(f"{data['dtype']!r} is not a kind of number")
    except (TypeError, ValueError) as error:
        raise SpecError(f"at '{at}' there are no numbers: {error}.") from None


def from_dict_values(data: dict[str, Any]) -> dict[str, Any]:
    """A dict of plain values as a line of a file holds it; lists stay lists."""
    return {k: float(v["float"]) if isinstance(v, dict) and v.keys() == {"float"} else v for k, v in data.items()}


def to_json(spec: Any, indent: int | None = 2) -> str:
    """JSON text; floats are written so that the same bits come back."""
    return json.dumps(strict_json(to_dict(spec)), indent=indent, ensure_ascii=False, allow_nan=False)


def from_json(text: str) -> Any:
    """The spec in a JSON text. Raises SpecError."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise SpecError(f"this is not JSON: {error}.") from None
    return from_dict(data)


def to_toml(spec: Any) -> str:
    """TOML text, for people to edit. TOML has no null: `{none = true}` stands for it."""
    import tomli_w  # only writers of TOML need it

    return tomli_w.dumps(_without_none(to_dict(spec)))


def from_toml(text: str) -> Any:
    """The spec in a TOML text. Raises SpecError."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"this is not TOML: {error}.") from None
    return from_dict(data)


def read(path: str | Path) -> Any:
    """The spec in a .json or .toml file. Raises SpecError that names the file."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read: {error}.") from None
    try:
        return from_toml(text) if path.suffix == ".toml" else from_json(text)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


def strict_json(data: Any) -> Any:
    """JSON has no nan and no infinity: {"float": "nan"}."""
    if isinstance(data, float) and not math.isfinite(data):
        return {"float": repr(data)}
    if isinstance(data, dict):
        return {k: strict_json(v) for k, v in data.items()}
    if isinstance(data, list):
        return [strict_json(v) for v in data]
    return data


def loose_json(data: Any) -> Any:
    """The opposite of strict_json: {"float": "nan"} is a number again."""
    if isinstance(data, dict):
        return float(data["float"]) if data.keys() == {"float"} else {k: loose_json(v) for k, v in data.items()}
    if isinstance(data, list):
        return [loose_json(v) for v in data]
    return data


def _without_none(data: Any) -> Any:
    if data is None:
        return {"none": True}
    if isinstance(data, dict):
        return {k: _without_none(v) for k, v in data.items()}
    if isinstance(data, list):
        return [_without_none(v) for v in data]
    return data


# -- names


def registered_name(cls: type) -> str:
    """`Linear` for derin's own classes, `package.module:Net` for a user's."""
    if cls.__module__ == "derin" or cls.__module__.startswith("derin."):
        return cls.__qualname__
    return f"{cls.__module__}:{cls.__qualname__}"


def registered(name: str) -> type[Spec]:
    """The class of that name. Raises SpecError that says which module to import, or the nearest name."""
    if _known(name):
        return _REGISTRY[name]
    module, _, short = name.rpartition(":")
    same = [n for n in _REGISTRY if ":" in n and n.rpartition(":")[2] == short]
    moved = [n for n in same if module == "__main__" or n.startswith("__main__:")]
    if len(moved) == 1:  # the script that was __main__ is an imported module now, or the other way about
        return _REGISTRY[moved[0]]
    if module == "__main__":
        raise SpecError(
            f"the class {short!r} was defined in a script or a notebook. Import that file first: `import my_script` in "
            "Python, `--import my_script` on the command line."
        )
    if module:
        raise SpecError(
            f"the class {short!r} of module {module!r} is not known here. Import it first: "
            f"`import {module}` in Python, `--import {module}` on the command line."
        )
    if len(same) == 1:
        return _REGISTRY[same[0]]
    raise SpecError(f"no spec is called {name!r}.{nearest(name, _REGISTRY)}")


def _known(name: str) -> bool:
    """Whether a class of that name is registered; derin's own are imported for it, as few as need be."""
    if name not in _REGISTRY and ":" not in name:
        for package in ("distributions", "nn", "optim", "models"):  # what most files name, and one module knows it
            home = importlib.import_module(f"derin.{package}")
            if name in home.__all__:
                getattr(home, name)
    if name not in _REGISTRY and ":" not in name:
        _import_all()
    return name in _REGISTRY


def _class_of(word: Any, hint: Any) -> str:
    """The name of the class that a word means, whatever its case, if the field takes it; else ""."""
    if not isinstance(word, str) or not word.isidentifier():
        return ""
    name = word if _known(word) else {known.lower(): known for known in _REGISTRY}.get(word.lower(), "")
    for option in _options(hint) or (hint,):
        takes = isinstance(option, type) and name and issubclass(_REGISTRY[name], option)
        if takes or typing.get_origin(option) is Callable:
            return name
    return ""


def _import_all() -> None:
    """Every class of derin that a file may name."""
    homes = ("data.arrays", "data.columns", "data.images", "distributions", "engine", "models", "nn", "optim")
    for name in (*homes, "tune.arena", "tune.pruners", "tune.samplers", "tune.search"):
        module = importlib.import_module(f"derin.{name}")
        for public in getattr(module, "__all__", ()):  # some are imported when they are asked for
            getattr(module, public)


# -- text: `AdamW(learning_rate=3e-4)`, `0.5`, `full`


def parse(text: str) -> Any:
    """The value that a text names: a spec, a number, a tuple, true, none, or else the text itself.

    Calls of registered names and plain values only; nothing is evaluated. Raises SpecError.

    >>> parse("Sequential(Linear(8), ReLU(), Linear(2))")
    Sequential(Linear(8), ReLU(), Linear(2))
    >>> parse("1e-3"), parse("full"), parse("true"), parse("(64, 32)")
    (0.001, 'full', True, (64, 32))
    """
    word = text.strip()
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    if word.lower() in ("none", "null"):
        return None
    if word.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return float(word)
    try:
        tree = ast.parse(word, mode="eval").body
    except (SyntaxError, ValueError):
        if re.match(r"^[A-Za-z_]\w*\(", word):
            raise SpecError(f"{text!r} cannot be read; write it like AdamW(learning_rate=1e-3).") from None
        return text
    return _parsed(tree, text)


def _parsed(node: ast.AST, text: str) -> Any:
    match node:
        case ast.Constant(value=value) if value is None or isinstance(value, (bool, int, float, str)):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if isinstance(value, (int, float)):
            return -value
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(_parsed(item, text) for item in items)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            cls = registered(name)
            values = [a.id if name == "choice" and _is_word(a) else _parsed(a, text) for a in args]
            named = {k.arg: _parsed(k.value, text) for k in keywords if k.arg}
            return cls(*values, **named)
        case ast.Name(id="true" | "false" as word):
            return word == "true"
        case ast.Name(id="none"):
            return None
        case ast.Name(id=name) if name in ("nan", "inf"):
            return float(name)
        case ast.Name(id=name) if text.strip() != name:  # inside a call: Sequential(Linear(8), ReLU)
            return registered(name)()
    return text if not isinstance(node, ast.Call) else _refuse(text)


def _is_word(node: ast.AST) -> typing.TypeGuard[ast.Name]:
    """relu in choice(relu, tanh): a shell takes the quotes away, and names of specs begin with a capital."""
    if not isinstance(node, ast.Name) or not node.id.islower():
        return False
    return node.id not in ("true", "false", "none", "nan", "inf") and not _known(node.id)


def _refuse(text: str) -> Any:
    plain = re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", text)  # nn.Linear(8), as in Python
    like = plain if plain != text else "AdamW(learning_rate=1e-3)"
    raise SpecError(f"{text!r} cannot be read; write it like {like}.")


# -- the pytree


def _flatten(spec: Any) -> tuple[list[Any], Any]:
    names, values, static = [], [], []
    fields, leaves = spec.__dict__, spec._leaves
    for name in spec._names:
        value = fields[name]
        leaf = name in leaves and not isinstance(value, (str, bool))
        if value is not None and (leaf or _holds_specs(value)):
            names.append(name)
            values.append(value)
        else:
            static.append((name, value))
    return values, (tuple(names), tuple(static))


def _flatten_with_keys(spec: Any) -> tuple[list[Any], Any]:
    values, aux = _flatten(spec)
    return [(jax.tree_util.GetAttrKey(n), v) for n, v in zip(aux[0], values, strict=True)], aux


def _unflattener(cls: type) -> Callable[[Any, Any], Any]:
    def unflatten(aux: Any, values: Any) -> Any:
        names, static = aux
        spec: Any = object.__new__(cls)
        given = dict(zip(names, values, strict=True)) | dict(static)
        for name in _field_names(cls):  # in the order of the fields, so that equal specs flatten alike
            spec.__dict__[name] = given[name]
        before = getattr(_rebuilding, "on", False)
        _rebuilding.on = True
        try:
            spec.__post_init__()
        finally:
            _rebuilding.on = before
        return spec

    return unflatten


def _holds_specs(value: Any) -> bool:
    return isinstance(value, Spec) or (isinstance(value, tuple) and any(_holds_specs(v) for v in value))


# -- fields and their types


def _annotations(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        found |= inspect.get_annotations(base)
    return found


def _mentions_scalar(hint: Any) -> bool:
    if isinstance(hint, str):
        return re.search(r"\b(Scalar|jax\.Array)\b", hint) is not None
    return hint is jax.Array or any(_mentions_scalar(a) for a in typing.get_args(hint))


def _resolved_hints(cls: Any) -> dict[str, Any]:
    if cls._hints is None or cls.__dict__.get("_hints") is None:
        try:
            hints = typing.get_type_hints(cls)
        except (NameError, AttributeError, TypeError):  # a class made inside a function: no check
            hints = {}
        cls._hints = {n: (hint := hints.get(n, Any), _plain(hint, n in cls._leaves)) for n in _field_names(cls)}
    return cls._hints


def _plain(hint: Any, leaf: bool) -> builtins.set[type]:
    """The types whose values are right for a field as they are: most are, and to look closer takes microseconds.

    Those of specs are added as they come."""
    plain = (bool, float, str, type(None)) if leaf else (bool, int, float, str, type(None))  # a leaf's int is a float
    return {option for option in _options(hint) or (hint,) if option in plain}


def _field_names(cls: Any) -> tuple[str, ...]:
    return cls._names


def _fields(spec: Any) -> dict[str, Any]:
    return {name: spec.__dict__[name] for name in spec._names}


def _required(f: dataclasses.Field) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _default(f: dataclasses.Field) -> Any:
    return f.default if f.default is not dataclasses.MISSING else f.default_factory()  # type: ignore[operator]


def _checked(spec: Any, name: str, hint: Any, value: Any) -> Any:
    """The value as the field's type wants it: lists become tuples, ints in a Scalar become floats."""
    value = _frozen(value)
    if name in spec._leaves and type(value) is int:
        value = float(value)
    if not _fits(value, hint) or not _calls(value, hint):
        named = value.__name__ if isinstance(value, type) else value
        known = _class_of(named, hint)
        meant = f" Write {known}(...)." if known else spec._meant(name, value)
        got = f"{value!r} ({type(value).__name__})"
        if getattr(value, "_is_distribution", False) and value._fits_rounded(lambda v: _fits(v, hint)):
            meant = " Whole numbers: integer(...) or log_integer(...)."
        elif getattr(value, "_is_distribution", False) and hasattr(value, "options"):
            classes = [_class_of(option, hint) for option in value.options]
            meant = f" Write choice({', '.join(f'{c}(...)' for c in classes)})." if all(classes) else meant
        elif (spelled := _distribution_in(value)) is not None:
            meant = f" A range is no text: {spelled!r} in Python, {_in_a_file(to_dict(spelled))} in a TOML file."
        raise SpecError(f"{type(spec).__name__}.{name} must be {_words(hint)}, got {got}.{meant}")
    return _cast(value, hint) if not isinstance(value, Spec) else value


def _distribution_in(value: Any) -> Any:
    """The distribution that a text spells, as --tune takes it; or None."""
    try:
        found = parse(value) if isinstance(value, str) and "(" in value else None
    except SpecError:
        return None
    return found if getattr(found, "_is_distribution", False) else None


def _in_a_file(data: Any) -> str:
    """What to_dict gives as TOML on one line."""
    if isinstance(data, dict):
        return "{ " + ", ".join(f"{k} = {_in_a_file(v)}" for k, v in data.items()) + " }"
    if isinstance(data, list):
        return "[" + ", ".join(map(_in_a_file, data)) + "]"
    return json.dumps(data, ensure_ascii=False) if data is not None else "{ none = true }"


def _frozen(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return tuple(_frozen(v) for v in value)
    return value


def _cast(value: Any, hint: Any) -> Any:
    if type(value) is int and _accepts_float(hint) and not _accepts_int(hint):
        return float(value)
    if type(value) is tuple and _parts(hint)[0] is tuple:
        inner = _parts(hint)[1][:1]
        return tuple(_cast(v, inner[0]) for v in value) if inner else value
    return value


@functools.cache  # looking into types took most of the time of making a spec, and a search makes thousands
def _accepts_float(hint: Any) -> bool:
    return hint is float or any(_accepts_float(a) for a in _options(hint))


@functools.cache
def _accepts_int(hint: Any) -> bool:
    return hint is int or any(_accepts_int(a) for a in _options(hint))


@functools.cache
def _options(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else ()


@functools.cache
def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return typing.get_origin(hint), typing.get_args(hint)


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any or hint is typing.Self:
        return True
    if isinstance(value, Spec) and value._is_distribution:
        return value._fits(lambda v: _fits(v, hint))  # type: ignore[attr-defined]
    if _options(hint):
        return any(_fits(value, option) for option in _options(hint))
    origin, args = _parts(hint)
    if origin is typing.Literal:
        return value in args and type(value) in {type(a) for a in args}
    if origin is tuple or hint is tuple:
        if not isinstance(value, tuple):
            return False
        if not args:
            return True
        if len(args) == 2 and args[1] is ...:
            return all(_fits(v, args[0]) for v in value)
        return len(args) == len(value) and all(map(_fits, value, args))
    if hint is None or hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, (int, float, np.floating)) and not isinstance(value, bool)
    if hint is jax.Array:
        return isinstance(value, (jax.Array, np.ndarray, np.generic))
    if isinstance(hint, type):
        return isinstance(value, hint)
    return True  # a callable, a protocol: not ours to judge


def _calls(value: Any, hint: Any) -> bool:
    """Whether a field for a function has one: not "he", and not HeNormal where HeNormal() is meant."""
    others = [option for option in _options(hint) or (hint,) if typing.get_origin(option) is not Callable]
    if getattr(value, "_is_distribution", False) or len(others) == len(_options(hint) or (hint,)):
        return True
    if any(_fits(value, option) for option in others):
        return True
    return callable(value) and not (isinstance(value, type) and issubclass(value, Spec))


def _words(hint: Any) -> str:
    options = [o for o in _options(hint) if o is not jax.Array]
    if options:
        return " or ".join(_words(o) for o in options)
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) is tuple:
        return f"a tuple of {_words(typing.get_args(hint)[0])}"
    known = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    if hint in known:
        return known[hint]
    if hint is None or hint is type(None):
        return "none"
    if typing.get_origin(hint) is Callable:
        return "a function"
    if isinstance(hint, type):
        return f"{'an' if hint.__name__[0] in 'AEIOU' else 'a'} {hint.__name__}"
    return str(hint)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, (np.ndarray, jax.Array)) or isinstance(b, (np.ndarray, jax.Array)):
        return bool(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True))
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    return type(a) is type(b) and bool(a == b)


_TORCH = {"lr": "learning_rate", "p": "rate", "out_features": "features", "out_channels": "features"}
_SEEN = ("in_features", "in_channels", "num_features", "input_size", "normalized_shape")


def _in_torch(name: str, names: typing.Iterable[str]) -> str:
    """Words for a field that PyTorch's class has and this one has not."""
    if _TORCH.get(name, "") in names:
        return f" It is called {_TORCH[name]!r} here."
    return " Leave it out: a layer sees its input's size." if name in _SEEN else ""


def nearest(name: str, names: typing.Iterable[str]) -> str:
    """Words that name the nearest of the names, or all of them: the end of a message about an unknown one."""
    names = list(names)
    folded = {n.lower(): n for n in names}
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if not near or name.lower() in folded:  # Relu is ReLU, not Recall
        near = [folded[m] for m in difflib.get_close_matches(name.lower(), list(folded), n=3, cutoff=0.5)]
    if near:
        return " Nearest: " + ", ".join(near) + "."
    listed = sorted(builtins.set(names)) or ["none"]
    return " Known: " + ", ".join(listed[:12]) + (", ..." if len(listed) > 12 else "") + "."
