"""Opens a page that was written in the reader's browser, where there is one."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

OpenPage = Annotated[
    bool, typer.Option("--open", help="Open the page in a browser; ignored where the output is no terminal.")
]


def open_page(path: Path) -> None:
    """Open a page in the browser, unless the output is no terminal; says so where no browser opens."""
    if not sys.stdout.isatty():
        return
    if not webbrowser.open(path.resolve().as_uri()):
        print(f"no browser opens here: copy {path} to a machine that has one", file=sys.stderr)
