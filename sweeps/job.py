"""Jobs: what a launch plans, shows and runs, whether a study, a staged study, a search or an imported configuration."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from sweeps.display.launch_json import plan_json
from sweeps.execution.begun_records import copy_begun_rows
from sweeps.execution.experiment import Experiment
from sweeps.execution.notifier import LaunchAlerts
from sweeps.execution.options import Launch
from sweeps.execution.storage import check_storage
from sweeps.planning.preflight import Preflight, admit
from sweeps.study import Study
from trainables.mlflow_store import checked_uri, default_tracking_uri
from trainables.progress import working
from trainables.record import Record
from trainables.spec import TrialSpec

READING = "reading the base and the rows, and planning"


class JobPlan(Protocol):
    """The plan of any job, with the results of the preflight checks."""

    @property
    def preflight(self) -> Preflight:
        """Return the results of the preflight checks."""
        ...


PlanT = TypeVar("PlanT", bound=JobPlan)


class Job(Protocol[PlanT]):
    """A unit of work to launch; `plan` returns the plan that `show` prints and `run` executes."""

    @property
    def study(self) -> Study:
        """Return the study, which has the name, the question and the closing tables."""
        ...

    @property
    def launch(self) -> Launch:
        """Return the launch options."""
        ...

    def plan(self, data_directory: Path) -> PlanT:
        """Read and check all input; writes only the miniature's and filtered rows, below `data_directory`.

        Raises:
            UserError: anything that would make the job fail later.
        """
        ...

    def show(self, planned: PlanT) -> None:
        """Print the plan."""
        ...

    def trials(self, planned: PlanT) -> Sequence[TrialSpec]:
        """Return the trials that are known before any runs; a search knows none."""
        ...

    def check(self, planned: PlanT) -> None:
        """Refuse what `run` would refuse before it starts a trial; writes nothing.

        Raises:
            UserError: the storage cannot take the records, or the experiment is locked or has another configuration.
        """
        ...

    def run(self, planned: PlanT) -> list[Record]:
        """Run the trials of the plan that have no result, and return the records of all its trials.

        Raises:
            UserError: preflight refuses the plan, or the experiment has another configuration.
            Checkpointed: the launch was stopped; every running trial has checkpointed.
        """
        ...


def run_job(job: Job[PlanT]) -> list[Record]:
    """Plan a job and run it.

    Raises:
        UserError: the input is invalid; nothing was trained.
        Checkpointed: the launch was stopped; every running trial has checkpointed.
    """
    directory = job.launch.directory(job.study)
    checked_uri(job.launch.tracking_uri or default_tracking_uri())
    check_storage(directory.parent)
    with working(job.launch.console, f"{job.study.name}: {READING}"):
        planned = job.plan(directory.parent / "data")
    with LaunchAlerts(job.launch.notifier, directory):
        return job.run(planned)


def show_job(job: Job[PlanT]) -> str:
    """Plan a job, print the plan and return it as JSON; leaves no files, and refuses whatever `run_job` would refuse.

    Raises:
        UserError: the input is invalid, preflight refuses the plan, or `Job.check` does.
    """
    directory = job.launch.directory(job.study)
    checked_uri(job.launch.tracking_uri or default_tracking_uri())
    check_storage(directory.parent, create=False)
    with tempfile.TemporaryDirectory() as scratch:
        copy_begun_rows(Experiment(directory), Path(scratch))
        with working(job.launch.console, f"{job.study.name}: {READING}"):
            planned = job.plan(Path(scratch) / "data")
        job.show(planned)
        admit(planned.preflight, job.launch.force)
        job.check(planned)
        found = plan_json(directory.name, job.trials(planned), planned.preflight)
    job.launch.console.print("dry run: nothing was written")
    return found
