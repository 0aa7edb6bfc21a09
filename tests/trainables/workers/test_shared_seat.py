"""Tests the worker process that waits for several trials at once: each trial is as alone as in a process of its own."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from trainables.constraint import BestConstraint
from trainables.verdict import Verdict
from trainables.workers import shared_seat
from trainables.workers.backend import InProcess, OnEngine, backend_for
from trainables.workers.protocol import ProtocolMismatch, Report, Request, Rules, TrialReport
from trainables.workers.shared_seat import SharedSeat

RULES = Rules({}, (), BestConstraint(1.0, 1.0))
DONE = Verdict(kind="completed", step=2)


@dataclass
class Planted:
    """Trains a trial as the test tells it: what it is sent is what its backend reports or raises."""

    told: dict[str, queue.SimpleQueue[Report | Exception]] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    taken: list[Request] = field(default_factory=list)

    def backend(self) -> Backend:
        return Backend(self)

    def tell(self, trial: str, step: int, verdict: Verdict | None = None, stopped: bool = False) -> None:
        self.told[trial].put(Report((TrialReport(trial, step, {}, verdict),), stopped))


class Backend:
    def __init__(self, planted: Planted) -> None:
        self.planted = planted
        self.trial = ""

    def take(self, request: Request) -> None:
        self.planted.taken.append(request)
        [self.trial] = request.trials

    def advance(self) -> Report:
        told = self.planted.told[self.trial].get(timeout=30)
        if isinstance(told, Exception):
            raise told
        return told

    def close(self) -> None:
        self.planted.closed.append(self.trial)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Planted:
    monkeypatch.setattr(shared_seat, "TOGETHER_SECONDS", 0.05)
    return Planted({name: queue.SimpleQueue() for name in "abc"})


def seat_of(planted: Planted, tmp_path: Path, trials: str = "abc") -> SharedSeat:
    seat = SharedSeat(planted.backend)
    seat.take(Request(tuple(trials), RULES, str(tmp_path / "stop"), 0.01, 0, roster="roster", lease_epoch=7))
    return seat


def steps(report: Report) -> list[tuple[str, int]]:
    return [(one.record, one.step) for one in report.trials]


def test_a_report_has_the_newest_state_of_every_trial_and_is_done_with_the_last(
    planted: Planted, tmp_path: Path
) -> None:
    seat = seat_of(planted, tmp_path)
    planted.tell("a", 1)
    first = seat.advance()
    assert steps(first) == [("a", 1), ("b", 0), ("c", 0)] and not first.done and first.lease_epoch == 7
    planted.tell("b", 2, DONE)
    planted.tell("a", 2, DONE)
    while steps(second := seat.advance()) != [("a", 2), ("b", 2), ("c", 0)]:
        pass
    assert not second.done, "one still trains"
    planted.tell("c", 2, DONE)
    assert seat.advance().done
    assert [(one.trials, one.lease_epoch) for one in planted.taken] == [(("a",), 7), (("b",), 7), (("c",), 7)]


def test_evals_that_come_together_are_one_report(planted: Planted, tmp_path: Path) -> None:
    seat = seat_of(planted, tmp_path)
    for trial in "abc":
        planted.tell(trial, 1)
    reports = [seat.advance()]
    while any(step == 0 for _, step in steps(reports[-1])):
        reports.append(seat.advance())
    assert steps(reports[-1]) == [("a", 1), ("b", 1), ("c", 1)] and len(reports) <= 2


def test_the_error_of_one_trial_waits_until_the_others_have_ended(planted: Planted, tmp_path: Path) -> None:
    seat = seat_of(planted, tmp_path)
    planted.told["b"].put(ValueError("its record is damaged"))
    planted.tell("a", 2, DONE)
    assert not seat.advance().done
    planted.tell("c", 1)
    report = seat.advance()
    while ("c", 1) not in steps(report):
        report = seat.advance()
    assert not report.done
    planted.tell("c", 2, DONE)
    with pytest.raises(ValueError, match="its record is damaged"):
        while not seat.advance().done:
            pass


def test_another_version_ends_all_at_once(planted: Planted, tmp_path: Path) -> None:
    seat = seat_of(planted, tmp_path)
    planted.told["a"].put(ProtocolMismatch("another version"))
    with pytest.raises(ProtocolMismatch):
        seat.advance()


def test_a_stop_is_reported_when_every_trial_has_stopped(planted: Planted, tmp_path: Path) -> None:
    seat = seat_of(planted, tmp_path, "ab")
    planted.tell("a", 1, stopped=True)
    report = seat.advance()
    assert not report.stopped and not report.done
    planted.tell("b", 1, stopped=True)
    report = seat.advance()
    assert report.stopped and report.done


def test_a_trial_whose_record_was_deleted_ends_and_the_others_go_on(planted: Planted, tmp_path: Path) -> None:
    seat = seat_of(planted, tmp_path, "ab")
    planted.told["a"].put(Report((), stopped=True))
    assert not seat.advance().done
    planted.tell("b", 2, DONE)
    report = seat.advance()
    assert report.done and steps(report) == [("b", 2)]


def test_a_seat_is_used_again_and_leaves_the_engines_of_the_request_before(planted: Planted, tmp_path: Path) -> None:
    seat = seat_of(planted, tmp_path, "a")
    planted.tell("a", 2, DONE)
    assert seat.advance().done
    seat.take(Request(("b",), RULES, str(tmp_path / "stop"), 0.01, 0, roster="roster"))
    assert planted.closed == ["a"]
    planted.tell("b", 1)
    assert steps(seat.advance()) == [("b", 1)]
    before = threading.active_count()
    seat.close()
    assert planted.closed == ["a", "b"] and threading.active_count() <= before


def test_a_request_says_which_backend_trains_it(tmp_path: Path) -> None:
    alone = Request(("a",), RULES, str(tmp_path / "stop"), 1, 0)
    assert isinstance(backend_for(alone), InProcess)
    on_engine = Request(("a",), RULES, str(tmp_path / "stop"), 0.01, 0, roster="roster")
    assert isinstance(backend_for(on_engine), OnEngine), "a scheduler of Tune watches it"
    shared = Request(("a", "b"), RULES, str(tmp_path / "stop"), 0.01, 0, roster="roster", shares_seat=True)
    assert isinstance(backend_for(shared), SharedSeat)
