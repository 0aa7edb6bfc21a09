"""Questions of probes, made from validation and out-of-distribution rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    return Question(ood_key(row.row_id), row.messages, row.images)


def ask_validation(row: Row) -> Question:
    """Return the question of a validation row: its turns before the last answer."""
    return Question(validation_key(row.row_id), row.prompt, row.images, thinks=row.thinks)


def ood_key(row_id: str) -> str:
    """Return the key of the question of an out-of-distribution row."""
    return f"ood/{row_id}"


def validation_key(row_id: str) -> str:
    """Return the key of the question of a validation row."""
    return f"validation/{row_id}"


def answers_in(samples: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the answers among the samples of a record, by question key."""
    return {_sample_key(one["row"], one["kind"]): one["answer"] for one in samples}


def _sample_key(row: str, kind: str) -> str:
    if kind == "crop":
        return row  # questions about crops have no row of their own
    return validation_key(row) if kind == "validation" else ood_key(row)
