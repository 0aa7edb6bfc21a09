"""How probable it is that a candidate meets the constraint, and how many rows that takes at least."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from trainables.constraint import ROUNDING, Allowance

MOST_ROWS = 100_000


def room(
    allowances: Sequence[Allowance], limits: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Return how far draws are inside the constraint, by its tightest part; negative outside: (draws, candidates).

    Args:
        allowances: the parts of the constraint.
        limits: the baseline's draws of each metric, (draws, candidates).
        values: the candidates' draws of each metric, (draws, candidates).
    """
    parts = [-one.excess(limits[one.metric], values[one.metric]) for one in allowances]
    return np.min(parts, axis=0)


def probability(inside: np.ndarray, survivors: np.ndarray, stopped: np.ndarray) -> np.ndarray:
    """Return the probability that a new seed is admissible: (candidates,).

    Args:
        inside: how far the draws of seeds that reach the step are inside the constraint, (draws, candidates).
        survivors: the seeds that reached the step, (candidates,).
        stopped: the seeds that were stopped before it, (candidates,); they count as not admissible.
    """
    return (inside >= -ROUNDING).mean(axis=0) * survivors / np.maximum(survivors + stopped, 1)


def rows_short(allowances: Sequence[Allowance], baseline: Mapping[str, float], means: Mapping[str, float],
               rows: Mapping[str, int]) -> int:  # fmt: skip
    """Return by how many rows a candidate's means miss the constraint: the most of any metric, 0 where all are met."""
    short = [one.excess(baseline[one.metric], means[one.metric]) * rows[one.metric] for one in allowances]
    return max(0, *(math.ceil(one - 1e-6) for one in short))


def perfect_arm(rows: int, points: float) -> float:
    """Return the probability of being admissible that an arm without a single failure reaches on so many rows.

    Its failing share has the distribution Beta(1/2, rows + 1/2); the variance between seeds only lowers it.
    """
    from scipy.stats import beta

    return float(beta.cdf(points, 0.5, rows + 0.5))


def least_rows(level: float, points: float) -> int:
    """Return on how many rows an arm without a failure first reaches the level; fewer can never show it.

    Raises:
        ValueError: no number of rows is enough, for the constraint allows no drop at all.
    """
    if points <= 0 or not 0 < level < 1:
        raise ValueError(f"the level must lie in (0, 1) and the allowance above 0, but they are {level} and {points}")
    low, high = 1, MOST_ROWS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if perfect_arm(middle, points) >= level else (middle + 1, high)
    return low
