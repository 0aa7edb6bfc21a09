"""Tests the comparison with other programs: jobs, the careful loop, the page, and the check of equal work."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.careful import label_loss, padded
from benchmarks.peer_job import Job, JobRow, StepTimes, Trained
from benchmarks.peer_page import OtherWork, check, page, step_seconds
from benchmarks.peers import arms_of
from trainables.errors import ExitCode

TEXT_BASE = Path(__file__).parents[2] / "trainables/mini/text/base"
RUN = {"losses": [2.0, 1.5, 1.0, 0.5], "wall_seconds": [9.0, 2.0, 2.0, 4.0], "cpu_seconds": [9.0, 1.0, 1.0, 4.0],
       "versions": "torch 2"}  # fmt: skip
RESULTS: dict[str, Any] = {
    "machine": {"date": "2026-11-29", "cpu": "2 cores", "gpu": "no GPU used", "threads": 1, "versions": "Python 3"},
    "base": "a-base",
    "work": {"layers": 2, "batch_rows": 4, "epoch_rows": 8, "epochs": 2, "epoch_steps": 2, "quantization": "none"},
    "arms": {
        "careful": {"title": "a careful user's loop", "trials": 1, "runs": [RUN]},
        "alone": {"title": "alone", "trials": 1, "runs": [RUN]},
        "cohort": {"title": "a cohort", "trials": 2, "runs": [RUN]},
    },
}


def job() -> Job:
    rows = [JobRow([5, 6, 7, 8], [-100, -100, 7, 8]), JobRow([5, 9], [-100, 9])]
    return Job("base", "adapter", rows, 1, 1e-3, (0.9, 0.999), 0.1, 1.0, "none", "float32", "cpu", 1)


def test_a_job_is_read_as_it_was_written(tmp_path: Path) -> None:
    job().write(tmp_path / "job.json")
    assert Job.read(tmp_path / "job.json") == job()
    assert job().steps == 2 and job().step_rows(1) == job().rows[1:]


def test_the_clock_stops_after_the_last_step_and_times_every_step() -> None:
    times = StepTimes(last=2)
    assert [times() for _ in range(3)] == [False, False, True]
    assert len(Trained.of(times, [1.0, 2.0], "").wall_seconds) == 2


def test_the_careful_loss_is_that_of_transformers() -> None:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(TEXT_BASE)
    inputs, labels = padded(job().rows, "cpu")
    expected = model(**inputs, labels=labels).loss
    assert torch.allclose(label_loss(model, inputs, labels), expected, atol=1e-6)
    assert not torch.allclose(label_loss(model, inputs, inputs["input_ids"]), expected, atol=1e-3)


def test_seconds_are_those_of_the_fastest_run_without_its_first_step_for_each_trial() -> None:
    arm = {"trials": 2, "runs": [RUN, {**RUN, "cpu_seconds": [0.0, 0.5, 0.5, 0.5]}]}
    assert step_seconds(arm, "cpu_seconds", 4) == 0.25
    assert step_seconds({**arm, "runs": [RUN]}, "cpu_seconds", 4) == 1.0
    assert step_seconds({**arm, "runs": [RUN]}, "cpu_seconds", 2) == 0.5


def test_the_page_has_a_table_for_one_epoch_and_for_all() -> None:
    text = page(RESULTS)
    assert "## 1 epoch\n" in text and "## 2 epochs\n" in text
    assert "| a cohort | 0.500 | 1.000 | 2.00 times | 0.0e+00 |" in text
    assert "| a cohort | 1.000 | 1.333 | 2.00 times | 0.0e+00 |" in text


def test_an_arm_that_did_other_work_is_named() -> None:
    check(RESULTS)
    other = deepcopy(RESULTS)
    other["arms"]["cohort"]["runs"].append({**RUN, "losses": [2.0, 1.5, 1.001, 0.5]})
    with pytest.raises(OtherWork, match=r"a cohort differs by 0\.001") as found:
        check(other)
    assert found.value.exit_code == ExitCode.CHECK_FAILED
    other["arms"]["cohort"]["runs"][-1]["losses"][2] = float("nan")
    with pytest.raises(OtherWork):
        check(other)


def test_other_programs_are_run_by_the_interpreters_that_are_given() -> None:
    arms = arms_of(Path("work"), {"trl": Path("there/python"), "llamafactory": None}, 6, 12, 1)
    assert list(arms) == ["careful", "alone", "cohort", "cohort-kept", "trl", "trl-kept"]
    assert arms["trl"].command == ["there/python", "-m", "benchmarks.with_trl", "work/job.json", "{out}", "yes"]
    assert arms["cohort"].trials == 6
