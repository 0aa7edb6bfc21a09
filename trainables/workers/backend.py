"""Trains the trials of a worker: in its own process, or in an engine actor together with other workers' trials."""

from __future__ import annotations

import errno
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import ray
from ray.exceptions import ActorUnschedulableError, ObjectLostError, RayActorError, WorkerCrashedError

from trainables.attempt import claim
from trainables.frozen.keeping_file import write_if_new
from trainables.frozen.worth import ALONE
from trainables.lease import Owner
from trainables.record import Record
from trainables.workers.assignment import Assignment
from trainables.workers.protocol import Backend, Report, Request, check_version, report_on
from trainables.workers.retries import GivenUp, keep_traceback, reason_of, verdict_of
from trainables.workers.shared_seat import SharedSeat

if TYPE_CHECKING:
    from trainables.training.baseline import BaselineTrial
    from trainables.training.trial import Trial


ENGINE_ENDED = (RayActorError, ActorUnschedulableError, WorkerCrashedError, ObjectLostError)  # its process, or its node


STORAGE_TRIES, STORAGE_SECONDS = 6, 5.0  # for a storage that a node lost to come back


def backend_for(request: Request) -> Backend:
    """Return the backend for a request: engine actors if it names a roster, else this process.

    A scheduler of Tune decides after each eval of a trial, so each trial that it watches waits in Tune's own call.
    """
    if request.roster is None:
        return InProcess(request.cpus)
    return SharedSeat(OnEngine) if request.shares_seat else OnEngine()


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
        with keeping_traceback(self._request):
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
                if self._trial is not None and not record.spec().placement.is_baseline:
                    write_if_new(self._trial.record.directory, self._trial.step, ALONE)

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


def check_storage_is_there(request: Request) -> None:
    """Fail, after a while, on a node that has lost the storage, so that the trial is tried on another one.

    Raises:
        FileNotFoundError: this node does not see the experiment.
    """
    experiment = Path(request.stop_file).parent
    for _ in range(STORAGE_TRIES):
        if experiment.is_dir():
            return
        time.sleep(STORAGE_SECONDS)
    raise FileNotFoundError(errno.ENOENT, f"node {platform.node()} must see the storage", str(experiment))


@contextmanager
def keeping_traceback(request: Request) -> Iterator[None]:
    """Keep the traceback of an error in the records of a request, which tells it from a lost process."""

    def keep(kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, Exception):
            for trial in request.trials:
                keep_traceback(Record(Path(trial)), error)

    with ExitStack() as stack:
        stack.push(keep)
        yield


class OnEngine:
    """Sends requests to the engine actor that the roster names, which trains the trials."""

    def __init__(self) -> None:
        self._request: Request | None = None
        self._roster: Any = None
        self._engine: Any = None

    def take(self, request: Request) -> None:
        """Leave the previous request; the first call of `advance` asks for an engine."""
        assert request.roster is not None
        self._leave()
        self._roster = ray.get_actor(request.roster)
        self._request = replace(request, worker=uuid4().hex)

    def advance(self) -> Report:
        """Wait until an engine has trained the trials to their next eval, or they are given up.

        Raises:
            ProtocolMismatch: the engine runs another version of this package.
            WorkerReplaced: a newer worker called for the same trial.
        """
        while True:
            assert self._request is not None
            if not all(Path(trial).is_dir() for trial in self._request.trials):
                check_storage_is_there(self._request)
                return Report((), stopped=True)  # somebody has deleted it
            with keeping_traceback(self._request):
                report = report_on(self._request)
            if report.done:
                return report
            if self._engine is None and not self._find_engine(self._request):
                continue
            answer = self._asked(self._request)
            if answer is not None:
                return answer

    def close(self) -> None:
        """Tell the engine that this worker sends no more calls."""
        self._leave()

    def _find_engine(self, request: Request) -> bool:
        assigned: Assignment | None = ray.get(self._roster.assign.remote(request.trials[0], request.gate))
        if assigned is None:
            return False  # the launch stops
        if request.engine not in (None, assigned.engine):
            self._leave_engine(request)  # else its peers there wait for it
        try:
            self._engine = ray.get_actor(assigned.engine)
        except ValueError as error:  # it has ended, and nothing takes its place
            self._engine_ended(request, assigned.engine, error)
            return False
        self._request = replace(request, engine=assigned.engine, peers=assigned.peers, company=assigned.company)
        return True

    def _leave_engine(self, request: Request) -> None:
        assert request.engine is not None
        with suppress(ValueError):  # it has ended
            former: Any = ray.get_actor(request.engine)
            former.leave.remote(request)  # without waiting for the result

    def _asked(self, request: Request) -> Report | None:
        """Return the engine's report, None if another engine is to be asked."""
        assert request.engine is not None
        try:
            answer: Report = ray.get(self._engine.advance.remote(request))
        except ENGINE_ENDED as error:
            self._engine_ended(request, request.engine, error)
        else:
            check_version(answer)
            if answer.failure is None and not answer.moved:
                self._request = replace(request, company=None)
                return answer
            self._engine = None
            if answer.failure is not None:
                self._give_up(request, ray.get(self._roster.failed.remote(request.trials[0], answer.failure)))
        return None

    def _engine_ended(self, request: Request, engine: str, error: Exception) -> None:
        self._engine = None
        self._give_up(request, ray.get(self._roster.engine_ended.remote(request.trials[0], engine, reason_of(error))))

    def _give_up(self, request: Request, ended: GivenUp | None) -> None:
        for record in map(Record, map(Path, request.trials if ended else ())):
            if ended is not None and record.verdict() is None:
                claim(record, request.lease_epoch, ended=_has_answered).close(verdict_of(record, ended))

    def _leave(self) -> None:
        if self._request is not None:
            if self._engine is not None:
                self._engine.leave.remote(self._request)  # without waiting for the result
            self._roster.left.remote(self._request.trials[0])
            self._request = self._engine = None


def _has_answered(_: Owner) -> bool:
    return True  # the engine has dropped the trial, or has ended
