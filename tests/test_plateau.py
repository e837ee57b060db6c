"""ReduceLROnPlateau: torch's rates on random series, within runs, populations and checkpoints."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import derin
from derin import nn, optim
from derin.data import load
from derin.engine import Experiment, checkpoint, epoch
from derin.engine.task import rows_of, task_of
from derin.errors import RunError, SpecError
from derin.optim import ChainedScheduler, ConstantLR, ReduceLROnPlateau, SequentialLR, StepLR, Warmup


def by_torch(schedule: ReduceLROnPlateau, series, greater: bool, base: float = 1.0) -> list[float]:
    """torch's learning rate after each value of a series."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        "max" if greater else "min",
        factor=schedule.gamma,
        patience=int(schedule.patience),
        threshold=schedule.threshold,
        threshold_mode=schedule.threshold_mode,
        cooldown=int(schedule.cooldown),
        min_lr=schedule.min_factor * base,
        eps=schedule.eps * base,
    )
    rates = []
    for value in series:
        theirs.step(float(value))
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def data(n: int = 120):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3)).astype("float32")
    return load((x, x[:, 0] + rng.normal(size=n) > 0), valid=0.3, seed=0)


def fit(schedule, out=None, epochs=9, **fields):
    fields = {"optimizer": optim.SGD(0.8), "batch_size": 32, "progress": False} | fields
    return derin.fit(nn.Linear(1), data(), out=out, epochs=epochs, schedule=schedule, **fields)


@pytest.mark.parametrize("mode", ["rel", "abs"])
@pytest.mark.parametrize("greater", [False, True])
def test_200_epochs_equal_torch(mode, greater):
    """S1.64: random walks, values below 0 and nan among them: every rate to 1e-5. One program for all settings."""

    @jax.jit
    def factors(schedule, series):
        def one(memory, value):
            memory = schedule.after(memory, {"valid_loss": (value, greater)})
            return memory, schedule.given(memory).factor(0, 0, 1, 200)

        return jax.lax.scan(one, schedule.memory(), series)[1]

    rng = np.random.default_rng(3)
    seen = set()
    for trial in range(25):
        series = np.cumsum(rng.normal(0.02 if greater else -0.02, 0.3, 200)).astype(np.float32) + 3 * (trial % 2)
        if trial % 5 == 0:
            series[rng.integers(0, 200, 20)] = np.nan
        schedule = ReduceLROnPlateau(
            gamma=rng.uniform(0.1, 0.9),
            patience=float(rng.integers(0, 15)),
            threshold=rng.choice([0.0, 1e-4, 0.1]),
            threshold_mode=mode,
            cooldown=float(rng.integers(0, 8)),
            min_factor=rng.choice([0.0, 1e-3, 0.3]),
        )
        ours = factors(schedule, series)
        np.testing.assert_allclose(ours, by_torch(schedule, series, greater), rtol=1e-5, atol=2e-8)
        seen |= {round(float(v), 4) for v in ours}
    assert len(seen) > 50


@pytest.mark.parametrize(("monitor", "greater"), [("valid_loss", False), ("accuracy", True)])
def test_a_run_follows_what_it_measures(monitor, greater):
    schedule = ReduceLROnPlateau(0.5, patience=1, threshold=0.05, monitor=monitor)
    run = fit(schedule)
    want = [0.8, *by_torch(schedule, [line[monitor] for line in run.history], greater, 0.8)[:-1]]
    rates = [line["learning_rate"] for line in run.history]
    np.testing.assert_allclose(rates, want, rtol=1e-5)
    assert len(set(rates)) > 1


def test_resuming_ends_in_the_same_bits(tmp_path):
    schedule = Warmup(1.5, ReduceLROnPlateau(0.5, patience=1, threshold=0.05))
    whole = fit(schedule, tmp_path / "whole")
    fit(schedule, tmp_path / "half", callbacks=[lambda report: "stop" if report.epoch == 5 else None])
    on = derin.load(tmp_path / "half").resume(data(), progress=False)
    assert on.history == whole.history and len(whole.history) == 9
    a, b = (checkpoint.load(checkpoint.newest(tmp_path / r / "checkpoints"))[0] for r in ("whole", "half"))
    assert {"schedule/factor", "schedule/best", "schedule/bad_epochs", "schedule/cooldown"} < a.keys()
    assert {k: v.tobytes() for k, v in a.items()} == {k: v.tobytes() for k, v in b.items()}


def test_checkpoints_without_a_memory_are_as_before(tmp_path):
    """Format 1 holds: a run without plateau and average has the arrays it always had; another's lack names."""
    fit(StepLR(3), tmp_path / "run", epochs=2)
    arrays, manifest = checkpoint.load(checkpoint.newest(tmp_path / "run" / "checkpoints"))
    assert manifest["format"] == 1
    assert {name.split("/")[0] for name in arrays} == {
        *("params", "optimizer", "epoch", "step", "best_params", "best_score", "best_epoch", "waited", "done"),
        "broken_at",
    }
    file = tmp_path / "run" / "experiment.json"
    plateau = derin.spec.to_json(derin.load(tmp_path / "run").experiment.replace(schedule=ReduceLROnPlateau()))
    file.write_text(plateau)
    with pytest.raises(RunError, match="'schedule/factor' is missing"):
        derin.load(tmp_path / "run")


def test_each_member_of_a_population_has_its_own_plateau():
    rows, schedules = data(), [ReduceLROnPlateau(g, patience=p, threshold=0.2) for g, p in ((0.5, 0), (0.1, 2))]
    experiments = [
        Experiment(nn.Linear(1), optimizer=optim.SGD(rate), schedule=s, batch_size=32)
        for rate, s in zip((0.8, 0.3), schedules, strict=True)
    ]
    tasks = [task_of(e, rows.schema, rows.train.x, None).structure_only() for e in experiments]
    train, valid = jax.device_put((rows_of(rows.train), rows_of(rows.valid)))

    def whole(task, key):
        def one(carry, _):
            return epoch.epoch(task, carry, train, valid, key, jnp.int32(9))

        return jax.lax.scan(one, epoch.start(task, key, train.x), None, length=9)[1]

    stacked = jax.tree.map(lambda *v: jnp.stack([jnp.float32(a) for a in v]), *tasks)
    reports = jax.jit(jax.vmap(whole))(stacked, jax.random.split(jax.random.key(0), 2))
    for i, base in enumerate((0.8, 0.3)):
        want = [base, *by_torch(schedules[i], reports.valid_loss[i], False, base)[:-1]]
        np.testing.assert_allclose(reports.learning_rate[i], want, rtol=1e-5)
        assert len(set(want)) > 1


def test_within_other_schedules():
    """Each keeps its own memory, and all of them watch from the first epoch on."""
    plateau = ReduceLROnPlateau(0.5, patience=0)
    for schedule, want in (
        (Warmup(2, plateau, 0.5, by="step"), [0.5, 0.75, 0.5, 0.25]),
        (ChainedScheduler((ConstantLR(0.1, 2), plateau)), [0.1, 0.1, 0.5, 0.25]),
        (SequentialLR((ConstantLR(0.1, 9), plateau), (2,)), [0.1, 0.1, 0.5, 0.25]),
        (ChainedScheduler((plateau, plateau.replace(patience=1, gamma=0.1))), [1.0, 1.0, 0.5, 0.025]),
    ):
        assert set(schedule.monitors()) == {"valid_loss"}
        memory, rates = schedule.memory(), []
        for t in range(4):
            rates.append(float(schedule.given(memory).factor(t, t, 1, 4)))
            memory = schedule.after(memory, {"valid_loss": (1.0, False)})
        np.testing.assert_allclose(rates, want, rtol=1e-6)
    assert StepLR(3).memory() == () and StepLR(3).given(()) == StepLR(3)


def test_what_cannot_be_watched_is_said():
    with pytest.raises(SpecError, match=r"the schedule cannot monitor 'f2'; this run has loss, valid_loss, accuracy"):
        fit(ReduceLROnPlateau(monitor="f2"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bare = load((data().train.x, data().train.y), valid=0)
    with pytest.raises(SpecError, match=r"the schedule monitors 'valid_loss', and there are no validation rows: .*"
                       r"ReduceLROnPlateau\(monitor='loss'\)"):  # fmt: skip
        derin.fit(nn.Linear(1), bare, schedule=Warmup(1, ReduceLROnPlateau()), progress=False)
    with pytest.raises(SpecError, match=r"cannot monitor 'valid_loss'; there is loss\."):
        ReduceLROnPlateau().after(ReduceLROnPlateau().memory(), {"loss": (1.0, False)})
