"""Tests that no secret of the environment, the tracking address or a configuration is written or shown.

One trial of a configuration runs on Ray with a real MLflow server, and its results are drawn. Every file is searched.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
CANARY = "canary-of-a-test"
NAMES = ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "RAY_CANARY_PASSWORD", "MLFLOW_CANARY_TOKEN")
CONFIG = f"""model: mini
train_type: lora
dataset: [train.jsonl]
lora_rank: 4
hub_token: {CANARY}
"""
REQUEST = "http://{}/api/2.0/mlflow/experiments/search?max_results=9"


@dataclass(frozen=True)
class Swept:
    """What a launch and the commands after it left: directories, texts of the terminal, and MLflow's process."""

    directories: tuple[Path, ...]
    shown: str
    server: psutil.Process
    address: str


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def wait_for(address: str) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{address}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError("MLflow did not start")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swept]:
    here, store = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("store")
    (here / "mine.yaml").write_text(CONFIG)
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="ray") as short, (store / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", address.rpartition(":")[2]],
            cwd=store, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip
        try:
            wait_for(address)
            uri = f"http://me:{CANARY}@{address}"
            environment = {**os.environ, **dict.fromkeys(NAMES, CANARY), "PYTHONPATH": str(ROOT), "HOME": str(here),
                           "RAY_TMPDIR": short, "MLFLOW_TRACKING_URI": uri}  # fmt: skip
            shown = ""
            for words in (
                ["sweeps.trial", "mine.yaml", "--format", "ms-swift", "--base", "mini", "--steps", "2", "--force"],
                ["analysis.cli", "pareto", "--experiment", "mine"],
                ["analysis.cli", "report", "--experiment", "mine"],
                ["sweeps.doctor"],
            ):
                done = subprocess.run([sys.executable, "-m", *words], cwd=here, env=environment, capture_output=True,
                                      text=True, check=False)  # fmt: skip
                assert "Traceback" not in done.stderr, done.stderr[-3000:]
                shown += done.stdout + done.stderr
            yield Swept((here, store, Path(short)), shown, psutil.Process(server.pid), address)
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def files(swept: Swept) -> list[Path]:
    return [path for one in swept.directories for path in one.rglob("*") if path.is_file()]


def test_everything_was_written_that_is_searched(swept: Swept) -> None:
    names = {path.name for path in files(swept)}
    assert {"import.json", "study.json", "metrics.jsonl", "verdict.json", "mlflow.db", "pareto.html", "report.html",
            "server.log"} <= names, swept.shown[-3000:]  # fmt: skip
    assert any(name.startswith("worker-") for name in names), "Ray's logs"
    kept = next(path for path in files(swept) if path.name == "import.json")
    assert "hub_token" in kept.read_text(), "the key is named, without its value"
    with urllib.request.urlopen(REQUEST.format(swept.address), timeout=30) as answer:  # noqa: S310 loopback
        assert b'"mine"' in answer.read()


def test_no_file_holds_a_secret(swept: Swept) -> None:
    own = {"mine.yaml"}
    assert [path for path in files(swept) if path.name not in own and CANARY.encode() in path.read_bytes()] == []


def test_no_command_shows_a_secret(swept: Swept) -> None:
    assert CANARY not in swept.shown


def test_mlflow_listens_on_loopback_alone(swept: Swept) -> None:
    processes = (swept.server, *swept.server.children(recursive=True))
    found = {one.laddr.ip for process in processes for one in process.net_connections("tcp")
             if one.status == psutil.CONN_LISTEN}  # fmt: skip
    assert found == {"127.0.0.1"}
