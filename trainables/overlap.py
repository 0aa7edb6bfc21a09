"""Questions that stand, with their answers, in a text: a conversation that somebody's template rendered is still it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# what a template writes between a question and its answer: special tokens, the role, headings such as `### Response:`
BETWEEN = re.compile(r"(?:<[^<>\s]{1,40}>|\[/?[a-z]{1,9}\]|assistant|model|gpt|response|output|answer|[\s#:*])*")
ANSWER_ENDS = re.compile(r"\s|<|\[|$|\x00")
QUESTION_BEGINS = ("", " ", ">", "]", ":", "\x00")
END = "\x00"


def folded(text: str) -> str:
    """Fold case, width and white space, so that texts that look alike are alike."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def told_within(texts: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Say of each question and answer whether a text has one right after the other; all are in folded characters."""
    joined = END.join((*texts, ""))
    return [_is_told(question, answer, joined) for question, answer in pairs]


def _is_told(question: str, answer: str, joined: str) -> bool:
    place = joined.find(question)
    while place >= 0:
        after = place + len(question)
        gap = BETWEEN.match(joined, after)
        begins = gap.end() if gap else after
        own_word = joined[place - 1 : place] if place else ""
        follows = begins > after and joined.startswith(answer, begins)
        if follows and own_word in QUESTION_BEGINS and ANSWER_ENDS.match(joined, begins + len(answer)):
            return True
        place = joined.find(question, after)
    return False
