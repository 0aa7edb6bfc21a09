"""Compares placements by their results by row; every eval of an arm is a candidate on its path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.candidates import Candidate, candidates_of
from analysis.decision.evidence import Contender, DrawnCandidates, evidence
from analysis.decision.finalists import paired
from analysis.decision.judged import Judged, costs_of_draws, higher, minimum_gain
from analysis.decision.pick import Pick, has_rows, pick
from analysis.placement_results import FIT, Kind, PlacementResult
from analysis.placements import PlacementRuns
from analysis.probabilities import chance
from analysis.uncertainty import Estimate, estimate, known
from trainables.constraint import Constraint
from trainables.pareto import Objective, as_costs, directions_of, dominance, fronts, non_dominated, share_on_frontier
from trainables.record import Measurement

OF_USE = (None, "completed", "pruned")  # verdicts of trials whose evals can be trusted


@dataclass(frozen=True)
class Standings:
    """The result of each placement with results by row, and what to ship.

    `fronts` holds the frontier of each draw as costs of generality and fit, (points, 2): of the baselines and of all
    candidates that meet the constraint in that draw.
    """

    results: tuple[PlacementResult, ...]
    choice: Pick
    fronts: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Path:
    """A placement and its candidates in order of step and scale, with the baseline of its quantization."""

    placement: PlacementRuns
    contenders: tuple[Contender, ...]


def with_rows(
    placements: Sequence[PlacementRuns],
    measured: Mapping[str, Sequence[Measurement]],
    objectives: Sequence[Objective],
    constraint: Constraint,
) -> list[Path]:
    """Return the paths of the placements that have results by row of all that decides; empty for old records."""
    candidates = {one.label: trusted_candidates(one, measured) for one in placements}
    baselines: dict[object, Candidate] = {}
    for one in placements:
        if one.is_baseline and candidates[one.label]:
            baselines.setdefault(one.parameters.get("quantization"), candidates[one.label][-1])
    names = (*(one.name for one in objectives[:2]), *constraint.needs)
    paths = []
    for one in placements:
        baseline = baselines.get(one.parameters.get("quantization"))
        price = one.last_mean("adapter_parameters")
        every = [Contender(each, base, price) for each, base in paired(candidates[one.label], baseline)]
        found = tuple(each for each in every if has_rows(each, names))
        if found:
            paths.append(Path(one, found))
    return paths if any(not one.placement.is_baseline for one in paths) else []


def trusted_candidates(
    placement: PlacementRuns, measured: Mapping[str, Sequence[Measurement]]
) -> tuple[Candidate, ...]:
    """Return the candidates of the seeds that completed, were pruned or still run.

    An invalid seed (a health check stopped it) has no good eval: it counts as stopped before every step. Seeds that
    failed for a reason outside the training say nothing, and are left out.
    """
    trusted = tuple(
        one
        for one in placement.seed_runs
        if one.trial.verdict_kind in (*OF_USE, "invalid") and one.trial.run_id in measured
    )
    good = {
        one.trial.run_id: () if one.trial.verdict_kind == "invalid" else measured[one.trial.run_id] for one in trusted
    }
    return candidates_of(replace(placement, seed_runs=trusted), good)


def stand(paths: Sequence[Path], objectives: tuple[Objective, ...], constraint: Constraint, level: float) -> Standings:
    """Judge every placement by its path."""
    generality, fit = objectives[:2]
    arms = [one for one in paths if not one.placement.is_baseline]
    contenders = [each for one in arms for each in one.contenders]
    further = [one.name for one in objectives[2:] if not one.is_price]
    choice = pick(contenders, fit, generality, constraint, level, further)
    judged = {id(one.contender): one for one in choice.judged}
    drawn = evidence(contenders, (fit.name, generality.name), constraint)
    results = [_of_path(one, [judged[id(each)] for each in one.contenders], objectives) for one in arms]
    columns = [_column(one.candidate, drawn) for one in results if one.candidate is not None]
    chances = share_on_frontier(costs_of_draws(drawn, objectives[:2], columns))
    results = _placed(results, drawn, columns, chances, objectives)
    baselines = [_baseline(one, objectives, results) for one in paths if one.placement.is_baseline]
    whole = fronts(_possible(costs_of_draws(drawn, objectives[:2], range(len(contenders))), objectives))
    return Standings(tuple([*baselines, *results]), choice, tuple(whole))


def _of_path(path: Path, judged: Sequence[Judged], objectives: tuple[Objective, ...]) -> PlacementResult:
    """Return the result of a placement by itself; whether it is dominated is found among all."""
    fit = objectives[FIT]
    least = minimum_gain(fit)
    gaining = [one for one in judged if one.gain is not None and one.gain.mean > least]
    admitted = [one for one in gaining if one.rows_short == 0]
    if not admitted:
        kind: Kind = "gain outside the constraint" if gaining else "no gain"
        reason = _outside(gaining, fit) if gaining else _no_gain(judged, fit)
        return PlacementResult(path.placement, kind, False, reason, path=tuple(judged))
    best = max(admitted, key=lambda one: one.gain.mean if one.gain else 0.0)
    return PlacementResult(
        placement=path.placement,
        kind="dominated",
        on_frontier=False,
        reason="",
        estimates=tuple(_estimate(best, one, path.placement) for one in objectives),
        gain=best.gain.mean if best.gain else None,
        path=tuple(judged),
        candidate=best,
    )


def _placed(
    results: Sequence[PlacementResult],
    drawn: DrawnCandidates,
    columns: Sequence[int],
    chances: np.ndarray,
    objectives: tuple[Objective, ...],
) -> list[PlacementResult]:
    """Return the results with their place on the frontier: dominance of the means, probability over draws."""
    compared = [one for one in results if one.candidate is not None]
    if not compared:
        return list(results)
    values = np.array([[each.mean for each in one.estimates] for one in compared])
    for at, objective in enumerate(objectives[:2]):  # on the rows that all of them answered
        values[:, at] = drawn.compared_means(objective.name)[list(columns)]
    costs = as_costs(values, directions_of(objectives))
    on_it, dominates = non_dominated(costs), dominance(costs)
    placed = {}
    for at, one in enumerate(compared):
        above = [compared[int(j)].placement.label for j in np.flatnonzero(dominates[:, at] & on_it)]
        alike = tuple(
            other.placement.label
            for j, other in enumerate(compared)
            if j != at and _alike(drawn, columns[at], columns[j], objectives[:2])
        )
        placed[one.placement.label] = replace(
            one,
            kind="frontier" if on_it[at] else "dominated",
            on_frontier=bool(on_it[at]),
            reason=_reason(one, above, objectives[FIT]),
            probability=float(chances[at]),
            not_separable_from=alike,
        )
    return [placed.get(one.placement.label, one) for one in results]


def _possible(costs: np.ndarray, objectives: Sequence[Objective]) -> np.ndarray:
    """Return costs of generality and fit in which a share is at least 0 and at most 1: a draw may leave that range."""
    for at, one in enumerate(objectives[:2]):
        if one.unit == "fraction":
            least = -1.0 if one.direction == "higher" else 0.0
            costs[..., at] = np.clip(costs[..., at], least, least + 1.0)
    return costs


def _column(one: Judged | None, drawn: DrawnCandidates) -> int:
    return next(at for at, each in enumerate(drawn.contenders) if one is not None and each is one.contender)


def _alike(drawn: DrawnCandidates, one: int, other: int, objectives: Sequence[Objective]) -> bool:
    """True when the 95 % interval of the paired difference holds 0 in every objective."""
    differences = [drawn.draws[each.name].expected for each in objectives]
    bounds = [np.quantile(each[:, one] - each[:, other], (0.025, 0.975)) for each in differences]
    return all(low <= 0.0 <= high for low, high in bounds)


def _estimate(judged: Judged, objective: Objective, placement: PlacementRuns) -> Estimate:
    if objective.is_price:
        prices = [one.trial.last[objective.name] for one in placement.seed_runs if objective.name in one.trial.last]
        return estimate(prices) if prices else known(np.nan)
    if objective.name not in judged.estimates:
        return known(np.nan)
    found = judged.estimates[objective.name]
    values = [one.metrics[objective.name] for one in judged.candidate.evals]
    low, high = min([*values, found.mean]), max([*values, found.mean])
    return Estimate(found.mean, low, high, judged.seeds, found.low, found.high)


def _baseline(path: Path, objectives: tuple[Objective, ...], results: Sequence[PlacementResult]) -> PlacementResult:
    """Return the baseline's result: what it measured, and whether a placement dominates it."""
    measured = path.contenders[-1].candidate.evals[0].metrics
    values = [0.0 if one.is_price else measured.get(one.name, np.nan) for one in objectives]
    compared = [one for one in results if one.estimates]
    every = np.array([values, *([each.mean for each in one.estimates] for one in compared)])
    above = np.flatnonzero(dominance(as_costs(every, directions_of(objectives)))[:, 0])
    names = [compared[int(at) - 1].placement.label for at in above]
    reason = "no adapter: the reference" + (f"; dominated by {_listed(names)}" if names else "")
    return PlacementResult(path.placement, "baseline", not names, reason, tuple(known(one) for one in values))


def _reason(one: PlacementResult, above: Sequence[str], fit: Objective) -> str:
    assert one.candidate is not None and one.candidate.gain is not None and one.candidate.admissible is not None
    stated = f"{one.candidate.seeds_admissible} of {one.candidate.seeds} seeds meet the constraint at step "
    stated += f"{one.candidate.candidate.step}, a new one with probability {chance(one.candidate.admissible)}"
    if above:
        return f"dominated by {_listed(above)}; {stated}"
    gain = one.candidate.gain
    unsure = gain.low is not None and gain.low <= 0.0
    return (
        f"gains {gain.mean:.3g} {fit.name} over the baseline{', not separable from none' if unsure else ''}; {stated}"
    )


def _outside(gaining: Sequence[Judged], fit: Objective) -> str:
    """Return what an arm learned outside the constraint: where it fits best, and where it misses by the fewest rows."""
    best = max(gaining, key=lambda one: higher(np.array(one.estimates[fit.name].mean), fit))
    near = min(gaining, key=lambda one: one.rows_short or 0)
    nearest = "" if near.rows_short == best.rows_short else f"; nearest: {_learned(near, fit)}"
    return f"learned {_learned(best, fit)}{nearest}"


def _learned(one: Judged, fit: Objective) -> str:
    short = one.rows_short or 0
    rows = f"{short} row{'s' if short != 1 else ''} short"
    met = f"{one.seeds_admissible} of {one.seeds} seeds meet the constraint"
    where = one.candidate.name.removeprefix(f"{one.candidate.arm} @ ")
    return f"{fit.name} {one.estimates[fit.name].mean:.3g} at step {where}, {rows} ({met})"


def _no_gain(judged: Sequence[Judged], fit: Objective) -> str:
    best = max(judged, key=lambda one: higher(np.array(one.estimates[fit.name].mean), fit))
    gain = best.gain.mean if best.gain is not None else 0.0
    floor = best.estimates[fit.name].mean - (gain if fit.direction == "higher" else -gain)
    least = f", where {minimum_gain(fit):g} is the least that counts" if minimum_gain(fit) else ""
    return f"gains nothing over the baseline: {fit.name} {best.estimates[fit.name].mean:.3g} against {floor:.3g}{least}"


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
