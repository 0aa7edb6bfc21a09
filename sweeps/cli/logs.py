"""`footprint logs`: the log of a trial, read from its record, until it ends."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sweeps.cli.watch_options import STORAGE, Storage

TrialName = Annotated[str, typer.Argument(help="Name, id or directory of a trial, e.g. C2.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the trial ends; Ctrl-C leaves it running.")]


def logs(
    trial: TrialName,
    is_followed: Follow = False,
    experiment: Annotated[
        str, typer.Option(help="Experiment of the trial.", show_default="those that run, or the last one")
    ] = "",
    storage: Storage = STORAGE,
) -> None:
    """Print the log of a trial: its self-test, its measurements, its verdict, and the phase it is in.

    With --follow it exits with 3 if the trial is invalid, infeasible or failed.
    """
    from sweeps.cli.main import exit_code
    from sweeps.watching.experiments import experiment_named, watched_experiments
    from sweeps.watching.trial_log import follow, log_lines, trial_named

    chosen = [experiment_named(storage, experiment)] if experiment else watched_experiments(storage)
    found, record = trial_named(chosen, trial)
    if not is_followed:
        for line in log_lines(record):
            print(line.text)
        return
    for text in follow(found, record):
        print(text)
        sys.stdout.flush()
    raise typer.Exit(exit_code([record]))
