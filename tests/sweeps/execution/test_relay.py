"""Tests which events of Tune reach the listener, and that the workers of one lost engine are one event."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.execution import relay
from sweeps.execution.relay import REASON_CHARACTERS, TOGETHER_SECONDS, Relay
from trainables.constraint import CONSTRAINT
from trainables.record import Record
from trainables.workers.protocol import Request, Rules


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


class Retries:
    """Keeps the trials that are retried together, and why."""

    def __init__(self) -> None:
        self.heard: list[tuple[list[str], str]] = []

    def started(self, record: Record, engine: str | None) -> None:
        raise AssertionError(record)

    def advanced(self, record: Record) -> None:
        raise AssertionError(record)

    def retried(self, records: Sequence[Record], reason: str) -> None:
        self.heard.append(([record.name for record in records], reason))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(relay, "time", made)
    return made


@pytest.fixture
def retries() -> Retries:
    return Retries()


@pytest.fixture
def relayed(retries: Retries, tmp_path: Path) -> Relay:
    return Relay(retries, tmp_path / "STOP", launch=1, scheduler=None)


def failed(directory: Path, name: str, *reasons: str) -> Any:
    """A trial of Tune that is tried again, with the file of all its failures."""
    request = Request((f"/runs/{name}",), Rules({}, (), CONSTRAINT), "/runs/STOP", 1, 0)
    path = directory / f"{name}.txt"
    for number, reason in enumerate(reasons, 1):
        with path.open("a") as file:
            file.write(f"Failure # {number} (occurred at 2026-11-29_13-47-13)\n{reason}\n")
    return SimpleNamespace(config={"request": request}, error_file=path.as_posix())


DIED = "The actor is dead because its worker process has died."


def test_workers_that_fail_within_seconds_for_one_reason_are_one_event(
    relayed: Relay, retries: Retries, clock: Clock, tmp_path: Path
) -> None:
    for name in ("A1", "A2"):
        relayed.on_trial_recover(0, [], failed(tmp_path, name, f"The actor died.\n\tpid: 7\n{DIED}\n"))
        clock.seconds += TOGETHER_SECONDS / 2
        relayed.on_step_end(0, [])
    assert retries.heard == []
    clock.seconds += TOGETHER_SECONDS
    relayed.on_step_end(0, [])
    relayed.on_step_end(0, [])
    assert retries.heard == [(["A1", "A2"], DIED)]


def test_reasons_are_told_apart_and_at_the_latest_at_the_end(
    relayed: Relay, retries: Retries, clock: Clock, tmp_path: Path
) -> None:
    relayed.on_trial_recover(0, [], failed(tmp_path, "A1", "ValueError: no such row", DIED))
    relayed.on_trial_recover(0, [], failed(tmp_path, "A2", "Traceback …\nMemoryError: " + "word " * 100))
    relayed.on_trial_recover(0, [], failed(tmp_path, "A3"))
    relayed.on_experiment_end([])
    assert [names for names, _ in retries.heard] == [["A1"], ["A2"], ["A3"]]
    first, second, third = (reason for _, reason in retries.heard)
    assert first == DIED
    assert second.startswith("MemoryError: word") and second.endswith(" …") and len(second) <= REASON_CHARACTERS
    assert third == "no reason is known"
