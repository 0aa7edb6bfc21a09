"""Reads the trials of a study from MLflow, and logs the finished frontier to it.

The tracker writes one experiment per study, one parent run per launch and one child run per trial; `TrialRun` holds
what is read of a child run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import UserError, nearest
from trainables.known_baselines import MEASURED_BY
from trainables.mlflow_files import log_file
from trainables.mlflow_store import (
    StoredRun,
    connect_to_read,
    existing_experiment_id,
    experiment_names,
    log_tags,
    outages,
    redacted,
    runs_of,
)

# MLflow's SQL store replaces infinity by the largest double, because MySQL and SQLite cannot store infinity
LARGEST_STORED = 1.797e308

# Runs of earlier versions do not have these parameters; a run that has them at these values is a trial as theirs.
UNSAID_DEFAULTS = {"modules": "all", "language_indices": "[]", "vision_indices": "[]"}

Value = int | float | str


@dataclass(frozen=True)
class TrialRun:
    """One child run: its settings, its measurements and why it ended.

    `last` holds the metrics of the last eval, `best` those of the best admissible checkpoint (empty when no eval met
    the constraint) that MLflow's table of metrics has; `read_logged` adds the others. A number that the store cannot
    represent is read as NaN or infinity, never as 0. `criteria` is the highest success criterion that was met, None if
    none was judged. `degraded` names the health checks that found a problem, `overridden` the refusals that --force
    overrode. `verdict_cause` is the guard's metric or the check that ended the trial, `verdict_limit` the guard's
    limit on that metric. `measured_by` names the record that a baseline has its results from, if not its own.
    """

    trial_id: str
    name: str
    arm: str
    run_id: str
    started_ms: int
    run_status: str
    verdict: str | None
    verdict_kind: str | None
    verdict_reason: str | None
    best_step: str | None
    record: str | None
    parameters: Mapping[str, Value]
    last: Mapping[str, float]
    best: Mapping[str, float]
    criteria: str | None = None
    degraded: tuple[str, ...] = ()
    overridden: tuple[str, ...] = ()
    verdict_cause: str | None = None
    verdict_limit: float | None = None
    artifact_uri: str = ""
    measured_by: str = ""


@dataclass(frozen=True)
class ExperimentRuns:
    """The runs of a study: the newest run of each trial, over all launches; `command` started the newest launch.

    `is_foreign` is true for results that no study made: they have neither baseline, constraint nor record.
    """

    name: str
    newest_launch_run_id: str | None
    baseline_ids: frozenset[str]
    trials: tuple[TrialRun, ...]
    command: str = ""
    is_foreign: bool = False


def read_experiment(name: str, tracking_uri: str) -> ExperimentRuns:
    """Read every trial of the experiment `name`; the newest run of a trial wins.

    Raises:
        UserError: the store does not exist or does not answer, or has no such experiment (the nearest is named).
    """
    runs = stored_runs(name, tracking_uri)
    launches = [run for run in runs if run.tags.get("footprint.kind") == "launch"]
    baselines = ",".join(run.tags.get("footprint.baseline", "") for run in launches)
    newest = max(launches, key=lambda run: (run.started_ms, run.run_id), default=None)
    return ExperimentRuns(
        name=name,
        newest_launch_run_id=newest.run_id if newest else None,
        baseline_ids=frozenset(_parts(baselines)),
        trials=newest_runs(_trial(run) for run in runs if run.tags.get("footprint.kind") == "trial"),
        command=newest.tags.get("footprint.command", "") if newest else "",
    )


def stored_runs(name: str, tracking_uri: str) -> list[StoredRun]:
    """Return every run of the experiment `name`, as the store holds it.

    Raises:
        UserError: the store does not exist or does not answer, or has no such experiment (the nearest is named).
    """
    with outages_as_user_errors(tracking_uri):
        client = connect_to_read(tracking_uri)
        experiment = existing_experiment_id(client, name)
        if experiment is None:
            raise UserError(
                f"--experiment must be one that {redacted(tracking_uri)} holds, but got `{name}`",
                nearest(name, experiment_names(client)),
            )
        return runs_of(client, experiment)


def newest_runs(trials: Iterable[TrialRun]) -> tuple[TrialRun, ...]:
    """Keep the newest run of each trial id, ordered by name."""
    newest: dict[str, TrialRun] = {}
    for trial in sorted(trials, key=lambda one: (one.started_ms, one.run_id)):
        newest[trial.trial_id] = trial
    return tuple(sorted(newest.values(), key=lambda one: (one.name, one.trial_id)))


def log_frontier(tracking_uri: str, run_id: str, files: Iterable[Path], tags: Mapping[str, str]) -> None:
    """Log `files` as artifacts `frontier/` of the run, and set its tags.

    Raises:
        UserError: the store or its artifact location does not take them.
    """
    with outages_as_user_errors(tracking_uri):
        client = connect_to_read(tracking_uri)
        for path in files:
            log_file(client, run_id, path, "frontier")
        log_tags(client, run_id, tags)


@contextmanager
def outages_as_user_errors(tracking_uri: str) -> Iterator[None]:
    """Turn the failures of a store that does not answer into a UserError that names it."""
    try:
        yield
    except outages() as error:
        answer = str(error).strip().partition("\n")[0][:300]
        raise UserError(
            redacted(f"the tracking store {tracking_uri} must answer, but it reports: {answer}"),
            "check --tracking-uri (or MLFLOW_TRACKING_URI) and that the server runs",
        ) from error


def _trial(run: StoredRun) -> TrialRun:
    tags, metrics = run.tags, {name: _as_measured(value) for name, value in run.metrics.items()}
    name = tags.get("trial.name") or run.name or run.run_id
    return TrialRun(
        trial_id=tags.get("trial.id", run.run_id),
        name=name,
        arm=tags.get("trial.arm") or _arm_in(name),
        run_id=run.run_id,
        started_ms=run.started_ms,
        run_status=run.status,
        verdict=tags.get("verdict"),
        verdict_kind=tags.get("verdict.kind") or (tags["verdict"].split("(")[0] if "verdict" in tags else None),
        verdict_reason=tags.get("verdict.reason"),
        best_step=tags.get("best.step"),
        record=tags.get("record"),
        parameters={
            key: _number_or_text(text) for key, text in sorted(run.params.items()) if UNSAID_DEFAULTS.get(key) != text
        },
        last=_below("train/", metrics) | _of_last_eval(metrics) | _below("final/", metrics),
        best=_below("best/", metrics),
        criteria=tags.get("criteria"),
        degraded=_parts(tags.get("degraded", "")),
        overridden=_parts(tags.get("overridden", "")),
        verdict_cause=tags.get("verdict.cause"),
        verdict_limit=float(tags["verdict.limit"]) if "verdict.limit" in tags else None,
        artifact_uri=run.artifact_uri,
        measured_by=tags.get(MEASURED_BY, ""),
    )


def _arm_in(name: str) -> str:
    """Return the arm in a trial's display name, for runs logged before the arm had its own tag.

    An arm whose name contains `-` is not found.
    """
    return name.split("-", maxsplit=1)[0]


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _as_measured(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) >= LARGEST_STORED else value


def _of_last_eval(metrics: Mapping[str, float]) -> dict[str, float]:
    return _below("eval/", metrics) | _below("deciding/", metrics)


def _below(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}


def _number_or_text(text: str) -> Value:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text
