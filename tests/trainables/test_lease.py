"""Tests who may take a lease, on what is known of the process that holds it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from trainables import lease
from trainables.errors import ExitCode, InfrastructureError
from trainables.io.files import FileDamaged
from trainables.lease import (
    Held,
    Lease,
    Owner,
    has_ended,
    held,
    locked,
    may_take,
    read_lease,
    this_process,
    write_lease,
)

ELSEWHERE = Owner(host="b", machine="b boot pid:[1]", pid=7, started=1)
LOST_SECONDS = 30.0
TOO_HIGH = '{"epoch": 1, "owner": {"host": "a", "machine": "a", "pid": 99999999999, "started": 1}}'


def test_a_lease_that_was_given_back_is_free() -> None:
    assert may_take(Held(Lease(epoch=3), 0.0, None))


@pytest.mark.parametrize(("age", "free"), [(LOST_SECONDS - 0.1, False), (LOST_SECONDS, True)])
def test_an_owner_out_of_sight_is_lost_after_three_missed_heartbeats(age: float, free: bool) -> None:
    assert may_take(Held(Lease(epoch=1, owner=ELSEWHERE), age, None)) is free


@pytest.mark.parametrize("age", [0.0, 1e6])
def test_on_the_same_machine_the_process_decides_and_not_its_silence(age: float) -> None:
    mine = Lease(epoch=1, owner=this_process())
    assert not may_take(Held(mine, age, False))
    assert may_take(Held(mine, age, True))


def test_a_process_is_known_by_its_id_and_its_start() -> None:
    me = this_process()
    assert has_ended(me) is False
    assert has_ended(me.model_copy(update={"started": me.started + 1})) is True  # its id was given again
    assert has_ended(ELSEWHERE) is None


def test_a_killed_process_has_ended_before_its_parent_notices() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = this_process().model_copy(update={"pid": process.pid, "started": lease._started(process.pid)})
        assert has_ended(owner) is False
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its entry stays
        assert has_ended(owner) is True


def is_true_for_another_user(check: Callable[[], bool]) -> bool:
    """Run a check in a child process that is not root's."""
    child, is_true = os.fork(), False
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            is_true = check()
        finally:
            os._exit(0 if is_true else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_process_that_may_not_be_seen_is_not_taken_for_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    first = this_process().model_copy(update={"pid": 1, "started": lease._started(1)})
    monkeypatch.setattr(lease, "_started", lambda _: None)  # as /proc answers when it hides processes of others
    assert is_true_for_another_user(lambda: has_ended(first) is None)


def test_the_lease_in_a_directory_that_may_only_be_read_has_an_age() -> None:
    with TemporaryDirectory() as name:
        directory = Path(name)
        write_lease(directory, Lease(epoch=2, owner=ELSEWHERE))
        directory.chmod(0o555)
        assert is_true_for_another_user(
            lambda: not os.access(directory, os.W_OK) and held(directory).age_seconds < LOST_SECONDS
        )
        directory.chmod(0o755)


def test_the_age_is_that_of_the_file_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_lease(tmp_path, Lease(epoch=2, owner=ELSEWHERE))
    silent_since = time.time() - 100
    os.utime(tmp_path / "lease.json", (silent_since, silent_since))
    found = held(tmp_path)
    assert found.lease == Lease(epoch=2, owner=ELSEWHERE) and found.has_ended is None
    assert found.age_seconds == pytest.approx(100, abs=30)
    assert [path.name for path in tmp_path.iterdir()] == ["lease.json"]


def test_a_directory_without_a_lease_is_free(tmp_path: Path) -> None:
    assert held(tmp_path).lease == Lease() and may_take(held(tmp_path))


@pytest.mark.parametrize("text", ['{"epoch": "x"}', "[]", "{", "", '{"epoch": 1, "owner": {"pid": 1}}', TOO_HIGH])
def test_a_damaged_lease_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "lease.json").write_text(text)
    with pytest.raises(FileDamaged, match=r"lease\.json: ") as refused:
        read_lease(tmp_path)
    assert "then delete the file" in str(refused.value.hint)


def test_storage_without_locks_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lease.fcntl, "flock", refused)
    with pytest.raises(InfrastructureError, match="but refuses one: No locks available"), locked(tmp_path):
        pass


def test_a_lock_that_is_never_free_is_an_error_and_no_endless_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LOCK_SECONDS", 0.1)
    busy = pytest.raises(InfrastructureError, match="must be free within 0 s")
    with locked(tmp_path), busy as refused, locked(tmp_path):
        pass
    assert refused.value.exit_code == ExitCode.INFRASTRUCTURE
    with locked(tmp_path):
        pass
