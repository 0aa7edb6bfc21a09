"""The status of experiments as text for a terminal, and as JSON."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from sweeps.display.time_left import duration
from sweeps.display.trial_rows import CRITERIA_LEGEND, columns_of, numbers, stop_line
from sweeps.watching.status import ExperimentStatus, WatchedTrial
from trainables.folded import Folded

COLUMNS, LEAST_REASON = 80, 20  # letters
STYLES = {"running": "bold", "waiting": "dim", "stopped": "dim"}


def status_parts(status: ExperimentStatus) -> Iterator[RenderableType]:
    """Yield what a terminal shows of an experiment: one line, its trials, why some ended early, and the free space."""
    yield Text(headline(status))
    if status.trials:
        yield Folded(_table(status.trials))
    if any("criteria" in one.row.labels for one in status.trials):
        yield Text(CRITERIA_LEGEND)
    for one in status.trials:
        if one.row.verdict is not None and one.row.verdict.reason:
            yield Text(stop_line(one.row.spec.name, one.row.verdict))
    yield from (Text(f"warning: {one}") for one in status.warnings)
    if status.launch.damage is not None:
        yield Text(f"damaged lease: {status.launch.damage}")
    for record, reason in status.damaged.items():
        yield Text(f"damaged {record}: {reason}")
    yield Text(f"{status.free_bytes / 1e9:,.1f} GB free in {status.directory}")
    yield from (Text(line) for line in log_lines(status))


def log_lines(status: ExperimentStatus) -> Iterator[str]:
    """Yield where the log of each running or failed trial is, in lines of 80 columns, and a command that reads one."""
    logged = [one for one in status.trials if one.state == "running" or one.has_failed]
    if not logged:
        return
    trials = f"{status.directory}/trials"
    places = {one.record: one.log_directory.removeprefix(f"{trials}/") for one in logged}
    longest = max(map(len, places.values()))
    yield f"logs, below {trials}:"
    for one in logged:
        verdict = one.row.verdict
        why = "running" if verdict is None else f"{verdict.kind}: {verdict.reason or verdict.cause or 'no reason'}"
        why, room = " ".join(why.split()), max(LEAST_REASON, COLUMNS - longest - 4)
        yield f"  {places[one.record]:<{longest}}  {why if len(why) <= room else why[: room - 1] + '…'}"
    yield f"to {'follow' if logged[0].state == 'running' else 'read'} one: {log_command(status, logged[0])}"


def log_command(status: ExperimentStatus, trial: WatchedTrial) -> str:
    """Return the command that prints the log of a trial, and follows one that runs."""
    storage = status.directory.removesuffix(f"/{status.experiment}")
    follow = ["-f"] * (trial.state == "running")
    where = ["--experiment", status.experiment, "--storage", storage]
    return shlex.join(["footprint", "logs", trial.record, *follow, *where])


def headline(status: ExperimentStatus) -> str:
    """Return one line: the launch, whether it is lost, the trials by state, and the time that is left."""
    counts = Counter(one.state for one in status.trials)
    total = len(status.trials) + len(status.damaged)
    parts = [f"{status.experiment}: {status.launch}", f"{counts['ended']}/{total} trials ended"]
    parts += [f"{counts[state]} {state}" for state in ("running", "waiting", "stopped") if counts[state]]
    parts += [f"{len(status.damaged)} damaged"] if status.damaged else []
    if status.seconds_left is not None:
        parts.append(f"about {duration(status.seconds_left)} left")
    if not status.launch.may_run and counts["stopped"]:
        parts.append("to go on, run the command that began it with --resume")
    return ", ".join(parts)


def status_json(found: Sequence[ExperimentStatus]) -> str:
    """Return the status of experiments as JSON."""
    return json.dumps({"experiments": [_as_json(one) for one in found]}, indent=2, ensure_ascii=False)


def _table(trials: Sequence[WatchedTrial]) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for name in ("trial", "place"):
        table.add_column(name, no_wrap=True)
    columns = columns_of({name for one in trials for name in one.row.metrics})
    for header, _, _ in columns:
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("now")
    table.add_column("where")
    for one in trials:
        where = f"{one.process.node}, process {one.process.process_id}" if one.process else ""
        cells = (Text(text) for text in (one.doing, where if one.state == "running" else ""))
        name, place = Text(one.row.name), Text(str(one.row.spec.placement))
        table.add_row(name, place, *numbers(one.row, columns), *cells, style=STYLES.get(one.state, ""))
    return table


def _as_json(status: ExperimentStatus) -> dict[str, object]:
    return {
        "experiment": status.experiment,
        "directory": status.directory,
        "launch": status.launch.as_json(),
        "seconds_left": status.seconds_left,
        "free_bytes": status.free_bytes,
        "trials": [_trial_as_json(status, one) for one in status.trials],
        "damaged": dict(status.damaged),
        "warnings": list(status.warnings),
    }


def _trial_as_json(status: ExperimentStatus, one: WatchedTrial) -> dict[str, object]:
    verdict = one.row.verdict
    return {
        "trial": one.row.spec.name,
        "record": one.record,
        "state": one.state,
        "phase": one.row.phase.name if one.state in ("running", "waiting") else None,
        "step": one.row.step,
        "steps": one.row.steps,
        "process": asdict(one.process) if one.process and one.state == "running" else None,
        "metrics": one.row.metrics,
        "verdict": verdict.model_dump(mode="json") if verdict else None,
        "log_directory": one.log_directory,
        "log_command": log_command(status, one),
    }
