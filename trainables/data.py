"""Rows on disk: train and validation files of any known format, and the probes' file; every row checked.

A data file is JSONL or one JSON array; `formats.py` says what a row may look like. To check one by hand::

    python -m trainables.data check FILE
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from trainables.dataset_info import Located, locate
from trainables.errors import UserError
from trainables.formats import COMPLETION, Message, Told, told
from trainables.json_rows import objects
from trainables.overlap import folded, told_within
from trainables.pictures import picture_files
from trainables.quoted import named, quoted
from trainables.rendered import turns_of
from trainables.row_ids import named_once


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
class Parsed:
    """One row as the file has it: where it stands, of which format it is, and the row, or what is wrong with it."""

    line: int
    format: str
    row: Row | UserError


def parse_rows(path: Path) -> Iterator[Parsed]:
    """Yield every row of a train or validation file, the broken ones as the error that says why.

    Raises:
        UserError: there is no such file, or it is of another kind.
    """
    where = locate(path)
    for line, values in objects(where.file):
        if isinstance(values, UserError):
            yield Parsed(line, "unreadable", values)
            continue
        form = "unreadable"
        try:
            said = told(values, f"{where.file}:{line}", where.format)
            form = said.format
            yield Parsed(line, form, _row(said, where, line))
        except UserError as error:
            yield Parsed(line, form, error)


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
    return named_once(rows, path)


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


def check_disjoint(train: Iterable[Row], validation: Iterable[Row], validation_path: Path) -> None:
    """Refuse validation rows that also stand in train: same conversation (normalized) and same image bytes.

    A text of train that tells question and answer, one after the other, has the row too.

    Raises:
        UserError: naming how many rows overlap and the first of them.
    """
    trained, asked = list(train), list(validation)
    seen = {fingerprint(row) for row in trained}
    texts = [folded(row.answer) for row in trained if row.is_completion]
    plain = [row for row in asked if row.prompt and not row.images]
    pairs = [(folded(row.prompt[-1].text), folded(row.answer)) for row in plain]
    known = {row.row_id for row, found in zip(plain, told_within(texts, pairs), strict=True) if found}
    overlap = [row.row_id for row in asked if row.row_id in known or fingerprint(row) in seen]
    if overlap:
        raise UserError(
            f"{validation_path}: validation rows must not stand in train, but {len(overlap)} do, "
            f"the first is `{named(overlap[0])}`",
            "remove them from one of the two files; an eval on trained rows measures memory, not fit",
        )


def fingerprint(row: Row) -> str:
    """Hash a row's normalized text and image bytes; rows alike in both are the same row."""
    digest = sha256()
    for message in row.messages:
        digest.update(f"{message.role}\x00{folded(message.text)}\x00".encode())
    for image in row.images:
        digest.update(sha256(image.read_bytes()).digest())
    return digest.hexdigest()


def digest_of(path: Path, images: Iterable[Path] = ()) -> str:
    """Hash a data file together with the images it names, so that a changed picture is another data set."""
    where = locate(path)
    digest = sha256(where.file.read_bytes() + where.entry.encode())
    for image in images:
        digest.update(sha256(image.read_bytes()).digest())
    return digest.hexdigest()


def _row(said: Told, located: Located, line: int) -> Row:
    where, messages = f"{located.file}:{line}", said.messages
    row_id = said.row_id or str(line)
    if any(not message.text.strip() for message in messages if message.role in {"assistant", COMPLETION}):
        raise UserError(f"{where}: an answer must not be empty, but that of row `{named(row_id)}` is")
    if messages[0].role == COMPLETION:
        return Row(row_id, messages, ())
    _check_turns([message.role for message in messages], where)
    return Row(row_id, messages, picture_files(said.images, messages, located.pictures, where))


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


def main() -> None:
    """Run the command line: `check` and `filter`."""
    from trainables.data_check import app

    app(prog_name="python -m trainables.data")


if __name__ == "__main__":
    main()
