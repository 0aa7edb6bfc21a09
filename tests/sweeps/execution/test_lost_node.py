"""Tests that a sweep survives the loss of a node of its Ray cluster, by killing one under a real launch."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import psutil
import pytest
from launches import begin
from raylets import Raylets, raylets
from small_trials import ANYTHING_GOES, assert_same_outcome, few_rows

from sweeps.execution.baselines import scores_of
from trainables.lease import Owner, read_lease
from trainables.mini import datasets
from trainables.record import Record
from trainables.workers.backend import InProcess
from trainables.workers.protocol import Request, Rules

STEPS, EVAL_EVERY = 8, 2


def trained_uninterrupted(record: Record, baseline: Record, directory: Path) -> Record:
    """Train the trial of a record again, in this process."""
    twin = Record(directory / "trials" / record.name)
    twin.create(record.spec())
    rules = Rules({baseline.spec().trial_id: scores_of(baseline)}, (), ANYTHING_GOES)
    backend = InProcess(cpus=1)
    backend.take(Request((str(twin.home),), rules, str(directory / "STOP"), cpus=1, gpus=0))
    while not backend.advance().done:
        pass
    backend.close()
    return twin


def wait_for_owner(trials: Path, process: subprocess.Popen[str]) -> tuple[Record, Owner]:
    """Wait until the arm has an eval and trains on; returns it with the process that trains it."""
    while process.poll() is None:
        for home in trials.glob("C1-*"):
            owner = read_lease(home).owner
            if owner is not None and 1 <= len(Record(home).evals()) < STEPS // EVAL_EVERY - 1:
                return Record(home), owner
        time.sleep(0.02)
    raise AssertionError(process.communicate()[0])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_node_killed_in_mid_sweep_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    sources = few_rows(datasets.write(tmp_path / "rows" / "whole", seed=0))
    with raylets(head_cores=0) as cluster:
        record, output = swept_with_a_killed_node(cluster, tmp_path, {
            "--train": sources.train.path, "--val": sources.validation.path, "--ood": sources.ood.path,
        })  # fmt: skip
    assert "C1 " in output and "1 trial" in output, output
    assert str(record.verdict()) == "completed"
    assert [one.step for one in record.evals()] == list(range(EVAL_EVERY, STEPS + 1, EVAL_EVERY))
    [baseline] = [Record(home) for home in record.home.parent.glob("A0-*")]
    assert_same_outcome(record, trained_uninterrupted(record, baseline, tmp_path))


def swept_with_a_killed_node(cluster: Raylets, root: Path, files: dict[str, Path]) -> tuple[Record, str]:
    """Sweep on two nodes, and kill the one that trains; returns the arm's record, and what the launch printed."""
    for _ in range(2):
        cluster.add_node(cores=1)
    process = begin(root, "stage4", "--only", "C1", "--steps", str(STEPS), "--eval-every", str(EVAL_EVERY), "--cohort",
                    "1", "--force", "--address", cluster.address, "--tracking-uri", f"sqlite:///{root / 'mlflow.db'}",
                    *(str(word) for pair in files.items() for word in pair))  # fmt: skip
    record, owner = wait_for_owner(root / "runs" / "stage4" / "trials", process)
    cluster.kill_node(cluster.node_of(owner.pid))
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    assert not psutil.pid_exists(owner.pid), "the workers of the node end with it"
    return record, output
