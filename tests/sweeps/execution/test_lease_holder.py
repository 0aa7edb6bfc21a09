"""Tests the lease of an experiment: one launch at a time, takeover of a lost one, and a launch that loses its lease."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.execution import lease_holder
from sweeps.execution.experiment import Experiment
from sweeps.execution.lease_holder import AlreadyRunning, check_held
from trainables import lease
from trainables.attempt import claim
from trainables.errors import ExitCode
from trainables.io.files import FileDamaged
from trainables.lease import Lease, Owner, read_lease, this_process, write_lease
from trainables.measurement import Measurement
from trainables.record import Record

ELSEWHERE = Owner(host="node-b", machine="node-b boot", pid=7, started=1)


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return Experiment(tmp_path / "stage4")


def held_elsewhere(experiment: Experiment, silent_seconds: float, launch: int = 4) -> None:
    """Leave the lease of a launch on another machine, whose last heartbeat was so long ago."""
    experiment.directory.mkdir()
    write_lease(experiment.directory, Lease(epoch=launch, owner=ELSEWHERE))
    then = time.time() - silent_seconds
    os.utime(experiment.directory / "lease.json", (then, then))


def test_each_launch_has_the_next_number_and_gives_its_lease_back(experiment: Experiment) -> None:
    for number in (1, 2):
        with experiment.held() as holding:
            assert (holding.launch, holding.stop_file.name) == (number, f"STOP-{number}")
            assert read_lease(experiment.directory) == Lease(epoch=number, owner=this_process())
            holding.stop_file.touch()
        assert read_lease(experiment.directory) == Lease(epoch=number)
    assert not list(experiment.directory.glob("STOP*"))


def test_an_experiment_of_an_earlier_version_has_no_lease_and_is_launched(experiment: Experiment) -> None:
    experiment.directory.mkdir()
    (experiment.directory / "lock").write_text("12345")  # the process of its last launch
    experiment.check({}, steal=False)
    with experiment.held() as holding:
        assert holding.launch == 1


# ---------------------------------------------------------------- a launch that may still run
def test_a_second_launch_in_one_process_is_refused_with_owner_and_age(experiment: Experiment) -> None:
    with experiment.held(), pytest.raises(AlreadyRunning) as refused, experiment.held(steal=False):
        pass
    assert refused.value.exit_code == ExitCode.ALREADY_RUNNING == 5
    assert f"but process {os.getpid()} on " in refused.value.message
    assert re.search(r"its last heartbeat was \d s ago", refused.value.message)
    assert "--steal" in str(refused.value.hint)


def test_a_command_without_steal_does_not_offer_it(experiment: Experiment) -> None:
    with experiment.held(), pytest.raises(AlreadyRunning) as refused, experiment.held():
        pass
    assert "--steal" not in str(refused.value.hint)


@pytest.mark.parametrize(("silent", "is_lost"), [(15, False), (31, True)])
def test_a_launch_on_another_machine_is_lost_after_three_missed_heartbeats(
    experiment: Experiment, silent: float, is_lost: bool
) -> None:
    held_elsewhere(experiment, silent)
    if not is_lost:
        with pytest.raises(AlreadyRunning, match="process 7 on node-b runs `stage4`; its last heartbeat was 1"):
            experiment.check({}, steal=False)
        with pytest.raises(AlreadyRunning, match="process 7 on node-b"), experiment.held():
            pass
        assert read_lease(experiment.directory).owner == ELSEWHERE
        return
    experiment.check({}, steal=False)
    with experiment.held() as holding:
        assert holding.launch == 5
        assert (experiment.directory / "STOP-4").exists(), "it may still run, and is asked to stop"
        assert not holding.stop_file.exists()


# ---------------------------------------------------------------- taking over
def test_steal_takes_over_and_the_launch_before_stops(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lease_holder, "HEARTBEAT_SECONDS", 0.02)
    with pytest.raises(AlreadyRunning, match=r"but .* took `stage4` over") as lost, experiment.held() as first:
        experiment.check({}, steal=True)
        with experiment.held(steal=True) as second:
            assert first.stop_file.exists()
            told, deadline = "", time.monotonic() + 30
            while "took `stage4` over" not in told and time.monotonic() < deadline:
                told += capsys.readouterr().err
                time.sleep(0.01)
            assert "\nstopping: a launch must hold its experiment, but " in told
            assert (first.launch, second.launch) == (1, 2)
            assert not second.stop_file.exists()
            assert read_lease(experiment.directory).epoch == 2
    assert lost.value.exit_code == 5
    assert read_lease(experiment.directory) == Lease(epoch=2), "the end of the first must not give the second's back"


PAUSED = """
import sys
from pathlib import Path
from sweeps.execution import lease_holder
from trainables import lease
from trainables.attempt import claim
from trainables.lease import Superseded
from trainables.measurement import Measurement
from trainables.record import Record

lease._machine = lambda: "node-b boot"
lease_holder.HEARTBEAT_SECONDS = 0.05
with lease_holder.holding(Path(sys.argv[1]), None) as launch:
    record = claim(Record(Path(sys.argv[2])), launch)
    record.append(Measurement("eval", 2, {"eval_loss": 2.0}))
    print("held", flush=True)
    input()
    try:
        record.append(Measurement("eval", 4, {"eval_loss": 9.0}))
    except Superseded:
        print("refused", flush=True)
"""


def test_a_launch_that_was_paused_and_wakes_up_writes_nothing_that_is_read(
    make_record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = make_record(steps=())
    experiment = Experiment(record.home.parents[1])
    command = [sys.executable, "-c", PAUSED, str(experiment.directory), str(record.home)]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, **pipes) as paused:
        try:
            assert paused.stdout is not None and paused.stdout.readline() == "held\n"
            paused.send_signal(signal.SIGSTOP)
            monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.1)
            time.sleep(0.5)
            with experiment.held() as second:
                taken = claim(record, second.launch)
                assert taken.directory.name == "epoch-1"
                paused.send_signal(signal.SIGCONT)
                said, told = paused.communicate("go on\n", timeout=60)
                taken.append(Measurement("eval", 4, {"eval_loss": 4.0}))
        finally:
            paused.kill()
    assert said == "refused\n" and "took `stage4` over" in told and paused.returncode == 1
    assert [one.metrics["eval_loss"] for one in record.evals()] == [2.0, 4.0]
    assert read_lease(experiment.directory) == Lease(epoch=2), "the first does not give back what is the second's"


def test_work_that_goes_on_after_a_takeover_is_refused(experiment: Experiment) -> None:
    with pytest.raises(AlreadyRunning, match="process 7 on node-b took `stage4` over"), experiment.held() as first:
        check_held(experiment.directory, first.launch)
        write_lease(experiment.directory, Lease(epoch=2, owner=ELSEWHERE))
        check_held(experiment.directory, first.launch)
        pytest.fail("it went on")


def test_a_launch_that_notices_only_at_its_end_stops_its_trials_too(experiment: Experiment) -> None:
    with pytest.raises(AlreadyRunning, match="process 7 on node-b took `stage4` over"), experiment.held() as first:
        write_lease(experiment.directory, Lease(epoch=2, owner=ELSEWHERE))
    assert first.stop_file.exists() and read_lease(experiment.directory).owner == ELSEWHERE


def test_a_running_launch_keeps_its_lease_fresh(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_holder, "HEARTBEAT_SECONDS", 0.02)
    with experiment.held():
        path = experiment.directory / "lease.json"
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 30
        while path.stat().st_mtime == 1:
            assert time.monotonic() < deadline, "no heartbeat"
            time.sleep(0.01)


def test_a_number_that_is_given_again_does_not_stop_at_once(experiment: Experiment) -> None:
    experiment.directory.mkdir()
    (experiment.directory / "STOP-1").touch()  # left by a launch before the lease was deleted
    with experiment.held() as holding:
        assert not holding.stop_file.exists()


@pytest.mark.parametrize("what", ["lease.json", ""])
def test_an_experiment_that_was_deleted_under_its_launch_stops_it_and_is_not_called_a_takeover(
    what: str, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_holder, "HEARTBEAT_SECONDS", 0.02)
    with pytest.raises(FileDamaged, match="was deleted") as lost, experiment.held() as holding:
        if what:
            (experiment.directory / what).unlink()
        else:
            shutil.rmtree(experiment.directory)
            experiment.directory.mkdir()  # an engine writes its next checkpoint
        deadline = time.monotonic() + 30
        while not holding.stop_file.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert holding.stop_file.exists(), "its trials are asked to stop"
    assert lost.value.exit_code == ExitCode.RECORD_DAMAGED
