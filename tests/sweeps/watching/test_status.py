"""Tests `footprint status` on records as engines write them, with and without a launch that holds the experiment."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from ended import Ended, ended_by
from installed_commands import declared, install

from sweeps.cli import footprint
from sweeps.display.trial_rows import TrialRow
from sweeps.execution.experiment import Experiment
from sweeps.watching.launches import WatchedLaunch
from sweeps.watching.status import WatchedTrial, read_status, time_left
from trainables import phase
from trainables.attempt import claim
from trainables.errors import ExitCode
from trainables.lease import Lease, Owner, this_process, write_lease
from trainables.phase import PhaseFile, TrialProcess
from trainables.record import Record
from trainables.verdict import Verdict

REASON = "irrelevant_pass 0.71 < 0.80 for 2 evals (baseline 1.00)"
HERE = f"{platform.node()}, process {os.getpid()}"
PROCESS = f"process {os.getpid()} on {re.escape(platform.node())}"


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install(tmp_path / "metadata", declared()))


def status(root: Path, *words: str) -> Ended:
    return ended_by(footprint.main, "footprint", "status", *words, "--storage", str(root))


def trains(record: Record, monkeypatch: pytest.MonkeyPatch, *steps: tuple[float, int]) -> None:
    """Write the phases of a training process at these times and steps."""
    shown = PhaseFile(record.directory)
    for seconds, step in steps:
        with monkeypatch.context() as clock:
            clock.setattr(phase.time, "time", lambda now=seconds: now)
            shown.show("training", step)
        shown.show("eval", step)
    shown.show("training", steps[-1][1])


@pytest.fixture
def sweep(make_record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """One trial trains, one waits, one was pruned, one failed."""
    trains(make_record("A1", 1, 0, steps=()), monkeypatch, (1000.0, 0), (1060.0, 30))
    make_record("B1", 2, 0, steps=())
    make_record("C2").close(Verdict(kind="pruned", step=60, cause="irrelevant_pass", reason=REASON))
    record = make_record("D1", 0, 4, steps=())
    record.close(Verdict(kind="failed", step=0, cause="OSError", reason="OSError: the cable is out"))
    return Experiment(record.directory.parents[1])


def test_a_running_experiment_shows_what_trains_where_what_waits_and_why_trials_ended(
    sweep: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    with sweep.held():
        found = status(tmp_path, "stage4")
    lines = found.stdout.splitlines()
    assert found.exit_code == ExitCode.DONE
    launch = rf"launch 1 runs it \({PROCESS}, last heartbeat \d s ago\)"
    assert re.match(rf"stage4: {launch}, 2/4 trials ended, 1 running, 1 waiting, about ", lines[0])
    rows = {line.split()[0]: line for line in lines if line.startswith(("A1 ", "B1 ", "C2 ", "D1 "))}
    assert "step 30 of 120" in rows["A1"] and HERE in rows["A1"]
    assert rows["B1"].rstrip().endswith("waiting") and "process" not in rows["B1"]
    assert "pruned(irrelevant_pass) @ 60" in rows["C2"] and "process" not in rows["C2"]
    assert f"pruned C2 @ step 60: {REASON}" in lines
    assert "failed D1 @ step 0: OSError: the cable is out" in lines
    names = {record.name.split("-")[0]: record.name for record in sweep.records()}
    assert f"GB free in {sweep.directory}" in lines[-5]
    assert lines[-4:-1] == [
        f"logs, below {sweep.directory}/trials:",
        f"  {names['A1']}  running",
        f"  {names['D1']}  failed: OSError: the cable is out",
    ]
    assert lines[-1].startswith(f"to follow one: footprint logs {names['A1']} -f ")


def test_success_criteria_are_shown_with_what_they_are(make_record: Callable[..., Record], tmp_path: Path) -> None:
    legend = "optimal, minimum, none: success criteria met"
    record = make_record("C2")
    record.close(Verdict(kind="completed", step=120))
    assert legend not in status(tmp_path, "stage4").stdout
    met = {name: {"met": name == "minimum"} for name in ("minimum", "optimal")}
    (record.directory / "labels.json").write_text(json.dumps(met | {"degraded": []}))
    shown = status(tmp_path, "stage4").stdout
    assert "completed, minimum" in shown and legend in shown.splitlines()


def test_the_log_of_a_trial_is_in_its_newest_attempt_and_its_line_fits_80_columns(
    sweep: Experiment, make_record: Callable[..., Record], tmp_path: Path
) -> None:
    name = "C3-r16-lr0.0003-nf4-double-s11"
    record = make_record(name, 2, 6, steps=())
    elsewhere = Owner(host="node-b", machine="node-b boot", pid=7, started=1)
    claim(record, me=elsewhere)
    reason = "OutOfMemoryError: CUDA out of memory.\nTried to allocate 2.00 GiB, and the device has 1.00 GiB free"
    claim(record).close(Verdict(kind="infeasible", step=0, reason=reason))
    lines = status(tmp_path, "stage4").stdout.splitlines()
    [line] = [one for one in lines if one.startswith(f"  {name}")]
    assert f"{record.name}/epoch-1  infeasible: OutOf" in line and line.endswith("…") and len(line) <= 80
    assert lines[-1].startswith("to read one: footprint logs C3-") and " -f " not in lines[-1]
    [found] = json.loads(status(tmp_path, "stage4", "--json").stdout)["experiments"]
    [trial] = [one for one in found["trials"] if one["trial"] == name]
    assert trial["log_directory"] == str(record.home / "epoch-1")
    assert shlex.split(trial["log_command"])[:3] == ["footprint", "logs", record.name]
    assert ended_by(footprint.main, *shlex.split(trial["log_command"])).exit_code == ExitCode.DONE


def test_without_a_launch_nothing_runs_and_what_it_left_is_not_taken_for_work(
    sweep: Experiment, tmp_path: Path
) -> None:
    text = status(tmp_path, "stage4").stdout
    assert text.startswith("stage4: no launch runs it, 2/4 trials ended, 2 stopped, to go on, run the command")
    assert "step 30 of 120" not in text and HERE not in text and " left" not in text.splitlines()[0]


@pytest.mark.parametrize(
    ("silent_seconds", "said", "is_lost"),
    [(15, "launch 4 runs it (process 7 on node-b, last heartbeat 1", False),
     (95, "launch 4 is lost (process 7 on node-b, last heartbeat 9", True)],
)  # fmt: skip
def test_a_launch_on_another_machine_is_lost_after_three_missed_heartbeats(
    sweep: Experiment, tmp_path: Path, silent_seconds: int, said: str, is_lost: bool
) -> None:
    elsewhere = Owner(host="node-b", machine="node-b boot", pid=7, started=1)
    write_lease(sweep.directory, Lease(epoch=4, owner=elsewhere))
    then = time.time() - silent_seconds
    os.utime(sweep.directory / "lease.json", (then, then))
    head = status(tmp_path, "stage4").stdout.splitlines()[0]
    assert said in head
    assert ("2 stopped, to go on, run the command that began it with --resume" in head) == is_lost
    assert ("1 running, 1 waiting" in head) != is_lost
    [found] = json.loads(status(tmp_path, "stage4", "--json").stdout)["experiments"]
    assert found["launch"]["is_lost"] == is_lost and found["launch"]["host"] == "node-b"
    assert found["launch"]["heartbeat_age_seconds"] == pytest.approx(silent_seconds, abs=5)


def test_a_launch_whose_process_has_ended_is_lost_at_once(sweep: Experiment, tmp_path: Path) -> None:
    owner = this_process()
    write_lease(sweep.directory, Lease(epoch=2, owner=owner.model_copy(update={"started": owner.started - 1})))
    head = status(tmp_path, "stage4").stdout.splitlines()[0]
    assert f"stage4: launch 2 is lost (process {os.getpid()} on {platform.node()} has ended), 2/4" in head


def test_a_damaged_lease_is_named_and_the_trials_are_shown(sweep: Experiment, tmp_path: Path) -> None:
    (sweep.directory / "lease.json").write_bytes(b"")
    found = status(tmp_path, "stage4")
    assert found.exit_code == ExitCode.DONE
    assert "stage4: its lease is damaged, 2/4 trials ended, 1 running" in found.stdout
    assert f"damaged lease: {sweep.directory / 'lease.json'}: " in found.stdout


def test_json_holds_the_same(sweep: Experiment, tmp_path: Path) -> None:
    with sweep.held():
        [found] = json.loads(status(tmp_path, "--json").stdout)["experiments"]
    trials = {one["trial"]: one for one in found["trials"]}
    launch = found["launch"]
    assert launch.pop("heartbeat_age_seconds") < 5
    assert launch == {"number": 1, "host": platform.node(), "process_id": os.getpid(), "is_lost": False}
    assert found["free_bytes"] > 0 and found["seconds_left"] > 0
    assert {name: one["state"] for name, one in trials.items()} == {
        "A1": "running", "B1": "waiting", "C2": "ended", "D1": "ended"
    }  # fmt: skip
    assert trials["A1"]["process"]["process_id"] == os.getpid() and trials["A1"]["step"] == 30
    assert trials["C2"]["verdict"]["reason"] == REASON and trials["C2"]["metrics"]["eval_loss"] == 0.06


def test_a_damaged_record_is_named_beside_the_others(sweep: Experiment, tmp_path: Path) -> None:
    [damaged] = [record for record in sweep.records() if record.name.startswith("C2-")]
    lines = (damaged.directory / "metrics.jsonl").read_text().replace("30", "31", 1)
    (damaged.directory / "metrics.jsonl").write_text(lines)
    found = status(tmp_path, "stage4")
    assert found.exit_code == ExitCode.DONE and "1/4 trials ended, 2 stopped, 1 damaged" in found.stdout
    assert f"damaged {damaged.name}: " in found.stdout and "must match its checksum" in found.stdout


@pytest.mark.parametrize("is_held", [True, False])
def test_without_a_name_it_shows_what_runs_else_what_changed_last(
    sweep: Experiment, tmp_path: Path, is_held: bool
) -> None:
    later = tmp_path / "later" / "trials"
    later.mkdir(parents=True)
    (tmp_path / "later" / "study.json").write_text("{}")
    os.utime(tmp_path / "later" / "study.json", (2e9, 2e9))
    holding: AbstractContextManager[object] = sweep.held() if is_held else nullcontext()
    with holding:
        assert status(tmp_path).stdout.split(":")[0] == ("stage4" if is_held else "later")


@pytest.mark.parametrize(
    ("words", "said"),
    [(("stage5",), "did you mean `stage4`?"), (("a/b",), "must be a name"), (("metadata",), "known: stage4")],
)
def test_an_experiment_that_is_not_there(sweep: Experiment, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    found = status(tmp_path, *words)
    assert found.exit_code == ExitCode.BAD_INPUT and said in found.stderr


def test_a_launch_that_ends_during_the_look_leaves_no_lock(sweep: Experiment) -> None:
    with sweep.held():
        holder = read_status(sweep, 2000.0).launch.holder
        assert holder is not None and holder.owner == this_process()
    assert read_status(sweep, 2000.0).launch == WatchedLaunch(None)
    with sweep.held():  # looking has not taken it
        pass


# -------------------------------------------------------------------- the time that is left
def watched(record: Record, step: int, process: TrialProcess | None) -> WatchedTrial:
    row = TrialRow(record.spec())
    row.phase = phase.TrialPhase("training", step)
    if process is not None:
        row.began_seconds, row.first_step = process.began_seconds, process.first_step
    return WatchedTrial(record.name, str(record.directory), row, "running" if process else "waiting", process)


def test_the_trials_of_one_process_share_its_time_and_two_processes_train_at_once(
    make_record: Callable[..., Record],
) -> None:
    records = [make_record(f"C{vision}", 2, vision, steps=()) for vision in range(1, 5)]
    one, two = (TrialProcess("node", number, began_seconds=1000.0, first_step=20) for number in (1, 2))
    apart = [watched(records[0], 80, one), watched(records[1], 80, two)]
    assert time_left(apart, 1060.0) == pytest.approx(40), "60 steps in 60 s, 40 are left in each"
    together = [watched(records[0], 80, one), watched(records[1], 80, one)]
    assert time_left(together, 1060.0) == pytest.approx(40), "120 steps in 60 s, 80 are left"


def test_waiting_trials_are_shared_out_among_the_processes(make_record: Callable[..., Record]) -> None:
    records = [make_record(f"C{vision}", 2, vision, steps=()) for vision in range(1, 7)]
    one, two = (TrialProcess("node", number, began_seconds=1000.0) for number in (1, 2))
    training = [watched(records[0], 60, one), watched(records[1], 60, two)]
    waiting = [watched(record, 0, None) for record in records[2:]]
    assert time_left([*training, *waiting], 1060.0) == pytest.approx(60 + 2 * 120)


def test_before_the_first_step_the_time_is_not_known(make_record: Callable[..., Record]) -> None:
    assert time_left([watched(make_record(steps=()), 0, TrialProcess("node", 1, 1000.0))], 1060.0) is None
