"""derin cure: remedies for a run, tried and not only recommended."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from derin.cli.answers import Answer, command
from derin.cli.arguments import AsJson, MovedData, Quiet, RunPath
from derin.cli.asked import run_with
from derin.cli.options import Text, Texts, option
from derin.cli.studies import in_columns
from derin.cli.told import quoted

if TYPE_CHECKING:
    from derin.diagnose.remedies import Cure

Only = Annotated[Texts, option("--only", metavar="REMEDY", help="Try this remedy, and others so named. Repeatable.")]
Seeds = Annotated[int, option("--seeds", metavar="N", help="How often each remedy is tried (3).")]
More = Annotated[
    int | None, option("--epochs", metavar="N", help="Epochs more than the run has (as many as its experiment has).")
]
Metric = Annotated[Text, option("--metric", metavar="NAME", help="What to judge by, if not by the first metric.")]


@command(
    "cure",
    "Try remedies on a run, beside one that changes nothing, and say what each did.",
    """
derin cure runs/titanic-1
derin cure runs/titanic-1 --only dropout --only "learning rate / 3" --seeds 5
""",
)
def cure(
    path: RunPath,
    only: Only = None,
    seeds: Seeds = 3,
    epochs: More = None,
    metric: Metric = None,
    data: MovedData = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> Answer:
    """Learning rate, batch, clipping, penalties, class weights, first weights, activations, norms, units and dropout:
    each trains for a few seeds, from the run's weights where they fit and anew where not. The effect is how much
    better the metric is than with nothing changed."""
    from derin.diagnose.remedies import try_remedies

    run = run_with(path, data)
    found = try_remedies(
        run, remedies=only, seeds=seeds, epochs=epochs, metric=metric, progress=not (quiet or as_json)
    )  # fmt: skip
    best = None if found.best is None else found.best.treatment.name
    moved = f" --data {quoted(data)}" if data is not None else ""  # the file of a remedy names the old place
    rows = [{k: _plain(v) for k, v in row.items()} for row in found.table.to_dicts()]
    for row in rows:
        row["command"] += moved if row["command"] else ""
    values: dict[str, Any] = {"path": str(run.path), "metric": found.metric, "best": best, "remedies": rows}
    return Answer(values, "\n".join(_lines(found, moved)))


def _lines(found: Cure, moved: str) -> list[str]:
    rows = []
    for row in found.table.to_dicts():
        effect = "" if row["remedy"] == "nothing" else _with_deviation(row["effect"], row["effect_deviation"], "+")
        value = _with_deviation(row[found.metric], row["deviation"], "")
        state = "" if row["state"] == "tried" else row["state"]
        rows.append([row["remedy"], value, effect, f"{row['epochs']}", row["starts"], f"{row['seconds']:.1f}", state])
    lines = in_columns(["remedy", found.metric, "effect", "epochs", "starts", "s", ""], rows)
    if found.best is None:
        return [*lines, "", "No remedy did better than changing nothing."]
    command = found.command(found.best)
    adopt = [f"adopt it   {command}{moved}"] if command else []
    return [*lines, "", f"best       {found.best.treatment.name}", *adopt]


def _with_deviation(value: float, deviation: float, sign: str) -> str:
    if not math.isfinite(value):
        return "" if math.isnan(value) else "trains again"
    spread = "" if math.isnan(deviation) else f" ± {deviation:.2g}"
    return f"{value:{sign}.4g}{spread}"


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
