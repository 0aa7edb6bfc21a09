"""The error that is shown to users, and the stop that they asked for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

MAX_CHARACTERS = 80
MAX_LISTED = 12  # names that a hint lists in full
MAX_NEAREST = 5  # names that a hint lists otherwise


class UserError(Exception):
    """Invalid input: the message says what must hold, what was given and where; the hint says what to do.

    Command lines print it and exit with `exit_code`. It is raised before anything expensive starts.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


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
    return _cut(repr(value))


def named(text: str) -> str:
    """Return a key or name to be shown in backticks: as `quoted`, without the quotation marks."""
    return _cut(repr(text)[1:-1])


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"
