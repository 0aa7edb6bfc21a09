"""Tests that no arm starts before its baselines are measured and accepted, and what each way to fail leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sweeps.execution.baselines_ahead import BaselinesAhead
from trainables.attempt import claim
from trainables.constraint import BestConstraint
from trainables.errors import UserError
from trainables.record import Record
from trainables.spec import Placement, Source, TrialSpec
from trainables.verdict import Verdict
from trainables.workers.protocol import ProtocolMismatch, Report, Request, Rules, report_on


class Listener:
    """Keeps the names of the records that it is notified of."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def started(self, record: Record) -> None:
        self.heard.append("started")

    def assigned(self, record: Record, engine: str) -> None: ...

    def noted(self, text: str) -> None: ...

    def advanced(self, record: Record) -> None:
        self.heard.append(f"advanced {record.verdict()}")

    def retried(self, records: Sequence[Record], reason: str) -> None: ...


class Engine:
    """Measures a baseline at once, stops, or raises what it is given."""

    def __init__(self, error: Exception | None = None, stops: bool = False) -> None:
        self.error, self.stops = error, stops

    def take(self, request: Request) -> None:
        self.request = request

    def advance(self) -> Report:
        if self.error is not None:
            raise self.error
        if self.stops:
            Path(self.request.stop_file).touch()
            return report_on(self.request)
        claim(Record(Path(self.request.trials[0])), 1).close(Verdict(kind="completed", step=0))
        return report_on(self.request)

    def close(self) -> None: ...


class Launch:
    """A baseline in an experiment, and what was checked of it."""

    def __init__(self, root: Path, refuses: bool = False) -> None:
        sources = {key: Source(path=Path(key), sha256=key) for key in ("base", "train", "validation", "ood")}
        self.record = Record(root / "trials" / "A0")
        self.record.create(TrialSpec(name="A0", placement=Placement(), **sources))  # type: ignore[arg-type]
        self.stop, self.gate, self.refuses = root / "stop", root / "ray" / "launch-1" / "gate", refuses
        self.listener = Listener()
        request = Request(("an arm",), Rules({}, (), BestConstraint(1.0, 1.0)), str(self.stop), 0.01, 0, "roster",
                          lease_epoch=1)  # fmt: skip
        self.ahead = BaselinesAhead([self.record], request, self.gate, self.listener, self.check)

    def check(self) -> None:
        verdict = self.record.verdict()
        if self.refuses or verdict is None or verdict.kind != "completed":
            raise UserError(f"refused: {verdict}")

    def run(self, engine: Engine) -> None:
        with self.ahead.measuring(lambda: engine):
            pass


def test_the_gate_opens_when_the_baseline_is_accepted(tmp_path: Path) -> None:
    launch = Launch(tmp_path)
    assert not launch.gate.exists()
    launch.run(engine := Engine())
    assert launch.gate.exists() and not launch.stop.exists()
    assert engine.request.trials == (str(launch.record.home),) and engine.request.lease_epoch == 1
    assert launch.listener.heard == ["started", "advanced completed"]


def test_a_refused_baseline_ends_the_arms_workers_and_is_raised(tmp_path: Path) -> None:
    launch, seen = Launch(tmp_path, refuses=True), []
    with pytest.raises(UserError, match="refused: completed"), launch.ahead.measuring(Engine):
        while not launch.stop.exists():
            pass
        seen.append(launch.gate.exists())
    assert seen == [False] and not launch.gate.exists()
    assert not launch.stop.exists(), "the launch was not stopped by its user"


def test_a_baseline_that_cannot_be_measured_has_a_verdict_that_says_why(tmp_path: Path) -> None:
    launch = Launch(tmp_path)
    with pytest.raises(UserError, match=r"refused: failed\(ValueError\)"):
        launch.run(Engine(ValueError("the engine is broken")))
    verdict = launch.record.verdict()
    assert verdict is not None and verdict.reason == "ValueError: the engine is broken" and not launch.gate.exists()


def test_another_version_is_said_and_leaves_no_verdict(tmp_path: Path) -> None:
    launch = Launch(tmp_path)
    with pytest.raises(ProtocolMismatch):
        launch.run(Engine(ProtocolMismatch("another version")))
    assert launch.record.verdict() is None and not launch.gate.exists()


def test_a_stop_of_the_user_stays_and_opens_no_gate(tmp_path: Path) -> None:
    launch = Launch(tmp_path)
    launch.run(Engine(stops=True))
    assert launch.stop.exists() and not launch.gate.exists() and launch.record.verdict() is None
