"""Greedy decoding: generates answers to prompts."""

from __future__ import annotations

from collections.abc import Sequence
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
    answers = [until_end(tokens, encoder.answer_ends) for tokens in generated]
    texts = encoder.tokenizer.batch_decode(answers, skip_special_tokens=True)
    return [
        Decoded(text.strip(), len(answer) < len(tokens))
        for text, answer, tokens in zip(texts, answers, generated, strict=True)
    ]
