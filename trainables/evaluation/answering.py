"""Finds greedy answers: verifies drafts in shared passes, then decodes what is left.

The answers are those of decoding every prompt in batches. A pass over a draft tells the token at each of its places. At
a near tie another batch shape may decide otherwise, so the batch of such a prompt is decoded as if there were no draft.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from trainables.data.encoding import IGNORED, Batch, Encoded, Encoder, chunks, collate
from trainables.evaluation.drafts import AnswerRules, Drafts, Partial, by_members, chosen_draft, extends
from trainables.evaluation.near_ties import best_tokens, drafts_pay, drift_share
from trainables.evaluation.passes import (
    AnswerPasses,
    DecodedTokens,
    DraftedRow,
    Members,
    Observer,
    PromptRow,
    RowLogits,
)
from trainables.model.base import Base

PLAIN_SHARE = 0.5  # a batch with at least this share of open answers is decoded whole: shorter prompts save little
PICTURE_TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id")

Found = dict[tuple[int, str], Partial]  # the answer of a member to a question
Tokens = dict[int, dict[str, list[int]]]  # by member and question key


@dataclass(frozen=True)
class BatchTokens:
    """The most padded tokens of a batch of rows and of prompts, over all members; the ratio of prompt lengths."""

    rows: int
    prompts: int
    longest_ratio: float


@dataclass(frozen=True)
class QuestionSet:
    """Questions by key with their prompts, and for each member its drafts, the most probable first."""

    keys: Sequence[str]
    prompts: Sequence[Encoded]
    drafts: Mapping[int, Sequence[Drafts]] = field(default_factory=dict)


@dataclass(frozen=True)
class Answering:
    """Answers questions for members; `observer` sees every pass that an answer is taken from."""

    passes: AnswerPasses
    base: Base
    encoder: Encoder
    rules: AnswerRules
    size: BatchTokens
    observer: Observer

    def answers(self, asked: QuestionSet, members: Members, found: Found) -> Tokens:
        """Return the tokens of every answer; `found` holds what is already known, and is completed."""
        drafts = self._drafts(asked, members) if drafts_pay(self.share) else {}
        for member in members:
            for key in asked.keys:
                found.setdefault((member, key), Partial())
        while wanted := self._chosen(asked, members, drafts, found):
            self._verify(asked, wanted, found)
        self._decode_batches(asked, members, found, PLAIN_SHARE)
        self._continue(asked, members, found)
        self._decode_batches(asked, members, found, PLAIN_SHARE)
        return {member: {key: list(found[member, key].tokens) for key in asked.keys} for member in members}

    @torch.no_grad()
    def verified(self, batch: Batch, out: RowLogits, rows: Sequence[DraftedRow | None], found: Found) -> None:
        """Continue answers by a pass over a batch whose rows hold drafts; where drafts do not pay, do nothing."""
        if not drafts_pay(self.share):
            return
        self.observer.verified(batch, rows, out.groups)
        best, near = (one.tolist() for one in best_tokens(out.values, self.share))
        counts = (batch.labels[:, 1:] != IGNORED).sum(dim=1).tolist()
        ends = torch.tensor(counts).cumsum(0).tolist()
        for row, end, count in zip(rows, ends, counts, strict=True):
            if row is None:
                continue
            start = end - count + row.earlier
            for group, tokens, ties in zip(out.groups, best, near, strict=True):
                for member in row.members & frozenset(group):
                    known = found.get((member, row.key), Partial())
                    skipped = start + len(known.tokens) - row.first
                    found[member, row.key] = known.continued(row.draft, self.rules, tokens[skipped:], ties[skipped:])

    @property
    def share(self) -> float:
        """Return the bound of near ties."""
        return drift_share(self.base.model)

    # ---------------------------------------------------------------- drafts
    def _drafts(self, asked: QuestionSet, members: Members) -> dict[tuple[int, str], list[tuple[int, ...]]]:
        return {
            (member, key): list(
                dict.fromkeys(self.rules.cut(one[key]) for one in asked.drafts.get(member, ()) if key in one)
            )
            for member in members
            for key in asked.keys
        }

    def _chosen(
        self,
        asked: QuestionSet,
        members: Members,
        drafts: Mapping[tuple[int, str], list[tuple[int, ...]]],
        found: Found,
    ) -> dict[tuple[int, tuple[int, ...]], frozenset[int]]:
        """Return the rows of the next passes, by question number and draft, with the members that they serve."""
        wanted = {}
        lost = self._lost_batches(asked, members, found)
        for number, key in enumerate(asked.keys):
            if number in lost:
                continue
            draft = chosen_draft((found[member, key], drafts.get((member, key), [])) for member in members)
            if draft is not None:
                answers = {member: found[member, key] for member in members}
                served = [one for one, known in answers.items() if known.is_open and extends(draft, known.tokens)]
                wanted[number, draft] = frozenset(served)
        return wanted

    def _lost_batches(self, asked: QuestionSet, members: Members, found: Found) -> frozenset[int]:
        # a batch with a near tie is decoded whole, so more of its drafts need not be verified
        ties = (batch for batch in self._batches(asked, members) if self._share(asked, batch, members, found) > 1)
        return frozenset(number for batch in ties for number in batch)

    def _verify(
        self, asked: QuestionSet, wanted: Mapping[tuple[int, tuple[int, ...]], frozenset[int]], found: Found
    ) -> None:
        for members, rows in by_members(wanted):
            drafted, encoded = [], []
            for number, draft in rows:
                prompt, key, served = asked.prompts[number], asked.keys[number], wanted[number, draft]
                first = min(len(found[member, key].tokens) for member in served)
                labels = [IGNORED] * (len(prompt.tokens) + first) + list(draft[first:])
                drafted.append(DraftedRow(key, served, draft, len(prompt.tokens), first))
                tokens, lasting = [*prompt.tokens, *draft], self._is_of_base(asked, served, key, draft)
                encoded.append(replace(prompt, tokens=tokens, labels=labels, lasting=lasting))
            for chunk in chunks(encoded, self.size.rows // len(members)):
                batch = self._collated([encoded[index] for index in chunk])
                with torch.no_grad():
                    out = self.passes.logits(batch, members)
                self.verified(batch, out, [drafted[index] for index in chunk], found)

    def _is_of_base(self, asked: QuestionSet, members: Iterable[int], key: str, draft: tuple[int, ...]) -> bool:
        # the last drafts of a member are its baseline's answers, which other trials and later launches draft too
        last = (asked.drafts[member][-1] for member in members if asked.drafts.get(member))
        return any(self.rules.cut(drafts.get(key, ())) == draft for drafts in last)

    def _collated(self, rows: Sequence[Encoded]) -> Batch:
        return collate(rows, self.encoder, self.base.device, pad_left=False)

    # ---------------------------------------------------------------- decoding
    def _batches(self, asked: QuestionSet, members: Members) -> Iterable[list[int]]:
        return chunks(asked.prompts, self.size.prompts // len(members), self.size.longest_ratio)

    def _share(self, asked: QuestionSet, batch: Sequence[int], members: Members, found: Found) -> float:
        """Return the share of open answers in a batch; 2 if there is a near tie."""
        answers = [found[member, asked.keys[number]] for number in batch for member in members]
        return 2.0 if any(one.near_tie for one in answers) else sum(one.is_open for one in answers) / len(answers)

    def _decode_batches(self, asked: QuestionSet, members: Members, found: Found, share: float) -> None:
        """Decode the batches with near ties, and those with many open answers, as if there were no drafts."""
        for batch in self._batches(asked, members):
            if self._share(asked, batch, members, found) < share:
                continue
            wanted = {
                number: frozenset(member for member in members if not found[member, asked.keys[number]].done)
                for number in batch
            }
            decoded = self.passes.greedy(
                [asked.prompts[number] for number in batch], members, batch, self.rules.max_new_tokens, None
            )
            rows = [PromptRow(asked.keys[number], wanted[number]) for number in batch]
            self._take(rows, decoded, found)

    def _continue(self, asked: QuestionSet, members: Members, found: Found) -> None:
        """Decode the open answers on from the tokens that are known."""
        wanted: dict[tuple[int, tuple[int, ...]], set[int]] = {}
        for number, key in enumerate(asked.keys):
            for member in members:
                if found[member, key].is_open:
                    wanted.setdefault((number, found[member, key].tokens), set()).add(member)
        for decoding, rows in by_members({row: frozenset(one) for row, one in wanted.items()}):
            prompts = [_after(asked.prompts[number], known) for number, known in rows]
            for chunk in chunks(prompts, self.size.prompts // len(decoding), self.size.longest_ratio):
                left = max(self.rules.max_new_tokens - len(rows[index][1]) for index in chunk)
                decoded = self.passes.greedy([prompts[index] for index in chunk], decoding, chunk, left, self.share)
                taken = [
                    PromptRow(asked.keys[rows[index][0]], frozenset(wanted[rows[index]]), rows[index][1])
                    for index in chunk
                ]
                self._take(taken, decoded, found)

    def _take(self, rows: Sequence[PromptRow], decoded: DecodedTokens, found: Found) -> None:
        self.observer.decoded(rows, decoded.groups, self.rules)
        tokens = decoded.tokens.tolist()
        near = decoded.near.tolist() if decoded.near is not None else None
        for group_number, group in enumerate(decoded.groups):
            for row_number, row in enumerate(rows):
                place = group_number * len(rows) + row_number
                ties = near[place] if near else [False] * len(tokens[place])
                for member in row.members & frozenset(group):
                    found[member, row.key] = self._decoded(row.known, tokens[place], ties, plain=near is None)

    def _decoded(self, known: tuple[int, ...], new: Sequence[int], near: Sequence[bool], plain: bool) -> Partial:
        tokens = list(known)
        for token, is_near in zip(new, near, strict=True):
            if is_near:
                return Partial(tuple(tokens), near_tie=True)
            tokens.append(token)
            if self.rules.ends(tokens):
                break
        return Partial(tuple(tokens), done=True)


def _after(prompt: Encoded, known: Sequence[int]) -> Encoded:
    tokens = [*prompt.tokens, *known]
    return replace(prompt, tokens=tokens, labels=[IGNORED] * len(tokens))


def rules_of(base: Base, encoder: Encoder, max_new_tokens: int) -> AnswerRules:
    """Return when an answer of a base is complete, and which of its tokens no prompt may hold."""
    configured = (getattr(base.model.config, name, None) for name in PICTURE_TOKENS)
    pictures = {encoder.image_token_id, *(one for one in configured if isinstance(one, int))}
    return AnswerRules(encoder.answer_ends, max_new_tokens, frozenset(pictures))


def reference_rows(
    keys: Sequence[str], prompts: Mapping[str, Encoded], rows: Sequence[Encoded], members: Iterable[int]
) -> list[DraftedRow | None]:
    """Return rows as drafts: those that begin with the prompt of their question, and whose answer is supervised."""
    served = frozenset(members)
    return [_reference(key, prompts.get(key), row, served) for key, row in zip(keys, rows, strict=True)]


def _reference(key: str, prompt: Encoded | None, row: Encoded, members: frozenset[int]) -> DraftedRow | None:
    if prompt is None or prompt.views != row.views or not extends(row.tokens, prompt.tokens):
        return None
    start = len(prompt.tokens)
    answer = []
    for token, label in zip(row.tokens[start:], row.labels[start:], strict=True):
        if label == IGNORED:
            break
        answer.append(token)
    earlier = sum(label != IGNORED for label in row.labels[1:start])
    return DraftedRow(key, members, tuple(answer), start, 0, earlier) if answer else None
