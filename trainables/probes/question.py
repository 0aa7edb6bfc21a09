"""What a probe asks: rows of the validation and out-of-distribution files as questions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainables.data.images import Crop
from trainables.data.ood import OodRow
from trainables.data.rows import Message, Row


@dataclass(frozen=True)
class Question:
    """One prompt put to the live model; equal questions of several probes are asked once."""

    key: str
    messages: tuple[Message, ...]
    images: tuple[Path, ...]
    crop: Crop | None = None


def ask_ood(row: OodRow) -> Question:
    """Make the question of an out-of-distribution row."""
    return Question(f"ood/{row.row_id}", row.messages, row.images)


def ask_validation(row: Row) -> Question:
    """Make the question of a validation row: its turns before the last answer."""
    return Question(f"validation/{row.row_id}", row.prompt, row.images)
