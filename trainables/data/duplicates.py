"""Finds rows that two files share, and validation rows inside rendered training text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from trainables.data.joined_files import locate_all
from trainables.data.rows import Row
from trainables.errors import UserError, named

# text that chat templates put between question and answer: special tokens, a role, headings such as `### Response:`
BETWEEN = re.compile(r"(?:<[^<>\s]{1,40}>|\[/?[a-z]{1,9}\]|assistant|model|gpt|response|output|answer|[\s#:*])*")
ANSWER_ENDS = re.compile(r"\s|<|\[|$|\x00")
QUESTION_BEGINS = ("", " ", ">", "]", ":", "\x00")
END = "\x00"
JOINED = b"\x00,\x00"  # between the contents of joined files


def folded(text: str) -> str:
    """Return a text with normalized case, character width and white space (NFKC, casefold)."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def found_in_texts(texts: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Return, for each folded (question, answer), whether a text contains the answer right after the question."""
    joined = END.join((*texts, ""))
    return [_is_in_text(question, answer, joined) for question, answer in pairs]


def _is_in_text(question: str, answer: str, joined: str) -> bool:
    place = joined.find(question)
    while place >= 0:
        after = place + len(question)
        gap = BETWEEN.match(joined, after)
        begins = gap.end() if gap else after
        own_word = joined[place - 1 : place] if place else ""
        follows = begins > after and joined.startswith(answer, begins)
        if follows and own_word in QUESTION_BEGINS and ANSWER_ENDS.match(joined, begins + len(answer)):
            return True
        place = joined.find(question, after)
    return False


def check_disjoint(
    train: Iterable[Row],
    validation: Iterable[Row],
    validation_path: Path,
    kinds: tuple[str, str] = ("validation", "train"),
) -> None:
    """Refuse validation rows that are also in train: same normalized conversation and same image bytes.

    A training text that contains the question followed by the answer counts as the same row. `kinds` are the names of
    the two in the message.

    Raises:
        UserError: names the number of rows in both files and the first of them.
    """
    trained, asked = list(train), list(validation)
    seen = {fingerprint(row) for row in trained}
    texts = [folded(row.answer) for row in trained if row.is_completion]
    plain = [row for row in asked if row.prompt and not row.images]
    pairs = [(folded(row.prompt[-1].text), folded(row.answer)) for row in plain]
    known = {row.row_id for row, found in zip(plain, found_in_texts(texts, pairs), strict=True) if found}
    overlap = [row.row_id for row in asked if row.row_id in known or fingerprint(row) in seen]
    if overlap:
        raise UserError(
            f"{validation_path}: {kinds[0]} rows must not be in {kinds[1]}, but {len(overlap)} of them are, "
            f"the first is `{named(overlap[0])}`",
            "remove them from one of the two files; an eval on rows that trained or chose is too optimistic",
        )


def fingerprint(row: Row) -> str:
    """Hash a row's normalized text and image bytes."""
    digest = sha256()
    for message in row.messages:
        digest.update(f"{message.role}\x00{folded(message.text)}\x00".encode())
    for image in row.images:
        digest.update(sha256(image.read_bytes()).digest())
    return digest.hexdigest()


def digest_of(path: Path, images: Iterable[Path] = ()) -> str:
    """Hash a data file, or joined files, together with the images, so that a changed image changes the digest."""
    digest = sha256(JOINED.join(one.file.read_bytes() + one.entry.encode() for one in locate_all(path)))
    for image in images:
        digest.update(sha256(image.read_bytes()).digest())
    return digest.hexdigest()
