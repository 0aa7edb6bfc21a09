"""Measures how far another batch shape moves logits: what decides which tokens count as near ties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from trainables.data.encoding import IGNORED, Encoded, chunks, collate
from trainables.engine import Engine
from trainables.evaluation.evaluator import GENERATION_TOKENS, LONGEST_RATIO, LOSS_TOKENS, label_logits

DECODED_ROWS = 16


@dataclass(frozen=True)
class Drift:
    """What another shape changes at `tokens` decoded tokens.

    `largest_share` is the largest change of the gap between the two best logits, as a share of the best;
    `other_tokens` counts the tokens that the other shape predicts otherwise, `near` those that the rule leaves to plain
    decoding, and `other_beyond` those that differ although they are no near ties.
    """

    tokens: int
    largest_share: float
    other_tokens: int
    near: int
    other_beyond: int
    rows: int
    near_rows: int


@torch.no_grad()
def measure_drift(engine: Engine, prompts: Sequence[Encoded], new_tokens: int, share: float) -> Drift:
    """Decode prompts in batches with a cache, then read the same tokens as rows of other batches, and one by one."""
    gaps: list[torch.Tensor] = []
    found = []
    for chunk in chunks(prompts, GENERATION_TOKENS, LONGEST_RATIO):
        for start in range(0, len(chunk), DECODED_ROWS):
            some = chunk[start : start + DECODED_ROWS]
            tokens, stepped = _decoded(engine, [prompts[index] for index in some], new_tokens)
            for row, index in enumerate(some):
                new = tokens[row].tolist()
                ended = next((i for i, one in enumerate(new) if one in engine.encoder.answer_ends), len(new) - 1)
                found.append((prompts[index], new[: ended + 1], stepped[row, : ended + 1]))
    rows = [replace(one, tokens=[*one.tokens, *new], labels=[IGNORED] * len(one.tokens) + new) for one, new, _ in found]
    plain = [stepped for _, _, stepped in found]
    for size in (LOSS_TOKENS, 1):
        gaps.append(_compared(engine, rows, plain, size))
    both = torch.cat(gaps)  # (tokens, 4): change of the gap, best logit, gap when decoded, other token
    near = both[:, 2] <= share * both[:, 1].abs().clamp(min=1.0)
    half = near[: len(near) // 2].split([len(one) for one in plain])
    return Drift(
        len(both) // 2,
        float((both[:, 0] / both[:, 1].abs().clamp(min=1.0)).max()),
        int(both[:, 3].sum()),
        int(near.sum()) // 2,
        int((both[:, 3].bool() & ~near).sum()),
        len(plain),
        sum(bool(one.any()) for one in half),
    )


def _decoded(engine: Engine, prompts: Sequence[Encoded], new_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    from transformers import GenerationConfig

    encoder = engine.encoder
    greedy = GenerationConfig(
        max_new_tokens=new_tokens, do_sample=False, eos_token_id=list(encoder.answer_ends),
        pad_token_id=encoder.tokenizer.pad_token_id, return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    batch = collate(prompts, encoder, engine.base.device, pad_left=True)
    out = engine.base.model.generate(**batch.inputs, generation_config=greedy)
    best = torch.stack([logits.float().topk(2).values for logits in out.logits], dim=1)
    return out.sequences[:, batch.inputs["input_ids"].shape[1] :], best


def _compared(engine: Engine, rows: Sequence[Encoded], plain: Sequence[torch.Tensor], size: int) -> torch.Tensor:
    compared: dict[int, torch.Tensor] = {}
    for chunk in chunks(rows, size):
        batch = collate([rows[index] for index in chunk], engine.encoder, engine.base.device, pad_left=False)
        logits, targets = label_logits(engine.base, batch)
        values, tokens = logits.topk(2)
        counts = [len(plain[index]) for index in chunk]
        for index, own, other in zip(chunk, values.split(counts), (tokens[:, 0] != targets).split(counts), strict=True):
            # the gap of the tokens as the decoder saw them, with the order that it saw
            signed = (own[:, 0] - own[:, 1]) * torch.where(other, -1.0, 1.0)
            before = plain[index][:, 0] - plain[index][:, 1]
            compared[index] = torch.stack([(signed - before).abs(), plain[index][:, 0], before, other.float()], dim=1)
    return torch.cat([compared[index] for index in range(len(rows))])
