"""What a person sees while a search goes on: a table that refreshes in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from derin.engine.progress import rewrites_lines, time_in_words

if TYPE_CHECKING:
    from derin.tune.search import Search

EVERY_LIVE, EVERY_LINE = 0.25, 5.0  # seconds between two drawings


class Live:
    """Best so far, trials that run, are pruned, have ended; trials a second, time left, compile time. To stderr."""

    def __init__(self, shown: bool, search: Search) -> None:
        self.search, self.shown = search, shown
        self.screen: Any = None
        self.drawn = time.monotonic()
        self.ended = search.ended
        self.first = search.seconds()
        if shown and rewrites_lines():
            from rich.console import Console
            from rich.live import Live as Screen

            self.screen = Screen(console=Console(stderr=True), auto_refresh=False)
            self.screen.start()

    def epoch(self) -> None:
        """An epoch of the search is over."""
        every = EVERY_LIVE if self.screen else EVERY_LINE
        if self.shown and time.monotonic() - self.drawn > every:
            self.draw()
            self.drawn = time.monotonic()

    def draw(self) -> None:
        if self.screen is None:
            print("  ".join(f"{k} {v}" for k, v in self.figures().items()), file=sys.stderr, flush=True)
            return
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in self.figures():
            table.add_column(name, style="bold" if name.startswith("best") else "")
        table.add_row(*self.figures().values())
        self.screen.update(table, refresh=True)

    def figures(self) -> dict[str, str]:
        """What is shown, by name."""
        search = self.search
        states = [t.state for t in search.trials]
        total = search.settings.trials
        scored = {s: [t.curve[-1] for t in search.trials if t.state == s and t.curve] for s in ("finished", "stopped")}
        scores = scored["finished"] or scored["stopped"]  # as Study.best chooses
        best = (max if search.greater else min)(scores) if scores else None
        taken = search.seconds() - self.first
        rate = (search.ended - self.ended) / max(taken, 1e-9)
        left = time_in_words((total - search.ended) / rate) if total and rate > 0 else "?"
        if search.settings.time is not None:
            left = time_in_words(max(0.0, search.settings.time - search.seconds()))
        found = {
            "trials": f"{search.ended}/{total}" if total else str(search.ended),
            f"best {search.metric}": "-" if best is None else f"{best:.4g}",
            "running": str(states.count("running") + states.count("waiting")),
            "pruned": str(states.count("pruned")),
            "diverged": str(states.count("diverged")),
            "trials/s": f"{rate:.3g}",
            "left": left,
            "compiling": f"{search.compile_seconds:.1f} s",
        }
        return {k: v for k, v in found.items() if k not in ("diverged", "pruned") or v != "0"}

    def end(self) -> None:
        """The last picture stays."""
        if self.shown:
            self.draw()
        if self.screen is not None:
            self.screen.stop()
