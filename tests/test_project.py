"""The project's own promises: a light import, versions that agree, constraints that hold, CI that does what is written."""

from __future__ import annotations

import ast
import importlib
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import derin

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, encoding="utf-8", check=True
    )


@pytest.mark.parametrize(
    "code",
    [
        "import derin",
        "import derin; derin.nn, derin.optim, derin.data, derin.spec, derin.fit, derin.load, derin.Experiment",
    ],
)
def test_import_is_light(code: str) -> None:
    """What is large is imported where it is used, and the oracles of the tests never."""
    large = {
        "torch",
        "keras",
        "matplotlib",
        "polars",
        "pandas",
        "sklearn",
        "scipy.stats",
        "PIL",
        "h5py",
        "pyarrow",
        "optax",
    }
    said = run(sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)").stdout
    assert large & set(said.split()) == set()


RARE = (
    "adaptive attention conv_layers convolution embedding losses_ctc losses_pairs maps padding pooling recurrence "
    "recurrent torch_weights window"
)


def test_a_net_of_dense_layers_imports_no_other_layers(tmp_path: Path) -> None:
    """From an experiment's file to saved weights: what it names is loaded, and what every run needs."""
    table = tmp_path / "t.csv"
    table.write_text("a,b,kind\n" + "".join(f"{i % 7},{i % 5},{'xy'[i % 2]}\n" for i in range(40)))
    words = f"fit {table} -t kind --net mlp:4 --epochs 1 --quiet --set optimizer=Adam(1e-3) --out {tmp_path / 'run'}"
    code = f"import sys; from derin.cli import run; print(run({words.split()}), *sys.modules)"
    exit_code, *seen = run(sys.executable, "-c", code).stdout.split()
    assert exit_code == "0" and "derin.nn.layers" in seen
    unused = {f"derin.nn.{name}" for name in RARE.split()} | {"derin.models.images", "derin.models.linear"}
    unused |= {f"derin.optim.{name}" for name in ("adaptive", "cycles", "lbfgs", "muon", "plateau", "signs")}
    assert unused & set(seen) == set()


def test_a_name_in_a_file_loads_its_own_module_only() -> None:
    code = (
        "from derin import spec; print(spec.parse('Sequential(LSTM(4), Linear(1))')); import sys; print(*sys.modules)"
    )
    shown, seen = run(sys.executable, "-c", code).stdout.splitlines()
    assert shown == "Sequential(LSTM(4), Linear(1))"
    assert {"derin.nn.recurrent"} == {f"derin.nn.{m}" for m in RARE.split() if m != "recurrence"} & set(seen.split())
    code = "from derin import spec; spec.parse('Sequential(MultiheadAtention(4))')"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stderr
    assert "no spec is called 'MultiheadAtention'. Nearest: MultiheadAttention" in told


@pytest.mark.parametrize("package", ["nn", "optim", "models"])
def test_names_that_wait_are_all_named(package: str) -> None:
    """What editors and mypy see, what is imported when asked for, and what is public are the same names."""
    module = importlib.import_module(f"derin.{package}")
    tree = ast.parse((ROOT / "src" / "derin" / package / "__init__.py").read_text(encoding="utf-8"))
    (branch,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {(a.name, node.module) for node in branch.body for a in node.names}
    table = next(node for node in ast.walk(branch) if isinstance(node, ast.Dict))
    waiting = {
        (name, f"derin.{package}.{home}") for home, names in ast.literal_eval(table).items() for name in names.split()
    }
    assert typed == waiting
    for name, home in waiting:
        assert getattr(module, name) is getattr(sys.modules[home], name)
    assert {name for name, _ in waiting} <= {*module.__all__} <= {*dir(module)}
    with pytest.raises(AttributeError, match=f"module 'derin.{package}' has no attribute 'Lineer'"):
        _ = module.Lineer


def test_help_comes_without_jax() -> None:
    script = shutil.which("derin", path=sysconfig.get_path("scripts"))
    if script is None:
        pytest.skip("derin is not installed in this environment: pip install -e .")
    done = run(script, "--help", PYTHONPROFILEIMPORTTIME="1")
    assert "Train a network on data." in done.stdout
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "derin.cli" in imported
    assert {"jax", "numpy", "polars", "sklearn", "derin.nn", "derin.engine"} & imported == set()


def test_sources_import_no_oracle() -> None:
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"torch", "keras", "tensorflow"} & {n.split(".")[0] for n in names}, file


def test_every_module_says_what_it_is() -> None:
    for file in SOURCES:
        if file.name != "__main__.py":
            assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), file


def test_versions_agree() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert PROJECT["project"]["version"] == derin.__version__
    assert f"## [{derin.__version__}]" in changes and "## [Unreleased]" in changes


def test_typed() -> None:
    assert (ROOT / "src" / "derin" / "py.typed").is_file()


# -- what CI installs and runs


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(n): v for n, v in (line.split("==") for line in lines if line and line[0] != "#")}


def test_constraints_pin_what_is_needed() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *(text for extra in extras for text in extra)]
    versions = pinned()
    for text in wanted:
        need = Requirement(text)
        assert versions[canonicalize_name(need.name)] in need.specifier, text
        assert need.specifier, f"{text} has no version"


def test_constraints_name_versions_and_nothing_else() -> None:
    """No addresses, no paths, no builds that one index alone has."""
    for name, version in pinned().items():
        assert re.fullmatch(r"[a-z0-9-]+", name) and re.fullmatch(r"\d+(\.\d+)*", version), f"{name}=={version}"


def test_ci_runs_the_commands_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (line,) = (line for line in readme.splitlines() if "pytest" in line and line.startswith("python3 -m venv"))
    ci = re.sub(r"\\\n\s*", "", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    steps = [step.strip() for step in line.split("&&")]
    assert [step.split()[0] for step in steps] == ["python3", ".", "pip", "ruff", "ruff", "mypy", "pytest"]
    at = -1
    for step in steps[2:]:
        plain = "\n".join(re.sub(r" --(quiet|durations \d+)", "", line) for line in ci.splitlines())
        found = plain.find(f"\n{step}\n")
        assert found > at, step
        at = found


def test_what_pytest_collects() -> None:
    """Doctests as well; and every name is the same in each worker of pytest-xdist, which else refuses to start."""
    assert {"tests", "src"} == set(PROJECT["tool"]["pytest"]["ini_options"]["testpaths"])
    found = run(sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider").stdout
    assert "src/derin/nn/layers.py::derin.nn.layers.Linear" in found
    assert "src/derin/engine/training.py::derin.engine.training.fit" in found
    assert " at 0x" not in found


def test_every_test_has_a_home() -> None:
    """pytest collects test_*.py: a file called otherwise would never run."""
    for file in (ROOT / "tests").glob("*.py"):
        holds_tests = re.search(r"^\s*(async )?def test_", file.read_text(encoding="utf-8"), re.MULTILINE)
        assert not holds_tests or file.name.startswith("test_"), file.name


def test_the_map_of_the_course_is_up_to_date() -> None:
    make = runpy.run_path(str(ROOT / "docs" / "make_course.py"))
    assert make["PAGE"].read_text(encoding="utf-8") == make["page"](), "run python docs/make_course.py"
