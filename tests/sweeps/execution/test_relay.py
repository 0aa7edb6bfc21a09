"""Tests which events of Tune reach the listener, and that the workers of one lost engine are one event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.execution import relay
from sweeps.execution.relay import REASON_CHARACTERS, TOGETHER_SECONDS, Relay
from trainables.constraint import CONSTRAINT
from trainables.record import Record
from trainables.spec import Placement, Source, TrialSpec
from trainables.workers.protocol import Request, Rules
from trainables.workers.retries import MOST_LOST, keep_traceback


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


class Retries:
    """Keeps the trials that are retried together, and why."""

    def __init__(self) -> None:
        self.heard: list[tuple[list[str], str]] = []

    def started(self, record: Record) -> None: ...

    def assigned(self, record: Record, engine: str) -> None:
        raise AssertionError(record)

    def noted(self, text: str) -> None:
        raise AssertionError(text)

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


def test_the_hint_of_an_error_is_not_its_reason(relayed: Relay, retries: Retries, tmp_path: Path) -> None:
    relayed.on_trial_recover(0, [], failed(tmp_path, "A1", "FileDamaged: no spec.json\nhint: restore it"))
    relayed.on_experiment_end([])
    assert retries.heard == [(["A1"], "FileDamaged: no spec.json")]


# ---------------------------------------------------------------- trials that are given up
class Ended(Retries):
    """Keeps the verdicts that it is told of, too."""

    def __init__(self) -> None:
        super().__init__()
        self.verdicts: list[str] = []

    def advanced(self, record: Record) -> None:
        self.verdicts.append(str(record.verdict()))


@pytest.fixture
def record(tmp_path: Path) -> Record:
    made = Record(tmp_path / "A1")
    sources = {key: Source(path=Path(key), sha256=key) for key in ("base", "train", "validation", "ood")}
    made.create(TrialSpec(name="A1", placement=Placement(language=1), **sources))
    return made


def raised(record: Record, *reasons: str) -> Any:
    """A trial of Tune whose own work raised an error, in a process of its own."""
    trial = failed(record.home.parent, record.name, *reasons)
    trial.config["request"] = replace(trial.config["request"], trials=(str(record.home),))
    return trial


def fail(relayed: Relay, record: Record, trial: Any, reason: str) -> None:
    """Start a worker for the trial, in which the trial's own work raises an error."""
    relayed.on_trial_start(0, [], trial)
    keep_traceback(record, ValueError(reason))
    relayed.on_trial_recover(0, [], trial)


def lose(relayed: Relay, trial: Any) -> None:
    """Start a worker for the trial, and lose it."""
    relayed.on_trial_start(0, [], trial)
    relayed.on_trial_recover(0, [], trial)


def test_a_trial_that_fails_twice_alike_is_given_up_and_others_are_not(record: Record, tmp_path: Path) -> None:
    heard = Ended()
    relayed = Relay(heard, tmp_path / "STOP", launch=0, scheduler=None, retries=2)
    fail(relayed, record, raised(record, "ValueError: row 3"), "row 3")
    fail(relayed, record, raised(record, "ValueError: row 4"), "row 4")
    assert record.verdict() is None and heard.verdicts == []
    fail(relayed, record, raised(record, "ValueError: row 4"), "row 4")
    assert heard.verdicts == ["failed(ValueError)"]
    verdict = record.verdict()
    assert verdict is not None and verdict.reason == "failed twice alike: ValueError: row 4"


def test_lost_nodes_count_apart_and_more_of_them_are_borne(record: Record, tmp_path: Path) -> None:
    keep_traceback(record, ValueError("of an earlier launch"))
    keep_traceback(record, ValueError("of an earlier launch"))
    heard = Ended()
    relayed = Relay(heard, tmp_path / "STOP", launch=0, scheduler=None, retries=2)
    lost = failed(tmp_path, "A1", DIED)
    lost.config["request"] = replace(lost.config["request"], trials=(str(record.home),))
    for _ in range(MOST_LOST):
        lose(relayed, lost)
    fail(relayed, record, raised(record, "ValueError: row 4"), "row 4")
    assert heard.verdicts == []
    lose(relayed, lost)
    assert heard.verdicts == ["failed(infrastructure)"]
