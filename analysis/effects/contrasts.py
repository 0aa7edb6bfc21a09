"""Contrasts of a linear model, with intervals over the trials of all seeds and over rows together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.compare.difference import Difference
from analysis.compare.proportions import LEVEL, sign_flip_p
from analysis.effects.design import Design, Observation


def contrast(design: Design, weights: Mapping[str, float], metric: str, among: Sequence[Observation]) -> Difference:
    """Estimate a combination of the coefficients of an ordinary least-squares model of one metric.

    The interval adds two variances: that of the trials around the model (t with the residual degrees of freedom), and
    that of the rows, which all trials share: the contrast is a weighted sum of trials, so each row has a contrast of
    its own, and its variance over rows is that of other rows.

    Args:
        design: the model.
        weights: the factor of each named column; the others count 0.
        metric: what is modelled.
        among: the trials, in the order of the rows of the design.
    """
    from scipy.stats import t

    outcome = np.array([one.last.metrics[metric] for one in among])
    inverse = np.linalg.pinv(design.matrix)
    direction = np.array([weights.get(name, 0.0) for name in design.columns])
    of_trials = direction @ inverse  # (trials,): the contrast is this sum of the outcomes
    estimate = float(of_trials @ outcome)
    freedom = len(among) - np.linalg.matrix_rank(design.matrix)
    residuals = outcome - design.matrix @ (inverse @ outcome)
    seeds_half = math.inf
    if freedom > 0:
        variance = float(residuals @ residuals) / freedom * float(of_trials @ of_trials)
        seeds_half = float(t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance)
    by_row = row_contrasts(of_trials, metric, among)
    return combined(estimate, by_row, seeds_half, len({one.seed for one in among}))


def row_contrasts(of_trials: np.ndarray, metric: str, among: Sequence[Observation]) -> np.ndarray | None:
    """Return the contrast of each row that all trials answered, (rows,); None where there are fewer than three."""
    if not all(metric in one.last.rows for one in among):
        return None
    results = [one.last.rows[metric] for one in among]
    common = sorted(set.intersection(*(set(one.values) for one in results)))
    if len(common) < 3:
        return None
    weights = np.array([results[0].weights.get(row, 1.0) for row in common])
    values = np.array([[one.values[row] for row in common] for one in results])
    return (of_trials @ values) * weights / weights.mean()


def combined(estimate: float, by_row: np.ndarray | None, seeds_half: float, seeds: int) -> Difference:
    """Return an estimate with an interval over rows and seeds; without results by row it is over seeds alone."""
    from scipy.stats import t

    rows_half, p, rows = 0.0, math.nan, 0
    if by_row is not None:
        rows = len(by_row)
        rows_half = float(t.ppf((1 + LEVEL) / 2, rows - 1)) * float(by_row.std(ddof=1)) / math.sqrt(rows)
        p = sign_flip_p(by_row)
    half = math.hypot(rows_half, seeds_half)
    return Difference(estimate, 0.0, estimate - half, estimate + half, p, rows, seeds, seeds, rows_half, seeds_half)
