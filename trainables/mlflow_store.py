"""Where the MLflow store is, and how it is opened: the same for the sweeps' tracker and for a validation.

The one file of this package that imports MLflow, inside its functions: a validation is run by hand, without a sweep.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trainables.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient


DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
# MLflow retries for minutes by default; whoever writes here has its own way to come back.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def default_tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the database that `mlflow ui` opens in this directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def checked_uri(tracking_uri: str) -> str:
    """Return the URI with an absolute database path, the same store from any directory.

    Raises:
        UserError: it is no database and no server; MLflow gave its file store up in 3.13.
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
    """Return the directory beside a SQLite file, or None where the server decides."""
    if not tracking_uri.startswith("sqlite"):
        return None
    return (Path(tracking_uri.partition(":///")[2]).parent / "mlruns" / experiment).as_uri()


def redacted(text: str) -> str:
    """Return `text` without user names, passwords and tokens in URLs and options."""
    without_users = re.sub(r"://[^/\s]+@", "://***@", text)
    return re.sub(r"(?i)((?:password|passwd|secret|token|api_key)[= ])[^&\s]+", r"\1***", without_users)


def connect(tracking_uri: str) -> MlflowClient:
    """Open the store; a SQLite file that is not there is made by one process at a time.

    Raises:
        Exception: one of `outages()` when the store does not answer.
    """
    for name, value in {**PATIENCE, "MLFLOW_DISABLE_TELEMETRY": "true"}.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    # What goes wrong also comes as an exception; the log would tear up what is shown.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    with _alone(tracking_uri):
        return MlflowClient(tracking_uri)


def experiment_id(client: MlflowClient, tracking_uri: str, name: str) -> str:
    """Return the id of the experiment `name`, which is made, or taken out of the bin, where it has to be."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return client.create_experiment(name, artifact_location=artifact_location(tracking_uri, name))
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def outages() -> tuple[type[Exception], ...]:
    """Return what is raised when the store does not answer; errors of `requests` and of the disk are OSErrors."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError
    from urllib3.exceptions import HTTPError

    return (MlflowException, SQLAlchemyError, HTTPError, OSError)


@contextmanager
def _alone(tracking_uri: str) -> Iterator[None]:
    """Hold a lock beside a SQLite file: its migrations, begun by two processes, break both."""
    if not tracking_uri.startswith("sqlite"):
        yield
        return
    database = Path(tracking_uri.partition(":///")[2])
    with database.with_name(f".{database.name}.lock").open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
