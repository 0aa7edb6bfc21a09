"""Background MLflow writer: one thread, so that neither an outage nor a slow store delays the sweep."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping

from sweeps.tracking.tracker import Tracker
from trainables.errors import UserError, redacted
from trainables.mlflow_store import outages
from trainables.record import Record
from trainables.verdict import VERDICT

RUNNING_SECONDS = 5.0  # between two copies of a trial that still runs; what it measured meanwhile is copied together


class Mirror:
    """Passes records to a tracker on its own thread; a failed write is retried with the next result and on close."""

    def __init__(self, tracker: Tracker, command: str, tags: Mapping[str, str]) -> None:
        """Start the writer thread; it opens the launch (`command`, `tags`) as soon as MLflow answers."""
        self._tracker, self._command, self._tags = tracker, command, dict(tags)
        self._waiting: dict[str, Record] = {}
        self._resubmitted: set[str] = set()
        self._copied_seconds: dict[str, float] = {}
        self._has_postponed = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._status = "FINISHED"
        self.outage_count = 0
        self.last_outage: str | None = None
        self._wake.set()
        self._writer = threading.Thread(target=self._write_until_closed, name="mlflow-mirror", daemon=True)
        self._writer.start()

    def submit(self, record: Record) -> None:
        """Queue a record that has changed; returns at once and never raises."""
        with self._lock:
            self._waiting[record.name] = record
            self._resubmitted.add(record.name)
        self._wake.set()

    def close(self, timeout_seconds: float, status: str = "FINISHED") -> list[str]:
        """Retry the queued records and end the launch; return the names of the records that MLflow still lacks.

        A record that was deleted is not one of them: nothing can copy it.
        """
        self._status = status
        self._closing = True
        self._wake.set()
        self._writer.join(timeout_seconds)
        with self._lock:
            return sorted(name for name, record in self._waiting.items() if record.exists())

    def _write_until_closed(self) -> None:
        closing = False
        while self._wake.is_set() or not closing:
            self._wake.wait(RUNNING_SECONDS if self._has_postponed else None)
            self._wake.clear()
            closing = self._closing
            if self._succeeds(self._open_launch):
                self._write_waiting()
        self._succeeds(self._tracker.close_launch, self._status)

    def _open_launch(self) -> None:
        self._tracker.open_launch(self._command, self._tags)

    def _write_waiting(self) -> None:
        with self._lock:
            batch = dict(self._waiting)
            self._resubmitted.clear()
        self._has_postponed = False
        for name, record in batch.items():
            if not self._is_due(record):
                self._has_postponed = True
            elif self._succeeds(self._tracker.sync, record):
                self._copied_seconds[name] = time.monotonic()
                with self._lock:
                    if name not in self._resubmitted:
                        del self._waiting[name]

    def _is_due(self, record: Record) -> bool:
        since = time.monotonic() - self._copied_seconds.get(record.name, -math.inf)
        return self._closing or since >= RUNNING_SECONDS or (record.directory / VERDICT).exists()

    def _succeeds(self, write: Callable[..., None], *arguments: Record | str) -> bool:
        """Call `write`; return False on an error of MLflow or of the record. Other exceptions end this thread."""
        try:
            write(*arguments)
        except (*outages(), UserError) as error:
            self.outage_count += 1
            self.last_outage = redacted(str(error))
            return False
        return True
