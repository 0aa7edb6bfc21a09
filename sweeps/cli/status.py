"""`footprint status`: what an experiment does now, read from its records."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from sweeps.cli.watch_options import STORAGE, AsJson, Storage, console


def status(
    experiment: Annotated[
        str, typer.Argument(help="Name of an experiment.", show_default="those that run, or the last one")
    ] = "",
    storage: Storage = STORAGE,
    as_json: AsJson = False,
) -> None:
    """Show what an experiment does now.

    Says whether a launch runs it, what trains where, what waits, what failed and why, how long the rest takes by the
    wall clock, and how much space is left. It reads the records, so it works from any machine that sees the storage.
    """
    from rich.text import Text

    from sweeps.watching.experiments import experiment_named, watched_experiments
    from sweeps.watching.status import read_status
    from sweeps.watching.status_text import status_json, status_parts

    chosen = [experiment_named(storage, experiment)] if experiment else watched_experiments(storage)
    found = [read_status(one, time.time()) for one in chosen]
    if as_json:
        typer.echo(status_json(found))
        return
    terminal = console()
    for one in found:
        for part in status_parts(one):
            terminal.print(part, soft_wrap=isinstance(part, Text), highlight=False)
