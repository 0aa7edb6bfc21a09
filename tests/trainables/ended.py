"""Runs a command line in this process, as `python -m` would."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
import typer

from trainables.command import run


@dataclass(frozen=True)
class Ended:
    """The exit code of a command, and what it wrote."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Return everything that the command wrote."""
        return self.stdout + self.stderr


def ended(command: typer.Typer | Callable[..., Any], *words: object) -> Ended:
    """Run an app, or a function as an app, and return how it ended."""
    return ended_by(lambda: run(command), "command", *words)


def ended_by(main: Callable[[], Any], program: str, *words: object) -> Ended:
    """Call the `main` of a command line with these words as arguments, and return how it ended."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", [program, *map(str, words)]),
        mock.patch.object(sys.modules["__main__"], "__spec__", None),  # as a script, however the tests are run
        mock.patch.dict("os.environ", {"COLUMNS": "200"}),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as exited,
    ):
        main()
    return Ended(int(exited.value.code or 0), out.getvalue(), err.getvalue())
