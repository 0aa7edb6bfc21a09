"""How far the frontier reaches in draws of rows and seeds: attainment surfaces, and its hypervolume with an interval.

Every candidate that meets the constraint in a draw takes part in it, not only those that stand for a placement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.decision.judged import TAILS
from analysis.placement_results import FIT, Attained, AttainedEdge, Volume
from trainables.pareto import Objective, as_costs, attainment, directions_of, hypervolumes

SHARES = (TAILS[1], 0.5, TAILS[0])  # of the draws
MOST_POINTS = 60  # of one surface


def attained(fronts: Sequence[np.ndarray], objectives: Sequence[Objective]) -> Attained:
    """Return what the frontier reaches in 97.5 %, in half and in 2.5 % of the draws.

    Args:
        fronts: the frontier of each draw as costs, (points, 2).
        objectives: generality and fit.
    """
    surfaces = attainment(fronts, [100.0 * share for share in SHARES])
    return Attained(*(_reached(*one, objectives) for one in zip(SHARES, surfaces, strict=True)))


def _reached(share: float, costs: np.ndarray, objectives: Sequence[Objective]) -> AttainedEdge:
    points = as_costs(thinned(costs), directions_of(objectives))  # a cost negated again is the value
    return AttainedEdge(share, tuple((float(x), float(y)) for x, y in points))


def thinned(costs: np.ndarray) -> np.ndarray:
    """Return at most 60 points of a surface (points, 2), evenly along it; what they reach, the whole surface does."""
    ordered = costs[np.argsort(costs[:, 0])]
    if len(ordered) <= MOST_POINTS:
        return ordered
    size = np.maximum(np.ptp(ordered, axis=0), 1e-12)
    along = np.append(0.0, np.cumsum(np.abs(np.diff(ordered, axis=0) / size).sum(axis=1)))
    return ordered[np.unique(np.searchsorted(along, np.linspace(0.0, along[-1], MOST_POINTS)))]


def fit_beyond(one: AttainedEdge, x: float, objectives: Sequence[Objective]) -> float | None:
    """Return the best fit on a surface where the first objective is at least as good as `x`, None where none is."""
    first, fit = objectives[0], objectives[FIT]
    fits = [y for across, y in one.points if not first.better(x, across)]
    return (max if fit.direction == "higher" else min)(fits) if fits else None


def with_interval(volume: Volume, fronts: Sequence[np.ndarray], objectives: Sequence[Objective]) -> Volume:
    """Return the hypervolume with its 95 % interval over the draws; `fronts` are costs, (points, objectives) each."""
    reference = as_costs(np.array([volume.reference]), directions_of(objectives))[0]
    low, high = np.quantile(hypervolumes(fronts, reference), TAILS)
    return replace(volume, low=float(low), high=float(high))
