"""Says what a command does now, so that nothing is silent: a moving line on a terminal or in a notebook, else a log.

Work deep inside of a phase need not know who shows it: `doing` names a part of the phase that is shown now.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from trainables.notebook import CellText, display_in_notebook

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

BEAT_SECONDS = 4.0  # between two lines of a log in the first ten minutes of a phase; 5 s of silence are too long
EARLY_SECONDS = 600.0
LATE_BEAT_SECONDS = 60.0  # after them: a log of a day must stay readable
CELL_SECONDS = 1.0  # between two states of a line in a notebook
Advance = Callable[[float], None]


def say(console: Console, text: str) -> None:
    """Print a line of progress, after the time of day if the console is no terminal."""
    console.print(stamped(console, text), highlight=False, markup=False, soft_wrap=True)


def stamped(console: Console, text: str) -> str:
    """Return the text, after the time of day if the console is no terminal."""
    return text if console.is_terminal else f"{datetime.now().astimezone():%H:%M:%S} {text}"


def pause_seconds(lasted_seconds: float) -> float:
    """Return when a log says again what goes on, of a phase that has lasted so long."""
    return BEAT_SECONDS if lasted_seconds + BEAT_SECONDS <= EARLY_SECONDS else LATE_BEAT_SECONDS


def lasting(seconds: float) -> str:
    """Return a duration in short: `8 s`, `3 min 5 s`."""
    whole = int(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


@dataclass
class Part:
    """A part of a phase: what is done, and how much of it, in `unit`; `total` is None where that is not known."""

    text: str
    total: float | None = None
    unit: str = ""
    done: float = 0.0
    began_seconds: float = field(default_factory=time.monotonic)

    @property
    def share(self) -> float | None:
        """Return the share that is done, None where the total is not known."""
        return min(1.0, self.done / self.total) if self.total else None

    def line(self, now_seconds: float) -> str:
        """Return the part as a line of a log, with what is done and how long it lasts."""
        return f"{self.text}: {', '.join([*self.amount(), lasting(now_seconds - self.began_seconds)])}"

    def amount(self) -> list[str]:
        """Return how much is done; nothing where the total is not known."""
        if not self.total:
            return []
        if self.unit == "bytes":
            return [f"{self.done / 1e6:,.1f} of {self.total / 1e6:,.1f} MB"]
        return [f"{self.done:,.0f} of {self.total:,.0f} {self.unit}".rstrip()]


class Display(Protocol):
    """Shows the parts of a phase."""

    def part(self, text: str, total: float | None, unit: str) -> AbstractContextManager[Advance]:
        """Show a part until the end of the block; yields what counts what is done."""
        ...


class _Shown:
    """The phase that a console shows: its innermost part moves on a terminal or in a notebook, and beats in a log."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.parts: list[Part] = []
        self._over = threading.Event()
        self._changed = threading.Event()
        self._bars: Progress | None = None
        self._cell: CellText | None = None
        self._display: Callable[..., Any] | None = None
        self._first: Part | None = None
        self._said_seconds = time.monotonic()

    @contextmanager
    def part(self, text: str, total: float | None, unit: str) -> Iterator[Advance]:
        """Show a part until the end of the block; yields what counts what is done."""
        one = Part(text, total, unit)
        self.parts.append(one)
        self._first = self._first or one
        if self._bars is not None:
            task = self._bars.add_task(text, total=total, amount="")
        else:
            task = None
            self._tell(text)
        self._changed.set()

        def advance(count: float) -> None:
            one.done += count
            if self._bars is not None and task is not None:
                self._bars.update(task, completed=one.done, amount=", ".join(one.amount()))

        try:
            yield advance
        finally:
            self.parts.remove(one)
            if self._bars is not None and task is not None:
                self._bars.remove_task(task)
            self._changed.set()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show parts until the end of the block."""
        if self.console.is_terminal and not self.console.quiet:
            with bars(self.console) as self._bars:
                yield
            return
        self._display = None if self.console.quiet else display_in_notebook()
        beats = threading.Thread(target=self._beat, name="progress", daemon=True)
        beats.start()
        try:
            yield
        finally:
            self._over.set()
            self._changed.set()
            beats.join()
            if self._first is not None and self._display:
                self._tell(self._first.line(time.monotonic()))  # what was done, and how long it took, stays

    def _tell(self, text: str) -> None:
        """Print a line, or replace that of the notebook."""
        self._said_seconds = time.monotonic()
        if self._display is None:
            say(self.console, text)
        elif self._cell is None:
            self._cell = CellText(self._display, text)
        else:
            self._cell.replace(text)

    def _beat(self) -> None:
        while not self._over.is_set():
            one = self.parts[-1] if self.parts else None
            lasted = time.monotonic() - one.began_seconds if one else 0.0
            self._changed.clear()
            pause = CELL_SECONDS if self._display else pause_seconds(lasted)
            # since the last line: that a part ends says nothing
            if self._changed.wait(max(0.05, self._said_seconds + pause - time.monotonic())) or self._over.is_set():
                continue
            if one is not None and self.parts and self.parts[-1] is one:
                self._tell(one.line(time.monotonic()))


_shown: list[Display] = []  # the last one shows; two moving lines would draw over each other


def bars(console: Console) -> Progress:
    """Return moving lines for a terminal: a spinner, what is done, a bar where its size is known, and the time."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    shortened = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    text = TextColumn("{task.description}", markup=False, table_column=shortened)
    columns = SpinnerColumn(), text, BarColumn(bar_width=16), TextColumn("{task.fields[amount]}"), TimeElapsedColumn()
    return Progress(*columns, console=console, transient=True, expand=True)


@contextmanager
def working(console: Console, text: str) -> Iterator[None]:
    """Say what goes on until the end of the block: at once, and again while it lasts.

    On a terminal a line with a spinner and the time moves, and leaves nothing. Anywhere else lines have the time of
    day, and come every four seconds in the first ten minutes and every minute later. In a block of another `working`,
    it is a part of that.
    """
    if _shown:
        with _shown[-1].part(text, None, ""):
            yield
        return
    shown = _Shown(console)
    _shown.append(shown)
    try:
        with shown.shown(), shown.part(text, None, ""):
            yield
    finally:
        _shown.remove(shown)


@contextmanager
def doing(text: str, total: float | None = None, unit: str = "") -> Iterator[Advance]:
    """Say what part of the work goes on, in the block of a `working`; yields a function that counts what is done.

    Without such a block nothing is said: a library call has no console of its own.
    """
    if not _shown:
        yield lambda count: None
        return
    with _shown[-1].part(text, total, unit) as advance:
        yield advance


@dataclass(frozen=True)
class _Reported:
    report: Callable[[Part], None]

    @contextmanager
    def part(self, text: str, total: float | None, unit: str) -> Iterator[Advance]:
        one = Part(text, total, unit)
        self.report(one)

        def advance(count: float) -> None:
            one.done += count
            self.report(one)

        yield advance


@contextmanager
def reporting(report: Callable[[Part], None]) -> Iterator[None]:
    """Pass the parts of the work to `report` until the end of the block, whenever one begins or advances."""
    display = _Reported(report)
    _shown.append(display)
    try:
        yield
    finally:
        _shown.remove(display)
