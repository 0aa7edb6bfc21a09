"""Pareto dominance, for whoever compares trials: arrays in, arrays out. Every column is a cost: lower is better."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.probes.probe import Direction


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


def _finite(costs: np.ndarray) -> np.ndarray:
    return np.asarray(np.isfinite(costs).all(axis=1))
