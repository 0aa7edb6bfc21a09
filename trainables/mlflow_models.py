"""Keeps adapters as logged models of MLflow, each with the run and the step that made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

STEP, DIGEST = "footprint.step", "footprint.sha256"
REFUSED_IN_NAMES = str.maketrans(dict.fromkeys("/:.%\"'", "_"))  # by MLflow, in names of logged models


@dataclass(frozen=True)
class LoggedAdapter:
    """An adapter to log: its files, the digest of its weights, the step of its run, and its metrics there."""

    name: str
    files: Sequence[Path]
    sha256: str
    step: int
    params: Mapping[str, str]
    metrics: Mapping[str, float]


def log_adapter(client: MlflowClient, experiment: str, run_id: str, adapter: LoggedAdapter, is_new: bool) -> str | None:
    """Log an adapter as the model of the run, and return the id of the model; the caller finishes it.

    Another adapter of the run is replaced; returns None if the run has this one. A run that `is_new` has none yet.
    """
    from mlflow.entities import LoggedModelOutput

    for model in [] if is_new else client.search_logged_models([experiment], f"source_run_id = '{run_id}'"):
        if model.tags.get(DIGEST) == adapter.sha256 and str(model.status) == "READY":
            return None
        client.delete_logged_model(model.model_id)
    name, tags = adapter.name.translate(REFUSED_IN_NAMES), {STEP: str(adapter.step), DIGEST: adapter.sha256}
    created = client.create_logged_model(
        experiment, name, run_id, tags, dict(adapter.params), model_type="PEFT adapter"
    )
    for path in adapter.files:
        client.log_model_artifact(created.model_id, str(path))
    client.log_outputs(run_id, [LoggedModelOutput(created.model_id, adapter.step)])
    return created.model_id


def finish_adapter(client: MlflowClient, model_id: str) -> None:
    """Say that a model has all it should; one that an outage cut short before is made again."""
    client.finalize_logged_model(model_id, "READY")
