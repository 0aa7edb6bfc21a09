"""Splits validation rows off training rows: one in ten, and no question is on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from trainables.data.duplicates import folded
from trainables.data.rows import Row
from trainables.errors import UserError

SPLIT_OFF_OF, MOST, LEAST_ROWS = 10, 200, 20  # an eval asks them all; beyond 200 they cost more than they tell


def split(rows: Sequence[Row], path: Path) -> tuple[list[Row], list[Row]]:
    """Return training and validation rows; the same rows give the same split.

    Raises:
        UserError: there are too few rows with a question, or all have the same question.
    """
    asked = [row for row in rows if not row.is_completion]
    if len(asked) < LEAST_ROWS:
        without = len(rows) - len(asked)
        texts = f" ({without:,} more are texts without a question)" if without else ""
        raise UserError(
            f"{path}: validation rows are split off {LEAST_ROWS} rows with a question or more, but there are "
            f"{len(asked)}{texts}",
            "add rows, or name validation rows with --val",
        )
    groups: dict[str, list[Row]] = {}
    for row in asked:
        groups.setdefault(_question(row), []).append(row)
    if len(groups) < 2:
        raise UserError(f"{path}: rows must have different questions to be split, but all {len(asked):,} have the same",
                        "name validation rows with --val")  # fmt: skip
    wanted = max(1, min(MOST, len(asked) // SPLIT_OFF_OF))
    chosen: set[str] = set()
    for row in _taken(groups, wanted):
        chosen.add(row.row_id)
    return [row for row in rows if row.row_id not in chosen], [row for row in rows if row.row_id in chosen]


def _taken(groups: dict[str, list[Row]], wanted: int) -> list[Row]:
    """Return whole groups in an order without meaning, small ones first where a large one would be too much."""
    ordered = sorted(groups, key=lambda question: sha256(question.encode()).hexdigest())
    taken: list[Row] = []
    for question in ordered:
        if len(taken) + len(groups[question]) <= wanted:
            taken += groups[question]
    return taken or min(groups.values(), key=len)


def _question(row: Row) -> str:
    return "\n".join((*(folded(message.text) for message in row.prompt), *map(str, row.images)))
