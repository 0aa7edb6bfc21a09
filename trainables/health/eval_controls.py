"""Controls of an eval: prompts, references and adapters for which a low score is expected."""

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
    """The thresholds of the controls; shares are fractions, a gain is the rise of exact match over the baseline."""

    min_exact_match_judged: float = 0.25
    max_shuffled_share_of_exact: float = 0.5
    max_nonsense_match: float = 0.5
    min_distinct_references: int = 4
    min_gain_judged: float = 0.25
    max_null_share_of_gain: float = 0.5
    min_null_gain_rows: int = 3


LIMITS = EvalControlLimits()


class ControlEvaluator(Protocol):
    """What the controls need from an evaluator: its rows, and answers to further questions."""

    @property
    def data(self) -> ProbeData:
        """Return the rows of the fixed evals."""
        ...

    def ask(self, questions: Sequence[Question]) -> dict[str, str]:
        """Answer questions in the same way as those of the eval; return the answers by question key."""
        ...


def judge_shuffled(
    step: int, data: ProbeData, answers: Mapping[str, str], exact_match: float, limits: EvalControlLimits = LIMITS
) -> Finding | None:
    """Score the answers against the references of other rows; fail if the score does not drop."""
    wrong = _others(data.validation)
    if not wrong or exact_match < limits.min_exact_match_judged:
        return None
    hits = sum(same_answer(answers[ask_validation(row).key], other) for row, other in wrong) / len(wrong)
    if hits <= limits.max_shuffled_share_of_exact * exact_match:
        return None
    evidence = f"exact match {exact_match:.2f} with the references, {hits:.2f} with other rows' references"
    return Finding("shuffled_labels", "invalid", step, evidence)


def nonsense(data: ProbeData) -> list[tuple[Question, Row]]:
    """Return questions that contain no usable information: reversed prompts of the first few rows, without images."""
    return [
        (Question(f"nonsense/{row.row_id}", (Message("user", _backwards(row)),), ()), row)
        for row in data.validation[:CONTROL_ROWS]
    ]


def judge_nonsense(step: int, evaluator: ControlEvaluator, limits: EvalControlLimits = LIMITS) -> Finding | None:
    """Answer nonsense questions with the evaluator; reference answers to them show that answers are not generated."""
    pairs = nonsense(evaluator.data)
    if len({normalized(row.answer) for _, row in pairs}) < limits.min_distinct_references:
        return None
    answers = evaluator.ask([question for question, _ in pairs])
    hits = sum(same_answer(answers[question.key], row.answer) for question, row in pairs) / len(pairs)
    if hits <= limits.max_nonsense_match:
        return None
    evidence = f"{hits:.0%} of {len(pairs)} nonsense questions without an image got the reference answer of their row"
    return Finding("nonsense_prompts", "invalid", step, evidence)


@dataclass(frozen=True)
class ExactRows:
    """How many of `rows` validation rows the trained adapter, a random one and the base alone answer exactly."""

    rows: int
    trained: int
    null: int
    baseline: int


@contextmanager
def randomized(adapter: Adapter) -> Iterator[None]:
    """Replace every trained tensor with noise of the same root mean square, and restore it exactly afterwards.

    The noise has its own generator, so that the control does not change the random numbers of the trial.
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
    step: int, evaluator: ControlEvaluator, adapter: Adapter, answers: Mapping[str, str], baseline: Baseline
) -> Finding | None:
    """Evaluate a random adapter; if it scores nearly as well, the score does not come from training.

    `answers` are those of the trained adapter. A few rows that it answers exactly are tried first. All rows are tried
    only if the random adapter answers those too, because the exact match of the baseline is known for all rows.
    """
    rows = evaluator.data.validation
    exact = [row for row in rows if same_answer(answers[ask_validation(row).key], row.answer)]
    found = ExactRows(len(rows), len(exact), len(exact), round(baseline.metrics["exact_match"] * len(rows)))
    if judge_exact(step, found) is None:
        return None  # even with the same answers a random adapter would not fail the check
    with randomized(adapter):
        few = exact[:CONTROL_ROWS]
        if _count_exact(evaluator, few) <= LIMITS.max_null_share_of_gain * len(few):
            return None
        return judge_exact(step, replace(found, null=_count_exact(evaluator, rows)))


def judge_exact(step: int, found: ExactRows, limits: EvalControlLimits = LIMITS) -> Finding | None:
    """Fail if a random adapter reaches too large a share of the trained adapter's gain over the base."""
    gain, null_gain = found.trained - found.baseline, found.null - found.baseline
    if found.trained < limits.min_exact_match_judged * found.rows or gain < limits.min_gain_judged * found.rows:
        return None
    # with few rows, noise can make one or two answers right by chance
    if null_gain <= limits.max_null_share_of_gain * gain or null_gain < limits.min_null_gain_rows:
        return None
    counts = f"the trained adapter {found.trained}, the base alone {found.baseline}"
    evidence = (
        f"a random adapter of the same norm answers {found.null} of {found.rows} validation rows exactly, {counts}"
    )
    return Finding("null_model", "invalid", step, evidence)


def judge_bare(step: int, model: torch.nn.Module) -> Finding | None:
    """Fail if a module of the baseline carries LoRA."""
    carrying = [name for name, _ in model.named_modules() if name.endswith(("lora_A", "lora_B"))]
    if not carrying:
        return None
    evidence = f"the baseline must have no adapter, but {len(carrying) // 2} modules carry LoRA: {carrying[0]}"
    return Finding("baseline_adapted", "invalid", step, evidence)


def _others(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    pairs = []
    for index, row in enumerate(rows):
        following = (*rows[index + 1 :], *rows[:index])
        other = next((one.answer for one in following if not same_answer(one.answer, row.answer)), None)
        if other is not None:
            pairs.append((row, other))
    return pairs


def _count_exact(evaluator: ControlEvaluator, rows: Sequence[Row]) -> int:
    answers = evaluator.ask([ask_validation(row) for row in rows])
    return sum(same_answer(answers[ask_validation(row).key], row.answer) for row in rows)


def _backwards(row: Row) -> str:
    text = row.prompt[-1].text.replace(IMAGE_TAG, "")
    return text[::-1].strip() or "?"
