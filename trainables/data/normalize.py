"""Converts a row of any supported format to the same turns and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from trainables.data.formats import COMPLETION, Format, Message, check_keys, format_of, listed, text_of
from trainables.data.picture_names import picture_names
from trainables.data.turns import read_turns
from trainables.data.unsupported import check_one_answer, supported
from trainables.errors import UserError, quoted


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
    if form is None:
        given = supported(given, where)
        form = format_of(given, where)
    check_keys(given, form, where)
    messages, shown = _messages(given, form, where)
    for index, message in enumerate(messages):
        _check_unicode(message.text, f"{where}: turn {index}")
    if form.is_entry and form.turns:
        _check_alternate(messages, f"{where}: `{form.turns}`")
    return NormalizedRow(
        _row_id(given.get(form.row_id), where), messages, _images(given, form, shown, where), form.name
    )


# ------------------------------------------------------------------ turns
def _messages(given: Mapping[str, Any], form: Format, where: str) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """Return the turns, and the images named inside them."""
    if form.text:
        return (Message(COMPLETION, text_of(given, form.text, where)),), ()
    system = [Message("system", text_of(given, form.system, where))] if given.get(form.system) else []
    if form.turns:
        turns, shown = read_turns(given.get(form.turns), form, form.turns, where)
        return _with_system(system, turns, form, where), tuple(shown)
    if isinstance(given.get(form.question), list) and isinstance(given.get(form.answer), list):
        asked, shown = read_turns(given[form.question], form, form.question, where)
        answered, more = read_turns(given[form.answer], form, form.answer, where)
        # the completion alone is trained on, also if the prompt holds earlier answers
        asked = [replace(turn, supervised=turn.role != "assistant") for turn in asked]
        return _with_system(system, [*asked, *answered], form, where), (*shown, *more)
    return (*system, *_history(given, form, where), *_question_and_answer(given, form, where)), ()


def _with_system(system: list[Message], turns: list[Message], form: Format, where: str) -> tuple[Message, ...]:
    if not (system and turns[0].role == "system"):
        return (*system, *turns)
    if form.is_entry:  # LLaMA-Factory takes the turn
        return tuple(turns)
    raise UserError(f"{where}: there must be one system text, but both `{form.system}` and the first turn are one",
                    f"remove `{form.system}`, or join the two texts")  # fmt: skip


def _history(given: Mapping[str, Any], form: Format, where: str) -> Iterator[Message]:
    rounds = given.get(form.history, [])
    if not isinstance(rounds, list):
        raise UserError(f"{where}: `{form.history}` must be a list of [question, answer], but got {quoted(rounds)}")
    for index, one in enumerate(rounds):
        if not (isinstance(one, list) and len(one) == 2 and all(isinstance(text, str) for text in one)):
            raise UserError(f"{where}: `{form.history}[{index}]` must be [question, answer], but got {quoted(one)}")
        yield from (Message("user", one[0]), Message("assistant", one[1]))


def _question_and_answer(given: Mapping[str, Any], form: Format, where: str) -> tuple[Message, Message]:
    question = text_of(given, form.question, where) if form.question in given or not form.context else ""
    if given.get(form.context):
        question = "\n".join(filter(None, (question, text_of(given, form.context, where))))
    if not question.strip():
        raise UserError(f"{where}: `{form.question}` must be a text, but it is empty",
                        "write a text without a question as a row with only `text`")  # fmt: skip
    check_one_answer(given, form.answer, where)
    return Message("user", question), Message("assistant", text_of(given, form.answer, where))


def _check_alternate(messages: tuple[Message, ...], where: str) -> None:
    roles = [message.role for message in messages if message.role != "system"]
    system_later = any(message.role == "system" for message in messages[1:])
    if system_later or roles != ["user", "assistant"] * (len(roles) // 2):
        raise UserError(
            f"{where} must hold questions and answers in turn, but its roles are "
            f"{quoted([message.role for message in messages])}",
            "LLaMA-Factory leaves such a row out; drop it, or read the file itself instead of its entry",
        )


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
    found = [key for key in form.images if given.get(key) not in (None, "", [])]
    if len(found) > 1 or (found and shown):
        raise UserError(
            f"{where}: pictures must be named in one place, but they are in "
            f"{listed(found)}{' and in the turns' if shown else ''}"
        )
    return picture_names(given[found[0]], f"{where}: `{found[0]}`") if found else shown
