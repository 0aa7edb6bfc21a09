"""The command `footprint`: every study, and the entry points `footprint.commands` of installed packages.

An entry point names a function, which is the command, or a typer app, which is a command or a group of them. So no
package imports another for a command, and another distribution may add its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from sweeps.cli.command_groups import GROUPS, PANELS, panel_of
from sweeps.cli.examples import add_examples
from sweeps.cli.studies import ALIASES, command_of_study
from sweeps.execution.submission import studies
from trainables.command import EndingInMessages, as_app, refuse_urls, run
from trainables.errors import UserError, named, nearest

GROUP = "footprint.commands"
DISTRIBUTION = "lora-footprint"
COMPLETION = "_FOOTPRINT_COMPLETE"  # set by the shell when it asks for completions
HELP = (
    "How much LoRA, and where, before the model loses its generality?\n\n"
    "For example `footprint stage4 --dry-run`, then `footprint stage4`, then `footprint pareto --experiment stage4`."
)
INSTALL = "install the checkout again: pip install --no-deps --no-build-isolation --editable ."


class Commands(TyperGroup):
    """The commands by name; one is imported when it is used, all are when they are listed."""

    @cached_property
    def entry_points(self) -> Mapping[str, EntryPoint]:
        """Return the entry points by name.

        Raises:
            UserError: there are none.
        """
        found = {one.name: one for one in entry_points(group=GROUP)}
        if not found:
            raise UserError(f"`footprint` must have commands, but no installed package declares {GROUP}", INSTALL)
        return found

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, by panel of the help."""
        names = [*studies(), *ALIASES, *self.entry_points]
        order = {panel: number for number, panel in enumerate(PANELS)}
        return sorted(set(names), key=lambda name: (order[panel_of(name)], *_place(name)))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command.

        Raises:
            UserError: there is none of this name, or its entry point names what is not there.
        """
        if cmd_name in self.entry_points:
            command: Any = typer.main.get_command(_loaded(self.entry_points[cmd_name]))
        elif cmd_name in (*studies(), *ALIASES):
            command = typer.main.get_command(command_of_study(cmd_name))
        elif ctx.resilient_parsing:  # the shell asks for completions
            return None
        else:
            known = self.list_commands(ctx)
            raise UserError(f"`footprint` has no command `{named(cmd_name)}`", nearest(cmd_name, known))
        command.name, command.rich_help_panel = cmd_name, panel_of(cmd_name)
        refuse_urls(command)
        add_examples(command, cmd_name)
        return command


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with a documented code."""
    with EndingInMessages():
        app = app_of_commands()
        if COMPLETION in os.environ:
            app(prog_name="footprint")
    run(app, arguments)


def _show_version(given: bool) -> None:
    if given:
        typer.echo(f"footprint {version(DISTRIBUTION)}")
        raise typer.Exit


def app_of_commands() -> typer.Typer:
    """Return the app of all commands."""
    app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, help=HELP,
                      rich_markup_mode="markdown")  # fmt: skip
    app.callback()(_footprint)
    return app


def _footprint(
    version: Annotated[bool, typer.Option("--version", help="Show the version.", callback=_show_version)] = False,
) -> None:
    pass


def _place(name: str) -> tuple[int, str]:
    names = GROUPS.get(panel_of(name), ())
    return names.index(name) if name in names else len(names), name


def _loaded(one: EntryPoint) -> typer.Typer:
    try:
        return as_app(one.load())
    except (ImportError, AttributeError) as error:
        package = one.dist.name if one.dist else one.value
        raise UserError(f"`footprint {one.name}` must be at {one.value}, but: {error}",
                        f"install {package} again, or remove it") from error  # fmt: skip
