"""Tests how a command line ends: messages, exit codes, and what happens when the output cannot be written."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from ended import ended

from trainables.errors import EXIT_CODE_MEANINGS, ExitCode, InfrastructureError, UserError, items
from trainables.failures import SYSTEM, failure_of
from trainables.io.files import FileDamaged

ROOT = Path(__file__).parents[2]


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("it must hold", "do this"), 2, "error: it must hold\nhint: do this\n"),
        (FileDamaged("damaged"), 4, "error: damaged\n"),
        (InfrastructureError("no Ray"), 6, "error: no Ray\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 6, "error: the disk must have free space, but /x: No"),
        (OSError(errno.EACCES, "Permission denied", "/x"), 2, "error: a path must be accessible, but /x: Perm"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/x"), 2, "error: a file or directory must exist, but /x"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), 2, "error: a file must have a name of usual"),
        (OSError(errno.ELOOP, "Too many levels", "/x"), 2, "error: a symbolic link must lead to a file, but /x"),
        (OSError("Can't load the tokenizer\nand more"), 2, "error: Can't load the tokenizer\nhint"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), 6, "error: a server must answer"),
        (TimeoutError("timed out"), 6, "error: a server must answer, but timed out"),
        (MemoryError(), 6, "error: the machine must have enough memory"),
        (ValueError("embedded null byte"), 2, "error: a path must not contain the character NUL"),
        (RuntimeError("Symlink loop from '/x'"), 2, "error: a symbolic link must lead to a file"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2, "error: a text must be UTF-8"),
        (OverflowError("int too large to convert to float"), 2, "error: a number must not be so large"),
        (json.JSONDecodeError("Expecting value", "", 0), 4, "error: a file must be JSON"),
        (KeyboardInterrupt(), 130, "error: stopped by Ctrl-C"),
        (BrokenPipeError(), 141, ""),
        (typer.Exit(3), 3, ""),
    ],
)
def test_what_can_be_foreseen_is_a_message(error: BaseException, code: int, message: str) -> None:
    found = ended(raising(error))
    assert (found.exit_code, found.stdout) == (code, "")
    assert found.stderr.startswith(message)
    assert "Traceback" not in found.stderr
    assert bool(found.stderr) == bool(message)


@pytest.mark.parametrize("error", [TypeError("x"), AssertionError(), KeyError("x"), ValueError("x"), RuntimeError("x"),
                                   OSError(errno.EBADF, "Bad file descriptor")])  # fmt: skip
def test_a_bug_keeps_its_traceback_and_says_so(error: Exception) -> None:
    found = ended(raising(error))
    assert found.exit_code == ExitCode.BUG
    assert "Traceback" in found.stderr
    assert "error: this is a bug in Footprint" in found.stderr
    assert "hint: open an issue" in found.stderr


def test_deep_values_are_told_from_an_endless_recursion() -> None:
    def endless() -> None:
        endless()

    assert ended(lambda: json.loads("[" * 100_000)).exit_code == ExitCode.BAD_INPUT
    assert ended(endless).exit_code == ExitCode.BUG


def test_thousands_of_digits_are_a_message() -> None:
    assert ended(lambda: int("9" * 5000)).exit_code == ExitCode.BAD_INPUT


def test_errors_of_libraries_are_known_by_their_classes() -> None:
    import sqlite3

    from ray.exceptions import RayActorError, RayTaskError

    assert failure_of(sqlite3.OperationalError("database is locked")).code == ExitCode.RECORD_DAMAGED  # type: ignore[union-attr]
    assert failure_of(RayActorError()).code == ExitCode.INFRASTRUCTURE  # type: ignore[union-attr]
    damaged = RayTaskError("f", "…", FileDamaged("damaged"))
    assert failure_of(damaged).code == ExitCode.RECORD_DAMAGED  # type: ignore[union-attr]
    assert failure_of(RayTaskError("f", "…", TypeError("a bug"))) is None


def test_a_password_in_an_error_is_not_printed() -> None:
    assert "secret" not in ended(raising(ConnectionError("http://me:secret@host:1/ does not answer"))).stderr


@pytest.mark.parametrize("words", [("--name", ""), ("--name", " "), ("--name=",)])
def test_an_empty_value_is_refused(words: tuple[str, ...]) -> None:
    def command(name: str = "all") -> None:
        typer.echo(name)

    found = ended(command, *words)
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.startswith("error: --name must have a value, but it is empty\nhint: ")


@pytest.mark.parametrize("words", [("--nmae", "x"), ("--count", "many"), ("--count", "-1"), ("--name",), ("extra",)])
def test_a_wrong_option_ends_like_any_other_error(words: tuple[str, ...]) -> None:
    def command(name: str = "all", count: int = typer.Option(1, min=0)) -> None:
        typer.echo(name * count)

    found = ended(command, *words)
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.startswith("error: ") and "--help` lists the options" in found.stderr


@pytest.mark.parametrize("text", [",", ",,", "a,", ",a", "a,,b", " , "])
def test_a_list_with_an_empty_item_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--only must have a value on both sides") as caught:
        items(text, "--only", "A1,C2")
    assert caught.value.hint == "for example --only A1,C2"
    assert items("a, b", "--only", "A1,C2") == ("a", "b")


PRINTER = "import sys; from trainables.command import run\ndef f():\n  for _ in range(99999): print('x' * 99)\nrun(f)"


@pytest.mark.parametrize("printer", [PRINTER, f"from rich import print; {PRINTER}"], ids=["print", "rich"])
@pytest.mark.parametrize(("target", "code"), [("| true", 141), ("> /dev/full", 6)])
def test_output_that_nobody_takes_ends_the_command(target: str, code: int, printer: str) -> None:
    script = f'{sys.executable} -c "$0" {target}; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["/bin/bash", "-c", script, printer], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.strip() == str(code)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert ("No space left" in done.stderr) == (code == 6)


def test_every_code_has_a_meaning_and_the_page_has_the_same_table() -> None:
    assert list(EXIT_CODE_MEANINGS) == list(ExitCode)
    rows = [f"| {int(code)} | {meaning} |" for code, meaning in EXIT_CODE_MEANINGS.items()]
    assert "\n".join(["| exit code | meaning |", "| --- | --- |", *rows, ""]) in (
        ROOT / "docs" / "running.md"
    ).read_text("utf-8")


def test_every_error_of_the_system_has_a_documented_code() -> None:
    assert {code for _, code, _ in SYSTEM.values()} == {ExitCode.BAD_INPUT, ExitCode.INFRASTRUCTURE}


def test_the_collector_looks_less_often_through_what_a_command_reads() -> None:
    code = "import gc; from trainables.command import run; run(lambda: print(gc.get_threshold()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(50000, 20, 100)"
