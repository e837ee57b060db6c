"""derin trace: a row of a run in numbers, and the operation at which a run broke."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from derin.cli.answers import Answer, command
from derin.cli.arguments import AsJson, MovedData, RunPath
from derin.cli.asked import refuse_existing, run_with, write_new
from derin.cli.options import Text, option

Row = Annotated[int | None, option("--row", metavar="N", help="Which row of the part, counted from 0.")]
Part = Annotated[str, option("--part", metavar="PART", help="Which of the run's rows: test (the usual), valid, train.")]
Nan = Annotated[bool, option("--nan", help="Of a run that failed: replay the failing step, and name the operation.")]
Form = Annotated[
    str,
    option(
        "--form",
        metavar="FORM",
        help="scalar (every product written out), matrix, summary, or auto: what fits each array (the usual).",
    ),
]
Layout = Annotated[
    str, option("--layout", metavar="LAYOUT", help="rows: an example a row (the usual); columns: an example a column.")
]
Out = Annotated[
    Text,
    option("--out", "-o", metavar="FILE", help="Write it to this new file instead: .txt, .md, .html, .svg or .json."),
]
WRITERS = (".txt", ".md", ".html", ".svg", ".json")


@command(
    "trace",
    "Show the computation of a run in numbers.",
    """
derin trace runs/titanic-1 --row 3
derin trace runs/titanic-1 --row 3 --out row3.html
derin trace runs/titanic-1 --nan
""",
)
def trace(
    path: RunPath,
    row: Row = None,
    part: Part = "test",
    nan: Nan = False,
    form: Form = "auto",
    layout: Layout = "rows",
    out: Out = None,
    data: MovedData = None,
    as_json: AsJson = False,
) -> Answer:
    """Every operation from a row to its loss and back to each weight; or where a run's numbers broke."""
    from derin.errors import SpecError

    if nan == (row is not None):
        raise SpecError("give --row N, to see a row's way through the net, or --nan, to see where a failed run broke.")
    suffix = Path(out).suffix if out else ".txt"
    if suffix not in WRITERS:
        raise SpecError(f"--out {out}: the file's name must end in one of {', '.join(WRITERS)}.")
    if out:
        refuse_existing(Path(out))
    from derin.trace.of_run import first_not_finite, trace_row

    run = run_with(path, data)
    if nan:
        found = first_not_finite(run)
        shown, values, text = found.trace, found.to_dict(), found.to_text()
    else:
        shown = trace_row(run, row, part)  # type: ignore[arg-type]
        values, text = {}, ""
    if out:
        write_new(Path(out), _as(suffix, shown, form, layout))
        text = f"{text}\nwritten to {out}".strip()
        return Answer(values | {"file": out}, text)
    if as_json:
        return Answer(values or json.loads(shown.to_json()), "")
    return Answer(values, _printable(text or shown.to_text(form, layout)))


def _as(suffix: str, shown: Any, form: str, layout: str) -> str:
    if suffix == ".svg":
        return str(shown.to_svg())
    if suffix == ".json":
        return str(shown.to_json())
    ways = {".txt": shown.to_text, ".md": shown.to_markdown, ".html": shown.to_html}
    return str(ways[suffix](form, layout))


def _printable(text: str) -> str:
    encoding = sys.stdout.encoding or "ascii"
    return text.encode(encoding, "replace").decode(encoding)
