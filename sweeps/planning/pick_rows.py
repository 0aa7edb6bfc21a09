"""On how many rows the constraint is judged, and whether an arm can be called admissible on them at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweeps.planning.finding import PreflightFinding
from trainables.constraint import Constraint
from trainables.probes import PROBES
from trainables.probes.reserve import CORE_ROWS, RESERVED_METRICS
from trainables.rows_needed import LEVEL, TooFewRows, least_rows, too_few_rows
from trainables.spec import RESERVE_FORMAT, Format

KIND_OF_METRIC = {metric.name: probe.kind for probe in PROBES if probe.kind for metric in probe.metrics}


def pick_rows(constraint: Constraint, ood_rows: Sequence[tuple[str, int]], spec_format: Format) -> dict[str, int]:
    """Return how many rows of every eval measure each metric of the constraint; the reserve is not among them."""
    counts, found = dict(ood_rows), {}
    for metric in constraint.needs:
        if rows := counts.get(KIND_OF_METRIC.get(metric, "")):
            is_reserved = metric in RESERVED_METRICS and spec_format >= RESERVE_FORMAT
            found[metric] = min(rows, CORE_ROWS) if is_reserved else rows
    return found


def pick_rows_text(constraint: Constraint, rows: Mapping[str, int]) -> str:
    """Return how many rows even an arm without a failure needs to reach the level of the pick; empty if not known."""
    needed = [
        f"{least_rows(LEVEL, one.points)} rows of {one.metric} ({rows[one.metric]} here)"
        for one in constraint.allowances
        if one.points > 0 and one.metric in rows
    ]
    if not needed:
        return ""
    return (
        f"To be picked, at a probability of {LEVEL:g} of being admissible, even an arm without a failure needs "
        f"{' and '.join(needed)}."
    )


def pick_findings(constraint: Constraint, rows: Mapping[str, int]) -> list[PreflightFinding]:
    """Return a warning for each metric of the constraint on whose rows no arm can reach the level of the pick."""
    return [_finding(one) for one in too_few_rows(constraint, rows, LEVEL)]


def _finding(one: TooFewRows) -> PreflightFinding:
    return PreflightFinding(
        "warn",
        "pick_rows",
        f"{one.metric} is measured on {one.rows} rows: even an arm without a failure is admissible with probability "
        f"{one.reached:.2f}, below the pick's {LEVEL:g}, so nothing can be picked",
        f"give {one.least} or more {KIND_OF_METRIC[one.metric]} rows in --ood",
    )
