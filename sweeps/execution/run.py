"""Runs the records of an experiment in one session with Ray and MLflow, baselines first."""

from __future__ import annotations

from collections.abc import Sequence

from sweeps.execution.begun_records import check_not_lost
from sweeps.execution.engine_plan import most_at_once
from sweeps.execution.experiment import Experiment, reopened
from sweeps.execution.options import Launch
from sweeps.execution.session import mirrored, run_batch, started_cluster
from sweeps.study import Study
from trainables.errors import Checkpointed
from trainables.record import Record


def run_records(study: Study, experiment: Experiment, records: Sequence[Record], launch: Launch) -> None:
    """Run the trials that have no verdict or failed; the caller must have locked the experiment.

    Raises:
        UserError: a baseline has no result, or the base violates a guard.
        TrialsLost: the directory of a trial was deleted meanwhile; the others have run.
        Checkpointed: the launch was stopped; every running trial has checkpointed.
    """
    todo = reopened(records)
    baselines = [record for record in records if record.spec().placement.is_baseline]
    with mirrored(study, experiment, baselines, launch) as mirror:
        for record in records:
            mirror.submit(record)
        if todo:
            with started_cluster(experiment, most_at_once([one.spec() for one in todo]), launch) as cluster:
                run_batch(study, experiment, records, cluster, launch, mirror)
            check_not_lost(records)
    if experiment.stop_file.exists():
        raise Checkpointed
