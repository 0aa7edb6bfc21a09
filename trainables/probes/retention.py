"""Text retention: text-only questions that must still get the expected answer, or one that is accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainables.probes.metric import Metric, RowResults, hits
from trainables.probes.probe import Evidence, Probe, ProbeData
from trainables.probes.question import Question, ask_ood


def _questions(data: ProbeData) -> Sequence[Question]:
    return [ask_ood(row) for row in data.of_kind("text")]


def _score(data: ProbeData, evidence: Evidence) -> Mapping[str, float | RowResults]:
    rows = data.of_kind("text")
    return {"text_retention": hits({row.row_id: row.is_right(evidence.answers[ask_ood(row).key]) for row in rows})}


PROBE = Probe(
    name="retention",
    metrics=(
        Metric("text_retention", "higher", "fraction", "text-only questions with the expected or an accepted answer"),
    ),
    questions=_questions,
    score=_score,
    rows=lambda data: data.of_kind("text"),
    kind="text",
)
