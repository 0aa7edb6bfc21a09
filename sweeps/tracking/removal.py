"""Removes the runs of an experiment from MLflow, as MLflow removes: it hides them until `mlflow gc` deletes them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sweeps.tracking.sync import StoreUnreachable
from trainables.errors import holds_password, redacted
from trainables.mlflow_store import (
    StoredRun,
    checked_uri,
    connect_to_read,
    existing_experiment_id,
    outages,
    runs_of,
)

PARENT = "mlflow.parentRunId"
ANSWER_HINT = "start the server, or correct the URI"


@dataclass(frozen=True)
class LoggedRuns:
    """The runs of an experiment in MLflow: `run_ids` are to be removed; `is_whole` if no other run is there."""

    tracking_uri: str
    experiment_id: str
    run_ids: tuple[str, ...]
    is_whole: bool

    @property
    def gc_command(self) -> str | None:
        """Return the command that deletes for good all that was removed from the store; None where it needs a password.

        For a server there is none either: whoever runs the server has its database.
        """
        if self.tracking_uri.startswith("http") or holds_password(self.tracking_uri):
            return None
        store = ["--backend-store-uri", self.tracking_uri, "--tracking-uri", self.tracking_uri]
        return shlex.join(["mlflow", "gc", *store])


def logged_runs(directory: Path, trial_ids: Collection[str], tracking_uri: str) -> LoggedRuns | None:
    """Find the runs of the experiment in `directory` with these trials; None if MLflow has none of it.

    Raises:
        UserError: the URI is invalid, or names a database that does not exist.
        StoreUnreachable: MLflow does not answer.
    """
    uri = checked_uri(tracking_uri)
    with _answering(uri):
        client = connect_to_read(uri)
        experiment = existing_experiment_id(client, directory.name)
        if experiment is None:
            return None
        found = runs_of(client, experiment)
        removed = runs_to_remove(found, directory, trial_ids)
        return LoggedRuns(uri, experiment, tuple(one.run_id for one in removed), len(removed) == len(found))


def runs_to_remove(found: Sequence[StoredRun], directory: Path, trial_ids: Collection[str]) -> list[StoredRun]:
    """Return the trials of an experiment, and the launches that then have no trial; runs of others stay.

    Experiments of one name in several storages share an experiment of MLflow. A run says in its tag `record` whose it
    is; one whose record is nowhere else belongs to whoever has a trial of its id.
    """
    trials = [one for one in found if one.tags.get("footprint.kind") == "trial"]
    own = [one for one in trials if _is_own(one, directory, trial_ids)]
    kept = {one.tags.get(PARENT) for one in trials if one not in own}
    emptied = {one.tags.get(PARENT) for one in own}
    launches = [one for one in found if one.tags.get("footprint.kind") == "launch" and one.run_id not in kept]
    return [*own, *(one for one in launches if one.run_id in emptied or not kept)]


def remove_runs(runs: LoggedRuns) -> None:
    """Remove the runs, with their logged models, and the experiment if no other run is there.

    The experiment is renamed first: a later launch would else restore it, with all its runs.

    Raises:
        StoreUnreachable: MLflow does not answer.
    """
    with _answering(runs.tracking_uri):
        client = connect_to_read(runs.tracking_uri)
        for run_id in runs.run_ids:
            for model in client.search_logged_models([runs.experiment_id], f"source_run_id = '{run_id}'"):
                client.delete_logged_model(model.model_id)
            client.delete_run(run_id)
        if runs.is_whole:
            name = client.get_experiment(runs.experiment_id).name
            client.rename_experiment(runs.experiment_id, f"{name}-removed-{time.strftime('%Y%m%d-%H%M%S')}")
            client.delete_experiment(runs.experiment_id)


def _is_own(run: StoredRun, directory: Path, trial_ids: Collection[str]) -> bool:
    record = Path(run.tags.get("record", ""))
    if directory in record.parents:
        return True
    return run.tags.get("trial.id") in trial_ids and not (record / "spec.json").exists()


@contextmanager
def _answering(uri: str) -> Iterator[None]:
    try:
        yield
    except outages() as error:
        reason = (redacted(str(error)).splitlines() or [type(error).__name__])[0]
        raise StoreUnreachable(f"MLflow must answer, but {redacted(uri)} did not: {reason}", ANSWER_HINT) from None
