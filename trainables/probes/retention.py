"""Text retention: text-only questions that must still get the expected answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainables.data.text import same_answer
from trainables.probes.metric import Metric, Proportion, proportion
from trainables.probes.probe import Evidence, Probe, ProbeData
from trainables.probes.question import Question, ask_ood


def _questions(data: ProbeData) -> Sequence[Question]:
    return [ask_ood(row) for row in data.of_kind("text")]


def _score(data: ProbeData, evidence: Evidence) -> Mapping[str, float | Proportion]:
    rows = data.of_kind("text")
    return {"text_retention": proportion([same_answer(evidence.answers[ask_ood(r).key], r.expect or "") for r in rows])}


PROBE = Probe(
    name="retention",
    metrics=(Metric("text_retention", "higher", "fraction", "text-only questions answered exactly"),),
    questions=_questions,
    score=_score,
    rows=lambda data: data.of_kind("text"),
)
