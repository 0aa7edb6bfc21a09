"""The paths of arms through the candidates, and the limits of guard and constraint, from measurements and records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from analysis.candidates import Candidate, candidates_of
from analysis.charts.chart import CandidatePath, Chart, Limit, chart_of
from analysis.frontier import FIT, FrontierInfo
from analysis.guard_limits import constraint_of_record, guards_of
from analysis.placements import recorded
from trainables.constraint import Constraint
from trainables.decision import Guard
from trainables.record import Measurement


def study_chart(info: FrontierInfo, measured: Mapping[str, Sequence[Measurement]]) -> Chart:
    """Return the chart of a study with the paths of its arms, and the limits of guards and constraint if known."""
    trials = [one.trial for result in info.results for one in result.placement.seed_runs]
    known = next((record for trial in trials if (record := recorded(trial)) is not None), None)
    alone = [
        one
        for result in info.results
        if result.placement.is_baseline
        for seed_run in result.placement.seed_runs
        for one in measured.get(seed_run.trial.run_id, ())
        if one.kind == "eval"
    ]
    baseline = alone[-1] if alone else None
    limits = (
        limits_on(info.objectives[0].name, guards_of(known), constraint_of_record(known), baseline) if known else ()
    )
    return chart_of(info, limits, paths_of(info, measured))


def paths_of(info: FrontierInfo, measured: Mapping[str, Sequence[Measurement]]) -> tuple[CandidatePath, ...]:
    """Return the path of every arm that was measured at two steps or more; a point is the mean over its seeds."""
    names = (info.objectives[0].name, info.objectives[FIT].name)
    found = []
    for result in info.results:
        candidates = [one for one in candidates_of(result.placement, measured) if not one.is_derived]
        points = {one.step: point for one in candidates if (point := _point(one, names)) is not None}
        if len(points) > 1:
            found.append(CandidatePath(result.placement.label, tuple(points), tuple(points.values())))
    return tuple(found)


def _point(candidate: Candidate, names: tuple[str, str]) -> tuple[float, float] | None:
    rows = [one.metrics for one in candidate.evals]
    if not all(name in row for row in rows for name in names):
        return None
    x, y = (sum(row[name] for row in rows) / len(rows) for name in names)
    return (x, y) if math.isfinite(x) and math.isfinite(y) else None


def limits_on(
    metric: str, guards: Sequence[Guard], constraint: Constraint | None, baseline: Measurement | None
) -> tuple[Limit, ...]:
    """Return the limits that guards and the constraint set on a metric; none where the baseline is not known."""
    if baseline is None or metric not in baseline.metrics:
        return ()
    found = [Limit("guard", limit) for one in guards
             if one.metric == metric and (limit := one.limit(baseline, ())) is not None]  # fmt: skip
    allowances = constraint.allowances if constraint is not None else ()
    for one in allowances:
        if one.metric == metric:
            points = -one.points if one.direction == "higher" else one.points
            found.append(Limit("constraint", baseline.metrics[metric] + points))
    return tuple(found)
