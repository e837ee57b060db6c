"""Every optimiser in a run: what it remembers is saved, and a resumed run ends in the same bits."""

import numpy as np
import pytest
from test_optim_rules import KINDS

import derin
from derin import nn
from derin.engine import checkpoint
from derin.errors import SpecError
from derin.optim import LBFGS


def data_of(rows: int = 24):
    x = np.random.default_rng(0).normal(size=(rows, 3)).astype("float32")
    return derin.data.load((x, x[:, 0] * x[:, 1] + x[:, 2]), valid=0.0, test=0.0)


def bits(folder) -> dict[str, bytes]:
    arrays, _ = checkpoint.load(checkpoint.newest(folder / "checkpoints"))
    return {name: a.tobytes() for name, a in arrays.items()}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", KINDS, ids=lambda o: type(o).__name__)
def test_one_epoch_and_two_are_three(optimizer, tmp_path):
    data, net = data_of(), nn.Sequential(nn.Linear(4), nn.Tanh(), nn.Linear(1))
    options = {"optimizer": optimizer, "epochs": 3, "batch_size": "full", "progress": False}
    whole = derin.fit(net, data, out=tmp_path / "whole", **options)
    derin.fit(net, data, out=tmp_path / "halves", callbacks=[lambda r: "stop" if r.epoch == 1 else None], **options)
    halves = derin.load(tmp_path / "halves").resume(data, progress=False)
    assert halves.history == whole.history and len(whole.history) == 3
    want = bits(tmp_path / "whole")
    assert bits(tmp_path / "halves") == want and any(name.startswith("optimizer/") for name in want)
    assert whole.history[-1]["loss"] < whole.history[0]["loss"]


def test_lbfgs_refuses_batches(tmp_path):
    words = 'LBFGS compares the gradients of its steps.*give batch_size="full", got batch_size=64. AdamW'
    with pytest.raises(SpecError, match=words):
        derin.fit(nn.Linear(1), data_of(), optimizer=LBFGS(), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
