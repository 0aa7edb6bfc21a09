"""Ends a process whose training hangs, after writing where every thread stands into the record.

`faulthandler` does both on a thread of its own that needs no Python, so that code which never returns cannot stop it.
"""

from __future__ import annotations

import faulthandler
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from trainables.phase import PhaseName

STACKS = ".stacks.txt"  # hidden: an unfinished record lists it nowhere
KEPT = 100  # step times that the median is of


@dataclass(frozen=True)
class Limits:
    """How long a step may take: `times_median` times the median of earlier ones, but `min_seconds` or more.

    `unknown_seconds` bounds what has no median yet: the first step, and an eval.
    """

    times_median: float = 10.0
    min_seconds: float = 300.0
    unknown_seconds: float = 3600.0


@dataclass
class Watchdog:
    """Watches one engine's job at a time; `clock` counts seconds."""

    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.monotonic
    arm: Callable[..., None] = faulthandler.dump_traceback_later
    disarm: Callable[[], None] = faulthandler.cancel_dump_traceback_later
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    _evals: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    _last: tuple[PhaseName, int, float] | None = None
    _file: object = None

    @contextmanager
    def watching(self, record: Path) -> Iterator[None]:
        """Watch until the end of the block; a hang writes the stacks into `record` and ends this process."""
        path = record / STACKS
        with path.open("w", encoding="utf-8") as file:
            self._file, self._last = file, None
            self._arm(self.limits.unknown_seconds)
            try:
                yield
            finally:
                self.disarm()
                self._file = None
                path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Forget how long steps take: those of another cohort say nothing about the next one's."""
        self._seconds.clear()

    def beat(self, phase: PhaseName, step: int) -> None:
        """Note that a trial shows a phase, with its completed steps; every member of a cohort does so at each step."""
        if self._file is None or (self._last is not None and self._last[:2] == (phase, step)):
            return
        now = self.clock()
        if self._last is not None and self._last[0] == phase == "training":
            self._seconds.append(now - self._last[2])
        elif self._last is not None and self._last[0] == "eval":
            self._evals.append(now - self._last[2])
        self._last = phase, step, now
        self._arm(self.limit_seconds(phase))

    def limit_seconds(self, phase: PhaseName) -> float:
        """Return how long the next step, or the eval, may take."""
        if phase == "training":
            if not self._seconds:
                return self.limits.unknown_seconds
            return max(self.limits.min_seconds, self.limits.times_median * statistics.median(self._seconds))
        longest = max(self._evals, default=0.0)
        return max(self.limits.unknown_seconds, self.limits.times_median * longest)

    def _arm(self, seconds: float) -> None:
        self.arm(seconds, exit=True, file=self._file)


def take_stacks(record: Path) -> Path | None:
    """Give the stacks that a watchdog left in a record a name of their own; None if there are none."""
    path = record / STACKS
    if not path.is_file() or not path.stat().st_size:
        return None
    number = 1 + len(list(record.glob("stacks-*.txt")))
    return path.replace(record / f"stacks-{number}.txt")
