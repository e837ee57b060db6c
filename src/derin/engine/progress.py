"""What a person sees while a run trains: one line that changes in a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import Any

EVERY = 0.05  # seconds between two drawings of the live line: more is not seen, and costs the terminal


class Progress:
    """Prints to stderr: loss, metrics, steps a second, time left; compile time by itself.

    >>> progress = Progress(False, 10)
    >>> progress.text(3, {"loss": 0.51234, "accuracy": 0.8, "learning_rate": 0.001}, 812.0, 65.0)
    'epoch  3/10  loss 0.5123  accuracy 0.8000  812 steps/s  1 min 5 s left'
    """

    def __init__(self, shown: bool, epochs: int) -> None:
        self.shown, self.epochs = shown, epochs
        self.live = shown and rewrites_lines()
        self.first: int | None = None  # the epoch before the first of this process
        self.step = 0
        self.working = 0.0  # seconds of training, without compiling
        self.rates: set[float] = set()
        self.drawn = 0.0
        self.line = ""

    def epoch(self, number: int, values: dict[str, Any], step: int, taken: float, compiling: float) -> None:
        """One epoch is over; it took that many seconds, some of them for compiling."""
        if not self.shown:
            return
        if self.first is None:
            self.first = number - 1
            self.step = step - step // number  # a resumed run comes with its steps
            if compiling > 0.01:
                self._print(f"compiled in {compiling:.1f} s")
        self.working += max(taken - compiling, 0.0)
        rate = (step - self.step) / max(taken - compiling, 1e-9)
        self.step = step
        left = self.working / (number - self.first) * (self.epochs - number)
        self.line = self.text(number, values, rate, left)
        if not self.live:
            self._print(self.line)
        elif time.monotonic() - self.drawn > EVERY:
            self._draw()

    def text(self, number: int, values: dict[str, Any], rate: float, left: float) -> str:
        """The line of an epoch; the learning rate is in it once it has changed."""
        self.rates.add(values.get("learning_rate", 0.0))
        shown = {k: v for k, v in values.items() if isinstance(v, float) and k != "learning_rate"}
        numbers = [f"{k} {_number(v)}" for k, v in shown.items()]
        if len(self.rates) > 1:
            numbers.append(f"learning_rate {values['learning_rate']:.3g}")
        ahead = [f"{time_in_words(left)} left"] if number < self.epochs else []
        at = f"epoch {number:>{len(str(self.epochs))}}/{self.epochs}"
        return "  ".join([at, *numbers, f"{rate:,.0f} steps/s", *ahead])

    def say(self, text: str) -> None:
        """A line of its own, which stays."""
        if self.shown:
            self._print(text)

    def end(self) -> None:
        """Leave the last line standing."""
        if self.live and self.line:
            self._draw()
            print(file=sys.stderr, flush=True)
        self.line = ""

    def _draw(self) -> None:
        width = shutil.get_terminal_size().columns - 1
        print(f"\r\x1b[2K{self.line[:width]}", end="", file=sys.stderr, flush=True)
        self.drawn = time.monotonic()

    def _print(self, text: str) -> None:
        print(f"\r\x1b[2K{text}" if self.live else text, file=sys.stderr, flush=True)


def rewrites_lines() -> bool:
    """Is stderr a terminal that understands the codes that erase a line?"""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return False
    return sys.platform != "win32" or bool(os.environ.get("WT_SESSION") or os.environ.get("TERM"))


def _number(v: float) -> str:
    """Four digits that count; numbers from 0.1 to 10 always take the same room."""
    return f"{v:#.4g}" if 1e-3 <= abs(v) < 1e4 else f"{v:.3g}"


def time_in_words(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds / 3600:.1f} h"
