"""Runs real searches: one is killed and continued, and one has trials stopped by Ray's scheduler."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from launches import begin, kill

from trainables.io.manifest import is_whole
from trainables.record import Record, records_under

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ONE_PASS = ("--vary", "quantization=nf4-double", "--vary", "epochs=1", "--eval-every", "15", "--cohort", "3")


def finish(process: subprocess.Popen[str], seconds: float = 900.0) -> str:
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, output
    return output


def arms(root: Path, experiment: str = "search") -> dict[str, Record]:
    found = records_under(root / "runs" / experiment / "trials")
    return {one.spec().trial_id: one for one in found if not one.spec().placement.is_baseline}


def wait_for_eval_of_an_arm(root: Path, seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (root / "runs" / "search" / "trials").exists() and any(one.evals() for one in arms(root).values()):
            return
        time.sleep(0.1)
    raise AssertionError(f"no arm has an eval within {seconds} s")


def test_a_killed_search_continues_with_the_trials_it_had_asked_for(tmp_path: Path) -> None:
    process = begin(tmp_path, "search", *ONE_PASS, "--trials", "6")
    wait_for_eval_of_an_arm(tmp_path)
    asked = set(arms(tmp_path))
    kill(process)
    assert len(asked) == 3
    assert any(one.verdict() is None for one in arms(tmp_path).values()), "nothing was left to go on with"

    output = finish(begin(tmp_path, "search", *ONE_PASS, "--trials", "6", "--resume"))
    ended = arms(tmp_path)
    assert len(ended) == 6 and asked < set(ended)
    assert all(one.verdict() is not None for one in ended.values())
    assert any(is_whole(one.directory / "best") for one in ended.values())
    assert "6 trials" in output

    written = {trial: (one.directory / "verdict.json").stat().st_mtime for trial, one in ended.items()}
    finish(begin(tmp_path, "search", *ONE_PASS, "--trials", "6", "--resume"))
    again = {trial: (one.directory / "verdict.json").stat().st_mtime for trial, one in arms(tmp_path).items()}
    assert again == written, "what has ended is not run again"


def test_median_stops_a_trial_that_falls_behind_its_cohort(tmp_path: Path) -> None:
    """It is judged at those of the twelve evals at which both others have reported before it."""
    options = "grace_period=15,min_samples_required=2"
    process = begin(tmp_path, "stage4", "--only", "D3", "--lr", "2e-4,4e-4,1e-6", "--steps", "60", "--eval-every", "5",
                    "--scheduler", "median", "--scheduler-options", options)  # fmt: skip
    finish(process)
    ended = {one.spec().learning_rate: one.verdict() for one in arms(tmp_path, "stage4").values()}
    assert all(ended.values())
    # a guard may stop a trial that learns; the scheduler must not
    assert {rate for rate, verdict in ended.items() if verdict and verdict.cause == "scheduler"} == {1e-6}
