"""A run is changed while it trains, from another process; by its journal it comes to the same bits again."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import derin
from derin import nn, optim
from derin.cli import run as command
from derin.engine import checkpoint, journal
from derin.engine.again import differences
from derin.engine.programs import _programs
from derin.engine.wheel import Here, Wheel
from derin.errors import RunError, SpecError

TRAINER = """
import sys, time
import derin
from derin import nn, optim
from derin.engine.programs import _programs

out, table = sys.argv[1:]
counts = set()

def slowly(report):
    time.sleep(0.02)
    counts.add(len(_programs))

data = derin.data.load(table, target="y")
net = nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(1))
run = derin.fit(net, data, out=out, epochs=10**6, batch_size=32, optimizer=optim.Adam(0.01), progress=False,
                callbacks=[slowly])
print(run.stopped, len(counts), flush=True)
"""


def table(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3))
    rows = [f"{a:.4f},{b:.4f},{c:.4f},{'yes' if a * b + c > 0 else 'no'}" for a, b, c in x]
    (folder / "rows.csv").write_text("\n".join(["a,b,c,y", *rows]) + "\n")
    return folder / "rows.csv"


def small(tmp_path, out="run", epochs=6, callbacks=(), **fields):
    data = derin.data.load(table(tmp_path), target="y")
    net = nn.Sequential(nn.Linear(8), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.2), nn.Linear(1))
    fields = {"optimizer": optim.Adam(0.01), "batch_size": 32, "schedule": optim.CosineAnnealingLR()} | fields
    out = tmp_path / out if out else None
    return derin.fit(net, data, out=out, epochs=epochs, callbacks=callbacks, progress=False, **fields)


def asking(at: dict[int, tuple]):
    """A callback that asks for changes after these epochs, as another process would."""

    def callback(report):
        for path, value in at.get(report.epoch, ()):
            journal.ask(report.path, "set", path, value, "tried", "test")

    return callback


CHANGES = {
    2: [("optimizer.learning_rate", 0.003), ("net.layers.3.rate", 0.5)],
    4: [("optimizer.betas.0", 0.8), ("epochs", 8)],
}


def until(true, seconds=180.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_another_process_has_a_hand_on_the_wheel(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("derin.cli.sitting.WAIT", 180.0)
    out = tmp_path / "run"
    (tmp_path / "train.py").write_text(TRAINER)
    words = [sys.executable, str(tmp_path / "train.py"), str(out), str(table(tmp_path))]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: process.poll() is None and out.is_dir() and len((out / "history.jsonl").read_text()) > 200)
        run = derin.load(out)

        # numbers change, from Python and from the command line
        run.set("optimizer.learning_rate", 0.003, reason="it jumps")
        until(lambda: run.journal)
        (line,) = run.journal
        assert (line["path"], line["old"], line["new"]) == ("optimizer.learning_rate", 0.01, 0.003)
        assert line["reason"] == "it jumps" and line["by"] == "run.set" and line["time"].endswith("Z")
        assert line["step"] == 3 * line["epoch"] > 0
        assert command(["set", str(out), "net.layers.2.rate=0.3", "--reason", "more"]) == 0
        assert "net.layers.2.rate: 0.1 -> 0.3 after step" in capsys.readouterr().out

        # it waits, is changed while it waits, goes on
        assert command(["pause", str(out)]) == 0 and command(["status", str(out)]) == 0
        said = capsys.readouterr().out
        assert f"{out}: paused, process {process.pid}" in said and "it jumps" in said
        stands = (out / "history.jsonl").read_bytes()
        assert command(["set", str(out), "optimizer.learning_rate=0.001"]) == 0
        assert (out / "history.jsonl").read_bytes() == stands and run.journal[-1]["new"] == 0.001
        assert command(["continue", str(out)]) == 0
        until(lambda: (out / "history.jsonl").read_bytes() != stands)

        # structure does not change, and two do not write
        capsys.readouterr()
        assert command(["set", str(out), "batch_size=16"]) == 2
        assert f'derin fit --from {out} --set "batch_size=16"' in capsys.readouterr().err
        for write in (derin.load(out).resume, lambda: derin.load(out).choose_threshold("f1")):
            with pytest.raises(RunError, match=f"process {process.pid} is writing to the run in .*: wait for it"):
                write()
        assert command(["branch", str(out), "--set", "optimizer.learning_rate=0.002", "--epochs", "2"]) == 0
        assert "with optimizer.learning_rate = 0.002" in capsys.readouterr().out

        # it stops, with all its changes and no more programs than before
        assert command(["stop", str(out)]) == 0
        said, errors = process.communicate(timeout=180)
        assert said.split() == ["stopped", "1"], errors
    finally:
        process.kill()
        process.communicate()
    run = derin.load(out)
    assert run.stopped == "stopped" and run.experiment.optimizer.learning_rate == 0.001
    assert [line["kind"] for line in run.journal] == ["set", "set", "pause", "set", "continue", "stop"]
    assert differences(run, derin.replay(out, progress=False)) == []


def test_killed_after_a_change_the_bits_are_the_same(tmp_path, capsys):
    out = tmp_path / "run"
    (tmp_path / "train.py").write_text(TRAINER)
    words = [sys.executable, str(tmp_path / "train.py"), str(out), str(table(tmp_path))]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        until(lambda: out.is_dir() and len((out / "history.jsonl").read_text()) > 200)
        derin.load(out).set("optimizer.learning_rate", 0.002)
        until(lambda: journal.read(out))
        time.sleep(0.1)
        process.kill()
        process.wait()
    finally:
        process.kill()
        process.communicate()
    run = derin.load(out)
    assert run.experiment.optimizer.learning_rate == 0.002
    assert command(["status", str(out)]) == 0
    run.set("epochs", len(run.history) + 4)  # nobody trains it: it waits for the one who will
    assert command(["status", str(out)]) == 0
    assert f"asked    epochs = {len(run.history) + 4}, not done yet" in capsys.readouterr().out
    went_on = run.resume(progress=False)
    assert went_on.experiment.epochs == len(went_on.history) == len(run.history) + 4
    assert differences(went_on, derin.replay(out, progress=False)) == []


def test_a_run_that_failed_is_set_right_and_goes_on(tmp_path):
    with pytest.raises(derin.TrainingFailed):
        small(tmp_path, epochs=6, optimizer=optim.SGD(1e30), schedule=optim.Constant())
    run = derin.load(tmp_path / "run")
    assert run.stopped == "failed"
    run.set("optimizer.learning_rate", 0.05, "it diverged")
    on = run.resume(progress=False)
    assert len(on.history) == 6 and np.isfinite(on.history[-1]["loss"])
    assert differences(on, derin.replay(on, progress=False)) == []


def test_a_change_compiles_nothing_and_is_replayed_to_the_bit(tmp_path):
    plain = small(tmp_path, "plain")
    programs = {*_programs}
    run = small(tmp_path, callbacks=[asking(CHANGES)])
    assert {*_programs} == programs and len(run.history) == 8
    lines = run.journal
    assert [(line["epoch"], line["step"], line["path"]) for line in lines] == [
        (2, 6, "optimizer.learning_rate"),
        (2, 6, "net.layers.3.rate"),
        (4, 12, "optimizer.betas.0"),
        (4, 12, "epochs"),
    ]
    assert run.history[:2] == plain.history[:2] and run.history[2:6] != plain.history[2:]
    again = derin.replay(run, out=tmp_path / "again", progress=False)
    assert differences(run, again) == [] and again.stopped == "finished"
    keep = ("step", "path", "old", "new", "reason", "by")
    assert [[line[k] for k in keep] for line in again.journal] == [[line[k] for k in keep] for line in lines]
    assert differences(derin.load(tmp_path / "again"), derin.replay(tmp_path / "again", progress=False)) == []
    assert command(["replay", str(run.path), "--quiet"]) == 0


def test_resumed_in_the_middle_of_its_changes(tmp_path):
    whole = small(tmp_path, callbacks=[asking(CHANGES)])
    small(tmp_path, "half", callbacks=[asking(CHANGES), lambda r: "stop" if r.epoch == 3 else None])
    half = derin.load(tmp_path / "half")
    assert len(half.history) == 3 and half.experiment.optimizer.learning_rate == 0.003
    on = half.resume(callbacks=[asking(CHANGES)], progress=False)
    assert differences(whole, on) == []


def test_a_change_in_the_middle_of_an_epoch_that_streams(tmp_path, monkeypatch):
    from derin.data import stream
    from derin.engine import training

    out, chunks, count = tmp_path / "run", stream.chunks, 0

    def asked(*args):
        nonlocal count
        for chunk in chunks(*args):
            count += 1
            if count == 8 and out.is_dir():
                journal.ask(out, "set", "optimizer.learning_rate", 0.3)
            yield chunk

    monkeypatch.setattr(training, "CHUNK_BYTES", 3 * 4 * 16)
    monkeypatch.setattr(stream, "chunks", asked)
    options = {"target": "y", "memory_budget": 0}
    data = derin.data.load(table(tmp_path), **options)
    fields = {"epochs": 4, "batch_size": 16, "optimizer": optim.SGD(0.1), "progress": False}
    derin.fit(nn.MLP((8,), out=1), data, **fields)
    programs, count = {*_programs}, 0
    run = derin.fit(nn.MLP((8,), out=1), data, out=out, **fields)
    assert {*_programs} == programs
    (line,) = run.journal
    assert line["epoch"] == 1 and line["step"] == 8  # of 6 steps an epoch
    assert differences(run, derin.replay(out, progress=False)) == []
    assert differences(derin.rewind(run, 2, progress=False), derin.replay(out, progress=False)) != []
    assert [a == b for a, b in zip(derin.load(tmp_path / "run-epoch-2").history, run.history, strict=False)] == [
        True
    ] * 2
    resident = derin.data.load(table(tmp_path), target="y")
    with pytest.raises(RunError, match=r"does not fit its run: at step 8 .* no chunk of this training ends there"):
        derin.replay(out, resident, progress=False)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("epoch", [0, 2, 3, 5, 8])
def test_rewind(tmp_path, epoch, kept):
    import shutil

    run = small(tmp_path, callbacks=[asking(CHANGES)])
    if not kept:
        shutil.rmtree(run.path / "turns")
    early = derin.rewind(run, epoch, progress=False)
    assert early.path == tmp_path / f"run-epoch-{epoch}" and early.history == run.history[:epoch]
    loaded = derin.load(early.path)
    assert differences(early, loaded) == [] and loaded.experiment.optimizer.learning_rate == (
        0.003 if epoch > 2 else 0.01
    )
    assert loaded.experiment.epochs == (8 if epoch > 4 else 6)
    later = {e: c for e, c in CHANGES.items() if e >= epoch}
    for path, value in later.pop(epoch, ()):
        loaded.set(path, value)
    assert differences(run, loaded.resume(callbacks=[asking(later)], progress=False)) == []
    assert differences(run, derin.replay(early.path, progress=False)) == []


def test_rewind_refuses(tmp_path, capsys):
    run = small(tmp_path, epochs=2)
    for epoch in (-1, 3, True):
        with pytest.raises(RunError, match="has 2 epochs behind it, so epoch is 0 to that"):
            derin.rewind(run, epoch)
    assert command(["rewind", str(run.path), "--epoch", "1", "--quiet"]) == 0
    assert command(["rewind", str(run.path), "--epoch", "1"]) == 2
    assert "run-epoch-1 exists already" in capsys.readouterr().err
    with pytest.raises(RunError, match="a run in memory has no journal"):
        derin.replay(small(tmp_path, None, epochs=1))


def test_branch_tries_and_adopts(tmp_path, capsys):
    small(tmp_path, epochs=9, optimizer=optim.Adam(1e-5), callbacks=[lambda r: "stop" if r.epoch == 2 else None])
    run = derin.load(tmp_path / "run")
    before = sorted(p.name for p in run.path.rglob("*"))
    found = derin.branch(run, {"optimizer.learning_rate": 0.03}, epochs=3)
    assert (found.first, found.epochs, found.metric, found.better) == (2, 3, "valid_loss", True)
    assert sorted(p.name for p in run.path.rglob("*")) == before and run.journal == []
    went_on = derin.rewind(run, 2, tmp_path / "copy", progress=False).resume(progress=False)
    assert found.without == went_on.history[2:5]
    assert "better by valid_loss" in repr(found)
    words = ["branch", str(run.path), "--epochs", "3", "--set"]
    assert command([*words, "optimizer.learning_rate=1e-7", "--adopt"]) == 0
    assert "not adopted" in capsys.readouterr().out
    assert command([*words, "optimizer.learning_rate=0.03", "--adopt"]) == 0
    on = derin.load(run.path).resume(progress=False)
    assert on.history[2:5] == found.with_ and on.journal[-1]["reason"].startswith("tried for 3 epochs: valid_loss")
    with pytest.raises(SpecError, match="branch wants a dict of changes"):
        derin.branch(run, "optimizer.learning_rate=0.1")
    with pytest.raises(SpecError, match="epochs must be 1 or more"):
        derin.branch(run, {"optimizer.learning_rate": 0.1}, epochs=0)


@pytest.mark.parametrize(("last", "change"), [(6, ("optimizer.learning_rate", 0.5)), (4, ("epochs", 4))])
def test_a_change_in_the_last_epoch_leaves_a_finished_run(tmp_path, last, change):
    run = small(tmp_path, callbacks=[asking({last: [change]})])
    assert run.stopped == "finished" and len(run.history) == last
    assert [line["kind"] for line in run.journal] == ["set"]
    assert run.folder.status() == "finished" and derin.load(run.path).stopped == "finished"
    assert differences(run, derin.replay(run, progress=False)) == []


def test_a_change_while_it_is_paused_leaves_it_paused(tmp_path):
    run = small(tmp_path, epochs=2)
    wheel, saved = Wheel(run.folder), []
    for kind, *what in [("pause",), ("set", "optimizer.learning_rate", 0.5), ("continue",)]:
        journal.ask(run.path, kind, *what)
    wheel.turn(run.experiment, Here(6, 2, saved.append, print, ()))
    assert saved == ["paused", "paused", "running"]


def test_branch_of_a_run_that_failed(tmp_path, capsys):
    with pytest.raises(derin.TrainingFailed):
        small(tmp_path, optimizer=optim.SGD(1e30), schedule=optim.Constant())
    found = derin.branch(tmp_path / "run", {"optimizer.learning_rate": 0.05}, epochs=2)
    assert found.better and found.epochs == len(found.without) == len(found.with_) == 2
    assert np.isnan(found.without[-1]["valid_loss"]) and np.isfinite(found.with_[-1]["valid_loss"])
    assert "better by valid_loss" in repr(found)
    words = ["branch", str(tmp_path / "run"), "--epochs", "2", "--set"]
    assert command([*words, "optimizer.learning_rate=1e29", "--adopt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["better"] is False
    assert command([*words, "optimizer.learning_rate=0.05", "--adopt"]) == 0
    assert len(derin.load(tmp_path / "run").resume(progress=False).history) == 6


def test_a_replay_that_fails_leaves_no_folder(tmp_path):
    run = small(tmp_path, callbacks=[asking({2: [("optimizer.learning_rate", 0.003)]})], epochs=4)
    file = run.path / "journal.jsonl"
    line = json.loads(file.read_text())
    file.write_text(json.dumps(line | {"step": 5}) + "\n")  # no epoch ends there
    for _ in range(2):
        with pytest.raises(RunError, match="does not fit its run"):
            derin.replay(run, out=tmp_path / "deep" / "again", progress=False)
    assert not (tmp_path / "deep").exists()


# -- a new run from these weights


def test_a_run_starts_from_anothers_weights(tmp_path, capsys):
    run = small(tmp_path, epochs=3)
    still = small(tmp_path, "still", epochs=1, optimizer=optim.SGD(1e-12), start=run)
    assert all(np.array_equal(still.params[n], run.params[n]) for n in run.params)
    assert all(not a.is_deleted() for a in jax.tree.leaves(run.carry))
    assert still.journal[0]["kind"] == "start" and str(run.path) in still.journal[0]["reason"]
    assert differences(still, derin.replay(still, progress=False)) == []
    on = small(tmp_path, None, epochs=1, start=run.path, batch_size=16)
    assert on.history[0]["loss"] < run.history[0]["loss"]
    on.save(tmp_path / "saved")
    assert differences(on, derin.replay(tmp_path / "saved", progress=False)) == []
    # what the message offers
    assert command(["set", str(run.path), "batch_size=16"]) == 2
    assert "is finished (all 3 epochs are done)" in capsys.readouterr().err
    offer = ["fit", "--from", str(run.path), "--set", "batch_size=16", "--out", str(tmp_path / "offer"), "--quiet"]
    assert command(offer) == 0
    offered = derin.load(tmp_path / "offer")
    assert offered.experiment == run.experiment.replace(batch_size=16)
    assert differences(offered, derin.replay(offered, progress=False)) == []


def test_starting_from_a_net_that_is_not_alike(tmp_path):
    run = small(tmp_path, epochs=1)
    data = run.reload_data()
    other = run.experiment.replace(net=nn.Sequential(nn.Linear(8), nn.BatchNorm(), nn.ReLU(), nn.Linear(1)))
    with pytest.warns(
        UserWarning, match=r"2 of 8 arrays are drawn anew, the run has none like them: 3\.bias, 3\.weight"
    ):
        other.fit(data, start=run, progress=False)
    with pytest.raises(RunError, match=r"no weight of .* has a name and a shape of this net"):
        run.experiment.replace(net=nn.MLP((4,), out=1)).fit(data, start=run, progress=False)


# -- bad input


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    small(folder, callbacks=[asking(CHANGES), lambda r: "stop" if r.epoch == 3 else None])
    return derin.load(folder / "run")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("optimizer.learning_rat", 0.1, "'optimizer' (Adam) has no field 'learning_rat'. Nearest: learning_rate"),
        ("net.layers.9.rate", 0.1, "'net.layers' has 5 entries, 0 to 4; got '9'"),
        ("optimizer.learning_rate", "fast", "Adam.learning_rate must be a number, got 'fast' (str)"),
        ("optimizer.learning_rate", -1.0, "learning_rate"),
        ("optimizer.learning_rate", derin.log(1e-4, 0.1), "a run that trains needs values, and this is a search space"),
        ("net.layers.0.features", 16, "net.layers.0.features is 8 and cannot become 16 while the run trains: it is "
         "structure: another program, and other arrays to train."),
        ("optimizer", optim.SGD(0.1), "cannot become SGD(learning_rate=0.1) while the run trains: it is structure"),
        ("clip", optim.ClipByGlobalNorm(1.0), "derin.spec.set(run.experiment, 'clip', ClipByGlobalNorm(1.0))"),
        ("seed", 3, "seed is 0 and cannot become 3 while the run trains: first weights, order and dropout"),
        ("epochs", 1, "3 epochs are done already: epochs must not be fewer, got 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_set(stopped, path, value, message):
    with pytest.raises(SpecError) as error:
        stopped.set(path, value)
    assert message in str(error.value)
    assert not any((stopped.path / "requests").glob("*"))


def test_who_cannot_be_asked(stopped, tmp_path, capsys):
    with pytest.raises(RunError, match=r"the run is in memory, where nobody can reach it .* out="):
        small(tmp_path, None, epochs=1).set("optimizer.learning_rate", 0.1)
    done = small(tmp_path, epochs=2)
    with pytest.raises(RunError, match=r"is finished \(all 2 epochs are done\), so nothing can be set in it; for more"):
        done.set("optimizer.learning_rate", 0.1)
    for ask, word in ((stopped.pause, "pause"), (stopped.unpause, "continue"), (stopped.stop, "stop")):
        with pytest.raises(RunError, match=f"nobody trains the run in .* now, so there is nothing to {word}"):
            ask()
    for words in (
        ["set", str(done.path), "epochs"],
        ["branch", str(done.path)],
        ["fit"],
        ["set", str(tmp_path), "a=1"],
    ):
        assert command(words) == 2
    said = capsys.readouterr().err
    assert "a change is written PATH=VALUE" in said and "branch wants what to try" in said
    assert "name what to learn from" in said and "is not a run of derin" in said


def test_a_request_that_no_one_wrote_so_harms_nothing(tmp_path):
    def nonsense(report):
        folder = report.path / "requests"
        folder.mkdir(exist_ok=True)
        if report.epoch == 1:
            (folder / "1.json").write_text("{")
            (folder / "2.json").write_text('{"kind": "set", "path": "batch_size", "value": 1}')
            (folder / "3.json").write_text('{"kind": "set", "path": 3}')
            (folder / "4.json").write_text('{"kind": "dance"}')
        if report.epoch == 3:
            journal.ask(report.path, "set", "optimizer.learning_rate", 1.0)

    run = small(tmp_path, epochs=3, callbacks=[nonsense])
    assert [line["kind"] for line in run.journal] == ["refused"] * 4 + ["set"] and len(run.history) == 3
    assert "it is structure" in run.journal[1]["reason"]
    assert differences(run, derin.replay(run, progress=False)) == []
    journal.ask(run.path, "set", "optimizer.learning_rate", 2.0)  # as the last epoch ended
    Wheel(run.folder).end(Here(9, 3, print, print, ()))
    assert run.journal[-1]["kind"] == "refused" and run.journal[-1]["reason"] == "training was over"
    assert not any((run.path / "requests").iterdir())


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"path": "optimizer.rate"}, "'optimizer' (Adam) has no field 'rate'"),
        ({"new": 0.5}, "experiment.json has 0.003 there, neither the old nor the new value"),
        ({"step": 7}, "no chunk of this training ends there: one ends at step 9"),
        ({"old": 0.02}, "the value there is 0.003"),
        ({"step": 900}, "training ended at step 9"),
        ({"step": "six"}, "is damaged in line 1"),
    ],
)  # fmt: skip
def test_a_journal_that_does_not_fit(stopped, tmp_path, edit, message):
    shutil.copytree(stopped.path, tmp_path / "run")
    file = tmp_path / "run" / "journal.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in [lines[0] | edit, *lines[1:]]))
    if "old" in edit:  # the start is what the journal says: it is the second line that does not follow
        file.write_text("".join(json.dumps(line) + "\n" for line in [lines[0], lines[0] | edit | {"new": 0.003}]))
    with pytest.raises(RunError) as error:
        derin.replay(tmp_path / "run", derin.data.load(table(tmp_path), target="y"), progress=False)
    assert message in str(error.value) and "journal.jsonl" in str(error.value)


def test_a_journal_of_the_first_format_is_read(tmp_path):
    run = small(tmp_path, epochs=2)
    old = {"epoch": 2, "step": 6, "path": "epochs", "old": 2, "new": 4, "reason": "resumed with another value"}
    (run.path / "journal.jsonl").write_text(json.dumps(old) + "\n")
    longer = run.experiment.replace(epochs=4)
    run.folder.rewrite(longer)
    on = derin.load(run.path).resume(progress=False)
    assert len(on.history) == 4 and differences(on, derin.replay(run.path, progress=False)) == []


def test_a_checkpoint_that_goes_while_it_is_read(tmp_path, monkeypatch):
    run = small(tmp_path, epochs=2)
    once = []

    def goes_first(f, epoch):  # as when the trainer saves between finding a checkpoint and reading it
        def read(path, *args, **more):
            if not once:
                once.append(path)
                run.folder.save(epoch, run.carry, "paused")
            return f(path, *args, **more)

        once.clear()
        return read

    read = checkpoint.read_manifest
    monkeypatch.setattr(checkpoint, "read_manifest", goes_first(read, 3))
    assert run.folder.status() == "paused" and once
    monkeypatch.setattr(checkpoint, "read_manifest", goes_first(read, 4))
    assert run.folder.epochs_saved() == 4 and once
    monkeypatch.setattr(checkpoint, "read_manifest", read)
    monkeypatch.setattr(shutil, "copytree", goes_first(shutil.copytree, 5))
    early = derin.rewind(run, 2, tmp_path / "early", progress=False)
    assert once and differences(run, early) == []

    file = run.folder.checkpoint() / "manifest.json"
    file.write_text("{")
    with pytest.raises(RunError, match="is damaged or missing"):
        run.folder.status()


def test_a_line_ends_with_a_newline_and_nothing_else(tmp_path):
    run = small(tmp_path, epochs=2)
    reason = "a\u2028b\u2029c\u0085d\x0be"
    run.folder.note({"step": 6, "epoch": 2, "kind": "pause", "path": None, "old": None, "new": None, "reason": reason})
    assert [line["reason"] for line in run.journal] == [reason]
    run.folder.append({"epoch": 3, "step": 9, reason: 1.0})
    assert run.folder.history(3)[2] == {"epoch": 3, "step": 9, reason: 1.0}
    with open(run.path / "history.jsonl", "a") as file:
        file.write('{"epoch": 4, "st')  # being written
    assert run.folder.branched(tmp_path / "copy", run.experiment, None, 9, 3).history(3) == run.folder.history(3)


def test_watching_from_outside(stopped, capsys):
    assert command(["watch", str(stopped.path)]) == 0
    said = capsys.readouterr().out
    assert said.count("epoch ") == 3 and "3 of 6 epochs; to go on: derin resume" in said
    assert command(["set", str(stopped.path)]) == 0
    assert "optimizer.learning_rate  0.003" in capsys.readouterr().out
    assert command(["status", str(stopped.path), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["writer"] is None and about["epochs"] == 3 and len(about["journal"]) == 2
