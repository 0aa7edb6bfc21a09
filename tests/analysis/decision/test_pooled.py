"""Tests the pooled estimator against references: Jeffreys' interval by scipy, and populations that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from analysis.decision.admissibility import probability, rows_short
from analysis.decision.pooled import RowArray, draw_weights, pooled, seed_variation, weighted_mean
from analysis.decision.shrinkage import shrunk
from trainables.constraint import CONSTRAINT

DRAWS = 20_000


def array(values: np.ndarray, weights: np.ndarray | None = None, is_proportion: bool = True) -> RowArray:
    rows = values.shape[-1]
    return RowArray(tuple(map(str, range(rows))), values, np.ones(rows) if weights is None else weights, is_proportion)


def passing(count: int, rows: int) -> np.ndarray:
    return (np.arange(rows) < count).astype(float)


@pytest.mark.parametrize(("count", "rows"), [(10, 10), (0, 10), (45, 48), (30, 64)])
def test_one_candidate_alone_has_jeffreys_distribution(count: int, rows: int) -> None:
    """The baseline has no seeds, so that its draws are those of its rows alone."""
    one = array(passing(count, rows)[None, None])
    drawn = pooled(one, draw_weights(one, DRAWS), np.array([-1]), np.array([True])).expected[:, 0]
    reference = beta(count + 0.5, rows - count + 0.5)
    assert np.quantile(drawn, (0.025, 0.5, 0.975)) == pytest.approx(reference.ppf((0.025, 0.5, 0.975)), abs=0.01)


def test_comparisons_are_paired_on_rows() -> None:
    """Two arms that answer the same rows right do not differ, however few rows there are."""
    one = array(np.stack([passing(5, 10)[None]] * 2))
    drawn = draw_weights(one, 500).means(one.row_means)
    assert (drawn[:, 0] == drawn[:, 1]).all()


def test_candidates_with_equal_results_have_equal_means_whatever_their_seeds_were_drawn_as() -> None:
    one = array(np.stack([np.stack([passing(30, 48), passing(34, 48)])] * 3))
    drawn = pooled(one, draw_weights(one, 500), np.arange(3), np.zeros(3, dtype=bool)).expected
    assert (drawn[:, 0] != drawn[:, 1]).all(), "their seeds are their own"
    assert drawn.mean(axis=0) == pytest.approx(np.full(3, drawn[:, 0].mean()), abs=1e-12)


def test_two_metrics_on_the_same_rows_share_their_weights() -> None:
    first, second = array(passing(3, 10)[None, None]), array(passing(7, 10)[None, None])
    assert (draw_weights(first, 9).rows == draw_weights(second, 9).rows).all()


def test_a_loss_counts_rows_by_their_tokens_and_has_no_half_rows() -> None:
    weights = np.array([3.0, 1.0])
    one = array(np.array([[[2.0, 2.0]]]), weights, is_proportion=False)
    assert draw_weights(one, 50).means(one.row_means) == pytest.approx(np.full((50, 1), 2.0))
    assert weighted_mean(np.array([2.0, 0.5]), weights) == pytest.approx(1.625)


def test_rows_that_were_not_asked_are_left_out() -> None:
    whole = array(np.array([[[1.0, 0.0, np.nan, np.nan]], [[1.0, 0.0, 1.0, 1.0]]]))
    alone = draw_weights(whole, 100).means_alone(whole.row_means)
    assert ((alone[:, 0] > 0.0) & (alone[:, 0] < 1.0)).all()
    assert whole.seed_means[:, 0].tolist() == [0.5, 0.75]


def test_the_variance_between_seeds_is_found_without_that_of_rows() -> None:
    generator = np.random.default_rng(1)
    arms, seeds, rows, deviation = 60, 5, 100, 0.08
    shares = 0.5 + deviation * generator.standard_normal((arms, seeds, 1))
    one = array((generator.random((arms, seeds, rows)) < shares).astype(float))
    squares, freedom = seed_variation(one, np.arange(arms), np.zeros(arms, dtype=bool))
    assert freedom == arms * (seeds - 1)
    assert np.sqrt(squares / freedom) == pytest.approx(deviation, rel=0.15)
    within = np.nanvar(one.seed_means, axis=1, ddof=1).mean()
    assert within > 1.2 * deviation**2, "rows add to the spread of the seeds' means"


def test_evals_of_one_arm_do_not_count_as_further_arms() -> None:
    generator = np.random.default_rng(2)
    one = array((generator.random((4, 3, 50)) < 0.5).astype(float))
    _, apart = seed_variation(one, np.arange(4), np.zeros(4, dtype=bool))
    _, together = seed_variation(one, np.zeros(4, dtype=int), np.zeros(4, dtype=bool))
    assert (apart, together) == (8.0, 2.0)


def test_one_seed_is_as_uncertain_as_the_prior_says() -> None:
    one = array(np.ones((1, 1, 4000)))
    drawn = pooled(one, draw_weights(one, DRAWS), np.array([0]), np.array([False]))
    assert drawn.expected.std() == pytest.approx(0.03 * np.sqrt(6 / 4), rel=0.05)


# ---------------------------------------------------------------- shrinkage
def test_candidates_of_one_truth_are_pulled_together_and_far_ones_stay() -> None:
    generator = np.random.default_rng(3)
    noise = 0.05
    alike = 0.5 + noise * generator.standard_normal((1, 30, 2)) + noise * generator.standard_normal((2000, 30, 2))
    assert shrunk(alike).mean(axis=0).std() < 0.8 * alike.mean(axis=0).std()
    far = np.linspace(0, 10, 30)[None, :, None] + noise * generator.standard_normal((2000, 30, 2))
    assert shrunk(far).mean(axis=0) == pytest.approx(far.mean(axis=0), abs=0.01)


def test_three_candidates_are_left_alone() -> None:
    draws = np.random.default_rng(4).standard_normal((100, 8, 2))
    assert (shrunk(draws[:, :3]) == draws[:, :3]).all()


# ---------------------------------------------------------------- admissibility
def test_a_stopped_seed_is_a_seed_that_is_not_admissible() -> None:
    inside = np.ones((10, 2))
    assert probability(inside, np.array([3, 2]), np.array([0, 1])).tolist() == [1.0, pytest.approx(2 / 3)]


@pytest.mark.parametrize(("kept", "short"), [(44, 0), (43, 1), (42, 2), (48, 0)])
def test_how_many_rows_are_short(kept: int, short: int) -> None:
    """48 of 48 less 10 points are 43.2 rows, so 44 are needed."""
    base = {"irrelevant_pass": 1.0, "hallucination": 0.0}
    means = {"irrelevant_pass": kept / 48, "hallucination": 0.0}
    found = rows_short(CONSTRAINT.allowances, base, means, {"irrelevant_pass": 48, "hallucination": 48})
    assert found == short
    assert (found == 0) == CONSTRAINT.admits(base, means)
