"""Tests that the help of each command has an example that parses, and shows what holds without an option."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from installed_commands import declared, install

from sweeps.cli import footprint
from sweeps.cli.examples import EXAMPLES
from sweeps.execution.submission import studies
from trainables.errors import UserError

NAMES = (*declared(), *studies(), "import")


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install(tmp_path / "metadata", declared()))


@cache
def group() -> Any:
    return typer.main.get_command(footprint.app_of_commands())


def commands_below(name: str) -> Iterator[tuple[str, Any]]:
    """Yield a command, or its subcommands, by the words that call it."""
    with group().make_context("footprint", [], resilient_parsing=True) as context:
        command = group().get_command(context, name)
    yield from leaves(name, command)


def leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    subcommands = getattr(command, "commands", {})
    for one, found in subcommands.items():
        yield from leaves(f"{name} {one}", found)
    if not subcommands:
        yield name, command


def parse(words: list[str]) -> None:
    """Parse a command line without running it."""
    with group().make_context("footprint", words) as context:
        name, command, rest = group().resolve_command(context, words)
        while hasattr(command, "commands"):
            with command.make_context(name, rest, parent=context) as below:
                name, command, rest = command.resolve_command(below, rest)
        command.make_context(name, rest, parent=context).close()


@pytest.mark.parametrize("name", NAMES)
def test_each_command_has_an_example_of_its_own_that_parses(name: str) -> None:
    for words, command in commands_below(name):
        example = command.epilog.removeprefix("For example: ").strip("`")
        assert shlex.split(example)[:2] == ["footprint", name] and example.startswith(f"footprint {words}")
        parse(shlex.split(example)[1:])


@pytest.mark.parametrize("example", ["stage4 --seed 3", "compare C2", "ship --experiment", "no-such-command"])
def test_an_example_that_does_not_parse_is_found(example: str) -> None:
    with pytest.raises((typer.TyperException, UserError)):
        parse(shlex.split(example))


def test_each_example_is_of_a_command() -> None:
    assert set(EXAMPLES) <= {words for name in NAMES for words, _ in commands_below(name)}


@pytest.mark.parametrize("name", NAMES)
def test_each_option_shows_its_default(name: str) -> None:
    silent = [
        one.opts[0]
        for _, command in commands_below(name)
        for one in command.params
        if not one.required
        and not getattr(one, "is_flag", False)
        and not isinstance(one.show_default, str)
        and one.default in (None, "", (), [])
    ]
    assert silent == []
