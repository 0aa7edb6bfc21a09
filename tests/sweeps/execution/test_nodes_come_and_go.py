"""Runs real sweeps on Ray clusters of several nodes on this machine, to which nodes come and which they leave."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from launches import begin
from raylets import Raylets, raylets

from trainables.phase import read_process
from trainables.record import Record, records_under

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(1200)]

# two quantizations cannot train together, so on one engine the second waits for the first
SWEEP = ("--only", "A1", "--quant", "none,int8", "--steps", "24", "--eval-every", "4", "--force")
DRIFT = 1e-4


@dataclass
class Launch:
    """A launch that runs in `root`, whose arms have begun when `trained` says so."""

    root: Path
    process: subprocess.Popen[str]

    def arms(self) -> list[Record]:
        found = records_under(self.root / "runs" / "stage4" / "trials")
        return sorted((one for one in found if not one.spec().placement.is_baseline), key=lambda one: one.name)

    def wait_for(self, holds: Callable[[list[Record]], bool], seconds: float = 600.0) -> None:
        deadline = time.monotonic() + seconds
        while not holds(self.arms()):
            assert self.process.poll() is None, f"the launch ended: {self.text()}"
            assert time.monotonic() < deadline, f"nothing happened within {seconds} s: {self.text()}"
            time.sleep(0.1)

    def text(self) -> str:
        return (self.root / "log").read_text(encoding="utf-8")

    def ended(self) -> int:
        return self.process.wait(timeout=900)


def launched(root: Path, cluster: Raylets) -> Launch:
    return Launch(root, begin(root, "stage4", *SWEEP, "--address", cluster.address, log=root / "log"))


def some_train(arms: list[Record]) -> bool:
    return any(one.evals() for one in arms)


def metrics_of(record: Record) -> dict[str, float]:
    return {name: value for name, value in record.evals()[-1].metrics.items() if "seconds" not in name}


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """A sweep that begins on one node; a second node joins while the first trains."""
    with raylets(0) as cluster:
        cluster.add_node(1)
        launch = launched(tmp_path_factory.mktemp("joined"), cluster)
        launch.wait_for(some_train)
        cluster.add_node(1)
        launch.ended()
    return launch


def test_a_node_that_joins_gets_an_engine_and_the_cohort_that_waits(joined: Launch) -> None:
    assert joined.process.returncode == 0, joined.text()
    assert "starting 1 engine of 1 thread" in joined.text()
    assert "has joined: 1 engine of 1 thread" in joined.text()
    assert [str(one.verdict()) for one in joined.arms()] == ["completed"] * 2
    processes = [read_process(one.directory) for one in joined.arms()]
    assert len({one.process_id for one in processes if one is not None}) == 2, "both trained on one engine"


def test_a_lost_node_leaves_no_trial_behind_and_the_results_are_equal(joined: Launch, tmp_path: Path) -> None:
    with raylets(0) as cluster:
        cluster.add_node(1)
        second = cluster.add_node(1)
        launch = launched(tmp_path, cluster)
        launch.wait_for(lambda arms: len(arms) == 2 and all(one.evals() for one in arms))
        cluster.kill_node(second)
        assert launch.ended() == 0, launch.text()
    assert "is lost: its trials go on elsewhere" in launch.text()
    assert "tried again: " in launch.text()
    for mine, undisturbed in zip(launch.arms(), joined.arms(), strict=True):
        assert mine.verdict() == undisturbed.verdict()
        assert metrics_of(mine) == pytest.approx(metrics_of(undisturbed), rel=DRIFT, abs=DRIFT)
