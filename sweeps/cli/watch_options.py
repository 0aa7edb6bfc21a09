"""Options and arguments that subcommands of `footprint` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

STORAGE = Path("runs")

Storage = Annotated[Path, typer.Option(help="Directory of the experiments.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
