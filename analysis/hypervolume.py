"""Hypervolume and the frontier's edge: arrays in, arrays out. Every column is a cost: lower is better."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


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
