"""Compares the files of an adapter directory with its manifest.

A checkpoint to resume from must have every file (`record.is_whole`). A copied adapter need not: the optimizer may be
missing, and a tokenizer or a `.gitattributes` may have been added.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from trainables.io.files import FileDamaged, read_json
from trainables.io.manifest import MANIFEST


@dataclass(frozen=True)
class ManifestCheck:
    """Files of a manifest: how many match it, and which differ, are absent, or are needed but not listed.

    `broken` is the reason why the manifest cannot be read; the other fields are then empty.
    """

    same: int = 0
    differing: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    broken: str | None = None


def check_manifest(directory: Path, needed: tuple[str, ...]) -> ManifestCheck | None:
    """Compare the files of a directory with its manifest, which must list the `needed` ones.

    Returns None if there is no manifest, or if it is from another tool and has no digests by name under `sha256`.
    """
    if not (directory / MANIFEST).is_file():
        return None
    try:
        values = read_json(directory / MANIFEST)
    except FileDamaged as error:
        return ManifestCheck(broken=error.message)
    listed = values.get("sha256") if isinstance(values, dict) else None
    if not isinstance(listed, dict):
        return None
    present = {name: digest for name, digest in listed.items() if (directory / name).is_file()}
    differing = sorted(name for name, digest in present.items() if _digest(directory / name) != digest)
    return ManifestCheck(
        same=len(present) - len(differing),
        differing=tuple(differing),
        absent=tuple(sorted(set(listed) - set(present))),
        unlisted=tuple(name for name in needed if name not in listed),
    )


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
