"""Greedy decoding: generates answers to prompts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trainables.data.encoding import Encoded, Encoder, collate, until_end
from trainables.evaluation.near_ties import best_tokens


@dataclass(frozen=True)
class Decoded:
    """The text of one answer; `ended` is False if it was cut at the token limit."""

    text: str
    ended: bool


def decode_greedily(
    model: Any, encoder: Encoder, device: torch.device, prompts: Sequence[Encoded], max_new_tokens: int
) -> list[Decoded]:
    """Decode answers to one batch of prompts greedily, up to a token that ends an answer."""
    tokens, _ = greedy_tokens(model, encoder, device, prompts, max_new_tokens)
    return read_answers(tokens.tolist(), encoder)


@torch.no_grad()
def greedy_tokens(
    model: Any,
    encoder: Encoder,
    device: torch.device,
    prompts: Sequence[Encoded],
    max_new_tokens: int,
    share: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Decode one batch of prompts greedily; return the new tokens (rows, tokens), and which are near ties.

    With `share` None no near ties are looked for, and the second value is None.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    greedy = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=list(encoder.answer_ends),
        pad_token_id=encoder.tokenizer.pad_token_id,
    )
    batch = collate(prompts, encoder, device, pad_left=True)
    near: list[torch.Tensor] = []

    def note(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        near.append(best_tokens(scores, share or 0.0)[1])
        return scores

    watching = LogitsProcessorList([] if share is None else [note])  # type: ignore[list-item]
    generated = model.generate(**batch.inputs, generation_config=greedy, logits_processor=watching)
    new = generated[:, batch.inputs["input_ids"].shape[1] :]
    return new, None if share is None else torch.stack(near, dim=1)


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
