"""How many rows it takes before an arm can be called admissible at all.

Both the pick and the plan of a launch ask this, so it needs neither results nor a library of arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainables.constraint import Constraint

LEVEL = 0.9  # default probability of meeting the constraint that a candidate must reach to be picked
MOST_ROWS = 100_000


@dataclass(frozen=True)
class TooFewRows:
    """A metric of the constraint whose rows cannot show the level: `reached` is what an arm without a failure gets."""

    metric: str
    rows: int
    reached: float
    least: int


def perfect_arm(rows: int, points: float) -> float:
    """Return the probability of being admissible that an arm without a single failure reaches on so many rows.

    Its failing share has the distribution Beta(1/2, rows + 1/2); the variance between seeds only lowers it.
    """
    from scipy.special import betainc  # scipy.stats takes a second more to import

    return float(betainc(0.5, rows + 0.5, min(max(points, 0.0), 1.0)))


def least_rows(level: float, points: float) -> int:
    """Return on how many rows an arm without a failure first reaches the level; fewer can never show it.

    Raises:
        ValueError: no number of rows is enough, for the constraint allows no drop at all.
    """
    if points <= 0 or not 0 < level < 1:
        raise ValueError(f"the level must lie in (0, 1) and the allowance above 0, but they are {level} and {points}")
    low, high = 1, MOST_ROWS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if perfect_arm(middle, points) >= level else (middle + 1, high)
    return low


def too_few_rows(constraint: Constraint, rows: Mapping[str, int], level: float) -> list[TooFewRows]:
    """Return the metrics of the constraint, of those in `rows`, on whose rows no arm can reach the level."""
    return [
        TooFewRows(one.metric, rows[one.metric], reached, least_rows(level, one.points))
        for one in constraint.allowances
        if one.points > 0 and one.metric in rows and (reached := perfect_arm(rows[one.metric], one.points)) < level
    ]
