"""Records into MLflow: the only writer of its runs, and it can be run again or rebuilt at any time.

Experiment = study; parent run = one launch; child run = one trial, found again by its tag `trial.id`. What MLflow
already holds is read back from MLflow, so a restart, an outage or a wiped store changes nothing but the work left.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.planning.space import arm_of
from sweeps.tracking import mlflow_fields
from trainables.errors import UserError
from trainables.io.files import FileDamaged
from trainables.mlflow_store import checked_uri, connect, default_tracking_uri, experiment_id, outages, redacted
from trainables.record import Record, Verdict, labels_of, records_under
from trainables.spec import TrialSpec

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


STATUS_OF_KIND = {"completed": "FINISHED", "pruned": "KILLED"}  # any other verdict is FAILED
CONTEXT_OF_SOURCE = {"train": "training", "validation": "validation", "ood": "out-of-distribution"}
POINTS_PER_BATCH = 1000  # MLflow's own limit
DIGEST_LETTERS = 36  # MLflow's own limit


__all__ = ["StoreUnreachable", "Tracker", "checked_uri", "default_tracking_uri", "outages", "redacted", "sync_all"]


class StoreUnreachable(UserError):
    """MLflow did not take what the records hold; nothing is lost, the records are the truth."""

    exit_code = 4


class Tracker:
    """Writes the records of one study into one MLflow store; connects at first use, not when made."""

    def __init__(self, tracking_uri: str, study_name: str) -> None:
        """Take where to write.

        Raises:
            UserError: `tracking_uri` names no store that MLflow serves runs from.
        """
        self.tracking_uri = checked_uri(tracking_uri)
        self.study_name = study_name
        self._launch_id: str | None = None

    # ---------------------------------------------------------------- launches
    def open_launch(self, command: str, tags: Mapping[str, str]) -> None:
        """Begin the parent run of this launch; a second call changes nothing.

        Launches that still count as running were killed before they could say so: they become KILLED.
        """
        if self._launch_id is None:
            for launch in self._launches("attributes.status = 'RUNNING'"):
                self._client.set_terminated(launch.info.run_id, "KILLED")
            self._launch_id = self._create_launch(command, tags)

    def join_launch(self, command: str, tags: Mapping[str, str]) -> None:
        """Write below the newest launch MLflow knows, or below a finished one of its own where it knows none."""
        launches = self._launches()
        if launches:
            self._launch_id = launches[0].info.run_id
        else:
            self._launch_id = self._create_launch(command, tags)
            self.close_launch()

    def close_launch(self) -> None:
        """End the parent run."""
        if self._launch_id is not None:
            self._client.set_terminated(self._launch_id, "FINISHED")

    def _launches(self, condition: str = "") -> list[Run]:
        conditions = ["tags.`footprint.kind` = 'launch'", condition]
        return list(self._client.search_runs([self._experiment_id], " AND ".join(filter(None, conditions))))

    def _create_launch(self, command: str, tags: Mapping[str, str]) -> str:
        own = {"footprint.kind": "launch", "footprint.study": self.study_name, "footprint.command": redacted(command)}
        name = time.strftime("launch-%Y%m%d-%H%M%S", time.gmtime())
        return self._client.create_run(self._experiment_id, tags={**own, **tags}, run_name=name).info.run_id

    # ---------------------------------------------------------------- trials
    def sync(self, record: Record) -> None:
        """Write what the record holds and MLflow does not; twice is the same as once.

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
        ended = run.info.status in ("FINISHED", "KILLED", "FAILED")
        if ended and verdict is not None and tags.items() <= run.data.tags.items():
            return
        if ended:
            self._reopen(run, labels)
        self._log_inputs(run, spec)
        self._log_curves(run, record)
        if verdict is not None:
            self._end(run, record, verdict, tags)

    def _trial_run(self, spec: TrialSpec) -> Run | None:
        runs = self._client.search_runs([self._experiment_id], f"tags.`trial.id` = '{spec.trial_id}'", max_results=1)
        return runs[0] if runs else None

    def _create_trial_run(self, record: Record, spec: TrialSpec) -> Run:
        if self._launch_id is None:
            raise RuntimeError("a trial is logged below a launch: call open_launch or join_launch first")
        tags = {
            "mlflow.parentRunId": self._launch_id,
            "footprint.kind": "trial",
            "trial.id": spec.trial_id,
            "trial.name": spec.name,
            "trial.arm": arm_of(spec),
            "record": str(record.directory),
            **labels_of(record),
            **mlflow_fields.lineage_tags(record),
        }
        return self._client.create_run(self._experiment_id, _written_ms(record, "spec.json"), tags, spec.name)

    def _reopen(self, run: Run, labels: Mapping[str, str]) -> None:
        self._client.update_run(run.info.run_id, status="RUNNING")
        for key in run.data.tags:
            if key.split(".")[0] in ("verdict", "best", "criteria", "degraded", "overridden"):
                self._client.delete_tag(run.info.run_id, key)
        self._set_tags(run, labels)

    def _log_inputs(self, run: Run, spec: TrialSpec) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        if not run.data.params:
            params = [Param(key, value) for key, value in mlflow_fields.params_of(spec).items()]
            self._client.log_batch(run.info.run_id, params=params)
        if not (run.inputs and run.inputs.dataset_inputs):
            inputs = []
            for name, context in CONTEXT_OF_SOURCE.items():
                source = getattr(spec, name)
                origin = json.dumps({"uri": str(source.path), "sha256": source.sha256})
                dataset = Dataset(name, source.sha256[:DIGEST_LETTERS], "local", origin)
                inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", context)]))
            self._client.log_inputs(run.info.run_id, datasets=inputs)

    def _log_curves(self, run: Run, record: Record) -> None:
        known = {kind: int(run.data.tags.get(f"footprint.synced.{kind}", -1)) for kind in ("train", "eval")}
        measurements = record.measurements()
        fresh = [one for one in measurements if one.step > known[one.kind]]
        if fresh:
            keys = {(f"{one.kind}/{name}", one.step) for one in fresh for name in one.metrics}
            points = mlflow_fields.curve_points(measurements, _written_ms(record, "spec.json"))
            self._log_points(run, [point for point in points if (point.key, point.step) in keys])
            self._set_tags(run, {f"footprint.synced.{one.kind}": str(one.step) for one in fresh})

    def _end(self, run: Run, record: Record, verdict: Verdict, tags: Mapping[str, str]) -> None:
        for file, folder in mlflow_fields.artifacts_of(record):
            self._client.log_artifact(run.info.run_id, str(file), folder)
        ended_ms = _written_ms(record, "verdict.json")
        best = record.best()
        self._log_points(run, mlflow_fields.summary_points(record.measurements(), best, ended_ms))
        best_tags = {"best.step": str(best.step)} if best else {}
        self._set_tags(run, {**tags, **best_tags})
        status = STATUS_OF_KIND.get(verdict.kind, "FAILED")
        self._client.set_terminated(run.info.run_id, status, end_time=ended_ms)

    # ---------------------------------------------------------------- MLflow's own terms
    @cached_property
    def _client(self) -> MlflowClient:
        return connect(self.tracking_uri)

    @cached_property
    def _experiment_id(self) -> str:
        return experiment_id(self._client, self.tracking_uri, self.study_name)

    def _log_points(self, run: Run, points: list[mlflow_fields.Point]) -> None:
        from mlflow.entities import Metric

        for start in range(0, len(points), POINTS_PER_BATCH):
            batch = points[start : start + POINTS_PER_BATCH]
            self._client.log_batch(run.info.run_id, metrics=[Metric(*point) for point in batch])

    def _set_tags(self, run: Run, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(run.info.run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def sync_all(study_directory: Path, tracking_uri: str, study_name: str) -> list[str]:
    """Rebuild or complete the mirror from `study_directory`/trials; return the names of the records mirrored.

    Raises:
        UserError: there is no record, or the URI is refused.
        FileDamaged: naming every record that cannot be read, after all others are mirrored.
        StoreUnreachable: MLflow does not answer.
    """
    records = records_under(study_directory / "trials")
    if not records:
        raise UserError(f"a study to sync must have records, but {study_directory / 'trials'} holds none")
    tracker = Tracker(tracking_uri, study_name)
    mirrored, unreadable = [], []
    try:
        tracker.join_launch("sync", {"footprint.baseline": ",".join(_baseline_ids(records))})
        for record in records:
            try:
                tracker.sync(record)
                mirrored.append(record.name)
            except UserError as error:
                unreadable.append(error.message)
    except outages() as error:
        message = f"MLflow must take the records, but {redacted(tracker.tracking_uri)} did not: {redacted(str(error))}"
        raise StoreUnreachable(message, "start the server or correct the URI, then sync again") from None
    if unreadable:
        raise FileDamaged("\n".join(unreadable), f"the other {len(mirrored)} records are mirrored")
    return mirrored


def _baseline_ids(records: list[Record]) -> list[str]:
    ids = set()
    for record in records:
        with suppress(UserError):  # the sync itself tells which record cannot be read
            spec = record.spec()
            ids |= {spec.trial_id} if spec.placement.is_baseline else set()
    return sorted(ids)


def _written_ms(record: Record, name: str) -> int:
    """When the record's own file was written: a rebuilt run keeps its times."""
    return round(1000 * (record.directory / name).stat().st_mtime)
