"""The few rows that the self-test trains on: training rows with pictures, and rows of text alone."""

from __future__ import annotations

from trainables.data.encoding import Encoded
from trainables.data.rows import Message, Row
from trainables.engine import Engine
from trainables.spec import TrialSpec

CANDIDATE_ROWS = 8


def image_rows(engine: Engine, spec: TrialSpec) -> list[Encoded]:
    """Encode a short and a long training row with a picture, of the first few that have one.

    Raises:
        UserError: such a row cannot be encoded.
    """
    indices = [index for index, row in enumerate(engine.train) if row.images][:CANDIDATE_ROWS]
    return _shortest_and_longest([engine.encode(index, spec.max_tokens) for index in indices])


def text_rows(engine: Engine, spec: TrialSpec) -> list[Encoded]:
    """Encode a short and a long row of text alone: of the training rows, else questions of the probes, answered."""
    indices = [index for index, row in enumerate(engine.train) if not row.images][:CANDIDATE_ROWS]
    if indices:
        return _shortest_and_longest([engine.encode(index, spec.max_tokens) for index in indices])
    asked = [one for one in engine.evaluator.data.of_kind("text") if one.expect and not one.images][:CANDIDATE_ROWS]
    rows = [Row(one.row_id, (*one.messages, Message("assistant", one.expect or "")), ()) for one in asked]
    return _shortest_and_longest([engine.encoder.conversation(row) for row in rows])


def _shortest_and_longest(rows: list[Encoded]) -> list[Encoded]:
    # of two lengths, so that padding is in the batch: some failures need a padded row (failure F13)
    ordered = sorted(rows, key=lambda row: len(row.tokens))
    return [ordered[0], ordered[-1]] if len(ordered) > 1 else ordered
