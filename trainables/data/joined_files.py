"""Finds the files that a data path names: a file, an entry of a table, or several of them joined by commas.

The rows of joined files follow one another. Their ids begin with the name of their file, so that rows without an id, or
files that number their rows alike, stay apart.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from trainables.data.dataset_info import DataFile, locate
from trainables.errors import UserError


def locate_all(path: Path) -> tuple[DataFile, ...]:
    """Resolve `path`: a data file, an entry `TABLE.json:NAME`, or several of them joined by commas.

    Raises:
        UserError: as `locate`.
    """
    parts = joined(path)
    if len(parts) == 1:
        return (locate(parts[0]),)
    names = [str(part).rpartition(":")[2] if is_entry(part) else part.stem for part in parts]
    seen: Counter[str] = Counter()
    found = []
    for part, name in zip(parts, names, strict=True):
        seen[name] += 1
        prefix = f"{name}:" if seen[name] == 1 else f"{name}-{seen[name]}:"
        found.append(replace(locate(part), prefix=prefix))
    return tuple(found)


def joined(path: Path) -> tuple[Path, ...]:
    """Split `a.jsonl,b.jsonl` into its paths; a name after an entry of a table is another entry of it.

    Raises:
        UserError: a name is empty, or named twice.
    """
    if "," not in str(path) or path.exists():
        return (path,)
    parts: list[Path] = []
    for word in (word.strip() for word in str(path).split(",")):
        if not word:
            raise UserError(f"files joined by commas must all be named, but `{path}` has an empty name")
        further = bool(parts) and is_entry(parts[-1]) and not is_entry(Path(word)) and not Path(word).exists()
        parts.append(Path(f"{str(parts[-1]).rpartition(':')[0]}:{word}" if further else word))
    twice = [str(part) for part, count in Counter(parts).items() if count > 1]
    if twice:
        raise UserError(f"files joined by commas must differ, but `{twice[0]}` is named twice", "name it once")
    return tuple(parts)


def absolute(path: Path) -> Path:
    """Return `path` with every file in it made absolute."""
    return Path(",".join(str(part.expanduser().resolve()) for part in joined(path)))


def is_entry(path: Path) -> bool:
    """Return True if `path` names an entry of a table, `TABLE.json:NAME`."""
    return ".json:" in str(path) and not path.exists()
