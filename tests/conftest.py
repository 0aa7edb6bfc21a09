"""Settings of every test process: offline, no telemetry, and nothing is written into the user's home."""

from __future__ import annotations

import atexit
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.update(
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    MLFLOW_DISABLE_TELEMETRY="true",
    HF_HUB_OFFLINE="1",
)
if "PYTEST_XDIST_WORKER" not in os.environ:
    # All processes of a test run share one cache, so that equal data is scanned once. Fonts stay where they are.
    fonts = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "matplotlib"
    cache = tempfile.TemporaryDirectory(prefix="footprint-cache-")
    atexit.register(cache.cleanup)
    os.environ.update(XDG_CACHE_HOME=cache.name, MPLCONFIGDIR=os.environ.get("MPLCONFIGDIR", str(fonts)))
if "PYTEST_XDIST_WORKER" in os.environ:
    # Test files share the cores: threads that spin for one another cost more than they do, and Ray's own niceness of 15
    # would starve a launch beside another file.
    os.environ.update(FOOTPRINT_THREADS="1", OMP_NUM_THREADS="1", RAY_worker_niceness="0")


@pytest.fixture(scope="session", autouse=True)
def _nothing_waits_for_the_disk() -> None:
    """Leave writes to the page cache: tests kill processes, never the machine, and every sync takes milliseconds."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def unsynced(connection: Any, _: object) -> None:
        if type(connection).__module__.startswith("sqlite3"):
            connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", unsynced)
    os.fsync = lambda _: None


@pytest.fixture(scope="session")
def migrated_database() -> Path:
    """A database that MLflow has set up, made once for all processes of a test run; tests write to copies."""
    from mlflow import MlflowClient

    path = Path(os.environ["XDG_CACHE_HOME"]) / "mlflow.db"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            begun = path.with_suffix(".begun")
            MlflowClient(f"sqlite:///{begun}").search_experiments()
            begun.replace(path)
    return path


@pytest.fixture(scope="module")
def miniature_drawn_once() -> Iterator[None]:
    """For tests of commands that write the miniature; `tests/trainables/mini` draws it."""
    from written_once import write_once

    with pytest.MonkeyPatch.context() as patch:
        write_once(patch)
        yield
