"""Chooses the guards of a study that apply to a base and its data."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from sweeps.study import Study
from trainables.constraint import applicable_constraint
from trainables.guards import TEXT_GUARD, applicable
from trainables.metrics import metric
from trainables.probes import blindness, captions, crops, hallucination, irrelevant

PICTURE_METRICS = frozenset(
    one.name
    for probe in (blindness.PROBE, captions.PROBE, crops.PROBE, hallucination.PROBE, irrelevant.PROBE)
    for one in probe.metrics
)


@dataclass(frozen=True)
class ActiveGuards:
    """The study with the guards that apply; `left_out` explains in one line which do not, empty when all apply."""

    study: Study
    left_out: str = ""


def active_guards(study: Study, reported: Collection[str], sees: bool) -> ActiveGuards:
    """Drop the guards whose metric no trial reports; add a guard on text retention when no picture metric remains.

    Raises:
        UserError: a guard's metric is unknown.
    """
    for guard in study.guards:
        if guard.metric not in reported:  # those of suites are in no table
            metric(guard.metric)
    kept, dropped = applicable(study.guards, reported)
    constraint = applicable_constraint(study.constraint, reported)
    notes = []
    if dropped:
        notes += _reasons([guard.metric for guard in dropped], sees)
    if constraint != study.constraint:
        limits = ", ".join(f"{name} {value:g}" for name, value in vars(constraint).items())
        notes.append(f"the best checkpoint must meet {limits}")
        if not any(guard.metric == TEXT_GUARD.metric for guard in kept):
            kept = (*kept, TEXT_GUARD)
            notes.append(f"an arm is stopped when {TEXT_GUARD.metric} falls by {TEXT_GUARD.max_relative_drop:.0%}")
    return ActiveGuards(replace(study, guards=kept, constraint=constraint), "; ".join(notes))


def _reasons(metrics: Sequence[str], sees: bool) -> list[str]:
    need_pictures = [name for name in metrics if name in PICTURE_METRICS and not sees]
    need_rows = [name for name in metrics if name not in need_pictures]
    reasons = (("the base has no vision tower", need_pictures), ("the data has no rows for them", need_rows))
    return [
        f"guards that do not apply because {why}: {', '.join(dict.fromkeys(names))}" for why, names in reasons if names
    ]
