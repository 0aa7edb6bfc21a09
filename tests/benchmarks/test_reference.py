"""Tests that the committed reference is what the code says, and that it misses nothing."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.reference import environment, metrics
from benchmarks.reference.__main__ import DIRECTORY, PAGES
from benchmarks.reference.commands import commands_page
from benchmarks.reference.settings import settings_page
from trainables import setting_meanings
from trainables.metrics import METRICS
from trainables.placement import Placement
from trainables.spec import TrialSpec

ROOT = Path(__file__).parents[2]
SET_BY_US = {"LOCAL_RANK", "_FOOTPRINT_COMPLETE"}  # restored after lm-eval; asked by the shell
SOURCES = [path for package in ("sweeps", "trainables", "analysis") for path in (ROOT / package).rglob("*.py")]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name: str) -> None:
    written = (ROOT / DIRECTORY / f"{name}.md").read_text(encoding="utf-8")
    assert written == PAGES[name](), "make reference"


def test_no_other_page_is_there() -> None:
    assert {path.stem for path in (ROOT / DIRECTORY).glob("*.md")} == set(PAGES)


def test_every_setting_has_a_meaning_and_no_other() -> None:
    assert setting_meanings.MEANINGS.keys() == TrialSpec.model_fields.keys()
    assert setting_meanings.PLACEMENT_MEANINGS.keys() == Placement.model_fields.keys()


def test_a_changed_default_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings_page()
    monkeypatch.setattr(TrialSpec.model_fields["rank"], "default", 17)
    assert settings_page() == before.replace("| `16` | rank of LoRA |", "| `17` | rank of LoRA |") != before


def test_every_metric_is_on_the_page() -> None:
    page = metrics.metrics_page()
    assert [name for name in METRICS if f"| `{name}` |" not in page] == []


def test_every_command_has_an_example() -> None:
    sections = commands_page().split("\n### ")[1:]
    groups = {"`footprint data`", "`footprint mini`"}
    assert [
        one for text in sections if "For example: `footprint" not in text and (one := text[:30]) not in groups
    ] == []


def variables_read(path: Path) -> Iterator[str]:
    """Yield the environment variables that a file reads, as far as their names stand in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=held, attr="get"), args=[name, *_]) if _is_environment(held):
                yield from _name(name, path)
            case ast.Subscript(value=held, slice=name, ctx=ast.Load()) if _is_environment(held):
                yield from _name(name, path)
            case ast.Compare(left=name, ops=[ast.In() | ast.NotIn()], comparators=[held]) if _is_environment(held):
                yield from _name(name, path)
            case ast.Call(func=ast.Attribute(attr="getenv"), args=[name, *_]):
                yield from _name(name, path)
            case ast.keyword(arg="envvar", value=ast.Constant(value=str(name))):
                yield name


def _is_environment(node: ast.expr) -> bool:
    match node:
        case ast.Attribute(value=ast.Name(id="os"), attr="environ") | ast.Name(id="environment"):
            return True
    return False


def _name(node: ast.expr, path: Path) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(name)):
            yield name
        case ast.Name(id=constant) if constant.isupper():
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield getattr(importlib.import_module(module), constant)


def test_every_variable_that_the_code_reads_is_on_the_page() -> None:
    found = {name for path in SOURCES for name in variables_read(path)} - SET_BY_US
    assert len(found) >= 10
    assert found - environment.READ.keys() == set()


def test_every_variable_on_the_page_stands_in_the_code() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    assert [name for name in (*environment.READ, *environment.GIVEN) if f'"{name}"' not in text] == []


def test_a_variable_that_a_file_reads_is_found(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(
        "import os\nos.environ['ONE']\nos.environ.get('TWO')\n'THREE' in os.environ\nos.getenv('FOUR')\n"
    )
    assert set(variables_read(planted)) == {"ONE", "TWO", "THREE", "FOUR"}


def test_no_page_names_a_path_of_the_machine_that_wrote_it() -> None:
    root = Path(__file__).parents[2]
    assert [
        page.name for page in (root / "docs" / "reference").glob("*.md") if str(root) in page.read_text("utf-8")
    ] == []
