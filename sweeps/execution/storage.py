"""Checks that the storage of an experiment can be written and has space for its records."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sweeps.planning.forecast import Forecast
from trainables.errors import InfrastructureError, UserError, named

PROBE_BYTES = 2**20
RESERVE_BYTES = 200 * 10**6
CHECKPOINT_FACTOR = 12  # (adapter + two AdamW moments) x (two checkpoints, the best one, one being written)


def adapter_bytes(forecasts: Sequence[Forecast], trials: int) -> int:
    """Return the size of the adapters of `trials` trials, each as large as the largest in `forecasts`."""
    largest = max(one.placement.adapter_megabytes(one.spec.rank) for one in forecasts)
    return int(largest * 1e6 * trials)


def check_not_full(storage: Path) -> None:
    """Check that the storage still takes a file.

    Raises:
        InfrastructureError: it is full.
    """
    try:
        with tempfile.TemporaryFile(dir=storage) as probe:
            probe.write(bytes(PROBE_BYTES))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InfrastructureError(
                f"the storage must have free space, but {storage} is full",
                "free some space, then run the same command again with --resume; every trial has its last checkpoint",
            ) from None
        raise


def check_storage(storage: Path, adapter_bytes: int, *, create: bool = True) -> None:
    """Check that the storage is writable and has space for the records; without `create`, leave no trace.

    Raises:
        UserError: it is not writable.
        InfrastructureError: it has too little free space.
    """
    try:
        if create:
            storage.mkdir(parents=True, exist_ok=True)
        where = next(path for path in (storage, *storage.parents) if path.exists())
        with tempfile.TemporaryFile(dir=where) as probe:
            probe.write(b"x")
        free = shutil.disk_usage(where).free
    except OSError as error:
        kind = InfrastructureError if error.errno in (errno.ENOSPC, errno.EDQUOT) else UserError
        raise kind(
            f"the storage must be writable, but {named(str(storage))} is not: {error.strerror}",
            "pass another --storage",
        ) from None
    needed = adapter_bytes * CHECKPOINT_FACTOR + RESERVE_BYTES
    if free < needed:
        raise InfrastructureError(
            f"the storage must have {needed / 1e6:,.0f} MB free, but {storage} has {free / 1e6:,.0f} MB",
            "free some space or pass another --storage",
        )
