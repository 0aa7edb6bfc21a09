"""Tests which trials are parents of continuations, and that the study's command line takes the commands."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke

from analysis.effects.design import Observation
from analysis.effects.parents import LANGUAGE, VISION, continuation_commands
from analysis.mlflow_runs import TrialRun
from sweeps.continuation import STUDY
from trainables.errors import UserError
from trainables.record import Measurement

BASELINE = {"irrelevant_pass": 1.0, "hallucination": 0.0}


@pytest.fixture
def ended(make_trial: Callable[..., TrialRun], tmp_path: Path) -> Callable[..., Observation]:
    """Build a trial of arm `L2V2` that ended with this irrelevant-image pass, with its record's directories."""

    def make(seed: int, passes: float, has_best: bool = True, arm: str = "L2V2", language: int = 2) -> Observation:
        record = tmp_path / "runs" / "response" / "trials" / f"L2V2-s{seed}"
        (record / "checkpoints" / "step-60").mkdir(parents=True)
        (record / "best").mkdir()
        best = {"best": {"exact_match": 0.5}} if has_best else {"best": {}}
        trial = make_trial(f"L2V2-s{seed}", arm=arm, record=str(record), **best)
        last = Measurement("eval", 60, {"irrelevant_pass": passes, "hallucination": 0.0})
        return Observation(trial, str(seed), language, 2, 8.0, 2e-4, "none", last)

    return make


def test_a_trial_that_left_both_parents_is_continued(ended: Callable[..., Observation], tmp_path: Path) -> None:
    found = continuation_commands([ended(0, 0.89), ended(1, 0.90), ended(2, 0.5, has_best=False)], BASELINE)
    (words,) = map(shlex.split, found)
    record = tmp_path / "runs" / "response" / "trials" / "L2V2-s0"
    assert words[:4] == ["footprint", "continuation", "--only", "L2V2"]
    assert words[words.index("--init-from") + 1] == str(record / "best")
    assert words[words.index("--restart-from") + 1] == str(record / "checkpoints" / "step-60")


def test_the_command_names_storage_and_store_where_they_are_not_the_defaults(
    ended: Callable[..., Observation], tmp_path: Path
) -> None:  # fmt: skip
    (command,) = continuation_commands([ended(0, 0.5)], BASELINE, ["--tracking-uri", "http://127.0.0.1:5000"])
    words = shlex.split(command)
    assert words[words.index("--storage") + 1] == str(tmp_path / "runs")
    assert words[words.index("--tracking-uri") + 1] == "http://127.0.0.1:5000"


def test_the_study_reads_the_printed_command(
    ended: Callable[..., Observation], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    seen: list[Any] = []

    def job_of(*options: Any) -> Any:
        seen.extend(options)
        raise UserError("parsed")

    monkeypatch.setattr("sweeps.cli.study.job_of", job_of)
    (command,) = continuation_commands([ended(0, 0.5)], BASELINE)
    words = shlex.split(command)
    assert words[:2] == ["footprint", "continuation"]
    assert invoke(STUDY, monkeypatch, *words[2:]) == 2
    own, shared = seen[1], seen[2]
    assert (own.only, shared.experiment, shared.init_from.name) == ("L2V2", "continuation-L2V2-s0", "best")
    assert (own.rank, own.quant) == ("8", "none"), "the adapter keeps its rank, and its base"


def test_the_arm_is_one_of_the_study_whatever_the_parent_was_called(ended: Callable[..., Observation]) -> None:
    (command,) = continuation_commands([ended(0, 0.5, arm="C1")], BASELINE)
    only = shlex.split(command)[3]
    assert only == "L2V2" and only in {arm.name for arm in STUDY.arms}
    assert continuation_commands([ended(1, 0.5, arm="B1", language=0)], BASELINE) == (), "the study has no such arm"


def test_the_placements_are_those_of_the_study() -> None:
    assert {(arm.language, arm.vision) for arm in STUDY.arms} == {(one, two) for one in LANGUAGE for two in VISION}


def test_a_record_that_is_elsewhere_is_no_parent(ended: Callable[..., Observation], tmp_path: Path) -> None:
    one = ended(0, 0.5)
    (tmp_path / "runs" / "response" / "trials" / "L2V2-s0" / "best").rmdir()
    assert continuation_commands([one], BASELINE) == ()
