"""What is measured layer by layer as a net trains, against closed forms and JAX's own gradients."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import derin
from derin import nn, optim
from derin.engine import epoch as engine
from derin.engine.health import Watch
from derin.engine.training import LOOKS_KEPT, key_bits
from derin.models import TabularMLP

pytestmark = pytest.mark.usefixtures("watched")


def rows(n=200, d=5, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, d)).astype("float32")
    return derin.data.load((x, (x[:, 0] + 0.5 * x[:, 1] > 0).astype(int)), test=0)


def fitted(net, data=None, **fields):
    fields = {"epochs": 2, "batch_size": 32, "optimizer": optim.SGD(0.1)} | fields
    return derin.fit(net, data or rows(), progress=False, **fields)


def test_gradient_update_and_loss_are_those_of_jax():
    run = fitted(nn.MLP((8,), 1), optimizer=optim.SGD(0.1, momentum=0.0))
    watch, last = Watch(run.task, run.data), run.health[-1]
    x = watch.batches.x.reshape(-1, 5)
    y = watch.batches.y[0].reshape(-1)

    def loss(params):
        return engine.total_loss(run.task, engine.run_net(run.task, params, {}, x)[0], (y,), None)

    value, gradient = jax.value_and_grad(loss)(run.carry.params)
    assert last["eval_mode_loss"] == pytest.approx(float(value), rel=1e-4)
    assert last["train_mode_loss"] == pytest.approx(float(value), rel=1e-4)  # no dropout, no BatchNorm
    whole = jnp.sqrt(sum(jnp.sum(g**2) for g in gradient.values()))
    assert last["gradient_norm"] == pytest.approx(float(whole), rel=1e-3)
    for name, g in gradient.items():
        seen = last["weights"][name]
        norm = float(jnp.linalg.norm(run.carry.params[name]))
        assert seen["norm"] == pytest.approx(norm, rel=1e-4)
        assert seen["gradient"] == pytest.approx(float(jnp.linalg.norm(g)), rel=1e-3)
        assert seen["update"] == pytest.approx(0.1 * float(jnp.linalg.norm(g)) / norm, rel=1e-3)


def test_a_penalty_by_the_row_counts_the_rows_of_the_epoch():
    data = rows()
    plain, per_row = (
        fitted(nn.MLP((8,), 1), data, penalty=optim.L2(strength, per_row=each), epochs=1).health[0]["weights"]
        for strength, each in ((0.01, False), (0.01 * len(data.train.x), True))
    )
    for name, seen in plain.items():
        assert per_row[name]["update"] == pytest.approx(seen["update"], rel=1e-4)


def test_activations_are_those_of_the_evaluation_rows():
    run = fitted(nn.Sequential(nn.Linear(8), nn.Tanh(), nn.Linear(1)))
    out = nn.module.activations(run.experiment.net, run.carry.params, {}, jnp.asarray(run.data.valid.x))
    seen = run.health[-1]["layers"]
    assert seen.keys() == {"0", "1", "2"}
    for path in seen:
        assert seen[path]["mean"] == pytest.approx(float(out[path].mean()), rel=1e-3, abs=1e-5)
        assert seen[path]["deviation"] == pytest.approx(float(out[path].std()), rel=1e-3)
    assert seen["1"]["saturated"] == pytest.approx(float((abs(out["1"]) > 0.95).mean()), abs=1e-4)
    assert np.isnan(seen["0"]["saturated"])


def test_dead_and_saturated_units_are_counted():
    below = nn.Sequential(nn.Linear(6, bias_init=nn.init.Full(-100.0)), nn.ReLU(), nn.Linear(1))
    first = fitted(below, epochs=1).health[0]
    assert first["layers"]["1"]["dead"] == 1.0 and first["layers"]["1"]["zeros"] == 1.0
    assert first["weights"]["0.weight"]["zeros"] == 1.0 and first["weights"]["0.weight"]["gradient"] == 0.0
    wide = nn.Sequential(nn.Linear(6, weight_init=nn.init.Normal(100.0)), nn.Sigmoid(), nn.Linear(1))
    assert fitted(wide, epochs=1).health[0]["layers"]["1"]["saturated"] > 0.9
    assert fitted(nn.MLP((6,), 1, activation="tanh"), epochs=1).health[0]["layers"]["act"]["saturated"] < 0.1


def test_batchnorm_differs_between_its_modes_and_dropout_is_drawn():
    run = fitted(nn.Sequential(nn.Linear(8), nn.BatchNorm(momentum=1e-4), nn.ReLU(), nn.Linear(1)), epochs=20)
    seen = run.health[-1]
    assert abs(seen["eval_mode_loss"] - seen["train_mode_loss"]) > 0.01
    noisy = fitted(nn.MLP((64,), 1, dropout=0.5)).health[-1]
    assert noisy["train_mode_loss"] != noisy["eval_mode_loss"]


def test_which_epochs_follows_from_the_rows():
    run = fitted(nn.MLP((4,), 1), epochs=60)
    every = Watch(run.task, run.data).every
    assert every > 1
    assert [line["epoch"] for line in run.health] == sorted({0, 1, 60, *range(every, 61, every)})
    large = Watch(run.task, rows(20000))
    assert large.every == 1 and large.due(7, last=False)


def test_health_changes_no_bit_of_training():
    with_it, without = (fitted(nn.MLP((8,), 1, dropout=0.1), health=h, epochs=4) for h in (True, False))
    assert with_it.history == without.history and without.health == []
    assert all(np.array_equal(with_it.params[k], without.params[k]) for k in with_it.params)


def test_it_stands_in_the_folder_and_resuming_writes_the_same(tmp_path):
    data = rows()
    whole = fitted(nn.MLP((8,), 1), data, epochs=30, out=tmp_path / "whole")
    stop = [lambda report: "stop" if report.epoch == 17 else None]
    fitted(nn.MLP((8,), 1), data, epochs=30, out=tmp_path / "half", callbacks=stop)
    file = tmp_path / "half" / "health.jsonl"
    with open(file, "a") as more:
        more.write(json.dumps({"epoch": 99}) + '\n{"epoch": 1')  # after the checkpoint, and cut by a kill
    derin.load(tmp_path / "half").resume(data, progress=False)
    assert file.read_bytes() == (tmp_path / "whole" / "health.jsonl").read_bytes()
    lines = [{k: v for k, v in line.items() if k != "layers"} for line in derin.load(tmp_path / "whole").health]
    assert lines == [{k: v for k, v in line.items() if k != "layers"} for line in whole.health]  # layers hold nan


def test_the_last_epoch_is_looked_at_whoever_ended_the_run(tmp_path):
    data, stop = rows(), [lambda report: "stop" if report.epoch == 17 else None]
    whole = fitted(nn.MLP((8,), 1), data, epochs=30, out=tmp_path / "whole")
    for out in (None, tmp_path / "half"):
        half = fitted(nn.MLP((8,), 1), data, epochs=30, out=out, callbacks=stop)
        assert not Watch(half.task, data).due(17, last=False)
        assert half.health[-1]["epoch"] == 17 and half.health[-1]["step"] == int(half.carry.step)
        assert json.dumps(half.resume(data, progress=False).health) == json.dumps(whole.health)
    assert (tmp_path / "half" / "health.jsonl").read_bytes() == (tmp_path / "whole" / "health.jsonl").read_bytes()
    longer = whole.resume(data, epochs=40, progress=False)
    assert json.dumps(longer.health) == json.dumps(fitted(nn.MLP((8,), 1), data, epochs=40).health)


def test_the_lines_of_a_version_that_looked_more_often_stay(monkeypatch):
    data = rows()
    with monkeypatch.context() as then:
        then.setattr("derin.engine.health.SHARE", 0.3)
        often = fitted(nn.MLP((8,), 1), data, epochs=11)
        kept = [line["epoch"] for line in often.health]
        every = Watch(often.task, data).every
    assert kept[-1] % every and every < Watch(often.task, data).every  # the last line was of an end
    assert [line["epoch"] for line in often.resume(data, epochs=14, progress=False).health] == [*kept[:-1], 14]


def test_streamed_rows_are_looked_at_as_well(tmp_path):
    x = np.random.default_rng(0).normal(size=(600, 40)).astype("float32")
    source = (x, (x[:, 0] > 0).astype(int))
    whole, pieces = (derin.data.load(source, test=0, memory_budget=b, cache=tmp_path) for b in (None, 50_000))
    assert isinstance(pieces.train.x, np.memmap)
    there, here = (fitted(nn.MLP((8,), 1), d).health for d in (whole, pieces))
    assert [line["epoch"] for line in here] == [line["epoch"] for line in there]
    assert here[-1]["eval_mode_loss"] == pytest.approx(there[-1]["eval_mode_loss"], rel=1e-4)


def test_callbacks_see_it_and_a_run_that_breaks_is_looked_at():
    seen = []
    fitted(nn.MLP((4,), 1), callbacks=[lambda report: seen.append(report.health)], epochs=3)
    assert seen[0]["epoch"] == 1 and seen[1] is None and seen[2]["epoch"] == 3
    x = np.random.default_rng(0).normal(size=(200, 5)).astype("float32")
    with pytest.raises(derin.TrainingFailed) as failed:
        fitted(nn.MLP((16, 16), 1), derin.data.load((x, x[:, 0]), test=0), optimizer=optim.SGD(1e9), epochs=9)
    assert failed.value.run.health[-1]["weights"]["head.weight"]["norm"] > 1e3


@pytest.mark.parametrize(
    "net, fields",
    [
        (nn.Sequential(nn.LastStep(nn.LSTM(6)), nn.Linear(1)), {}),
        (TabularMLP(1, widths=(8,), members=3), {}),
        (nn.MLP((8,), 1), {"precision": "bfloat16"}),
        (nn.MLP((8,), 1), {"batch_size": "full", "optimizer": optim.LBFGS()}),
        (nn.MLP((8,), 1), {"average": optim.EMA(), "clip": optim.ClipByGlobalNorm(1.0), "penalty": optim.L2(0.1)}),
        (nn.MLP((8,), 1), {"batch_size": 1}),
    ],
    ids=["lstm", "members", "bfloat16", "full batches", "average, clip, penalty", "online"],
)
def test_any_net_and_rule_can_be_looked_at(net, fields):
    x = np.random.default_rng(0).normal(size=(90, 5, 2) if "LSTM" in repr(net) else (90, 5)).astype("float32")
    data = derin.data.load((x, (x.reshape(90, -1)[:, 0] > 0).astype(int)), test=0)
    last = fitted(net, data, **fields).health[-1]
    assert last["gradient_norm"] > 0 and all(np.isfinite(layer["mean"]) for layer in last["layers"].values())
    assert all(w["norm"] > 0 for name, w in last["weights"].items() if name.endswith("weight"))


def test_a_damaged_file_is_named(tmp_path):
    fitted(nn.MLP((4,), 1), out=tmp_path / "run")
    file = tmp_path / "run" / "health.jsonl"
    file.write_text("{\n" + file.read_text())
    with pytest.raises(derin.RunError, match=r"health\.jsonl is damaged in line 1"):
        derin.load(tmp_path / "run")
    file.unlink()  # a run of an older version has none
    assert derin.load(tmp_path / "run").health == []


def test_the_key_is_that_of_the_run():
    run = fitted(nn.MLP((4,), 1, dropout=0.5))
    watch = Watch(run.task, run.data)
    one, two = (watch.look(run.carry, key_bits(seed), np.int32(2)) for seed in (0, 1))
    assert one["train_mode_loss"] != two["train_mode_loss"] and one["eval_mode_loss"] == two["eval_mode_loss"]


def test_a_short_run_in_memory_is_looked_at_when_it_is_asked_for(tmp_path):
    now = []
    put_off = fitted(nn.MLP((7,), 1), epochs=3)
    assert len(put_off.unseen) == 3 and put_off.looked_at == put_off.carry.step  # the first weights, epochs 1 and 3
    fitted(nn.MLP((7,), 1), epochs=3, callbacks=[lambda seen: now.append(seen.health)])
    assert json.dumps(put_off.health[1:]) == json.dumps([line for line in now if line]) and not put_off.unseen
    kept = fitted(nn.MLP((7,), 1), epochs=3, out=tmp_path / "run")
    assert json.dumps(put_off.health) == json.dumps(kept.health)
    every = Watch(put_off.task, put_off.data).every
    long = fitted(nn.MLP((7,), 1), epochs=2 * every * LOOKS_KEPT)
    assert len(long.unseen) < LOOKS_KEPT < len(long.health)
