"""Reads the out-of-distribution file: questions outside the task, and the answers of a general model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.data.accepted import Accepted, holds_term, read_accepted
from trainables.data.formats import IMAGE_TAG, Message
from trainables.data.images import picture_files
from trainables.data.joined_files import joined
from trainables.data.picture_names import picture_names
from trainables.data.rows import rows_with_unique_ids
from trainables.data.text import same_answer
from trainables.errors import UserError, named, nearest, quoted
from trainables.io.jsonl import objects
from trainables.typed import typed

PICTURE_KINDS, TEXT_KINDS = ("irrelevant", "caption"), ("text",)
OOD_KINDS = (*PICTURE_KINDS, *TEXT_KINDS)
OPTIONAL_KINDS = ("declines",)  # a file needs no row of them
ACCEPTING_KINDS = ("text", *OPTIONAL_KINDS)  # whose answers may be right by meaning
OOD_KEYS = ("id", "images", "system", "prompt", "kind", "group", "expect", "accept", "forbid")


@dataclass(frozen=True)
class OodRow:
    """One out-of-distribution question with its images and the answer that a general model gives.

    `group` names the kind of picture or question (`door`), by which results are also shown; None without one.
    `accept` are further right answers, by meaning.
    """

    row_id: str
    kind: str
    messages: tuple[Message, ...]
    images: tuple[Path, ...]
    expect: str | None
    forbid: tuple[str, ...]
    group: str | None = None
    accept: Accepted | None = None

    @property
    def references(self) -> tuple[str, ...]:
        """Return the answers and terms that the row names."""
        return (self.expect or "", *(self.accept.terms if self.accept else ()))

    @property
    def is_judged_by_meaning(self) -> bool:
        """Return True if an answer longer than the references can be right."""
        return self.accept is not None or self.kind in OPTIONAL_KINDS

    def is_right(self, answer: str) -> bool:
        """Return True if an answer is the expected one, or one of the accepted ones without a forbidden term."""
        if self.expect is not None and same_answer(answer, self.expect):
            return True
        return self.accept is not None and self.accept.matches(answer) and not holds_term(answer, self.forbid)


def needed_kinds(sees: bool) -> tuple[str, ...]:
    """Return the required kinds of out-of-distribution rows; a base without vision needs text rows only."""
    return OOD_KINDS if sees else TEXT_KINDS


def read_ood(path: Path, needed: Iterable[str] = OOD_KINDS) -> list[OodRow]:
    """Read and check every row of an out-of-distribution file.

    Raises:
        UserError: the file is empty, a needed kind is missing, or a row is broken; names file, line and key.
    """
    asked: dict[str, OodRow] = {}
    for place, row in parse_ood(path):
        if isinstance(row, UserError):
            raise row
        asked[place] = row
    rows = rows_with_unique_ids(asked, path)
    check_kinds(rows, path, needed)
    return rows


def parse_ood(path: Path) -> Iterator[tuple[str, OodRow | UserError]]:
    """Yield place, `FILE:LINE`, and row of an out-of-distribution file, or the error that describes a broken row.

    Raises:
        UserError: the file does not exist or has another format.
    """
    files = joined(path)
    for file in files:
        prefix = f"{file.stem}:" if len(files) > 1 else ""
        for line, values in objects(file):
            try:
                yield (
                    f"{file}:{line}",
                    values if isinstance(values, UserError) else _ood_row(values, file, line, prefix),
                )
            except UserError as error:
                yield f"{file}:{line}", error


def open_question(values: Mapping[str, Any], path: Path, line: int) -> OodRow:
    """Read a row whose expected answer is still to be found; `expect` of the result is not one.

    Raises:
        UserError: the row is broken in anything else.
    """
    return _ood_row({**values, "expect": values.get("expect") or "-"}, path, line, "")


def check_kinds(rows: Iterable[OodRow], path: Path, needed: Iterable[str] = OOD_KINDS) -> None:
    """Check that an out-of-distribution file has rows of every required kind.

    Raises:
        UserError: names the kinds without a row.
    """
    there = {row.kind for row in rows}
    missing = [kind for kind in needed if kind not in there]
    if missing:
        raise UserError(
            f"{path}: every kind of out-of-distribution row is needed, but there are none of kind {', '.join(missing)}",
            'add rows such as {"kind": "text", "prompt": ..., "expect": ...}; '
            f"`{typed('mini', 'show', '--out', 'DIR')}` writes an example of each kind",
        )


def _ood_row(values: Mapping[str, Any], path: Path, line: int, prefix: str) -> OodRow:
    where = f"{path}:{line}"
    _known_keys(values, OOD_KEYS, where)
    kind, prompt, expect, forbid = (values.get(key) for key in ("kind", "prompt", "expect", "forbid"))
    kinds = (*OOD_KINDS, *OPTIONAL_KINDS)
    if kind not in kinds:
        raise UserError(f"{where}: `kind` must be one of {', '.join(kinds)}, but got {quoted(kind)}")
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f"{where}: `prompt` must be a text, but got {quoted(prompt)}")
    accept = read_accepted(values.get("accept"), where)
    _check_answers(kind, expect, accept, where)
    group = values.get("group")
    if group is not None and not (isinstance(group, str) and group.strip()):
        raise UserError(f"{where}: `group` must be a name such as `door`, but got {quoted(group)}")
    names = picture_names(values.get("images"), f"{where}: `images`")
    if kind in PICTURE_KINDS and not names:
        raise UserError(f"{where}: a picture must be shown, but `images` is empty for a row of kind {kind}")
    text = prompt if IMAGE_TAG in prompt else IMAGE_TAG * len(names) + prompt
    messages = (Message("user", text),)
    if values.get("system"):
        messages = (Message("system", str(values["system"])), *messages)
    images = picture_files(names, messages, path.parent, where)
    row_id = f"{prefix}{values.get('id', line)}"
    return OodRow(row_id, kind, messages, images, expect, _terms(forbid, where), group, accept)


def _check_answers(kind: str, expect: Any, accept: Accepted | None, where: str) -> None:
    if accept is not None and kind not in ACCEPTING_KINDS:
        raise UserError(f"{where}: `accept` must be in a row of kind {' or '.join(ACCEPTING_KINDS)}, but its kind is "
                        f"{kind}", "give the agreed answer as `expect`")  # fmt: skip
    may_lack = kind == "caption" or kind in OPTIONAL_KINDS or accept is not None
    if not (isinstance(expect, str) and expect.strip()) and not (may_lack and expect is None):
        answer = typed("data", "answer", "--base", "DIR", "--ood", "questions.jsonl", "--out", "ood.jsonl")
        hint = f"`{answer}` writes the base's own answers" if kind == "text" else None
        raise UserError(f"{where}: `expect` must be the answer a general model gives, but got {quoted(expect)}", hint)


def _terms(forbid: Any, where: str) -> tuple[str, ...]:
    # a term without letters or digits matches every answer; a plain string would be split into characters
    terms = [] if forbid is None else forbid
    if not isinstance(terms, list) or not all(isinstance(one, str) and any(map(str.isalnum, one)) for one in terms):
        raise UserError(f"{where}: `forbid` must be a list of terms, but got {quoted(forbid)}")
    return tuple(terms)


def _known_keys(values: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in values:
        if key not in known:
            raise UserError(f"{where}: `{named(key)}` is not a key of a row", nearest(key, known))
