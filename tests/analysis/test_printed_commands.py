"""Tests that a printed command runs as it stands, and that nothing of it reaches standard output."""

from __future__ import annotations

import pytest
import typer

from analysis.options import store_words
from analysis.printed_commands import run_printed, sync_command


def test_what_it_prints_leaves_standard_output_to_the_report(capfd: pytest.CaptureFixture[str]) -> None:
    run_printed(["python", "-c", "print('asked 36 rows')"])
    output = capfd.readouterr()
    assert (output.out, output.err) == ("", "asked 36 rows\n")


def test_its_exit_code_becomes_ours() -> None:
    with pytest.raises(typer.Exit) as ended:
        run_printed(["python", "-c", "raise SystemExit(6)"])
    assert ended.value.exit_code == 6


def test_a_command_of_footprint_runs_without_being_on_the_path(capfd: pytest.CaptureFixture[str]) -> None:
    run_printed(["footprint", "--version"])
    assert capfd.readouterr().err.startswith("footprint ")


def test_the_store_is_named_unless_it_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    command = "footprint stage4 --sync --experiment 'two words'"
    assert sync_command("two words", store_words("sqlite:///mlflow.db")) == command
    server = store_words("http://127.0.0.1:5000")
    assert sync_command("two words", server) == f"{command} --tracking-uri http://127.0.0.1:5000"
    assert sync_command("two words", store_words("postgresql://me:secret@db/mlflow")) == command
