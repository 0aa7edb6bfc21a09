"""Tests and intervals for the difference of two paired proportions, over one seed or several."""

from __future__ import annotations

import math

import numpy as np

LEVEL = 0.95
RESAMPLES = 9_999
GENERATOR_SEED = 20261128


def normal_quantile(level: float = LEVEL) -> float:
    """Return the two-sided quantile of the normal distribution, 1.96 at 95 %."""
    from scipy.stats import norm

    return float(norm.ppf((1 + level) / 2))


def sign_flip_p(differences: np.ndarray) -> float:
    """Return the two-sided p of the paired differences of rows (rows,), under "A and B are equal on every row".

    With one seed and answers right or wrong this is McNemar's exact test. With several seeds a row's difference is the
    mean over them, and its sign is flipped as a whole, so that the answers of several seeds to one row do not count as
    several rows: by all flips (scipy.stats.permutation_test) for few rows, else by random ones (monte_carlo_test).
    """
    from scipy.stats import binomtest, monte_carlo_test, permutation_test

    decisive = differences[differences != 0]
    if not len(decisive):
        return 1.0
    if np.allclose(np.abs(decisive), abs(decisive[0])):
        return float(binomtest(int((decisive > 0).sum()), len(decisive), 0.5).pvalue)
    if 2 ** len(decisive) <= RESAMPLES:  # all of them, exactly
        return float(permutation_test((decisive,), np.sum, permutation_type="samples", vectorized=True).pvalue)
    rng = np.random.default_rng(GENERATOR_SEED)

    def flipped(size: tuple[int, ...]) -> np.ndarray:
        return rng.choice((-1.0, 1.0), size=size) * decisive

    return float(monte_carlo_test(decisive, flipped, np.sum, vectorized=True, n_resamples=RESAMPLES).pvalue)


def newcombe_interval(a: np.ndarray, b: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return the interval of the difference of two paired proportions, mean(a) - mean(b).

    Args:
        a: (rows,), the share of seeds in which the row is a success; 0 and 1 with one seed.
        b: (rows,), the same for the other one, on the same rows.
        level: the coverage.

    Source: Newcombe, Statistics in Medicine 17 (1998), 2635-2650, method 10: the Wilson limits of both proportions are
    squared and added with the correlation of the pairs. With several seeds a row's mean varies less than one answer
    does; the Wilson limits then count as many rows as give the same variance.
    """
    z = normal_quantile(level)
    below_a, above_a = _distances(a, z)
    below_b, above_b = _distances(b, z)
    correlation = _correlation(a, b)
    difference = float(a.mean() - b.mean())
    low = below_a**2 - 2 * correlation * below_a * above_b + above_b**2
    high = above_a**2 - 2 * correlation * above_a * below_b + below_b**2
    return difference - math.sqrt(max(low, 0.0)), difference + math.sqrt(max(high, 0.0))


def _distances(shares: np.ndarray, z: float) -> tuple[float, float]:
    """Return the distances of the Wilson limits below and above the mean of `shares` (rows,)."""
    share, variance, rows = float(shares.mean()), float(shares.var()), len(shares)
    effective = rows * share * (1 - share) / variance if variance > 0 else float(rows)
    center = (share + z**2 / (2 * effective)) / (1 + z**2 / effective)
    half = z / (1 + z**2 / effective) * math.sqrt(share * (1 - share) / effective + z**2 / (4 * effective**2))
    return share - (center - half), center + half - share


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the correlation of the pairs with Newcombe's correction for continuity; 0 where one never varies."""
    rows, spread = len(a), float(a.std() * b.std())
    if spread == 0:
        return 0.0
    covariance = float((a * b).mean() - a.mean() * b.mean())
    if covariance > 0:
        covariance = max(covariance - 1 / (2 * rows), 0.0)
    return covariance / spread
