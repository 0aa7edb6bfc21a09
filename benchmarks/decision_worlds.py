"""Simulated sweeps whose truth is known: what arms score on rows and with seeds that were never measured.

The arms have the sizes of Stage 4's placements. True fit rises with size and true pass falls, with noise of each arm. A
row is answered right where a normal latent is low enough; its variance is the row's (shared by all arms), the row's in
one arm, and the row's in one arm and seed. A seed shifts its arm. Evals of one trial share their rows' luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from analysis.decision.pooled import RowArray

# of the largest, in the order A1, A2, B1, B2, B3, C1, C2, C3, D1, D2, D3
SIZES = np.array([0.36, 0.71, 0.1, 0.19, 0.29, 0.45, 0.55, 0.64, 0.81, 0.9, 1.0])
FIT_ROWS, PASS_ROWS = 64, 48
ALL_PASS_ROWS = 192  # that finalists are asked; the first 48 are the core
FIT_SEED_DEVIATION, PASS_SEED_DEVIATION = 0.035, 0.039
ROW, ROW_OF_ARM, ROW_OF_SEED = 0.5, 0.2, 0.3  # shares of the latent's variance
EVAL_CORRELATION = 0.75  # of a row's luck between consecutive evals of one trial
LIMIT = 0.9
EVALS = 4  # of each trial, where something is picked
PICKS = 2  # stream of random numbers of the sweeps from which something is picked
ALMOST = 0.001  # no truth is exactly 0 or 1, whose latent would be infinite


@dataclass(frozen=True)
class World:
    """One simulated sweep; candidates are arms at evals, ordered by arm, and the last of each array is the baseline.

    `fit` and `generality` (candidates,) are the true means over rows and seeds, `seed_generality` (candidates, seeds)
    the true means over rows of the seeds that were run.
    """

    fit: np.ndarray
    generality: np.ndarray
    seed_generality: np.ndarray
    fit_rows: RowArray
    generality_rows: RowArray
    arms: np.ndarray
    sizes: np.ndarray


def world(generator: np.random.Generator, seeds: int, evals: int = 1, pass_rows: int = 0) -> World:
    """Draw a sweep with so many seeds of each arm, evals of each trial and rows of pass (0: those of the core)."""
    arms = len(SIZES)
    final_fit, final_pass = _final(generator)
    done = np.arange(1, evals + 1) / evals
    fit = (final_fit[:, None] * np.sqrt(done)).ravel()
    generality = (1.0 - (1.0 - final_pass)[:, None] * done).ravel()
    shifts = generator.standard_normal((2, arms, 1, seeds)) * np.array(
        [FIT_SEED_DEVIATION, PASS_SEED_DEVIATION]
    ).reshape(2, 1, 1, 1)
    fit_shift, pass_shift = ((one * done[None, :, None]).reshape(arms * evals, seeds) for one in shifts)
    seed_fit, seed_generality = possible(fit[:, None] + fit_shift), possible(generality[:, None] + pass_shift)
    spread = np.tile(done, arms)
    return World(
        fit=np.append(_over_seeds(fit, FIT_SEED_DEVIATION * spread), 0.0),
        generality=np.append(_over_seeds(generality, PASS_SEED_DEVIATION * spread), 1.0),
        seed_generality=seed_generality,
        fit_rows=_measured(_answers(seed_fit, FIT_ROWS, evals, generator), 0.0, generator),
        generality_rows=_measured(_answers(seed_generality, pass_rows or PASS_ROWS, evals, generator), 1.0, generator),
        arms=np.append(np.repeat(np.arange(arms), evals), -1),
        sizes=np.append(np.repeat(SIZES, evals), 0.0),
    )


def asked(one: World, finalists: Sequence[int]) -> World:
    """Return a sweep in which only these candidates, and the baseline, were asked more rows than the core."""
    rows = one.generality_rows
    values = rows.values.copy()
    others = np.setdiff1d(np.arange(len(values) - 1), finalists)
    values[others, :, PASS_ROWS:] = np.nan
    shown = len(rows.rows) if len(finalists) else PASS_ROWS
    kept = RowArray(rows.rows[:shown], values[:, :, :shown], rows.row_weights[:shown], rows.is_proportion)
    return replace(one, generality_rows=kept)


def truths(generator: np.random.Generator) -> np.ndarray:
    """Draw the true fit and pass of each arm at the end of its training: (2, arms)."""
    fit, generality = _final(generator)
    of_arms = np.ones(len(SIZES))
    return np.stack(
        [
            _over_seeds(fit, FIT_SEED_DEVIATION * of_arms),
            _over_seeds(generality, PASS_SEED_DEVIATION * of_arms),
        ]
    )


def _final(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    fit = np.clip(0.15 + 0.62 * SIZES**0.7 + 0.05 * generator.standard_normal(len(SIZES)), 0.01, 0.99)
    generality = np.clip(1.0 - 0.14 * SIZES + 0.04 * generator.standard_normal(len(SIZES)), 0.01, 1.0)
    return fit, generality


def possible(share: np.ndarray) -> np.ndarray:
    """Return shares that are neither 0 nor 1."""
    return np.clip(share, ALMOST, 1.0 - ALMOST)


def _over_seeds(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return the mean over all seeds, whose shifts are cut at 0 and 1: (candidates,)."""
    points, weights = quadrature(41)
    return possible(mean[:, None] + deviation[:, None] * points) @ weights


@cache
def quadrature(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points and weights by which the mean of a function of a standard normal is a weighted sum."""
    points, weights = np.polynomial.hermite_e.hermegauss(count)
    return points, weights / weights.sum()


def _answers(shares: np.ndarray, rows: int, evals: int, generator: np.random.Generator) -> np.ndarray:
    """Return right and wrong answers as 1 and 0: (candidates, seeds, rows)."""
    from scipy.special import ndtri

    arms, seeds = len(shares) // evals, shares.shape[1]
    shared = np.sqrt(ROW) * generator.standard_normal(rows)
    of_arm = np.sqrt(ROW_OF_ARM) * generator.standard_normal((arms, 1, 1, rows))
    luck = [generator.standard_normal((arms, seeds, rows))]
    for _ in range(evals - 1):
        fresh = generator.standard_normal((arms, seeds, rows))
        luck.append(EVAL_CORRELATION * luck[-1] + np.sqrt(1.0 - EVAL_CORRELATION**2) * fresh)
    latent = shared + of_arm + np.sqrt(ROW_OF_SEED) * np.stack(luck, axis=1)
    return (latent.reshape(arms * evals, seeds, rows) < ndtri(shares)[:, :, None]).astype(float)


def _measured(answers: np.ndarray, baseline: float, generator: np.random.Generator) -> RowArray:
    _, seeds, rows = answers.shape
    last = np.full((1, seeds, rows), np.nan)
    last[0, 0] = baseline
    names = tuple(f"{number:016x}" for number in generator.integers(1 << 62, size=rows))  # they seed the weights
    return RowArray(names, np.concatenate([answers, last]), np.ones(rows), is_proportion=True)
