"""Answers the requests of a suite for all members of an eval, in batches.

Contexts are cut into tokens as lm-eval's own models do it (`HFLM` in lm_eval/models/huggingface.py): a space at the end
of a context belongs to the continuation, and no special tokens are added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from trainables.data.encoding import IGNORED, Batch, Encoded, chunks, collate, until_end
from trainables.errors import UserError
from trainables.evaluation.evaluator import GENERATION_TOKENS, LONGEST_RATIO, LOSS_TOKENS, Evaluator

if TYPE_CHECKING:
    from trainables.evaluation.live_probe import LivePasses


@dataclass(frozen=True)
class Generation:
    """A request for a greedy answer: its text ends before any of `until`, or after `new_tokens` tokens."""

    context: str
    until: tuple[str, ...]
    new_tokens: int


@dataclass(frozen=True)
class Likelihood:
    """A request for the log-likelihood of a continuation; an empty context stands for the start of a text."""

    context: str
    continuation: str


Request = Generation | Likelihood
Likely = tuple[float, bool]  # log-likelihood in nats, and whether it is the greedy answer
Answer = str | Likely


class RequestAnswers:
    """Answers requests with the passes of an eval; contexts are encoded once.

    Raises:
        UserError: a request is longer than the base can read.
    """

    def __init__(self, evaluator: Evaluator, requests: Sequence[Request]) -> None:
        self.evaluator, self.requests = evaluator, requests
        self.tokenizer = evaluator.encoder.tokenizer
        self.encoded = [self._encoded(one) for one in requests]

    @torch.no_grad()
    def answers(self, passes: LivePasses, members: Sequence[int]) -> dict[int, list[Answer]]:
        """Return the answers of each member, in the order of the requests."""
        found: dict[int, dict[int, Answer]] = {member: {} for member in members}
        for numbers, new_tokens in self._generations():
            for chunk in self._chunks(numbers, new_tokens, GENERATION_TOKENS // len(members), LONGEST_RATIO):
                self._generate(passes, members, chunk, new_tokens, found)
        likely = [number for number, one in enumerate(self.requests) if isinstance(one, Likelihood)]
        for chunk in self._chunks(likely, 0, LOSS_TOKENS // len(members)):
            self._score(passes, members, chunk, found)
        return {member: [one[number] for number in range(len(self.requests))] for member, one in found.items()}

    # ---------------------------------------------------------------- encoding
    def _encoded(self, request: Request) -> Encoded:
        if isinstance(request, Generation):
            tokens, continuation, new = self._tokens(request.context), [], request.new_tokens
        else:
            tokens, continuation = self._pair(request)
            new = 0
        limit = getattr(self.evaluator.base.model.config.get_text_config(), "max_position_embeddings", None)
        length = len(tokens) + len(continuation) + new
        if limit and length > limit:
            raise UserError(
                f"a request of a suite must fit the base, which reads {limit} tokens, but `{request.context[:40]}` has "
                f"{len(tokens) + len(continuation)} tokens" + (f" and asks for {new} more" if new else ""),
                "shorten the row, or set `max_gen_toks` in a YAML file of your own for the task",
            )
        return Encoded([*tokens, *continuation], [IGNORED] * len(tokens) + continuation, ())

    def _pair(self, request: Likelihood) -> tuple[list[int], list[int]]:
        if not request.context:
            start = self.tokenizer.bos_token_id
            return [self.tokenizer.eos_token_id if start is None else start], self._tokens(request.continuation)
        kept = request.context.rstrip()
        whole = self._tokens(request.context + request.continuation)
        context = self._tokens(kept)
        return whole[: len(context)], whole[len(context) :]

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    # ---------------------------------------------------------------- batches
    def _generations(self) -> Iterator[tuple[list[int], int]]:
        asked = [(number, one) for number, one in enumerate(self.requests) if isinstance(one, Generation)]
        for new_tokens in sorted({one.new_tokens for _, one in asked}):
            yield [number for number, one in asked if one.new_tokens == new_tokens], new_tokens

    def _chunks(self, numbers: Sequence[int], new: int, most: int, *ratio: float) -> Iterator[list[int]]:
        if not numbers:
            return
        # what is generated takes a place in the cache too
        lengths = [Encoded([0] * (len(self.encoded[number].tokens) + new), [], ()) for number in numbers]
        for chunk in chunks(lengths, most, *ratio):
            yield [numbers[index] for index in chunk]

    def _batch(self, numbers: Sequence[int]) -> Batch:
        rows, base = [self.encoded[number] for number in numbers], self.evaluator.base
        return collate(rows, self.evaluator.encoder, base.device, pad_left=False)

    # ---------------------------------------------------------------- answers
    def _generate(
        self, passes: LivePasses, members: Sequence[int], numbers: Sequence[int], new_tokens: int, found: Any
    ) -> None:
        prompts = [self.encoded[number] for number in numbers]
        decoded = passes.greedy(prompts, tuple(members), numbers, new_tokens, None)
        tokens, ends = decoded.tokens.tolist(), self.evaluator.encoder.answer_ends
        for member in members:
            for number, row in zip(numbers, tokens[decoded.rows_of(member)], strict=True):
                request = self.requests[number]
                text = self.tokenizer.decode(until_end(row, ends), skip_special_tokens=True)
                found[member][number] = cut(text, request.until if isinstance(request, Generation) else ())

    def _score(self, passes: LivePasses, members: Sequence[int], numbers: Sequence[int], found: Any) -> None:
        batch = self._batch(numbers)
        out = passes.logits(batch, tuple(members))
        counts = (batch.labels[:, 1:] != IGNORED).sum(dim=1).tolist()
        for group, logits in zip(out.groups, out.values, strict=True):
            nats = logits.log_softmax(dim=-1).gather(1, out.targets[:, None])[:, 0].double().split(counts)
            right = (logits.argmax(dim=-1) == out.targets).split(counts)
            for number, own, greedy in zip(numbers, nats, right, strict=True):
                for member in group:
                    found[member][number] = (float(own.sum()), bool(greedy.all()))


def cut(text: str, until: Sequence[str]) -> str:
    """Return a text up to the first of the strings that end it; an empty one ends nothing."""
    for end in until:
        text = text.split(end, maxsplit=1)[0] if end else text
    return text
