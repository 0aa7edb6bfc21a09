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
from sweeps.display.notebook import NotebookOutput
from sweeps.display.progress import say
from sweeps.display.time_left import duration
from sweeps.display.trial_rows import (
    CRITERIA_LEGEND,
    MARKS,
    Columns,
    TrialRow,
    columns_of,
    eval_line,
    numbers,
    retry_line,
    running_text,
    seconds_left_of,
    stop_line,
)
from trainables.notebook import display_in_notebook
from trainables.phase import TrialPhase, read_phase
from trainables.progress import pause_seconds
from trainables.record import Record

REFRESH_SECONDS = 0.5
MOST_DRAWN_SHARE = 0.1  # of the time of this process; a table of thousands of trials moves more slowly
MOST_LINES = 200  # of the table that stays on the terminal when all is over
LOOK_SECONDS = 1.0  # between two looks at the phases without a terminal
STYLES = {"waiting": "dim", "pruned": "yellow", "invalid": "red", "failed": "red"}
PHASE_STYLE = "bold"


class LiveTable:
    """Shows what every trial does: its placement, phase, newest numbers and verdict, and the time that is left.

    On a terminal the table moves by itself: it reads the phases that the workers write. Its eval lines stay above it;
    they appear when the table is drawn again, because each print above it draws it, too.
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
        self.began = self._said = clock()
        self._measured = {name for row in self.rows.values() for name in row.metrics}
        self._lock = threading.Lock()  # the table is drawn on another thread than the one that reports
        self._live: Live | None = None
        self._notebook: NotebookOutput | None = None
        self._lines: list[str] = []  # to be printed above the table
        self._over = threading.Event()
        self._drawer = threading.Thread(target=self._draw, name="live-table", daemon=True)

    def __enter__(self) -> LiveTable:
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self.shown, console=self.console, auto_refresh=False, vertical_overflow="crop"
            )
            self._live.start(refresh=True)
            self._drawer.start()
        elif display := display_in_notebook():
            self._notebook = NotebookOutput(display, self.shown)
            self._drawer.start()
        else:
            threading.Thread(target=self._print_progress, name="progress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._live:
            self._drawer.join()
            self._live.stop()
            self._live = None
            for line in self._lines:
                self.note(line)
        elif self._notebook:
            self._drawer.join()
            self._draw_once()

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
            self._measured.update(row.metrics)
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
        if self._live is None and self._notebook is None:
            self._said = self.clock()
            say(self.console, text)
            return
        with self._lock:
            self._lines.append(text)

    # ---------------------------------------------------------------- drawing
    def shown(self) -> RenderableType:
        """Return what the terminal shows now: as many rows as fit it, and when all is over every row."""
        with self._lock:
            self._read_phases()
            footer = self._footer()
            is_whole = self._over.is_set() or self._notebook is not None
            lines = MOST_LINES if is_whole else self.console.size.height - len(footer) - 2
            layout = fitting(list(self.rows.values()), max(2, lines))
            below = [*(Text(f"… {line}", "dim") for line in layout.folded), *(Text(line) for line in footer)]
            for line in below:
                line.no_wrap, line.overflow = True, "ellipsis"
            return Group(self._grid(layout), *below)

    def progress_line(self) -> str:
        """Return the state of all trials as one line."""
        with self._lock:
            self._read_phases()
            return self._progress(running_text(list(self.rows.values())))

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
        criteria = CRITERIA_LEGEND if "criteria" in found else ""
        marks = "; ".join(f"{mark} {meaning}" for label, (mark, meaning) in MARKS.items() if label in found)
        phases = Counter(row.phase.name for row in self.rows.values() if row.verdict is None)
        doing = ", ".join(f"{count} {phase}" for phase, count in phases.items())
        return [self._progress(doing), *(line for line in (criteria, marks) if line)]

    def _progress(self, doing: str) -> str:
        rows = list(self.rows.values())
        ended = sum(row.verdict is not None for row in rows)
        parts = [f"{ended}/{len(rows)} trials ended", doing, f"{duration(self.clock() - self.began)} so far"]
        left = seconds_left_of(rows, self.clock())
        if left is not None and ended < len(rows):
            parts.append(f"about {duration(left)} left")
        return ", ".join(part for part in parts if part)

    def _columns(self) -> Columns:
        return columns_of(self._measured)

    def _read_phases(self) -> None:
        now = self.clock()
        for name, row in self.rows.items():
            if row.verdict is None and row.is_started:
                row.see_phase(read_phase(self.records[name].directory) or TrialPhase("waiting", row.step), now)

    def _draw(self) -> None:
        is_last, seconds = False, 0.0
        while not is_last:
            is_last = self._over.wait(max(REFRESH_SECONDS, seconds / MOST_DRAWN_SHARE))
            began = time.thread_time()
            self._draw_once()
            seconds = time.thread_time() - began

    def _draw_once(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
        if self._notebook:
            for line in lines:
                self._notebook.note(line)
            self._notebook.refresh()
        elif lines:  # which draws the table, too
            self.console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
        elif self._live:
            self._live.refresh()

    def _print_progress(self) -> None:
        seen: set[str] = set()
        seconds = 0.0
        while not self._over.wait(max(LOOK_SECONDS, seconds / MOST_DRAWN_SHARE)):
            looked = time.thread_time()
            line = self.progress_line()
            names = {row.phase.name for row in self.rows.values() if row.verdict is None}
            now = self.clock()
            is_due = now - self._said + LOOK_SECONDS > pause_seconds(now - self.began)
            if is_due or names - seen:  # a phase is said when it is first seen
                self.note(line)
            seen |= names
            seconds = time.thread_time() - looked
