"""Tests McNemar's test and Newcombe's interval against published values, and their form for several seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test

from analysis.compare.proportions import newcombe_interval, sign_flip_p


def pairs(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the answers of two sides with this table of pairs."""
    a = np.repeat([1.0, 1.0, 0.0, 0.0], [both, only_a, only_b, neither])
    return a, np.repeat([1.0, 0.0, 1.0, 0.0], [both, only_a, only_b, neither])


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), 2635-2650, table IV, method 10
        ((36, 12, 2, 0), 0.0569, 0.3404),
        # Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014), airway hyper-responsiveness
        ((1, 1, 7, 12), -0.507, -0.026),
    ],
)
def test_newcombe_gives_the_published_intervals(table: tuple[int, ...], low: float, high: float) -> None:
    found = newcombe_interval(*pairs(*table))
    assert found == pytest.approx((low, high), abs=6e-4)


@pytest.mark.parametrize(
    ("table", "p"),
    [
        ((20, 12, 2, 16), 0.0129),  # Armitage and Berry, two media for one bacterium, Liddell's exact test
        ((1, 1, 7, 12), 0.0703),  # Fagerland et al., BMC Medical Research Methodology 13:91 (2013)
        ((59, 6, 16, 80), 0.0525),  # the same
    ],
)
def test_one_seed_gives_mcnemars_exact_test(table: tuple[int, ...], p: float) -> None:
    a, b = pairs(*table)
    assert sign_flip_p(a - b) == pytest.approx(p, abs=1e-4)


@pytest.mark.parametrize(("rows", "tolerance"), [(9, 1e-12), (16, 0.03)])
def test_several_seeds_give_the_p_of_all_flips(rows: int, tolerance: float) -> None:
    draws = np.random.default_rng(rows)
    for shift in (0.0, 0.2, 0.5):
        differences = draws.choice((-1.0, -1 / 3, 1 / 3, 1.0), rows) + shift
        exact = permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=np.inf)
        assert sign_flip_p(differences) == pytest.approx(exact.pvalue, abs=tolerance)


def test_equal_answers_are_no_evidence_but_have_a_width() -> None:
    a, b = pairs(48, 0, 0, 0)
    assert sign_flip_p(a - b) == 1.0
    low, high = newcombe_interval(a, b)
    assert low == pytest.approx(-high) and 0.05 < high < 0.10  # 48 of 48 on both sides is not certainty


def test_swapping_the_sides_mirrors_the_interval() -> None:
    a, b = pairs(30, 9, 3, 6)
    low, high = newcombe_interval(a, b)
    assert newcombe_interval(b, a) == pytest.approx((-high, -low))


def test_copies_of_one_seed_add_no_evidence() -> None:
    """Three seeds that answer alike are one: pooling 3 x 48 answers as rows would shrink p from 0.04 to 0.0001."""
    a, b = pairs(30, 12, 3, 3)
    copies_a, copies_b = (np.tile(one, (3, 1)).mean(axis=0) for one in (a, b))
    assert sign_flip_p(copies_a - copies_b) == pytest.approx(sign_flip_p(a - b))
    assert newcombe_interval(copies_a, copies_b) == pytest.approx(newcombe_interval(a, b))
    pooled = np.repeat(a - b, 3)
    assert binomtest(36, 45, 0.5).pvalue == pytest.approx(sign_flip_p(pooled))
    assert sign_flip_p(pooled) < sign_flip_p(a - b) / 50


def test_seeds_that_differ_narrow_the_rows_part() -> None:
    draws = np.random.default_rng(0)
    rate = draws.uniform(0.2, 0.9, 200)
    one = [(draws.random(200) < rate).astype(float) for _ in range(2)]
    many = [(draws.random((9, 200)) < rate).mean(axis=0) for _ in range(2)]
    width = [high - low for low, high in (newcombe_interval(*one), newcombe_interval(*many))]
    assert width[1] < 0.6 * width[0]


def test_the_sign_flip_test_of_several_seeds_is_calibrated() -> None:
    """Of 400 pairs without a difference about 5 % have p below 0.05."""
    draws = np.random.default_rng(1)
    hardness = draws.normal(size=(400, 40))
    answers = [(draws.normal(size=(400, 3, 40)) < hardness[:, None]).mean(axis=1) for _ in range(2)]
    few = [sign_flip_p(a - b) for a, b in zip(*(one[:120] for one in answers), strict=True)]
    assert np.mean(np.array(few) < 0.05) < 0.11
