"""Sequence packing: rows of text side by side in one sequence, each computed as if it stood alone.

Positions begin anew with every row and no mask is given: transformers then lets a token see its own row only, in every
family it packs (`find_packed_sequence_indices`), sliding windows included. The first token of a row has no
predecessor, so it carries no loss, whoever stands before it. What padding would cost is saved; the loss is the same.
Attention computes whole squares and masks them, so sequences much longer than the longest row gain nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from trainables.data.encoding import IGNORED, Batch, Encoded
from trainables.errors import UserError
from trainables.model.base import Base

SEPARATING = ("sdpa", "eager")  # attention that is given the mask; FlashAttention keeps rows apart in one sequence only


def bins(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Put rows into as few sequences as first-fit decreasing does, by their numbers; the same lengths, the same bins.

    Raises:
        ValueError: a row is longer than a sequence.
    """
    if max(lengths) > max_tokens:
        raise ValueError(f"a row must fit {max_tokens} tokens, but the longest has {max(lengths)}")
    filled: list[tuple[int, list[int]]] = []
    for number in sorted(range(len(lengths)), key=lambda one: -lengths[one]):
        place = next((i for i, (used, _) in enumerate(filled) if used + lengths[number] <= max_tokens), len(filled))
        used, rows = filled[place] if place < len(filled) else (0, [])
        filled[place : place + 1] = [(used + lengths[number], [*rows, number])]
    return [rows for _, rows in filled]


def pack(rows: Sequence[Encoded], base: Base, max_tokens: int) -> Batch:
    """Pack rows into sequences of at most `max_tokens`; a batch has (sequences, tokens of the longest).

    Raises:
        UserError: a row shows a picture, whose positions are not a row of numbers, or the base would not keep rows
            apart.
    """
    check_packable(base)
    if any(row.views for row in rows):
        raise UserError(
            "packed_tokens packs rows of text, but a row of this step shows a picture",
            "set packed_tokens to 0: rows are then padded; or train on rows without pictures",
        )
    sequences = [[rows[number] for number in one] for one in bins([len(row.tokens) for row in rows], max_tokens)]
    longest = max(sum(len(row.tokens) for row in one) for one in sequences)
    lines = [_line(one, longest, base.tokenizer.pad_token_id) for one in sequences]
    tokens, positions, labels = (torch.tensor(part, device=base.device) for part in zip(*lines, strict=True))
    axes = base.family.packed_position_axes
    if axes > 1:
        positions = positions.expand(axes, *positions.shape)
    return Batch({"input_ids": tokens, "position_ids": positions}, labels)


def check_packable(base: Base) -> None:
    """Refuse a base whose attention is not given the mask that keeps rows apart.

    Raises:
        UserError: naming its attention.
    """
    attention = base.model.config.get_text_config()._attn_implementation
    if attention not in SEPARATING:
        raise UserError(
            f"packed_tokens needs attention of {' or '.join(SEPARATING)}, but {base.path.name} runs {attention}",
            "set packed_tokens to 0, or load the base with another attention",
        )


def _line(rows: Sequence[Encoded], longest: int, pad_id: int) -> tuple[list[int], list[int], list[int]]:
    tokens, positions, labels = [], [], []
    for row in rows:
        tokens += row.tokens
        positions += range(len(row.tokens))
        labels += [IGNORED, *row.labels[1:]]
    spare = longest - len(tokens)  # what fills the sequence is a row of its own, seen by nobody
    return tokens + [pad_id] * spare, positions + list(range(spare)), labels + [IGNORED] * spare
