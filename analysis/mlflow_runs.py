"""MLflow -> trials: the only file of the analysis that imports MLflow.

The tracker writes an experiment per study, a parent run per launch and a child run per trial; see `Trial` for what
is read back.
"""

from __future__ import annotations

import math
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from trainables.errors import UserError, nearest

if TYPE_CHECKING:
    from mlflow import MlflowClient


# the SQL store keeps an infinity as the largest double (MySQL and SQLite hold no other)
LARGEST_STORED = 1.797e308

Value = int | float | str


@dataclass(frozen=True)
class Trial:
    """One child run: what was asked for, what was measured, why it ended.

    `last` holds the metrics of the last eval, `best` those of the best admissible checkpoint (empty when no eval met
    the constraint); a number that the store could not keep reads NaN or infinite here, never 0. `criteria` is the most
    that was met of the success criteria, None where they were not judged; `degraded` and `overridden` name the health
    checks that complained and the refusals that --force overrode. `verdict_cause` is the guard's metric or the check
    that ended the trial, `verdict_limit` what a guard held that metric to.
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


@dataclass(frozen=True)
class Experiment:
    """A study as MLflow mirrors it: the newest run of each trial, over all launches."""

    name: str
    newest_launch_run_id: str | None
    baseline_ids: frozenset[str]
    trials: tuple[Trial, ...]


def read_experiment(name: str, tracking_uri: str) -> Experiment:
    """Read every trial of the experiment `name`; the newest run of a trial wins.

    Raises:
        UserError: the store does not exist or does not answer, or holds no such experiment (the nearest is named).
    """
    _refuse_to_create(tracking_uri)
    with _told_as_user_error(tracking_uri):
        client = _open(tracking_uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is None or experiment.lifecycle_stage != "active":
            known = [one.name for one in client.search_experiments()]
            where = _without_password(tracking_uri)
            raise UserError(f"--experiment must be one that {where} holds, but got `{name}`", nearest(name, known))
        runs = _all_runs(client, experiment.experiment_id)
    launches = [run for run in runs if run.data.tags.get("footprint.kind") == "launch"]
    baselines = ",".join(run.data.tags.get("footprint.baseline", "") for run in launches)
    return Experiment(
        name=name,
        newest_launch_run_id=max(launches, key=_age).info.run_id if launches else None,
        baseline_ids=frozenset(_parts(baselines)),
        trials=newest_runs(_trial(run) for run in runs if run.data.tags.get("footprint.kind") == "trial"),
    )


def newest_runs(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Keep the newest run of each trial id, ordered by name."""
    newest: dict[str, Trial] = {}
    for trial in sorted(trials, key=lambda one: (one.started_ms, one.run_id)):
        newest[trial.trial_id] = trial
    return tuple(sorted(newest.values(), key=lambda one: (one.name, one.trial_id)))


def log_frontier(tracking_uri: str, run_id: str, files: Iterable[Path]) -> None:
    """Log `files` as artifacts `frontier/` of the run.

    Raises:
        UserError: the store or its artifact location does not take them.
    """
    with _told_as_user_error(tracking_uri):
        client = _open(tracking_uri)
        for path in files:
            client.log_artifact(run_id, str(path), "frontier")


def _open(tracking_uri: str) -> MlflowClient:
    # a server that is down would otherwise be asked seven times, for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri)


def _refuse_to_create(tracking_uri: str) -> None:
    """MLflow makes a database that is not there, or fills an empty one; a reader must do neither."""
    parts = urlsplit(tracking_uri)
    if parts.scheme.split("+")[0] != "sqlite":
        return
    path = Path(parts.path.removeprefix("/"))
    hint = "start where the sweep was started, set MLFLOW_TRACKING_URI, or pass --tracking-uri"
    if not path.is_file():
        raise UserError(f"the tracking store must exist, but there is no file {path.absolute()}", hint)
    if not _has_experiments(path):
        raise UserError(f"the tracking store must be MLflow's, but {path.absolute()} is not", hint)


def _has_experiments(path: Path) -> bool:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'experiments'"
        return connection.execute(query).fetchone() is not None
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()


@contextmanager
def _told_as_user_error(tracking_uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        told = str(error).strip().partition("\n")[0][:300]
        raise UserError(
            _without_password(f"the tracking store {tracking_uri} must answer, but it says: {told}"),
            "check --tracking-uri (or MLFLOW_TRACKING_URI) and that the server runs",
        ) from error


def _without_password(text: str) -> str:
    return re.sub(r"://[^/\s]+@", "://***@", text)


def _all_runs(client: MlflowClient, experiment_id: str) -> list[Any]:
    runs, token = [], None
    while True:
        page = client.search_runs([experiment_id], max_results=1000, page_token=token)
        runs.extend(page)
        token = page.token
        if not token:
            return runs


def _age(run: Any) -> tuple[int, str]:
    return run.info.start_time or 0, run.info.run_id


def _trial(run: Any) -> Trial:
    tags, metrics = run.data.tags, {name: _as_measured(value) for name, value in run.data.metrics.items()}
    name = tags.get("trial.name") or run.info.run_name or run.info.run_id
    return Trial(
        trial_id=tags.get("trial.id", run.info.run_id),
        name=name,
        arm=tags.get("trial.arm") or name.split("-")[0],
        run_id=run.info.run_id,
        started_ms=run.info.start_time or 0,
        run_status=run.info.status,
        verdict=tags.get("verdict"),
        verdict_kind=tags.get("verdict.kind") or (tags["verdict"].split("(")[0] if "verdict" in tags else None),
        verdict_reason=tags.get("verdict.reason"),
        best_step=tags.get("best.step"),
        record=tags.get("record"),
        parameters={key: _number_or_text(text) for key, text in sorted(run.data.params.items())},
        last=_below("eval/", metrics) | _below("final/", metrics),
        best=_below("best/", metrics),
        criteria=tags.get("criteria"),
        degraded=_parts(tags.get("degraded", "")),
        overridden=_parts(tags.get("overridden", "")),
        verdict_cause=tags.get("verdict.cause"),
        verdict_limit=float(tags["verdict.limit"]) if "verdict.limit" in tags else None,
    )


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _as_measured(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) >= LARGEST_STORED else value


def _below(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}


def _number_or_text(text: str) -> Value:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text
