"""One trial in the live table: its phase, its newest eval and its verdict, as cells and as a line."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from sweeps.display.time_left import TrialWork, seconds_left
from trainables.phase import TrialPhase
from trainables.record import Measurement, Record
from trainables.record_labels import labels_of
from trainables.spec import TrialSpec
from trainables.verdict import Verdict

SHOWN_TRIALS = 4  # in a list of trials
LOADING_CELLS = 10  # of the bar of a base that is loaded
FIT = (("loss", "eval_loss", "{:.3f}"), ("exact", "exact_match", "{:.2f}"))
IMAGE_COLUMNS = (*FIT, ("irrel", "irrelevant_pass", "{:.2f}"), ("halluc", "hallucination", "{:.2f}"))
TEXT_COLUMNS = (*FIT, ("text", "text_retention", "{:.2f}"), ("danger", "dangerous_rate", "{:.2f}"))
Columns = tuple[tuple[str, str, str], ...]
# label -> the mark after the trial's name, and its meaning
MARKS = {"degraded": ("†", "degraded"), "overridden": ("‡", "started with --force")}
CRITERIA_LEGEND = "optimal, minimum, none: success criteria met"


@dataclass
class TrialRow:
    """One trial in the table; `eval_step` is the step of its newest eval, -1 before the first."""

    spec: TrialSpec
    phase: TrialPhase = field(default_factory=lambda: TrialPhase("waiting", 0))
    verdict: Verdict | None = None
    eval_step: int = -1
    metrics: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    is_started: bool = False
    engine: str | None = None
    first_step: int = 0
    began_seconds: float | None = None

    @property
    def name(self) -> str:
        """Return the trial's name with the marks of its labels."""
        return self.spec.name + "".join(mark for label, (mark, _) in MARKS.items() if label in self.labels)

    @property
    def kind(self) -> str:
        """Return the kind of the verdict, or the phase of a trial that has none."""
        return self.verdict.kind if self.verdict else self.phase.name

    @property
    def steps(self) -> int:
        """Return the number of planned steps; 0 for a baseline."""
        return 0 if self.spec.placement.is_baseline else self.spec.last_step

    @property
    def step(self) -> int:
        """Return the number of completed steps."""
        return max(self.phase.step if self.verdict is None else 0, self.eval_step, 0)

    @property
    def state(self) -> str:
        """Return what the trial does now, or how it ended."""
        if self.verdict is None:
            counts = f"step {self.step} of {self.steps}"
            texts = {"training": counts, "eval": f"eval at step {self.step}", "loading": loading_text(self.phase)}
            return texts.get(self.phase.name, self.phase.name)
        criteria = self.labels.get("criteria") if self.verdict.kind == "completed" else None
        step = f" @ {self.verdict.step}" if self.verdict.step < self.steps else ""
        return f"{self.verdict}{step}, {criteria}" if criteria else f"{self.verdict}{step}"

    def read(self, record: Record) -> None:
        """Take the newest eval, the verdict and the labels from the record."""
        for measurement in record.measurements():
            self._see(measurement)
        self.verdict, self.labels = record.verdict(), labels_of(record)

    def see_phase(self, phase: TrialPhase, now_seconds: float) -> None:
        """Take the phase that the worker wrote."""
        if phase.name in ("training", "eval") and self.began_seconds is None:
            # a log looks once a minute, so steps were done before: their time is not known, and they do not count
            self.began_seconds, self.first_step = now_seconds, max(self.first_step, phase.step)
        self.phase = phase

    def work(self, steps_per_eval: float) -> TrialWork:
        """Return done and remaining work; `steps_per_eval` is the number of steps that take as long as an eval."""
        every = self.spec.eval_every_steps
        evals = self.eval_step // every - self.first_step // every
        done = self.step - self.first_step + steps_per_eval * max(0, evals)
        steps_left = self.steps - self.step
        left = steps_left + steps_per_eval * -(-(self.steps - max(self.eval_step, 0)) // every)
        began = self.began_seconds if self.steps else None
        return TrialWork(self.engine, done if self.steps else 0, 0 if self.verdict or not self.steps else left, began)

    def steps_per_eval(self) -> float | None:
        """Return how many steps take as long as an eval, by this trial's shares of compute; None before its first."""
        if self.eval_step <= 0 or not self.metrics.get("train_seconds"):
            return None
        evals = -(-self.eval_step // self.spec.eval_every_steps)
        seconds_per_step = self.metrics["train_seconds"] / self.eval_step
        return self.metrics.get("eval_seconds", 0.0) / evals / seconds_per_step

    def _see(self, measurement: Measurement) -> None:
        self.metrics.update(measurement.metrics)
        if measurement.kind == "eval":
            self.eval_step = measurement.step


def seconds_left_of(rows: Sequence[TrialRow], now_seconds: float) -> float | None:
    """Return the estimated seconds until the last of the trials ends; None before the first step is done."""
    known = [ratio for row in rows if (ratio := row.steps_per_eval()) is not None]
    ratio = sum(known) / len(known) if known else 0.0
    return seconds_left([row.work(ratio) for row in rows], now_seconds)


def columns_of(measured: Collection[str]) -> Columns:
    """Return the columns of numbers: those of a text model if only its metrics were measured."""
    return TEXT_COLUMNS if "text_retention" in measured and "irrelevant_pass" not in measured else IMAGE_COLUMNS


def numbers(row: TrialRow, columns: Columns) -> list[str]:
    """Return the newest numbers of a trial, `-` for what is not measured."""
    return [form.format(row.metrics[name]) if name in row.metrics else "-" for _, name, form in columns]


def loading_text(phase: TrialPhase) -> str:
    """Return `loading`, with a bar where it is known how much is loaded."""
    if phase.share is None:
        return "loading"
    filled = round(phase.share * LOADING_CELLS)
    return f"loading {'━' * filled}{'╌' * (LOADING_CELLS - filled)} {phase.share:.0%}"


def running_text(rows: Sequence[TrialRow]) -> str:
    """Return what the trials without a verdict do, by phase: `2 training (step 4 to 9 of 90), 1 waiting`."""
    phases: dict[str, list[TrialRow]] = {}
    for row in rows:
        if row.verdict is None:
            phases.setdefault(row.phase.name, []).append(row)
    return ", ".join(f"{len(found)} {name}{_detail(found)}" for name, found in phases.items())


def _detail(rows: Sequence[TrialRow]) -> str:
    """Return the steps of training trials, and how much of their base others have loaded; empty for the rest."""
    phase = rows[0].phase
    if phase.name == "training":
        steps, last = sorted(row.step for row in rows), max(row.steps for row in rows)
        return f" (step {steps[0]}{f' to {steps[-1]}' if steps[-1] != steps[0] else ''} of {last})"
    return f" ({phase.share:.0%})" if phase.share is not None else ""


def stop_line(name: str, verdict: Verdict) -> str:
    """Return one line that explains why a trial ended early."""
    return f"{verdict.kind} {name} @ step {verdict.step}: {verdict.reason}"


def retry_line(rows: Sequence[TrialRow], reason: str) -> str:
    """Return one line on trials that are tried again, with the steps of their newest evals."""
    trials = [f"{row.name} @ step {max(row.eval_step, 0)}" for row in rows]
    return f"tried again: {listed(trials)}, because of: {reason}"


def listed(trials: Sequence[str]) -> str:
    """Return the first few of a list of trials, and how many more there are."""
    more = f" and {len(trials) - SHOWN_TRIALS} more" if len(trials) > SHOWN_TRIALS else ""
    return ", ".join(trials[:SHOWN_TRIALS]) + more


def eval_line(row: TrialRow, columns: Columns) -> str:
    """Return a trial's newest eval, and its verdict if it ended, as one line of a log."""
    named = zip(columns, numbers(row, columns), strict=True)
    values = " ".join(f"{header} {number}" for (header, _, _), number in named)
    steps = f"{max(row.eval_step, 0)}/{row.steps}"
    ended = f" {row.state}" if row.verdict else ""  # 80 columns, unless the name is long
    return f"{row.name:<9} {row.spec.placement!s:<6} {steps:>8} {values}{ended}"
