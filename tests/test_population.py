"""A member of a population is the run it would be alone, whoever its neighbours are.

Tolerance: a member's numbers differ from the solo run's by the rounding of another order of sums, 2e-4 relative after
a few epochs; between two populations with the same slots nothing differs.
"""

import jax
import numpy as np
import pytest

import derin
from derin import nn, optim
from derin.engine import epoch as engine
from derin.engine import population as populations
from derin.engine.epoch import Fold, Rows
from derin.engine.population import Member, Population, fitting
from derin.engine.task import rows_of, task_of
from derin.engine.training import counts_of
from derin.errors import ModelError

RATES = (1e-3, 1e-2, 5e-2)


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    x = random.standard_normal((150, 5)).astype(np.float32)
    return derin.load_data((x, (x[:, 0] + 0.3 * random.standard_normal(150) > 0).astype(int)), valid=0.2, test=0)


def population(data, experiment, slots, **options):
    task = task_of(experiment, data.schema, data.train.x, counts_of(data))
    rows, valid = jax.device_put((rows_of(data.train), rows_of(data.valid)))
    return Population(task, rows, valid, slots, **options)


def member(data, experiment, seed=0):
    task = task_of(experiment, data.schema, data.train.x, counts_of(data)).structure_only()
    return Member(jax.tree.leaves(task), seed, experiment.epochs)


def net(*layers):
    return nn.Sequential(nn.Linear(8), nn.ReLU(), *layers, nn.Linear(2))


SOLO = {
    "plain": derin.Experiment(net(), optimizer=optim.Adam(0.01), epochs=4),
    "dropout, norm": derin.Experiment(
        net(nn.BatchNorm(), nn.Dropout(0.3)), optimizer=optim.SGD(0.01, momentum=0.9), epochs=4
    ),
    "clip, penalty, average": derin.Experiment(
        net(),
        optimizer=optim.Adam(0.01),
        epochs=4,
        clip=optim.ClipByGlobalNorm(0.5),
        penalty=optim.L2(0.01),
        average=optim.EMA(0.9),
    ),
    "schedules by step": derin.Experiment(net(), optimizer=optim.Adam(0.01), epochs=4, schedule=optim.OneCycleLR()),
    "plateau, early stopping": derin.Experiment(
        net(),
        optimizer=optim.Adam(0.01),
        epochs=8,
        schedule=optim.ReduceLROnPlateau(patience=0, monitor="valid_loss"),
        early_stopping=derin.EarlyStopping(patience=2),
    ),
    "full batch": derin.Experiment(net(), optimizer=optim.Adam(0.01), epochs=4, batch_size="full"),
}


@pytest.mark.parametrize(("name", "shared"), [*((name, False) for name in SOLO), ("dropout, norm", True)])
def test_a_member_is_the_run_it_would_be_alone(data, name, shared):
    experiment = SOLO[name].replace(metrics=("accuracy",))
    experiments = [derin.spec.set(experiment, "optimizer.learning_rate", r) for r in RATES]
    if name == "schedules by step":
        experiments = [experiment] * 3
    several = population(data, experiment, 3, block=3, shared_order=shared)
    handles = several.put([member(data, e) for e in experiments])
    seen = [several.epoch() for _ in range(experiment.epochs)]
    carries = several.carries()
    for handle, e in zip(handles, experiments, strict=True):
        run = e.fit(data, progress=False)
        for line, s in zip(run.history, seen, strict=False):
            report = s[handle].report
            np.testing.assert_allclose(report.loss, line["loss"], rtol=2e-4)
            np.testing.assert_allclose(report.valid_loss, line["valid_loss"], rtol=2e-4)
            np.testing.assert_allclose(report.learning_rate, line["learning_rate"], rtol=1e-5)
            np.testing.assert_allclose(report.metrics[0], line["accuracy"], atol=0.04)  # one row of 30 on the edge
        assert int(carries[handle].best_epoch) == run.best_epoch
        assert bool(carries[handle].done) == bool(run.carry.done)
        for key, w in run.carry.params.items():
            np.testing.assert_allclose(carries[handle].params[key], w, rtol=2e-3, atol=2e-5)


def test_slots_order_and_neighbours_do_not_matter(data):
    e = SOLO["dropout, norm"]
    experiments = [derin.spec.set(e, "optimizer.learning_rate", r) for r in RATES]

    def scores(order, block, threads):
        p = population(data, e, 4, block=block, threads=threads)
        handles = dict(zip(order, p.put([member(data, experiments[i]) for i in order]), strict=True))
        seen = [p.epoch() for _ in range(3)][-1]
        return {i: seen[h].report.valid_loss for i, h in handles.items()}

    first = scores([0, 1, 2], 4, 1)
    assert scores([0, 1, 2], 4, 1) == first  # to the bit with the same slots
    others = [([2, 0, 1], 4, 1), ([1], 4, 1), ([0, 1, 2], 4, 2), ([0, 1, 2], 2, 2), ([0, 1, 2], 1, 2)]
    for other in (scores(*how) for how in others):  # another number of threads may split a sum in another place
        for i, value in other.items():
            np.testing.assert_allclose(value, first[i], rtol=2e-4)


def test_a_member_that_diverges_touches_no_other(data):
    e = SOLO["plain"]
    wild = derin.spec.set(e, "optimizer.learning_rate", 1e30)
    calm = population(data, e, 2, block=2)
    wild_beside = population(data, e, 2, block=2)
    a, _ = calm.put([member(data, e), member(data, e)])
    b, bad = wild_beside.put([member(data, e), member(data, wild)])
    for _ in range(3):
        one, two = calm.epoch(), wild_beside.epoch()
    assert two[bad].broken and not two[b].broken
    np.testing.assert_array_equal(one[a].report.valid_loss, two[b].report.valid_loss)


def test_a_freed_slot_takes_the_next_member_without_compiling(data):
    from derin.engine.programs import _programs

    e = SOLO["plain"]
    p = population(data, e, 2, block=2)
    first, second = p.put([member(data, e), member(data, derin.spec.set(e, "optimizer.learning_rate", 0.05))])
    p.epoch()
    p.clear(first)
    p.put([member(data, e)])
    p.epoch()
    compiled = set(_programs)
    p.clear(second)
    assert p.free == 1
    (late,) = p.put([member(data, e)])
    seen = p.epoch()
    assert set(_programs) == compiled
    assert int(seen[late].epoch) == 1 and len(seen) == 2
    fresh = population(data, e, 2, block=2)
    (h,) = fresh.put([member(data, e)])
    np.testing.assert_array_equal(fresh.epoch()[h].report.loss, seen[late].report.loss)
    assert (p.used, p.idle) == (6, 0)


def test_a_member_moves_with_its_state_and_goes_on(data):
    e = SOLO["dropout, norm"]
    whole = population(data, e, 2, block=2)
    a, _ = whole.put([member(data, e), member(data, e)])
    seen = [whole.epoch() for _ in range(4)][-1]
    moved = population(data, e, 2, block=2)
    b, c = moved.put([member(data, e), member(data, e)])
    moved.epoch()
    kept, layout = moved.carries(), moved.layout()
    again = population(data, e, 2, block=2)
    again.restore(layout, {h: member(data, e)._replace(carry=k) for h, k in kept.items()})
    for _ in range(3):
        last = again.epoch()
    np.testing.assert_array_equal(last[b].report.valid_loss, seen[a].report.valid_loss)
    moved.clear(c)
    moved.alone = 2
    moved.thin_out()  # goes on alone, in a block of one
    assert [x.size for x in moved.blocks] == [1]
    assert {size for what, size, _ in moved.programs if what == "start"} == {2}  # its weights came with it
    for _ in range(3):
        last = moved.epoch()
    np.testing.assert_allclose(last[b].report.valid_loss, seen[a].report.valid_loss, rtol=2e-4)


@pytest.mark.parametrize(("gains", "decided", "undecided"), [(False, 32, 8), (True, 8, 32)])
def test_what_was_measured_for_a_net_decides_for_those_that_gain_less_or_more(
    data, monkeypatch, gains, decided, undecided
):
    measured = []
    monkeypatch.setattr(populations, "SMALL", 0)
    monkeypatch.setattr(populations, "_known_blocks", {})
    monkeypatch.setattr(Population, "_seconds", lambda _, size: measured.append(size) or (1.0 if gains else size))

    def block(width, *more):
        e = derin.Experiment(nn.Sequential(nn.Linear(width), nn.ReLU(), *more, nn.Linear(2)))
        return population(data, e, 4, threads=1).block

    assert block(16) == block(decided) == (4 if gains else 1)
    assert measured == [1, 4]
    assert block(undecided) == block(decided, nn.Tanh()) == block(16)  # and other layers are measured anew
    assert measured == [1, 4] * 3


def test_every_thread_has_members(data):
    """Ten folds in one block of 16 would leave all threads but one idle."""
    sizes = [[b.size for b in population(data, SOLO["plain"], 10, threads=n).blocks] for n in (1, 2, 3)]
    assert sizes == [[10], [5, 5], [4, 4, 4]]
    assert [b.size for b in population(data, SOLO["plain"], 10, threads=2, measure=False).blocks] == [10]


def test_folds_of_unequal_size_train_on_their_own_rows_only(data):
    """A fold of few rows, beside a long one, is the run on those rows alone."""
    e = SOLO["plain"].replace(batch_size=16, metrics=("accuracy",), penalty=optim.L2(0.01))
    x, y = jax.numpy.asarray(data.train.x), jax.numpy.asarray(data.train.y)
    trains, valids = [np.arange(0, 70), np.arange(20, 50)], [np.arange(70, 100), np.arange(50, 61)]
    pad = lambda parts: np.stack([np.resize(p, max(map(len, parts))) for p in parts]).astype(np.int32)  # noqa: E731
    folds = Fold(pad(trains), np.array([70, 30], np.int32), pad(valids), np.array([30, 11], np.int32))
    task = task_of(e, data.schema, x, None)
    p = Population(task, jax.device_put(rows_of(data.train)), None, 2, folds=folds, block=2)
    one = task.structure_only()
    handles = p.put([Member(jax.tree.leaves(one), 0, 4, fold) for fold in (0, 1)])
    key = jax.random.key(0)
    for i, h in enumerate(handles):
        carry = engine.start(one, key, jax.ShapeDtypeStruct((1, 5), np.float32))
        rows, judged = Rows(x[trains[i]], (y[trains[i]],)), Rows(x[valids[i]], (y[valids[i]],))
        n = len(trains[i])
        real = [
            r for r in np.asarray(engine.shuffled(jax.random.fold_in(engine.named_key(key, "order"), 0), 70)) if r < n
        ]
        assert sorted(real) == list(range(n))
        order = engine.batches(jax.numpy.array(real, np.int32), 16)
        alone, report = engine.epoch(one, carry, rows, judged, key, np.int32(4), order)
        if i == 0:
            seen = p.epoch()
            carries = p.carries()
        np.testing.assert_allclose(seen[h].report.loss, report.loss, rtol=2e-4)
        np.testing.assert_allclose(seen[h].report.valid_loss, report.valid_loss, rtol=2e-4)
        np.testing.assert_allclose(seen[h].report.metrics[0], report.metrics[0], rtol=1e-5)
        assert int(carries[h].step) == int(alone.step) == -(-n // 16)
        for name, w in alone.params.items():
            np.testing.assert_allclose(carries[h].params[name], w, rtol=2e-3, atol=2e-6)


def test_rows_may_be_numpys_own_and_as_wide_as_numpy_likes(data):
    e = SOLO["plain"]
    wide = [jax.tree.map(lambda a: a.astype(f"{a.dtype.kind}8"), rows_of(part)) for part in (data.train, data.valid)]
    assert {a.dtype.itemsize for a in jax.tree.leaves(wide)} == {8}
    task = task_of(e, data.schema, data.train.x, counts_of(data))
    losses = []
    for p in (population(data, e, 2, block=2), Population(task, *wide, 2, block=2)):
        assert p.like.dtype == np.float32
        (handle,) = p.put([member(data, e)])
        losses.append(p.epoch()[handle].report)
    assert losses[0] == losses[1]


def test_slots_are_the_most_that_fit_the_memory(data):
    e = SOLO["plain"]
    make = lambda slots: population(data, e, slots, block=1, threads=1)  # noqa: E731
    one, eight = make(1).bytes(), make(8).bytes()
    assert eight > one
    assert fitting(make, 8, lambda needed: eight).slots == 8
    assert 1 <= fitting(make, 8, lambda needed: (one + eight) // 2).slots < 8
    with pytest.raises(ModelError, match=r"one member alone needs .* MB of memory, and a search takes 0 MB here"):
        fitting(make, 8, lambda needed: 100)
