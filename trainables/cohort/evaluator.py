"""Evaluates a whole cohort with shared teacher-forced passes and shared decode batches.

Computation that members have in common runs once, including the prefill of prompts. Metrics and integrity checks of
each member are the same as in an eval of that member alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from trainables.cohort.shared_forward import SharedForward
from trainables.cohort.stacked_lora import Group
from trainables.data.encoding import Encoded, chunks, collate
from trainables.evaluation.decoding import read_answers
from trainables.evaluation.evaluator import (
    GENERATION_TOKENS,
    LONGEST_RATIO,
    LOSS_TOKENS,
    Evaluator,
    RowLoss,
    losses_in_order,
    row_losses,
)
from trainables.health import eval_integrity
from trainables.health.eval_integrity import Measured
from trainables.probes.probe import Baseline, Evidence, Losses, ProbeData
from trainables.probes.question import Question

Answers = dict[str, str]


@dataclass(frozen=True)
class CohortTokens:
    """A decoded batch: tokens (groups x rows, new tokens), the members of each group, and the question numbers."""

    tokens: torch.Tensor
    groups: list[Group]
    questions: list[int]

    def rows_of(self, member: int) -> slice:
        """Return the rows of `member` in `tokens`."""
        group = next(number for number, one in enumerate(self.groups) if member in one)
        rows = len(self.questions)
        return slice(group * rows, (group + 1) * rows)


@dataclass(frozen=True)
class CohortEvaluator:
    """Runs the fixed eval of a study for all members of a shared forward at once."""

    evaluator: Evaluator
    shared: SharedForward

    def measure(self, baselines: Mapping[int, Baseline], step: int) -> dict[int, Measured]:
        """Evaluate the members in `baselines`, each with its baseline, like `eval_integrity.measure`."""
        evaluator, members = self.evaluator, tuple(baselines)
        with eval_integrity.witness_of(evaluator) as witness:
            decoded = self._decode(evaluator.prompts, members)
        recorded = witness.answers_by_batch()
        answers = self._answers(evaluator.questions, decoded, members)
        validation, train_slice = (
            self._losses(rows, members) for rows in (evaluator.validation, evaluator.train_slice)
        )
        earlier = [self._losses(rows, members) for rows in evaluator.earlier]
        measured: dict[int, Measured] = {}
        for member in members:
            stages = tuple(losses[member] for losses in earlier)
            evidence = Evidence(answers[member], validation[member], train_slice[member], baselines[member], stages)
            own = [text for one, texts in zip(decoded, recorded, strict=True) for text in texts[one.rows_of(member)]]
            measured[member] = eval_integrity.judged(evaluator, step, evaluator.score(evidence), answers[member], own)
        return measured

    def asking(self, member: int) -> MemberEvaluator:
        """Return an evaluator of one member, for the controls of an eval."""
        return MemberEvaluator(self, member)

    def ask(self, member: int, questions: Sequence[Question]) -> Answers:
        """Answer questions with one member, in the same way as those of the eval."""
        decoded = self._decode(self.evaluator.encode(questions), (member,))
        return self._answers(questions, decoded, (member,))[member]

    def _answers(
        self, questions: Sequence[Question], decoded: Sequence[CohortTokens], members: Sequence[int]
    ) -> dict[int, Answers]:
        encoder = self.evaluator.encoder
        answers: dict[int, Answers] = {member: {} for member in members}
        for batch in decoded:
            texts = [one.text for one in read_answers(batch.tokens.tolist(), encoder)]
            keys = [questions[index].key for index in batch.questions]
            for member in members:
                answers[member] |= dict(zip(keys, texts[batch.rows_of(member)], strict=True))
        return answers

    @torch.no_grad()
    def _losses(self, rows: Sequence[Encoded], members: Sequence[int]) -> dict[int, Losses]:
        found: dict[int, dict[int, RowLoss]] = {member: {} for member in members}
        encoder, device = self.evaluator.encoder, self.evaluator.base.device
        for chunk in chunks(rows, LOSS_TOKENS // len(members)):
            batch = collate([rows[index] for index in chunk], encoder, device, pad_left=False)
            out = self.shared.logits(batch, members)
            for group, logits in zip(out.groups, out.values, strict=True):
                losses = row_losses(batch, logits, out.targets)
                for member in group:
                    found[member].update(zip(chunk, losses, strict=True))
        return {member: losses_in_order(rows) for member, rows in found.items()}

    @torch.no_grad()
    def _decode(self, prompts: Sequence[Encoded], members: Sequence[int]) -> list[CohortTokens]:
        encoder, device = self.evaluator.encoder, self.evaluator.base.device
        decoded = []
        for chunk in chunks(prompts, GENERATION_TOKENS // len(members), LONGEST_RATIO):
            batch = collate([prompts[index] for index in chunk], encoder, device, pad_left=True)
            decoded.append(self._greedy(batch.inputs, members, chunk))
        return decoded

    def _greedy(self, inputs: Mapping[str, torch.Tensor], members: Sequence[int], chunk: list[int]) -> CohortTokens:
        model, encoder = self.evaluator.base.model, self.evaluator.encoder
        ends = torch.tensor(encoder.answer_ends, device=inputs["input_ids"].device)
        cache = DynamicCache(config=model.config.get_text_config())
        out, groups = self.shared.prefill(inputs, members, cache)
        mask = inputs["attention_mask"].repeat(len(groups), 1)
        shift = self.shared.position_shift  # an image takes fewer positions than tokens
        shift = 0 if shift is None else shift.repeat(len(groups), 1)
        tokens = [out.logits[:, -1].float().argmax(dim=-1)]
        done = torch.isin(tokens[0], ends)
        with self.shared.running(members, len(chunk), groups):
            while not bool(done.all()) and len(tokens) < self.evaluator.max_new_tokens:
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
                places = mask.sum(dim=1, keepdim=True) - 1 + shift
                out = model(
                    input_ids=tokens[-1][:, None], attention_mask=mask, position_ids=places,
                    past_key_values=cache, use_cache=True,
                )  # fmt: skip
                most_likely = out.logits[:, -1].float().argmax(dim=-1)
                tokens.append(torch.where(done, encoder.tokenizer.pad_token_id, most_likely))
                done |= torch.isin(tokens[-1], ends)
        return CohortTokens(torch.stack(tokens, dim=1), groups, chunk)


@dataclass(frozen=True)
class MemberEvaluator:
    """Evaluates one member of a cohort; the controls of `eval_controls.py` ask questions through it."""

    cohort: CohortEvaluator
    member: int

    @property
    def data(self) -> ProbeData:
        """Return the rows of the fixed evals."""
        return self.cohort.evaluator.data

    def ask(self, questions: Sequence[Question]) -> Answers:
        """Answer questions with this member alone."""
        return self.cohort.ask(self.member, questions)
