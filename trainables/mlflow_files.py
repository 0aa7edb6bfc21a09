"""Writes and reads the files that MLflow keeps of a run.

MLflow is imported inside the functions, so that a command line can import this module and still start quickly.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from mlflow import MlflowClient


def log_file(client: MlflowClient, run_id: str, path: Path, folder: str | None) -> None:
    """Log a file as an artifact, in `folder` or at the top level."""
    client.log_artifact(run_id, str(path), folder)


def log_text(client: MlflowClient, run_id: str, text: str, name: str) -> None:
    """Log a text as the artifact `name`."""
    client.log_text(run_id, text, name)


def stored_files(artifact_uri: str, tracking_uri: str, names: Iterable[str], directory: Path) -> list[Path]:
    """Return those of the named artifacts that a run has; `artifact_uri` is the run's own.

    Files of this machine are read where they are, others are copied into a directory.
    """
    place = urlsplit(artifact_uri)
    if place.scheme in ("", "file") and place.netloc in ("", "localhost"):
        local = Path(unquote(place.path) if place.scheme else artifact_uri)
        return [local / name for name in names if (local / name).is_file()]
    return _downloaded(artifact_uri, tracking_uri, names, directory)


def _downloaded(artifact_uri: str, tracking_uri: str, names: Iterable[str], directory: Path) -> list[Path]:
    from mlflow.artifacts import download_artifacts, list_artifacts
    from mlflow.utils.uri import append_to_uri_path

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # one bar for each trial says nothing
    held = {Path(one.path).name for one in list_artifacts(artifact_uri=artifact_uri, tracking_uri=tracking_uri)}
    return [
        Path(
            download_artifacts(
                artifact_uri=append_to_uri_path(artifact_uri, name), dst_path=str(directory), tracking_uri=tracking_uri
            )
        )
        for name in names
        if name in held
    ]
