"""Trial: one point of a search, and how it went."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

ENDED = ("finished", "pruned", "diverged", "stopped", "refused")


@dataclasses.dataclass(slots=True)
class Trial:
    """What was tried, and what came of it.

    state: queued, running, waiting (at a rung), and at the end finished, pruned, diverged (a loss that was not
    finite), stopped (out of time) or refused (it does not fit in memory, or its values do not go together). curve: the
    metric after each epoch, the mean over folds and seeds; members: all that was measured of each of them, by name.
    """

    number: int
    values: dict[str, Any]
    state: str = "queued"
    epochs: int = 0
    curve: list[float] = dataclasses.field(default_factory=list)
    members: Sequence[dict[str, float]] = ()
    seconds: float | None = None  # after the search began, when it ended
    place: int | None = None  # in the order in which trials ended
    why: str = ""
    history: Sequence[Any] = ()  # [epoch, values its weights had until then]
    source: int | None = None  # the trial whose weights it took over last

    make: Any = dataclasses.field(default=None, repr=False, compare=False)  # values -> experiment, in a Study

    @property
    def experiment(self) -> Any:
        """The experiment with this trial's values."""
        return self.make(self.values) if self.make else None

    @property
    def score(self) -> float:
        """The metric at the end; nan for a trial that has none."""
        return self.curve[-1] if self.curve and self.state != "diverged" else math.nan

    @property
    def valid_loss(self) -> float:
        """The mean validation loss at the end: of equal scores the smaller one is better. nan for a trial without."""
        return mean([m["valid_loss"] for m in self.members]) if self.members else math.nan

    def deviation(self, metric: str) -> float:
        """The standard deviation over folds and seeds; nan for a single one."""
        if len(self.members) < 2 or self.state == "diverged":
            return math.nan
        return statistics.stdev(m[metric] for m in self.members)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del found["make"]
        return found | {"members": [*self.members], "history": [*self.history]}


def tie_breaker(trial: Trial, space: Any) -> float:
    """Of equal scores the smaller is better: the validation loss, unless trials differ in what a loss measures."""
    return 0.0 if space is not None and space.searched_loss else trial.valid_loss


def mean(values: list[float]) -> float:
    """fmean takes microseconds, and most trials have one member."""
    return statistics.fmean(values) if len(values) > 1 else values[0]
