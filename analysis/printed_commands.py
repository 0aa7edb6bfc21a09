"""Commands that others print: runs one, for options that follow it, and copies records to MLflow."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import typer

from trainables.typed import typed

STDERR = 2  # the descriptor: in a notebook, sys.stderr has none


def sync_command(experiment: str, store: Sequence[str]) -> str:
    """Return the command that copies an experiment's records to the MLflow store that these words name.

    Every study's command copies any experiment.
    """
    return typed("stage4", "--sync", "--experiment", experiment, *store)


def run_printed(words: Sequence[str]) -> None:
    """Run a printed command in a process of its own; what it prints goes to stderr.

    Raises:
        typer.Exit: it ended with another code than 0, which becomes that of this command.
    """
    module = ["-m", "sweeps"] if words[0] == "footprint" else []
    done = subprocess.run([sys.executable, *module, *words[1:]], stdout=STDERR, check=False)  # noqa: S603 we printed it
    if done.returncode:
        raise typer.Exit(done.returncode)
