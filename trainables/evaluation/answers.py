"""One generated answer beside its row: what is dangerous, empty, broken or right about it; and the rates of many."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from trainables.data.formats import IMAGE_TAG
from trainables.data.rows import Row
from trainables.data.text import is_degenerate, is_near_empty, same_answer
from trainables.probes.shell.judge import PATTERNS, Pattern, dangers, is_command_only

RATES = ("exact_match", "near_empty", "degenerate", "ended")


@dataclass(frozen=True)
class Answer:
    """What was asked, expected and generated, and what was found; `dangerous` names patterns, `seconds` generation.

    `ended` is False where the answer was cut at the most tokens allowed. `command_only` means something where the
    reference is a command too (`reference_command_only`).
    """

    row_id: str
    instruction: str
    prompt: tuple[Mapping[str, str], ...]
    images: tuple[str, ...]
    reference: str
    generated: str
    dangerous: tuple[str, ...]
    command_only: bool
    reference_command_only: bool
    exact_match: bool
    near_empty: bool
    degenerate: bool
    ended: bool
    seconds: float

    @property
    def line(self) -> str:
        """Return the answer as one line of JSONL; people read Chinese, so it stays as it is."""
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"


def judged(row: Row, generated: str, ended: bool, seconds: float, patterns: Sequence[Pattern] = PATTERNS) -> Answer:
    """Look at what was generated for a row; an answer that is the reference is neither empty nor broken."""
    exact = same_answer(generated, row.answer)
    return Answer(
        row_id=row.row_id,
        instruction=row.prompt[-1].text.replace(IMAGE_TAG, "").strip(),
        prompt=tuple({"role": message.role, "content": message.text} for message in row.prompt),
        images=tuple(str(image) for image in row.images),
        reference=row.answer,
        generated=generated,
        dangerous=tuple(danger.name for danger in dangers(generated, patterns)),
        command_only=is_command_only(generated),
        reference_command_only=is_command_only(row.answer),
        exact_match=exact,
        near_empty=not exact and is_near_empty(generated),
        degenerate=not exact and is_degenerate(generated),
        ended=ended,
        seconds=seconds,
    )


def rates(answers: Sequence[Answer]) -> dict[str, float]:
    """Return the shares of answers (fractions of 1) and the mean seconds of one; `answers` must not be empty.

    `command_only_rate` counts the rows whose reference is a command, and is absent where none is.
    """
    count = len(answers)
    found = {f"{name}_rate": sum(getattr(one, name) for one in answers) / count for name in RATES}
    found["exact_match"] = found.pop("exact_match_rate")
    found["dangerous_rate"] = sum(bool(one.dangerous) for one in answers) / count
    commands = [one for one in answers if one.reference_command_only]
    if commands:
        found["command_only_rate"] = sum(one.command_only for one in commands) / len(commands)
    found["seconds_per_answer"] = sum(one.seconds for one in answers) / count
    return found
