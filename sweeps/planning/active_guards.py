"""A study on a base: which of its guards can see there; decided once, before a launch, and told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from sweeps.study import Study
from trainables.constraint import applicable_constraint
from trainables.guards import TEXT_GUARD, applicable
from trainables.metrics import metric
from trainables.probes import blindness, captions, crops, hallucination, irrelevant

OF_PICTURES = frozenset(
    one.name
    for probe in (blindness.PROBE, captions.PROBE, crops.PROBE, hallucination.PROBE, irrelevant.PROBE)
    for one in probe.metrics
)


@dataclass(frozen=True)
class Fitted:
    """The study as it will run, and in one line what was left out of it and why; empty when all of it applies."""

    study: Study
    left_out: str = ""


def fitted(study: Study, reported: Collection[str], sees: bool) -> Fitted:
    """Leave out the guards whose metric no trial will report; where pictures go unseen, guard text in their place.

    Raises:
        UserError: a guard's metric is none that a record can ever hold.
    """
    for guard in study.guards:
        metric(guard.metric)
    kept, dropped = applicable(study.guards, reported)
    constraint = applicable_constraint(study.constraint, reported)
    told = []
    if dropped:
        told += _reasons([guard.metric for guard in dropped], sees)
    if constraint != study.constraint:
        held = ", ".join(f"{name} {value:g}" for name, value in vars(constraint).items())
        told.append(f"the best checkpoint is held to {held}")
        if not any(guard.metric == TEXT_GUARD.metric for guard in kept):
            kept = (*kept, TEXT_GUARD)
            told.append(f"an arm is stopped when {TEXT_GUARD.metric} falls by {TEXT_GUARD.max_relative_drop:.0%}")
    return Fitted(replace(study, guards=kept, constraint=constraint), "; ".join(told))


def _reasons(metrics: Sequence[str], sees: bool) -> list[str]:
    unseen = [name for name in metrics if name in OF_PICTURES and not sees]
    uncounted = [name for name in metrics if name not in unseen]
    reasons = (("the base has no vision tower", unseen), ("its rows give them nothing to count", uncounted))
    return [
        f"guards that do not apply, for {why}: {', '.join(dict.fromkeys(names))}" for why, names in reasons if names
    ]
