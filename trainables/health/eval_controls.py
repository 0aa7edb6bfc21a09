"""Controls of an eval: rows and adapters whose score is known in advance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch

from trainables.data.formats import IMAGE_TAG
from trainables.data.rows import Message, Row
from trainables.data.text import normalized, same_answer
from trainables.health.checks import Finding
from trainables.probes.probe import Baseline, ProbeData
from trainables.probes.question import Question, ask_validation

if TYPE_CHECKING:
    from trainables.model.lora import Adapter


CONTROL_ROWS = 8


NULL_SEED = 20_261_121


@dataclass(frozen=True)
class EvalControlLimits:
    """The thresholds of the controls; shares are fractions of rows, a gain is exact match above the baseline's."""

    min_exact_match_judged: float = 0.25
    max_shuffled_share_of_exact: float = 0.5
    max_nonsense_match: float = 0.5
    min_distinct_references: int = 4
    min_gain_judged: float = 0.25
    max_null_share_of_gain: float = 0.5
    min_null_gain_rows: int = 3


LIMITS = EvalControlLimits()


class Asked(Protocol):
    """What the controls ask: the rows of the fixed evals, and a way to have questions answered."""

    @property
    def data(self) -> ProbeData:
        """Return the rows of the fixed evals."""
        ...

    def ask(self, questions: Sequence[Question]) -> dict[str, str]:
        """Answer questions the way the eval's own are answered; returns answers by question key."""
        ...


def judge_shuffled(
    step: int, data: ProbeData, answers: Mapping[str, str], exact_match: float, limits: EvalControlLimits = LIMITS
) -> Finding | None:
    """Score the answers against other rows' references; the score must drop, else it measures nothing."""
    wrong = _others(data.validation)
    if not wrong or exact_match < limits.min_exact_match_judged:
        return None
    hits = sum(same_answer(answers[ask_validation(row).key], other) for row, other in wrong) / len(wrong)
    if hits <= limits.max_shuffled_share_of_exact * exact_match:
        return None
    evidence = f"exact match {exact_match:.2f} with the references, {hits:.2f} with other rows' references"
    return Finding("shuffled_labels", "invalid", step, evidence)


def nonsense(data: ProbeData) -> list[tuple[Question, Row]]:
    """Make questions that no model can answer from: the prompt backwards and no picture, for the first few rows."""
    return [
        (Question(f"nonsense/{row.row_id}", (Message("user", _backwards(row)),), ()), row)
        for row in data.validation[:CONTROL_ROWS]
    ]


def judge_nonsense(step: int, evaluator: Asked, limits: EvalControlLimits = LIMITS) -> Finding | None:
    """Ask nonsense through the eval's own path; reference answers must not come back, else they were not generated."""
    asked = nonsense(evaluator.data)
    if len({normalized(row.answer) for _, row in asked}) < limits.min_distinct_references:
        return None
    answers = evaluator.ask([question for question, _ in asked])
    hits = sum(same_answer(answers[question.key], row.answer) for question, row in asked) / len(asked)
    if hits <= limits.max_nonsense_match:
        return None
    evidence = f"{hits:.0%} of {len(asked)} nonsense questions without a picture got their row's reference answer"
    return Finding("nonsense_prompts", "invalid", step, evidence)


@dataclass(frozen=True)
class ExactRows:
    """How many of `rows` validation rows are answered exactly: by the trained adapter, a random one, the base alone."""

    rows: int
    trained: int
    null: int
    baseline: int


@contextmanager
def randomized(adapter: Adapter) -> Iterator[None]:
    """Replace every trained tensor by noise of the same root mean square, and restore it bit for bit afterwards.

    The noise has its own generator, so that the control does not change what a trial draws.
    """
    generator = torch.Generator().manual_seed(NULL_SEED)
    kept = [(parameter, parameter.detach().clone()) for _, parameter in adapter.trained()]
    try:
        with torch.no_grad():
            for parameter, tensor in kept:
                size = float(tensor.float().square().mean().sqrt())
                parameter.copy_(size * torch.randn(tensor.shape, generator=generator))
        yield
    finally:
        with torch.no_grad():
            for parameter, tensor in kept:
                parameter.copy_(tensor)


def judge_null(
    step: int, evaluator: Asked, adapter: Adapter, answers: Mapping[str, str], baseline: Baseline
) -> Finding | None:
    """Ask a random adapter through the eval's own path; if it scores as well, training did not earn the score.

    `answers` are the trained adapter's. Rows that it answered exactly are asked first, a few; only when noise answers
    those too are all rows asked, for on them alone the baseline's exact match is known.
    """
    rows = evaluator.data.validation
    exact = [row for row in rows if same_answer(answers[ask_validation(row).key], row.answer)]
    found = ExactRows(len(rows), len(exact), len(exact), round(baseline.metrics["exact_match"] * len(rows)))
    if judge_exact(step, found) is None:
        return None  # not even a random adapter that answers as the trained one does would be accused
    with randomized(adapter):
        few = exact[:CONTROL_ROWS]
        if _exactly(evaluator, few) <= LIMITS.max_null_share_of_gain * len(few):
            return None
        return judge_exact(step, replace(found, null=_exactly(evaluator, rows)))


def judge_exact(step: int, found: ExactRows, limits: EvalControlLimits = LIMITS) -> Finding | None:
    """Fail a score if a random adapter reaches too large a share of its gain over the base."""
    gain, null_gain = found.trained - found.baseline, found.null - found.baseline
    if found.trained < limits.min_exact_match_judged * found.rows or gain < limits.min_gain_judged * found.rows:
        return None
    # on a few rows, noise may turn one or two of the base's answers right
    if null_gain <= limits.max_null_share_of_gain * gain or null_gain < limits.min_null_gain_rows:
        return None
    counts = f"the trained adapter {found.trained}, the base alone {found.baseline}"
    evidence = f"a random adapter as large answers {found.null} of {found.rows} validation rows exactly, {counts}"
    return Finding("null_model", "invalid", step, evidence)


def judge_bare(step: int, model: torch.nn.Module) -> Finding | None:
    """Make sure the baseline is the base alone: no module of it may carry LoRA."""
    carrying = [name for name, _ in model.named_modules() if name.endswith(("lora_A", "lora_B"))]
    if not carrying:
        return None
    evidence = f"the baseline measures the base alone, but {len(carrying) // 2} modules carry LoRA: {carrying[0]}"
    return Finding("baseline_adapted", "invalid", step, evidence)


def _others(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    pairs = []
    for index, row in enumerate(rows):
        following = (*rows[index + 1 :], *rows[:index])
        other = next((one.answer for one in following if not same_answer(one.answer, row.answer)), None)
        if other is not None:
            pairs.append((row, other))
    return pairs


def _exactly(evaluator: Asked, rows: Sequence[Row]) -> int:
    answers = evaluator.ask([ask_validation(row) for row in rows])
    return sum(same_answer(answers[ask_validation(row).key], row.answer) for row in rows)


def _backwards(row: Row) -> str:
    text = row.prompt[-1].text.replace(IMAGE_TAG, "")
    return text[::-1].strip() or "?"
