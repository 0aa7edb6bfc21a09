"""Writes records to MLflow; writing is idempotent, and a lost store can be rebuilt.

A study is an MLflow experiment, a launch a parent run, and a trial a child run, found by its tag `trial.id`. The
tracker asks MLflow what it already has, so it writes only what is missing after a restart, an outage or a lost store.
It asks once for all runs of a study, and again for a run whose last write failed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

from sweeps.tracking import mlflow_fields, view
from trainables import mlflow_store
from trainables.errors import UserError, redacted
from trainables.mlflow_files import log_file
from trainables.mlflow_models import finish_adapter, log_adapter
from trainables.mlflow_store import LoggedDataset, Point, StoredRun, checked_uri, outages
from trainables.record import LATER_EVALS, Measurement, Record
from trainables.record_labels import labels_of
from trainables.spec import Source, TrialSpec
from trainables.verdict import Verdict

if TYPE_CHECKING:
    from trainables.mlflow_store import MlflowClient


STATUS_OF_KIND = {"completed": "FINISHED", "pruned": "KILLED"}  # any other verdict is FAILED
CONTEXT_OF_SOURCE = {"train": "training", "validation": "validation", "ood": "out-of-distribution"}
TRIAL_ID = "trial.id"
OUTCOME_TAGS = ("verdict", "best", "criteria", "degraded", "overridden")  # removed when a trial is run again


@dataclass(frozen=True)
class RunUpdate:
    """What one call writes to a run."""

    points: Sequence[Point] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


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
        self._has_asked = False
        self._runs: dict[str, StoredRun] = {}  # by trial id, as this tracker has left them
        self._new_run_ids: set[str] = set()  # of runs that this tracker has created, which have no model yet

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
        run = self._trial_run(spec)
        self._runs.pop(spec.trial_id, None)  # while it is written, and after an outage, nothing is known of it
        run = run or self._create_trial_run(record, spec)
        if run.has_ended and verdict is not None and tags.items() <= run.tags.items():
            self._runs[spec.trial_id] = self._log_later_evals(run, record)
            return
        if run.has_ended:
            run = self._reopen(run, labels)
        run = self._log_inputs(run, spec)
        points, synced = self._curves(run, record)
        params = {} if run.params else mlflow_fields.params_of(spec)
        if verdict is not None:
            run = self._end(run, record, verdict, RunUpdate(points, params, {**tags, **synced}))
        elif points or params:
            run = self._write(run, RunUpdate(points, params, synced))
        self._runs[spec.trial_id] = run

    def _trial_run(self, spec: TrialSpec) -> StoredRun | None:
        """Return the run of a trial: as this tracker left it, or as MLflow has it."""
        if not self._has_asked:
            found = mlflow_store.runs_of(self._client, self._experiment_id, "tags.`footprint.kind` = 'trial'")
            self._runs = {run.tags[TRIAL_ID]: run for run in reversed(found) if TRIAL_ID in run.tags}  # newest last
            self._has_asked = True
        if spec.trial_id in self._runs:
            return self._runs[spec.trial_id]
        runs = mlflow_store.runs_of(self._client, self._experiment_id, f"tags.`{TRIAL_ID}` = '{spec.trial_id}'")
        return runs[0] if runs else None

    def _create_trial_run(self, record: Record, spec: TrialSpec) -> StoredRun:
        if self._launch_id is None:
            raise RuntimeError("a trial is logged below a launch: call open_launch or join_launch first")
        tags = {
            "mlflow.parentRunId": self._launch_id,
            "footprint.kind": "trial",
            TRIAL_ID: spec.trial_id,
            "trial.name": spec.name,
            "trial.arm": spec.arm,
            "record": str(record.home),
            view.NOTE_TAG: view.trial_note(spec),
            **labels_of(record),
            **mlflow_fields.lineage_tags(record),
        }
        started_ms = _written_ms(record, "spec.json")
        run = mlflow_store.create_run(self._client, self._experiment_id, spec.name, tags, started_ms)
        self._new_run_ids.add(run.run_id)
        return run

    def _reopen(self, run: StoredRun, labels: Mapping[str, str]) -> StoredRun:
        stale = [key for key in run.tags if key.split(".")[0] in OUTCOME_TAGS]
        mlflow_store.reopen_run(self._client, run.run_id, stale)
        kept = {key: value for key, value in run.tags.items() if key not in stale}
        return self._write(replace(run, status="RUNNING", tags=kept), RunUpdate(tags=labels))

    def _log_inputs(self, run: StoredRun, spec: TrialSpec) -> StoredRun:
        if run.has_inputs:
            return run
        files = [_data_file(name, getattr(spec, name), context) for name, context in CONTEXT_OF_SOURCE.items()]
        mlflow_store.log_data_files(self._client, run.run_id, files)
        return replace(run, has_inputs=True)

    def _curves(self, run: StoredRun, record: Record) -> tuple[list[Point], dict[str, str]]:
        """Return the points of curves that a run lacks, and the tags that say up to which step it then has them."""
        known = {kind: int(run.tags.get(f"footprint.synced.{kind}", -1)) for kind in ("train", "eval")}
        measurements = record.measurements()
        fresh = [one for one in measurements if one.step > known[one.kind]]
        if not fresh:
            return [], {}
        keys = {(mlflow_fields.curve_key(one, name), one.step) for one in fresh for name in one.metrics}
        points = mlflow_fields.curve_points(measurements, _written_ms(record, "spec.json"))
        chosen = [point for point in points if (point.key, point.step) in keys]
        return chosen, {f"footprint.synced.{one.kind}": str(one.step) for one in fresh}

    def _end(self, run: StoredRun, record: Record, verdict: Verdict, update: RunUpdate) -> StoredRun:
        """Write all of an ended trial: its files and its adapter, then `update` with its summary, its status last."""
        for file, folder in mlflow_fields.artifacts_of(record):
            log_file(self._client, run.run_id, file, folder)
        ended_ms, best, measured = _written_ms(record, "verdict.json"), record.best(), record.measurements()
        with_all = _shows_former_end(run, measured)
        summary = mlflow_fields.summary_points(measured, mlflow_fields.best_of(record), ended_ms, with_all)
        adapter, model_id = mlflow_fields.adapter_of(record), None
        if adapter is not None:
            is_new = run.run_id in self._new_run_ids
            self._new_run_ids.discard(run.run_id)  # before an outage can leave half a model
            model_id = log_adapter(self._client, self._experiment_id, run.run_id, adapter, is_new)
            summary = [one._replace(model_id=model_id) if one.key in adapter.metrics else one for one in summary]
        run = self._log_later_evals(run, record)
        best_tags = {"best.step": str(best.step)} if best else {}
        note = {view.NOTE_TAG: view.trial_note(record.spec(), verdict, [best.step] if best else [])}
        points, tags = [*update.points, *summary], {**update.tags, **best_tags, **note}
        run = self._write(run, replace(update, points=points, tags=tags))
        if model_id is not None:
            finish_adapter(self._client, model_id)
        status = STATUS_OF_KIND.get(verdict.kind, "FAILED")
        mlflow_store.end_run(self._client, run.run_id, status, ended_ms)
        return replace(run, status=status)

    def _log_later_evals(self, run: StoredRun, record: Record) -> StoredRun:
        """Log the files of evals that are measured after the end, again where they have changed."""
        for path in (record.directory / name for name in LATER_EVALS):
            digest = sha256(path.read_bytes()).hexdigest() if path.exists() else None
            key = f"footprint.synced.{path.stem}"
            if digest is not None and run.tags.get(key) != digest:
                log_file(self._client, run.run_id, path, None)
                run = self._write(run, RunUpdate(tags={key: digest}))
        return run

    def _write(self, run: StoredRun, update: RunUpdate) -> StoredRun:
        mlflow_store.log_batch(self._client, run.run_id, update.points, update.params, update.tags)
        metrics = {**run.metrics, **{one.key: one.value for one in update.points}}
        return replace(run, params={**run.params, **update.params}, tags={**run.tags, **update.tags}, metrics=metrics)

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


def _data_file(name: str, source: Source, context: str) -> LoggedDataset:
    origin = json.dumps({"uri": str(source.path), "sha256": source.sha256})
    return LoggedDataset(name, source.sha256, origin, context)


def _written_ms(record: Record, name: str) -> int:
    """Return the time in ms at which a file of the record was written, so that a rebuilt run keeps its times."""
    return round(1000 * (record.directory / name).stat().st_mtime)
