"""The rule that picks one of several candidates, on arrays in which higher is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from analysis.pooled import GENERATOR_SEED, RowArray, weighted_mean

CONFIDENCE = 0.95
RESAMPLES = 200
LEAST_DEVIATION = 1e-9


@dataclass(frozen=True)
class Choice:
    """Indices of candidates: the one with the best fit at the level, those not separable from it, the picked one.

    `separation` is by how many standard deviations of their difference a candidate must be behind to be separable.
    """

    best: int
    alike: tuple[int, ...]
    picked: int
    separation: float


def choose(fit: np.ndarray, generality: np.ndarray, at_level: np.ndarray, prices: np.ndarray) -> Choice | None:
    """Pick the most general, then the cheapest, of those not separable from the best fit; None if none is at the level.

    A difference from the best is judged together with all others (multiple comparisons with the best, by the largest
    standardized deviation in each draw; Hsu 1984, Annals of Statistics 12:1136), so every further candidate counts.

    Args:
        fit: draws of the expected task fit, (draws, candidates), higher is better.
        generality: draws of the expected generality, (draws, candidates), higher is better.
        at_level: which candidates are admissible with the required probability, (candidates,).
        prices: what each costs, (candidates,); infinity where it is not known.
    """
    among = np.flatnonzero(at_level)
    if not len(among):
        return None
    best = int(among[np.argmax(fit[:, among].mean(axis=0))])
    behind = fit[:, [best]] - fit[:, among]
    mean, deviation = behind.mean(axis=0), np.maximum(behind.std(axis=0), LEAST_DEVIATION)
    separation = float(np.quantile(((mean - behind) / deviation).max(axis=1), CONFIDENCE))
    alike = among[mean <= separation * deviation]
    general = np.round(generality[:, alike].mean(axis=0), 9)
    order = np.lexsort((prices[alike], -general))
    return Choice(best, tuple(int(one) for one in alike), int(alike[order[0]]), separation)


def corrected(
    arrays: Mapping[str, RowArray], select: Callable[[Mapping[str, np.ndarray]], int | None]
) -> dict[str, float]:
    """Return what the choice is worth on rows that did not choose it, by metric; empty if no resample could show it.

    The rows are resampled, the choice is made on those drawn and scored on those left out (the bootstrap bias
    correction of Tsamardinos et al. 2018, Machine Learning 107:1895). Every candidate that could be chosen counts.

    Args:
        arrays: the results of each metric.
        select: from the mean of each candidate, by metric (candidates,), to the chosen candidate, None for none.
    """
    generator = np.random.default_rng(GENERATOR_SEED)
    means = {name: one.row_means for name, one in arrays.items()}
    found: dict[str, list[float]] = {name: [] for name in arrays}
    for _ in range(RESAMPLES):
        counts = _counts(arrays, generator)
        chosen = select({name: weighted_mean(means[name], counts[name] * one.row_weights)
                         for name, one in arrays.items()})  # fmt: skip
        if chosen is None:
            continue
        for name, one in arrays.items():
            left_out = weighted_mean(means[name][chosen], (counts[name] == 0) * one.row_weights)
            found[name].append(float(left_out))
    return {name: float(np.nanmean(values)) for name, values in found.items() if not np.isnan(values).all()}


def _counts(arrays: Mapping[str, RowArray], generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw how often each row is taken; metrics on the same rows share the draw."""
    drawn: dict[tuple[str, ...], np.ndarray] = {}
    for one in arrays.values():
        if one.rows not in drawn:
            drawn[one.rows] = np.bincount(
                generator.integers(len(one.rows), size=len(one.rows)), minlength=len(one.rows)
            )
    return {name: drawn[one.rows] for name, one in arrays.items()}
