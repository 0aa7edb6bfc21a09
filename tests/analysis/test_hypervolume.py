"""Dominance and hypervolume, against moocore's."""

from __future__ import annotations

import math

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.hypervolume import hypervolume, staircase
from trainables.pareto import as_costs, dominance, non_dominated

# few distinct values, so that ties and duplicates are common
costs_of_two_or_three = st.integers(2, 3).flatmap(
    lambda columns: st.integers(1, 12).flatmap(
        lambda rows: arrays(float, (rows, columns), elements=st.integers(0, 5).map(float))
    )
)


@given(costs_of_two_or_three)
def test_the_frontier_is_moocores(costs: np.ndarray):
    assert (non_dominated(costs) == moocore.is_nondominated(costs, keep_weakly=True)).all()


@given(costs_of_two_or_three)
@settings(deadline=None)
def test_the_hypervolume_is_moocores(costs: np.ndarray):
    reference = np.full(costs.shape[1], 4.5)
    assert hypervolume(costs, reference) == pytest.approx(moocore.hypervolume(costs, ref=reference))


@given(costs_of_two_or_three, st.randoms(use_true_random=False))
def test_order_does_not_matter(costs: np.ndarray, random):
    order = list(range(len(costs)))
    random.shuffle(order)
    assert (non_dominated(costs[order]) == non_dominated(costs)[order]).all()


@given(costs_of_two_or_three)
def test_a_point_given_twice_stands_where_it_stood_once(costs: np.ndarray):
    once = non_dominated(costs)
    assert (non_dominated(np.concatenate([costs, costs])) == np.concatenate([once, once])).all()
    reference = np.full(costs.shape[1], 6.0)
    assert hypervolume(np.concatenate([costs, costs]), reference) == pytest.approx(hypervolume(costs, reference))


@given(costs_of_two_or_three)
def test_a_dominated_point_changes_nothing(costs: np.ndarray):
    with_worse = np.concatenate([costs, costs[:1] + 1.0])
    found = non_dominated(with_worse)
    assert not found[-1]
    assert (found[:-1] == non_dominated(costs)).all()


@given(costs_of_two_or_three, st.sampled_from([math.nan, math.inf, -math.inf]), st.data())
def test_what_is_not_finite_is_never_on_the_frontier_and_never_beats_another(costs, broken, data):
    planted = np.concatenate([costs, costs[:1]])
    planted[-1, data.draw(st.integers(0, costs.shape[1] - 1))] = broken
    found = non_dominated(planted)
    assert not found[-1]
    assert (found[:-1] == non_dominated(costs)).all()


@given(costs_of_two_or_three)
def test_no_two_points_dominate_each_other(costs: np.ndarray):
    dominates = dominance(costs)
    assert not (dominates & dominates.T).any()


def test_higher_is_better_where_the_objective_says_so():
    values = np.array([[0.9, 0.5], [0.8, 0.6]])
    assert non_dominated(as_costs(values, ("higher", "lower"))).tolist() == [True, False]
    assert non_dominated(as_costs(values, ("higher", "higher"))).tolist() == [True, True]


def test_the_staircase_turns_at_the_worse_of_both_neighbours():
    corners = staircase(np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0], [1.0, 1.0]]))
    assert corners.tolist() == [[0, 2], [1, 2], [1, 1], [2, 1], [2, 0]]
