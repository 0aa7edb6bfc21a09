"""The files of rows that a trial reads, by what they are for, and how replay rows lengthen a pass."""

from __future__ import annotations

from fractions import Fraction

from trainables.spec import Source, TrialSpec


def data_files(spec: TrialSpec) -> dict[str, Source]:
    """Return the files of rows of a trial: train, replay if it has some, validation and ood."""
    replay = {"replay": spec.replay} if spec.replay else {}
    return {"train": spec.train, **replay, "validation": spec.validation, "ood": spec.ood}


def trained_on(spec: TrialSpec) -> frozenset[str]:
    """Return the digests of the files whose rows a trial learns."""
    return frozenset(source.sha256 for source in (spec.train, spec.replay) if source)


def mix_of(spec: TrialSpec) -> str:
    """Return how the replay rows of a trial are named, as `general.jsonl@1a2b3c4d`; `none` without any."""
    return f"{spec.replay.path.name}@{spec.replay.sha256[:8]}" if spec.replay else "none"


def rows_of_a_pass(task_rows: int, ratio: float) -> int:
    """Return how many rows one pass over the task rows takes with the replay rows among them."""
    return round(task_rows / (1 - Fraction(str(ratio))))
