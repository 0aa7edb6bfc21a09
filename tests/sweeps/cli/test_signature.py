"""Tests options as dataclasses: how a field becomes an option, and how a value becomes its words."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from sweeps.cli.options import RUN, SPACE, LaunchOptions, argument, option
from sweeps.cli.signature import parameters_of, signature_of
from sweeps.cli.study import SHARED, StudyOptions


@dataclass(frozen=True)
class Example:
    """Options of every kind."""

    config: Path = field(metadata=argument())
    """The file to
    read."""
    dry_run: bool = field(default=False, metadata=option(RUN))
    """Write nothing."""
    rates: str = field(default="", metadata=option(SPACE, "--lr", shown_default="the study's"))
    """Rates."""
    trials: int = field(default=24, metadata=option(SPACE, minimum=1))
    """Number of trials."""
    vary: list[str] | None = field(default=None, metadata=option(SPACE))
    """A dimension."""


def called(*arguments: str, **changed: dict[str, Any]) -> tuple[int, str, dict[str, Any]]:
    app, got = typer.Typer(), {}
    parameters = parameters_of(Example, None, changed)

    def command(context: typer.Context, **values: Any) -> None:
        got.update(values)

    command.__signature__ = signature_of(parameters)  # type: ignore[attr-defined]
    app.command()(command)
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "120"})
    return done.exit_code, done.output, got


def test_the_docstring_of_a_field_is_its_help() -> None:
    code, output, _ = called("--help")
    assert code == 0
    for words in ("The file to read.", "Write nothing.", "Rates.", "[default: (the study's)]", "[default: 24]"):
        assert words in output
    assert "--no-dry-run" not in output and "--rates" not in output


def test_help_and_default_can_be_changed_for_one_command_line() -> None:
    _, output, _ = called("--help", trials={"default": 7, "help": "How many."})
    assert "How many." in output and "[default: 7]" in output and "Number of trials." not in output


def test_values_have_the_type_of_their_field() -> None:
    assert called("a.yaml")[2] == {
        "config": Path("a.yaml"), "dry_run": False, "rates": "", "trials": 24, "vary": None,
    }  # fmt: skip
    _, _, got = called("a.yaml", "--dry-run", "--lr", "1e-4", "--trials", "3", "--vary", "a=1", "--vary", "b=2")
    assert got == {
        "config": Path("a.yaml"), "dry_run": True, "rates": "1e-4", "trials": 3, "vary": ["a=1", "b=2"],
    }  # fmt: skip
    assert called("a.yaml", "--trials", "0")[0] == 2
    assert called()[0] == 2


def test_the_words_of_a_value_are_read_back_as_that_value() -> None:
    values = {"config": Path("a b.yaml"), "dry_run": True, "rates": "1e-4,3e-4", "trials": 3, "vary": ["a=1", "b=2"]}
    words = [word for one in parameters_of(Example) for word in one.words(values[one.name])]
    assert called(*words)[2] == values


@pytest.mark.parametrize("options", [LaunchOptions, StudyOptions])
def test_every_option_has_a_help_text(options: type) -> None:
    for one in parameters_of(options):
        assert one.option.help.endswith("."), one.name


def test_a_command_line_takes_the_shared_options_that_it_names_in_their_order() -> None:
    assert [one.name for one in parameters_of(LaunchOptions, ("sync", "base"))] == ["base", "sync"]
    assert {one.name for one in parameters_of(LaunchOptions, SHARED)} == set(SHARED)
