"""Tests the command line of a study: bad input gives a clear message and exit code 2 before anything runs."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import invoke
from damaged_bases import change_config, change_weights, copied, without

from sweeps.execution.experiment import Experiment
from sweeps.stage4 import STUDY
from trainables.mini import BASE_DIRECTORY, datasets

Stage4 = Callable[..., int]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> datasets.Files:
    return datasets.write(tmp_path_factory.mktemp("rows") / "data", 0)


@pytest.fixture
def stage4(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage4:
    """Call stage4 below a fresh directory; Ray must not start."""

    def no_ray(*_: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("sweeps.execution.ray_session.ray_session", no_ray)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: invoke(STUDY, monkeypatch, *arguments)


def own_data(files: datasets.Files, **changed: Path) -> list[str]:
    paths = {"train": files.train, "val": files.validation, "ood": files.ood, **changed}
    return [word for name, path in paths.items() for word in (f"--{name}", str(path))]


def test_dry_run_prints_the_matrix_and_touches_nothing(
    stage4: Stage4, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert stage4("--dry-run") == 0
    output = capsys.readouterr().out
    for column in ("language", "vision", "adapter", "coverage"):
        assert column in output
    assert all(arm.name in output for arm in STUDY.arms)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected", "code"),
    [
        (("--storage", "file/below"), "the storage must be writable", 2),
        (("--tracking-uri", "ftp://x"), "a tracking URI must be", 2),
        (("--quant", "nf4,int8", "--resident", "dequantized"), "but a trial asks for int8", 2),
        (("--cache", "/proc/new"), "--cache must be a directory that can be written", 2),
        (("--experiment", "other"), "was begun with another configuration: ", 2),
        (("--experiment", "running"), "an experiment can have one launch at a time", 5),
    ],
)
def test_dry_run_refuses_what_the_launch_refuses(
    stage4: Stage4,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    expected: str,
    code: int,
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "runs" / "other").mkdir(parents=True)
    (tmp_path / "runs" / "other" / "study.json").write_text('{"format": 2, "steps": 120}')
    with Experiment(tmp_path / "runs" / "running").held():
        assert stage4("--only", "A1", "--dry-run", *arguments) == code
    assert expected in capsys.readouterr().err


def test_a_storage_without_space_is_not_bad_input(stage4: Stage4, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**6))
    assert stage4("--only", "A1", "--dry-run") == 6


def test_unknown_option_is_a_usage_error(stage4: Stage4, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage4("--rnak", "8") == 2
    assert "No such option: --rnak" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rank", "0"), "`rank`: input should be greater than or equal to 1, but got 0"),
        (("--rank", "8,x"), "--rank must be comma-separated numbers, but got `8,x`"),
        (("--quant", "nf3"), "`quantization`: input should be"),
        (("--only", "A9"), "an arm must be one of study stage4, but got `A9`"),
        (("--only", "A1", "--recommended"), "only one of them may be given"),
        (("--steps", "5", "--epochs", "1"), "only one of them may be given"),
        (("--base", "/nowhere"), "--train, --val and --ood are not all given"),
        (("--train", "x.jsonl"), "must be given together"),
        (("--resume",), "only an experiment that was begun can be resumed"),
        (("--sync",), "only an experiment with records can be copied to MLflow"),
        (
            ("--resume", "--dry-run"),
            "--resume cannot be combined with --dry-run: the experiment keeps the settings it was started with",
        ),
        (("--resume", "--lr", "1e-3", "--set", "x=1", "--only", "A9"), "cannot be combined with --only, --lr, --set"),
        (("--sync", "--dry-run"), "--sync cannot be combined with --dry-run"),
        (("--resume", "--sync"), "--resume cannot be combined with --sync"),
        (("--experiment", "../x", "--dry-run"), "--experiment must be a name, but got `../x`"),
        (("--experiment", ".."), "--experiment must be a name"),
        (("--set", "epochs=2"), "`epochs` must not be given in --set"),
        (
            ("--only", "A1,A2", "--scheduler", "asha", "--scheduler-options", "grace_period=9999", "--dry-run"),
            "must decide before the last eval",
        ),
    ],
)
def test_bad_options_are_explained(
    stage4: Stage4, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert stage4(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_an_arm_that_does_not_exist_is_refused_before_anything_is_written(stage4: Stage4, tmp_path: Path) -> None:
    assert stage4("--only", "A9") == 2
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_base_without_weights_is_refused(
    stage4: Stage4, written: datasets.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    assert stage4("--base", str(base), *own_data(written)) == 2
    assert "has no config.json" in capsys.readouterr().err
    shutil.copy(BASE_DIRECTORY / "config.json", base)
    assert stage4("--base", str(base), *own_data(written)) == 2
    assert "must hold its weights as *.safetensors" in capsys.readouterr().err


def test_own_base_and_data_get_the_settings_of_a_real_base(
    stage4: Stage4, written: datasets.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = shutil.copytree(BASE_DIRECTORY, tmp_path / "own")
    assert stage4("--base", str(base), *own_data(written), "--recommended", "--epochs", "2", "--dry-run") == 0
    output = capsys.readouterr().out
    assert "7 trials, 120 steps of 16 rows on 960 training rows" in output
    assert "A0" in output
    assert "D1" not in output


def test_a_tower_too_small_is_refused(
    stage4: Stage4, written: datasets.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = copied(BASE_DIRECTORY, tmp_path)
    vision = json.loads((base / "config.json").read_text())["vision_config"]
    change_config(base, vision_config={**vision, "depth": 5})
    change_weights(base, without(*(f"visual.blocks.{index}." for index in range(5, vision["depth"]))))
    assert stage4("--base", str(base), *own_data(written)) == 2
    error = capsys.readouterr().err
    assert "B3 needs L0-V6 and the base has 8 language layers and 5 vision blocks" in error
    assert "--only A1,A2,B1,B2,C1,C2,D1,D2 fits" in error
    assert not (tmp_path / "runs" / "stage4").exists()


def broken_rows(files: datasets.Files, change: Callable[[list[dict]], str]) -> Path:
    rows = [json.loads(line) for line in files.train.read_text().splitlines()][:4]
    path = files.train.with_name("broken.jsonl")
    path.write_text(change(rows), encoding="utf-8")
    return path


def lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def missing_image(rows: list[dict]) -> str:
    rows[2]["images"] = ["images/gone.png"]
    return lines(rows)


def empty_answer(rows: list[dict]) -> str:
    rows[1]["messages"][-1]["content"] = "  "
    return lines(rows)


def no_assistant(rows: list[dict]) -> str:
    rows[0]["messages"].pop()
    return lines(rows)


def half_a_line(rows: list[dict]) -> str:
    return lines(rows) + '{"messages": ['


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing_image, "broken.jsonl:3: the image `images/gone.png` must exist"),
        (empty_answer, "broken.jsonl:2: an answer must not be empty"),
        (no_assistant, "broken.jsonl:1: a row must have an assistant turn"),
        (half_a_line, "broken.jsonl:5: a row must be one JSON object in UTF-8"),
    ],
)
def test_broken_rows_are_found_before_anything_is_spent(
    stage4: Stage4,
    written: datasets.Files,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[list[dict]], str],
    message: str,
) -> None:
    assert stage4(*own_data(written, train=broken_rows(written, change))) == 2
    assert message in capsys.readouterr().err


def test_validation_rows_in_train_are_refused(
    stage4: Stage4, written: datasets.Files, capsys: pytest.CaptureFixture[str]
) -> None:
    overlapping = broken_rows(written, lambda rows: lines(rows[:1]) + written.validation.read_text())
    assert stage4(*own_data(written, val=overlapping)) == 2
    assert "validation rows must not be in train, but 1 of them are" in capsys.readouterr().err


def written_in(experiment: Path) -> dict[Path, bytes]:
    """Return the JSON files of an experiment but its lease, which counts launches."""
    return {path: path.read_bytes() for path in experiment.rglob("*.json") if path.name != "lease.json"}


def test_another_configuration_of_an_experiment_is_refused(
    stage4: Stage4, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sweeps.launch.run_records", lambda *_: None)
    short = ("--only", "A1", "--eval-every", "2")
    assert stage4(*short, "--steps", "8") == 0
    before = written_in(tmp_path / "runs" / "stage4")
    capsys.readouterr()
    assert stage4(*short, "--steps", "9") == 2
    error = capsys.readouterr().err
    assert "experiment `stage4` was begun with another configuration: steps: 8 -> 9" in error
    assert "--experiment stage4-2" in error
    assert written_in(tmp_path / "runs" / "stage4") == before
    assert stage4(*short, "--steps", "9", "--experiment", "stage4-2") == 0


HOLDS = """
import sys, time
from pathlib import Path
from sweeps.execution.experiment import Experiment

with Experiment(Path(sys.argv[1])).held() as experiment:
    print("held", flush=True)
    while not experiment.stop_file.exists():
        time.sleep(0.02)
"""


def test_an_experiment_is_launched_once_at_a_time(
    stage4: Stage4, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "runs" / "stage4")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            assert stage4("--only", "A1") == 5
            error = capsys.readouterr().err
            assert f"but process {process.pid} on {platform.node()} runs `stage4`; its last heartbeat was" in error
            assert "add --steal" in error
            assert stage4("--only", "A1", "--steal", "--dry-run") == 0
            assert process.poll() is None, "a dry run asks nobody to stop"
            monkeypatch.setattr("sweeps.launch.run_records", lambda *_: None)
            assert stage4("--only", "A1", "--steal", "--steps", "8", "--eval-every", "2") == 0
            assert process.wait(timeout=60) == 1, "the launch before stops, and its lease is lost"
        finally:
            process.kill()


def test_unwritable_storage_is_refused(stage4: Stage4, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no directory")
    assert stage4("--storage", str(tmp_path / "file" / "runs")) == 2
    assert "the storage must be writable" in capsys.readouterr().err


def test_full_storage_is_refused(
    stage4: Stage4, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**6))
    assert stage4("--only", "A1") == 6
    assert "MB free, but" in capsys.readouterr().err


@pytest.mark.slow
def test_a_plan_says_that_space_is_short_for_all_adapters(
    stage4: Stage4, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage4("--only", "C2", "--dry-run") == 0
    assert "Records keep the adapter of every eval (5 adapters, 2.2 MB)." in capsys.readouterr().out
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=206 * 10**6))
    assert stage4("--only", "C2", "--dry-run") == 0
    assert (
        "Space is short: 207 MB must be free" in (said := capsys.readouterr().out)
        and "keep the best adapter alone" in said
    )
    assert stage4("--only", "C2", "--dry-run", "--keep", "beste") == 2
    assert "--keep must be one of all, best, but got `beste`" in capsys.readouterr().err


def test_file_store_is_refused(stage4: Stage4, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage4("--only", "A1", "--tracking-uri", "file:///tmp/mlruns") == 2
    assert "a tracking URI must be a database or a server" in capsys.readouterr().err
