"""Writes a project for your own base and rows: `footprint init DIR` asks four questions, or takes options.

footprint init mine
footprint init mine --base DIR --train rows.jsonl --yes
footprint init mine --base DIR --train rows.jsonl --keep pictures/ --refusal "Unrelated picture."
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.command import run

if TYPE_CHECKING:
    from sweeps.project.dialogue import Given


def init(  # noqa: PLR0913, PLR0917 the options of the command line
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="New directory.", show_default=False)],
    base: Annotated[str, typer.Option(help="Directory, hub name, `mini` or `mini-text`.", show_default="mini")] = "",
    train: Annotated[Path | None, typer.Option(help="Your training rows.", show_default="the miniature's")] = None,
    val: Annotated[Path | None, typer.Option(help="Held-out rows.", show_default="one row in ten, at most 200")] = None,
    keep: Annotated[
        list[Path] | None,
        typer.Option(help="What to keep: a directory of pictures outside the task, a file of general questions.",
                     show_default="drawn pictures, 125 built-in questions"),
    ] = None,
    refusal: Annotated[str, typer.Option(help="Right answer to a picture outside the task.", show_default="none")] = "",
    epochs: Annotated[str, typer.Option(help="Passes over the rows.", show_default="1, or 50 steps")] = "",
    answer: Annotated[
        bool | None,
        typer.Option("--answer/--no-answer", help="Ask the base the questions now, and keep what it knows.",
                     show_default="asked if it has less than 1 GB"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing; take the defaults.")] = False,
) -> None:  # fmt: skip
    """Write a study file, rows of what the model must keep, and print the commands to type.

    Without options it asks four questions: the base, the training rows, what the model must keep, and for a base that
    sees the right answer to a picture outside the task, else how long it may train.

    For example `footprint init mine`, or `footprint init mine --base DIR --train rows.jsonl`.
    """
    from sweeps.project.dialogue import Given, chosen
    from sweeps.project.files import check_new
    from sweeps.project.writing import write_project

    directory = directory.expanduser().absolute()
    check_new(directory)
    given: Given = Given(base, train, val, tuple(keep or ()), refusal, epochs, answer)
    choices, asks_base = chosen(given, asks=not yes and given == Given())
    write_project(directory, choices, asks_base, typer.echo)


if __name__ == "__main__":
    run(init)
