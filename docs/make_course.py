"""Writes docs/course.md: each concept of the course, its name in derin, the test that holds it.

    python docs/make_course.py            # CI checks that the page is what this writes

A docstring or a comment that cites a concept's ID (S1.47) is the claim; this collects them. The concepts come from
the course's own list where it lies beside the checkout, else from the page as it stands.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "course.md"
LIST = ROOT.parent / "shared" / "course" / "CONCEPTS.md"
PUBLIC = (
    "derin",
    "derin.nn",
    "derin.optim",
    "derin.data",
    "derin.models",
    "derin.trace",
    "derin.testing",
    "derin.spec",
)
NOTES = (
    "Linear and logistic regression",
    "Neural networks",
    "Handwritten notes",
    "Introduction, and what networks are for",
    "Tuning, batch norm, softmax",
)
TOLD = {  # what the notes tell, with nothing to compute
    "S0.01": "kinds of learning",
    "S0.08": "vocabulary",
    "S0.13": "losses are not comparable with each other",
    "S0.35": "how the course is held",
    "S1.29": "titles of papers",
    "S1.67": "which net for which data",
    "S2.01": "what networks are used for",
    "S2.02": "why deep learning took off",
    "S2.06": "a story of training",
    "S2.17": "a drawing of forward and backward",
    "S3.01": "history",
    "S3.02": "narrow and general AI",
    "S3.15": "words of pandas and Keras",
    "S3.23": "remarks on the exam",
}


def concepts() -> dict[str, str]:
    """ID -> what the notes call it."""
    if LIST.exists():
        rows = re.findall(r"^\| (S\d\.\d\d) \| (.*?) \|", LIST.read_text(encoding="utf-8"), re.MULTILINE)
        return {identity: _short(text) for identity, text in rows}
    rows = re.findall(r"^\| (S\d\.\d\d) \| (.*?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(rows)


def _short(text: str) -> str:
    text = re.sub(r"\*\*|`|_|\(OCR\)", "", text).replace("|", "/").strip()
    first = re.split(r"; |: (?=[a-z])", text)[0]
    return first if len(first) <= 70 else first[:67].rsplit(" ", 1)[0] + " ..."


def cited(text: str) -> set[str]:
    """The IDs in a text; S1.45-S1.53 are all of them.

    >>> sorted(cited("S0.22, and S1.45-S1.47"))
    ['S0.22', 'S1.45', 'S1.46', 'S1.47']
    """
    found = set(re.findall(r"S\d\.\d\d", text))
    for note, first, last in re.findall(r"S(\d)\.(\d\d)\s?(?:-|to)\s?S\1\.(\d\d)", text):
        found |= {f"S{note}.{n:02}" for n in range(int(first), int(last) + 1)}
    return found


def named() -> dict[str, list[str]]:
    """ID -> public names of derin whose docstrings cite it."""
    public = {}
    for module in PUBLIC:
        found_in = importlib.import_module(module)
        for name in sorted({*vars(found_in), *getattr(found_in, "__all__", ())}):  # some are imported when asked for
            value = getattr(found_in, name)
            where = getattr(value, "__module__", None)
            if where and not name.startswith("_"):
                public.setdefault((where, getattr(value, "__name__", name)), f"{module}.{name}")
    found = defaultdict(list)
    for file in sorted((ROOT / "src").rglob("*.py")):
        module = ".".join(file.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in [tree, *ast.walk(tree)]:
            if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                continue
            own = getattr(node, "name", "")
            name = public.get((module, own)) or (module if own.startswith("_") or not own else f"{module}.{own}")
            for identity in cited(ast.get_docstring(node) or ""):
                if name not in found[identity]:
                    found[identity].append(name)
    return found


def held() -> dict[str, list[str]]:
    """ID -> tests that cite it, each as file::test, or the file where a table at its top does."""
    found = defaultdict(list)
    for file in sorted((ROOT / "tests").glob("test_*.py")):
        text = file.read_text(encoding="utf-8")
        lines, rest = text.splitlines(), set(cited(text))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                for identity in cited("\n".join(lines[first - 1 : node.end_lineno])):
                    found[identity].append(f"{file.name}::{node.name}")
                    rest.discard(identity)
        for identity in rest:
            found[identity].append(file.name)
    return found


def page() -> str:
    names, tests, known = named(), held(), concepts()
    unknown = sorted((set(names) | set(tests)) - set(known))
    if unknown:
        raise SystemExit(f"cited, and no concept of the course: {', '.join(unknown)}")
    told = [i for i in known if i not in tests and i in TOLD]
    open_ = [i for i in known if i not in tests and i not in TOLD]
    lines = [
        "# The course, concept by concept",
        "",
        "Written by `python docs/make_course.py` from the IDs that docstrings and tests cite; a test checks it.",
        "",
        f"{len(known)} concepts: {len(known) - len(open_) - len(told)} held by a test, {len(told)} told with "
        f"nothing to compute, {len(open_)} not yet covered" + (f": {', '.join(open_)}." if open_ else "."),
    ]
    for note, title in enumerate(NOTES):
        lines += ["", f"## {note}. {title}", "", "| | concept | in derin | held by |", "|---|---|---|---|"]
        for identity, concept in known.items():
            if identity[1] == str(note):
                what = ", ".join(f"`{n.removeprefix('derin.')}`" for n in _few(names[identity]))
                by = ", ".join(f"`{t}`" for t in _few(tests[identity]))
                by = by or (f"told: {TOLD[identity]}" if identity in TOLD else "**not yet covered**")
                lines.append(f"| {identity} | {concept} | {what} | {by} |")
    return "\n".join(lines) + "\n"


def _few(names: list[str]) -> list[str]:
    return names if len(names) <= 3 else [*names[:3], f"{len(names) - 3} more"]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
