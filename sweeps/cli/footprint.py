"""The command `footprint`: its subcommands are the entry points `footprint.commands` of installed packages.

An entry point names a function that adds its subcommand to the app. So no package imports another for a subcommand, and
another distribution may add its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import NoReturn

import typer

from trainables.command import EndingInMessages, run
from trainables.errors import UserError

GROUP = "footprint.commands"
HELP = "Watch experiments, submit them to a cluster, and remove them."
INSTALL = "install the checkout again: pip install --no-deps --no-build-isolation --editable ."

AddCommand = Callable[[typer.Typer], None]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with a documented code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with EndingInMessages():
        app = app_of(chosen(list(entry_points(group=GROUP)), words))
    run(app, words)


def chosen(found: Sequence[EntryPoint], words: Sequence[str]) -> list[EntryPoint]:
    """Return the entry point that the first word names; all of them, by name, if it names none.

    Raises:
        UserError: there are none.
    """
    if not found:
        raise UserError(f"`footprint` must have subcommands, but no installed package declares {GROUP}", INSTALL)
    named = [one for one in found if one.name == (words[0] if words else "")]
    return named[:1] or sorted(found, key=lambda one: one.name)


def app_of(found: Sequence[EntryPoint]) -> typer.Typer:
    """Return the app with these subcommands.

    Raises:
        UserError: an entry point names what is not there.
    """
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)
    app.callback()(_footprint)
    for one in found:
        _add_command(one)(app)
    return app


def _footprint() -> None:  # with a callback, an app of one subcommand still asks for its name
    pass


def _add_command(one: EntryPoint) -> AddCommand:
    try:
        return one.load()
    except (ImportError, AttributeError) as error:
        package = one.dist.name if one.dist else one.value
        raise UserError(f"`footprint {one.name}` must be at {one.value}, but: {error}",
                        f"install {package} again, or remove it") from error  # fmt: skip
