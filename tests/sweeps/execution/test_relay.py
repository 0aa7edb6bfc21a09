"""Tests which events of Tune reach the listener, and that the workers of one lost engine are one event."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from sweeps.execution import relay
from sweeps.execution.relay import TOGETHER_SECONDS, Relay
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


def failed(name: str, error: Exception | None) -> Any:
    """A trial of Tune that failed and is tried again."""
    request = Request((f"/runs/{name}",), Rules({}, (), CONSTRAINT), "/runs/STOP", 1, 0)
    return SimpleNamespace(config={"request": request}, get_pickled_error=lambda: error)


DIED = "The actor died unexpectedly before finishing this task."


def test_workers_that_fail_within_seconds_for_one_reason_are_one_event(
    relayed: Relay, retries: Retries, clock: Clock
) -> None:
    for name in ("A1", "A2"):
        relayed.on_trial_recover(0, [], failed(name, ActorDiedError()))
        clock.seconds += TOGETHER_SECONDS / 2
        relayed.on_step_end(0, [])
    assert retries.heard == []
    clock.seconds += TOGETHER_SECONDS
    relayed.on_step_end(0, [])
    relayed.on_step_end(0, [])
    assert retries.heard == [(["A1", "A2"], DIED)]


def test_reasons_are_told_apart_and_at_the_latest_at_the_end(relayed: Relay, retries: Retries, clock: Clock) -> None:
    cause = ValueError("no such row\nin line 7")
    relayed.on_trial_recover(0, [], failed("A1", ActorDiedError()))
    relayed.on_trial_recover(0, [], failed("A2", RayTaskError("train", "Traceback …", cause)))
    relayed.on_trial_recover(0, [], failed("A3", None))
    relayed.on_experiment_end([])
    assert retries.heard == [(["A1"], DIED), (["A2"], "no such row"), (["A3"], "no reason is known")]
