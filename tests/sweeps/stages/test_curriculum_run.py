"""Runs a real curriculum of three stages, stopped in the second with Ctrl-C and finished by `--resume`."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from launches import begin

from trainables.checkpoints.lineage import lineage_in
from trainables.record import Record, records_under

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SHORT = ("--steps", "18", "--eval-every", "6")


def stage(root: Path, name: str) -> Record | None:
    found = [one for one in records_under(root / "runs" / "curriculum" / "trials") if one.name.startswith(f"{name}-")]
    return found[0] if found else None


def wait_for_eval(
    root: Path, process: subprocess.Popen[str], name: str, step: int, seconds: float = 600.0
) -> Record:  # fmt: skip
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        record = stage(root, name)
        if record is not None and any(one.step >= step for one in record.evals()):
            return record
        time.sleep(0.1)
    raise AssertionError(f"{name} has no eval at step {step} within {seconds} s")


def test_stages_continue_each_other_and_a_stopped_one_is_finished(tmp_path: Path) -> None:
    process = begin(tmp_path, "curriculum", *SHORT)
    second = wait_for_eval(tmp_path, process, "S2", 6)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130, output
    assert "python -m sweeps.curriculum --resume" in output
    first = stage(tmp_path, "S1")
    assert first is not None and str(first.verdict()) == "completed"
    assert second.verdict() is None and stage(tmp_path, "S3") is None
    ended = (first.directory / "verdict.json").stat().st_mtime

    resumed = begin(tmp_path, "curriculum", "--resume")
    output, _ = resumed.communicate(timeout=900)
    assert resumed.returncode == 0, output
    assert (first.directory / "verdict.json").stat().st_mtime == ended, "a stage that has ended is not run again"
    third = stage(tmp_path, "S3")
    assert third is not None
    for record, parent in ((second, first), (third, second)):
        assert [one.step for one in record.evals()] == [0, 6, 12, 18]
        number = len(record.spec().earlier)
        began = record.evals()[0].metrics[f"stage{number}_loss"]
        assert began == pytest.approx(parent.evals()[-1].metrics["eval_loss"], rel=1e-3)
    kept = lineage_in(third)
    assert kept is not None and [one["trial"] for one in kept["ancestors"]] == ["S2", "S1"]
    assert "All 3 stages completed" in output
