"""The files of shared weights: where they lie, who may write or remove them, and which nobody uses.

They lie below the directory for temporary files, in a directory of this user and node that only this user can enter.
Who uses a file holds a shared lock on it, which ends with the process, so that what a killed launch has left is known.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO

from trainables.progress import doing

SUFFIX, TABLE, WRITING, LOCK = ".weights", ".json", ".new", ".lock"  # of the files of one base
DIRECTORY = "footprint-weights"
POLL_SECONDS = 0.2
SHOWN_SECONDS = 60.0  # who waits longer than that says so


def node_directory() -> Path:
    """Return the directory of these files, which need not exist; several nodes can have one for temporary files."""
    node = re.sub(r"[^\w.-]", "_", platform.node())
    return Path(tempfile.gettempdir()) / f"{DIRECTORY}-{os.getuid()}-{node}"


def check_private(directory: Path) -> None:
    """Make the directory if it is missing.

    Raises:
        OSError: it is of another user, or others can enter it.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(0, "must be a directory that only this user can enter", str(directory))


@contextmanager
def alone(path: Path, wait_seconds: float = 0.0) -> Iterator[None]:
    """Let no other process look for the file, write it or remove it.

    Raises:
        TimeoutError: another process does, for longer than `wait_seconds`.
    """
    held = _taken(path)
    if held is None and wait_seconds > 0:
        with doing("waiting for another engine to load the base") if wait_seconds > SHOWN_SECONDS else ExitStack():
            ends_seconds = time.monotonic() + wait_seconds
            while held is None and time.monotonic() < ends_seconds:
                time.sleep(POLL_SECONDS)
                held = _taken(path)
    if held is None:
        raise TimeoutError(0, f"waited {wait_seconds / 60:.0f} minutes for another engine to load the base", str(path))
    with held:
        yield


def _taken(path: Path) -> IO[bytes] | None:
    """Take the lock of a file; None if another process has it, or has removed it just now."""
    lock = path.with_suffix(LOCK)
    with ExitStack() as failing:
        held = failing.enter_context(lock.open("ab"))
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(held.fileno()), lock.stat()):
                failing.pop_all()
                return held
    return None


def use(path: Path) -> BufferedReader:
    """Return the open file, which no process removes until it is closed; the caller is alone."""
    with ExitStack() as failing:
        held = failing.enter_context(path.open("rb"))
        fcntl.flock(held, fcntl.LOCK_SH)
        failing.pop_all()
    return held


def remove_if_unused(path: Path) -> None:
    """Remove the files of a base; the caller is alone.

    Raises:
        BlockingIOError: a process uses them.
    """
    with ExitStack() as opened:
        with suppress(FileNotFoundError):
            file = opened.enter_context(path.open("r+b"))  # network file systems lock only what can be written alone
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(path)


def remove_unused(directory: Path, kept: str = "") -> None:
    """Remove the files that no process uses, whole or not, of any launch; those with the stem `kept` stay."""
    for stem in {one.stem for one in directory.iterdir()} - {kept}:
        path = directory / f"{stem}{SUFFIX}"
        with suppress(OSError), alone(path):
            remove_if_unused(path)


def remove(path: Path) -> None:
    """Remove the files of a base; who uses them keeps their pages."""
    for suffix in (SUFFIX, TABLE, WRITING, LOCK):
        path.with_suffix(suffix).unlink(missing_ok=True)
