"""Reads and writes text and JSON files; writes are atomic: after a crash a file is either complete or absent."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from trainables.errors import ExitCode, UserError


class FileDamaged(UserError):
    """A file written by this project is damaged; its contents are never guessed."""

    exit_code = ExitCode.RECORD_DAMAGED


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: temporary name, sync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, values: Any) -> None:
    """Write `values` atomically as indented JSON."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileDamaged: the file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FileDamaged(f"{path}: a file must hold the JSON that was written, but {error}") from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def replace_directory(temporary: Path, target: Path) -> None:
    """Replace `target` by a complete directory; `target` is absent only between two renames."""
    for path in (*temporary.rglob("*"), temporary):
        _sync(path)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    shutil.rmtree(old, ignore_errors=True)
