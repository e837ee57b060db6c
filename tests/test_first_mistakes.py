"""What a person writes who comes from PyTorch, or for the first time, and what is said then."""

from pathlib import Path

import numpy as np
import pytest

import derin
from derin import nn, optim, spec
from derin.cli import run as command
from derin.errors import DataError, ModelError, SpecError

X = np.random.default_rng(0).normal(size=(40, 6))
Y = X[:, 0]


def fit(net, x=X, y=Y, **fields):
    return derin.fit(net, (x, y), epochs=1, progress=False, **fields)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: optim.Adam(lr=0.1), SpecError, "Adam has no field 'lr'. It is called 'learning_rate' here."),
        (lambda: nn.Dropout(p=0.1), SpecError, "Dropout has no field 'p'. It is called 'rate' here."),
        (lambda: nn.Linear(out_features=3), SpecError, "It is called 'features' here."),
        (lambda: nn.Conv2d(in_channels=3), SpecError, "Leave it out: a layer sees its input's size."),
        (lambda: nn.Linear(784, 10), SpecError, "A layer sees its input's size; give the outputs only: Linear(10)."),
        (lambda: spec.parse("Sequential(Relu())"), SpecError, "no spec is called 'Relu'. Nearest: ReLU"),
        (lambda: spec.parse("nn.Linear(3)"), SpecError, "'nn.Linear(3)' cannot be read; write it like Linear(3)."),
        (lambda: spec.parse("adam(1)(2)"), SpecError, "write it like AdamW(learning_rate=1e-3)."),
        (lambda: fit([nn.Linear(1)]), SpecError, "got (Linear(1),) (tuple). Write Sequential(...)."),
        (
            lambda: fit(nn.Sequential(nn.Conv1d(8, 3), nn.Flatten(), nn.Linear(1))),
            ModelError,
            "Conv1d needs an input [batch, length, channels], got shape (2, 6). Unflatten(1, (-1, 1)) in front of it",
        ),
        (
            lambda: fit(nn.Sequential(nn.LSTM(4), nn.Linear(1)), X[..., None]),
            ModelError,
            "Is a Flatten() missing, or LastStep(...) around a recurrent layer?",
        ),
        (lambda: fit(nn.Linear(1), [[1.0], [1.0, 2.0]] * 20), DataError, "needs the same length: pad short ones."),
    ],
)
def test_message(wrong, error, message):
    with pytest.raises(error) as caught:
        wrong()
    assert message in str(caught.value)


def test_what_the_messages_advise_works():
    series = nn.Sequential(nn.Unflatten(1, (-1, 1)), nn.Conv1d(4, 3), nn.Flatten(), nn.Linear(1))
    assert fit(series).predict(X).shape == (40,)
    image = nn.Sequential(nn.Unflatten(2, (-1, 1)), nn.Conv2d(2, 3))
    assert image.look(np.zeros((2, 5, 6), np.float32))[1][""].shape == (2, 3, 4, 2)


class Infinite(nn.Module):
    def forward(self, x):
        return x * 1e30 * 1e30


def test_a_range_test_that_cannot_begin_says_so():
    found = derin.lr_range_test(nn.Sequential(nn.Linear(1), Infinite()), (X, Y), optimizer=optim.SGD(), steps=10)
    assert found.suggestion is None and "not finite at the first step" in str(found)


def test_a_range_test_that_diverges_ends_there():
    found = derin.lr_range_test(nn.Linear(1), (X, Y), optimizer=optim.SGD(), high=1e30, steps=100)
    assert found.rates[-1] < 1e3 and np.isfinite(found.losses).all() and 1e-4 < found.suggestion < 1


def test_evaluate_says_whose_scores_it_shows(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"{a:.3f},{b:.3f},{'yes' if a + b > 0 else 'no'}" for a, b in X[:, :2].repeat(2, 0)]
    Path("set.csv").write_text("\n".join(["a,b,answer", *rows]) + "\n")
    assert command(["fit", "set.csv", "--target", "answer", "--net", "mlp:4", "--epochs", "1", "--out", "run"]) == 0
    assert command(["threshold", "run", "--for", "recall=0.9"]) == 0
    capsys.readouterr()
    assert command(["evaluate", "run"]) == 0
    assert "of the more probable class; derin predict says yes from p = " in capsys.readouterr().out
