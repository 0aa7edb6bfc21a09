"""Measures the baselines of a launch on an engine while Ray Tune starts the workers of the arms.

A thread of the launch asks the engine, as a worker would. The arms' workers wait until the gate opens: a file, so that
a roster that is started again knows it too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from sweeps.execution.relay import Listener
from trainables.attempt import claim
from trainables.record import Record
from trainables.workers.backend import OnEngine
from trainables.workers.protocol import Backend, ProtocolMismatch, Request
from trainables.workers.retries import GivenUp, reason_of, verdict_of
from trainables.workers.shared_seat import SharedSeat

if TYPE_CHECKING:
    from trainables.lease import Owner


class BaselinesAhead:
    """The baselines in `records`, which `request` asks an engine for; `check` refuses what no arm may start after."""

    def __init__(
        self, records: Sequence[Record], request: Request, gate: Path, listener: Listener, check: Callable[[], None]
    ) -> None:
        self.records, self.gate, self.listener, self.check = list(records), gate, listener, check
        self.request = replace(request, trials=tuple(str(record.home) for record in records), shares_seat=True)
        self._errors: list[BaseException] = []

    @contextmanager
    def measuring(self, backend: Callable[[], Backend] = OnEngine) -> Iterator[None]:
        """Measure on a thread until the end of the block, which ends early when the arms may not start.

        Raises:
            UserError: a baseline has no result, or the base violates a guard; no arm has trained.
        """
        thread = threading.Thread(target=self._run, args=(backend,), name="baselines", daemon=True)
        thread.start()
        yield
        thread.join()
        if self._errors:
            Path(self.request.stop_file).unlink(missing_ok=True)  # it only ended the arms' workers
            raise self._errors[0]

    def _run(self, backend: Callable[[], Backend]) -> None:
        with ExitStack() as stack:
            stack.push(self._refuse)
            for record in self.records:
                self.listener.started(record)
            self._ask(SharedSeat(backend))
            if not self.request.stop_requested:
                self.check()
                self.gate.parent.mkdir(parents=True, exist_ok=True)
                self.gate.touch()

    def _ask(self, seat: SharedSeat) -> None:
        with ExitStack() as stack:
            stack.push(self._close_failed)
            seat.take(self.request)
            done = False
            while not done:
                done = seat.advance().done
                for record in self.records:
                    self.listener.advanced(record)
        seat.close()

    def _refuse(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if error is not None:
            self._errors.append(error)
            Path(self.request.stop_file).touch()
        return True  # it is raised where the launch waits

    def _close_failed(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        if error is None or isinstance(error, ProtocolMismatch):
            return False
        for record in self.records:
            if record.home.is_dir() and record.verdict() is None:
                failed = GivenUp(type(error).__name__, reason_of(error))
                claim(record, self.request.lease_epoch, ended=_has_answered).close(verdict_of(record, failed))
                self.listener.advanced(record)
        return True  # the check says what the record says


def _has_answered(_: Owner) -> bool:
    return True  # the engine trains only what is asked for
