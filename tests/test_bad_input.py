"""Bad input, through the command line and the API: one message, exit code 2, no traceback, nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import derin
from derin import nn
from derin.cli import run as command
from derin.cli.options import as_options
from derin.data import DataWarning
from derin.errors import DerinError, TrainingFailed

_random = np.random.default_rng(0)
NUMBERS = _random.normal(size=(60, 2)).round(3)
SHOP = _random.integers(0, 3, 60)
ROWS = [f"{a},{b},{'xyz'[s]},{'yes' if a + b > 0 else 'no'}" for (a, b), s in zip(NUMBERS, SHOP, strict=True)]
TABLE = "\n".join(["size,age,shop,sold", *ROWS]) + "\n"
HOUSES = "\n".join(["size,age,price", *(f"{a},{b},{3 * a - b + 10:.3f}" for a, b in NUMBERS)]) + "\n"
QUICK = ["--net", "mlp:4", "--epochs", "1"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in a folder of its own, with a good table in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.csv").write_text(TABLE)
    (tmp_path / "houses.csv").write_text(HOUSES)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs on the good table, which stands beside it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "good.csv").write_text(TABLE)
    arguments = ["fit", str(folder / "good.csv"), "-t", "sold", "--net", "mlp:4", "--epochs", "2"]
    assert command([*arguments, "--out", str(folder / "run"), "--quiet"]) == 0
    return folder


@pytest.fixture
def a_run(trained: Path, here: Path) -> Path:
    """A copy of that run, to be damaged."""
    shutil.copytree(trained / "run", here / "run")
    return here / "run"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, pattern: str, code: int = 2) -> str:
    """Run a command that must be refused; its message."""
    capsys.readouterr()
    before = everything(Path.cwd())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert command(list(arguments)) == code
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("derin: error: ")]
    assert out == "" and "Traceback" not in err
    assert len(errors) == 1, err
    assert len(err.splitlines()) - sum(line.startswith("derin: note: ") for line in err.splitlines()) <= 4, err
    assert re.search(pattern, err), err
    assert everything(Path.cwd()) == before, "something was left behind"
    return errors[0].removeprefix("derin: error: ")


def png(path: Path, colour: int = 0, size: int = 8) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size, size), colour, np.uint8)
    pixels[0, : size // 2] = np.random.default_rng(colour).integers(0, 255, size // 2)
    Image.fromarray(pixels).save(path)


def photos(folder: Path, classes: str = "ab", n: int = 6) -> None:
    for i, c in enumerate(classes):
        for j in range(n):
            png(folder / c / f"{j}.png", 200 * i)


# -- data that cannot be read or learned from: (what makes the file, arguments, options of load, message)

Make = Callable[[], Any]


def written(name: str, content: str | bytes) -> Make:
    return lambda: Path(name).write_bytes(content.encode() if isinstance(content, str) else content)


def column(name: str, value: Callable[[int, str], str]) -> str:
    """The good table with another column."""
    lines = [f"{row},{value(i, row)}" for i, row in enumerate(ROWS)]
    return "\n".join([f"size,age,shop,sold,{name}", *lines]) + "\n"


def broken_photo() -> None:
    photos(Path("photos"))
    whole = Path("photos/a/3.png").read_bytes()
    Path("photos/a/3.png").write_bytes(whole[: len(whole) // 2])


def not_a_photo() -> None:
    photos(Path("photos"))
    Path("photos/b/2.png").write_text("I am no image")


def cut_npy() -> None:
    np.save("cut.npy", np.zeros((20, 3)))
    whole = Path("cut.npy").read_bytes()
    Path("cut.npy").write_bytes(whole[:-50])


TARGET = ["-t", "sold"]
SOLD = {"target": "sold"}
DATA: dict[str, tuple[Make | None, list[str], dict[str, Any], str]] = {
    "missing file": (None, ["god.csv", *TARGET], SOLD, r"no file.*god\.csv.*good\.csv"),
    "missing folder": (None, ["no/such/folder", *TARGET], SOLD, r"no file or folder"),
    "unknown bundled set": (None, ["digit"], {}, r"no bundled set.*Nearest: digits"),
    "empty file": (written("e.csv", ""), ["e.csv", *TARGET], SOLD, r"e\.csv is empty"),
    "blank file": (written("e.csv", "\n\n  \n"), ["e.csv", *TARGET], SOLD, r"e\.csv is empty"),
    "header only": (written("h.csv", "size,age,sold\n"), ["h.csv", *TARGET], SOLD, r"no rows"),
    "ragged rows": (
        written("r.csv", TABLE + "1.0,2.0,x,yes,7\n"), ["r.csv", *TARGET], SOLD, r"r\.csv.*62.*5.*4|62.*(cells|fields|columns)",
    ),
    "wrong encoding": (
        written("l.csv", TABLE.replace("x", "é").encode("latin-1")), ["l.csv", *TARGET], SOLD, r"not UTF-8.*--encoding cp1252",
    ),
    "unknown encoding": (None, ["good.csv", *TARGET, "--encoding", "utf-99"], SOLD | {"encoding": "utf-99"}, r"utf-99"),
    "binary file": (written("b.csv", bytes(range(256)) * 4), ["b.csv", *TARGET], SOLD, r"b\.csv"),
    "two columns of one name": (written("t.csv", "a,a,sold\n1,2,x\n2,3,y\n"), ["t.csv", *TARGET], SOLD, r"more than one .*'a'"),
    "no such target": (None, ["good.csv", "-t", "sol"], {"target": "sol"}, r"no column 'sol'.*Nearest: sold"),
    "no such place": (None, ["good.csv", "-t", "9"], {"target": "9"}, r"no column 9.*has 4"),
    "no target given": (None, ["good.csv"], {}, r"which column is the target.*--target COLUMN.*'size'"),
    "target named twice": (None, ["good.csv", *TARGET, *TARGET], {"target": ["sold", "sold"]}, r"twice"),
    "target with one class": (
        written("o.csv", TABLE.replace(",no\n", ",yes\n")), ["o.csv", *TARGET], SOLD, r"one class only, 'yes'",
    ),
    "target missing everywhere": (
        written("m.csv", column("want", lambda i, row: "")), ["m.csv", "-t", "want"], {"target": "want"}, r"missing in every row",
    ),
    "target of many texts": (
        written("n.csv", column("id", lambda i, row: f"row{i}")), ["n.csv", "-t", "id"], {"target": "id"},
        r"60 different values in 60 rows",
    ),
    "target that never changes": (
        written("c.csv", column("want", lambda i, row: "3.5")), ["c.csv", "-t", "want"], {"target": "want"},
        r"is 3\.5 in every|nothing to learn",
    ),
    "text target as a number": (
        None, ["good.csv", *TARGET, "--task", "number"], SOLD | {"task": "number"}, r"'sold' is '(yes|no)' in row",
    ),
    "unknown task": (None, ["good.csv", *TARGET, "--task", "rank"], SOLD | {"task": "rank"}, r"'classes' or 'number'.*'rank'"),
    "infinite input": (
        written("i.csv", column("w", lambda i, row: "inf" if i == 7 else f"{i / 7}")), ["i.csv", *TARGET], SOLD, r"'w'.*inf",
    ),
    "infinite target": (
        written("i.csv", column("w", lambda i, row: "-inf" if i == 7 else f"{i / 7}")), ["i.csv", "-t", "w"], {"target": "w"},
        r"'w'.*infinite",
    ),
    "no columns but the target": (
        written("s.csv", "sold\n" + "yes\nno\n" * 20), ["s.csv", *TARGET], SOLD, r"column|input",
    ),
    "group is not there": (None, ["good.csv", *TARGET, "--group", "shap"], SOLD | {"group": "shap"}, r"no column 'shap'.*shop"),
    "time is not there": (None, ["good.csv", *TARGET, "--time", "day"], SOLD | {"time": "day"}, r"no column 'day'"),
    "time is text": (None, ["good.csv", *TARGET, "--time", "shop"], SOLD | {"time": "shop"}, r"'shop'"),
    "group and time": (
        None, ["good.csv", *TARGET, "--group", "shop", "--time", "age"], SOLD | {"group": "shop", "time": "age"}, r"not both",
    ),
    "group is the target": (None, ["good.csv", *TARGET, "--group", "sold"], SOLD | {"group": "sold"}, r"'sold' cannot be"),
    "shares over 1": (
        None, ["good.csv", *TARGET, "--valid", "0.6", "--test", "0.5"], SOLD | {"valid": 0.6, "test": 0.5}, r"nothing is left",
    ),
    "negative share": (None, ["good.csv", *TARGET, "--test", "-0.1"], SOLD | {"test": -0.1}, r"test is the share"),
    "share of nan": (None, ["good.csv", *TARGET, "--test", "nan"], SOLD | {"test": float("nan")}, r"test is the share"),
    "missing test file": (None, ["good.csv", *TARGET, "--test", "no.csv"], SOLD | {"test": "no.csv"}, r"no\.csv"),
    "test file without a column": (
        written("t.csv", "size,shop,sold\n1,x,yes\n2,y,no\n"), ["good.csv", *TARGET, "--test", "t.csv"], SOLD | {"test": "t.csv"},
        r"'age'",
    ),
    "too few rows to cut": (written("f.csv", "a,sold\n1,yes\n2,no\n"), ["f.csv", *TARGET], SOLD, r"2 rows cannot be cut into 3"),
    "dropped column is not there": (None, ["good.csv", *TARGET, "--drop", "aeg"], SOLD | {"drop": ["aeg"]}, r"'aeg'.*age"),
    "text column as numbers": (None, ["good.csv", *TARGET, "--numeric", "shop"], SOLD | {"numeric": ["shop"]}, r"'shop'"),
    "unknown scaling": (None, ["good.csv", *TARGET, "--scaling", "max"], SOLD | {"scaling": "max"}, r"scaling.*'max'|'max'.*scal"),
    "long separator": (None, ["good.csv", *TARGET, "--separator", ",,"], SOLD | {"separator": ",,"}, r"one character"),
    "an option for images": (None, ["good.csv", *TARGET, "--size", "8"], SOLD | {"size": 8}, r"no option 'size'"),
    "damaged Parquet": (written("p.parquet", b"PAR1 not really PAR1"), ["p.parquet", *TARGET], SOLD, r"p\.parquet.*Parquet"),
    "damaged npz": (written("z.npz", b"PK not a zip"), ["z.npz"], {}, r"z\.npz"),
    "cut npy": (cut_npy, ["cut.npy"], {}, r"cut\.npy"),
    "npz without a target": (lambda: np.savez("x.npz", X=np.zeros((9, 2))), ["x.npz"], {}, r"target|y"),
    "npz of two lengths": (lambda: np.savez("x.npz", X=np.zeros((9, 2)), y=np.arange(8)), ["x.npz"], {}, r"9.*8|8.*9"),
    "npz with objects": (
        lambda: np.savez("x.npz", X=np.array([{}, {}]), y=np.arange(2)), ["x.npz"], {}, r"object|pickle",
    ),
    "damaged HDF5": (written("h.h5", b"not HDF5 at all"), ["h.h5"], {}, r"h\.h5"),
    "damaged idx": (
        written("train-images-idx3-ubyte", b"\x00\x00\x08\x03\x00\x00"), ["train-images-idx3-ubyte"], {}, r"idx",
    ),
    "unknown file": (written("note.docx", "hello"), ["note.docx"], {}, r"note\.docx"),
    "folder without images": (lambda: Path("empty").mkdir(), ["empty"], {}, r"empty"),
    "images of one class": (lambda: photos(Path("photos"), "a"), ["photos"], {}, r"one class only, 'a'"),
    "images without classes": (lambda: png(Path("loose/1.png")), ["loose"], {}, r"no class folders"),
    "an image that is none": (not_a_photo, ["photos"], {}, r"2\.png.*--skip-bad"),
    "a corrupt image among good ones": (broken_photo, ["photos"], {}, r"3\.png.*--skip-bad"),
    "an option for tables": (lambda: photos(Path("photos")), ["photos", "--drop", "x"], {"drop": ["x"]}, r"no option 'drop'"),
    "kind of array": (None, ["iris", "--kind", "sounds"], {"kind": "sounds"}, r"'sounds'"),
}  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_data(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    make, arguments, options, pattern = DATA[name]
    if name == "damaged HDF5":
        pytest.importorskip("h5py")
    if make:
        make()
    said = refused(capsys, "fit", *arguments, *QUICK, pattern=pattern)
    with pytest.raises(DerinError) as raised, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        derin.data.load(arguments[0], **options)
    assert as_options(str(raised.value)).splitlines()[0] == said  # the same words in both places
    if arguments != ["good.csv"]:  # a table can be looked at without a target
        refused(capsys, "data", *arguments, pattern=pattern)


ARRAYS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "different lengths": ((np.zeros((5, 2)), np.zeros(4)), {}, r"5.*4|4.*5"),
    "objects": ((np.array([[{}], [[]]], object), np.arange(2)), {}, r"number|object"),
    "no rows": ((np.zeros((0, 3)), np.zeros(0)), {}, r"no rows|empty|0 rows"),
    "no features": ((np.zeros((9, 0)), np.arange(9.0)), {}, r"shape|feature"),
    "one number": ((np.float64(3), np.float64(4)), {}, r"shape|axis|rows"),
    "a text that is no path": ("3 apples", {}, r"3 apples"),
    "something else": (object(), {}, r"object"),
    "three arrays": ((1, 2, 3), {}, r"\(X, y\)"),
    "targets of nan": ((np.zeros((9, 2)), np.full(9, np.nan)), {}, r"missing in every row"),
    "infinite": ((np.full((9, 2), np.inf), np.arange(9.0)), {}, r"infinite in row \d"),
    "one class": ((np.zeros((9, 2)), np.zeros(9, int)), {}, r"one class only"),
    "indices twice": ((NUMBERS, NUMBERS[:, 0]), {"indices": ([0, 1], [1], [2])}, r"1"),
    "indices beyond": ((NUMBERS, NUMBERS[:, 0]), {"indices": ([0, 1], [60], [2])}, r"60"),
    "groups too short": ((NUMBERS, NUMBERS[:, 0]), {"group": np.arange(3)}, r"group"),
    "unknown option": ((NUMBERS, NUMBERS[:, 0]), {"tset": 0.3}, r"no option 'tset'.*test"),
    "no data": (None, {}, r"no data: got None"),
    "no share": ((NUMBERS, NUMBERS[:, 0]), {"valid": None}, r"valid is a share.*got None"),
    "a share as text": ((NUMBERS, NUMBERS[:, 0]), {"test": "0.2"}, r"test is a share.*got '0\.2'"),
    "indices in a dict": ((NUMBERS, NUMBERS[:, 0]), {"indices": {"train": [1]}}, r"indices must be \(train, valid, test\)"),
    "a cache that is no path": ((NUMBERS, NUMBERS[:, 0]), {"cache": 5}, r"cache must be a folder's path, got 5"),
    "columns of two lengths": ({"a": [1, 2, 3], "b": [1, 2]}, {"target": "b"}, r"height|length|rows"),
    "an empty dict": ({}, {"target": "b"}, r"rows|columns"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name: str) -> None:
    source, options, pattern = ARRAYS[name]
    with pytest.raises(DerinError, match=pattern), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        derin.data.load(source, **options)


# -- experiments that cannot be trained: (arguments, fields of Experiment, message)

NET = nn.MLP((4,), 1)


def fields(**given: Any) -> dict[str, Any]:
    return {"net": NET, "epochs": 1} | given


EXPERIMENTS: dict[str, tuple[list[str], Callable[[], Any] | None, str]] = {
    "no network": (["--net", "resnet"], None, r"'resnet' is no network.*mlp"),
    "a network of no class": (["--net", "Seqential(Linear(4))"], lambda: derin.spec.parse("Seqential(Linear(4))"),
                              r"'Seqential'.*Nearest: Sequential"),
    "a network that cannot be read": (["--net", "Sequential(Linear(4)"], lambda: derin.spec.parse("Sequential(Linear(4)"),
                                      r"cannot be read"),
    "a network of code": (["--net", "Sequential(__import__('os'))"], lambda: derin.spec.parse("Sequential(__import__('os'))"),
                          r"__import__"),
    "an optimiser as the network": (["--net", "Adam()"], lambda: fields(net=derin.optim.Adam()), r"network|Module"),
    "widths that are none": (["--net", "mlp:a,b"], None, r"mlp:128,64"),
    "a width of 0": (["--net", "mlp:0"], lambda: nn.MLP((0,), 1), r"at least 1"),
    "a cnn for a table": (["--net", "cnn"], None, r"image"),
    "outputs that do not fit": (["--net", "Sequential(Linear(5))"], lambda: fields(net=nn.Sequential(nn.Linear(5))),
                                r"puts out 5 .*Linear\(1\)"),
    "a layer that does not fit": (["--net", "Sequential(Conv2d(4, 3))"],
                                  lambda: fields(net=nn.Sequential(nn.Conv2d(4, 3))), r"Conv2d"),
    "no epochs": (["--epochs", "0"], lambda: fields(epochs=0), r"epochs must be at least 1, got 0"),
    "a negative seed": (["--seed", "-1"], lambda: fields(seed=-1), r"seed.*-1"),
    "batches of 0": (["--set", "batch_size=0"], lambda: fields(batch_size=0), r"batch_size.*got 0"),
    "a batch of words": (["--set", "batch_size=all"], lambda: fields(batch_size="all"), r"batch_size.*'full'.*'all'"),
    "learning rate nan": (["--set", "optimizer.learning_rate=nan"],
                          lambda: fields(optimizer=derin.optim.Adam(float("nan"))), r"learning_rate.*nan"),
    "negative learning rate": (["--set", "optimizer.learning_rate=-0.1"],
                               lambda: fields(optimizer=derin.optim.Adam(-0.1)), r"learning_rate.*-0\.1"),
    "learning rate of words": (["--set", "optimizer.learning_rate=fast"],
                               lambda: fields(optimizer=derin.optim.Adam("fast")), r"learning_rate.*number.*'fast'"),
    "unknown field": (["--set", "epoks=3"], lambda: fields(epoks=3), r"no field 'epoks'.*Nearest: epochs"),
    "unknown path": (["--set", "optimizer.lr=3"], lambda: derin.spec.set(derin.Experiment(NET), "optimizer.lr", 3),
                     r"'optimizer' \(\w+\) has no field 'lr'"),
    "no such layer": (["--set", "net.layers.9.rate=3"], None, r"layers"),
    "below a number": (["--set", "epochs.more=3"], lambda: derin.spec.set(derin.Experiment(NET), "epochs.more", 3),
                       r"nothing below"),
    "no value": (["--set", "epochs"], None, r"PATH=VALUE.*'epochs'"),
    "no path": (["--set", "=3"], None, r"PATH=VALUE"),
    "a value that cannot be read": (["--set", "optimizer=Adam(3"], None, r"Adam\(3"),
    "unknown optimiser": (["--set", "optimizer=Adm(0.1)"], lambda: derin.spec.parse("Adm(0.1)"), r"Nearest: .*Adam"),
    "an optimiser's name alone": (["--set", "optimizer=Adam"], lambda: fields(optimizer=derin.optim.Adam), r"Write Adam\("),
    "a network as the optimiser": (["--set", "optimizer=Linear(3)"], lambda: fields(optimizer=nn.Linear(3)), r"optimizer"),
    "too many values": (["--set", "optimizer=ReLU(1,2,3)"], lambda: nn.ReLU(1, 2, 3), r"ReLU"),
    "a value twice": (["--set", "optimizer=Adam(0.1, learning_rate=0.2)"], None, r"learning_rate"),
    "unknown metric": (["--set", "metrics=acuracy"], lambda: fields(metrics=("acuracy",)), r"acuracy.*accuracy"),
    "a metric for numbers": (["--set", "metrics=rmse"], lambda: fields(metrics=("rmse",)), r"'rmse' is for number"),
    "unknown monitor": (["--set", "early_stopping=EarlyStopping(monitor='valid_los')"],
                        lambda: fields(early_stopping=derin.EarlyStopping(monitor="valid_los")), r"'valid_los'.*valid_loss"),
    "no patience": (["--set", "early_stopping=EarlyStopping(patience=0)"],
                    lambda: fields(early_stopping=derin.EarlyStopping(patience=0)), r"patience"),
    "a loss for numbers": (["--set", "loss=CrossEntropyLoss()"], lambda: fields(loss=nn.CrossEntropyLoss()),
                           r"CrossEntropyLoss does not fit"),
    "three class weights for two classes": (["--set", "class_weights=(1.0,2.0,3.0)"],
                                            lambda: fields(class_weights=(1.0, 2.0, 3.0)), r"3 numbers.*2 classes"),
    "unknown precision": (["--set", "precision=float16"], lambda: fields(precision="float16"), r"precision.*'bfloat16'"),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, make, pattern = EXPERIMENTS[name]
    quick = [q for q in ("--net", "--epochs") if q not in arguments]
    short = [word for q in quick for word in (q, {"--net": "mlp:4", "--epochs": "1"}[q])]
    refused(capsys, "fit", "good.csv", *TARGET, *short, *arguments, pattern=pattern)
    if make is None:
        return
    with pytest.raises(DerinError, match=pattern):
        made = make()
        data = derin.data.load("good.csv", target="sold")
        derin.Experiment(**made).fit(data, progress=False, out="out")
    assert not Path("out").exists()


def test_learning_rate_that_explodes(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", "houses.csv", "-t", "price", "--net", "mlp:4", "--set", "optimizer=SGD(1e30)", "--epochs", "5"]
    assert command(arguments) == 3
    err = capsys.readouterr().err
    assert re.search(r"derin: error: training failed in epoch \d+, step \d+", err) and "Traceback" not in err
    data = derin.data.load("houses.csv", target="price")
    with pytest.raises(TrainingFailed):
        derin.fit(NET, data, optimizer=derin.optim.SGD(1e30), epochs=5, progress=False)


# -- experiment files

GOOD_FILE = """
type = "Experiment"
epochs = 1
[net]
type = "MLP"
widths = [4]
[data]
source = "good.csv"
target = "sold"
"""

FILES: dict[str, tuple[str | None, str]] = {
    "missing": (None, r"no file 'x\.toml'.*derin new"),
    "not TOML": ("epochs = = 3", r"x\.toml is not TOML"),
    "empty": ("", r"type"),
    "unknown class": (GOOD_FILE.replace('"MLP"', '"MPL"'), r"x\.toml.*'MPL'.*Nearest: MLP"),
    "a class to import": (GOOD_FILE.replace('"MLP"', '"my_nets:Wide"'), r"--import my_nets"),
    "unknown field": (GOOD_FILE.replace("widths", "width"), r"x\.toml: at 'net': MLP has no field 'width'.*widths"),
    "unknown top field": (GOOD_FILE.replace("epochs", "epoch"), r"'epoch'.*epochs"),
    "wrong type": (GOOD_FILE.replace("epochs = 1", 'epochs = "many"'), r"Experiment\.epochs must be a whole number.*'many'"),
    "a net without a type": (GOOD_FILE.replace('type = "MLP"\n', ""), r"'net' has no type"),
    "not an experiment": ('type = "Adam"', r"Adam\(\), not an experiment"),
    "no data": (GOOD_FILE.split("[data]")[0], r"names no data.*--data"),
    "data that are not there": (GOOD_FILE.replace("good.csv", "bad.csv"), r"bad\.csv"),
    "an unknown option of data": (GOOD_FILE + "tset = 0.1\n", r"no option 'tset'.*test"),
    "data that is no table": ('data = 3\n' + GOOD_FILE.split("[data]")[0], r"data must be a table"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_experiment_files(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text, pattern = FILES[name]
    if text is not None:
        Path("x.toml").write_text(text)
    refused(capsys, "fit", "x.toml", pattern=pattern)


def test_data_option_needs_an_experiment_file(capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "fit", "good.csv", "--data", "good.csv", *TARGET, pattern=r"--data is for experiment files")


# -- where runs and files go


def test_run_folder_exists(a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(
        capsys, "fit", "good.csv", *TARGET, *QUICK, "--out", "run", pattern=r"run exists already.*derin resume run"
    )
    assert "--out" in said
    with pytest.raises(DerinError, match="exists already"):
        derin.fit(NET, derin.data.load("good.csv", "sold"), epochs=1, out="run", progress=False)


def test_folder_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    refused(
        capsys,
        "fit",
        "good.csv",
        *TARGET,
        *QUICK,
        "--out",
        "file/run",
        pattern=r"cannot write file.run: file is a file, not a folder",
    )


@pytest.mark.parametrize("number, words", [(errno.ENOSPC, "No space left"), (errno.EACCES, "Permission denied")])
def test_disk_full_or_forbidden(
    number: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)  # the moment at which a full disk shows at the latest
    refused(capsys, "fit", "good.csv", *TARGET, *QUICK, pattern=words)
    refused(capsys, "fit", "good.csv", *TARGET, *QUICK, "--out", "deep/er/run", pattern=words)


def test_disk_full_in_mid_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, a_run: Path) -> None:
    """A checkpoint that cannot be written: the one before is whole, and the run goes on from it."""
    from derin.engine import checkpoint

    before = everything(a_run / "checkpoints")
    original = checkpoint.write_synced

    def full(path: Path, data: bytes) -> None:
        if path.suffix == ".safetensors":
            path.write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(path, data)

    monkeypatch.setattr(checkpoint, "write_synced", full)
    assert command(["resume", "run", "--epochs", "4", "--quiet"]) == 2
    assert "No space left" in capsys.readouterr().err
    assert everything(a_run / "checkpoints") == before
    monkeypatch.undo()
    assert command(["resume", str(a_run), "--epochs", "4", "--quiet"]) == 0
    assert len(derin.load(a_run).history) == 4


@pytest.fixture
def small_disk(here: Path) -> Iterator[Path]:
    """A disk of 24 kB."""
    folder = here / "small"
    folder.mkdir()
    if shutil.which("mount") is None or not hasattr(os, "getuid") or os.getuid() != 0:
        pytest.skip("only root can make a small disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let a small disk be made")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path, a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = ["--net", "mlp:256,64", "--epochs", "1", "--quiet"]  # 70 kB of weights
    refused(capsys, "fit", "good.csv", *TARGET, *large, "--out", "small/run", pattern=r"No space left on device")
    many = [f"{a:.6f},{b:.6f},x,no" for a, b in np.random.default_rng(1).normal(size=(9000, 2))]
    Path("many.csv").write_text("\n".join(["size,age,shop,sold", *many]) + "\n")
    for suffix in (".csv", ".parquet"):
        refused(capsys, "predict", "run", "many.csv", "-o", f"small/p{suffix}", pattern=r"No space left on device")
    assert list(small_disk.iterdir()) == []


# -- runs that are not whole


def newest(run: Path) -> Path:
    return sorted((run / "checkpoints").iterdir())[-1]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(bytes(whole))


def of_another_net(run: Path) -> None:
    edit(run / "experiment.json", "\n      4\n", "\n      5\n")


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no experiment": (lambda run: (run / "experiment.json").unlink(), r"has no experiment\.json"),
    "no data.json": (lambda run: (run / "data.json").unlink(), r"has no data\.json"),
    "damaged experiment.json": (lambda run: truncate(run / "experiment.json"), r"experiment\.json.*not JSON"),
    "another spec": (lambda run: (run / "experiment.json").write_text('{"type": "Adam"}'), r"holds a Adam, not an Experiment"),
    "unknown class": (lambda run: edit(run / "experiment.json", '"MLP"', '"MLB"'), r"experiment\.json.*'MLB'.*MLP"),
    "damaged data.json": (lambda run: truncate(run / "data.json"), r"data\.json is damaged"),
    "data.json of something else": (lambda run: (run / "data.json").write_text("[]"), r"data\.json is damaged"),
    "history cut": (lambda run: (run / "history.jsonl").write_text(""), r"history\.jsonl has 0 lines"),
    "history damaged": (lambda run: (run / "history.jsonl").write_text("{\n{\n"), r"history\.jsonl is damaged in line 1"),
    "weights truncated": (lambda run: truncate(newest(run) / "training.safetensors"), r"truncated or was edited"),
    "weights edited": (lambda run: flip(newest(run) / "training.safetensors"), r"truncated or was edited"),
    "weights gone": (lambda run: (newest(run) / "training.safetensors").unlink(), r"training\.safetensors cannot be read"),
    "manifest damaged": (lambda run: truncate(newest(run) / "manifest.json"), r"manifest\.json is damaged"),
    "manifest of something else": (lambda run: (newest(run) / "manifest.json").write_text("{}"), r"manifest\.json is damaged"),
    "newer format": (lambda run: edit(newest(run) / "manifest.json", '"format": 1', '"format": 9'), r"format 9.*upgrade"),
    "another net": (of_another_net, r"belongs to another net.*weight.*needs float32\[5"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_runs(name: str, a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, pattern = DAMAGE[name]
    damage(a_run)
    said = refused(capsys, "evaluate", "run", pattern=pattern)
    with pytest.raises(DerinError) as raised:
        derin.load("run")
    assert str(raised.value).splitlines()[0] == said
    refused(capsys, "resume", "run", "--epochs", "5", pattern=pattern)
    refused(capsys, "predict", "run", "good.csv", "-o", "p.csv", pattern=pattern)


def test_not_a_run(a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("evaluate", "resume", "show"):
        refused(capsys, name, "nun", pattern=r"no run at nun.*Runs there: run")
        refused(capsys, name, ".", pattern=r"not a run")
        refused(capsys, name, "good.csv", pattern=r"no run at good\.csv")


# -- using a run


def test_data_that_changed(a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("changed.csv").write_text(TABLE.replace("x", "y"))
    refused(capsys, "resume", "run", "--epochs", "5", "--data", "changed.csv", pattern=r"not the data of the run")
    with pytest.raises(DerinError, match="not the data of the run"):
        derin.load("run").resume(derin.data.load("changed.csv", "sold"), epochs=5, progress=False)


def test_data_that_changed_in_their_place(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["fit", "good.csv", *TARGET, *QUICK, "--quiet"]) == 0
    Path("good.csv").write_text(TABLE.replace("x", "y"))
    refused(capsys, "resume", "runs/good-1", "--epochs", "5", pattern=r"is not what this run was trained on")
    refused(capsys, "evaluate", "runs/good-1", pattern=r"is not what this run was trained on")
    Path("good.csv").unlink()
    refused(capsys, "evaluate", "runs/good-1", pattern=r"no file.*good\.csv")


def test_fewer_epochs_than_done(a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "resume", "run", "--epochs", "1", pattern=r"2 epochs.*got 1")
    refused(capsys, "resume", "run", "--epochs", "0", pattern=r"got 0")


ANOTHER = {
    "column missing": ("size,shop\n1,x\n", r"'age'"),
    "text in a column of numbers": ("size,age,shop\n1,old,x\n", r"'age'.*'old'"),
    "infinite": ("size,age,shop\n1,inf,x\n", r"'age'.*inf"),
    "no rows": ("size,age,shop\n", r"no rows"),
    "empty": ("", r"empty"),
    "ragged": ("size,age,shop\n1,2,x\n1,2,x,4,5\n", r"n\.csv"),
}


@pytest.mark.parametrize("name", ANOTHER)
def test_rows_to_predict(name: str, a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, pattern = ANOTHER[name]
    Path("n.csv").write_text(text)
    refused(capsys, "predict", "run", "n.csv", "-o", "p.csv", pattern=pattern)
    refused(capsys, "predict", "run", "n.csv", "-o", "p.parquet", pattern=pattern)
    with pytest.raises(DerinError, match=pattern):
        derin.load("run").predict("n.csv")


def test_where_predictions_go(a_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    refused(capsys, "predict", "run", "good.csv", "-o", "p.xlsx", pattern=r"\.csv.*\.parquet.*p\.xlsx")
    refused(capsys, "predict", "run", "good.csv", "-o", "no/p.csv", pattern=r"no folder 'no'")
    refused(capsys, "predict", "run", "good.csv", "-o", "good.csv", pattern=r"good\.csv is the file to predict")
    refused(capsys, "predict", "run", "god.csv", "-o", "p.csv", pattern=r"no file.*god\.csv")
    Path("folder.csv").mkdir()
    refused(capsys, "predict", "run", "good.csv", "-o", "folder.csv", pattern=r"is a folder")
    Path("old.csv").write_text("as it was")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    refused(capsys, "predict", "run", "good.csv", "-o", "old.csv", pattern=r"cannot write old\.csv: No space left")
    refused(capsys, "export", "run", "w.safetensors", pattern=r"cannot write w\.safetensors: No space left")


def test_evaluation(a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.csv").write_text("\n".join(line.rsplit(",", 1)[0] for line in TABLE.splitlines()) + "\n")
    refused(capsys, "evaluate", "run", "x.csv", pattern=r"'sold'")
    Path("u.csv").write_text(TABLE.replace("yes", "maybe"))
    refused(capsys, "evaluate", "run", "u.csv", pattern=r"'maybe'.*not a class.*'no', 'yes'")
    refused(capsys, "evaluate", "run", "--part", "tset", pattern=r"test, valid or train, got 'tset'")
    for file, pattern in (("x.csv", "'sold'"), ("u.csv", "'maybe'")):
        with pytest.raises(DerinError, match=pattern):
            derin.load("run").evaluate(file)


def test_evaluation_without_a_test_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["fit", "good.csv", *TARGET, *QUICK, "--test", "0", "--valid", "0", "--quiet"]) == 0
    refused(capsys, "evaluate", "runs/good-1", pattern=r"no rows to evaluate in 'test'")


def test_export_and_new(a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "export", "run", "w.pt", pattern=r"\.safetensors; got 'w\.pt'")
    refused(capsys, "export", "run", "no/w.safetensors", pattern=r"no folder 'no'")
    Path("x.toml").write_text("mine")
    refused(capsys, "new", "-o", "x.toml", pattern=r"x\.toml exists already")
    refused(capsys, "new", "-o", "x.yaml", pattern=r"ends in \.toml")
    refused(capsys, "new", "-o", "no/x.toml", pattern=r"cannot write no.x\.toml")
    refused(capsys, "new", *TARGET, pattern=r"name one: derin new SOURCE")


def test_imports(capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "fit", "good.csv", *TARGET, "--import", "no_such_net", pattern=r"no module 'no_such_net'")
    Path("broken_net.py").write_text("1 / 0\n")
    refused(capsys, "fit", "good.csv", *TARGET, "--import", "broken_net.py", pattern=r"ZeroDivisionError")
    Path("needing_net.py").write_text("import no_such_library\n")
    refused(
        capsys, "fit", "good.csv", *TARGET, "--import", "needing_net", pattern=r"needs the module 'no_such_library'"
    )


@pytest.mark.parametrize(
    "arguments, pattern",
    [
        (["fti", "good.csv"], r"fti"),
        (["fit"], r"SOURCE"),
        (["fit", "good.csv", "--epoch", "3"], r"--epoch"),
        (["fit", "good.csv", "--epochs", "many"], r"--epochs.*integer"),
        (["fit", "good.csv", "more.csv"], r"more\.csv"),
        (["predict", "run", "good.csv"], r"--out"),
        (["fit", "good.csv", *TARGET, "--memory-budget", "lots"], r"500MB.*'lots'"),
        (["fit", "good.csv", *TARGET, "--memory-budget", "0"], r"500MB.*'0'"),
        (["fit", "photos", "--image-size", "wide"], r"48,64.*'wide'"),
        (["fit", "photos", "--image-size", "0"], r"48,64.*'0'"),
    ],
)
def test_usage(arguments: list[str], pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, *arguments, pattern=pattern)


def test_json_errors_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["fit", "god.csv", "--json"]) == 2
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["exit_code"] == 2 and found["kind"] == "DataError"
    assert err == f"derin: error: {found['error']}\n"


def test_a_bug_says_that_it_is_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("who divides by 0?")

    monkeypatch.setattr("derin.data.report.survey", fail)
    assert command(["data", "iris"]) == 1
    err = capsys.readouterr().err
    assert "a bug in derin: ZeroDivisionError: who divides by 0?" in err and "Traceback" not in err
    monkeypatch.setenv("DERIN_DEBUG", "1")
    assert command(["data", "iris"]) == 1
    assert "Traceback" in capsys.readouterr().err


# -- odd input that must work


@pytest.mark.parametrize(
    "name, table, note",
    [
        ("a class with one row", TABLE + "0.1,0.2,x,perhaps\n", r"'perhaps' occurs in one row only"),
        ("fewer rows than a batch", "\n".join(TABLE.splitlines()[:12]) + "\n", ""),
        ("a column that is missing everywhere", column("w", lambda i, row: ""), ""),
        ("a target missing in some rows", TABLE + "0.1,0.2,x,\n" * 3, r"3 of 63 rows"),
        ("one value for every row", column("w", lambda i, row: "5"), ""),
        ("quotes, blanks and Windows line ends", TABLE.replace("\n", "\r\n").replace("shop", '"shop"'), ""),
        ("a byte order mark", "\ufeff" + TABLE, ""),
    ],
)
def test_odd_tables_work(name: str, table: str, note: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("odd.csv").write_bytes(table.encode())
    assert command(["fit", "odd.csv", *TARGET, *QUICK]) == 0
    out, err = capsys.readouterr()
    assert "accuracy" in out and re.search(note, err)
    assert command(["predict", "runs/odd-1", "odd.csv", "-o", "p.csv"]) == 0
    assert len(Path("p.csv").read_text().splitlines()) == len(table.splitlines())


def test_corrupt_images_are_skipped_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    broken_photo()
    arguments = ["fit", "photos", "--skip-bad", "--net", "mlp:4", "--epochs", "1", "--json"]
    assert command(arguments) == 0
    out, err = capsys.readouterr()
    assert sum(json.loads(out)["rows"].values()) == 11
    assert "3.png" in err


def test_nan_targets_are_counted() -> None:
    y = NUMBERS[:, 0].copy()
    y[:4] = np.nan
    with pytest.warns(DataWarning, match="4 of 60 rows"):
        data = derin.data.load((NUMBERS, y))
    assert sum(len(p.x) for p in data.parts.values()) == 56


def test_what_a_run_cannot_be_asked() -> None:
    x = np.random.default_rng(0).normal(size=(30, 2)).astype("float32")
    with pytest.raises(DerinError, match=r"out must be a folder's path.*got 3"):
        derin.fit(NET, (x, x[:, 0]), out=3, epochs=1, progress=False)
    run = derin.fit(NET, (x, x[:, 0]), epochs=1, progress=False)
    with pytest.raises(DerinError, match=r"'tset' is neither a file nor a part.*Nearest: test"):
        run.evaluate("tset")
    with pytest.raises(DerinError, match=r"folder's path, got None"):
        derin.load(None)
