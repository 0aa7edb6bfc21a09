"""How probable it is that more rows or more seeds would lead to another pick."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from analysis.decision.admissibility import room
from analysis.decision.evidence import DrawnCandidates
from analysis.decision.judged import higher
from analysis.decision.pooled import pooled
from trainables.constraint import ROUNDING, Constraint
from trainables.pareto import Objective

ACCEPTED = 0.10  # a pick that changes with no more than this probability is settled
MARGIN = 0.05  # a gain in fit that is not worth another pick

# a draw is the position of the candidate that should be picked, KEEP where the pick stays, FAILS where it is outside
KEEP, FAILS = -1, -2

Values = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Parts:
    """What was drawn of one metric, (draws, series): the part of the rows, and that of the seeds around it."""

    rows: np.ndarray
    seeds: np.ndarray

    @property
    def whole(self) -> np.ndarray:
        """Return the draws of the expected metric, over rows and seeds."""
        return self.rows + self.seeds


def probability_of_change(
    found: DrawnCandidates, picked: int | None, fit: Objective, constraint: Constraint, margin: float = MARGIN
) -> float:
    """Return the probability that the truth, which endless rows and seeds would show, leads to another pick."""
    values = {name: one.whole for name, one in parts_of(found).items()}
    return changed(judge_of(found, picked, fit, constraint, margin)(values))


def parts_of(found: DrawnCandidates) -> dict[str, Parts]:
    """Return the draws of each metric, apart by what they vary."""
    return {name: _parts(found, name, stream) for stream, name in enumerate(found.arrays)}


def judge_of(
    found: DrawnCandidates, picked: int | None, fit: Objective, constraint: Constraint, margin: float
) -> Callable[[Values], np.ndarray]:
    """Return what finds, in draws of each metric, the candidate that should be picked: (draws,)."""
    count = len(found.contenders)

    def judge(values: Values) -> np.ndarray:
        limits = {name: values[name][:, found.baseline_at] for name in constraint.needs}
        own = {name: values[name][:, :count] for name in constraint.needs}
        inside = room(constraint.allowances, limits, own) >= -ROUNDING
        fits = higher(values[fit.name][:, :count], fit)
        gains = fits - higher(values[fit.name][:, found.baseline_at], fit)
        return should_be_picked(fits, gains, inside, picked, margin)

    return judge


def should_be_picked(
    fits: np.ndarray, gains: np.ndarray, inside: np.ndarray, picked: int | None, margin: float
) -> np.ndarray:
    """Return the candidate that should be picked in each draw: its position, KEEP or FAILS, (draws,).

    The pick stays unless it is outside the constraint, or another one inside it fits better by more than the margin.
    Where nothing is picked, it stays so unless a candidate inside gains more than the margin.

    Args:
        fits: draws of the task fit, (draws, candidates), higher is better.
        gains: the same over their baselines.
        inside: in which draws they meet the constraint.
        picked: the position of the pick, None where there is none.
        margin: a gain in fit that is not worth another pick.
    """
    eligible = np.where(inside & (gains > margin), fits, -np.inf)
    best = eligible.argmax(axis=1)
    exists = np.isfinite(eligible.max(axis=1))
    if picked is None:
        return np.where(exists, best, KEEP)
    better = exists & (eligible.max(axis=1) > fits[:, picked] + margin)
    return np.where(~inside[:, picked], np.where(exists, best, FAILS), np.where(better, best, KEEP))


def changed(drawn: np.ndarray) -> float:
    """Return the share of draws in which the pick does not stay."""
    return float((drawn != KEEP).mean())


def _parts(found: DrawnCandidates, name: str, stream: int) -> Parts:
    array, weights = found.arrays[name], found.weights[name]
    labels = [one.candidate.arm for one in found.contenders]
    count = len(array.values)
    arms = np.array([labels.index(one) for one in labels] + list(range(len(labels), count)))
    rows = weights.means(array.row_means)
    every = pooled(array, weights, arms, np.arange(count) >= len(labels), stream).expected
    return Parts(rows, every - rows)
