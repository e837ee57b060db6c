"""From an experiment and a data set's schema to what is compiled, with every mismatch named first."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from derin.engine.epoch import Aim, Rows, Task, look_and_draw, metric_names, output_shape
from derin.engine.experiment import Experiment
from derin.engine.metrics import metric
from derin.errors import DataError, ModelError, SpecError
from derin.nn import BCEWithLogitsLoss, CrossEntropyLoss, Loss, MSELoss
from derin.optim.penalties import penalties_of
from derin.spec import require_fixed

DEFAULT_METRICS = {"classes": ("accuracy",), "number": ("rmse", "r2")}


def task_of(experiment: Experiment, schema: Any, x: Any, class_counts: tuple[int, ...] | None) -> Task:
    """The task for inputs shaped like x.

    Raises ModelError if the net's output does not fit the targets, SpecError for a metric, loss or class
    weights that do not, and for a distribution in place of a value.
    """
    require_fixed(experiment, "training")
    targets = schema.targets
    kinds = {_kind(t) for t in targets}
    names = experiment.metrics or tuple(n for kind in sorted(kinds) for n in DEFAULT_METRICS[kind])
    task = Task(
        experiment=experiment,
        inputs=None if getattr(experiment.net, "own_inputs", False) else schema.input_layer(),
        aims=tuple(_aim(t, t.width) for t in targets),
        losses=tuple(MSELoss() for _ in targets),
        metrics=tuple(metric(name) for name in names),
    )
    for found in task.metrics:
        if found.kind not in kinds:
            what = "a number" if "number" in kinds else "classes"
            raise SpecError(f"the metric {found.name!r} is for {found.kind}, and the target is {what}.")
    width = _output_width(task, x)
    widths = [t.width for t in targets]
    if sum(widths) != width:
        if len(targets) == 1 and targets[0].kind == "binary" and width == 2:
            widths = [2]
        else:
            raise ModelError(_does_not_fit(targets, width, sum(widths)))
    task = task.replace(
        aims=tuple(_aim(t, w) for t, w in zip(targets, widths, strict=True)),
        losses=_losses(experiment, targets, widths),
        class_weights=_class_weights(experiment, targets, class_counts),
    )
    _check_losses(task, targets)
    _check_monitor(task)
    _check_penalties(task, x)
    return task


def same_structure(task: Task, experiment: Experiment) -> Task:
    """The task of another experiment that differs from the task's in numbers only, not in structure."""
    losses = experiment.loss
    if losses is None:
        losses = task.losses
    elif not isinstance(losses, tuple):
        losses = (losses,) * len(task.aims)
    weights = experiment.class_weights if isinstance(experiment.class_weights, tuple) else task.class_weights
    return task.replace(
        experiment=experiment.replace(seed=0, epochs=1, health=False), losses=losses, class_weights=weights
    )


def _kind(target: Any) -> str:
    return "number" if target.kind == "number" else "classes"


def _aim(target: Any, width: int) -> Aim:
    if target.kind == "number":
        return Aim(target.name, "number", width, mean=target.mean, scale=target.scale)
    return Aim(target.name, target.kind, width, classes=len(target.labels))


_known_shapes: dict[Any, Any] = {}


def _output_width(task: Task, x: Any) -> int:
    like = jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype)
    leaves, tree = jax.tree.flatten(task.replace(metrics=()))
    key = (tree, tuple(map(np.shape, leaves)), like)
    if key not in _known_shapes:  # a pass through the net takes milliseconds, more than a trial of a small one
        _known_shapes[key] = output_shape(task, like)
    out = _known_shapes[key]
    if len(out.shape) == 1:
        out = jax.ShapeDtypeStruct((*out.shape, 1), out.dtype)
    axes = (2, 3) if task.experiment.net.ensemble else (2,)
    if len(out.shape) not in axes or out.shape[0] != 2:
        raise ModelError(
            f"the net turns rows of shape {tuple(x.shape[1:])} into {('batch', *out.shape[1:])}; "
            "it must put out one row of numbers for each: [batch, outputs]. Is a Flatten() missing, "
            "or LastStep(...) around a recurrent layer?"
        )
    return out.shape[-1]


def _does_not_fit(targets: tuple[Any, ...], width: int, wanted: int) -> str:
    if len(targets) == 1:
        t = targets[0]
        what = f"has {len(t.labels)} classes" if t.kind != "number" else _numbers(t.width)
        more = " (or Linear(2))" if t.kind == "binary" else ""
        return (
            f"the net puts out {width} numbers a row, and the target {t.name!r} {what}: "
            f"end the net with Linear({wanted}){more}."
        )
    parts = ", ".join(f"{t.name!r} {t.width}" for t in targets)
    return (
        f"the net puts out {width} numbers a row, and the targets need {wanted} ({parts}): "
        f"end it with Linear({wanted})."
    )


def _numbers(width: int) -> str:
    return "is a number" if width == 1 else f"is {width} numbers"


def _losses(experiment: Experiment, targets: tuple[Any, ...], widths: list[int]) -> tuple[Loss, ...]:
    given = experiment.loss
    if given is None:
        return tuple(_default_loss(t, w) for t, w in zip(targets, widths, strict=True))
    losses = given if isinstance(given, tuple) else (given,) * len(targets)
    if len(losses) != len(targets):
        names = ", ".join(repr(t.name) for t in targets)
        raise SpecError(f"{len(losses)} losses came for {len(targets)} targets ({names}): give one for each.")
    return losses


def _default_loss(target: Any, width: int) -> Loss:
    if target.kind == "number":
        return MSELoss()
    return BCEWithLogitsLoss() if width == 1 else CrossEntropyLoss()


def _check_losses(task: Task, targets: tuple[Any, ...]) -> None:
    for loss, aim, target in zip(task.losses, task.aims, targets, strict=True):
        number = target.kind == "number"
        name, fitting = type(loss).__name__, type(_default_loss(target, aim.width)).__name__
        if loss.fits == ():
            why = loss.instead or f"it takes {', '.join(getattr(loss, 'inputs', ()))}"
            raise SpecError(f"{name} cannot train a run: {why}. For the target {target.name!r} {fitting} fits.")
        if loss.reduction != "mean":
            raise SpecError(
                f"{name}(reduction={loss.reduction!r}) is for a training loop of one's own: a run minimises the mean "
                "over rows. For a larger step, raise the learning rate."
            )
        kind = "number" if number else "logit" if aim.width == 1 else "classes"
        if loss.fits is not None and kind not in loss.fits:
            what = f"{aim.classes} classes" if not number else _numbers(aim.width).removeprefix("is ")
            raise SpecError(
                f"{name} does not fit the target {target.name!r} ({what}, {aim.width} output"
                f"{'s' if aim.width > 1 else ''} of the net); {fitting} does."
            )


def _class_weights(
    experiment: Experiment, targets: tuple[Any, ...], counts: tuple[int, ...] | None
) -> tuple[Any, ...] | None:
    given = experiment.class_weights
    if given is None:
        return None
    if len(targets) != 1 or targets[0].kind == "number":
        raise SpecError("class_weights need one target, and it must have classes.")
    labels = targets[0].labels
    if given == "balanced":
        if counts is None:
            raise DataError("balanced class weights need the number of training rows of each class.")
        return balanced_weights(counts)
    if len(given) != len(labels):
        raise SpecError(
            f"class_weights has {len(given)} numbers, and {targets[0].name!r} has {len(labels)} classes: {labels}."
        )
    return tuple(given)


def balanced_weights(counts: tuple[int, ...]) -> tuple[float, ...]:
    """n / (classes * rows of the class) for each class, 0 for one without rows.   S3.28"""
    n = sum(counts)
    return tuple(n / (len(counts) * c) if c else 0.0 for c in counts)


def _check_monitor(task: Task) -> None:
    stopping = task.experiment.early_stopping
    known = ["loss", "valid_loss", *(name for name, metric, _ in metric_names(task) if metric.scalar)]
    monitors = [("early stopping", stopping.monitor)] if stopping else []
    monitors += [("the schedule", name) for name in task.experiment.schedule.monitors()]
    for who, name in monitors:
        if name not in known:
            raise SpecError(f"{who} cannot monitor {name!r}; this run has {', '.join(known)}.")


def _check_penalties(task: Task, x: Any) -> None:
    """A pattern that no weight's name fits is refused before anything is compiled."""
    penalties = penalties_of(task.experiment.penalty)
    if not penalties:
        return
    like = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    params, _ = jax.eval_shape(lambda: look_and_draw(task, jax.random.key(0), like))
    for penalty in penalties:
        penalty.chosen({name: a.shape for name, a in params.items()})


def class_counts(y: np.ndarray, classes: int) -> tuple[int, ...]:
    """How many rows each class has."""
    return tuple(int(c) for c in np.bincount(np.asarray(y), minlength=classes))


def rows_of(part: Any) -> Rows:
    """A part's x and its targets, not yet on a device."""
    return Rows(part.x, part.y if isinstance(part.y, tuple) else (part.y,))
