"""Every command of `footprint`, as typer describes it."""

from __future__ import annotations

from typing import Any

import typer
from typer.cli import get_docs_for_click

from benchmarks.reference.tables import page
from sweeps.cli.command_groups import panel_of
from sweeps.cli.footprint import app_of_commands
from sweeps.cli.options import EXIT_CODES

INTRODUCTION = """
`footprint COMMAND --help` shows the same. Every command ends with one of the [exit codes](exit-codes.md). Programs of
the package that another process starts are not here; they say so when they are called.
"""


def commands_page() -> str:
    """Return the page of all commands, in the groups of the help."""
    group: Any = typer.main.get_command(app_of_commands())  # typer's own click
    parts, panel = [], ""
    with group.make_context("footprint", [], resilient_parsing=True) as context:
        for name in group.list_commands(context):
            if panel_of(name) != panel:
                parts.append(f"## {(panel := panel_of(name))}")
            command = group.get_command(context, name)
            parts.append(get_docs_for_click(obj=command, ctx=context, name=name, indent=2, call_prefix="footprint"))
    text = page("Commands", INTRODUCTION, *parts)
    return text.replace(f"\n{EXIT_CODES}\n", "")
