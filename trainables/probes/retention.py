"""Text retention: text-only questions that must still get the expected answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainables.data.text import same_answer
from trainables.probes.metric import Metric, RowResults, hits
from trainables.probes.probe import Evidence, Probe, ProbeData
from trainables.probes.question import Question, ask_ood


def _questions(data: ProbeData) -> Sequence[Question]:
    return [ask_ood(row) for row in data.of_kind("text")]


def _score(data: ProbeData, evidence: Evidence) -> Mapping[str, float | RowResults]:
    rows = data.of_kind("text")
    right = {row.row_id: same_answer(evidence.answers[ask_ood(row).key], row.expect or "") for row in rows}
    return {"text_retention": hits(right)}


PROBE = Probe(
    name="retention",
    metrics=(Metric("text_retention", "higher", "fraction", "text-only questions answered exactly"),),
    questions=_questions,
    score=_score,
    rows=lambda data: data.of_kind("text"),
)
