"""Who may write an experiment or a record: its lease, the process that holds it, and when another may take over.

A lease file has an epoch, which each takeover increments while it holds a lock (`flock`) on the file `lock` beside it.
A holder keeps the file's modification time fresh; ages are differences of times that the storage gives, so that clocks
of machines need not agree.
"""

from __future__ import annotations

import fcntl
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from trainables.errors import InfrastructureError
from trainables.io.files import read_model, write_json
from trainables.spec import Frozen

LEASE, LOCK = "lease.json", "lock"
EPOCH = "epoch-"  # of the directory of an attempt after the first
HEARTBEAT_SECONDS = 10.0
MISSED_HEARTBEATS = 3
LOCK_SECONDS = 60.0  # a lock is held while small files are written and large ones are linked
LOCK_POLL_SECONDS = 0.05
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MOST_PROCESSES = 2**22  # the highest process id of Linux
DELETE_HINT = "check that nothing runs the experiment, then delete the file"


class Superseded(Exception):
    """A later launch or attempt took over, so what this process measures is not read any more."""


class Owner(Frozen):
    """A process on a machine; `started` are the kernel's clock ticks from boot to the start of the process.

    `machine` is a boot of a kernel with one namespace of processes: only there does a process id name one process.
    """

    host: str
    machine: str
    pid: int = Field(gt=0, le=MOST_PROCESSES)
    started: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Lease(Frozen):
    """The number of launches of an experiment, or of takeovers of a record, and the holder; None if it gave it back."""

    epoch: int = 0
    owner: Owner | None = None


@dataclass(frozen=True)
class Held:
    """A lease as found: `age_seconds` since the last heartbeat, and whether its owner has ended, if that is known."""

    lease: Lease
    age_seconds: float
    has_ended: bool | None


def this_process() -> Owner:
    """Return the running process as an owner."""
    return Owner(host=platform.node(), machine=_machine(), pid=os.getpid(), started=_started(os.getpid()) or 0)


def has_ended(owner: Owner) -> bool | None:
    """Return whether a process has ended; None if it ran on another machine, or this process may not see it."""
    if owner.machine != _machine():
        return None
    started = _started(owner.pid)
    return None if started is None and _is_hidden(owner.pid) else started != owner.started


def may_take(found: Held) -> bool:
    """True when another process may take a lease: it is free, or its owner has ended, or is out of sight and silent.

    An owner that runs on this machine is never silent: a busy machine delays heartbeats.
    """
    if found.lease.owner is None or found.has_ended:
        return True
    return found.has_ended is None and found.age_seconds >= MISSED_HEARTBEATS * HEARTBEAT_SECONDS


def read_lease(directory: Path) -> Lease:
    """Return the lease of a directory; epoch 0 without an owner, if it has none.

    Raises:
        FileDamaged: the file is no lease.
    """
    path = directory / LEASE
    return read_model(path, Lease, DELETE_HINT) if path.exists() else Lease()


def held(directory: Path) -> Held:
    """Return the lease of a directory, with what is known about its owner.

    Raises:
        FileDamaged: the file is no lease.
    """
    lease = read_lease(directory)
    if lease.owner is None:
        return Held(lease, 0.0, True)
    return Held(lease, _age_seconds(directory / LEASE), has_ended(lease.owner))


def write_lease(directory: Path, lease: Lease) -> None:
    """Write the lease of a directory; the caller has locked it."""
    write_json(directory / LEASE, lease.model_dump(mode="json"))


def release(directory: Path) -> None:
    """Give the lease of a directory back, if it has one; the caller has locked it."""
    lease = read_lease(directory)
    if lease.owner is not None:
        write_lease(directory, Lease(epoch=lease.epoch))


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory while its lease is read and written; waits for other processes.

    Raises:
        InfrastructureError: the storage has no locks, or another process keeps it locked: one that is paused, or a
            launch of an earlier version.
    """
    path = directory / LOCK
    with path.open("a", encoding="utf-8") as file:
        until = time.monotonic() + LOCK_SECONDS
        while not _is_locked_by(file.fileno(), path):
            if time.monotonic() > until:
                raise InfrastructureError(
                    f"{path} must be free within {LOCK_SECONDS:.0f} s, but another process keeps it locked",
                    "`lslocks` names the process, which is paused or of an earlier version: wait for it, or end it",
                )
            time.sleep(LOCK_POLL_SECONDS)
        yield


def highest_epoch(home: Path) -> int:
    """Return the number of the newest attempt in a record; 0 is the first one, which has no directory of its own."""
    try:
        names = os.listdir(home)  # Path.glob takes ten times as long, and each look at a record begins here
    except (FileNotFoundError, NotADirectoryError):
        return 0
    epochs = (name.removeprefix(EPOCH) for name in names if name.startswith(EPOCH))
    return max((int(one) for one in epochs if one.isdecimal()), default=0)


def _is_locked_by(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise InfrastructureError(
            f"{path}: the storage must have locks (`flock`), but refuses one: {error.strerror}",
            "pass a --storage with locks that hold between machines: NFS has them from version 4 on, without `nolock`",
        ) from None
    return True


def _age_seconds(path: Path) -> float:
    return _storage_seconds(path.parent) - path.stat().st_mtime


def _storage_seconds(directory: Path) -> float:
    """Return the time by the clock of the storage."""
    try:
        with tempfile.TemporaryFile(dir=directory) as now:
            return os.fstat(now.fileno()).st_mtime
    except OSError:  # who may not write here takes no lease; to show its age, this machine's clock is near enough
        return time.time()


def _machine() -> str:
    boot = BOOT_ID.read_text(encoding="ascii").strip() if BOOT_ID.exists() else ""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{platform.node()} {boot} {namespace}"


def _is_hidden(pid: int) -> bool:
    """True when a process of another user lives, which /proc may hide (its mount option `hidepid`)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return False


def _started(pid: int) -> int | None:
    """Return when a process started; None if there is none, or only the entry of one that has ended."""
    try:
        # the second field, the name, may hold spaces and parentheses
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])
