"""The engine against loops written by hand in PyTorch, and against its own promises."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from sklearn import metrics as sk

import derin
from derin import nn, optim
from derin.data import ClassTarget, Dataset, NumberTarget, Part, Schema
from derin.data.arrays import ArrayInputs
from derin.engine import EarlyStopping, Experiment, epoch, programs, training
from derin.engine.task import rows_of, task_of
from derin.engine.training import first_carry
from derin.errors import DataError, ModelError, SpecError, TrainingFailed
from derin.models import TabularMLP


def dataset(n=100, d=5, classes=2, n_valid=40, n_test=30, seed=0, kind="classes"):
    """Rows of random numbers whose target follows from the first columns."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n + n_valid + n_test, d)).astype(np.float32)
    if kind == "number":
        target = NumberTarget("y", mean=10.0, scale=2.0)
        y = (x[:, 0] - 0.5 * x[:, 1] + 0.1 * rng.normal(size=len(x))).astype(np.float32)
    else:
        target = ClassTarget("y", tuple(range(classes)))
        y = np.digitize(x[:, 0] + 0.3 * x[:, 1], np.linspace(-1, 1, classes + 1)[1:-1]).astype(np.int32)
    rows = np.arange(len(x))
    cut = lambda a, b: Part(x[a:b], y[a:b], rows[a:b])  # noqa: E731
    inputs = ArrayInputs((d,), np.zeros(d), np.ones(d), np.zeros(d))
    return Dataset(Schema(inputs, (target,)), cut(0, n), cut(n, n + n_valid), cut(n + n_valid, len(x)))


def small_net(out, norm=False):
    middle = (nn.BatchNorm(),) if norm else ()  # no bias before a norm: its gradient is rounding, and Adam scales it
    return nn.Sequential(nn.Linear(8, bias=not norm), *middle, nn.ReLU(), nn.Linear(out))


def torch_twin(d, out, norm=False):
    middle = (torch.nn.BatchNorm1d(8),) if norm else ()
    return torch.nn.Sequential(torch.nn.Linear(d, 8, bias=not norm), *middle, torch.nn.ReLU(), torch.nn.Linear(8, out))


def as_torch(arrays):
    return {k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}


def fit(net, data, **fields):
    return derin.fit(net, data, **({"progress": False, "epochs": 3} | fields))


@pytest.mark.parametrize(
    ("batch_size", "norm"),  # the norm of a single row is not defined, in torch neither
    [(1, False), (16, False), (16, True), (32, True), (100, False), (1000, True), ("full", False), ("full", True)],
)
def test_training_is_the_loop_one_writes_in_torch(batch_size, norm):
    """Same weights, same batches (the last one short), Adam: the same losses and weights after 3 epochs."""
    data = dataset(n=90)
    experiment = Experiment(small_net(2, norm), optimizer=optim.Adam(0.01), epochs=3, batch_size=batch_size)
    task = task_of(experiment, data.schema, data.train.x, None)
    carry = first_carry(task, 0, data.train.x)
    twin = torch_twin(5, 2, norm)
    twin.load_state_dict(as_torch({**carry.params, **carry.state}), strict=False)
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    losses, key = [], jax.random.key(0)
    x, y = torch.from_numpy(data.train.x), torch.from_numpy(data.train.y).long()
    for number in range(3):
        order = np.asarray(epoch.epoch_order(task, jnp.int32(number), 90, key)).reshape(-1)[:90]
        size = order.size if batch_size in ("full", 100, 1000) else batch_size
        total = 0.0
        for begin in range(0, 90, size):
            rows = order[begin : begin + size].copy()
            loss = torch.nn.functional.cross_entropy(twin(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        losses.append(total / 90)
    run = experiment.fit(data, progress=False)
    assert np.allclose([line["loss"] for line in run.history], losses, atol=2e-5)
    for name, weight in twin.state_dict().items():
        if "num_batches" not in name:
            assert np.allclose({**run.params, **run.state}[name], weight.numpy(), atol=1e-4), name
    twin.eval()
    own = run.evaluate("test")
    out = twin(torch.from_numpy(data.test.x))
    assert own["loss"] == pytest.approx(
        torch.nn.functional.cross_entropy(out, torch.from_numpy(data.test.y).long()).item(), abs=1e-4
    )


def test_every_row_is_seen_once_an_epoch():
    data = dataset(n=90)
    task = task_of(Experiment(small_net(2), batch_size=32), data.schema, data.train.x, None)
    for number in range(3):
        order = np.asarray(epoch.epoch_order(task, jnp.int32(number), 90, jax.random.key(7)))
        weights = np.asarray(epoch.row_weights(90, order.shape))
        assert order.shape == (3, 32)
        assert sorted(order[weights == 1]) == list(range(90))
        assert weights.sum() == 90


@pytest.mark.parametrize("how", ["vmap", "map"])
def test_a_population_is_the_same_program_mapped(how):
    """Three members with their own learning rate, dropout rate and seed against three runs alone."""
    data = dataset(n=96)
    rates = [(1e-3, 0.0), (1e-2, 0.2), (3e-2, 0.5)]
    experiments = [
        Experiment(nn.MLP((8,), out=2, dropout=d), optimizer=optim.Adam(lr), epochs=2, batch_size=32) for lr, d in rates
    ]
    tasks = [task_of(e, data.schema, data.train.x, None).structure_only() for e in experiments]
    keys = [jax.random.key(s) for s in range(3)]
    train, valid = jax.device_put((rows_of(data.train), rows_of(data.valid)))

    def whole(task, key):
        carry = epoch.start(task, key, jax.ShapeDtypeStruct((1, 5), jnp.float32))
        reports = []
        for _ in range(2):
            carry, report = epoch.epoch(task, carry, train, valid, key, jnp.int32(2))
            reports.append(report)
        return carry, reports

    stacked = jax.tree.map(lambda *v: jnp.stack([jnp.float32(a) for a in v]), *tasks)
    mapped = jax.vmap(whole) if how == "vmap" else (lambda t, k: jax.lax.map(lambda a: whole(*a), (t, k)))
    carries, reports = jax.jit(mapped)(stacked, jnp.stack(keys))
    for i in range(3):
        carry, report = jax.jit(whole)(tasks[i], keys[i])
        for name, weight in carry.params.items():
            assert np.allclose(carries.params[name][i], weight, atol=2e-5), name
        assert np.allclose([r.valid_loss[i] for r in reports], [r.valid_loss for r in report], atol=2e-5)


def test_a_done_or_broken_member_changes_nothing():
    data = dataset(n=64)
    task = task_of(Experiment(small_net(2), optimizer=optim.SGD(1e30)), data.schema, data.train.x, None)
    carry = first_carry(task, 0, data.train.x)
    train = jax.device_put(rows_of(data.train))
    key, epochs = jax.random.key(0), jnp.int32(5)
    done = carry._replace(done=jnp.bool_(True))
    after, _ = epoch.epoch(task, done, train, None, key, epochs)
    assert all(np.array_equal(after.params[k], carry.params[k]) for k in carry.params)
    assert int(after.epoch) == 0 and int(after.step) == 0 and int(after.broken_at) == -1
    task = task.replace(experiment=task.experiment.replace(batch_size=8))
    broken, _ = epoch.epoch(task, carry, train, None, key, epochs)
    assert int(broken.broken_at) >= 1 and int(broken.epoch) == 0
    assert all(np.isfinite(a).all() for a in broken.params.values())
    again, _ = epoch.epoch(task, broken, train, None, key, epochs)
    assert all(np.array_equal(again.params[k], broken.params[k]) for k in carry.params)


def test_other_numbers_compile_nothing_anew():
    data = dataset()
    fit(nn.MLP((8,), out=1, dropout=0.1), data, optimizer=optim.Adam(1e-3))
    before = {*programs._programs}
    fit(nn.MLP((8,), out=1, dropout=0.3), data, optimizer=optim.Adam(1e-2), seed=5, epochs=2)
    assert {*programs._programs} == before
    fit(nn.MLP((9,), out=1, dropout=0.3), data)
    assert {*programs._programs} != before


def test_only_the_programs_that_were_used_last_are_kept(monkeypatch):
    """Linux gives a process room for some hundred; a notebook may compile more."""

    def doubled(x):
        return 2 * x

    monkeypatch.setattr(programs, "KEPT", 3)
    monkeypatch.setattr(programs, "_programs", {})
    first = programs.program(doubled, np.zeros(1))
    for n in (2, 3, 1, 4, 5):
        assert programs.program(doubled, np.zeros(n))(np.ones(n)).shape == (n,)
    assert len(programs._programs) == 3
    assert programs.program(doubled, np.zeros(1)) is first  # the oldest, and yet used among the last three
    assert len(programs._programs) == 3


def test_the_seed_decides():
    data = dataset()
    a, b, c = (fit(nn.MLP((8,), out=1, dropout=0.1), data, seed=s) for s in (1, 1, 2))
    assert a.history == b.history and a.history != c.history
    assert all(np.array_equal(a.params[k], b.params[k]) for k in a.params)


def test_early_stopping_restores_the_best():
    data = dataset(n=30, n_valid=60)
    run = fit(small_net(2), data, optimizer=optim.Adam(0.05), epochs=200, early_stopping=EarlyStopping(5))
    losses = [line["valid_loss"] for line in run.history]
    assert len(losses) < 200 and run.stopped == "early stopping"
    assert run.best_epoch == int(np.argmin(losses)) + 1 == len(losses) - 5
    assert run.evaluate("valid")["loss"] == pytest.approx(min(losses), rel=1e-5)


def test_early_stopping_watches_what_it_says():
    data = dataset(n=30, n_valid=60)
    alone = Dataset(data.schema, data.train)
    for fields in ({"monitor": "valid_loss"}, {"monitor": "accuracy"}):
        with pytest.raises(SpecError, match="there are no validation rows"):
            fit(small_net(2), alone, early_stopping=EarlyStopping(3, **fields))
    assert len(fit(small_net(2), alone, early_stopping=EarlyStopping(3, monitor="loss")).history) == 3
    with pytest.raises(SpecError, match="cannot monitor 'confusion_matrix'"):
        fit(
            small_net(2),
            data,
            metrics=("confusion_matrix",),
            early_stopping=EarlyStopping(3, monitor="confusion_matrix"),
        )
    data.valid.x[3, 0] = np.nan  # its loss is nan: never the best, and not replaced by another number
    run = fit(small_net(2), data, epochs=6, optimizer=optim.SGD(1e-12), early_stopping=EarlyStopping(3))
    assert not any(np.isfinite(line["valid_loss"]) for line in run.history) and run.best_epoch == 1


def test_early_stopping_by_a_metric_and_min_delta():
    data = dataset(n=30, n_valid=60)
    run = fit(small_net(2), data, optimizer=optim.Adam(0.05), epochs=60,
              early_stopping=EarlyStopping(6, monitor="accuracy"))  # fmt: skip
    scores = [line["accuracy"] for line in run.history]
    assert run.best_epoch == int(np.argmax(scores)) + 1
    assert run.evaluate("valid")["accuracy"] == pytest.approx(max(scores))
    strict = fit(small_net(2), data, epochs=60, early_stopping=EarlyStopping(4, min_delta=1e9))
    assert len(strict.history) == 5 and strict.best_epoch == 1


def test_a_loss_that_is_not_finite_names_the_layer():
    data = dataset(n=64)
    with pytest.raises(TrainingFailed) as error:
        fit(small_net(2), data, optimizer=optim.SGD(1e25), batch_size=16)
    assert "epoch 1, step " in str(error.value) and "of 4" in str(error.value)
    assert "the output of layer '" in str(error.value) and "1e+25" in str(error.value)
    assert all(np.isfinite(a).all() for a in error.value.run.params.values())

    class Root(nn.Module):
        def forward(self, x):
            return jnp.sqrt(jnp.maximum(x, 0))  # its slope at 0 is infinite, its value is not

    with pytest.raises(TrainingFailed, match=r"the gradient of '0\.(weight|bias)' is not finite"):
        fit(nn.Sequential(nn.Linear(4), Root(), nn.Linear(2)), data)

    class Inverse(nn.Module):
        def forward(self, x):
            return x / (x - x)

    with pytest.raises(TrainingFailed, match="the output of layer '1' is not finite"):
        fit(nn.Sequential(nn.Linear(4), Inverse(), nn.Linear(2)), data)


def test_weights_that_overflow_are_not_kept():
    """The last step's loss and gradient are finite, the weights after it are not: the run fails there."""
    data = dataset(n=64)
    data.train.x[:] *= 1e3
    with pytest.raises(TrainingFailed) as error:
        fit(small_net(2), data, optimizer=optim.SGD(3e38), clip=optim.ClipByValue(2.0), batch_size="full", epochs=1)
    assert all(np.isfinite(a).all() for a in error.value.run.params.values())


def test_class_weights_are_those_of_torch():
    data = dataset(n=64, classes=3)
    weights = (0.2, 1.0, 3.0)
    run = fit(nn.Linear(3), data, epochs=1, batch_size="full", class_weights=weights, optimizer=optim.SGD(0.0001))
    first = first_carry(run.task, 0, data.train.x).params
    out = data.train.x @ np.asarray(first["weight"]).T + np.asarray(first["bias"])
    want = torch.nn.functional.cross_entropy(
        torch.from_numpy(out), torch.from_numpy(data.train.y).long(), weight=torch.tensor(weights)
    )
    assert run.history[0]["loss"] == pytest.approx(want.item(), rel=1e-5)
    balanced = fit(nn.Linear(3), data, epochs=1, class_weights="balanced")
    from sklearn.utils.class_weight import compute_class_weight

    want = compute_class_weight("balanced", classes=np.arange(3), y=data.train.y)
    assert np.allclose(balanced.task.class_weights, want)


def test_clipping_bounds_the_step():
    data = dataset(n=64)
    for clip in (optim.ClipByGlobalNorm(1e-3), optim.ClipByValue(1e-4)):
        run = fit(nn.Linear(2), data, epochs=1, batch_size="full", clip=clip, optimizer=optim.SGD(1.0))
        first = first_carry(run.task, 0, data.train.x).params
        moved = np.concatenate([np.ravel(np.asarray(run.params[k]) - np.asarray(first[k])) for k in first])
        if isinstance(clip, optim.ClipByGlobalNorm):
            assert np.linalg.norm(moved) == pytest.approx(1e-3, rel=1e-2)
        else:
            assert np.abs(moved).max() <= 1.01e-4


def test_metrics_in_the_run_are_scikit_learns():
    data = dataset(n=64, classes=3, n_test=50)
    names = ("accuracy", "f1", "roc_auc", "log_loss", "confusion_matrix")
    run = fit(small_net(3), data, metrics=names)
    found = run.evaluate("test")
    p, y = run.predict_proba(data.test.x), data.test.y
    assert p.shape == (50, 3) and np.allclose(p.sum(1), 1, atol=1e-5)
    assert (run.predict(data.test.x) == p.argmax(1)).all()
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, p.argmax(1)), abs=1e-6)
    assert found["f1"] == pytest.approx(sk.f1_score(y, p.argmax(1), average="macro"), abs=1e-5)
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr"), abs=1e-5)
    assert found["log_loss"] == pytest.approx(sk.log_loss(y, p), abs=1e-4)
    assert (np.array(found["confusion_matrix"]) == sk.confusion_matrix(y, p.argmax(1))).all()


def test_numbers_are_reported_in_their_own_units():
    data = dataset(kind="number", n=200)
    run = fit(nn.Linear(1), data, epochs=60, optimizer=optim.Adam(0.05))
    prediction = run.predict(data.test.x)
    y = data.test.y * 2.0 + 10.0
    assert prediction.shape == (30,) and abs(prediction.mean() - 10) < 2
    found = run.evaluate("test")
    assert found["rmse"] == pytest.approx(sk.mean_squared_error(y, prediction) ** 0.5, rel=1e-4)
    assert found["r2"] == pytest.approx(sk.r2_score(y, prediction), abs=1e-4) and found["r2"] > 0.9


@pytest.mark.parametrize(("offset", "size"), [(1.7e9, 1.0), (1e6, 1.0), (0.0, 1e-12), (0.0, 1e30)])
def test_targets_far_from_zero_keep_their_digits(offset, size):
    """Time stamps and long codes: a float32 near 1.7e9 steps by 128, so own units are float64, on the host."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3)).astype(np.float32)
    y = offset + size * (x[:, 0].astype(np.float64) + 0.1 * rng.normal(size=300))
    fields = {"metrics": ("r2", "mae", "mape"), "epochs": 60, "optimizer": optim.Adam(0.05)}
    run = fit(nn.Linear(1), (x, y), **fields)
    prediction, found = run.predict(x), run.evaluate((x, y))
    assert found["r2"] == pytest.approx(sk.r2_score(y / size, prediction / size), abs=1e-4) and found["r2"] > 0.9
    assert found["mae"] / size == pytest.approx(np.abs(y - prediction).mean() / size, rel=1e-3)
    assert np.allclose(run.predictor()(run.schema.encode(x[:1])), prediction[:1], rtol=1e-12)


def test_several_targets_each_have_their_loss():
    base = dataset(n=120, classes=3)
    y2 = (base.train.x[:, 2] > 0).astype(np.int32)
    y3 = base.train.x[:, 3]
    targets = (base.schema.targets[0], ClassTarget("b", ("no", "yes")), NumberTarget("c"))
    part = Part(base.train.x, (base.train.y, y2, y3), base.train.rows)
    data = Dataset(Schema(base.schema.inputs, targets), part)
    run = fit(small_net(5), data, epochs=40, optimizer=optim.Adam(0.02), metrics=("accuracy", "rmse"))
    last = run.history[-1]
    assert {"y.accuracy", "b.accuracy", "c.rmse"} <= last.keys()
    assert last["y.accuracy"] > 0.8 and last["b.accuracy"] > 0.9 and last["c.rmse"] < 0.5
    p1, p2, p3 = run.predict_proba(part.x)
    assert p1.shape == (120, 3) and p2.shape == (120, 2) and p3.shape == (120,)
    assert set(run.predict(part.x)[1]) == {"no", "yes"}
    with pytest.raises(ModelError, match=r"the targets need 5 \('y' 3, 'b' 1, 'c' 1\)"):
        fit(small_net(4), data)
    with pytest.raises(SpecError, match="2 losses came for 3 targets"):
        fit(small_net(5), data, loss=(nn.CrossEntropyLoss(), nn.MSELoss()))


def test_bfloat16_computes_in_half_and_keeps_whole_weights():
    data = dataset(n=128)
    run = fit(small_net(2, norm=True), data, epochs=20, precision="bfloat16", optimizer=optim.Adam(0.02))
    assert all(a.dtype == jnp.float32 for a in [*run.params.values(), *run.state.values()])
    whole = fit(small_net(2, norm=True), data, epochs=20, optimizer=optim.Adam(0.02))
    assert run.history[-1]["loss"] != whole.history[-1]["loss"]
    assert run.history[-1]["accuracy"] > 0.8


def test_given_vectors_that_stay_as_they_are_keep_their_digits_in_bfloat16():
    """A frozen table is in the state, and no state is rounded: what comes out of it is float32, whole."""
    vectors = np.float32([[1.0, 1.0009765625], [-1.0, 2.0]])
    for freeze, dtype in ((True, jnp.float32), (False, jnp.bfloat16)):
        net = nn.Sequential(nn.Embedding.from_pretrained(vectors, freeze=freeze), nn.Flatten())
        task = epoch.Task(Experiment(net=net, precision="bfloat16"), None, (), ())
        params, state = net.init(jax.random.key(0), jnp.array([[0], [1]]))
        found = epoch.run_net(task, params, state, jnp.array([[0], [1]]))[0]
        assert found.dtype == jnp.float32
        assert np.array_equal(found, vectors.astype(dtype).astype(np.float32))


def test_rows_that_fill_a_block_up_are_not_counted(monkeypatch):
    """BatchNorm without running statistics takes those of the batch it gets, in evaluation as well."""
    data = dataset()
    net = nn.Sequential(nn.BatchNorm(affine=False, track_running_stats=False), nn.Linear(2))
    run = fit(net, data, epochs=1)
    x = run.schema.encode(data.test.x)[:20]
    z = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    logits = z @ run.params["1.weight"].T + run.params["1.bias"]
    assert np.allclose(run.predict_proba(data.test.x[:20]), jax.nn.softmax(logits), atol=1e-6)  # 20 rows of 256
    assert np.allclose(run.predictor()(x), jax.nn.softmax(logits), atol=1e-6)
    monkeypatch.setattr(epoch, "EVALUATION_ROWS", 16)
    found = epoch.forward(run.task, run.params, run.state, x)
    rest = (x[16:] - x[16:].mean(0)) / np.sqrt(x[16:].var(0) + 1e-5)
    assert np.allclose(found[16:], rest @ run.params["1.weight"].T + run.params["1.bias"], atol=1e-5)


def test_callbacks_see_plain_values_and_may_stop():
    seen = []

    def watch(report):
        seen.append((report.epoch, report.values["loss"], sorted(report.params)))
        return "stop" if report.epoch == 2 else None

    run = fit(small_net(2), dataset(), epochs=9, callbacks=[watch])
    assert [s[0] for s in seen] == [1, 2] and run.stopped == "a callback stopped it"
    assert seen[0][2] == ["0.bias", "0.weight", "2.bias", "2.weight"]


def test_an_optax_transformation_trains():
    import optax

    run = fit(small_net(2), dataset(), epochs=10, optimizer=optax.lion(3e-3))
    assert run.history[-1]["loss"] < run.history[0]["loss"]


def test_a_schedule_moves_the_learning_rate():
    run = fit(small_net(2), dataset(), epochs=4, optimizer=optim.SGD(0.1), schedule=optim.StepLR(2, gamma=0.1))
    assert [line["learning_rate"] for line in run.history] == pytest.approx([0.1, 0.1, 0.01, 0.01])


def test_three_axes_are_members_only_where_the_net_says_so():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5, 4)).astype(np.float32)
    with pytest.raises(ModelError, match="Is a Flatten"):
        fit(nn.Sequential(nn.Linear(1)), (x, x[:, 0, 0] > 0))


@pytest.mark.parametrize("weights", [(float("nan"), 1.0), (-1.0, 1.0), (0.0, 0.0)])
def test_class_weights_that_mean_nothing(weights):
    with pytest.raises(SpecError, match="class_weights must be"):
        Experiment(small_net(2), class_weights=weights)


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"net": small_net(3)}, ModelError, "the net puts out 3 numbers a row, and the target 'y' has 2 classes"),
        ({"net": nn.Identity()}, ModelError, "the net puts out 5 numbers a row"),
        ({"loss": nn.CrossEntropyLoss(), "net": nn.Linear(1)}, SpecError, "BCEWithLogitsLoss does"),
        ({"metrics": ("acuracy",)}, SpecError, "accuracy"),
        ({"metrics": ("rmse",)}, SpecError, "'rmse' is for number"),
        ({"early_stopping": EarlyStopping(2, monitor="f1")}, SpecError, "cannot monitor 'f1'"),
        ({"class_weights": (1.0, 2.0, 3.0)}, SpecError, "class_weights has 3 numbers"),
    ],
)
def test_what_does_not_fit_is_named(fields, error, words):
    net = fields.pop("net", small_net(2))
    with pytest.raises(error) as found:
        fit(net, dataset(), **fields)
    assert words in str(found.value)


def test_no_rows_to_train_on():
    data = dataset()
    empty = Dataset(data.schema, Part(data.train.x[:0], data.train.y[:0], data.train.rows[:0]))
    with pytest.raises(DataError, match="no training rows"):
        fit(small_net(2), empty)


def test_prediction_compiles_a_few_sizes_only():
    data = dataset()
    run = fit(small_net(2), data)
    run.predict_proba(data.test.x[:3])
    whole = run.predict_proba(np.tile(data.test.x, (300, 1)))
    before = len(programs._programs)
    for n in (2, 5, 9, 16):
        assert np.allclose(run.predict_proba(data.test.x[:n]), whole[:n], atol=1e-6)
    assert len(programs._programs) == before
    quick = run.predictor()
    assert np.allclose(quick(run.schema.encode(data.test.x[:1])), whole[:1], atol=1e-6)
    assert np.allclose(quick(run.schema.encode(data.test.x)), whole[:30], atol=1e-6)


@pytest.mark.parametrize("batch_size", [16, 33, "full"])
def test_data_from_disk_train_to_the_same_bits(tmp_path, monkeypatch, batch_size):
    """Over the memory budget: chunks of a few batches, the last batch short, against the run in memory."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6)).astype(np.float32)
    np.savez(tmp_path / "data.npz", X=x, y=(x[:, 0] > 0).astype(np.int32))
    here = derin.data.load(tmp_path / "data.npz")
    disk = derin.data.load(tmp_path / "data.npz", memory_budget=100, cache=tmp_path / "cache")
    assert isinstance(disk.train.x, np.memmap) and disk.fingerprint == here.fingerprint
    monkeypatch.setattr(training, "CHUNK_BYTES", 3 * 16 * 6 * 4)
    fields = {"epochs": 3, "batch_size": batch_size, "metrics": ("accuracy", "roc_auc")}
    net = nn.Sequential(nn.Linear(8), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.1), nn.Linear(1))
    a, b = fit(net, here, **fields), fit(net, disk, **fields)
    for k in a.params:
        assert np.array_equal(a.params[k], b.params[k]), k
    assert a.history == b.history


def test_members_learn_alone_and_predict_together():
    """A net that puts out [batch, members, outputs]: the loss is the members' mean, the prediction their mean."""
    data = dataset(n=64, classes=3)
    net = TabularMLP(out=3, widths=(8,), members=4, dropout=0.0)
    run = fit(net, data, epochs=2, batch_size="full", optimizer=optim.SGD(1e-6))
    out, _ = run.experiment.net.apply(run.params, {}, jnp.asarray(data.test.x))
    logits = torch.from_numpy(np.array(out))
    y = torch.from_numpy(data.train.y).long()
    first, _ = net.apply(first_carry(run.task, 0, data.train.x).params, {}, jnp.asarray(data.train.x))
    each = [torch.nn.functional.cross_entropy(torch.from_numpy(np.array(first[:, m])), y).item() for m in range(4)]
    assert run.history[0]["loss"] == pytest.approx(np.mean(each), rel=1e-4)
    p = torch.softmax(logits, -1).mean(1).numpy()
    assert np.allclose(run.predictor()(data.test.x), p, atol=1e-5)
    assert run.evaluate("test")["loss"] == pytest.approx(sk.log_loss(data.test.y, p, labels=[0, 1, 2]), rel=1e-3)
    binary = fit(TabularMLP(out=1, widths=(8,), members=4), dataset(n=64))
    out, _ = binary.experiment.net.apply(binary.params, {}, jnp.asarray(data.test.x))
    assert np.allclose(binary.predictor()(data.test.x)[:, 1], jax.nn.sigmoid(out[..., 0]).mean(1), atol=1e-5)
    number = fit(TabularMLP(out=1, widths=(8,), members=4), dataset(n=64, kind="number"))
    out, _ = number.experiment.net.apply(number.params, {}, jnp.asarray(data.test.x))
    assert np.allclose(number.predictor()(data.test.x), out[..., 0].mean(1) * 2 + 10, atol=1e-4)


def test_no_warning_and_no_print_when_silent(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(small_net(2), dataset())
    out, err = capsys.readouterr()
    assert out == "" and err == ""
