"""Which files of an adapter directory are still those its manifest tells of, wherever the directory was copied to.

What a trial resumes from must be whole to the last file (`record.is_whole`). An adapter that was handed on need not:
its optimizer stays behind, a tokenizer or a `.gitattributes` comes along.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from trainables.io.files import RecordDamaged, read_json
from trainables.record import MANIFEST


@dataclass(frozen=True)
class Kept:
    """The files a manifest tells of: how many are as it says, which are others, not there, or needed and not told of.

    `broken` says why the manifest cannot be read; nothing else is known then.
    """

    same: int = 0
    differing: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    broken: str | None = None


def kept_files(directory: Path, needed: tuple[str, ...]) -> Kept | None:
    """Hold the files of a directory against its manifest, which must tell of the `needed` ones.

    None where there is no manifest, or one of another tool: those keep no digests by name under `sha256`.
    """
    if not (directory / MANIFEST).is_file():
        return None
    try:
        values = read_json(directory / MANIFEST)
    except RecordDamaged as error:
        return Kept(broken=error.message)
    told = values.get("sha256") if isinstance(values, dict) else None
    if not isinstance(told, dict):
        return None
    there = {name: digest for name, digest in told.items() if (directory / name).is_file()}
    differing = sorted(name for name, digest in there.items() if _digest(directory / name) != digest)
    return Kept(
        same=len(there) - len(differing),
        differing=tuple(differing),
        absent=tuple(sorted(set(told) - set(there))),
        unlisted=tuple(name for name in needed if name not in told),
    )


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
