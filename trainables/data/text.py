"""Properties of an answer's text that several probes use."""

from __future__ import annotations

import itertools
import re
import unicodedata

MIN_LETTERS = 2
REPEATED_BLOCK = re.compile(r"(.{1,40}?)\1{3,}", re.DOTALL)
MAX_REPEATED_SHARE = 0.5
CLOSING = " .。,,;;:!"
CJK = re.compile(r"[\u3400-\u9fff]")
WORD = re.compile(r"[\u3400-\u9fff]+|[^\W\d_\u3400-\u9fff]+|\d+")


def normalized(text: str) -> str:
    """Normalize case, width and white space, and strip punctuation at both ends."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(CLOSING)


def same_answer(answer: str, expected: str) -> bool:
    """Return True if both are equal up to case, width, white space and closing punctuation."""
    return normalized(answer) == normalized(expected)


def is_near_empty(text: str) -> bool:
    """Return True if an answer has fewer than two letters or ideographs."""
    return sum(character.isalnum() for character in text) < MIN_LETTERS


def is_degenerate(text: str) -> bool:
    """Return True if one block, repeated at least four times in a row, covers half of the text."""
    repeated = max((len(match.group(0)) for match in REPEATED_BLOCK.finditer(text)), default=0)
    return repeated >= 8 and repeated / len(text) >= MAX_REPEATED_SHARE


def ideograph_share(text: str) -> float:
    """Return the share of ideographs among letters: 1 for Chinese, 0 for English or without letters."""
    letters = [character for character in text if character.isalpha()]
    return len(CJK.findall(text)) / len(letters) if letters else 0.0


def words(text: str) -> list[str]:
    """Split into lower-case words; a run of ideographs is split into overlapping pairs."""
    found = WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return [word for run in found for word in (_pairs(run) if CJK.match(run) else [run])]


def _pairs(run: str) -> list[str]:
    return [first + second for first, second in itertools.pairwise(run)] or [run]
