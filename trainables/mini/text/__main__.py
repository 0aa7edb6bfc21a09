"""Build the text miniature, or show an example of every data file of its world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainables.command import run
from trainables.mini.text import BASE_DIRECTORY, defaults

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def build(
    out: Annotated[
        Path, typer.Option(help="Directory to replace by the trained base.", show_default="that of the package")
    ] = BASE_DIRECTORY,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of 32 rows.")] = defaults.BASE_STEPS,
    seed: Annotated[int, typer.Option(help="Seed of the initial weights and of training.")] = defaults.BASE_SEED,
) -> None:
    """Train the base from scratch and print the accuracy of each capacity."""
    from rich import print as show_line

    from trainables.mini.text import build as base_training

    for capacity, share in base_training.build(out, steps, seed).items():
        show_line(f"{capacity:>14} {share:7.1%}")


@app.command()
def show(
    out: Annotated[Path, typer.Option(help="Directory for the data set.")],
    seed: Annotated[int, typer.Option(help="Seed of the rows.")] = 0,
) -> None:
    """Write the data set as an example of each file."""
    from trainables.mini.text import datasets

    files = datasets.write(out, seed)
    for path in (files.train, files.validation, files.test, files.ood):
        typer.echo(path)


if __name__ == "__main__":
    run(app)
