"""The engine actor: one process with one base on one device, which trains the trials of many workers together.

Workers wait in `advance` until their trials have reached their next eval. `admission` decides which trials form a
cohort: the actor sends it events and carries out its actions. Training runs on a separate thread, so that the actor can
answer calls at any time.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import traceback
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import ray

from trainables.frozen.keeping_file import begun_alike
from trainables.frozen.settings import IN_MEMORY, CacheSettings
from trainables.record import Record
from trainables.sharing_keys import cohort_key, cohort_order, engine_key
from trainables.verdict import VERDICT
from trainables.workers import actions, events
from trainables.workers.admission import State, absent, decide
from trainables.workers.cohort_runner import CohortRunner
from trainables.workers.events import Description, WorkerCall, WorkerReplaced
from trainables.workers.protocol import Report, Request, TrialReport, check_version, trial_report
from trainables.workers.retries import TrialFailure, failure_in
from trainables.workers.watchdog import Limits, Watchdog

if TYPE_CHECKING:
    from trainables.training.trial import Trial

Result = TypeVar("Result")
Outcome = TrialReport | TrialFailure | None  # of a call; None if another engine is to train the trial

POLL_SECONDS = 1.0  # interval for changes without a message: the stop file, verdicts written by other processes
REPLY_SECONDS = 1.0  # time for answers to be sent before the process exits


@dataclass(frozen=True)
class EngineSettings:
    """Settings of an engine: its threads, the limits of `admission.State` and of the watchdog, what it keeps.

    `sharing_launch` names the launch whose engines on a node use the memory of a base together; empty if it does not.
    """

    threads: int
    stop_file: str
    max_trials: int | None = None
    admission_seconds: float = 60.0
    absence_seconds: float = 60.0
    limits: Limits = field(default_factory=Limits)
    cache: CacheSettings = IN_MEMORY
    sharing_launch: str = ""


class EngineActor:
    """A named asyncio actor of Ray: one for each GPU, or on CPUs as many as `engine_plan` plans.

    The state of a trial is in its record, so a restarted actor continues from there.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.runner = CohortRunner(
            settings.threads,
            Path(settings.stop_file),
            watchdog=Watchdog(settings.limits),
            kept=settings.cache,
            sharing_launch=settings.sharing_launch,
        )
        self._state = State(settings.max_trials, settings.admission_seconds, settings.absence_seconds)
        self._numbers = itertools.count()
        self._replies: dict[int, asyncio.Future[Outcome]] = {}
        self._requests: dict[str, Request] = {}  # the newest, by trial
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._thread.submit(import_module, "trainables.cohort.cohort")  # torch loads while the workers start
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def advance(self, request: Request) -> Report:
        """Train the trials of a request to their next eval, together with others on the same base.

        A report with a failure says what ended the cohort; a new request resumes the trials from their checkpoints.

        Raises:
            ProtocolMismatch: the worker runs another version of this package.
            WorkerReplaced: a newer worker called for the same trial.
        """
        check_version(request)
        records = [Record(Path(trial)) for trial in request.trials]
        calls = [None if record.verdict() else self._called(request, record) for record in records]
        outcomes = await asyncio.gather(*(call for call in calls if call is not None))
        failed = next((one for one in outcomes if isinstance(one, TrialFailure)), None)
        if failed or any(one is None for one in outcomes):
            return Report((), False, request.lease_epoch, failed, moved=failed is None)
        answered = iter(one for one in outcomes if isinstance(one, TrialReport))
        trials = [trial_report(r) if call is None else next(answered) for r, call in zip(records, calls, strict=True)]
        return Report(tuple(trials), self.runner.stop_requested(), request.lease_epoch)

    async def release(self, trials: Sequence[str]) -> tuple[str, ...]:
        """Send the workers of those of these trials that wait in no cohort to another engine; return these trials."""
        released = self._state.movable(trials)
        self._handle(events.Released(released))
        return released

    async def ready(self) -> None:
        """Answer, which only a living process does."""

    async def end(self) -> None:
        """Leave no file behind: the process is killed next."""
        self.runner.end_sharing()

    async def leave(self, request: Request) -> None:
        """Remove the trials of a request from their cohort at the next eval, because their worker has ended."""
        for trial in request.trials:
            self._handle(events.Left(trial, request.worker))

    def _called(self, request: Request, record: Record) -> asyncio.Future[Outcome]:
        call = WorkerCall(next(self._numbers), str(record.home), request.worker, request.peers, request.company)
        reply = asyncio.get_running_loop().create_future()
        self._replies[call.number], self._requests[call.trial] = reply, request
        self._handle(events.Arrived(call))
        return reply

    # ---------------------------------------------------------------- events
    def _handle(self, event: events.Event) -> None:
        self._apply(events.Tick(asyncio.get_running_loop().time()))
        self._apply(event)
        for polled in self._polled():
            self._apply(polled)

    def _apply(self, event: events.Event) -> None:
        self._state, decided = decide(self._state, event)
        for action in decided:
            self._carry_out(action)

    def _polled(self) -> Iterable[events.Event]:
        if self.runner.stop_requested() and not self._state.stopped:
            yield events.Stopped()
        # only the existence of the file counts: an unreadable verdict is an error for its own worker
        if ended := frozenset(trial for trial in absent(self._state) if _has_verdict(trial)):
            yield events.Ended(ended)

    def _poll(self) -> None:
        self._handle(events.Tick(asyncio.get_running_loop().time()))

    # ---------------------------------------------------------------- actions
    def _carry_out(self, action: actions.Action) -> None:
        match action:
            case actions.Reply(call):
                self._start(self._answer(call))
            case actions.Fail(call, WorkerReplaced() as error):
                self._reply(call, error)
            case actions.Fail(call, error, company):
                self._reply(call, failure_in(Record(Path(call.trial)), error, company))
            case actions.Redirect(call):
                self._reply(call, None)
            case actions.WaitUntil(seconds):
                self._wait_until(seconds)
            case actions.Describe(calls):
                self._start(self._describe(calls))
            case actions.Open(calls):
                self._start(self._open(calls))
            case actions.Advance(leave):
                self._start(self._train(leave))
            case actions.Close(drop_base):
                self._start(self._close(drop_base))

    def _reply(self, call: WorkerCall, reply: Outcome | BaseException) -> None:
        future = self._replies.pop(call.number)
        if future.done():
            return  # the call was cancelled
        if isinstance(reply, BaseException):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    def _wait_until(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(min(seconds, loop.time() + POLL_SECONDS), self._poll)

    async def _answer(self, call: WorkerCall) -> None:
        report, error = await self._attempted(partial(trial_report, Record(Path(call.trial))))
        self._reply(call, report if error is None else failure_in(Record(Path(call.trial)), error, 1))

    async def _describe(self, calls: Iterable[WorkerCall]) -> None:
        found = await self._each(calls, lambda call: describe(Record(Path(call.trial))))
        self._handle(events.Described(found, self.runner.engine_key))

    async def _open(self, calls: tuple[WorkerCall, ...]) -> None:
        trials = await self._opened(calls)
        while not self.runner.is_current(trials):  # an invalid trial dropped the base, so all are opened again
            trials.clear()  # they reference the old base
            trials = await self._opened(calls)
        self._handle(events.Opened(await self._in_thread(partial(self.runner.start, trials))))

    async def _opened(self, calls: Iterable[WorkerCall]) -> list[Trial]:
        found = await self._each(calls, self._open_trial)
        return [trial for trial in found.values() if trial is not None]

    def _open_trial(self, call: WorkerCall) -> Trial | None:
        self._tell_roster((call.trial,))
        return self.runner.open(Record(Path(call.trial)), self._requests[call.trial])

    def _tell_roster(self, trials: tuple[str, ...]) -> None:
        """Say which trials a job is about, so that they alone are suspected if this process ends in it."""
        request = self._requests[trials[0]]
        if request.roster is not None:
            roster: Any = ray.get_actor(request.roster)
            roster.began.remote(request.engine, trials)

    async def _train(self, leave: tuple[str, ...]) -> None:
        self._tell_roster(self._state.in_job)
        kinds = await self._in_thread(partial(self.runner.advance, leave))
        self._handle(events.Reached(self.runner.members(), "invalid" in kinds))

    async def _close(self, drop_base: bool) -> None:
        await self._in_thread(partial(self.runner.close, drop_base))
        self._handle(events.Closed())

    # ---------------------------------------------------------------- jobs and their errors
    def _start(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._handle(events.Failed(error, out_of_memory=_is_named("OutOfMemoryError", error)))
        self._exit_if_lost(error)
        _forget_frames(error)

    async def _each(self, calls: Iterable[WorkerCall], work: Callable[[WorkerCall], Result]) -> dict[str, Result]:
        """Do `work` for every call that still waits; an error fails only that call."""
        done: dict[str, Result] = {}
        for call in calls:
            if call.trial not in self._state.waiting:
                continue
            result, error = await self._attempted(partial(work, call))
            if error is not None:
                self._handle(events.Broke(call.number, error))
                self._exit_if_lost(error)
                _forget_frames(error)
            else:
                done[call.trial] = result  # type: ignore[assignment]
        return done

    async def _attempted(self, work: Callable[[], Result]) -> tuple[Result | None, BaseException | None]:
        attempt = asyncio.ensure_future(self._in_thread(work))
        await asyncio.wait({attempt})
        error = attempt.exception()
        return (attempt.result(), None) if error is None else (None, error)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, _deliverable, work)

    def _exit_if_lost(self, error: BaseException) -> None:
        if _is_named("AcceleratorError", error):  # this process can no longer use the device; Ray restarts the actor
            asyncio.get_running_loop().call_later(REPLY_SECONDS, os._exit, 1)


def describe(record: Record) -> Description:
    """Return which trials this one can train with: those of its group, which began alike and are at the same step."""
    spec, step = record.spec(), next(iter(record.checkpoint_steps()), 0)
    engine, began = engine_key(spec), begun_alike(record.directory, step)
    group = (engine, spec.placement.is_baseline, cohort_key(spec), step, began)
    return Description(engine, group, cohort_order(spec))


def _has_verdict(trial: str) -> bool:
    return (Record(Path(trial)).directory / VERDICT).exists()


def _deliverable(work: Callable[[], Result]) -> Result:
    try:
        return work()
    except StopIteration as error:  # a future cannot hold it: awaiting the future would never return
        raise RuntimeError("the engine's work ended with StopIteration") from error


def _is_named(name: str, error: BaseException) -> bool:
    return any(kind.__name__ == name for kind in type(error).__mro__)  # by name: torch may not be imported here


def _forget_frames(error: BaseException | None) -> None:
    while error is not None:  # frames reference the base, which must be freed before the next is loaded
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
