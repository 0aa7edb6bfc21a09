"""Progress of a running sweep: a live table on a terminal, one line per event without a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trainables.record import Record, Verdict
from trainables.record_labels import labels_of
from trainables.spec import TrialSpec

FIT = (("loss", "eval_loss", "{:.3f}"), ("exact", "exact_match", "{:.2f}"))
IMAGE_COLUMNS = (*FIT, ("irrel", "irrelevant_pass", "{:.2f}"), ("halluc", "hallucination", "{:.2f}"))
TEXT_COLUMNS = (*FIT, ("text", "text_retention", "{:.2f}"), ("danger", "dangerous_rate", "{:.2f}"))
Columns = tuple[tuple[str, str, str], ...]
# label -> the mark after the trial's name, and its meaning
MARKS = {"degraded": ("†", "degraded"), "overridden": ("‡", "started with --force")}


@dataclass
class TrialRow:
    """One trial in the table."""

    spec: TrialSpec
    status: str = "waiting"
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the trial's name with the marks of its labels."""
        return self.spec.name + "".join(mark for label, (mark, _) in MARKS.items() if label in self.labels)

    @property
    def steps(self) -> int:
        """Return the number of planned steps; 0 for a baseline."""
        return 0 if self.spec.placement.is_baseline else self.spec.steps

    @property
    def seconds_left(self) -> float | None:
        """Return the estimated seconds of the remaining steps, None before the first eval."""
        if self.status != "running" or not self.step:
            return None
        return self.seconds / self.step * (self.steps - self.step)


class LiveTable:
    """The live table of trials: placement, step, loss, probes, verdict and time left."""

    def __init__(self, console: Console, records: Sequence[Record]) -> None:
        self.console = console
        self.rows = {record.name: TrialRow(record.spec()) for record in records}
        for record in records:
            self._read(record)
        self.began = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> LiveTable:
        if self.console.is_terminal:
            self._live = Live(self.table(), console=self.console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.update(self.table())
            self._live.stop()

    def started(self, record: Record) -> None:
        """Mark a trial as running."""
        self.rows[record.name].status = "running"
        self._show()

    def advanced(self, record: Record) -> None:
        """Show a trial's newest eval and verdict."""
        row = self.rows[record.name]
        shown = (row.step, row.status)
        self._read(record)
        if (row.step, row.status) == shown:
            return
        verdict = record.verdict()
        if verdict is not None and verdict.reason:
            self.console.print(stop_line(row.spec.name, verdict), highlight=False, soft_wrap=True)
        elif self._live is None:
            self.console.print(plain_line(row, self._columns()), highlight=False, soft_wrap=True)
        self._show()

    def note(self, text: str) -> None:
        """Print a message above the table."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def table(self) -> Table:
        """Return the rows as a table that fits 80 columns."""
        done = sum(row.status not in ("waiting", "running") for row in self.rows.values())
        caption = "\n".join([f"{done}/{len(self.rows)} trials done, {self._left()}", *self._legend()])
        table = Table(box=None, padding=(0, 1), caption=caption)
        for name, justify in (("trial", "left"), ("place", "left"), ("step", "right")):
            table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        columns = self._columns()
        for header, _, _ in columns:
            table.add_column(header, justify="right", no_wrap=True)
        table.add_column("verdict")  # without no_wrap, so that rich shrinks this column first
        for row in self.rows.values():
            table.add_row(
                row.name,
                str(row.spec.placement),
                f"{row.step}/{row.steps}",
                *_numbers(row, columns),
                Text(_status(row), no_wrap=True, overflow="ellipsis"),
                style=STYLES.get(row.status.split("(")[0], ""),
            )
        return table

    def _read(self, record: Record) -> None:
        row = self.rows[record.name]
        for measurement in record.measurements():
            row.step = measurement.step
            row.metrics.update(measurement.metrics)
        row.seconds = row.metrics.get("train_seconds", 0.0) + row.metrics.get("eval_seconds", 0.0)
        verdict = record.verdict()
        if verdict is not None:
            row.status = str(verdict)
        row.labels = labels_of(record)

    def _columns(self) -> Columns:
        measured = {name for row in self.rows.values() for name in row.metrics}
        is_text_only = "text_retention" in measured and "irrelevant_pass" not in measured
        return TEXT_COLUMNS if is_text_only else IMAGE_COLUMNS

    def _show(self) -> None:
        if self._live:
            self._live.update(self.table())

    def _legend(self) -> list[str]:
        found = {label for row in self.rows.values() for label in row.labels}
        criteria = "optimal, minimum, none: success criteria met" if "criteria" in found else ""
        marks = "; ".join(f"{mark} {meaning}" for label, (mark, meaning) in MARKS.items() if label in found)
        return [line for line in (criteria, marks) if line]

    def _left(self) -> str:
        unfinished = [row for row in self.rows.values() if row.status in ("waiting", "running")]
        running = [row for row in unfinished if row.status == "running"]
        seconds_per_step = [row.seconds / row.step for row in self.rows.values() if row.step and row.seconds]
        if not unfinished or not seconds_per_step or not running:
            return f"{time.monotonic() - self.began:.0f} s"
        mean = sum(seconds_per_step) / len(seconds_per_step)
        steps = sum(row.steps - row.step for row in unfinished)
        return f"about {steps * mean / len(running):.0f} s left"


STYLES = {"running": "bold", "waiting": "dim", "pruned": "yellow", "invalid": "red", "failed": "red"}


def stop_line(name: str, verdict: Verdict) -> str:
    """Return one line that explains why a trial ended early."""
    return f"{verdict.kind} {name} @ step {verdict.step}: {verdict.reason}"


def plain_line(row: TrialRow, columns: Columns) -> str:
    """Return a trial's progress as one line of a log."""
    named = zip(columns, _numbers(row, columns), strict=True)
    numbers = "  ".join(f"{header} {number}" for (header, _, _), number in named)
    trial = f"{row.name:<10} {row.spec.placement!s:<6} step {row.step:>4}/{row.steps:<4}"
    return f"{trial} {numbers}  {_status(row)}"


def _numbers(row: TrialRow, columns: Columns) -> list[str]:
    return [form.format(row.metrics[name]) if name in row.metrics else "-" for _, name, form in columns]


def _status(row: TrialRow) -> str:
    left = row.seconds_left
    if left is not None:
        return f"running, {left:.0f} s left"
    criteria = row.labels.get("criteria") if row.status == "completed" else None
    return f"{row.status}, {criteria}" if criteria else row.status
