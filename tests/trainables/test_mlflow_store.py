"""Tests opening, reading and writing an MLflow store."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from trainables import mlflow_store
from trainables.errors import UserError
from trainables.mlflow_store import LoggedDataset, Point


@pytest.fixture
def uri(migrated_database: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(migrated_database, tmp_path / 'mlflow.db')}"


def test_what_is_written_is_read_back(uri: str) -> None:
    client = mlflow_store.connect(uri)
    experiment = mlflow_store.experiment_id(client, uri, "stage4")
    run = mlflow_store.create_run(client, experiment, "C2", {"trial.id": "abc"}, started_ms=1_000)
    points = [Point("eval/loss", 0.5, 2_000, 30), Point("eval/loss", 0.25, 3_000, 60)]
    mlflow_store.log_batch(client, run.run_id, points, {"rank": "16"})
    mlflow_store.log_tags(client, run.run_id, {"verdict": "completed"})
    mlflow_store.log_data_files(client, run.run_id, [LoggedDataset("train", "f" * 64, "{}", "training")])
    mlflow_store.end_run(client, run.run_id, "FINISHED", 4_000)
    (found,) = mlflow_store.runs_of(mlflow_store.connect_to_read(uri), experiment, "tags.`trial.id` = 'abc'")
    assert (found.name, found.status, found.has_ended, found.started_ms) == ("C2", "FINISHED", True, 1_000)
    assert (found.params, found.metrics, found.has_inputs) == ({"rank": "16"}, {"eval/loss": 0.25}, True)
    assert found.tags["verdict"] == "completed"
    mlflow_store.reopen_run(client, run.run_id, ["verdict"])
    (again,) = mlflow_store.runs_of(client, experiment)
    assert not again.has_ended and "verdict" not in again.tags


def test_every_page_of_runs_is_read(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = mlflow_store.connect(uri)
    experiment = mlflow_store.experiment_id(client, uri, "stage4")
    for index in range(5):
        mlflow_store.create_run(client, experiment, f"run{index}", {}, started_ms=index + 1)
    monkeypatch.setattr(mlflow_store, "RUNS_PER_PAGE", 2)
    names = [run.name for run in mlflow_store.runs_of(client, experiment)]
    assert names == [f"run{index}" for index in (4, 3, 2, 1, 0)], "newest first"


@pytest.mark.parametrize("more", [-1, 0, mlflow_store.POINTS_PER_BATCH])
def test_no_call_logs_more_than_mlflow_takes_and_tags_come_last(
    uri: str, more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = mlflow_store.connect(uri)
    run = mlflow_store.create_run(client, mlflow_store.experiment_id(client, uri, "stage4"), "C2", {})
    count, calls, write = mlflow_store.POINTS_PER_BATCH + more, [], MlflowClient.log_batch

    def counted(self: MlflowClient, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        calls.append((len(metrics) + len(params) + len(tags), len(tags)))
        write(self, run_id, metrics, params, tags)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    points = [Point("loss", float(step), step, step) for step in range(count)]
    mlflow_store.log_batch(client, run.run_id, points, {"rank": "16"}, {"synced": str(count)})
    assert len(client.get_metric_history(run.run_id, "loss")) == count
    assert max(size for size, _ in calls) <= mlflow_store.POINTS_PER_BATCH
    assert [tags for _, tags in calls] == [*[0] * (len(calls) - 1), 1]


def test_a_reader_creates_nothing(uri: str, tmp_path: Path) -> None:
    client = mlflow_store.connect_to_read(uri)
    assert mlflow_store.existing_experiment_id(client, "stage4") is None
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"], "not even the lock of a writer"
    with pytest.raises(UserError, match="there is no file"):
        mlflow_store.connect_to_read(f"sqlite:///{tmp_path / 'absent.db'}")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_deleted_experiment_is_restored_by_a_writer_and_absent_to_a_reader(uri: str) -> None:
    client = mlflow_store.connect(uri)
    made = mlflow_store.experiment_id(client, uri, "stage4")
    client.delete_experiment(made)
    assert mlflow_store.existing_experiment_id(client, "stage4") is None
    assert "stage4" not in mlflow_store.experiment_names(client)
    assert mlflow_store.experiment_id(client, uri, "stage4") == made
    assert mlflow_store.existing_experiment_id(client, "stage4") == made


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ann:p@ss@host/api", "http://***@host/api"),
        ("postgresql://ann@host/db?password=x&b=1", "postgresql://***@host/db?password=***&b=1"),
        ("--api-token=abc --token abc TOKEN=abc", "--api-token=*** --token *** TOKEN=***"),
        ("sqlite:////home/ann@work/mlflow.db", "sqlite:////home/ann@work/mlflow.db"),
    ],
)
def test_credentials_are_not_shown(text: str, shown: str) -> None:
    assert mlflow_store.redacted(text) == shown
