"""Holds the lease of an experiment for one launch: takes it, keeps its heartbeat, and notices when it is lost."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import ExitCode, UserError
from trainables.io.files import FileDamaged
from trainables.lease import (
    HEARTBEAT_SECONDS,
    LEASE,
    MISSED_HEARTBEATS,
    Held,
    Lease,
    Owner,
    held,
    locked,
    may_take,
    read_lease,
    release,
    this_process,
    write_lease,
)

STOP = "STOP-"  # and the number of the launch that is to stop


class AlreadyRunning(UserError):
    """Another launch holds the experiment."""

    exit_code = ExitCode.ALREADY_RUNNING


@dataclass(frozen=True)
class Holder:
    """The launch that holds an experiment: its number and process, and the seconds since its last heartbeat.

    It `is_lost` when another launch may take over without being asked to: its process `has_ended`, or, where that
    cannot be seen, it missed its heartbeats.
    """

    launch: int
    owner: Owner
    heartbeat_age_seconds: float
    has_ended: bool
    is_lost: bool

    def __str__(self) -> str:
        return f"launch {self.launch}, {self.owner}"


def holder_of(directory: Path) -> Holder | None:
    """Return the launch that holds an experiment, or held it until it was lost; None if it was given back.

    Raises:
        FileDamaged: the lease is damaged.
    """
    found = held(directory)
    if found.lease.owner is None:
        return None
    return Holder(
        launch=found.lease.epoch,
        owner=found.lease.owner,
        heartbeat_age_seconds=max(0.0, found.age_seconds),
        has_ended=found.has_ended is True,
        is_lost=may_take(found),
    )


def check_free(directory: Path, steal: bool | None) -> None:
    """Refuse an experiment that another launch holds, unless it is to be taken over; keeps nothing of what it writes.

    Raises:
        AlreadyRunning: another launch holds it.
    """
    if directory.is_dir():
        _check(directory.name, held(directory), steal)


@contextmanager
def holding(directory: Path, steal: bool | None) -> Iterator[int]:
    """Hold the lease of an experiment until the end of the block; yields the number of the launch.

    With `steal` it is taken over from a launch that runs; None says that the command has no such option. The launch
    before is asked to stop by its stop file, in case it still runs.

    Raises:
        AlreadyRunning: another launch holds it, or took it over during the block.
        FileDamaged: the directory, or the lease in it, was deleted during the block.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        found = held(directory)
        _check(directory.name, found, steal)
        number = found.lease.epoch + 1
        if found.lease.owner is not None:
            stop_file(directory, found.lease.epoch).touch()
        stop_file(directory, number).unlink(missing_ok=True)
        mine = Lease(epoch=number, owner=this_process())
        write_lease(directory, mine)
    heart = _Heart(directory, mine)
    heart.thread.start()
    try:
        yield number
    finally:
        if heart.end():
            raise _lost(directory) from None


def check_held(directory: Path, launch: int) -> None:
    """Check that a launch still holds its experiment, as after a pause of its process.

    Raises:
        AlreadyRunning: another launch took it over.
        FileDamaged: the directory, or the lease in it, was deleted.
    """
    if read_lease(directory).epoch != launch:
        raise _lost(directory)


def stop_file(directory: Path, launch: int) -> Path:
    """Return the file that asks every trial of a launch to checkpoint and stop."""
    return directory / f"{STOP}{launch}"


def _check(name: str, found: Held, steal: bool | None) -> None:
    if may_take(found) or steal:
        return
    hint = "wait for it, or stop it with Ctrl-C"
    if found.has_ended is None:
        hint += f"; it counts as lost {MISSED_HEARTBEATS * HEARTBEAT_SECONDS:.0f} s after its last heartbeat"
    if steal is False:
        hint += "; to take the experiment over although it runs, add --steal: that launch is then asked to stop"
    raise AlreadyRunning(
        f"an experiment can have one launch at a time, but {found.lease.owner} runs `{name}`; "
        f"its last heartbeat was {found.age_seconds:.0f} s ago",
        hint,
    )


def _lost(directory: Path) -> UserError:
    """Return why a launch has no lease any more."""
    if not (directory / LEASE).exists():
        return FileDamaged(
            f"the directory of an experiment must stay while a launch runs, but {directory} or its {LEASE} was deleted",
            "restore it from a copy, then run the command again with --resume; without a copy, begin it anew",
        )
    return AlreadyRunning(
        f"a launch must hold its experiment, but {_holder(directory)} took `{directory.name}` over",
        "that launch finishes the trials; this one has stopped",
    )


def _holder(directory: Path) -> str:
    lease = read_lease(directory)
    return str(lease.owner) if lease.owner else f"launch {lease.epoch}"


class _Heart:
    """Keeps the modification time of a lease fresh from a thread, until the lease is lost or the launch ends."""

    def __init__(self, directory: Path, lease: Lease) -> None:
        self.directory, self.lease = directory, lease
        self.ended = threading.Event()
        self.is_lost = False
        self.thread = threading.Thread(target=self._beat, name="lease-heartbeat", daemon=True)

    def end(self) -> bool:
        """Give the lease back, and return whether it had been lost."""
        self.ended.set()
        self.thread.join()
        with suppress(OSError, UserError):  # the storage is gone: the lease counts as lost, or its process has ended
            self._refresh(last=True)
        return self.is_lost

    def _beat(self) -> None:
        while not self.ended.wait(HEARTBEAT_SECONDS):
            with suppress(OSError, UserError):  # the storage is gone for now; whoever waits for a heartbeat takes over
                self._refresh()
                if self.is_lost:
                    sys.stderr.write(f"\nstopping: {_lost(self.directory).message}\n")
            if self.is_lost:
                return

    def _refresh(self, last: bool = False) -> None:
        own_stop = stop_file(self.directory, self.lease.epoch)
        with locked(self.directory):
            self.is_lost = read_lease(self.directory) != self.lease
            if self.is_lost:
                own_stop.touch()
            elif last:
                own_stop.unlink(missing_ok=True)
                release(self.directory)
            else:
                os.utime(self.directory / LEASE)
