"""The pooled estimator: draws of what candidates score on other rows and with other seeds.

Each draw weights the rows at random (the Bayesian bootstrap; Rubin 1981, Annals of Statistics 9:130), by the same
weights for every candidate, so that comparisons are paired on rows. A proportion has half a passing and half a failing
row more, inside the weights (Jeffreys' prior), so that 10 of 10 is not certain. The mean over an arm's seeds varies by
the variance between seeds, which is pooled over arms, with a weak prior that stands for it at one seed; the part of
that variance that comes from the rows is taken off, for the weights have it already.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DRAWS = 2000
GENERATOR_SEED = 20261128
PRIOR_SEED_DEVIATION = 0.03  # of a proportion, between seeds of one arm
PRIOR_FREEDOM = 6


@dataclass(frozen=True)
class RowArray:
    """The results of one metric: `values` (candidates, seeds, rows), NaN where a row was not measured.

    `rows` are the ids of the rows, `row_weights` (rows,) how much each counts (supervised tokens, for a loss).
    """

    rows: tuple[str, ...]
    values: np.ndarray
    row_weights: np.ndarray
    is_proportion: bool

    @property
    def seed_means(self) -> np.ndarray:
        """Return the mean over rows of each seed: (candidates, seeds), NaN where a seed was not measured."""
        return weighted_mean(self.values, self.row_weights)

    @property
    def row_means(self) -> np.ndarray:
        """Return the mean over seeds of each row: (candidates, rows), NaN where no seed was measured."""
        measured = ~np.isnan(self.values)
        total = np.where(measured, self.values, 0.0).sum(axis=1)
        return np.divide(total, measured.sum(axis=1), out=np.full(total.shape, np.nan), where=measured.any(axis=1))


@dataclass(frozen=True)
class Draws:
    """Draws of one metric: `expected` (draws, candidates) over rows and seeds, and `seed_deviation` (draws,).

    `seed_deviation` is the standard deviation between the seeds of one arm.
    """

    expected: np.ndarray
    seed_deviation: np.ndarray

    def new_seed(self, generator: np.random.Generator) -> np.ndarray:
        """Return draws of what one new seed of each candidate's arm scores: (draws, candidates)."""
        return self.expected + self.seed_deviation[:, None] * generator.standard_normal(self.expected.shape)


@dataclass(frozen=True)
class Weights:
    """The weights of the rows in each draw: `rows` (draws, rows), `passing` and `failing` (draws,) of the half rows."""

    rows: np.ndarray
    passing: np.ndarray
    failing: np.ndarray

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return the weighted means of `values` (series, rows) with the half rows: (draws, series); NaN is left out."""
        measured = ~np.isnan(values)
        total = self.rows @ np.where(measured, values, 0.0).T + self.passing[:, None]
        return total / (self.rows @ measured.T + (self.passing + self.failing)[:, None])

    def on(self, mine: tuple[str, ...], rows: tuple[str, ...]) -> Weights:
        """Return the weights of some of the rows; `mine` are the ids of all, `rows` those that are wanted."""
        at = {row: i for i, row in enumerate(mine)}
        return Weights(self.rows[:, [at[row] for row in rows]], self.passing, self.failing)

    def means_alone(self, values: np.ndarray) -> np.ndarray:
        """Return the weighted means without the half rows, for a limit that must not move by them: (draws, series)."""
        measured = ~np.isnan(values)
        return (self.rows @ np.where(measured, values, 0.0).T) / (self.rows @ measured.T)


def weighted_mean(values: np.ndarray, row_weights: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of what was measured; NaN where nothing was."""
    weights = np.where(np.isnan(values), 0.0, row_weights)
    total = (np.nan_to_num(values) * weights).sum(axis=-1)
    return np.divide(total, weights.sum(axis=-1), out=np.full(total.shape, np.nan), where=weights.sum(axis=-1) > 0)


def draw_weights(one: RowArray, draws: int = DRAWS) -> Weights:
    """Draw the weights of the rows; two metrics on the same rows get the same weights."""
    generator = np.random.default_rng([GENERATOR_SEED, *_key(one.rows)])
    half = generator.gamma(0.5, size=(draws, 2)) * float(one.is_proportion)
    rows = generator.standard_gamma(1.0, size=(draws, len(one.rows))) * one.row_weights
    return Weights(rows, half[:, 0], half[:, 1])


def _key(rows: tuple[str, ...]) -> list[int]:
    from hashlib import sha256

    return list(sha256("\n".join(rows).encode()).digest()[:8])


def pooled(one: RowArray, weights: Weights, arms: np.ndarray, is_fixed: np.ndarray, stream: int = 0) -> Draws:
    """Draw the expected values of all candidates.

    Args:
        one: the results of a metric.
        weights: the weights of its rows in each draw.
        arms: (candidates,) of int: candidates of one arm share their seeds.
        is_fixed: (candidates,) of bool: true for a baseline, which no seed changes.
        stream: which random numbers the seeds' part uses; another one for each metric.
    """
    draws = len(weights.rows)
    generator = np.random.default_rng([GENERATOR_SEED, stream])
    squares, freedom = seed_variation(one, arms, is_fixed)
    prior = prior_seed_deviation(one)
    pooled_freedom = freedom + PRIOR_FREEDOM
    variance = (squares + PRIOR_FREEDOM * prior**2) / generator.chisquare(pooled_freedom, size=draws)
    seeds = np.maximum((~np.isnan(one.seed_means)).sum(axis=1), 1)
    noise = np.sqrt(variance[:, None] / seeds) * generator.standard_normal((draws, len(seeds)))
    noise -= noise.mean(axis=0)  # so that candidates with equal results have equal means
    return Draws(weights.means(one.row_means) + np.where(is_fixed, 0.0, noise), np.sqrt(variance))


def prior_seed_deviation(one: RowArray) -> float:
    """Return the prior of the deviation between seeds: 0.03 of a proportion, else 3 % of the candidates' range."""
    if one.is_proportion:
        return PRIOR_SEED_DEVIATION
    means = one.seed_means[~np.isnan(one.seed_means)]
    return PRIOR_SEED_DEVIATION * float(np.ptp(means)) if len(means) else 0.0


def seed_variation(one: RowArray, arms: np.ndarray, is_fixed: np.ndarray) -> tuple[float, float]:
    """Return the sum of squares between seeds, without what their rows explain, and its degrees of freedom.

    The evals of an arm repeat the same seeds, so its candidates count as one, by their mean.
    """
    means = one.seed_means
    freedom = np.maximum((~np.isnan(means)).sum(axis=1) - 1, 0)
    several = (freedom > 0) & ~is_fixed
    if not several.any():
        return 0.0, 0.0
    between = np.nansum((means - _mean(means)[:, None]) ** 2, axis=1)
    left = np.where(several, between - freedom * _row_noise(one), 0.0)
    found = [(left[mine].mean(), freedom[mine].mean()) for mine in _of_arms(arms, several)]
    return max(0.0, float(sum(square for square, _ in found))), float(sum(free for _, free in found))


def _of_arms(arms: np.ndarray, several: np.ndarray) -> list[np.ndarray]:
    return [(arms == arm) & several for arm in np.unique(arms[several])]


def _mean(values: np.ndarray) -> np.ndarray:
    measured = ~np.isnan(values)
    return np.nansum(values, axis=1) / np.maximum(measured.sum(axis=1), 1)


def _row_noise(one: RowArray) -> np.ndarray:
    """Return the variance of one seed's mean that its rows explain: (candidates,)."""
    measured = ~np.isnan(one.values)
    count = measured.sum(axis=1)
    deviation = np.where(measured, one.values - one.row_means[:, None, :], 0.0)
    variance = (deviation**2).sum(axis=1) / np.maximum(count - 1, 1)
    weights = np.where(count > 1, one.row_weights, 0.0)
    return (weights**2 * variance).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-12) ** 2
