"""Finds each answer of a conversation in the text that the chat template renders, and the tokens to supervise.

The conversation is rendered once as it is, and once with a private-use character at the end of each answer. Without
these characters both texts must be equal; the characters then tell where each answer ends, whatever the template writes
around it. Before its end the answer itself must be found: white space may differ at its edges and next to the tags
`<think>` and `</think>`, because many templates trim there, but nothing else may. What the rendering shows of the
answer is supervised, and what follows up to the token that ends the turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.data.formats import THINK, Message
from trainables.errors import UserError, quoted

IGNORED = -100
FIRST_MARK = 0xF0000  # private use: no text has a meaning for these characters
THINK_TAG = re.compile(r"\s*(</?think>)\s*")

Render = Callable[[Sequence[Message]], str]


@dataclass(frozen=True)
class Span:
    """An answer in a rendered text: its first character, and the end of its text."""

    start: int
    end: int


def answer_spans(messages: Sequence[Message], rendered: str, render: Render, where: str) -> list[Span]:
    """Return where each assistant turn stands in `rendered`, which is `render(messages)`.

    Raises:
        UserError: the template drops or alters an answer; names `where` and the turn.
    """
    marks = _marks(messages)
    shown = render([_with_mark(message, marks.get(index, "")) for index, message in enumerate(messages)])
    for index, mark in marks.items():
        if shown.count(mark) != 1:
            raise _altered(index, messages[index], where)
    places = {index: shown.index(mark) - number for number, (index, mark) in enumerate(marks.items())}
    if _without(shown, marks.values()) != rendered or list(places.values()) != sorted(places.values()):
        raise _altered(min(marks), messages[min(marks)], where)
    kept = _keeps_leading_space(messages, marks, rendered, render)
    spans, after = [], 0
    for index, end in places.items():
        start = _start_of(messages[index].text, rendered, after, end)
        if start is None:
            raise _altered(index, messages[index], where)
        lead = _leading_space(messages[index].text) if kept else ""
        spans.append(Span(start - len(lead), end))
        after = end
    return spans


def _marks(messages: Sequence[Message]) -> dict[int, str]:
    used = set("".join(message.text for message in messages if not message.text.isascii()))
    free = (chr(code) for code in range(FIRST_MARK, 0x110000) if chr(code) not in used)
    return {index: next(free) for index, message in enumerate(messages) if message.role == "assistant"}


def _with_mark(message: Message, mark: str) -> Message:
    text = message.text.rstrip()
    return Message(message.role, text + mark + message.text[len(text) :])


def _without(text: str, marks: Iterable[str]) -> str:
    return text.translate({ord(mark): None for mark in marks})


def _keeps_leading_space(messages: Sequence[Message], marks: dict[int, str], rendered: str, render: Render) -> bool:
    if not any(_leading_space(messages[index].text) for index in marks):
        return False
    turns = [Message(one.role, marks.get(index, "") + one.text) for index, one in enumerate(messages)]
    return _without(render(turns), marks.values()) == rendered


def _leading_space(text: str) -> str:
    return text[: len(text) - len(text.lstrip())]


def _start_of(answer: str, rendered: str, after: int, end: int) -> int | None:
    bare = answer.strip()
    start = end - len(bare)
    if start >= after and rendered.startswith(bare, start):
        return start
    pieces = [piece for piece in THINK_TAG.split(bare) if piece]
    if len(pieces) == 1:
        return None
    found = re.compile(r"\s*".join(map(re.escape, pieces)) + r"\Z").search(rendered, after, end)
    return found.start() if found else None


def _altered(turn: int, message: Message, where: str) -> UserError:
    hint = "remove from the answer what the template rewrites, or use a base whose template shows answers as they are"
    if THINK in message.text:
        hint = (
            "templates that drop thoughts keep at most those of the last answer; remove the <think> block of this "
            "turn, or, if the template keeps the last one, let the row end with this turn"
        )
    return UserError(
        f"{where}: the chat template must show every answer unaltered, but it drops or alters part of turn {turn} "
        f"({quoted(message.text)})",
        hint,
    )


def supervised_labels(
    tokens: Sequence[int], places: Any, rendered: str, spans: Sequence[Span], ends: Sequence[int]
) -> list[int] | None:
    """Return a label for every token: the token itself from an answer's start through its turn end, else -100.

    A token that holds characters of the answer and of the template is supervised, as in transformers'
    `return_assistant_tokens_mask`.

    Args:
        places: transformers' BatchEncoding of `rendered`, which maps characters to tokens.
        ends: the tokens that end a turn.

    Returns:
        None if an answer is not followed by one of `ends`, with nothing but white space between them.
    """
    labels = [IGNORED] * len(tokens)
    for span in spans:
        first = next(
            (token for place in range(span.start, span.end) if (token := places.char_to_token(place)) is not None), None
        )
        if first is None:
            return None
        last = next(
            (place for place in range(first, len(tokens)) if _ends_turn(place, tokens, places, span, ends)), None
        )
        if last is None or rendered[span.end : places.token_to_chars(last).start].strip():
            return None
        labels[first : last + 1] = tokens[first : last + 1]
    return labels


def _ends_turn(place: int, tokens: Sequence[int], places: Any, span: Span, ends: Sequence[int]) -> bool:
    return tokens[place] in ends and places.token_to_chars(place).start >= span.end
