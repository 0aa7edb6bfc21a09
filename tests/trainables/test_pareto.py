"""Tests dominance against its definition, hypervolume against a count of cells, and the parsing of objectives."""

from __future__ import annotations

import itertools
import math
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trainables.errors import UserError
from trainables.pareto import (
    as_costs,
    attainment,
    dominance,
    fronts,
    hypervolume,
    hypervolumes,
    non_dominated,
    parse_objectives,
    share_on_frontier,
)

CELLS = 6  # the grid on which volumes are counted is that wide

# few distinct values, so that ties and duplicates are common
costs_of_one_to_three = st.integers(1, 3).flatmap(
    lambda columns: st.integers(1, 12).flatmap(
        lambda rows: arrays(float, (rows, columns), elements=st.integers(-1, CELLS).map(float))
    )
)
costs_of_floats = st.integers(1, 4).flatmap(
    lambda columns: st.integers(1, 12).flatmap(
        lambda rows: arrays(float, (rows, columns), elements=st.floats(-1e6, 1e6))
    )
)
not_finite = st.sampled_from([math.nan, math.inf, -math.inf])


def dominates(one: list[float], other: list[float]) -> bool:
    """Pareto dominance as textbooks define it, for costs."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))


def frontier_by_definition(costs: np.ndarray) -> list[bool]:
    rows = costs.tolist()
    return [not any(dominates(other, row) for other in rows) for row in rows]


def dominated_cells(costs: np.ndarray) -> int:
    """Count the unit cells of [0, CELLS)^n that some point dominates; points may lie at -1, below the grid."""
    corners = itertools.product(range(-1, CELLS), repeat=costs.shape[1])
    return sum(any(all(a <= b for a, b in zip(row, corner, strict=True)) for row in costs) for corner in corners)


# ---------------------------------------------------------------- dominance
@given(st.one_of(costs_of_one_to_three, costs_of_floats))
@settings(deadline=None)
def test_the_frontier_is_what_nothing_dominates(costs: np.ndarray) -> None:
    assert non_dominated(costs).tolist() == frontier_by_definition(costs)


@given(costs_of_one_to_three)
def test_dominance_names_the_pairs(costs: np.ndarray) -> None:
    rows = costs.tolist()
    assert dominance(costs).tolist() == [[dominates(one, other) for other in rows] for one in rows]


@given(costs_of_one_to_three, not_finite, st.data())
def test_what_is_not_finite_is_never_on_the_frontier_and_dominates_nothing(costs, broken, data) -> None:
    planted = np.concatenate([costs, costs[:1]])
    planted[-1, data.draw(st.integers(0, costs.shape[1] - 1))] = broken
    found, pairs = non_dominated(planted), dominance(planted)
    assert not found[-1]
    assert found[:-1].tolist() == non_dominated(costs).tolist()
    assert not pairs[-1].any() and not pairs[:, -1].any()


def test_where_nothing_is_finite_nothing_is_on_the_frontier() -> None:
    assert non_dominated(np.array([[math.nan, 1.0], [1.0, math.inf]])).tolist() == [False, False]


@given(costs_of_one_to_three, st.randoms(use_true_random=False))
def test_order_does_not_matter(costs: np.ndarray, random) -> None:
    order = list(range(len(costs)))
    random.shuffle(order)
    assert (non_dominated(costs[order]) == non_dominated(costs)[order]).all()


@given(costs_of_one_to_three)
def test_equal_points_share_the_frontier(costs: np.ndarray) -> None:
    once = non_dominated(costs)
    assert (non_dominated(np.concatenate([costs, costs])) == np.concatenate([once, once])).all()


def test_higher_is_better_where_the_objective_says_so() -> None:
    values = np.array([[0.9, 0.5], [0.8, 0.6]])
    assert non_dominated(as_costs(values, ("higher", "lower"))).tolist() == [True, False]
    assert non_dominated(as_costs(values, ("higher", "higher"))).tolist() == [True, True]


def test_sets_of_points_are_compared_each_by_itself() -> None:
    sets = np.random.default_rng(0).integers(0, 4, size=(5, 6, 2)).astype(float)
    assert dominance(sets).tolist() == [dominance(one).tolist() for one in sets]


# ---------------------------------------------------------------- resamples
def resampled(draws: int, points: int, objectives: int = 2) -> np.ndarray:
    return np.random.default_rng(1).integers(0, CELLS, size=(draws, points, objectives)).astype(float)


def test_the_share_of_draws_on_the_frontier_is_that_of_the_definition() -> None:
    draws = resampled(40, 8, 3)
    assert share_on_frontier(draws) == pytest.approx(np.mean([frontier_by_definition(one) for one in draws], axis=0))
    with pytest.raises(ValueError, match="at least one draw"):
        share_on_frontier([])


def test_hypervolumes_are_those_of_each_draw() -> None:
    draws, reference = resampled(20, 8), np.full(2, float(CELLS))
    assert hypervolumes(draws, reference).tolist() == [hypervolume(one, reference) for one in draws]


@pytest.mark.parametrize("percentage", [5.0, 50.0, 100.0])
def test_an_attainment_surface_bounds_what_so_many_draws_attain(percentage: float) -> None:
    """Every corner of the grid is counted: the surface dominates exactly those that enough draws attain."""
    draws = resampled(20, 6)
    (surface,) = attainment(fronts(draws), [percentage])
    for corner in itertools.product(range(CELLS + 1), repeat=2):
        attained = np.mean([(one <= corner).all(axis=1).any() for one in draws])
        assert (surface <= corner).all(axis=1).any() == (attained >= percentage / 100 - 1e-9), corner


def test_a_front_holds_each_point_of_the_frontier_once() -> None:
    for draw in resampled(40, 12):
        assert sorted(map(tuple, fronts([draw])[0])) == sorted(
            {tuple(one) for one in draw[frontier_by_definition(draw)]}
        )


def test_draws_without_a_point_attain_nothing() -> None:
    assert [len(one) for one in attainment(fronts([np.full((2, 2), math.nan)]), [50.0])] == [0]


class Costs(np.ndarray):
    """An array that can be referred to weakly."""


def test_resamples_are_read_one_after_another() -> None:
    """Ten thousand points in 40 resamples take the memory of a few, not of 40: draws are dropped once counted."""
    held: list[weakref.ref[Costs]] = []
    alive: list[int] = []

    def draws():
        for seed in range(40):
            one = np.random.default_rng(seed).standard_normal((10_000, 2)).view(Costs)
            held.append(weakref.ref(one))
            alive.append(sum(each() is not None for each in held))
            yield one
            del one

    share = share_on_frontier(draws())
    assert share.shape == (10_000,) and 0.0 < share.sum() < 100.0
    assert max(alive) <= 3


# ---------------------------------------------------------------- hypervolume
@given(costs_of_one_to_three)
@settings(deadline=None)
def test_the_hypervolume_is_the_number_of_dominated_cells(costs: np.ndarray) -> None:
    reference = np.full(costs.shape[1], float(CELLS))
    assert hypervolume(costs, reference) == pytest.approx(dominated_cells(costs))


@given(costs_of_one_to_three)
def test_a_point_given_twice_or_dominated_adds_no_volume(costs: np.ndarray) -> None:
    reference = np.full(costs.shape[1], float(CELLS))
    more = np.concatenate([costs, costs, costs[:1] + 1.0])
    assert hypervolume(more, reference) == pytest.approx(hypervolume(costs, reference))


def test_a_point_that_is_not_inside_the_reference_adds_no_volume() -> None:
    reference = np.array([4.0, 4.0])
    costs = np.array([[1.0, 1.0], [0.0, 4.0], [5.0, 0.0], [math.nan, 0.0], [math.inf, 0.0]])
    assert hypervolume(costs, reference) == 9.0
    assert hypervolume(costs[1:], reference) == 0.0
    assert hypervolume(np.empty((0, 2)), reference) == 0.0


# ---------------------------------------------------------------- objectives
@pytest.mark.parametrize(
    ("texts", "options", "message", "hint"),
    [
        (["irelevant_pass"], ["--x"], "--x: a metric must be one", "did you mean `irrelevant_pass`?"),
        (["irelevant_pass"], [], "a metric must be one", "did you mean `irrelevant_pass`?"),
        (["eval_loss:lowr"], ["--y"], "--y must be NAME, NAME:higher or NAME:lower", "did you mean `lower`?"),
        (["eval_loss:"], [], "an objective must be NAME, NAME:higher or NAME:lower", ""),
        ([], [], "at least one objective is needed", "--objectives exact_match,irrelevant_pass"),
        (["exact_match"] * 2, ["--x", "--y"], "got `exact_match` 2 times by --x and --y", "another metric for --x or"),
        (["exact_match"] * 2, [], "got `exact_match` 2 times in `exact_match,exact_match`", "list exact_match once"),
    ],
)
def test_an_objective_that_cannot_be_read_is_refused(texts, options, message, hint) -> None:
    with pytest.raises(UserError) as caught:
        parse_objectives(texts, options)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_an_objective_has_its_metrics_direction_and_unit() -> None:
    found = parse_objectives([" hallucination", "eval_loss", "eval_seconds:higher"])
    assert [(one.direction, one.unit) for one in found] == [
        ("lower", "fraction"),
        ("lower", "nats/token"),
        ("higher", "s"),
    ]
    assert [one.is_price for one in found] == [False, False, True]
    assert [one.better(2.0, 1.0) for one in found] == [False, False, True]
