"""Task fit: loss, token accuracy and exact match on validation rows, and the gap to the training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainables.data.text import same_answer
from trainables.probes.metric import Metric, RowResults, hits
from trainables.probes.probe import Evidence, Probe, ProbeData
from trainables.probes.question import Question, ask_validation


def _questions(data: ProbeData) -> Sequence[Question]:
    return [ask_validation(row) for row in data.validation]


def _score(data: ProbeData, evidence: Evidence) -> Mapping[str, float | RowResults]:
    exact = {row.row_id: same_answer(evidence.answers[ask_validation(row).key], row.answer) for row in data.validation}
    return {
        "eval_loss": evidence.validation.by_row([row.row_id for row in data.validation]),
        "token_accuracy": evidence.validation.accuracy,
        "exact_match": hits(exact),
        "train_loss": evidence.train_slice.by_row([row.row_id for row in data.train_slice]),
        "generalization_gap": evidence.validation.mean - evidence.train_slice.mean,
    }


PROBE = Probe(
    name="task_fit",
    metrics=(
        Metric("eval_loss", "lower", "nats/token", "mean cross-entropy of the assistant tokens of validation"),
        Metric("token_accuracy", "higher", "fraction", "assistant tokens of validation predicted by argmax"),
        Metric("exact_match", "higher", "fraction", "validation rows whose greedy answer equals the reference"),
        Metric("train_loss", "lower", "nats/token", "the same as eval_loss, on a fixed slice of the training rows"),
        Metric("generalization_gap", "lower", "nats/token", "eval_loss - train_loss, same weights, no dropout"),
    ),
    questions=_questions,
    score=_score,
)
