"""What a trial has answered so far: the drafts of its next eval."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from trainables.evaluation.drafts import Drafts
from trainables.evaluation.evaluator import DraftedEvaluator, Evaluator
from trainables.probes.probe import Baseline
from trainables.probes.question import answers_in, ask_ood
from trainables.record import Record


class Answered:
    """The newest answers of a trial as tokens, and those of its baseline.

    A resumed trial takes its answers from the record. Their tokens may differ from those that were generated, which
    costs time and changes nothing.
    """

    def __init__(self, evaluator: Evaluator, record: Record, baseline: Baseline) -> None:
        self.evaluator, self.record, self.baseline = evaluator, record, baseline

    @property
    def drafts(self) -> tuple[Drafts, Drafts]:
        """Return the drafts of the next eval, the most probable first."""
        return self._own, self._of_base

    @property
    def outside(self) -> tuple[Drafts, Drafts]:
        """Return the drafts of answers to questions outside the task alone: the controls of an eval have none."""
        data = self.evaluator.data
        keys = {ask_ood(row).key for row in (*data.ood, *data.reserve)}
        return {key: one for key, one in self._own.items() if key in keys}, self._of_base

    @property
    def controls(self) -> DraftedEvaluator:
        """Return an evaluator of the live model for the controls of an eval, and for the rows that guards ask."""
        return DraftedEvaluator(self.evaluator, self.outside)

    def add(self, tokens: Drafts) -> None:
        """Keep the answers of an eval in place of earlier ones."""
        self._own.update(tokens)

    @cached_property
    def _own(self) -> dict[str, Sequence[int]]:
        evals = self.record.evals()
        try:
            samples = self.record.samples(evals[-1].step) if evals else []
        except FileNotFoundError:  # of a record that was thinned out: drafts are dispensable
            samples = []
        return dict(self.evaluator.drafts_from(answers_in(samples)))

    @cached_property
    def _of_base(self) -> Drafts:
        return self.evaluator.drafts_of_base(self.baseline)
