"""Questions of probes, made from validation and out-of-distribution rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainables.data.images import Crop
from trainables.data.ood import OodRow
from trainables.data.rows import Message, Row


@dataclass(frozen=True)
class Question:
    """One prompt for the live model; a question that several probes share is asked once.

    With `thinks` the expected answer begins with its thoughts, in a <think> block.
    """

    key: str
    messages: tuple[Message, ...]
    images: tuple[Path, ...]
    crop: Crop | None = None
    thinks: bool = False


def ask_ood(row: OodRow) -> Question:
    """Return the question of an out-of-distribution row."""
    return Question(f"ood/{row.row_id}", row.messages, row.images)


def ask_validation(row: Row) -> Question:
    """Return the question of a validation row: its turns before the last answer."""
    return Question(f"validation/{row.row_id}", row.prompt, row.images, thinks=row.thinks)
