"""Evaluates the live model: answers every question once, greedily and in batches, and scores all probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn.functional import cross_entropy

from trainables.data.encoding import IGNORED, Batch, Encoded, Encoder, chunks, collate
from trainables.data.ood import OodRow
from trainables.data.rows import Row
from trainables.evaluation.decoding import decode_greedily
from trainables.model.base import Base, predicted
from trainables.probes import earlier_stages, probes_for
from trainables.probes.hallucination import task_vocabulary
from trainables.probes.metric import RowResults, Scores, scores
from trainables.probes.probe import Baseline, Evidence, Losses, ProbeData
from trainables.probes.question import Question, ask_ood, ask_validation
from trainables.probes.reserve import split

LOSS_TOKENS = 4096
GENERATION_TOKENS = 16_384  # padded prompt tokens of one batch; bounds the key/value cache
LONGEST_RATIO = 2.0  # of the prompts of one batch: short questions have short answers, and do not wait for pictures
SPARE_TOKENS = 8  # an answer may be this much longer than the longest reference


def label_logits(base: Base, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the model and compute logits only at positions that predict a supervised token.

    Returns:
        logits (supervised tokens, vocabulary) in float32, and their targets (supervised tokens,).
    """
    hidden = base.model.model(**batch.inputs, use_cache=False).last_hidden_state
    targets = batch.labels[:, 1:]
    supervised = targets != IGNORED
    return predicted(base, hidden[:, :-1][supervised]), targets[supervised]


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


class Evaluator:
    """Runs the fixed eval of one study on one base; every row is encoded once."""

    def __init__(self, base: Base, encoder: Encoder, data: ProbeData) -> None:
        self.base = base
        self.encoder = encoder
        self.data = data
        self.questions = _distinct(data)
        self.prompts = self.encode(self.questions)
        self.validation = [encoder.conversation(row) for row in data.validation]
        self.train_slice = [encoder.conversation(row) for row in data.train_slice]
        self.earlier = [[encoder.conversation(row) for row in rows] for rows in data.earlier]
        self.max_new_tokens = self._longest_reference() + SPARE_TOKENS

    def measure(self, baseline: Baseline | None) -> tuple[Scores, dict[str, str]]:
        """Answer every question and score every probe; return the scores and the answers by question key."""
        answers = self._answers(self.questions, self.prompts)
        earlier = tuple(self._losses(rows) for rows in self.earlier)
        evidence = Evidence(answers, self._losses(self.validation), self._losses(self.train_slice), baseline, earlier)
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

    def ask(self, questions: Sequence[Question]) -> dict[str, str]:
        """Answer questions that are not part of the fixed eval, in the same way."""
        return self._answers(questions, self.encode(questions))

    def encode(self, questions: Sequence[Question]) -> list[Encoded]:
        """Encode questions as prompts for generation."""
        return [self.encoder.prompt(one.messages, one.images, one.crop, one.thinks) for one in questions]

    def stage_loss(self, stage: int) -> float:
        """Return only the loss of `measure`, in nats per token, on validation (0) or on an earlier stage."""
        return self._losses(self.earlier[stage - 1] if stage else self.validation).mean

    def samples(self, answers: Mapping[str, str]) -> list[dict[str, str]]:
        """Return every answered question with its answer and its expected answer, if any, for people to read."""
        rows = {ask_validation(row).key: (row.row_id, "validation", row.answer) for row in self.data.validation}
        rows |= {ask_ood(row).key: (row.row_id, row.kind, row.expect or "") for row in self.data.ood}
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

    @torch.no_grad()
    def _losses(self, rows: Sequence[Encoded]) -> Losses:
        found: dict[int, RowLoss] = {}
        for chunk in chunks(rows, LOSS_TOKENS):
            batch = collate([rows[index] for index in chunk], self.encoder, self.base.device, pad_left=False)
            logits, targets = label_logits(self.base, batch)
            found.update(zip(chunk, row_losses(batch, logits, targets), strict=True))
        return losses_in_order(found)

    def _answers(self, questions: Sequence[Question], prompts: Sequence[Encoded]) -> dict[str, str]:
        answers: dict[str, str] = {}
        for chunk in chunks(prompts, GENERATION_TOKENS, LONGEST_RATIO):
            batch = [prompts[index] for index in chunk]
            decoded = decode_greedily(self.base.model, self.encoder, self.base.device, batch, self.max_new_tokens)
            answers.update({questions[i].key: one.text for i, one in zip(chunk, decoded, strict=True)})
        return answers

    @property
    def _asked_ood(self) -> tuple[OodRow, ...]:
        return self.data.ood + self.data.reserve

    def _longest_reference(self) -> int:
        references = [row.answer for row in self.data.validation] + [row.expect or "" for row in self._asked_ood]
        return max(len(self.encoder.tokenizer(text)["input_ids"]) for text in references)


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
