"""Tests what a launch prints with --json, --quiet and --verbose."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke

from sweeps.commands import STUDY
from trainables.errors import ExitCode
from trainables.record import Measurement, Record
from trainables.verdict import Verdict

SHORT = ("--only", "L1", "--steps", "8", "--eval-every", "2", "--force")


@pytest.fixture(autouse=True)
def _trained_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the baseline complete, and the arm fail after an eval."""

    def run_records(study: object, experiment: object, records: list[Record], launch: Any) -> None:
        launch.console.print("training")
        for record, kind in zip(records, ("completed", "failed"), strict=True):
            record.append(Measurement("eval", 2, {"exact_match": 0.5, "text_retention": 1.0}))
            record.close(Verdict(kind=kind, step=2, reason=None if kind == "completed" else "the disk is gone"))

    monkeypatch.setattr("sweeps.launch.run_records", run_records)
    monkeypatch.setattr("sweeps.launch.remember_speed", lambda *_: None)
    monkeypatch.chdir(tmp_path)


def test_json_is_all_of_stdout_and_says_how_every_trial_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(STUDY, monkeypatch, *SHORT, "--json") == ExitCode.TRIALS_FAILED
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["experiment"], found["exit_code"]) == ("commands", 3)
    baseline, arm = found["trials"]
    assert (baseline["name"], baseline["verdict"], baseline["best"]) == (
        "A0",
        {"kind": "completed", "reason": None},
        None,
    )
    assert arm["verdict"] == {"kind": "failed", "reason": "the disk is gone"} and arm["language"] == 1
    assert arm["last"] == {"step": 2, "metrics": {"exact_match": 0.5, "text_retention": 1.0}}
    assert Path(arm["directory"]).name.endswith(arm["id"])
    assert "training" in said.err and "commands: 2 trials" in said.err


def test_quiet_leaves_the_summary_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(STUDY, monkeypatch, *SHORT, "-q") == ExitCode.TRIALS_FAILED
    said = capsys.readouterr()
    assert said.out.strip().startswith("commands: 2 trials") and "training" not in said.out + said.err


def test_verbose_shows_what_libraries_log_and_not_with_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(logging, "basicConfig", lambda **values: shown.append(values))
    assert invoke(STUDY, monkeypatch, *SHORT, "-v") == ExitCode.TRIALS_FAILED
    assert [one["level"] for one in shown] == [logging.INFO]
    assert invoke(STUDY, monkeypatch, *SHORT, "-v", "-q") == ExitCode.BAD_INPUT
    assert "--quiet and --verbose exclude each other" in capsys.readouterr().err
