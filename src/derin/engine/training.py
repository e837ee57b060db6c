"""The loop around the compiled epoch: data to the device, epochs, reports, checkpoints, Ctrl-C.

Everything leaves the program as arrays at epoch ends; files, screens and callbacks are fed from those, here.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derin.engine import epoch as engine
from derin.engine import health as health_of
from derin.engine.epoch import Carry, Report, Rows, Task
from derin.engine.experiment import Experiment, experiment_of
from derin.engine.failure import first_not_finite
from derin.engine.folder import RunFolder
from derin.engine.programs import program, seconds
from derin.engine.progress import Progress
from derin.engine.run import Run, load, plain
from derin.engine.task import class_counts, rows_of, same_structure, task_of
from derin.engine.wheel import Here, Wheel
from derin.errors import DataError, RunError, SpecError, TrainingFailed

CHUNK_BYTES = 64 * 2**20  # of encoded rows a chunk, when data stream from disk
LOOKS_KEPT = 8  # looks at the health of a run in memory that are put off: short runs then compile nothing for them
SAVE_EVERY = 2.0  # seconds between checkpoints; when they fall changes no bit of the result

Callback = Callable[["EpochReport"], Any]


class EpochReport(NamedTuple):
    """What a callback gets at the end of an epoch: plain numbers and arrays. Return "stop" to stop."""

    epoch: int  # counted from 1
    epochs: int
    values: dict[str, Any]  # loss, valid_loss, metrics, learning_rate
    params: dict[str, jax.Array]  # valid during the call: copy what you keep
    state: dict[str, jax.Array]
    path: Path | None
    health: dict[str, Any] | None = None  # the line of run.health, after an epoch that was looked at


def fit(net: Any, data: Any, *, out: str | Path | None = None, start: Run | str | Path | None = None,
        callbacks: Sequence[Callback] = (), progress: bool = True, **fields: Any) -> Run:  # fmt: skip
    """Train a net on data and return the Run: Experiment(net=net, **fields).fit(data).

    data: a Dataset of derin.data.load, or (X, y) arrays; (X, X) trains an autoencoder. `out` names the run's folder;
    without it the run stays in memory. `start`: a run, or its folder, whose weights this one begins with; those of
    another name or shape are drawn anew. `fields` are those of Experiment: loss, optimizer, epochs, batch_size, ...

    >>> import derin, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
    >>> run = derin.fit(derin.nn.Linear(1), (X, X @ [1.0, 2.0, 3.0]), epochs=60, progress=False,
    ...                 optimizer=derin.optim.Adam(0.05))
    >>> run.evaluate("test")["r2"] > 0.99
    True
    >>> from sklearn.datasets import load_digits
    >>> from derin.nn import Linear, ReLU, Sequential
    >>> X, net = load_digits().data, Sequential(Linear(32), ReLU(), Linear(8), Linear(32), ReLU(), Linear(64))
    >>> run = derin.fit(net, (X, X), epochs=8, optimizer=derin.optim.Adam(3e-3), progress=False)
    >>> run.predict(X).shape, run.evaluate("test")["r2"] > 0.5  # images out of eight numbers each
    ((1797, 64), True)
    """
    return experiment_of(net, fields).fit(data, out=out, start=start, callbacks=callbacks, progress=progress)


def fit_experiment(
    experiment: Experiment,
    data: Any,
    *,
    out: str | Path | None = None,
    start: Run | str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Run:
    """Train an experiment from the beginning, or with the weights that the run `start` predicts with."""
    _check_callbacks(callbacks)
    if out is not None and not isinstance(out, (str, Path)):
        raise RunError(f"out must be a folder's path, or None for a run in memory; got {out!r}.")
    data = as_dataset(data)
    counts = counts_of(data)
    task = task_of(experiment, data.schema, data.train.x, counts)
    check_monitors(experiment, data)
    given, carry = None, first_carry(task, experiment.seed, data.train.x)
    if start is not None:
        given = load(start) if isinstance(start, (str, Path)) else start
        carry = started_from(given, task, experiment.seed, data.train.x)
    folder = RunFolder.create(Path(out), experiment, data, counts) if out is not None else None
    try:
        with folder.lock() if folder else nullcontext():
            if folder and given is not None:
                folder.keep_start(carry, given.path, len(given.history))
            run = train(task, data, carry, [], folder, callbacks, Progress(progress, experiment.epochs))
            run.start = given
            return run
    except BaseException:  # a second Ctrl-C as well
        if folder is not None:
            folder.discard_if_empty()
        raise


def as_dataset(data: Any) -> Any:
    """A Dataset, made of (X, y) where those came."""
    from derin.data import Dataset, load

    dataset = data if isinstance(data, Dataset) else load(data)
    if len(dataset.train.x) == 0:
        raise DataError("there are no training rows.")
    return dataset


def _check_callbacks(callbacks: Any) -> None:
    if not isinstance(callbacks, (list, tuple)) or not all(map(callable, callbacks)):
        raise SpecError(f"callbacks must be a list of functions, callbacks=[f], got {callbacks!r}.")


def check_monitors(experiment: Experiment, data: Any) -> None:
    """Refuse early stopping, or a schedule, that would have nothing to watch."""
    if len(data.valid.x):
        return
    stopping = experiment.early_stopping
    monitors = [("early stopping", "EarlyStopping", stopping.monitor)] if stopping else []
    monitors += [("the schedule", "ReduceLROnPlateau", name) for name in experiment.schedule.monitors()]
    for who, name, monitor in monitors:
        if monitor == "valid_loss" or (monitor != "loss" and not experiment.metrics):
            raise SpecError(
                f"{who} monitors {monitor!r}, and there are no validation rows: load the data with "
                f"valid=0.15, or monitor the training loss, {name}(monitor='loss')."
            )


def counts_of(data: Any) -> tuple[int, ...] | None:
    """Training rows of each class, where there is one target with classes."""
    targets = data.schema.targets
    if len(targets) != 1 or targets[0].kind == "number":
        return None
    return class_counts(data.train.y, len(targets[0].labels))


def first_carry(task: Task, seed: int, x: Any) -> Carry:
    """Fresh weights, drawn from the experiment's seed."""
    key = key_bits(seed)
    like = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    task = task.structure_only()
    return program(_start, task, key, static=(like,), hasty=True)(task, key)


def started_from(run: Run, task: Task, seed: int, x: Any) -> Carry:
    """The first state with another run's weights and running statistics in place of those that have their names and
    shapes. Warns of those that have not; raises RunError if none has."""
    like = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    fresh = jax.eval_shape(lambda: engine.start(task, jax.random.key(0), like))
    wanted, theirs = {**fresh.params, **fresh.state}, {**run.params, **run.state}
    given = {n: a for n, a in theirs.items() if n in wanted and a.shape == wanted[n].shape}
    rest = [n for n in wanted if n not in given]
    if not {*given} & {*fresh.params}:
        raise RunError(
            f"no weight of {run.path or 'the run to start from'} has a name and a shape of this net: it has "
            f"{', '.join(list(theirs)[:4])}, this net {', '.join(list(wanted)[:4])}. Start from a run of a like net."
        )
    if rest:
        named = ", ".join(rest[:6]) + (" ..." if len(rest) > 6 else "")
        warnings.warn(
            f"{len(rest)} of {len(wanted)} arrays are drawn anew, the run has none like them: {named}.", stacklevel=5
        )
    key, task = key_bits(seed), task.structure_only()
    return program(_start, task, key, given, static=(like,), hasty=True)(task, key, given)


def state_at_start(folder: RunFolder | None, task: Task, seed: int, x: Any) -> Carry:
    """What the run in a folder began with: fresh weights, or those it was given."""
    like = jax.eval_shape(lambda: engine.start(task, jax.random.key(0), x))
    given = folder.load_start(like) if folder else None
    return given if given is not None else first_carry(task, seed, x)


def key_bits(seed: int) -> np.ndarray:
    """The bits of jax.random.key(seed), made without compiling a program for it."""
    return np.array([0, seed], np.uint32)


def key_of(bits: jax.Array) -> jax.Array:
    """The random key of these bits."""
    return jax.random.wrap_key_data(bits, impl="threefry2x32")


def _start(like: Any, task: Task, key: jax.Array, given: Any = None) -> Carry:
    return engine.start(task, key_of(key), like, given)


def _epoch(task: Task, carry: Carry, train: Rows, valid: Rows | None, key: jax.Array, epochs: jax.Array) -> Any:
    return engine.epoch(task, carry, train, valid, key_of(key), epochs)


def train(
    task: Task,
    data: Any,
    carry: Carry,
    history: list[dict[str, Any]],
    folder: RunFolder | None,
    callbacks: Sequence[Callback],
    progress: Progress,
    begun: list[float] | None = None,
    health: Sequence[dict[str, Any]] = (),
    wheel: Wheel | None = None,
) -> Run:
    """Train on from `carry` until the experiment's epochs are done, or something stops it.

    begun: the losses of the steps of the next epoch that are done already. health: the lines there are of it.
    wheel: what is asked between chunks.
    """
    experiment = task.experiment
    wheel = wheel or Wheel(folder)
    run_epoch = _streamed(task.structure_only(), data) if _streams(data) else _resident(data)
    key = key_bits(experiment.seed)
    epochs = np.int32(experiment.epochs)
    judged = len(data.valid.x) > 0 or bool(experiment.metrics)
    names = [name for name, _, _ in engine.metric_names(task)] if judged else []
    done, step, over = carry.epoch.item(), carry.step.item(), carry.done.item()  # .item() is the quickest way to read
    before_all, stopped, losses = done, "", list(begun or [])
    saved = time.monotonic() if folder and folder.checkpoint() else -math.inf
    run = Run(experiment, data.schema, task, carry, history, folder, data)
    run.health = list(health)
    watch = health_of.Watch(task, data) if experiment.health and health_of.WATCHED else None
    chunk = "chunk" if _streams(data) else "epoch"

    def look(shown: bool = True) -> dict[str, Any] | None:
        """The line of now; in memory, where nobody asks for it yet, the weights are kept and looked at later."""
        if watch is None or run.looked_at == int(run.carry.step):  # a run that failed may have been resumed
            return run.health[-1] if run.health else None
        if folder is None and not (callbacks and shown) and len(run.unseen) < LOOKS_KEPT:
            run.look_later(partial(watch.look, jax.tree.map(np.array, run.carry), key, epochs))
            return None
        run.health.append(line := watch.look(run.carry, key, epochs))
        if folder:
            folder.append(line, "health.jsonl")
        return line

    if done == 0 and not begun and run.looked_at < 0:
        look()
    with interrupts(f"finishing the {chunk}" if progress.shown else "") as interrupted:

        def called(step: Any) -> bool:
            return bool(interrupted) or wheel.calls(step)

        def save(status: str) -> None:
            if folder:
                folder.save(done, carry, status, losses)

        while True:
            if turned := not stopped and wheel.calls(step):
                here = Here(step, done, save, progress.say, interrupted)
                experiment, stopped = wheel.turn(experiment, here)
                task = same_structure(task, experiment).replace(experiment=experiment)
                run.experiment, run.task, run.begun = experiment, task, losses
                if watch:
                    run.catch_up()  # what was put off is looked at with the numbers it had
                    watch.turn(task)
                epochs, progress.epochs = np.int32(experiment.epochs), experiment.epochs
            if stopped or done >= experiment.epochs or over:
                stopped = stopped or ("early stopping" if over else "finished")
                if turned:  # what was asked in the last epoch was written down as of a run that goes on
                    save(stopped)
                break
            begin, before = time.perf_counter(), sum(seconds.values())
            carry, report = run_epoch(task.structure_only(), carry, key, epochs, losses, called)
            run.carry, step, over = carry, carry.step.item(), carry.done.item()
            if report is None:
                if interrupted:
                    run.begun, stopped = losses, "interrupted"
                    save(stopped)
                continue
            losses, report = [], jax.tree.map(np.asarray, report)
            compile_seconds = sum(seconds.values()) - before
            if carry.broken_at.item() >= 0:
                progress.end()
                run.stopped = "failed"
                look()
                failure = _failure(run, task, data, carry, key, done)
                if folder:
                    run.carry, run.begun = _last_good(task, data, folder, run_epoch, key, epochs, done)
                    folder.save(done, run.carry, "failed", run.begun)
                raise failure
            done += 1
            values = _values(report, names, len(data.valid.x) > 0)
            history.append({"epoch": done, "step": step} | values)
            if folder:
                folder.append(history[-1])
            progress.epoch(done, values, step, time.perf_counter() - begin, compile_seconds)
            last = done == experiment.epochs or over
            looked = look() if watch and watch.due(done, last) else None
            seen = EpochReport(
                done, experiment.epochs, values, carry.params, carry.state, folder.path if folder else None, looked
            )
            answers = [f(seen) for f in callbacks]
            if any(isinstance(answer, str) and answer == "stop" for answer in answers):
                stopped = "a callback stopped it"
            if interrupted:
                stopped = "interrupted"
            if over:
                stopped = "early stopping"
            last = done == experiment.epochs or bool(stopped)
            if folder and (last or time.monotonic() - saved > SAVE_EVERY):
                folder.save(done, carry, stopped or ("finished" if last else "running"))
                saved = time.monotonic()
    progress.end()
    if watch and done > before_all and not losses and run.looked_at != step:
        look(shown=False)  # this epoch became the last one after it was passed over
    if stopped in ("finished", "early stopping"):
        wheel.end(Here(step, done, save, progress.say, interrupted))
    run.stopped = stopped
    return run


def _streams(data: Any) -> bool:
    return isinstance(data.train.x, np.memmap)


def _resident(data: Any) -> Callable[..., Any]:
    """Data live on the device; an epoch is one call."""
    rows, valid = jax.device_put((rows_of(data.train), rows_of(data.valid) if len(data.valid.x) else None))

    def run_epoch(
        task: Task, carry: Carry, key: Any, epochs: Any, begun: list[float], called: Any
    ) -> tuple[Carry, Report]:
        args = (task, carry, rows, valid, key, epochs)
        return program(_epoch, *args, donate=(1,))(*args)

    return run_epoch


def _streamed(task: Task, data: Any) -> Callable[..., Any]:
    """Data are on disk; chunks of many batches go through the same steps while the next chunk is read.

    Once `called(step)` is true, the chunk is finished and the epoch left; there is no report then, and `begun`
    has grown by the losses of the steps that were done.
    """
    from derin.data.stream import chunks

    n = len(data.train.x)
    valid = data.valid if len(data.valid.x) else None
    judged = valid if valid is not None else data.train if task.experiment.metrics else None
    row_bytes = max(1, data.train.x.dtype.itemsize * math.prod(data.train.x.shape[1:]))

    def run_epoch(
        task: Task, carry: Carry, key: Any, epochs: Any, begun: list[float], called: Callable[[Any], bool]
    ) -> tuple[Carry, Report | None]:
        args: tuple[Any, ...] = (task, carry.epoch, key)
        order = np.asarray(program(_order, *args, static=(n,))(*args))
        count, size = order.shape
        weights = engine.row_weights(n, order.shape)
        per_chunk = max(1, CHUNK_BYTES // (row_bytes * size))
        at, losses = len(begun), [jnp.asarray(begun, jnp.float32)]
        for x, y in chunks(data.train, order[at:].reshape(-1), per_chunk * size):
            here = len(x) // size
            rows = Rows(jax.device_put(x), tuple(map(jax.device_put, y if isinstance(y, tuple) else (y,))))
            weight = None if weights is None else weights[at : at + here]
            args = (task, carry, rows, weight, key, epochs)
            carry, loss = program(_chunk, *args, static=((count, n),), donate=(1,))(*args)
            at, losses = at + here, [*losses, loss]
            if called(carry.step) and at < count and int(carry.broken_at) < 0:
                begun[:] = np.concatenate(losses).tolist()
                return carry, None
        if task.experiment.average is not None:
            carry = program(engine.averaged, task, carry)(task, carry)
        found = _evaluate_in_chunks(task, carry, judged) if judged is not None else engine.no_scores(task)
        if valid is None:
            found = (jnp.float32(jnp.nan), found[1])
        args = (task, carry, np.concatenate(losses), found, epochs)  # one array, wherever the epoch was left
        return program(_finish, *args, static=(n, order.shape, valid is not None))(*args)

    return run_epoch


def _order(n: int, task: Task, number: jax.Array, key: jax.Array) -> jax.Array:
    return engine.epoch_order(task, number, n, key_of(key))


def _chunk(
    size: tuple[int, int], task: Task, carry: Carry, rows: Rows, weight: Any, key: Any, epochs: Any
) -> tuple[Carry, jax.Array]:
    batch = len(rows.x) if task.experiment.batch_size == "full" else min(task.experiment.batch_size, len(rows.x))
    order = jnp.arange(len(rows.x), dtype=jnp.int32).reshape(-1, batch)
    return engine.steps(task, carry, rows, order, weight, key_of(key), epochs, size)


def _finish(
    n: int, shape: tuple[int, int], validated: bool, task: Task, carry: Carry, losses: Any, found: Any, epochs: Any
) -> Any:
    loss = engine.mean_loss(losses, n, shape)
    return engine.finish(task, carry, loss, found, shape[0], epochs, validated)


def _evaluate_in_chunks(task: Task, carry: Carry, part: Any) -> Any:
    outputs = outputs_of(task, *engine.predicting(carry), part.x)
    args = (task, outputs, part.y if isinstance(part.y, tuple) else (part.y,))
    return program(engine.scores, *args)(*args)


def outputs_of(task: Task, params: Any, state: Any, x: Any) -> np.ndarray:
    """The net's outputs for encoded rows, whatever their number.   x: [n, ...] -> [n, outputs]"""
    from derin.engine.predict import blocks

    return np.concatenate([np.asarray(b) for b in blocks(task, params, state, x)])


def _values(report: Report, names: list[str], validated: bool) -> dict[str, Any]:
    """A report as the plain numbers that history, screens and callbacks show."""
    values: dict[str, Any] = {"loss": plain(report.loss)}
    if validated:
        values["valid_loss"] = plain(report.valid_loss)
    values |= {n: plain(m) for n, m in zip(names, report.metrics, strict=False)}  # no names: nothing was judged
    return values | {"learning_rate": plain(report.learning_rate)}


@contextmanager
def interrupts(said: str) -> Iterator[list[int]]:
    """A list that is not empty any more after Ctrl-C; a second Ctrl-C interrupts at once."""
    seen: list[int] = []

    def first(number: int, frame: Any) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)
        if said:
            print(f"\n{said}; Ctrl-C again stops at once", file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():
        yield seen  # only the main thread may install handlers
        return
    before = signal.signal(signal.SIGINT, first)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


# -- when a number is not finite


def _last_good(
    task: Task, data: Any, folder: RunFolder, run_epoch: Callable[..., Any], key: Any, epochs: Any, done: int
) -> tuple[Carry, list[float]]:
    """Training as it stood before the epoch that failed: at most SAVE_EVERY seconds are done again."""
    like = jax.eval_shape(lambda: engine.start(task, jax.random.key(0), data.train.x))
    carry, manifest = folder.load_carry(like)
    begun = manifest.get("begun", [])
    if carry is None:
        carry = state_at_start(folder, task, task.experiment.seed, data.train.x)
    while int(carry.epoch) < done:
        (carry, _), begun = run_epoch(task.structure_only(), carry, key, epochs, begun, _never), []
    return carry, begun


def _never(step: Any) -> bool:
    return False


def _failure(run: Run, task: Task, data: Any, carry: Carry, key: Any, epochs_done: int) -> TrainingFailed:
    """The error that names epoch, step, and the first layer whose output or gradient is not finite."""
    x, y, weight, step, count, rate = broken_step(task, data, carry, key)
    where = first_not_finite(task, carry, x, y, weight, key_of(key))
    error = TrainingFailed(
        f"training failed in epoch {epochs_done + 1}, step {step % count + 1} of {count}: {where}. "
        f"The learning rate was {float(rate):g}: try a smaller one, or "
        "clip=ClipByGlobalNorm(1.0)."
    )
    error.run = run
    return error


def broken_step(task: Task, data: Any, carry: Carry, key: Any) -> tuple[Any, ...]:
    """The batch of the step at which training broke: (x, y, weight, step, steps an epoch, learning rate)."""
    n = len(data.train.x)
    args = (task.structure_only(), carry.epoch, key)
    order = np.asarray(program(_order, *args, static=(n,))(*args))
    step = int(carry.broken_at)
    batch = order[step % len(order)]
    weight = engine.row_weights(n, order.shape)
    weight = None if weight is None else weight[step % len(order)]
    x = jnp.asarray(data.train.x[batch])
    ys = data.train.y if isinstance(data.train.y, tuple) else (data.train.y,)
    y = tuple(jnp.asarray(t[batch]) for t in ys)
    rate = engine.learning_rate(task.experiment, carry, step, len(order), task.experiment.epochs)
    return x, y, weight, step, len(order), rate


def replayed_failure(run: Run, data: Any) -> tuple[Any, ...] | None:
    """Train a failed run on from its last good state to the step that breaks: (carry, *broken_step), or None."""
    task, carry = run.task, jax.tree.map(jnp.array, run.carry)
    compiled, key, epochs = task.structure_only(), key_bits(run.experiment.seed), np.int32(run.experiment.epochs)
    run_epoch = _streamed(compiled, data) if _streams(data) else _resident(data)
    begun = list(run.begun)
    while int(carry.broken_at) < 0:
        if int(carry.epoch) >= run.experiment.epochs or bool(carry.done):
            return None
        (carry, _), begun = run_epoch(compiled, carry, key, epochs, begun, _never), []
    return (carry, *broken_step(task, data, carry, key))


def resume(run: Run, data: Any = None, *, epochs: int | None = None, callbacks: Sequence[Callback] = (),
           progress: bool = True) -> Run:  # fmt: skip
    """Train a loaded run on to the end, as if it had never stopped; the same bits on the same machine.

    data: what the run was trained on; a run whose data came from a file or a name finds them itself.
    Raises RunError if the data are not those of the run, or another process trains it.
    """
    _check_callbacks(callbacks)
    data = data_of(run, data)
    if epochs is not None and epochs < len(run.history):
        raise RunError(f"the run has {len(run.history)} epochs behind it already; epochs={epochs} would be fewer.")
    run.warn_if_elsewhere()
    experiment = run.experiment if epochs is None else run.experiment.replace(epochs=epochs)
    task = task_of(experiment, run.schema, data.train.x, counts_of(data))
    goes_on = len(run.history) < experiment.epochs and not bool(run.carry.done)
    health = _without_ends(run.health, task, data) if goes_on and run.health else run.health
    with run.folder.lock() if run.folder else nullcontext():
        if run.folder is not None:
            run.folder.reopen(experiment, run.history, int(run.carry.step), health)
            if goes_on and run.threshold is not None:
                run.folder.keep_threshold(None, run.history, "the weights it was chosen for are trained on")
        shown = Progress(progress, experiment.epochs)
        carry = jax.tree.map(jnp.array, run.carry)  # the loop gives its buffers away; `run` keeps its own
        check_monitors(experiment, data)
        trained = train(task, data, carry, list(run.history), run.folder, callbacks, shown, run.begun, health)
    trained.threshold = None if goes_on else run.threshold
    return trained


def _without_ends(health: list[dict[str, Any]], task: Task, data: Any) -> list[dict[str, Any]]:
    """The lines that a run which never stopped would have: without one of an epoch looked at because it was the last.

    Only the newest can be one. Older lines stay, also those of a version that looked more often.
    """
    watch, newest = health_of.Watch(task, data), health[-1]
    per_epoch, _ = watch.size
    ended = not watch.due(newest["epoch"], last=False) and newest["step"] % per_epoch == 0
    return health[:-1] if ended else health


def data_of(run: Run, data: Any = None) -> Any:
    """What the run was trained on, as a Dataset: `data`, or what the run finds itself. Raises RunError."""
    data = as_dataset(data) if data is not None else run.reload_data()
    if run.fingerprint != data.fingerprint:
        raise RunError(
            f"these are not the data of the run: their fingerprint is {data.fingerprint[:12]}, the run's is "
            f"{run.fingerprint[:12]}. Bring the data back as they were, or start a new run."
        )
    return data
