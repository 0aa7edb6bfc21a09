"""Irrelevant-image pass: questions about unrelated images must get the agreed refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainables.data.text import same_answer
from trainables.probes.metric import Metric, RowResults, hits
from trainables.probes.probe import Evidence, Probe, ProbeData
from trainables.probes.question import Question, ask_ood


def _questions(data: ProbeData) -> Sequence[Question]:
    return [ask_ood(row) for row in data.of_kind("irrelevant")]


def _score(data: ProbeData, evidence: Evidence) -> Mapping[str, float | RowResults]:
    rows = data.of_kind("irrelevant")
    passes = {row.row_id: same_answer(evidence.answers[ask_ood(row).key], row.expect or "") for row in rows}
    return {"irrelevant_pass": hits(passes)}


PROBE = Probe(
    name="irrelevant",
    metrics=(Metric("irrelevant_pass", "higher", "fraction", "irrelevant images answered with the agreed refusal"),),
    questions=_questions,
    score=_score,
    rows=lambda data: data.of_kind("irrelevant"),
    kind="irrelevant",
)
