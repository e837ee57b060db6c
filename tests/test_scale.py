"""Searches whose trials others train: the table is the same for any number of workers, and whoever dies on the way.

Tolerance: none between workers; 2e-4 relative to the search that trains its trials itself, in other blocks.
"""

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import derin
from derin import nn, optim
from derin.errors import ModelError, RunError, SpecError
from derin.tune import spread, units, workers
from derin.tune.spread import Spread
from derin.tune.study import Study
from derin.tune.units import Trainer

NET = nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(3))


@pytest.fixture(scope="module")
def data():
    return derin.load_data("iris", valid=0.2, test=0.2)


@pytest.fixture(autouse=True, scope="module")
def programs_on_disk(tmp_path_factory):
    """Workers find the programs of those before them."""
    before = os.environ.get("DERIN_CACHE")
    os.environ["DERIN_CACHE"] = before or str(tmp_path_factory.mktemp("programs"))
    yield
    if before is None:
        del os.environ["DERIN_CACHE"]


def space(epochs=9, **fields):
    return derin.Experiment(
        NET, optimizer=optim.Adam(derin.log(1e-4, 1e-1)), epochs=epochs, batch_size=32, **fields
    )  # fmt: skip


def search(data, experiment=None, **options):
    options = {"trials": 12, "slots": 4, "progress": False} | options
    return derin.tune(experiment or space(), data, **options)


def found(study):
    """All that a search found, to the bit; not when."""
    return [t.to_dict() | {"seconds": None, "place": None} for t in study.trials]


class Here:
    """A crew in this process whose units come back in any order, some of them done twice."""

    def __init__(self, seed):
        self.random, self.units = random.Random(seed), []

    def start(self, job):
        self.trainer = Trainer(job)

    @property
    def idle(self):
        return 3 - len(self.units)

    @property
    def busy(self):
        return len(self.units)

    def give(self, unit):
        self.units.append(pickle.loads(pickle.dumps(unit)))

    def wait(self, seconds):
        unit = self.units.pop(self.random.randrange(len(self.units)))
        if self.random.random() < 0.3:
            self.trainer.do(unit)
        return [self.trainer.do(unit)]

    def close(self):
        self.units.clear()


RULES = {
    "none": {},
    "asha": {"pruner": "asha"},
    "hyperband": {"pruner": "hyperband"},
    "halving": {"pruner": "halving", "seeds": 2},
    "pbt": {"pruner": derin.tune.PopulationBased(every=3)},
    "coarse to fine": {"sampler": derin.tune.CoarseToFine()},
}


@pytest.mark.parametrize("rule", RULES)
def test_the_order_in_which_units_come_back_changes_no_bit(data, rule, monkeypatch):
    experiment = space()
    if rule == "none":
        experiment = experiment.replace(net=nn.Sequential(nn.Linear(derin.choice(4, 8)), nn.ReLU(), nn.Linear(3)))
    several = []
    for seed in (0, 1):
        monkeypatch.setattr(spread, "crew_of", lambda workers, ray, seed=seed: Here(seed))
        several.append(search(data, experiment, workers=1, **RULES[rule]))
    one, two = several
    assert found(one) == found(two)
    assert one.table.drop("seconds").equals(two.table.drop("seconds"))
    assert one.weights.keys() == two.weights.keys()
    assert all(t.state in ("finished", "pruned") for t in one.trials)
    if rule in ("none", "pbt"):  # decided alike; ASHA asks who came first
        alone = search(data, experiment, **RULES[rule])
        for a, b in zip(one.trials, alone.trials, strict=True):
            assert a.state == b.state
            np.testing.assert_allclose(a.curve, b.curve, rtol=2e-4)


def test_one_two_and_four_processes_find_the_same(data, tmp_path):
    several = [search(data, pruner="asha", workers=n, out=tmp_path / str(n)) for n in (1, 2, 4)]
    assert found(several[0]) == found(several[1]) == found(several[2])
    assert several[0].table.drop("seconds").equals(several[2].table.drop("seconds"))
    assert len(several[0].weights) > 0
    back = derin.tune.load(tmp_path / "4")
    assert found(back) == found(several[0]) and back.settings.units
    assert len((tmp_path / "4" / "trials.jsonl").read_text().splitlines()) == 12


def test_a_search_that_was_stopped_goes_on_with_other_workers(data, tmp_path, monkeypatch):
    whole = search(data, workers=1)
    study = _stopped_after_a_unit(data, tmp_path / "a", monkeypatch)
    assert study.state == "interrupted" and 0 < sum(t.state == "finished" for t in study.trials) < 12
    monkeypatch.undo()
    study = search(data, trials=2, out=tmp_path / "b")
    study.state = "interrupted"
    with pytest.raises(RunError, match="trains its trials itself"):
        study.resume(data, workers=2)
    again = derin.tune.load(tmp_path / "a").resume(data, progress=False, workers=2)
    assert again.state == "finished" and found(again) == found(whole)


def _stopped_after_a_unit(data, out, monkeypatch):
    took = Spread._take

    def take(self, done):
        took(self, done)
        if threading.current_thread() is threading.main_thread():
            os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C does

    monkeypatch.setattr(Spread, "_take", take)
    monkeypatch.setattr(spread, "crew_of", lambda *_: Here(0))
    return search(data, workers=1, out=out)


@pytest.mark.slow
def test_workers_that_are_killed_cost_no_more_than_their_units(data, monkeypatch):
    experiment = space(epochs=300)
    whole = search(data, experiment, pruner="halving", workers=1)
    given, killed = workers._Worker.give, []

    def give(self, unit):
        given(self, unit)
        if len(killed) < 3:
            killed.append(unit.name)
            threading.Timer(random.Random(len(killed)).random() * 2, self.process.kill).start()

    monkeypatch.setattr(workers._Worker, "give", give)
    study = search(data, experiment, pruner="halving", workers=2)
    assert len(killed) == 3 and found(study) == found(whole)


def test_a_unit_that_kills_each_worker_ends_the_search_with_a_message(data, monkeypatch):
    given = workers._Worker.give

    def give(self, unit):
        self.process.kill()
        self.process.wait()
        self.ready = True  # or else it is one that could not start
        given(self, unit)

    monkeypatch.setattr(workers._Worker, "give", give)
    with pytest.raises(RunError, match="3 workers died, with exit code -9 the last, training trials 0 to 3"):
        search(data, workers=1)


def test_what_fails_in_a_worker_is_told_here(data, monkeypatch):
    middle = derin.choice(nn.ReLU(), nn.Tanh(), nn.Conv2d(4, 3))  # the search itself looks at the one in the middle
    with pytest.raises(ModelError):
        search(data, space().replace(net=nn.Sequential(nn.Linear(8), middle, nn.Linear(3))), workers=1)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(RunError, match="a worker ended as it started, with exit code"):
        search(data, workers=1)


def test_a_search_in_units_ends_when_its_time_is_over(data, monkeypatch):
    monkeypatch.setattr(spread, "crew_of", lambda *_: Here(0))
    study = search(data, space(epochs=10**5), trials=24, workers=1, time=1.0)
    assert study.state == "out of time"
    assert {t.state for t in study.trials} == {"stopped"}
    assert isinstance(study, Study) and study.best.epochs > 1


BAD = {
    "no workers": (dict(workers=0), "workers is a number of processes, at least 1; got 0"),
    "half a worker": (dict(workers=0.5), "workers is a number of processes, at least 1; got 0.5"),
    "both": (dict(workers=1, ray="local"), "give one of them"),
    "no address": (dict(ray=""), "ray is the address of a cluster"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_message(data, name):
    options, words = BAD[name]
    with pytest.raises(SpecError, match=words) as raised:
        search(data, **options)
    assert "\n" not in str(raised.value)


def test_classes_of_the_program_itself_are_refused(data, monkeypatch):
    class Mine(nn.Module):
        def forward(self, x):
            return x

    monkeypatch.setattr(Mine, "__module__", "__main__")
    with pytest.raises(SpecError, match=r"Mine is defined in the program itself: move it to a file of its own"):
        units.check_importable(space().replace(net=nn.Sequential(Mine(), nn.Linear(3))))


def test_a_gpu_needs_no_workers(data, monkeypatch):
    monkeypatch.setattr(workers.jax, "default_backend", lambda: "gpu")
    with pytest.raises(SpecError, match="would run on its gpu, which one population keeps busy"):
        workers.Processes(2)


@pytest.mark.slow
@pytest.mark.filterwarnings(r"ignore:os.fork\(\) was called:RuntimeWarning")  # Ray starts its processes so
def test_a_ray_cluster_finds_what_processes_find(data, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'derin[ray]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    study = search(data, pruner="asha", ray="local")
    assert found(study) == found(search(data, pruner="asha", workers=1))


def test_ray_is_an_extra(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RunError, match=r"need Ray: pip install 'derin\[ray\]'"):
        search(data, ray="local")


DEVICES = """
import json, jax, derin
from derin.engine import population
from test_scale import search, space
made = []
class Seen(population.Population):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        made.append(self)
import derin.tune.arena
derin.tune.arena.Population = Seen
study = search(derin.load_data("iris", valid=0.2, test=0.2), space(4), trials=32, slots=32)
trained = {d for p in made for b in p.blocks for a in jax.tree.leaves(b.carry) for d in a.devices()}
data = [{d for a in jax.tree.leaves(some) for d in a.devices()} for p in made for some in p.data.values()]
print(json.dumps([[t.curve for t in study.trials], len(jax.devices()), len(trained), [len(d) for d in data], len(made)]))
"""


def test_a_population_uses_every_device(data):
    """Blocks of two devices come to what those of one do."""
    there = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu",
                          "PYTHONPATH": os.pathsep.join([*sys.path, os.path.dirname(__file__)])}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", DEVICES],
                          env=there, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    curves, devices, trained, copies, populations = json.loads(done.stdout)
    assert (devices, trained) == (2, 2)
    assert copies == [1, 1] * populations  # the data once on each
    one = search(data, space(4), trials=32, slots=32)
    np.testing.assert_allclose(curves, [t.curve for t in one.trials], rtol=2e-4)
