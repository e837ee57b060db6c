"""Evidence: all that the rules look at, gathered once. Plain numbers; the rules themselves touch no net and no data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from derin.data.dataset import column_places
from derin.diagnose.facts import Facts, Score, facts_of, score
from derin.engine import epoch as engine
from derin.engine.experiment import Experiment
from derin.engine.predict import blocks
from derin.errors import RunError
from derin.nn.init import Full, Ones, Zeros
from derin.nn.module import layers_by_path

ROWS = 4000  # of a part that scores are taken on
SQUASHING = {"Sigmoid": (0, 1), "Softmax": (0, 1), "Softmin": (0, 1), "Hardsigmoid": (0, 1), "Hardmax": (0, 1),
             "Tanh": (-1, 1), "Hardtanh": (-1, 1), "Softsign": (-1, 1), "ReLU": (0, math.inf), "ReLU6": (0, 6),
             "LogSoftmax": (-math.inf, 0), "LogSigmoid": (-math.inf, 0), "Softplus": (0, math.inf),
             "sigmoid": (0, 1), "softmax": (0, 1), "softmin": (0, 1), "tanh": (-1, 1), "relu": (0, math.inf),
             "relu6": (0, 6), "softplus": (0, math.inf), "log_softmax": (-math.inf, 0)}  # fmt: skip

TABLES = ("Embedding", "LearnedPositions")  # rows are looked up: few of them have a gradient at a time
RECURRENT = ("RNN", "GRU", "LSTM")
MULTIPLYING = ("Linear", "Conv1d", "Conv2d", "Conv3d", *RECURRENT)


@dataclass(frozen=True)
class Evidence:
    """See gather. Arrays are numpy's, an entry an epoch."""

    experiment: Experiment
    facts: Facts
    loss: np.ndarray
    valid_loss: np.ndarray  # nan where there are no validation rows
    broken: bool
    train: Score
    valid: Score
    rows: int
    judged: int
    batch: int
    hidden: int  # layers of weights before the last
    weights: int
    losses: frozenset[str] = frozenset()  # their names
    ends: str = ""  # what the last layer is called, if it squashes: "Softmax"
    norms: int = 0  # layers of BatchNorm
    memory: float = math.inf  # of theirs, in batches: how many the running statistics weigh; inf: all, or none are kept
    starts_normed: bool = False  # the first layer brings its inputs to mean 0 and deviation 1
    bias_like: frozenset[str] = frozenset()  # weights that multiply no outputs of a layer before: biases, embeddings
    units: dict[str, int] = field(default_factory=dict)  # of the matrices of Linear, convolutions, RNNs: outputs
    alike: bool = False  # a layer has units that are all the same
    relus: bool = False
    back: float = math.nan  # gradient at the first steps of a series over that at the steepest; nan: no recurrent net
    health: tuple[dict[str, Any], ...] = ()
    columns: tuple[str, ...] = ()  # of the table, for each column of x
    labels: tuple[str, ...] = ()  # of the classes
    numbers: int = 0  # that are predicted of a row; 0 where a target has classes
    early_stopped: bool = False  # the weights are those of the best epoch

    @property
    def epochs(self) -> int:
        return len(self.loss)

    @property
    def per_epoch(self) -> int:
        return -(-self.rows // self.batch)

    @property
    def steps(self) -> int:
        return self.epochs * self.per_epoch

    @property
    def floor(self) -> Score:
        return self.facts.floor

    @property
    def ceiling(self) -> Score | None:
        return self.facts.ceiling

    def share(self, score: Score) -> float:
        """An error as a share of the trivial predictor's: 0 is perfect, 1 has learned nothing."""
        return min(2.0, score.error / max(self.floor.error, 1e-9)) if math.isfinite(score.error) else 2.0

    @property
    def noise(self) -> float:
        """Standard error of the validation share: a few rows more or less."""
        e = min(max(self.valid.error, 0.5 / max(self.valid.rows, 1)), 1.0)
        each = (
            math.sqrt(e * max(1 - e, 0.0) / max(self.valid.rows, 1))
            if self.valid.recall
            else e * math.sqrt(2 / max(self.valid.rows, 1))
        )
        return each / max(self.floor.error, 1e-9)

    # -- of the health records
    def matrices(self, of: str, at: int) -> dict[str, float]:
        """A number of each matrix of weights, in the order of the net, at the first (0) or last (-1) look."""
        if not self.health:
            return {}
        return {name: w[of] for name, w in self.health[at]["weights"].items() if name not in self.bias_like}

    def over_time(self, name: str) -> np.ndarray:
        """A number of the whole net at each look, the first weights left out."""
        return np.array([line[name] for line in self.health[1:]], float)


def gather(run: Any, data: Any = None) -> Evidence:
    """Look at a run and its data.   Raises RunError where nothing was trained, or its data are not at hand."""
    from derin.engine.training import as_dataset

    if not run.history and int(run.carry.broken_at) < 0 and run.stopped != "failed":
        raise RunError("this run has no epoch behind it yet: there is nothing to diagnose. Train it first.")
    if data is not None:
        data = as_dataset(data)
        if data.fingerprint != run.fingerprint:
            raise RunError("these are not the data of the run: a diagnosis needs those it was trained and judged on.")
    else:
        try:
            data = run.reload_data()
        except RunError as error:
            raise RunError(f"{error} Here: derin.diagnose(run, data).") from None
    task, experiment, targets = run.task, run.experiment, data.schema.targets
    n, judged = len(data.train.x), len(data.valid.x)
    facts = facts_of(data, _weights(task))
    broken = int(run.carry.broken_at) >= 0 or run.stopped == "failed"
    valid_part = data.valid if judged else data.train
    net = _net_facts(task, data.train.x, run.params)
    if not net["ends"] and _sums_to_one(run, data.train.x):
        net["ends"] = "Softmax"  # called as a function
    if net.pop("recurrent") and data.train.x.ndim == 3 and data.train.x.dtype.kind == "f":
        net["back"] = _back_in_time(run, data.train)
    losses = [np.array([line.get(k, math.nan) for line in run.history], float) for k in ("loss", "valid_loss")]
    return Evidence(
        experiment=experiment,
        facts=facts,
        loss=losses[0],
        valid_loss=losses[1],
        broken=broken,
        train=score_of(run, data.train),
        valid=score_of(run, valid_part),
        rows=n,
        judged=judged,
        batch=n if experiment.batch_size == "full" else min(experiment.batch_size, n),
        health=tuple(run.health),
        columns=_columns(data),
        labels=tuple(map(str, getattr(targets[0], "labels", ()))) if len(targets) == 1 else (),
        early_stopped=run._uses_best(),
        numbers=sum(t.width for t in targets) if all(t.kind == "number" for t in targets) else 0,
        losses=frozenset(type(loss).__name__ for loss in task.losses),
        **net,
    )


def _sums_to_one(run: Any, x: Any) -> bool:
    """Are the outputs shares of one, as behind a softmax?"""
    if any(aim.kind == "number" or aim.width < 2 for aim in run.task.aims) or len(run.task.aims) > 1:
        return False
    out = np.concatenate([np.asarray(b, np.float64) for b in blocks(run.task, run.params, run.state, x[:64])])
    return bool((out >= 0).all() and np.abs(out.sum(-1) - 1).max() < 1e-3)


def _back_in_time(run: Any, part: Any) -> float:
    """The loss's gradient at the first tenth of the steps of a series, as a share of that at the steepest step."""
    from derin.data.dataset import take

    rows = take(part, np.arange(min(64, len(part.x))))
    ys = tuple(map(jnp.asarray, rows.y if isinstance(rows.y, tuple) else (rows.y,)))

    def loss(x: Any) -> Any:
        return engine.total_loss(run.task, engine.run_net(run.task, run.params, run.state, x)[0], ys, None)

    slope = np.sqrt((np.asarray(jax.jit(jax.grad(loss))(rows.x), np.float64) ** 2).sum((0, 2)))
    return float(slope[: -(-len(slope) // 10)].max() / max(slope.max(), 1e-300))


def _columns(data: Any) -> tuple[str, ...]:
    """What each column of x is called; () where x is no table."""
    if data.train.x.ndim != 2:
        return ()
    width = data.train.x.shape[1]
    names = {at: name for name, places in column_places(data.schema.inputs, width).items() for at in places}
    return tuple(names.get(at, f"x{at}") for at in range(width))


def _weights(task: Any) -> tuple[float, ...] | None:
    """Of each class in the loss; a run that was told to mind a rare class is judged by how well it does that."""
    return None if task.class_weights is None else tuple(float(w) for w in task.class_weights)


def score_of(run: Any, part: Any) -> Score:
    """Of the weights that predict, on some rows of a part."""
    from derin.data.dataset import take

    n = len(part.x)
    if n > ROWS:
        part = take(part, np.sort(np.random.default_rng(0).permutation(n)[:ROWS]))
    outputs = np.concatenate([np.asarray(b, np.float64) for b in blocks(run.task, run.params, run.state, part.x)])
    ys = part.y if isinstance(part.y, tuple) else (part.y,)
    pieces = engine.split_outputs(run.task, outputs)  # type: ignore[arg-type]  # numpy arrays are cut alike
    found = [
        score(_probabilities(np.asarray(o), aim.kind), y, _weights(run.task))
        for o, y, aim in zip(pieces, ys, run.task.aims, strict=True)
    ]
    return mean_score(found)


def _probabilities(outputs: np.ndarray, kind: str) -> np.ndarray:
    """[n, width] -> probabilities [n, classes], or numbers [n, width]"""
    if kind == "number":
        return outputs
    if outputs.shape[1] == 1:
        p = 1 / (1 + np.exp(-np.clip(outputs[:, 0], -500, 500)))
        return np.stack([1 - p, p], 1)
    z = outputs - outputs.max(1, keepdims=True)
    return np.exp(z) / np.exp(z).sum(1, keepdims=True)


def mean_score(found: list[Score]) -> Score:
    """Of several targets."""
    if len(found) == 1:
        return found[0]
    return Score(float(np.mean([s.loss for s in found])), float(np.mean([s.error for s in found])), found[0].rows)


def _net_facts(task: Any, x: Any, params: Any) -> dict[str, Any]:
    """What the rules must know of the net: how deep it is, what ends it, which weights are matrices."""
    like = jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype)
    if task.inputs is not None:
        like = task.inputs.look(like)[1][""]
    net = task.experiment.net
    declared, seen = net.look(like)
    layers = layers_by_path(net)
    kinds = {path: _kind(layer) for path, layer in layers.items()}
    paths = {spot.partition("#")[0] for spot in seen}
    leaves = [
        s.partition("#")[0] for s in seen if s and not any(p.startswith(f"{s.partition('#')[0]}.") for p in paths)
    ]
    first, last = (leaves[0], leaves[-1]) if leaves else ("", "")
    while last and kinds.get(last) in ("Dropout", "Flatten", "Identity") and len(leaves) > 1:
        leaves.pop()
        last = leaves[-1]
    of = {name: kinds.get(name.rpartition(".")[0], "") for name in declared}
    matrices = [n for n, d in declared.items() if d.kind == "param" and len(d.shape) > 1 and of[n] not in TABLES]
    plain = [n for n in matrices if of[n] in MULTIPLYING]
    return {
        "hidden": max(0, len(matrices) - 1),
        "weights": sum(int(a.size) for a in params.values()),
        "ends": kinds.get(last, "") if kinds.get(last, "") in SQUASHING else "",
        "norms": sum(kind == "BatchNorm" for kind in kinds.values()),
        "memory": min((_memory(layers[path]) for path, kind in kinds.items() if kind == "BatchNorm"), default=math.inf),
        "starts_normed": bool(leaves) and kinds.get(first, "").endswith("Norm"),
        "bias_like": frozenset(n for n in params if n not in matrices),
        "units": {n: declared[n].shape[0] for n in plain},
        "alike": any(_alike(np.asarray(params[n])) for n in plain if n in params and len(params[n]) > 1)
        or any(_constant(layers[n.rpartition(".")[0]]) for n in plain[:-1] if declared[n].shape[0] > 1),
        "recurrent": any(kind in RECURRENT for kind in kinds.values()),
        "relus": any(kind in ("ReLU", "relu", "ReLU6") for kind in kinds.values()),
    }


def _alike(weight: np.ndarray) -> bool:
    """Are the weights of all units the same?   [units, ...]"""
    return bool(np.ptp(weight, axis=0).max() <= 1e-5 * np.abs(weight).max())


def _constant(layer: Any) -> bool:
    """Do all units of a layer begin with the same weights? Dropout may tell them apart later."""
    return isinstance(getattr(layer, "weight_init", None), (Full, Zeros, Ones))


def _memory(layer: Any) -> float:
    """How many batches the running statistics of a BatchNorm weigh: (2 - m) / m with a momentum of m."""
    momentum = getattr(layer, "momentum", None)
    if momentum is None or not getattr(layer, "track_running_stats", True):
        return math.inf
    return (2 - float(momentum)) / float(momentum) if momentum else 0.0  # 0: they stay what they were at first


def _kind(layer: Any) -> str:
    if type(layer).__name__ in ("LastStep", "WithState"):
        layer = layer.layer
    if type(layer).__name__ == "Function" and isinstance(layer.function, str):
        return layer.function.rpartition(".")[2]
    return type(layer).__name__
