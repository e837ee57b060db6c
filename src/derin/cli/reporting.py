"""The command that writes the page of a run, or of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from derin.cli.answers import Answer, command
from derin.cli.arguments import AsJson, MovedData, RunOrStudy
from derin.cli.asked import run_with
from derin.cli.options import Text, option

PageOut = Annotated[Text, option("--out", "-o", metavar="FILE.html", help="The file to write (RUN/report.html).")]
Lang = Annotated[str, option("--lang", metavar="LANGUAGE", help="en (the usual) or tr.")]


@command(
    "report",
    "Write the page of a run or a study.",
    """
derin report runs/titanic-1
derin report runs/titanic-1 --lang tr --out titanic.html
derin report studies/titanic-1
""",
)
def report(
    path: RunOrStudy, out: PageOut = None, lang: Lang = "en", data: MovedData = None, as_json: AsJson = False
) -> Answer:
    """Write one HTML page about a run: what was asked, the data, curves, scores with intervals, where it is right and
    wrong, what each column matters, health, diagnosis, journal. It opens without a network, on a phone and in print."""
    from derin.errors import RunError, SpecError
    from derin.report.words import words

    words(lang)
    if (Path(path) / "study.json").is_file():
        if data is not None:
            raise SpecError(f"{path} is a study: its page needs no data. Leave out --data.")
        from derin.tune.study import load as load_study

        file = Path(out) if out is not None else Path(path) / "report.html"
        if file.suffix.lower() not in (".html", ".htm"):
            raise RunError(f"a report is a page, named .html; got {out!r}.")
        written = load_study(path).page(file, lang)
    else:
        written = run_with(path, data).report(out, lang)
    size = written.stat().st_size
    return Answer({"path": path, "out": str(written), "bytes": size}, f"{written}: {size / 1024:.0f} KiB")
