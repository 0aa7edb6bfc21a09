"""The rule that picks one of several candidates, on arrays in which higher is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from analysis.decision.pooled import GENERATOR_SEED, RowArray, weighted_mean

CONFIDENCE = 0.95
RESAMPLES = 200
TIE_DECIMALS = 3  # generality that agrees so far is equal, and the price decides


@dataclass(frozen=True)
class Chosen:
    """Indices of candidates: the one with the best fit at the level, those not separable from it, the picked one."""

    best: int
    alike: tuple[int, ...]
    picked: int


def choose(fit: np.ndarray, generality: np.ndarray, at_level: np.ndarray, prices: np.ndarray) -> Chosen | None:
    """Pick the most general, then the cheapest, of those not separable from the best fit; None if none is at the level.

    A candidate is separable from the best if it is behind it in 95 % of the draws, which pair them on rows.

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
    lead = fit[:, best].mean() - fit[:, among].mean(axis=0)
    alike = among[lead <= slack(fit, best)[among]]
    general = np.round(generality[:, alike].mean(axis=0), TIE_DECIMALS)
    order = np.lexsort((prices[alike], -general))
    return Chosen(best, tuple(int(one) for one in alike), int(alike[order[0]]))


def finalists(
    chosen: Chosen | None, fit: np.ndarray, admissible: np.ndarray, gaining: np.ndarray, level: float
) -> tuple[int, ...]:
    """Return the candidates that more rows can make the pick, the picked one first, then by fit.

    They are those that cannot be told from the best, and those that fit better than the picked one and may meet the
    constraint, which they do not show at the level.

    Args:
        chosen: the choice so far, None if no candidate is at the level.
        fit: the mean task fit, (candidates,), higher is better.
        admissible: the probability of being admissible, (candidates,).
        gaining: which candidates show a gain over their baseline, (candidates,); rows of generality show no other.
        level: the required probability.
    """
    open_ones = gaining & (1.0 - level < admissible) & (admissible < level)
    first: tuple[int, ...] = ()
    if chosen is not None:
        open_ones &= fit > fit[chosen.picked]
        open_ones[list(chosen.alike)] = True
        open_ones[chosen.picked] = False
        first = (chosen.picked,)
    others = [int(one) for one in np.argsort(-fit, kind="stable") if open_ones[one]]
    return (*first, *others)


def slack(fit: np.ndarray, best: int) -> np.ndarray:
    """Return by how much the mean of the best must lead each candidate to be separable from it: (candidates,)."""
    behind = fit[:, [best]] - fit
    return np.quantile(behind.mean(axis=0) - behind, CONFIDENCE, axis=0)


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
