"""Rows on disk: train and validation files of any known format, and the probes' file; every row checked.

A data file is JSONL or one JSON array; `formats.py` says what a row may look like. To check one by hand::

    python -m trainables.data check FILE
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from trainables.dataset_info import Located, locate
from trainables.errors import UserError, nearest
from trainables.formats import COMPLETION, IMAGE_TAG, Message, Told, told
from trainables.json_rows import objects
from trainables.overlap import folded, told_within
from trainables.rendered import turns_of

PICTURE_KINDS, TEXT_KINDS = ("irrelevant", "caption"), ("text",)
OOD_KINDS = (*PICTURE_KINDS, *TEXT_KINDS)
OOD_KEYS = ("id", "images", "system", "prompt", "kind", "expect", "forbid")


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
class OodRow:
    """One out-of-distribution question: what is shown, what is asked, what a general model answers."""

    row_id: str
    kind: str
    messages: tuple[Message, ...]
    images: tuple[Path, ...]
    expect: str | None
    forbid: tuple[str, ...]


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
    rows = [row if not row.is_completion else Row(row.row_id, turns_of(row.answer) or row.messages, row.images)
            for row in read_rows(path)]  # fmt: skip
    mute = [row.row_id for row in rows if row.is_completion]
    if mute:
        raise UserError(
            f"{path}: a validation row must ask something and know the answer, but {len(mute)} of {len(rows)} are "
            f"`text` that no known template rendered, the first is `{mute[0]}`",
            "write them as `messages`, or `prompt` and `response`; training rows may stay as they are",
        )
    return rows


def needed_kinds(sees: bool) -> tuple[str, ...]:
    """Name the kinds of out-of-distribution rows that a base must be asked; one that sees no pictures, text alone."""
    return OOD_KINDS if sees else TEXT_KINDS


def read_ood(path: Path, needed: Iterable[str] = OOD_KINDS) -> list[OodRow]:
    """Read and check every row of an out-of-distribution file.

    Raises:
        UserError: the file is empty, a needed kind is missing, or a row is broken; names file, line and key.
    """
    rows = named_once({line: _ood_row(values, path, line) for line, values in _lines(path)}, path)
    missing = [kind for kind in needed if not any(row.kind == kind for row in rows)]
    if missing:
        raise UserError(
            f"{path}: every kind of probe needs rows, but there are none of kind {', '.join(missing)}",
            'add rows such as {"kind": "text", "prompt": ..., "expect": ...}; '
            "`python -m trainables.mini show --out DIR` writes an example of each kind",
        )
    return rows


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
            f"the first is `{overlap[0]}`",
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


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, values in objects(path):
        if isinstance(values, UserError):
            raise values
        yield number, values


def named_once(rows: Mapping[int, Any], path: Path) -> list[Any]:
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
                f"{path}:{line}: the id `{row.row_id}` must name one row, but line {first} has it too",
                "answers are kept by id; a row without one is named by its line",
            )
    return list(rows.values())


def _row(said: Told, located: Located, line: int) -> Row:
    where, messages = f"{located.file}:{line}", said.messages
    row_id = said.row_id or str(line)
    if any(not message.text.strip() for message in messages if message.role in {"assistant", COMPLETION}):
        raise UserError(f"{where}: an answer must not be empty, but that of row `{row_id}` is")
    if messages[0].role == COMPLETION:
        return Row(row_id, messages, ())
    if not any(message.role == "assistant" for message in messages):
        raise UserError(
            f"{where}: a row must have an assistant turn, but its roles are {[m.role for m in messages]}",
            "only assistant tokens are supervised; a row without them teaches nothing",
        )
    if messages[-1].role != "assistant":
        raise UserError(f"{where}: the last turn must be the assistant's, but it is the {messages[-1].role}'s")
    return Row(row_id, messages, _images(list(said.images), messages, located.pictures, where))


def _ood_row(values: Mapping[str, Any], path: Path, line: int) -> OodRow:
    where = f"{path}:{line}"
    _known_keys(values, OOD_KEYS, where)
    kind, prompt, expect, forbid = (values.get(key) for key in ("kind", "prompt", "expect", "forbid"))
    if kind not in OOD_KINDS:
        raise UserError(f"{where}: `kind` must be one of {', '.join(OOD_KINDS)}, but got {kind!r}")
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f"{where}: `prompt` must be a text, but got {prompt!r}")
    if not (isinstance(expect, str) and expect.strip()) and not (kind == "caption" and expect is None):
        raise UserError(f"{where}: `expect` must be the answer a general model gives, but got {expect!r}")
    named = _image_names(values, where)
    if kind != "text" and not named:
        raise UserError(f"{where}: a picture must be shown, but `images` is empty for a row of kind {kind}")
    text = prompt if IMAGE_TAG in prompt else IMAGE_TAG * len(named) + prompt
    messages = (Message("user", text),)
    if values.get("system"):
        messages = (Message("system", str(values["system"])), *messages)
    images = _images(named, messages, path.parent, where)
    return OodRow(str(values.get("id", line)), kind, messages, images, expect, _terms(forbid, where))


def _terms(forbid: Any, where: str) -> tuple[str, ...]:
    # a term without a letter would be found in every answer, a bare string would be taken letter by letter
    terms = [] if forbid is None else forbid
    if not isinstance(terms, list) or not all(isinstance(one, str) and any(map(str.isalnum, one)) for one in terms):
        raise UserError(f"{where}: `forbid` must be a list of terms, but got {forbid!r}")
    return tuple(terms)


def _known_keys(values: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in values:
        if key not in known:
            raise UserError(f"{where}: `{key}` is not a key of a row", nearest(key, known))


def _image_names(values: Mapping[str, Any], where: str) -> list[str]:
    named = values.get("images") or []
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise UserError(f"{where}: `images` must be a list of paths, but got {named!r}")
    return named


def _images(named: list[str], messages: tuple[Message, ...], directory: Path, where: str) -> tuple[Path, ...]:
    tags = sum(message.text.count(IMAGE_TAG) for message in messages)
    if tags != len(named):
        raise UserError(f"{where}: every image needs one `{IMAGE_TAG}`, but got {tags} for {len(named)} images")
    images = tuple((directory / name).resolve() for name in named)
    for name, image in zip(named, images, strict=True):
        if not image.is_file():
            raise UserError(f"{where}: the image `{name}` must exist, but {image} does not",
                            f"paths are relative to {directory}")  # fmt: skip
    return images


def main() -> None:
    """Run the command line: `check` and `filter`."""
    from trainables.data_check import app

    app(prog_name="python -m trainables.data")


if __name__ == "__main__":
    main()
