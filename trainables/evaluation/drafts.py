"""Drafts: probable answers as tokens. One pass tells how far the model would give such an answer itself.

A draft is only a source of speed: whatever is drafted, the answer is the one of greedy decoding. Prior art: speculative
decoding with greedy verification (Stern et al. 2018).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from trainables.data.encoding import until_end

Drafts = Mapping[str, Sequence[int]]  # the tokens of a probable answer, with its end token, by question key
Key = TypeVar("Key", bound=Hashable)

FEW_ROWS = 8  # sets of members with fewer rows than this share a pass: a pass has a cost of its own


@dataclass(frozen=True)
class Partial:
    """The tokens of an answer that are known so far; `near_tie` if only its own batch can tell the next one."""

    tokens: tuple[int, ...] = ()
    done: bool = False
    near_tie: bool = False

    @property
    def is_open(self) -> bool:
        """True if the answer can be continued."""
        return not self.done and not self.near_tie

    def continued(self, draft: Sequence[int], rules: AnswerRules, best: Sequence[int], near: Sequence[bool]) -> Partial:
        """Return the answer after a pass over a draft that begins with its tokens.

        `best` are the tokens that the pass predicts from the first unknown place on, `near` whether each is a near tie.
        """
        tokens = list(self.tokens)
        for token, is_near, drafted in zip(best, near, draft[len(tokens) :], strict=False):
            if is_near or token in rules.unreadable:
                return Partial(tuple(tokens), near_tie=True)
            tokens.append(token)
            if rules.ends(tokens):
                return Partial(tuple(tokens), done=True)
            if token != drafted:
                break
        return Partial(tuple(tokens))


@dataclass(frozen=True)
class AnswerRules:
    """When an answer is complete: at a token that ends it, or at `max_new_tokens`.

    `unreadable` tokens stand for pictures: a prompt must not hold one that has no picture.
    """

    end_tokens: Collection[int]
    max_new_tokens: int
    unreadable: Collection[int] = ()

    def ends(self, tokens: Sequence[int]) -> bool:
        """True if the last token completes the answer."""
        return len(tokens) >= self.max_new_tokens or tokens[-1] in self.end_tokens

    def cut(self, draft: Sequence[int]) -> tuple[int, ...]:
        """Return a draft up to its first end token, at most as long as an answer, without unreadable tokens."""
        kept = until_end(list(draft[: self.max_new_tokens]), self.unreadable)
        end = len(until_end(kept, self.end_tokens))
        return tuple(kept[: end + 1])


def extends(draft: Sequence[int], tokens: Sequence[int]) -> bool:
    """True if a draft begins with these tokens and goes on."""
    return len(draft) > len(tokens) and tuple(draft[: len(tokens)]) == tuple(tokens)


def chosen_draft(answers: Iterable[tuple[Partial, Sequence[tuple[int, ...]]]]) -> tuple[int, ...] | None:
    """Return the draft to verify for one question: the one that most members would try next, None without any.

    Each member has its answer so far and its drafts, the most probable first.
    """
    votes: Counter[tuple[int, ...]] = Counter()
    for answer, drafts in answers:
        following = next((one for one in drafts if extends(one, answer.tokens)), None)
        if following is not None and answer.is_open:
            votes[following] += 1
    return votes.most_common(1)[0][0] if votes else None


def by_members(
    wanted: Mapping[Key, frozenset[int]], few_rows: int = FEW_ROWS
) -> list[tuple[tuple[int, ...], list[Key]]]:
    """Sort rows into passes by the members that want them; small passes are joined to one of all their members."""
    sets: dict[frozenset[int], list[Key]] = {}
    for row, members in wanted.items():
        sets.setdefault(members, []).append(row)
    small = [members for members, rows in sets.items() if len(rows) < few_rows]
    joined = [row for members in small for row in sets.pop(members)]
    passes = [(tuple(sorted(members)), rows) for members, rows in sets.items()]
    if joined:
        passes.append((tuple(sorted(frozenset().union(*small))), joined))
    return passes
