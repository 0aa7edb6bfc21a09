"""Checks one generated answer (dangerous, near-empty, degenerate, correct) and computes rates over many."""

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
    """A row, its generated answer and the results of the checks.

    `dangerous` are the names of matching patterns, `seconds` is the duration of generation. `ended` is False if the
    answer was cut at the token limit. `command_only` is meaningful only if the reference is a command too
    (`reference_command_only`).
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
        """Return the answer as one line of JSONL, in which only control characters are escaped."""
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"


def judged(row: Row, generated: str, ended: bool, seconds: float, patterns: Sequence[Pattern] = PATTERNS) -> Answer:
    """Check the generated answer of a row; an answer equal to the reference is never near-empty or degenerate."""
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
    """Return the shares of answers (fractions of 1) and the mean seconds per answer; `answers` must not be empty.

    `command_only_rate` is the share among rows whose reference is a command; it is absent if there are none.
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
