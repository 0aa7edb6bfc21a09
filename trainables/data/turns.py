"""Reads turns and their content parts; every key of a turn and of a part is used or refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trainables.data.formats import IMAGE_TAG, ROLES, Format, Message, typo
from trainables.data.picture_names import picture_name
from trainables.data.unsupported import check_speaker, supported
from trainables.errors import UserError, named, quoted

ROUND_KEYS = ("human", "assistant")  # a question and its answer in one object, as ms-swift writes them
TEXT_KEYS = ("text", "value")
PICTURE_KEYS = ("image", "path", "url", "image_url", "value")
PART_KEYS = {"text": TEXT_KEYS, "image": PICTURE_KEYS, "image_url": PICTURE_KEYS}
SUPERVISION_KEYS = ("weight", "loss", "train", "training")  # of OpenAI, ms-swift and axolotl


def read_turns(turns: Any, form: Format, key: str, where: str) -> tuple[list[Message], list[str]]:
    """Return the turns of a list, and the pictures that their parts name.

    Raises:
        UserError: a turn is broken; names `where`, `key` and the turn.
    """
    if not isinstance(turns, list) or not turns:
        raise UserError(f"{where}: `{key}` must be a list of turns, but got {quoted(turns)}")
    messages, shown = [], []
    for index, turn in enumerate(turns):
        place = f"{where}: `{key}[{index}]`"
        given = turn if isinstance(turn, dict) else {}
        given = supported({name: value for name, value in given.items() if value is not None}, place)
        if given and given.keys() <= set(ROUND_KEYS):
            messages += _round(given, place)
        else:
            messages.append(_message(turn, given, form, place, shown))
    return messages, shown


def _round(given: Mapping[str, Any], where: str) -> Iterator[Message]:
    for role, key in zip(("user", "assistant"), ROUND_KEYS, strict=True):
        if not isinstance(given.get(key), str):
            raise UserError(f"{where} must have `human` and `assistant`, each a text, but got {quoted(dict(given))}")
        yield Message(role, given[key])


def _message(turn: Any, given: Mapping[str, Any], form: Format, where: str, shown: list[str]) -> Message:
    keys = next((pair for pair in form.turn_keys if all(key in given for key in pair)), form.turn_keys[0])
    speaker, content = given.get(keys[0]), given.get(keys[1])
    check_speaker(speaker, where)
    role = form.speakers.get(speaker, "" if form.is_entry else speaker) if isinstance(speaker, str) else None
    if role not in ROLES or not isinstance(content, str | list):
        names = " | ".join(form.speakers if form.is_entry else dict.fromkeys((*ROLES, *form.speakers)))
        raise UserError(
            f"{where} must be {{{keys[0]}: {names}, {keys[1]}: text}}, but got {quoted(turn)}",
            f"write images as `{IMAGE_TAG}` in the text and their paths in `images`",
        )
    for key in given:
        if key not in keys and key not in SUPERVISION_KEYS:
            raise UserError(f"{where}: `{named(key)}` is not a key of a turn", typo(key, (*keys, *SUPERVISION_KEYS)))
    supervised = _supervised(given, role, where)
    if isinstance(content, str):
        return Message(role, content, supervised)
    place = where.removesuffix("`")
    text = "".join(_part(one, f"{place}.{keys[1]}[{index}]`", shown) for index, one in enumerate(content))
    return Message(role, text, supervised)


def _supervised(given: Mapping[str, Any], role: str, where: str) -> bool:
    values = {key: given[key] for key in SUPERVISION_KEYS if key in given}
    for key, value in values.items():
        if value not in (0, 1):
            raise UserError(f"{where}: `{key}` must be 0 or 1, false or true, but got {quoted(value)}",
                            "an answer is supervised or not; it cannot weigh more than another")  # fmt: skip
        if value and role != "assistant":
            raise UserError(f"{where}: `{key}` must not be set for a turn of the {role}, because only answers are "
                            "supervised", f"remove `{key}` from the turn")  # fmt: skip
    return role != "assistant" or all(values.values())


def _part(part: Any, where: str, shown: list[str]) -> str:
    """Return the text of a content part; an image that it names is added to `shown`."""
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str):
        supported({kind: part}, where)
    if kind not in PART_KEYS:
        raise UserError(f"{where} must be a part of type {', '.join(PART_KEYS)}, but got {quoted(part)}",
                        typo(str(kind), PART_KEYS))  # fmt: skip
    given = supported({key: value for key, value in part.items() if value is not None and key != "type"}, where)
    for key in given:
        if key not in PART_KEYS[kind]:
            raise UserError(
                f"{where}: `{named(key)}` is not a key of a part of type {kind}", typo(key, PART_KEYS[kind])
            )
    if kind == "text":
        texts = list(given.values())
        if len(texts) != 1 or not isinstance(texts[0], str):
            raise UserError(f"{where}: `text` must be a text, but got {quoted(texts[0] if len(texts) == 1 else None)}")
        return texts[0]
    if len(given) > 1 or (kind == "image_url" and not given):
        raise UserError(f"{where} must name one picture, but it names {len(given)}")
    if given:  # otherwise the part is the place of the next of `images`
        shown.append(picture_name(next(iter(given.values())), where))
    return IMAGE_TAG
