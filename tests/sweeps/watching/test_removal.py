"""Tests `footprint rm` on records and a real MLflow database: what goes, what stays, and what it refuses."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ended import Ended, ended_by
from installed_commands import declared, install
from mlflow import MlflowClient
from mlflow.entities import ViewType
from trial_records import keep_best, running_record

from sweeps.cli import footprint
from sweeps.execution.experiment import Experiment
from sweeps.tracking.removal import runs_to_remove
from sweeps.tracking.sync import sync_all
from sweeps.tracking.tracker import Tracker
from trainables.errors import ExitCode
from trainables.mlflow_store import StoredRun
from trainables.record import Record
from trainables.verdict import Verdict

END = Verdict(kind="completed", step=60)


@pytest.fixture(autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install(tmp_path_factory.mktemp("metadata"), declared()))


@pytest.fixture
def record(make_record: Callable[..., Record]) -> Record:
    made = make_record()
    keep_best(made, 60)
    made.close(END)
    return made


def removed(root: Path, *words: str, database: str = "mlflow.db", name: str = "stage4") -> Ended:
    store = ("--tracking-uri", f"sqlite:///{root / database}")
    return ended_by(footprint.main, "footprint", "rm", name, *words, "--storage", str(root), *store)


def copied(directory: Path, database: Path) -> MlflowClient:
    sync_all(directory, f"sqlite:///{database}", directory.name)
    return MlflowClient(f"sqlite:///{database}")


def names(client: MlflowClient, view: int = ViewType.ACTIVE_ONLY) -> list[str]:
    known = [one.experiment_id for one in client.search_experiments(view_type=ViewType.ALL)]
    return sorted(one.info.run_name or "" for one in client.search_runs(known, run_view_type=view))


def test_records_and_runs_go_and_a_later_launch_finds_none_of_them(
    record: Record, database: Path, tmp_path: Path
) -> None:
    client = copied(tmp_path / "stage4", database)
    assert len(names(client)) == 2, "the launch and its trial"
    found = removed(tmp_path, "--yes")
    assert found.exit_code == ExitCode.DONE, found.output
    assert "1 trials, 1 of them ended" in found.stdout and "2 runs" in found.stdout
    assert not (tmp_path / "stage4").exists() and not list(tmp_path.glob(".stage4*"))
    assert names(client) == [] and client.get_experiment_by_name("stage4") is None
    Tracker(f"sqlite:///{database}", "stage4").open_launch("python -m sweeps.stage4", {})
    assert [name.split("-")[0] for name in names(client)] == ["launch"], "the removed runs do not come back"


@pytest.mark.parametrize(("answer", "is_left"), [("n\n", True), ("\n", True), ("y\n", False)])
def test_it_asks_first(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, is_left: bool
) -> None:
    (tmp_path / "answer").write_text(answer)
    with (tmp_path / "answer").open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        found = removed(tmp_path, "--keep-runs")
    assert "Remove all of this?" in found.output and found.exit_code == ExitCode.DONE
    assert record.directory.exists() == is_left and ("nothing was removed" in found.stdout) == is_left


def test_without_an_answer_nothing_is_removed(record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert removed(tmp_path, "--keep-runs").exit_code == ExitCode.STOPPED
    assert record.directory.exists()


def test_a_running_experiment_is_refused(record: Record, tmp_path: Path) -> None:
    with Experiment(tmp_path / "stage4").held():
        found = removed(tmp_path, "--yes", "--keep-runs")
    assert found.exit_code == ExitCode.ALREADY_RUNNING and f"process {os.getpid()} on " in found.stderr
    assert record.directory.exists()


def test_a_look_that_removes_nothing_leaves_no_trace(record: Record, tmp_path: Path) -> None:
    before = sorted(path.name for path in (tmp_path / "stage4").iterdir())
    removed(tmp_path, "--keep-runs")
    assert sorted(path.name for path in (tmp_path / "stage4").iterdir()) == before


@pytest.mark.parametrize("name", ["stage5", "../stage4", "data"])
def test_what_is_no_experiment_is_not_removed(record: Record, tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    found = removed(tmp_path, "--yes", "--keep-runs", name=name)
    assert found.exit_code == ExitCode.BAD_INPUT and (tmp_path / "data").exists() and record.directory.exists()


def test_without_the_store_nothing_is_removed_and_the_hint_says_how(record: Record, tmp_path: Path) -> None:
    found = removed(tmp_path, "--yes", database="gone.db")
    assert found.exit_code == ExitCode.BAD_INPUT and "--keep-runs" in found.stderr
    store = ("--tracking-uri", "http://ann:secret@127.0.0.1:9")
    found = ended_by(footprint.main, "footprint", "rm", "stage4", "--yes", "--storage", str(tmp_path), *store)
    assert found.exit_code == ExitCode.RECORD_DAMAGED and "--keep-runs" in found.stderr
    assert "secret" not in found.output and record.directory.exists()


def test_runs_that_stay_are_those_of_other_storages_and_of_other_tools(
    record: Record, database: Path, tmp_path: Path
) -> None:
    client = copied(tmp_path / "stage4", database)
    other = running_record(tmp_path / "elsewhere", "E1", 4, 0, arm="E1")
    keep_best(other, 60)
    other.close(END)
    copied(tmp_path / "elsewhere" / "stage4", database)
    experiment = client.get_experiment_by_name("stage4")
    assert experiment is not None
    client.create_run(experiment.experiment_id, run_name="notes")
    assert removed(tmp_path, "--yes").exit_code == ExitCode.DONE
    left = names(client)
    assert {"E1", "notes"} <= set(left) and "C2-L2-V2" not in left
    models = client.search_logged_models([experiment.experiment_id])
    [kept] = [one.info.run_id for one in client.search_runs([experiment.experiment_id]) if one.info.run_name == "E1"]
    assert [one.source_run_id for one in models] == [kept]


def stored(run_id: str, **tags: str) -> StoredRun:
    named = {key.replace("__", "."): value for key, value in tags.items()}
    return StoredRun(run_id, run_id, "FINISHED", 0, named, {}, {}, False, "")


def test_launches_go_with_their_last_trial(tmp_path: Path) -> None:
    mine, elsewhere = tmp_path / "stage4", tmp_path / "elsewhere"
    (elsewhere / "trials" / "b").mkdir(parents=True)
    (elsewhere / "trials" / "b" / "spec.json").touch()
    found = [
        stored("both", footprint__kind="launch"), stored("one", footprint__kind="launch"),
        stored("empty", footprint__kind="launch"), stored("notes"),
        *(stored(name, footprint__kind="trial", mlflow__parentRunId=parent, trial__id=trial_id, record=str(path))
          for name, parent, trial_id, path in (
              ("a", "both", "1", mine / "trials" / "a"), ("b", "both", "2", elsewhere / "trials" / "b"),
              ("c", "one", "3", mine / "trials" / "c"), ("moved", "one", "4", tmp_path / "before" / "trials" / "d"),
              ("unknown", "both", "5", tmp_path / "before" / "trials" / "e"))),
    ]  # fmt: skip
    assert {one.run_id for one in runs_to_remove(found, mine, {"1", "2", "3", "4"})} == {"a", "c", "moved", "one"}


@pytest.mark.slow
def test_the_printed_command_deletes_the_runs_for_good(record: Record, database: Path, tmp_path: Path) -> None:
    client = copied(tmp_path / "stage4", database)
    artifacts = [path for path in (tmp_path / "mlruns").rglob("*") if path.is_file()]
    printed = re.search(r"^ +(mlflow gc .+)$", removed(tmp_path, "--yes").stdout, re.MULTILINE)
    assert printed is not None and artifacts and names(client, ViewType.DELETED_ONLY)
    command = [sys.executable, "-m", *shlex.split(printed[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert names(client, ViewType.ALL) == []
    assert not [path for path in (tmp_path / "mlruns").rglob("*") if path.is_file()]
