"""Tests the background MLflow writer: it never slows or stops a sweep, and reports what is missing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from trial_records import measure

from analysis.logged_measurements import read_logged
from sweeps.tracking import mirror as mirror_module
from sweeps.tracking.mirror import Mirror
from sweeps.tracking.tracker import Tracker
from trainables.io.files import FileDamaged
from trainables.record import Record
from trainables.verdict import Verdict

LONGEST_SUBMIT_SECONDS = 0.1


class ScriptedTracker:
    """Replaces a tracker: raises the given errors, one per sync, and then keeps what it gets."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.synced: list[str] = []
        self.before_sync: Callable[[Record], None] = lambda record: None

    def open_launch(self, command, tags) -> None:
        pass

    def close_launch(self, status: str) -> None:
        pass

    def sync(self, record: Record) -> None:
        self.before_sync(record)
        if self.errors:
            raise self.errors.pop(0)
        self.synced.append(record.name)


def mirror_to(uri: str) -> Mirror:
    return Mirror(Tracker(uri, "stage4"), "python -m sweeps.stage4", {})


def longest_submit_seconds(mirror: Mirror, record: Record, times: int = 20) -> float:
    longest = 0.0
    for _ in range(times):
        start = time.perf_counter()
        mirror.submit(record)
        longest = max(longest, time.perf_counter() - start)
        time.sleep(0.02)
    return longest


def children(uri: str) -> dict[str, str]:
    client = MlflowClient(uri)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.run_name: run.info.status for run in client.search_runs(ids, "tags.`footprint.kind` = 'trial'")}


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.05)


def test_a_port_that_is_closed_from_the_start_changes_nothing_for_the_sweep(make_record):
    mirror, record = mirror_to("http://ann:secret@127.0.0.1:9"), make_record()
    assert longest_submit_seconds(mirror, record) < LONGEST_SUBMIT_SECONDS
    assert mirror.close(timeout_seconds=30) == [record.name]
    assert mirror.outage_count > 0 and "secret" not in str(mirror.last_outage)


def test_a_server_that_never_answers_delays_neither_submit_nor_close(make_record):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mirror, record = mirror_to(f"http://127.0.0.1:{silent.getsockname()[1]}"), make_record()
        assert longest_submit_seconds(mirror, record) < LONGEST_SUBMIT_SECONDS
        start = time.monotonic()
        assert mirror.close(timeout_seconds=1) == [record.name]
        assert time.monotonic() - start < 2


def test_a_locked_database_delays_the_mirror_and_not_the_sweep(database, make_record):
    uri, record = f"sqlite:///{database}", make_record()
    record.close(Verdict(kind="completed", step=60))
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        mirror = mirror_to(uri)
        assert longest_submit_seconds(mirror, record) < LONGEST_SUBMIT_SECONDS
        other.execute("ROLLBACK")
    assert mirror.close(timeout_seconds=60) == []
    assert children(uri) == {"C2-L2-V2": "FINISHED"}


def test_results_of_an_outage_are_written_with_the_next_result(make_record):
    tracker = ScriptedTracker(ConnectionError("gone"), ConnectionError("gone"))
    mirror, first, second = Mirror(tracker, "", {}), make_record(), make_record("D1-L2-V4", vision=4)
    mirror.submit(first)
    wait_until(lambda: mirror.outage_count == 1, seconds=10)
    mirror.submit(second)
    wait_until(lambda: mirror.outage_count == 2, seconds=10)
    assert mirror.close(timeout_seconds=10) == []
    assert {*tracker.synced} == {first.name, second.name}


def test_a_result_that_comes_while_its_record_is_written_is_written_too(make_record):
    tracker = ScriptedTracker()
    mirror, record = Mirror(tracker, "", {}), make_record()

    def submit_once_more(record: Record) -> None:
        tracker.before_sync = lambda record: None
        mirror.submit(record)

    tracker.before_sync = submit_once_more
    mirror.submit(record)
    assert mirror.close(timeout_seconds=10) == []
    assert tracker.synced == [record.name, record.name]


def test_evals_that_come_fast_are_copied_together_and_a_verdict_is_copied_at_once(make_record):
    tracker = ScriptedTracker()
    mirror, record = Mirror(tracker, "", {}), make_record()
    mirror.submit(record)
    wait_until(lambda: tracker.synced == [record.name], seconds=10)
    for _ in range(5):
        mirror.submit(record)
        time.sleep(0.05)
    assert tracker.synced == [record.name], "it was copied less than five seconds ago"
    record.close(Verdict(kind="completed", step=60))
    mirror.submit(record)
    wait_until(lambda: len(tracker.synced) == 2, seconds=2)
    assert mirror.close(timeout_seconds=10) == []
    assert len(tracker.synced) == 2


def test_what_was_put_off_is_copied_without_another_result(make_record, monkeypatch):
    monkeypatch.setattr(mirror_module, "RUNNING_SECONDS", 0.5)
    tracker = ScriptedTracker()
    mirror, record = Mirror(tracker, "", {}), make_record()
    mirror.submit(record)
    wait_until(lambda: tracker.synced == [record.name], seconds=10)
    mirror.submit(record)
    wait_until(lambda: len(tracker.synced) == 2, seconds=10)
    assert mirror.close(timeout_seconds=10) == []


def test_a_damaged_record_is_named_and_the_others_are_written(database, make_record):
    damaged, whole = make_record("A2-L2-V0", vision=0), make_record()
    path = damaged.directory / "metrics.jsonl"
    path.write_text(path.read_text().replace("0.03", "0.99", 1))
    mirror = mirror_to(f"sqlite:///{database}")
    mirror.submit(damaged)
    mirror.submit(whole)
    assert mirror.close(timeout_seconds=60) == [damaged.name]
    assert "checksum" in str(mirror.last_outage)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_ends_only_the_writer_and_is_reported_at_close(make_record):
    mirror, record = Mirror(ScriptedTracker(ZeroDivisionError("a bug")), "", {}), make_record()
    assert longest_submit_seconds(mirror, record) < LONGEST_SUBMIT_SECONDS
    assert mirror.close(timeout_seconds=10) == [record.name]


@contextmanager
def mlflow_serving(directory: Path, port: int, command: str) -> Iterator[str]:
    """Run MLflow's own server on loopback in `directory`, with no flag but the port; end its whole process group."""
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", command, "--port", str(port)],
        cwd=directory, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"), seconds=90)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310
            return response.status == 200
    except OSError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.mark.slow
def test_a_server_that_dies_midway_and_returns_gets_everything(database, make_record):
    record, port = make_record(steps=(30,)), free_port()
    with mlflow_serving(database.parent, port, "server") as uri:
        mirror = mirror_to(uri)
        mirror.submit(record)
        wait_until(lambda: children(uri) == {"C2-L2-V2": "RUNNING"}, seconds=60)
    measure(record, 60)
    assert longest_submit_seconds(mirror, record) < LONGEST_SUBMIT_SECONDS
    wait_until(lambda: mirror.outage_count > 0, seconds=60)
    record.close(Verdict(kind="completed", step=60))
    with mlflow_serving(database.parent, port, "server") as uri:
        mirror.submit(record)
        assert mirror.close(timeout_seconds=90) == []
        assert children(uri) == {"C2-L2-V2": "FINISHED"}
        (run,) = MlflowClient(uri).search_runs(["1"], "tags.`footprint.kind` = 'trial'")
        history = MlflowClient(uri).get_metric_history(run.info.run_id, "eval/eval_loss")
        assert [point.step for point in history] == [30, 60]
        assert {entry.path for entry in MlflowClient(uri).list_artifacts(run.info.run_id)} >= {"config", "samples"}
        logged = read_logged("stage4", uri)
        assert [one.step for one in logged.trained[run.info.run_id] if one.kind == "eval"] == [30, 60]


@pytest.mark.slow
def test_mlflow_ui_without_a_flag_shows_the_runs_and_their_files(database, make_record):
    record = make_record()
    record.close(Verdict(kind="pruned", step=60, cause="irrelevant_pass"))
    mirror = mirror_to(f"sqlite:///{database}")
    mirror.submit(record)
    assert mirror.close(timeout_seconds=60) == []
    with mlflow_serving(database.parent, free_port(), "ui") as uri:
        assert children(uri) == {"C2-L2-V2": "KILLED"}
        (run,) = MlflowClient(uri).search_runs(["1"], "tags.`footprint.kind` = 'trial'")
        page = f"{uri}/get-artifact?path=config/spec.json&run_uuid={run.info.run_id}"
        with urllib.request.urlopen(page) as response:  # noqa: S310
            assert response.read() == (record.directory / "spec.json").read_bytes()


def resetting(server: socket.socket) -> None:
    """Reset every connection as soon as it is there, until the server is closed."""
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def test_a_server_that_resets_every_connection_delays_nothing(make_record):
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=resetting, args=(server,), daemon=True).start()
        mirror, record = mirror_to(f"http://127.0.0.1:{server.getsockname()[1]}"), make_record()
        assert longest_submit_seconds(mirror, record) < LONGEST_SUBMIT_SECONDS
        assert mirror.close(timeout_seconds=30) == [record.name]
        assert mirror.outage_count > 0
        server.shutdown(socket.SHUT_RDWR)


def test_a_record_that_was_deleted_is_not_said_to_be_missing_in_mlflow(make_record):
    tracker, record = ScriptedTracker(*[FileDamaged("gone")] * 9), make_record()
    mirror = Mirror(tracker, "", {})
    mirror.submit(record)
    wait_until(lambda: mirror.outage_count == 1, seconds=10)
    shutil.rmtree(record.home)
    assert mirror.close(timeout_seconds=10) == []
