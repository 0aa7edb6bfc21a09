"""Tests `footprint logs`: what of a record it shows, and that it follows a trial until it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ended import Ended, ended_by
from installed_commands import ROOT, declared, install
from trial_records import measure

from sweeps.cli import footprint
from sweeps.execution.experiment import Experiment
from sweeps.watching.trial_log import follow, log_lines
from trainables.errors import ExitCode
from trainables.io.files import write_json
from trainables.phase import PhaseFile
from trainables.record import Measurement, Record
from trainables.verdict import Verdict

REASON = "irrelevant_pass 0.71 < 0.80 for 2 evals (baseline 1.00)"


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install(tmp_path / "metadata", declared()))


def logs(root: Path, *words: str) -> Ended:
    return ended_by(footprint.main, "footprint", "logs", *words, "--storage", str(root))


def experiment_of(record: Record) -> Experiment:
    return Experiment(record.directory.parents[1])


def test_a_log_is_the_self_test_every_measurement_and_the_verdict(
    make_record: Callable[..., Record], tmp_path: Path
) -> None:
    record = make_record()
    record.close(Verdict(kind="pruned", step=60, cause="irrelevant_pass", reason=REASON))
    found = logs(tmp_path, "C2-L2-V2")
    lines = found.stdout.splitlines()
    assert found.exit_code == ExitCode.DONE and lines[0] == "self-test passed"
    assert [line.split(":")[0] for line in lines[1:5]] == [
        "eval      step 30", "train     step 30", "eval      step 60", "train     step 60"
    ]  # fmt: skip
    assert "eval_loss 0.06" in lines[3] and "step_loss 0.01667" in lines[4]
    assert lines[5] == f"ended     pruned(irrelevant_pass) @ step 60: {REASON}"


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ({"proved_by": "C2-s0-0123456789ab"}, "self-test passed by C2-s0-0123456789ab, which trains the same modules"),
        ({"finding": {"check": "frozen_b", "level": "invalid", "step": 0, "evidence": "lora_B has no gradient"}},
         "self-test invalid, frozen_b: lora_B has no gradient"),
    ],
)  # fmt: skip
def test_the_self_test_says_who_ran_it_and_what_it_found(
    make_record: Callable[..., Record], kept: dict[str, object], said: str
) -> None:
    record = make_record(steps=())
    write_json(record.directory / "battery.json", kept)
    assert [line.text for line in log_lines(record)] == [said]


def test_a_self_test_of_another_shape_is_a_damaged_record(make_record: Callable[..., Record], tmp_path: Path) -> None:
    record = make_record(steps=())
    write_json(record.directory / "battery.json", {"finding": "none"})
    found = logs(tmp_path, "C2-L2-V2")
    assert found.exit_code == ExitCode.RECORD_DAMAGED and "Traceback" not in found.output


def test_a_trial_is_found_by_its_name_its_id_and_its_directory(
    make_record: Callable[..., Record], tmp_path: Path
) -> None:
    record = make_record()
    texts = {logs(tmp_path, name).stdout for name in ("C2-L2-V2", record.name, record.spec().trial_id)}
    assert len(texts) == 1 and "eval_loss" in texts.pop()
    missing = logs(tmp_path, "C3-L2-V2")
    assert missing.exit_code == ExitCode.BAD_INPUT and "did you mean `C2-L2-V2`?" in missing.stderr


def test_a_name_that_two_trials_have_is_refused_with_both(make_record: Callable[..., Record], tmp_path: Path) -> None:
    records = [make_record(), make_record(vision=4)]
    found = logs(tmp_path, "C2-L2-V2")
    assert found.exit_code == ExitCode.BAD_INPUT and all(one.name in found.stderr for one in records)


def test_a_log_is_followed_through_every_change_until_the_trial_ends(make_record: Callable[..., Record]) -> None:
    record = make_record(steps=(30,))
    shown = PhaseFile(record.directory)

    def trains() -> Iterator[None]:
        shown.show("training", 31)
        yield
        shown.show("training", 45)  # the same phase: nothing is said
        yield
        measure(record, 60)
        record.append(Measurement("eval", 60, {"eval_loss": 0.5}))  # a resumed trial measures again
        yield
        record.close(Verdict(kind="completed", step=60))
        yield

    history = trains()
    with experiment_of(record).held():
        lines = list(follow(experiment_of(record), record, lambda _: next(history)))
    assert [line.split()[0] for line in lines] == [
        "self-test", "eval", "train", "phase", "eval", "train", "ended"
    ]  # fmt: skip
    assert lines[3].startswith("phase     training, step 31 of 120, on ")
    assert lines[-1] == "ended     completed @ step 60"


@pytest.mark.parametrize(("kind", "code"), [("completed", ExitCode.DONE), ("failed", ExitCode.TRIALS_FAILED)])
def test_following_ends_with_the_code_of_the_verdict(
    make_record: Callable[..., Record], tmp_path: Path, kind: str, code: ExitCode
) -> None:
    make_record().close(Verdict.model_validate({"kind": kind, "step": 60}))
    assert logs(tmp_path, "C2-L2-V2", "-f").exit_code == code


def test_following_ends_where_no_launch_runs(make_record: Callable[..., Record], tmp_path: Path) -> None:
    make_record()
    found = logs(tmp_path, "C2-L2-V2", "--follow")
    assert found.exit_code == ExitCode.DONE
    assert found.stdout.splitlines()[-1] == "stopped   no launch runs `stage4`, so the trial does not go on"


def test_another_process_follows_while_this_one_writes(make_record: Callable[..., Record], tmp_path: Path) -> None:
    record = make_record(steps=(30,))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path / "metadata"), str(ROOT)))}
    script = "from sweeps.cli.footprint import main; main()"
    command = [sys.executable, "-c", script, "logs", "C2-L2-V2", "-f", "--storage", str(tmp_path)]
    with experiment_of(record).held():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        before = [process.stdout.readline() for _ in range(3)]
        measure(record, 60)
        after = [process.stdout.readline() for _ in range(2)]
        record.close(Verdict(kind="completed", step=60))
        last, _ = process.communicate(timeout=60)
    assert [line.split(":")[0].split()[-1] for line in (*before[1:], *after)] == ["30", "30", "60", "60"]
    assert last == "ended     completed @ step 60\n" and process.returncode == ExitCode.DONE
