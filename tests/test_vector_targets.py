"""A target of many numbers: one loss and one score over all entries, in their own units."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
import torch
from sklearn import metrics as sk
from sklearn.datasets import load_digits

import derin
from derin import data, nn, spec
from derin.cli import run as command
from derin.data import ClassTarget, NumberTarget, VectorTarget, fit_target
from derin.engine.epoch import total_loss
from derin.engine.metrics import metric
from derin.engine.task import task_of
from derin.engine.training import key_bits
from derin.errors import DataError, ModelError, SpecError
from derin.models import LinearRegression, TabularMLP

ALL = {"valid": 0, "test": 0}


def rows(n=60, d=3, k=4, seed=0):
    """x [n, d] and y [n, k] of very different sizes, the last column constant."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, d)).astype(np.float32)
    y = x @ random.normal(size=(d, k)) * 10.0 ** np.arange(k) + 7
    y[:, -1] = 0.5
    return x, y


# -- what is one


def test_an_array_of_numbers_is_one_target():
    x, y = rows()
    y[:, -1] = 0.1  # the mean of 0.1s is not 0.1
    found = data.load((x, y), seed=3)
    (target,) = found.schema.targets
    assert (type(target), target.name, target.kind, target.width) == (VectorTarget, "target", "number", 4)
    own = y[found.train.rows]
    np.testing.assert_allclose(target.mean, own.mean(0))
    np.testing.assert_allclose(target.scale[:3], own.std(0)[:3])
    assert target.scale[3] == 1 and np.isfinite(found.train.y).all()  # constant: not nan
    assert found.train.y.shape == (len(own), 4) and found.train.y.dtype == np.float32
    np.testing.assert_allclose(target.decode(found.test.y), y[found.test.rows], rtol=1e-5)
    assert spec.from_json(spec.to_json(target)).encode(y).tolist() == target.encode(y).tolist()


@pytest.mark.parametrize(
    ("y", "options", "kinds"),
    [
        (rows()[1], {}, [VectorTarget]),
        (rows()[1].astype(object), {}, [VectorTarget]),
        (rows()[1].tolist(), {}, [VectorTarget]),
        (rows()[1], {"target": "all"}, [VectorTarget]),
        (rows()[1][:, :2], {"target": ["a", "b"]}, [NumberTarget] * 2),  # columns with names are targets of their own
        (rows()[1][:, :2], {"task": "classes"}, None),
        (np.arange(120).reshape(60, 2) % 5, {}, [ClassTarget] * 2),
        (np.arange(120).reshape(60, 2) % 5, {"task": "number"}, [VectorTarget]),
        (np.stack([np.linspace(0, 1, 60), np.arange(60) % 2], 1), {}, [NumberTarget, ClassTarget]),
        (load_digits().data[:60], {}, [VectorTarget]),  # whole numbers, but 64 columns of them
        (np.random.default_rng(0).integers(0, 2, (60, 20)), {}, [ClassTarget] * 20),  # twenty yes-or-no labels
        (np.eye(3)[np.arange(60) % 3], {}, [ClassTarget]),
        (np.linspace(0, 1, 60)[:, None], {}, [NumberTarget]),
        ({"a": rows()[1], "b": np.arange(60) % 3}, {}, [VectorTarget, ClassTarget]),
    ],
)
def test_what_is_a_vector(y, options, kinds):
    x, _ = rows()
    if kinds is None:
        with pytest.raises(DataError, match="too many for classes"):
            data.load((x, y), **ALL, **options)
        return
    found = data.load((x, y), **ALL, **options).schema.targets
    assert [type(t) for t in found] == kinds
    if len(found) == 1:
        assert found[0].name == options.get("target", "target")


def test_columns_of_a_table_stay_targets_of_their_own():
    x, y = rows(k=18)
    named = {f"y{i}": y[:, i] for i in range(17)}
    found = data.load({"x": x[:, 0], **named}, target=list(named), **ALL)
    assert [t.name for t in found.schema.targets] == list(named)
    assert "17 targets, each with a loss and scores of its own" in found.notes[-1]
    assert data.load((x, named), **ALL).notes == found.notes
    frame = pl.DataFrame({"x": x[:, 0]})
    assert [t.name for t in data.load((frame, y[:, :2]), **ALL).schema.targets] == ["target_0", "target_1"]


def test_files_hold_vectors(tmp_path):
    x, y = rows()
    np.savez(tmp_path / "set.npz", x_train=x, y_train=y, x_test=x[:7], y_test=y[:7])
    found = data.load(tmp_path / "set.npz", valid=0)
    assert found.schema.targets[0].width == 4 and found.test.y.shape == (7, 4)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    assert data.load(tmp_path / "x.npy", target=str(tmp_path / "y.npy")).train.y.shape[1] == 4


def test_rows_without_an_entry_are_left_out():
    x, y = rows(10)
    y[3, 1] = np.nan
    with pytest.warns(data.DataWarning, match="1 of 10 rows have no 'target'"):
        found = data.load((x, y), **ALL)
    assert 3 not in found.train.rows and np.isfinite(found.train.y).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: np.where(y == y[2, 1], np.inf, y), "target 'target' is infinite in row 2, column 1"),
        (lambda y: np.full_like(y, 0.1), "the same in every training row"),
        (lambda y: y * 1e302, "too large to take their mean square"),
    ],
)
def test_bad_vectors(change, message):
    x, y = rows()
    with np.errstate(over="ignore"), pytest.raises(DataError, match=message):
        data.load((x, change(y)), task="number", **ALL)


def test_vectors_that_do_not_fit():
    x, y = rows()
    found = data.load((x, y))
    with pytest.raises(
        ModelError, match=r"puts out 1 numbers a row, and the target 'target' is 4 numbers: .*Linear\(4\)"
    ):
        derin.fit(nn.Linear(1), found, progress=False)
    with pytest.raises(SpecError, match=r"CrossEntropyLoss does not fit the target 'target' \(4 numbers, 4 outputs"):
        derin.fit(nn.Linear(4), found, loss=nn.CrossEntropyLoss(), progress=False)
    with pytest.raises(DataError, match="stratify needs one value a row, and the target has 4"):
        data.load((x, y), stratify=True)
    with pytest.raises(DataError, match="LinearRegression predicts one number; y has 4"):
        LinearRegression().fit(found)
    with pytest.raises(DataError, match=r"has 4 numbers a row; got an array of shape \(60, 3\)"):
        derin.fit(nn.Linear(4), found, epochs=1, progress=False).evaluate((x, y[:, :3]))


# -- loss and scores


def test_the_loss_is_torchs():
    x, y = rows(n=8)
    found = data.load((x, y), **ALL)
    out = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)
    for ours, theirs in ((None, torch.nn.MSELoss()), (nn.HuberLoss(0.5), torch.nn.HuberLoss(delta=0.5))):
        task = task_of(derin.Experiment(nn.Linear(4), loss=ours), found.schema, x, None)
        want = theirs(torch.from_numpy(out), torch.from_numpy(found.train.y)).item()
        np.testing.assert_allclose(total_loss(task, jnp.asarray(out), (found.train.y,), None), want, rtol=1e-6)


def test_scores_are_those_of_scikit_learn():
    random = np.random.default_rng(2)
    y = random.normal(size=(20, 4)) * [1, 10, 0.1, 3] + [0, 5, 1, -2]
    y[:, 2] = 0.25  # its mean has no rounding, so scikit-learn sees that it is constant
    p = y + random.normal(size=y.shape)
    weight = np.append(np.ones(20), np.zeros(3))  # three rows that only fill up
    filled = [np.concatenate([a, np.full((3, 4), 1e6)]) for a in (p, y)]
    wanted = {
        "mae": sk.mean_absolute_error(y, p),
        "mse": sk.mean_squared_error(y, p),
        "rmse": sk.mean_squared_error(y, p) ** 0.5,
        "mape": sk.mean_absolute_percentage_error(y, p),
        "r2": sk.r2_score(y, p, multioutput="variance_weighted"),
        "quantile_90": np.quantile(np.abs(y - p), 0.9),
    }
    for name, want in wanted.items():
        np.testing.assert_allclose(metric(name)(p, y), want, rtol=2e-5, err_msg=name)
        np.testing.assert_allclose(metric(name)(*filled, weight), want, rtol=2e-5, err_msg=name)
    constant = np.ones((5, 2))
    assert metric("r2")(constant, constant) == 1 and metric("r2")(constant + 1, constant) == 0


@pytest.mark.parametrize("net", [nn.Linear(4), TabularMLP(4, waves=())])
def test_a_run_reports_in_own_units(tmp_path, net):
    x, y = rows(200)
    names = ("mae", "rmse", "r2", "mape", "quantile_50")
    run = derin.fit(net, (x, y), epochs=3, metrics=names, out=tmp_path / "run", progress=False)
    p = run.predict(x)
    assert p.shape == (200, 4) and p.dtype == np.float64
    found = run.evaluate((x, y))
    np.testing.assert_allclose(found["rmse"], sk.mean_squared_error(y, p) ** 0.5, rtol=1e-4)
    np.testing.assert_allclose(found["mae"], sk.mean_absolute_error(y, p), rtol=1e-4)
    np.testing.assert_allclose(found["r2"], sk.r2_score(y, p, multioutput="variance_weighted"), rtol=1e-4)
    np.testing.assert_allclose(found["quantile_50"], np.median(np.abs(y - p)), rtol=1e-3)
    np.testing.assert_allclose(run.predictor()(run.schema.encode(x[:5])), p[:5], rtol=1e-4, atol=1e-4)
    again = derin.load(tmp_path / "run")
    np.testing.assert_array_equal(again.predict(x), p)
    assert again.evaluate((x, y)) == found
    assert again.evaluate((x, {c: y[:, i] for i, c in enumerate("abcd")})) == found  # columns by name, in their order


def test_resumed_to_the_bit(tmp_path):
    x, y = rows()
    fields = dict(epochs=4, progress=False)
    whole = derin.fit(nn.Linear(4), (x, y), **fields)
    stop = lambda report: "stop" if report.epoch == 2 else None  # noqa: E731
    derin.fit(nn.Linear(4), (x, y), out=tmp_path / "run", callbacks=[stop], **fields)
    run = derin.load(tmp_path / "run").resume((x, y), progress=False)
    assert all(np.array_equal(run.params[name], whole.params[name]) for name in whole.params)


def test_streamed_from_disk(tmp_path):
    x, y = rows()
    fields = dict(epochs=2, progress=False)
    whole = derin.fit(nn.Linear(4), data.load((x, y)), **fields)
    streamed = derin.fit(nn.Linear(4), data.load((x, y), memory_budget=0, cache=tmp_path), **fields)
    assert whole.history == streamed.history


def test_runs_of_before_still_load():
    """What an older derin kept of y [n, 2] was two targets; rows like those of then are read for them."""
    x, y = rows()
    old = data.load((x, y[:, :2]), target=["target_0", "target_1"])
    run = derin.fit(nn.Linear(2), old, epochs=1, progress=False)
    scored = run.evaluate((x, y[:, :2]))
    assert "target_1.rmse" in scored and len(run.predict(x)) == 2


# -- an autoencoder


def test_an_autoencoder_is_one_program_of_the_size_of_a_classifiers():
    """y of 784 columns made 784 losses and metrics; now the epoch has hardly more operations than a classifier's."""
    from derin.engine.epoch import Rows, start
    from derin.engine.training import _epoch, key_of

    random = np.random.default_rng(0)
    x = random.random((40, 784), dtype=np.float32)
    x[:, :20] = 0  # MNIST's border

    def operations(y, out):
        found = data.load((x, y), **ALL)
        net = nn.Sequential(nn.Linear(16), nn.ReLU(), nn.Linear(out))
        task = task_of(derin.Experiment(net, batch_size=8), found.schema, found.train.x, None)
        kept = Rows(jnp.asarray(found.train.x), (jnp.asarray(found.train.y),))
        key = key_bits(0)
        carry = jax.eval_shape(lambda: start(task, key_of(key), found.train.x))
        return jax.jit(_epoch).lower(task, carry, kept, None, key, np.int32(1)).as_text().count(" = ")

    assert operations(x, 784) < 1.2 * operations((np.arange(40) % 4).astype(str), 4)


def test_on_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = rows()
    np.savez("set.npz", x=x, y=y)
    assert command(["fit", "set.npz", "--net", "mlp:8", "--epochs", "2", "--out", "run"]) == 0
    assert "target: a vector of 4 numbers" in capsys.readouterr().err
    assert command(["show", "run"]) == 0
    assert "a vector of 4 numbers" in capsys.readouterr().out
    assert command(["data", "set.npz"]) == 0
    assert "a vector of 4 numbers" in capsys.readouterr().out
    assert command(["predict", "run", "set.npz", "-o", "p.csv"]) == 0
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[0] == "prediction_0,prediction_1,prediction_2,prediction_3" and len(lines) == 61
    capsys.readouterr()
    assert command(["evaluate", "run", "set.npz", "--json"]) == 0
    assert "rmse" in json.loads(capsys.readouterr().out)
    assert command(["export", "run", "w.safetensors"]) == 0


def test_fit_target_of_a_vector_takes_training_rows():
    _, y = rows()
    train = np.arange(60) < 30
    assert np.allclose(fit_target("y", y, train=train).mean, y[:30].mean(0))
    with pytest.raises(DataError, match=r"\[rows\] or \[rows, numbers\]; got an array of shape \(2, 2, 2\)"):
        fit_target("y", np.zeros((2, 2, 2)))
