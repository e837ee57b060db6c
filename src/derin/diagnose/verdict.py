"""What a diagnosis is: verdicts with their evidence, the course's concept, and what to do."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LIKELY = 0.5  # from this confidence on a verdict is given; below, it is only listed


@dataclass(frozen=True)
class Remedy:
    """One change to try: fields of the experiment by path, or words where it is not one of those.

    >>> import derin
    >>> Remedy("a tenth of the learning rate", {"optimizer.learning_rate": 1e-4}).command()
    '--set optimizer.learning_rate=0.0001'
    >>> Remedy("clip the gradient", {"clip": derin.optim.ClipByGlobalNorm(1.0)}).command()
    "--set 'clip=ClipByGlobalNorm(1.0)'"
    """

    text: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    def command(self) -> str:
        """The changes as options of `derin fit`, as a shell reads them; "" where there are none."""
        return " ".join(f"--set {shlex.quote(f'{path}={value}')}" for path, value in self.changes.items())


@dataclass(frozen=True)
class Verdict:
    """One finding: its name, how sure it is from 0 to 1, the numbers that led to it, and what helps, best first."""

    name: str
    confidence: float
    evidence: Mapping[str, Any]
    why: str
    concepts: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        from derin import spec

        changes = [{path: spec.to_dict(value) for path, value in r.changes.items()} for r in self.remedies]
        remedies = [{"text": r.text, "changes": c} for r, c in zip(self.remedies, changes, strict=True)]
        return {
            "name": self.name,
            "confidence": round(self.confidence, 3),
            "evidence": dict(self.evidence),
            "why": self.why,
            "concepts": list(self.concepts),
            "remedies": remedies,
        }


@dataclass(frozen=True)
class Diagnosis:
    """What derin.diagnose found: `verdicts`, the likeliest first; "just right" stands alone.

    scores: loss and error of the net on both parts, of the trivial predictor (floor) and of gradient boosting
    (ceiling). suspected: what was seen as well, with a confidence below one half, or as a consequence of a verdict.
    notes: what could not be looked at, and why.
    """

    verdicts: tuple[Verdict, ...]
    scores: Mapping[str, Any]
    suspected: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        return self.verdicts[0].name == "just right"

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: what `derin diagnose --json` prints."""
        return {
            "verdicts": [v.to_dict() for v in self.verdicts],
            "suspected": [v.to_dict() for v in self.suspected],
            "scores": dict(self.scores),
            "notes": list(self.notes),
        }

    def to_text(self) -> str:
        """For a terminal."""
        lines = []
        for i, v in enumerate(self.verdicts, 1):
            lines += [f"{i}. {v.name}  ({v.confidence:.0%} sure; {', '.join(v.concepts)})", f"   {v.why}"]
            lines += [f"   {name:<28} {_shown(value)}" for name, value in v.evidence.items()]
            lines += [f"   -> {r.text}{f'   {r.command()}' if r.changes else ''}" for r in v.remedies]
            lines.append("")
        if self.suspected:
            seen = ", ".join(f"{v.name} ({v.confidence:.0%})" for v in self.suspected)
            lines += [f"seen as well: {seen}", ""]
        lines += [f"{name:<10} {_shown(value)}" for name, value in self.scores.items()]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.to_text()


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_shown(v)}" for k, v in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def ramp(value: float, low: float, high: float) -> float:
    """0 up to low, 1 from high on, straight between; of a number that is none 0. low may be above high.

    >>> ramp(2, 1, 3), ramp(5, 10, 1), ramp(float("nan"), 0, 1)
    (0.5, 0.5555555555555556, 0.0)
    """
    share = (value - low) / (high - low)
    return min(1.0, max(0.0, share)) if share == share else 0.0
