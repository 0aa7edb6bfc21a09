"""Writes a copy of a data file whose conversations without a system turn start with a given one.

The copy lies in `<12 hex digits>/rows.jsonl`; the name is a hash of its content, and image paths in it are absolute.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from trainables.data.filtered_file import ROWS, as_jsonl
from trainables.data.formats import Message
from trainables.data.picture_places import check_places
from trainables.data.rows import Row, read_rows
from trainables.io.files import write_text

SYSTEM = "system"


def with_system_turn(row: Row, text: str) -> Row:
    """Return the row with `text` as its first turn, unless it has a system turn or is a text without turns."""
    if row.is_completion or any(message.role == SYSTEM for message in row.messages):
        return row
    return replace(row, messages=(Message(SYSTEM, text), *row.messages))


def write_with_system_turn(path: Path, text: str, directory: Path) -> Path:
    """Write the rows of `path` with the system turn `text` below `directory`, and return the file.

    Raises:
        UserError: a row of `path` is broken, or its picture lies elsewhere.
    """
    rows = read_rows(path)
    check_places(path, rows)
    content = as_jsonl(with_system_turn(row, text) for row in rows)
    out = directory / sha256(content.encode()).hexdigest()[:12] / ROWS
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, content)
    return out
