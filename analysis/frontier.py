"""Compares placements: by the results by row where the records have them, else by their best checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from analysis.attained import attained, with_interval
from analysis.decision.judged import minimum_gain
from analysis.decision.pick import LEVEL
from analysis.guard_limits import guard_limit
from analysis.mlflow_runs import ExperimentRuns, Value
from analysis.placement_results import FIT, KINDS, FrontierInfo, Kind, PlacementResult, Volume
from analysis.placements import PlacementRuns, SeedRun, placements_of
from analysis.standings import Standings, stand, with_rows
from analysis.uncertainty import MINIMUM_SEEDS, Estimate, estimate, known, probability_on_frontier
from trainables.constraint import CONSTRAINT, Constraint
from trainables.errors import UserError, nearest
from trainables.pareto import Objective, as_costs, directions_of, dominance, hypervolume, non_dominated
from trainables.record import Measurement
from trainables.typed import typed

__all__ = ["FIT", "KINDS", "FrontierInfo", "Kind", "PlacementResult", "Volume", "excluded_reason", "frontier_info"]

NOT_COMPARED = "not compared: no baseline of its quantization, or no results by row"


def frontier_info(
    experiment: ExperimentRuns,
    objectives: Sequence[Objective],
    measured: Mapping[str, Sequence[Measurement]] | None = None,
    constraint: Constraint = CONSTRAINT,
    level: float = LEVEL,
) -> FrontierInfo:
    """Find the non-dominated placements among the admissible ones, and the reason why each other one is not on it.

    Feasibility comes before dominance: placements that were stopped, failed or gained nothing are not compared. Where
    the records have results by row, each eval is a candidate, and an arm's earlier evals count although a seed was
    stopped after them.

    Args:
        experiment: the trials.
        objectives: generality, task fit and further ones.
        measured: the measurements of each trial by run id, as `read_logged` returns them; None for old records.
        constraint: what an eval must keep of the baseline's generality.
        level: the probability of meeting the constraint that the pick must reach.

    Raises:
        UserError: no trial has a verdict yet, or no trial has measured an objective.
    """
    _require_finished(experiment)
    _require_measured(experiment, objectives)
    placements = placements_of(experiment, objectives)
    rows = with_rows(placements, measured or {}, objectives, constraint)
    standings = stand(rows, tuple(objectives), constraint, level) if rows else None
    results = _judged(placements, standings, tuple(objectives), experiment.is_foreign)
    results.sort(key=lambda one: _order(one, objectives[FIT]))
    return FrontierInfo(
        experiment=experiment.name,
        objectives=tuple(objectives),
        results=tuple(results),
        volume=_volume(results, objectives, standings),
        floor=guard_limit(experiment, objectives[0].name),
        choice=standings.choice if standings else None,
        attained=attained(standings.fronts, objectives[:2]) if standings else None,
        is_foreign=experiment.is_foreign,
    )


def _judged(
    placements: Sequence[PlacementRuns],
    standings: Standings | None,
    objectives: tuple[Objective, ...],
    is_foreign: bool,
) -> list[PlacementResult]:
    """Return a result for each placement; without standings, by the best checkpoints that MLflow holds."""
    if standings is not None:
        by_rows = {one.placement.label for one in standings.results}
        return [*standings.results, *(_not_compared(one) for one in placements if one.label not in by_rows)]
    compared = [one for one in placements if all(m.state != "excluded" for m in one.seed_runs) and one.admissible()]
    return [_not_compared(one) for one in placements if one not in compared] + _compare(
        compared, objectives, is_foreign
    )


def _require_finished(experiment: ExperimentRuns) -> None:
    if not any(trial.verdict_kind for trial in experiment.trials):
        count = len(experiment.trials)
        raise UserError(
            f"a frontier needs a finished trial, but `{experiment.name}` has {count} trials and no verdict",
            f"wait for the first verdict; `{typed('status', experiment.name)}` says whether a launch runs"
            if count
            else f"start a study: {typed('stage4', '--experiment', experiment.name)}; or, for runs that Footprint did "
            "not make, name their metrics: --map x=NAME:lower --map y=NAME:higher",
        )


def _require_measured(experiment: ExperimentRuns, objectives: Sequence[Objective]) -> None:
    """Refuse a metric that no trial has, because it would silently exclude every trial."""
    finished = [trial for trial in experiment.trials if trial.verdict_kind == "completed"]
    measured = {name for trial in finished for name in (*trial.last, *trial.best)}
    for objective in objectives:
        if measured and objective.name not in measured:
            raise UserError(
                f"an objective must be measured, but no completed trial of `{experiment.name}` has `{objective.name}`",
                nearest(objective.name, measured),
            )


# ------------------------------------------------------------------- placements that are not compared
def _not_compared(placement: PlacementRuns) -> PlacementResult:
    if all(seed_run.state == "running" for seed_run in placement.seed_runs):
        return PlacementResult(placement, "running", False, "running")
    kind: Kind = "baseline" if placement.is_baseline else "excluded"
    return PlacementResult(placement, kind, False, excluded_reason(placement.seed_runs))


def excluded_reason(seed_runs: Sequence[SeedRun]) -> str:
    """Return why a placement is not admissible: the reason of its trial, or each cause with the number of its seeds."""
    if len(seed_runs) == 1:
        return seed_runs[0].reason or NOT_COMPARED
    by_cause: dict[str, list[SeedRun]] = {}
    for seed_run in seed_runs:
        if seed_run.state == "excluded":
            ended = seed_run.trial.verdict if seed_run.trial.verdict_kind != "completed" else None
            by_cause.setdefault(ended or seed_run.reason, []).append(seed_run)
    parts = []
    for cause, affected in by_cause.items():
        detail = affected[0].reason.removeprefix(cause).removeprefix(": ")
        example = f" (seed {affected[0].seed}: {detail})" if detail else ""
        parts.append(f"{cause} in {len(affected)} of {len(seed_runs)} seeds{example}")
    return "; ".join(parts) or NOT_COMPARED


# ------------------------------------------------------------------- placements that are compared
def _compare(
    placements: Sequence[PlacementRuns], objectives: tuple[Objective, ...], is_foreign: bool
) -> list[PlacementResult]:
    if not placements:
        return []
    samples = [np.array([seed_run.values for seed_run in one.admissible()]) for one in placements]
    estimates = [_estimates(one, sample) for one, sample in zip(placements, samples, strict=True)]
    floors = _minimum_fit(placements, estimates, objectives[FIT])
    directions = directions_of(objectives)
    costs = as_costs(np.array([[one.mean for one in row] for row in estimates]), directions)
    gains = as_costs(floors, [objectives[FIT].direction]) - costs[:, FIT]
    costs[gains <= minimum_gain(objectives[FIT])] = np.nan
    on_frontier, dominates = non_dominated(costs), dominance(costs)
    chances = probability_on_frontier(samples, directions, floors, FIT)
    alike = _not_separable([one.label for one in placements], estimates)
    results = []
    for i, placement in enumerate(placements):
        dominators = [placements[int(j)].label for j in np.flatnonzero(dominates[:, i] & on_frontier)]
        gain = None if np.isnan(gains[i]) else float(gains[i])
        kind = _kind(placement, bool(on_frontier[i]), gain, minimum_gain(objectives[FIT]))
        reason = _reason(kind, gain, estimates[i][FIT], floors[i], dominators, objectives[FIT].name)
        if is_foreign and kind == "frontier":
            reason = "not dominated"  # no gain is missing where no baseline could be
        results.append(
            PlacementResult(
                placement=placement,
                kind=kind,
                on_frontier=bool(on_frontier[i]),
                reason=reason,
                estimates=estimates[i],
                gain=gain,
                probability=float(chances[i]) if len(samples[i]) >= MINIMUM_SEEDS else None,
                not_separable_from=alike[placement.label],
            )
        )
    return results


def _estimates(placement: PlacementRuns, sample: np.ndarray) -> tuple[Estimate, ...]:
    if placement.is_baseline and len(sample) == 1:
        return tuple(known(float(value)) for value in sample[0])
    return tuple(estimate(column) for column in sample.T)


def _minimum_fit(
    placements: Sequence[PlacementRuns], estimates: Sequence[tuple[Estimate, ...]], fit: Objective
) -> np.ndarray:
    """Return the fit of the baseline of the same quantization: (placements,), NaN for baselines and without one."""
    baselines: dict[Value | None, float] = {}
    for placement, row in zip(placements, estimates, strict=True):
        key, value = placement.parameters.get("quantization"), row[FIT].mean
        if placement.is_baseline and (key not in baselines or fit.better(value, baselines[key])):
            baselines[key] = value
    return np.array(
        [np.nan if one.is_baseline else baselines.get(one.parameters.get("quantization"), np.nan) for one in placements]
    )


def _kind(placement: PlacementRuns, on_frontier: bool, gain: float | None, least: float) -> Kind:
    if placement.is_baseline:
        return "baseline"
    if gain is not None and gain <= least:
        return "no gain"
    return "frontier" if on_frontier else "dominated"


def _reason(kind: Kind, gain: float | None, fit: Estimate, floor: float, dominators: list[str], name: str) -> str:
    if kind == "baseline":
        return "no adapter: the reference" + (f"; dominated by {_listed(dominators)}" if dominators else "")
    if kind == "no gain":
        return f"gains nothing over the baseline: {name} {fit.mean:.3g} against {floor:.3g}"
    if kind == "dominated":
        return f"dominated by {_listed(dominators)}"
    if gain is None:
        return "not dominated; no baseline of its quantization, so its gain is unknown"
    unsure = (
        fit.seeds >= MINIMUM_SEEDS and fit.low is not None and fit.high is not None and fit.low <= floor <= fit.high
    )
    return f"gains {gain:.3g} {name} over the baseline" + (", not separable from none" if unsure else "")


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")


def _not_separable(labels: Sequence[str], estimates: Sequence[tuple[Estimate, ...]]) -> Mapping[str, tuple[str, ...]]:
    """Return, for each placement, those whose intervals overlap its own in every objective."""
    alike: dict[str, list[str]] = {label: [] for label in labels}
    for i, j in combinations(range(len(labels)), 2):
        if all(one.overlaps(other) for one, other in zip(estimates[i], estimates[j], strict=True)):
            alike[labels[i]].append(labels[j])
            alike[labels[j]].append(labels[i])
    return {label: tuple(others) for label, others in alike.items()}


# ------------------------------------------------------------------- all placements
def _volume(
    results: Sequence[PlacementResult], objectives: Sequence[Objective], standings: Standings | None
) -> Volume | None:
    compared = [one for one in results if one.kind in ("frontier", "dominated", "baseline") and one.estimates]
    if not compared:
        return None
    directions = directions_of(objectives)
    costs = as_costs(np.array([[value.mean for value in one.estimates] for one in compared]), directions)
    # the reference is the worst possible value of a fraction, and the worst measured value of other units
    fixed = np.array([[float(objective.direction == "lower") for objective in objectives]])
    bounded = [objective.unit == "fraction" for objective in objectives]
    reference = np.where(bounded, as_costs(fixed, directions)[0], costs.max(axis=0))
    is_baseline = np.array([one.kind == "baseline" for one in compared])
    signs = as_costs(np.ones((1, len(objectives))), directions)[0]
    volume = Volume(
        frontier=hypervolume(costs, reference),
        baseline=hypervolume(costs[is_baseline], reference) if is_baseline.any() else None,
        reference=tuple(float(value) for value in signs * reference + 0.0),
    )
    # further objectives are not drawn
    return with_interval(volume, standings.fronts, objectives) if standings and len(objectives) == 2 else volume


def _order(result: PlacementResult, fit: Objective) -> tuple[int, float, str]:
    value = result.estimates[FIT].mean if result.estimates else 0.0
    return KINDS.index(result.kind), -value if fit.direction == "higher" else value, result.placement.label
