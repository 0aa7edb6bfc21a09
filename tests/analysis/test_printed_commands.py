"""Tests that a printed command runs as it stands, and that nothing of it reaches standard output."""

from __future__ import annotations

import pytest
import typer

from analysis.printed_commands import run_printed


def test_what_it_prints_leaves_standard_output_to_the_report(capfd: pytest.CaptureFixture[str]) -> None:
    run_printed(["python", "-c", "print('asked 36 rows')"])
    output = capfd.readouterr()
    assert (output.out, output.err) == ("", "asked 36 rows\n")


def test_its_exit_code_becomes_ours() -> None:
    with pytest.raises(typer.Exit) as ended:
        run_printed(["python", "-c", "raise SystemExit(6)"])
    assert ended.value.exit_code == 6
