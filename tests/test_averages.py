"""Averages of weights: torch's AveragedModel, in steps, in epochs, in runs and checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.optim import swa_utils

import derin
import derin.spec as spec
from derin import nn, optim
from derin.data import load
from derin.engine import checkpoint, training
from derin.errors import SpecError
from derin.optim import EMA, SWA


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 4)).astype("float32")
    return load((x, x[:, 0] * x[:, 1] > 0), valid=0.2, seed=0)


def net():
    return nn.Sequential(nn.Linear(6), nn.BatchNorm(), nn.ReLU(), nn.Linear(1))


def fit(average, out=None, **fields):
    fields = {"optimizer": optim.Adam(0.03), "batch_size": 32, "epochs": 5, "progress": False} | fields
    return derin.fit(net(), data(), out=out, average=average, **fields)


def weights_of_each_epoch(average, **fields):
    """A run, and its weights and running statistics as training had them at the end of each epoch."""
    seen = []
    run = fit(average, callbacks=[lambda r: seen.append(jax.tree.map(np.array, {**r.params, **r.state}))], **fields)
    return run, seen


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (EMA(0.9), {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.9)}),
        (EMA(), {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn()}),
        (SWA(), {}),
        (SWA(5, by="step"), {}),
    ],
    ids=lambda value: "" if isinstance(value, dict) else repr(value),
)
def test_equal_to_torch(ours, theirs):
    """Twenty sets of weights, to 1e-6; those before `start` are not shown to torch."""
    rng = np.random.default_rng(1)
    model = torch.nn.Linear(4, 3)
    begin = int(ours.start) if isinstance(ours, SWA) else 0
    average = ours.begin({"weight": jnp.zeros((3, 4))}, {})
    twin = swa_utils.AveragedModel(model, **theirs)
    take = jax.jit(lambda a, w, i: ours.take(a, {"weight": w}, {}, i))
    for i in range(1, 21):
        weight = rng.normal(size=(3, 4)).astype(np.float32)
        model.weight.data = torch.from_numpy(weight)
        average = take(average, weight, i)
        want = weight
        if i > begin:
            twin.update_parameters(model)
            want = twin.module.weight.detach().numpy()
        np.testing.assert_allclose(average.params["weight"], want, atol=1e-6)
        assert int(average.taken) == max(0, i - begin)


def test_the_numbers_of_the_course():
    """S1.42: N = 3 is alpha = 1/2, and in its other convention decay 0.9 is alpha 0.1. S1.47's running mean."""
    for average, series, want in (
        (EMA.from_window(3), [10, 12, 13, 15, 14], [10, 11, 12, 13.5, 13.75]),
        (SWA(by="step"), [2, 1.5, 1.2, 1.3, 1.1], [2, 1.75, 4.7 / 3, 1.5, 1.42]),
    ):
        mean, found = average.begin(jnp.zeros(()), ()), []
        for step, value in enumerate(series, 1):
            mean = average.take(mean, jnp.float32(value), (), step)
            found.append(float(mean.params))
        np.testing.assert_allclose(found, want, rtol=1e-6)
    assert EMA.from_window(3) == EMA.from_alpha(0.5) == EMA(0.5)
    assert EMA.from_alpha(0.1).decay == pytest.approx(0.9) and EMA.from_window(19).decay == pytest.approx(0.9)


@pytest.mark.parametrize("start", [0, 2])
def test_swa_of_a_run(start):
    """The mean of the weights and statistics at the ends of epochs; the table's numbers are the average's."""
    run, seen = weights_of_each_epoch(SWA(start))
    plain, same = weights_of_each_epoch(None)
    for name, value in {**run.params, **run.state}.items():
        np.testing.assert_allclose(value, np.mean([s[name] for s in seen[start:]], 0), atol=1e-6)
        np.testing.assert_array_equal(seen[-1][name], same[-1][name])  # training does not see it
    assert run.evaluate("valid")["loss"] == pytest.approx(run.history[-1]["valid_loss"], abs=1e-6)
    assert [line["loss"] for line in run.history] == [line["loss"] for line in plain.history]
    early = [line["valid_loss"] for line in run.history[: start + 1]]
    assert early == [line["valid_loss"] for line in plain.history[: start + 1]]  # not begun, or of one epoch
    assert run.history[-1]["valid_loss"] != plain.history[-1]["valid_loss"]


def test_ema_of_a_run_equals_torch():
    """A step an epoch, so that a callback sees each; BatchNorm's statistics as with use_buffers=True."""
    run, seen = weights_of_each_epoch(EMA(0.8), batch_size="full", epochs=6)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU(), torch.nn.Linear(6, 1))
    twin = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.8), use_buffers=True)
    for arrays in seen:
        model.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()}, strict=False)
        twin.update_parameters(model)
    for name, value in {**run.params, **run.state}.items():
        if "num_batches" not in name:
            np.testing.assert_allclose(value, twin.module.state_dict()[name].numpy(), atol=2e-6, err_msg=name)
    x = data().test.x
    twin.eval()
    p = torch.sigmoid(twin(torch.from_numpy(x)))[:, 0].detach().numpy()
    np.testing.assert_allclose(run.predictor()(x)[:, 1], p, atol=1e-5)


def test_the_best_weights_are_the_averaged_ones():
    kept = []
    run = fit(EMA(0.7), early_stopping=derin.EarlyStopping(50), epochs=12, optimizer=optim.Adam(0.2))
    best = min(run.history, key=lambda line: line["valid_loss"])
    assert run.best_epoch == best["epoch"]
    assert run.evaluate("valid")["loss"] == pytest.approx(best["valid_loss"], abs=1e-6)
    upto = fit(EMA(0.7), epochs=run.best_epoch, optimizer=optim.Adam(0.2), callbacks=[kept.append])
    assert len(kept) == run.best_epoch
    assert all(np.array_equal(run.params[k], upto.params[k]) for k in run.params)


def test_resuming_ends_in_the_same_bits(tmp_path):
    average = EMA(0.9)
    whole = fit(average, tmp_path / "whole")
    fit(average, tmp_path / "half", callbacks=[lambda report: "stop" if report.epoch == 3 else None])
    on = derin.load(tmp_path / "half").resume(data(), progress=False)
    assert on.history == whole.history
    a, b = (checkpoint.load(checkpoint.newest(tmp_path / r / "checkpoints"))[0] for r in ("whole", "half"))
    assert "average/params/0.weight" in a and "average/state/1.running_mean" in a
    assert {k: v.tobytes() for k, v in a.items()} == {k: v.tobytes() for k, v in b.items()}


def test_data_from_disk_train_to_the_same_bits(tmp_path, monkeypatch):
    """With a penalty that counts rows too: all rows, and not those of a chunk."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6)).astype(np.float32)
    np.savez(tmp_path / "data.npz", X=x, y=(x[:, 0] > 0).astype(np.int32))
    here = load(tmp_path / "data.npz")
    disk = load(tmp_path / "data.npz", memory_budget=100, cache=tmp_path / "cache")
    assert isinstance(disk.train.x, np.memmap)
    monkeypatch.setattr(training, "CHUNK_BYTES", 3 * 16 * 6 * 4)
    penalty, schedule = optim.L2(3.0, per_row=True), optim.ReduceLROnPlateau(0.5, patience=0, threshold=0.5)
    fields = {"epochs": 3, "batch_size": 16, "average": SWA(1), "penalty": penalty, "schedule": schedule}
    a, b = (derin.fit(net(), part, progress=False, **fields) for part in (here, disk))
    assert a.history == b.history and a.history[0]["learning_rate"] != a.history[-1]["learning_rate"]
    for k in a.params:
        np.testing.assert_array_equal(a.params[k], b.params[k])


def test_files_and_messages():
    for average in (EMA(0.9), SWA(3, by="step")):
        assert spec.from_json(spec.to_json(average)) == average == spec.parse(repr(average))
    with pytest.raises(SpecError, match=r"EMA.decay must be in \[0, 1\): what stays of the old average.*got 1"):
        EMA(1.0)
    with pytest.raises(SpecError, match=r"SWA.start must be 0 or more, in epochs, got -2"):
        SWA(-2)
    with pytest.raises(SpecError, match=r"SWA.by must be one of 'epoch', 'step'"):
        SWA(2, by="batch")
    with pytest.raises(SpecError, match=r"Experiment.average must be an Average or none, got 0.9"):
        derin.Experiment(net(), average=0.9)
