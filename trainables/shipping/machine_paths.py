"""Finds paths of this machine in the files of a directory."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

TEXTS = (".json", ".md", ".txt", ".jinja", ".yaml")
TOKENIZERS = ("tokenizer", "vocab", "merges", "added_tokens")  # files with settings or entries that look like paths
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json")
WEIGHTS = ".safetensors"
HEADER_BYTES = 8  # the length of the header of a safetensors file, before it
ABSOLUTE = re.compile(r"(?<![\w/:.<])/[\w.~+@-]+(?:/[\w.~+@-]+)+")


def machine_paths_in(directory: Path, known: Iterable[Path]) -> dict[str, str]:
    """Return the first path of this machine in each file, by the file's name; empty if there is none.

    Args:
        directory: whose texts are read, and the headers of its weights. A vocabulary holds what the base was trained
            with, and weights are numbers: both may hold the bytes of any short path.
        known: directories and files of this machine that no file may name, for example that of the record. Texts must
            not name any other absolute path that exists here either.
    """
    wanted = [_pattern(path) for path in known if len(path.parts) > 1]
    found = {}
    for file in sorted(path for path in directory.rglob("*") if path.is_file()):
        text = _text(file)
        path = _first_known(text, wanted) or (None if file.name.startswith(TOKENIZERS) else _first_existing(text))
        if path:
            found[file.relative_to(directory).as_posix()] = path
    return found


def _text(file: Path) -> str:
    if file.suffix == WEIGHTS:
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(HEADER_BYTES), "little")
            return opened.read(min(size, file.stat().st_size)).decode("utf-8", errors="replace")
    if file.suffix not in TEXTS or file.name in VOCABULARIES:
        return ""
    return file.read_text(encoding="utf-8", errors="replace")


def _pattern(path: Path) -> re.Pattern[str]:
    """Return a pattern of a path and of what lies below it, but not of a longer name or of a part of another path."""
    return re.compile(rf"(?<![\w.<~+@}}-]){re.escape(str(path))}(?![\w~+@-]|\.\w)")


def _first_known(text: str, wanted: Iterable[re.Pattern[str]]) -> str | None:
    return next((found.group() for one in wanted if (found := one.search(text))), None)


def _first_existing(text: str) -> str | None:
    return next((path for path in ABSOLUTE.findall(text) if Path(path).exists()), None)
