"""Selects the few rows that the self-test trains on: rows with images, and text rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from trainables.data.encoding import Encoded
from trainables.data.rows import Message, Row
from trainables.engine import Engine
from trainables.spec import TrialSpec

CANDIDATE_ROWS = 8
Item = TypeVar("Item")


def image_rows(engine: Engine, spec: TrialSpec) -> list[Encoded]:
    """Encode the shortest and the longest of a few training rows with images.

    Raises:
        UserError: a row cannot be encoded.
    """
    indices = _spread([index for index, row in enumerate(engine.train) if row.images])
    return _shortest_and_longest([engine.encode(index, spec.max_tokens) for index in indices])


def text_rows(engine: Engine, spec: TrialSpec) -> list[Encoded]:
    """Encode the shortest and the longest of a few text rows: training rows if any, else text rows of the probes."""
    indices = _spread([index for index, row in enumerate(engine.train) if not row.images])
    if indices:
        return _shortest_and_longest([engine.encode(index, spec.max_tokens) for index in indices])
    questions = _spread([one for one in engine.evaluator.data.of_kind("text") if one.expect and not one.images])
    rows = [Row(one.row_id, (*one.messages, Message("assistant", one.expect or "")), ()) for one in questions]
    return _shortest_and_longest([engine.encoder.conversation(row) for row in rows])


def _spread(items: Sequence[Item]) -> Sequence[Item]:
    """Return a few items from the whole file, for rows of one kind often follow each other."""
    return items[:: max(1, len(items) // CANDIDATE_ROWS)][:CANDIDATE_ROWS]


def _shortest_and_longest(rows: list[Encoded]) -> list[Encoded]:
    # two lengths, because some failures show only in a batch with padding (failure F13)
    ordered = sorted(rows, key=lambda row: len(row.tokens))
    return [ordered[0], ordered[-1]] if len(ordered) > 1 else ordered
