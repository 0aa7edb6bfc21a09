"""Tests what a launch does when the directory of a trial, or the launch itself, is lost while trials run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rich.console import Console
from trial_records import running_record

from sweeps.execution import run
from sweeps.execution.begun_records import TrialsLost
from sweeps.execution.experiment import Experiment
from sweeps.execution.options import Launch
from sweeps.stage4 import STUDY
from trainables.errors import ExitCode, InfrastructureError
from trainables.record import Record
from trainables.verdict import Verdict

Meanwhile = Callable[[list[Record]], None]


@pytest.fixture
def launched(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Meanwhile], list[Record]]:
    """Run a baseline and two arms, which a function of the test trains instead of Ray."""
    arms = (("A0", 0, 0), ("A1", 1, 0), ("C2", 2, 2))
    records = [running_record(tmp_path, name, *layers, steps=(), arm=name) for name, *layers in arms]
    launch = Launch(storage=tmp_path, tracking_uri=f"sqlite:///{database}", console=Console(quiet=True))

    def launched(meanwhile: Meanwhile) -> list[Record]:
        monkeypatch.setattr(run, "started_cluster", lambda *_: nullcontext())
        monkeypatch.setattr(run, "run_batch", lambda *_: meanwhile(records))
        with Experiment(tmp_path / "stage4").held() as experiment:
            run.run_records(STUDY, experiment, records, launch)
        return records

    return launched


def statuses(database: Path) -> dict[str, str]:
    client = MlflowClient(f"sqlite:///{database}")
    found = client.search_runs([one.experiment_id for one in client.search_experiments()])
    return {(run.info.run_name or "").partition("-")[0]: run.info.status for run in found}


def complete(*records: Record) -> None:
    for record in records:
        record.close(Verdict(kind="completed", step=0))


def test_a_trial_whose_directory_was_deleted_is_named_and_the_others_are_kept(
    launched: Callable[[Meanwhile], list[Record]], database: Path
) -> None:
    def meanwhile(records: list[Record]) -> None:
        shutil.rmtree(records[2].home)
        complete(*records[:2])

    with pytest.raises(TrialsLost, match="that of C2-") as lost:
        launched(meanwhile)
    assert lost.value.exit_code == ExitCode.RECORD_DAMAGED
    assert [record.name.partition("-")[0] for record in lost.value.whole] == ["A0", "A1"]
    seen = statuses(database)
    assert seen.pop("C2", "KILLED") == "KILLED", "deleted before it was copied, or after"
    assert seen == {"launch": "FAILED", "A0": "FINISHED", "A1": "FINISHED"}


def test_a_launch_that_breaks_off_leaves_no_run_as_running_and_the_next_one_goes_on(
    launched: Callable[[Meanwhile], list[Record]], database: Path
) -> None:
    def full(records: list[Record]) -> None:
        complete(records[0])
        raise InfrastructureError("the storage must have free space, but it is full")

    with pytest.raises(InfrastructureError):
        launched(full)
    assert statuses(database) == {"launch": "FAILED", "A0": "FINISHED", "A1": "KILLED", "C2": "KILLED"}
    launched(lambda records: complete(*records[1:]))
    assert {name: status for name, status in statuses(database).items() if name != "launch"} == dict.fromkeys(
        ("A0", "A1", "C2"), "FINISHED"
    )
