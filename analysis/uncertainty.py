"""Estimates over seeds: confidence intervals, and the probability of being on the frontier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.metrics import Direction
from trainables.pareto import as_costs, non_dominated

MINIMUM_SEEDS = 3
LEVEL = 0.95
RESAMPLES = 2000
GENERATOR_SEED = 20251028


@dataclass(frozen=True)
class Estimate:
    """One objective of one placement over its seeds, in the metric's unit.

    `low` and `high` bound the mean (95 % percentile bootstrap); None with fewer than three seeds.
    """

    mean: float
    minimum: float
    maximum: float
    seeds: int
    low: float | None = None
    high: float | None = None

    def overlaps(self, other: Estimate) -> bool | None:
        """Return True when the two intervals share a value; None when one of them is unknown."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return None
        return self.low <= other.high and other.low <= self.high


def estimate(values: Sequence[float]) -> Estimate:
    """Summarize the values of one objective, one per seed.

    Source: scipy.stats.bootstrap with the percentile method, whose interval stays within the values. BCa would divide
    by zero for three equal seeds.
    """
    sample = np.asarray(values, dtype=float)
    low = high = None
    if len(sample) >= MINIMUM_SEEDS:
        from scipy.stats import bootstrap

        result = bootstrap(
            (sample,),
            np.mean,
            confidence_level=LEVEL,
            n_resamples=RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(GENERATOR_SEED),
        )
        low, high = float(result.confidence_interval.low), float(result.confidence_interval.high)
    return Estimate(float(sample.mean()), float(sample.min()), float(sample.max()), len(sample), low, high)


def known(value: float) -> Estimate:
    """Return the estimate of a value that does not depend on the seed, such as the baseline's."""
    return Estimate(value, value, value, 1, value, value)


def greatest_coverage(seeds: int) -> float:
    """Return the highest coverage of the true median that an interval within the values of `seeds` seeds can have.

    All seeds fall on one side of the median with probability 2^(1 - seeds), so three seeds cover 75 % at most.
    """
    return 1.0 - 2.0 ** (1 - seeds)


def probability_on_frontier(
    samples: Sequence[np.ndarray],
    directions: Sequence[Direction],
    minimum_fit: np.ndarray,
    fit_column: int,
) -> np.ndarray:
    """Return how often each placement is on the frontier when its seeds are resampled: (placements,).

    Args:
        samples: per placement (seeds, objectives); with fewer than three seeds the mean is used in every resample.
        directions: per objective.
        minimum_fit: (placements,), the value that `fit_column` must exceed; NaN where there is none.
        fit_column: which objective is the task fit.
    """
    generator = np.random.default_rng(GENERATOR_SEED)
    means = np.stack([_resampled_means(sample, generator) for sample in samples], axis=1)
    costs = as_costs(means, directions)
    ceiling = minimum_fit * (-1.0 if directions[fit_column] == "higher" else 1.0)
    costs[costs[:, :, fit_column] >= ceiling] = np.nan
    return np.mean([non_dominated(draw) for draw in costs], axis=0)


def _resampled_means(sample: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Resample whole seeds, so that the objectives of one seed stay together: (resamples, objectives)."""
    if len(sample) < MINIMUM_SEEDS:
        return np.repeat(sample.mean(axis=0)[None], RESAMPLES, axis=0)
    drawn = generator.integers(len(sample), size=(RESAMPLES, len(sample)))
    return sample[drawn].mean(axis=1)
