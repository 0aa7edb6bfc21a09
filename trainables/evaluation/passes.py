"""What answers are found with: passes of one model, or of a cohort, over rows and prompts; and who watches them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from trainables.data.encoding import Batch, Encoded
from trainables.evaluation.drafts import AnswerRules

Members = tuple[int, ...]


class RowLogits(Protocol):
    """Logits (groups, tokens, vocabulary) at supervised tokens, their targets (tokens,), and the groups of members."""

    @property
    def values(self) -> torch.Tensor:
        """Return the logits."""
        ...

    @property
    def targets(self) -> torch.Tensor:
        """Return the supervised tokens."""
        ...

    @property
    def groups(self) -> Sequence[Members]:
        """Return the members of each group."""
        ...


@dataclass(frozen=True)
class DecodedTokens:
    """A decoded batch: `tokens` and `near` (groups x rows, new tokens), the members of each group, the row numbers.

    `near` says which tokens are near ties; None if that was not asked.
    """

    tokens: torch.Tensor
    groups: Sequence[Members]
    questions: Sequence[int]
    near: torch.Tensor | None = None

    def rows_of(self, member: int) -> slice:
        """Return the rows of `member` in `tokens`."""
        group = next(number for number, one in enumerate(self.groups) if member in one)
        rows = len(self.questions)
        return slice(group * rows, (group + 1) * rows)


class AnswerPasses(Protocol):
    """AnswerPasses of the live model (member 0 alone), or of the members of a cohort."""

    def logits(self, batch: Batch, members: Members) -> RowLogits:
        """Run rows for members; compute logits only at positions that predict a supervised token."""
        ...

    def greedy(
        self, prompts: Sequence[Encoded], members: Members, numbers: Sequence[int], new_tokens: int, share: float | None
    ) -> DecodedTokens:
        """Decode one batch of prompts greedily; with `share`, say which tokens are near ties."""
        ...


@dataclass(frozen=True)
class DraftedRow:
    """A row of a pass: the question that it answers, for which members, and where the answer begins.

    `first` is the number of answer tokens that are known and not supervised, `earlier` the number of supervised tokens
    before the answer.
    """

    key: str
    members: frozenset[int]
    draft: tuple[int, ...]
    start: int
    first: int = 0
    earlier: int = 0


@dataclass(frozen=True)
class PromptRow:
    """A row of a decoded batch: its question, the members that take the answer, and the answer tokens in the prompt."""

    key: str
    members: frozenset[int]
    known: tuple[int, ...] = ()


class Observer(Protocol):
    """Watches the passes from which answers are taken; `eval_integrity.Witness` is one."""

    def verified(self, batch: Batch, rows: Sequence[DraftedRow | None], groups: Sequence[Members]) -> None:
        """See that the newest pass was over drafts; a row that is no draft is None."""
        ...

    def decoded(self, rows: Sequence[PromptRow], groups: Sequence[Members], rules: AnswerRules) -> None:
        """See that the newest batch was decoded from prompts."""
        ...


class Unobserved:
    """Watches nothing."""

    def verified(self, batch: Batch, rows: Sequence[DraftedRow | None], groups: Sequence[Members]) -> None:
        """Do nothing."""

    def decoded(self, rows: Sequence[PromptRow], groups: Sequence[Members], rules: AnswerRules) -> None:
        """Do nothing."""
