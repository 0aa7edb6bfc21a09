"""The manifest of a saved directory: the hash of each of its files, written last."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from trainables.io.files import FileDamaged, read_json

MANIFEST = "manifest.json"


def is_whole(directory: Path) -> bool:
    """True when `directory` has a manifest that lists exactly its files, with their checksums."""
    try:
        expected = read_json(directory / MANIFEST)["sha256"]
        return expected == digests_in(directory)
    except (OSError, FileDamaged, KeyError, TypeError):
        return False


def digests_in(directory: Path) -> dict[str, str]:
    """Return the hash of each file in `directory`, except its manifest."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {str(path.relative_to(directory)): sha256(path.read_bytes()).hexdigest() for path in files}
