"""Filters of training rows; each is a pure function that marks the rows to drop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from pathlib import Path

from trainables.data.duplicates import fingerprint, folded
from trainables.data.formats import Message
from trainables.data.rows import Row
from trainables.data.text import is_degenerate, words
from trainables.errors import UserError, items, nearest

BROKEN = "broken"
Judge = Callable[[Sequence[Row]], list[bool]]


@dataclass(frozen=True)
class Filter:
    """A filter with its name on the command line; `drops` returns True for each row to drop."""

    name: str
    drops: Judge


@dataclass(frozen=True)
class Filtered:
    """The rows kept, and the ids of the rows that each filter dropped, in the order of the filters."""

    kept: tuple[Row, ...]
    dropped: dict[str, tuple[str, ...]]


def filtered(rows: Sequence[Row], filters: Sequence[Filter]) -> Filtered:
    """Apply filters in order; each gets the rows that the earlier ones kept."""
    kept, dropped = list(rows), {}
    for one in filters:
        drops = one.drops(kept)
        dropped[one.name] = tuple(row.row_id for row, drop in zip(kept, drops, strict=True) if drop)
        kept = [row for row, drop in zip(kept, drops, strict=True) if not drop]
    return Filtered(tuple(kept), dropped)


def parse_filters(text: str) -> list[Filter]:
    """Read filters from their command-line form: `duplicates,contradictions,short:3`.

    Raises:
        UserError: a filter is unknown, given twice, or its number is missing or not allowed.
    """
    found: dict[str, Filter] = {}
    for word in items(text, "--drop", "duplicates,contradictions"):
        name, colon, number = word.partition(":")
        if name not in FILTERS and name not in LIMITED:
            raise UserError(f"--drop: `{name}` must be a filter", nearest(name, (*FILTERS, *LIMITED)))
        if name in LIMITED and not (number.isdecimal() and int(number) > 0):
            raise UserError(f"--drop: `{name}` needs a number of characters, but got `{word}`", f"write `{name}:20`")
        if name in FILTERS and colon:
            raise UserError(f"--drop: `{name}` takes no number, but got `{word}`")
        if name in found:
            raise UserError(f"--drop: `{name}` must be named once, but it is named twice")
        found[name] = Filter(word, FILTERS[name] if name in FILTERS else partial(LIMITED[name], int(number)))
    return list(found.values())


def broken(rows: Sequence[Row]) -> list[bool]:
    """Drop nothing: unreadable rows are dropped before filters run; naming this filter permits that."""
    return [False] * len(rows)


def duplicates(rows: Sequence[Row]) -> list[bool]:
    """Drop rows with the same text as an earlier row, up to case and white space, and the same pictures."""
    return _seen_before([fingerprint(row) for row in rows])


def near_duplicates(rows: Sequence[Row]) -> list[bool]:
    """Drop rows with the answer of an earlier row whose questions differ at most in punctuation.

    System turns are not compared. Punctuation of answers is compared, because it matters in code.
    """
    return _seen_before([_near_duplicate_key(row) for row in rows])


def contradictions(rows: Sequence[Row]) -> list[bool]:
    """Drop all rows of a question that has several different answers."""
    answers: defaultdict[Hashable, set[str]] = defaultdict(set)
    questions = [_question(row) for row in rows]
    for row, question in zip(rows, questions, strict=True):
        answers[question].add(folded(row.answer))
    return [len(answers[question]) > 1 and not row.is_completion for row, question in zip(rows, questions, strict=True)]


def degenerate(rows: Sequence[Row]) -> list[bool]:
    """Drop rows with an answer that is at least half one repeated block."""
    return [any(is_degenerate(answer) for answer in _answers(row)) for row in rows]


def short(characters: int, rows: Sequence[Row]) -> list[bool]:
    """Drop rows whose last answer has fewer than `characters`."""
    return [len(row.answer.strip()) < characters for row in rows]


def long(characters: int, rows: Sequence[Row]) -> list[bool]:
    """Drop rows whose turns together have more than `characters`."""
    return [length(row) > characters for row in rows]


def length(row: Row) -> int:
    """Return the characters of all turns."""
    return sum(len(message.text) for message in row.messages)


FILTERS: dict[str, Judge] = {
    BROKEN: broken,
    "duplicates": duplicates,
    "near-duplicates": near_duplicates,
    "contradictions": contradictions,
    "degenerate": degenerate,
}
LIMITED: dict[str, Callable[[int, Sequence[Row]], list[bool]]] = {"short": short, "long": long}


def _question(row: Row) -> Hashable:
    return fingerprint(Row(row.row_id, (*row.prompt, Message("assistant", "")), row.images))


def _near_duplicate_key(row: Row) -> Hashable:
    asked = tuple(
        tuple(words(message.text)) if message.role == "user" else folded(message.text)
        for message in row.messages
        if message.role != "system"
    )
    return asked, tuple(map(_picture, row.images))


@cache
def _picture(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _answers(row: Row) -> list[str]:
    return [message.text for message in row.messages if message.role not in {"system", "user"}]


def _seen_before(keys: Sequence[Hashable]) -> list[bool]:
    seen: set[Hashable] = set()
    found = []
    for key in keys:
        found.append(key in seen)
        seen.add(key)
    return found
