"""Passes the events of Ray Tune to what shows and copies the trials of a launch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any, Protocol

from ray import tune

from sweeps.execution.schedulers import Scheduler, stopped_by
from trainables.attempt import claim
from trainables.lease import Owner
from trainables.record import Record
from trainables.verdict import VERDICT
from trainables.workers.protocol import ProtocolMismatch, Report, Request, check_version
from trainables.workers.retries import TrialFailure, given_up, tracebacks, verdict_of

REASON_CHARACTERS = 200
TOGETHER_SECONDS = 2.0  # the workers of an engine that ends fail one after another


class Listener(Protocol):
    """Receives the events of trials. Its methods must not raise: an exception would end the whole launch."""

    def started(self, record: Record) -> None:
        """Called when a worker has started the trial."""
        ...

    def assigned(self, record: Record, engine: str) -> None:
        """Called when it is known which engine trains the trial."""
        ...

    def noted(self, text: str) -> None:
        """Called when a node joins or is lost."""
        ...

    def advanced(self, record: Record) -> None:
        """Called when the trial may have a new eval or a verdict."""
        ...

    def retried(self, records: Sequence[Record], reason: str) -> None:
        """Called when trials lost their worker or their engine, and go on from their newest checkpoints."""
        ...


class Relay(tune.Callback):
    """Passes what Tune reports to a listener, and gives up trials whose worker fails again and again.

    `launch` is the number of the launch that `scheduler` belongs to; `retries` are those of one trial.
    """

    def __init__(
        self, listener: Listener, stop_file: Path, launch: int, scheduler: Scheduler | None, retries: int = 0
    ) -> None:
        self.listener, self.stop_file, self.launch, self.scheduler = listener, stop_file, launch, scheduler
        self.retries = retries
        self._failures: dict[str, list[TrialFailure]] = {}
        self._tracebacks: dict[str, int] = {}  # how many a record had when its trial's worker started
        self.mismatch: ProtocolMismatch | None = None
        self._lost: dict[str, list[Record]] = {}
        self._lost_at_seconds = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for Tuner.restore, which is not used; a live table cannot be pickled

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        request: Request = trial.config["request"]
        for record in records_of(request):
            self._tracebacks[str(record.home)] = len(tracebacks(record))
            self.listener.started(record)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        report: Report = result["report"]
        try:
            check_version(report)
        except ProtocolMismatch as mismatch:
            self.mismatch = mismatch  # raised after Tune has ended: an exception here would lose results
            return
        for one in report.trials:
            self.listener.advanced(Record(Path(one.record)))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if self.scheduler is None or self.stop_file.exists():
            return
        for record in records_of(trial.config["request"]):
            if record.verdict() is None:  # only a scheduler ends a trial without a verdict
                verdict = stopped_by(self.scheduler, record.evals())
                claim(record, self.launch, ended=_has_reported).close(verdict)
                self.listener.advanced(record)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        reason = _newest_reason(trial)
        for record in records_of(trial.config["request"]):
            if (record.directory / VERDICT).exists():
                continue  # it ended before the worker that it shared
            failures = self._failures.setdefault(str(record.home), [])
            is_lost = len(tracebacks(record)) <= self._tracebacks.get(str(record.home), 0)
            failures.append(TrialFailure(reason, lost=is_lost))
            ended = given_up(failures, self.retries)
            if ended is None:
                self._lost.setdefault(reason, []).append(record)
                self._lost_at_seconds = time.monotonic()
            elif record.home.is_dir() and record.verdict() is None:  # its next worker finds the verdict, and ends
                claim(record, self.launch, ended=_has_reported).close(verdict_of(record, ended))
                self.listener.advanced(record)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._lost and time.monotonic() - self._lost_at_seconds > TOGETHER_SECONDS:
            self._tell_of_lost()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self._tell_of_lost()

    def _tell_of_lost(self) -> None:
        lost, self._lost = self._lost, {}
        for reason, records in lost.items():
            self.listener.retried(records, reason)


def _has_reported(_: Owner) -> bool:
    return True  # an engine trains a trial on only when its worker asks again


def _newest_reason(trial: Any) -> str:
    """Return why Tune tries a trial again: the last line of what it has just written beside the trial."""
    path = Path(trial.error_file or "")
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    found = [line.strip() for line in lines if line.strip() and not line.startswith("hint: ")]
    return shorten(found[-1], REASON_CHARACTERS, placeholder=" …") if found else "no reason is known"


def records_of(request: Request) -> list[Record]:
    """Return the records of the trials that a worker was asked to train."""
    return [Record(Path(trial)) for trial in request.trials]
