"""What the README, the documents and the examples show is run here, in a folder of its own."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from derin.cli import all_commands, run

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def python(code: str, where: Path, *arguments: str | Path) -> str:
    """What the code prints, run as a file in this folder; a warning is an error."""
    script = where / "script.py"
    script.write_text(code, encoding="utf-8")
    command = [sys.executable, "-W", "error", script, *arguments]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_readme_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """The Python example, then every `derin` command that the README shows."""
    (example,) = blocks(README, "python")
    assert len(example.splitlines()) < 20
    said = python(example, tmp_path)
    assert re.search(r"^town +boolean", said, re.MULTILINE) and "'r2': 0.9" in said

    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^\| `(derin .*?)` \|", README, re.MULTILINE)
    commands += [line[2:] for line in "".join(blocks(README, "console")).splitlines() if line.startswith("$ ")]
    known = _commands()
    assert {shlex.split(command)[1] for command in commands} | {"pause", "continue", "stop"} == known  # test_journal.py
    for command in commands:
        assert run(shlex.split(command)[1:]) == 0, command
    out, _ = capsys.readouterr()
    assert all(
        part in out
        for part in ("1,000 predictions in predictions.csv", " arrays in houses.safetensors", "accuracy 0.9")
    )
    new = ["houses-1", "houses-2", "digits-1"]
    assert all((tmp_path / "runs" / name / "experiment.json").is_file() for name in new)


def _commands() -> set[str]:
    """What may follow `derin`: commands, and groups of them."""
    app = all_commands()
    return {str(c.name) for c in (*app.registered_commands, *app.registered_groups)}


def test_commands_in_the_text_are_commands() -> None:
    known = _commands()
    documents = [README, *(p.read_text(encoding="utf-8") for p in ROOT.glob("docs/*.md"))]
    for word in re.findall(r"`derin ([a-z]+)", " ".join(documents)):
        assert word in known


def test_names_in_the_table_are_names() -> None:
    """A layer, loss or optimiser that the README lists is there."""
    from derin import nn, optim

    for row, home in {"layers": nn, "losses": nn, "optimisers": optim}.items():
        (cells,) = re.findall(rf"^\| {row} \| (.*?) \|$", README, re.MULTILINE)
        names = [name for name in re.findall(r"\b[A-Z]\w+\b", cells) if name != "JAX"]
        assert names and all(hasattr(home, name) for name in names), names


def test_links_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("document", sorted(p.name for p in ROOT.glob("docs/*.md")))
def test_documents(document: str, tmp_path: Path) -> None:
    for code in blocks((ROOT / "docs" / document).read_text(encoding="utf-8"), "python"):
        python(code, tmp_path)


def test_commands_of_the_page_on_searches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in "".join(blocks((ROOT / "docs" / "tune.md").read_text(encoding="utf-8"), "console")).splitlines():
        assert run(shlex.split(line[2:])[1:]) == 0, line


REAL = {  # example: what it is run with here (fewer epochs than its docstring's result), and what it says then
    "mnist_cnn": ("images/mnist", ["1"], r"^9[789]\.\d\d % of 10,000"),
    "mnist_mlp": ("images/mnist", ["2"], r"^9[5678]\.\d\d % of 10,000"),
    "forecast": ("timeseries/daily-min-temperatures/daily-min-temperatures.csv", ["Temp", "1", "365"],
                 r"ago +rmse 3\.706 .*\nderin +rmse 2\."),
    "series": ("timeseries/ucr", ["1", "JapaneseVowels"], r"JapaneseVowels +mean\nLSTM .*\nGRU .*\nConv1d .*\n"),
    "characters": ("text/tinyshakespeare/input.txt", ["20"], r"step 20: [34]\.\d+ nats a character, [34]\."),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("example", REAL)
def test_examples_on_real_data(example: str, shared_data: Path, tmp_path: Path) -> None:
    source, arguments, says = REAL[example]
    code = (ROOT / "examples" / f"{example}.py").read_text(encoding="utf-8")
    assert len(code.splitlines()) < 60
    said = python(code, tmp_path, shared_data / source, *arguments)
    assert re.search(says, said), said


@pytest.mark.slow
@pytest.mark.parametrize(
    "example, says",
    [
        ("own_layer", r"accuracy 0\.9"),
        ("images", r"accuracy (0\.9|1\.0).*\nnew\.png is a disc"),
        ("stop_and_resume", r"to the bit: True"),
        ("search", r"what mattered: optimizer.learning_rate\naccuracy 0\.9"),
    ],
    ids=["own_layer", "images", "stop_and_resume", "search"],
)
def test_examples(example: str, says: str, tmp_path: Path) -> None:
    said = python((ROOT / "examples" / f"{example}.py").read_text(encoding="utf-8"), tmp_path)
    assert re.search(says, said), said


def test_every_example_is_tested() -> None:
    tested = {values[0] for mark in test_examples.pytestmark if mark.name == "parametrize" for values in mark.args[1]}
    assert {p.stem for p in (ROOT / "examples").glob("*.py")} == tested | set(REAL)
