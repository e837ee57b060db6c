"""The best trials of a study as one run that predicts by the mean of them all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from derin.engine.folder import RunFolder
from derin.engine.run import Run
from derin.engine.task import task_of
from derin.engine.training import counts_of, first_carry
from derin.errors import RunError
from derin.models.ensemble import Ensemble

if TYPE_CHECKING:
    from derin.tune.study import Study


def ensemble_of(study: Study, members: int | None, data: Any, out: str | Path | None) -> Run:
    """See Study.ensemble."""
    nets = [(t, w) for t in study.ranked() if t.number in study.weights for w in study.weights[t.number]]
    wanted = len(nets) if members is None else members
    if not 1 <= wanted <= len(nets):
        raise RunError(
            f"the study kept the weights of {len(nets)} nets, those of its best trials; an ensemble of {members} was "
            "asked for."
        )
    nets = nets[:wanted]
    if study.settings.folds and data.schema.inputs.standardised is not None:
        raise RunError(
            "the nets of each fold saw columns scaled by that fold's rows, so they have no input layer in common: "
            "make the ensemble from a study without folds."
        )
    apart = [jax.tree.map(lambda leaf: leaf, t.experiment.net) for t, _ in nets]  # copies: a net stands in one place
    experiment = study.best.experiment.replace(net=Ensemble(*apart), early_stopping=None)
    counts = counts_of(data)
    task = task_of(experiment, data.schema, data.train.x, counts)
    carry = first_carry(task, experiment.seed, data.train.x)
    params: dict[str, Any] = {}
    state: dict[str, Any] = {}
    for i, (_, (weights, statistics)) in enumerate(nets):
        shared = [name for name in weights if name.startswith("input.")]
        if shared:
            raise RunError(
                f"each net has an input layer of its own ({shared[0]}, ...): they cannot be put together yet."
            )
        params |= {f"nets.{i}.{name}": jnp.asarray(a) for name, a in weights.items()}
        state |= {f"nets.{i}.{name}": jnp.asarray(a) for name, a in statistics.items()}
    average = carry.average._replace(params=params, state=state) if carry.average else ()
    carry = carry._replace(params=params, state=state, best_params=params, best_state=state, average=average)
    folder = RunFolder.create(Path(out), experiment, data, counts) if out is not None else None
    if folder:
        folder.save(0, carry, "an ensemble")
    return Run(experiment, data.schema, task, carry, [], folder, data, stopped="an ensemble")


def best_weights(arrays: dict[str, Any], early_stopping: bool) -> dict[int, list[Any]]:
    """Of the arrays of a search's checkpoint by name: the (params, state) that predict, of the best trials."""
    found: dict[int, dict[int, dict[str, Any]]] = {}
    for name, a in arrays.items():
        owner, _, rest = name.partition("/")
        kind, number, member = owner.split(".")
        if kind == "best":
            found.setdefault(int(number), {}).setdefault(int(member), {})[rest] = a

    def taken(some: dict[str, Any], what: str) -> dict[str, Any]:
        averaged = any(name.startswith("average/params/") for name in some)
        prefix = f"best_{what}/" if early_stopping else f"average/{what}/" if averaged else f"{what}/"
        return {name.removeprefix(prefix): a for name, a in some.items() if name.startswith(prefix)}

    return {n: [(taken(some[i], "params"), taken(some[i], "state")) for i in sorted(some)] for n, some in found.items()}
