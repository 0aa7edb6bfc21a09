"""Honest evaluation: every answer that is scored was said by the model itself, and the scores can tell it from noise.

A witness listens to the model's forward passes and writes down the tokens it said. Whatever stands between the model
and the score (a patched `generate`, a lookup table in place of the answers, a decoder with opinions) makes the answers
differ from what the witness heard. Brief 003 lost a study to such a patch.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainables.data.encoding import until_end
from trainables.evaluation.evaluator import Evaluator
from trainables.health.checks import Finding
from trainables.health.eval_controls import judge_shuffled
from trainables.probes.probe import Baseline

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle


class Witness:
    """Hears every forward pass of `model` while it is entered and writes down the token each row's logits favour.

    `ends` are the tokens that end an answer.
    """

    def __init__(self, model: Any, tokenizer: Any, ends: Sequence[int]) -> None:
        self.model, self.tokenizer, self.ends = model, tokenizer, ends
        self.forwards = 0
        self._batches: list[list[torch.Tensor]] = []
        self._handle: RemovableHandle | None = None

    def __enter__(self) -> Witness:
        self._handle = self.model.register_forward_hook(self._hear, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._handle is not None
        self._handle.remove()

    @property
    def rows(self) -> int:
        """Count the prompts that were read."""
        return sum(len(batch[0]) for batch in self._batches)

    def said(self) -> list[str]:
        """Return what the model said to every prompt, up to its end of turn, by the tokenizer's own class."""
        return [text for texts in self.said_by_batch() for text in texts]

    def said_by_batch(self) -> list[list[str]]:
        """Return what was said, a list for every batch that was read."""
        decode = type(self.tokenizer).decode
        return [
            [
                decode(self.tokenizer, until_end(tokens, self.ends), skip_special_tokens=True).strip()
                for tokens in torch.stack(batch, dim=1).tolist()
            ]
            for batch in self._batches
        ]

    def _hear(self, _: Any, inputs: tuple[Any, ...], keywords: Mapping[str, Any], output: Any) -> None:
        tokens = keywords.get("input_ids", inputs[0] if inputs else None)
        self.forwards += 1
        favoured = output.logits[:, -1].float().argmax(dim=-1)
        if tokens is not None and tokens.shape[1] == 1 and self._batches:
            self._batches[-1].append(favoured)
        else:
            self._batches.append([favoured])


Measured = tuple[dict[str, float], dict[str, str], Finding | None]


def measure(evaluator: Evaluator, baseline: Baseline | None, step: int) -> Measured:
    """Run one eval under a witness; returns metrics, answers, and what is dishonest about them, if anything."""
    with Witness(evaluator.base.model, evaluator.encoder.tokenizer, evaluator.encoder.answer_ends) as witness:
        metrics, answers = evaluator.measure(baseline)
    return judged(evaluator, step, metrics, answers, witness.said())


def judged(
    evaluator: Evaluator, step: int, metrics: dict[str, float], answers: dict[str, str], said: Sequence[str]
) -> Measured:
    """Hold the answers of one eval against what was heard and against other rows' references."""
    finding = judge_answers(step, answers, len(evaluator.questions), said, replaced(evaluator))
    return metrics, answers, finding or judge_shuffled(step, evaluator.data, answers, metrics["exact_match"])


def judge_answers(
    step: int, answers: Mapping[str, str], questions: int, said: Sequence[str], replaced_parts: Sequence[str]
) -> Finding | None:
    """Hold the answers that were scored against what the model was heard to say; replaced parts are named, not judged.

    A wrapper that passes the model's words on is honest, whoever put it there.
    """
    named = f"; replaced: {', '.join(replaced_parts)}" if replaced_parts else ""
    unsaid = Counter(answers.values()) - Counter(said)
    if unsaid:
        example = next(iter(unsaid))
        key = next(name for name, answer in answers.items() if answer == example)
        count = f"{unsaid.total()} of {len(answers)} answers were not said by the model"
        evidence = f"{count}, the first is `{example}` to {key}; it read {len(said)} prompts{named}"
        return Finding("answers_not_generated", "invalid", step, evidence)
    if len(said) != questions or len(answers) != questions:
        counts = f"{questions} questions, {len(answers)} answers, {len(said)} prompts read by the model"
        return Finding("answers_not_generated", "invalid", step, counts + named)
    return None


def replaced(evaluator: Evaluator) -> list[str]:
    """Name what no longer is its class's own on the way from the model to an answer."""
    model, tokenizer = evaluator.base.model, evaluator.encoder.tokenizer
    found = [
        f"{type(owner).__name__}.{name} of this instance"
        for owner, names in (
            (evaluator, ("measure", "ask", "_answers")),
            (model, ("generate",)),
            (tokenizer, ("decode", "batch_decode")),
        )
        for name in names
        if name in vars(owner)
    ]
    for name in ("measure", "ask", "_answers"):
        home = Path(inspect.unwrap(getattr(type(evaluator), name)).__code__.co_filename)
        if home != Path(inspect.getfile(Evaluator)):
            found.append(f"{type(evaluator).__name__}.{name} by {home.name}")
    return found
