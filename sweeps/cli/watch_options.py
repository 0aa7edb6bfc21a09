"""Options and arguments that subcommands of `footprint` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

STORAGE = Path("runs")

Storage = Annotated[Path, typer.Option(help="Directory of the experiments.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def console() -> Console:
    """Return a console for tables: of COLUMNS or 80 columns where stdout is no terminal; `--json` is for programs."""
    from rich.console import Console

    return Console()
