"""Prints a trial as a configuration of axolotl, ms-swift or LLaMA-Factory; settings the tool lacks are comments.

python -m trainables.export runs/stage4/trials/C2-4f8affe6 --as axolotl --out c2.yaml
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from trainables.command import run
from trainables.export.trial import TOOLS, export_record
from trainables.io.files import write_text
from trainables.record import Record


def main(
    record: Annotated[Path, typer.Argument(help="Directory of a trial.")],
    tool: Annotated[str, typer.Option("--as", help=f"{', '.join(TOOLS)}.")],
    out: Annotated[Path | None, typer.Option(help="File to write.", show_default="stdout")] = None,
) -> None:
    """Print a trial as a configuration of another tool."""
    text = export_record(Record.at(record), tool)
    if out:
        write_text(out, text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    run(main)
