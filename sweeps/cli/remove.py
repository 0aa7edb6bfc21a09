"""`footprint rm`: removes an experiment, with its runs in MLflow."""

from __future__ import annotations

from typing import Annotated

import typer

from sweeps.cli.watch_options import STORAGE, Storage

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
KeepRuns = Annotated[bool, typer.Option(help="Leave MLflow's runs as they are.")]
TrackingUri = Annotated[str, typer.Option(help="MLflow tracking URI.", show_default="sqlite:///mlflow.db")]


def remove_experiment(
    experiment: Annotated[str, typer.Argument(help="Name of an experiment.")],
    yes: Yes = False,
    keep_runs: KeepRuns = False,
    storage: Storage = STORAGE,
    tracking_uri: TrackingUri = "",
) -> None:
    """Remove an experiment: its records, and its runs in MLflow, which `mlflow gc` then deletes for good.

    Asks first. Refuses an experiment that a launch runs, with exit code 5.
    """
    from sweeps.watching.experiments import experiment_named
    from sweeps.watching.removal import removal_of, remove
    from trainables.mlflow_store import default_tracking_uri

    chosen = experiment_named(storage, experiment)
    removal = removal_of(chosen, None if keep_runs else tracking_uri or default_tracking_uri())
    for line in removal.lines():
        typer.echo(line)
    if not yes and not typer.confirm("Remove all of this?"):
        typer.echo("nothing was removed")
        return
    remove(removal)
    typer.echo(f"removed `{experiment}`")
    if removal.runs is not None and removal.runs.gc_command is not None:
        typer.echo(
            "MLflow keeps removed runs and their files. To delete all that was removed from this store for good:"
        )
        typer.echo(f"\n    {removal.runs.gc_command}")
