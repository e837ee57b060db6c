"""derin trace RUN: a row of a run in numbers, and the operation at which a run broke."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import derin
from derin import nn, optim
from derin.cli import run as command
from derin.errors import DataError, RunError, SpecError, TrainingFailed
from derin.trace import first_not_finite, trace_row


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "iris"
    net = nn.Sequential(nn.Linear(3), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.5), nn.Linear(3))
    derin.fit(net, derin.data.load("iris"), epochs=2, out=path, progress=False)
    return path


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "broken"
    net = nn.Sequential(nn.Linear(4), nn.ReLU(), nn.Linear(4), nn.ReLU(), nn.Linear(3))
    with pytest.raises(TrainingFailed):
        derin.fit(net, derin.data.load("iris"), epochs=20, out=path, progress=False, optimizer=optim.SGD(1e25))
    return path


class Halved(nn.Module):
    """A long loop, shown as one operation: its first output is finite, its second is not."""

    def forward(self, x):
        end, seen = jax.lax.scan(lambda a, i: (a / 2, jnp.log(-jnp.abs(a) - i)), x, jnp.arange(1.0, 41.0))
        return end + seen.sum(0)


class Logarithm(nn.Module):
    """Of what may be negative: not finite at once."""

    def forward(self, x):
        return jnp.log(x)


def test_a_row_is_predicted_as_by_the_run(folder):
    run = derin.load(folder)
    t = trace_row(run, 3)
    part = run.reload_data().parts["test"]
    probability = np.asarray(run.predictor()(part.x[3:4]))[0]
    assert float(t.value) == pytest.approx(-np.log(probability[int(part.y[3])]), rel=1e-4)
    assert {"0", "1", "2", "4", "loss"} <= {s.layer.partition(".")[0] for s in t.steps}
    assert set(t.gradients) == set(run.params)


@pytest.mark.parametrize("suffix", ["txt", "md", "html", "svg", "json"])
def test_on_the_command_line(folder, tmp_path, capsys, suffix):
    file = tmp_path / f"row.{suffix}"
    assert command(["trace", str(folder), "--row", "3", "--out", str(file)]) == 0
    assert str(file) in capsys.readouterr().out and file.stat().st_size > 500
    assert command(["trace", str(folder), "--row", "3", "--out", str(file)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_text_and_json_on_the_screen(folder, capsys):
    assert command(["trace", str(folder), "--row", "0", "--part", "train"]) == 0
    assert "row 0 of the train part: loss = " in capsys.readouterr().out
    assert command(["trace", str(folder), "--row", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["of"] == "loss"


def test_the_first_number_that_is_not_finite(broken, capsys):
    run = derin.load(broken)
    found = first_not_finite(run)
    assert found.phase in ("forward", "backward") and found.operation is not None and found.layer
    assert found.operation.source.file.startswith("derin/")
    values = [*found.operation.inputs, *found.operation.outputs]
    bad = found.share.product if found.share else found.operation.output.array
    assert not np.isfinite(np.asarray(bad)).all() and all(
        v.name in found.to_text() for v in values if v.kind != "constant"
    )
    assert command(["trace", str(broken), "--nan"]) == 0
    out = capsys.readouterr().out
    assert (
        f"epoch {found.epoch}, step {found.step} of" in out and found.operation.operation in out and "not finite" in out
    )
    assert command(["trace", str(broken), "--nan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layer"] == found.layer


def test_it_names_the_operation_of_a_layer_of_ones_own(tmp_path):
    net = nn.Sequential(nn.Linear(4), Logarithm(), nn.Linear(3))
    with pytest.raises(TrainingFailed):
        derin.fit(net, derin.data.load("iris"), epochs=2, out=tmp_path / "log", progress=False)
    found = first_not_finite(derin.load(tmp_path / "log"))
    assert (found.epoch, found.step, found.phase, found.layer, found.operation.operation) == (
        1,
        1,
        "forward",
        "1",
        "log",
    )
    assert found.operation.source.text == "return jnp.log(x)" and "log(-" in found.to_text()


def test_a_bare_layers_weight_is_not_the_weight_of_the_rows():
    x = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)  # 70 in training: the last batch is padded
    with pytest.raises(TrainingFailed) as failed:
        derin.fit(nn.Linear(1), (x, x @ np.float32([1, 2, 3])), optimizer=optim.SGD(1e6), batch_size=32, progress=False)
    found = first_not_finite(failed.value.run)
    trace = found.trace
    assert found.phase in ("forward", "backward", "update") and set(trace.gradients) == {"weight", "bias"}
    assert trace.by["weight"].shape == (1, 3)
    assert [v.shape for v in trace.arguments if v.name == "row weights"] == [(32,)]


def test_a_loop_whose_second_output_is_not_finite(tmp_path):
    net = nn.Sequential(nn.Linear(4), Halved(), nn.Linear(3))
    with pytest.raises(TrainingFailed):
        derin.fit(net, derin.data.load("iris"), epochs=2, out=tmp_path / "run", progress=False)
    found = first_not_finite(derin.load(tmp_path / "run"))
    end, seen = found.operation.outputs
    assert found.phase == "forward" and found.operation.operation == "scan" and end.is_finite and not seen.is_finite
    assert f"{seen.name} = " in found.to_text() and "nan" in found.to_text()


def test_refusals(folder, capsys):
    run = derin.load(folder)
    for row in (-1, 1000, "3"):
        with pytest.raises(DataError, match=r"the test part has rows 0 to \d+, counted from 0; got row"):
            trace_row(run, row)
    with pytest.raises(DataError, match="part must be"):
        trace_row(run, 0, "all")
    with pytest.raises(RunError, match=r"this run did not fail \(finished\)"):
        first_not_finite(run)
    for arguments, says in (
        ([], "give --row N"),
        (["--row", "1", "--nan"], "give --row N"),
        (["--row", "1", "--out", "a.pdf"], "must end in one of"),
        (["--row", "1", "--form", "long"], "form must be"),
        (["--nan"], "did not fail"),
    ):
        assert command(["trace", str(folder), *arguments]) == 2
        assert says in capsys.readouterr().err
    with pytest.raises(SpecError):
        trace_row(run, 0).to_text(form="x")
