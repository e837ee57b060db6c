"""What the rules of derin.diagnose say where two causes are near: on evidence written by hand, and facts of rows."""

import math
from dataclasses import replace

import numpy as np
import pytest
from test_diagnose import FACTS, evidence, names

import derin
from derin import nn, optim
from derin.data.dataset import Part, take
from derin.diagnose import facts, fit, layers, rate, rows
from derin.diagnose.doctor import judged
from derin.diagnose.evidence import _memory, gather
from derin.diagnose.facts import Score


def look(update=1e-3, gradient=0.1, zeros=0.0, slope=1.0, **weights):
    """A line of health of a net of two matrices; weights: other numbers of one of them, by name."""
    plain = {"norm": 1.0, "gradient": gradient, "zeros": zeros, "update": update}
    return {
        "gradient_norm": slope, "gradient_noise": 0.1, "train_mode_loss": 1.0, "eval_mode_loss": 1.0, "layers": {},
        "weights": {name: plain | weights.get(name, {}) for name in ("first", "last")},
    }  # fmt: skip


def curves(*losses, share=1.1):
    return {"loss": np.array(losses), "valid_loss": share * np.array(losses), "epochs": len(losses)}


BAD = {"train": 0.6, "valid": 0.6}  # of 0.66


def test_a_net_that_has_hardly_moved_is_trained_too_short_and_not_biased():
    """Two epochs of iris: four steps, and a loss that fell by a hundredth of itself."""
    e = evidence(**BAD, **curves(1.10, 1.09), rows=112, batch=64, health=(look(5e-3), look(5e-3)))
    assert fit.early(e) == 1 and names(e)[0] == "trained too short"
    later = evidence(**BAD, **curves(*[1.09] * 30), rows=112, batch=64, health=(look(5e-2), look(1e-2)))
    assert fit.early(later) == 0 and names(later)[0] == "high bias"


@pytest.mark.parametrize("fall", [0.0, 0.02, 0.05, 0.07, 0.09, 0.2])
def test_a_net_far_from_what_trees_reach_is_never_just_right(fall):
    """Whatever the curve does at its end; where nothing is likely, the likeliest is said."""
    loss = 1.0 * (1 - fall) ** np.arange(5)
    for lines in ((), (look(2e-2), look(2e-2))):
        e = evidence(**BAD, **curves(*loss), hidden=0, health=lines)
        assert names(e)[0] != "just right" and fit.settled(e) <= 1 - fit.unfinished(e)
        stuck = replace(e, valid_loss=np.ones(5))
        assert names(stuck)[0] != "just right"


def test_early_stopping_that_had_nothing_to_stop_yet_does_not_excuse_few_epochs():
    """Two epochs of a default net, whose last epoch was its best; once another was, stopping knew what it did."""
    falling = evidence(**BAD, **curves(1.05, 0.9), early_stopped=True)
    assert names(falling)[0] == "trained too short"
    passed = replace(falling, valid_loss=np.array([0.9, 0.95]))
    assert fit.too_short(passed).confidence == 0


def test_small_steps_and_few_of_them_are_both_listed():
    """Which comes first: that of which more is lacking, beside steps of 1e-3 and a thousand of them."""
    falling = curves(*np.linspace(1.1, 0.8, 30))
    slow = evidence(**BAD, **falling, rows=2000, batch=20, health=(look(4e-4), look(4e-4)))
    assert rate.lacking(slow) > 0 and names(slow)[0] == "learning rate too low"
    assert "trained too short" in [v.name for v in judged(slow).suspected]
    few = evidence(**BAD, **curves(1.1, 1.0, 0.9), rows=300, health=(look(9e-4), look(9e-4)))
    said = judged(few)
    assert rate.lacking(few) < 0 and said.verdicts[0].name == "trained too short"
    assert said.suspected[0].name == "learning rate too low"


def test_a_rate_is_too_low_on_a_flat_stretch_if_the_optimiser_divides_by_the_slope():
    flat = curves(*[1.1] * 20)
    lines = (look(1e-5, slope=1e-3),) * 2
    adam = evidence(**BAD, **flat, health=lines)
    assert names(adam)[0] == "learning rate too low"
    sgd = replace(adam, experiment=adam.experiment.replace(optimizer=optim.SGD(0.1)))
    assert names(sgd)[0] == "plateau or saddle"


def test_a_curve_that_falls_at_last_has_left_a_plateau():
    curve = np.concatenate([np.full(20, 1.1), np.linspace(1.1, 1.0, 5)])
    e = evidence(**BAD, **curves(*curve), health=(look(1e-2, slope=0.1), look(1e-2, slope=0.1)))
    assert {v.name for v in (*judged(e).verdicts, *judged(e).suspected)} >= {"plateau or saddle", "trained too short"}
    assert rate.stuck(replace(e, loss=np.linspace(1.1, 0.9, 25))) == 0


def test_too_few_rows_and_too_many_epochs_are_both_listed():
    valid = np.concatenate([np.linspace(1.4, 1.2, 5), np.linspace(1.2, 2.0, 45)])  # never better than guessing
    e = evidence(0.0, 0.5, loss=np.linspace(1.1, 0.0, 50), valid_loss=valid, epochs=50)
    found = judged(e)
    assert found.verdicts[0].name == "high variance" and found.suspected[0].name == "overtrained"


def test_a_rise_of_a_loss_near_0_is_of_no_matter():
    train = np.linspace(1.1, 0.0, 50)
    for least, name in ((0.3, "overtrained"), (0.02, "just right")):
        valid = np.concatenate([np.linspace(1.1, least, 40)[::4], np.linspace(least, 1.8 * least, 40)])
        assert names(evidence(0.0, 0.05, loss=train * least, valid_loss=valid, epochs=50))[0] == name


def test_one_row_a_batch_is_mentioned_even_where_it_does_no_harm():
    lines = (look() | {"gradient_noise": 50.0},) * 2
    found = judged(evidence(batch=1, health=lines))
    assert found.healthy and found.suspected[0].name == "batch too small"


def test_few_epochs_are_too_short_with_any_batch():
    lines = (look(1e-2),) * 2
    few = evidence(**BAD, **curves(1.1, 1.0, 0.9), batch=300, health=lines)
    many = evidence(**BAD, **curves(*np.linspace(1.1, 0.8, 20)), batch=300, health=lines)
    assert names(few)[0] == "trained too short" and names(many)[0] == "batch too large"


def test_a_loss_that_jumps_does_not_fall():
    down = np.linspace(1.1, 0.9, 20)
    jumps = down + 0.3 * (-1.0) ** np.arange(20)
    assert fit.unfinished(evidence(**curves(*down))) == 1 and fit.unfinished(evidence(**curves(*jumps))) == 0


def test_units_that_died_of_large_steps_stand_behind_the_steps():
    """A batch of one row takes steps that the mean of batches does not show."""
    units = {"deviation": 1.0, "mean": 0.0, "saturated": math.nan}
    alive, gone = ({"act": units | {"dead": share, "zeros": share}} for share in (0.0, 0.9))
    first, last = look(0.1) | {"layers": alive}, look(0.01) | {"layers": gone}
    e = evidence(**BAD, **curves(*[1.1] * 20), relus=True, health=(first, last))
    assert layers.dead(e).confidence == 1.0
    noisy = replace(e, health=(first | {"gradient_noise": 30.0}, last | {"gradient_noise": 30.0}), batch=1)
    assert layers.dead(noisy).confidence == fit.SECOND and names(noisy)[0] == "batch too small"


def test_inputs_that_the_net_normalises_need_not_be():
    raw = evidence(facts=replace(FACTS, spread=(50.0, 90.0)))
    assert names(raw) == ["unnormalised inputs"]
    assert names(replace(raw, starts_normed=True)) == ["just right"]
    a_little = evidence(**BAD, facts=replace(FACTS, spread=(1.0, 9.0)))
    assert names(a_little)[0] == "unnormalised inputs"
    assert names(evidence(facts=replace(FACTS, spread=(1.0, 9.0)))) == ["just right"]


def test_a_rare_class_is_missed_though_a_rarer_one_is_found():
    told = replace(FACTS, classes=(0.6, 0.34, 0.04, 0.02))
    e = replace(evidence(facts=told), valid=Score(0.2, 0.06, 200, (1.0, 0.95, 0.0, 1.0)), labels=tuple("abcd"))
    assert names(e)[0] == "class imbalance ignored" and rows.imbalance(e).evidence["class"] == "c"
    unseen = replace(e, valid=Score(0.2, 0.06, 200, (1.0, 0.95, 1.0, math.nan)))
    assert names(unseen) == ["just right"]


def test_few_rows_of_many_columns_say_little_about_labels():
    hopeless = replace(FACTS, ceiling=Score(1.3, 0.66, 100), width=100)
    few = evidence(0.0, 0.66, facts=hopeless, rows=160)
    assert names(few)[0] == "high variance"
    assert names(replace(few, rows=2000))[0] == "shuffled labels"


def test_nll_wants_logarithms_of_probabilities():
    e = evidence(losses=frozenset({"NLLLoss"}), ends="")
    assert names(e) == ["unfitting output layer"]
    assert layers.last_layer(replace(e, ends="LogSoftmax")) is None
    for remedy in layers.last_layer(e).remedies:
        assert set(remedy.changes) <= {"loss"}


def test_dead_units_of_a_relu_that_is_no_layer_are_seen_by_their_weights():
    dead = look(last={"zeros": 0.9, "gradient": 0.1, "norm": 1.0, "update": 1e-3})
    e = evidence(**BAD, **curves(*[1.1] * 20), health=(dead, dead), relus=False)
    assert layers.dead(e).confidence == 1.0 and layers.dead(e).evidence["layer"] == "last"
    assert layers.dead(replace(e, health=(look(), look()))).confidence == 0


def test_a_slow_fall_is_no_plateau():
    """Which still falls by a hundredth of itself at the end, as a net does that is too small: it has learned."""
    fall = 0.9 ** np.arange(60)
    small = evidence(**BAD, **curves(*(0.6 + 0.5 * fall)), health=(look(1e-2, slope=0.1),) * 2)
    assert rate.stuck(small) == 0 and names(small)[0] == "high bias"
    assert rate.stuck(replace(small, loss=1.0 + 0.1 * fall)) > 0.5


def test_tiny_steps_explain_that_no_gradient_came_far_through_time():
    slow = evidence(**BAD, **curves(*[1.1] * 20), back=1e-5, health=(look(6e-5),) * 2)
    assert layers.vanishing(slow).confidence < 0.2 and names(slow)[0] == "learning rate too low"
    for later in (replace(slow, batch=1), replace(slow, health=(look(1e-3),) * 2)):  # many steps, or larger ones
        assert names(later)[0] == "vanishing gradients"


def test_a_rare_class_that_was_not_found_in_time_is_not_waited_for():
    told, fell = replace(FACTS, classes=(0.6, 0.36, 0.04)), curves(*np.linspace(1.1, 0.6, 20))
    missed = Score(0.4, 0.3, 200, (1.0, 0.9, 0.3))
    hasty = replace(evidence(0.3, 0.3, facts=told, **fell, health=(look(1e-3),) * 2), valid=missed)
    assert names(hasty) == ["trained too short"]
    late = replace(hasty, health=(look(1e-2),) * 2)
    assert set(names(late)) == {"trained too short", "class imbalance ignored"}


def test_an_uneven_loss_and_a_high_error_are_two_signs_of_one_rate():
    """First steps of three times the weights, a loss that goes up and down a little, an error that is a little high."""
    uneven = 0.2 + 0.024 * (-1.0) ** np.arange(30)
    lines = (look(3.0), look(1.5e-2))
    e = evidence(0.13, 0.13, loss=uneven, valid_loss=uneven, epochs=30, health=lines)
    assert 0.4 < (one := rate.too_high(replace(e, train=Score(0.1, 0.04, 600))).confidence) < 0.6
    assert rate.too_high(e).confidence > one + 0.15 and names(e) == ["learning rate too high"]
    assert names(replace(e, health=(look(0.1), look(5e-3)))) == ["just right"]


# -- facts


def test_class_weights_weigh_net_floor_and_ceiling_alike():
    """scikit-learn's losses with a weight a row; with balanced weights the trivial error is a half."""
    from sklearn.metrics import log_loss, zero_one_loss

    r = np.random.default_rng(0)
    y = (r.random(1200) < 0.06).astype(int)
    x = (r.normal(size=(1200, 3)) + 1.5 * y[:, None]).astype("float32")
    p = np.stack([1 - y * 0.3 - 0.3, y * 0.3 + 0.3], 1)
    weighted = facts.score(p, y, (0.5, 8.0))
    each = np.where(y, 8.0, 0.5)
    assert weighted.loss == pytest.approx(log_loss(y, p, sample_weight=each), abs=1e-9)
    assert weighted.error == pytest.approx(zero_one_loss(y, p.argmax(1), sample_weight=each), abs=1e-9)
    assert weighted.rows < 0.3 * facts.score(p, y).rows == 0.3 * 1200
    data = derin.data.load((x, y), test=0, valid=0.3)
    rule = {"optimizer": optim.Adam(3e-2), "epochs": 20, "progress": False}
    e = gather(derin.fit(nn.Linear(1), data, class_weights="balanced", **rule))
    assert e.floor.error == pytest.approx(0.5, abs=0.02) and e.floor.loss == pytest.approx(math.log(2), abs=0.01)
    assert e.ceiling.error < 0.35 and e.valid.error == pytest.approx(1 - np.mean(e.valid.recall), abs=0.02)
    assert names(e) == ["just right"]
    plain = gather(derin.fit(nn.Linear(1), data, **rule))
    assert plain.floor.error < 0.1 and plain.valid.rows == len(data.valid.x)


def test_tokens_and_images_have_a_ceiling_drift_and_copies():
    r = np.random.default_rng(0)
    x = r.integers(1, 50, (400, 6))
    y = np.isin(x, range(1, 12)).any(1).astype(int)
    words = facts.facts_of(derin.data.load((x, y), test=0, valid=0.3, kind="tokens"))
    assert words.ceiling.error < 0.6 * words.floor.error and words.width == 49 and words.leak == -1
    assert words.drift < 0.6 and words.shared == 0 and math.isnan(words.spread[0])
    pixels = r.normal(size=(300, 24, 24, 1)).astype("float32")
    y = r.integers(0, 2, 300)
    pixels[:, 5:18, 5:18] += 0.6 * y[:, None, None, None]
    data = derin.data.load((pixels, y), test=0, valid=0.3)
    seen = facts.facts_of(data)
    assert seen.ceiling.error < 0.5 * seen.floor.error and seen.width == facts.COMPONENTS + 2 and seen.drift < 0.65
    brighter = derin.data.Dataset(data.schema, data.train, data.valid._replace(x=data.valid.x + np.float32(1)))
    assert facts.facts_of(brighter).drift > 0.9


def test_copies_are_looked_for_among_all_rows(monkeypatch):
    monkeypatch.setattr(facts, "ROWS", 100)  # of 700: a copy would be in both samples once in fifty times
    r = np.random.default_rng(0)
    x, y = r.normal(size=(1000, 4)).astype("float32"), r.normal(size=1000).astype("float32")
    data = derin.data.load((x, y), test=0, valid=0.3)
    again = Part(*(np.concatenate([a[:150], b[150:]]) for a, b in zip(data.valid, data.train, strict=True)))
    assert facts.facts_of(derin.data.Dataset(data.schema, again, take(data.valid, np.arange(300)))).shared > 0.3


def test_a_leak_with_a_copy_of_itself_is_still_a_leak():
    r = np.random.default_rng(0)
    x, y = r.normal(size=(500, 4)), r.normal(size=500)
    twice = np.c_[x, y, 3 * y + 1].astype("float32")
    found = facts.facts_of(derin.data.load((twice, y), test=0, valid=0.3))
    assert found.leak in (4, 5) and found.leak_error < 0.1 and found.without_leak > 0.9 and found.next_error > 0.9
    assert rows.leak(evidence(facts=found)).confidence == 1.0


def test_a_column_that_says_most_of_a_number_is_no_leak():
    """It leaves a fifth of the squares: wrong by nearly half as much as the mean is. Of classes that is far less."""
    some = replace(FACTS, classes=(), floor=Score(1.0, 1.0, 200), without_leak=1.0, next_error=0.9)
    assert rows.leak(evidence(facts=replace(some, leak_error=0.2))).confidence == 0
    assert rows.leak(evidence(facts=replace(some, leak_error=0.01))).confidence == 1
    of_classes = replace(some, classes=(0.5, 0.5), leak_error=0.2)
    assert 0.5 < rows.leak(evidence(facts=of_classes)).confidence < 1


def test_a_line_through_few_rows_is_judged_by_its_error_per_degree_of_freedom():
    number = replace(FACTS, classes=(), floor=Score(1.0, 1.0, 200), ceiling=Score(0.4, 0.4, 200))
    given = dict(train=0.22, valid=0.75, rows=60, hidden=0, numbers=1, facts=number)
    assert names(evidence(**given, weights=31))[0] == "high bias and high variance"
    assert names(evidence(**given, weights=4))[0] == "high variance"  # what it leaves is what it leaves of any rows
    assert names(evidence(**given | {"hidden": 1}, weights=31))[0] == "high variance"
    assert names(evidence(**given | {"numbers": 8}, weights=32))[0] == "high variance"  # four a number
    assert names(evidence(**given | {"numbers": 0}, weights=31))[0] == "high variance"  # of classes


def test_where_nothing_learns_a_plateau_is_listed_behind_shuffled_labels():
    nothing = replace(FACTS, ceiling=Score(1.12, 0.66, 200))
    lost = {"train": Score(1.09, 0.62, 600, (0.3,) * 3), "valid": Score(1.1, 0.65, 200, (0.3,) * 3)}
    e = replace(evidence(**curves(*[1.09] * 30), facts=nothing, health=(look(), look(slope=0.01))), **lost)
    found = [v.name for v in (*judged(e).verdicts, *judged(e).suspected)]
    assert found[:2] == ["shuffled labels", "plateau or saddle"]


def test_what_learns_as_little_as_trees_do_is_not_just_right():
    nothing = replace(FACTS, ceiling=Score(1.12, 0.60, 200))
    lost = {"train": Score(1.0, 0.44, 600, (0.5,) * 3), "valid": Score(1.05, 0.53, 200, (0.5,) * 3)}
    slowly = curves(*np.linspace(1.09, 1.0, 30), share=1.02)
    assert names(replace(evidence(**slowly, facts=nothing), **lost))[0] != "just right"
    few = replace(FACTS, classes=(), floor=Score(1.0, 1.0, 50), ceiling=Score(1.05, 1.05, 50))
    stands = evidence(train=0.97, valid=1.0, **curves(*[1.0] * 30), rows=50, hidden=0, numbers=1, facts=few)
    stands = replace(stands, train=Score(0.97, 0.97, 50), valid=Score(1.0, 1.0, 50))
    assert judged(stands).verdicts[0].name != "just right" and judged(stands).verdicts[0].confidence < 0.5


def test_running_statistics_of_the_last_few_rows_mislead_whatever_the_last_look_says():
    shaky = (look(), look() | {"eval_mode_loss": 1.2}, look() | {"eval_mode_loss": 0.8})
    given = dict(train=0.25, valid=0.27, batch=6, norms=1, health=shaky)
    found = layers.batchnorm(evidence(**given, memory=1.02))  # momentum 0.99
    rows_behind = found.evidence["rows behind the running statistics"]
    assert found.confidence == 1 and rows_behind == pytest.approx(6.12, abs=0.01)
    level = layers.batchnorm(evidence(**given | {"health": (look(),) * 3}, memory=1.02))
    assert 0 < level.confidence < 0.5  # both modes have one loss: something else is wrong
    assert layers.batchnorm(evidence(**given, memory=19.0)).confidence < 0.5
    assert layers.batchnorm(evidence(**given | {"batch": 64}, memory=1.02)).confidence < 0.5
    assert layers.batchnorm(evidence(**given)).evidence["rows behind the running statistics"] == 600


@pytest.mark.parametrize(
    "norm, batches",
    [
        (nn.BatchNorm(), 19),
        (nn.BatchNorm(momentum=1.0), 1),
        (nn.BatchNorm(momentum=0.0), 0),
        (nn.BatchNorm(momentum=None), math.inf),
        (nn.BatchNorm(momentum=0.9, track_running_stats=False), math.inf),
    ],
)
def test_how_many_batches_running_statistics_weigh(norm, batches):
    assert _memory(norm) == pytest.approx(batches)


def test_several_numbers_have_a_ceiling():
    r = np.random.default_rng(0)
    x = r.normal(size=(300, 3)).astype("float32")
    found = facts.facts_of(derin.data.load((x, np.c_[x[:, 0], x[:, 1] ** 2].astype("float32")), test=0, valid=0.3))
    assert found.ceiling.error < 0.3 and found.floor.error == pytest.approx(1.0, abs=0.1)


# -- nets


class Functions(nn.Module):
    """relu and softmax called as functions, behind an embedding."""

    def setup(self):
        self.table, self.flat = nn.Embedding(20, 4), nn.Flatten()
        self.hidden, self.last = nn.Linear(6), nn.Linear(3)

    def forward(self, x):
        return nn.softmax(self.last(nn.relu(self.hidden(self.flat(self.table(x))))))


def test_what_is_known_of_a_net():
    """An embedding is looked up: most of it has no gradient, which is no vanishing one. A softmax is told by its sums."""
    r = np.random.default_rng(0)
    data = derin.data.load((r.integers(0, 20, (90, 5)), r.integers(0, 3, 90)), test=0, valid=0.3, kind="tokens")
    run = derin.fit(Functions(), data, epochs=1, progress=False)
    e = gather(run)
    assert "table.weight" in e.bias_like and set(e.units) == {"hidden.weight", "last.weight"} and e.hidden == 1
    assert e.ends == "Softmax" and names(e)[0] == "unfitting output layer" and math.isnan(e.back)


def test_the_first_weights_of_a_layer_may_all_be_the_same():
    """As its initialiser says: dropout tells units apart later."""
    x = np.random.default_rng(0).normal(size=(90, 3)).astype("float32")
    data = derin.data.load((x, x[:, 0]), test=0, valid=0.3)

    def known(hidden):
        net = nn.Sequential(nn.BatchNorm(), hidden, nn.Tanh(), nn.Dropout(0.5), nn.Linear(1))
        return gather(derin.fit(net, data, epochs=1, progress=False))

    same = known(nn.Linear(4, weight_init=nn.init.Full(0.3)))
    assert same.alike and same.starts_normed and not known(nn.Linear(4)).alike


def test_gradients_through_time_are_measured():
    """An RNN of 40 steps whose answer stands at the first: by the time it gets there, nothing is left."""
    x = np.random.default_rng(0).normal(size=(120, 40, 1)).astype("float32")
    data = derin.data.load((x, (x[:, 0, 0] > 0).astype(int)), test=0, valid=0.3)
    e = gather(derin.fit(nn.Sequential(nn.LastStep(nn.RNN(8)), nn.Linear(1)), data, epochs=2, progress=False))
    assert 0 < e.back < 1e-3 and set(e.units) == {"0.weight_ih_l0", "0.weight_hh_l0", "1.weight"}
    flat = replace(e, loss=np.full(20, 0.69), health=(look(),) * 2, train=Score(0.69, 0.5, 84), hidden=2)
    flat = replace(flat, facts=replace(e.facts, floor=Score(0.69, 0.5, 36), ceiling=Score(0.1, 0.0, 36)))
    found = layers.vanishing(flat)
    assert found.confidence == 1.0 and found.evidence["first steps of the series over the steepest"] == e.back
    assert any("LSTM" in r.text for r in found.remedies)
