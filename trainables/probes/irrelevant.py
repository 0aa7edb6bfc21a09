"""Irrelevant-image pass: unrelated pictures must still get the agreed refusal (brief 001)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainables.data.text import same_answer
from trainables.probes.metric import Metric
from trainables.probes.probe import Evidence, Probe, ProbeData, fraction
from trainables.probes.question import Question, ask_ood


def _questions(data: ProbeData) -> Sequence[Question]:
    return [ask_ood(row) for row in data.of_kind("irrelevant")]


def _score(data: ProbeData, evidence: Evidence) -> Mapping[str, float]:
    rows = data.of_kind("irrelevant")
    return {"irrelevant_pass": fraction([same_answer(evidence.answers[ask_ood(r).key], r.expect or "") for r in rows])}


PROBE = Probe(
    name="irrelevant",
    metrics=(Metric("irrelevant_pass", "higher", "fraction", "irrelevant images answered with the agreed refusal"),),
    questions=_questions,
    score=_score,
    rows=lambda data: data.of_kind("irrelevant"),
)
