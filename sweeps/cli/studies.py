"""The studies of this package and what else runs trials, by name, each with its command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer

    from sweeps.cli.command_line import CommandLine

# what has a command line of its own; the others are studies of independent trials
OWN_COMMAND_LINES: Mapping[str, tuple[str, str]] = {
    "curriculum": ("sweeps.cli.curriculum", "STUDY"),
    "search": ("sweeps.cli.search", "SEARCH"),
    "trial": ("sweeps.trial", "TRIAL_STUDY"),
    "unfreeze": ("sweeps.cli.unfreeze", "STUDY"),
}
ALIASES: Mapping[str, str] = {"import": "trial"}


def line_of_study(name: str) -> CommandLine[Any]:
    """Return the command line of a study."""
    module, value = OWN_COMMAND_LINES.get(name, ("sweeps.cli.study", "STUDY"))
    line_of: Callable[[Any], CommandLine[Any]] = import_module(module).line_of
    return line_of(getattr(import_module(f"sweeps.{name}"), value))


def command_of_study(name: str) -> typer.Typer:
    """Return the app of a study's command line, or of its other name, whose messages begin with `footprint`."""
    from sweeps.cli.main import app_of

    return app_of(replace(line_of_study(ALIASES.get(name, name)), program=f"footprint {name}"))
