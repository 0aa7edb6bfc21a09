"""The supported formats of rows; each is converted to the same turns.

The format of a row is detected by its key: `messages` (OpenAI, also with content parts), `conversations` (ShareGPT,
LLaVA), `text` (completion), `prompt` and `response`, or `instruction`, `input` and `output` (Alpaca). Two of these keys
or an unknown key are errors; put values that no trial reads into `metadata`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from trainables.errors import UserError, named, nearest, quoted

ROLES = ("system", "user", "assistant")
COMPLETION = "completion"  # the role of a plain text without turns
IMAGE_TAG = "<image>"
PART_TYPES = ("text", "image", "image_url")
MOST_LISTED = 12  # keys of a row in an error
PICTURE_KEYS = ("image", "path", "url", "image_url")


@dataclass(frozen=True)
class Message:
    """One turn; `<image>` in the text is the place of the next image."""

    role: str
    text: str


@dataclass(frozen=True)
class Format:
    """The keys of a row format; an empty name means that the format has no such part.

    `turn_keys` are the accepted pairs of keys for role and text. `speakers` maps names to roles. Other keys are errors,
    or ignored if `ignores_other_keys`, which is the case if the columns were named explicitly.
    """

    name: str
    turns: str = ""
    text: str = ""
    question: str = ""
    context: str = ""
    answer: str = ""
    history: str = ""
    system: str = ""
    images: tuple[str, ...] = ("images", "image")
    row_id: str = "id"
    turn_keys: tuple[tuple[str, str], ...] = (("role", "content"), ("from", "value"))
    speakers: Mapping[str, str] = field(default_factory=lambda: {"human": "user", "gpt": "assistant"})
    ignores_other_keys: bool = False

    @property
    def mark(self) -> str:
        """Return the key by which rows of this format are detected."""
        return self.turns or self.text or self.question

    @property
    def keys(self) -> tuple[str, ...]:
        """Return every key that is read."""
        parts = (self.row_id, self.turns, self.text, self.question, self.context, self.answer, self.history)
        return tuple(filter(None, (*parts, self.system, *self.images)))


FORMATS = (
    Format("messages", turns="messages"),
    Format("conversations", turns="conversations", system="system"),
    Format("text", text="text", images=()),
    Format("prompt", question="prompt", answer="response", system="system"),
    Format("alpaca", question="instruction", context="input", answer="output", history="history", system="system"),
)
MARKS = tuple(form.mark for form in FORMATS)


@dataclass(frozen=True)
class NormalizedRow:
    """A row independent of its format: id, turns, and images as named in the file."""

    row_id: str | None
    messages: tuple[Message, ...]
    images: tuple[str, ...]
    format: str


def normalize_row(values: Mapping[str, Any], where: str, form: Format | None = None) -> NormalizedRow:
    """Convert a row of the format `form`, or of the format detected by its keys; null values count as absent.

    Raises:
        UserError: the row has no format, two formats, or an invalid value; names `where` and the key.
    """
    given = {key: value for key, value in values.items() if value is not None}
    form = form or _format_of(given, where)
    _check_keys(given, form, where)
    messages, shown = _messages(given, form, where)
    for index, message in enumerate(messages):
        _check_unicode(message.text, f"{where}: turn {index}")
    return NormalizedRow(
        _row_id(given.get(form.row_id), where), messages, _images(given, form, shown, where), form.name
    )


# ------------------------------------------------------------------ format
def _format_of(given: Mapping[str, Any], where: str) -> Format:
    found = [form for form in FORMATS if form.mark in given]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{where}: a row must be of one format, but it has {_listed(form.mark for form in found)}",
            "keep one of them, or name the columns in a dataset_info.json",
        )
    unknown = [key for key in given if key not in {"id", "metadata", "images", "image"}]
    raise UserError(
        f"{where}: a row must have one of {_listed(MARKS)}, but its keys are {_listed(given) or 'none'}",
        nearest(unknown[0], MARKS) if unknown else "see the formats in the README",
    )


def _check_keys(given: Mapping[str, Any], form: Format, where: str) -> None:
    if form.ignores_other_keys:
        for column in (name for name in form.keys if name != form.row_id and name not in given):
            similar = difflib.get_close_matches(column, [key for key in given if key not in form.keys], n=1, cutoff=0.8)
            if similar:
                raise UserError(
                    f"{where}: `{named(similar[0])}` is not a column, but `{column}` is and the row has none",
                    "rename one of them in the file or in dataset_info.json",
                )
        return
    for key in given:
        if key not in form.keys and key != "metadata":
            raise UserError(
                f"{where}: `{named(key)}` is not a key of a row with `{form.mark}`",
                f"put values that no trial reads into `metadata`; {nearest(key, (*form.keys, 'metadata'))}",
            )
    if not isinstance(given.get("metadata", {}), dict):
        raise UserError(f"{where}: `metadata` must be an object, but got {quoted(given['metadata'])}")


# ------------------------------------------------------------------ turns
def _messages(given: Mapping[str, Any], form: Format, where: str) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """Return the turns, and the images named inside them."""
    if form.text:
        return (Message(COMPLETION, _text(given, form.text, where)),), ()
    shown: list[str] = []
    messages = [Message("system", _text(given, form.system, where))] if given.get(form.system) else []
    if form.question:
        return (*messages, *_history(given, form, where), *_question_and_answer(given, form, where)), ()
    turns = given.get(form.turns)
    if not isinstance(turns, list) or not turns:
        raise UserError(f"{where}: `{form.turns}` must be a list of turns, but got {quoted(turns)}")
    for index, turn in enumerate(turns):
        messages.append(_message(turn, form, f"{where}: `{form.turns}[{index}]`", shown))
    return tuple(messages), tuple(shown)


def _history(given: Mapping[str, Any], form: Format, where: str) -> Iterator[Message]:
    rounds = given.get(form.history, [])
    if not isinstance(rounds, list):
        raise UserError(f"{where}: `{form.history}` must be a list of [question, answer], but got {quoted(rounds)}")
    for index, one in enumerate(rounds):
        if not (isinstance(one, list) and len(one) == 2 and all(isinstance(text, str) for text in one)):
            raise UserError(f"{where}: `{form.history}[{index}]` must be [question, answer], but got {quoted(one)}")
        yield from (Message("user", one[0]), Message("assistant", one[1]))


def _question_and_answer(given: Mapping[str, Any], form: Format, where: str) -> tuple[Message, Message]:
    question = _text(given, form.question, where)
    if given.get(form.context):
        question = "\n".join(filter(None, (question, _text(given, form.context, where))))
    if not question.strip():
        raise UserError(f"{where}: `{form.question}` must be a text, but it is empty",
                        "write a text without a question as a row with only `text`")  # fmt: skip
    return Message("user", question), Message("assistant", _text(given, form.answer, where))


def _message(turn: Any, form: Format, where: str, shown: list[str]) -> Message:
    values = {key: value for key, value in turn.items() if value is not None} if isinstance(turn, dict) else {}
    keys = next((pair for pair in form.turn_keys if all(key in values for key in pair)), form.turn_keys[0])
    speaker, content = values.get(keys[0]), values.get(keys[1])
    role = form.speakers.get(speaker, speaker) if isinstance(speaker, str) else None
    if role not in ROLES or not isinstance(content, str | list):
        names = " | ".join(dict.fromkeys((*ROLES, *form.speakers)))
        raise UserError(
            f"{where} must be {{{keys[0]}: {names}, {keys[1]}: text}}, but got {quoted(turn)}",
            f"write images as `{IMAGE_TAG}` in the text and their paths in `images`; tool calls are not supported",
        )
    for key in values:
        if key not in keys:
            raise UserError(f"{where}: `{named(key)}` is not a key of a turn", nearest(key, keys))
    if isinstance(content, str):
        return Message(role, content)
    place = where.removesuffix("`")
    return Message(role, "".join(_part(one, f"{place}.{keys[1]}[{i}]`", shown) for i, one in enumerate(content)))


def _part(part: Any, where: str, shown: list[str]) -> str:
    """Return the text of a content part; an image that it names is added to `shown`."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in PART_TYPES:
        raise UserError(f"{where} must be a part of type {', '.join(PART_TYPES)}, but got {quoted(part)}",
                        nearest(str(kind), PART_TYPES))  # fmt: skip
    if kind == "text":
        return _text(part, "text", where)
    named = [part[key] for key in PICTURE_KEYS if part.get(key) is not None]
    if len(named) > 1 or (kind == "image_url" and not named):
        raise UserError(f"{where} must name one picture, but it names {len(named)}")
    if named:  # otherwise the part is the place of the next of `images`
        url = named[0].get("url") if isinstance(named[0], dict) else named[0]
        if not isinstance(url, str):
            raise UserError(f"{where} must name a file, but got {quoted(named[0])}")
        shown.append(url)
    return IMAGE_TAG


def _text(given: Mapping[str, Any], key: str, where: str) -> str:
    if not isinstance(given.get(key), str):
        raise UserError(f"{where}: `{key}` must be a text, but got {quoted(given.get(key))}")
    return given[key]


def _check_unicode(text: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: a text must be Unicode, but character {error.start} is half of a surrogate pair "
            f"({text[error.start]!r})",
            "an emoji or a rare ideograph was cut in two; repair the text",
        ) from None


# ------------------------------------------------------------------ id and images
def _row_id(value: Any, where: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise UserError(f"{where}: `id` must be a text or a whole number, but got {quoted(value)}")
    return str(value)


def _images(given: Mapping[str, Any], form: Format, shown: tuple[str, ...], where: str) -> tuple[str, ...]:
    named = [(key, given[key]) for key in form.images if given.get(key) not in (None, [])]
    if len(named) > 1 or (named and shown):
        raise UserError(
            f"{where}: pictures must be named in one place, but they are in "
            f"{_listed(key for key, _ in named)}{' and in the turns' if shown else ''}"
        )
    if not named:
        return tuple(_local(url, f"{where}: `{form.turns}`") for url in shown)
    [(key, value)] = named
    paths = [value] if isinstance(value, str) and key != "images" else value
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise UserError(f"{where}: `{key}` must be a list of paths, but got {quoted(value)}")
    return tuple(_local(path, f"{where}: `{key}`") for path in paths)


def _local(name: str, where: str) -> str:
    try:
        url = urlsplit(name)
    except ValueError as error:  # invalid brackets in the host name
        raise UserError(f"{where}: a picture must be a file, but got `{named(name)}`", str(error)) from None
    scheme = url.scheme if ":" in name else ""
    if scheme == "file":
        return url2pathname(url.path)
    if scheme == "data":
        raise UserError(f"{where}: a picture must be a file, but got data ({named(name[:30])}...)",
                        "save it as a file and give its path")  # fmt: skip
    if "://" in name:
        raise UserError(f"{where}: a picture must be a file, but got `{named(name)}`",
                        "download it and give its path; nothing is downloaded while trials run")  # fmt: skip
    return name


def _listed(keys: Iterable[str]) -> str:
    listed = [f"`{named(key)}`" for key in keys]
    more = f" and {len(listed) - MOST_LISTED} more" if len(listed) > MOST_LISTED else ""
    return ", ".join(listed[:MOST_LISTED]) + more
