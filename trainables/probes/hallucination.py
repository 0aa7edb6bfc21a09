"""Hallucination: forbidden terms or words of the task in answers about unrelated images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from trainables.data.ood import OodRow
from trainables.data.rows import Row
from trainables.data.text import CJK, normalized, words
from trainables.probes.metric import Metric, RowResults, hits
from trainables.probes.probe import Evidence, Probe, ProbeData
from trainables.probes.question import Question, ask_ood

MIN_ANSWER_SHARE = 0.2
MIN_WORD_LETTERS = 3  # of an alphabet; shorter words are not specific to a task
MIN_IDEOGRAPHS = 2


def task_vocabulary(train: Sequence[Row], ood: Iterable[OodRow]) -> frozenset[str]:
    """Return the words in at least a fifth of the training answers and in no expected out-of-distribution answer.

    Words of the prompts are not removed, because questions about irrelevant images use the prompt of the task.
    """
    counts = Counter(word for row in train for word in set(words(row.answer)) if _is_specific(word))
    general = {word for row in ood if row.expect for word in words(row.expect)}
    return frozenset(word for word, count in counts.items() if count >= MIN_ANSWER_SHARE * len(train)) - general


def hallucinates(answer: str, row: OodRow, vocabulary: frozenset[str]) -> bool:
    """True when the answer contains a term that the row forbids or a word of the task."""
    text = normalized(answer)
    return any(normalized(term) in text for term in row.forbid) or not vocabulary.isdisjoint(words(answer))


def _is_specific(word: str) -> bool:
    return len(word) >= (MIN_IDEOGRAPHS if CJK.match(word) else MIN_WORD_LETTERS)


def _questions(data: ProbeData) -> Sequence[Question]:
    return [ask_ood(row) for row in data.of_kind("irrelevant")]


def _score(data: ProbeData, evidence: Evidence) -> Mapping[str, float | RowResults]:
    rows = data.of_kind("irrelevant")
    found = {r.row_id: hallucinates(evidence.answers[ask_ood(r).key], r, data.task_vocabulary) for r in rows}
    return {"hallucination": hits(found)}


PROBE = Probe(
    name="hallucination",
    metrics=(
        Metric("hallucination", "lower", "fraction", "irrelevant images answered with forbidden or task vocabulary"),
    ),
    questions=_questions,
    score=_score,
    rows=lambda data: data.of_kind("irrelevant"),
    kind="irrelevant",
)
