"""A worker process for all trials of a group: Tune starts one process, and one thread in it waits for each trial.

Each thread is what a process of its own would be: it asks the roster for an engine, is retried and moved alone, and its
trial ends alone. Only a scheduler of Tune needs a process for each trial, because it decides between two evals.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType

from trainables.workers.protocol import Backend, ProtocolMismatch, Report, Request, TrialReport

TOGETHER_SECONDS = 0.2  # the trials of a cohort reach their evals at the same time, one after another


@dataclass(frozen=True)
class Heard:
    """What a trial's thread says: a report, or the error that ended it."""

    trial: str
    report: Report | None = None
    error: BaseException | None = None

    @property
    def is_last(self) -> bool:
        """True when the thread has ended."""
        return self.report is None or self.report.done


class SharedSeat:
    """Trains the trials of a request at the same time; a report has the newest state of all of them.

    `backend` makes what trains one trial. An error of one trial is raised when the others have ended: Tune then tries
    the request again, in which they have their verdicts.
    """

    def __init__(self, backend: Callable[[], Backend]) -> None:
        self._backend = backend
        self._request: Request | None = None
        self._backends: dict[str, Backend] = {}
        self._heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self._newest: dict[str, Report] = {}
        self._errors: list[BaseException] = []
        self._training: set[str] = set()

    def take(self, request: Request) -> None:
        """Release the previous request; the first call of `advance` starts the trials of this one."""
        self.close()
        self._request = request

    def advance(self) -> Report:
        """Wait until a trial has reached an eval or has ended, and report on all of them.

        Raises:
            ProtocolMismatch: an engine runs another version of this package.
            Exception: what ended the thread of a trial, when no other trial trains any more.
        """
        assert self._request is not None
        if not self._backends:
            self._start(self._request)
        self._hear()
        if not self._training and self._errors:
            raise self._errors[0]
        return joined(self._request, self._newest, bool(self._training))

    def close(self) -> None:
        """Leave all engines; a thread that still waits for one is left behind and ends with the process."""
        for backend in self._backends.values():
            backend.close()
        self._backends, self._newest, self._errors, self._training = {}, {}, [], set()
        self._heard = queue.SimpleQueue()

    def _start(self, request: Request) -> None:
        for trial in request.trials:
            backend = self._backends[trial] = self._backend()
            backend.take(replace(request, trials=(trial,)))
            self._training.add(trial)
            heard = self._heard
            threading.Thread(target=_train, args=(trial, backend, heard), name=f"seat of {trial}", daemon=True).start()

    def _hear(self) -> None:
        if not self._training:
            return
        news = [self._heard.get()]
        try:
            while len(news) < len(self._training):
                news.append(self._heard.get(timeout=TOGETHER_SECONDS))
        except queue.Empty:
            pass
        for one in news:
            if one.report is not None:
                self._newest[one.trial] = one.report
            if one.is_last:
                self._training.discard(one.trial)
            if isinstance(one.error, ProtocolMismatch):
                raise one.error
            if one.error is not None:
                self._errors.append(one.error)


def joined(request: Request, newest: Mapping[str, Report], is_training: bool) -> Report:
    """Return one report of the newest reports of trials; it is done only when none of them trains any more."""
    trials: list[TrialReport] = []
    for trial in request.trials:
        trials.extend(newest[trial].trials if trial in newest else (TrialReport(trial, 0, {}, None),))
    stopped = not is_training and any(report.stopped for report in newest.values())
    return Report(tuple(trials), stopped, request.lease_epoch)


def _train(trial: str, backend: Backend, heard: queue.SimpleQueue[Heard]) -> None:
    """Let one trial train to its end, and say every report; on a thread of its own."""

    def say_error(kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if error is not None:
            heard.put(Heard(trial, error=error))
        return True  # it is raised on the thread that Tune waits for

    with ExitStack() as stack:
        stack.push(say_error)
        while True:
            report = backend.advance()
            heard.put(Heard(trial, report))
            if report.done:
                return
