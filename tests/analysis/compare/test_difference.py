"""Tests the difference of a metric over rows and seeds: its interval, its verdict and what would decide it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_ind

from analysis.compare.difference import (
    Difference,
    SeedSpread,
    difference,
    needed,
    needed_text,
    pooled_spread,
    verdict_of,
)
from analysis.compare.proportions import newcombe_interval


def measured(mean: float, half: float, **changes) -> Difference:
    values = {"p": 0.5, "rows": 64, "seeds_a": 3, "seeds_b": 3, "rows_half": half, "seeds_half": 0.0}
    return Difference(**{"a": 0.5 + mean, "b": 0.5, "low": mean - half, "high": mean + half, **values, **changes})


def test_one_seed_of_answers_has_newcombes_interval() -> None:
    a, b = np.array([[1, 1, 0, 1, 0, 1.0]]), np.array([[1, 0, 0, 1, 0, 0.0]])
    found = difference(a, b, np.ones(6), None)
    assert (found.low, found.high) == pytest.approx(newcombe_interval(a[0], b[0]))
    assert (found.mean, found.seeds_half) == (pytest.approx(2 / 6), None)


def test_losses_have_the_interval_of_a_paired_t_test() -> None:
    draws = np.random.default_rng(0)
    a, b = draws.normal(1.0, 0.3, (1, 40)), draws.normal(0.9, 0.3, (1, 40))
    found = difference(a, b, np.full(40, 7.0), None)
    expected = ttest_1samp((a - b)[0], 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_rows_count_by_their_tokens() -> None:
    a, b, tokens = np.array([[1.0, 0.0, 0.5]]), np.zeros((1, 3)), np.array([1.0, 8.0, 1.0])
    assert difference(a, b, tokens, None).mean == pytest.approx(0.15)


def test_the_variance_of_seeds_is_that_of_a_t_test() -> None:
    """Rows that all answer alike leave the seeds as the only source: the interval is then that of two samples."""
    seeds_a, seeds_b = np.array([0.61, 0.64, 0.58]), np.array([0.71, 0.69, 0.74, 0.72])
    spread = pooled_spread([seeds_a, seeds_b])
    a, b = (np.tile(one[:, None], (1, 50)) for one in (seeds_a, seeds_b))
    found = difference(a, b, np.ones(50), spread)
    expected = ttest_ind(seeds_a, seeds_b).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.rows_half == pytest.approx(0, abs=1e-9)


def test_seeds_widen_the_interval_by_squares() -> None:
    a, b = np.array([[1.0] * 30 + [0.0] * 10]), np.array([[1.0] * 20 + [0.0] * 20])
    narrow = difference(a, b, np.ones(40), None)
    wide = difference(a, b, np.ones(40), SeedSpread(0.03**2, 6))
    assert wide.seeds_half == pytest.approx(2.4469 * 0.03 * math.sqrt(2), rel=1e-3)
    assert wide.mean - wide.low == pytest.approx(math.hypot(narrow.mean - narrow.low, wide.seeds_half))


def test_no_arm_with_two_seeds_tells_nothing_of_seeds() -> None:
    assert pooled_spread([np.array([0.5]), np.array([0.7])]) is None


@pytest.mark.parametrize(
    ("mean", "half", "verdict"),
    [
        (0.10, 0.0999, "separable"),
        (-0.10, 0.0999, "separable"),
        (0.10, 0.1001, "undecided"),
        (0.02, 0.0299, "equivalent"),
        (0.02, 0.0301, "undecided"),
        (0.02, 0.01, "separable"),  # small but not none
    ],
)
def test_the_verdict_changes_where_the_interval_meets_zero_or_the_margin(
    mean: float, half: float, verdict: str
) -> None:
    assert verdict_of(measured(mean, half), margin=0.05) == verdict


def test_the_rows_asked_for_decide_in_four_of_five_repeats() -> None:
    """Simulated: what is asked for at 80 % power separates the difference in about 80 % of repeats."""
    draws = np.random.default_rng(2)
    rate_a, rate_b, rows = 0.75, 0.65, 60

    def repeat(count: int) -> Difference:
        a, b = (draws.random((1, count)) < rate_a).astype(float), (draws.random((1, count)) < rate_b).astype(float)
        return difference(a, b, np.ones(count), None)

    width = float(np.mean([repeat(rows).rows_half for _ in range(200)]))
    asked = needed(measured(rate_a - rate_b, width, rows=rows, seeds_half=None))
    assert asked is not None and asked.rows is not None and asked.seeds is None
    separated = np.mean([verdict_of(repeat(asked.rows)) == "separable" for _ in range(400)])
    assert 0.72 < separated < 0.88


def test_what_decides_names_rows_or_seeds_or_both() -> None:
    by_rows = measured(0.06, 0.13, rows_half=0.13, seeds_half=0.001)
    assert needed_text(by_rows) == "615 rows (now 64); rows, not seeds, limit it"
    by_seeds = measured(0.06, 0.13, rows_half=0.001, seeds_half=0.13)
    assert needed_text(by_seeds) == "29 seeds each (now 3); seeds, not rows, limit it"
    both = measured(0.06, 0.13, rows_half=0.09, seeds_half=0.09)
    assert needed_text(both) == "589 rows and 28 seeds each together (now 64 and 3)"
    assert needed_text(measured(0.10, 0.05)) == ""


def test_two_rows_of_a_loss_have_no_interval() -> None:
    found = difference(np.array([[1.0, 2.0]]), np.array([[0.5, 0.1]]), np.array([2.0, 3.0]), None)
    assert found.low == -math.inf
    assert needed(found) is None
    assert needed_text(found) == "more than the 2 rows there are"


def test_a_baseline_has_no_variance_between_seeds() -> None:
    """It is one model, so only the other side's seeds count."""
    arm = np.array([[float(i < passing) for i in range(64)] for passing in (24, 34, 44)])
    base, weights, spread = np.zeros((1, 64)), np.ones(64), SeedSpread(0.0244, 2)
    fixed, free = (difference(arm, base, weights, spread, (False, one)) for one in (True, False))
    assert fixed.seeds_half is not None and free.seeds_half is not None
    assert fixed.seeds_half == pytest.approx(free.seeds_half / 2)
    assert (fixed.seeds, free.seeds) == (3, 1)
    assert free.low >= -1.0 and free.high <= 1.0
