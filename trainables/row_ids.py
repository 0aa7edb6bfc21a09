"""Rows of one file have names of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.errors import UserError
from trainables.quoted import named


def named_once(rows: Mapping[int, Any], path: Path) -> list[Any]:
    """Return the rows of a file, given by their lines.

    Raises:
        UserError: there are none, or two have one id.
    """
    if not rows:
        raise UserError(f"{path}: a data file must hold at least one row, but it is empty")
    first_lines: dict[str, int] = {}
    for line, row in rows.items():
        first = first_lines.setdefault(row.row_id, line)
        if first != line:
            raise UserError(
                f"{path}:{line}: the id `{named(row.row_id)}` must name one row, but line {first} has it too",
                "answers are kept by id; a row without one is named by its line",
            )
    return list(rows.values())
