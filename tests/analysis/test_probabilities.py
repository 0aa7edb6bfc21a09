"""Tests how probabilities are written."""

from __future__ import annotations

import pytest

from analysis.probabilities import chance, percent


@pytest.mark.parametrize(
    ("value", "level", "sentence", "cell"),
    [
        (0.5, None, "0.50", "50%"),
        (0.897, None, "0.90", "90%"),
        (0.897, 0.9, "0.897", "89.7%"),
        (0.8975, 0.9, "0.897", "89.7%"),
        (0.89996, 0.9, "0.89996", "89.996%"),
        (0.9, 0.9, "0.90", "90%"),
        (0.1004, 0.1, "0.10", "10%"),
        (0.0996, 0.1, "0.0996", "9.96%"),
        (0.005, None, "0.01", "<1%"),
        (0.995, 0.9, "0.99", ">99%"),
        (0.0, None, "below 0.01", "<1%"),
        (0.0049, 0.9, "below 0.01", "<1%"),
        (0.9995, 0.9, "above 0.99", ">99%"),
        (1.0, None, "above 0.99", ">99%"),
    ],
)
def test_rounding_keeps_the_side_of_the_level_and_is_never_certain(
    value: float, level: float | None, sentence: str, cell: str
) -> None:
    assert chance(value, level) == sentence
    assert percent(value, level) == cell


def test_what_is_accepted_at_most_is_not_shown_as_accepted_when_it_is_more() -> None:
    assert chance(0.1004, 0.1, is_most=True) == "0.1004"
    assert chance(0.1, 0.1, is_most=True) == "0.10"
    assert chance(0.0996, 0.1, is_most=True) == "0.10"
