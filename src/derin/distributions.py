"""Distributions: they stand where a value stands, and make an experiment a search space.   S4.04-S4.06

    Adam(log(1e-4, 1e-1))                         # any number ...
    MLP(widths=(integer(50, 100), 64))            # ... whole number, entry of a tuple
    choice(Adam(log(1e-4, 1e-1)), SGD(0.1))       # or spec; what stands inside an option counts where it is chosen

A distribution is a spec: it goes into files, prints and compares as one, and `derin.tune` draws from it. The draw is
`at(u)`, the quantile of a number u from 0 to 1, so a sampler only ever makes such numbers; `place` is the way back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from derin.errors import SpecError
from derin.spec import Spec, _equal

__all__ = ["Distribution", "choice", "integer", "log", "log_integer", "one_minus_log", "uniform"]

NARROWEST = 1e-9  # of a range: a window that is no wider would be one number


class Distribution(Spec):
    """What may stand in any field of a spec, until a search puts a value there."""

    _is_distribution = True
    _has_distributions = True

    def at(self, u: float) -> Any:
        """The value at this share of the distribution, a number from 0 to 1."""
        raise NotImplementedError(f"{type(self).__name__} has no at(u).")

    def place(self, value: Any) -> float:
        """The share, from 0 to 1, at which a value lies: the opposite of at."""
        raise NotImplementedError(f"{type(self).__name__} has no place(value).")

    def _fits(self, fits: Callable[[Any], bool]) -> bool:
        """Would each value be right for a field whose values must pass `fits`?"""
        return fits(self.at(0.5))

    def _fits_rounded(self, fits: Callable[[Any], bool]) -> bool:
        return False


class Range(Distribution):
    """A distribution of numbers from `low` to `high`, spread evenly on a scale of its own."""

    low: float
    high: float

    def check(self) -> None:
        for name, value in (("low", self.low), ("high", self.high)):
            if isinstance(value, Spec) or not math.isfinite(value):
                raise SpecError(f"{self._name}: {name} must be a finite number, got {value!r}.")
        self._check_scale()
        if self.low > self.high:
            raise SpecError(f"{self!r} is reversed: write {self._name}({self.high!r}, {self.low!r}).")
        if self.low == self.high and isinstance(self.low, float):
            raise SpecError(f"{self!r} is empty: its ends are equal. Write the value {self.low!r} itself.")

    def _complete(self) -> None:
        self._ends = self._scaled(self.low), self._scaled(self.high)

    def at(self, u: float) -> Any:
        if 0 < u < 1:
            a, b = self._ends
            return min(max(self._unscaled(a + u * (b - a)), self.low), self.high)
        _check_share(self, u)
        return self.high if u else self.low  # to the bit

    def place(self, value: Any) -> float:
        a, b = self._ends
        return min(max((self._scaled(_number(self, value)) - a) / (b - a), 0.0), 1.0)

    def narrowed(self, value: Any, share: float) -> Self:
        """The same kind of distribution over `share` of this one, around a value.   S4.03

        >>> log(1e-4, 1).narrowed(1e-2, 0.5)
        log(0.001, 0.1)
        """
        if not 0 < share <= 1:
            raise SpecError(f"share must be above 0 and at most 1, got {share!r}.")
        share = max(share, NARROWEST)
        first = min(max(self.place(value) - share / 2, 0.0), 1 - share)
        return self.replace(low=self.at(first), high=self.at(min(first + share, 1.0)))

    def contains(self, value: Any) -> bool:
        """Is the value one of the range?"""
        return self.low <= _number(self, value) <= self.high

    # -- the scale: the numbers are spread evenly on it
    def _scaled(self, value: float) -> float:
        return value

    def _unscaled(self, scaled: float) -> Any:
        return scaled

    def _check_scale(self) -> None:
        """Refuse ends that the scale does not have."""

    def _fits_rounded(self, fits: Callable[[Any], bool]) -> bool:
        return fits(round(self.at(0.5)))

    @property
    def _name(self) -> str:
        return type(self).__name__


class uniform(Range):
    """Every number from low to high alike: where the scale is right as it is.   S4.04

    >>> uniform(0.0, 0.5).at(0.25)
    0.125
    """


class log(Range):
    """Every power of ten alike: for a learning rate.   S4.05: r from U(log10 low, log10 high), value 10^r

    >>> [round(log(1e-4, 1).at(u), 6) for u in (0, 0.25, 0.5, 0.75, 1)]
    [0.0001, 0.001, 0.01, 0.1, 1.0]
    """

    def _scaled(self, value: float) -> float:
        return math.log10(value) if value > 0 else -math.inf

    def _unscaled(self, scaled: float) -> float:
        return 10.0**scaled

    def _check_scale(self) -> None:
        _check_positive(self)


class one_minus_log(Range):
    """Every power of ten of 1 - value alike: for momentum and the betas.   S4.06: beta = 1 - 10^r

    From 0.9 to 0.999: 0.9 averages about 10 steps, 0.99 a hundred, 0.999 a thousand.

    >>> [round(one_minus_log(0.9, 0.999).at(u), 6) for u in (0, 0.5, 1)]
    [0.9, 0.99, 0.999]
    """

    def _scaled(self, value: float) -> float:
        return -math.log1p(-value) if value < 1 else math.inf

    def _unscaled(self, scaled: float) -> float:
        return -math.expm1(-scaled)

    def _check_scale(self) -> None:
        if max(self.low, self.high) >= 1:
            raise SpecError(
                f"{self!r}: the logarithm of 1 - value needs values below 1, such as one_minus_log(0.9, 0.999)."
            )


class integer(Range):
    """Every whole number from low to high alike, both included.   S4.04: layers 2, 3, 4

    >>> [integer(2, 4).at(u) for u in (0, 0.3, 0.4, 0.6, 0.7, 1)]
    [2, 2, 3, 3, 4, 4]
    """

    low: int  # type: ignore[assignment]
    high: int  # type: ignore[assignment]

    def __len__(self) -> int:
        return self.high - self.low + 1

    def at(self, u: float) -> int:
        _check_share(self, u)
        return min(self.low + int(u * len(self)), self.high)

    def place(self, value: Any) -> float:
        return min(max((_number(self, value) - self.low + 0.5) / len(self), 0.0), 1.0)


class log_integer(Range):
    """Whole numbers from low to high, both included, every doubling alike: for widths and batch sizes.

    >>> [log_integer(8, 128).at(u) for u in (0, 0.25, 0.5, 0.75, 1)]
    [8, 16, 32, 64, 128]
    """

    low: int  # type: ignore[assignment]
    high: int  # type: ignore[assignment]

    def __len__(self) -> int:
        return self.high - self.low + 1

    def at(self, u: float) -> int:
        _check_share(self, u)
        a, b = self._ends
        return min(max(int(math.exp(a + u * (b - a))), self.low), self.high)

    def place(self, value: Any) -> float:
        a, b = self._ends
        return min(max((math.log(max(_number(self, value), 0) + 0.5) - a) / (b - a), 0.0), 1.0)

    def _complete(self) -> None:
        self._ends = math.log(self.low), math.log(self.high + 1)  # from each number to the next is that number's

    def _check_scale(self) -> None:
        _check_positive(self)


class choice(Distribution):
    """One of several values or whole specs, each as likely; distributions may stand inside them.

    >>> from derin.optim import SGD, Adam
    >>> choice(Adam(log(1e-4, 1e-1)), SGD(log(1e-3, 1), momentum=uniform(0.0, 0.99)))
    choice(Adam(learning_rate=log(0.0001, 0.1)), SGD(learning_rate=log(0.001, 1.0), momentum=uniform(0.0, 0.99)))
    >>> choice(64, 128, 256).at(0.5)
    128
    """

    options: tuple[Any, ...] = ()
    _variadic = "options"

    if TYPE_CHECKING:

        def __init__(self, *options: Any) -> None: ...

    def check(self) -> None:
        if not self.options:
            raise SpecError("choice() has no options: write choice(64, 128, 256).")
        for i, option in enumerate(self.options):
            if any(_equal(option, other) for other in self.options[:i]):
                raise SpecError(f"{self!r} holds {option!r} twice.")

    def __len__(self) -> int:
        return len(self.options)

    def at(self, u: float) -> Any:
        return self.options[self.index_at(u)]

    def index_at(self, u: float) -> int:
        """The place of the option at this share of the distribution."""
        _check_share(self, u)
        return min(int(u * len(self.options)), len(self.options) - 1)

    def place(self, value: Any) -> float:
        return self.place_of(self.index_of(value))

    def place_of(self, index: int) -> float:
        """The share at the middle of an option."""
        return (index + 0.5) / len(self.options)

    def index_of(self, value: Any) -> int:
        """The place of an option among the options. Raises SpecError."""
        for i, option in enumerate(self.options):
            if _equal(option, value):
                return i
        raise SpecError(f"{value!r} is not an option of {self!r}.")

    def _fits(self, fits: Callable[[Any], bool]) -> bool:
        return all(o._fits(fits) if isinstance(o, Distribution) else fits(o) for o in self.options)


def _check_share(distribution: Distribution, u: float) -> None:
    if not 0 <= u <= 1:
        raise SpecError(f"{distribution!r}.at(u) takes a number from 0 to 1, got {u!r}.")


def _check_positive(distribution: Range) -> None:
    if min(distribution.low, distribution.high) <= 0:
        raise SpecError(f"{distribution!r}: a logarithmic scale has no zero and no negative number.")


def _number(distribution: Distribution, value: Any) -> float:
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        return float(value) if not isinstance(value, int) else value
    raise SpecError(f"{value!r} is not a number, and so not a value of {distribution!r}.")
