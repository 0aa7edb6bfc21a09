"""Runs a command that another command prints, for options that follow it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import typer

STDERR = 2  # the descriptor: in a notebook, sys.stderr has none


def run_printed(words: Sequence[str]) -> None:
    """Run a printed command, `python -m MODULE …`, in a process of its own; what it prints goes to stderr.

    Raises:
        typer.Exit: it ended with another code than 0, which becomes that of this command.
    """
    done = subprocess.run([sys.executable, *words[1:]], stdout=STDERR, check=False)  # noqa: S603 we printed it
    if done.returncode:
        raise typer.Exit(done.returncode)
