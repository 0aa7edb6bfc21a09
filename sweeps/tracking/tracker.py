"""Writes records to MLflow; writing is idempotent, and a lost store can be rebuilt.

A study is an MLflow experiment, a launch a parent run, and a trial a child run, found by its tag `trial.id`. The
tracker asks MLflow what it already has, so it writes only what is missing after a restart, an outage or a lost store.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.tracking import mlflow_fields, view
from trainables import mlflow_store
from trainables.errors import ExitCode, UserError, redacted
from trainables.io.files import FileDamaged
from trainables.mlflow_files import log_file
from trainables.mlflow_models import log_adapter
from trainables.mlflow_store import LoggedDataset, StoredRun, checked_uri, outages
from trainables.record import LATER_EVALS, Measurement, Record, records_under
from trainables.record_check import check_record
from trainables.record_labels import labels_of
from trainables.spec import Source, TrialSpec
from trainables.verdict import Verdict

if TYPE_CHECKING:
    from trainables.mlflow_store import MlflowClient


STATUS_OF_KIND = {"completed": "FINISHED", "pruned": "KILLED"}  # any other verdict is FAILED
CONTEXT_OF_SOURCE = {"train": "training", "validation": "validation", "ood": "out-of-distribution"}
OUTCOME_TAGS = ("verdict", "best", "criteria", "degraded", "overridden")  # removed when a trial is run again


class StoreUnreachable(UserError):
    """MLflow did not accept the records; nothing is lost, because the records have all the data."""

    exit_code = ExitCode.RECORD_DAMAGED


class Tracker:
    """Writes the records of one study to one MLflow store; connects at first use."""

    def __init__(self, tracking_uri: str, study_name: str, question: str = "") -> None:
        """Store the URI, and name and question of the study.

        Raises:
            UserError: `tracking_uri` is neither a database nor a server.
        """
        self.tracking_uri = checked_uri(tracking_uri)
        self.study_name, self.question = study_name, question
        self._launch_id: str | None = None

    # ---------------------------------------------------------------- launches
    def open_launch(self, command: str, tags: Mapping[str, str]) -> None:
        """Start the parent run of this launch; a second call changes nothing.

        Launches that are still RUNNING were killed before they could end, so they become KILLED.
        """
        if self._launch_id is None:
            for launch in self._launches("attributes.status = 'RUNNING'"):
                mlflow_store.end_run(self._client, launch.run_id, "KILLED")
            self._launch_id = self._create_launch(command, tags)

    def join_launch(self, command: str, tags: Mapping[str, str]) -> None:
        """Write below the newest launch in MLflow; if there is none, below a new launch that is finished at once."""
        launches = self._launches()
        if launches:
            self._launch_id = launches[0].run_id
        else:
            self._launch_id = self._create_launch(command, tags)
            self.close_launch()

    def close_launch(self, status: str = "FINISHED") -> None:
        """End the parent run with a status of MLflow, and as KILLED what still runs below it: it trains no more."""
        if self._launch_id is not None:
            for trial in self._running_trials():
                mlflow_store.end_run(self._client, trial.run_id, "KILLED")
            mlflow_store.end_run(self._client, self._launch_id, status)

    def _launches(self, condition: str = "") -> list[StoredRun]:
        conditions = ["tags.`footprint.kind` = 'launch'", condition]
        return mlflow_store.runs_of(self._client, self._experiment_id, " AND ".join(filter(None, conditions)))

    def _running_trials(self) -> list[StoredRun]:
        condition = "tags.`footprint.kind` = 'trial' AND attributes.status = 'RUNNING'"
        return mlflow_store.runs_of(self._client, self._experiment_id, condition)

    def _create_launch(self, command: str, tags: Mapping[str, str]) -> str:
        own = {"footprint.kind": "launch", "footprint.study": self.study_name, "footprint.command": redacted(command)}
        name = time.strftime("launch-%Y%m%d-%H%M%S", time.gmtime())
        return mlflow_store.create_run(self._client, self._experiment_id, name, {**own, **tags}).run_id

    # ---------------------------------------------------------------- trials
    def sync(self, record: Record) -> None:
        """Write what MLflow lacks of a record; a second call changes nothing.

        Raises:
            FileDamaged: the record does not match its checksums.
            Exception: one of `outages()` when the store does not answer.
        """
        spec, verdict, labels = record.spec(), record.verdict(), labels_of(record)
        tags = {
            **(mlflow_fields.verdict_tags(verdict) if verdict else {}),
            **labels,
            **mlflow_fields.lineage_tags(record),
        }
        run = self._trial_run(spec) or self._create_trial_run(record, spec)
        if run.has_ended and verdict is not None and tags.items() <= run.tags.items():
            self._log_later_evals(run, record)
            return
        if run.has_ended:
            self._reopen(run, labels)
        self._log_inputs(run, spec)
        self._log_curves(run, record)
        if verdict is not None:
            self._end(run, record, verdict, tags)

    def _trial_run(self, spec: TrialSpec) -> StoredRun | None:
        runs = mlflow_store.runs_of(self._client, self._experiment_id, f"tags.`trial.id` = '{spec.trial_id}'")
        return runs[0] if runs else None

    def _create_trial_run(self, record: Record, spec: TrialSpec) -> StoredRun:
        if self._launch_id is None:
            raise RuntimeError("a trial is logged below a launch: call open_launch or join_launch first")
        tags = {
            "mlflow.parentRunId": self._launch_id,
            "footprint.kind": "trial",
            "trial.id": spec.trial_id,
            "trial.name": spec.name,
            "trial.arm": spec.arm,
            "record": str(record.home),
            view.NOTE_TAG: view.trial_note(spec),
            **labels_of(record),
            **mlflow_fields.lineage_tags(record),
        }
        started_ms = _written_ms(record, "spec.json")
        return mlflow_store.create_run(self._client, self._experiment_id, spec.name, tags, started_ms)

    def _reopen(self, run: StoredRun, labels: Mapping[str, str]) -> None:
        stale = [key for key in run.tags if key.split(".")[0] in OUTCOME_TAGS]
        mlflow_store.reopen_run(self._client, run.run_id, stale)
        self._set_tags(run, labels)

    def _log_inputs(self, run: StoredRun, spec: TrialSpec) -> None:
        if not run.params:
            mlflow_store.log_params(self._client, run.run_id, mlflow_fields.params_of(spec))
        if not run.has_inputs:
            files = [_data_file(name, getattr(spec, name), context) for name, context in CONTEXT_OF_SOURCE.items()]
            mlflow_store.log_data_files(self._client, run.run_id, files)

    def _log_curves(self, run: StoredRun, record: Record) -> None:
        known = {kind: int(run.tags.get(f"footprint.synced.{kind}", -1)) for kind in ("train", "eval")}
        measurements = record.measurements()
        fresh = [one for one in measurements if one.step > known[one.kind]]
        if fresh:
            keys = {(mlflow_fields.curve_key(one, name), one.step) for one in fresh for name in one.metrics}
            points = mlflow_fields.curve_points(measurements, _written_ms(record, "spec.json"))
            chosen = [point for point in points if (point.key, point.step) in keys]
            mlflow_store.log_points(self._client, run.run_id, chosen)
            self._set_tags(run, {f"footprint.synced.{one.kind}": str(one.step) for one in fresh})

    def _end(self, run: StoredRun, record: Record, verdict: Verdict, tags: Mapping[str, str]) -> None:
        for file, folder in mlflow_fields.artifacts_of(record):
            log_file(self._client, run.run_id, file, folder)
        ended_ms = _written_ms(record, "verdict.json")
        best = record.best()
        measured = record.measurements()
        with_all = _shows_former_end(run, measured)
        points = mlflow_fields.summary_points(measured, mlflow_fields.best_of(record), ended_ms, with_all)
        mlflow_store.log_points(self._client, run.run_id, points)
        adapter = mlflow_fields.adapter_of(record)
        if adapter is not None:
            log_adapter(self._client, self._experiment_id, run.run_id, adapter, ended_ms)
        self._log_later_evals(run, record)
        best_tags = {"best.step": str(best.step)} if best else {}
        note = {view.NOTE_TAG: view.trial_note(record.spec(), verdict, [best.step] if best else [])}
        self._set_tags(run, {**tags, **best_tags, **note})
        mlflow_store.end_run(self._client, run.run_id, STATUS_OF_KIND.get(verdict.kind, "FAILED"), ended_ms)

    def _log_later_evals(self, run: StoredRun, record: Record) -> None:
        """Log the files of evals that are measured after the end, again where they have changed."""
        for path in (record.directory / name for name in LATER_EVALS):
            digest = sha256(path.read_bytes()).hexdigest() if path.exists() else None
            key = f"footprint.synced.{path.stem}"
            if digest is not None and run.tags.get(key) != digest:
                log_file(self._client, run.run_id, path, None)
                self._set_tags(run, {key: digest})

    # ---------------------------------------------------------------- the store
    @cached_property
    def _client(self) -> MlflowClient:
        return mlflow_store.connect(self.tracking_uri)

    @cached_property
    def _experiment_id(self) -> str:
        experiment = mlflow_store.experiment_id(self._client, self.tracking_uri, self.study_name)
        found = self._client.get_experiment(experiment)
        wanted = {
            view.VIEW_TAG: view.view_state(found.creation_time or 0),
            view.NOTE_TAG: view.experiment_note(self.question),
        }
        for key, text in wanted.items():
            if key not in found.tags:  # what somebody has edited stays
                self._client.set_experiment_tag(experiment, key, text)
        return experiment

    def _set_tags(self, run: StoredRun, tags: Mapping[str, str]) -> None:
        mlflow_store.log_tags(self._client, run.run_id, tags)


def sync_all(study_directory: Path, tracking_uri: str, study_name: str, question: str = "") -> list[str]:
    """Copy to MLflow what it lacks of `study_directory`/trials; return the names of the records copied.

    Raises:
        UserError: there is no record, or the URI is invalid.
        FileDamaged: a record is damaged; names all such records, after all others are copied.
        StoreUnreachable: MLflow does not answer.
    """
    records = records_under(study_directory / "trials")
    if not records:
        raise UserError(f"a study to sync must have records, but {study_directory / 'trials'} holds none")
    tracker = Tracker(tracking_uri, study_name, question)
    copied, unreadable = [], []
    try:
        tracker.join_launch("sync", {"footprint.baseline": ",".join(_baseline_ids(records))})
        for record in records:
            try:
                check_record(record)
                tracker.sync(record)
                copied.append(record.name)
            except UserError as error:
                unreadable.append(error.message)
    except outages() as error:
        uri = redacted(tracker.tracking_uri)
        message = f"MLflow must accept the records, but {uri} did not: {redacted(str(error))}"
        raise StoreUnreachable(message, "start the server or correct the URI, then sync again") from None
    if unreadable:
        raise FileDamaged("\n".join(unreadable), f"the other {len(copied)} records are copied to MLflow")
    return copied


def pages_of(experiment: str, tracking_uri: str | None) -> list[str]:
    """Return the command that serves MLflow, if it needs one, and the address of the experiment's shared view there.

    There is no address while the store does not answer.
    """
    uri = tracking_uri or mlflow_store.default_tracking_uri()
    found = None
    with suppress(UserError, *outages()):
        found = mlflow_store.existing_experiment_id(mlflow_store.connect_to_read(uri), experiment)
    serve = view.server_command(tracking_uri or (uri if uri.startswith("http") else None))
    address = [view.view_address(uri, found)] if found else [redacted(uri)] * uri.startswith("http")
    return [*([serve] if serve else []), *address]


def _shows_former_end(run: StoredRun, measured: Sequence[Measurement]) -> bool:
    """True when the run's curves go on after the trial's end: MLflow keeps them when a trial is run again."""
    steps = {one.kind: one.step for one in measured}
    was_longer = any(int(run.tags.get(f"footprint.synced.{kind}", -1)) > step for kind, step in steps.items())
    return was_longer or any(name.startswith("final/") for name in run.metrics)


def _baseline_ids(records: list[Record]) -> list[str]:
    ids = set()
    for record in records:
        with suppress(UserError):  # `sync_all` reports records that cannot be read
            spec = record.spec()
            ids |= {spec.trial_id} if spec.placement.is_baseline else set()
    return sorted(ids)


def _data_file(name: str, source: Source, context: str) -> LoggedDataset:
    origin = json.dumps({"uri": str(source.path), "sha256": source.sha256})
    return LoggedDataset(name, source.sha256, origin, context)


def _written_ms(record: Record, name: str) -> int:
    """Return the time in ms at which a file of the record was written, so that a rebuilt run keeps its times."""
    return round(1000 * (record.directory / name).stat().st_mtime)
