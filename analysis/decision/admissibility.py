"""How probable it is that a candidate meets the constraint, and how many rows short of it a candidate is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from trainables.constraint import ROUNDING, Allowance


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
