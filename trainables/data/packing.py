"""Sequence packing: several text rows in one sequence, with the same result as one row per sequence.

Positions restart with every row and no mask is passed; transformers then restricts attention to the token's own row
(`find_packed_sequence_indices`), sliding windows included. The first token of each row is not supervised, because it
has no predecessor. Packing saves the cost of padding; the loss is the same. Attention is computed over the whole
sequence and masked, so sequences much longer than the longest row gain nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from trainables.data.encoding import IGNORED, Batch, Encoded, PlacedRow, host_copy
from trainables.errors import UserError
from trainables.model.base import Base

SEPARATING = ("sdpa", "eager")  # these get the mask; FlashAttention separates rows only in a batch of one sequence


def bins(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Assign row numbers to sequences by first-fit decreasing; deterministic in the lengths.

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
    """Pack rows into sequences of at most `max_tokens`; the batch is (sequences, tokens of the longest).

    Raises:
        UserError: a row has an image (its positions are not one-dimensional), or the base does not separate rows.
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
    on_host = [torch.tensor(part) for part in zip(*lines, strict=True)]
    tokens, positions, labels = (part.to(base.device) for part in on_host)
    axes = base.family.packed_position_axes
    if axes > 1:
        positions = positions.expand(axes, *positions.shape)
    placed = tuple(one for line, own in enumerate(sequences) for one in _placed(own, line))
    return Batch({"input_ids": tokens, "position_ids": positions}, labels, placed, host_copy(on_host[-1], base.device))


def check_packable(base: Base) -> None:
    """Refuse a base whose attention ignores the mask between rows.

    Raises:
        UserError: names the attention.
    """
    if not base.family.packs_rows:
        raise UserError(
            f"packed_tokens needs attention that a mask keeps within a row, but {base.path.name} has layers of linear "
            "attention, whose state goes on from row to row",
            "set packed_tokens to 0: rows are then padded",
        )
    attention = base.model.config.get_text_config()._attn_implementation
    if attention not in SEPARATING:
        raise UserError(
            f"packed_tokens needs attention of {' or '.join(SEPARATING)}, but {base.path.name} runs {attention}",
            "set packed_tokens to 0, or load the base with another attention",
        )


def _placed(rows: Sequence[Encoded], line: int) -> Iterator[PlacedRow]:
    start = 0
    for row in rows:
        yield PlacedRow(row, line, start)
        start += len(row.tokens)


def _line(rows: Sequence[Encoded], longest: int, pad_id: int) -> tuple[list[int], list[int], list[int]]:
    tokens, positions, labels = [], [], []
    for row in rows:
        tokens += row.tokens
        positions += range(len(row.tokens))
        labels += [IGNORED, *row.labels[1:]]
    spare = longest - len(tokens)  # padding is a separate row, to which no other row attends
    return tokens + [pad_id] * spare, positions + list(range(spare)), labels + [IGNORED] * spare
