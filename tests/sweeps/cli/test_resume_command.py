"""Tests the commands that a launch prints: typed unchanged, they finish that launch or copy its records to MLflow."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from trial_records import running_record

from sweeps.stage4 import STUDY as STAGE4
from sweeps.tracking.view import NOTE_TAG
from trainables.errors import Checkpointed

PRINTED = "stopped; every running trial has a checkpoint. Resume with:"
BEGUN = ("trials/A1-0123456789ab/spec.json", "search.db", "course.json")  # what --resume of the studies looks for
Stopped = Callable[..., str]


class Command:
    """The command line of a study, whose launch stops as `stop` says; `launched` is the last launch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.stop: Callable[[Path], None] = checkpointed
        self.launched: Any = None
        for name in ("run_job", "show_job"):
            monkeypatch.setattr(f"sweeps.job.{name}", self._run)

    def _run(self, job: Any) -> None:
        self.launched = job.launch
        self.stop(job.launch.directory(job.study))

    def __call__(self, name: str, *arguments: str) -> int:
        module = import_module(f"sweeps.{name}")
        line = import_module("sweeps.cli." + {"stage4": "study"}.get(name, name)) if name != "trial" else module
        self.monkeypatch.setattr("sys.argv", [f"sweeps.{name}", *arguments])
        with pytest.raises(SystemExit) as ended:
            line.main(*([getattr(module, "SEARCH", None) or module.STUDY] if name != "trial" else []))
        return int(ended.value.code or 0)


def begin(directory: Path) -> None:
    for name in BEGUN:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()


def checkpointed(directory: Path) -> None:
    begin(directory)
    raise Checkpointed


def interrupted_while_running(directory: Path) -> None:
    begin(directory)
    raise KeyboardInterrupt


def interrupted_before(_: Path) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch)


@pytest.fixture
def stopped(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Stopped:
    """Give the command that is printed when a launch is stopped, and demand that it and the one of --sync parse."""

    def is_understood(name: str, typed: str) -> None:
        words = shlex.split(typed, comments=True)
        assert words[:3] == ["python", "-m", f"sweeps.{name}"]
        for path in tmp_path.iterdir():
            shutil.rmtree(path)
        assert command(name, *words[3:]) == 2, "there is nothing to resume here, but it must be understood"
        assert "only a" in capsys.readouterr().err

    def printed(name: str, *arguments: str) -> str:
        assert command(name, *arguments) == 130
        output = capsys.readouterr().err
        assert output.startswith(PRINTED)
        typed = output.removeprefix(PRINTED).strip()
        assert "secret" not in command.launched.sync_command
        is_understood(name, command.launched.sync_command)
        is_understood(name, typed)
        return typed

    return printed


RUN = ("--experiment", "one two", "--storage", "else where", "--tracking-uri", "sqlite:///m.db", "--address", "auto")
RUN_TYPED = "--storage 'else where' --experiment 'one two' --tracking-uri sqlite:///m.db --address auto"


def test_the_resume_command_of_a_study_has_its_run_options(stopped: Stopped) -> None:
    assert stopped("stage4", "--only", "A1", "--lr", "1e-4") == "python -m sweeps.stage4 --resume"
    assert stopped("stage4", "--cohort", "1") == "python -m sweeps.stage4 --resume --cohort 1"
    scheduled = ("--cohort", "2", "--scheduler", "asha", "--scheduler-options", "grace_period=30", "--force")
    assert stopped("stage4", *RUN, *scheduled, "--steps", "9") == (
        f"python -m sweeps.stage4 --resume {RUN_TYPED} --cohort 2 --scheduler asha "
        "--scheduler-options grace_period=30 --force"
    )


@pytest.mark.parametrize("name", ["stage4", "search", "unfreeze", "curriculum", "trial"])
def test_no_printed_command_takes_an_experiment_over(stopped: Stopped, name: str, command: Command) -> None:
    config = ("c.yaml",) if name == "trial" else ()
    assert "--steal" not in stopped(name, *config, "--steal")
    assert command.launched.steal


def test_no_printed_command_holds_a_password(stopped: Stopped) -> None:
    typed = stopped("stage4", "--tracking-uri", "postgresql://me:secret@db/mlflow", "--cohort", "2")
    assert typed.startswith("python -m sweeps.stage4 --resume --cohort 2  # first set MLFLOW_TRACKING_URI to the")
    assert "secret" not in typed


@pytest.mark.parametrize("name", ["curriculum", "unfreeze"])
def test_the_resume_command_of_a_staged_study_has_its_run_options(stopped: Stopped, name: str) -> None:
    assert stopped(name, *RUN, "--seed", "3") == f"python -m sweeps.{name} --resume {RUN_TYPED}"


def test_the_resume_command_of_a_search_has_all_its_options(stopped: Stopped) -> None:
    asked = ("--vary", "rank=8,16", "--vary", "learning_rate=1e-4..1e-3", "--trials", "6", "--eval-every", "15")
    assert stopped("search", *asked, *RUN) == (
        "python -m sweeps.search --resume --trials 6 --vary rank=8,16 --vary learning_rate=1e-4..1e-3 --eval-every 15 "
        f"{RUN_TYPED}"
    )


def test_a_trial_is_resumed_with_its_configuration(stopped: Stopped) -> None:
    assert stopped("trial", "my config.yaml", "--base", "mini", "--space", "rank=4,8;language=2") == (
        "python -m sweeps.trial 'my config.yaml' --resume --space 'rank=4,8;language=2' --base mini"
    )
    assert stopped("trial", "--cohort", "1", "--", "-odd.yaml") == (
        "python -m sweeps.trial --resume --cohort 1 -- -odd.yaml"
    )


# ---------------------------------------------------------------- what a stop claims
@pytest.mark.parametrize("name", ["stage4", "search", "curriculum", "trial"])
def test_a_stop_claims_only_what_is_so(name: str, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    config = ("c.yaml",) if name == "trial" else ()
    command.stop = interrupted_before
    assert command(name, *config, "--dry-run", "--experiment", "never") == 130
    assert capsys.readouterr().err == "stopped; nothing was written\n"
    assert command(name, *config, "--experiment", "never") == 130
    assert capsys.readouterr().err == "stopped before any trial began; nothing was trained\n"
    command.stop = interrupted_while_running
    assert command(name, *config) == 130
    output = capsys.readouterr().err
    assert output.startswith("stopped; trials go on from their newest checkpoints. Resume with:\n")
    assert f"sweeps.{name}" in output and "--resume" in output


# ---------------------------------------------------------------- --sync
@pytest.mark.parametrize(("name", "arguments"), [
    ("stage4", ("--only", "A1", "--steps", "8", "--force", "--seeds", "3")),
    ("search", ("--trials", "6", "--vary", "rank=8,16")),
    ("unfreeze", ("--rank", "8", "--steps", "9")),
    ("curriculum", ("--steps", "8", "stage.yaml")),
    ("trial", ("e.yaml", "--base", "mini", "--steps", "8")),
])  # fmt: skip
def test_the_same_command_with_sync_copies_the_records(
    name: str, arguments: tuple[str, ...], command: Command, database: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    record = running_record(tmp_path)
    experiment = record.directory.parent.parent
    experiment.rename(tmp_path / "e")
    (tmp_path / "e" / "study.json").write_text("{}")
    named = () if name == "trial" else ("--experiment", "e")
    store = ("--storage", ".", "--tracking-uri", f"sqlite:///{database}")
    assert command(name, *arguments, *named, *store, "--sync") == 0
    assert capsys.readouterr().out == "copied 1 trials of `e` to MLflow\n"
    found = MlflowClient(f"sqlite:///{database}").get_experiment_by_name("e")
    assert found is not None and STAGE4.question not in found.tags[NOTE_TAG], (
        "any study's command copies any experiment"
    )
