"""Rows on disk: JSONL with `messages` and `images`, and the probes' out-of-distribution file; every row checked."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from trainables.errors import UserError, nearest

ROLES = ("system", "user", "assistant")
IMAGE_TAG = "<image>"
ROW_KEYS = ("id", "messages", "images")
OOD_KINDS = ("irrelevant", "caption", "text")
OOD_KEYS = ("id", "images", "system", "prompt", "kind", "expect", "forbid")


@dataclass(frozen=True)
class Message:
    """One turn; `<image>` in the text marks where the next image stands."""

    role: str
    text: str


@dataclass(frozen=True)
class Row:
    """One conversation with its images; only its assistant turns are supervised."""

    row_id: str
    messages: tuple[Message, ...]
    images: tuple[Path, ...]

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


def read_rows(path: Path) -> list[Row]:
    """Read and check every row of a train or validation file.

    Raises:
        UserError: the file is empty or a row is broken; names file, line and key.
    """
    rows = {line: _row(values, path, line) for line, values in _lines(path)}
    return _named_once(rows, path)


def read_ood(path: Path) -> list[OodRow]:
    """Read and check every row of an out-of-distribution file.

    Raises:
        UserError: the file is empty, a kind is missing, or a row is broken; names file, line and key.
    """
    rows = _named_once({line: _ood_row(values, path, line) for line, values in _lines(path)}, path)
    missing = [kind for kind in OOD_KINDS if not any(row.kind == kind for row in rows)]
    if missing:
        raise UserError(
            f"{path}: every kind of probe needs rows, but there are none of kind {', '.join(missing)}",
            'add rows such as {"kind": "text", "prompt": ..., "expect": ...}; '
            "`python -m trainables.mini show --out DIR` writes an example of each kind",
        )
    return rows


def check_disjoint(train: Iterable[Row], validation: Iterable[Row], validation_path: Path) -> None:
    """Refuse validation rows that also stand in train: same conversation (normalized) and same image bytes.

    Raises:
        UserError: naming how many rows overlap and the first of them.
    """
    seen = {fingerprint(row) for row in train}
    overlap = [row.row_id for row in validation if fingerprint(row) in seen]
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
        text = " ".join(unicodedata.normalize("NFKC", message.text).casefold().split())
        digest.update(f"{message.role}\x00{text}\x00".encode())
    for image in row.images:
        digest.update(sha256(image.read_bytes()).digest())
    return digest.hexdigest()


def digest_of(path: Path, images: Iterable[Path] = ()) -> str:
    """Hash a data file together with the images it names, so that a changed picture is another data set."""
    digest = sha256(path.read_bytes())
    for image in images:
        digest.update(sha256(image.read_bytes()).digest())
    return digest.hexdigest()


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if not path.is_file():
        raise UserError(f"a data file must exist, but {path} does not", "check the path; it may be relative")
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.strip():
                continue
            try:
                values = json.loads(raw.decode("utf-8"))
            except (UnicodeDecodeError, json.JSONDecodeError) as error:
                raise UserError(f"{path}:{number}: a row must be one JSON object in UTF-8, but {error}") from None
            if not isinstance(values, dict):
                raise UserError(f"{path}:{number}: a row must be a JSON object, but got {type(values).__name__}")
            yield number, values


def _named_once(rows: Mapping[int, Any], path: Path) -> list[Any]:
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


def _row(values: Mapping[str, Any], path: Path, line: int) -> Row:
    where = f"{path}:{line}"
    _known_keys(values, ROW_KEYS, where)
    turns = values.get("messages")
    if not isinstance(turns, list) or not turns:
        raise UserError(f"{where}: `messages` must be a list of turns, but got {turns!r}")
    messages = tuple(_message(turn, f"{where}: `messages[{index}]`") for index, turn in enumerate(turns))
    if not any(message.role == "assistant" for message in messages):
        raise UserError(
            f"{where}: a row must have an assistant turn, but its roles are {[m.role for m in messages]}",
            "only assistant tokens are supervised; a row without them teaches nothing",
        )
    if messages[-1].role != "assistant":
        raise UserError(f"{where}: the last turn must be the assistant's, but it is the {messages[-1].role}'s")
    if any(message.role == "assistant" and not message.text.strip() for message in messages):
        raise UserError(f"{where}: an answer must not be empty, but an assistant turn is")
    images = _images(_image_names(values, where), messages, path, where)
    return Row(str(values.get("id", line)), messages, images)


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
    images = _images(named, messages, path, where)
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


def _message(turn: Any, where: str) -> Message:
    if not isinstance(turn, dict) or turn.get("role") not in ROLES or not isinstance(turn.get("content"), str):
        raise UserError(
            f"{where} must be {{role: {' | '.join(ROLES)}, content: text}}, but got {turn!r}",
            f"write images as `{IMAGE_TAG}` in the text and their paths in `images`",
        )
    return Message(turn["role"], turn["content"])


def _image_names(values: Mapping[str, Any], where: str) -> list[str]:
    named = values.get("images") or []
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise UserError(f"{where}: `images` must be a list of paths, but got {named!r}")
    return named


def _images(named: list[str], messages: tuple[Message, ...], path: Path, where: str) -> tuple[Path, ...]:
    tags = sum(message.text.count(IMAGE_TAG) for message in messages)
    if tags != len(named):
        raise UserError(f"{where}: every image needs one `{IMAGE_TAG}`, but got {tags} for {len(named)} images")
    images = tuple((path.parent / name).resolve() for name in named)
    for name, image in zip(named, images, strict=True):
        if not image.is_file():
            raise UserError(f"{where}: the image `{name}` must exist, but {image} does not",
                            "paths are relative to the data file")  # fmt: skip
    return images
