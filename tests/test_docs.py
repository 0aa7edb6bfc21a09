"""Tests that documents and docstrings name only files, modules and links that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("sweeps", "trainables", "analysis", "benchmarks", "clusters", "docs", "tests")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md")
SOURCES = tuple(f"{folder}/**/*.py" for folder in FOLDERS if folder not in ("clusters", "docs"))

FILE = re.compile(rf"(?<![\w/.~-])(?:{'|'.join(FOLDERS)})/\w[\w./-]*")
MODULE = re.compile(r"python -m ((?:sweeps|trainables|analysis|benchmarks)[\w.]*)")
CREATED = re.compile(r'^```python title="([^"]+)"$', re.MULTILINE)  # files that a reader is told to write
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
PRIVATE = re.compile(r"\bbriefs? 0\d*", re.IGNORECASE)
PLANTED = f"Brief {1:03}"  # composed: this file is read too


def missing(text: str, root: Path) -> list[str]:
    """Return the paths and modules in a text that are not in the repository; a module may be named without `.py`."""
    files = [found.rstrip("./-") for found in FILE.findall(text)]
    modules = [found.rstrip(".").replace(".", "/") for found in MODULE.findall(text)]
    there = set(CREATED.findall(text))
    return [
        path
        for path in files + modules
        if not ((root / path).exists() or (root / f"{path}.py").exists() or there & {path, f"{path}.py"})
    ]


def docstrings(source: str) -> Iterator[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield text


def faults_in_documents(root: Path) -> dict[str, list[str]]:
    """Return what is wrong in each document, by its path."""
    faults = {}
    for path in (path for pattern in DOCUMENTS for path in root.glob(pattern)):
        text = path.read_text(encoding="utf-8")
        links = [link for link in LINK.findall(text) if not (path.parent / link).exists()]
        faults[str(path.relative_to(root))] = missing(text, root) + links + PRIVATE.findall(text)
    return {path: found for path, found in faults.items() if found}


def faults_in_sources(root: Path) -> dict[str, list[str]]:
    """Return what is wrong in each Python file, by its path: files in docstrings, private sources anywhere."""
    faults = {}
    for path in (path for pattern in SOURCES for path in root.glob(pattern)):
        text = path.read_text(encoding="utf-8")
        named = [name for docstring in docstrings(text) for name in missing(docstring, root)]
        faults[str(path.relative_to(root))] = named + PRIVATE.findall(text)
    return {path: found for path, found in faults.items() if found}


def test_documents_name_only_what_exists() -> None:
    assert faults_in_documents(ROOT) == {}


def test_docstrings_name_only_what_exists() -> None:
    assert faults_in_sources(ROOT) == {}


def test_there_is_something_to_read() -> None:
    documents = "".join(path.read_text(encoding="utf-8") for name in DOCUMENTS for path in ROOT.glob(name))
    assert len(FILE.findall(documents)) >= 20
    assert len(MODULE.findall(documents)) >= 20
    assert len(LINK.findall(documents)) >= 10


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`sweeps/here.py`, `sweeps/here`, sweeps/ and `sweeps/<name>.py`", []),
        ("`runs/sweeps/x.py`, ~/sweeps/x.py", []),
        ("`sweeps/gone.py`.", ["sweeps/gone.py"]),
        ("below docs/gone/", ["docs/gone"]),
        ('python -m sweeps.new\n```python title="sweeps/new.py"\n```', []),
        ('python -m sweeps.new\n```python title="sweeps/old.py"\n```', ["sweeps/new"]),
        ("python -m sweeps.here and python -m sweeps", []),
        ("`python -m sweeps.gone`", ["sweeps/gone"]),
        ("[here](docs/page.md), [out](https://example.org/x), [top](#top)", []),
        ("[gone](images/gone.png)", ["images/gone.png"]),
        (f"Source: {PLANTED}.", [PLANTED]),
        ("Be brief. 0 rows.", []),
    ],
)
def test_planted_faults_are_found(tmp_path: Path, text: str, found: list[str]) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "here.py").write_text("")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("")
    (tmp_path / "README.md").write_text(text)
    assert faults_in_documents(tmp_path) == ({"README.md": found} if found else {})


def test_planted_faults_are_found_in_docstrings_and_comments(tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "planted.py").write_text(
        f'NAME = "docs/text.md"  # {PLANTED}\n\n\ndef planted():\n    """Read `docs/gone.md`."""\n'
    )
    assert faults_in_sources(tmp_path) == {"sweeps/planted.py": ["docs/gone.md", PLANTED]}
