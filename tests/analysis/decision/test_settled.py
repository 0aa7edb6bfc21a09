"""Tests when more data is likely to change a pick."""

from __future__ import annotations

import numpy as np

from analysis.decision.settled import FAILS, KEEP, changed, should_be_picked

FITS = np.array([[0.5, 0.6, 0.9], [0.5, 0.54, 0.2], [0.5, 0.6, 0.9], [0.5, 0.2, 0.2]])
INSIDE = np.array([[True, True, False], [True, True, True], [False, True, True], [False, False, False]])


def test_the_pick_goes_to_the_best_inside_that_leads_by_the_margin() -> None:
    drawn = should_be_picked(FITS, FITS, INSIDE, 0, 0.05)
    assert drawn.tolist() == [1, KEEP, 2, FAILS]
    assert changed(drawn) == 0.75


def test_without_a_pick_one_must_gain_more_than_the_margin() -> None:
    gains = FITS - 0.47
    assert should_be_picked(FITS, gains, INSIDE, None, 0.05).tolist() == [1, 1, 2, KEEP]
    assert should_be_picked(FITS, gains - 0.1, INSIDE, None, 0.05).tolist() == [KEEP, KEEP, 2, KEEP]
