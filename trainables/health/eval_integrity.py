"""Eval integrity: checks that the model itself generated every scored answer.

A witness hooks the model's forward passes and records the most likely token of each. If anything changes the answers
between the model and the score (a patched `generate`, a lookup table, a modified decoding step), the scored answers
differ from the recorded ones.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainables.evaluation.decoding import answer_tokens
from trainables.evaluation.evaluator import Evaluator
from trainables.health.checks import Finding
from trainables.health.eval_controls import judge_shuffled
from trainables.probes.metric import Scores
from trainables.probes.probe import Baseline

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle


class Witness:
    """Context manager that records the most likely next token of every row at each forward pass of `model`.

    `ends` are the tokens that end an answer, `unspoken` those that are no part of its text.
    """

    def __init__(self, model: Any, tokenizer: Any, ends: Sequence[int], unspoken: Collection[int]) -> None:
        self.model, self.tokenizer, self.ends, self.unspoken = model, tokenizer, ends, unspoken
        self.forwards = 0
        self._batches: list[list[torch.Tensor]] = []
        self._handle: RemovableHandle | None = None

    def __enter__(self) -> Witness:
        self._handle = self.model.register_forward_hook(self._record, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._handle is not None
        self._handle.remove()

    @property
    def rows(self) -> int:
        """Return the number of prompts in the recorded passes."""
        return sum(len(batch[0]) for batch in self._batches)

    def answers(self) -> list[str]:
        """Return the recorded answer to every prompt, up to its end of turn."""
        return [text for texts in self.answers_by_batch() for text in texts]

    def answers_by_batch(self) -> list[list[str]]:
        """Return the recorded answers, one list for each batch."""
        # the method of the class: one patched on the tokenizer instance must not change the record
        decode = partial(type(self.tokenizer).decode, self.tokenizer)
        return [
            [
                decode(answer_tokens(tokens, self.ends, self.unspoken)).strip()
                for tokens in torch.stack(batch, dim=1).tolist()
            ]
            for batch in self._batches
        ]

    def _record(self, _: Any, inputs: tuple[Any, ...], keywords: Mapping[str, Any], output: Any) -> None:
        tokens = keywords.get("input_ids", inputs[0] if inputs else None)
        self.forwards += 1
        most_likely = output.logits[:, -1].float().argmax(dim=-1)
        if tokens is not None and tokens.shape[1] == 1 and self._batches:
            self._batches[-1].append(most_likely)
        else:
            self._batches.append([most_likely])


@dataclass(frozen=True)
class Measured:
    """One eval: its scores, the answers by question key, and the finding that makes it invalid, if any."""

    scores: Scores
    answers: dict[str, str]
    finding: Finding | None


def witness_of(evaluator: Evaluator) -> Witness:
    """Return a witness of the model that an evaluator asks."""
    encoder = evaluator.encoder
    return Witness(evaluator.base.model, encoder.tokenizer, encoder.answer_ends, encoder.unspoken)


def measure(evaluator: Evaluator, baseline: Baseline | None, step: int) -> Measured:
    """Run one eval under a witness and check its answers."""
    with witness_of(evaluator) as witness:
        scores, answers = evaluator.measure(baseline)
    return judged(evaluator, step, scores, answers, witness.answers())


def judged(
    evaluator: Evaluator, step: int, scores: Scores, answers: dict[str, str], recorded: Sequence[str]
) -> Measured:
    """Compare the answers of one eval with those the witness recorded, and run the shuffled-references control."""
    finding = judge_answers(step, answers, len(evaluator.questions), recorded, replaced(evaluator))
    exact_match = scores.metrics["exact_match"]
    return Measured(scores, answers, finding or judge_shuffled(step, evaluator.data, answers, exact_match))


def judge_answers(
    step: int, answers: Mapping[str, str], questions: int, recorded: Sequence[str], replaced_parts: Sequence[str]
) -> Finding | None:
    """Fail if the scored answers are not exactly the recorded ones.

    Replaced methods are named in the evidence but do not fail by themselves: a wrapper that returns the model's answers
    unchanged is valid.
    """
    named = f"; replaced: {', '.join(replaced_parts)}" if replaced_parts else ""
    foreign = Counter(answers.values()) - Counter(recorded)
    if foreign:
        example = next(iter(foreign))
        key = next(name for name, answer in answers.items() if answer == example)
        count = f"{foreign.total()} of {len(answers)} answers were not generated by the model"
        evidence = f"{count}, the first is `{example}` to {key}; it read {len(recorded)} prompts{named}"
        return Finding("answers_not_generated", "invalid", step, evidence)
    if len(recorded) != questions or len(answers) != questions:
        counts = f"{questions} questions, {len(answers)} answers, {len(recorded)} prompts read by the model"
        return Finding("answers_not_generated", "invalid", step, counts + named)
    return None


def replaced(evaluator: Evaluator) -> list[str]:
    """Return the names of replaced methods that produce or decode answers."""
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
