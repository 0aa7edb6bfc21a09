"""What is known of each candidate: expected values with intervals, gain, admissibility, place on the frontier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.candidates import Candidate, SeedEval
from analysis.decision.admissibility import rows_short
from analysis.decision.evidence import Contender, DrawnCandidates
from analysis.decision.pooled import draw_weights, pooled
from analysis.decision.pooled import weighted_mean as mean_of_measured
from trainables.constraint import Constraint
from trainables.pareto import Objective, as_costs, directions_of, share_on_frontier
from trainables.probes.metric import Proportion

TAILS = (0.025, 0.975)
MINIMUM_LOSS_GAIN = 0.05  # nats a token: less is not learning


@dataclass(frozen=True)
class Interval:
    """The expected value of a metric over rows and seeds, with its 95 % interval; without one it is not known."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Judged:
    """A candidate and what is known of it; what is not known is None.

    `estimates` holds the fit, the generality, the constraint's metrics and every further one that was asked for, over
    rows and seeds; seeds stopped before its step count with their last eval. `gain` is the fit over the baseline's on
    the same rows, positive when better. `admissible` is the probability that one new seed meets the constraint at this
    step, `seeds_admissible` how many of the seeds' own evals meet it, of `seeds`. `rows_short` is by how many rows the
    mean misses the constraint, 0 where it meets it. `on_frontier` is the probability that no other candidate that meets
    the constraint is better in fit and generality.
    """

    contender: Contender
    estimates: Mapping[str, Interval]
    gain: Interval | None
    admissible: float | None
    seeds_admissible: int
    seeds: int
    rows_short: int | None
    on_frontier: float | None

    @property
    def candidate(self) -> Candidate:
        """Return the candidate."""
        return self.contender.candidate

    @property
    def name(self) -> str:
        """Return the candidate's name, `C2 @ 60`."""
        return self.candidate.name


def interval_of_draws(mean: float, draws: np.ndarray, is_proportion: bool) -> Interval:
    """Return the mean with the 95 % interval of its draws; a proportion's stays in [0, 1] and holds the mean."""
    low, high = np.quantile(draws, TAILS)
    if is_proportion:
        low, high = np.clip((low, high), 0.0, 1.0)
    return Interval(mean, min(float(low), mean), max(float(high), mean))


def interval_of_proportion(mean: float, rows: int) -> Interval:
    """Return a share of so many rows with its 95 % binomial interval (Wilson's, by scipy)."""
    from scipy.stats import binomtest

    found = binomtest(round(mean * rows), rows).proportion_ci(TAILS[1] - TAILS[0], method="wilson")
    return Interval(mean, min(float(found.low), mean), max(float(found.high), mean))


def higher(values: np.ndarray, objective: Objective) -> np.ndarray:
    """Return values of which higher is better."""
    return values if objective.direction == "higher" else -values


def minimum_gain(fit: Objective) -> float:
    """Return the gain that a candidate must exceed to have learned: 0, and for a loss 0.05 nats a token."""
    return MINIMUM_LOSS_GAIN if fit.unit == "nats/token" else 0.0


def gains(one: Judged, fit: Objective) -> bool:
    """True when the candidate has learned something over its baseline."""
    return one.gain is not None and one.gain.mean > minimum_gain(fit)


def shows_gain(one: Judged, fit: Objective) -> bool:
    """True when the interval of the gain over the baseline is above the minimum: the base alone is told apart."""
    return one.gain is not None and one.gain.low is not None and one.gain.low > minimum_gain(fit)


def judge(
    found: DrawnCandidates, fit: Objective, generality: Objective, constraint: Constraint, also: Sequence[str] = ()
) -> list[Judged]:
    """Return what the evidence says of each contender, in order."""
    frontier = probability_on_frontier(found, (generality, fit))
    estimates = _estimates(found, also)
    gained = higher(found.draws[fit.name].expected - found.baselines[fit.name], fit)
    judged = []
    for at, one in enumerate(found.contenders):
        assert one.baseline is not None
        base, means = _means(one.baseline, found), {name: each.mean for name, each in estimates[at].items()}
        gain = (means[fit.name] - base[fit.name]) * (1.0 if fit.direction == "higher" else -1.0)
        rows = {name: len(one.candidate.evals[0].rows[name].values) for name in constraint.needs}
        judged.append(
            Judged(
                contender=one,
                estimates=estimates[at],
                gain=interval_of_draws(gain, gained[:, at], is_proportion=False),
                admissible=float(found.admissible[at]),
                seeds_admissible=_seeds_admissible(one, constraint),
                seeds=len(one.candidate.evals) + len(one.candidate.stopped),
                rows_short=rows_short(constraint.allowances, base, means, rows),
                on_frontier=float(frontier[at]),
            )
        )
    return judged


def judged_without_rows(one: Contender, names: Sequence[str], fit: Objective, constraint: Constraint) -> Judged:
    """Return what is known of a contender whose record has no results by row: means, and intervals of proportions."""
    evals = one.candidate.evals
    measured = [name for name in dict.fromkeys(names) if all(name in each.metrics for each in evals)]
    means = {name: math.fsum(each.metrics[name] for each in evals) / len(evals) for name in measured}
    rows = {name: counts.rows for name in measured if (counts := _counts(one.candidate, name)) is not None}
    intervals = {
        name: interval_of_proportion(mean, rows[name]) if name in rows else Interval(mean)
        for name, mean in means.items()
    }
    base = None if one.baseline is None else one.baseline.evals[0].metrics
    gain = short = None
    if base is not None and fit.name in means and fit.name in base:
        gain = Interval((means[fit.name] - base[fit.name]) * (1.0 if fit.direction == "higher" else -1.0))
    if base is not None and all(name in rows for name in constraint.needs):
        short = rows_short(constraint.allowances, base, means, rows)
    return Judged(
        contender=one,
        estimates=intervals,
        gain=gain,
        admissible=None,
        seeds_admissible=_seeds_admissible(one, constraint),
        seeds=len(evals) + len(one.candidate.stopped),
        rows_short=short,
        on_frontier=None,
    )


def probability_on_frontier(found: DrawnCandidates, objectives: Sequence[Objective]) -> np.ndarray:
    """Return how often each contender is on the frontier of the draws, with the baselines: (contenders,)."""
    columns = range(len(found.contenders))
    return share_on_frontier(costs_of_draws(found, objectives, columns))[: len(columns)]


def costs_of_draws(found: DrawnCandidates, objectives: Sequence[Objective], columns: Sequence[int]) -> np.ndarray:
    """Return the draws' costs of some contenders and then of all baselines: (draws, points, objectives).

    A contender whose mean over seeds is outside the constraint in a draw has NaN there: it is not compared.
    """
    directions = directions_of(objectives)
    count = len(columns)
    mine = list(columns)
    values = np.stack([found.draws[one.name].expected[:, mine] for one in objectives], axis=-1)
    base = np.stack([found.baselines[one.name] for one in objectives], axis=-1)
    _, first = np.unique([id(one.baseline) for one in found.contenders], return_index=True)
    costs = as_costs(np.concatenate([values, base[:, first]], axis=1), directions)
    costs[:, :count][found.expected_inside[:, mine] < 0] = np.nan
    return costs


def _estimates(found: DrawnCandidates, also: Sequence[str]) -> list[dict[str, Interval]]:
    count = len(found.contenders)
    every: list[dict[str, Interval]] = [{} for _ in range(count)]
    for name, one in found.arrays.items():
        means = mean_of_measured(one.row_means, one.row_weights)
        for at in range(count):
            draws = found.own[name].expected[:, at]
            every[at][name] = interval_of_draws(float(means[at]), draws, one.is_proportion)
    for name in also:
        for at, one in enumerate(found.contenders):
            if name not in every[at] and (estimate := measured_alone(one.candidate, name)) is not None:
                every[at][name] = estimate
    return every


def measured_alone(one: Candidate, name: str) -> Interval | None:
    """Return a metric of a candidate, compared with no other: with an interval where every seed has its rows."""
    from analysis.decision.evidence import row_array

    if any(name not in each.metrics for each in one.evals):
        return None
    mean = math.fsum(each.metrics[name] for each in one.evals) / len(one.evals)
    if any(name not in each.rows for each in one.evals):
        return Interval(mean)
    rows = row_array([[each.rows[name] for each in one.evals]])
    draws = pooled(rows, draw_weights(rows), np.zeros(1, dtype=int), np.zeros(1, dtype=bool))
    return interval_of_draws(mean, draws.expected[:, 0], rows.is_proportion)


def _means(candidate: Candidate, found: DrawnCandidates) -> dict[str, float]:
    evals = candidate.evals
    return {name: math.fsum(one.rows[name].mean for one in evals) / len(evals) for name in found.arrays}


def _counts(candidate: Candidate, name: str) -> Proportion | None:
    return candidate.evals[0].measured.counts.get(name)


def _seeds_admissible(one: Contender, constraint: Constraint) -> int:
    if one.baseline is None:
        return 0
    base = _of_rows(one.baseline.evals[0])
    return sum(constraint.admits(base, _of_rows(each)) for each in one.candidate.evals)


def _of_rows(one: SeedEval) -> dict[str, float]:
    """Return the metrics of an eval, on all rows that the candidate is compared on."""
    return {**one.metrics, **{name: each.mean for name, each in one.rows.items()}}
