"""Asks the base its general questions: it answers those that are open, and those that it gets wrong are left out.

What the base cannot do cannot be lost: such a row would say nothing about any adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.command import quieten_libraries
from trainables.data.ood import open_question
from trainables.errors import UserError
from trainables.probes.answer import NEW_TOKENS, OpenRow, ask, with_answers
from trainables.probes.question import ask_ood
from trainables.spec import Quantization

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class KeptRows:
    """The rows that remain, and how many were answered by the base, were answered wrongly, or got no whole answer."""

    rows: tuple[Mapping[str, Any], ...]
    answered: int = 0
    wrong: int = 0
    cut: int = 0


def with_base_answers(rows: Rows, file: Path, base: Path, quantization: Quantization) -> KeptRows:
    """Return the rows with the base's own greedy answers, in the quantization of the study.

    Raises:
        UserError: a row is broken, the base cannot be loaded, or no question remains.
    """
    questions = [open_question(row, file, line) for line, row in enumerate(rows, start=1)]
    text = [one for one in questions if one.kind == "text"]
    quieten_libraries()
    answers = ask(base, text, quantization, "auto", NEW_TOKENS)
    wrong, open_rows = 0, []
    for values, question in zip(rows, questions, strict=True):
        is_open = question.kind == "text" and values.get("expect") is None and question.accept is None
        known = question.kind == "text" and not is_open
        if known and not question.is_right(answers[ask_ood(question).key].text):
            wrong += 1
            continue
        open_rows.append(OpenRow(values, question if is_open else None))
    found = with_answers(open_rows, answers)
    if not any(row["kind"] == "text" for row in found.rows):
        raise UserError(
            f"the base must answer some of the {len(text):,} questions, but {wrong:,} of its answers are wrong and "
            f"{len(found.cut) + len(found.empty):,} are longer than {NEW_TOKENS} tokens or empty",
            "name easier questions with short answers: --keep FILE; or write them unasked: --no-answer",
        )
    return KeptRows(found.rows, found.answered, wrong, len(found.cut) + len(found.empty))
