"""Reads what the trials of an experiment measured, with results by row, from the files that MLflow keeps of runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.mlflow_runs import READERS, ExperimentRuns, TrialRun, outages_as_user_errors
from trainables.measurement import Measurement, read_measurements
from trainables.mlflow_files import stored_files
from trainables.probes.reserve import exchanged
from trainables.record import DERIVED, FINALISTS, HOLDOUT

MEASURED = ("metrics.jsonl", DERIVED)


@dataclass(frozen=True)
class LoggedMeasurements:
    """The measurements of each trial by run id, empty where none are logged.

    `trained` holds those of scaled and averaged copies too; evals of weights that were asked all irrelevant rows after
    the end have their results on all of them. `held_out` holds the evals on the holdout, the baseline's too.
    """

    trained: dict[str, list[Measurement]]
    held_out: dict[str, list[Measurement]]


def read_logged(experiment: ExperimentRuns, tracking_uri: str) -> LoggedMeasurements:
    """Read the measurements of every trial of the experiment.

    Raises:
        UserError: the store does not answer, or a file is damaged.
    """
    hint = f"copy the records again: python -m sweeps.{experiment.name} --sync"
    with outages_as_user_errors(tracking_uri), ThreadPoolExecutor(READERS) as readers:
        read = list(readers.map(partial(_of_trial, tracking_uri=tracking_uri, hint=hint), experiment.trials))
    pairs = list(zip((trial.run_id for trial in experiment.trials), read, strict=True))
    return LoggedMeasurements(
        {run_id: with_finals(_of(MEASURED, files), _of((FINALISTS,), files)) for run_id, files in pairs},
        {run_id: _of((HOLDOUT,), files) for run_id, files in pairs},
    )


def with_finals(measurements: Iterable[Measurement], finals: Iterable[Measurement]) -> list[Measurement]:
    """Return measurements; an eval of weights that are in `finals` has the results of those on all irrelevant rows."""
    asked = {(one.step, one.scale): one for one in finals}
    return [
        replace(one, rows=exchanged(one.rows, asked[key].rows))
        if one.kind == "eval" and (key := (one.step, one.scale)) in asked
        else one
        for one in measurements
    ]


def _of_trial(trial: TrialRun, tracking_uri: str, hint: str) -> dict[str, list[Measurement]]:
    """Return the measurements of a trial by the name of their file."""
    if not trial.artifact_uri:
        return {}
    with TemporaryDirectory() as scratch:
        names = (*MEASURED, FINALISTS, HOLDOUT)
        paths = stored_files(trial.artifact_uri, tracking_uri, names, Path(scratch))
        return {path.name: read_measurements(path, hint) for path in paths}


def _of(names: Sequence[str], files: dict[str, list[Measurement]]) -> list[Measurement]:
    """Return the measurements of these files; a line that was written again, as after a kill, replaces the earlier."""
    every = [one for name in names for one in files.get(name, ())]
    return list({(one.kind, one.step, one.scale): one for one in every}.values())
