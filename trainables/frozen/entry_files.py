"""Kept activations in files: one checksummed file a row, in a directory that all engines of a node share.

A file is written once, under a temporary name, by whoever comes first; it is never changed, so it can be mapped into
memory. Its header holds the keys and a checksum: a file that is damaged, or that belongs elsewhere, counts as missing.
The lock on the directory is held while a file is counted and written, and never while activations are computed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from trainables.frozen.entry_memory import Entry
from trainables.frozen.facts import bytes_of
from trainables.io.files import FileDamaged, read_json

SUFFIX, TEMPORARY = ".safetensors", ".writing"
LOCK, COUNT, STAMP = "lock", "bytes.json", "read"
STALE_SECONDS, STAMP_SECONDS = 3600.0, 60.0


class EntryFiles:
    """The files below `directory`, of at most `most_bytes` in all, whichever process wrote them.

    When they are full, trunks that no process has read for an hour give way, the oldest first. A directory that cannot
    be written keeps nothing more; `problem` then says why.
    """

    def __init__(self, directory: Path, most_bytes: int) -> None:
        self.directory, self.most_bytes = directory, most_bytes
        self.problem = ""
        self._stamped: dict[str, float] = {}
        self._begin()

    def read(self, trunk: str, row: str) -> Entry | None:
        """Return an entry, mapped from its file; None if there is none, or it is not what was written."""
        self._stamp(trunk)
        try:
            with safe_open(self._path(trunk, row), framework="pt") as file:
                described = file.metadata() or {}
                entry = tuple(file.get_tensor(str(number)) for number in range(len(file.keys())))
        except (OSError, SafetensorError):
            return None
        return entry if described == _described(trunk, row, entry) else None

    def read_ahead(self, trunk: str, row: str) -> None:
        """Ask the system to read a file that will be needed soon; returns at once."""
        if not hasattr(os, "posix_fadvise"):
            return
        with suppress(OSError):
            descriptor = os.open(self._path(trunk, row), os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)

    def write(self, trunk: str, row: str, entry: Entry) -> Entry:
        """Keep an entry if there is room; return the one to use: another process's, if it was the first."""
        content = save({str(number): one for number, one in enumerate(entry)}, _described(trunk, row, entry))
        path = self._path(trunk, row)
        try:
            with self._locked():
                if path.exists() and (theirs := self.read(trunk, row)) is not None:
                    return theirs
                before = path.stat().st_size if path.exists() else 0
                if not self._has_room(trunk, len(content) - before):
                    return entry
                path.parent.mkdir(exist_ok=True)
                temporary = path.with_suffix(TEMPORARY)
                temporary.write_bytes(content)
                temporary.replace(path)
                self._count(self._counted() + len(content) - before)
        except OSError as error:
            self.problem = f"{path.parent}: {error.strerror}"
        return entry

    def _path(self, trunk: str, row: str) -> Path:
        return self.directory / trunk / f"{row}{SUFFIX}"

    def _begin(self) -> None:
        """Count the files, and remove what a killed process left; only a holder of the lock has temporary files."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with self._locked():
                for left in self.directory.glob(f"*/*{TEMPORARY}"):
                    left.unlink(missing_ok=True)
                self._count(sum(one.stat().st_size for one in self.directory.glob(f"*/*{SUFFIX}")))
        except OSError as error:
            self.problem = f"{self.directory}: {error.strerror}"

    # ---------------------------------------------------------------- the size of all files, with the lock held
    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _has_room(self, trunk: str, size: int) -> bool:
        while self._counted() + size > self.most_bytes:
            if (oldest := self._oldest_stale(trunk)) is None:
                return False
            freed = sum(one.stat().st_size for one in oldest.glob(f"*{SUFFIX}"))
            shutil.rmtree(oldest, ignore_errors=True)
            if oldest.exists():
                return False
            self._count(self._counted() - freed)
        return True

    def _oldest_stale(self, trunk: str) -> Path | None:
        read_at = {
            one: (one / STAMP).stat().st_mtime if (one / STAMP).exists() else one.stat().st_mtime
            for one in self.directory.iterdir()
            if one.is_dir() and one.name != trunk
        }
        oldest = min(read_at, key=read_at.__getitem__, default=None)
        return oldest if oldest is not None and time.time() - read_at[oldest] > STALE_SECONDS else None

    def _counted(self) -> int:
        try:
            return int(read_json(self.directory / COUNT)["bytes"])
        except (FileDamaged, KeyError, TypeError, ValueError):
            return sum(one.stat().st_size for one in self.directory.glob(f"*/*{SUFFIX}"))

    def _count(self, size: int) -> None:
        temporary = self.directory / f"{COUNT}{TEMPORARY}"
        temporary.write_text(f'{{"bytes": {size}}}\n', encoding="ascii")
        temporary.replace(self.directory / COUNT)

    def _stamp(self, trunk: str) -> None:
        """Say that a trunk is in use, so that it does not give way to another."""
        now = time.time()
        if now - self._stamped.get(trunk, 0.0) > STAMP_SECONDS:
            self._stamped[trunk] = now
            with suppress(OSError):
                (self.directory / trunk).mkdir(exist_ok=True)
                (self.directory / trunk / STAMP).touch()


def _described(trunk: str, row: str, entry: Entry) -> dict[str, str]:
    digest = sha256()
    for one in entry:
        digest.update(f"{one.dtype} {list(one.shape)}".encode())
        digest.update(bytes_of(one))
    return {"trunk": trunk, "row": row, "sha256": digest.hexdigest()}
