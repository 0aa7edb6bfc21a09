"""Tests the command that a stopped launch prints: typed unchanged, it finishes that launch."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

PRINTED = "stopped; every running trial has a checkpoint. Resume with:"


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Give the command that is printed when a launch is stopped, and demand that it parses."""

    def stop(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sweeps.launch.run_job", stop)
    monkeypatch.chdir(tmp_path)

    def call(name: str, *arguments: str) -> int:
        module = import_module(f"sweeps.{name}")
        line = import_module("sweeps.cli." + {"stage4": "study"}.get(name, name)) if name != "trial" else module
        monkeypatch.setattr("sys.argv", [f"sweeps.{name}", *arguments])
        with pytest.raises(SystemExit) as ended:
            line.main(*([getattr(module, "SEARCH", None) or module.STUDY] if name != "trial" else []))
        return int(ended.value.code or 0)

    def printed(name: str, *arguments: str) -> str:
        assert call(name, *arguments) == 130
        output = capsys.readouterr().err
        assert output.startswith(PRINTED)
        command = output.removeprefix(PRINTED).strip()
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", f"sweeps.{name}"]
        assert call(name, *words[3:]) == 2, "there is nothing to resume here, but it must be understood"
        assert "only a" in capsys.readouterr().err
        return command

    return printed


RUN = ("--experiment", "one two", "--storage", "else where", "--tracking-uri", "sqlite:///m.db", "--address", "auto")
RUN_TYPED = "--storage 'else where' --experiment 'one two' --tracking-uri sqlite:///m.db --address auto"


def test_the_resume_command_of_a_study_has_its_run_options(stopped: Callable[..., str]) -> None:
    assert stopped("stage4", "--only", "A1", "--lr", "1e-4") == "python -m sweeps.stage4 --resume"
    scheduled = ("--cohort", "2", "--scheduler", "asha", "--scheduler-options", "grace_period=30", "--force")
    assert stopped("stage4", *RUN, *scheduled, "--steps", "9") == (
        f"python -m sweeps.stage4 --resume {RUN_TYPED} --cohort 2 --scheduler asha "
        "--scheduler-options grace_period=30 --force"
    )


@pytest.mark.parametrize("name", ["curriculum", "unfreeze"])
def test_the_resume_command_of_a_staged_study_has_its_run_options(stopped: Callable[..., str], name: str) -> None:
    assert stopped(name, *RUN, "--seed", "3") == f"python -m sweeps.{name} --resume {RUN_TYPED}"


def test_the_resume_command_of_a_search_has_all_its_options(stopped: Callable[..., str]) -> None:
    asked = ("--vary", "rank=8,16", "--vary", "learning_rate=1e-4..1e-3", "--trials", "6", "--eval-every", "15")
    assert stopped("search", *asked, *RUN) == (
        "python -m sweeps.search --resume --trials 6 --vary rank=8,16 --vary learning_rate=1e-4..1e-3 --eval-every 15 "
        f"{RUN_TYPED}"
    )


def test_a_trial_is_resumed_with_its_configuration(stopped: Callable[..., str]) -> None:
    assert stopped("trial", "my config.yaml", "--base", "mini", "--space", "rank=4,8;language=2") == (
        "python -m sweeps.trial 'my config.yaml' --resume --space 'rank=4,8;language=2' --base mini"
    )
