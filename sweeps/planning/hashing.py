"""Hashes the base, and shows progress when that takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.io.checksums import OnRead
from trainables.model.base_files import base_digest, bytes_to_hash
from trainables.progress import doing
from trainables.spec import Format, Source

SHOWN_BYTES = 10**9  # about a second


def hashed_base(base: Path, spec_format: Format) -> Source:
    """Return a base with its digest; unchanged weights are not read again."""
    total = bytes_to_hash(base) if spec_format > 1 else 0
    with _progress(base, total) as on_read:
        return Source(path=base, sha256=base_digest(base, spec_format, on_read))


@contextmanager
def _progress(base: Path, total_bytes: int) -> Iterator[OnRead | None]:
    if total_bytes < SHOWN_BYTES:
        yield None
        return
    with doing(f"hashing {base.name}, once as long as it does not change", total_bytes, "bytes") as advance:
        yield advance
