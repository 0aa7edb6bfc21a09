"""Options and arguments that subcommands of `footprint` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

STORAGE = Path("runs")
COLUMNS_WITHOUT_TERMINAL = 160

Storage = Annotated[Path, typer.Option(help="Directory of the experiments.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def console() -> Console:
    """Return a console for tables, which is wide where stdout is no terminal."""
    from rich.console import Console

    found = Console()
    return found if found.is_terminal else Console(width=COLUMNS_WITHOUT_TERMINAL)
