"""Rows with no, one and two pictures, and the inputs that transformers' processor and this project make of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import packed

from trainables.data.encoding import Batch, collate
from trainables.data.images import read_picture
from trainables.data.rows import Message, Row
from trainables.engine import Engine


def rows_of(engine: Engine) -> list[Row]:
    """Return rows with one picture, two of different sizes, side by side or apart, and none."""
    first, second, third = (engine.train[index] for index in range(3))
    answer = first.messages[-1]
    pair = (*first.images, *second.images)
    apart = Row("apart", (Message("user", "<image>Report the state.<image>"), answer), pair)
    together = Row(
        "together", (Message("user", "Now <image><image>\nreport."), answer), (*second.images, *third.images)
    )
    return [first, second, third, apart, together, packed.text_row("What is two plus three?", "five.")]


def parts_of(text: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for number, piece in enumerate(text.split("<image>")):
        found += [{"type": "image"}] * (number > 0) + [{"type": "text", "text": piece}] * bool(piece)
    return found


def theirs(processor: Any, rows: Sequence[Row], ask: bool = False) -> Any:
    """Return the inputs that transformers' processor makes of rows; with `ask` up to the start of the answer."""
    tokenizer, texts = processor.tokenizer, []
    for row in rows:
        turns = row.messages[:-1] if ask else row.messages
        conversation = [{"role": one.role, "content": parts_of(one.text)} for one in turns]
        texts.append(tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=ask,
                                                   enable_thinking=False))  # fmt: skip
    pictures = [[read_picture(path) for path in row.images] for row in rows if row.images]
    side = "left" if ask else "right"
    return processor(text=texts, images=pictures or None, return_tensors="pt", padding=True, padding_side=side)


def ours(engine: Engine, rows: Sequence[Row]) -> Batch:
    encoded = [engine.encoder.conversation(row) for row in rows]
    return collate(encoded, engine.encoder, engine.base.device, pad_left=False)
