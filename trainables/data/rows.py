"""Reads and checks the rows of train and validation files.

A data file is JSONL, one JSON array, or objects printed over several lines; `formats.py` defines the row formats. To
check a file::

    footprint data check FILE
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.data.chat_text import turns_of
from trainables.data.dataset_info import DataFile
from trainables.data.formats import COMPLETION, THINK, Message
from trainables.data.images import picture_files
from trainables.data.joined_files import locate_all
from trainables.data.normalize import NormalizedRow, normalize_row
from trainables.errors import UserError, named, quoted
from trainables.io.jsonl import objects


def rows_with_unique_ids(rows: Mapping[str, Any], path: Path) -> list[Any]:
    """Return the rows of a file, given by their places, `FILE:LINE`; row ids must be unique.

    Raises:
        UserError: there are no rows, or two rows have the same id.
    """
    if not rows:
        raise UserError(f"{path}: a data file must hold at least one row, but it is empty")
    first_places: dict[str, str] = {}
    for place, row in rows.items():
        first = first_places.setdefault(row.row_id, place)
        if first != place:
            raise UserError(
                f"{place}: the id `{named(row.row_id)}` must name one row, but line {first.rpartition(':')[2]} has it "
                "too",
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

    @property
    def thinks(self) -> bool:
        """Return True if the last answer begins with its thoughts, in a <think> block."""
        return self.answer.lstrip().startswith(THINK)


@dataclass(frozen=True)
class ParsedRow:
    """One row of a file: its place, `FILE:LINE`, its format, and the row or the error that describes it.

    `unread` are the keys that it has and that its format, an entry of a table, ignores.
    """

    place: str
    format: str
    row: Row | UserError
    unread: tuple[str, ...] = ()


def parse_rows(path: Path) -> Iterator[ParsedRow]:
    """Yield every row of a train or validation file; broken rows hold an error.

    Raises:
        UserError: the file does not exist or has another format.
    """
    for data_file in locate_all(path):
        for line, values in objects(data_file.file):
            yield _parsed(values, data_file, line)


def _parsed(values: dict[str, Any] | UserError, data_file: DataFile, line: int) -> ParsedRow:
    place, form, entry = f"{data_file.file}:{line}", "unreadable", data_file.format
    if isinstance(values, UserError):
        return ParsedRow(place, form, values)
    try:
        normalized = normalize_row(values, place, entry)
        form = normalized.format
        unread = tuple(key for key, value in values.items() if entry and value and key not in entry.keys)
        return ParsedRow(place, form, _row(normalized, data_file, line), unread)
    except UserError as error:
        return ParsedRow(place, form, error)


def check_file(path: Path) -> None:
    """Refuse a data file that does not exist or has another format; its rows are not checked.

    Raises:
        UserError: naming the file.
    """
    next(objects(locate_all(path)[0].file), None)


def read_rows(path: Path) -> list[Row]:
    """Read and check every row of a train or validation file.

    `path` may name an entry, `dataset_info.json:NAME`, or several files joined by commas.

    Raises:
        UserError: the file is empty or a row is broken; names file, line and key.
    """
    rows: dict[str, Row] = {}
    for parsed in parse_rows(path):
        if isinstance(parsed.row, UserError):
            raise parsed.row
        rows[parsed.place] = parsed.row
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
    row_id = data_file.prefix + (normalized.row_id or str(line))
    if any(not message.text.strip() for message in messages if message.role in {"assistant", COMPLETION}):
        raise UserError(f"{where}: an answer must not be empty, but that of row `{named(row_id)}` is")
    if messages[0].role == COMPLETION:
        return Row(row_id, messages, ())
    _check_turns(messages, where)
    return Row(row_id, messages, picture_files(normalized.images, messages, data_file.pictures, where))


def _check_turns(messages: tuple[Message, ...], where: str) -> None:
    roles = [message.role for message in messages]
    if "assistant" not in roles:
        raise UserError(
            f"{where}: a row must have an assistant turn, but its roles are {quoted(roles)}",
            "only assistant tokens are supervised",
        )
    if roles[-1] != "assistant":
        raise UserError(f"{where}: the last turn must be the assistant's, but it is the {roles[-1]}'s")
    if not any(message.supervised for message in messages if message.role == "assistant"):
        raise UserError(f"{where}: a row must have a supervised answer, but each of its answers has weight 0",
                        "drop the row, or one of the weights")  # fmt: skip
    if "user" not in roles:
        raise UserError(
            f"{where}: a row must have a user turn, but its roles are {quoted(roles)}",
            "write a text without a question as a row with only `text`",
        )
