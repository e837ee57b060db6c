"""A run that was killed and resumed ends in the same bits as one that was never stopped."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import derin
from derin import nn, optim
from derin.engine import checkpoint
from derin.errors import RunError

TRAIN = """
import sys, time
import numpy as np
import derin, derin.engine.training as training
from derin import nn, optim

out, pause = sys.argv[1], float(sys.argv[2])
training.SAVE_EVERY = 0.0
rng = np.random.default_rng(0)
X = rng.normal(size=(150, 6)).astype("float32")
data = derin.data.load((X, X[:, 0] * X[:, 1] > 0), seed=1)

def slowly(report):
    time.sleep(pause)

import os
if os.path.exists(out):
    run = derin.load(out)
    print("ready", flush=True)
    run.resume(data, progress=False, callbacks=[slowly])
else:
    net = nn.Sequential(nn.Linear(16, bias=False), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.2), nn.Linear(1))
    print("ready", flush=True)
    derin.fit(net, data, out=out, epochs=40, batch_size=32, optimizer=optim.AdamW(0.01), progress=False,
              schedule=optim.CosineAnnealingLR(), callbacks=[slowly],
              early_stopping=derin.EarlyStopping(patience=40, monitor="accuracy"))
print("done", flush=True)
"""


def training(script: Path, out: Path, pause: float) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(script), str(out), str(pause)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def bits(run: Path) -> dict[str, bytes]:
    """Every array of the last checkpoint and the history, as bytes."""
    arrays, _ = checkpoint.load(checkpoint.newest(run / "checkpoints"))
    return {k: v.tobytes() for k, v in arrays.items()} | {"history": (run / "history.jsonl").read_bytes()}


@pytest.mark.slow
def test_killed_twenty_times_the_bits_are_the_same(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    whole = tmp_path / "whole"
    process = training(script, whole, 0)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    want = bits(whole)
    assert len(want["history"].splitlines()) == 40
    moment, kills, finished = random.Random(5), 0, 0
    while kills < 20 or not finished:
        out = tmp_path / f"run{finished}"
        process = training(script, out, 0.02)
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        if kills < 20:
            time.sleep(moment.uniform(0.0, 1.6))
            process.kill()
            kills += process.wait() != 0
        said, errors = process.communicate(timeout=300)
        if process.returncode == 0:
            assert "done" in said and bits(out) == want
            assert not list(out.parent.glob(f".{out.name}-*")), "a half-made run folder was left behind"
            finished += 1
        else:
            assert process.returncode < 0, errors
    assert kills == 20


def small(out=None, epochs=4, **fields):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3)).astype("float32")
    data = derin.data.load((x, x[:, 0] > 0))
    fields = {"optimizer": optim.Adam(0.01), "progress": False} | fields
    return derin.fit(nn.MLP((8,), out=1), data, out=out, epochs=epochs, **fields), data


def test_a_loaded_run_is_the_run(tmp_path):
    run, data = small(tmp_path / "run", early_stopping=derin.EarlyStopping(2))
    back = derin.load(tmp_path / "run")
    assert back.history == run.history and back.experiment == run.experiment and back.schema == run.schema
    assert back.best_epoch == run.best_epoch and back.stopped == run.stopped
    assert all(np.array_equal(back.params[k], run.params[k]) for k in run.params)
    assert np.array_equal(back.predict_proba(data.test.x), run.predict_proba(data.test.x))
    assert (tmp_path / "run" / "experiment.json").is_file()


def test_stopping_and_going_on_is_not_stopping(tmp_path):
    whole, data = small(epochs=6)
    half, _ = small(tmp_path / "run", epochs=6, callbacks=[lambda r: "stop" if r.epoch == 3 else None])
    assert len(half.history) == 3
    loaded = derin.load(tmp_path / "run")
    on = loaded.resume(data, progress=False)
    assert on.history == whole.history and len(loaded.history) == 3
    assert loaded.predict_proba(data.test.x).shape == (12, 2)  # the loaded run is as it was
    assert all(np.array_equal(on.params[k], whole.params[k]) for k in whole.params)
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == 6


def test_a_finished_run_can_be_trained_longer(tmp_path):
    _, data = small(tmp_path / "run", epochs=3)
    longer = derin.load(tmp_path / "run").resume(data, epochs=5, progress=False)
    whole, _ = small(epochs=5)
    assert longer.history == whole.history
    journal = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    assert journal[0]["path"] == "epochs" and (journal[0]["old"], journal[0]["new"]) == (3, 5)
    assert derin.load(tmp_path / "run").experiment.epochs == 5


def test_a_run_that_fails_keeps_its_last_good_epoch(tmp_path):
    """The learning rate explodes in the fourth epoch: the checkpoint is the third's, and the run can be used."""
    fields = {"optimizer": optim.SGD(0.1), "schedule": optim.StepLR(3, gamma=1e30), "batch_size": 16}
    with pytest.raises(derin.TrainingFailed, match=r"failed in epoch 4, step \d"):
        small(tmp_path / "run", epochs=9, **fields)
    back = derin.load(tmp_path / "run")
    whole, _ = small(epochs=9, callbacks=[lambda r: "stop" if r.epoch == 3 else None], **fields)
    assert back.stopped == "failed" and back.history == whole.history
    assert all(np.array_equal(back.params[k], whole.params[k]) for k in whole.params)


def test_a_save_that_is_killed_between_two_renames_loses_nothing(tmp_path, monkeypatch):
    run, _ = small(tmp_path / "run")
    folder, before = tmp_path / "run" / "checkpoints", bits(tmp_path / "run")
    rename, calls = checkpoint.os.rename, []

    def killed(a, b):
        calls.append(a)
        if len(calls) == 2:  # the old one stands aside, the new one has no name yet
            raise SystemExit
        rename(a, b)

    monkeypatch.setattr(checkpoint.os, "rename", killed)
    with pytest.raises(SystemExit):
        checkpoint.save(folder, 4, run.carry, {"status": "again"})
    monkeypatch.undo()
    assert not list(folder.glob("epoch-*"))
    assert bits(tmp_path / "run") == before and len(derin.load(tmp_path / "run").history) == 4
    (folder / ".epoch-000004-left").mkdir()  # what a process leaves that is killed while it writes
    checkpoint.save(folder, 4, run.carry, {"status": "again"})
    assert [p.name for p in folder.iterdir()] == ["epoch-000004"]


def test_labels_and_units_are_part_of_the_data():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 2)), rng.normal(size=40)
    cats = np.where(y > 0, "cat", "dog")
    prints = [derin.data.load(pair).fingerprint for pair in [(x, y), (x, 2 * y), (2 * x, y), (x, cats), (x, y)]]
    assert len(set(prints)) == 4 and prints[0] == prints[4]


def test_fewer_epochs_than_are_done_are_refused(tmp_path):
    _, data = small(tmp_path / "run")
    with pytest.raises(RunError, match="has 4 epochs behind it"):
        derin.load(tmp_path / "run").resume(data, epochs=2)


def test_other_data_are_refused(tmp_path):
    small(tmp_path / "run")
    rng = np.random.default_rng(1)
    other = derin.data.load((rng.normal(size=(80, 3)).astype("float32"), rng.normal(size=80) > 0))
    with pytest.raises(RunError, match="not the data of the run"):
        derin.load(tmp_path / "run").resume(other)
    with pytest.raises(RunError, match="arrays in memory"):
        derin.load(tmp_path / "run").resume()


def damage(run: Path, how: str) -> None:
    last = checkpoint.newest(run / "checkpoints")
    file, manifest = last / "training.safetensors", last / "manifest.json"
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif how == "edited":
        blob = bytearray(file.read_bytes())
        blob[-5] ^= 1
        file.write_bytes(bytes(blob))
    elif how == "gone":
        file.unlink()
    elif how == "manifest":
        manifest.write_text("{")
    elif how == "newer":
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    elif how == "net":
        text = (run / "experiment.json").read_text()
        (run / "experiment.json").write_text(text.replace("[\n      8\n    ]", "[\n      9\n    ]"))
    elif how == "experiment":
        (run / "experiment.json").write_text("{")
    elif how == "data":
        (run / "data.json").write_text("[]")
    elif how == "history":
        (run / "history.jsonl").write_text("")
    elif how == "history line":
        (run / "history.jsonl").write_text("{\n")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("truncated", "truncated or was edited"),
        ("edited", "truncated or was edited"),
        ("gone", "training.safetensors cannot be read: No such file"),
        ("manifest", "manifest.json is damaged"),
        ("newer", "has format 99; this derin reads format 1"),
        ("net", "'params/hidden.0.weight' is float32[8, 3], this net needs float32[9, 3]"),
        ("experiment", "this is not JSON"),
        ("data", "data.json is damaged"),
        ("history", "has 0 lines, and the checkpoint is of epoch 4"),
        ("history line", "damaged in line 1"),
    ],
)
def test_a_damaged_run_says_what_is_wrong(tmp_path, how, words):
    small(tmp_path / "run")
    damage(tmp_path / "run", how)
    with pytest.raises(derin.DerinError) as error:
        derin.load(tmp_path / "run")
    assert words in str(error.value)


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path, monkeypatch):
    run, _ = small(tmp_path / "run", epochs=3)
    before = bits(tmp_path / "run")

    def full(path, data):
        Path(path).write_bytes(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_synced", full)
    with pytest.raises(RunError, match="No space left on device"):
        checkpoint.save(tmp_path / "run" / "checkpoints", 4, run.carry, {})
    monkeypatch.undo()
    assert bits(tmp_path / "run") == before
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["epoch-000003"]
    assert derin.load(tmp_path / "run").history == run.history


def test_a_run_folder_is_never_written_over(tmp_path):
    small(tmp_path / "run")
    before = bits(tmp_path / "run")
    with pytest.raises(RunError, match="exists already"):
        small(tmp_path / "run")
    assert bits(tmp_path / "run") == before
    with pytest.raises(RunError, match="there is no run at"):
        derin.load(tmp_path / "rum")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="cannot write"):
        small(tmp_path / "file" / "run")


def test_a_run_made_elsewhere_is_warned_of(tmp_path):
    _, data = small(tmp_path / "run")
    manifest = checkpoint.newest(tmp_path / "run" / "checkpoints") / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"here": {"jaxlib": "0.0.1"}}))
    run = derin.load(tmp_path / "run")
    with pytest.warns(UserWarning, match=r"jaxlib was 0\.0\.1"):
        run.resume(data, epochs=5, progress=False)


def test_export_is_torchs_state_dict(tmp_path):
    import torch
    from safetensors.torch import load_file

    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3)).astype("float32")
    data = derin.data.load((x, x[:, 0] > 0))
    net = nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(1))
    run = derin.fit(net, data, epochs=2, progress=False)
    run.export(tmp_path / "net.safetensors")
    twin = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    twin.load_state_dict(load_file(tmp_path / "net.safetensors"))
    p = torch.sigmoid(twin(torch.from_numpy(data.test.x)))[:, 0].detach().numpy()
    assert np.allclose(run.predictor()(data.test.x)[:, 1], p, atol=1e-5)


def test_a_run_kept_in_memory_can_be_saved(tmp_path):
    run, data = small()
    run.save(tmp_path / "later")
    back = derin.load(tmp_path / "later")
    assert back.history == run.history
    assert back.resume(data, epochs=6, progress=False).history == small(epochs=6)[0].history


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent another way there")
def test_interrupt_in_a_streamed_epoch_finishes_the_chunk(tmp_path, monkeypatch):
    """Ctrl-C between two chunks keeps the steps done, and resuming ends in the bits of a run never stopped."""
    from derin.data import stream
    from derin.engine import training

    monkeypatch.setattr(training, "CHUNK_BYTES", 2000)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 5)).astype("float32")
    data = derin.data.load((X, X[:, 0] > 0), memory_budget=100, cache=tmp_path / "cache")
    experiment = derin.Experiment(
        nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(1)), epochs=3, batch_size=16
    )
    experiment.fit(data, out=tmp_path / "whole", progress=False)
    read, passed = stream.chunks, []

    def chunks_and_ctrl_c(*args):
        for chunk in read(*args):
            passed.append(chunk)
            yield chunk
            if len(passed) in (1, 4):
                signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts the tests may ignore it
    try:
        monkeypatch.setattr(stream, "chunks", chunks_and_ctrl_c)
        run = experiment.fit(data, out=tmp_path / "run", progress=False)
        stops = 0
        while run.stopped == "interrupted":
            stops += 1
            assert 0 < len(run.begun) < 14 and int(run.carry.epoch) == len(run.history)
            assert derin.load(tmp_path / "run").begun == run.begun
            run = derin.load(tmp_path / "run").resume(data, progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert stops == 2 and run.stopped == "finished"
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")
