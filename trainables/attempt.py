"""Claims a record for the process that writes it, so that a late writer cannot touch what a later attempt writes.

A process that may still be alive, on a machine that is cut off, keeps its own directory. Whoever takes over takes from
it what is whole into the directory of the next epoch, and goes on there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from trainables.io.files import replace_directory
from trainables.io.manifest import MANIFEST, is_whole
from trainables.lease import (
    EPOCH,
    LEASE,
    LOCK,
    Lease,
    Owner,
    Superseded,
    has_ended,
    highest_epoch,
    locked,
    read_lease,
    this_process,
    write_lease,
)
from trainables.record import ADAPTERS, BEST, CHECKPOINTS, Record
from trainables.verdict import VERDICT

TEMPORARY = ".epoch.tmp"
APPENDED = ".jsonl"  # a late writer appends to these files, so they are copied, never linked
NOT_TAKEN = (LEASE, LOCK, MANIFEST, VERDICT)  # the new attempt comes to its own verdict


def claim(
    record: Record, launch: int = 0, ended: Callable[[Owner], bool | None] = has_ended, me: Owner | None = None
) -> Record:
    """Return the record as this process may write it: where it was, or in a new epoch if its owner may be alive.

    Args:
        record: the record of a trial in `<experiment>/trials/`.
        launch: the number of the launch that asks.
        ended: whether the process that wrote last writes no more, None if that is not known.
        me: the process that claims; this one by default.

    Raises:
        Superseded: a later launch took over the experiment.
        FileDamaged: a lease is not as it was written.
    """
    home, me = record.home, me or this_process()
    with locked(home):
        _check_launch(home.parent.parent, launch)  # with the lock: no claim of a later launch comes in between
        owner, epoch = read_lease(home).owner, highest_epoch(home)
        if owner is not None and owner != me and not ended(owner):
            epoch += 1
            _continue_in(home, epoch)
        write_lease(home, Lease(epoch=epoch, owner=me))
    return Record(home, epoch)


def superseded_by(directory: Path) -> Path | None:
    """Return the directory in the newest attempt instead of `directory` in an earlier one; None if it is in no such."""
    attempt = directory.parent.parent if directory.parent.name in (CHECKPOINTS, ADAPTERS) else directory.parent
    home = Record.at(attempt).home
    newest = Record(home).directory if (home / LEASE).is_file() else attempt
    return None if newest == attempt else newest / directory.relative_to(attempt)


def _check_launch(experiment: Path, launch: int) -> None:
    newest = read_lease(experiment).epoch
    if newest > launch:
        raise Superseded(f"{experiment}: launch {newest} took over from launch {launch}")


def _continue_in(home: Path, epoch: int) -> None:
    source = Record(home, epoch - 1).directory
    temporary = home / TEMPORARY
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for path in sorted(source.iterdir()):
        if path.name.startswith((".", EPOCH)) or path.name in NOT_TAKEN:
            continue
        if path.is_file():
            _take(path, temporary / path.name)
        elif path.name in (CHECKPOINTS, ADAPTERS):
            for saved in (one for one in sorted(path.iterdir()) if is_whole(one)):
                _take_directory(saved, temporary / path.name / saved.name)
        elif path.name != BEST or is_whole(path):
            _take_directory(path, temporary / path.name)
    replace_directory(temporary, home / f"{EPOCH}{epoch}")


def _take_directory(source: Path, target: Path) -> None:
    for path in sorted(one for one in source.rglob("[!.]*") if one.is_file()):
        _take(path, target / path.relative_to(source))


def _take(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):  # the late writer replaced or removed it; what is then not whole is not resumed
        if source.suffix == APPENDED:
            data = source.read_bytes()
            target.write_bytes(data[: data.rfind(b"\n") + 1])
            return
        try:
            os.link(source, target)  # it is replaced as a whole, never changed, so both can share it
        except OSError:  # the storage has no hard links
            shutil.copyfile(source, target)
