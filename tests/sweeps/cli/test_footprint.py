"""Tests the command `footprint`: its subcommands are entry points, and a wrong one ends in a message."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
from ended import ended_by
from installed_commands import ROOT, declared, install

from sweeps.cli import footprint
from trainables.errors import ExitCode, UserError

PLANTED = """
import typer

def add_to(app):
    app.command("planted")(planted)

def planted(number: int = 1) -> None:
    "Print a number twice."
    typer.echo(2 * number)
"""


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install(tmp_path / "metadata", declared()))


@pytest.mark.usefixtures("_installed")
def test_the_help_lists_each_declared_subcommand_with_what_it_does() -> None:
    found = ended_by(footprint.main, "footprint", "--help")
    listed = set(re.findall(r"^│ (\w+) +\w", found.stdout, re.MULTILINE))
    assert found.exit_code == 0 and listed == set(declared())


@pytest.mark.parametrize("name", declared())
def test_an_entry_point_adds_the_subcommand_of_its_name(name: str) -> None:
    app = footprint.app_of([EntryPoint(name, declared()[name], footprint.GROUP)])
    assert [one.name for one in app.registered_commands] == [name]
    assert isinstance(app, typer.Typer)


@pytest.mark.usefixtures("_installed")
def test_another_distribution_adds_a_subcommand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted_command.py").write_text(PLANTED)
    monkeypatch.syspath_prepend(install(tmp_path, {"planted": "planted_command:add_to"}, "other"))
    assert ended_by(footprint.main, "footprint", "planted", "--number", "4").stdout == "8\n"
    assert "planted" in ended_by(footprint.main, "footprint", "--help").stdout


@pytest.mark.parametrize("value", ["no_such_module:add_to", "sweeps.cli.status:no_such_function"])
def test_a_subcommand_that_is_not_there_is_named_and_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.syspath_prepend(install(tmp_path, {**declared(), "lost": value}))
    found = ended_by(footprint.main, "footprint", "lost")
    assert found.exit_code == ExitCode.BAD_INPUT and "`footprint lost` must be at" in found.stderr
    assert "hint: install lora-footprint again" in found.stderr and "Traceback" not in found.output
    assert ended_by(footprint.main, "footprint", "status", "--help").exit_code == ExitCode.DONE


def test_without_any_entry_point_the_hint_installs_them() -> None:
    with pytest.raises(UserError, match="must have subcommands") as refused:
        footprint.chosen([], [])
    assert refused.value.hint is not None and "pip install --no-deps" in refused.value.hint


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("words", [("nothing",), ("--no-such-option",), ("",), ("status", "--no-such-option")])
def test_a_wrong_word_is_bad_input(words: tuple[str, ...]) -> None:
    found = ended_by(footprint.main, "footprint", *words)
    assert found.exit_code == ExitCode.BAD_INPUT and found.stderr.startswith("error: ")


def test_the_script_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    install(tmp_path / "metadata", declared())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path / "metadata"), str(ROOT)))}
    script = "import sys; from sweeps.cli.footprint import main; sys.argv[0] = 'footprint'; main()"
    command = [sys.executable, "-c", script, "status", "--storage", str(tmp_path / "gone")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == ExitCode.BAD_INPUT, done.stderr
    assert done.stderr.startswith("error: --storage must be a directory of experiments")
