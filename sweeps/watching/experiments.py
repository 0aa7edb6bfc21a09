"""Finds the experiments of a storage, with their size on disk and their last change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sweeps.execution.experiment import Experiment
from sweeps.execution.options import experiment_directory
from sweeps.watching.launches import launch_of
from trainables.errors import UserError, named, nearest
from trainables.typed import typed

BLOCK_BYTES = 512  # of st_blocks, whatever the file system


@dataclass(frozen=True)
class DiskUse:
    """The bytes that a directory takes on disk, and when a file in it last changed, in seconds since 1970."""

    size_bytes: int
    changed_seconds: float


def experiments_in(storage: Path) -> list[Experiment]:
    """Return the experiments of a storage, by name; hidden directories and data are none.

    Raises:
        UserError: the storage is no directory.
    """
    storage = storage.expanduser().resolve()
    if not storage.is_dir():
        raise UserError(
            f"--storage must be a directory of experiments, but {named(str(storage))} is none",
            f"go to the directory where the sweep was started, or pass --storage; `{typed('smoke')}` runs a first one",
        )
    return [Experiment(path) for path in sorted(storage.iterdir()) if _is_experiment(path)]


def experiment_named(storage: Path, name: str) -> Experiment:
    """Return an experiment of a storage.

    Raises:
        UserError: there is none with this name.
    """
    directory = experiment_directory(storage, name)
    known = [one.name for one in experiments_in(storage)]
    if name not in known:
        raise UserError(
            f"an experiment must be one that {directory.parent} holds, but got `{named(name)}`",
            nearest(name, known) if known else "pass another --storage",
        )
    return Experiment(directory)


def watched_experiments(storage: Path) -> list[Experiment]:
    """Return the experiments that a launch runs; if none does, the one that was begun or went on last.

    Raises:
        UserError: the storage holds no experiment.
    """
    found = experiments_in(storage)
    if not found:
        raise UserError(f"a storage must hold an experiment, but {storage.expanduser().resolve()} holds none",
                        "pass another --storage")  # fmt: skip
    running = [one for one in found if launch_of(one).may_run]
    return running or [max(found, key=lambda one: disk_use(one.directory).changed_seconds)]


def disk_use(directory: Path) -> DiskUse:
    """Return what a directory takes; files that go meanwhile do not count."""
    size, changed = 0, 0.0
    for path in _files(directory):
        with suppress(OSError):
            found = os.lstat(path)
            size += found.st_blocks * BLOCK_BYTES
            changed = max(changed, found.st_mtime)
    return DiskUse(size, changed or directory.stat().st_mtime)


def _files(directory: Path) -> Iterator[str]:
    for root, _, names in os.walk(directory):
        yield from (os.path.join(root, name) for name in names)


def _is_experiment(path: Path) -> bool:
    return not path.name.startswith(".") and ((path / "study.json").is_file() or (path / "trials").is_dir())
