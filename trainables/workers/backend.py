"""Trains the trials of a worker: in its own process, or in an engine actor together with other workers' trials."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import ray

from trainables.record import Record
from trainables.workers.protocol import Report, Request, check_version, report_on

if TYPE_CHECKING:
    from trainables.training.baseline import BaselineTrial
    from trainables.training.trial import Trial


class Backend(Protocol):
    """Trains the trials of one request at a time."""

    def take(self, request: Request) -> None:
        """Release the previous request, if any, and start this one."""
        ...

    def advance(self) -> Report:
        """Train to the next eval and report."""
        ...

    def close(self) -> None:
        """Release the request and all resources."""
        ...


def backend_for(request: Request) -> Backend:
    """Return the backend for a request: an engine actor if it names one, else this process."""
    return InProcess(request.cpus) if request.engine is None else OnEngine()


class InProcess:
    """Trains trials one after another in this process, which keeps the base loaded between requests."""

    def __init__(self, cpus: float) -> None:
        import torch

        from trainables.workers.engine_cache import EngineCache

        torch.set_num_threads(max(1, int(cpus)))
        self.cache = EngineCache()
        self._trial: Trial | BaselineTrial | None = None

    def take(self, request: Request) -> None:
        """Release the previous request; the first call of `advance` opens a trial.

        Tune can start a process for a trial, and then give the trial to another one: it must claim no record before.
        """
        self._leave()
        self._request = request

    def advance(self) -> Report:
        """Train the open trial to its next eval; if it ended, the next call opens the next trial."""
        if self._trial is None:
            self._open_next()
        if self._trial is not None:
            self._advance(self._trial)
        if self._request.stop_requested:
            self._leave()
        return report_on(self._request)

    def close(self) -> None:
        """Release the base, and end the process that checks saved adapters."""
        self._leave()
        self.cache.drop()

    def _open_next(self) -> None:
        for trial in self._request.trials:
            record = Record(Path(trial))
            if self._trial is not None or self._request.stop_requested:
                return
            if record.verdict() is None:
                self._trial = self.cache.open(record, self._request.rules, self._request.lease_epoch)
                self._drop_if_invalid(record)

    def _advance(self, trial: Trial | BaselineTrial) -> None:
        from trainables.training.failures import InputErrors, infeasible

        try:
            verdict = trial.advance(lambda: self._request.stop_requested)
        except InputErrors as error:
            verdict = infeasible(error, trial.step)
            trial.record.close(verdict)
        if verdict is not None:
            self._leave()
            self._drop_if_invalid(trial.record)

    def _drop_if_invalid(self, record: Record) -> None:
        verdict = record.verdict()
        if verdict is not None and verdict.kind == "invalid":
            self.cache.drop()  # the base may be the reason why the trial is invalid

    def _leave(self) -> None:
        if self._trial is not None:
            self._trial.remove()
            self._trial = None


class OnEngine:
    """Sends requests to an engine actor, which trains the trials."""

    def __init__(self) -> None:
        self._request: Request | None = None
        self._engine: Any = None

    def take(self, request: Request) -> None:
        """Leave the previous engine and find the one that the request names."""
        assert request.engine is not None
        self._leave()
        self._engine = ray.get_actor(request.engine)
        self._request = replace(request, worker=uuid4().hex)

    def advance(self) -> Report:
        """Wait until the engine has trained the trials to their next eval.

        Raises:
            Exception: the error that ended the cohort; a new request resumes the trials from their newest checkpoints.
            ProtocolMismatch: the engine runs another version of this package.
        """
        assert self._request is not None
        report = report_on(self._request)
        if report.done:
            return report
        answer: Any = ray.get(self._engine.advance.remote(self._request))
        check_version(answer)
        return answer

    def close(self) -> None:
        """Tell the engine that this worker sends no more calls."""
        self._leave()

    def _leave(self) -> None:
        if self._request is not None:
            self._engine.leave.remote(self._request)  # without waiting for the result
            self._request = None
