"""The one error a user is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

MOST_CHARACTERS = 80


LISTED = 12  # names that a reader takes in at once
NEAREST = 5  # of more


class UserError(Exception):
    """Bad input: says what must hold, what came instead, where, and what to do about it.

    Command lines print it and exit with `exit_code`; nothing has been spent when it is raised.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


def nearest(word: str, known: Iterable[str]) -> str:
    """Name the known word closest to `word`; when none is close, list them all, or of many the five nearest."""
    names = sorted(known)
    but_for_case = [name for name in names if name.casefold() == word.casefold()]
    close = but_for_case or difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean `{close[0]}`?"
    if len(names) <= LISTED:
        return f"known: {', '.join(names)}"
    likest = difflib.get_close_matches(word, names, n=NEAREST, cutoff=0.0)
    return f"the nearest of the {len(names)} known: {', '.join(likest)}"


def quoted(value: Any) -> str:
    """Return a value as Python writes it, control characters escaped, cut to some 80 characters."""
    return _cut(repr(value))


def named(text: str) -> str:
    """Return a key or a name, which stands in backticks: as `quoted`, without its quotation marks."""
    return _cut(repr(text)[1:-1])


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
