"""Tests any order of faults of `fault_machine.py`, and that the machine finds faults which are planted in the code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from fault_machine import Launches
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from trainables.attempt import claim
from trainables.lease import Owner
from trainables.record import Record

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
TestLaunches = Launches.TestCase
TestLaunches.settings = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=QUIET)


# ---------------------------------------------------------------- the machine itself
def _claim_in_place(record: Record, launch: int, ended: Any, me: Owner) -> Record:
    """Take over without an epoch, as if the late writer had ended."""
    return claim(record, launch, lambda _: True, me)


def _reopen_all(records: Any) -> list[Record]:
    for record in records:
        record.reopen()
    return list(records)


def _overwrite(self: Record, step: int) -> None:
    """Forget nothing when a trial resumes, so that it measures again what is still there."""


def _append_unsynced(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.fsync(os.open(path, os.O_RDWR))  # the file is complete only now, but was already in its place


PLANTED = {
    "a takeover writes where the late writer does": ("fake_world.claim", _claim_in_place),
    "a completed trial is reopened": ("fault_machine.reopened", _reopen_all),
    "a resumed trial keeps lines of later steps": ("trainables.record.Record.forget_after", _overwrite),
    "files are written in place": ("trainables.io.files.write_text", _append_unsynced),
    "anybody may take a lease": ("sweeps.execution.lease_holder.may_take", lambda _: True),
    "a damaged checkpoint counts as whole": ("trainables.record.is_whole", lambda directory: directory.exists()),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", PLANTED)
def test_the_machine_finds_a_planted_fault(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*PLANTED[fault])
    with pytest.raises(BaseException) as found:
        run_state_machine_as_test(
            Launches,
            settings=settings(
                max_examples=400, stateful_step_count=30, deadline=None, database=None, phases=[Phase.generate],
                suppress_health_check=QUIET, derandomize=True, report_multiple_bugs=False,
            ),
        )  # fmt: skip
    assert not isinstance(found.value, KeyboardInterrupt | SystemExit)


@pytest.mark.slow
def test_many_orders_of_faults() -> None:
    run_state_machine_as_test(
        Launches,
        settings=settings(max_examples=500, stateful_step_count=40, deadline=None, suppress_health_check=QUIET),
    )
