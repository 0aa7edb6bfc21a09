"""Writes the reference from the code; nothing here measures.

python -m benchmarks.reference               writes docs/reference/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.reference.commands import commands_page
from benchmarks.reference.environment import environment_page
from benchmarks.reference.exit_codes import exit_codes_page
from benchmarks.reference.guards import guards_page
from benchmarks.reference.metrics import metrics_page
from benchmarks.reference.python_names import python_page
from benchmarks.reference.settings import settings_page
from benchmarks.reference.study_files import study_files_page
from trainables.command import run

DIRECTORY = Path("docs/reference")
PAGES: Mapping[str, Callable[[], str]] = {
    "commands": commands_page,
    "configuration": study_files_page,
    "environment": environment_page,
    "exit-codes": exit_codes_page,
    "guards": guards_page,
    "metrics": metrics_page,
    "python": python_page,
    "settings": settings_page,
}


def main(out: Annotated[Path, typer.Option(help="Directory of the pages.")] = DIRECTORY) -> None:
    """Write the pages of the reference from the code."""
    out.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (out / f"{name}.md").write_text(page(), encoding="utf-8")
        typer.echo(f"written: {out / name}.md")


if __name__ == "__main__":
    run(main)
