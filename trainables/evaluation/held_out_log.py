"""Logs a validation as one MLflow run: parameters, rates, and the answers as an artifact."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.evaluation.answers import rates
from trainables.mlflow_files import log_text
from trainables.mlflow_store import (
    Point,
    connect,
    create_run,
    end_run,
    experiment_id,
    log_batch,
    outages,
    redacted,
    runs_of,
)

if TYPE_CHECKING:
    from trainables.evaluation.held_out import Validation
    from trainables.mlflow_store import MlflowClient


EXPERIMENT = "validation"
ARTIFACT = "samples.jsonl"


@dataclass(frozen=True)
class Logged:
    """The logged run, or the error message of the store."""

    experiment: str
    run_id: str | None
    outage: str | None = None


def default_experiment(validation: Validation) -> str:
    """Return the experiment that the adapter was trained in, or `validation` if unknown."""
    trained = validation.checkpoint.trained
    return trained.experiment if trained and trained.experiment else EXPERIMENT


def log(validation: Validation, tracking_uri: str, experiment: str) -> Logged:
    """Write the run, as a child of the trial's run if the experiment has it; an outage is returned, not raised."""
    try:
        client = connect(tracking_uri)
        return Logged(experiment, _write(client, validation, experiment_id(client, tracking_uri, experiment)))
    except outages() as error:
        return Logged(experiment, None, redacted(str(error).strip().partition("\n")[0])[:300])


def _write(client: MlflowClient, validation: Validation, experiment: str) -> str:
    name = time.strftime("validation-%Y%m%d-%H%M%S", time.gmtime())
    run_id = create_run(client, experiment, name, _tags(client, validation, experiment)).run_id
    params = {key: str(value) for key, value in _params(validation).items()}
    now_ms = round(1000 * time.time())
    points = [Point(key, value, now_ms, 0) for key, value in rates(validation.answers).items()]
    log_batch(client, run_id, points, params)
    log_text(client, run_id, validation.jsonl, ARTIFACT)
    end_run(client, run_id, "FINISHED")
    return run_id


def _tags(client: MlflowClient, validation: Validation, experiment: str) -> dict[str, str]:
    tags = {"footprint.kind": "validation", "footprint.command": redacted(validation.command)}
    trained = validation.checkpoint.trained
    if trained is not None:
        # not `trial.id`: the tracker uses it to find the run of the trial itself
        tags |= {"validation.trial_id": trained.spec.trial_id, "validation.trial": trained.spec.name,
                 "validation.step": str(trained.step)}  # fmt: skip
        runs = runs_of(client, experiment, f"tags.`trial.id` = '{trained.spec.trial_id}'")
        tags |= {"mlflow.parentRunId": runs[0].run_id} if runs else {}
    return tags


def _params(validation: Validation) -> dict[str, str | int]:
    checkpoint, held_out = validation.checkpoint, validation.held_out
    return {
        "checkpoint": str(checkpoint.directory),
        "adapter_sha256": checkpoint.sha256,
        "base": str(checkpoint.base),
        "quantization": checkpoint.quantization,
        "data": str(held_out.path),
        "data_sha256": held_out.sha256,
        "sample_size": len(held_out.rows),
        "seed": validation.seed,
        "max_new_tokens": validation.max_new_tokens,
    }
