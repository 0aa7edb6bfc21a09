"""Tests the limits of budgets and names, and that counts in closed form equal those of walking every step."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.errors import UserError
from trainables.limits import MOST_NAME_BYTES, MOST_ROWS, MOST_STEPS, budget_problem, name_problem
from trainables.schedule import SCHEDULES, rate_factor, rows_at, rows_before, steps_at_rate
from trainables.spec import Placement, Source, parse_spec

SOURCES = {key: Source(path="/x", sha256=key) for key in ("base", "train", "validation", "ood")}  # type: ignore[arg-type]
share = st.floats(0, 1)


@given(st.integers(0, 80), st.integers(1, 300), st.integers(0, 80))
def test_rows_before_a_step_are_the_sum_of_those_of_every_step(step: int, rows: int, growing: int) -> None:
    assert rows_before(step, rows, growing) == sum(rows_at(earlier, rows, growing) for earlier in range(step))


@given(share, st.integers(1, 80), share, share, st.sampled_from(sorted(SCHEDULES)))
def test_steps_at_a_rate_are_counted_as_by_walking(
    least: float, steps: int, warmup: float, floor: float, schedule: str
) -> None:  # fmt: skip
    walked = sum(rate_factor(step, steps, warmup, floor, schedule) >= least for step in range(steps))
    assert steps_at_rate(least, steps, warmup, floor, schedule) == walked


def test_the_largest_budget_is_counted_at_once() -> None:
    began = time.perf_counter()
    rows_before(MOST_STEPS, 1000, MOST_STEPS)
    steps_at_rate(0.1, MOST_STEPS, 0.2, 0.1)
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(
    ("steps", "rows", "is_refused"),
    [(MOST_STEPS, 1, False), (MOST_STEPS + 1, 1, True), (10, MOST_ROWS // 10, False), (10, MOST_ROWS // 10 + 1, True)],
)
def test_a_budget_at_its_limit(steps: int, rows: int, is_refused: bool) -> None:
    assert (budget_problem(steps, rows) is not None) == is_refused


@pytest.mark.parametrize(
    ("name", "is_refused"),
    [("C2-r8", False), ("实验", False), ("a" * MOST_NAME_BYTES, False), ("a" * (MOST_NAME_BYTES + 1), True), ("", True),
     ("实" * 70, True), ("a/b", True), ("a\nb", True), ("a\0", True), ("\udcff", True)],
)  # fmt: skip
def test_a_name_at_its_limit(name: str, is_refused: bool) -> None:
    assert (name_problem(name) is not None) == is_refused


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"steps": MOST_STEPS + 1}, "`steps` must be at most 10,000,000"),
        ({"steps": MOST_STEPS, "batch_rows": 1001}, "steps x batch_rows x accumulation_steps must be at most"),
        ({"data_seed": 2**63}, "`data_seed`"),
        ({"name": "a" * 300}, "`name`: must be a name of 1 to 200 bytes"),
    ],
)
def test_a_spec_keeps_to_the_limits(setting: dict[str, object], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_spec({"name": "C2", "placement": Placement(language=1), **SOURCES, **setting})
    assert expected in caught.value.message
