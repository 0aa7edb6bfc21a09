"""Filters of training rows: each says which rows it would drop, and why; pure functions of the rows.

Source: brief 002, "dataset optimization: check for duplicates, quality filtering".
"""

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
from trainables.errors import UserError, nearest

BROKEN = "broken"
Judge = Callable[[Sequence[Row]], list[bool]]


@dataclass(frozen=True)
class Filter:
    """A filter by its name on the command line; `drops` marks the rows of a file that go."""

    name: str
    drops: Judge


@dataclass(frozen=True)
class Filtered:
    """What is left of a file, and which rows each filter dropped, in the order the filters were asked."""

    kept: tuple[Row, ...]
    dropped: dict[str, tuple[str, ...]]


def filtered(rows: Sequence[Row], filters: Sequence[Filter]) -> Filtered:
    """Ask one filter after the other; each judges what those before it left."""
    kept, dropped = list(rows), {}
    for one in filters:
        goes = one.drops(kept)
        dropped[one.name] = tuple(row.row_id for row, gone in zip(kept, goes, strict=True) if gone)
        kept = [row for row, gone in zip(kept, goes, strict=True) if not gone]
    return Filtered(tuple(kept), dropped)


def parse_filters(text: str) -> list[Filter]:
    """Read filters as a command line names them: `duplicates,contradictions,short:3`.

    Raises:
        UserError: one is unknown, named twice, or its number is missing or not to be.
    """
    found: dict[str, Filter] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        name, colon, number = word.partition(":")
        if name not in FILTERS and name not in LIMITED:
            raise UserError(f"--drop: `{name}` must be a filter", nearest(name, (*FILTERS, *LIMITED)))
        if name in LIMITED and not (number.isdecimal() and int(number) > 0):
            raise UserError(f"--drop: `{name}` must say how many characters, but got `{word}`", f"write `{name}:20`")
        if name in FILTERS and colon:
            raise UserError(f"--drop: `{name}` takes no number, but got `{word}`")
        if name in found:
            raise UserError(f"--drop: `{name}` must be named once, but it is named twice")
        found[name] = Filter(word, FILTERS[name] if name in FILTERS else partial(LIMITED[name], int(number)))
    return list(found.values())


# -------------------------------------------------------------------- what each of them drops
def broken(rows: Sequence[Row]) -> list[bool]:
    """Drop nothing more: rows that cannot be read are gone before any filter sees one; this one permits it."""
    return [False] * len(rows)


def duplicates(rows: Sequence[Row]) -> list[bool]:
    """Drop rows that equal an earlier one in text, up to case and white space, and in pictures."""
    return _seen_before([fingerprint(row) for row in rows])


def near_duplicates(rows: Sequence[Row]) -> list[bool]:
    """Drop rows whose answer equals that of an earlier one, and whose questions differ in punctuation at most.

    The system turn does not count; of an answer, punctuation does, for in code it is what is said.
    """
    return _seen_before([_asked_alike(row) for row in rows])


def contradictions(rows: Sequence[Row]) -> list[bool]:
    """Drop every row of a question that is answered in several ways: none of them can be trusted over the others."""
    answers: defaultdict[Hashable, set[str]] = defaultdict(set)
    questions = [_question(row) for row in rows]
    for row, question in zip(rows, questions, strict=True):
        answers[question].add(folded(row.answer))
    return [len(answers[question]) > 1 and not row.is_completion for row, question in zip(rows, questions, strict=True)]


def degenerate(rows: Sequence[Row]) -> list[bool]:
    """Drop rows with an answer of which half is one block, repeated."""
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


# -------------------------------------------------------------------- what is compared
def _question(row: Row) -> Hashable:
    return fingerprint(Row(row.row_id, (*row.prompt, Message("assistant", "")), row.images))


def _asked_alike(row: Row) -> Hashable:
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
