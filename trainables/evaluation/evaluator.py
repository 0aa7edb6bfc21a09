"""Evaluates the live model: answers every question once, greedily and in batches, and scores all probes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from trainables.data.encoding import IGNORED, Batch, Encoded, Encoder, chunks, collate
from trainables.data.ood import OodRow
from trainables.data.rows import Row
from trainables.evaluation.answering import Answering, BatchTokens, Found, QuestionSet, reference_rows, rules_of
from trainables.evaluation.decoding import Decoded, greedy_tokens, read_answers
from trainables.evaluation.drafts import Drafts
from trainables.evaluation.live_probe import LiveProbe
from trainables.evaluation.passes import (
    AnswerPasses,
    DecodedTokens,
    DraftedRow,
    Members,
    Observer,
    RowLogits,
    Unobserved,
)
from trainables.model.base import Base, predicted
from trainables.model.families import TowerName
from trainables.model.lora import without_lora
from trainables.probes import earlier_stages, probes_for
from trainables.probes.hallucination import task_vocabulary
from trainables.probes.metric import RowResults, Scores, scores
from trainables.probes.probe import Baseline, Evidence, Losses, ProbeData
from trainables.probes.question import Question, ask_ood, ask_validation
from trainables.probes.reserve import split

LOSS_TOKENS = 4096
GENERATION_TOKENS = 16_384  # padded prompt tokens of one batch; bounds the key/value cache
LONGEST_RATIO = 2.0  # of the prompts of one batch: short questions have short answers, and do not wait for pictures
MEANING_TOKENS = 56  # least length if a row is judged by meaning: a sentence before the term that is looked for
SPARE_TOKENS = 8  # an answer may be this much longer than the longest reference


def label_logits(base: Base, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the model and compute logits only at positions that predict a supervised token.

    Returns:
        logits (supervised tokens, vocabulary) in float32, and their targets (supervised tokens,).
    """
    chosen, targets = label_hidden(base, batch)
    return predicted(base, chosen), targets


def label_hidden(base: Base, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the last hidden states (supervised tokens, width) that predict a supervised token, and their targets."""
    hidden = base.model.model(**batch.inputs, use_cache=False).last_hidden_state
    # chosen by numbers that the host knows: a mask on the device would make it wait for the forward
    places = torch.from_numpy(np.flatnonzero(batch.is_supervised)).to(hidden.device, non_blocking=True)
    chosen, targets = (one.flatten(0, 1).index_select(0, places) for one in (hidden[:, :-1], batch.labels[:, 1:]))
    return chosen, targets


ALONE = 0  # the number of the live model as a member
RowLoss = tuple[float, int, int]  # nats, supervised tokens, tokens right by argmax


def row_losses(batch: Batch, logits: torch.Tensor, targets: torch.Tensor) -> list[RowLoss]:
    """Return the loss of each row of a batch, from logits (supervised tokens, vocabulary) and targets (tokens,)."""
    counts = (batch.labels[:, 1:] != IGNORED).sum(dim=1).tolist()
    nats = cross_entropy(logits, targets, reduction="none").double().split(counts)
    right = (logits.argmax(dim=-1) == targets).split(counts)
    return [(float(n.sum()), len(n), int(r.sum())) for n, r in zip(nats, right, strict=True)]


def losses_in_order(found: Mapping[int, RowLoss]) -> Losses:
    """Return the losses of rows by their numbers, which batches take out of order."""
    nats, tokens, correct = zip(*(found[number] for number in range(len(found))), strict=True)
    return Losses(nats, tokens, correct)


@dataclass(frozen=True)
class LiveLogits:
    """Logits (1, tokens, vocabulary) of the live model, as one group of one member."""

    values: torch.Tensor
    targets: torch.Tensor
    groups: Sequence[Members] = ((ALONE,),)


class Evaluator:
    """Runs the fixed eval of one study on one base; every row is encoded once.

    `observer` sees every pass that an answer is taken from. `live_probes` need passes of their own.
    """

    def __init__(self, base: Base, encoder: Encoder, data: ProbeData) -> None:
        self.base = base
        self.encoder = encoder
        self.data = data
        self.observer: Observer = Unobserved()
        self.live_probes: tuple[LiveProbe, ...] = ()  # beside those of the table
        self.questions = _distinct(data)
        self.prompts = self.encode(self.questions)
        self.validation = [encoder.conversation(row) for row in data.validation]
        self.train_slice = [encoder.conversation(row) for row in data.train_slice]
        self.earlier = [[encoder.conversation(row) for row in rows] for rows in data.earlier]
        self.max_new_tokens = self._longest_reference() + SPARE_TOKENS

    def measure(self, baseline: Baseline | None, drafts: Sequence[Drafts] | None = ()) -> tuple[Scores, dict[str, str]]:
        """Answer every question and score every probe; return the scores and the answers by question key.

        `drafts` are probable answers, the most probable first; they change nothing but the time. References are drafts
        too, unless `drafts` is None: then every answer is decoded token by token, for comparison.
        """
        found: Found = {}
        validation = self._losses(self.validation, None if drafts is None else found)
        answers = self._answers(self.questions, self.prompts, drafts or (), found)
        earlier = tuple(self._losses(rows) for rows in self.earlier)
        evidence = Evidence(answers, validation, self._losses(self.train_slice), baseline, earlier)
        return self.score(evidence), answers

    def score(self, evidence: Evidence) -> Scores:
        """Score every probe on the answers and losses of one eval."""
        values: dict[str, float | RowResults] = {}
        for probe in probes_for(self.data):
            values.update(probe.score(self.data, evidence))
        return scores(
            values
            | earlier_stages.score(evidence.earlier, [[row.row_id for row in rows] for rows in self.data.earlier])
        )

    def ask(self, questions: Sequence[Question], drafts: Sequence[Drafts] = ()) -> dict[str, str]:
        """Answer questions that are not part of the fixed eval, in the same way."""
        return self._answers(questions, self.encode(questions), drafts)

    def decoded(self, questions: Sequence[Question]) -> dict[str, Decoded]:
        """Answer questions as `ask` does, and return also which answers ended by themselves."""
        return self._decoded(questions, self.encode(questions))

    def encode(self, questions: Sequence[Question]) -> list[Encoded]:
        """Encode questions as prompts for generation."""
        return [self.encoder.prompt(one.messages, one.images, one.crop, one.thinks) for one in questions]

    def stage_loss(self, stage: int) -> float:
        """Return only the loss of `measure`, in nats per token, on validation (0) or on an earlier stage."""
        return self._losses(self.earlier[stage - 1] if stage else self.validation).mean

    def samples(self, answers: Mapping[str, str]) -> list[dict[str, str]]:
        """Return every answered question with its answer and its expected answer, if any, for people to read."""
        rows = {ask_validation(row).key: (row.row_id, "validation", row.answer) for row in self.data.validation}
        rows |= {ask_ood(row).key: (row.row_id, row.kind, _shown_references(row)) for row in self.data.ood}
        rows |= {ask_ood(row).key: (row.row_id, "reserve", row.expect or "") for row in self.data.reserve}
        groups = {ask_ood(row).key: {"group": row.group} for row in self._asked_ood if row.group}
        reserve = [one for one in map(ask_ood, self.data.reserve) if one.key in answers]
        samples = []
        for question in (*self.questions, *reserve):
            row_id, kind, expected = rows.get(question.key, (question.key, "crop", ""))
            sample = {"row": row_id, "kind": kind, **groups.get(question.key, {})}
            sample |= {"prompt": question.messages[-1].text, "answer": answers[question.key], "expected": expected}
            samples.append(sample)
        return samples

    def answering(self, passes: AnswerPasses) -> Answering:
        """Return what answers questions with the passes of the live model or of a cohort."""
        rules = rules_of(self.base, self.encoder, self.max_new_tokens)
        size = BatchTokens(LOSS_TOKENS, GENERATION_TOKENS, LONGEST_RATIO)
        return Answering(passes, self.base, self.encoder, rules, size, self.observer)

    def references(self, members: Members) -> list[DraftedRow | None]:
        """Return the validation rows as drafts of the answers to their questions; None where a row cannot serve."""
        prompts = {question.key: prompt for question, prompt in zip(self.questions, self.prompts, strict=True)}
        keys = [ask_validation(row).key for row in self.data.validation]
        return reference_rows(keys, prompts, self.validation, members)

    def drafts_from(self, answers: Mapping[str, str]) -> Drafts:
        """Return recorded answers as drafts: their text as tokens, and the end of a turn."""
        end = self.encoder.answer_ends[-1]
        tokens = (
            self.encoder.tokenizer(list(answers.values()), add_special_tokens=False)["input_ids"] if answers else []
        )
        return {key: (*one, end) for key, one in zip(answers, tokens, strict=True)}

    def drafts_of_base(self, baseline: Baseline) -> Drafts:
        """Return the baseline's answers to questions outside the task, which trained trials seldom change."""
        outside = {ask_ood(row).key for row in self._asked_ood}
        return self.drafts_from({key: one for key, one in baseline.answers.items() if key in outside})

    def logits(self, batch: Batch, members: Members) -> RowLogits:
        """Run rows of the live model, as `AnswerPasses` asks for."""
        logits, targets = label_logits(self.base, batch)
        return LiveLogits(logits[None], targets)

    def greedy(
        self, prompts: Sequence[Encoded], members: Members, numbers: Sequence[int], new_tokens: int, share: float | None
    ) -> DecodedTokens:
        """Decode one batch with the live model, as `AnswerPasses` asks for."""
        tokens, near = greedy_tokens(self.base.model, self.encoder, self.base.device, prompts, new_tokens, share)
        return DecodedTokens(tokens, [(ALONE,)], numbers, near)

    def without(self, towers: Collection[TowerName]) -> AbstractContextManager[None]:
        """Let the adapters of towers add nothing, as `LivePasses` asks for."""
        return without_lora(self.base, towers)

    @torch.no_grad()
    def _losses(self, rows: Sequence[Encoded], answers: Found | None = None) -> Losses:
        """Return the losses of rows; with `answers`, the rows are those of validation and draft its answers."""
        found: dict[int, RowLoss] = {}
        references = None if answers is None else self.references((ALONE,))
        for chunk in chunks(rows, LOSS_TOKENS):
            batch = collate([rows[index] for index in chunk], self.encoder, self.base.device, pad_left=False)
            out = self.logits(batch, (ALONE,))
            found.update(zip(chunk, row_losses(batch, out.values[0], out.targets), strict=True))
            if answers is not None and references is not None:
                self.answering(self).verified(batch, out, [references[index] for index in chunk], answers)
        return losses_in_order(found)

    def _answers(
        self,
        questions: Sequence[Question],
        prompts: Sequence[Encoded],
        drafts: Sequence[Drafts] = (),
        found: Found | None = None,
    ) -> dict[str, str]:
        return {key: one.text for key, one in self._decoded(questions, prompts, drafts, found).items()}

    def _decoded(
        self,
        questions: Sequence[Question],
        prompts: Sequence[Encoded],
        drafts: Sequence[Drafts] = (),
        found: Found | None = None,
    ) -> dict[str, Decoded]:
        asked = QuestionSet([one.key for one in questions], prompts, {ALONE: drafts})
        tokens = self.answering(self).answers(asked, (ALONE,), found if found is not None else {})[ALONE]
        return dict(zip(tokens, read_answers(list(tokens.values()), self.encoder), strict=True))

    @property
    def _asked_ood(self) -> tuple[OodRow, ...]:
        return self.data.ood + self.data.reserve

    def _longest_reference(self) -> int:
        references = [row.answer for row in self.data.validation]
        references += [text for row in self._asked_ood for text in row.references]
        longest = max(len(self.encoder.tokenizer(text)["input_ids"]) for text in references)
        has_meaning = any(row.is_judged_by_meaning for row in self._asked_ood)
        return max(longest, MEANING_TOKENS) if has_meaning else longest


def _shown_references(row: OodRow) -> str:
    if row.expect or row.accept is None:
        return row.expect or ""
    return " | ".join(row.accept.terms) or f"/{row.accept.pattern}/"


def probe_data(
    train: Sequence[Row], validation: Sequence[Row], ood: Sequence[OodRow], train_rows: int, has_reserve: bool = True
) -> ProbeData:
    """Select the rows of every eval: all validation rows, the first training rows, and those outside the task.

    With `has_reserve`, irrelevant rows beyond the core are asked by guards only.
    """
    core, reserve = split(ood) if has_reserve else (tuple(ood), ())
    return ProbeData(
        validation=tuple(validation),
        train_slice=tuple(train[:train_rows]),
        ood=core,
        task_vocabulary=task_vocabulary(train, ood),
        reserve=reserve,
    )


def _distinct(data: ProbeData) -> list[Question]:
    questions: dict[str, Question] = {}
    for probe in probes_for(data):
        for question in probe.questions(data):
            questions.setdefault(question.key, question)
    return list(questions.values())


@dataclass(frozen=True)
class DraftedEvaluator:
    """Asks the live model with drafts of its answers."""

    evaluator: Evaluator
    drafts: Sequence[Drafts]

    @property
    def data(self) -> ProbeData:
        """Return the rows of the fixed evals."""
        return self.evaluator.data

    def ask(self, questions: Sequence[Question]) -> dict[str, str]:
        """Answer questions that are not part of the fixed eval."""
        return self.evaluator.ask(questions, self.drafts)
