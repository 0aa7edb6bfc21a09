"""Reads and checks the rows of train and validation files.

A data file is JSONL or one JSON array; `formats.py` defines the row formats. To check a file::

    python -m trainables.data check FILE
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.data.chat_text import turns_of
from trainables.data.dataset_info import DataFile, locate
from trainables.data.formats import COMPLETION, Message, NormalizedRow, normalize_row
from trainables.data.images import picture_files
from trainables.errors import UserError, named, quoted
from trainables.io.jsonl import objects


def rows_with_unique_ids(rows: Mapping[int, Any], path: Path) -> list[Any]:
    """Return the rows of a file, given by line number; row ids must be unique.

    Raises:
        UserError: there are no rows, or two rows have the same id.
    """
    if not rows:
        raise UserError(f"{path}: a data file must hold at least one row, but it is empty")
    first_lines: dict[str, int] = {}
    for line, row in rows.items():
        first = first_lines.setdefault(row.row_id, line)
        if first != line:
            raise UserError(
                f"{path}:{line}: the id `{named(row.row_id)}` must name one row, but line {first} has it too",
                "answers are stored by id; a row without an id gets its line number",
            )
    return list(rows.values())


@dataclass(frozen=True)
class Row:
    """One conversation with its images; only its assistant turns are supervised.

    A completion has one message with the role `completion`: a plain text that is supervised as a whole.
    """

    row_id: str
    messages: tuple[Message, ...]
    images: tuple[Path, ...]

    @property
    def is_completion(self) -> bool:
        """Return True if the row is a text without turns, which has no prompt to evaluate."""
        return self.messages[0].role == COMPLETION

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Return the turns before the last assistant turn."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        """Return the last assistant turn."""
        return self.messages[-1].text


@dataclass(frozen=True)
class ParsedRow:
    """One row of a file: line number, format, and the row or the error that describes it."""

    line: int
    format: str
    row: Row | UserError


def parse_rows(path: Path) -> Iterator[ParsedRow]:
    """Yield every row of a train or validation file; broken rows hold an error.

    Raises:
        UserError: the file does not exist or has another format.
    """
    where = locate(path)
    for line, values in objects(where.file):
        if isinstance(values, UserError):
            yield ParsedRow(line, "unreadable", values)
            continue
        form = "unreadable"
        try:
            normalized = normalize_row(values, f"{where.file}:{line}", where.format)
            form = normalized.format
            yield ParsedRow(line, form, _row(normalized, where, line))
        except UserError as error:
            yield ParsedRow(line, form, error)


def check_file(path: Path) -> None:
    """Refuse a data file that does not exist or has another format; its rows are not checked.

    Raises:
        UserError: naming the file.
    """
    next(objects(locate(path).file), None)


def read_rows(path: Path) -> list[Row]:
    """Read and check every row of a train or validation file; `path` may name an entry, `dataset_info.json:NAME`.

    Raises:
        UserError: the file is empty or a row is broken; names file, line and key.
    """
    rows: dict[int, Row] = {}
    for parsed in parse_rows(path):
        if isinstance(parsed.row, UserError):
            raise parsed.row
        rows[parsed.line] = parsed.row
    return rows_with_unique_ids(rows, path)


def read_validation(path: Path) -> list[Row]:
    """Read and check every row of a validation file as `read_rows` does; every row must have a question.

    A `text` that a known chat template rendered is split into its turns.

    Raises:
        UserError: as `read_rows`, or a row is a text without a question.
    """
    rows = [_with_turns(row) for row in read_rows(path)]
    without_question = [row.row_id for row in rows if row.is_completion]
    if without_question:
        raise UserError(
            f"{path}: a validation row must have a question and an answer, but {len(without_question)} of "
            f"{len(rows)} are `text` that no known template rendered, the first is `{named(without_question[0])}`",
            "write them as `messages`, or `prompt` and `response`; training rows need no change",
        )
    return rows


def _with_turns(row: Row) -> Row:
    turns = turns_of(row.answer) if row.is_completion else None
    return Row(row.row_id, turns, row.images) if turns and any(turn.role == "user" for turn in turns) else row


def _row(normalized: NormalizedRow, data_file: DataFile, line: int) -> Row:
    where, messages = f"{data_file.file}:{line}", normalized.messages
    row_id = normalized.row_id or str(line)
    if any(not message.text.strip() for message in messages if message.role in {"assistant", COMPLETION}):
        raise UserError(f"{where}: an answer must not be empty, but that of row `{named(row_id)}` is")
    if messages[0].role == COMPLETION:
        return Row(row_id, messages, ())
    _check_turns([message.role for message in messages], where)
    return Row(row_id, messages, picture_files(normalized.images, messages, data_file.pictures, where))


def _check_turns(roles: list[str], where: str) -> None:
    if "assistant" not in roles:
        raise UserError(
            f"{where}: a row must have an assistant turn, but its roles are {quoted(roles)}",
            "only assistant tokens are supervised",
        )
    if roles[-1] != "assistant":
        raise UserError(f"{where}: the last turn must be the assistant's, but it is the {roles[-1]}'s")
    if "user" not in roles:
        raise UserError(
            f"{where}: a row must have a user turn, but its roles are {quoted(roles)}",
            "write a text without a question as a row with only `text`",
        )
