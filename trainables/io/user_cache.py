"""The directory in which results are kept between processes: `$XDG_CACHE_HOME/footprint` or `~/.cache/footprint`."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import NamedTemporaryFile


def cache_directory() -> Path | None:
    """Return the directory, which need not exist; None for a user without a home directory."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():  # the XDG specification ignores relative paths
        return given / "footprint"
    try:
        return Path.home() / ".cache" / "footprint"
    except RuntimeError:
        return None


def keep(entry: Path, content: bytes) -> None:
    """Write a file of the cache atomically; a cache that cannot be written costs time only."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=entry.parent, prefix=".", delete=False) as file:
            file.write(content)
        Path(file.name).replace(entry)
    except OSError:
        return
