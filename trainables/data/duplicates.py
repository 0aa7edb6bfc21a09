"""Questions that stand, with their answers, in a text: a conversation that somebody's template rendered is still it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from trainables.data.dataset_info import locate
from trainables.data.rows import Row
from trainables.errors import UserError, named

# what a template writes between a question and its answer: special tokens, the role, headings such as `### Response:`
BETWEEN = re.compile(r"(?:<[^<>\s]{1,40}>|\[/?[a-z]{1,9}\]|assistant|model|gpt|response|output|answer|[\s#:*])*")
ANSWER_ENDS = re.compile(r"\s|<|\[|$|\x00")
QUESTION_BEGINS = ("", " ", ">", "]", ":", "\x00")
END = "\x00"


def folded(text: str) -> str:
    """Fold case, width and white space, so that texts that look alike are alike."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def told_within(texts: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Say of each question and answer whether a text has one right after the other; all are in folded characters."""
    joined = END.join((*texts, ""))
    return [_is_told(question, answer, joined) for question, answer in pairs]


def _is_told(question: str, answer: str, joined: str) -> bool:
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
