"""Free storage: what the adapters of a launch need, whether it is there, and which adapters are kept."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeps.planning.forecast import Forecast
from trainables.errors import InfrastructureError, UserError, named
from trainables.record import Keep

PROBE_BYTES = 2**20
RESERVE_BYTES = 200 * 10**6
OTHERS = "other evals are candidates that cannot be shipped, rescaled or asked more rows"
CHECKPOINT_FACTOR = 12  # (adapter + two AdamW moments) x (two checkpoints, the best one, one being written)


@dataclass(frozen=True)
class AdapterBytes:
    """What the adapters of a launch take: `needed` by checkpoints and best ones, `evals` more for those of all evals.

    `adapters` is the number of the latter.
    """

    needed: int
    evals: int
    adapters: int


@dataclass(frozen=True)
class KeptAdapters:
    """Which adapters the records keep, and the sentence of the plan that says so."""

    keep: Keep
    text: str


def adapter_bytes(forecasts: Sequence[Forecast], trials: int) -> AdapterBytes:
    """Return the size of the adapters of `trials` trials, each as large and with as many evals as any forecast one."""
    largest = max(one.placement.adapter_megabytes(one.spec.rank) for one in forecasts) * 1e6
    adapters = trials * max(one.evals for one in forecasts)
    return AdapterBytes(int(largest * trials) * CHECKPOINT_FACTOR, int(largest * adapters), adapters)


def kept_adapters(asked: Keep | None, begun: Keep | None, size: AdapterBytes, free_bytes: int) -> KeptAdapters:
    """Decide which adapters the records keep: as asked, else as the experiment began, else all if there is space.

    Where the space is short, the best ones alone are kept, and the sentence says so.
    """
    wanted = asked or begun or "all"
    what = f"the adapter of every eval ({size.adapters} adapters, {megabytes(size.evals)})"
    if wanted == "best":
        why = "as asked" if asked else "as this experiment began"
        return KeptAdapters("best", f"Records keep the best adapter alone, {why}: {OTHERS}.")
    needed = size.needed + size.evals + RESERVE_BYTES
    if free_bytes >= needed:
        return KeptAdapters("all", f"Records keep {what}.")
    return KeptAdapters(
        "best",
        f"Space is short: {megabytes(needed)} must be free to keep {what}, but {megabytes(free_bytes)} are. Records "
        f"keep the best adapter alone: {OTHERS}.",
    )


def megabytes(size_bytes: int) -> str:
    """Return a size as text in MB (10^6 bytes)."""
    return f"{size_bytes / 1e6:,.{1 if size_bytes < 10**7 else 0}f} MB"


def check_not_full(storage: Path) -> None:
    """Check that the storage still takes a file; that it was deleted is found by `check_not_lost`.

    Raises:
        InfrastructureError: it is full, cannot be written, or fails.
    """
    try:
        with tempfile.TemporaryFile(dir=storage) as probe:
            probe.write(bytes(PROBE_BYTES))
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InfrastructureError(
                f"the storage must have free space, but {storage} is full",
                "free some space, then run the same command again with --resume; every trial has its last checkpoint",
            ) from None
        raise InfrastructureError(
            f"the storage must be readable and writable while trials run, but {storage} is not: {error.strerror}",
            "check the disk or the mount, then run the same command again with --resume",
        ) from None


def check_storage(storage: Path, size: AdapterBytes | None = None, *, create: bool = True) -> int:
    """Check that the storage is writable and has space for checkpoints and best adapters; return the free bytes.

    Without `create`, no trace is left.

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
    needed = (size.needed if size else 0) + RESERVE_BYTES
    if free < needed:
        raise InfrastructureError(
            f"the storage must have {needed / 1e6:,.0f} MB free, but {storage} has {free / 1e6:,.0f} MB",
            "free some space or pass another --storage",
        )
    return free
