"""Dominance and hypervolume: arrays in, arrays out. Every column is a cost: lower is better."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from trainables.metrics import Direction


def as_costs(values: np.ndarray, directions: Sequence[Direction]) -> np.ndarray:
    """Turn values (points, objectives) into costs: objectives where higher is better change their sign."""
    return np.asarray(values, dtype=float) * np.array([-1.0 if one == "higher" else 1.0 for one in directions])


def dominance(costs: np.ndarray) -> np.ndarray:
    """Return which point dominates which: (points, points), true where the row's point dominates the column's.

    One dominates another when it is nowhere worse and somewhere better; a point that is not finite in every
    objective dominates none and is dominated by none.
    """
    finite = _finite(costs)
    one, other = costs[:, None, :], costs[None, :, :]
    dominates = np.logical_and((one <= other).all(axis=2), (one < other).any(axis=2))
    return dominates & finite[:, None] & finite[None, :]


def non_dominated(costs: np.ndarray) -> np.ndarray:
    """Return which points lie on the frontier: (points,) of bool; equal points lie on it together.

    A point that is not finite in every objective is never on it.
    """
    return np.logical_and(_finite(costs), ~dominance(costs).any(axis=0))


def hypervolume(costs: np.ndarray, reference: np.ndarray) -> float:
    """Return the volume dominated by `costs` (points, objectives) and bounded by `reference` (objectives,).

    Slices along the last objective and sums the volumes below; exact, and meant for the tens of points of a sweep.
    Source: While, Hingston, Barone & Huband 2006, "A faster algorithm for calculating hypervolume" (HSO).
    """
    inside = costs[(costs < reference).all(axis=1)]
    if len(inside) == 0:
        return 0.0
    if inside.shape[1] == 1:
        return float(reference[0] - inside.min())
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    depths = np.diff(np.append(inside[:, -1], reference[-1]))
    below = (hypervolume(inside[: i + 1, :-1], reference[:-1]) for i in range(len(inside)) if depths[i] > 0)
    return float(sum(depth * area for depth, area in zip(depths[depths > 0], below, strict=True)))


def staircase(costs: np.ndarray) -> np.ndarray:
    """Return the edge of what the non-dominated points (points, 2) dominate, as a polyline (corners, 2) in costs."""
    ordered = np.unique(costs, axis=0)
    corners = [ordered[0]]
    for previous, point in pairwise(ordered):
        corners += [np.maximum(previous, point), point]
    return np.array(corners)


def _finite(costs: np.ndarray) -> np.ndarray:
    return np.asarray(np.isfinite(costs).all(axis=1))
