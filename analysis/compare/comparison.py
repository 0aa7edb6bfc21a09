"""Compares two candidates on every metric with results by row, as a whole and by group of row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.candidates import FULL_STRENGTH, Candidate
from analysis.compare.difference import (
    MARGIN,
    Difference,
    SeedSpread,
    Verdict,
    difference,
    needed_text,
    pooled_spread,
    verdict_of,
)
from analysis.compare.selection import Side, shared_rows
from trainables.errors import UserError
from trainables.metrics import METRICS, Metric


@dataclass(frozen=True)
class MetricComparison:
    """One metric, of all rows or of one `group` of them; `left_out` counts rows that only some evals answered."""

    metric: Metric
    group: str
    found: Difference
    left_out: int
    margin: float
    baseline: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Return whether the difference is separable, equivalent within the margin, or undecided."""
        return verdict_of(self.found, self.margin)

    @property
    def better(self) -> str:
        """Return `A` or `B` where the difference is separable from none, otherwise nothing."""
        if self.verdict != "separable":
            return ""
        return "A" if (self.found.mean > 0) == (self.metric.direction == "higher") else "B"

    @property
    def what_decides(self) -> str:
        """Return the rows or seeds that would decide the difference; empty where it is decided."""
        return needed_text(self.found, self.margin)


@dataclass(frozen=True)
class CandidateComparison:
    """Two candidates on the same rows: the fit, then every other metric, then those with groups by group.

    `unknown` are sentences about what the records do not tell.
    """

    a: Side
    b: Side
    fit: str
    margin: float
    metrics: tuple[MetricComparison, ...]
    groups: tuple[MetricComparison, ...]
    unknown: tuple[str, ...] = field(default=())


def compare(
    a: Side, b: Side, pool: Sequence[Candidate], fit: str, groups: Mapping[str, str], margin: float = MARGIN
) -> CandidateComparison:
    """Compare two candidates.

    Args:
        a: the one side.
        b: the other side.
        pool: the candidates of which the variance of seeds is pooled, those of both experiments.
        fit: the metric that comes first.
        groups: the group of an out-of-distribution row by its id; rows without one are absent.
        margin: the largest difference that counts as none.

    Raises:
        UserError: both sides are one candidate, or they have no row in common.
    """
    _check_sides(a, b)
    evals = (*a.candidate.evals, *b.candidate.evals)
    names = _by_row(evals[0].rows.keys() | evals[-1].rows.keys(), fit)
    whole = [_compared(name, "", None, a, b, pool, margin) for name in names]
    found = [one for one in whole if one is not None]
    if names and not found:
        raise UserError(
            f"A and B must have answered a row in common, but {a.candidate.name} and {b.candidate.name} have none",
            "compare candidates that were measured on the same --val and --ood",
        )
    parts = [
        _compared(name, group, frozenset(row for row, its in groups.items() if its == group), a, b, pool, margin)
        for name in names
        for group in sorted(set(groups.values()))
    ]
    unknown = (*_unknown_seeds(a, b, pool), *_unknown_rows(a, b, names), *_stopped(a), *_stopped(b))
    return CandidateComparison(a, b, fit, margin, tuple(found), tuple(one for one in parts if one is not None), unknown)


def _check_sides(a: Side, b: Side) -> None:
    ids_a, ids_b = ({(one.trial.run_id, one.measured.step, one.measured.scale) for one in side.candidate.evals}
                    for side in (a, b))  # fmt: skip
    if ids_a & ids_b:
        raise UserError(
            f"A and B must be two candidates, but both are {a.candidate.name}"
            if ids_a == ids_b
            else f"A and B must share no trial, but {a.given} and {b.given} do",
            "name another arm, step or trial",
        )


def _by_row(names: Iterable[str], fit: str) -> list[str]:
    known = [name for name in METRICS if name in set(names)]
    return sorted(known, key=lambda name: name != fit)  # stable: the others keep the order of the table


def _compared(
    name: str, group: str, within: frozenset[str] | None, a: Side, b: Side, pool: Sequence[Candidate], margin: float
) -> MetricComparison | None:  # fmt: skip
    shared = shared_rows(name, (*a.candidate.evals, *b.candidate.evals))
    rows = [row for row in shared.rows if within is None or row in within]
    if not rows:
        return None
    weights = a.candidate.evals[0].rows[name].weights
    counted = np.array([weights.get(row, 1.0) if weights else 1.0 for row in rows])
    spread = _spread(name, rows, pool, (a.candidate.step, b.candidate.step))
    found = difference(
        _results(name, rows, a.candidate), _results(name, rows, b.candidate), counted, spread,
        (a.is_baseline, b.is_baseline),
    )  # fmt: skip
    left_out = shared.left_out if within is None else 0
    return MetricComparison(METRICS[name], group, found, left_out, margin, _baseline(name, rows, counted, a.baseline))


def _results(name: str, rows: Sequence[str], candidate: Candidate) -> np.ndarray:
    return np.array([[one.rows[name].values[row] for row in rows] for one in candidate.evals])


def _baseline(name: str, rows: Sequence[str], weights: np.ndarray, baseline: Candidate | None) -> float | None:
    kept = baseline.evals[0].rows.get(name) if baseline else None
    if kept is None or any(row not in kept.values for row in rows):
        return None
    return float(np.average([kept.values[row] for row in rows], weights=weights))


def _spread(
    name: str, rows: Sequence[str], pool: Sequence[Candidate], steps: tuple[int, int]
) -> SeedSpread | None:  # fmt: skip
    """Pool the variance of seeds over the candidates at these steps that answered all of `rows`."""
    asked = [one for one in pool if one.step in steps and one.scale == FULL_STRENGTH]
    whole = [one for one in asked if all(name in e.rows and set(rows) <= e.rows[name].values.keys() for e in one.evals)]
    return pooled_spread([_results(name, rows, one).mean(axis=1) for one in whole])


# ------------------------------------------------------------------- what is not known
def _unknown_seeds(a: Side, b: Side, pool: Sequence[Candidate]) -> list[str]:
    repeated = any(len(one.evals) > 1 for one in pool if one.step in (a.candidate.step, b.candidate.step))
    if repeated:
        return []
    return ["No arm has two seeds: the intervals hold for these adapters, not for other seeds of the arms."]


def _unknown_rows(a: Side, b: Side, names: Sequence[str]) -> list[str]:
    evals = (*a.candidate.evals, *b.candidate.evals)
    if not names:
        return ["These records are of an earlier version and hold no results by row, so nothing can be paired."]
    both = set(evals[0].metrics) & set(evals[-1].metrics)
    without = [name for name in METRICS if name in both and name not in names and METRICS[name].unit == "fraction"]
    return [f"No results by row, so not compared: {', '.join(without)}."] if without else []


def _stopped(side: Side) -> list[str]:
    stopped, reached = side.candidate.stopped, len(side.candidate.evals)
    if not stopped:
        return []
    return [
        f"{side.candidate.name} is the mean of {reached} of {reached + len(stopped)} seeds: "
        f"{', '.join(stopped)} ended before this step, so what is compared are the survivors."
    ]
