"""Pictures of a search: the marks are the trials, every word can be read, and the page needs nothing else."""

import functools
import itertools
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text

from derin.errors import RunError
from derin.tune import pictures
from derin.tune.axis import axis_of, told_apart
from derin.tune.drawing import styled, svg
from derin.tune.page import page
from derin.tune.pictures import Search

SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"
ODD = 'a<b>&"c"$x_1^2$'  # of names and labels that people choose
RUNGS = (1, 3, 9, 27)
SCALES = {
    "optimizer.learning_rate": "log",
    "optimizer.momentum": "one_minus_log",
    "net.layers.1.rate": "linear",
    "net.activation": "choice",
}


def trial(number, random, greater=True):
    """As a search with halving makes them: good ones train longer, one in twenty diverges."""
    rate = 10 ** random.uniform(-4, 0)
    values = {"optimizer.learning_rate": rate, "net.layers.1.rate": random.uniform(0, 0.5)}
    values["net.activation"] = ("relu", "gelu", "LeakyReLU(negative_slope=0.01)")[number % 3]
    if number % 2:
        values["optimizer.momentum"] = 1 - 10 ** random.uniform(-3, -1)  # set in half of the trials
    good = 0.95 - 0.06 * (math.log10(rate) + 2) ** 2 + random.normal() * 0.01
    epochs = RUNGS[min(3, max(0, int(random.uniform(0, 1) + 5 * (good - 0.35))))]
    curve = [float(good * (1 - 0.7 ** (e + 1))) for e in range(epochs)]
    state = "finished" if epochs == RUNGS[-1] else "pruned"
    if number % 20 == 7:
        state, curve[-1] = "diverged", math.nan
    curve = curve if greater else [1 - v for v in curve]
    return {"number": number, "values": values, "score": curve[-1], "state": state, "epochs": epochs, "curve": curve,
            "seconds": 1.5 * number + epochs}  # fmt: skip


def search(n=60, greater=True, seed=0):
    random = np.random.default_rng(seed)
    metric = "valid_accuracy" if greater else "valid_loss"
    shares = {"optimizer.learning_rate": 0.6, "net.activation": 0.3, "optimizer.momentum": 0.05}
    return Search([trial(i, random, greater) for i in range(n)], metric, greater, SCALES, shares)


@functools.cache
def seen_drawn(name):
    """A picture of SEEN."""
    return drawn(pictures.pictures(SEEN)[name])


def drawn(figure):
    return ElementTree.fromstring(svg(figure))


def marks(root, gid):
    """Places of the marks of a group, in points.   -> [n, 2]"""
    group = root.find(f".//{SVG}g[@id='{gid}']")
    uses = [] if group is None else group.findall(f".//{SVG}use")
    return np.array([(float(u.get("x")), float(u.get("y"))) for u in uses]).reshape(-1, 2)


def words(root):
    return ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


SEEN = search()
STATES = {state: [t for t in SEEN.trials if t["state"] == state] for state in ("finished", "pruned", "diverged")}
ALL_DIVERGED = SEEN._replace(trials=[dict(t, state="diverged", score=None, curve=[]) for t in SEEN.trials[:5]])
CASES = {
    "a search": SEEN,
    "a loss": search(30, greater=False),
    "one trial": search(1),
    "two equal trials": SEEN._replace(trials=[dict(SEEN.trials[0], number=i) for i in range(2)]),
    "none finished": SEEN._replace(trials=STATES["pruned"][:9]),
    "all diverged": ALL_DIVERGED,
    "no trials": SEEN._replace(trials=[], importance={}),
    "odd names": Search(
        [dict(t, values={ODD: i * 1.0, "k": ODD if i % 2 else "b"}) for i, t in enumerate(SEEN.trials[:6])],
        ODD, True, {ODD: "linear", "k": "choice"}, {ODD: 0.9, "k": 0.1},
    ),
    "long names": SEEN._replace(
        trials=[dict(t, values={"net.blocks.11.attention.projection.dropout_rate_" + "x" * 40: 0.1 * i,
                                "optimizer": f"a very long name of a choice, number {i % 7}"})
                for i, t in enumerate(SEEN.trials[:20])],
        scales={}, importance={"net.blocks.11.attention.projection.dropout_rate_" + "x" * 40: 1.0},
    ),
}  # fmt: skip


# -- what is drawn


def test_each_trial_is_a_mark_in_the_panels_of_its_hyperparameters():
    root = seen_drawn("hyperparameters")
    for path in SCALES:
        for state, mine in STATES.items():
            assert len(marks(root, f"{state}-{path}")) == sum(path in t["values"] for t in mine), (path, state)
        assert (path in SEEN.best["values"]) == (len(marks(root, f"best-{path}")) == 1)
    assert set(SCALES) <= set(words(root))


def test_marks_stand_where_the_scale_puts_them():
    mine = sorted(STATES["finished"], key=lambda t: t["number"])
    root = seen_drawn("hyperparameters")
    for path, place in (("optimizer.learning_rate", np.log10), ("net.layers.1.rate", np.asarray)):
        here = marks(root, f"finished-{path}")
        wanted = np.array([[place(t["values"][path]), -t["score"]] for t in mine])  # y goes down the page
        wanted = wanted[np.argsort(wanted[:, 0])]
        here = here[np.argsort(here[:, 0])]
        for i in (0, 1):
            a, b = np.polyfit(wanted[:, i], here[:, i], 1)
            np.testing.assert_allclose(a * wanted[:, i] + b, here[:, i], atol=0.02)  # points; SVG has two decimals
            assert a > 0


def test_diverged_trials_stand_at_the_worse_edge():
    for greater in (True, False):
        seen = search(60, greater)
        root = drawn(pictures.hyperparameters(seen))
        diverged = marks(root, "diverged-net.layers.1.rate")[:, 1]
        others = np.concatenate([marks(root, f"{s}-net.layers.1.rate")[:, 1] for s in ("finished", "pruned")])
        assert len(diverged) == 3
        assert np.ptp(diverged) == 0
        assert (diverged[0] >= others.max() - 0.02) if greater else (diverged[0] <= others.min() + 0.02)


def test_one_absurd_score_does_not_press_the_others_into_a_line():
    seen = search(60, greater=False)
    seen.trials[3]["score"] = 1e9
    root = drawn(pictures.hyperparameters(seen))
    y = np.concatenate([marks(root, f"{s}-net.layers.1.rate")[:, 1] for s in ("finished", "pruned")])
    assert len(np.unique(y.round())) > 15


def test_learning_curves():
    root = seen_drawn("curves")
    for state, mine in STATES.items():
        group = root.find(f".//{SVG}g[@id='curves-{state}']")
        kept = [t for t in mine if np.isfinite(t["curve"]).any()]
        assert len(group.findall(f".//{SVG}path")) == len(kept), state
    faded = root.find(f".//{SVG}g[@id='curves-pruned']")[0].get("style")
    strong = root.find(f".//{SVG}g[@id='curves-finished']")[0].get("style")
    opacity = lambda style: float(re.search(r"opacity: ([\d.]+)", style)[1])  # noqa: E731
    width = lambda style: float(re.search(r"stroke-width: ([\d.]+)", style)[1])  # noqa: E731
    assert opacity(faded) < opacity(strong)
    assert width(faded) < width(strong)
    assert any(word.startswith(f"{len(STATES['pruned'])} pruned") for word in words(root))


def test_the_best_so_far_never_gets_worse():
    for greater in (True, False):
        seen = search(60, greater)
        steps = marks(drawn(pictures.best_so_far(seen)), "improvements")
        done = sorted((t for t in seen.trials if t["state"] == "finished"), key=lambda t: t["seconds"])
        scores = np.array([t["score"] for t in done]) * (1 if greater else -1)
        best = np.maximum.accumulate(scores)
        assert len(steps) == len(np.unique(best))
        y = steps[np.argsort(steps[:, 0]), 1]
        assert (np.diff(y) < 0).all() if greater else (np.diff(y) > 0).all()


@pytest.mark.parametrize("greater", [True, False])
def test_a_search_whose_time_was_over_before_a_trial_finished(greater):
    """Its best is that of the trials which were not pruned, in the pictures as in the study."""
    pruned = [t | {"state": "pruned"} for t in search(4, greater).trials]
    unfinished = [t | {"state": "unfinished", "number": 4 + i} for i, t in enumerate(search(8, greater, 1).trials)]
    some = search(4, greater)._replace(trials=[*pruned, *unfinished])
    finite = [t for t in unfinished if t["score"] is not None and np.isfinite(t["score"])]
    assert some.best == (max if greater else min)(finite, key=lambda t: t["score"])
    for picture in pictures.pictures(some).values():
        drawn(picture)
    only = some._replace(trials=unfinished)
    assert only.best == some.best and page(only)


def test_rungs_count_the_trials_that_ended_there():
    root = seen_drawn("rungs")
    for state, mine in STATES.items():
        assert len(marks(root, f"rungs-{state}")) == len(mine)
    said = words(root)
    for rung in RUNGS:
        n = sum(t["epochs"] == rung and t["state"] != "diverged" for t in SEEN.trials)
        assert not n or {str(rung), str(n)} <= set(said)


def test_parallel_lines_are_the_trials_with_a_score():
    root = seen_drawn("parallel")
    scored = [t for t in SEEN.trials if math.isfinite(pictures.score(t))]
    assert len(root.find(f".//{SVG}g[@id='lines']").findall(f".//{SVG}path")) == len(scored)
    assert words(root).count("not set") == 1  # momentum, in half of them


NETS = ("MLP(widths=(16,), out=3)", "MLP(widths=(32,), out=3)", "MLP(widths=(32, 16), out=3, dropout=0.1)", "Linear(3)")


def test_options_that_begin_alike_are_told_apart_on_their_axis():
    trials = [dict(t, values={"net": NETS[i % 4]}) for i, t in enumerate(SEEN.trials)]
    seen = SEEN._replace(trials=trials, scales={"net": "choice"}, importance={})
    for picture in (pictures.parallel(seen), pictures.hyperparameters(seen)):
        said = words(drawn(picture))
        assert {"MLP (16,)", "MLP (32,)", "Linear(3)"} <= set(said), said
        assert sum(word.startswith("MLP (32, 16") for word in said) == 1


def test_ticks_of_whole_numbers_are_whole():
    trials = [dict(t, values={"net.layers": 4 + i % 2, "batch_size": 20 + i}) for i, t in enumerate(SEEN.trials)]
    seen = SEEN._replace(trials=trials, scales={"net.layers": "linear", "batch_size": "log"}, importance={})
    layers, batch_size = seen.axes
    assert [label for _, label in layers.ticks(7)] == ["4", "5"]
    assert "." not in "".join(label for _, label in batch_size.ticks(7))
    said = words(drawn(pictures.parallel(seen)))
    assert {"4", "5"} <= set(said) and "4.2" not in said


@pytest.mark.parametrize("lang, said", [("en", "1,012 more never trained, so not shown"), ("tr", "1,012 deneme daha")])
def test_trials_that_never_trained_are_counted(lang, said):
    """Those that were refused, or stopped before their first epoch: they have nothing to be drawn by."""
    seen = SEEN._replace(unseen=1012, lang=lang)
    for name, picture in pictures.pictures(seen).items():
        assert any(word.startswith(said) for word in words(drawn(picture))) == (name != "importance"), name
    assert not any("never trained" in word for word in words(drawn(pictures.curves(SEEN))))
    text = page(seen, lang=lang)
    assert "1,072" in text and ("<dt>never trained" in text or "hiç eğitilmedi" in text)


def test_importance_bars():
    root = seen_drawn("importance")
    widths = {}
    for path in SEEN.importance:
        x = [
            float(v) for v in re.findall(r"[ML] ([\d.]+)", root.find(f".//{SVG}g[@id='bar-{path}']/{SVG}path").get("d"))
        ]
        widths[path] = max(x) - min(x)
    first = "optimizer.learning_rate"
    for path, share in SEEN.importance.items():
        assert widths[path] / widths[first] == pytest.approx(share / 0.6, abs=1e-3)
    assert {"60%", "30%", "5%"} <= set(words(root))
    assert "importance" not in pictures.pictures(SEEN._replace(importance={}))


# -- readable


@pytest.mark.parametrize("case", CASES)
def test_no_word_is_cut_and_no_two_ticks_are_on_each_other(case, monkeypatch):
    written, draw = [], Text.draw
    monkeypatch.setattr(Text, "draw", lambda text, renderer: (written.append(text), draw(text, renderer)))
    seen = CASES[case]
    for name, figure in (
        *pictures.pictures(seen).items(),
        *((a.path, pictures.hyperparameter(seen, a)) for a in seen.axes[:1]),
    ):
        written.clear()
        with styled():
            figure.draw_without_rendering()
        edge = figure.bbox
        for text in written:
            if text.get_visible() and text.get_text().strip():
                box = text.get_window_extent()
                inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= edge.x1 + 1 and box.y1 <= edge.y1 + 1
                assert inside, (name, text.get_text(), box)
        for panel in figure.axes:
            ticks = [t for t in panel.get_xticklabels() if t in written and t.get_text() and not t.get_rotation()]
            boxes = sorted((t.get_window_extent() for t in ticks), key=lambda box: box.x0)
            assert all(a.x1 <= b.x0 for a, b in itertools.pairwise(boxes)), (name, panel.get_title())


@pytest.mark.parametrize("case", ["all diverged", "no trials", "odd names"])
def test_the_page_of_little(case):
    found = page(CASES[case], title=ODD, facts={ODD: ODD})
    check_page(found)
    assert "nan" not in found.lower().replace("finance", "")
    assert ODD not in found  # it is escaped


def test_odd_names_are_shown_as_they_are():
    found = words(drawn(pictures.hyperparameters(CASES["odd names"])))
    assert found.count(ODD) >= 2  # above its panel, and beside it
    assert any(word.startswith("a<b>&") for word in words(drawn(pictures.importance(CASES["odd names"]))))


def test_empty_pictures_say_why():
    assert words(drawn(pictures.best_so_far(ALL_DIVERGED))) == ["no trial has a score yet"]
    assert words(drawn(pictures.curves(ALL_DIVERGED))) == ["no trial has finished an epoch yet"]
    assert words(drawn(pictures.rungs(CASES["no trials"]))) == ["no trial has ended yet"]
    assert words(drawn(pictures.hyperparameters(CASES["no trials"]))) == ["no trial has a hyperparameter yet"]


# -- the page


class Checker(HTMLParser):
    """Every tag that opens closes; all ids; all that would be fetched."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.fetched, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self._seen(attrs)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self._seen(attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def _seen(self, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        links = [found.get(name) or "" for name in ("src", "href", "xlink:href")]
        self.fetched += [link for link in links if link and not link.startswith(("#", "data:image/png;base64,"))]


def check_page(text):
    checker = Checker()
    checker.feed(text)
    assert not checker.open
    assert not checker.fetched
    assert "script" not in checker.tags
    assert "url(http" not in text
    assert len(checker.ids) == len(set(checker.ids))
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        ids = {e.get("id") for e in root.iter()}
        assert all(e.get(HREF)[1:] in ids for e in root.iter(f"{SVG}use"))
        assert all(name in ids for name in re.findall(r"url\(#([^)]*)\)", drawing))
        assert root.get("aria-label")
    return drawings


def test_the_page_of_a_thousand_trials():
    seen = search(1000, seed=1)
    text = page(seen, "wine", {"compile time": "12 s"})
    drawings = check_page(text)
    assert len(text.encode()) < 1.5e6
    assert len(drawings) == 5 + len(SCALES)
    for said in ("prefers-color-scheme: dark", "@media print", "width=device-width", "compile time", "1,000"):
        assert said in text
    assert not re.search(r"(fill|stroke): (#24292f|#6e7781|#fefefe|#ffffff|#000000)", "".join(drawings))  # of the page
    rows = re.findall(r"<tr><td>(\d+)</td><td>([\d.]+)</td>", text)
    best = sorted((t for t in seen.trials if t["state"] == "finished"), key=seen.loss)[:10]
    assert [int(number) for number, _ in rows] == [t["number"] for t in best]


def test_what_is_thinned_out():
    seen = search(1000, seed=2)
    kept = pictures.thinned(seen, 100)
    assert len(kept) == 100
    assert kept[0]["number"] == min((t for t in seen.trials if t["state"] != "diverged"), key=seen.loss)["number"]
    assert len({t["number"] for t in kept}) == 100
    assert any(t["state"] == "diverged" for t in kept)
    assert len(pictures.thinned(seen, 5000)) == 1000


def test_files(tmp_path):
    few = {name: figure for name, figure in pictures.pictures(SEEN).items() if name in ("best", "importance")}
    (best, bars) = pictures.save(few, tmp_path / "new")
    assert (best.name, bars.name) == ("best.svg", "importance.svg")
    (again, _) = pictures.save({n: pictures.pictures(SEEN)[n] for n in few}, tmp_path / "again")
    assert best.read_bytes() == again.read_bytes()
    for path in pictures.save(few, tmp_path, format="png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(RunError, match="format must be 'svg' or 'png', got 'pdf'"):
        pictures.save(few, tmp_path, format="pdf")


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RunError, match=r"pictures need matplotlib: pip install derin\[plots\]"):
        pictures.curves(SEEN)


def test_nothing_is_imported_before_it_is_drawn():
    done = subprocess.run(
        [sys.executable, "-c", "import derin.tune.page, sys; print('matplotlib' in sys.modules, 'polars' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["False", "False"]


# -- scales


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["linear", "log", "one_minus_log"]), st.floats(-6, 2), st.floats(0.01, 6))
def test_ticks_are_round_few_and_where_they_say(scale, low, width):
    made = {"linear": lambda p: p, "log": lambda p: 10**p, "one_minus_log": lambda p: 1 - 10 ** (-abs(p) - 0.01)}[scale]
    axis = axis_of("x", [made(low), made(low + width)], scale)
    ticks = axis.ticks(6)
    assert 1 <= len(ticks) <= 12
    for place, label in ticks:
        assert axis.low - 1e-6 <= place <= axis.high + 1e-6
        assert axis.place(float(label)) == pytest.approx(place, abs=2e-2 * max(axis.high - axis.low, 0.05))
    assert [p for p, _ in ticks] == sorted({p for p, _ in ticks})


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 500), st.integers(0, 500), st.sampled_from(["linear", "log"]))
def test_ticks_of_whole_numbers(low, width, scale):
    axis = axis_of("x", [low, low + width], scale)
    ticks = axis.ticks(6)
    assert ticks and all(float(label).is_integer() and axis.low <= place <= axis.high for place, label in ticks)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("ab(,=) 1", max_size=20), max_size=8), st.sampled_from(["", "MLP(widths=", "a name "]))
def test_no_two_labels_are_cut_alike(ends, beginning):
    labels = [*dict.fromkeys(" ".join(f"{beginning}{end}".split()) for end in ends)]
    found = told_apart(labels, 12)
    assert len(set(found)) == len(labels) and all(len(f) <= 12 for f in found)


def test_labels_keep_what_differs():
    nets = [f"Sequential(Linear({n}), BatchNorm(), ReLU(), Linear(3))" for n in (64, 128)]
    assert told_apart(nets, 12) == ["Linear(64)", "Linear(128)"]
    assert told_apart([f"TabularMLP(out=3, dropout=0.1{more})" for more in ("", ", norm=True")], 12) == [
        "TabularMLP",
        "norm=True",
    ]
    assert told_apart([f"a very long name of a choice, number {i}" for i in range(2)], 12)[1] == "…e, number 1"
    assert told_apart(["x" * 20 + i + "y" * 20 for i in "12"], 12) == ["xxxxxxxx… #1", "xxxxxxxx… #2"]
    assert told_apart(["relu", "Adam(learning_rate=0.001)"], 12) == ["relu", "Adam(learni…"]


def test_scales():
    log = axis_of("rate", [1e-4, 1, 0, None], "log")
    assert log.ticks(6) == [(-4, "1e-4"), (-3, "0.001"), (-2, "0.01"), (-1, "0.1"), (0, "1")] or log.low == -4
    assert math.isnan(log.place(0))
    assert math.isnan(log.place(None))
    beta = axis_of("beta", [0.9, 0.999], "one_minus_log")
    assert [label for _, label in beta.ticks(6)] == ["0.9", "0.99", "0.999"]
    assert beta.share(beta.place(0.99)) == pytest.approx(0.5)  # S4.06: evenly in log10(1 - beta)
    width = axis_of("width", [128, 32, 64, None], "choice")
    assert width.labels == ("32", "64", "128")
    assert axis_of("mixed", [3, "relu", True]).labels == ("3", "True", "relu")
    assert axis_of("one", [0.3], "linear").share(0.3) == pytest.approx(0.5)
    assert axis_of("none", [], "log").ticks(5)
    assert list(log.shares([1e-4, None])) == [0, -0.12]
