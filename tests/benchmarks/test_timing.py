"""Tests clocks, peaks and spreads."""

from __future__ import annotations

import pytest
import torch

from benchmarks import timing
from benchmarks.timing import Spread, StepClock, largest_difference

CPU = torch.device("cpu")


def test_a_clock_stops_after_its_last_step_and_leaves_the_first_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 9.0, 10.0, 12.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks))
    clock = StepClock(CPU, last=3)
    assert [clock() for _ in range(4)] == [False, False, False, True]
    assert clock.step_seconds == [1.0, 2.0]


def test_a_clock_without_a_last_step_never_stops_a_trial() -> None:
    clock = StepClock(CPU)
    assert not any(clock() for _ in range(5))


def test_a_peak_is_of_the_run_and_not_of_the_process() -> None:
    if not timing.CLEAR_PEAK.exists():
        pytest.skip("only Linux forgets a peak")
    kept = torch.ones(50_000_000)  # 200 MB
    timing.begin_peak(CPU)
    high = timing.peak_mb(CPU)
    del kept
    timing.begin_peak(CPU)
    assert timing.peak_mb(CPU) < high - 150


def test_a_spread_shows_its_ends_only_where_there_are_several() -> None:
    assert Spread((2.0,)).text(1) == "2.0"
    assert Spread((3.0, 1.0, 2.5)).text(1) == "2.5 (1.0–3.0)"


def test_losses_differ_by_their_worst_step_and_trials_must_be_the_same() -> None:
    assert largest_difference({"a": [1.0, 2.0], "b": [0.0]}, {"a": [1.0, 2.5], "b": [-1.0]}) == 1.0
    with pytest.raises(ValueError, match=r"\['b'\]"):
        largest_difference({"a": [1.0]}, {"a": [1.0], "b": [1.0]})
