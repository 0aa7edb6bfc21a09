"""What could be concluded from a simulated sweep at best: by one who knows how its truth and its noise are drawn.

It knows the distribution of each arm's true values given its size, and the covariance of the measured means between
arms: that of shared rows, of seeds, and of answers at the true rates. It takes both for normal, so it is near the best
possible and not exactly it.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from benchmarks.decision_rules import Conclusions
from benchmarks.decision_worlds import (
    FIT_ROWS,
    FIT_SEED_DEVIATION,
    PASS_ROWS,
    PASS_SEED_DEVIATION,
    ROW,
    ROW_OF_ARM,
    SIZES,
    World,
    possible,
    quadrature,
    truths,
)

PRIOR_SWEEPS, DRAWS = 4000, 4000
NODES = 61  # of the quadrature over what two answers share


@cache
def prior() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, variance and maximum of the true fit and pass of each arm, (2, arms) each."""
    generator = np.random.default_rng(0)
    every = np.array([truths(generator) for _ in range(PRIOR_SWEEPS)])
    return every.mean(axis=0), every.var(axis=0), every.max(axis=0)


def oracle(one: World, generator: np.random.Generator) -> Conclusions:
    """Return draws of the truth given what was measured in a sweep with one eval of each trial."""
    seeds = one.seed_generality.shape[1]
    mean, variance, most = prior()
    measured = (
        (one.fit_rows, one.fit, FIT_ROWS, FIT_SEED_DEVIATION),
        (one.generality_rows, one.generality, PASS_ROWS, PASS_SEED_DEVIATION),
    )
    drawn = []
    for at, (rows, truth, count, deviation) in enumerate(measured):
        noise = _noise(possible(truth[:-1]), seeds, count) + np.eye(len(SIZES)) * deviation**2 / seeds
        before = np.diag(variance[at])
        pull = before @ np.linalg.inv(before + noise)
        centre = mean[at] + pull @ (rows.values[:-1].mean(axis=(1, 2)) - mean[at])
        draws = generator.multivariate_normal(centre, before - pull @ before, size=DRAWS)
        draws = np.minimum(draws, most[at])
        drawn.append(np.concatenate([draws, np.full((DRAWS, 1), truth[-1])], axis=1))
    return Conclusions(drawn[0], drawn[1], drawn[1])


def _noise(rates: np.ndarray, seeds: int, rows: int) -> np.ndarray:
    """Return the covariance between the measured means of arms that answer at these rates: (arms, arms)."""
    between = _both_right(rates, ROW) - np.outer(rates, rates)
    own = np.diag(_both_right(rates, ROW + ROW_OF_ARM)) - rates**2
    np.fill_diagonal(between, (rates * (1.0 - rates) + (seeds - 1) * own) / seeds)
    return between / rows


def _both_right(rates: np.ndarray, shared: float) -> np.ndarray:
    """Return how often two arms both answer right when this share of the latent's variance is common: (arms, arms)."""
    from scipy.special import ndtr, ndtri

    points, weights = quadrature(NODES)
    right = ndtr((ndtri(rates)[:, None] - np.sqrt(shared) * points) / np.sqrt(1.0 - shared))
    return (right * weights) @ right.T
