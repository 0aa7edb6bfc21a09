"""Removes an experiment: its directory, and its runs in MLflow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from sweeps.execution.experiment import Experiment
from sweeps.execution.lease_holder import check_free
from sweeps.tracking.removal import LoggedRuns, logged_runs, remove_runs
from sweeps.watching.listing import ListedExperiment, listed, size_text
from trainables.errors import UserError, redacted
from trainables.record import NAME_WITH_ID

KEEP_RUNS = "or pass --keep-runs, which removes the records alone"


@dataclass(frozen=True)
class Removal:
    """What is to be removed: an experiment, and its runs in MLflow; no runs if MLflow has none, or if they stay."""

    experiment: Experiment
    found: ListedExperiment
    runs: LoggedRuns | None

    def lines(self) -> Iterator[str]:
        """Yield what is to be removed, in words."""
        trials = f"{self.found.trials} trials, {self.found.ended} of them ended"
        yield f"{self.experiment.directory}: {trials}, {size_text(self.found.size_bytes)}"
        if self.runs is not None:
            yield f"MLflow ({redacted(self.runs.tracking_uri)}): {len(self.runs.run_ids)} runs"


def removal_of(experiment: Experiment, tracking_uri: str | None) -> Removal:
    """Find what is to be removed; without a URI the runs in MLflow stay.

    Raises:
        AlreadyRunning: a launch runs the experiment.
        UserError: the URI is invalid or names no store.
        StoreUnreachable: MLflow does not answer.
    """
    check_free(experiment.directory, steal=None)
    found = listed(experiment)
    names = (NAME_WITH_ID.fullmatch(record.name) for record in experiment.records())
    try:
        ids = {name[1] for name in names if name}
        runs = logged_runs(experiment.directory, ids, tracking_uri) if tracking_uri else None
    except UserError as error:
        raise type(error)(error.message, f"{error.hint}; {KEEP_RUNS}") from None
    return Removal(experiment, found, runs)


def remove(removal: Removal) -> None:
    """Remove the runs first, then the directory: if MLflow does not answer, everything is still there.

    Raises:
        AlreadyRunning: a launch runs the experiment.
        StoreUnreachable: MLflow does not answer; nothing was removed.
    """
    directory = removal.experiment.directory
    leaving = directory.with_name(f".{directory.name}.removed")
    with removal.experiment.held():
        if removal.runs is not None:
            remove_runs(removal.runs)
        shutil.rmtree(leaving, ignore_errors=True)  # what a removal left that was killed
        directory.rename(leaving)  # at once, so that no half of an experiment is taken for one
    shutil.rmtree(leaving)
