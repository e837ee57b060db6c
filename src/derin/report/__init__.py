"""Reports: one HTML page for a run, in English or Turkish, that opens without a network.

run.report("report.html", lang="tr")       # RUN/report.html where no file is named
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derin.engine.run import Run


def write(run: Run, file: str | Path | None = None, lang: str = "en") -> Path:
    """Write the page of a run. Raises RunError for a run in memory without a file, SpecError for a language."""
    from derin.engine.checkpoint import replace_file
    from derin.errors import RunError
    from derin.report.page import page
    from derin.report.words import words

    words(lang)
    if file is None and run.path is None:
        raise RunError('a run in memory has no folder for its report: name a file, run.report("report.html").')
    where = Path(file) if file is not None else Path(run.path, "report.html")  # type: ignore[arg-type]
    if where.suffix.lower() not in (".html", ".htm"):
        raise RunError(f"a report is a page, named .html; got {str(file)!r}.")
    if not where.parent.is_dir():
        raise RunError(f"there is no folder {str(where.parent)!r} to write {where.name} to.")
    replace_file(where, page(run, lang).encode())
    return where
