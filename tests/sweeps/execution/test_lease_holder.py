"""Tests the lease of an experiment: one launch at a time, takeover of a lost one, and a launch that loses its lease."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sweeps.execution import lease_holder
from sweeps.execution.experiment import Experiment
from sweeps.execution.lease_holder import AlreadyRunning
from trainables.errors import ExitCode
from trainables.lease import Lease, Owner, read_lease, this_process, write_lease

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
    assert "its last heartbeat was 0 s ago" in refused.value.message
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
            while "took `stage4` over: stopping" not in told and time.monotonic() < deadline:
                told += capsys.readouterr().err
                time.sleep(0.01)
            assert "took `stage4` over: stopping" in told
            assert (first.launch, second.launch) == (1, 2)
            assert not second.stop_file.exists()
            assert read_lease(experiment.directory).epoch == 2
    assert lost.value.exit_code == 5
    assert read_lease(experiment.directory) == Lease(epoch=2), "the end of the first must not give the second's back"


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
