"""The difference of one metric between two candidates on the same rows, over rows and seeds, and what it shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.compare.proportions import LEVEL, newcombe_interval, normal_quantile, sign_flip_p

MARGIN = 0.05
POWER = 0.8
LEAST_ROWS = 3  # of an interval that is not Newcombe's

Verdict = Literal["separable", "equivalent", "undecided"]


@dataclass(frozen=True)
class SeedSpread:
    """How much the mean of one seed varies: the variance pooled over arms, with its degrees of freedom."""

    variance: float
    freedom: int


@dataclass(frozen=True)
class Difference:
    """The difference A - B of one metric on the same rows.

    `a` and `b` are the means over rows and seeds, `low` and `high` bound the difference at 95 %. `p` is McNemar's exact
    test or its form for several seeds: it concerns the rows, of these seeds alone. `rows_half` and `seeds_half` are
    half the width of the interval that comes from rows and from seeds; `seeds_half` is None where no arm has two seeds,
    and the interval then holds for these adapters, not for other seeds. `is_fixed` is true of a side that no seed
    changes: the baseline.
    """

    a: float
    b: float
    low: float
    high: float
    p: float
    rows: int
    seeds_a: int
    seeds_b: int
    rows_half: float
    seeds_half: float | None
    is_fixed: tuple[bool, bool] = (False, False)

    @property
    def seeds(self) -> int:
        """Return the seeds of the side that has the fewest, of those that seeds change."""
        sides = zip((self.seeds_a, self.seeds_b), self.is_fixed, strict=True)
        return min((count for count, is_fixed in sides if not is_fixed), default=1)

    @property
    def mean(self) -> float:
        """Return the difference of the means."""
        return self.a - self.b


def difference(
    a: np.ndarray,
    b: np.ndarray,
    weights: np.ndarray,
    spread: SeedSpread | None,
    is_fixed: tuple[bool, bool] = (False, False),
) -> Difference:
    """Compare two candidates on one metric.

    Args:
        a: (seeds, rows), the results of A.
        b: (seeds, rows), those of B on the same rows; the numbers of seeds may differ.
        weights: (rows,), how much each row counts.
        spread: the variance of the seeds, None where it is not known.
        is_fixed: true of a side that no seed changes.

    The interval of proportions is Newcombe's, of other metrics that of the weighted mean difference of rows. The
    variance of the seeds is added to it by squares (MOVER; Zou and Donner, Statistics in Medicine 27 (2008)).
    """
    row_a, row_b = a.mean(axis=0), b.mean(axis=0)
    share = weights / weights.sum()
    mean_a, mean_b = float(share @ row_a), float(share @ row_b)
    centre = mean_a - mean_b
    differences = row_a - row_b
    is_proportion = np.ptp(weights) == 0 and bool(np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all())
    low, high = newcombe_interval(row_a, row_b) if is_proportion else _mean_interval(differences, share, centre)
    rows_half = (high - low) / 2
    seeds_half = None if spread is None else _seeds_half(spread, len(a), len(b), is_fixed)
    if seeds_half is not None:
        low, high = centre - math.hypot(centre - low, seeds_half), centre + math.hypot(high - centre, seeds_half)
    if is_proportion:
        low, high = max(low, -1.0), min(high, 1.0)
    p = sign_flip_p(share * differences)
    return Difference(mean_a, mean_b, low, high, p, len(weights), len(a), len(b), rows_half, seeds_half, is_fixed)


def pooled_spread(seed_means: list[np.ndarray]) -> SeedSpread | None:
    """Return the variance of seeds pooled over arms, each (seeds,); None where no arm has two seeds."""
    repeated = [one for one in seed_means if len(one) > 1]
    if not repeated:
        return None
    freedom = sum(len(one) - 1 for one in repeated)
    return SeedSpread(float(sum(((one - one.mean()) ** 2).sum() for one in repeated)) / freedom, freedom)


def _mean_interval(differences: np.ndarray, share: np.ndarray, centre: float) -> tuple[float, float]:
    from scipy.stats import t

    rows = len(differences)
    if rows < LEAST_ROWS:
        return -math.inf, math.inf
    residuals = share * (differences - centre)  # of a ratio of sums, to first order
    half = float(t.ppf((1 + LEVEL) / 2, rows - 1)) * math.sqrt(float((residuals**2).sum()) * rows / (rows - 1))
    return centre - half, centre + half


def _seeds_half(spread: SeedSpread, seeds_a: int, seeds_b: int, is_fixed: tuple[bool, bool]) -> float:
    from scipy.stats import t

    parts = [0.0 if fixed else 1 / seeds for seeds, fixed in zip((seeds_a, seeds_b), is_fixed, strict=True)]
    error = math.sqrt(spread.variance * sum(parts))
    return float(t.ppf((1 + LEVEL) / 2, spread.freedom)) * error


# ------------------------------------------------------------------- what it shows
@dataclass(frozen=True)
class Needed:
    """What would decide an undecided difference, if it stays as measured, with a power of 80 %.

    `rows` are needed with these seeds, `seeds` of each arm with these rows; None where no number is enough.
    `both` multiplies rows and seeds together.
    """

    rows: int | None
    seeds: int | None
    both: float


def verdict_of(one: Difference, margin: float = MARGIN) -> Verdict:
    """Return whether a difference is separable from none, within the margin, or neither.

    `equivalent` asks for the whole 95 % interval within the margin, which is stricter than two one-sided tests at 5 %.
    """
    if one.low > 0 or one.high < 0:
        return "separable"
    return "equivalent" if -margin <= one.low and one.high <= margin else "undecided"


def needed(one: Difference, margin: float = MARGIN) -> Needed | None:
    """Return what would decide the difference; None where it is decided, or its interval is not known."""
    if verdict_of(one, margin) != "undecided" or not math.isfinite(one.rows_half):
        return None
    from scipy.stats import norm

    # the half-width that decides: below the distance to zero, or within the margin, whichever asks for less
    target = max(abs(one.mean), margin - abs(one.mean))
    if target <= 0:
        return None
    z = normal_quantile()
    allowed = (target * z / (z + float(norm.ppf(POWER)))) ** 2
    by_rows, by_seeds = one.rows_half**2, (one.seeds_half or 0.0) ** 2
    seeds = one.seeds
    return Needed(
        rows=math.ceil(one.rows * by_rows / (allowed - by_seeds)) if allowed > by_seeds else None,
        seeds=math.ceil(seeds * by_seeds / (allowed - by_rows)) if allowed > by_rows and by_seeds else None,
        both=(by_rows + by_seeds) / allowed,
    )


def needed_text(one: Difference, margin: float = MARGIN) -> str:
    """Return what would decide an undecided difference, in words; empty where it is decided."""
    if verdict_of(one, margin) != "undecided":
        return ""
    if one.seeds_half == math.inf:
        return "more seeds or trials: there are too few to know how much they vary"
    found = needed(one, margin)
    if found is None:
        return f"more than the {one.rows} rows there are"
    seeds = one.seeds
    parts = [f"{found.rows:,} rows (now {one.rows})"] if found.rows else []
    parts += [f"{found.seeds} seeds each (now {seeds})"] if found.seeds else []
    if parts:
        only = "" if found.seeds or one.seeds_half is None else "; rows, not seeds, limit it"
        return " or ".join(parts) + (only if found.rows else "; seeds, not rows, limit it")
    rows = math.ceil(found.both * one.rows)
    return f"{rows:,} rows and {math.ceil(found.both * seeds)} seeds each together (now {one.rows} and {seeds})"
