"""Progress of a running sweep: a live table on a terminal, lines without one."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweeps.display.layout import Layout, fitting
from sweeps.display.time_left import duration
from sweeps.display.trial_rows import (
    MARKS,
    Columns,
    TrialRow,
    columns_of,
    eval_line,
    numbers,
    retry_line,
    seconds_left_of,
    stop_line,
)
from trainables.phase import TrialPhase, read_phase
from trainables.record import Record

REFRESHES_PER_SECOND = 2
LINE_SECONDS = 60.0  # between two lines of progress without a terminal
STYLES = {"waiting": "dim", "pruned": "yellow", "invalid": "red", "failed": "red"}
PHASE_STYLE = "bold"


class LiveTable:
    """Shows what every trial does: its placement, phase, newest numbers and verdict, and the time that is left.

    On a terminal the table moves by itself: it reads the phases that the workers write. Its eval lines stay above it.
    """

    def __init__(
        self, console: Console, records: Sequence[Record], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console, self.clock = console, clock
        self.records = {record.name: record for record in records}
        self.rows = {record.name: TrialRow(record.spec()) for record in records}
        for record in records:
            row = self.rows[record.name]
            row.read(record)
            row.first_step = max(row.eval_step, 0)
        self.began = clock()
        self._lock = threading.Lock()  # the table is drawn on another thread than the one that reports
        self._live: Live | None = None
        self._over = threading.Event()

    def __enter__(self) -> LiveTable:
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self.shown, console=self.console, refresh_per_second=REFRESHES_PER_SECOND,
                vertical_overflow="crop",
            )  # fmt: skip
            self._live.start(refresh=True)
        else:
            threading.Thread(target=self._print_progress, name="progress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._live:
            self._live.stop()

    # ---------------------------------------------------------------- events
    def started(self, record: Record) -> None:
        """Mark a trial as started."""
        with self._lock:
            self.rows[record.name].is_started = True

    def assigned(self, record: Record, engine: str) -> None:
        """Note the engine that trains a trial, with others."""
        with self._lock:
            self.rows[record.name].engine = engine

    def advanced(self, record: Record) -> None:
        """Print a trial's newest eval, and its verdict if it ended."""
        with self._lock:
            row = self.rows[record.name]
            before = row.eval_step, row.verdict
            row.read(record)
            is_measured, has_ended = row.eval_step != before[0], row.verdict != before[1]
            columns = self._columns()
        if is_measured or (has_ended and not (row.verdict and row.verdict.reason)):
            self.note(eval_line(row, columns))
        if has_ended and row.verdict is not None and row.verdict.reason:
            self.note(stop_line(row.spec.name, row.verdict))

    def retried(self, records: Sequence[Record], reason: str) -> None:
        """Print that trials failed, or lost the process that trains them, and at which eval each of them was."""
        with self._lock:
            line = retry_line([self.rows[one.name] for one in records], reason)
        self.note(line)

    def note(self, text: str) -> None:
        """Print a message above the table."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    # ---------------------------------------------------------------- drawing
    def shown(self) -> RenderableType:
        """Return what the terminal shows now: as many rows as fit it, and when all is over every row."""
        with self._lock:
            self._read_phases()
            footer = self._footer()
            lines = len(self.rows) if self._over.is_set() else self.console.size.height - len(footer) - 2
            layout = fitting(list(self.rows.values()), max(2, lines))
            below = [*(Text(f"… {line}", "dim") for line in layout.folded), *(Text(line) for line in footer)]
            for line in below:
                line.no_wrap, line.overflow = True, "ellipsis"
            return Group(self._grid(layout), *below)

    def progress_line(self) -> str:
        """Return the state of all trials as one line."""
        with self._lock:
            self._read_phases()
            return self._progress()

    def _grid(self, layout: Layout) -> Table:
        table = Table(box=None, padding=(0, 1), pad_edge=False)
        for name in ("trial", "place"):
            table.add_column(name, no_wrap=True)
        columns = self._columns()
        for header, _, _ in columns:
            table.add_column(header, justify="right", no_wrap=True)
        table.add_column("now")  # without no_wrap, so that rich shrinks this column first
        for row in layout.rows:
            state = Text(row.state, no_wrap=True, overflow="ellipsis")
            style = STYLES.get(row.kind, "" if row.verdict else PHASE_STYLE)
            table.add_row(row.name, str(row.spec.placement), *numbers(row, columns), state, style=style)
        return table

    def _footer(self) -> list[str]:
        found = {label for row in self.rows.values() for label in row.labels}
        criteria = "optimal, minimum, none: success criteria met" if "criteria" in found else ""
        marks = "; ".join(f"{mark} {meaning}" for label, (mark, meaning) in MARKS.items() if label in found)
        return [self._progress(), *(line for line in (criteria, marks) if line)]

    def _progress(self) -> str:
        rows = list(self.rows.values())
        phases = Counter(row.phase.name for row in rows if row.verdict is None)
        doing = ", ".join(f"{count} {phase}" for phase, count in phases.items())
        ended = sum(row.verdict is not None for row in rows)
        parts = [f"{ended}/{len(rows)} trials ended", doing, f"{duration(self.clock() - self.began)} so far"]
        left = seconds_left_of(rows, self.clock())
        if left is not None and ended < len(rows):
            parts.append(f"about {duration(left)} left")
        return ", ".join(part for part in parts if part)

    def _columns(self) -> Columns:
        return columns_of({name for row in self.rows.values() for name in row.metrics})

    def _read_phases(self) -> None:
        now = self.clock()
        for name, row in self.rows.items():
            if row.verdict is None and row.is_started:
                row.see_phase(read_phase(self.records[name].directory) or TrialPhase("waiting", row.step), now)

    def _print_progress(self) -> None:
        while not self._over.wait(LINE_SECONDS):
            self.note(self.progress_line())
