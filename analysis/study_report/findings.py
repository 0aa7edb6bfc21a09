"""What the report says of the pick: probes that fell, and answers beside the baseline's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.intervals import proportion_interval
from trainables.constraint import ROUNDING
from trainables.metrics import METRICS
from trainables.record import Measurement

FALL = 0.10
SHOWN_ANSWERS = 12


@dataclass(frozen=True)
class ProbeFall:
    """A probe that is worse in the pick than in the base alone, by `points` (0.1 is 10 percentage points)."""

    metric: str
    counts: str
    before: str
    after: str
    points: float


@dataclass(frozen=True)
class AnswerPair:
    """A prompt with the answer of the base alone and that of the pick."""

    kind: str
    prompt: str
    expected: str
    before: str
    after: str


def falls(baseline: Measurement, picked: Measurement) -> list[ProbeFall]:
    """Return every probe that counts rows and became worse by more than 10 points, worst first."""
    found = []
    for name, metric in METRICS.items():
        if metric.unit != "fraction" or name not in baseline.metrics or name not in picked.metrics:
            continue
        change = picked.metrics[name] - baseline.metrics[name]
        lost = -change if metric.direction == "higher" else change
        if lost > FALL + ROUNDING:
            found.append(ProbeFall(name, metric.counts, shown(baseline, name), shown(picked, name), lost))
    return sorted(found, key=lambda one: -one.points)


def shown(measured: Measurement, name: str) -> str:
    """Return a metric with its 95 % interval over rows, where rows were counted."""
    text = f"{measured.metrics[name]:.3f}"
    if name not in measured.counts:
        return text
    low, high = proportion_interval(measured.counts[name])
    return f"{text} [{low:.3f}, {high:.3f}]"


def answer_pairs(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[AnswerPair]:
    """Return prompts that both answered: the first of each kind, the second, and so on; answers that differ first."""
    answers = {(one["kind"], one["row"]): one["answer"] for one in before}
    both = [one for one in after if (one["kind"], one["row"]) in answers]
    both.sort(key=lambda one: answers[one["kind"], one["row"]] == one["answer"])
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for one in both:
        kinds.setdefault(one["kind"], []).append(one)
    turns = [one for rank in range(SHOWN_ANSWERS) for group in kinds.values() for one in group[rank : rank + 1]]
    return [
        AnswerPair(one["kind"], one["prompt"], one.get("expected", ""), answers[one["kind"], one["row"]], one["answer"])
        for one in turns[:SHOWN_ANSWERS]
    ]
