"""Build the embedded miniature, or show what it sees and an example of every data file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainables.command import run
from trainables.mini import BASE_DIRECTORY, defaults
from trainables.mini.text.__main__ import app as text

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

    from trainables.mini import build as base_training

    for capacity, share in base_training.build(out, steps, seed).items():
        show_line(f"{capacity:>14} {share:7.1%}")


@app.command()
def show(
    out: Annotated[Path, typer.Option(help="Directory for the contact sheets and rows.jsonl.")],
    seed: Annotated[int, typer.Option(help="Seed of the pictures.")] = 0,
) -> None:
    """Write sample pictures and rows, to inspect them."""
    from trainables.mini import show as samples

    for path in samples.write(out, seed):
        typer.echo(path)


app.add_typer(text, name="text")

if __name__ == "__main__":
    run(app)
