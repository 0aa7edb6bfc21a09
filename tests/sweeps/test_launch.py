"""Runs a real launch with Ray, bitsandbytes and MLflow on the miniature; then with a killed worker and with Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from launches import begin
from rich.console import Console

from sweeps.execution.options import Launch
from sweeps.launch import run
from sweeps.planning.space import Axes
from sweeps.stage4 import STUDY
from trainables.io.manifest import is_whole
from trainables.record import ADAPTERS, Keep, Record

GENTLE, RUINOUS = 5e-4, 0.5
STEPS, EVAL_EVERY = 18, 6
BUDGET = {"steps": STEPS, "eval_every_steps": EVAL_EVERY}
DRIFT = 1e-4
CLOCKS = {"train_seconds", "eval_seconds", "peak_memory_mb"}


@dataclass(frozen=True)
class Sweep:
    """A finished sweep and its directory."""

    records: dict[str, Record]
    launch: Launch
    text: str


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Arm A1 at a small rate and at one that ruins the model, on both workers of this machine."""
    root = tmp_path_factory.mktemp("sweep")
    with (root / "output.txt").open("w+", encoding="utf-8") as output:
        launch = Launch(
            storage=root / "runs",
            tracking_uri=f"sqlite:///{root / 'mlflow.db'}",
            console=Console(file=output, width=80),
        )
        records = run(STUDY, Axes(only=("A1",), learning_rates=(GENTLE, RUINOUS), fixed=BUDGET), launch)
        output.seek(0)
        return Sweep({record.spec().name: record for record in records}, launch, output.read())


@pytest.fixture(scope="session")
def gentle(sweep: Sweep) -> Record:
    return sweep.records[f"A1-lr{GENTLE:g}"]


@pytest.fixture(scope="session")
def ruined(sweep: Sweep) -> Record:
    return sweep.records[f"A1-lr{RUINOUS:g}"]


def assert_alike(record: Record, reference: Record) -> None:
    """Compare with the reference up to the order of fp32 sums, because the cohorts differ."""
    mine, theirs = results(record), results(reference)
    assert [one[:2] for one in mine] == [one[:2] for one in theirs]
    for (_, _, values), (_, _, expected) in zip(mine, theirs, strict=True):
        assert values == pytest.approx(expected, rel=DRIFT, abs=DRIFT)


def results(record: Record) -> list[tuple[str, int, dict[str, float]]]:
    """Return what a trial measured, without clocks."""
    return [
        (one.kind, one.step, {name: value for name, value in one.metrics.items() if name not in CLOCKS})
        for one in record.measurements()
    ]


def test_the_baseline_ran_first(sweep: Sweep) -> None:
    written = {name: (record.directory / "verdict.json").stat().st_mtime for name, record in sweep.records.items()}
    assert min(written, key=written.__getitem__) == "A0"
    assert sweep.records["A0"].evals()[0].metrics["irrelevant_pass"] >= 0.95


def test_an_arm_with_a_small_rate_completes_with_an_adapter(gentle: Record) -> None:
    assert str(gentle.verdict()) == "completed"
    assert [one.step for one in gentle.evals()] == [6, 12, 18]
    losses = [one.metrics["eval_loss"] for one in gentle.evals()]
    assert losses == sorted(losses, reverse=True)
    assert is_whole(gentle.directory / "best")
    assert {path.name for path in (gentle.directory / "best").iterdir()} >= {
        "adapter_model.safetensors", "adapter_config.json", "README.md", "provenance.json", "manifest.json",
    }  # fmt: skip


def test_an_arm_with_a_large_rate_is_stopped_with_its_numbers(sweep: Sweep, ruined: Record) -> None:
    verdict = ruined.verdict()
    assert verdict is not None
    assert verdict.kind == "pruned"
    assert verdict.step < STEPS
    assert verdict.reason is not None
    assert verdict.reason.startswith(f"{verdict.cause} ")
    assert f"pruned A1-lr{RUINOUS:g} @ step {verdict.step}: {verdict.reason}" in sweep.text


def test_ray_prints_nothing(sweep: Sweep) -> None:
    assert "╭" not in sweep.text
    assert "Trial status" not in sweep.text


def test_mlflow_shows_the_sweep(sweep: Sweep) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(sweep.launch.tracking_uri)
    experiment = client.get_experiment_by_name("stage4")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    launch = next(run for name, run in runs.items() if name.startswith("launch-"))
    for name, record in sweep.records.items():
        child = runs[name]
        assert child.data.tags["mlflow.parentRunId"] == launch.info.run_id
        assert child.data.metrics["deciding/exact_match"] == record.evals()[-1].metrics["exact_match"]
        assert child.data.params["language_layers"] == str(record.spec().placement.language)
    assert runs[f"A1-lr{GENTLE:g}"].info.status == "FINISHED"
    killed = runs[f"A1-lr{RUINOUS:g}"]
    assert killed.info.status == "KILLED"
    assert "(error ≤ 5 % a run at 0.85)" in killed.data.tags["verdict.reason"]


def test_a_finished_sweep_is_not_run_again(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_ray(*_: object) -> Iterator[None]:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("sweeps.execution.ray_session.ray_session", no_ray)
    axes = Axes(only=("A1",), learning_rates=(GENTLE, RUINOUS), fixed=BUDGET)
    again = run(STUDY, axes, replace(sweep.launch, console=Console(quiet=True)))
    assert [record.directory for record in again] == [record.directory for record in sweep.records.values()]


# ---------------------------------------------------------------- faults
def wait_for_eval(root: Path, step: int, seconds: float = 150.0) -> Record:
    """Wait until the arm has evaluated `step` and trains on."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for directory in (root / "runs" / "stage4" / "trials").glob("A1-*"):
            if any(one.step >= step for one in Record(directory).evals()):
                return Record(directory)
        time.sleep(0.05)
    raise AssertionError(f"no eval at step {step} within {seconds} s")


def worker_processes(driver: int) -> list[psutil.Process]:
    children = psutil.Process(driver).children(recursive=True)
    return [child for child in children if child.name().startswith("ray::TrialWorker"[:15])]


ARGUMENTS = ("--only", "A1", "--lr", f"{GENTLE:g}", "--steps", str(STEPS), "--eval-every", str(EVAL_EVERY))


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(tmp_path: Path, gentle: Record) -> None:
    process = begin(tmp_path, "stage4", *ARGUMENTS)
    record = wait_for_eval(tmp_path, EVAL_EVERY)
    victims = worker_processes(process.pid)
    assert victims, "no worker was found to kill"
    for victim in victims:
        victim.kill()
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    assert str(record.verdict()) == "completed"
    assert_alike(record, gentle)


@pytest.mark.slow
def test_ctrl_c_writes_checkpoints_and_resume_gives_the_same_end(tmp_path: Path, gentle: Record) -> None:
    process = begin(tmp_path, "stage4", *ARGUMENTS)
    record = wait_for_eval(tmp_path, EVAL_EVERY)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "python -m sweeps.stage4 --resume" in output
    assert record.verdict() is None
    assert record.checkpoint_steps()
    newest = record.checkpoint_steps()[0]
    # a flipped byte in the newest checkpoint: the one before it is taken
    weights = record.checkpoint(newest) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x01")
    resumed = begin(tmp_path, "stage4", "--resume")
    output, _ = resumed.communicate(timeout=180)
    assert resumed.returncode == 0, output
    assert_alike(record, gentle)


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "kept"), [("best", set()), ("all", {"step-2", "step-4"})])
def test_records_keep_the_adapters_that_the_launch_asks_for(keep: Keep, kept: set[str], tmp_path: Path) -> None:
    launch = Launch(storage=tmp_path / "runs", tracking_uri=f"sqlite:///{tmp_path / 'm.db'}", keep=keep,
                    console=Console(quiet=True))  # fmt: skip
    axes = Axes(only=("A1",), learning_rates=(GENTLE,), fixed={"steps": 4, "eval_every_steps": 2})
    record = next(one for one in run(STUDY, axes, replace(launch, force=True)) if one.spec().arm == "A1")
    assert str(record.verdict()) == "completed" and is_whole(record.directory / "best")
    assert {path.name for path in record.directory.glob(f"{ADAPTERS}/*")} == kept


@pytest.mark.slow
def test_mlflow_down_changes_nothing_and_sync_completes(tmp_path: Path, sweep: Sweep) -> None:
    shutil.copytree(sweep.launch.storage, tmp_path / "runs")
    for path in (tmp_path / "runs" / "stage4" / "trials").glob("A1-*"):
        if json.loads((path / "spec.json").read_text())["learning_rate"] == GENTLE:
            shutil.rmtree(path)
    process = begin(tmp_path, "stage4", *ARGUMENTS, "--tracking-uri", "http://127.0.0.1:9")
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    assert "--sync" in output
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    synced = begin(tmp_path, "stage4", "--sync", "--tracking-uri", uri)
    output, _ = synced.communicate(timeout=120)
    assert synced.returncode == 0, output
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("stage4")
    assert experiment is not None
    names = {run.info.run_name for run in client.search_runs([experiment.experiment_id])}
    assert {"A0", f"A1-lr{RUINOUS:g}"} <= names
    assert os.path.exists(tmp_path / "mlflow.db")
