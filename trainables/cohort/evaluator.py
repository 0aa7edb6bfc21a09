"""Evaluates a whole cohort with shared teacher-forced passes and shared decode batches.

Computation that members have in common runs once, including the prefill of prompts. Metrics and integrity checks of
each member are the same as in an eval of that member alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType

import torch
from transformers import DynamicCache

from trainables.cohort.shared_forward import GroupLogits, SharedForward
from trainables.data.encoding import Batch, Encoded, chunks, collate
from trainables.evaluation.answering import Found, QuestionSet
from trainables.evaluation.decoding import read_answers
from trainables.evaluation.drafts import Drafts
from trainables.evaluation.evaluator import LOSS_TOKENS, Evaluator, RowLoss, losses_in_order, row_losses
from trainables.evaluation.live_probe import GivenAnswers, live_scores
from trainables.evaluation.near_ties import best_tokens
from trainables.evaluation.passes import DecodedTokens, Members
from trainables.health import eval_integrity
from trainables.health.eval_integrity import Measured
from trainables.model.families import TowerName
from trainables.probes.probe import Baseline, Evidence, Losses, ProbeData
from trainables.probes.question import Question

Answers = dict[str, str]
MemberDrafts = Mapping[int, Sequence[Drafts]]  # of each member, the most probable first


@dataclass(frozen=True)
class CohortEvaluator:
    """Runs the fixed eval of a study for all members of a shared forward at once."""

    evaluator: Evaluator
    shared: SharedForward

    def measure(
        self, baselines: Mapping[int, Baseline], step: int, drafts: MemberDrafts | None = MappingProxyType({})
    ) -> dict[int, Measured]:
        """Evaluate the members in `baselines`, each with its baseline, like `eval_integrity.measure`."""
        evaluator, members = self.evaluator, tuple(baselines)
        found: Found = {}
        with eval_integrity.witness_of(evaluator) as witness:
            validation = self._losses(evaluator.validation, members, None if drafts is None else found)
            answers = self._answers(evaluator.questions, evaluator.prompts, members, drafts or {}, found)
        train_slice = self._losses(evaluator.train_slice, members)
        earlier = [self._losses(rows, members) for rows in evaluator.earlier]
        measured: dict[int, Measured] = {}
        asked = {member: GivenAnswers(answers[member], baselines[member]) for member in members}
        further = live_scores(evaluator.live_probes, self, asked)
        for member in members:
            stages = tuple(losses[member] for losses in earlier)
            evidence = Evidence(answers[member], validation[member], train_slice[member], baselines[member], stages)
            scores = evaluator.score(evidence).joined(further[member])
            measured[member] = eval_integrity.judged(evaluator, step, scores, answers[member], witness.of(member))
        return measured

    def asking(self, member: int, drafts: Sequence[Drafts] = ()) -> MemberEvaluator:
        """Return an evaluator of one member, for the controls of an eval."""
        return MemberEvaluator(self, member, drafts)

    def ask(self, member: int, questions: Sequence[Question], drafts: Sequence[Drafts] = ()) -> Answers:
        """Answer questions with one member, in the same way as those of the eval."""
        prompts = self.evaluator.encode(questions)
        return self._answers(questions, prompts, (member,), {member: drafts}, {})[member]

    def logits(self, batch: Batch, members: Members) -> GroupLogits:
        """Run rows for members, as `AnswerPasses` asks for."""
        return self.shared.logits(batch, members)

    def without(self, towers: Collection[TowerName]) -> AbstractContextManager[None]:
        """Let the adapters of towers add nothing, as `LivePasses` asks for."""
        return self.shared.lora.without(towers)

    def greedy(
        self, prompts: Sequence[Encoded], members: Members, numbers: Sequence[int], new_tokens: int, share: float | None
    ) -> DecodedTokens:
        """Decode one batch for members, as `AnswerPasses` asks for."""
        batch = collate(prompts, self.evaluator.encoder, self.evaluator.base.device, pad_left=True)
        return self._greedy(batch, members, numbers, new_tokens, share)

    def _answers(
        self,
        questions: Sequence[Question],
        prompts: Sequence[Encoded],
        members: Members,
        drafts: MemberDrafts,
        found: Found,
    ) -> dict[int, Answers]:
        asked = QuestionSet([one.key for one in questions], prompts, drafts)
        tokens = self.evaluator.answering(self).answers(asked, members, found)
        return {member: self._texts(tokens[member]) for member in members}

    def _texts(self, tokens: Mapping[str, list[int]]) -> Answers:
        texts = read_answers(list(tokens.values()), self.evaluator.encoder)
        return {key: one.text for key, one in zip(tokens, texts, strict=True)}

    @torch.no_grad()
    def _losses(self, rows: Sequence[Encoded], members: Members, answers: Found | None = None) -> dict[int, Losses]:
        """Return the losses of rows; with `answers`, the rows are those of validation and draft its answers."""
        found: dict[int, dict[int, RowLoss]] = {member: {} for member in members}
        encoder, device = self.evaluator.encoder, self.evaluator.base.device
        references = None if answers is None else self.evaluator.references(members)
        for chunk in chunks(rows, LOSS_TOKENS // len(members)):
            batch = collate([rows[index] for index in chunk], encoder, device, pad_left=False)
            out = self.shared.logits(batch, members)
            for group, logits in zip(out.groups, out.values, strict=True):
                losses = row_losses(batch, logits, out.targets)
                for member in group:
                    found[member].update(zip(chunk, losses, strict=True))
            if answers is not None and references is not None:
                drafted = [references[index] for index in chunk]
                self.evaluator.answering(self).verified(batch, out, drafted, answers)
        return {member: losses_in_order(rows) for member, rows in found.items()}

    @torch.no_grad()
    def _greedy(
        self,
        batch: Batch,
        members: Members,
        chunk: Sequence[int],
        new_tokens: int,
        share: float | None,
    ) -> DecodedTokens:
        model, encoder, inputs = self.evaluator.base.model, self.evaluator.encoder, batch.inputs
        ends = torch.tensor(encoder.answer_ends, device=inputs["input_ids"].device)
        cache = DynamicCache(config=model.config.get_text_config())
        out, groups = self.shared.prefill(inputs, members, cache, batch.rows)
        mask = inputs["attention_mask"].repeat(len(groups), 1)
        shift = self.shared.position_shift  # an image takes fewer positions than tokens
        shift = 0 if shift is None else shift.repeat(len(groups), 1)
        most_likely, ties = _best(out.logits, share)
        tokens, near = [most_likely], [ties]
        done = torch.isin(tokens[0], ends)
        with self.shared.running(members, len(chunk), groups):
            while not bool(done.all()) and len(tokens) < new_tokens:
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
                places = mask.sum(dim=1, keepdim=True) - 1 + shift
                out = model(
                    input_ids=tokens[-1][:, None], attention_mask=mask, position_ids=places,
                    past_key_values=cache, use_cache=True,
                )  # fmt: skip
                most_likely, ties = _best(out.logits, share)
                near.append(ties)
                tokens.append(torch.where(done, encoder.tokenizer.pad_token_id, most_likely))
                done |= torch.isin(tokens[-1], ends)
        found = None if share is None else torch.stack(near, dim=1)
        return DecodedTokens(torch.stack(tokens, dim=1), groups, chunk, found)


@dataclass(frozen=True)
class MemberEvaluator:
    """Evaluates one member of a cohort; the controls of `eval_controls.py` ask questions through it."""

    cohort: CohortEvaluator
    member: int
    drafts: Sequence[Drafts] = ()

    @property
    def data(self) -> ProbeData:
        """Return the rows of the fixed evals."""
        return self.cohort.evaluator.data

    def ask(self, questions: Sequence[Question]) -> Answers:
        """Answer questions with this member alone."""
        return self.cohort.ask(self.member, questions, self.drafts)


def _best(logits: torch.Tensor, share: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the most likely next token of logits (rows, tokens, vocabulary), and whether it is a near tie."""
    last = logits[:, -1].float()
    if share is None:
        return last.argmax(dim=-1), torch.zeros(len(last), dtype=torch.bool)
    return best_tokens(last, share)
