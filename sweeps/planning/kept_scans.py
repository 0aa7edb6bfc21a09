"""Keeps the scans of data in the user's cache directory, so that a launch does not repeat the scan of its plan.

A scan follows from the contents of the files, the date that the chat template shows, this project's code and the
libraries that encode rows. The name of a kept scan is the digest of all of these.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from sweeps.planning.sources import Sources
from trainables.code_digest import code_digest
from trainables.data.scan import Scan, scan, scan_result
from trainables.io.checksums import canonical_json
from trainables.io.user_cache import cache_directory, keep
from trainables.progress import doing
from trainables.spec import Source

LIBRARIES = ("transformers", "tokenizers", "jinja2", "torch", "pillow", "numpy")
MOST_SCANS = 16  # a scan takes some 50 bytes per row


@cache  # several stages may read the same rows; sources are equal when their content is
def scan_once(sources: Sources, replays: tuple[Source, ...] = ()) -> Scan:
    """Scan the files of a study, and of replay rows, or return the kept scan of the same contents.

    Raises:
        UserError: as `scan`.
    """
    entry = _entry(sources, replays)
    kept = _kept(entry) if entry else None
    if kept is not None:
        return kept
    base, train, validation, ood = (one.path for one in sources.files)
    with doing(f"encoding {sources.train_rows:,} training rows and the other rows, once as long as they do not change"):
        found = scan(base, train, validation, ood, sources.template_date, [one.path for one in replays])
    # the reason why a row cannot be encoded may name a path, which is not part of the entry's name
    if entry and not any(row.problem for row in chain(found.train, found.validation, found.ood, found.replay)):
        keep(entry, gzip.compress(json.dumps(asdict(found)).encode(), compresslevel=1))
        _remove_oldest(entry.parent)
    return found


def _entry(sources: Sources, replays: tuple[Source, ...]) -> Path | None:
    directory = cache_directory()
    if directory is None:
        return None
    parts = {
        "files": [one.sha256 for one in (*sources.files, *replays)],
        "template_date": sources.template_date.isoformat() if sources.template_date else None,
        "code": code_digest(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    return directory / "scans" / f"{hashlib.sha256(canonical_json(parts).encode()).hexdigest()}.json.gz"


def _kept(entry: Path) -> Scan | None:
    """Return a kept scan; None if there is none, or if its file is damaged."""
    try:
        found = scan_result(gzip.decompress(entry.read_bytes()))
    except (OSError, EOFError, zlib.error, ValidationError):
        return None
    if not isinstance(found, Scan):
        return None
    with suppress(OSError):
        os.utime(entry)  # what was used last is removed last
    return found


def _remove_oldest(directory: Path) -> None:
    with suppress(OSError):  # another process may remove the same files
        newest_first = sorted(directory.glob("*.json.gz"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in newest_first[MOST_SCANS:]:
            path.unlink(missing_ok=True)
