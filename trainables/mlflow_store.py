"""Opens an MLflow store, reads and writes its runs, hides its password.

MLflow is imported inside the functions, so that a command line can import this module and still start quickly.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from trainables.errors import UserError, redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
# By default MLflow retries for minutes. The writer tries again with the next result; a reader retries twice.
WRITER_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it holds the password of the tracking address
}
READER_SETTINGS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
ENDED = ("FINISHED", "KILLED", "FAILED")
RUNS_PER_PAGE = 1000
# MLflow's own limits
POINTS_PER_BATCH = 1000
DIGEST_LETTERS = 36


class Point(NamedTuple):
    """One value of one metric, as MLflow keeps it; `model_id` is the logged model that it was measured on, if any."""

    key: str
    value: float
    timestamp_ms: int
    step: int
    model_id: str | None = None


@dataclass(frozen=True)
class LoggedDataset:
    """A data set that a run used: `context` is its purpose, such as training, and `source` its location."""

    name: str
    sha256: str
    source: str
    context: str


@dataclass(frozen=True)
class StoredRun:
    """One run in the store; `status` is MLflow's run status, `metrics` are the latest values."""

    run_id: str
    name: str
    status: str
    started_ms: int
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    has_inputs: bool
    artifact_uri: str

    @property
    def has_ended(self) -> bool:
        """True when the run is no longer running."""
        return self.status in ENDED


def default_tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI if set, else `mlflow.db` in the current directory, as `mlflow ui` does."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def checked_uri(tracking_uri: str) -> str:
    """Return the URI with an absolute database path, so that it names the same store from any directory.

    Raises:
        UserError: the URI is neither a database nor a server; MLflow removed its file store in 3.13.
    """
    scheme = urlsplit(tracking_uri).scheme.split("+")[0]
    database = tracking_uri.partition(":///")[2]
    if scheme not in (*DATABASES, "http", "https") or (scheme == "sqlite" and not database):
        raise UserError(
            f"a tracking URI must be a database or a server, but got `{redacted(tracking_uri)}`",
            "for example sqlite:///mlflow.db for one machine, or http://127.0.0.1:5000; MLflow has no file store",
        )
    if scheme != "sqlite":
        return tracking_uri
    return f"sqlite:///{Path(database).absolute()}"


def artifact_location(tracking_uri: str, experiment: str) -> str | None:
    """Return the artifact directory next to a SQLite file, or None if the server chooses it."""
    if not tracking_uri.startswith("sqlite"):
        return None
    return (Path(tracking_uri.partition(":///")[2]).parent / "mlruns" / experiment).as_uri()


# ---------------------------------------------------------------- connecting
def connect(tracking_uri: str) -> MlflowClient:
    """Open the store for writing; a missing SQLite file is created under a lock.

    Raises:
        Exception: one of `outages()` when the store does not answer.
    """
    with _database_lock(tracking_uri):
        return _client(tracking_uri, WRITER_SETTINGS)


def connect_to_read(tracking_uri: str) -> MlflowClient:
    """Open an existing store for reading; no file or table is created.

    Raises:
        UserError: the URI names a SQLite file that does not exist or is not an MLflow store.
        Exception: one of `outages()` when the store does not answer.
    """
    _require_store(tracking_uri)
    return _client(tracking_uri, READER_SETTINGS)


def outages() -> tuple[type[Exception], ...]:
    """Return the exceptions raised when the store does not answer; `requests` and disk errors are OSErrors."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError
    from urllib3.exceptions import HTTPError

    return (MlflowException, SQLAlchemyError, HTTPError, OSError)


def _client(tracking_uri: str, settings: Mapping[str, str]) -> MlflowClient:
    for name, value in {**settings, **QUIET}.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    # Errors are also raised as exceptions; log lines would break the live table.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    return MlflowClient(tracking_uri)


def _require_store(tracking_uri: str) -> None:
    """Refuse a SQLite file that is not an MLflow store: MLflow would create it or add its tables."""
    if urlsplit(tracking_uri).scheme.split("+")[0] != "sqlite":
        return
    path = Path(urlsplit(tracking_uri).path.removeprefix("/"))
    hint = "start where the sweep was started, set MLFLOW_TRACKING_URI, or pass --tracking-uri"
    if not path.is_file():
        raise UserError(f"the tracking store must exist, but there is no file {path.absolute()}", hint)
    if not _has_experiments(path):
        raise UserError(f"the tracking store must be an MLflow database, but {path.absolute()} is not", hint)


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
def _database_lock(tracking_uri: str) -> Iterator[None]:
    """Hold a lock file next to a SQLite file: two concurrent migrations would corrupt it."""
    if not tracking_uri.startswith("sqlite"):
        yield
        return
    database = Path(tracking_uri.partition(":///")[2])
    with database.with_name(f".{database.name}.lock").open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# ---------------------------------------------------------------- reading
def existing_experiment_id(client: MlflowClient, name: str) -> str | None:
    """Return the id of an experiment that is not deleted, or None."""
    experiment = client.get_experiment_by_name(name)
    return experiment.experiment_id if experiment is not None and experiment.lifecycle_stage == "active" else None


def experiment_names(client: MlflowClient) -> list[str]:
    """Return the names of the experiments that are not deleted."""
    return [one.name for one in client.search_experiments()]


def runs_of(client: MlflowClient, experiment: str, condition: str = "") -> list[StoredRun]:
    """Return the runs of the experiment with id `experiment` that match an MLflow filter, newest first."""
    page = client.search_runs([experiment], condition, max_results=RUNS_PER_PAGE)
    found = list(page)
    while page.token:
        page = client.search_runs([experiment], condition, max_results=RUNS_PER_PAGE, page_token=page.token)
        found += page
    return [_stored(run) for run in found]


def _stored(run: Run) -> StoredRun:
    return StoredRun(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        started_ms=run.info.start_time or 0,
        tags=run.data.tags,
        params=run.data.params,
        metrics=run.data.metrics,
        has_inputs=bool(run.inputs and run.inputs.dataset_inputs),
        artifact_uri=run.info.artifact_uri or "",
    )


# ---------------------------------------------------------------- writing
def experiment_id(client: MlflowClient, tracking_uri: str, name: str) -> str:
    """Return the id of the experiment `name`; create it, or restore it if deleted."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return client.create_experiment(name, artifact_location=artifact_location(tracking_uri, name))
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def create_run(
    client: MlflowClient, experiment: str, name: str, tags: Mapping[str, str], started_ms: int | None = None
) -> StoredRun:
    """Start a run in the experiment with id `experiment`, now or at a given time."""
    return _stored(client.create_run(experiment, started_ms, dict(tags), name))


def reopen_run(client: MlflowClient, run_id: str, without_tags: Sequence[str]) -> None:
    """Set an ended run back to running and delete the tags `without_tags`."""
    client.update_run(run_id, status="RUNNING")
    for key in without_tags:
        client.delete_tag(run_id, key)


def end_run(client: MlflowClient, run_id: str, status: str, ended_ms: int | None = None) -> None:
    """End a run with a status of `ENDED`, now or at a given time."""
    client.set_terminated(run_id, status, end_time=ended_ms)


def log_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    """Set all tags in one call."""
    log_batch(client, run_id, tags=tags)


def log_batch(
    client: MlflowClient, run_id: str, points: Sequence[Point] = (), params: Mapping[str, str] = MappingProxyType({}),
    tags: Mapping[str, str] = MappingProxyType({}),
) -> None:  # fmt: skip
    """Log metrics, params and tags in as few calls as MLflow allows, tags with the last one."""
    from mlflow.entities import Metric, Param, RunTag

    metrics = [Metric(*one[:4], model_id=one.model_id, run_id=run_id) for one in points]
    most = POINTS_PER_BATCH - len(params) - len(tags)
    before = max(0, len(metrics) - most)
    for start in range(0, before, POINTS_PER_BATCH):
        client.log_batch(run_id, metrics=metrics[start : min(start + POINTS_PER_BATCH, before)])
    client.log_batch(
        run_id,
        metrics=metrics[before:],
        params=[Param(key, value) for key, value in params.items()],
        tags=[RunTag(key, value) for key, value in tags.items()],
    )


def log_data_files(client: MlflowClient, run_id: str, files: Sequence[LoggedDataset]) -> None:
    """Log the data sets that a run used."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for one in files:
        dataset = Dataset(one.name, one.sha256[:DIGEST_LETTERS], "local", one.source)
        inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", one.context)]))
    client.log_inputs(run_id, datasets=inputs)
