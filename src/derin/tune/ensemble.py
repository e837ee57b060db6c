"""The best trials of a study as one run that predicts by the mean of them all."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from derin.data.folds import folds, restandardised
from derin.engine.epoch import Weights
from derin.engine.folder import RunFolder
from derin.engine.run import Run
from derin.engine.task import task_of
from derin.engine.training import counts_of, first_carry
from derin.errors import RunError
from derin.models.ensemble import Ensemble
from derin.nn import Module, Sequential
from derin.tune.arena import Restandardised

if TYPE_CHECKING:
    from derin.tune.study import Study


def ensemble_of(study: Study, members: int | None, data: Any, out: str | Path | None) -> Run:
    """See Study.ensemble. Each net brings its own input layer, which takes encoded rows: codes too, so in float32."""
    kept = [t for t in study.ranked() if t.number in study.weights]
    nets = [(t, i, *weights) for t in kept for i, weights in enumerate(study.weights[t.number])]
    wanted = len(nets) if members is None else members
    if not 1 <= wanted <= len(nets):
        raise RunError(
            f"the study kept the weights of {len(nets)} net{'s' * (len(nets) != 1)}, those of its best trials; an "
            f"ensemble of {members} was asked for."
        )
    if study.settings.folds and data.fingerprint != study.about_data["fingerprint"]:
        raise RunError("each net scales columns as its fold of the study's data did: these are not those data.")
    nets = nets[:wanted]
    layers = _input_layers(study, data)
    row = jax.ShapeDtypeStruct((1, *data.train.x.shape[1:]), data.train.x.dtype)
    first = {f"input.{name}" for name in layers[0].look(row)[0]}
    together = [Sequential(*map(_copy, (layers[i], t.experiment.net))) for t, i, *_ in nets]
    experiment = study.best.experiment.replace(
        net=Ensemble(nets=tuple(together), own_inputs=True), early_stopping=None, precision="float32"
    )
    counts = counts_of(data)
    task = task_of(experiment, data.schema, data.train.x, counts)
    carry = first_carry(task, experiment.seed, data.train.x)
    params: dict[str, Any] = {}
    state: dict[str, Any] = {}
    for n, (_, _, weights, statistics) in enumerate(nets):
        params |= {_name(n, name, first): jnp.asarray(a) for name, a in weights.items()}
        state |= {_name(n, name, first): jnp.asarray(a) for name, a in statistics.items()}
    average = carry.average._replace(params=params, state=state) if carry.average else ()
    carry = carry._replace(params=params, state=state, best_params=params, best_state=state, average=average)
    folder = RunFolder.create(Path(out), experiment, data, counts) if out is not None else None
    if folder:
        folder.save(0, carry, "an ensemble")
    return Run(experiment, data.schema, task, carry, [], folder, data, stopped="an ensemble")


def _copy(layer: Module) -> Module:
    """A layer stands in one place of a net only."""
    return jax.tree.map(lambda leaf: leaf, layer)


def _input_layers(study: Study, data: Any) -> list[Module]:
    """What stood before the net of each member of a trial: of each fold, each seed."""
    count, layer = study.settings.folds, data.schema.input_layer
    if count is None:
        return [layer() for _ in range(study.settings.seeds)]
    adjusted = restandardised(data, folds(data, count, seed=study.experiment.seed))
    each = range(count * study.settings.seeds)
    if adjusted is None:
        return [layer() for _ in each]
    shift, scale = adjusted
    return [Restandardised(layer(), *(a[i // study.settings.seeds] for a in (shift, scale))) for i in each]


def _name(n: int, name: str, first: Set[str]) -> str:
    """A weight's name in the n-th net: those of `first` stood in the layer before it."""
    layer, rest = (0, name.removeprefix("input.")) if name in first else (1, name)
    return f"nets.{n}.{layer}.{rest}"


def best_weights(arrays: dict[str, Any]) -> dict[int, list[Weights]]:
    """Of the arrays of a search's checkpoint by name: the weights of the best trials' members."""
    found: dict[int, dict[int, Weights]] = {}
    for name, a in arrays.items():
        owner, _, rest = name.partition("/")
        kind, number, member = owner.split(".")
        if kind == "best":
            what, _, weight = rest.partition("/")
            mine = found.setdefault(int(number), {}).setdefault(int(member), Weights({}, {}))
            getattr(mine, what)[weight] = a
    return {n: [some[i] for i in sorted(some)] for n, some in found.items()}
