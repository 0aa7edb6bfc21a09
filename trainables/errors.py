"""The error that is shown to users, the exit codes of all commands, and values as they are shown in messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

MAX_CHARACTERS = 80
MAX_LISTED = 12  # names that a hint lists in full
MAX_NEAREST = 5  # names that a hint lists otherwise


class ExitCode(IntEnum):
    """The exit codes of all commands."""

    DONE = 0
    CHECK_FAILED = 1
    BAD_INPUT = 2
    TRIALS_FAILED = 3
    RECORD_DAMAGED = 4
    ALREADY_RUNNING = 5
    INFRASTRUCTURE = 6
    BUG = 70  # EX_SOFTWARE of sysexits.h
    STOPPED = 130  # 128 + SIGINT
    OUTPUT_CLOSED = 141  # 128 + SIGPIPE


# docs/running.md has the same table
EXIT_CODE_MEANINGS = {
    ExitCode.DONE: "every trial has a result; pruned is a result",
    ExitCode.CHECK_FAILED: "a check of `footprint doctor`, `submit`, `verify` or `ship`, or of `benchmarks.corpus`, "
    "failed; `footprint pareto`, `report` or `ship` finds nothing to ship",
    ExitCode.BAD_INPUT: "bad input, or base or data are no longer those of the experiment; nothing was spent",
    ExitCode.TRIALS_FAILED: "some trials are invalid, infeasible or failed; an answer in `footprint validate` is "
    "dangerous",
    ExitCode.RECORD_DAMAGED: "a record is damaged or lacks a file, which is named; or MLflow does not take it",
    ExitCode.ALREADY_RUNNING: "another launch runs this experiment",
    ExitCode.INFRASTRUCTURE: "infrastructure: Ray did not start, the address is wrong, the storage or the memory is "
    "full",
    ExitCode.BUG: "a bug in Footprint; the traceback is printed",
    ExitCode.STOPPED: "stopped by Ctrl-C; the message says whether trials have checkpointed, and the command that "
    "goes on",
    ExitCode.OUTPUT_CLOSED: "whatever read the output has ended, as `head` does",
}


class UserError(Exception):
    """Invalid input: the message says what must hold, what was given and where; the hint says what to do.

    Command lines print it and exit with `exit_code`. It is raised before anything expensive starts.
    """

    exit_code = ExitCode.BAD_INPUT

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class InfrastructureError(UserError):
    """What the machine or the cluster must provide is missing: Ray, an address, space, memory."""

    exit_code = ExitCode.INFRASTRUCTURE


def items(text: str, option: str, example: str, separator: str = ",") -> tuple[str, ...]:
    """Return the items of a list in an option, without spaces around them; an empty text has none.

    Raises:
        UserError: an item is empty, as in `A1,,C2` or `,`.
    """
    if not text:
        return ()
    found = tuple(item.strip() for item in text.split(separator))
    if not all(found):
        raise UserError(f"{option} must have a value on both sides of every `{separator}`, but got {quoted(text)}",
                        f"for example {option}{' ' * (not option.endswith('='))}{example}")  # fmt: skip
    return found


class Checkpointed(KeyboardInterrupt):
    """The launch was stopped by Ctrl-C or SIGTERM, and every running trial has checkpointed."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Suggest the known word closest to `word`; if none is close, list all of them or, of many, the five nearest."""
    names = sorted(known)
    same_letters = [name for name in names if name.casefold() == word.casefold()]
    close = same_letters or difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean `{close[0]}`?"
    if len(names) <= MAX_LISTED:
        return f"known: {', '.join(names)}"
    most_similar = difflib.get_close_matches(word, names, n=MAX_NEAREST, cutoff=0.0)
    return f"the nearest of the {len(names)} known: {', '.join(most_similar)}"


def quoted(value: Any) -> str:
    """Return `repr(value)`, which escapes control characters, truncated to 80 characters."""
    try:
        return _cut(repr(value))
    except (ValueError, RecursionError):  # an integer of thousands of digits, or lists nested as deep
        return f"a {type(value).__name__} that is too long to be shown"


def named(text: str) -> str:
    """Return a key or name to be shown in backticks: as `quoted`, without the quotation marks."""
    return _cut(repr(text)[1:-1])


def redacted(text: str) -> str:
    """Return `text` without user names, passwords and tokens in URLs and options."""
    without_users = re.sub(r"://[^/\s]+@", "://***@", text)
    return re.sub(r"(?i)((?:password|passwd|secret|token|api_key)[= ])[^&\s]+", r"\1***", without_users)


def holds_password(uri: str | None) -> bool:
    """True when an address has a user name, a password or a token in it, which must not be printed."""
    return uri is not None and redacted(uri) != uri


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"
