"""Tests what a study's command line says of the other trials when a launch breaks off: one sentence, one exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import invoke

from sweeps.commands import STUDY
from sweeps.execution.begun_records import TrialsLost
from trainables.errors import InfrastructureError
from trainables.record import Measurement, Record
from trainables.verdict import Verdict

SHORT = ("--only", "L1", "--steps", "8", "--eval-every", "2", "--force")
METRICS = {"exact_match": 0.5, "text_retention": 1.0}


def baseline_completes(records: list[Record]) -> None:
    records[0].append(Measurement("eval", 0, METRICS))
    records[0].close(Verdict(kind="completed", step=0))


def broken_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Any) -> int:
    """Launch one arm; its baseline completes, then `error` is raised."""

    def run_records(study: object, experiment: object, records: list[Record], launch: object) -> None:
        baseline_completes(records)
        raise error(records)

    monkeypatch.setattr("sweeps.launch.run_records", run_records)
    monkeypatch.chdir(tmp_path)
    return invoke(STUDY, monkeypatch, *SHORT)


def test_a_lost_trial_is_named_after_the_summary_of_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert broken_off(monkeypatch, tmp_path, lambda records: TrialsLost(records[1:], records[:1])) == 4
    said = capsys.readouterr()
    assert "commands: 1 trials, 1 completed." in said.out
    assert said.err.startswith("error: the directory of a trial must stay while it trains, but that of L1-")
    assert said.err.count("\n") == 2, "one sentence and its hint"
    assert invoke(STUDY, monkeypatch, "--resume") != 0


def test_a_full_storage_says_how_the_trials_stand_and_a_lost_configuration_is_not_guessed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert broken_off(monkeypatch, tmp_path, lambda _: InfrastructureError("the storage is full")) == 6
    said = capsys.readouterr()
    assert "commands: 2 trials, 1 completed, 1 without a result" in said.out
    assert said.err == "error: the storage is full\n"
    monkeypatch.setattr("sweeps.launch.run_records", lambda *_: pytest.fail("trials ran"))
    (tmp_path / "runs" / "commands" / "study.json").unlink()  # it says how the guards decide
    assert invoke(STUDY, monkeypatch, "--resume") == 4
    assert "study.json: an experiment with trials must have its configuration" in capsys.readouterr().err
