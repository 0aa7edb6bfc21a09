"""Tests that a command is printed as the user calls Footprint, and that each one that the code can print exists."""

from __future__ import annotations

import ast
import html
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from ended import ended_by
from installed_commands import declared, install
from shell_blocks import problem_of

from sweeps.execution.submission import studies
from trainables import typed as forms
from trainables.command import run
from trainables.errors import UserError
from trainables.typed import FORM, MODULES, remembering_form, typed, typed_words

ROOT = Path(__file__).parents[1]
PACKAGES = ("sweeps", "trainables", "analysis")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
# what another form than that of `typed` prints
OWN_FORMS = re.compile(r"python -m (?!sweeps\.\{)(?:sweeps|trainables|analysis)\b|"
                       rf"(?<![\w/.])analysis (?:{'|'.join(forms.ANALYSIS)})\b")  # fmt: skip


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install(tmp_path / "metadata", declared()))


# --------------------------------------------------------------------- the form
def form_of(program: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv(FORM, raising=False)
    monkeypatch.setattr(forms, "program", lambda: program)
    with remembering_form():
        return typed("pareto", "--experiment", "two words")


@pytest.mark.parametrize("program", ["footprint", "python -m sweeps", "python -m trainables", "pytest",
                                     "ipykernel_launcher.py", "python -m ipykernel_launcher", "stage4"])  # fmt: skip
def test_footprint_and_whatever_is_not_ours_prints_footprint(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert form_of(program, monkeypatch) == "footprint pareto --experiment 'two words'"
    assert FORM not in os.environ


@pytest.mark.parametrize("program", ["analysis", "python -m analysis", "python -m analysis.cli",
                                     "python -m sweeps.stage4", "python -m trainables.verify"])  # fmt: skip
def test_modules_print_modules(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert form_of(program, monkeypatch) == "analysis pareto --experiment 'two words'"
    assert FORM not in os.environ


def test_a_process_prints_what_the_command_that_started_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORM, MODULES)
    monkeypatch.setattr(forms, "program", lambda: "footprint")
    with remembering_form():
        assert typed("doctor") == "python -m sweeps.doctor"
    assert os.environ[FORM] == MODULES


def test_the_hint_of_an_error_has_the_form_of_its_command() -> None:
    def failing() -> None:
        raise UserError("it must work", f"see {typed('doctor')}")

    assert ended_by(lambda: run(failing), "footprint").stderr.endswith("hint: see footprint doctor\n")
    assert ended_by(lambda: run(failing), "analysis").stderr.endswith("hint: see python -m sweeps.doctor\n")


def test_a_bug_names_the_doctor_in_the_form_of_its_command() -> None:
    def failing() -> None:
        raise AssertionError

    assert "`footprint doctor`" in ended_by(lambda: run(failing), "footprint").stderr
    assert "`python -m sweeps.doctor`" in ended_by(lambda: run(failing), "analysis").stderr


# ------------------------------------------------------------- what is printed
@pytest.mark.parametrize("form", ["footprint", MODULES])
@pytest.mark.parametrize("name", [*declared(), *studies(), "import"])
def test_every_command_exists_in_both_forms(name: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORM, form)
    assert problem_of(typed_words(name, "--help")) is None


def words_of_calls(text: str) -> Iterator[list[str]]:
    """Yield the constant words of each call of `typed`, unless its first word is a variable."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("typed", "typed_words"):
            constant = [one.value for one in node.args if isinstance(one, ast.Constant)]
            if node.args and isinstance(node.args[0], ast.Constant):
                yield [str(one) for one in constant]


def unknown_words(words: list[str]) -> list[str]:
    """Return the subcommands and options among the words of a command that do not exist."""
    from sweeps.cli.footprint import app_of_commands

    command: Any = typer.main.get_command(app_of_commands())
    context = command.make_context("footprint", [], resilient_parsing=True)
    left = list(words)
    while hasattr(command, "get_command") and left:
        try:
            command = command.get_command(context, left[0])
        except UserError:
            return left[:1]
        if command is None:
            return left[:1]
        left = left[1:]
    known = {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)} | {"--help"}
    return [word for word in left if word.startswith("--") and word not in known]


PRINTING = [path for path in SOURCES if re.search(r"\btyped(_words)?\(", path.read_text("utf-8"))]


@pytest.mark.parametrize("path", PRINTING, ids=lambda path: path.stem)
def test_every_printed_command_and_option_exists(path: Path) -> None:
    assert [words for words in words_of_calls(path.read_text("utf-8")) if unknown_words(words)] == []


@pytest.mark.parametrize(
    ("text", "count"),
    [("typed('pareto', '--experimen', name)", 1), ("typed('paretto')", 1), ("typed('data', 'chekc', x)", 1),
     ("typed_words('stage4', '--onli', *words)", 1), ("typed('data', 'answer', '--base', x)", 0), ("typed(name)", 0)],
)  # fmt: skip
def test_a_planted_fault_is_found(text: str, count: int) -> None:
    assert sum(bool(unknown_words(words)) for words in words_of_calls(text)) == count


def printed_otherwise(text: str) -> list[str]:
    """Return the texts of a module that name a command in a form of their own; docstrings and comments may."""
    if not OWN_FORMS.search(text):
        return []
    tree = ast.parse(text)
    docstrings = {id(node.body[0].value) for node in ast.walk(tree)
                  if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and node.body
                  and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
            and id(node) not in docstrings and OWN_FORMS.search(node.value)]  # fmt: skip


def test_no_other_place_decides_how_a_command_is_printed() -> None:
    found = {path.name: found for path in SOURCES if (found := printed_otherwise(path.read_text("utf-8")))}
    assert found == {}
    pages = [path for path in (ROOT / "analysis").rglob("templates/*") if OWN_FORMS.search(path.read_text("utf-8"))]
    assert pages == []


@pytest.mark.parametrize(
    ("text", "count"),
    [('hint = "run `python -m sweeps.doctor`"', 1), ('f"{x}: analysis pareto --experiment {y}"', 1),
     ('"""python -m sweeps.stage4"""', 0), ('"the analysis of ship"', 0), ('"rows/analysis pareto"', 0)],
)  # fmt: skip
def test_a_command_in_a_form_of_its_own_is_found(text: str, count: int) -> None:
    assert len(printed_otherwise(text)) == count


# ------------------------------------------------------------- what a run prints
INDENTED = re.compile(r"^ {2,}((?:footprint|analysis|python -m) .*)$", re.MULTILINE)
QUOTED = re.compile(r"`((?:footprint|analysis|python -m) [^`]+)`")


def commands_in(text: str) -> list[str]:
    """Return the commands that a terminal or a page shows: a line of their own, or in backticks."""
    found = [*INDENTED.findall(text), *QUOTED.findall(html.unescape(text))]
    found += [html.unescape(one) for one in re.findall(r"<pre>((?:footprint|analysis|python -m) [^<]+)</pre>", text)]
    return [one.partition("  # ")[0].strip() for one in found]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("study", "then", "own"),
    [(["-m", "sweeps", "smoke"], ["-m", "sweeps"], ("footprint ",)),
     (["-m", "sweeps.smoke"], ["-m", "analysis"], ("python -m ", "analysis "))],
)  # fmt: skip
def test_every_command_that_a_launch_and_its_conclusions_print_parses(
    study: list[str], then: list[str], own: tuple[str, ...], tmp_path: Path
) -> None:
    said = ""
    of_smoke = ["--experiment", "smoke"]
    commands = (study, [*then, "pareto", *of_smoke], [*then, "seeds", *of_smoke], [*then, "report", *of_smoke],
                [*study, "--sync", "--experiment", "gone"], [*then, "effects", *of_smoke],
                [*then, "ship", *of_smoke, "--out", "shipped", "--level", "0.999"],
                [*then, "compare", "A", "B", "--experiment", "gone"])  # fmt: skip
    for words in commands:
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, text=True, check=False, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
        assert "Traceback" not in done.stdout
        said += done.stdout
    pages = [tmp_path / "report.html", tmp_path / "frontier" / "smoke" / "pareto.html"]
    found = {one for text in (said, *(page.read_text("utf-8") for page in pages)) for one in commands_in(text)}
    assert len(found) >= 5
    assert [one for one in found if not one.startswith(own)] == []
    assert {one: problem for one in found if (problem := problem_of(shlex.split(one)))} == {}
