"""Measures the shift: KL(base to tuned) over the base's own greedy answers, also with one tower's LoRA off.

A pass without any LoRA tells what the base predicts. Its last hidden states are kept, from which the head makes the
same logits again: they take thousands of times less memory than log-probabilities.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trainables.data.encoding import IGNORED, Batch, Encoded, chunks, collate
from trainables.errors import UserError
from trainables.evaluation.answering import rules_of
from trainables.evaluation.evaluator import LOSS_TOKENS, Evaluator, label_hidden
from trainables.model.base import predicted
from trainables.model.families import TOWERS, TowerName
from trainables.probes.metric import RowResults, Scores, scores
from trainables.probes.question import ask_ood
from trainables.probes.shift import LANGUAGE_OFF, SHIFT, VISION_OFF, shift_rows

if TYPE_CHECKING:
    from trainables.evaluation.live_probe import GivenAnswers, LivePasses

TOKENS_AT_ONCE = 256  # of log-probabilities in float64
SWITCHES: Mapping[str, tuple[TowerName, ...]] = {SHIFT: (), LANGUAGE_OFF: ("language",), VISION_OFF: ("vision",)}
Answers = tuple[str, ...]


@dataclass(frozen=True)
class BaseAnswers:
    """The base's answers to the general rows as encoded rows, and its hidden states (answer tokens, width) of each."""

    rows: Sequence[Encoded]
    hidden: Sequence[torch.Tensor]


def divergence(base: torch.Tensor, tuned: torch.Tensor) -> torch.Tensor:
    """Return KL(base to tuned) in nats of each token (tokens,), from logits (tokens, vocabulary), in float64."""
    found = []
    for known, other in zip(base.split(TOKENS_AT_ONCE), tuned.split(TOKENS_AT_ONCE), strict=True):
        before, after = known.double().log_softmax(dim=-1), other.double().log_softmax(dim=-1)
        found.append((before.exp() * (before - after)).sum(dim=-1))
    return torch.cat(found)


class ShiftProbe:
    """The shift of the members of an eval, on the general rows of an evaluator."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.rows = shift_rows(evaluator.data)
        self.prompts = evaluator.encode([ask_ood(row) for row in self.rows])
        self.switches = SWITCHES if evaluator.base.family.sees else {SHIFT: ()}
        self._known: dict[Answers, BaseAnswers] = {}

    def measure(self, passes: LivePasses, members: Mapping[int, GivenAnswers]) -> dict[int, Scores]:
        """Return the shift of each member; that of the base itself is 0."""
        by_answers: dict[Answers, list[int]] = {}
        found: dict[int, Scores] = {}
        for member, asked in members.items():
            if asked.baseline is None:
                rows = self._encoded(self._of_base(asked.answers))
                found[member] = self._scored(dict.fromkeys(self.switches, [0.0] * len(rows)), rows)
            else:
                by_answers.setdefault(self._of_base(asked.baseline.answers), []).append(member)
        for answers, same in by_answers.items():
            base = self._base_answers(passes, answers)
            nats = {name: self._nats(passes, base, same, off) for name, off in self.switches.items()}
            for member in same:
                own = {name: by_member[member] for name, by_member in nats.items()}
                found[member] = self._scored(own, base.rows)
        return found

    # ---------------------------------------------------------------- the base
    def _of_base(self, answers: Mapping[str, str]) -> Answers:
        missing = [row.row_id for row in self.rows if ask_ood(row).key not in answers]
        if missing:
            raise UserError(
                f"the shift needs the baseline's answers to the general rows, but its record has none to "
                f"`{missing[0]}`",
                "measure the baseline again: --fresh-baseline",
            )
        return tuple(answers[ask_ood(row).key] for row in self.rows)

    def _encoded(self, answers: Answers) -> list[Encoded]:
        rules = rules_of(self.evaluator.base, self.evaluator.encoder, self.evaluator.max_new_tokens)
        drafts = self.evaluator.drafts_from({row.row_id: text for row, text in zip(self.rows, answers, strict=True)})
        encoded = []
        for row, prompt in zip(self.rows, self.prompts, strict=True):
            answer = list(rules.cut(drafts[row.row_id]))
            labels = [IGNORED] * len(prompt.tokens) + answer
            encoded.append(Encoded([*prompt.tokens, *answer], labels, prompt.views))
        return encoded

    @torch.no_grad()
    def _base_answers(self, passes: LivePasses, answers: Answers) -> BaseAnswers:
        if answers not in self._known:
            rows = self._encoded(answers)
            hidden: dict[int, torch.Tensor] = {}
            with passes.without(TOWERS):
                for chunk in chunks(rows, LOSS_TOKENS):
                    found, _ = label_hidden(self.evaluator.base, self._collated(rows, chunk))
                    hidden.update(zip(chunk, found.split(_tokens_of(rows, chunk)), strict=True))
            self._known = {answers: BaseAnswers(rows, [hidden[number] for number in range(len(rows))])}
        return self._known[answers]

    # ---------------------------------------------------------------- the members
    @torch.no_grad()
    def _nats(
        self, passes: LivePasses, base: BaseAnswers, members: Sequence[int], off: Collection[TowerName]
    ) -> dict[int, list[float]]:
        """Return the nats of each row by member."""
        nats: dict[int, dict[int, float]] = {member: {} for member in members}
        with passes.without(off):
            for chunk in chunks(base.rows, LOSS_TOKENS // len(members)):
                out = passes.logits(self._collated(base.rows, chunk), tuple(members))
                before = predicted(self.evaluator.base, torch.cat([base.hidden[number] for number in chunk]))
                for group, logits in zip(out.groups, out.values, strict=True):
                    by_row = divergence(before, logits).split(_tokens_of(base.rows, chunk))
                    sums = [float(one.sum()) for one in by_row]
                    for member in group:
                        nats[member].update(zip(chunk, sums, strict=True))
        return {member: [one[number] for number in range(len(base.rows))] for member, one in nats.items()}

    def _collated(self, rows: Sequence[Encoded], chunk: Iterable[int]) -> Batch:
        evaluator = self.evaluator
        return collate([rows[number] for number in chunk], evaluator.encoder, evaluator.base.device, pad_left=False)

    # ---------------------------------------------------------------- scores
    def _scored(self, nats: Mapping[str, Sequence[float]], rows: Sequence[Encoded]) -> Scores:
        tokens = _tokens_of(rows, range(len(rows)))
        weights = {row.row_id: float(count) for row, count in zip(self.rows, tokens, strict=True)}
        values = {
            name: RowResults({row: one / weights[row] for row, one in zip(weights, own, strict=True)}, weights)
            for name, own in nats.items()
        }
        return scores(values)


def _tokens_of(rows: Sequence[Encoded], numbers: Iterable[int]) -> list[int]:
    return [sum(label != IGNORED for label in rows[number].labels[1:]) for number in numbers]
