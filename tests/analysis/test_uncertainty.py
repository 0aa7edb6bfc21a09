"""Tests estimates over seeds."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.uncertainty import estimate, greatest_coverage, known, probability_on_frontier

HIGHER = ("higher", "higher")
NO_FLOOR = np.array([np.nan, np.nan])


def test_one_seed_has_no_interval_and_two_have_only_a_range():
    assert estimate([0.9]).low is None
    two = estimate([0.8, 0.9])
    assert (two.minimum, two.maximum, two.low, two.high, two.seeds) == (0.8, 0.9, None, None, 2)


def test_three_seeds_have_an_interval_inside_their_range():
    three = estimate([0.8, 0.9, 0.85])
    assert three.low is not None and three.high is not None
    assert three.minimum <= three.low < three.mean < three.high <= three.maximum


@pytest.mark.filterwarnings("error")
def test_equal_seeds_have_a_point_for_an_interval():
    equal = estimate([1.0, 1.0, 1.0])
    assert (equal.low, equal.high) == (1.0, 1.0)


def test_the_same_seeds_give_the_same_interval_again():
    assert estimate([0.1, 0.5, 0.7]) == estimate([0.1, 0.5, 0.7])


def test_the_stated_coverage_is_the_one_that_simulation_finds():
    generator = np.random.default_rng(0)
    samples = generator.normal(size=(400, 3))
    covered = [
        one.low <= 0 <= one.high for one in map(estimate, samples) if one.low is not None and one.high is not None
    ]
    assert np.mean(covered) == pytest.approx(greatest_coverage(3), abs=0.06)
    assert greatest_coverage(3) == 0.75


def test_whether_an_interval_overlaps_an_unknown_one_is_unknown():
    three, far = estimate([0.8, 0.9, 0.85]), estimate([0.1, 0.2, 0.15])
    assert three.overlaps(estimate([0.84])) is None
    assert three.overlaps(far) is False
    assert three.overlaps(known(0.85)) is True


def test_a_placement_that_is_always_behind_is_never_on_the_frontier():
    ahead = np.array([[0.9, 0.9], [0.91, 0.92], [0.92, 0.91]])
    assert probability_on_frontier([ahead, ahead - 0.5], HIGHER, NO_FLOOR, 1).tolist() == [1.0, 0.0]


def test_a_placement_within_the_noise_is_on_it_sometimes():
    ahead = np.array([[1.0, 0.90], [1.0, 0.93], [1.0, 0.96]])
    behind = np.array([[1.0, 0.89], [1.0, 0.92], [1.0, 0.95]])
    first, second = probability_on_frontier([ahead, behind], HIGHER, NO_FLOOR, 1)
    assert 0.2 < second < 0.5 < first < 0.8


def test_the_objectives_of_a_seed_are_drawn_together():
    """Every seed is on x + y = 1; resampled separately, means would leave the line and beat the rival."""
    tied = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    rival = np.array([[0.2, 0.2]])
    both = probability_on_frontier([tied, rival], HIGHER, NO_FLOOR, 1)
    # the rival survives exactly when the tied mean falls below 0.2 in one of the two; both at once cannot happen
    below = [np.mean([a, b, c]) for a in tied[:, 0] for b in tied[:, 0] for c in tied[:, 0]]
    assert both[0] == 1.0
    assert both[1] == pytest.approx(np.mean([mean < 0.2 or mean > 0.8 for mean in below]), abs=0.03)


def test_a_draw_that_gains_nothing_over_the_baseline_is_not_on_the_frontier():
    noisy = np.array([[1.0, 0.05], [1.0, 0.1], [1.0, 0.3]])
    alone = probability_on_frontier([noisy], HIGHER, np.array([np.nan]), 1)
    held = probability_on_frontier([noisy], HIGHER, np.array([0.12]), 1)
    assert alone[0] == 1.0
    assert 0.5 < held[0] < 0.9


def test_a_single_seed_keeps_its_value_in_every_resample():
    assert probability_on_frontier([np.array([[1.0, 0.5]])], HIGHER, np.array([0.4]), 1).tolist() == [1.0]
