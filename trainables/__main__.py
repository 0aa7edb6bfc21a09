"""Lists the command lines of this package, and runs them: `python -m trainables verify DIR`."""

from __future__ import annotations

from importlib import import_module

import typer

from trainables.command import as_app, run

# by the name of the command; each module also runs alone, as `python -m MODULE`
COMMANDS = {
    "data": ("trainables.data.check", "app"),
    "export": ("trainables.export.__main__", "main"),
    "mini": ("trainables.mini.__main__", "app"),
    "mini-text": ("trainables.mini.text.__main__", "app"),
    "validate": ("trainables.validate", "main"),
    "verify": ("trainables.verify", "main"),
}


def app_of_commands() -> typer.Typer:
    """Return the app of all command lines of the package."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
    for name, (module, value) in COMMANDS.items():
        found = as_app(getattr(import_module(module), value))
        if len(found.registered_commands) == 1 and found.registered_callback is None:
            [one] = found.registered_commands
            app.command(name, help=found.info.help or one.help)(one.callback)  # type: ignore[type-var] it has one
        else:
            app.add_typer(found, name=name)
    return app


if __name__ == "__main__":
    run(app_of_commands())
