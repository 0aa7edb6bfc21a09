"""Reads what the trials of an experiment measured, with results by row, from the files that MLflow keeps of runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.mlflow_runs import ExperimentRuns, TrialRun, outages_as_user_errors, read_experiment
from analysis.options import store_words
from analysis.printed_commands import sync_command
from trainables.measurement import Measurement, read_measurements
from trainables.mlflow_files import stored_files
from trainables.probes.reserve import exchanged
from trainables.record import DERIVED, FINALISTS, HOLDOUT

READERS = 8  # trials whose files are read at once
MEASURED = ("metrics.jsonl", DERIVED)


@dataclass(frozen=True)
class LoggedExperiment:
    """The runs of an experiment, and the measurements of each trial by run id, empty where none are logged.

    `trained` holds those of scaled and averaged copies too; evals of weights that were asked all irrelevant rows after
    the end have their results on all of them. `held_out` holds the evals on the holdout, the baseline's too.
    """

    runs: ExperimentRuns
    trained: dict[str, list[Measurement]]
    held_out: dict[str, list[Measurement]]


def read_logged(name: str, tracking_uri: str) -> LoggedExperiment:
    """Read the experiment `name` with the measurements of every trial.

    Raises:
        UserError: the store does not answer, has no such experiment, or a file is damaged.
    """
    experiment = read_experiment(name, tracking_uri)
    hint = f"copy the records again: {sync_command(name, store_words(tracking_uri))}"
    with outages_as_user_errors(tracking_uri), ThreadPoolExecutor(READERS) as readers:
        files = list(readers.map(partial(_of_trial, tracking_uri=tracking_uri, hint=hint), experiment.trials))
    pairs = list(zip(experiment.trials, files, strict=True))
    trained = {one.run_id: with_finals(_of(MEASURED, own), _of((FINALISTS,), own)) for one, own in pairs}
    whole = tuple(_with_whole_best(one, _of(MEASURED[:1], own)) for one, own in pairs)
    held_out = {one.run_id: _of((HOLDOUT,), own) for one, own in pairs}
    return LoggedExperiment(replace(experiment, trials=whole), trained, held_out)


def with_finals(measurements: Iterable[Measurement], finals: Iterable[Measurement]) -> list[Measurement]:
    """Return measurements; an eval of weights that are in `finals` has the results of those on all irrelevant rows."""
    asked = {(one.step, one.scale): one for one in finals}
    return [
        replace(one, rows=exchanged(one.rows, asked[key].rows))
        if one.kind == "eval" and (key := (one.step, one.scale)) in asked
        else one
        for one in measurements
    ]


def _with_whole_best(trial: TrialRun, measurements: Iterable[Measurement]) -> TrialRun:
    """Add the metrics of the best eval that are not in MLflow's table of metrics."""
    evals = (one for one in measurements if one.kind == "eval" and str(one.step) == trial.best_step)
    best = next((one.metrics for one in evals), {})
    return replace(trial, best={**best, **trial.best})


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
