"""Tests that a hang ends the process and leaves its stacks, and that slow work does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainables.phase import PhaseName
from trainables.workers.watchdog import STACKS, Limits, Watchdog, take_stacks


class Armed:
    """Keeps the limits that were set, and none after the end; its clock is set by the test."""

    def __init__(self) -> None:
        self.seconds, self.limit = 0.0, None
        self.watchdog = Watchdog(Limits(), lambda: self.seconds, self.arm, self.disarm)

    def arm(self, seconds: float, exit: bool, file: Any) -> None:
        assert exit and not file.closed
        self.limit = seconds

    def disarm(self) -> None:
        self.limit = None

    def beat(self, phase: PhaseName, step: int, after_seconds: float) -> None:
        self.seconds += after_seconds
        self.watchdog.beat(phase, step)


def test_a_step_may_take_ten_times_the_median_but_five_minutes_in_any_case(tmp_path: Path) -> None:
    armed = Armed()
    with armed.watchdog.watching(tmp_path):
        assert armed.limit == 3600.0
        armed.beat("training", 0, 1.0)
        assert armed.limit == 3600.0, "no step has been timed"
        armed.beat("training", 1, 20.0)
        assert armed.limit == 300.0
        for step in (2, 3, 4):
            armed.beat("training", step, 60.0)
            armed.beat("training", step, 0.0)  # another member of the cohort
        assert armed.limit == 600.0
        armed.beat("eval", 4, 60.0)
        assert armed.limit == 3600.0, "an eval is no step"
        armed.beat("waiting", 4, 500.0)
        assert armed.limit == 5000.0
    assert armed.limit is None
    armed.watchdog.beat("training", 5)
    assert armed.limit is None, "nothing is watched any more"
    with armed.watchdog.watching(tmp_path):
        armed.beat("training", 4, 1000.0)
        assert armed.limit == 600.0, "pauses are no steps"
    armed.watchdog.forget()
    assert armed.watchdog.limit_seconds("training") == 3600.0
    assert list(tmp_path.iterdir()) == []


def test_an_eval_between_two_steps_is_no_step(tmp_path: Path) -> None:
    armed = Armed()
    with armed.watchdog.watching(tmp_path):
        armed.beat("training", 0, 1.0)
        armed.beat("training", 1, 60.0)
        armed.beat("eval", 1, 1.0)
        armed.beat("training", 0, 900.0)  # the next of trials that train one after another
        assert armed.limit == 600.0


HANGS = """
import threading, time, sys
from pathlib import Path
from trainables.workers.watchdog import Limits, Watchdog

def never_returns():
    {wait}

watchdog = Watchdog(Limits(times_median=3.0, min_seconds=0.2, unknown_seconds=0.5))
with watchdog.watching(Path(sys.argv[1])):
    for step in range(8):
        watchdog.beat("training", step)
        time.sleep(0.02)
    never_returns()
"""


@pytest.mark.parametrize(
    "wait",
    ["time.sleep(60)", "import ctypes; ctypes.PyDLL(None).sleep(60)"],  # the second never lets another thread run
)
def test_a_process_that_hangs_is_ended_and_its_record_shows_where(wait: str, tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS.format(wait=wait), tmp_path], check=False, timeout=30)
    assert ended.returncode == 1
    assert "never_returns" in (tmp_path / STACKS).read_text()
    assert take_stacks(tmp_path) == tmp_path / "stacks-1.txt"
    assert "never_returns" in (tmp_path / "stacks-1.txt").read_text()
    assert take_stacks(tmp_path) is None


def test_a_process_that_is_killed_for_another_reason_leaves_no_stacks(tmp_path: Path) -> None:
    (tmp_path / STACKS).touch()
    assert take_stacks(tmp_path) is None
