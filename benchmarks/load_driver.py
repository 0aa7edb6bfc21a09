"""Runs one sweep of fake trials in this process, and writes what its driver costs: `load.py` starts it.

python -m benchmarks.load_driver TRIALS DIRECTORY [SEATS]
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from rich.console import Console

from benchmarks.fake_engine import fake_engines
from sweeps.execution.options import Launch
from sweeps.launch import StudyJob
from sweeps.planning.space import Axes
from sweeps.stage4 import STUDY
from sweeps.tracking.tracker import Tracker
from trainables import mlflow_store
from trainables.io.files import write_json
from trainables.io.requests import read_request
from trainables.record import Record

MODULE = "benchmarks.load_driver"
ARMS = tuple(arm.name for arm in STUDY.arms if arm.name not in ("A0", "D3"))  # ten arms
EXPERIMENT = "load"
SAMPLE_SECONDS = 1.0
MIRROR_THREAD = "mlflow-mirror"


@dataclass(frozen=True)
class DriverFigures:
    """What the driver of a sweep cost: seconds of wall clock and CPU, of which the mirror's thread, and memory in MB.

    `memory_mb` has the resident memory at a quarter, half, three quarters and the end of the sweep. `lag_seconds`
    is how long after the last verdict MLflow had everything.
    """

    trials: int
    plan_seconds: float
    wall_seconds: float
    cpu_seconds: float
    mirror_cpu_seconds: float
    memory_mb: list[float]
    lag_seconds: float
    ended: int
    copied: int


def main() -> None:
    """Run the sweep that the request names, and write `driver.json` in its directory."""
    request = read_request(MODULE, "`python -m benchmarks.load`", sys.argv[1:], sys.stdin)
    directory = Path(request["directory"])
    write_json(directory / "driver.json", asdict(measure_driver(request["trials"], directory, request["seats"])))


def measure_driver(trials: int, directory: Path, seats: int | None = None) -> DriverFigures:
    """Run `trials` fake trials, a multiple of the number of arms, with everything below `directory`.

    `seats` is how many of them have a worker at once, for each engine; None is as many as a launch gives them.
    """
    began = time.process_time()
    with (directory / "terminal.txt").open("w", encoding="utf-8") as terminal:
        job = StudyJob(STUDY, Axes(only=ARMS, seeds=trials // len(ARMS)), launch_in(directory, terminal, seats))
        planned = job.plan(directory / "runs" / "data")
        planning, usage = time.process_time() - began, Usage()
        with fake_engines(), usage.watched(), last_copies() as copies:
            records = job.run(planned)
    verdicts = [record for record in records if record.verdict() is not None]
    return DriverFigures(
        trials=trials,
        plan_seconds=planning,
        wall_seconds=usage.wall_seconds,
        cpu_seconds=usage.cpu_seconds,
        mirror_cpu_seconds=usage.thread_seconds.get(MIRROR_THREAD, 0.0),
        memory_mb=usage.quarters(),
        lag_seconds=copies[-1] - max(map(_ended, verdicts)),
        ended=len(verdicts),
        copied=_ended_runs(directory),
    )


def launch_in(directory: Path, terminal: Any, seats: int | None) -> Launch:
    """Return a launch as on a terminal of usual size, which is a file."""
    console = Console(file=terminal, force_terminal=True, width=120, height=40)
    return Launch(
        storage=directory / "runs", experiment=EXPERIMENT, tracking_uri=tracking_uri(directory), console=console,
        keep="best", cohort=seats, command="python -m benchmarks.load",
    )  # fmt: skip


def tracking_uri(directory: Path) -> str:
    """Return the address of the MLflow database in a directory."""
    return f"sqlite:///{directory / 'mlflow.db'}"


@dataclass
class Usage:
    """Samples what this process uses while a block runs."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_mb: list[float] = field(default_factory=list)
    thread_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Sample until the end of the block."""
        over = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(over,), name="sampler", daemon=True)
        wall, cpu = time.perf_counter(), time.process_time()
        sampler.start()
        try:
            yield
        finally:
            self.wall_seconds, self.cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
            over.set()
            sampler.join()

    def quarters(self) -> list[float]:
        """Return the memory at each quarter of the time."""
        return [self.memory_mb[(len(self.memory_mb) - 1) * quarter // 4] for quarter in range(1, 5)]

    def _sample(self, over: threading.Event) -> None:
        process = psutil.Process(os.getpid())
        while not over.wait(SAMPLE_SECONDS if self.memory_mb else 0):
            self.memory_mb.append(process.memory_info().rss / 1e6)
            names = {one.native_id: one.name for one in threading.enumerate()}
            for thread in process.threads():
                if thread.id in names:
                    self.thread_seconds[names[thread.id]] = thread.user_time + thread.system_time


@contextmanager
def last_copies() -> Iterator[list[float]]:
    """Yield the times, in seconds since 1970, at which records were copied to MLflow."""
    times: list[float] = []
    sync = Tracker.sync

    def timed(self: Tracker, record: Record) -> None:
        sync(self, record)
        times.append(time.time())

    with patch.object(Tracker, "sync", timed):
        yield times


def _ended(record: Record) -> float:
    return (record.directory / "verdict.json").stat().st_mtime


def _ended_runs(directory: Path) -> int:
    client = mlflow_store.connect_to_read(tracking_uri(directory))
    experiment = mlflow_store.existing_experiment_id(client, EXPERIMENT)
    assert experiment is not None
    found = mlflow_store.runs_of(client, experiment, "tags.`footprint.kind` = 'trial'")
    return sum(run.has_ended for run in found)


if __name__ == "__main__":
    main()
