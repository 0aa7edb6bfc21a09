"""Pareto dominance of points, for whoever compares trials."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trainables.probes.probe import Direction


def non_dominated(points: Sequence[Sequence[float]], directions: Sequence[Direction]) -> list[bool]:
    """Say of every point whether no other is as good in all objectives and better in one; not finite is never on it."""
    signs = [-1.0 if direction == "higher" else 1.0 for direction in directions]
    costs = [[sign * value for sign, value in zip(signs, point, strict=True)] for point in points]
    finite = [all(map(math.isfinite, cost)) for cost in costs]
    return [
        own_finite
        and not any(other_finite and _dominates(other, own) for other, other_finite in zip(costs, finite, strict=True))
        for own, own_finite in zip(costs, finite, strict=True)
    ]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
