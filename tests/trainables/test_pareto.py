from __future__ import annotations

import math

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.metrics import Direction
from trainables.pareto import as_costs
from trainables.pareto import non_dominated as non_dominated_costs


def non_dominated(points: list[list[float]], directions: list[Direction]) -> list[bool]:
    return non_dominated_costs(as_costs(np.array(points, dtype=float), directions)).tolist()


coordinate = st.one_of(st.integers(0, 4).map(float), st.floats(-1e6, 1e6))  # small integers make ties


@given(
    st.integers(1, 4).flatmap(
        lambda width: st.tuples(
            st.lists(st.lists(coordinate, min_size=width, max_size=width), min_size=1, max_size=12),
            st.lists(st.sampled_from(["higher", "lower"]), min_size=width, max_size=width),
        )
    )
)
def test_the_front_is_moocores(case: tuple[list[list[float]], list]) -> None:
    points, directions = case
    maximise = [direction == "higher" for direction in directions]
    expected = moocore.is_nondominated(np.array(points), maximise=maximise, keep_weakly=True)
    assert non_dominated(points, directions) == expected.tolist()


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_not_finite_is_never_on_the_front_and_dominates_nothing(broken: float, place: int) -> None:
    worse = [1.0, 1.0]
    spoilt = [0.0, 0.0]
    spoilt[place] = broken
    assert non_dominated([worse, spoilt], ["lower", "lower"]) == [True, False]
    assert non_dominated([worse, spoilt], ["higher", "higher"]) == [True, False]


def test_equal_points_share_the_front() -> None:
    assert non_dominated([[1.0, 2.0], [1.0, 2.0], [1.0, 3.0]], ["lower", "lower"]) == [True, True, False]
