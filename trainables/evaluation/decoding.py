"""Greedy decoding: generates answers to prompts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trainables.data.encoding import Encoded, Encoder, collate, until_end


@dataclass(frozen=True)
class Decoded:
    """The text of one answer; `ended` is False if it was cut at the token limit."""

    text: str
    ended: bool


@torch.no_grad()
def decode_greedily(
    model: Any, encoder: Encoder, device: torch.device, prompts: Sequence[Encoded], max_new_tokens: int
) -> list[Decoded]:
    """Decode answers to one batch of prompts greedily, up to a token that ends an answer."""
    from transformers import GenerationConfig

    greedy = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=list(encoder.answer_ends),
        pad_token_id=encoder.tokenizer.pad_token_id,
    )
    batch = collate(prompts, encoder, device, pad_left=True)
    generated = model.generate(**batch.inputs, generation_config=greedy)
    return read_answers(generated[:, batch.inputs["input_ids"].shape[1] :].tolist(), encoder)


def read_answers(generated: Sequence[list[int]], encoder: Encoder) -> list[Decoded]:
    """Decode the new tokens of each answer, up to its end token, to text."""
    answers = [answer_tokens(tokens, encoder.answer_ends, encoder.unspoken) for tokens in generated]
    ended = [any(token in encoder.answer_ends for token in tokens) for tokens in generated]
    texts = encoder.tokenizer.batch_decode(answers)
    return [Decoded(text.strip(), one) for text, one in zip(texts, ended, strict=True)]


def answer_tokens(tokens: list[int], ends: Collection[int], unspoken: Collection[int]) -> list[int]:
    """Return the tokens of an answer's text: those before its end, without the tokens that structure a conversation.

    Special tokens that are part of an answer, such as boxes and tool marks, are kept: without them an answer that is
    right in every token would not equal its reference.
    """
    return [token for token in until_end(tokens, ends) if token not in unspoken]
