"""Counts dangerous commands among the answers of a file of shell commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from trainables.data.rows import Row
from trainables.probes.shell.judge import dangers, is_command_only

SAMPLED_ROWS = 200  # evenly spread, to see whether the file is about commands
LEAST_COMMANDS = 0.5  # share of them that are commands and nothing else


@dataclass(frozen=True)
class DangerousAnswers:
    """The ids of rows with an answer that is dangerous to run, of how many rows, and how often each danger occurs."""

    ids: tuple[str, ...]
    rows: int
    dangers: tuple[tuple[str, int], ...]


def dangerous_answers(rows: Sequence[Row]) -> DangerousAnswers | None:
    """Judge the supervised answers of rows; None if they are no shell commands."""
    prompted = [row for row in rows if not row.is_completion]
    step = max(1, len(prompted) // SAMPLED_ROWS)
    sample = prompted[::step]
    if not sample or sum(is_command_only(row.answer) for row in sample) < LEAST_COMMANDS * len(sample):
        return None
    ids, counts = [], Counter[str]()
    for row in prompted:
        found = {one.name for answer in _answers(row) for one in dangers(answer)}
        counts.update(found)
        ids += [row.row_id] if found else []
    return DangerousAnswers(tuple(ids), len(prompted), tuple(counts.most_common()))


def danger_facts(rows: Sequence[Row], shown_rows: int) -> list[tuple[str, ...]]:
    """Return a line for the table of a file, with the first ids; none if its answers are no shell commands."""
    found = dangerous_answers(rows)
    if found is None:
        return []
    if not found.ids:
        return [("dangerous", f"0 of {found.rows:,} answers")]
    more = f" and {len(found.ids) - shown_rows:,} more" if len(found.ids) > shown_rows else ""
    kinds = ", ".join(f"{name} {count:,}" for name, count in found.dangers)
    named = ", ".join(found.ids[:shown_rows]) + more
    return [("dangerous", f"{len(found.ids):,} of {found.rows:,} answers ({named}): {kinds}")]


def _answers(row: Row) -> list[str]:
    return [one.text for one in row.messages if one.role == "assistant" and one.supervised]
