"""Tests the command `footprint`: its subcommands are entry points, and a wrong one ends in a message."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ended import ended_by
from installed_commands import ROOT, declared, install

from sweeps.cli import footprint
from sweeps.cli.command_groups import GROUPS, OTHER, PANELS, STUDIES, panel_of
from sweeps.cli.studies import line_of_study
from sweeps.execution.submission import studies
from trainables.errors import ExitCode

PLANTED = """
import typer

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
    listed = set(re.findall(r"^│ ([\w-]+) +\w", found.stdout, re.MULTILINE))
    assert found.exit_code == 0 and listed == {*declared(), *studies(), "import"}


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("name", [*declared(), *studies(), "import"])
def test_every_command_has_a_help_of_80_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 80)
    found = ended_by(footprint.main, "footprint", name, "--help")
    assert found.exit_code == 0 and f"Usage: footprint {name} " in found.stdout
    assert max(map(len, found.stdout.splitlines())) <= 80
    assert panel_of(name) != OTHER


def test_the_help_begins_with_how_to_start() -> None:
    assert PANELS[:2] == ("Start", STUDIES) and {*PANELS} == {*GROUPS, STUDIES, OTHER}


@pytest.mark.usefixtures("_installed")
def test_another_distribution_adds_a_subcommand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted_command.py").write_text(PLANTED)
    monkeypatch.syspath_prepend(install(tmp_path, {"planted": "planted_command:planted"}, "other"))
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


def test_without_any_entry_point_the_hint_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "entry_points", lambda group: ())
    found = ended_by(footprint.main, "footprint", "status")
    assert found.exit_code == ExitCode.BAD_INPUT and "must have commands" in found.stderr
    assert "hint: install the checkout again: pip install --no-deps" in found.stderr


@pytest.mark.usefixtures("_installed")
def test_a_study_says_how_it_was_called() -> None:
    found = ended_by(footprint.main, "footprint", "stage4", "--only", "Z9", "--dry-run")
    assert found.exit_code == ExitCode.BAD_INPUT and "Traceback" not in found.output
    assert line_of_study("stage4").words == ["python", "-m", "sweeps.stage4"]
    assert ended_by(footprint.main, "footprint", "stage4", "--no-such-option").stderr.splitlines()[-1] == (
        "hint: `footprint stage4 --help` lists the options"
    )


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize(("typed", "completed"), [
    ("footprint st", {"stage4", "status"}),
    ("footprint stage4 --see", {"--seeds"}),
    ("footprint status --js", {"--json"}),
    ("footprint data fi", {"filter"}),
])  # fmt: skip
def test_the_shell_completes_commands_and_options(
    typed: str, completed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_FOOTPRINT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert set(ended_by(footprint.main, "footprint").stdout.split()) == completed


@pytest.mark.usefixtures("_installed")
def test_the_version_is_that_of_the_package() -> None:
    assert ended_by(footprint.main, "footprint", "--version").stdout == "footprint 0.1.0\n"


@pytest.mark.usefixtures("_installed")
def test_an_unknown_command_names_the_nearest() -> None:
    found = ended_by(footprint.main, "footprint", "stage5")
    assert found.exit_code == ExitCode.BAD_INPUT and "did you mean `stage4`?" in found.stderr


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


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("words", [
    ("list", "--storage", "https://example.org/runs"),
    ("data", "check", "s3://bucket/train.jsonl"),
    ("stage4", "--dry-run", "--val", "https://example.org/val.jsonl"),
    ("stage4", "--config", "https://example.org/mine.yaml"),
])  # fmt: skip
def test_a_url_in_the_place_of_a_path_is_refused(words: tuple[str, ...]) -> None:
    found = ended_by(footprint.main, "footprint", *words)
    assert found.exit_code == ExitCode.BAD_INPUT and "Traceback" not in found.output
    assert f"begins with `{words[-1].partition(':')[0]}:`" in found.stderr
