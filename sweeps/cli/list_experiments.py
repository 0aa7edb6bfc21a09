"""`footprint list`: the experiments of a storage."""

from __future__ import annotations

import typer

from sweeps.cli.watch_options import STORAGE, AsJson, Storage, console


def list_experiments(storage: Storage = STORAGE, as_json: AsJson = False) -> None:
    """List the experiments of a storage: trials, how many ended, size on disk, last change, and what runs."""
    from sweeps.watching.experiments import experiments_in
    from sweeps.watching.listing import list_json, list_table, listed
    from trainables.folded import Folded

    found = [listed(one) for one in experiments_in(storage)]
    if as_json:
        typer.echo(list_json(found))
    elif found:
        console().print(Folded(list_table(found)), highlight=False)
    else:
        typer.echo(f"no experiment in {storage.expanduser().resolve()}")
