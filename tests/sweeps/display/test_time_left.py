"""Tests the estimate of the time left, above all on the timings of a real launch of two engines."""

from __future__ import annotations

import pytest

from sweeps.display.time_left import TrialWork, duration, seconds_left

# `make stage4` on two cores: seconds from the first step until each eval at steps 30, 60, 90 and 120 was reported.
# C1 was pruned at step 90. The shares of compute (see below) sum to a sixth of this.
FIRST, SECOND = "A1 A2 B1 B2 C1 D1", "B3 C2 C3 D2 D3"
EVALS = {
    "A1": (58.8, 116.8, 172.2, 220.4), "A2": (58.8, 116.9, 172.2, 220.9), "B1": (58.9, 116.9, 172.3, 221.0),
    "B2": (59.0, 117.0, 172.4, 221.4), "C1": (58.9, 117.0, 172.3), "D1": (59.0, 117.0, 172.4, 221.3),
    "B3": (62.6, 122.5, 172.7, 219.7), "C2": (62.4, 122.4, 172.6, 219.3), "C3": (62.7, 122.5, 172.8, 220.1),
    "D2": (62.5, 122.5, 172.7, 219.6), "D3": (62.7, 122.6, 172.9, 220.4),
}  # fmt: skip
ENDED_SECONDS = 221.4
SECONDS_PER_STEP_SHARE, EVAL_SHARE = 0.28, 2.24  # what a trial's own share of compute says
STEPS_PER_EVAL = EVAL_SHARE / SECONDS_PER_STEP_SHARE


def work_at(now: float, trial: str) -> TrialWork:
    evals = sum(one <= now for one in EVALS[trial])
    is_over = evals == len(EVALS[trial])
    engine = "one" if trial in FIRST.split() else "two"
    left = 0.0 if is_over else (120 - 30 * evals) + STEPS_PER_EVAL * (4 - evals)
    return TrialWork(engine, evals * (30 + STEPS_PER_EVAL), left, began_seconds=0.0)


@pytest.mark.parametrize("now", [63.0, 123.0, 173.0])
def test_a_replayed_cohort_is_estimated_from_the_wall_clock(now: float) -> None:
    estimate = seconds_left([work_at(now, trial) for trial in EVALS], now)
    assert estimate == pytest.approx(ENDED_SECONDS - now, rel=0.25)


def test_shares_of_compute_taken_for_the_wall_clock_are_several_times_too_low() -> None:
    """The estimate that this one replaces, at the first evals of the same launch."""
    share = (30 * SECONDS_PER_STEP_SHARE + EVAL_SHARE) / 30
    old = sum(120 - 30 for _ in EVALS) * share / len(EVALS)
    assert old < (ENDED_SECONDS - 63.0) / 4


def test_nothing_is_estimated_before_the_first_step() -> None:
    assert seconds_left([], 5.0) is None
    assert seconds_left([TrialWork("one", 0, 120, None), TrialWork("one", 0, 120, 5.0)], 5.0) is None


def test_the_slowest_engine_decides_and_one_that_has_not_begun_is_taken_for_the_mean() -> None:
    fast, slow = TrialWork("fast", 100, 20, 0.0), TrialWork("slow", 50, 70, 0.0)
    assert seconds_left([fast, slow], 100.0) == pytest.approx(140.0)
    late = TrialWork("late", 0, 300, None)
    assert seconds_left([fast, slow, late], 100.0) == pytest.approx(300 / 0.75)


def test_waiting_trials_take_their_turn_in_as_many_processes_as_run() -> None:
    running = [TrialWork(None, 60, 60, 0.0), TrialWork(None, 60, 60, 0.0)]
    waiting = [TrialWork(None, 0, 120, None)] * 2
    assert seconds_left([*running, *waiting], 60.0) == pytest.approx(180.0)


def test_a_long_last_trial_is_not_divided_among_processes() -> None:
    ended, last = TrialWork(None, 120, 0, 0.0), TrialWork(None, 120, 120, 0.0)
    assert seconds_left([ended, last], 120.0) == pytest.approx(120.0)


def test_a_launch_that_is_over_has_nothing_left() -> None:
    assert seconds_left([TrialWork("one", 120, 0, 0.0)], 60.0) == 0.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (599, "9 min 59 s"), (601, "10 min"), (3599, "60 min"),
     (7500, "2 h 5 min")],
)  # fmt: skip
def test_a_duration_is_said_as_people_say_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text
