"""Blindness: empty, near-empty or repetitive answers to questions about images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainables.data.ood import OodRow
from trainables.data.text import is_degenerate, is_near_empty
from trainables.probes.metric import Metric, RowResults, hits
from trainables.probes.probe import Evidence, Probe, ProbeData
from trainables.probes.question import Question, ask_ood


def is_blind(answer: str) -> bool:
    """True when an answer is near-empty or a degenerate repetition."""
    return is_near_empty(answer) or is_degenerate(answer)


def _rows_with_images(data: ProbeData) -> list[OodRow]:
    return [row for row in data.ood if row.images]


def _questions(data: ProbeData) -> Sequence[Question]:
    return [ask_ood(row) for row in _rows_with_images(data)]


def _score(data: ProbeData, evidence: Evidence) -> Mapping[str, float | RowResults]:
    blind = {row.row_id: is_blind(evidence.answers[ask_ood(row).key]) for row in _rows_with_images(data)}
    return {"blindness": hits(blind)}


PROBE = Probe(
    name="blindness",
    metrics=(Metric("blindness", "lower", "fraction", "images with an empty, near-empty or repetitive answer"),),
    questions=_questions,
    score=_score,
    rows=_rows_with_images,
)
