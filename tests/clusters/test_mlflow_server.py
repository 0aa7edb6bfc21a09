"""Tests the script that runs MLflow on a cluster's head: the real server, on loopback, that ends whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from mlflow_heads import environment_of_head, script


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with environment_of_head(tmp_path) as found:
        yield found


def listening(port: int) -> set[str]:
    """Return the addresses at which a process listens on this port."""
    found = (one for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr)
    return {one.laddr.ip for one in found if one.laddr.port == port}


@pytest.mark.slow
def test_it_serves_runs_on_loopback_until_it_is_stopped(environment: dict[str, str], tmp_path: Path) -> None:
    import mlflow

    port = environment["MLFLOW_PORT"]
    started = script(environment, "start", "cluster.yaml")
    assert started.returncode == 0, started.stderr
    assert f"ray attach --port-forward {port} cluster.yaml" in started.stdout
    assert listening(int(port)) == {"127.0.0.1"}
    client = mlflow.MlflowClient(f"http://127.0.0.1:{port}")
    run = client.create_run(client.create_experiment("on the head"))
    client.log_metric(run.info.run_id, "loss", 0.5)
    database = tmp_path / "footprint" / "mlflow.db"
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    pid = (tmp_path / "footprint" / "mlflow-server" / "pid").read_text().strip()
    again = script(environment, "start", "cluster.yaml")  # as `ray up` does again
    assert again.returncode == 0 and (tmp_path / "footprint" / "mlflow-server" / "pid").read_text().strip() == pid
    assert script(environment, "stop").returncode == 0
    assert listening(int(port)) == set()
    assert not [one for one in psutil.process_iter() if os_group(one.pid) == int(pid)]


def os_group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def test_a_server_that_does_not_start_is_said_with_its_log(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mlflow").write_text("#!/bin/sh\necho no database\nexit 1\n")
    (tmp_path / "bin" / "mlflow").chmod(0o700)
    found = script({**environment, "PATH": f"{tmp_path / 'bin'}:{environment['PATH']}"}, "start", "cluster.yaml")
    assert found.returncode == 6
    assert found.stderr.startswith("error: MLflow must answer at 127.0.0.1:")
    log = tmp_path / "footprint" / "mlflow-server" / "log"
    assert f"hint: tail {log}" in found.stderr and log.read_text() == "no database\n"
    assert not log.with_name("pid").exists()


def test_the_address_of_its_database_is_in_no_list_of_processes(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mlflow").write_text('#!/bin/sh\necho "$@" "$MLFLOW_BACKEND_STORE_URI"\nexit 1\n')
    (tmp_path / "bin" / "mlflow").chmod(0o700)
    kept = tmp_path / ".config" / "footprint" / "mlflow_backend_uri"
    kept.parent.mkdir(parents=True)
    kept.write_text("postgresql://me:hunter2@db/mlflow\n")
    script({**environment, "PATH": f"{tmp_path / 'bin'}:{environment['PATH']}"}, "start", "cluster.yaml")
    words, _, uri = (tmp_path / "footprint" / "mlflow-server" / "log").read_text().rpartition(" ")
    assert uri == "postgresql://me:hunter2@db/mlflow\n" and "hunter2" not in words


@pytest.mark.parametrize("words", [(), ("restart",)])
def test_a_wrong_word(words: tuple[str, ...], environment: dict[str, str]) -> None:
    found = script(environment, *words)
    assert (found.returncode, found.stderr) == (2, "error: the first word must be start or stop\n")
