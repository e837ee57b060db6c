"""derin diagnose: what is wrong with a run, and what helps."""

from __future__ import annotations

from typing import Annotated, Any

from derin.cli.answers import Answer, command
from derin.cli.arguments import AsJson, MovedData, RunPath
from derin.cli.asked import run_with
from derin.cli.options import Text, option

Pictures = Annotated[
    Text, option("--pictures", metavar="FOLDER", help="Write pictures of its health there, as SVG (needs matplotlib).")
]


@command(
    "diagnose",
    "Say what is wrong with a run, with evidence and remedies.",
    """
derin diagnose runs/titanic-1
derin diagnose runs/titanic-1 --json
derin diagnose runs/titanic-1 --pictures figures/
""",
)
def diagnose(path: RunPath, pictures: Pictures = None, data: MovedData = None, as_json: AsJson = False) -> Answer:
    """Verdicts on a run, the likeliest first: bias and variance, learning rate and batch, gradients and units, first
    weights, labels, leaks and drift. Each comes with its numbers, the course's concept and remedies, best first."""
    from derin.diagnose.doctor import diagnose as diagnosis_of

    run = run_with(path, data)
    found = diagnosis_of(run)
    written: list[str] = []
    if pictures is not None:
        from derin.diagnose.pictures import health_pictures
        from derin.tune.pictures import save

        written = [str(p) for p in save(health_pictures(run), pictures)]
    values: dict[str, Any] = {"path": str(run.path)} | found.to_dict() | {"pictures": written}
    lines = [found.to_text(), *(f"picture   {p}" for p in written)]
    return Answer(values, "\n".join(lines))
