"""Probes that run passes of their own in an eval, beside those that score the answers of the fixed questions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from trainables.data.encoding import Batch, Encoded
from trainables.evaluation.passes import DecodedTokens, Members, RowLogits
from trainables.model.families import TowerName
from trainables.probes.metric import Scores
from trainables.probes.probe import Baseline


class LivePasses(Protocol):
    """Passes of the live model (member 0 alone), or of the members of a cohort, also without some of their LoRA."""

    def logits(self, batch: Batch, members: Members) -> RowLogits:
        """Run rows for members; compute logits only at positions that predict a supervised token."""
        ...

    def greedy(
        self, prompts: Sequence[Encoded], members: Members, numbers: Sequence[int], new_tokens: int, share: float | None
    ) -> DecodedTokens:
        """Decode one batch of prompts greedily."""
        ...

    def without(self, towers: Collection[TowerName]) -> AbstractContextManager[None]:
        """Let the adapters of towers add nothing."""
        ...


@dataclass(frozen=True)
class GivenAnswers:
    """What a member answered in this eval by question key, and its baseline; None for the baseline itself."""

    answers: Mapping[str, str]
    baseline: Baseline | None


class LiveProbe(Protocol):
    """A probe that needs passes of its own; one is made for each evaluator, and may keep what it can use again."""

    def measure(self, passes: LivePasses, members: Mapping[int, GivenAnswers]) -> Mapping[int, Scores]:
        """Return the scores of each member."""
        ...


def live_scores(
    probes: Sequence[LiveProbe], passes: LivePasses, members: Mapping[int, GivenAnswers]
) -> dict[int, Scores]:
    """Return the scores of all live probes by member."""
    found = dict.fromkeys(members, Scores({}))
    for probe in probes:
        measured = probe.measure(passes, members)
        found = {member: known.joined(measured[member]) for member, known in found.items()}
    return found
