"""Training as pure functions: a step, an epoch, an evaluation. One run jits them; a population vmaps them.

    carry = start(task, key, x)                          # weights, running state, optimiser state
    carry, report = epoch(task, carry, train, valid, key, epochs)
    outputs = forward(task, carry.params, carry.state, x)

The whole of training is one NamedTuple, `Carry`: saving writes it, resuming reads it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from derin.engine.experiment import Experiment
from derin.engine.metrics import Metric
from derin.engine.order import batches, shuffled
from derin.engine.penalties import Penalties
from derin.errors import SpecError
from derin.nn import Arrays, Loss, Module
from derin.nn.module import Run, bind, named_key
from derin.optim.schedules import Watched
from derin.spec import Scalar, Spec

EVALUATION_ROWS = 1024  # rows a block of an evaluation; the last block is filled up and masked
FEWER_ROWS = 128  # of images, series and texts on a CPU: what layers make of more does not fit its cache
_SMALL = 2**14  # numbers of an array up to which it is packed; copying larger ones costs more than it saves


class Aim(Spec):
    """What one target asks of the net: how many outputs, and how they become a prediction.

    kind "binary": one logit, or two; "classes": a logit a class; "number": standardised by mean and scale, which
    are [width] arrays where the target is a vector.
    """

    name: str
    kind: str
    width: int
    classes: int = 0
    mean: Scalar = 0.0
    scale: Scalar = 1.0


class Task(Spec):
    """What is compiled: an experiment, what stands before its net, what it must predict."""

    experiment: Experiment
    inputs: Module | None
    aims: tuple[Aim, ...]
    losses: tuple[Loss, ...]
    metrics: tuple[Metric, ...] = ()
    class_weights: tuple[Scalar, ...] | None = None

    def structure_only(self) -> Task:
        """The same task without what the program takes as an argument, seed and epochs, and what it does not do."""
        return self.replace(experiment=self.experiment.replace(seed=0, epochs=1, health=False))


class Rows(NamedTuple):
    """Encoded rows.   x: [n, ...], y: one [n] a target, [n, width] for a vector"""

    x: jax.Array
    y: tuple[jax.Array, ...]


class Fold(NamedTuple):
    """Which of the rows a member trains on and which judge it; of unequal folds the shorter are filled up."""

    train: jax.Array  # int32 [n]
    trains: jax.Array  # int32: how many of them count; as many batches as n has
    valid: jax.Array  # int32 [m]
    judges: jax.Array  # int32


class Carry(NamedTuple):
    """All that changes while a net trains."""

    params: Arrays
    state: Arrays
    optimizer: Any
    epoch: jax.Array  # int32: epochs done
    step: jax.Array  # int32: steps done
    best_params: Arrays
    best_state: Arrays
    best_score: jax.Array  # of the monitored value, smaller is better
    best_epoch: jax.Array  # int32, counted from 1; 0: none yet
    waited: jax.Array  # int32: epochs since the best
    done: jax.Array  # bool: early stopping has stopped it
    broken_at: jax.Array  # int32: the step whose loss or gradient was not finite; -1: none
    average: Any = ()  # Averaged weights, where the experiment asks for them
    schedule: Any = ()  # the schedule's memory, where it has one


class Report(NamedTuple):
    """What an epoch leaves behind, all of it arrays."""

    loss: jax.Array  # [] mean over the training rows, as they were seen
    learning_rate: jax.Array  # [] of the last step
    valid_loss: jax.Array  # [] nan without validation rows
    metrics: tuple[jax.Array, ...]
    improved: jax.Array  # bool


def start(task: Task, key: jax.Array, x: Any, given: Arrays | None = None) -> Carry:
    """Fresh weights for inputs shaped like x, or those `given` by name, and the optimiser's first state."""
    optimizer, average = task.experiment.optimizer, task.experiment.average
    if optimizer.full_batches and task.experiment.batch_size != "full":
        raise SpecError(
            f"{type(optimizer).__name__} compares the gradients of its steps, so all must be of the same rows: give "
            f'batch_size="full", got batch_size={task.experiment.batch_size}. AdamW, for one, takes batches.'
        )
    params, state = look_and_draw(task, key, x)
    if given:
        taken = {n: jnp.copy(a) for n, a in given.items()}  # a copy: training gives its buffers away
        params, state = ({n: taken.get(n, a) for n, a in arrays.items()} for arrays in (params, state))
    zero = jnp.int32(0)
    return Carry(
        params,
        state,
        optimizer.init(pack(params) if _packs(optimizer, params) else params),
        epoch=zero,
        step=zero,
        best_params=jax.tree.map(jnp.copy, params),
        best_state=jax.tree.map(jnp.copy, state),
        best_score=jnp.float32(jnp.inf),
        best_epoch=zero,
        waited=zero,
        done=jnp.bool_(False),
        broken_at=jnp.int32(-1),
        average=average.begin(params, state) if average else (),
        schedule=task.experiment.schedule.memory(),
    )


def epoch(
    task: Task,
    carry: Carry,
    train: Rows,
    valid: Rows | None,
    key: jax.Array,
    epochs: jax.Array,
    order: jax.Array | None = None,
    fold: Fold | None = None,
    order_key: jax.Array | None = None,
) -> tuple[Carry, Report]:
    """One pass over the training rows and an evaluation: one program.

    Randomness is a function of (key, carry.epoch, step) alone. A run that is done, or broken, changes nothing.
    order: that of the epoch, where members of a population share it; else it follows from order_key, or key.
    fold: the rows of `train` to train on and to be judged by; then there is no `valid`.
    """
    n = train.x.shape[0]
    counted: Any = n
    if fold is not None:
        n, counted = fold.train.shape[0], fold.trains
    if order is None:
        order = epoch_order(task, carry.epoch, n, key if order_key is None else order_key, counted)
    weights = row_weights(counted, order.shape)
    per_epoch = order.shape[0] if fold is None else -(-counted // order.shape[1])
    if fold is not None:
        order = fold.train[order]
    carry, losses = steps(task, carry, train, order, weights, key, epochs, (per_epoch, counted))
    loss = mean_loss(losses, counted, order.shape)
    carry = averaged(task, carry)
    validated = valid is not None or fold is not None
    found = no_scores(task)
    if fold is not None:
        judged = Rows(train.x[fold.valid], tuple(y[fold.valid] for y in train.y))
        counts = (jnp.arange(fold.valid.shape[0]) < fold.judges).astype(jnp.float32)
        found = evaluate(task, *predicting(carry), judged, counts)
    elif validated or task.experiment.metrics:  # on the training rows only if asked for
        found = evaluate(task, *predicting(carry), valid if valid is not None else train)
    if not validated:
        found = (jnp.float32(jnp.nan), found[1])
    return finish(task, carry, loss, found, per_epoch, epochs, validated)


def epoch_order(task: Task, number: jax.Array, n: int, key: jax.Array, counted: Any = None) -> jax.Array:
    """The rows of each batch of an epoch.   -> int32 [steps, batch]

    counted: how many of the rows count, where that is known in the program only; the others come last.
    """
    size = n if task.experiment.batch_size == "full" else min(task.experiment.batch_size, n)
    if size == n:  # the order within a full batch is only rounding
        return jnp.arange(n, dtype=jnp.int32)[None]
    order = shuffled(jax.random.fold_in(named_key(key, "order"), number), n)
    if isinstance(counted, jax.Array):
        order = order[jnp.argsort(order >= counted, stable=True)]
    return batches(order, size)


def row_weights(n: Any, shape: tuple[int, ...]) -> jax.Array | None:
    """1 for a row of the order, 0 for one that only fills up the last batch; None where all are 1."""
    count, size = shape
    if isinstance(n, int) and count * size == n:
        return None
    return (jnp.arange(count * size) < n).astype(jnp.float32).reshape(shape)


def mean_loss(losses: jax.Array, n: Any, shape: tuple[int, ...]) -> jax.Array:
    """The mean over rows of batch means, the last batch being short.   losses: [steps] -> []"""
    count, size = shape
    if isinstance(n, int):
        rows = jnp.full(count, float(size)).at[-1].set(float(n - (count - 1) * size))
        return jnp.sum(losses * rows) / n
    rows = jnp.clip(n - size * jnp.arange(count), 0, size)  # a short fold has batches without rows
    return jnp.sum(jnp.where(rows > 0, losses * rows, 0)) / n


def steps(
    task: Task,
    carry: Carry,
    rows: Rows,
    order: jax.Array,
    weights: jax.Array | None,
    key: jax.Array,
    epochs: jax.Array,
    size: tuple[Any, Any],
) -> tuple[Carry, jax.Array]:
    """Gradient steps over the batches `order` names.   order: [steps, batch] -> losses [steps]

    size: the steps and the rows of the whole epoch. Where they are known in the program only, batches may be empty.
    """
    experiment = task.experiment
    optimizer = experiment.optimizer
    average = experiment.average if experiment.average and experiment.average.at_steps() else None
    packs, like = _packs(optimizer, carry.params), carry.params
    opened = (lambda p: unpack(p, like)) if packs else (lambda p: p)
    closed = pack if packs else (lambda p: p)
    penalties = Penalties(experiment.penalty, like, opened, closed, size[1])
    drawn = named_key(key, "layers")

    def objective(params: Arrays, state: Arrays, batch: jax.Array, weight: Any, step: jax.Array) -> Any:
        out, state = run_net(
            task,
            params,
            state,
            rows.x[batch],
            train=True,
            key=jax.random.fold_in(drawn, step),
            mask=weight,
        )
        return total_loss(task, out, tuple(y[batch] for y in rows.y), weight), state

    def one(loop: Any, at: Any) -> Any:
        params, state, memory, mean, step, broken = loop
        batch, weight = at
        gradient_of = jax.value_and_grad(objective, has_aux=True)
        (loss, new_state), gradient = gradient_of(opened(params), state, batch, weight, step)
        gradient = closed(gradient)
        active = (broken < 0) & ~carry.done
        if not isinstance(size[1], int):
            active = active & (weight.sum() > 0)
        ok = active & jnp.isfinite(loss) & all_finite(gradient)
        if experiment.clip is not None:
            gradient = experiment.clip(gradient)
        rate = learning_rate(experiment, carry, step, size[0], epochs)
        updates, new_memory = optimizer.update(penalties.gradient(gradient, params), memory, params, rate)
        updates = penalties.decay(updates, params, rate)
        moved = penalties.constrained(jax.tree.map(lambda p, u: p + u.astype(p.dtype), params, updates))
        ok = ok & all_finite(moved)
        new_mean = average.take(mean, moved, new_state, step + 1) if average else ()
        new = (moved, new_state, new_memory, new_mean)
        kept = jax.tree.map(lambda a, b: jnp.where(ok, a, b), new, (params, state, memory, mean))
        broken = jnp.where(active & ~ok, step, broken)
        return (*kept, step + ok.astype(jnp.int32), broken), loss

    mean: Any = carry.average._replace(params=closed(carry.average.params)) if average else ()
    loop = (closed(carry.params), carry.state, carry.optimizer, mean, carry.step, carry.broken_at)
    (params, state, memory, mean, step, broken), losses = lax.scan(one, loop, (order, weights))
    carry = carry._replace(params=opened(params), state=state, optimizer=memory, step=step, broken_at=broken)
    if average:
        carry = carry._replace(average=mean._replace(params=opened(mean.params)))
    return carry, losses


def learning_rate(experiment: Experiment, carry: Carry, step: Any, per_epoch: int, epochs: Any) -> jax.Array:
    """The learning rate of a step: the optimiser's, times what the schedule says now."""
    schedule = experiment.schedule.given(carry.schedule)
    return experiment.optimizer.learning_rate * schedule.factor(carry.epoch, step, per_epoch, epochs)


def averaged(task: Task, carry: Carry) -> Carry:
    """After an epoch's steps, before it is judged: an average over epochs takes the weights in."""
    average = task.experiment.average
    if average is None or average.at_steps():
        return carry
    new = average.take(carry.average, carry.params, carry.state, carry.epoch + 1)
    active = (carry.broken_at < 0) & ~carry.done
    return carry._replace(average=jax.tree.map(lambda a, b: jnp.where(active, a, b), new, carry.average))


class Weights(NamedTuple):
    """What predicts."""

    params: Arrays
    state: Arrays


def predicting(carry: Carry) -> Weights:
    """The weights and running statistics that evaluation and prediction use: the average where there is one."""
    return Weights(carry.average.params, carry.average.state) if carry.average else Weights(carry.params, carry.state)


def trained(experiment: Experiment, carry: Carry) -> Weights:
    """Those that training came to: of the best epoch, where early stopping keeps them."""
    kept = experiment.early_stopping is not None
    return Weights(carry.best_params, carry.best_state) if kept else predicting(carry)


def finish(
    task: Task,
    carry: Carry,
    loss: jax.Array,
    scores: tuple[jax.Array, tuple[jax.Array, ...]],
    per_epoch: int,
    epochs: jax.Array,
    validated: bool,
) -> tuple[Carry, Report]:
    """After an epoch's steps: count it, keep the best weights, decide whether to stop.

    validated: whether there are validation rows; else the training loss tells the best epoch.
    """
    experiment = task.experiment
    valid_loss, metrics = scores
    stopping = experiment.early_stopping
    active = (carry.broken_at < 0) & ~carry.done
    seen = watched(task, loss, valid_loss if validated else loss, metrics)
    value, greater = seen[stopping.monitor if stopping else "valid_loss"]
    score = -value if greater else value
    min_delta = stopping.min_delta if stopping else 0.0
    first = (carry.best_epoch == 0) | (jnp.isnan(carry.best_score) & ~jnp.isnan(score))
    improved = active & ((score < carry.best_score - min_delta) | first)
    number = carry.epoch + active.astype(jnp.int32)
    waited = jnp.where(improved, 0, carry.waited + active.astype(jnp.int32))
    keep = lambda new, old: jax.tree.map(lambda a, b: jnp.where(improved, a, b), new, old)  # noqa: E731
    rate = learning_rate(experiment, carry, carry.step - 1, per_epoch, epochs)
    params, state = predicting(carry)
    remembers = experiment.schedule.after(carry.schedule, seen)
    carry = carry._replace(
        epoch=number,
        best_params=keep(params, carry.best_params),
        best_state=keep(state, carry.best_state),
        best_score=jnp.where(improved, score, carry.best_score),
        best_epoch=jnp.where(improved, number, carry.best_epoch),
        waited=waited,
        done=carry.done | (waited >= stopping.patience) if stopping else carry.done,
        schedule=jax.tree.map(lambda a, b: jnp.where(active, a, b), remembers, carry.schedule),
    )
    return carry, Report(loss, jnp.float32(rate), valid_loss, metrics, improved)


def watched(task: Task, loss: jax.Array, valid_loss: jax.Array, metrics: tuple[jax.Array, ...]) -> Watched:
    """What early stopping and schedules may look at: each value, and whether greater is better."""
    seen: Watched = {"loss": (loss, False), "valid_loss": (valid_loss, False)}
    for (name, metric, _), value in zip(metric_names(task), metrics, strict=True):
        if metric.scalar:
            seen[name] = (value, metric.greater_is_better)
    return seen


def metric_names(task: Task) -> list[tuple[str, Metric, int]]:
    """Every metric of every target it fits: (its name in tables, the metric, the target's number)."""
    found = []
    for i, aim in enumerate(task.aims):
        kind = "number" if aim.kind == "number" else "classes"
        for metric in task.metrics:
            if metric.kind == kind:
                name = metric.name if len(task.aims) == 1 else f"{aim.name}.{metric.name}"
                found.append((name, metric, i))
    return found


# -- the net


def run_net(
    task: Task,
    params: Arrays,
    state: Arrays,
    x: jax.Array,
    train: bool = False,
    key: jax.Array | None = None,
    mask: jax.Array | None = None,
    seen: tuple[dict[str, Any], dict[str, Any]] | None = None,
) -> tuple[jax.Array, Arrays]:
    """The net's output in float32 for a batch of encoded rows.   x: [batch, ...] -> [batch, outputs]

    A net of several members puts out [batch, members, outputs]. `seen` collects every layer's output by path:
    the input layer's first, the net's second.
    """
    net, inputs = task.experiment.net, task.inputs
    if task.experiment.precision == "bfloat16":
        params = jax.tree.map(_half, params)
    run = Run(params, dict(state), train, key, mask)
    if inputs is not None:
        run.seen = seen and seen[0]
        x = bind(inputs, run, "input")(x)
    run.seen = seen and seen[1]
    if task.experiment.precision == "bfloat16":
        x = _half(x)
    out = bind(net, run)(x)
    out = out.astype(jnp.float32)
    return (out[:, None] if out.ndim == 1 else out), run.state


def outputs(task: Task, params: Arrays, state: Arrays, x: jax.Array, count: Any = None) -> jax.Array:
    """The net's outputs in evaluation mode, its members' put together.   x: [batch, ...] -> [batch, outputs]

    `count`: how many of the rows are real; those behind them only fill the batch up.
    """
    mask = None if count is None else (jnp.arange(x.shape[0]) < count).astype(jnp.float32)
    out, _ = run_net(task, params, state, x, mask=mask)
    return out if out.ndim == 2 else together(task, out)


def together(task: Task, out: jax.Array) -> jax.Array:
    """Outputs that stand for the members' mean prediction.   out: [batch, members, outputs] -> [batch, outputs]

    Numbers are averaged; for classes the logits are those of the mean of the members' probabilities.
    """
    found = []
    for aim, part in zip(task.aims, split_outputs(task, out), strict=True):
        if aim.kind == "number":
            found.append(part.mean(1))
        elif aim.width == 1:
            log_p, log_q = (jax.nn.logsumexp(jax.nn.log_sigmoid(z), axis=1) for z in (part, -part))
            found.append(log_p - log_q)
        else:
            found.append(jax.nn.logsumexp(jax.nn.log_softmax(part), axis=1))
    return jnp.concatenate(found, axis=-1)


def forward(task: Task, params: Arrays, state: Arrays, x: jax.Array) -> jax.Array:
    """The net's outputs in evaluation mode, block by block.   x: [n, ...] -> [n, outputs]"""
    n = x.shape[0]
    vectors = x.ndim == 2 and jnp.issubdtype(x.dtype, jnp.floating)
    size = EVALUATION_ROWS if vectors or jax.default_backend() != "cpu" else FEWER_ROWS
    if n <= size:
        return outputs(task, params, state, x)
    blocks = math.ceil(n / size)
    padded = jnp.pad(x, [(0, blocks * size - n)] + [(0, 0)] * (x.ndim - 1))
    real = jnp.minimum(n - size * jnp.arange(blocks), size)
    out = lax.map(
        lambda block: outputs(task, params, state, *block), (padded.reshape(blocks, size, *x.shape[1:]), real)
    )
    return out.reshape(blocks * size, -1)[:n]


def output_shape(task: Task, x: Any) -> Any:
    """Shape and dtype of the net's output for inputs shaped like x, by one abstract pass."""
    if task.inputs is not None:
        x = task.inputs.look(x)[1][""]
    return task.experiment.net.look(x)[1][""]


def look_and_draw(task: Task, key: jax.Array, x: Any) -> tuple[Arrays, Arrays]:
    """The weights of the input layer (named input.*) and of the net."""
    params: Arrays = {}
    state: Arrays = {}
    h = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    if task.inputs is not None:
        inner_params, inner_state = task.inputs.init(named_key(key, "input"), h)
        params |= {f"input.{name}": a for name, a in inner_params.items()}
        state |= {f"input.{name}": a for name, a in inner_state.items()}
        h = task.inputs.look(h)[1][""]
    net_params, net_state = task.experiment.net.init(key, h)
    return params | net_params, state | net_state


# -- loss and scores


def total_loss(task: Task, out: jax.Array, y: tuple[jax.Array, ...], weight: jax.Array | None) -> jax.Array:
    """The sum of the targets' losses, each a weighted mean over the batch.   out: [batch, outputs] -> []

    Members, [batch, members, outputs], each have their own loss; the mean over them is taken.
    """
    if out.ndim == 3:
        return jax.vmap(lambda o: total_loss(task, o, y, weight), in_axes=1)(out).mean()
    total = jnp.float32(0)
    for loss, part, target in zip(task.losses, split_outputs(task, out), y, strict=True):
        w = weight
        if task.class_weights is not None:
            each = jnp.asarray(task.class_weights, jnp.float32)[target]
            w = each if weight is None else each * weight
        total = total + loss(part, target, w)
    return total


def split_outputs(task: Task, out: jax.Array) -> list[jax.Array]:
    """The outputs that belong to each target, in order."""
    if len(task.aims) == 1:
        return [out]
    ends = [sum(a.width for a in task.aims[: i + 1]) for i in range(len(task.aims))]
    return [out[..., end - aim.width : end] for aim, end in zip(task.aims, ends, strict=True)]


def predictions(task: Task, out: jax.Array) -> tuple[jax.Array, ...]:
    """Probabilities [n, classes], or standardised numbers [n] ([n, width] for a vector), for each target.

    Own units come later, in float64: a float32 near 1.7e9, a time stamp, steps by 128.
    """
    found = []
    for aim, part in zip(task.aims, split_outputs(task, out), strict=True):
        if aim.kind == "number":
            found.append(part[:, 0] if aim.width == 1 else part)
        elif part.shape[1] == 1:
            p = jax.nn.sigmoid(part[:, 0])
            found.append(jnp.stack([1 - p, p], axis=1))
        else:
            found.append(jax.nn.softmax(part, axis=1))
    return tuple(found)


def scores(
    task: Task, out: jax.Array, y: tuple[jax.Array, ...], counts: jax.Array | None = None
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Loss and metrics of outputs.   out: [n, outputs], y: [n] or [n, width] a target -> ([], (metric, ...))

    counts: [n], 1 for rows that count and 0 for others.
    """
    loss = total_loss(task, out, y, counts)
    found = predictions(task, out)
    weight = jnp.ones(out.shape[0], jnp.float32) if counts is None else counts

    def value(metric: Metric, i: int) -> jax.Array:
        aim = task.aims[i]
        if aim.kind != "number":
            return metric(found[i], y[i], weight)
        if metric.degree is None:
            return metric(found[i] * aim.scale + aim.mean, y[i] * aim.scale + aim.mean, weight)
        if aim.width > 1:
            return metric(found[i] * aim.scale, y[i] * aim.scale, weight)
        return metric(found[i], y[i], weight) * aim.scale**metric.degree  # own units would cost float32 its digits

    return loss, tuple(value(metric, i) for _, metric, i in metric_names(task))


def evaluate(
    task: Task, params: Arrays, state: Arrays, rows: Rows, counts: jax.Array | None = None
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Loss and metrics on rows, in evaluation mode. counts: as in scores."""
    return scores(task, forward(task, params, state, rows.x), rows.y, counts)


def no_scores(task: Task) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """What stands in a report where there are no rows to validate on."""
    nan = jnp.float32(jnp.nan)
    numbers = [a.kind == "number" for a in task.aims]
    y = tuple(
        jax.ShapeDtypeStruct((1, a.width) if number and a.width > 1 else (1,), jnp.float32 if number else jnp.int32)
        for a, number in zip(task.aims, numbers, strict=True)
    )
    out = jax.ShapeDtypeStruct((1, sum(a.width for a in task.aims)), jnp.float32)
    shapes = jax.eval_shape(lambda out, y: scores(task, out, y)[1], out, y)
    return nan, tuple(jnp.full(s.shape, jnp.nan) for s in shapes)


# -- small arrays as one vector: an elementwise optimiser then is a few kernels a step, not a few an array


def pack(params: Arrays) -> Arrays:
    """The small arrays in one vector, named "", by name: a dict that has crossed jit is sorted, a fresh one is not."""
    small = [params[name].reshape(-1) for name in _small(params)]
    large = {name: a for name, a in params.items() if a.size > _SMALL}
    return large | ({"": jnp.concatenate(small)} if small else {})


def unpack(packed: Arrays, like: Arrays) -> Arrays:
    """The opposite of pack."""
    arrays, at = {name: a for name, a in packed.items() if name}, 0
    for name in _small(like):
        a = like[name]
        arrays[name] = packed[""][at : at + a.size].reshape(a.shape)
        at += a.size
    return arrays


def _small(params: Arrays) -> list[str]:
    return [name for name in sorted(params) if params[name].size <= _SMALL]


def _packs(optimizer: Any, params: Arrays) -> bool:
    return optimizer.elementwise and bool(params) and all(a.dtype == jnp.float32 for a in params.values())


def all_finite(tree: Any) -> jax.Array:
    """True if no number in the tree is nan or infinite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(a)) for a in jax.tree.leaves(tree)] or [jnp.bool_(True)]))


def _half(a: jax.Array) -> jax.Array:
    return a.astype(jnp.bfloat16) if jnp.issubdtype(a.dtype, jnp.floating) else a
