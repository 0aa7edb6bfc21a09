"""What a person sees while the sweep runs: a live table on a terminal, a line per event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trainables.record import Record, Verdict, labels_of
from trainables.spec import TrialSpec

FIT = (("loss", "eval_loss", "{:.3f}"), ("exact", "exact_match", "{:.2f}"))
IMAGE_COLUMNS = (*FIT, ("irrel", "irrelevant_pass", "{:.2f}"), ("halluc", "hallucination", "{:.2f}"))
TEXT_COLUMNS = (*FIT, ("text", "text_retention", "{:.2f}"), ("danger", "dangerous_rate", "{:.2f}"))
Columns = tuple[tuple[str, str, str], ...]
# label -> its mark behind the trial's name, and what the mark means
MARKS = {"degraded": ("†", "degraded"), "overridden": ("‡", "started with --force")}


@dataclass
class Line:
    """One trial on the board."""

    spec: TrialSpec
    status: str = "waiting"
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the trial's name with the marks of what its reader must know."""
        return self.spec.name + "".join(mark for label, (mark, _) in MARKS.items() if label in self.labels)

    @property
    def steps(self) -> int:
        """Return the steps planned; the baseline has none."""
        return 0 if self.spec.placement.is_baseline else self.spec.steps

    @property
    def seconds_left(self) -> float | None:
        """Return the seconds its remaining steps will take at its own pace, None before the first eval."""
        if self.status != "running" or not self.step:
            return None
        return self.seconds / self.step * (self.steps - self.step)


class LiveTable:
    """The live table of trials: placement, step, loss, probes, verdict, time left."""

    def __init__(self, console: Console, records: Sequence[Record]) -> None:
        self.console = console
        self.lines = {record.name: Line(record.spec()) for record in records}
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
        self.lines[record.name].status = "running"
        self._show()

    def advanced(self, record: Record) -> None:
        """Take over a trial's newest eval and verdict."""
        line = self.lines[record.name]
        seen = (line.step, line.status)
        self._read(record)
        if (line.step, line.status) == seen:
            return
        verdict = record.verdict()
        if verdict is not None and verdict.reason:
            self.console.print(stop_line(line.spec.name, verdict), highlight=False, soft_wrap=True)
        elif self._live is None:
            self.console.print(plain_line(line, self._columns()), highlight=False, soft_wrap=True)
        self._show()

    def note(self, text: str) -> None:
        """Print a message above the table."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def table(self) -> Table:
        """Return the board as a table that fits 80 columns."""
        done = sum(line.status not in ("waiting", "running") for line in self.lines.values())
        caption = "\n".join([f"{done}/{len(self.lines)} trials done, {self._left()}", *self._legend()])
        table = Table(box=None, padding=(0, 1), caption=caption)
        for name, justify in (("trial", "left"), ("place", "left"), ("step", "right")):
            table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        columns = self._columns()
        for header, _, _ in columns:
            table.add_column(header, justify="right", no_wrap=True)
        table.add_column("verdict")  # the one column that may shrink: rich cuts all that must not wrap alike
        for line in self.lines.values():
            table.add_row(
                line.name,
                str(line.spec.placement),
                f"{line.step}/{line.steps}",
                *_numbers(line, columns),
                Text(_status(line), no_wrap=True, overflow="ellipsis"),
                style=STYLES.get(line.status.split("(")[0], ""),
            )
        return table

    def _read(self, record: Record) -> None:
        line = self.lines[record.name]
        for measurement in record.measurements():
            line.step = measurement.step
            line.metrics.update(measurement.metrics)
        line.seconds = line.metrics.get("train_seconds", 0.0) + line.metrics.get("eval_seconds", 0.0)
        verdict = record.verdict()
        if verdict is not None:
            line.status = str(verdict)
        line.labels = labels_of(record)

    def _columns(self) -> Columns:
        measured = {name for line in self.lines.values() for name in line.metrics}
        sees_no_images = "text_retention" in measured and "irrelevant_pass" not in measured
        return TEXT_COLUMNS if sees_no_images else IMAGE_COLUMNS

    def _show(self) -> None:
        if self._live:
            self._live.update(self.table())

    def _legend(self) -> list[str]:
        found = {label for line in self.lines.values() for label in line.labels}
        criteria = "optimal, minimum, none: success criteria met" if "criteria" in found else ""
        marks = "; ".join(f"{mark} {meaning}" for label, (mark, meaning) in MARKS.items() if label in found)
        return [line for line in (criteria, marks) if line]

    def _left(self) -> str:
        open_lines = [line for line in self.lines.values() if line.status in ("waiting", "running")]
        running = [line for line in open_lines if line.status == "running"]
        paces = [line.seconds / line.step for line in self.lines.values() if line.step and line.seconds]
        if not open_lines or not paces or not running:
            return f"{time.monotonic() - self.began:.0f} s"
        pace = sum(paces) / len(paces)
        steps = sum(line.steps - line.step for line in open_lines)
        return f"about {steps * pace / len(running):.0f} s left"


STYLES = {"running": "bold", "waiting": "dim", "pruned": "yellow", "invalid": "red", "failed": "red"}


def stop_line(name: str, verdict: Verdict) -> str:
    """Say in one line why a trial ended early, with the numbers."""
    return f"{verdict.kind} {name} @ step {verdict.step}: {verdict.reason}"


def plain_line(line: Line, columns: Columns) -> str:
    """Return a trial's progress as a line of a log."""
    named = zip(columns, _numbers(line, columns), strict=True)
    numbers = "  ".join(f"{header} {number}" for (header, _, _), number in named)
    trial = f"{line.name:<10} {line.spec.placement!s:<6} step {line.step:>4}/{line.steps:<4}"
    return f"{trial} {numbers}  {_status(line)}"


def _numbers(line: Line, columns: Columns) -> list[str]:
    return [form.format(line.metrics[name]) if name in line.metrics else "-" for _, name, form in columns]


def _status(line: Line) -> str:
    left = line.seconds_left
    if left is not None:
        return f"running, {left:.0f} s left"
    criteria = line.labels.get("criteria") if line.status == "completed" else None
    return f"{line.status}, {criteria}" if criteria else line.status
