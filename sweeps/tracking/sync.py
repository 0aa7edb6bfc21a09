"""Copies all records of an experiment to MLflow, after an outage or into another store."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sweeps.tracking.tracker import Tracker
from trainables.errors import ExitCode, UserError, redacted
from trainables.io.files import FileDamaged
from trainables.mlflow_store import outages
from trainables.record import Record, records_under
from trainables.record_check import check_record


class StoreUnreachable(UserError):
    """MLflow did not accept the records; nothing is lost, because the records have all the data."""

    exit_code = ExitCode.RECORD_DAMAGED


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


def _baseline_ids(records: list[Record]) -> list[str]:
    ids = set()
    for record in records:
        with suppress(UserError):  # `sync_all` reports records that cannot be read
            spec = record.spec()
            ids |= {spec.trial_id} if spec.placement.is_baseline else set()
    return sorted(ids)
