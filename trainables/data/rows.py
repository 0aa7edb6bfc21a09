"""Rows on disk: train and validation files of any known format, and the probes' file; every row checked.

A data file is JSONL or one JSON array; `formats.py` says what a row may look like. To check one by hand::

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
    """Return the rows of a file, given by their lines.

    Raises:
        UserError: there are none, or two have one id.
    """
    if not rows:
        raise UserError(f"{path}: a data file must hold at least one row, but it is empty")
    first_lines: dict[str, int] = {}
    for line, row in rows.items():
        first = first_lines.setdefault(row.row_id, line)
        if first != line:
            raise UserError(
                f"{path}:{line}: the id `{named(row.row_id)}` must name one row, but line {first} has it too",
                "answers are kept by id; a row without one is named by its line",
            )
    return list(rows.values())


@dataclass(frozen=True)
class Row:
    """One conversation with its images; only its assistant turns are supervised.

    A completion has one message, of the role `completion`: a text as it stands, all of it supervised.
    """

    row_id: str
    messages: tuple[Message, ...]
    images: tuple[Path, ...]

    @property
    def is_completion(self) -> bool:
        """True when the row is a text without turns, which cannot be asked, only continued."""
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
    """One row as the file has it: where it stands, of which format it is, and the row, or what is wrong with it."""

    line: int
    format: str
    row: Row | UserError


def parse_rows(path: Path) -> Iterator[ParsedRow]:
    """Yield every row of a train or validation file, the broken ones as the error that says why.

    Raises:
        UserError: there is no such file, or it is of another kind.
    """
    where = locate(path)
    for line, values in objects(where.file):
        if isinstance(values, UserError):
            yield ParsedRow(line, "unreadable", values)
            continue
        form = "unreadable"
        try:
            said = normalize_row(values, f"{where.file}:{line}", where.format)
            form = said.format
            yield ParsedRow(line, form, _row(said, where, line))
        except UserError as error:
            yield ParsedRow(line, form, error)


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
    """Read and check every row of a validation file: as `read_rows`, and every row must ask something.

    A `text` that a chat template rendered is read back into its turns.

    Raises:
        UserError: as `read_rows`, or a row is a text without a question, whose answer nobody could check.
    """
    rows = [_asking(row) for row in read_rows(path)]
    mute = [row.row_id for row in rows if row.is_completion]
    if mute:
        raise UserError(
            f"{path}: a validation row must ask something and know the answer, but {len(mute)} of {len(rows)} are "
            f"`text` that no known template rendered, the first is `{named(mute[0])}`",
            "write them as `messages`, or `prompt` and `response`; training rows may stay as they are",
        )
    return rows


def _asking(row: Row) -> Row:
    turns = turns_of(row.answer) if row.is_completion else None
    return Row(row.row_id, turns, row.images) if turns and any(turn.role == "user" for turn in turns) else row


def _row(said: NormalizedRow, data_file: DataFile, line: int) -> Row:
    where, messages = f"{data_file.file}:{line}", said.messages
    row_id = said.row_id or str(line)
    if any(not message.text.strip() for message in messages if message.role in {"assistant", COMPLETION}):
        raise UserError(f"{where}: an answer must not be empty, but that of row `{named(row_id)}` is")
    if messages[0].role == COMPLETION:
        return Row(row_id, messages, ())
    _check_turns([message.role for message in messages], where)
    return Row(row_id, messages, picture_files(said.images, messages, data_file.pictures, where))


def _check_turns(roles: list[str], where: str) -> None:
    if "assistant" not in roles:
        raise UserError(
            f"{where}: a row must have an assistant turn, but its roles are {quoted(roles)}",
            "only assistant tokens are supervised; a row without them teaches nothing",
        )
    if roles[-1] != "assistant":
        raise UserError(f"{where}: the last turn must be the assistant's, but it is the {roles[-1]}'s")
    if "user" not in roles:
        raise UserError(
            f"{where}: a row must have a user turn, which asks what is answered, but its roles are {quoted(roles)}",
            "a text without a question is a row with `text` alone",
        )
