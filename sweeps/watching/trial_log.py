"""The log of a trial, as lines: its self-test, its measurements, its verdict, and the phase it is in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.execution.experiment import Experiment
from sweeps.watching.launches import launch_of
from trainables.errors import UserError, named, nearest
from trainables.io.files import FileDamaged, read_json
from trainables.phase import TrialPhase, TrialProcess, read_phase, read_process
from trainables.record import NAME_WITH_ID, RUN_AGAIN, Measurement, Record
from trainables.verdict import Verdict

SELFTEST_FILE = "battery.json"  # as `trainables.selftest.run` names it, which imports torch
POLL_SECONDS = 0.5
FIELD = 9  # letters of the first word of a line
Sleep = Callable[[float], None]


@dataclass(frozen=True)
class LogLine:
    """One line of a log; `key` tells it from all others, also after a resumed trial measured a step again."""

    key: tuple[str, int]
    text: str


def trial_named(experiments: Sequence[Experiment], name: str) -> tuple[Experiment, Record]:
    """Return the trial with this name, id or directory, and its experiment.

    Raises:
        UserError: there is none, or several.
    """
    records = [(experiment, record) for experiment in experiments for record in experiment.records()]
    found = [(experiment, record) for experiment, record in records if name in _names(record)]
    if len(found) == 1:
        return found[0]
    where = ", ".join(f"`{one.name}`" for one in experiments)
    if not found:
        known = {_names(record)[0] for _, record in records}
        hint = f"{nearest(name, known)} (--experiment chooses another experiment)"
        raise UserError(f"a trial must be one of {where}, but got `{named(name)}`", hint)
    several = ", ".join(f"{record.name} of {experiment.name}" for experiment, record in found)
    raise UserError(f"a name must mean one trial, but `{named(name)}` means {several}",
                    "give the whole name as it stands there, and --experiment")  # fmt: skip


def _names(record: Record) -> tuple[str, ...]:
    matched = NAME_WITH_ID.fullmatch(record.name)
    return (record.name.removesuffix(f"-{matched[1]}"), matched[1], record.name) if matched else (record.name,)


def log_lines(record: Record) -> list[LogLine]:
    """Return the log of a trial as far as it is written.

    Raises:
        FileDamaged: a file of the record is not as it was written.
    """
    path, verdict = record.directory / SELFTEST_FILE, record.verdict()
    lines = [LogLine(("self-test", 0), _selftest_text(path.name, read_json(path)))] if path.exists() else []
    lines += [LogLine((one.kind, one.step), _measurement_text(one)) for one in record.measurements()]
    return [*lines, *([LogLine((verdict.kind, verdict.step), _verdict_text(verdict))] if verdict else [])]


def phase_text(phase: TrialPhase, steps: int, process: TrialProcess | None) -> str:
    """Return the phase of a running trial as a line."""
    counts = f", step {phase.step} of {steps}" if phase.name == "training" else ""
    where = f", on {process.node}, process {process.process_id}" if process else ""
    return f"{'phase':<{FIELD}} {phase.name}{counts}{where}"


def follow(experiment: Experiment, record: Record, sleep: Sleep = time.sleep) -> Iterator[str]:
    """Yield the lines of a trial's log as they are written, until it ends or no launch runs its experiment."""
    seen: set[tuple[str, int]] = set()
    shown: str | None = None
    steps = record.spec().last_step
    while True:
        is_launched = launch_of(experiment).may_run  # before the verdict, which a launch writes before it ends
        has_ended = record.verdict() is not None
        fresh = [line for line in log_lines(record) if line.key not in seen]
        seen.update(line.key for line in fresh)
        yield from (line.text for line in fresh)
        if has_ended:
            return
        if not is_launched:
            yield f"{'stopped':<{FIELD}} no launch runs `{experiment.name}`, so the trial does not go on"
            return
        phase = read_phase(record.directory)
        if phase is not None and phase.name != shown:
            shown = phase.name
            yield phase_text(phase, steps, read_process(record.directory))
        sleep(POLL_SECONDS)


def _selftest_text(name: str, found: Any) -> str:
    if not isinstance(found, Mapping) or not isinstance(found.get("finding"), Mapping | None):
        raise FileDamaged(f"{name}: the results of a self-test must be as they were written, but are not", RUN_AGAIN)
    finding = found.get("finding")
    if "proved_by" in found:
        text = f"passed by {found['proved_by']}, which trains the same modules"
    elif finding is None:
        text = "passed"
    else:
        text = f"{finding.get('level')}, {finding.get('check')}: {finding.get('evidence')}"
    return f"{'self-test':<{FIELD}} {text}"


def _measurement_text(one: Measurement) -> str:
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in sorted(one.metrics.items()))
    decided = "".join(f"; {guard}: {decision}" for guard, decision in one.decided.items())
    fallen = "".join(f"; lost {fall}" for fall in one.falls)
    return f"{one.kind:<{FIELD}} step {one.step}: {numbers}{decided}{fallen}"


def _verdict_text(verdict: Verdict) -> str:
    reason = f": {verdict.reason}" if verdict.reason else ""
    return f"{'ended':<{FIELD}} {verdict} @ step {verdict.step}{reason}"
