"""Runs a command line: a foreseeable failure ends it with `error:`, `hint:` and a documented exit code."""

from __future__ import annotations

import gc
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import typer

from trainables.errors import ExitCode, UserError, quoted
from trainables.failures import Failure, failure_of
from trainables.local_paths import local_path
from trainables.typed import program, remembering_form, typed

MAX_LETTERS = 600  # of a message on a wrong option, which repeats its value
# Thousands of runs are hundreds of thousands of objects, which the collector would look through again and again; with
# its defaults this takes a third of the time of `analysis pareto`.
COLLECTOR_THRESHOLDS = (50_000, 20, 100)
HELP = "`{} --help` lists the options"
BUG = (
    "error: this is a bug in Footprint, not in your input\n"
    "hint: open an issue with the lines above and the command; `{}` lists the versions it needs"
)


def run(command: typer.Typer | Callable[..., Any], arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a typer app, or a function as an app, and exit with a code of `ExitCode`; by default with `sys.argv`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    with remembering_form(), EndingInMessages():
        code = _invoke(as_app(command), words)
        sys.stdout.flush()
    raise SystemExit(int(code))


def as_app(command: typer.Typer | Callable[..., Any]) -> typer.Typer:
    """Return a typer app; a function becomes the one command of an app."""
    if isinstance(command, typer.Typer):
        return command
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
    app.command()(command)
    return app


def show_library_messages() -> None:
    """Print on stderr what libraries log, with the time of day."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S")


def quieten_libraries() -> None:
    """Hide warnings of libraries on what they load, which say nothing about the user's input."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)


class EndingInMessages:
    """Turns the error that ends a block into messages on stderr and `SystemExit`; a bug keeps its traceback."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Print the error and exit with its code.

        Raises:
            SystemExit: always, if there is an error.
        """
        if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
            error = error.__context__  # rich exits with 1 where its output is closed
        if error is None or isinstance(error, SystemExit):
            return
        failure = _failure_of_typer(error) or failure_of(error)
        with suppress(BrokenPipeError):  # whatever reads stderr may have ended too
            if failure is None:
                traceback.print_exception(error)
                typer.echo(BUG.format(typed("doctor")), err=True)
            elif failure.message:
                hint = failure.hint or (HELP.format(program()) if failure.code == ExitCode.BAD_INPUT else None)
                typer.echo(f"error: {UserError(failure.message, hint)}", err=True)
        _discard_unwritten_output()
        raise SystemExit(int(ExitCode.BUG if failure is None else failure.code)) from error


def _invoke(app: typer.Typer, words: list[str]) -> int:
    _check_words(words)
    command = typer.main.get_command(app)
    refuse_urls(command)
    try:
        with command.make_context(program(), words) as context:
            command.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    return ExitCode.DONE


def _check_words(words: Sequence[str]) -> None:
    """Refuse bytes that are not UTF-8, which no record can keep, and empty words.

    `--only "$ARMS"` without ARMS would name nothing, and so mean every arm.

    Raises:
        UserError: naming the word, or the option before it.
    """
    for number, word in enumerate(words):
        if not word.isascii() and any("\ud800" <= letter <= "\udfff" for letter in word):  # bytes that are not UTF-8
            raise UserError(f"every argument must be UTF-8, but got {quoted(word)}", "rename the file or directory")
        option, equals, value = word.partition("=")
        if not word.strip() or (option.startswith("--") and equals and not value.strip()):
            name = option if equals else words[number - 1] if number else "an argument"
            raise UserError(f"{name} must have a value, but it is empty", "give a value, or leave it out")


def refuse_urls(command: Any) -> None:
    """Make every option and argument that is a path refuse a URL, in this command and in all of its subcommands."""
    for parameter in command.params:
        parameter.callback = _checking_paths(parameter.callback)
    for subcommand in getattr(command, "commands", {}).values():
        refuse_urls(subcommand)


def _checking_paths(callback: Callable[..., Any] | None) -> Callable[..., Any]:
    def check(context: Any, parameter: Any, value: Any) -> Any:
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, Path):
                local_path(one, parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.opts[0].upper())
        return value if callback is None else callback(context, parameter, value)

    return check


def _failure_of_typer(error: BaseException) -> Failure | None:
    if isinstance(error, typer.Abort):
        return Failure(ExitCode.STOPPED, "stopped")
    if not isinstance(error, typer.TyperException):
        return None
    context = getattr(error, "ctx", None)
    path = context.command_path if context else program()
    text = error.format_message().strip() or "a command must be named, but none is"  # its help has been printed
    return Failure(ExitCode.BAD_INPUT, text[:MAX_LETTERS], HELP.format(path))


def _discard_unwritten_output() -> None:
    """Send what cannot be written to nowhere, or the interpreter would complain and change the exit code."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):  # a stream without a file, as in tests
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
