"""Canonical JSON, JSON objects with a checksum, and SHA-256 of files that is remembered between processes.

The digest of a large file is kept in the user's cache directory. It is used again while path, size, modification and
change time and inode are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainables.io.user_cache import cache_directory, keep

REMEMBERED_BYTES = 2**20  # smaller files are read each time
READ_BYTES = 8 * 2**20
MAX_THREADS = 4  # hashing releases the interpreter's lock
SETTLED_NANOSECONDS = 2 * 10**9  # a file that changed this recently may change again within one tick of its clock

OnRead = Callable[[int], None]  # is called with the number of bytes that were hashed


def canonical_json(values: Any) -> str:
    """Serialize `values` as deterministic JSON: sorted keys, no spaces, no NaN."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def with_checksum(body: Mapping[str, Any]) -> str:
    """Return `body` as one line of JSON with its CRC-32 under `crc32`."""
    return canonical_json({**body, "crc32": zlib.crc32(canonical_json(body).encode())})


def verified(line: bytes | str) -> dict[str, Any] | None:
    """Return what `with_checksum` wrote, without the checksum; None if it does not match."""
    try:
        body = json.loads(line)
        checksum = body.pop("crc32")
        if _is_as_written(line if isinstance(line, bytes) else line.encode(), checksum):
            return body
        actual = zlib.crc32(canonical_json(body).encode())
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
    return body if checksum == actual else None


def _is_as_written(line: bytes, checksum: object) -> bool:
    """True when a line without its checksum has that checksum; a nested `crc32` or other spaces do not say it has not.

    Serializing the body again, which says it in any case, takes as long as reading it.
    """
    before, found, after = line.partition(b'"crc32":%d' % checksum if isinstance(checksum, int) else b"\0")
    whole = before + after.removeprefix(b",") if after[:1] == b"," else before.removesuffix(b",") + after
    return bool(found) and zlib.crc32(whole) == checksum


# -------------------------------------------------------------------- digests of files
@dataclass(frozen=True)
class FileState:
    """What identifies the content of a file without reading it."""

    path: str
    size: int
    modified_ns: int
    changed_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Return the state of a file; links are followed."""
        real = path.resolve()
        found = real.stat()
        return cls(str(real), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def sha256_of_files(paths: Iterable[Path], on_read: OnRead | None = None) -> list[str]:
    """Return the SHA-256 of each file as hex digits; unchanged large files are not read again."""
    files = list(paths)
    threads = max(1, min(MAX_THREADS, os.cpu_count() or 1, len(files)))
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda path: _sha256(path, on_read), files))


def bytes_to_read(paths: Iterable[Path]) -> int:
    """Return how many bytes `sha256_of_files` would read."""
    states = [FileState.of(path) for path in paths]
    return sum(one.size for one in states if _remembered(one) is None)


def _sha256(path: Path, on_read: OnRead | None) -> str:
    before = FileState.of(path)
    known = _remembered(before)
    if known is not None:
        return known
    digest = _read_sha256(path, on_read)
    newest = max(before.modified_ns, before.changed_ns)
    if FileState.of(path) == before and abs(time.time_ns() - newest) > SETTLED_NANOSECONDS:
        _remember(before, digest)
    return digest


def _read_sha256(path: Path, on_read: OnRead | None) -> str:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(READ_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            if on_read is not None:
                on_read(count)
    return digest.hexdigest()


def _remembered(state: FileState) -> str | None:
    entry = _entry(state)
    if entry is None:
        return None
    try:
        kept = verified(entry.read_bytes())
    except OSError:
        return None
    return kept["sha256"] if kept and kept == {**asdict(state), "sha256": kept.get("sha256")} else None


def _remember(state: FileState, digest: str) -> None:
    entry = _entry(state)
    if entry is not None:
        keep(entry, with_checksum({**asdict(state), "sha256": digest}).encode())


def _entry(state: FileState) -> Path | None:
    """Return the file that keeps the digest of a large file; None for a small one, or without a home directory."""
    cache = cache_directory() if state.size >= REMEMBERED_BYTES else None
    name = hashlib.sha256(os.fsencode(state.path)).hexdigest()[:32]
    return cache / "sha256" / f"{name}.json" if cache else None
