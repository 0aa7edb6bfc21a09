"""Tests how many rows it takes to call an arm admissible; scipy's Beta distribution is the reference."""

from __future__ import annotations

import pytest
from scipy.stats import beta

from trainables.constraint import BestConstraint, TextConstraint
from trainables.rows_needed import LEVEL, TooFewRows, least_rows, perfect_arm, too_few_rows


def test_the_rows_at_which_a_perfect_arm_first_reaches_the_level() -> None:
    rows = least_rows(0.9, 0.1)
    assert perfect_arm(rows, 0.1) >= 0.9 > perfect_arm(rows - 1, 0.1)
    assert perfect_arm(rows, 0.1) == pytest.approx(float(beta.cdf(0.1, 0.5, rows + 0.5)))
    with pytest.raises(ValueError, match="the allowance above 0"):
        least_rows(0.9, 0.0)


@pytest.mark.parametrize(("fewer", "named"), [(0, []), (1, ["irrelevant_pass", "hallucination"])])
def test_a_metric_is_named_from_one_row_below_the_least(fewer: int, named: list[str]) -> None:
    least = least_rows(LEVEL, 0.1)
    rows = {"irrelevant_pass": least - fewer, "hallucination": least - fewer}
    assert [one.metric for one in too_few_rows(BestConstraint(), rows, LEVEL)] == named


def test_metrics_without_rows_or_without_room_are_left_out() -> None:
    assert too_few_rows(TextConstraint(), {"irrelevant_pass": 1}, LEVEL) == []
    assert too_few_rows(TextConstraint(max_text_retention_drop=0.0), {"text_retention": 1}, LEVEL) == []
    [found] = too_few_rows(TextConstraint(), {"text_retention": 3}, LEVEL)
    assert found == TooFewRows("text_retention", 3, perfect_arm(3, 0.1), least_rows(LEVEL, 0.1)) and found.reached < 0.9
