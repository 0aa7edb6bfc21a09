"""Cuts a batch into parts of fewer rows, whose gradients add up to those of the whole batch.

The loss of a step is a sum over its supervised tokens, divided by their number in the whole step, so it does not matter
how many passes compute it. Rows keep the padded length of the batch, and a part takes its rows' share of the dropout
masks that the whole batch would draw: the results are those of the whole batch up to the order of additions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trainables.data.encoding import Batch, Encoder, PlacedRow, collate
from trainables.model.base import Base
from trainables.model.dropout import Share, Shares


@dataclass(frozen=True)
class BatchPart:
    """Some lines of a batch, and which share of its dropout masks is theirs; None for all."""

    batch: Batch
    shares: Shares | None


def parts_of(batch: Batch, parts: int, encoder: Encoder, base: Base) -> Iterator[BatchPart]:
    """Yield the batch in at most `parts` consecutive parts of similar numbers of lines, one after another."""
    lines = len(batch.labels)
    if min(parts, lines) < 2:
        yield BatchPart(batch, None)
        return
    values = _picture_values(batch, encoder)
    vision_layers = frozenset(linear.name for block in base.towers["vision"] for linear in block)
    count = min(parts, lines)
    for low, high in ((lines * n // count, lines * (n + 1) // count) for n in range(count)):
        language = Share(low, high, lines)
        vision = Share(sum(values[:low]), sum(values[:high]), sum(values))
        yield BatchPart(_lines(batch, low, high, encoder, base), Shares(language, vision, vision_layers))


def _picture_values(batch: Batch, encoder: Encoder) -> list[int]:
    """Return how many values the pictures of each line have; a tower's positions are proportional to them."""
    values = [0] * len(batch.labels)
    for placed in batch.rows:
        values[placed.line] += sum(encoder.pixels(view).values.numel() for view in placed.row.views)
    return values


def _lines(batch: Batch, low: int, high: int, encoder: Encoder, base: Base) -> Batch:
    rows = [one for one in batch.rows if low <= one.line < high]
    if "position_ids" in batch.inputs:  # packed text: every tensor is (…, lines, tokens)
        inputs = {name: one[..., low:high, :] for name, one in batch.inputs.items()}
        placed = tuple(PlacedRow(one.row, one.line - low, one.start) for one in rows)
        on_host = None if batch.host_labels is None else batch.host_labels[low:high]
        return Batch(inputs, batch.labels[low:high], placed, on_host)
    return collate([one.row for one in rows], encoder, base.device, pad_left=False, least_tokens=batch.labels.shape[1])
