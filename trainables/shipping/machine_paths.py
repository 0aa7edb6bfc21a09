"""Finds paths of this machine in the files of a directory."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

TEXTS = (".json", ".md", ".txt", ".jinja", ".yaml")
VOCABULARIES = ("tokenizer", "vocab", "merges", "added_tokens")  # whose entries may look like paths
ABSOLUTE = re.compile(r"(?<![\w/:.<])/[\w.~+@-]+(?:/[\w.~+@-]+)+")


def machine_paths_in(directory: Path, known: Iterable[Path]) -> dict[str, str]:
    """Return the first path of this machine in each file, by the file's name; empty if there is none.

    Args:
        directory: whose files are read, weights included.
        known: directories and files of this machine that no file may name, for example that of the record. Texts must
            not name any other absolute path that exists here either.
    """
    names = [str(path) for path in known if len(path.parts) > 1]
    found = {}
    for file in sorted(path for path in directory.rglob("*") if path.is_file()):
        path = _first_known(file, names) or (_first_existing(file) if _is_text(file) else None)
        if path:
            found[file.relative_to(directory).as_posix()] = path
    return found


def _is_text(file: Path) -> bool:
    return file.suffix in TEXTS and not file.name.startswith(VOCABULARIES)


def _first_known(file: Path, names: Iterable[str]) -> str | None:
    content = file.read_bytes()
    return next((name for name in names if name.encode() in content), None)


def _first_existing(file: Path) -> str | None:
    found = ABSOLUTE.findall(file.read_text(encoding="utf-8", errors="replace"))
    return next((path for path in found if Path(path).exists()), None)
