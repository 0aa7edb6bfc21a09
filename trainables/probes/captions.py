"""Caption sanity: compares captions of a few fixed images with the baseline's captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainables.data.text import ideograph_share, is_degenerate, is_near_empty
from trainables.probes.metric import Metric, RowResults, hits
from trainables.probes.probe import Evidence, Probe, ProbeData
from trainables.probes.question import Question, ask_ood

MIN_CHRF = 0.4
MIN_LENGTH_RATIO = 0.5
MAX_LENGTH_RATIO = 2.0
MAX_SCRIPT_SHIFT = 0.5


def is_sane(caption: str, baseline_caption: str) -> bool:
    """True when a caption keeps the baseline's script, length and wording, and does not repeat itself."""
    from sacrebleu.metrics.chrf import CHRF

    if is_near_empty(caption) or is_degenerate(caption):
        return False
    ratio = len(caption) / len(baseline_caption)
    kept_language = abs(ideograph_share(caption) - ideograph_share(baseline_caption)) <= MAX_SCRIPT_SHIFT
    chrf = CHRF().sentence_score(caption, [baseline_caption]).score / 100
    return kept_language and MIN_LENGTH_RATIO <= ratio <= MAX_LENGTH_RATIO and chrf >= MIN_CHRF


def captions(data: ProbeData, answers: Mapping[str, str]) -> dict[str, str]:
    """Return the captions among the answers, by row id."""
    return {row.row_id: answers[ask_ood(row).key] for row in data.of_kind("caption")}


def captions_in(samples: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the captions among the samples of a record, by row id."""
    return {one["row"]: one["answer"] for one in samples if one["kind"] == "caption"}


def _questions(data: ProbeData) -> Sequence[Question]:
    return [ask_ood(row) for row in data.of_kind("caption")]


def _score(data: ProbeData, evidence: Evidence) -> Mapping[str, float | RowResults]:
    own = captions(data, evidence.answers)
    # the baseline is compared with its own captions
    reference = evidence.baseline.captions if evidence.baseline else own
    sane = {key: bool(reference[key]) and is_sane(caption, reference[key]) for key, caption in own.items()}
    return {"caption_sanity": hits(sane)}


PROBE = Probe(
    name="captions",
    metrics=(
        Metric("caption_sanity", "higher", "fraction", "fixed captions that keep language, length, variety and chrF"),
    ),
    questions=_questions,
    score=_score,
    rows=lambda data: data.of_kind("caption"),
    kind="caption",
)
