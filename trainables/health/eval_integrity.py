"""Eval integrity: checks that the model itself generated every scored answer.

A witness hooks the model's forward passes and records the most likely token of each. If anything changes the answers
between the model and the score (a patched `generate`, a lookup table, a modified decoding step, drafts that are copied
unread), the scored answers differ from the recorded ones.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainables.data.encoding import IGNORED, Batch, until_end
from trainables.evaluation.decoding import answer_tokens
from trainables.evaluation.drafts import AnswerRules, Drafts
from trainables.evaluation.evaluator import ALONE, Evaluator
from trainables.evaluation.live_probe import GivenAnswers, live_scores
from trainables.evaluation.passes import DraftedRow, Members, PromptRow
from trainables.health.checks import Finding
from trainables.health.eval_controls import judge_shuffled
from trainables.model.base import capped
from trainables.probes.metric import Scores
from trainables.probes.probe import Baseline

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True)
class Recorded:
    """What a witness recorded of one member: the tokens of its answers by question key, and the text of each answer.

    `texts` also has the answers to prompts that were read, but belong to no question.
    """

    tokens: Mapping[str, tuple[int, ...]]
    texts: Sequence[str]


class Witness:
    """Context manager that records the most likely tokens of a model at every pass that an answer is taken from.

    It takes the argmax itself: of the last position of each forward pass of the model, and of every position of each
    pass over rows with supervised tokens, whose logits come from the head alone. An evaluator tells it, after a pass,
    which questions the rows belong to (`verified`, `decoded`); a decoded batch of which it is told nothing counts as
    answers to other questions. `ends` are the tokens that end an answer, `unspoken` those that are no part of its text.
    `capped` maps the output of the head to logits.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        ends: Sequence[int],
        unspoken: Collection[int],
        capped: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.float,
    ) -> None:
        self.model, self.tokenizer, self.ends, self.unspoken, self.capped = model, tokenizer, ends, unspoken, capped
        self.forwards = 0
        self._in_forward = False
        self._read: list[torch.Tensor] = []  # of passes over rows, the newest last
        self._batches: list[list[torch.Tensor]] = []  # of which nothing was told yet
        self._answers: dict[tuple[int, str], tuple[int, ...]] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Witness:
        self._handles = [
            self.model.register_forward_pre_hook(self._enter_forward),
            self.model.register_forward_hook(self._record, with_kwargs=True),
            self.model.get_output_embeddings().register_forward_hook(self._record_head),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    @property
    def rows(self) -> int:
        """Return the number of prompts that were answered."""
        return len(self._answers) + sum(len(batch[0]) for batch in self._batches)

    def answers(self) -> list[str]:
        """Return the recorded answer to every prompt, up to its end of turn."""
        told = [self._text(tokens) for tokens in self._answers.values()]
        return [*told, *(self._text(tokens) for tokens in self._untold())]

    @property
    def tokens(self) -> dict[str, tuple[int, ...]]:
        """Return the recorded tokens by question key, of a witness that saw a single member."""
        return {key: tokens for (_, key), tokens in self._answers.items()}

    def of(self, member: int) -> Recorded:
        """Return what one member answered."""
        tokens = {key: one for (number, key), one in self._answers.items() if number == member}
        texts = [*map(self._text, tokens.values()), *map(self._text, self._untold())]
        return Recorded(tokens, texts)

    # ---------------------------------------------------------------- what an evaluator tells
    def verified(self, batch: Batch, rows: Sequence[DraftedRow | None], groups: Sequence[Members]) -> None:
        """Take the answers of rows that hold drafts: as far as each draft is what the model itself predicts."""
        supervised = (batch.labels[:, 1:] != IGNORED).cpu()
        best = self._newest_read(len(groups) * int(supervised.sum()))
        if best is None:
            return  # the model read nothing: answers that are scored nevertheless are foreign
        read = torch.full((len(groups), *batch.labels.shape), IGNORED)  # the prediction of each token of a row
        read[:, :, 1:][:, supervised] = best.view(len(groups), -1).cpu()
        inputs, predicted = batch.inputs["input_ids"].tolist(), read.tolist()
        for number, row in enumerate(rows):
            for group, own in zip(groups, predicted, strict=True):
                for member in group if row is not None else ():
                    if row is not None and member in row.members:
                        known = self._answers.get((member, row.key), ())
                        found = self._followed(known, inputs[number][row.start :], own[number][row.start :])
                        self._answers[member, row.key] = found

    def decoded(self, rows: Sequence[PromptRow], groups: Sequence[Members], rules: AnswerRules) -> None:
        """Take the answers of the newest decoded batch, which go on from the tokens of their prompts."""
        if not self._batches:
            return
        tokens = torch.stack(self._batches.pop(), dim=1).tolist()
        for number, new in enumerate(tokens[: len(groups) * len(rows)]):
            row = rows[number % len(rows)]
            for member in row.members & frozenset(groups[number // len(rows)]):
                if self._answers.get((member, row.key), ())[: len(row.known)] == row.known:
                    answer = until_end([*row.known, *new], self.ends)
                    whole = [*row.known, *new][: len(answer) + 1]  # with its end token
                    self._answers[member, row.key] = tuple(whole[: rules.max_new_tokens])

    def _newest_read(self, tokens: int) -> torch.Tensor | None:
        # a pass may use the head once for each of its groups
        newest: list[torch.Tensor] = []
        while self._read and sum(map(len, newest)) < tokens:
            newest.insert(0, self._read.pop())
        self._read.clear()
        return torch.cat(newest) if newest and sum(map(len, newest)) == tokens else None

    def _followed(self, known: tuple[int, ...], given: Sequence[int], predicted: Sequence[int]) -> tuple[int, ...]:
        if tuple(given[: len(known)]) != known:
            return known
        answer = list(known)
        for token, own in zip(given[len(known) :], predicted[len(known) :], strict=True):
            if own == IGNORED or (answer and answer[-1] in self.ends):
                break
            answer.append(own)
            if own != token:
                break
        return tuple(answer)

    # ---------------------------------------------------------------- hooks
    def _enter_forward(self, *_: Any) -> None:
        self._in_forward = True

    def _record(self, _: Any, inputs: tuple[Any, ...], keywords: Mapping[str, Any], output: Any) -> None:
        self._in_forward = False
        tokens = keywords.get("input_ids", inputs[0] if inputs else None)
        self.forwards += 1
        most_likely = output.logits[:, -1].float().argmax(dim=-1)
        if tokens is not None and tokens.shape[1] == 1 and self._batches:
            self._batches[-1].append(most_likely)
        else:
            self._batches.append([most_likely])

    def _record_head(self, _: Any, __: Any, output: torch.Tensor) -> None:
        if not self._in_forward:
            self._read.append(self.capped(output).argmax(dim=-1).flatten())

    def _untold(self) -> Iterator[list[int]]:
        for batch in self._batches:
            yield from torch.stack(batch, dim=1).tolist()

    def _text(self, tokens: Sequence[int]) -> str:
        # the method of the class: one patched on the tokenizer instance must not change the record
        decode = partial(type(self.tokenizer).decode, self.tokenizer)
        return decode(answer_tokens(list(tokens), self.ends, self.unspoken)).strip()


@dataclass(frozen=True)
class Measured:
    """One eval: its scores, the answers by question key, and the finding that makes it invalid, if any.

    `tokens` are those of the answers, as the witness recorded them; the next eval takes them as drafts.
    """

    scores: Scores
    answers: dict[str, str]
    finding: Finding | None
    tokens: Drafts = field(default_factory=dict)


@contextmanager
def witness_of(evaluator: Evaluator) -> Iterator[Witness]:
    """Yield a witness of the model that an evaluator asks; the evaluator tells it of its passes."""
    encoder, base = evaluator.encoder, evaluator.base
    parts = base.model, encoder.tokenizer, encoder.answer_ends, encoder.unspoken
    with Witness(*parts, partial(capped, base)) as witness:
        kept, evaluator.observer = evaluator.observer, witness
        try:
            yield witness
        finally:
            evaluator.observer = kept


def measure(
    evaluator: Evaluator, baseline: Baseline | None, step: int, drafts: Sequence[Drafts] | None = ()
) -> Measured:
    """Run one eval under a witness and check its answers."""
    with witness_of(evaluator) as witness:
        scores, answers = evaluator.measure(baseline, drafts)
    further = live_scores(evaluator.live_probes, evaluator, {ALONE: GivenAnswers(answers, baseline)})
    scores = scores.joined(further[ALONE])
    return judged(evaluator, step, scores, answers, witness.of(ALONE))


def judged(evaluator: Evaluator, step: int, scores: Scores, answers: dict[str, str], recorded: Recorded) -> Measured:
    """Compare the answers of one eval with those the witness recorded, and run the shuffled-references control."""
    finding = judge_answers(step, answers, len(evaluator.questions), recorded.texts, replaced(evaluator))
    exact_match = scores.metrics["exact_match"]
    finding = finding or judge_shuffled(step, evaluator.data, answers, exact_match)
    return Measured(scores, answers, finding, recorded.tokens)


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
            (evaluator, ("measure", "ask", "_answers", "answering")),
            (model, ("generate",)),
            (tokenizer, ("decode", "batch_decode")),
        )
        for name in names
        if name in vars(owner)
    ]
    for name in ("measure", "ask", "_answers", "answering"):
        home = Path(inspect.unwrap(getattr(type(evaluator), name)).__code__.co_filename)
        if home != Path(inspect.getfile(Evaluator)):
            found.append(f"{type(evaluator).__name__}.{name} by {home.name}")
    return found
