"""What a user's file said, in an error: on one line, short, and without what would move a terminal's cursor."""

from __future__ import annotations

from typing import Any

MOST_CHARACTERS = 80


def quoted(value: Any) -> str:
    """Return a value as Python writes it, control characters escaped, cut to some 80 characters."""
    return _cut(repr(value))


def named(text: str) -> str:
    """Return a key or a name, which stands in backticks: as `quoted`, without its quotation marks."""
    return _cut(repr(text)[1:-1])


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
