"""The page of a run: its numbers are scikit-learn's and SciPy's, every word is in both languages, and it renders."""

import ast
import json
import os
import re
import shlex
import shutil
import string
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

import derin
from derin import nn, optim
from derin.cli import run as command
from derin.data import targets
from derin.data.dataset import column_places
from derin.diagnose.verdict import Diagnosis, Remedy, Verdict
from derin.engine import journal
from derin.errors import RunError, SpecError
from derin.report import measure, svg
from derin.report import words as words_of_pages
from derin.report.diagnosis_tr import NOTES
from derin.report.messages_en import MESSAGES as ENGLISH
from derin.report.messages_tr import MESSAGES as TURKISH
from derin.report.page import _of_classes, page
from derin.report.parts import _thinned, adoption, diagnosis_part, health_part
from derin.report.words import remedy, words

SOURCES = sorted(Path(derin.__file__).parent.glob("report/*.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def two_classes(folder):
    """A table of all kinds of columns, early stopping, and a change in mid-run."""
    rng = np.random.default_rng(0)
    n = 400
    age, town, kind = rng.integers(18, 80, n), rng.choice(["Izmir", "Van", "Muş"], n), rng.choice(list("ab"), n)
    yes = (age / 20 + 2 * (town == "Van") + rng.normal(0, 0.8, n)) > 3
    rows = [
        f"{i},{a},{t},{k},{'yes' if y else 'no'}"
        for i, (a, t, k, y) in enumerate(zip(age, town, kind, yes, strict=True))
    ]
    (folder / "people.csv").write_text("id,age,town,kind,<y>\n" + "\n".join(rows) + "\n", encoding="utf-8")
    data = derin.data.load(folder / "people.csv", target="<y>")

    def change(report):
        if report.epoch == 3:
            journal.ask(report.path, "set", "optimizer.learning_rate", 0.003, "the loss <jumps>", "test")

    net = nn.Sequential(nn.Linear(16), nn.ReLU(), nn.Linear(1))
    fields = {"epochs": 12, "optimizer": optim.Adam(0.02), "early_stopping": derin.EarlyStopping(20), "progress": False}
    fields["metrics"] = ("accuracy", "roc_auc", "f1")
    return derin.fit(net, data, out=folder / "people", callbacks=[change], **fields)


@pytest.fixture(scope="module")
def classes():
    net = nn.Sequential(nn.Linear(16), nn.ReLU(), nn.Linear(3))
    return derin.fit(net, derin.data.load("iris"), epochs=4, optimizer=optim.Adam(0.01), progress=False)


@pytest.fixture(scope="module")
def number():
    return derin.fit(
        nn.MLP((16,), out=1), derin.data.load("diabetes"), epochs=8, optimizer=optim.Adam(0.01), progress=False
    )


class Checker(HTMLParser):
    """Every tag that opens closes; nothing is fetched; all places that links lead to are there."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[name] for name in ("src", "href") if name in found]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(text):
    checker = Checker()
    checker.feed(text)
    assert not checker.open and "script" not in checker.tags and "link" not in checker.tags
    assert all(link.startswith("#") and link[1:] in checker.ids for link in checker.links)
    assert len(checker.ids) == len(set(checker.ids)) and len(text.encode()) < 1.5e6
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    for drawing in drawings:
        assert ElementTree.fromstring(drawing).get("aria-label") and "nan" not in drawing
    return drawings


@pytest.mark.parametrize("lang", ["en", "tr"])
@pytest.mark.parametrize("which", ["two_classes", "classes", "number"])
def test_the_page(which, lang, request):
    run = request.getfixturevalue(which)
    text = page(run, lang)
    drawings = checked(text)
    assert f'<html lang="{lang}">' in text and len(drawings) >= 4
    catalogue = {"en": ENGLISH, "tr": TURKISH}[lang]
    parts = ["asked", "data", "curves", "metrics", "predictions", "importance", "reproduce"]
    parts += ["journal"] * (which == "two_classes")
    assert all(catalogue[f"{name}.title"] in text for name in parts)
    name, value = next((k, v) for k, v in run.evaluate("test").items() if k in ("accuracy", "rmse"))
    assert f"{catalogue[f'metric.{name}']}</td><td class=n>{value:.4g}" in text
    own = "confusion.title" if which != "number" else "residuals.title"
    assert catalogue[own] in text and run.fingerprint[:16] in text
    if which == "two_classes":
        assert "the loss &lt;jumps&gt;" in text and "&lt;y&gt;" in text and "<y>" not in text
        assert "0.02 -&gt; 0.003" in text and "derin replay" in text
    if lang == "tr":  # nothing was left in English
        shown = unescape(
            re.sub(
                r"<pre>.*?</pre>|<[^>]*>",
                "\n",
                re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL),
                flags=re.DOTALL,
            )
        )
        for key, english in ENGLISH.items():
            whole = english.split("{")[0].strip()
            if len(whole) > 8 and TURKISH[key] != english:
                assert not re.search(rf"^{re.escape(whole)}(?![.\w])", shown, re.MULTILINE), key


def test_files_and_the_command(two_classes, folder, capsys):
    assert two_classes.report() == folder / "people" / "report.html"
    out = folder / "rapor.html"
    assert command(["report", str(folder / "people"), "--lang", "tr", "--out", str(out)]) == 0
    assert "KiB" in capsys.readouterr().out and "Öğrenme eğrileri" in out.read_text(encoding="utf-8")
    for given, message in (
        (["--lang", "de"], "pages are written in en and tr, got lang='de'"),
        (["--out", "page.txt"], "a report is a page, named .html"),
        (["--out", "no/where.html"], "there is no folder 'no' to write where.html to"),
    ):
        assert command(["report", str(folder / "people"), *given]) == 2
        assert message in capsys.readouterr().err
    assert command(["report", str(folder)]) == 2


def test_a_run_in_memory_needs_a_file(number, tmp_path):
    with pytest.raises(RunError, match="a run in memory has no folder for its report"):
        number.report()
    with pytest.raises(SpecError, match="pages are written in"):
        number.report(tmp_path / "a.html", lang="fr")
    assert number.report(tmp_path / "a.html").stat().st_size > 5000


def test_a_run_whose_data_are_gone(folder, tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 2)).astype("float32")
    derin.fit(nn.Linear(1), (x, x[:, 0] > 0), epochs=2, out=tmp_path / "run", progress=False)
    text = page(derin.load(tmp_path / "run"))
    checked(text)
    assert "Not measured, for the data are not at hand: this run was trained on arrays in memory" in text
    assert ENGLISH["curves.title"] in text and ENGLISH["predictions.title"] not in text


def test_a_study_in_turkish(tmp_path):
    pytest.importorskip("matplotlib")
    net = nn.Sequential(nn.Linear(4), nn.ReLU(), nn.Linear(3))
    experiment = derin.Experiment(net, epochs=2, optimizer=optim.Adam(derin.log(1e-3, 1e-1)))
    study = derin.tune(experiment, derin.data.load("iris"), trials=3, out=tmp_path / "study", progress=False)
    assert command(["report", str(study.path), "--lang", "tr"]) == 0
    text = (study.path / "report.html").read_text(encoding="utf-8")
    for said in ("En iyi denemeler", "Şimdiye kadarki en iyi", "Her çizgi bir deneme", "3 bitti", "tamamlandı"):
        assert said in text
    assert "trial" not in re.sub(r"<style.*?</style>|<[^>]*>", "", text, flags=re.DOTALL)
    assert "The best trials" in study.page(tmp_path / "page.html").read_text(encoding="utf-8")


# -- numbers


@pytest.mark.parametrize(("k", "n"), [(0, 5), (3, 7), (270, 300), (50, 50)])
def test_wilson_is_scipys(k, n):
    from scipy.stats import binomtest

    want = binomtest(k, n).proportion_ci(method="wilson")
    assert np.allclose(measure.wilson(k, n), want, atol=1e-12)


def test_scores_and_their_intervals(two_classes):
    from sklearn.metrics import roc_auc_score

    of = measure.judged(two_classes)
    found = {s.name: s for s in measure.scores(two_classes, of)}
    evaluated = two_classes.evaluate("test")
    assert {n: s.value for n, s in found.items()} == pytest.approx({n: evaluated[n] for n in found}, rel=1e-6)
    p, y = measure.probabilities(two_classes, of)[0], of.y[0]
    weights = measure._resampled(len(y), measure.RESAMPLES, 0)
    areas = [roc_auc_score(y, p[:, 1], sample_weight=w) for w in weights]
    auc = found["roc_auc"]
    assert (auc.low, auc.high) == pytest.approx(tuple(np.quantile(areas, [0.025, 0.975])), abs=1e-5)
    assert all(s.low <= s.value <= s.high for s in found.values())


def test_calibration_is_scikit_learns():
    from sklearn.calibration import calibration_curve

    rng = np.random.default_rng(1)
    p = rng.uniform(size=1000)
    y = (rng.uniform(size=1000) < p**2).astype(int)
    bins, error = measure.calibration(y, np.stack([1 - p, p], 1))
    share, predicted = calibration_curve(y, p, n_bins=10)
    assert np.allclose([b.share for b in bins], share) and np.allclose([b.predicted for b in bins], predicted)
    assert error == pytest.approx(1 / 6, abs=0.04)  # the mean of p - p^2
    assert all(b.low <= b.share <= b.high for b in bins)


def test_importance_finds_what_matters(two_classes):
    name, found = measure.importances(two_classes, measure.judged(two_classes))
    by_column = {m.column: m for m in found}
    assert name == "accuracy" and set(by_column) == {
        "age",
        "town",
        "kind",
    }  # town is three columns of x, shuffled as one
    assert {m.column for m in found[:2]} == {"age", "town"} and found[1].low > 0
    assert by_column["kind"].low <= 0 <= by_column["kind"].high


def test_importance_is_scikit_learns(number):
    from sklearn.inspection import permutation_importance

    def score(net, x, y):
        out = measure.outputs_of(number.task, number.params, number.state, x.astype(np.float32))
        return -np.sqrt(np.mean((measure._own_units(number.task.aims[0], out[:, 0]) - y) ** 2))

    class Net:
        def fit(self):
            pass

    of = measure.judged(number)
    name, found = measure.importances(number, of)
    y = measure.answers(number, of)[0]
    want = permutation_importance(Net(), of.x, y, scoring=score, n_repeats=30, random_state=0)
    names = list(column_places(number.schema.inputs, of.x.shape[1]))
    assert name == "rmse"
    for m in found:
        assert m.value == pytest.approx(want.importances_mean[names.index(m.column)], abs=max(0.5, m.high - m.value))


def test_pictures_of_odd_values():
    assert svg.lines({"a": []}, "x", "t") == svg.scatter([], "x", "t") == svg.histogram([], "x", "t") == ""
    for drawing in (
        svg.lines({"a": [(1.0, 2.0)], "b": [(1.0, float("nan")), (2.0, 3.0)]}, "x", "t"),
        svg.lines({"a": [(float(i), 10.0**-i) for i in range(1000)]}, "x", "<t>"),
        svg.scatter([(1.0, 1.0), (1.0, 1.0)], "x", "t", diagonal=True),
        svg.histogram([3.0, 3.0], "x", "t"),
        svg.intervals([("a & b", 0.0, -1.0, 1.0)], "t"),
        svg.cells([[0.0, float("nan")], [1.0, 0.5]], "t", titles=("net.layers.0.weight", "b")),
    ):
        ElementTree.fromstring(drawing)
        assert "nan" not in drawing and len(drawing) < 20_000


def test_a_page_of_many_looks_and_classes_stays_small():
    rng = np.random.default_rng(0)
    names = [f"blocks.{i}.layer" for i in range(24)]
    numbers = lambda: dict(zip(("gradient", "update", "dead", "saturated"), rng.uniform(0.1, 1, 4), strict=True))  # noqa: E731
    looks = [{"epoch": e, "weights": {n: numbers() for n in names}, "layers": {n: numbers() for n in names}}
             | {"train_mode_loss": 1.0, "eval_mode_loss": 1.1} for e in range(2000)]  # fmt: skip
    health = health_part(SimpleNamespace(health=looks), words("en"))
    y = rng.integers(0, 100, 3000)
    p = rng.dirichlet(np.ones(100), 3000)
    target = SimpleNamespace(labels=tuple(range(100)))
    classes = _of_classes(target, p, y, words("en"))
    assert "Of 100 classes, the 40" in classes and classes.count("<rect") <= 1601 + 12
    assert len(health) + len(classes) < 1.2e6
    shown = _thinned(looks)
    assert len(shown) == 60 and shown[0] is looks[0] and shown[-1] is looks[-1] and _thinned(looks[:3]) == looks[:3]


def test_remedies_are_commands_that_begin_where_they_must(two_classes):
    fewer = Remedy("fewer epochs", {"epochs": 5})
    clip = Remedy("clip", {"clip": optim.ClipByGlobalNorm(1.0), "net.dropout": 0.5})
    path = two_classes.path
    slow = Remedy("ten times", {"optimizer.learning_rate": 0.2})
    assert adoption(slow, True, two_classes) == (f"derin fit --from {path} --set optimizer.learning_rate=0.2", True)
    assert adoption(slow, False, two_classes) == ("--set optimizer.learning_rate=0.2", False)  # weights that diverged
    assert adoption(Remedy("", {"epochs": 99}), True, two_classes) == (f"derin resume {path} --epochs 99", True)
    assert adoption(fewer, False, two_classes) == ("--set epochs=5", False)
    assert adoption(clip, True, two_classes)[1] is False
    stop = Remedy("stop", {"early_stopping": derin.EarlyStopping(3), "class_weights": "balanced"})
    for one in (fewer, clip, slow, stop):  # a shell and the command read what was meant
        said = [part.partition("=")[::2] for part in shlex.split(one.command()) if part != "--set"]
        assert {name: derin.spec.parse(value) for name, value in said} == one.changes


# -- languages


def test_both_languages_have_every_text():
    assert list(ENGLISH) == [key for key in TURKISH if key in ENGLISH]
    more = {key.split(".")[0] for key in TURKISH.keys() - ENGLISH.keys()}
    assert more <= {"verdict", "why", "evidence", "remedy", "value", "note"}  # English has the diagnosis' own words
    fields = lambda text: sorted(f for _, f, _, _ in string.Formatter().parse(text) if f)  # noqa: E731
    for key, english in ENGLISH.items():
        assert english.strip() and TURKISH[key].strip(), key
        assert fields(english) == fields(TURKISH[key]), key


def test_what_a_diagnosis_says_is_said_in_turkish():
    """Names, evidence and remedies, as they stand in the sources, and what is named in them."""
    said, contain = set(), set()
    for file in Path(derin.__file__).parent.glob("diagnose/*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
            if called in ("Verdict", "Remedy") and node.args and isinstance(node.args[0], ast.Constant):
                said |= {f"{called.lower()}.{node.args[0].value}"}
                said |= {f"why.{node.args[0].value}"} if called == "Verdict" else set()
            if called == "Remedy" and node.args and isinstance(node.args[0], ast.JoinedStr):
                contain.add(
                    "".join(
                        getattr(part, "value", "") if isinstance(part, ast.Constant) else "7"
                        for part in node.args[0].values
                    )
                )
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "notes.append":
                said.add(f"note.{node.args[0].value}")
            if called == "Verdict" and len(node.args) > 2:
                dicts = [d for d in ast.walk(node.args[2]) if isinstance(d, ast.Dict)]
                said |= {f"evidence.{k.value}" for d in dicts for k in d.keys if isinstance(k, ast.Constant)}
                said |= {f"value.{v.value}" for d in dicts for v in d.values if isinstance(v, ast.Constant)}
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.IfExp)
                and ast.unparse(node.targets[0]) == "what"
            ):
                said |= {f"value.{node.value.body.value}", f"value.{node.value.orelse.value}"}
    assert len(said) > 100 and said <= TURKISH.keys(), (
        f"to be added to report/diagnosis_tr.py: {sorted(said - TURKISH.keys())}"
    )

    assert len(contain) == 3 and sum(key.startswith("note.") for key in said) == 3
    for text in contain:
        turkish = remedy(text, words("tr"))
        assert turkish != text and "7" in turkish and remedy(text, words("en")) == text, text


def test_notes_about_data_are_said_in_turkish(tmp_path):
    """Notes of real tables and folders; English says each as derin.data does."""
    n = 200
    answer = ["", *("yes" if i % 3 else "no" for i in range(1, n))]
    rows = [f"{a},{a},{i % 7},{'late' if i > 190 else 'ab'[i % 2]}" for i, a in enumerate(answer)]
    (tmp_path / "t.csv").write_text("y,copy,n,when\n" + "\n".join(rows) + "\n", encoding="utf-8")
    indices = (np.arange(1, 150), np.arange(150, n), np.arange(0))
    with pytest.warns(derin.data.DataWarning):
        notes = derin.data.load(tmp_path / "t.csv", target="y", indices=indices).notes
    one_hot = np.eye(3, dtype="float32")[np.arange(60) % 3]
    notes += derin.data.load((np.random.default_rng(0).normal(size=(60, 2)), one_hot)).notes
    notes += (
        f"{derin.data.stream.size_text(10**9)} of encoded data are over the memory budget and stream from disk",
        "the encoded data are over the memory budget and stream from disk",
        *targets.said_of_many([None] * 600),
        "3 rows without a target left out",
        "left out: extra beside train",
        "left out: test, whose images lie in no class folders",
        "folders without images: empty",
        "left out: 4 images that lie in no class folder, a.png first",
        "1,020 images as 28 x 28 x 1",
        "2 files that cannot be read are skipped",
    )
    assert len(notes) == len(words_of_pages.NOTES)
    for text in notes:
        assert words_of_pages.note(text, words("en")) == text
        assert words_of_pages.note(text, words("tr")) != text, text


def test_notes_and_values_of_a_diagnosis_stand_on_the_page(number, monkeypatch):
    what = "logits, of any size and sign"
    given = {"the loss wants": what, "class": "none"}
    note = next(iter(NOTES))
    found = Diagnosis(
        (Verdict("unfitting output layer", 1.0, given, "", (), (Remedy("64 rows a batch"),)),), {}, (), (note,)
    )
    monkeypatch.setattr("derin.diagnose.doctor.diagnose", lambda run: found)
    english, turkish = (unescape(diagnosis_part(number, words(lang))) for lang in ("en", "tr"))
    assert note in english and what in english and "64 rows a batch" in english
    assert NOTES[note] in turkish and what not in turkish and "batch boyutu 64" in turkish and "sınıf none" in turkish


def test_what_becomes_of_columns_is_said_in_both():
    from derin.report.words import PHRASES, becomes, words

    assert [key for key in ENGLISH if key.startswith("becomes.")] == [f"becomes.{i}" for i in range(len(PHRASES))]
    for text in ("standardised, missing: median + indicator", "one-hot of 3, 2 rare as one, missing a level",
                 "identifier: a running number, its own in every row", "constant: 'a|b' in every training row"):  # fmt: skip
        assert becomes(text, words("en")) == text
        said = becomes(text, words("tr"))
        assert not re.search(r"standard|missing|rare|own|every", said), said


def test_every_text_that_is_asked_for_is_there():
    asked = set()
    for file in [*SOURCES, Path(derin.__file__).parent / "tune" / "page.py"]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", "") == "say"
                and isinstance(node.args[0], ast.Constant)
            ):
                asked.add(node.args[0].value)
    assert len(asked) > 60 and asked <= ENGLISH.keys()


# -- in a browser


def chromium():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return os.environ.get("DERIN_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.mark.skipif(chromium() is None, reason="no Chromium is installed here (or named by DERIN_CHROMIUM)")
@pytest.mark.parametrize("width", [390, 1280])
def test_it_renders(two_classes, tmp_path, width):
    """No picture is empty, and nothing is wider than the screen."""
    from PIL import Image

    asks = "<script>document.title = JSON.stringify([document.documentElement.scrollWidth, innerWidth, " \
           "[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().width)])</script></body>"  # fmt: skip
    file = tmp_path / "page.html"
    file.write_text(page(two_classes, "tr").replace("</body>", asks), encoding="utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    words = [chromium(), *flags, f"--window-size={width},3000", "--dump-dom", f"file://{file}"]
    dom = subprocess.run(words, capture_output=True, text=True, timeout=120).stdout
    wide, inner, drawings = json.loads(unescape(re.search(r"<title>(.*?)</title>", dom)[1]))
    assert wide <= inner and len(drawings) >= 5 and min(drawings) > 250
    words[-2] = f"--screenshot={tmp_path / 'shot.png'}"
    subprocess.run(words, capture_output=True, timeout=120)
    colours = Image.open(tmp_path / "shot.png").convert("RGB").getcolors(10**6)
    assert len(colours) > 50
