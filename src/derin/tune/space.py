"""Space: an experiment with distributions in it, seen as the numbers that a trial of it needs.

    space = Space.of(Experiment(net, optimizer=choice(Adam(log(1e-4, 1e-1)), SGD(log(1e-3, 1.0)))))
    values = space.at([0.1, 0.5, 0.5])        # {"optimizer": 0, "optimizer.learning_rate": 0.00316}: what a file keeps
    space.fixed(values)                       # Experiment(net, optimizer=Adam(learning_rate=0.00316))
    space.shown(values)                       # {"optimizer": "Adam", "optimizer.learning_rate": 0.00316}: a table's row

A trial's values are a dict of plain numbers by path, the path being that in the finished experiment; for a choice it
is the place of its option. Samplers (samplers.py) make them from numbers between 0 and 1, one for each dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from derin.distributions import Distribution, Range, choice, integer, log_integer
from derin.engine.experiment import Experiment
from derin.errors import DerinError, SpecError
from derin.spec import Spec, _equal, _fields, _holds_distributions, _set, get, leaf_paths, nearest

Values = dict[str, Any]  # a trial: path -> number, or the place of a choice's option


class Dimension(NamedTuple):
    """One distribution of a space, and when it counts."""

    name: str  # its own: "optimizer[0].learning_rate" stands in the first option of the choice "optimizer"
    path: str  # in the finished experiment, shared by the options: "optimizer.learning_rate"
    distribution: Distribution
    parent: str | None = None  # the name of the choice in one of whose options it stands
    option: int = 0  # which option
    bare: bool = False  # it is that option itself: choice(0.0, one_minus_log(0.9, 0.999))

    @property
    def key(self) -> str:
        """Where its value stands among a trial's values."""
        return self.name if self.bare else self.path


class Space:
    """The distributions of an experiment, by path, and the experiment for values of theirs.

    Raises SpecError for an experiment without distributions, and for one that does not take all their values.

    >>> from derin import Experiment, log, nn, optim
    >>> space = Space.of(Experiment(nn.Linear(3), optimizer=optim.Adam(log(1e-4, 1e-2))))
    >>> space.paths, space.size
    ({'optimizer.learning_rate': log(0.0001, 0.01)}, inf)
    >>> space.fixed(space.at([0.5])).optimizer
    Adam()
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.dimensions: tuple[Dimension, ...] = tuple(_dimensions(experiment, "", "", None, 0))
        self.paths: dict[str, Distribution] = {}
        for d in self.dimensions:
            if not d.bare:
                self.paths.setdefault(d.path, d.distribution)
        self._of_name = {d.name: d for d in self.dimensions}
        self._has_structure = any(map(_is_structure, self.dimensions))
        self._templates: dict[tuple[Any, ...], _Template] = {}
        flat = all(d.parent is None and isinstance(d.distribution, Range) for d in self.dimensions)
        self._ranges = [(d.key, d.distribution.at) for d in self.dimensions] if flat else None

    @classmethod
    def of(cls, experiment: Experiment) -> Space:
        """The space of an experiment; each end and each option is tried once, so that no trial is refused later."""
        if not isinstance(experiment, Spec):
            raise SpecError(f"a space is made of an Experiment, got {experiment!r}.")
        if not _holds_distributions(experiment):
            raise SpecError(
                "there is no distribution in this experiment, so nothing to tune. Put one where a value stands: "
                "optimizer=Adam(derin.log(1e-4, 1e-1)), or --tune 'optimizer.learning_rate=log(1e-4,1e-1)'."
            )
        space = cls(experiment)
        for us in space._corners():
            space.drawn(space.at(us))
        return space

    @property
    def searched_loss(self) -> str:
        """A path that changes what a loss measures, so that trials' losses cannot be compared; "" if there is none."""
        return next((path for path in self.paths if path.split(".")[0] in ("loss", "class_weights")), "")

    # -- values
    def at(self, us: Mapping[str, float] | Sequence[float] | np.ndarray) -> Values:
        """The values at these shares, numbers from 0 to 1: by the dimensions' names, or one for each in order."""
        given: Any = us
        values: Values = {}
        if not hasattr(given, "keys"):  # to ask whether it is a Mapping takes longer than the rest
            if len(given) != len(self.dimensions):
                raise SpecError(f"this space has {len(self.dimensions)} dimensions, {len(given)} numbers came.")
            if self._ranges is not None:  # all of them count
                for i, (key, at) in enumerate(self._ranges):
                    values[key] = at(float(given[i]))
                return values
            given = dict(zip(self._of_name, given, strict=True))
        for d in self.deciding(values):
            u = float(given[d.name])
            values[d.key] = d.distribution.index_at(u) if isinstance(d.distribution, choice) else d.distribution.at(u)
        return values

    def place(self, values: Values) -> dict[str, float]:
        """The shares, by the dimensions' names, at which these values lie; only of those that count."""
        return {
            d.name: d.distribution.place_of(values[d.key])
            if isinstance(d.distribution, choice)
            else d.distribution.place(values[d.key])
            for d in self.active(values)
        }

    def active(self, values: Values) -> list[Dimension]:
        """The dimensions that count for these values: those of the chosen options."""
        return list(self.deciding(values))

    def deciding(self, values: Values) -> Iterator[Dimension]:
        """The same while the values are being made: a choice must have its value before the next one is asked for."""
        counted: set[str] = set()
        for d in self.dimensions:
            if d.parent is None or (d.parent in counted and values.get(self._of_name[d.parent].key) == d.option):
                counted.add(d.name)
                yield d

    def read(self, given: Mapping[str, Any]) -> Values:
        """The values of a trial that a person wrote down: for a choice the option itself, or its label.

        Raises SpecError for a path that is missing or unknown, and for a value that its distribution cannot give.
        """
        values: Values = {}
        used = set()
        for d in self.deciding(values):
            if d.path not in given:
                raise SpecError(f"a trial needs a value for {d.path!r}, which is {d.distribution!r}.")
            used.add(d.path)
            values[d.key] = _as_value(d, given[d.path])
        _refuse_unknown(given, used, self.paths)
        return values

    # -- what the values mean
    def fixed(self, values: Values) -> Experiment:
        """The experiment with these values in place of its distributions. Raises SpecError."""
        return self.drawn(values).experiment

    def drawn(self, values: Values) -> Drawn:
        """The same in parts, which takes a tenth of the time if its structure was made before. Raises SpecError."""
        try:
            return self._from_template(values) or self._from_scratch(values)
        except DerinError as error:
            if isinstance(error, _NoValue):
                raise SpecError(str(error)) from None
            where = ", ".join(f"{path}={value}" for path, value in self.shown(values).items())
            raise type(error)(f"with {where}: {error}") from None

    def _from_scratch(self, values: Values) -> Drawn:
        used: set[str] = set()
        made = self._fixed(self.experiment, "", "", values, used, False)
        _refuse_unknown(values, used, self.paths)
        found = Drawn.of(made)
        places = {path: i for i, path in enumerate(leaf_paths(made))}
        active = self.active(values)
        if all(d.path in places for d in active if not _is_structure(d)):  # a float that is no leaf is part of it
            self._templates[self._structure_of(values)] = _Template(found, active, places)
        return found

    def _from_template(self, values: Values) -> Drawn | None:
        """As another trial was made that differed in leaves alone."""
        template = self._templates.get(self._structure_of(values))
        if template is None or len(values) != template.size:
            return None  # refused with its reason, from scratch
        return template.filled(values)

    def _structure_of(self, values: Values) -> tuple[Any, ...]:
        """What makes a trial's structure: its options and whole numbers."""
        if not self._has_structure:
            return ()
        return tuple((d.key, values.get(d.key)) for d in self.active(values) if _is_structure(d))

    def _fixed(self, value: Any, path: str, name: str, values: Values, used: set[str], bare: bool) -> Any:
        if isinstance(value, Distribution):
            key = name if bare else path
            used.add(key)
            found = _checked(key, value, values)
            if not isinstance(value, choice):
                return found
            option = value.options[found]
            below = f"{name}[{found}]"
            return self._fixed(option, path, below, values, used, isinstance(option, Distribution))
        if not _holds_distributions(value):
            return value
        if isinstance(value, tuple):
            return tuple(self._fixed(v, _below(path, i), _below(name, i), values, used, False)
                         for i, v in enumerate(value))  # fmt: skip
        changed = {
            n: self._fixed(v, _below(path, n), _below(name, n), values, used, False)
            for n, v in _fields(value).items()
            if _holds_distributions(v)
        }
        return value.replace(**changed)

    def shown(self, values: Values) -> dict[str, Any]:
        """The values as a table shows them: a number, or the label of an option."""
        row: dict[str, Any] = {}
        for d in self.active(values):
            value = values[d.key]
            if isinstance(d.distribution, choice):
                option = d.distribution.options[value]
                if isinstance(option, Distribution):
                    continue  # the value of that one is shown
                value = _number(d, option) if self._numbers(d) else _labels(d.distribution)[value]
            elif not self._numbers(d):
                value = str(value)
            row[d.path] = float(value) if self._floats(d) else value
        return row

    def label(self, path: str, value: Any) -> str:
        """The readable form of one value: an option's label, or the number in a few digits."""
        if path not in self.paths:
            raise SpecError(f"no distribution stands at {path!r}.{nearest(path, self.paths)}")
        found = self.paths[path]
        return _labels(found)[value] if isinstance(found, choice) else f"{value:.4g}"

    def _numbers(self, d: Dimension) -> bool:
        """Does this path hold numbers alone, whichever option is chosen?"""
        return _all_numbers(self._outermost(d).distribution)

    def _floats(self, d: Dimension) -> bool:
        return self._numbers(d) and _any_float(self._outermost(d).distribution)

    def _outermost(self, d: Dimension) -> Dimension:
        while d.bare and d.parent is not None:
            d = self._of_name[d.parent]
        return d

    # -- the whole
    @property
    def size(self) -> int | float:
        """How many different trials there are; inf where a number is continuous."""
        return self.count(
            lambda d: len(d.distribution) if isinstance(d.distribution, (integer, log_integer)) else math.inf
        )

    def count(self, points: Callable[[Dimension], float]) -> int | float:
        """How many combinations there are, if a dimension of numbers has `points(dimension)` values."""
        return math.prod(self.counted(d, points) for d in self.dimensions if d.parent is None)

    def counted(self, d: Dimension, points: Callable[[Dimension], float]) -> int | float:
        """How many combinations one dimension makes with what stands below it."""
        if not isinstance(d.distribution, choice):
            return points(d)
        return sum(math.prod(self.counted(c, points) for c in self.below(d, i)) for i in range(len(d.distribution)))

    def below(self, d: Dimension | None, option: int = 0) -> list[Dimension]:
        """The dimensions that stand in an option of a choice; with None those that always count."""
        name = None if d is None else d.name
        return [c for c in self.dimensions if c.parent == name and (d is None or c.option == option)]

    def _corners(self) -> Iterator[dict[str, float]]:
        """Shares at which every end and every option comes up."""
        for u in (0.0, 1.0):
            ends = dict.fromkeys(self._of_name, u)
            yield ends
            for d in self.dimensions:
                if isinstance(d.distribution, choice):
                    for option in range(len(d.distribution)):
                        yield ends | self._leading_to(d, option)

    def _leading_to(self, d: Dimension, option: int) -> dict[str, float]:
        """The shares at which this option is chosen, and those above it so that it counts."""
        found: choice = d.distribution  # type: ignore[assignment]
        above = {} if d.parent is None else self._leading_to(self._of_name[d.parent], d.option)
        return above | {d.name: found.place_of(option)}


class Shape:
    """What experiments of one structure share; the same object for all that a space draws."""

    def __init__(self, experiment: Experiment, tree: Any) -> None:
        self.experiment, self.tree = experiment, tree  # one of them


class Drawn(NamedTuple):
    """An experiment in parts: its structure, and its own numbers in the order of jax.tree.leaves."""

    shape: Shape
    leaves: list[Any]

    @classmethod
    def of(cls, experiment: Experiment) -> Drawn:
        leaves, tree = jax.tree.flatten(experiment)
        return cls(Shape(experiment, tree), leaves)

    @property
    def experiment(self) -> Experiment:
        return jax.tree.unflatten(self.shape.tree, self.leaves)


class _Template:
    """An experiment of a space, flattened: others of its structure are made by putting other leaves in."""

    def __init__(self, made: Drawn, active: list[Dimension], places: dict[str, int]) -> None:
        self.made, self.size = made, len(active)
        scratch = made.experiment  # a copy of its own, whose numbers change, to ask its specs what they refuse
        numbers = [(d, _way(scratch, d.path)) for d in active if not _is_structure(d)]
        self.structure = [(d.key, d.distribution) for d in active if _is_structure(d)]
        self.numbers: list[tuple[Any, ...]] = [
            (d.key, d.distribution, places[d.path], above[-1].__dict__, field, steps)
            for d, (above, field, steps) in numbers
        ]
        above = [owner for _, (above, *_) in numbers for owner in above]
        owners = {id(owner): owner for owner in above if type(owner).check is not Spec.check}
        self.owners = [*owners.values()]
        # What a spec lets pass at both ends of a range, which Space.of tries, it lets pass between them; but of two
        # numbers it may ask that one is below the other.
        self.of_several = [owner for owner in self.owners if sum(owner is other for other in above) > 1]
        for owner in self.owners:
            owner.__dict__["_sealed"] = False  # as where it is made, and asked for the first time

    def filled(self, values: Values) -> Drawn:
        """With these values. Raises what the experiment's own checks raise."""
        for key, distribution in self.structure:
            _checked(key, distribution, values)
        leaves, between = [*self.made.leaves], True
        for key, distribution, place, fields, field, steps in self.numbers:
            number = values.get(key)
            if type(number) is not float or not distribution.low < number < distribution.high:
                number, between = float(_checked(key, distribution, values)), False
            leaves[place] = number
            fields[field] = _set(fields[field], steps, number, "") if steps else number
        for owner in self.of_several if between else self.owners:
            owner.check()
        return Drawn(self.made.shape, leaves)


def _way(spec: Any, path: str) -> tuple[list[Spec], str, list[str]]:
    """The specs above a number, the last one's field, and the way from there through tuples."""
    steps = path.split(".")
    above = [(i, get(spec, ".".join(steps[:i]))) for i in range(len(steps))]
    specs = [(i, part) for i, part in above if isinstance(part, Spec)]
    last = specs[-1][0]
    return [part for _, part in specs], steps[last], steps[last + 1 :]


def _is_structure(d: Dimension) -> bool:
    return not isinstance(d.distribution, Range) or isinstance(d.distribution, (integer, log_integer))


class _NoValue(SpecError):
    """The values do not fit the space; the others that may be raised are the experiment's own."""


def _dimensions(value: Any, path: str, name: str, parent: str | None, option: int) -> Iterator[Dimension]:
    if not _holds_distributions(value):
        return
    if isinstance(value, Distribution):
        bare = parent is not None and name == f"{parent}[{option}]"
        yield Dimension(name, path, value, parent, option, bare)
        if isinstance(value, choice):
            for i, v in enumerate(value.options):
                yield from _dimensions(v, path, f"{name}[{i}]", name, i)
        return
    parts = enumerate(value) if isinstance(value, tuple) else _fields(value).items()
    for n, v in parts:
        yield from _dimensions(v, _below(path, n), _below(name, n), parent, option)


def _below(path: str, step: Any) -> str:
    return f"{path}.{step}" if path else str(step)


def _checked(key: str, distribution: Distribution, values: Values) -> Any:
    """The value of one distribution, if it is one that a trial may have."""
    if key not in values:
        raise _NoValue(f"the values have none for {key!r}, which is {distribution!r}; they are {values}.")
    value = values[key]
    if isinstance(distribution, choice):
        if type(value) is not int or not 0 <= value < len(distribution):
            raise _NoValue(f"{key} is the place of an option, 0 to {len(distribution) - 1}, got {value!r}.")
    elif isinstance(distribution, (integer, log_integer)):
        if type(value) is not int:
            raise _NoValue(f"{key} is a whole number, {distribution!r}, got {value!r}.")
    elif type(value) not in (int, float) or not math.isfinite(value):
        raise _NoValue(f"{key} is a number, {distribution!r}, got {value!r}.")
    return value


def _as_value(d: Dimension, given: Any) -> Any:
    """A value as a person writes it -> as a trial keeps it."""
    found = d.distribution
    if isinstance(found, choice):
        for i, option in enumerate(found.options):
            if _equal(option, given) or (isinstance(given, str) and given == _labels(found)[i]):
                return i
            if isinstance(option, Range) and _is_number(given) and option.contains(given):
                return i
        raise SpecError(f"{d.path} is one of {', '.join(_labels(found))}; got {given!r}.")
    if not isinstance(found, Range) or not _is_number(given) or not found.contains(given):
        raise SpecError(f"{d.path} is {found!r}; {given!r} is not in it.")
    if isinstance(found, (integer, log_integer)):
        if int(given) != given:
            raise SpecError(f"{d.path} is a whole number, {found!r}, got {given!r}.")
        return int(given)
    return float(given)


def _refuse_unknown(given: Mapping[str, Any], used: set[str], paths: Mapping[str, Any]) -> None:
    for path in given:
        if path not in used:
            why = "counts only with another option" if path in paths else "is not in this space"
            raise SpecError(f"a value came for {path!r}, which {why}.{nearest(path, used)}")


# -- how options read


def _labels(found: choice) -> list[str]:
    """A word for each option: a spec's class where that tells it from the others."""
    classes = [type(o) for o in found.options]
    words = [
        type(o).__name__ if isinstance(o, Spec) and not isinstance(o, Distribution) and classes.count(type(o)) == 1
        else o if isinstance(o, str) else str(o).lower() if o is None or isinstance(o, bool) else repr(o)
        for o in found.options
    ]  # fmt: skip
    return words if len(set(words)) == len(words) else [repr(o) for o in found.options]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _number(d: Dimension, option: Any) -> Any:
    return option.item() if isinstance(option, np.generic) else option


def _all_numbers(found: Any) -> bool:
    return all(map(_all_numbers, found.options)) if isinstance(found, choice) else (
        isinstance(found, Range) or _is_number(found)
    )  # fmt: skip


def _any_float(found: Any) -> bool:
    if isinstance(found, choice):
        return any(map(_any_float, found.options))
    return not isinstance(found, (integer, log_integer, int, np.integer))
