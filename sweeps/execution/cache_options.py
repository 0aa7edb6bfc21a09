"""Reads --cache and --cache-gb: where engines keep what frozen layers compute."""

from __future__ import annotations

import tempfile
from pathlib import Path

from trainables.errors import UserError, named
from trainables.frozen.settings import GIGABYTE, IN_MEMORY, OFF, CacheSettings
from trainables.local_paths import local_path

DEFAULT_GIGABYTES = 20.0


def cache_settings(directory: str, gigabytes: float) -> CacheSettings:
    """Return the settings of --cache and --cache-gb; leaves nothing behind.

    Raises:
        UserError: --cache-gb is not positive, or the directory is a file or cannot be written.
    """
    if not 0 < gigabytes < float("inf"):
        raise UserError(f"--cache-gb must be a positive number, but got {gigabytes:g}", "for example --cache-gb 20")
    if directory in ("", "off"):
        return OFF if directory else IN_MEMORY
    path = local_path(Path(directory), "--cache").expanduser().absolute()
    _check_writable(path)
    return CacheSettings(directory=str(path), file_bytes=int(gigabytes * GIGABYTE))


def _check_writable(path: Path) -> None:
    existing = next(one for one in (path, *path.parents) if one.exists())
    if not existing.is_dir():
        raise UserError(
            f"--cache must be a directory, but {named(str(existing))} is a file",
            "name a directory; it is created if it does not exist",
        )
    try:
        with tempfile.TemporaryFile(dir=existing):  # permissions say nothing of /proc, or of a file system without room
            pass
    except OSError as error:
        raise UserError(
            f"--cache must be a directory that can be written, but {named(str(existing))} cannot: {error.strerror}",
            "name another directory; --cache off keeps nothing, and without --cache activations are kept in memory",
        ) from None
