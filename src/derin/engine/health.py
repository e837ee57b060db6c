"""Health: what a doctor would measure on a net in training, a few numbers a layer, in one compiled program.

    watch = Watch(task, data)                             # a few fixed rows of training, a few of validation
    if watch.due(epoch, last=False):
        line = watch.look(carry, key, epochs)             # {"epoch": 3, "layers": {...}, "weights": {...}, ...}

The same rows are looked at every time, so that two epochs differ by the weights alone. It costs about as much as a
few steps do (bench/health.py); short epochs are therefore not all looked at. Which ones are follows from the numbers
of rows, never from the clock: the same run writes the same lines.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derin.engine import epoch as engine
from derin.engine.epoch import Carry, Rows, Task
from derin.engine.failure import declared_order
from derin.engine.penalties import Penalties
from derin.engine.programs import program
from derin.nn import Arrays
from derin.nn.module import layers_by_path, named_key

SEEN = 256  # rows of the evaluation that activations are measured on
LARGEST_BATCH = 256  # rows of a batch that the gradient is taken of
SHARE = 0.03  # of an epoch's work that looking may be
CALL = 1000  # rows through a small net that calling a program and reading its answer takes (bench/health.py)
EDGE = 0.025  # of the range of a sigmoid or tanh: an output this near to an end is saturated

WATCHED = True  # most tests are not about health: they turn it off, which is a program less to compile for each net

RANGES = {  # layers that saturate, and functions that do, by name: between which values
    **dict.fromkeys(("Sigmoid", "Hardsigmoid", "sigmoid", "hard_sigmoid", "hardsigmoid"), (0.0, 1.0)),
    **dict.fromkeys(("Tanh", "Hardtanh", "Softsign", "tanh", "hard_tanh", "hardtanh"), (-1.0, 1.0)),
    **dict.fromkeys(("softsign", "soft_sign"), (-1.0, 1.0)),
}


class Layer(NamedTuple):
    """A layer's output over the rows."""

    mean: jax.Array
    deviation: jax.Array
    saturated: jax.Array  # share of outputs at an end of their range; nan for layers without ends
    dead: jax.Array  # share of units, those of the last axis, that put out the same for every row
    zeros: jax.Array  # share of outputs that are 0


class Weight(NamedTuple):
    """One array of weights."""

    norm: jax.Array
    gradient: jax.Array  # its norm
    zeros: jax.Array  # share of the gradient that is 0
    update: jax.Array  # norm of what the optimiser's next step would add, as a share of the weights' norm


class Health(NamedTuple):
    """See Watch.look."""

    train_mode_loss: jax.Array  # on some training rows, batch by batch, with dropout and the batches' statistics
    eval_mode_loss: jax.Array  # on the same rows
    gradient_norm: jax.Array  # of their mean loss
    gradient_noise: jax.Array  # squared deviation of one batch's gradient from the mean one, as a share of its square
    largest_input: jax.Array  # of the net, in absolute value
    layers: dict[str, Layer]
    weights: dict[str, Weight]


class Watch:
    """Looks at a run: at its first weights, after its first epoch and its last, and as often as costs little."""

    def __init__(self, task: Task, data: Any) -> None:
        n, experiment = len(data.train.x), task.experiment
        self.turn(task)
        batch = n if experiment.batch_size == "full" else min(experiment.batch_size, n)
        self.size = (-(-n // batch), n)  # steps and rows of an epoch
        size = max(1, min(batch, LARGEST_BATCH, n // 2))
        groups = min(n // size, 2 if size >= 32 else 4)
        judged = data.valid if len(data.valid.x) else data.train
        self.batches = _some(data.train, groups * size)
        self.batches = jax.tree.map(lambda a: a.reshape(groups, size, *a.shape[1:]), self.batches)
        self.seen = _some(judged, SEEN).x
        self.tree: Any = None
        self.order: dict[str, list[str]] = {}
        work = 4 * groups * size + len(self.seen)  # a gradient is three times a pass
        self.every = math.ceil((CALL + work) / (SHARE * (CALL + 3 * n + len(data.valid.x))))

    def turn(self, task: Task) -> None:
        """Look with the numbers of this task from now on."""
        self.task = task.structure_only()
        self.program: Any = None  # kept: finding it again would take a sixth of a look of a small net

    def due(self, epoch: int, last: bool) -> bool:
        """Is this an epoch to look after? 0 is before the first."""
        return epoch <= 1 or last or epoch % self.every == 0

    def look(self, carry: Carry, key: Any, epochs: Any) -> dict[str, Any]:
        """What is seen now, as plain numbers: a line of health.jsonl."""
        args = (self.task, carry, self.batches, self.seen, key, epochs)
        if self.program is None:
            self._learn_order(args)
            self.program = program(_numbers, *args, static=(self.size,), hasty=True)
        numbers = self.program(*args)
        found = jax.tree.unflatten(self.tree, np.asarray(numbers).tolist())
        names = [name for name in Health._fields if name not in ("layers", "weights")]
        line: dict[str, Any] = {"epoch": carry.epoch.item(), "step": carry.step.item()}
        line |= {name: _short(getattr(found, name)) for name in names}
        for part in ("layers", "weights"):
            each = getattr(found, part)
            line[part] = {path: {k: _short(v) for k, v in each[path]._asdict().items()} for path in self.order[part]}
        return line

    def _learn_order(self, args: Any) -> None:
        """In which order the net calls its layers and weights: a dict that leaves a program is sorted."""
        key = (jax.tree.structure(args), *(a.shape for a in jax.tree.leaves((self.batches, self.seen))))
        if key not in _orders:
            order: dict[str, list[str]] = {}

            def looked(*args: Any) -> Health:
                found = _measured(self.size, *args)
                order["layers"] = list(found.layers)
                order["weights"] = declared_order(self.task, found.weights, self.seen)
                return found

            tree = jax.tree.structure(jax.eval_shape(looked, *args))
            _orders[key] = (tree, order)
        self.tree, self.order = _orders[key]


_orders: dict[Any, Any] = {}  # of nets that were looked at: tracing one takes a tenth of a second


def _some(part: Any, count: int) -> Rows:
    """Rows from all over a part, always the same."""
    n = len(part.x)
    at = np.sort(np.random.default_rng(0).permutation(n)[:count]) if n > count else np.arange(n)
    at = np.random.default_rng(1).permutation(at)  # a sorted source would make batches of one class
    ys = part.y if isinstance(part.y, tuple) else (part.y,)
    return Rows(jax.device_put(np.asarray(part.x[at])), tuple(jax.device_put(np.asarray(y[at])) for y in ys))


def _short(value: float) -> float:
    """Five digits: nobody reads more of them, and the file is a third."""
    return float(f"{value:.5g}")


def _numbers(size: tuple[int, int], *args: Any) -> jax.Array:
    """All that is measured as one vector: fetching a hundred numbers one by one takes longer than the work."""
    return jnp.stack([jnp.float32(a) for a in jax.tree.leaves(_measured(size, *args))])


def _measured(
    size: tuple[int, int], task: Task, carry: Carry, batches: Rows, seen: Any, key: Any, epochs: Any
) -> Health:
    return measure(task, carry, batches, seen, jax.random.wrap_key_data(key, impl="threefry2x32"), size, epochs)


def measure(
    task: Task, carry: Carry, batches: Rows, seen: jax.Array, key: jax.Array, size: tuple[int, int], epochs: Any
) -> Health:
    """Look at the weights as they are.   batches: [groups, batch, ...], seen: [rows, ...]

    size: the steps and the rows of an epoch.
    """
    params, groups = carry.params, batches.x.shape[0]
    drawn = jax.random.fold_in(named_key(key, "health"), carry.step)

    def objective(params: Arrays, rows: Rows, i: jax.Array) -> jax.Array:
        out, _ = engine.run_net(task, params, carry.state, rows.x, train=True, key=jax.random.fold_in(drawn, i))
        return engine.total_loss(task, out, rows.y, None)

    def one(at: tuple[Rows, jax.Array]) -> Any:
        loss, gradient = jax.value_and_grad(objective)(params, *at)
        out, _ = engine.run_net(task, params, carry.state, at[0].x)
        return loss, engine.total_loss(task, out, at[0].y, None), gradient

    losses, judged, gradients = jax.lax.map(one, (batches, jnp.arange(groups)))
    gradient = jax.tree.map(lambda g: g.mean(0), gradients)
    square = _square(gradient)
    noise = (_square(gradients) / groups - square) * groups / max(groups - 1, 1)
    signal = jnp.maximum(square - noise / groups, 1e-3 * square)
    updates = _updates(task, carry, gradient, size, epochs)
    large, layers = _layers(task, carry, seen)
    weights = {
        name: Weight(
            norm := jnp.linalg.norm(w.reshape(-1)),
            jnp.linalg.norm(gradient[name].reshape(-1)),
            jnp.mean(gradient[name] == 0),
            jnp.linalg.norm(updates[name].reshape(-1)) / jnp.maximum(norm, 1e-12),
        )
        for name, w in params.items()
        if jnp.issubdtype(w.dtype, jnp.floating) and w.size
    }
    return Health(losses.mean(), judged.mean(), jnp.sqrt(square), noise / signal, large, layers, weights)


def _square(tree: Any) -> jax.Array:
    return jnp.sum(jnp.stack([jnp.sum(jnp.square(a)) for a in jax.tree.leaves(tree)] or [jnp.zeros(())]))


def _updates(task: Task, carry: Carry, gradient: Arrays, size: tuple[int, int], epochs: Any) -> Arrays:
    """What the optimiser would add to each weight for this gradient; nothing of it is kept."""
    experiment, params = task.experiment, carry.params
    if experiment.optimizer.full_batches:  # it compares gradients of steps, and this one is of other rows
        return jax.tree.map(lambda p: jnp.full_like(p, jnp.nan), params)
    packs = engine._packs(experiment.optimizer, params)
    opened = (lambda p: engine.unpack(p, params)) if packs else (lambda p: p)
    closed = engine.pack if packs else (lambda p: p)
    penalties = Penalties(experiment.penalty, params, opened, closed, size[1])
    own, at = closed(gradient), closed(params)
    if experiment.clip is not None:
        own = experiment.clip(own)
    rate = engine.learning_rate(experiment, carry, carry.step, size[0], epochs)
    updates, _ = experiment.optimizer.update(penalties.gradient(own, at), carry.optimizer, at, rate)
    return opened(penalties.decay(updates, at, rate))


def _layers(task: Task, carry: Carry, x: jax.Array) -> tuple[jax.Array, dict[str, Layer]]:
    """The largest input of the net, and the output of every layer that holds no other, in evaluation mode."""
    inner: dict[str, Any] = {}
    seen: dict[str, Any] = {}
    engine.run_net(task, carry.params, carry.state, x, seen=(inner, seen))
    fed = inner["input"] if "input" in inner else x
    large = jnp.max(jnp.abs(jnp.asarray(fed, jnp.float32))) if jnp.issubdtype(fed.dtype, jnp.floating) else jnp.nan
    modules = layers_by_path(task.experiment.net)
    paths = {spot.partition("#")[0] for spot in seen}
    found = {}
    for spot, value in seen.items():
        path = spot.partition("#")[0]
        arrays = [a for a in jax.tree.leaves(value) if jnp.issubdtype(a.dtype, jnp.floating) and a.ndim > 1]
        if arrays and not any(p.startswith(f"{path}.") or (not path and p) for p in paths):
            found[spot] = _layer(arrays[0].astype(jnp.float32), _ends(modules.get(path)))
    return jnp.float32(large), found


def _layer(a: jax.Array, ends: tuple[float, float] | None) -> Layer:
    """Of one output.   a: [..., units]"""
    units = a.reshape(-1, a.shape[-1])
    saturated = jnp.float32(jnp.nan)
    if ends is not None:
        edge = EDGE * (ends[1] - ends[0])
        saturated = jnp.mean((a < ends[0] + edge) | (a > ends[1] - edge))
    return Layer(a.mean(), a.std(), saturated, jnp.mean(units.max(0) == units.min(0)), jnp.mean(a == 0))


def _ends(layer: Any) -> tuple[float, float] | None:
    """The range of a layer that saturates, or None."""
    name = type(layer).__name__
    if name == "Function" and isinstance(layer.function, str):
        name = layer.function.rpartition(".")[2]
    return RANGES.get(name)
